"""The most exposed records of a run, as a page shows them."""

from __future__ import annotations

from dataclasses import dataclass

from hampkit.report.rows import Json


@dataclass(frozen=True)
class RecordTable:
    """The first lines of a run's records.csv as text."""

    title: str
    attack: str
    file: str
    rows: tuple[tuple[str, ...], ...]  # row, label, advantage, interval, models in which it is found


def record_table(detail: Json, title: str, run: str) -> RecordTable | None:
    """The records of one model's details; None if there are none."""
    records = detail.get("records") or {}
    first = records.get("first") or []
    if not first:
        return None
    of = f" ({records['of']})" if records.get("of") else ""
    return RecordTable(title + of, first[0]["attack"], f"{run}/records.csv", tuple(_cells(record) for record in first))


def _cells(record: Json) -> tuple[str, ...]:
    low, high = (_decimal(record[end]) for end in ("low", "high"))
    return (
        record["row"],
        record["label"],
        _decimal(record["advantage"]),
        f"[{low}, {high}]",
        f"{int(record['found_at_0.1%_fpr']):,} of {int(record['in_models']):,}",
    )


def _decimal(advantage: str) -> str:
    return f"{float(advantage):.2f}".replace("-", "−")
