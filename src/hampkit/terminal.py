"""What a person sees in the terminal: progress bars and the table. Nothing here decides anything."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

if TYPE_CHECKING:
    from hampkit.results import AttackResult, ModelResult, Results


class Bars:
    """Progress bars on stderr, one per kind of work; nothing where stderr is no terminal."""

    def __init__(self, show: bool) -> None:
        console = Console(stderr=True)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self.progress = Progress(*columns, console=console, disable=not (show and console.is_terminal), transient=True)
        self.tasks: dict[str, TaskID] = {}

    def track(self, what: str, done: int, total: int) -> None:
        """Told by the library how far it is."""
        task = self.tasks.get(what)
        if task is None or self.progress.tasks[self.progress.task_ids.index(task)].finished:
            task = self.tasks[what] = self.progress.add_task(what, total=total)
        self.progress.update(task, completed=done, total=total)

    @contextlib.contextmanager
    def shown(self) -> Iterator[Bars]:
        with self.progress:
            yield self


class Download:
    """A Rich progress bar as pooch wants it: total, update, reset, close."""

    def __init__(self, bars: Bars) -> None:
        self.bars, self.total, self.done = bars, 0, 0

    def update(self, size: int) -> None:
        self.done += size
        self.bars.track("downloading", self.done, max(self.total, self.done))

    def reset(self) -> None:
        self.done = 0

    def close(self) -> None:
        self.bars.track("downloading", self.done, self.done or 1)


def show_results(console: Console, results: Results, verdict: str, limits: str) -> None:
    """One table per model, the line that says what they mean, and the line that says what they cannot."""
    for model in results.models:
        console.print(_table(model))
    console.print(verdict, highlight=False)
    console.print(limits, highlight=False)
    console.print(
        "95 % intervals in brackets, for TPR and TNR at the asked rate exactly; n = members + non-members judged."
        " Flags are explained in the report.",
        style="dim",
    )


def _table(model: ModelResult) -> Table:
    a = model.accuracy
    of = model.rows
    title = (
        f"{model.recipe}  seed {model.seed}  accuracy: train {a['train']:.1%} (n = {of['train']}),"
        f" test {a['test']:.1%} (n = {of['test']})"
    )
    table = Table(title=title, title_justify="left", caption_justify="left", caption=_null(model))
    table.add_column("attack", no_wrap=True)
    for name in ("TPR@0.1%FPR", "TNR@0.1%FNR", "AUC"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("n", justify="right")
    table.add_column("flags", overflow="fold", min_width=12)
    best = model.strongest()
    for attack in model.attacks:
        table.add_row(*_row(attack), style="bold" if attack is best else "")
    return table


def _row(attack: AttackResult) -> tuple[str, ...]:
    tpr, tnr = attack.tpr_at_fpr[0], attack.tnr_at_fnr[0]
    auc = f"{attack.auc.value:.3f} [{attack.auc.low:.3f}, {attack.auc.high:.3f}]"
    n = f"{attack.members}+{attack.nonmembers}"
    options = " ".join(f"{k}={v}" for k, v in attack.options.items())
    return (
        f"{attack.attack} {options}".strip(),
        _rate(tpr),
        _rate(tnr),
        auc.replace("[", r"\["),
        n,
        " ".join(attack.flags),
    )


def _rate(rate: Any) -> str:
    return rf"{100 * rate.value:.1f} \[{100 * rate.outer_low:.1f}, {100 * rate.outer_high:.1f}]"


def _null(model: ModelResult) -> str:
    null = model.null
    said = ", off beyond 99.9 %: do not trust these numbers" if model.off_null else ""
    return rf"null (shuffled membership): AUC {null.value:.3f} \[{null.low:.3f}, {null.high:.3f}]{said}"
