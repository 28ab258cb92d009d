"""The keyword arguments of `hampkit.audit`, sorted into ways in, requests, limits and settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hampkit.config.schema import build, field_types
from hampkit.config.sections import CanaryConfig
from hampkit.errors import UserError, did_you_mean
from hampkit.targets.predictions import Columns
from hampkit.targets.reading import Reading
from hampkit.workflows.arguments import checked_values
from hampkit.workflows.audit import AuditRequest, Declared
from hampkit.workflows.audit_report import Release
from hampkit.workflows.audit_ways import Ways
from hampkit.workflows.canaries import canary_config
from hampkit.workflows.gate import Gate
from hampkit.workflows.recipes import attack_options, option_value
from hampkit.workflows.session import Session, Settings, session_of


class AuditArguments(Settings, total=False):
    """Keyword arguments of `hampkit.audit`; columns are texts, arrays have one value per record."""

    label: str  # the column of the true label
    member: Any  # a column or an array: 1 for members, 0 for non-members
    group: Any  # a column or an array: the person of each record, who is the unit of all intervals
    id: Any  # a column or an array: names of the records
    by: Any  # a column or an array: the subgroups in which attacks are judged apart
    answers: str  # a pattern for the columns of answers
    kind: str  # probabilities, logits or auto
    positive: str  # the class whose probability the only column of answers is
    probabilities: Any  # (P, C)
    logits: Any  # (P, C)
    y: Any  # (P,)
    x: Any  # (P, …)
    classes: Sequence[str]  # (C,) names
    shadow_probabilities: Any  # (M, P, C)
    shadow_logits: Any  # (M, P, C)
    shadow_members: Any  # (M, P)
    predict: Any  # a model
    members: Any  # a table or a pair (x, y)
    nonmembers: Any
    text: str  # the column that a model of texts reads
    inputs: str  # what a model receives of a table: auto, array, frame or encoded
    train: Any  # a training function
    data: Any  # a table or a pair (x, y), for ``train``; the name of a data set, for ``weights``
    shadows: int
    canaries: int  # for ``train``: a second target is trained with so many canaries, and attacked on them
    canary_kind: str
    scores: str | Path | None  # a folder with published scores of shadow models
    target_scores: str | Path | None  # a folder with those of the target
    weights: str | Path | None  # a published checkpoint, of a network and a data set that hampkit has
    net: str  # the name of the network
    split: str | Path | None  # a file with the permutation that decided on the members
    title: str
    claimed_epsilon: float | None
    claimed_delta: float | None
    prior: Sequence[float]
    purpose: str
    membership: str  # given or coin
    allow_equal: bool
    policy: str | Path | None
    fail_if: Sequence[str]


COLUMNS = ("label", "member", "group", "id", "by", "answers", "kind", "positive")
ARRAYS = ("probabilities", "logits", "y", "x", "classes", "shadow_logits", "shadow_probabilities", "shadow_members")
WAYS = (
    "predict",
    "members",
    "nonmembers",
    "inputs",
    "text",
    "train",
    "data",
    "shadows",
    "scores",
    "target_scores",
    "weights",
    "net",
    "split",
    "title",
)
CHECKED = (
    "shadows",
    "canaries",
    "canary_kind",
    "scores",
    "target_scores",
    "weights",
    "split",
    "fail_if",
    "allow_equal",
)
DECLARED = ("claimed_epsilon", "claimed_delta", "purpose")
REQUEST = ("membership", "allow_equal")


class Sorted(NamedTuple):
    """The arguments of `hampkit.workflows.audit_report.audit_to`."""

    ways: Ways
    request: AuditRequest
    release: Release
    session: Session


class Common(NamedTuple):
    """What `hampkit.audit` shares with `hampkit.run`."""

    attacks: Sequence[str] = ()
    options: Mapping[str, Any] | None = None
    seed: int = 0
    out: str | Path | None = None


def sorted_arguments(predictions: Any, common: Common, given: Mapping[str, Any]) -> Sorted:
    """The keyword arguments of `hampkit.audit` by what they are for.

    Raises: `UserError` for values of wrong types, `TypeError` for an unknown name.
    """
    known = set(AuditArguments.__annotations__) | set(Settings.__annotations__)
    for name in given:
        if name not in known:
            raise TypeError(f"audit() got an unexpected keyword argument {name!r}; {did_you_mean(name, known)}")
    given = checked_values({**given, "fail_if": given.get("fail_if") or ()}, [*Settings.__annotations__, *CHECKED])
    for name in ("label", "answers", "kind", "positive", "inputs", "title", "purpose", "membership", "net", "text"):
        if not isinstance(given.get(name, ""), str):
            raise UserError(f"{name}={given[name]!r} must be a text")
    _check_types(given)
    if common.seed < 0:
        raise UserError(f"seed={common.seed} must be at least 0")
    texts = {name: given[name] for name in COLUMNS if isinstance(given.get(name), str)}
    values = {
        name: given[name]
        for name in (*ARRAYS, "member", "group", "id", "by")
        if not isinstance(given.get(name, ""), str)
    }
    reading, rest = _reading(common.options or {})
    columns = Columns(**texts, reading=reading)
    canaries = canary_config(given.get("canaries", 0), given.get("canary_kind", CanaryConfig.kind))
    chosen = _chosen(given, WAYS)
    ways = Ways(predictions, columns, _arrays(values), seed=common.seed, canaries=canaries, **chosen)
    declared = Declared(**_chosen(given, DECLARED), prior=_numbers("prior", given.get("prior")))
    options = attack_options(rest)
    request = AuditRequest(tuple(common.attacks), options, declared, seed=common.seed, **_chosen(given, REQUEST))
    out = None if common.out is None else Path(common.out).expanduser()
    release = Release(Gate.of(given.get("policy"), given["fail_if"]), out)
    settings: Any = {name: value for name, value in given.items() if name in Settings.__annotations__}
    return Sorted(ways, request, release, session_of(settings))


def _check_types(given: Mapping[str, Any]) -> None:
    """Raises: `UserError` for a number, a policy or names of classes that are of another type."""
    for name in ("claimed_epsilon", "claimed_delta"):
        value = given.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float, np.number))):
            raise UserError(f"{name}={value!r} must be a number")
    if not isinstance(given.get("policy"), (str, Path, type(None))):
        raise UserError(
            f"policy={given['policy']!r} must be the path of a TOML file; single limits are given by fail_if"
        )
    classes = given.get("classes")
    if classes is not None and len({*map(str, classes)}) < len(classes):
        raise UserError(f"classes={list(classes)!r} has a name twice; give one name per class")


def _reading(options: Mapping[str, Any]) -> tuple[Reading, dict[str, Any]]:
    """How tables are read, and the options that are left: those of the judge and of attacks. Raises: `UserError`."""
    known, found, rest = field_types(Reading), {}, {}
    for key, value in options.items():
        name = key.removeprefix("data.")
        if (name,) not in known:
            rest[key] = value
        elif name in found:
            raise UserError(f"data.{name} is given twice; leave one out")
        else:
            found[name] = option_value(Reading, name, value)
    return build(Reading, found, "data"), rest


def _chosen(given: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: given[name] for name in names if name in given}


def _numbers(name: str, values: Any) -> tuple[float, ...]:
    """One number or several. Raises: `UserError`."""
    try:
        return tuple(float(value) for value in np.atleast_1d([] if values is None else values))
    except (TypeError, ValueError):
        raise UserError(f"{name}={values!r} must be a number, or a list of numbers") from None


def _arrays(values: Mapping[str, Any]) -> dict[str, Any]:
    """The arrays that were given, tensors as NumPy arrays. Raises: `UserError` for lists of different lengths."""
    found = {}
    for name, value in values.items():
        if value is None:
            continue
        try:
            found[name] = np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
        except ValueError:
            raise UserError(
                f"{name} is no array: its rows have different lengths; give one number per class in each"
            ) from None
    return found
