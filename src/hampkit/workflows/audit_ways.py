"""The ways into an audit: from what the user gives to the answers of a model about records."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from hampkit.config.files import file_facts, is_file, plain_file
from hampkit.config.sections import CanaryConfig
from hampkit.errors import UserError, one_line
from hampkit.registry import load_own
from hampkit.targets.base import Given
from hampkit.targets.huggingface import PREFIX, given_of_texts, load_text_model
from hampkit.targets.model import Foreign, given_of
from hampkit.targets.model_inputs import (
    Rows,
    TableColumns,
    is_table,
    rows_of_arrays,
    rows_of_file,
    rows_of_pair,
    rows_of_tables,
)
from hampkit.targets.predictions import Columns, from_arrays, from_file, from_table
from hampkit.targets.records import by_option, coded, names
from hampkit.targets.scores import given_of_scores
from hampkit.targets.texts import text_rows, text_rows_of_files
from hampkit.workflows.own_canaries import own_with_canaries
from hampkit.workflows.own_training import OwnTraining, Questions, given_of_training
from hampkit.workflows.published_weights import PublishedWeights
from hampkit.workflows.session import Session

UNSAFE = (".pkl", ".pickle", ".joblib", ".pt", ".pth", ".pt2", ".bin", ".h5", ".keras")
WAYS = (
    "predictions (a file, or a data frame), probabilities or logits with y and member, a model (predict, --model) with members"
    " and nonmembers, a function (train) with data, folders of published scores, or published weights with data"
)
OF_ROWS = ("group", "id", "by")  # arrays that belong to pairs (x, y) too, members first
OWNERS = {  # argument → the ways that it belongs to
    "members": ("predict",),
    "nonmembers": ("predict",),
    "text": ("predict",),
    "data": ("train", "weights"),
    "shadows": ("train",),
    "canaries": ("train",),
    "target_scores": ("scores",),
    "net": ("weights",),
    "split": ("weights",),
}


@dataclass(frozen=True)
class Ways:
    """Everything that a user may give; exactly one way in must be complete."""

    predictions: Any = None
    columns: Columns = field(default_factory=Columns)
    arrays: dict[str, Any] = field(default_factory=dict)  # see `hampkit.targets.predictions.from_arrays`
    predict: Any = None  # a model, ``package.module:load``, a .onnx file or ``hf:FOLDER``
    members: Any = None
    nonmembers: Any = None
    inputs: Any = "auto"
    text: str = ""  # the column that a model of texts reads
    title: str = ""
    train: Any = None  # a function (x, y, seed) → model, or package.module:function
    data: Any = None  # a pair (x, y) or a table, for ``train``; the name of a data set, for ``weights``
    shadows: int = 0
    canaries: CanaryConfig = field(default_factory=CanaryConfig)  # for ``train``
    seed: int = 0
    scores: Any = None  # a folder with the published scores of shadow models
    target_scores: Any = None  # a folder with those of the target; default: the last model is the target
    weights: Any = None  # a published checkpoint of a network that hampkit has
    net: str = ""  # its network; default: that of the recipe of the data set
    split: Any = None  # a file with the permutation that decided on its members

    def given(self, session: Session, asked: Questions) -> list[Given]:
        """What the one complete way in gives: one model, and behind it one with canaries.

        asked: what models of a training function are asked. Raises: `UserError` for none or several ways, and for what each of
        them refuses.
        """
        way = self._way()
        if way == "train":
            return [given_of_training(own, session) for own in self._trainings(asked)]
        return [self._of(way, session)]

    def _way(self) -> str:
        """The one way in. Raises: `UserError` for none or several, and for what it has no use for."""
        ways = {name: getattr(self, name) for name in ("predictions", "predict", "train", "scores", "weights")}
        there = [name for name, value in ways.items() if value is not None]
        there += [name for name in ("probabilities", "logits") if self.arrays.get(name) is not None]
        if len(there) != 1:
            what = " and ".join(map(_flagged, there)) if there else "nothing"
            raise UserError(f"an audit needs one way in, and got {what}; give {WAYS}")
        self._check_unused(there[0])
        return there[0]

    def _of(self, way: str, session: Session) -> Given:
        if way == "predict":
            return self._of_model(session)
        if way == "scores":
            return given_of_scores(self.scores, self.target_scores, self.title)
        if way == "weights":
            data = "" if self.data is None else self.data
            return PublishedWeights(self.weights, data, self.net, self.split or "", self.title).given(session)
        if way != "predictions":
            return from_arrays(self.title or "model", "the arrays", self.arrays)
        if isinstance(self.predictions, (str, Path)):
            found = from_file(self.predictions, self.columns)
            return replace(found, title=self.title or found.title)
        return from_table(self.title or "predictions", "the table", self.predictions, self.columns)

    def files(self) -> dict[str, Path]:
        """Argument → the file that is read, of those that are files."""
        names = ("predictions", "predict", "members", "nonmembers", "data", "weights", "split")
        given = {name: getattr(self, name) for name in names}
        paths = {
            name: Path(value).expanduser() for name, value in given.items() if isinstance(value, (str, Path)) and value
        }
        return {name: path for name, path in paths.items() if is_file(path)}

    def source(self) -> dict[str, Any]:
        """What was given, for a report: each file with its size and hash, the roles of columns, how files were read."""
        columns = self.columns
        roles = {**columns.named, **by_option(answers=columns.answers, positive=columns.positive, text=self.text)}
        return {
            "files": {name: file_facts(path) for name, path in self.files().items()},
            "columns": roles,
            "options": columns.reading.given,
        }

    def _check_unused(self, way: str) -> None:
        """Check that nothing is given that this way in has no use for."""
        pairs = (way == "predict" and not is_table(self.members)) or (way == "train" and not is_table(self.data))
        unused = [name for name in self.arrays if not (pairs and name in OF_ROWS)]
        if way not in ("probabilities", "logits") and unused:
            name = unused[0]
            raise UserError(
                f"{name} as an array has no effect with {_flagged(way)}; give the name of a column, or leave it out"
            )
        if (pairs or way in ("probabilities", "logits")) and (given := self.columns.reading.given):
            raise UserError(f"{next(iter(given))} has no effect on arrays; leave it out")
        if way in ("scores", "weights") and (given := self.columns.given):
            raise UserError(f"{given[0]} has no effect with {way}, which have no columns of answers; leave it out")
        if self.inputs != "auto" and way not in ("predict", "train"):
            raise UserError(f"inputs={self.inputs} has no effect with {way}, which asks no model; leave it out")
        for name, owners in OWNERS.items():
            value = self.canaries.count if name == "canaries" else getattr(self, name)
            if way not in owners and not (value is None or (isinstance(value, (int, str)) and not value)):
                raise UserError(
                    f"{name} has no effect with {_flagged(way)}; leave it out, or give {' or '.join(map(_flagged, owners))}"
                )

    def _trainings(self, asked: Questions) -> list[OwnTraining]:
        """The training function, and the same with canaries if there are to be any."""
        if self.data is None:
            raise UserError("a training function needs data; give a table, or a pair (x, y)")
        if is_table(self.data):
            rows = rows_of_file(self.data, self._table_columns())
        else:
            rows = self._named(rows_of_pair(self.data, inputs_as=self.inputs))
        own = OwnTraining(self.train, rows, self.shadows, self.seed, self.title, self.columns.kind, asked)
        return [own, *([own_with_canaries(own, self.canaries)] if self.canaries.count else [])]

    def _table_columns(self) -> TableColumns:
        columns = self.columns
        return TableColumns(columns.label, columns.group, columns.id, self.inputs, columns.by, columns.reading)

    def _of_model(self, session: Session) -> Given:
        for name, value in (("members", self.members), ("nonmembers", self.nonmembers)):
            if value is None:
                raise UserError(
                    f"a model needs members and nonmembers, and {name} is missing; give a table, or a pair (x, y)"
                )
        if isinstance(self.predict, str) and self.predict.startswith(PREFIX):
            return self._of_texts(self.predict.removeprefix(PREFIX), session)
        if self.text:
            raise UserError(f"text={self.text!r} has no effect without a model of texts, {PREFIX}FOLDER; leave it out")
        model, title = loaded(self.predict)
        if is_table(self.members) and is_table(self.nonmembers):
            rows = rows_of_tables(self.members, self.nonmembers, self._table_columns())
        else:
            rows = self._named(rows_of_arrays(self.members, self.nonmembers, inputs_as=self.inputs))
        return given_of(Foreign(self.title or title, model, self.columns.kind), rows)

    def _of_texts(self, folder: str, session: Session) -> Given:
        if self.inputs != "auto":
            raise UserError(
                f"inputs={self.inputs} has no effect on a model of texts, which receives tokens; leave it out"
            )
        model = load_text_model(folder, session.torch_device())
        if self._tables():
            rows = text_rows_of_files(self.members, self.nonmembers, self._table_columns(), self.text)
        else:
            rows = text_rows(self.members, self.nonmembers)
        title = self.title or model.folder.resolve().name
        return given_of_texts(model, rows, Foreign(title, model, self.columns.kind))

    def _named(self, rows: Rows) -> Rows:
        """The rows of pairs (x, y) with the groups and names that were given as arrays, members first.

        Raises: `UserError` for arrays of another length.
        """
        found = {name: np.asarray(self.arrays[name]).tolist() for name in OF_ROWS if name in self.arrays}
        for name, values in found.items():
            if not isinstance(values, list) or len(values) != len(rows.member):
                n = len(values) if isinstance(values, list) else 1
                raise UserError(
                    f"{name} has {n:,} values, and there are {len(rows.member):,} rows; give one for each, members first"
                )
        group, ids, by = (found.get(name) for name in OF_ROWS)
        named = {"ids": names(ids or ()), "by": names(by or ()), "persons": names(group or ())}
        return replace(rows, group=None if group is None else coded(group), **named)

    def _tables(self) -> bool:
        """Whether members and non-members are files."""
        return isinstance(self.members, (str, Path)) and isinstance(self.nonmembers, (str, Path))


def _flagged(name: str) -> str:
    """The name of an argument, with its option if that has another name.

    >>> _flagged("predict"), _flagged("train")
    ('predict (--model)', 'train')
    """
    return f"{name} (--model)" if name == "predict" else name


def loaded(model: Any) -> tuple[Any, str]:
    """A model and its title: an object as it is, the result of ``package.module:load``, or the path of a .onnx file.

    Raises: `UserError` for files that would have to be unpickled, and for a factory that fails.
    """
    if not isinstance(model, (str, Path)):
        return model, getattr(model, "__name__", type(model).__name__)
    text = str(model)
    suffix = Path(text).suffix.lower()
    if suffix == ".onnx":
        return plain_file(text, "model"), Path(text).stem
    if suffix in UNSAFE:
        raise UserError(
            f"{text} is not read: loading a {suffix} file can run any code in it; export the model to ONNX, save its weights as"
            " safetensors, or write a function that loads it and give --model package.module:function; weights of a network that"
            " hampkit has are given by --weights"
        )
    if ":" not in text:
        raise UserError(f"model {text!r} is neither a .onnx file, hf:FOLDER nor package.module:load; give one of them")
    return _made(text), text.rpartition(":")[0].rpartition(".")[2]


def _made(text: str) -> Any:
    """The model at an import path: what its function returns, or the object itself if it is a model."""
    found = load_own(text)
    if isinstance(found, type):
        raise UserError(
            f"{text} is a class, and a new object of it is untrained; name a function that returns the model"
        )
    if hasattr(found, "predict_proba") or isinstance(found, nn.Module):
        return found
    if not callable(found):
        raise UserError(f"{text} is a {type(found).__name__}; name a function without arguments that returns the model")
    try:
        return found()
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # the function is the user's: it may raise anything
        raise UserError(
            f"{text} fails: {one_line(error, named=True)}; it must be a function without arguments that returns the model"
        ) from error
