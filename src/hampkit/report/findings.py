"""The verdict on each model as a page and Markdown begin with it: a word, a sentence, a number with its interval."""

from __future__ import annotations

from dataclasses import dataclass

from hampkit.judging.results.attacks import as_found
from hampkit.judging.results.wording import n_seeds, percent, sentences
from hampkit.report.rows import Json

TONES = {
    "Leak found": "bad",
    "Nothing found": "plain",
    "Unclear": "warn",
    "Not valid": "warn",
    "Not attacked": "none",
}


@dataclass(frozen=True)
class Finding:
    """The verdict on one model as text."""

    title: str
    word: str
    tone: str  # bad, warn, plain or none: the colour that goes with the word
    sentence: str
    number: str  # the AUC that decides, with its interval; empty if there is no attack
    attack: str  # the attack that the number belongs to
    repeated: str  # what leave-one-out finds; empty if it finds nothing
    accuracy: str


def findings(results: Json) -> list[Finding]:
    """One for each model that the verdict names, in the order of the results."""
    said = (results.get("verdict") or {}).get("models") or []
    return [_finding(found, model) for found, model in zip(said, results["models"], strict=False) if "word" in found]


def reading(found: list[Finding]) -> str:
    """How the numbers are to be read; empty if there are none."""
    if not any(each.number for each in found):
        return ""
    return sentences(
        [
            "The number is the AUC of the strongest attack: the probability that the attack ranks a training record above"
            " another record",
            "0.5 is guessing, and 1 is certainty",
            "The interval in brackets allows for the choice of the strongest among all attacks; the intervals of the table do"
            " not",
        ]
    )


def _finding(found: Json, model: Json) -> Finding:
    return Finding(
        title=found["model"],
        word=found["word"],
        tone=TONES[found["word"]],
        sentence=found["sentence"],
        number=_number(found.get("auc")),
        attack=_attack(found, model),
        repeated=_repeated(found.get("leave_one_out")),
        accuracy=_accuracy(model),
    )


def _number(auc: Json | None) -> str:
    return "AUC {value:.3f} [{low:.3f}, {high:.3f}]".format(**auc) if auc else ""


def _attack(found: Json, model: Json) -> str:
    """The attack, and the seed if the number is that of one seed, with the mean over seeds, which tables and charts have."""
    if "attack" not in found:
        return ""
    auc = found["auc"]
    said = ", ".join([found["attack"], *(["turned around"] if auc.get("turned") else [])])
    return f"{said}, with seed {auc['seed']}{_mean(found, model)}" if "seed" in auc else said


def _mean(found: Json, model: Json) -> str:
    attack = next((a for a in model["attacks"] if a["attack"] == found["attack"] and a["unit"] == "seeds"), None)
    if attack is None:
        return ""
    mean = as_found(attack, attack.get("auc_corrected") or attack["auc"])
    return " (mean of {} seeds: {value:.3f} [{low:.3f}, {high:.3f}])".format(n_seeds(model), **mean)


def _repeated(found: Json | None) -> str:
    if found is None:
        return ""
    turned = ", turned around" if found["auc"].get("turned") else ""
    return f"Leave-one-out over {found['targets']:,} shadow models: {_number(found['auc'])} ({found['attack']}{turned})"


def _accuracy(model: Json) -> str:
    """The test accuracy, with the number of examples."""
    if not model["accuracy"]:
        return "test accuracy unknown"
    n, seeds = (model.get("rows") or {}).get("test"), n_seeds(model)
    each = f" over {seeds} seeds" if seeds > 1 else ""
    said = f"{'mean ' if seeds > 1 else ''}test accuracy {percent(model['accuracy']['test'])}"
    return said + (f" (n = {n:,}{each})" if n else "")
