"""The options that several commands share, and the parsing of RECIPE and KEY=VALUE words."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from hampkit.cli import completion
from hampkit.cli.mistyped import check_words
from hampkit.config.command_line import written
from hampkit.config.schema import once
from hampkit.errors import UserError

_MORE = "[KEY=VALUE…]"


def _words(metavar: str, offered: Callable[..., list[str]]) -> Any:
    return typer.Argument(metavar=metavar, show_default=False, autocompletion=offered)


Words = Annotated[list[str] | None, _words(f"[RECIPE…] {_MORE}", completion.run_words)]
Keys = Annotated[list[str] | None, _words(_MORE, completion.keys_of_recipe)]
AttackWords = Annotated[list[str] | None, _words(f"[ATTACK…] {_MORE}", completion.attack_words)]
CompareWords = Annotated[list[str] | None, _words(f"[DATA…] {_MORE}", completion.compare_words)]
ListWords = Annotated[list[str] | None, _words(f"[NAME] {_MORE}", completion.list_words)]
OneRecipe = Annotated[
    str,
    typer.Argument(
        help="A recipe: DATA/DEFENSE, a .toml file, or a DEFENSE with --data.", autocompletion=completion.recipe
    ),
]
What = Annotated[
    str,
    typer.Argument(
        help="datasets, defenses, attacks, generators, recipes, nets or options.", autocompletion=completion.lists
    ),
]
Defenses = Annotated[
    str,
    typer.Option(
        metavar="NAME,…",
        help="Names, separated by commas; default: all defenses.",
        autocompletion=completion.defenses,
    ),
]
DataSet = Annotated[str, typer.Argument(autocompletion=completion.dataset)]
DataDir = Annotated[Path | None, typer.Option(help="Folder with data files; default: $HAMPKIT_DATA, then a download.")]
CheckDir = Annotated[Path | None, typer.Option(help="Folder with data files; default: $HAMPKIT_DATA, then the cache.")]
RunsDir = Annotated[Path, typer.Option(help="Folder of the runs.")]
Seed = Annotated[int | None, typer.Option(help="Seed of the split and of training.")]
Device = Annotated[
    str, typer.Option(help="auto, cpu, cuda, or one of several GPUs: cuda:1.", autocompletion=completion.device)
]
Out = Annotated[Path | None, typer.Option(help="Folder for report and results; default: the runs folder.")]
AttackOut = Annotated[Path | None, typer.Option(help="Folder for report and results; default: the run folder itself.")]
Table = Annotated[Path | None, typer.Option("--data", help="Your own table: .csv, .tsv, .parquet or .npz.")]
FailIf = Annotated[
    list[str] | None,
    typer.Option("--fail-if", metavar="LIMIT", show_default=False, help="Exit code 3 if this holds: 'auc.low>0.6'."),
]
Policy = Annotated[Path | None, typer.Option(metavar="FILE", help="A policy, TOML: end with code 3 if a limit fails.")]
Junit = Annotated[Path | None, typer.Option(metavar="FILE", help="Write what became of each limit, as JUnit XML.")]
Label = Annotated[
    str, typer.Option(help="The column of your table that holds the label.", autocompletion=completion.column)
]
Group = Annotated[
    str,
    typer.Option(
        metavar="COLUMN",
        help="The column of your table that groups rows, such as all rows of one person.",
        autocompletion=completion.column,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the results as JSON instead of a table.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")]
ShadowCount = Annotated[
    int, typer.Option(metavar="M", help="Train M shadow models too, for LiRA and RMIA (even, at least 4).")
]
ShadowsFrom = Annotated[
    Path | None, typer.Option(help="Use the shadow models of this run; it must have the same recipe, data and split.")
]
Force = Annotated[
    bool, typer.Option("--force", help="With --shadows-from: also from another recipe (flag mismatched).")
]
Canaries = Annotated[
    int,
    typer.Option(
        metavar="K", help="Train each model also with K canaries, records made to be remembered, and attack them."
    ),
]
CanaryKind = Annotated[
    str, typer.Option(metavar="KIND", help="mislabelled, out-of-support, near-duplicate, or blank (images).")
]
AttackNames = Annotated[
    str,
    typer.Option(
        "--attacks",
        metavar="NAME,…",
        help="Names, separated by commas; default: all whose evidence there is.",
        autocompletion=completion.attacks,
    ),
]
Wait = Annotated[bool, typer.Option("--wait", help="Wait for a run that another process works on.")]
Workers = Annotated[
    int,
    typer.Option(help="Targets or shadow models trained at once; 0: one per train.threads cores."),
]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks.")]


# options of commands that are no keys of a recipe, as somebody might write them who takes them for keys
FLAGS = frozenset({
    "attacks", "canaries", "canary_kind", "data_dir", "debug", "defenses", "device", "fail_if", "force", "json", "junit", "out",
    "paper", "policy", "quiet", "runs_dir", "seeds", "shadows", "shadows_from", "wait", "workers",
})  # fmt: skip
# those that audit and bound have beside them
AUDIT_FLAGS = frozenset({
    "allow_equal", "answers", "by", "claimed_delta", "claimed_epsilon", "demo", "id", "included", "inputs", "kind",
    "level", "member", "members", "membership", "model", "nonmembers", "positive", "prior", "purpose", "scores", "split",
    "target_scores", "text", "title", "weights",
})  # fmt: skip


def comma_separated(text: str) -> list[str]:
    """The names in an option such as ``--attacks lira-online,rank``; none for an empty text."""
    return [name.strip() for name in text.split(",")] if text else []


def split(
    words: list[str], group: str = "", keep_models: bool = False, flags: frozenset[str] = FLAGS
) -> tuple[list[str], dict[str, str]]:
    """Split words into names of recipes or attacks and options KEY=VALUE, and add the options of --group and --keep-models.

    Raises: `UserError` for an option that is given twice, is written with dashes, or fell into several words.
    """
    check_words(words)
    options: dict[str, str] = {}
    names = []
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or (word.endswith(".toml") and os.path.isfile(word)):
            names.append(word)
        elif key in flags:
            flag = f"--{key.replace('_', '-')}"
            raise UserError(
                f"{word} is no option of a recipe or an attack; write {flag}" + (f" {text}" if text else "")
            )
        elif key in options:
            both = f"[{options[key]},{text}]"
            raise UserError(
                f"{key} is given twice, {key}={options[key]} and {word}; leave one out, or give a list: {key}={both}"
            )
        else:
            options[key] = text
    if group:
        once(f"--group {group}", options, "data.group", "group")
        options["data.group"] = written(group)
    if keep_models:
        once("--keep-models", options, "shadows.keep_models", "keep_models")
        options["shadows.keep_models"] = "yes"
    return names, options


def only_options(words: list[str], group: str = "", keep_models: bool = False) -> dict[str, str]:
    """The options of a command that takes one recipe. Raises: `UserError` for a word that is no option."""
    recipes, options = split(words, group, keep_models)
    if recipes:
        raise UserError(f"one recipe at a time, {recipes[0]!r} is another; options are written KEY=VALUE")
    return options
