"""Membership inference attacks, one family per file. A new file here is a new attack.

Attacks see answers, never networks and never true membership. So this package imports only the ground floor, `registry`,
`signals`, `nets`, `stats.roc` and `stats.moderated`; `tests/test_structure.py` checks it.
"""

from hampkit.attacks.base import Attack, Evidence, Known, Population, Reference, Shadows, ShadowScores, SignalAttack

__all__ = ["Attack", "Evidence", "Known", "Population", "Reference", "ShadowScores", "Shadows", "SignalAttack"]
