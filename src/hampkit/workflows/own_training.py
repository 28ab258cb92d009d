"""Audits of a user's own training function: the target and its shadow models are trained here, and kept in a run folder."""

from __future__ import annotations

import inspect
import json
import uuid
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hampkit.code_hash import code_of
from hampkit.config.content import content_hash
from hampkit.data.base import fingerprint
from hampkit.data.copies import first_alike, joined
from hampkit.data.splits import shadow_members
from hampkit.data.table_values import domain_of
from hampkit.errors import Notice, UserError
from hampkit.launch.progress import Jobs
from hampkit.registry import load_own
from hampkit.rng import derive, numpy_rng
from hampkit.runs.locks import locked
from hampkit.runs.step import Step
from hampkit.runs.store import Run, write_json
from hampkit.targets.answers import Kind
from hampkit.targets.base import Given
from hampkit.targets.model_inputs import Rows
from hampkit.targets.records import Records, class_codes, names, sorted_names
from hampkit.targets.training_function import fitted_answers
from hampkit.text import audit_folder
from hampkit.workflows.session import Session

WORKER = "hampkit.workflows.own_training:worker"
VERSION = 1  # raised when the same function and data would give other models


@dataclass(frozen=True)
class OwnTraining:
    """A training function with its data. ``shadows`` models are trained beside the target, each on a random half."""

    train: Any  # a function (x, y, seed) → model, or its import path package.module:function
    rows: Rows
    shadows: int
    seed: int = 0
    title: str = ""
    kind: Kind = "auto"  # of the models' answers

    @cached_property
    def function(self) -> Callable[[Any, Any, int], Any]:
        """The function itself. Raises: `UserError` if it cannot be imported or called."""
        found = load_own(self.train) if isinstance(self.train, str) else self.train
        if not callable(found):
            raise UserError(f"train={self.train!r} is no function; give train(x, y, seed), which returns a model")
        return found

    @cached_property
    def path(self) -> str:
        """The import path by which a worker process finds the function; empty if it has none."""
        return self.train if isinstance(self.train, str) else ""

    @cached_property
    def labels(self) -> tuple[NDArray[np.int64], tuple[str, ...]]:
        """(N,) numbers of the classes, and their names."""
        values = list(self.rows.labels)
        missing = [k for k, value in enumerate(values) if value is None or value != value]
        if missing:
            raise UserError(
                f"the label has no value in data row {missing[0] + 1} ({len(missing):,} such rows); leave them out"
            )
        classes = sorted_names(names(values))
        if len(classes) < 2:
            raise UserError(f"the label has one class only, {classes[0]!r}; a classifier needs at least two")
        if 2 * len(classes) > len(values):
            raise UserError(
                f"the label has {len(classes):,} different values in {len(values):,} rows, so it is no class; name the column of"
                " the class by --label"
            )
        return class_codes("the label", values, classes), tuple(classes)

    @cached_property
    def units(self) -> NDArray[np.int64]:
        """(N,) the first record of each record's unit: records of one group or with equal inputs are trained on together."""
        alike = first_alike(self.rows.x)
        return alike if self.rows.group is None else joined(alike, self.rows.group)

    @property
    def coins(self) -> bool:
        """Whether an independent fair coin decided on each single record of the target."""
        return bool((self.units == np.arange(len(self.units))).all())

    @cached_property
    def masks(self) -> NDArray[np.bool_]:
        """(1 + M, N) bool: which records the target, then each shadow model, is trained on.

        A fair coin decides on each unit of the target, and shadow models are trained on halves, in pairs.
        """
        n = len(self.units)
        target = (numpy_rng(derive(self.seed, "target")).random(n) < 0.5)[self.units]
        if not self.shadows:
            return target[None]
        shadows = shadow_members(self.shadows, n, derive(self.seed, "shadows") % 2**32, "paired", self.units).numpy()
        return np.concatenate([target[None], shadows])

    @cached_property
    def key(self) -> dict[str, Any]:
        """What decides the models: the function's code, the data, the seed. Without source the function is never found again."""
        y, _ = self.labels
        code = self._code()
        data = fingerprint(self.rows.x, torch.from_numpy(y))
        inputs = self.rows.inputs
        given = content_hash(inputs.to_json()) if hasattr(inputs, "to_json") else fingerprint(torch.from_numpy(inputs))
        return {"version": VERSION, "code": code or uuid.uuid4().hex, "data": data, "inputs": given, "seed": self.seed}

    def _code(self) -> str:
        """A hash of the function's code; empty if other values decide what it does, such as those of a closure."""
        if self.path:
            return code_of(self.function, self.path.partition(":")[0])
        plain = inspect.isfunction(self.function) and self.function.__closure__ is None
        return code_of(self.function) or _source(self.function) if plain else ""

    @property
    def folder(self) -> str:
        """The name of the run folder."""
        return audit_folder(self.name, content_hash(self.key))

    @property
    def name(self) -> str:
        """The title of the report."""
        return self.title or getattr(self.function, "__name__", "train")


def given_of_training(own: OwnTraining, session: Session) -> Given:
    """The answers of the target and of its shadow models; what is missing is trained.

    Raises: `UserError` for a function that fails, and for data that cannot be used.
    """
    y, classes = own.labels
    with locked(session.runs_dir, own.folder, session.wait):
        run = Run.create(session.runs_dir, own.folder, lambda folder: write_json(folder / "recipe.json", own.key))
        answers = _trained(own, run, session)
    rows = own.rows
    records = Records(
        y, own.masks[0], classes, rows.x, rows.group, rows.ids, domain_of(rows.x, ()), rows.by, rows.persons
    )
    what = f"the answers of {own.name}"
    given = Given(
        own.name,
        what,
        records,
        answers[0],
        "train",
        own.kind,
        notes=(*rows.notes, _note(own)),
        coins=own.coins,
        folder=own.folder,
    )
    return given if not own.shadows else replace(given, shadow_answers=answers[1:], shadow_members=own.masks[1:])


def worker(context: dict[str, Any]) -> Callable[..., None]:
    """The function that trains one model in a worker process, see `hampkit.types.Launcher`."""
    run, function = Run(Path(context["run"])), load_own(context["train"])
    inputs, y = _read_data(run.folder / context["data"])
    masks = np.load(run.folder / context["data"] / "masks.npy", allow_pickle=False)

    def job(m: int, send: Callable[[dict[str, Any]], None]) -> None:
        _step(m, masks[m], lambda seed: fitted_answers(function, inputs, y, masks[m], seed), context["seed"]).of(run)
        send({"job": str(m), "trained": 1})

    return job


def _trained(own: OwnTraining, run: Run, session: Session) -> NDArray[Any]:
    """(1 + M, N, C) the answers of all models. Importable functions are trained in processes, others here."""
    y, _ = own.labels
    masks, inputs = own.masks, own.rows.inputs

    def step(m: int) -> Step[Any]:
        return _step(m, masks[m], lambda seed: fitted_answers(own.function, inputs, y, masks[m], seed), own.seed)

    missing = [m for m in range(len(masks)) if not step(m).done(run)]
    found = len(masks) - len(missing)
    if found:
        session.progress.say(f"{found} of {len(masks)} models of {own.name} are found in {run.folder}")
    if not own.shadows:
        _note_no_shadows()
    jobs = Jobs(session.progress.track, f"models of {own.name}", len(masks), found)
    jobs.show()
    if own.path and len(missing) > 1:
        data = Step("data", {"models": len(masks)}, lambda folder: _write_data(own, folder), lambda folder: folder)
        data.of(run)
        context = {"run": str(run.folder.resolve()), "train": own.path, "data": data.place, "seed": own.seed}
        session.launcher.map(WORKER, context, missing, lambda e: jobs.finish(e["job"], e["trained"]))
    else:
        _say_inline(own, missing)
        for m in missing:
            step(m).of(run)
            jobs.finish(str(m))
    return np.stack([step(m).of(run) for m in range(len(masks))])


def _note_no_shadows() -> None:
    warnings.warn(
        "no shadow models: attacks with them find more, and exposed records need them; add --shadows 16 (in Python:"
        " shadows=16)",
        Notice,
        stacklevel=5,
    )


def _say_inline(own: OwnTraining, missing: list[int]) -> None:
    if not own.path and len(missing) > 1:
        warnings.warn(
            f"{own.name} is a function of this session: its {len(missing)} models are trained here, one after another; give"
            ' train="package.module:function" to train them in several processes',
            Notice,
            stacklevel=4,
        )


def _step(m: int, mask: NDArray[np.bool_], answers: Callable[[int], Any], seed: int) -> Step[Any]:
    """The answers (N, C) of model m; 0 is the target."""

    def write(folder: Path) -> None:
        np.save(folder / "answers.npy", np.asarray(answers(derive(seed, "own model", m) % 2**31)))

    key = {"members": fingerprint(torch.from_numpy(mask))}
    return Step(f"models/{m:03d}", key, write, lambda folder: np.load(folder / "answers.npy", allow_pickle=False))


def _write_data(own: OwnTraining, folder: Path) -> None:
    inputs = own.rows.inputs
    if isinstance(inputs, np.ndarray):
        np.save(folder / "inputs.npy", inputs)
    else:
        inputs.to_parquet(folder / "inputs.parquet")
    np.save(folder / "y.npy", own.labels[0])
    np.save(folder / "masks.npy", own.masks)


def _read_data(folder: Path) -> tuple[Any, NDArray[np.int64]]:
    y = np.load(folder / "y.npy", allow_pickle=False)
    if (folder / "inputs.npy").exists():
        return np.load(folder / "inputs.npy", allow_pickle=False), y
    import pyarrow.parquet

    return pyarrow.parquet.read_table(folder / "inputs.parquet").to_pandas(), y


def _source(function: Any) -> str:
    """A hash of the source of a function that no module defines; empty if it cannot be had."""
    try:
        return content_hash(json.dumps(inspect.getsource(function)))[:8]
    except (OSError, TypeError):
        return ""


def _note(own: OwnTraining) -> str:
    masks = own.masks
    return f"trained here on {int(masks[0].sum()):,} of {masks.shape[1]:,} records, with {len(masks) - 1} shadow models"
