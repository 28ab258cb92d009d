"""The format of results.json, as a JSON schema (draft 2020-12)."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any


def load_schema() -> dict[str, Any]:
    """The JSON schema of results.json, a fresh copy.

    >>> load_schema()["properties"]["schema"]["const"]
    2
    """
    return json.loads(files("hampkit.report").joinpath("results.schema.json").read_text(encoding="utf-8"))


RESULTS_SCHEMA: dict[str, Any] = load_schema()
