"""The verdict on each model as a page and Markdown begin with it: a word, a sentence, a number with its interval."""

from __future__ import annotations

from dataclasses import dataclass

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
        attack=_attack(found),
        accuracy=_accuracy(model),
    )


def _number(auc: Json | None) -> str:
    return "AUC {value:.3f} [{low:.3f}, {high:.3f}]".format(**auc) if auc else ""


def _attack(found: Json) -> str:
    if "attack" not in found:
        return ""
    auc = found["auc"]
    parts = [found["attack"], *(["turned around"] if auc.get("turned") else [])]
    return ", ".join([*parts, *([f"with seed {auc['seed']}"] if "seed" in auc else [])])


def _accuracy(model: Json) -> str:
    """The test accuracy, with the number of examples."""
    n, seeds = (model.get("rows") or {}).get("test"), n_seeds(model)
    each = f" over {seeds} seeds" if seeds > 1 else ""
    said = f"{'mean ' if seeds > 1 else ''}test accuracy {percent(model['accuracy']['test'])}"
    return said + (f" (n = {n:,}{each})" if n else "")
