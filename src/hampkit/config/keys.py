"""Advice about unknown keys of options: the keys that were probably meant, as they are written on the command line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from hampkit.config.sections import SECTIONS
from hampkit.errors import meant

SIMILAR = 0.7  # of two names, by `difflib.SequenceMatcher.ratio`: epochs and epoks have 0.73
GAP = 0.15  # keys that are less similar than the best one by more than this are not offered


def unknown_key(key: str, known: Iterable[str]) -> str:
    """The part of a message about an unknown key that suggests some of the known ones: there are too many to list all.

    known: whole keys, ``train.epochs`` or ``attacks.neural.epochs``. Where the user gave no section and none is needed, none is
    suggested.

    >>> unknown_key("epoch", ["train.epochs", "attacks.neural.epochs", "train.lr"])
    "did you mean 'epochs'?"
    >>> unknown_key("neurl.epoch", ["train.epochs", "attacks.neural.epochs", "train.lr"])
    "did you mean 'neural.epochs'?"
    >>> unknown_key("title", ["defense.gamma", "split.train_size"])
    'nearest: train_size, gamma; hampkit list options shows all'
    """
    known = sorted(set(known))
    if inside := [k for k in known if k.startswith(f"{key}.")]:
        return f"it is a section; its keys are {', '.join(inside[:10])}"
    if near := similar_keys(key, known):
        return meant(near)
    short = sorted({k.rpartition(".")[2] for k in known if not k.startswith("attacks.")} or known)
    near = difflib.get_close_matches(key.rpartition(".")[2], short, n=3, cutoff=0)
    return "nearest: " + ", ".join(near) + "; hampkit list options shows all"


def similar_keys(key: str, known: Sequence[str]) -> list[str]:
    """At most three known keys that resemble a key, the most similar first."""
    section, _, last = key.removeprefix("attacks.").rpartition(".")
    candidates = known if section else _without_section(last, known)
    scores = {k: _score(section, last, k) for k in candidates}
    best = max(scores.values(), default=0.0)
    near = sorted((k for k, s in scores.items() if s >= max(SIMILAR, best - GAP)), key=lambda k: -scores[k])
    return [_written(k, known, bool(section)) for k in near[:3]]


def sections_of(key: str) -> list[str]:
    """The sections of a recipe that have a key, of those that belong to no class."""
    return [name for name, cls in SECTIONS.items() if key in cls.__dataclass_fields__]


def _without_section(last: str, known: Sequence[str]) -> list[str]:
    """The keys that may be meant by one without a section: those of attacks and nested ones only where no other is similar."""
    plain = [k for k in known if k.count(".") < 2]
    return plain if any(_ratio(last, k.rpartition(".")[2]) >= SIMILAR for k in plain) else list(known)


def _score(section: str, last: str, known: str) -> float:
    """The similarity of two keys in [0, 1]; 0 if the names or the sections differ."""
    theirs, _, name = known.removeprefix("attacks.").rpartition(".")
    similar = _ratio(last, name)
    if not section:
        return similar
    of_sections = max(_ratio(section, theirs), _ratio(section, theirs.rpartition(".")[2]))
    return (similar + of_sections) / 2 if min(similar, of_sections) >= SIMILAR else 0.0


def _written(key: str, known: Sequence[str], with_section: bool) -> str:
    """A key as it may be given: without a section, unless another section has the same name too, or the user gave one."""
    section, _, last = key.rpartition(".")
    alone = sum(k.rpartition(".")[2] == last for k in known if k.count(".") < 2) == 1
    return last if section and key.count(".") == 1 and alone and not with_section else key.removeprefix("attacks.")


def _ratio(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one, other).ratio()
