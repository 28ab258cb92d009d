"""Exit codes and messages of the command line: all codes are decided here, and every failure is one line on standard error.

0: done. 1: a bug in hampkit. 2: a mistake that the user can correct. 130: Ctrl-C ended the command, which is no error.
"""

from __future__ import annotations

import difflib
import os
import re
import shlex
import sys
from collections.abc import Callable, Collection, Iterable
from typing import Any

import typer

from hampkit.cli.output import write
from hampkit.errors import UserError, meant, nearest, of_file_system, one_line

DONE, BUG, MISTAKE, INTERRUPTED = 0, 1, 2, 130


def exit_code(argv: list[str], call: Callable[[], Any], commands: Collection[str]) -> int:
    """The exit code of a command line that ``call`` executes; commands: the names that its first word may have.

    Raises: with ``--debug`` every exception, instead of printing it.
    """
    try:
        os.getcwd()  # torch ends the process if the folder was deleted
        code = call() or DONE
        return _interrupted() if code == INTERRUPTED else code  # some versions of Typer return this code after Ctrl-C
    except (KeyboardInterrupt, typer.Abort):  # and others raise Abort
        return _interrupted()
    except BrokenPipeError:  # the reader of a pipe has closed it, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except SystemExit as error:  # Click's answer to a closed pipe, with code 1
        if isinstance(error.__context__, BrokenPipeError):
            return DONE
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
        return MISTAKE
    command = f"{argv[0]} " if argv and argv[0] in commands else ""
    return _fail(
        f"{_unknown_option(error, argv) or _no_number(error, argv) or text} (see hampkit {command}--help)", MISTAKE
    )


def _unknown_option(error: Any, argv: list[str]) -> str:
    """The message for an option or a command that does not exist, with similar ones; empty for other errors."""
    command = getattr(getattr(error, "ctx", None), "command", None)
    name = getattr(error, "option_name", None) if hasattr(error, "possibilities") else None
    if command is not None and name:
        if advice := _as_key(name, argv):
            return f"no such option {name}{advice}"
        options = {opt.lstrip("-"): opt for param in command.params for opt in param.opts if opt.startswith("--")}
        near = [options[n] for n in difflib.get_close_matches(name.lstrip("-"), options, n=3, cutoff=0.6)]
        return f"no such option {name}" + (f"; {meant(near)}" if near else "")
    wrong = re.match(r"No such command '(.+?)'", str(getattr(error, "message", "")))
    commands = getattr(command, "commands", None)
    if wrong and commands:  # older versions of Typer suggest none
        return "; ".join(filter(None, (f"no such command {wrong[1]!r}", nearest(wrong[1], commands))))
    return ""


def _as_key(name: str, argv: list[str]) -> str:
    """The advice for ``--epochs 5``: a key of a recipe that is written as an option."""
    from hampkit.cli.completion import keys

    key, value = name.lstrip("-").replace("-", "_"), _value_of(name, argv)
    if f"{key}=" not in keys():
        return ""
    written = shlex.quote(f"{key}={value}") if value else f"{key}=…"
    return f"; options of recipes and attacks are written without dashes: {written}"


def _value_of(name: str, argv: list[str]) -> str:
    """The value of an option as it was written, NAME=VALUE or NAME VALUE; empty without one."""
    for word, after in zip(argv, [*argv[1:], ""], strict=True):
        if word.startswith(f"{name}="):
            return word.removeprefix(f"{name}=")
        if word == name:
            return "" if after.startswith("--") or "=" in after else after
    return ""


def _no_number(error: Any, argv: list[str]) -> str:
    """The message for a text in the place of a whole number; empty for other errors."""
    names = [opt for opt in getattr(getattr(error, "param", None), "opts", ()) if opt.startswith("--")]
    if not names or "integer" not in str(getattr(error, "message", "")):  # versions of Typer differ in the rest
        return ""
    return f"{names[0]}={_value_of(names[0], argv)!r} must be a whole number"


def _explained(error: Exception, argv: list[str]) -> tuple[str, int]:
    """The message of an exception and the exit code."""
    if isinstance(error, UserError):
        return str(error), MISTAKE
    if isinstance(error, FileNotFoundError) and not error.filename:
        return "the current folder was deleted; change to another one", MISTAKE
    if isinstance(error, OSError):
        return of_file_system(error), MISTAKE
    if _out_of_memory(error):
        return f"not enough memory for {_largest(argv)}; take smaller numbers or less data", MISTAKE
    return f"{one_line(error, 1000, named=True)} (a bug in hampkit; --debug shows where)", BUG


def _out_of_memory(error: Exception) -> bool:
    """Whether Python, NumPy or torch raised this exception because memory ran out."""
    texts = ("not enough memory", "can't allocate memory", "out of memory")
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(text in str(error) for text in texts)
    )


def _largest(argv: list[str]) -> str:
    """The option with the largest number: the likely cause of running out of memory."""
    sizes = {word: int(text) for word in argv for text in [word.partition("=")[2]] if text.isdecimal()}
    return max(sizes, key=lambda word: sizes[word]) if sizes else "this data, network or train.batch_size"


def _interrupted() -> int:
    _print("stopped; the same command goes on where it stopped")
    return INTERRUPTED


def _fail(message: str, code: int, report: Iterable[str] = ()) -> int:
    _print(f"error: {message}")
    for line in report:
        write("  " + " ".join(line.split()), stream=sys.stderr)
    return code


def _print(message: str) -> None:
    write("hampkit: " + " ".join(message.split()), stream=sys.stderr)
