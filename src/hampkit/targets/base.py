"""A model that was trained elsewhere, as a `hampkit.types.Target`: its answers about records whose membership is given."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hampkit import signals
from hampkit.errors import Notice, UserError
from hampkit.rng import derive
from hampkit.targets.answers import Kind, Scale, logits_of_scores, scale_of
from hampkit.targets.records import MOST_EQUAL, Records, check_groups, check_sides
from hampkit.types import Dataset, Probe

LEAST_SHADOWS = 4  # shadow models
ROUNDING = 1e-5  # of equal signals, relative to the largest: several layers round, and batches of other sizes otherwise


@dataclass(frozen=True)
class ShadowAnswers:
    """What is kept of models that were trained like the target."""

    signals: NDArray[Any]  # (M, P, V) scaled logits ln p_y − ln(1 − p_y), float32, or float64 as they were published
    members: NDArray[np.bool_]  # (M, P): model m was trained on record i

    # what each probe kept of their answers, (M, P, k)
    probes: Mapping[Probe, NDArray[np.float32]] = field(default_factory=dict)

    def take(self, order: NDArray[np.int64]) -> ShadowAnswers:
        """The answers about these records, in this order."""
        kept = {probe: np.ascontiguousarray(each[:, order]) for probe, each in self.probes.items()}
        members = np.ascontiguousarray(self.members[:, order])
        return ShadowAnswers(np.ascontiguousarray(self.signals[:, order]), members, kept)

    def only(self, models: NDArray[np.bool_]) -> ShadowAnswers:
        """The answers of these models, (M,) bool."""
        kept = {probe: each[models] for probe, each in self.probes.items()}
        return ShadowAnswers(self.signals[models], self.members[models], kept)


@dataclass(frozen=True)
class Probed:
    """The numbers that probes kept of the models' answers about P records."""

    target: Mapping[Probe, NDArray[np.float32]] = field(default_factory=dict)  # (P, k)
    shadows: Mapping[Probe, NDArray[np.float32]] = field(default_factory=dict)  # (M, P, k)
    failed: Mapping[Probe, str] = field(default_factory=dict)  # why the models cannot answer the questions of others


@dataclass(frozen=True)
class TrainedOn:
    """The accuracy of a target that is audited on only some of its records, and the numbers of records behind it."""

    accuracy: Mapping[str, float]  # "train" and "test"; empty if it cannot be measured
    rows: Mapping[str, int]  # the numbers of records, "train" and "test"


@dataclass(frozen=True)
class Audited:
    """The answers of a foreign model about P records, members first, in the order of judging."""

    title: str
    fingerprint: str  # of the answers and the records
    pool: Dataset = field(repr=False)
    membership: NDArray[np.bool_] = field(repr=False)  # (P,)
    views: Tensor = field(repr=False)  # (P, V, C) float64: released logits, or logarithms of released probabilities
    scale: Scale
    way: str  # how the model was read: predictions, module, estimator, callable, onnx, train, scores
    ids: tuple[str, ...] = ()  # (P,) the user's names of the records
    by: tuple[str, ...] = ()  # (P,) the subgroups that are judged apart
    persons: tuple[str, ...] = ()  # (P,) the user's names of the groups
    shadows: ShadowAnswers | None = None
    as_target: int | None = None  # the shadow model that is the target, attacked with the others
    notes: tuple[str, ...] = ()
    coins: bool = False  # an independent fair coin decided on each record
    folder: str = ""  # of the models, if they were trained here
    population: Dataset | None = None
    own_logits: Tensor | None = None
    probes: Mapping[Probe, NDArray[np.float32]] = field(default_factory=dict)  # what each kept of the answers, (P, k)
    failed: Mapping[Probe, str] = field(default_factory=dict)  # why the model cannot answer the questions of others
    canaries: Mapping[str, Any] = field(default_factory=dict)  # if the records are canaries: see `Canaries.facts`
    trained: TrainedOn | None = None  # if the audited records are not all records
    alike: NDArray[np.int64] | None = field(default=None, repr=False)  # (P,) see `Records.alike`

    @property
    def has_inputs(self) -> bool:
        """Whether the inputs of the records are given."""
        return self.pool.x.numel() > 0

    @property
    def logits(self) -> Tensor:
        """(P, C) the answers to the records as they are: the first view."""
        return self.views[:, 0]

    @property
    def labels_only(self) -> bool:
        """Whether the answers are predicted labels: probabilities of 0 and 1 alone."""
        z = self.logits
        return self.scale.kind == "probabilities" and self.scale.floor > 0 and bool(((z == 0) | (z == z.min())).all())

    @property
    def randomised(self) -> bool:
        """Whether equal questions have different answers; False where nobody asked twice."""
        return any(probe.repeats for probe in self.probes)

    @property
    def has_labels(self) -> bool:
        """Whether the labels of the records are given; score files may come without them."""
        return self.pool.classes != ("",)

    @property
    def facts(self) -> Mapping[str, Any]:
        """What a report must state; "summary" is a text."""
        taken = self.scale.kind
        if taken == "scores":
            return {"answers": taken, "summary": "published scores, taken as scaled logits of the true label"}
        return {"answers": taken, "summary": f"answers taken as {taken}, {self.pool.num_classes} classes"}

    def query(self, x: Tensor, seed: int) -> Tensor:
        """Released logits (P, C) for the pool itself; no other input can be asked for.

        Raises: `UserError` for other inputs.
        """
        if self.has_inputs and x.shape == self.pool.x.shape and bool((x == self.pool.x).all()):
            return self.logits
        raise UserError(f"{self.title} holds fixed answers: it cannot answer new inputs; give the model itself")


@dataclass(frozen=True)
class Given:
    """What a way in has read: records, and the answers of the model, of the user's kind."""

    title: str
    what: str  # the place of the answers, for messages
    records: Records
    answers: Any  # (P, C); scores: (P, V)
    way: str
    kind: Kind = "auto"
    shadow_answers: Any = None  # (M, P, C); scores: (M, P, V)
    shadow_members: Any = None  # (M, P) bool
    notes: tuple[str, ...] = ()
    coins: bool = False  # an independent fair coin decided on each record
    folder: str = ""  # of the models, where the files of the audit go too
    as_target: int | None = None  # the shadow model whose answers these are
    probed: Probed = field(default_factory=Probed)
    canaries: Mapping[str, Any] = field(default_factory=dict)  # if the records are canaries: see `Canaries.facts`
    trained: TrainedOn | None = None  # if the audited records are not all records


def audited(given: Given, seed: int, allow_equal: bool = False) -> Audited:
    """The target of an audit, in the order of judging.

    allow_equal: whether more than `MOST_EQUAL` of the non-members may be equal to members.
    Raises: `UserError` for answers or records that no audit can use.
    """
    records = given.records
    _check_lengths(given)
    if not given.canaries:  # their numbers are checked before anything is trained
        check_sides(given.what, records.member)
    check_groups(given.what, records)
    notes = [*given.notes, *_check_equal(given, allow_equal), *_note_on_groups(records)]
    scale, views = _views(given)
    notes += [*_note_on_order(given, scale, views), *_note_on_labels(given, scale)]
    order = records.order(derive(seed, "audit"))
    ordered = records.take(order)
    shadows, left_out = _without_collapsed(given, scale)
    fingerprint = _hash(views if views.shape[1] > 1 else views[:, 0], records)
    return Audited(
        title=given.title,
        fingerprint=fingerprint,
        pool=ordered.pool(given.title, fingerprint, order),
        membership=ordered.member,
        views=torch.from_numpy(np.ascontiguousarray(views[order])),
        scale=scale,
        way=given.way,
        ids=ordered.ids,
        by=ordered.by,
        persons=ordered.persons,
        shadows=None if shadows is None else shadows.take(order),
        as_target=given.as_target,
        notes=(*notes, *scale.notes, *left_out),
        coins=given.coins,
        folder=given.folder,
        probes={probe: kept[order] for probe, kept in given.probed.target.items()},
        failed=given.probed.failed,
        canaries=given.canaries,
        trained=given.trained,
        alike=ordered.alike,
    )


def _views(given: Given) -> tuple[Scale, NDArray[np.float64]]:
    """The scale of the answers, and the answers as logits (P, V, C)."""
    if given.kind == "scores":
        return Scale("scores"), logits_of_scores(given.answers, given.records.y, len(given.records.classes))
    more = () if given.shadow_answers is None else (given.shadow_answers,)
    scale = scale_of(given.what, given.answers, given.kind, *more)
    return scale, scale.logits(given.answers)[:, None]


def _check_lengths(given: Given) -> None:
    n, shape = len(given.records), np.shape(given.answers)
    if given.kind == "scores":
        assert shape[:1] == (n,), shape
        return
    if len(shape) != 2 or shape[0] != n:
        raise UserError(f"{given.what} has shape {shape}; it must be ({n}, classes), one row for each record")
    if len(given.records.classes) != shape[1]:
        raise UserError(
            f"{given.what} has {shape[1]} columns of answers for {len(given.records.classes)} classes; give one column per class"
        )


def _check_equal(given: Given, allow: bool) -> list[str]:
    """A note on non-members that are equal to members.

    Raises: `UserError` for too many of them.
    """
    equal, n = given.records.equal(), int((~given.records.member).sum())
    if not equal:
        return []
    kind = "the inputs" if given.records.x is not None else "the name"
    found = f"{equal:,} of {n:,} non-members of {given.what} have {kind} of a member"
    accepted = allow or given.canaries  # canaries with equal inputs have coins of their own
    if equal > MOST_EQUAL * n and not accepted:
        raise UserError(
            f"{found}: attacks cannot tell them apart, and the numbers would be too low; remove them, or add --allow-equal"
        )
    return [found]


def _note_on_groups(records: Records) -> list[str]:
    """A note on groups with members and non-members: an attack on a person who is both is not what the numbers are of."""
    if records.group is None:
        return []
    both = len(np.intersect1d(records.group[records.member], records.group[~records.member]))
    n = len(np.unique(records.group))
    return (
        [f"{both:,} of {n:,} groups have members and non-members; each counts as two groups in intervals"]
        if both
        else []
    )


def _note_on_order(given: Given, scale: Scale, views: NDArray[np.float64]) -> list[str]:
    """A note on answers that are right for fewer members than guessing, beyond chance: the columns may be in another order."""
    if scale.kind == "scores":
        return []
    member, classes = given.records.member, views.shape[-1]
    share = float((views[:, 0].argmax(-1) == np.asarray(given.records.y))[member].mean())
    if share + 3 * np.sqrt(0.25 / member.sum()) >= 1 / classes:
        return []
    note = (
        f"{given.what} are right for {share:.1%} of the members, less than by guessing among {classes} classes:"
        " are the columns of answers in the order of the classes?"
    )
    return _warned(note)


def _note_on_labels(given: Given, scale: Scale) -> list[str]:
    """A note on answers that are 0 or 1 only: they are predicted labels."""
    values = np.asarray(given.answers)
    if scale.kind != "probabilities" or not ((values == 0) | (values == 1)).all():
        return []
    note = (
        f"{given.what} are 0 and 1 only, as predicted labels are: attacks see labels, and no probabilities; give"
        " probabilities if users of the model see them"
    )
    return _warned(note)


def _warned(note: str) -> list[str]:
    warnings.warn(note, Notice, stacklevel=4)
    return [note]


def _shadows(given: Given, scale: Scale) -> ShadowAnswers:
    """Raises: `UserError` for arrays of other shapes."""
    members = np.asarray(given.shadow_members)
    shape, wanted = np.shape(given.shadow_answers), (len(members), *np.shape(given.answers))
    if members.ndim != 2 or shape != wanted or members.shape != wanted[:2]:
        raise UserError(
            f"the shadow models' answers {shape} and members {members.shape} must have the shapes (models, records, classes)"
            f" and (models, records), with {wanted[1]} records and {wanted[2]} classes"
        )
    if len(members) < LEAST_SHADOWS:
        raise UserError(f"{len(members)} shadow models are too few; give at least {LEAST_SHADOWS}")
    if members.dtype != bool and not np.isin(members, (0, 1)).all():
        raise UserError("shadow_members must be bool: whether a shadow model was trained on a record")
    members = members.astype(bool)
    _check_halves(members)
    if given.kind == "scores":
        return ShadowAnswers(np.asarray(given.shadow_answers), members)
    y = given.records.y
    kept = np.stack([signals.scaled_logit(scale.logits(answers), y) for answers in given.shadow_answers])
    return ShadowAnswers(kept.astype(np.float32)[..., None], members, given.probed.shadows)


def _without_collapsed(given: Given, scale: Scale) -> tuple[ShadowAnswers | None, tuple[str, ...]]:
    """The shadow models that learnt something, and a note on those that give one answer to all records: they are left out.

    Such a model is a training that collapsed. It would widen the distributions of every record, and an adversary sees it. As in
    a run, it stays if too few others remain.
    """
    if given.shadow_answers is None:
        return None, ()
    found, y = _shadows(given, scale), np.asarray(given.records.y)
    collapsed = np.array([_constant(each.mean(1), y) for each in found.signals])
    if not collapsed.any():
        return found, ()
    models, left_out = len(collapsed), int(collapsed.sum())
    note = f"{left_out} of {models} shadow models give every record of a class the same answer"
    kept = found.only(~collapsed)
    if models - left_out < LEAST_SHADOWS or _few_of_a_side(kept.members):
        return found, (f"{note}: they stay, because too few others remain",)
    return kept, (f"{note}: they are left out",)


def _constant(signal: NDArray[np.float32], y: NDArray[np.int64]) -> bool:
    """Whether a signal (P,) is the same for all records of each class, up to rounding of float32."""
    order = np.argsort(y, kind="stable")
    first = np.flatnonzero(np.r_[True, np.diff(y[order]) != 0])
    spread = np.maximum.reduceat(signal[order], first) - np.minimum.reduceat(signal[order], first)
    several = np.diff(np.r_[first, len(y)]) > 1
    return bool(several.any() and spread[several].max() <= ROUNDING * max(1.0, float(np.abs(signal).max())))


def _check_halves(members: NDArray[np.bool_]) -> None:
    """Check that each record has two models that were trained on it and two that were not, as when one of them is the target.

    Raises: `UserError`.
    """
    if few := _few_of_a_side(members):
        raise UserError(
            f"{few:,} of {members.shape[1]:,} records have fewer than two shadow models that were trained on them, or fewer than"
            " two that were not; leave these records out, or give more models"
        )


def _few_of_a_side(members: NDArray[np.bool_]) -> int:
    """The number of records with fewer than two models that were trained on them, or fewer than two that were not."""
    return int((np.minimum(members.sum(0), (~members).sum(0)) < 2).sum())


def _hash(logits: Any, records: Records) -> str:
    from hampkit.data.base import fingerprint

    arrays = [logits, records.y, records.member, *([] if records.group is None else [records.group])]
    return fingerprint(*(torch.from_numpy(np.ascontiguousarray(a)) for a in arrays))
