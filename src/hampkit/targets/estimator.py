"""An estimator with scikit-learn's interface as a foreign model."""

from __future__ import annotations

from typing import Any

import numpy as np

from hampkit.errors import UserError, one_line


def estimator_answers(model: Any, x: Any) -> tuple[Any, tuple[str, ...]]:
    """The probabilities (N, C) by ``predict_proba``, and the names of the classes by ``classes_``.

    Raises: `UserError` for an estimator without both, and if it cannot be run on these inputs.
    """
    name = type(model).__name__
    if not hasattr(model, "predict_proba"):
        raise UserError(
            f"{name} has no predict_proba: an audit needs a probability for each class; for an SVC give probability=True, or wrap"
            " it in CalibratedClassifierCV"
        )
    try:
        answers = model.predict_proba(x)
    except (Exception, SystemExit) as error:  # the model is the user's: it may raise anything
        raise UserError(
            f"{name}.predict_proba fails on these inputs: {one_line(error, named=True)}; give the columns that it was trained on,"
            " in their order"
        ) from error
    if isinstance(answers, list) or np.ndim(answers) != 2:
        raise UserError(f"{name} has several outputs; an audit needs a classifier with one label")
    classes = getattr(model, "classes_", None)
    found = () if classes is None else tuple(_name(value) for value in np.asarray(classes).tolist())
    return np.asarray(answers), found


def _name(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
