"""The command ``bound``: epsilon and mu from the scores of canaries."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from hampkit.cli.options import Debug, Json
from hampkit.cli.output import write, write_json


def bound(
    scores: Annotated[Path, typer.Argument(metavar="SCORES", help="A table with a score and a column --included.")],
    included: Annotated[str, typer.Option(metavar="COLUMN", help="The column with 1 for records that were trained on.")] = "",
    score: Annotated[str, typer.Option(metavar="COLUMN", help="The column with the scores; default: the only other.")] = "",
    delta: Annotated[float, typer.Option(help="The delta of the bound on epsilon.")] = 1e-5,
    level: Annotated[float, typer.Option(help="The confidence of the bounds.")] = 0.95,
    seed: Annotated[int, typer.Option(help="Seed of the order of equal scores.")] = 0,
    json: Json = False, debug: Debug = False,
) -> None:  # fmt: skip
    """Lower bounds on epsilon and mu from an attack's scores of records, for each of which a fair coin decided on training."""
    from hampkit.workflows.bound import bound_of_file, lines

    found = bound_of_file(scores, included, score, delta, level, seed)
    if json:
        write_json(asdict(found))
    else:
        write(*lines(found))
