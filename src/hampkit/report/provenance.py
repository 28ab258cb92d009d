"""Where a model and its numbers come from, as text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import PurePath
from typing import Any

from hampkit.judging.results.attacks import option_text
from hampkit.judging.results.wording import runs_of, seeds_of
from hampkit.report import rows
from hampkit.report.rows import Json
from hampkit.text import dotted, measured_duration

ANSWERS_HASH = "SHA-256 of the answers and records"  # of an audit, which sees no weights
WEIGHTS = "models/000-000/stack.safetensors in the run folder"


def provenance(model: Json, detail: Json) -> dict[str, Any]:
    """Commands, and the facts of the run, the recipe and the versions, each as name → text."""
    source = detail.get("provenance") or {}
    return {
        "commands": [command for command in model.get("commands") or [] if command],
        "Run": {key: str(value) for key, value in _run(model, source).items() if value not in ("", None)},
        "Recipe": _recipe(source.get("recipe") or {}),
        "Versions": {key: str(value) for key, value in (source.get("versions") or {}).items()},
    }


def common_versions(details: Sequence[Json]) -> dict[str, str]:
    """The versions of packages, if there are several models and all have the same."""
    found = [(detail.get("provenance") or {}).get("versions") or {} for detail in details]
    same = len(found) > 1 and all(versions == found[0] for versions in found)
    return {key: str(value) for key, value in found[0].items()} if same else {}


def run_days(details: Sequence[Json]) -> str:
    """The first and the last day of the runs, in UTC."""
    return days_of((detail.get("provenance") or {}).get("started") for detail in details)


def days_of(starts: Iterable[str | None]) -> str:
    """The first and the last day of these moments, in UTC.

    >>> days_of(["2026-02-01T00:30:00+01:00", "2026-02-03T12:00:00Z", None])
    '2026-01-31 to 2026-02-03'
    """
    days = sorted({moment(start)[:10] for start in starts if start})
    return " to ".join(rows.unique([days[0], days[-1]])) if days else ""


def _run(model: Json, source: Json) -> dict[str, Any]:
    """Where the model and its numbers come from."""
    started, seconds, seeds = source.get("started"), source.get("seconds"), list(source.get("seeds") or [])
    seed, weights = ", ".join(map(str, seeds_of(model))), list(model.get("weights") or [])
    shadows = source.get("shadows") or {}
    return {
        "Run folder": ", ".join(runs_of(model)),
        "Weights": WEIGHTS if weights and not model.get("audit") else "",
        ANSWERS_HASH if model.get("audit") else "SHA-256 of the weights": ", ".join(weights),
        "Data": f"{model['data']['name']}, {model['data']['rows']:,} rows",
        **audited_files(model.get("audit") or {}),
        "Data file": PurePath(source.get("file") or "").name,
        "SHA-256 of the data as read": model["data"]["sha256"],
        "Seed": seed,
        "Model seed" if len(seeds) < 2 else "Model seeds tried": _seeds(seeds, seed),
        "Device": source.get("device"),
        "Git revision": source.get("git"),
        "Started": moment(started) if started else "",
        "Took": measured_duration(seconds) if seconds is not None else "",
        "Shadow models": shadows.get("name"),
        "They differ": "; ".join(shadows.get("differences") or []),
    }


def audited_files(audit: Json) -> dict[str, str]:
    """The files of an audit as they were given, with their hashes; the roles of columns, and how files were read."""
    source = audit.get("source") or {}
    files = {
        f"File: {name}": f"{file['name']}, {file['bytes']:,} bytes, SHA-256 {file['sha256']}"
        for name, file in (source.get("files") or {}).items()
    }
    roles = ", ".join(f"{option} {name}" for option, name in (source.get("columns") or {}).items())
    options = ", ".join(f"{key}={option_text(value)}" for key, value in (source.get("options") or {}).items())
    return {**files, "Columns": roles, "Read with": options}


def _seeds(seeds: Sequence[int], seed: str) -> str:
    """The seeds of the models, which are long numbers, with the run's seed or seeds that they are derived from."""
    shown = ", ".join(map(str, seeds))
    return f"{shown} (derived from seed {seed})" if seeds and shown != seed else ""


def _recipe(recipe: Mapping[str, Any]) -> dict[str, str]:
    """The options of a recipe as dotted keys, without those that are internal."""
    kept = {key: value for key, value in recipe.items() if key not in ("schema", "version")}
    flat = {key: option_text(value) for key, value in dotted(kept).items()}
    if flat.get("split.seed") == "-1":
        flat["split.seed"] = "the recipe's"
    flat.pop("data.sha256", None)  # with the run's facts
    return {k: v or '""' for k, v in flat.items() if v or k.rsplit(".", 1)[-1] not in ("file", "permutation")}


def moment(text: str) -> str:
    """``2026-01-31T12:00:00+01:00`` → ``2026-01-31 11:00 UTC``; other texts are unchanged."""
    try:
        found = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return text
    if found.tzinfo is None:
        return f"{found:%Y-%m-%d %H:%M}"
    return f"{found.astimezone(timezone.utc):%Y-%m-%d %H:%M} UTC"
