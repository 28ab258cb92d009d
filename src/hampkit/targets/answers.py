"""The answers of a foreign model as logits: which kind they are, and what is done about zeros."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hampkit.errors import UserError

Kind = Literal["auto", "probabilities", "logits", "scores"]
KINDS = ("auto", "probabilities", "logits")  # those that a user may name
TOLERANCE = 1e-3  # by which the probabilities of a row may differ from 1 in sum at least, as they were rounded
_SMALLEST = 1e-300
LARGEST = 1e30  # of logits


@dataclass(frozen=True)
class Scale:
    """How answers (…, C) become logits. Those of the target and of its shadow models have one scale."""

    kind: Literal[
        "probabilities", "logits", "scores"
    ]  # scores: scaled logits of the true label alone, see `logits_of_scores`
    floor: float = 0.0  # takes the place of probabilities of 0

    def logits(self, values: Any) -> NDArray[np.float64]:
        """Logits (…, C) float64: the logarithms of probabilities, and logits unchanged."""
        found = np.asarray(values, dtype=np.float64)
        return found if self.kind == "logits" else np.log(np.where(found > 0, found, self.floor))

    @property
    def notes(self) -> tuple[str, ...]:
        """One line on each thing that was done to the answers."""
        if not self.floor:
            return ()
        return (
            f"answers of probability 0 are taken as {self.floor:.3g}, half of the smallest positive one, to have a logarithm",
        )


def logits_of_scores(scores: Any, y: NDArray[np.int64], classes: int) -> NDArray[np.float64]:
    """Logits (P, V, C) float64 of which only the scaled logit of the true label is meant, which is the score (P, V).

    z_y = φ and z_j = −ln(C − 1) for all others, so that ln p_y − ln(1 − p_y) = φ. C: classes, at least 2.
    """
    found = np.asarray(scores, dtype=np.float64)
    columns = max(classes, 2)
    logits = np.full((*found.shape, columns), -np.log(columns - 1))
    logits[np.arange(len(found)), :, y] = found
    return logits


def scale_of(what: str, values: Any, kind: Kind, *more: Any) -> Scale:
    """The scale of answers (N, C), and of further answers (…, C) of shadow models.

    what: the place of the answers, for messages.
    Raises: `UserError` for answers that are not finite, for fewer than two classes, and for a kind that the answers do not have.
    """
    answers = {what: np.asarray(values)} | {f"{what} (shadow models)": np.asarray(each) for each in more}
    for place, each in answers.items():
        _check(place, each)
    found = _kind(answers, kind)
    if found == "logits":
        return Scale("logits")
    zeros = any(bool((each == 0).any()) for each in answers.values())
    return Scale("probabilities", min(map(floor_of, answers.values())) if zeros else 0.0)


def floor_of(values: Any) -> float:
    """Half of the smallest positive probability, by which probabilities of 0 are replaced."""
    found = np.asarray(values)
    return max(float(np.min(found, where=found > 0, initial=1.0)) / 2, _SMALLEST)


def _check(what: str, values: NDArray[Any]) -> None:
    if values.dtype.kind not in "biuf" or values.ndim < 2:
        raise UserError(f"{what} is {values.dtype} {values.shape}; give numbers of shape (records, classes)")
    if values.shape[-1] < 2:
        raise UserError(f"{what} has shape {values.shape}: answers need at least two classes in the last axis")
    bad = np.asarray(~np.isfinite(values).all(-1))
    if bad.any():
        raise UserError(
            f"{what} has NaN or infinity in {_first(bad)} ({int(bad.sum()):,} such in all); leave these records out, or mend the"
            " model"
        )
    if values.size and max(values.max(), -values.min()) > LARGEST:
        raise UserError(f"{what} has numbers beyond {LARGEST:g}, which are no logits; mend the model")


def _first(bad: NDArray[np.bool_]) -> str:
    """The first of the bad rows (N,) or (M, N), in words."""
    place = [int(k) + 1 for k in np.argwhere(bad)[0]]
    return f"data row {place[-1]}" + (f" of model {place[0]}" if len(place) > 1 else "")


def _kind(answers: dict[str, NDArray[Any]], kind: Kind) -> Literal["probabilities", "logits"]:
    """The kind that was asked for, or that the answers have: rows of probabilities are not negative and sum to 1."""
    if kind == "logits":
        return "logits"
    rows = {what: off(each) for what, each in answers.items()}
    what = next((place for place, bad in rows.items() if bad.any()), "")
    if not what:
        return "probabilities"
    within = all(bool(((each >= 0) & (each <= 1)).all()) for each in answers.values())
    number, total = (sum(int(count(bad)) for bad in rows.values()) for count in (np.sum, np.size))
    if all(_percentages(each) for each in answers.values()):
        raise UserError(
            f"{what} has rows that sum to 100: percentages? divide them by 100; if these are logits, give --kind logits"
            " (in Python: kind='logits')"
        )
    if kind == "probabilities" or within:
        raise UserError(
            f"{what} has no probabilities in {_first(rows[what])}: they must not be negative and must sum to 1, up to"
            " rounding; if these are logits, give --kind logits (in Python: kind='logits')"
        )
    if number < 0.1 * total:
        raise UserError(
            f"{what}: {number:,} of {total:,} rows are negative or do not sum to 1, {_first(rows[what])} first, and all others"
            " are probabilities; correct these rows, or give --kind logits (in Python: kind='logits')"
        )
    return "logits"


def _percentages(values: NDArray[Any]) -> bool:
    """Whether nearly all rows of answers (…, C) are not negative and sum to 100, up to rounding."""
    sums = values.sum(-1, dtype=np.float64)
    return bool(((values >= 0).all(-1) & (np.abs(sums - 100) <= 1)).mean() > 0.9)


def off(values: NDArray[Any]) -> NDArray[np.bool_]:
    """(…) bool: the rows of answers (…, C) that are no probabilities."""
    sums = values.sum(-1, dtype=np.float64)
    rounding = min(0.005 * values.shape[-1], 0.1)  # of each probability to two digits
    return (values < 0).any(-1) | (np.abs(sums - 1) > max(TOLERANCE, rounding))
