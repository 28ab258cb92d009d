"""A user's own training function: from labelled records to a model, which is asked about all records."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hampkit.errors import UserError, one_line
from hampkit.targets.model import answers_of

Fit = Callable[[Any, Any, int], Any]  # (x, y, seed) → a model


def fitted_answers(fit: Fit, inputs: Any, y: NDArray[np.int64], member: NDArray[np.bool_], seed: int) -> Any:
    """The answers (N, C) to all records of the model that ``fit`` makes of the members, with numbers as labels.

    C is the number of classes of all labels; an estimator that never saw a class answers 0 for it.
    Raises: `UserError` with the seed if the function fails, or if its model cannot answer.
    """
    n = int(y.max()) + 1
    rows = inputs[member] if isinstance(inputs, np.ndarray) else inputs.loc[member].reset_index(drop=True)
    try:
        model = fit(rows, y[member], seed)
    except UserError:
        raise
    except Exception as error:  # the function is the user's: it may raise anything
        raise UserError(f"the training function fails with seed {seed}: {one_line(error, named=True)}") from error
    if model is None:
        raise UserError(f"the training function returned nothing with seed {seed}; it must return the model")
    answers, classes, _ = answers_of(model, inputs.copy())
    return _spread(answers, classes, n, seed)


def _spread(answers: Any, classes: Sequence[str], n: int, seed: int) -> Any:
    """The answers with a column for each class, 0 where the model has none."""
    if classes and tuple(classes) != tuple(map(str, range(n))):
        full = np.zeros((len(answers), n))
        for k, name in enumerate(classes):
            if not name.isdigit() or int(name) >= n:
                raise UserError(f"with seed {seed} the model has a class {name!r}, and labels are 0 to {n - 1}")
            full[:, int(name)] = answers[:, k]
        return full
    if answers.shape[1] != n:
        raise UserError(
            f"with seed {seed} the model answers {answers.shape[1]} classes, and the labels have {n}; its answers need a column"
            " for each class"
        )
    return answers
