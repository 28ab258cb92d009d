"""What a person sees in the terminal: progress bars and the table. Nothing here decides anything."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
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
    from hampkit.comparison import Comparison
    from hampkit.results import AttackResult, ModelResult, Rate, Results


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
        # older versions of Rich end a disabled bar with an empty line
        with contextlib.nullcontext() if self.progress.disable else self.progress:
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


def sayer(silent: bool) -> Any:
    """Prints the plan of what takes long, to stderr: stdout is for results."""
    return (lambda line: None) if silent else (lambda line: print(line, file=sys.stderr))


def show_results(console: Console, results: Results, verdict: str, limits: str) -> None:
    """One table per model, and the line that says what they mean."""
    for model in results.models:
        console.print(_table(model))
        if model.repeated:
            console.print(_repeated_table(model))
    console.print(verdict, highlight=False, markup=False)
    console.print(limits, highlight=False, markup=False)
    console.print(
        "95 % intervals in brackets; those of TPR and TNR are for the asked rate exactly, with the uncertainty of the "
        "threshold in them. n = candidates judged. Flags are explained in the report.",
        style="dim",
        highlight=False,
    )


def show_comparison(found: Sequence[Comparison], paper: bool) -> None:
    """A row per defense; ``paper``: in the layout of the published comparison."""
    from hampkit.report import ABOUT, COLUMNS, paper_layout, rows

    console = Console() if sys.stdout.isatty() else Console(width=220, highlight=False)
    documents = [c.to_json() for c in found]
    if paper:
        head, *body = paper_layout(documents)
        title = (
            "highest over the attacks on the target, as published (by luck too; ? too few examples to resolve the rate)"
        )
        console.print(_grid(title, head, body))
        return
    for document in documents:
        console.print(_grid(f"defenses on {document['data']}", COLUMNS, rows(document)))
        for name, why in document["left_out"].items():
            console.print(f"left out: {name}: {why}", highlight=False, markup=False)
        for entry in document["entries"]:
            if entry["said"]:
                console.print(f"{entry['defense']}: {entry['said']}", highlight=False, markup=False, style="dim")
        for flag, text in document["flags"].items():
            console.print(f"{flag}: {text}", highlight=False, markup=False, style="dim")
    console.print(ABOUT, highlight=False, markup=False)


def _grid(title: str, head: Sequence[str], body: Sequence[Sequence[str]]) -> Table:
    table = Table(title=escape(title), title_justify="left")
    for k, name in enumerate(head):
        table.add_column(name, overflow="fold", no_wrap=k == 0)  # a name in two lines is found by nobody
    for row in body:
        table.add_row(*map(escape, row))
    return table


def _table(model: ModelResult) -> Table:
    from hampkit.report.view import attack_numbers, merged

    accuracy = ", ".join(_accuracy(model, part) for part in ("train", "test"))
    title = escape(f"{model.recipe}  seed {model.seed}  accuracy: {accuracy}")
    table = Table(title=title, title_justify="left", caption_justify="left", caption=_caption(model))
    table.add_column("attack", no_wrap=True)
    for name in ("TPR@0.1%FPR", "TNR@0.1%FNR", "AUC"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("n", justify="right")
    table.add_column("flags", overflow="fold", min_width=12)
    best = model.strongest()
    for alike in merged(model.attacks, lambda a: attack_numbers(a.to_json())):
        table.add_row(*_row(alike), style="bold" if any(a is best for a in alike) else "")
    return table


def _repeated_table(model: ModelResult) -> Table:
    from hampkit.report.view import joined_label, merged, repeated_numbers

    first = model.repeated[0]
    title = f"{model.recipe}  leave-one-out: {first.models} shadow models in turn, {first.examples} examples each"
    caption = (
        "pooled over all models, intervals clustered by model and example; AUC within: the mean over single models"
    )
    if first.untrained:
        how = "left out" if first.left_out else "left out as targets only, for want of others"
        caption += f"; {how}: {first.untrained} shadow models that learnt next to nothing with every seed tried"
    table = Table(title=title, title_justify="left", caption=caption, caption_justify="left")
    table.add_column("attack", no_wrap=True)
    for name in ("TPR@0.1%FPR", "TNR@0.1%FNR", "AUC pooled", "AUC within"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("flags", overflow="fold", min_width=12)
    best = max(model.repeated, key=lambda r: r.auc.low)
    for alike in merged(model.repeated, lambda r: repeated_numbers(r.to_json())):
        r = alike[0]
        aucs = (_auc(r.auc), "–" if r.auc_within is None else _auc(r.auc_within))
        cells = (
            escape(joined_label([a.to_json() for a in alike])),
            _rate(r.tpr_at_fpr[0]),
            _rate(r.tnr_at_fnr[0]),
            *aucs,
            " ".join(r.flags),
        )
        table.add_row(*cells, style="bold" if any(a is best for a in alike) else "")
    return table


def _row(alike: Sequence[AttackResult]) -> tuple[str, ...]:
    from hampkit.report.view import joined_label

    attack = alike[0]
    tpr, tnr = attack.tpr_at_fpr[0], attack.tnr_at_fnr[0]
    n = str(attack.members) if attack.members == attack.nonmembers else f"{attack.members}+{attack.nonmembers}"
    return (
        escape(joined_label([a.to_json() for a in alike])),
        _rate(tpr),
        _rate(tnr),
        _auc(attack.auc),
        n,
        " ".join(attack.flags),
    )


def _auc(auc: Any) -> str:
    return rf"{auc.value:.3f} \[{auc.low:.3f}, {auc.high:.3f}]"


def _accuracy(model: ModelResult, part: str) -> str:
    n = model.rows.get(part)
    return f"{part} {model.accuracy[part]:.1%}" + (f" (n={n})" if n else "")


def _rate(rate: Rate) -> str:
    return rf"{100 * rate.value:.1f} \[{100 * rate.outer_low:.1f}, {100 * rate.outer_high:.1f}]"


def _caption(model: ModelResult) -> str:
    said = model.facts.get("said")
    return "\n".join([*([escape(said)] if said else []), *_counts(model), _null(model)])


def _counts(model: ModelResult) -> list[str]:
    """How many the adversary knows, and how many are judged."""
    if not model.known or not model.attacks:
        return []
    judged, everyone = model.attacks[0], model.judge.get("candidates") == "all"
    parts = []
    for who, label, n in (("members", "members", judged.members), ("nonmembers", "non-members", judged.nonmembers)):
        known = model.known[who]
        parts.append(f"{n if everyone else n + known} {label}, {known} known to the adversary, {n} judged")
    return ["; ".join(parts)]


def _null(model: ModelResult) -> str:
    null = model.null
    said = "✗ 0.5 is outside its 99.9 % interval: do not trust these numbers" if model.off_null else "✓"
    return rf"null (shuffled membership): AUC {null.value:.3f} \[{null.low:.3f}, {null.high:.3f}] {said}"
