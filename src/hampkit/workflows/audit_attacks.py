"""The attacks of an audit: those that are asked for, or all whose evidence the audit has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hampkit.attacks import Attack
from hampkit.attacks.neural import Neural
from hampkit.config.schema import build
from hampkit.errors import UserError
from hampkit.judging.case import Case
from hampkit.registry import ATTACKS
from hampkit.workflows.chosen_attacks import family

STEPS = 300  # of the neural attack at most, but two epochs at least: twice as many found no more
SCORES_ONLY = (
    "published scores are the scaled logit of the true label alone, and the attack uses the other probabilities"
)
NO_LABELS = "no labels beside the published scores, which the attack needs"


def chosen_attacks(
    names: Sequence[str], options: Mapping[str, Any], audit: Mapping[str, Any], case: Case
) -> list[Attack]:
    """The attacks with their options. audit: what the answers are, see `unfit`.

    Raises: `UserError` for an unknown name, or an attack whose evidence is not there.
    """
    classes = ATTACKS.classes()
    there = {"known", *(["shadows"] if case.evidence.shadows is not None else [])}
    wanted = [attack for name in names for attack in family(name)]
    for name in wanted:
        if missing := set(classes[name].needs) - there:
            raise UserError(f"attack {name} needs {', '.join(sorted(missing))}, which this audit has not; leave it out")
        if why := unfit(classes[name], audit):
            raise UserError(f"attack {name} is not possible: {why}; leave it out")
    wanted = wanted or [name for name, cls in classes.items() if set(cls.needs) <= there and not unfit(cls, audit)]
    given = {"neural": {"epochs": _epochs(case)}, **options}
    return [build(classes[name], given.get(name, {}), f"attacks.{name}") for name in dict.fromkeys(wanted)]


def unfit(attack: type[Attack], audit: Mapping[str, Any]) -> str:
    """Why the answers of an audit do not suffice for an attack; empty if they do.

    audit: with ``answers``, the kind, and ``labels``, whether there are labels.
    """
    if audit.get("answers") != "scores":
        return ""
    if not attack.scaled_logit_only:
        return SCORES_ONLY
    return NO_LABELS if "known" in attack.needs and not audit.get("labels") else ""


def _epochs(case: Case) -> int:
    """The epochs of the neural attack: fewer with many known records, so that it takes about `STEPS` steps at most."""
    known = case.known_member
    larger = int(max(known.sum(), (~known).sum()))
    return max(2, min(Neural.epochs, STEPS * (Neural.batch_size // 2) // max(larger, 1)))
