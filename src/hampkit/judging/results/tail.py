"""The TNR of the plain loss attack in words: a cheap warning of what attacks with shadow models would find."""

from __future__ import annotations

from hampkit.judging.results.attacks import of_models, of_target
from hampkit.judging.results.wording import Json, level_label, percent, sampling

LOSS = "loss"


def tail_line(model: Json) -> str:
    """The TNR of the loss attack at the lowest FNR that the judged members show; empty with shadow models, or if none do.

    Records that were trained on seldom have a high loss. The share of non-members beyond the losses of nearly all members grows
    with what LiRA finds (Dodd et al. 2025, arXiv 2510.19773).

    >>> point = {"fnr": 0.01, "value": 0.2, "outer_low": 0.1, "outer_high": 0.3, "resolved": True}
    >>> attack = {"attack": "loss", "unit": "target", "options": {}, "tnr_at_fnr": [point]}
    >>> tail_line({"attacks": [attack]}).partition(", where")[0]
    'The loss attack has a TNR of 20.0% [10.0, 30.0] at 1% FNR'
    """
    loss = next((a for a in of_target(model) if a["attack"] == LOSS and not a.get("options")), None)
    if loss is None or of_models(model):
        return ""
    point = next((p for p in loss["tnr_at_fnr"] if sampling(p) != "few"), None)
    if point is None:
        return ""
    low, high, at = point["outer_low"], point["outer_high"], level_label(point["fnr"])
    said = f"The loss attack has a TNR of {percent(point['value'])} [{100 * low:.1f}, {100 * high:.1f}] at {at} FNR"
    warns = "Such a tail warns that attacks with shadow models may find single members"
    where = "includes" if high >= point["fnr"] else "lies below"
    silent = f"The interval {where} {at}, so this is no warning, and no proof of safety"
    return f"{said}, where guessing has {at}. {warns if low > point['fnr'] else silent}"
