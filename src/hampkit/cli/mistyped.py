"""Words of a command line that a shell or a hand has split: what was meant, and how to write it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Sequence

from hampkit.errors import UserError, nearest

_KEY = r"[A-Za-z_][\w.-]*"


def check_words(words: Sequence[str]) -> None:
    """Check that no KEY=VALUE fell into several words.

    Raises: `UserError` for blanks around ``=`` and for blanks inside an unquoted list.
    """
    for k, word in enumerate(words):
        if whole := _list(words[k:]):
            raise UserError(
                f"{' '.join(whole)} was divided at its blanks by the shell; quote it: {shlex.quote(' '.join(whole))}"
            )
        key, value = _around(words, k)
        if key and value:
            raise UserError(f"{word!r} stands alone: no blanks belong around =; write {shlex.quote(f'{key}={value}')}")


def check_defenses(names: Sequence[str], defenses: str, known: Collection[str], datasets: Collection[str]) -> None:
    """Check that no defense stands among the data sets to compare.

    names: the words that are no options. defenses: the value of --defenses. known: all defenses.

    Raises: `UserError` for the name of a defense, or a similar one after --defenses.
    """
    others = [name for name in names if name not in datasets]
    meant = [name for name in others if name in known or (defenses and nearest(name, known))]
    if meant:
        every = ",".join([*filter(None, [defenses.strip(",")]), *meant])
        raise UserError(
            f"{meant[0]!r} is taken for a data set: defenses are named by one option, with commas and without blanks;"
            f" write --defenses {shlex.quote(every)}"
        )


def _list(words: Sequence[str]) -> Sequence[str]:
    """The words of a list that begins with the first one and ends with a later one; none if it is no such list."""
    first = words[0]
    if not re.match(rf"{_KEY}=\[", first) or first.endswith("]"):
        return ()
    ends = (k for k, word in enumerate(words[1:], 1) if word.endswith("]") or "=" in word)
    end = next(ends, 0)
    return words[: end + 1] if end and "=" not in words[end] else ()


def _around(words: Sequence[str], k: int) -> tuple[str, str]:
    """The key and the value around a = with blanks beside it, where word k is or begins with that =, or ends with it."""
    word, before, after = words[k], words[k - 1] if k else "", words[k + 1] if k + 1 < len(words) else ""
    if word.startswith("=") and re.fullmatch(_KEY, before):
        return before, word[1:] or after
    if re.fullmatch(rf"{_KEY}=", word) and re.fullmatch(r"[+-]?\.?\d.*|true|false|\[.*", after):
        return word[:-1], after
    return "", ""
