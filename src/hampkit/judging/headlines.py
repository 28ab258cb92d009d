"""The verdict on one model as a word and a sentence in everyday English: the first thing that a page shows."""

from __future__ import annotations

from collections.abc import Collection

WORDS = ("Leak found", "Nothing found", "Unclear", "Not valid", "Not attacked")
FOUND = (
    "From this model's answers and the true labels, an attacker can infer better than by guessing whether a record was in its"
    " training data"
)
NOTHING = "The attacks that were run did not distinguish records of the training data from other records"
UNCLEAR = {  # flag → why nothing follows from the attacks, by finding
    "members found": {
        "shifted": "The attacks distinguish training records from other records, but these two groups differ even without the "
        "model, so the model may not be the cause",
    },
    "nothing found": {
        "constant": "The attacks found nothing, but the model gives the same answer to every input, so there was nothing to find",
        "untrained": "The attacks found nothing, but the model learnt next to nothing; a model that fits its data would leak "
        "more",
    },
}
WIDE = "The attacks found nothing, but too few records were judged to rule out a leak"
WIDE_SEEDS = "The attacks found nothing, but there are too few seeds or records to rule out a leak"
NOT_VALID = "Do not use the numbers of this model: an attack finds members even if membership is random"
NOT_ATTACKED = "No attack was run on this model, so nothing is known about what it leaks"


def headline(finding: str, flags: Collection[str], wide: bool = False, seeds: int = 1) -> dict[str, str]:
    """``word``, one of `WORDS`, and ``sentence``, without a number.

    finding: ``members found``, ``nothing found`` or ``no attack``. flags: those of the attacks on the model. wide: whether
    the intervals leave room for a leak that matters. "Nothing found" is never good news: it concerns the attacks that were run.
    """
    if finding == "no attack":
        return {"word": "Not attacked", "sentence": NOT_ATTACKED}
    if "null" in flags:
        return {"word": "Not valid", "sentence": NOT_VALID}
    for flag, text in UNCLEAR[finding].items():
        if flag in flags:
            return {"word": "Unclear", "sentence": text}
    if finding == "members found":
        return {"word": "Leak found", "sentence": FOUND}
    if wide:
        return {"word": "Unclear", "sentence": WIDE_SEEDS if seeds > 1 else WIDE}
    return {"word": "Nothing found", "sentence": NOTHING}
