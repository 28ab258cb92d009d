"""The exceptions and the warning that hampkit raises for its users, and the parts of their messages."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

MOST = 1000  # characters of a message, most of which are paths and values
LISTED = 10  # names in a message


class UserError(Exception):
    """A mistake that the user can correct. Its text is one line with the value, the place and the remedy.

    The command line prints it as ``hampkit: error: …`` and exits with 2; the library raises it.

    report: further lines, one for each of several problems, such as the columns of a table that cannot be read. The command
    line prints them below, and so does a traceback of Python 3.11 or newer.
    """

    def __init__(self, text: str = "", report: Iterable[str] = ()) -> None:
        super().__init__(shown(text))
        self.report = tuple(map(shown, report))
        if self.report:
            self.__notes__ = list(self.report)


class RunBusy(UserError):
    """Another process or thread holds the lock of a run. Nothing has failed: the same call succeeds once the lock is free."""


class Notice(UserWarning):
    """Something that is allowed but probably not intended, in one line. The command line prints ``hampkit: warning: …``."""

    def __init__(self, text: str = "") -> None:
        super().__init__(shown(text))


def shown(text: str, most: int = MOST) -> str:
    """A text on one line that any terminal can show.

    Control and right-to-left characters become escapes, and the middle of a long text is cut.

    >>> shown("\\x1b[31mred"), shown("0123456789", 7)
    ('\\\\x1b[31mred', '01 … 89')
    """
    line = visible(text)
    if len(line) <= most:
        return line
    end = most // 2 - 1
    return f"{line[: most - end - 3]} … {line[len(line) - end :]}"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The part of a message about an unknown name that suggests similar names; if none is similar, the nearest ten.

    >>> did_you_mean("hmap", ["hamp", "undefended"]), did_you_mean("x", ["a", "b"]), did_you_mean("x", [])
    ("did you mean 'hamp'?", 'known: a, b', 'known: none')
    """
    names = sorted(known)
    if hint := nearest(word, names):
        return hint
    if len(names) <= LISTED:
        return "known: " + (", ".join(names) or "none")
    near = difflib.get_close_matches(word, names, n=LISTED, cutoff=0)
    return f"known: {', '.join(near)}, … ({len(names)} in all)"


def visible(text: str) -> str:
    r"""The text with escapes in place of characters that have no shape of their own: control and right-to-left characters.

    Line breaks and tabs become blanks. Such characters may hide or reorder the rest of a line.

    >>> visible("a\x1b[31mb"), visible("x\u202ey"), visible("Zürich 東京")
    ('a\\x1b[31mb', 'x\\u202ey', 'Zürich 東京')
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\xa0" else " " if c in "\n\r\t" else _escape(c) for c in text)


def _escape(c: str) -> str:
    return c.encode("unicode_escape").decode()


def nearest(word: str, known: Iterable[str]) -> str:
    """The part of a message that suggests similar names; empty if none is similar.

    >>> nearest("hmap", ["hamp", "undefended"]), nearest("x", ["hamp"])
    ("did you mean 'hamp'?", '')
    """
    return meant(difflib.get_close_matches(word, sorted(known), n=3, cutoff=0.55))


def meant(names: Sequence[str]) -> str:
    """The question after names that were probably meant; empty without any.

    >>> meant(["epochs", "lr"]), meant([])
    ("did you mean 'epochs' or 'lr'?", '')
    """
    return f"did you mean {' or '.join(map(repr, names))}?" if names else ""


def shortened(text: str, most: int = 160) -> str:
    """A text on one line, cut between words to at most ``most`` characters.

    >>> shortened("a message of\\nmany words", 16)
    'a message of …'
    """
    line = " ".join(text.split())
    if len(line) <= most:
        return line
    return (line[: most - 1].rsplit(" ", 1)[0] if " " in line[: most - 1] else line[: most - 2]) + " …"


def one_line(error: BaseException, most: int = 160, named: bool = False) -> str:
    """The text of any exception on one line of at most ``most`` characters.

    The path that an `OSError` repeats is left out, and so is NumPy's advice to unpickle a file. named: the name of the
    exception comes first.

    >>> one_line(FileNotFoundError(2, "No such file", "x.csv")), one_line(KeyError(), named=True)
    ('No such file', 'KeyError')
    >>> one_line(ValueError("This file contains pickled (object) data. If you trust the file you can load it unsafely …"))
    'it is not a .npy or .npz file'
    """
    name, text = type(error).__name__, (isinstance(error, OSError) and error.strerror) or str(error)
    if "contains pickled" in text:
        text = "it is not a .npy or .npz file"
    elif "allow_pickle" in text:
        text = "it holds Python objects"
    text = f"{name}: {text}" if named and text.strip() else text
    return shortened("".join(c if c.isprintable() else " " for c in " ".join(text.split())), most) or name


def of_file_system(error: OSError) -> str:
    """The message for an error of the file system that nothing more specific was raised for, such as a full disk.

    >>> of_file_system(OSError(28, "No space left on device", "runs/x"))
    'No space left on device: runs/x; check space and permissions, then run again'
    """
    return f"{one_line(error)}: {error.filename or 'file system'}; check space and permissions, then run again"
