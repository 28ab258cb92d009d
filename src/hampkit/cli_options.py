"""The options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Words = Annotated[list[str] | None, typer.Argument(metavar="[RECIPE…] [KEY=VALUE…]", show_default=False)]
DataDir = Annotated[Path | None, typer.Option(help="Folder with data files; default: $HAMPKIT_DATA, then a download.")]
CheckDir = Annotated[Path | None, typer.Option(help="Folder with data files; default: $HAMPKIT_DATA, then the cache.")]
RunsDir = Annotated[Path, typer.Option(help="Folder of the runs.")]
Seed = Annotated[int | None, typer.Option(help="Seed of the split and of training.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Out = Annotated[Path | None, typer.Option(help="Folder for report and results; default: the runs folder.")]
AttackOut = Annotated[Path | None, typer.Option(help="Folder for report and results; default: the run folder itself.")]
Table = Annotated[Path | None, typer.Option("--data", help="Your own table: .csv, .parquet or .npz.")]
Label = Annotated[str, typer.Option(help="The column of your table that holds the label.")]
Json = Annotated[bool, typer.Option("--json", help="Print results.json instead of a table.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")]
ShadowCount = Annotated[
    int, typer.Option(metavar="M", help="Train M shadow models too, for LiRA and RMIA (even, from 4).")
]
ShadowsFrom = Annotated[
    Path | None, typer.Option(help="A run whose shadow models are taken; of the same recipe, data and split.")
]
Force = Annotated[bool, typer.Option("--force", help="Take them also where the recipe differs (flag mismatched).")]
Workers = Annotated[int, typer.Option(help="Processes for shadow models; 0: as measured to be best.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks.")]
