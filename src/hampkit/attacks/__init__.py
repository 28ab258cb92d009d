"""Membership inference attacks, one family per file. A new file here is a new attack.

Attacks see answers, never networks and never true membership: this package imports only types, registry, signals, nets
and the pure helpers ranking, stats and rng, and a test holds it to that.
"""

from hampkit.attacks.base import Attack, Evidence, Known, Population, Shadows, SignalAttack

__all__ = ["Attack", "Evidence", "Known", "Population", "Shadows", "SignalAttack"]
