"""The workflow of ``hampkit reproduce``: a published critique, made again with the attacks of this version."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from hampkit.config.sections import CanaryConfig
from hampkit.errors import UserError
from hampkit.report.critique import CritiqueRow, about, critique_markdown, critique_rows
from hampkit.report.critique_page import critique_html
from hampkit.runs.locks import reports
from hampkit.runs.store import read_json, write_file, write_json
from hampkit.workflows.compare import ComparisonRequest, compare
from hampkit.workflows.recipes import RecipeOptions, texts_of
from hampkit.workflows.session import Session

DEFENSES = ("undefended", "hamp", "relaxloss", "selena")  # DP-SGD of equal accuracy is added to each


@dataclass(frozen=True)
class Critique:
    """What is compared; one seed."""

    dataset: str = "location30"
    defenses: Sequence[str] = DEFENSES
    shadows: int = 64
    canaries: int = 500
    recipe_options: RecipeOptions = field(default_factory=RecipeOptions)

    def command(self) -> str:
        """The command that makes it again."""
        words = ["hampkit", "reproduce", "critique", self.dataset]
        words += ["--defenses", ",".join(self.defenses)] if tuple(self.defenses) != DEFENSES else []
        words += ["--shadows", str(self.shadows), "--canaries", str(self.canaries)]
        words += [f"{key}={value}" for key, value in texts_of(self.recipe_options.options).items()]
        words += ["--seed", str(self.recipe_options.seed)] if self.recipe_options.seed is not None else []
        return shlex.join(words)


@dataclass(frozen=True)
class Reproduced:
    """The table of a critique, how it is read, and its files."""

    rows: list[CritiqueRow]
    lines: list[str]
    files: dict[str, Path]


def reproduce_critique(critique: Critique, out: Path | None, session: Session) -> Reproduced:
    """Compare the defenses with canaries, and write critique.json, critique.md and critique.html beside the comparison's files.

    Everything that is trained is found again, so that the command can be given in parts, with some of the defenses each time.
    Raises: `UserError`, as `hampkit.workflows.compare.compare`, and without shadow models or canaries.
    """
    if not critique.shadows or not critique.canaries:
        raise UserError("reproduce critique needs shadow models and canaries: --shadows 64 --canaries 500")
    config = CanaryConfig(critique.canaries)
    request = ComparisonRequest(
        critique.dataset, critique.defenses, critique.recipe_options, critique.shadows, canaries=config
    )
    comparison = compare(request, out, session).to_json()
    folder = session.runs_dir if out is None else out
    rows, command = critique_rows(comparison, read_json(folder / "results.json", "models")), critique.command()
    files = {kind: folder / f"critique.{kind}" for kind in ("json", "md", "html")}
    with reports(folder):
        write_json(files["json"], {"command": command, "rows": [asdict(row) for row in rows]})
        write_file(files["md"], critique_markdown(comparison, rows, command))
        write_file(files["html"], critique_html(comparison, rows, command))
    return Reproduced(rows, about(comparison), files)
