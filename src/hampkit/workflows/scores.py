"""The scores of attacks in a run folder, checked before they are read."""

from __future__ import annotations

import zipfile
from typing import Any

import numpy as np

from hampkit.errors import UserError
from hampkit.runs.store import Run


def read_scores(run: Run, place: str) -> dict[str, Any]:
    """The arrays of an attack's scores.npz, at a place within the run.

    Of one target: scores, member and unit (N,), known_scores (K,), and group (N,) if rows are in groups. Of leave-one-out: scores
    (T, N) float32, member (T, N) and unit (N,). unit: rows that are not independent share a number, with every seed the same.

    Raises: `UserError` if the step is missing or damaged, or was written by an earlier version.
    """
    step, again = place.rpartition("/")[0], f"attack again: hampkit attack {run.folder}"
    if not run.done(step):
        raise UserError(f"{run.folder / step} is missing or damaged; {again}")
    try:
        with np.load(run.folder / place, allow_pickle=False) as file:
            found = {name: file[name] for name in file.files}
    except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise UserError(f"cannot read {run.folder / place} ({error}); {again}") from None
    if "unit" not in found:
        raise UserError(f"{run.folder / place} was written by an earlier version of hampkit; {again}")
    return found
