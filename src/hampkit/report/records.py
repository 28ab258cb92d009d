"""The most exposed records of a run, as a page shows them."""

from __future__ import annotations

from dataclasses import dataclass

from hampkit.judging.results.attacks import few_models
from hampkit.judging.results.wording import percent
from hampkit.report.rows import Json

LARGEST = 100  # of an exposure that is shown


@dataclass(frozen=True)
class RecordTable:
    """The first lines of a run's records.csv as text."""

    title: str
    attack: str
    file: str
    exposed: str  # how many records are exposed, as a sentence; empty for results of earlier versions
    rows: tuple[tuple[str, ...], ...]  # row, label, mu, interval, adjusted p, exposed, models in which it is found


def record_table(detail: Json, title: str, run: str) -> RecordTable | None:
    """The records of one model's details; None if there are none."""
    records = detail.get("records") or {}
    first = records.get("first") or []
    if not first:
        return None
    of = f" ({records['of']})" if records.get("of") else ""
    said = exposure_line(records.get("summary"))
    file = f"{run}/records.csv"
    return RecordTable(title + of, first[0]["attack"], file, said, tuple(_cells(record) for record in first))


def exposure_line(found: Json | None) -> str:
    """How many records are exposed; empty without shadow models."""
    if not found:
        return ""
    if not found["exposed"]:
        none = f"none of {found['judged']:,} {found['of']} is shown to be exposed, which is no proof that none is"
        return f"{none}{_few(found)}"
    share = percent(found["false_discovery_rate"], 0)
    return (
        f"{found['exposed']:,} of {found['judged']:,} {found['of']} are shown to be exposed; of such claims at most {share} are"
        " wrong in expectation"
    )


def _few(found: Json) -> str:
    """What few shadow models cannot show, for the end of a sentence."""
    why = few_models(found)
    return f"; {why}" if why else ""


def _cells(record: Json) -> tuple[str, ...]:
    low, high = (_decimal(record[end]) for end in ("low_all", "high_all"))
    found = record["found_at_0.1%_fpr"]
    return (
        record["row"],
        record["label"],
        _decimal(record["mu"]),
        f"[{low}, {high}]",
        f"{float(record['adjusted_p']):.2g}",
        record["exposed"],
        f"{int(found):,} of {int(record['in_models']):,}" if found else "–",
    )


def _decimal(number: str) -> str:
    value = float(number)
    if abs(value) > LARGEST:  # answers that hardly vary: the number of deviations is arbitrary
        return f"> {LARGEST}" if value > 0 else f"< −{LARGEST}"
    return f"{value:.2f}".replace("-", "−")
