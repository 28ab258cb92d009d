"""The results as a person sees them in the terminal. Nothing here decides anything."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console

from hampkit.cli.terminal_table import Column, Kind, show_table, stdout_console
from hampkit.report import verdict_lines

if TYPE_CHECKING:
    from hampkit.api import AttackResult, Comparison, ModelResult, Rate, Results


def show_results(console: Console, results: Results) -> None:
    """One table per model, and the line that says what they mean."""
    for model in results.models:
        _show_model(console, model)
    for line in verdict_lines(results.to_json()):
        console.print(line, highlight=False, markup=False)
    console.print(
        "95 % intervals in brackets; those of TPR and TNR are for the target FPR and FNR exactly, with the uncertainty of the "
        "threshold in them. Flags are explained in the report and in docs/reading.md.",
        style="dim",
        highlight=False,
        markup=False,
    )


def show_comparison(found: Sequence[Comparison], paper: bool) -> None:
    """A row per defense; ``paper``: in the layout of the published comparison."""
    from hampkit.report import COLUMNS, about, comparison_rows, paper_layout

    console = stdout_console()
    documents = [c.to_json() for c in found]
    if paper:
        head, *body = paper_layout(documents)
        title = (
            "highest over the attacks on the target, as published (by luck too; ? too few examples to resolve the rate)"
        )
        show_table(console, title, _columns(head), body)
        return
    for document in documents:
        body = [[cell.replace(", ", " ") if name == "flags" else cell for name, cell in zip(COLUMNS, row, strict=True)]
                for row in comparison_rows(document)]  # fmt: skip
        show_table(console, f"defenses on {document['data']}", _columns(COLUMNS), body)
        for name, why in document["left_out"].items():
            console.print(f"left out: {name}: {why}", highlight=False, markup=False)
        for entry in document["entries"]:
            if entry["summary"]:
                console.print(f"{entry['defense']}: {entry['summary']}", highlight=False, markup=False, style="dim")
        for flag, text in document["flags"].items():
            console.print(f"{flag}: {text}", highlight=False, markup=False, style="dim")
    console.print(about(documents), highlight=False, markup=False)


def _columns(heads: Sequence[str]) -> list[Column]:
    kinds: dict[str, Kind] = {"defense": "name", "worst attack": "name", "flags": "flags"}
    return [Column(head, kinds.get(head, "number")) for head in heads]


def _show_model(console: Console, model: ModelResult) -> None:
    """One table: attacks on the target, then leave-one-out."""
    from hampkit.report.rows import attack_numbers, counts, merged

    accuracy = ", ".join(_accuracy(model, part) for part in ("train", "test"))
    seeds = f"seed{'s' if model.seeds else ''} {', '.join(map(str, model.seeds or (model.seed,)))}"
    title = f"{model.recipe}  {seeds}  accuracy: {accuracy}"
    columns = _columns_of(model)
    alike = merged(model.attacks, lambda a: attack_numbers(a.to_json()))
    best = [model.strongest()] if model.of("target") else []
    best += [model.strongest("leave-one-out")] if model.of("leave-one-out") else []
    bold = [any(a is b for a in same for b in best) for same in alike]
    show_table(
        console, title, [Column(head, kind) for head, kind in columns], [_shown(same, columns) for same in alike], bold
    )
    for line in (model.facts.get("summary"), counts(model.to_json()), _leave_one_out(model), _null(model)):
        if line:
            console.print(line, style="dim italic", highlight=False, markup=False)


def _columns_of(model: ModelResult) -> list[tuple[str, Kind]]:
    """Heads and kinds; with what only several targets need if there are several."""
    rates: list[tuple[str, Kind]] = [(name, "number") for name in ("TPR@0.1%FPR", "TNR@0.1%FNR", "AUC")]
    repeated = bool(model.of("leave-one-out"))
    judged: list[tuple[str, Kind]] = [("judged on", "name")] if repeated or model.seeds else []
    within: list[tuple[str, Kind]] = [("AUC within", "number")] if repeated else []
    return [("attack", "name"), *judged, *rates, *within, ("flags", "flags")]


def _shown(alike: Sequence[AttackResult], columns: Sequence[tuple[str, Kind]]) -> list[str]:
    """The cells of attacks with the same numbers."""
    from hampkit.report.rows import joined_label, judged_on

    first = alike[0]
    cells = {
        "attack": joined_label([a.to_json() for a in alike]),
        "judged on": judged_on(first.to_json()),
        "TPR@0.1%FPR": _rate(first.tpr_at_fpr[0]),
        "TNR@0.1%FNR": _rate(first.tnr_at_fnr[0]),
        "AUC": _auc(first.auc),
        "AUC within": _auc(first.auc_within),
        "flags": " ".join(first.flags),
    }
    return [cells[head] for head, _ in columns]


def _leave_one_out(model: ModelResult) -> str:
    """A line that describes leave-one-out: its targets, examples and intervals. Empty without shadow models."""
    repeated = model.of("leave-one-out")
    if not repeated:
        return ""
    first, unit = repeated[0], "group" if model.groups else "example"
    about = (
        f"leave-one-out: {first.targets} shadow models in turn, {first.examples} examples each, pooled over all models;"
    )
    about += f" intervals clustered by model and {unit}; AUC within: the mean over single models"
    if first.untrained:
        how = "left out" if first.left_out else "left out as targets only, because few others remain"
        about += f"; {how}: {first.untrained} shadow models that learnt next to nothing with every seed tried"
    return about


def _auc(auc: Any) -> str:
    return "–" if auc is None else f"{auc.value:.3f} [{auc.low:.3f}, {auc.high:.3f}]"


def _accuracy(model: ModelResult, part: str) -> str:
    n, each = model.rows.get(part), f" over {len(model.seeds)} seeds" if model.seeds else ""
    return f"{part} {model.accuracy[part]:.1%}" + (f" (n={n}{each})" if n else "")


def _rate(rate: Rate) -> str:
    return f"{100 * rate.value:.1f} [{100 * rate.outer_low:.1f}, {100 * rate.outer_high:.1f}]"


def _null(model: ModelResult) -> str:
    null = model.null
    said = (
        "✗ the 99.9 % interval does not contain 0.5: do not use these numbers"
        if model.off_null
        else "✓ the 99.9 % interval contains 0.5"
    )
    return f"null (shuffled membership): AUC {null.value:.3f}, 95 % interval [{null.low:.3f}, {null.high:.3f}]; {said}"
