"""Plain values as a reader sees them: nested documents as dotted keys, durations in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Address = tuple[str, ...]  # of a value in a nested document: ("train", "lr"), ("attacks", "neural", "epochs")


def audit_folder(title: str, key: str) -> str:
    """The name of an audit's folder: its title in plain characters, and the first eight of a hash.

    >>> audit_folder("my model/2", "0123456789abcdef")
    'audit-my_model_2-01234567'
    """
    plain = "".join(c if c.isalnum() or c in "._-" else "_" for c in title)[:60]
    return f"audit-{plain}-{key[:8]}"


def flatten(document: Mapping[str, Any]) -> dict[Address, Any]:
    """All values of a nested document by address, in the order of the document. Empty sections have none.

    >>> flatten({"net": "mlp", "defense": {"distill": {"lr": 0.1}}})
    {('net',): 'mlp', ('defense', 'distill', 'lr'): 0.1}
    """
    found: dict[Address, Any] = {}
    for key, value in document.items():
        inner = flatten(value) if isinstance(value, Mapping) else {(): value}
        found |= {(key, *address): leaf for address, leaf in inner.items()}
    return found


def dotted(document: Mapping[str, Any]) -> dict[str, Any]:
    """`flatten` with the keys as one writes them on the command line.

    >>> dotted({"net": "mlp", "defense": {"distill": {"lr": 0.1}}})
    {'net': 'mlp', 'defense.distill.lr': 0.1}
    """
    return {".".join(address): value for address, value in flatten(document).items()}


def counted(n: int, noun: str) -> str:
    """A number with its noun.

    >>> counted(1, "non-member"), counted(1200, "row"), counted(0, "class")
    ('1 non-member', '1,200 rows', '0 classes')
    """
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}{'es' if noun.endswith('s') else 's'}"


def duration(seconds: float) -> str:
    """An expected duration in seconds, minutes or hours, in the unit that a reader would choose.

    >>> duration(0.42), duration(95), duration(250), duration(7300)
    ('0.4 s', '95 s', '4 min', '2 h 2 min')
    """
    if seconds < 120:
        return f"{seconds:.{0 if seconds >= 10 else 1}f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def measured_duration(seconds: float) -> str:
    """A measured duration, which is more precise than an expected one: to the second below an hour.

    >>> measured_duration(0.42), measured_duration(95), measured_duration(250), measured_duration(7300)
    ('0.4 s', '1 min 35 s', '4 min 10 s', '2 h 1 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s"
    hours, rest = divmod(whole, 3600)
    return f"{hours} h {rest // 60} min" if hours else f"{rest // 60} min {rest % 60} s"
