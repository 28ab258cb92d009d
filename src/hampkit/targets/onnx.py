"""An ONNX file as a foreign model, run by onnxruntime (extra ``onnx``)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from hampkit.errors import UserError, one_line

BATCH = 1024
_TYPES = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(float16)": np.float16,
    "tensor(int32)": np.int32,
    "tensor(int16)": np.int16,
    "tensor(int8)": np.int8,
    "tensor(uint8)": np.uint8,
    "tensor(bool)": np.bool_,
}


def onnx_answers(file: str | Path, x: Any) -> tuple[Any, tuple[str, ...]]:
    """The answers (N, C) of an ONNX model to inputs (N, …), and the names of the classes if the file has them.

    The model has one input. Of its outputs the one with two axes of numbers is taken, or a list of class → probability as
    scikit-learn's converter writes it. Raises: `UserError`.
    """
    session = _session(Path(file))
    inputs = session.get_inputs()
    if len(inputs) != 1:
        names = ", ".join(i.name for i in inputs)
        raise UserError(
            f"{file} has {len(inputs)} inputs ({names}); an audit needs a model with one input of all features. For a release"
            " with an input of noise write a factory: --model package.module:load"
        )
    dtype = _TYPES.get(inputs[0].type)
    if dtype is None or not isinstance(x, np.ndarray):
        raise UserError(
            f"{file} takes {inputs[0].type}, and the records are a table with text; give --inputs encoded if the model was"
            " trained on that, or a factory --model package.module:load"
        )
    if np.dtype(dtype).kind in "iub" and (x != np.round(x)).any():
        raise UserError(
            f"{file} takes whole numbers ({inputs[0].type}), and the records have others; export it with float inputs"
        )
    step, fixed = _step(inputs[0].shape)
    parts, classes = [], ()
    for start in range(0, len(x), step):
        rows = x[start : start + step].astype(dtype)
        missing = step - len(rows) if fixed else 0  # a model for so many rows takes no fewer: the last row is repeated
        full = np.concatenate([rows, np.repeat(rows[-1:], missing, axis=0)]) if missing else rows
        answers, classes = _answer(session, inputs[0].name, full, str(file))
        parts.append(answers[: len(rows)])
    return np.concatenate(parts), classes


def _session(path: Path) -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise UserError(f"{path} needs onnxruntime; install it: pip install 'hampkit[onnx]'") from None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # errors are raised, and printed once
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has many exceptions
        raise UserError(f"cannot read {path}: {one_line(error)}; is it a complete .onnx file?") from None


def _step(shape: Any) -> tuple[int, bool]:
    """Rows at once, and whether the model was exported for exactly so many."""
    fixed = bool(shape) and isinstance(shape[0], int) and shape[0] > 0
    return (shape[0] if fixed else BATCH), fixed


def _answer(session: Any, name: str, rows: Any, file: str) -> tuple[Any, tuple[str, ...]]:
    outputs: Any
    try:
        outputs = session.run(None, {name: rows})
    except Exception as error:  # onnxruntime has many exceptions
        raise UserError(f"{file} cannot answer inputs of shape {rows.shape}: {one_line(error)}") from None
    for out in _candidates(session, outputs, file):
        if type(out) is list and out and isinstance(out[0], dict):
            keys = list(out[0])
            return np.array([[row[key] for key in keys] for row in out]), tuple(map(str, keys))
        if isinstance(out, np.ndarray) and out.ndim == 2 and out.dtype.kind == "f" and len(out) == len(rows):
            return out.astype(np.float64), ()
    shapes = ", ".join(str(getattr(out, "shape", type(out).__name__)) for out in outputs)
    raise UserError(f"{file} answers {shapes}; an audit needs an output of shape (records, classes)")


def _candidates(session: Any, outputs: list[Any], file: str) -> list[Any]:
    """The outputs that may be the answers, the last first: of several tables of numbers the one that is named as such.

    Raises: `UserError` if the names do not tell the tables apart.
    """
    titles = [output.name for output in session.get_outputs()]
    tables = [
        k for k, out in enumerate(outputs) if isinstance(out, np.ndarray) and out.ndim == 2 and out.dtype.kind == "f"
    ]
    if len(tables) < 2:
        return outputs[::-1]
    named = [k for k in tables if re.search("prob|logit", titles[k].lower())]
    if len(named) != 1:
        several = ", ".join(titles[k] for k in tables)
        raise UserError(
            f"{file} has several outputs that may be the answers: {several}; export the model with one of them"
        )
    return [outputs[named[0]]]
