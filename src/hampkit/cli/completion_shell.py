"""Corrections of Typer's completion for bash: words with = in them, special characters, and no blank after KEY=."""

from __future__ import annotations

import os
import re
from typing import Any

_END = "    return 0\n}"  # of the function in Typer's script
# after KEY= and in a list without its end; bash has `compopt` since 4.0
_NO_BLANK = r"""    local word=${COMPREPLY[0]}
    if [[ ${#COMPREPLY[@]} -eq 1 && ( $word == *= || ( $word == *\[* && $word != *\] ) ) ]]; then compopt -o nospace; fi
"""


def prepare() -> bool:
    """Correct the completion for bash. To be called before a command line is answered for a shell, or its script is written.

    Returns whether it is corrected: with a version of Typer that has other names for its parts, bash has Typer's own.
    """
    try:
        from typer import _completion_classes as classes
        from typer import _completion_shared as shared
    except ImportError:
        return False
    scripts, typers = getattr(shared, "_completion_scripts", {}), getattr(classes, "BashComplete", None)
    script = scripts.get("bash", "")
    if typers is not None and _NO_BLANK not in script and _END in script:
        scripts["bash"] = script.replace(_END, _NO_BLANK + _END)
        classes.BashComplete = _corrected(typers, scripts["bash"])
    return _NO_BLANK in scripts.get("bash", "")


def _corrected(typers: Any, script: str) -> Any:
    """Typer's class for bash, with another script, and with words as a user typed them."""

    class Bash(typers):
        source_template = script

        def get_completion_args(self) -> tuple[list[str], str]:
            words = os.environ["COMP_WORDS"].split("\n")
            self.kept, self.quote = "", ""
            if len(words) > int(os.environ["COMP_CWORD"]):  # one word a line, as the script writes them
                joined, current, self.kept = whole_words(words, int(os.environ["COMP_CWORD"]))
                self.quote = opened(words[int(os.environ["COMP_CWORD"])])
                os.environ["COMP_WORDS"], os.environ["COMP_CWORD"] = "\n".join(joined), str(current)
            return super().get_completion_args()

        def format_completion(self, item: Any) -> str:
            return escaped(str(item.value).removeprefix(self.kept), self.quote)

    return Bash


def opened(word: str) -> str:
    """The quote that a word begins with and has no end of; empty for other words.

    >>> opened('"my col'), opened("'a'"), opened("age")
    ('"', '', '')
    """
    return word[0] if word[:1] in ("'", '"') and word.count(word[0]) == 1 else ""


def escaped(word: str, quote: str = "") -> str:
    r"""A word with backslashes before what bash would not take literally. quote: the word follows this one, which the user typed.

    >>> escaped("my column"), escaped("drop=[id,age]"), escaped("my $", '"'), escaped("my $", "'")
    ('my\\ column', 'drop=[id,age]', 'my \\$', 'my $')
    """
    if quote == "'":
        return word
    return re.sub(r'(["$`\\])' if quote else r"([^\w@%+=:,./\[\]-])", r"\\\1", word)


def whole_words(words: list[str], current: int) -> tuple[list[str], int, str]:
    """Words that bash divided at =, the place of the current one, and its part up to =, which bash does not replace.

    >>> whole_words(["hampkit", "run", "missing", "=", "dr"], 4)
    (['hampkit', 'run', 'missing=dr'], 2, 'missing=')
    >>> whole_words(["hampkit", "run", "gamma", "=", "0.5", "mis"], 5)
    (['hampkit', 'run', 'gamma=0.5', 'mis'], 3, '')
    """
    found: list[str] = []
    kept, after = "", False  # after: whether the word before was =
    for word in words[: current + 1]:
        kept = ""
        if found and word == "=":
            found[-1] += word
            kept = found[-1]
        elif found and after and word:
            kept = found[-1]
            found[-1] += word
        else:
            found.append(word)
        after = word == "="
    return found, len(found) - 1, "" if found[-1].startswith("-") else kept
