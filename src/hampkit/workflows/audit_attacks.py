"""The attacks of an audit: those that are asked for, or all whose evidence the audit has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hampkit.attacks import Attack
from hampkit.attacks.neural import Neural
from hampkit.config.schema import build
from hampkit.errors import UserError
from hampkit.judging.case import Case
from hampkit.registry import ATTACKS
from hampkit.types import Probe
from hampkit.workflows.chosen_attacks import adaptive_attacks, family
from hampkit.workflows.own_training import Questions

LACKING = {  # evidence that an attack needs → why it was not made
    "shadows": "no shadow models: models that were trained like this one, on other records",
    "population": "no further records of the same kind that no model was trained on",
    "reference": "no reference model: one that was trained like this one, on further records of the same kind",
    "known": "no records for the adversary to fit on",
    "probes": "no new questions: hampkit asks them of its own runs, and with --train and --shadows",
    "oracle": "no new questions: hampkit asks them of its own runs",
}
USUAL = ("label-only", "rank", "repeated")  # know a defense, and are made on every model that answers new questions
NO_ORDER = "the answers are predicted labels, and the other classes have no order"
NO_NETWORK = "what a training function returns is attacked, and no network behind it"
STEPS = 300  # of the neural attack at most, but two epochs at least: twice as many found no more
SCORES_ONLY = (
    "published scores are the scaled logit of the true label alone, and the attack uses the other probabilities"
)
NO_LABELS = "no labels beside the published scores, which the attack needs"


@dataclass(frozen=True)
class Evident:
    """The evidence of an audit, and the attacks that it rules out."""

    case: Case
    answers: Mapping[str, Any]  # what the answers are, see `unfit`
    trained: bool = False  # by a training function, so that the models could be asked what probes ask
    failed: Mapping[Probe, str] = field(default_factory=dict)  # why the models cannot answer the questions of a probe
    labels_only: bool = False  # the answers are predicted labels

    @property
    def held(self) -> set[str]:
        """The evidence that an attack may need."""
        e = self.case.evidence
        return {"known", *(["shadows"] if e.shadows is not None else []), *(["probes"] if e.probes else [])}


def asked_attacks(names: Sequence[str], options: Mapping[str, Any], shadows: int) -> Questions:
    """The attacks with questions of their own that models of a training function are asked; without names the usual ones.

    Raises: `UserError` for an unknown name, an option out of range, and an attack that no training function allows: before
    anything is trained.
    """
    usual = tuple(_built(name, options) for name in USUAL) if shadows else ()
    if not names:
        return Questions(usual, usual)
    wanted = dict.fromkeys(attack for name in names for attack in family(name))
    for name in wanted:
        cls = ATTACKS.get(name)
        if "shadows" in cls.needs and not shadows:
            raise UserError(f"attack {name} needs shadow models; add --shadows 16")
        _check_evidence(name, {"known", "shadows", "probes"})
    attacks = [_built(name, options) for name in wanted if "probes" in ATTACKS.get(name).needs]
    for attack in attacks:
        if not all(probe.released for probe in attack.shadow_probes()):
            raise UserError(f"attack {attack.name} is not possible: {NO_NETWORK}; leave it out")
    return Questions(tuple(attacks), usual)


def chosen_attacks(
    names: Sequence[str], options: Mapping[str, Any], evident: Evident
) -> tuple[list[Attack], dict[str, str]]:
    """The attacks with their options, and name → reason for those that know a defense and are left out.

    Raises: `UserError` for an unknown name, or an attack whose evidence is not there.
    """
    classes, there = ATTACKS.classes(), evident.held
    wanted = [attack for name in names for attack in family(name)]
    for name in wanted:
        if why := _failed(_built(name, options), evident):
            raise UserError(f"attack {name} is not possible: {why}; leave it out")
        _check_evidence(name, there)
        if why := unfit(classes[name], evident.answers):
            raise UserError(f"attack {name} is not possible: {why}; leave it out")
    skipped: dict[str, str] = {}
    if not wanted:
        others = adaptive_attacks() - set(USUAL)
        wanted = [
            name
            for name, cls in classes.items()
            if set(cls.needs) <= there and not unfit(cls, evident.answers) and name not in others
        ]
        skipped = _skipped(options, evident)
    given = {"neural": {"epochs": _epochs(evident.case)}, **options}
    return [_built(name, given) for name in dict.fromkeys(wanted) if name not in skipped], skipped


def _skipped(options: Mapping[str, Any], evident: Evident) -> dict[str, str]:
    """Name → reason for the attacks that know a defense and cannot be made on models of a training function."""
    if not evident.trained or "shadows" not in evident.held:
        return {}
    found = {name: _failed(_built(name, options), evident) for name in USUAL}
    if evident.labels_only:
        found |= {name: NO_ORDER for name in USUAL if ATTACKS.get(name).tier == "ranks"}
    found |= {name: NO_NETWORK for name, cls in ATTACKS.classes().items() if cls.tier == "weights"}
    return {name: why for name, why in found.items() if why}


def _failed(attack: Attack, evident: Evident) -> str:
    """Why the models cannot answer what an attack wants asked; empty if they can."""
    return next((evident.failed[probe] for probe in attack.probes() if probe in evident.failed), "")


def _built(name: str, options: Mapping[str, Any]) -> Attack:
    return build(ATTACKS.get(name), options.get(name, {}), f"attacks.{name}")


def _check_evidence(name: str, held: set[str]) -> None:
    """Raises: `UserError` for an attack that needs evidence which the audit lacks."""
    if missing := sorted(set(ATTACKS.get(name).needs) - held):
        why = "; ".join(str(LACKING.get(need, need)) for need in missing)
        raise UserError(f"attack {name} needs {', '.join(missing)}: {why}; leave it out")


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
