"""Audits of a user's own training function: the target and its shadow models are trained here, and kept in a run folder."""

from __future__ import annotations

import inspect
import json
import uuid
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hampkit.attacks import Attack
from hampkit.code_hash import code_of
from hampkit.config.content import content_hash
from hampkit.data.base import fingerprint
from hampkit.data.canaries import Canaries
from hampkit.data.copies import joined
from hampkit.data.splits import shadow_members
from hampkit.errors import Notice, UserError
from hampkit.launch.progress import Jobs
from hampkit.registry import load_own
from hampkit.rng import derive, numpy_rng
from hampkit.runs.locks import locked
from hampkit.runs.step import Step
from hampkit.runs.store import Run, write_json
from hampkit.targets.answers import Kind
from hampkit.targets.base import Given, Probed, TrainedOn
from hampkit.targets.model_inputs import Rows
from hampkit.targets.records import Records, check_sides, class_codes, names, sorted_names
from hampkit.targets.training_function import About
from hampkit.text import audit_folder
from hampkit.types import Probe
from hampkit.workflows.chosen_attacks import attacks_to_json, shadow_probes_of
from hampkit.workflows.own_models import ModelAnswers, OwnModels, records_step
from hampkit.workflows.session import Session

WORKER = "hampkit.workflows.own_models:worker"
VERSION = 1  # raised when the same function and data would give other models


@dataclass(frozen=True)
class Questions:
    """The attacks with questions of their own, which the models are asked as soon as they are trained."""

    attacks: tuple[Attack, ...] = ()
    usual: tuple[Attack, ...] = ()  # those of an audit that names no attacks: its models answered their questions too

    @property
    def probes(self) -> tuple[Probe, ...]:
        return shadow_probes_of(self.attacks)

    @property
    def other(self) -> tuple[Probe, ...] | None:
        """The probes of an audit that names no attacks, if they include these and others."""
        usual = shadow_probes_of(self.usual)
        return usual if set(self.probes) < set(usual) else None


@dataclass(frozen=True)
class OwnTraining:
    """A training function with its data. ``shadows`` models are trained beside the target, each on a random half."""

    train: Any  # a function (x, y, seed) → model, or its import path package.module:function
    rows: Rows
    shadows: int
    seed: int = 0
    title: str = ""
    kind: Kind = "auto"  # of the models' answers
    asked: Questions = Questions()
    canaries: Canaries | None = None  # the last rows; then all others are in training, and canaries alone are audited
    true_labels: Any = None  # (K,) the classes that mislabelled canaries had before
    classes: tuple[str, ...] = ()  # names; empty: those of the labels

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
        classes = list(self.classes) or sorted_names(names(values))
        if len(classes) < 2:
            raise UserError(f"the label has one class only, {classes[0]!r}; a classifier needs at least two")
        if 2 * len(classes) > len(values):
            raise UserError(
                f"the label has {len(classes):,} different values in {len(values):,} rows, so it is no class; name the column of"
                " the class by --label"
            )
        return class_codes("the label", values, classes), tuple(classes)

    @cached_property
    def audited(self) -> NDArray[np.int64]:
        """(P,) the rows on which attacks are judged: all, or the canaries."""
        n = len(self.rows.x)
        return np.arange(0 if self.canaries is None else n - len(self.canaries), n)

    @cached_property
    def units(self) -> NDArray[np.int64]:
        """(N,) the first record of each record's unit: records of one group or with equal inputs are trained on together."""
        alike = self.rows.alike
        return alike if self.rows.group is None else joined(alike, self.rows.group)

    @property
    def coins(self) -> bool:
        """Whether an independent fair coin decided on each single record of the target that is audited."""
        return self.canaries is not None or bool((self.units == np.arange(len(self.units))).all())

    @cached_property
    def masks(self) -> NDArray[np.bool_]:
        """(1 + M, N) bool: which records the target, then each shadow model, is trained on.

        A fair coin decides on each unit of the target, and shadow models are trained on halves, in pairs. With canaries all other
        records are always in training.
        """
        n, units, seed = len(self.units), self.units, derive(self.seed, "shadows") % 2**32
        if self.canaries is None:
            target = (numpy_rng(derive(self.seed, "target")).random(n) < 0.5)[units]
            found, together = target[None], units
        else:
            found, together = self.canaries.included[None], None
        if self.shadows:
            shadows = shadow_members(self.shadows, found.shape[1], seed, "paired", together).numpy()
            found = np.concatenate([found, shadows])
        others = np.ones((len(found), n - found.shape[1]), dtype=bool)
        return np.concatenate([others, found], axis=1)

    @cached_property
    def key(self) -> dict[str, Any]:
        """What decides the models: the function's code, the data, the seed. Without source the function is never found again."""
        y, _ = self.labels
        code = self._code()
        data = fingerprint(self.rows.x, torch.from_numpy(y))
        inputs = self.rows.inputs
        given = content_hash(inputs.to_json()) if hasattr(inputs, "to_json") else fingerprint(torch.from_numpy(inputs))
        found = {"version": VERSION, "code": code or uuid.uuid4().hex, "data": data, "inputs": given, "seed": self.seed}
        return found | ({} if self.canaries is None else {"canaries": self.canaries.sha256})

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

    @cached_property
    def models(self) -> OwnModels:
        """The models, of which none is trained yet."""
        y, classes = self.labels
        about = About(self.rows.encoding, y, self.audited, len(classes))
        return OwnModels(self.function, about, self.masks, self.seed, self.kind)


def given_of_training(own: OwnTraining, session: Session) -> Given:
    """The answers of the target and of its shadow models; what is missing is trained.

    Raises: `UserError` for a function that fails, and for data that cannot be used.
    """
    y, classes = own.labels
    _check(own)
    with locked(session.runs_dir, own.folder, session.wait):
        run = Run.create(session.runs_dir, own.folder, lambda folder: write_json(folder / "recipe.json", own.key))
        target, *shadows = _trained(own, run, session)
    rows, at = own.rows, own.audited
    every = Records(
        y, own.masks[0], classes, rows.x, rows.group, rows.ids, rows.encoding.domain, rows.by, rows.persons, rows.alike
    )
    what, notes = f"the answers of {own.name}", (*rows.notes, _note(own))
    given = Given(
        own.name,
        what,
        every.take(at),
        target.records[at],
        "train",
        own.kind,
        notes=notes,
        coins=own.coins,
        folder=own.folder,
    )
    if own.canaries is not None:
        given = replace(given, canaries=own.canaries.facts, trained=_trained_on(own, target.records))
    if not shadows:
        return given
    answers = np.stack([model.records[at] for model in shadows])
    given = replace(given, shadow_answers=answers, shadow_members=own.masks[1:, at])
    return replace(given, probed=_probed(own, target, shadows))


def _check(own: OwnTraining) -> None:
    """Raises: `UserError` if so few records have coins of their own that the target has too few members, or too many."""
    if own.canaries is None:
        check_sides(f"the data of {own.name}", own.masks[0])


def _probed(own: OwnTraining, target: ModelAnswers, shadows: Sequence[ModelAnswers]) -> Probed:
    """What probes kept of the answers of all models, and why some cannot be asked."""
    failed = {probe: why for model in (target, *shadows) for probe, why in model.failed.items()}
    answered = [probe for probe in own.asked.probes if probe not in failed]
    return Probed(
        {probe: target.probes[probe] for probe in answered},
        {probe: np.stack([model.probes[probe] for model in shadows]) for probe in answered},
        failed,
    )


def _trained_on(own: OwnTraining, answers: NDArray[Any]) -> TrainedOn:
    """How many records the target was trained on, and its accuracy on them and on others.

    The others are mislabelled canaries that are not in training, with the labels that they had before. Other kinds of canaries
    have no such labels, and leave no other record: then the accuracy is not known.
    """
    assert own.canaries is not None
    if own.true_labels is None:
        return TrainedOn({}, {"train": int(own.masks[0].sum()), "test": 0})
    found, outside = answers.argmax(1), ~own.canaries.included
    test = (found[own.audited] == own.true_labels)[outside]
    train = (found == own.labels[0])[own.masks[0]]
    accuracy = {"train": float(train.mean()), "test": float(test.mean())}
    return TrainedOn(accuracy, {"train": len(train), "test": len(test)})


def _trained(own: OwnTraining, run: Run, session: Session) -> list[ModelAnswers]:
    """The answers of all models. Importable functions are trained in processes, others here."""
    models, steps = own.models, _steps(own, run)
    missing = [m for m, step in enumerate(steps) if not step.done(run)]
    found = len(steps) - len(missing)
    if found:
        session.progress.say(f"{found} of {len(steps)} models of {own.name} are found in {run.folder}")
    if not own.shadows:
        _note_no_shadows()
    jobs = Jobs(session.progress.track, f"models of {own.name}", len(steps), found)
    jobs.show()
    if own.path and len(missing) > 1:
        data = records_step(models)
        data.of(run)
        context = {"run": str(run.folder.resolve()), "train": own.path, "data": data.place, "seed": own.seed}
        context |= {"kind": own.kind, "classes": len(own.labels[1]), "attacks": attacks_to_json(own.asked.attacks)}
        session.launcher.map(WORKER, context, missing, lambda e: jobs.finish(e["job"], e["trained"]))
    else:
        _say_inline(own, missing)
        for m in missing:
            steps[m].of(run)
            jobs.finish(str(m))
    return [step.of(run) for step in steps]


def _steps(own: OwnTraining, run: Run) -> list[Step[ModelAnswers]]:
    """The step of each model. An existing step with these and more questions takes the place of a new one."""
    probes, other, steps = own.asked.probes, own.asked.other, []
    for m in range(len(own.models)):
        step = own.models.step(m, probes)
        if other is not None and not step.done(run) and (found := own.models.step(m, other)).done(run):
            step = found
        steps.append(step)
    return steps


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


def _source(function: Any) -> str:
    """A hash of the source of a function that no module defines; empty if it cannot be had."""
    try:
        return content_hash(json.dumps(inspect.getsource(function)))[:8]
    except (OSError, TypeError):
        return ""


def _note(own: OwnTraining) -> str:
    n, of = int(own.masks[0].sum()), own.masks.shape[1]
    records = f"{n:,} of {of:,} records"
    if own.canaries is not None:
        inside, every = int(own.canaries.included.sum()), len(own.canaries)
        records = f"{n - inside:,} records and {inside:,} of {every:,} canaries"
    return f"trained here on {records}, with {len(own.masks) - 1} shadow models"
