"""A foreign model, asked about members and non-members: a PyTorch module, an estimator, a function or an ONNX file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from hampkit.data.table_values import domain_of, listed
from hampkit.errors import UserError
from hampkit.targets.answers import Kind
from hampkit.targets.base import Given
from hampkit.targets.callable import callable_answers
from hampkit.targets.estimator import estimator_answers
from hampkit.targets.model_inputs import Rows
from hampkit.targets.module import module_answers
from hampkit.targets.onnx import onnx_answers
from hampkit.targets.records import Records, class_codes, names, sorted_names


@dataclass(frozen=True)
class Foreign:
    """A model with a name for the report."""

    title: str
    model: Any
    kind: Kind = "auto"


def given_of(foreign: Foreign, rows: Rows) -> Given:
    """The model's answers about these rows.

    Raises: `UserError` for a model of an unknown kind, or one that cannot answer.
    """
    return given_of_answers(foreign, rows, *answers_of(foreign.model, rows.inputs))


def given_of_answers(foreign: Foreign, rows: Rows, answers: Any, classes: tuple[str, ...], way: str) -> Given:
    """Answers (P, C) about these rows, with the names of the classes if the model has them.

    Raises: `UserError` for one column of answers, and for labels that are none of the classes.
    """
    what = f"the answers of {foreign.title}"
    if answers.shape[1] == 1:
        raise UserError(f"{what} have one column; an audit needs a column for each class: wrap the model")
    known = classes or _classes(rows.labels, answers.shape[1])
    y = class_codes("the label", rows.labels, known)
    records = Records(y, rows.member, known, rows.x, rows.group, rows.ids, domain_of(rows.x, ()), rows.by, rows.persons)
    return Given(foreign.title, what, records, answers, way, foreign.kind, notes=rows.notes)


def answers_of(model: Any, inputs: Any) -> tuple[Any, tuple[str, ...], str]:
    """The answers (P, C), the names of the classes if the model has them, and the way in.

    Raises: `UserError`.
    """
    if isinstance(model, (str, Path)) and str(model).lower().endswith(".onnx"):
        return *onnx_answers(model, inputs), "onnx"
    if isinstance(model, nn.Module):
        return module_answers(model, inputs), (), "module"
    if hasattr(model, "predict_proba") or hasattr(model, "fit"):
        return *estimator_answers(model, inputs), "estimator"
    if isinstance(model, Callable):
        return callable_answers(model, inputs), (), "callable"
    raise UserError(
        f"{type(model).__name__} is no model: give a PyTorch module, an estimator with predict_proba, a function of the inputs,"
        " or a .onnx file"
    )


def _classes(labels: Any, n: int) -> tuple[str, ...]:
    """The names of n classes: numbers from 0 if all labels are such, else the sorted labels if there are n of them."""
    texts = sorted_names(names(labels))
    if all(text.isdigit() and int(text) < n for text in texts):
        return tuple(map(str, range(n)))
    if len(texts) == n:
        return tuple(texts)
    raise UserError(
        f"the answers have {n} classes, and the labels are {listed(texts, 6)}; a model without names for its classes needs labels"
        f" 0 to {n - 1}, in the order of its answers"
    )
