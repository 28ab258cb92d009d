"""The verdict on one model as a word and a sentence in everyday English: the first thing that a page shows."""

from __future__ import annotations

from collections.abc import Collection

WORDS = ("Leak found", "Nothing found", "Unclear", "Not valid", "Not attacked")
FINDINGS = {  # word → the finding that a script reads
    "Leak found": "members found",
    "Nothing found": "nothing found",
    "Unclear": "unclear",
    "Not valid": "not valid",
    "Not attacked": "no attack",
}
INFERS = "From {} and the true labels, an attacker can infer better than by guessing whether a record was in {} training data"
FOUND = INFERS.format("this model's answers", "its")
FOUND_SEEDS = INFERS.format("the answers of these models", "their")
FOUND_ONE_SEED = INFERS.format("the answers of at least one of these models", "its")
NOTHING = "The attacks that were run did not distinguish records of the training data from other records"
REPEATED = (
    "The attacks found nothing on {}, but in leave-one-out they distinguished training records of models that were trained in the"
    " same way: such a model can leak"
)
EXPOSED = "The attacks found nothing on {}, but single records are shown to be exposed: see the exposed records"
UNCLEAR = {  # flag → why nothing follows from the attacks, by whether they found anything
    True: {
        "shifted": "The attacks distinguish training records from other records, but these two groups differ even without the "
        "model, so the model may not be the cause",
    },
    False: {
        "constant": "The attacks found nothing, but the model gives the same answer to every input, so there was nothing to find",
        "untrained": "The attacks found nothing, but the model learnt next to nothing; a model that fits its data would leak "
        "more",
    },
}
WIDE = "The attacks found nothing, but too few records were judged to rule out a leak"
WIDE_SEEDS = "The attacks found nothing, but there are too few seeds or records to rule out a leak"
NOT_VALID = "Do not use the numbers of this model: an attack finds members even if membership is random"
NOT_ATTACKED = "No attack was run on this model, so nothing is known about what it leaks"


def headline(
    found: bool,
    flags: Collection[str],
    wide: bool = False,
    seeds: int = 1,
    one_seed: bool = False,
    repeated: bool = False,
    exposed: bool = False,
) -> dict[str, str]:
    """``finding``, ``word``, one of `WORDS`, and ``sentence``, without a number, of a model that was attacked.

    found: whether an attack on the target finds members. flags: those of the attacks on the model. wide: whether
    the intervals leave room for a leak that matters. one_seed: the finding is that of one of several seeds. repeated: whether
    leave-one-out finds members. exposed: whether single records are shown to be exposed. "Nothing found" is never good news: it
    concerns the attacks that were run.
    """
    if "null" in flags:
        return named("Not valid", NOT_VALID)
    for flag, text in UNCLEAR[found].items():
        if flag in flags:
            return named("Unclear", text)
    if found:
        return named("Leak found", FOUND if seeds == 1 else FOUND_ONE_SEED if one_seed else FOUND_SEEDS)
    if repeated:
        return named("Unclear", REPEATED.format("this model" if seeds == 1 else "these models"))
    if exposed:
        return named("Unclear", EXPOSED.format("this model" if seeds == 1 else "these models"))
    if wide:
        return named("Unclear", WIDE_SEEDS if seeds > 1 else WIDE)
    return named("Nothing found", NOTHING)


def named(word: str, sentence: str) -> dict[str, str]:
    """The word with the finding that belongs to it, and the sentence."""
    return {"finding": FINDINGS[word], "word": word, "sentence": sentence}
