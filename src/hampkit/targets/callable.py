"""A function from inputs to answers as a foreign model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from hampkit.errors import UserError, one_line


def callable_answers(function: Callable[[Any], Any], x: Any) -> Any:
    """The answers (N, C) of a function that is asked for all inputs at once.

    Raises: `UserError` if it fails, or answers in another shape.
    """
    name = getattr(function, "__name__", type(function).__name__)
    try:
        found = function(x)
        if hasattr(found, "detach"):
            found = found.detach().double().cpu()
        answers = np.asarray(found)
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # the function is the user's: it may raise anything
        raise UserError(f"{name} fails on the records: {one_line(error, named=True)}") from error
    if answers.ndim != 2 or len(answers) != len(x) or answers.dtype.kind not in "biuf":
        labels = "; for predicted labels return numpy.eye(classes)[labels]" if answers.shape == (len(x),) else ""
        raise UserError(
            f"{name} returned {answers.dtype} {answers.shape} for {len(x):,} records; it must return numbers of shape"
            f" ({len(x)}, classes){labels}"
        )
    return answers
