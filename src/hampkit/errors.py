"""The exception that means: the user can mend this. And the one warning."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake the user can mend. Its text is one line: the value, the place and the remedy.

    The command line prints it as ``hampkit: error: …`` and exits with 2; the library raises it.
    """


class RunBusy(UserError):
    """Another process or thread holds the lock of a run. Nothing has failed: the same call succeeds once the lock is free."""


class Notice(UserWarning):
    """Something that is allowed and probably not meant, in one line. The command line prints ``hampkit: warning: …``."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A sentence part for an unknown name: the nearest known ones, or all of them when none is near.

    >>> did_you_mean("hmap", ["hamp", "undefended"])
    "did you mean 'hamp'?"
    """
    names = sorted(known)
    return nearest(word, names) or "known: " + (", ".join(names) if names else "none")


def nearest(word: str, known: Iterable[str]) -> str:
    """A sentence part that names the nearest known names; empty when none is near.

    >>> nearest("hmap", ["hamp", "undefended"]), nearest("x", ["hamp"])
    ("did you mean 'hamp'?", '')
    """
    near = difflib.get_close_matches(word, sorted(known), n=3, cutoff=0.55)
    return "did you mean " + " or ".join(repr(name) for name in near) + "?" if near else ""


def shortened(text: str, most: int = 160) -> str:
    """Somebody else's message on one line, cut between words.

    >>> shortened("a message of\\nmany words", 16)
    'a message of …'
    """
    line = " ".join(text.split())
    if len(line) <= most:
        return line
    return (line[: most - 1].rsplit(" ", 1)[0] if " " in line[: most - 1] else line[: most - 2]) + " …"


def one_line(error: Exception) -> str:
    """Somebody else's error on one line, without the path that an `OSError` repeats."""
    text = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return shortened("".join(c if c.isprintable() else " " for c in " ".join(text.split())))


def of_numpy(error: Exception) -> str:
    """What numpy says of a file that it cannot read, in one line, and never its advice to run what stands in it.

    >>> of_numpy(ValueError("This file contains pickled (object) data. If you trust the file you can load it unsafely …"))
    'it is no file of numpy'
    """
    text = one_line(error)
    if "contains pickled" in text:
        return "it is no file of numpy"
    return "it holds objects" if "allow_pickle" in text else text


def unknown_key(key: str, known: Iterable[str]) -> str:
    """What to say of an unknown option: there are too many to print them all.

    >>> unknown_key("title", ["gamma", "split.train_size"])
    'nearest: split.train_size, gamma; hampkit list options shows all'
    """
    known = list(known)
    if hint := nearest(key, known):
        return hint
    near = difflib.get_close_matches(key, sorted(known), n=3, cutoff=0)
    return "nearest: " + ", ".join(near) + "; hampkit list options shows all"
