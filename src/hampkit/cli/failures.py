"""Exit codes and error messages of the command line: every failure is one line on standard error."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Iterable
from typing import Any

import typer

from hampkit.errors import UserError, of_file_system, one_line

INTERRUPTED = 130  # the exit code of a command that Ctrl-C ended


def exit_code(argv: list[str], call: Callable[[], Any], commands: Collection[str]) -> int:
    """The exit code of a command line that ``call`` executes; commands: the names that its first word may have.

    Raises: with ``--debug`` every exception, instead of printing it.
    """
    try:
        code = call() or 0
        return _interrupted() if code == INTERRUPTED else code  # some versions of Typer return this code after Ctrl-C
    except (KeyboardInterrupt, typer.Abort):  # and others raise Abort
        return _interrupted()
    except BrokenPipeError:  # the reader of a pipe has closed it, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except SystemExit as error:  # Click's answer to a closed pipe, with code 1
        if isinstance(error.__context__, BrokenPipeError):
            return 0
        raise
    except Exception as error:
        usage = getattr(error, "format_message", None)  # Typer's own errors; their class has moved between versions
        if usage is not None:
            return _usage_error(error, usage(), argv, commands)
        if "--debug" in argv:
            raise
        return _fail(*_explained(error, argv), getattr(error, "report", ()))


def _usage_error(error: Exception, text: str, argv: list[str], commands: Collection[str]) -> int:
    if type(error).__name__ == "NoArgsIsHelpError":
        print(text, file=sys.stderr)  # the help of a command without arguments, as Typer prints it
        return 2
    command = f"{argv[0]} " if argv and argv[0] in commands else ""
    return _fail(f"{text} (see hampkit {command}--help)", 2)


def _explained(error: Exception, argv: list[str]) -> tuple[str, int]:
    """The message of an exception and the exit code: 2 if the user can correct it, 1 for a bug."""
    if isinstance(error, UserError):
        return str(error), 2
    if isinstance(error, OSError):
        return of_file_system(error), 2
    if _out_of_memory(error):
        return f"not enough memory for {_largest(argv)}; take smaller numbers or less data", 2
    return f"{one_line(error, 1000, named=True)} (a bug in hampkit; --debug shows where)", 1


def _out_of_memory(error: Exception) -> bool:
    """Whether an exception means that memory could not be allocated, by Python, NumPy or torch."""
    texts = ("not enough memory", "can't allocate memory", "out of memory")
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(text in str(error) for text in texts)
    )


def _largest(argv: list[str]) -> str:
    """The option with the largest number: the likely cause of running out of memory."""
    sizes = {word: int(text) for word in argv for text in [word.partition("=")[2]] if text.isdecimal()}
    return max(sizes, key=lambda word: sizes[word]) if sizes else "this data, network or train.batch_size"


def _interrupted() -> int:
    return _fail("interrupted; run the same command again to go on", INTERRUPTED)


def _fail(message: str, code: int, report: Iterable[str] = ()) -> int:
    print("hampkit: error: " + " ".join(message.split()), file=sys.stderr)
    for line in report:
        print("  " + " ".join(line.split()), file=sys.stderr)
    return code
