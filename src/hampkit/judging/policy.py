"""A release policy: limits on the numbers of a results document, and whether they are kept.

A limit that the numbers cannot decide, such as a rate with too few records, is unresolved, and counts as failed unless the
policy accepts that.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from hampkit.config.files import plain_file
from hampkit.config.schema import build
from hampkit.config.toml import tomllib
from hampkit.errors import UserError, did_you_mean, one_line
from hampkit.judging.results import FPRS
from hampkit.judging.results.attacks import deciding_auc, exposure_of, few_models, of_models, of_target, twins_of
from hampkit.judging.results.wording import named

Json = Mapping[str, Any]
WHAT = (
    "auc.low", "auc.value", "auc.high", "tpr_at_fpr.0.001.high", "tpr_at_fpr.0.01.high", "tpr_at_fpr.0.1.high",
    "records_exposed", "epsilon.low", "epsilon_of_mu.low", "mu.low", "accuracy.test", "accuracy.train",
)  # fmt: skip
_RATE = re.compile(r"(tpr_at_fpr|tnr_at_fnr)\.(\d+\.\d+)\.(value|low|high)")
_GROUP = re.compile(r"group\.(.+)\.auc\.(value|low|high)")
_SHORT = re.compile(r"\s*(\S+?)\s*(>=|<=|>|<)\s*(\S+)\s*")
_OF_ATTACKS = ("auc", "tpr", "tnr", "group.")
GROUP = "group.NAME.auc.low"
UNUSABLE = ("null", "constant", "untrained", "shifted")  # flags of numbers on which no limit can be kept
FORM = "'auc.low>0.6' or 'accuracy.test<0.7'"


@dataclass(frozen=True)
class Limit:
    """A number of the results that must not be above ``at_most``, or below ``at_least``.

    Raises: `UserError` for a number that no results have, and for other than one bound.
    """

    what: str
    attack: str = "any"  # a name; any: every attack on the model
    at_most: float | None = None
    at_least: float | None = None
    if_unresolved: Literal["fail", "pass"] = "fail"

    def __post_init__(self) -> None:
        known = self.what in (*WHAT, "auc", "epsilon", "mu")
        rate = _RATE.fullmatch(self.what)
        if not known and not rate and not _GROUP.fullmatch(self.what):
            raise UserError(f"{self.what!r} is no number of an audit; {did_you_mean(self.what, (*WHAT, GROUP))}")
        if rate and float(rate[2]) not in FPRS:
            raise UserError(
                f"{self.what!r}: attacks are read off at {', '.join(map(str, FPRS))} only; take one of these rates"
            )
        if self.attack != "any" and not self.what.startswith(_OF_ATTACKS):
            raise UserError(f"attack={self.attack} has no effect on a limit on {self.what}; leave it out")
        bound = self.at_most if self.at_least is None else self.at_least
        share = self.what.startswith((*_OF_ATTACKS, "accuracy"))
        if bound is not None and not (math.isfinite(bound) and (not share or 0 <= bound <= 1)):
            raise UserError(
                f"the limit {bound:g} on {self.what} must be {'a share in [0, 1]' if share else 'a number'}"
            )
        if (self.at_most is None) == (self.at_least is None):
            raise UserError(f"the limit on {self.what} needs one of at_most and at_least, and not both")
        if bound is not None and bound < 0:
            raise UserError(f"the limit {bound:g} on {self.what} must be at least 0")

    @property
    def text(self) -> str:
        """The limit in words."""
        bound = f"at most {self.at_most:g}" if self.at_most is not None else f"at least {self.at_least:g}"
        of = (
            ("of every attack " if self.attack == "any" else f"of {self.attack} ")
            if self.what[:3] in _OF_ATTACKS
            else ""
        )
        return f"{self.what} {of}{bound}"

    def keeps(self, value: float) -> bool:
        """Whether a number is within the limit."""
        return value <= self.at_most if self.at_most is not None else value >= (self.at_least or 0.0)


@dataclass(frozen=True)
class Outcome:
    """What became of a limit on one model."""

    limit: Limit
    model: str
    status: Literal["passed", "failed", "unresolved"]
    text: str  # the number, or why there is none

    @property
    def passed(self) -> bool:
        """Whether the limit lets the model pass."""
        return self.status == "passed" or (self.status == "unresolved" and self.limit.if_unresolved == "pass")

    def to_json(self) -> dict[str, Any]:
        limit = {key: value for key, value in asdict(self.limit).items() if value is not None}
        limit["text"] = self.limit.text
        return {"limit": limit, "model": self.model, "status": self.status, "passed": self.passed, "text": self.text}


def read_policy(file: str | Path) -> list[Limit]:
    """The limits of a policy: a TOML file with a table ``[[limit]]`` for each.

    Raises: `UserError` for a file that cannot be read, unknown keys, and a policy without limits.
    """
    path = plain_file(file, "policy")
    try:
        document = tomllib.loads(path.read_text("utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(
            f"cannot read policy {path}: {one_line(error)}; it must be TOML with tables [[limit]]"
        ) from None
    if unknown := sorted(set(document) - {"limit"}):
        raise UserError(f"unknown key {unknown[0]!r} in policy {path}; it holds tables [[limit]] alone")
    tables = document.get("limit", [])
    if not isinstance(tables, list) or not tables:
        raise UserError(f'policy {path} holds no limit; add [[limit]] with what = "auc.low" and at_most = 0.6')
    return [_built(table, f"limit {k + 1} of policy {path}") for k, table in enumerate(tables)]


def _built(table: Any, place: str) -> Limit:
    """A limit from its table. Raises: `UserError` that names the place."""
    try:
        return build(Limit, table, place)
    except UserError as error:
        text = str(error).replace(f"{place}.", "")  # keys are those of the table
        raise UserError(text if place in text else f"{place}: {text}") from None


def limit_of(text: str) -> Limit:
    """The limit that a short form means: ``auc.low>0.6`` fails where auc.low is above 0.6.

    >>> limit_of("auc.low>0.6").at_most, limit_of("accuracy.test < 0.7").at_least
    (0.6, 0.7)

    Raises: `UserError` for another form.
    """
    match = _SHORT.fullmatch(text)
    try:
        if match is None:
            raise ValueError
        what, sign, bound = match[1], match[2], float(match[3])
    except ValueError:
        raise UserError(
            f"--fail-if {text!r} has another form than {FORM}; quote it, as > and < mean files to a shell"
        ) from None
    if "=" in sign:
        raise UserError(
            f"--fail-if {text!r}: a number that is equal to its limit passes; write {sign[0]} instead of {sign}"
        )
    return Limit(what, at_most=bound) if sign == ">" else Limit(what, at_least=bound)


def judged(limits: Sequence[Limit], results: Json) -> list[Outcome]:
    """The outcome of each limit for each model of a results document.

    Limits on accuracies and subgroups do not apply to a model with canaries if the same recipe without canaries is among the
    results.
    """
    models = results["models"]
    return [
        _outcome(limit, model)
        for limit in limits
        for model, twin in zip(models, twins_of(models), strict=True)
        if twin is None or not (limit.what.startswith(("accuracy", "group.")))
    ]


def _outcome(limit: Limit, model: Json) -> Outcome:
    found, why = _numbers(limit, model)
    title = named(model)
    if not found:
        return Outcome(limit, title, "unresolved", why)
    worst = max(found, key=lambda name: found[name] if limit.at_most is not None else -found[name])
    text = f"{limit.what} is {found[worst]:.4g}" + (f" ({worst})" if worst else "")
    if any(not limit.keeps(value) for value in found.values()):
        return Outcome(limit, title, "failed", text)
    why = _unusable(limit, model) or why or _beyond(limit, model)
    return Outcome(limit, title, "unresolved" if why else "passed", why or text)


def _unusable(limit: Limit, model: Json) -> str:
    """Why the numbers of a model keep no limit; empty if they can. An accuracy is what it is."""
    flags = {flag for attack in model["attacks"] for flag in attack["flags"]}.intersection(UNUSABLE)
    if not flags or limit.what.startswith("accuracy"):
        return ""
    return f"the numbers cannot be relied on: flag {', '.join(sorted(flags))}"


def _beyond(limit: Limit, model: Json) -> str:
    """Why a limit would be kept whatever the model reveals; empty if it can fail."""
    name, at_most = limit.what.partition(".")[0], limit.at_most
    if at_most is None:
        return ""
    if name == "records_exposed" and (shown := few_models(exposure_of(model))):
        return f"{shown}; give 16 or more"
    bounds = (model.get("audit") or {}).get("bounds") or {}
    most = (bounds.get("most") or {}).get(name)
    if most is not None and at_most >= most:
        return (
            f"with {bounds['canaries']:,} records {name} is at most {most:.3g}, whatever is revealed: give more records"
        )
    return ""


def _numbers(limit: Limit, model: Json) -> tuple[dict[str, float], str]:
    """The numbers that a limit is on, by attack, and why some or all are missing."""
    if match := _RATE.fullmatch(limit.what):
        return _rates(limit, model, *match.groups())
    if match := _GROUP.fullmatch(limit.what):
        return _of_group(limit, model, *match.groups())
    name, _, end = limit.what.partition(".")
    if name == "auc":
        return _aucs(limit, model, end or "low")
    if name == "accuracy":
        rate = model["accuracy"].get(end)
        return ({}, "published scores do not have the accuracy") if rate is None else ({"": rate}, "")
    audit = model.get("audit") or {}
    if name == "records_exposed":
        found = exposure_of(model)
        return (
            ({"": float(found["exposed"])}, "")
            if found
            else ({}, "no shadow models, without which no record is judged")
        )
    bounds = audit.get("bounds") or {}
    if name not in bounds:
        return {}, bounds.get("reason", "no bounds were computed")
    return {str(bounds["attack"]): bounds[name]}, ""


def _attacks(limit: Limit, model: Json) -> list[Json]:
    attacks = [*of_target(model), *of_models(model)]
    return attacks if limit.attack == "any" else [attack for attack in attacks if attack["attack"] == limit.attack]


def _aucs(limit: Limit, model: Json, end: str) -> tuple[dict[str, float], str]:
    """The AUCs, turned around if that is higher. Intervals of attacks on the target allow for the choice among them."""
    attacks = _attacks(limit, model)
    if not attacks:
        return {}, f"attack {limit.attack} was not made"
    return {_name(attack): _either_way(deciding_auc(attack), end) for attack in attacks}, ""


def _either_way(auc: Json, end: str) -> float:
    """The value or an end of an AUC, or of 1 − AUC if that is higher: an attacker may turn the attack around.

    >>> _either_way({"low": 0.3, "value": 0.4, "high": 0.55}, "high")
    0.7
    """
    return max(auc[end], 1 - auc[{"low": "high", "high": "low"}.get(end, end)])


def _rates(limit: Limit, model: Json, curve: str, rate: str, end: str) -> tuple[dict[str, float], str]:
    """The rates at an operating point that have enough records; their intervals are the outer ones."""
    attacks, key = _attacks(limit, model), {"value": "value", "low": "outer_low", "high": "outer_high"}[end]
    found, few = {}, ""
    for attack in attacks:
        points = [point for point in attack[curve] if point[curve[-3:]] == float(rate)]
        if not points:
            return {}, f"the results have no {curve} at {rate}"
        if points[0]["resolved"]:
            found[_name(attack)] = points[0][key]
        else:
            few = f"too few records are judged for {curve} at {rate}: {points[0].get('reason') or _few(attack, curve)}"
    return found, few if attacks else f"attack {limit.attack} was not made"


def _of_group(limit: Limit, model: Json, name: str, end: str) -> tuple[dict[str, float], str]:
    """The AUC of the strongest attack in one subgroup of an audit, turned around if that is higher."""
    every = (model.get("audit") or {}).get("subgroups") or []
    found = next((each for each in every if each["name"] == name), None)
    if found is None:
        names = ", ".join(each["name"] for each in every[:10])
        return {}, f"no subgroup {name!r}; " + (f"there are {names}" if every else "name their column by --by")
    if "reason" in found:
        return {}, f"too few records in subgroup {name!r}: {found['reason']}"
    if limit.attack not in ("any", found["attack"]):
        return {}, f"the number of a subgroup is that of its strongest attack, {found['attack']}"
    return {found["attack"]: _either_way(found["auc"], end)}, ""


def groups_of(limits: Sequence[Limit]) -> list[str]:
    """The subgroups that limits are on."""
    return [match[1] for limit in limits if (match := _GROUP.fullmatch(limit.what))]


def _few(attack: Json, curve: str) -> str:
    """How many are judged of those who decide an error rate, which is shown but not resolved."""
    who = "nonmembers" if curve.startswith("tpr") else "members"
    return f"{attack[who]:,} {'non-members' if who == 'nonmembers' else who}, and fewer than ten errors are allowed"


def _name(attack: Json) -> str:
    return attack["attack"] + (", leave-one-out" if attack["unit"] == "leave-one-out" else "")
