"""The results as Markdown, for pull requests and model cards."""

from __future__ import annotations

import re

from hampkit.judging.results.wording import verdict_lines
from hampkit.report import rows
from hampkit.report.rows import AttackRow, Cell, Json, ModelBlock

ONE_TARGET = (
    "AUC of one target: Jeffreys' interval for the effective number of examples (from DeLong's variance). Accuracy: Clopper and"
    " Pearson's. Balanced accuracy: combined from the exact intervals of its two rates at a fixed threshold. If an attack has no"
    " threshold of its own, it is chosen on the known examples."
)
SEEDS = (
    "Over several seeds AUC, rates and accuracies are means of the models' own. The interval of the AUC is clustered by model and"
    " example; the others are Student's, or the models' own intervals averaged if those are wider."
)


def render_markdown(results: Json, texts: Json) -> str:
    """The verdict, the table at one operating point, the models, and explanations of the flags and attacks that occur."""
    blocks = rows.blocks(results)
    level = rows.main_level(rows.levels(results))
    parts = [
        "# Membership inference report",
        *_verdict(verdict_lines(results)),
        _table(blocks, level),
        _repeated(blocks),
        _models(blocks),
        _notes(blocks, level),
        _flags(rows.seen_flags(results), texts),
        _attacks(results, texts),
        f"Written by hampkit {_text(results['hampkit'])}.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _verdict(lines: list[str]) -> list[str]:
    """The lines of the verdict, the first one in bold."""
    return [f"**{_text(line)}**" if i == 0 else _text(line) for i, line in enumerate(lines)]


def _table(blocks: list[ModelBlock], level: str) -> str:
    """One row per model and attack; columns for several targets and for leave-one-out only if needed."""
    repeated = any(block.clustered for block in blocks)
    several = repeated or any(row.judged != "target" for block in blocks for row in block.rows)
    rates = [f"TPR @ {level} FPR", f"TNR @ {level} FNR", "AUC"]
    left, right = ["Model", "Accuracy, train / test", "Attack"], ["Balanced accuracy", "Members + non-members", "Flags"]
    within = ["AUC within a model (mean)"] if repeated else []
    head = [*left, *(["Judged on"] if several else []), *rates, *within, *right]
    marks = [":--" if name in (*left, "Judged on", "Flags") else "--:" for name in head]
    body = [_line(_cells(block, row, level, set(head))) for block in blocks for row in block.rows]
    return "\n".join([_line(head), _line(marks), *body])


def _cells(block: ModelBlock, row: AttackRow, level: str, head: set[str]) -> list[str]:
    name = _text(row.label)
    return [
        _text(block.title),
        f"{block.accuracy['train'].value} / {block.accuracy['test'].value}".replace("<", "&lt;").replace(">", "&gt;"),
        f"**{name}**" if row.strongest else name,
        *([_text(row.judged)] if "Judged on" in head else []),
        _number(row.tpr.get(level)),
        _number(row.tnr.get(level)),
        _number(row.auc),
        *([_number(row.within)] if "AUC within a model (mean)" in head else []),
        _number(row.balanced),
        row.auc.count,
        _text(", ".join(row.flags)),
    ]


def _number(cell: Cell | None) -> str:
    if cell is None:
        return "–"
    text = f"{cell.value} ({cell.interval})".replace("<", "&lt;")
    return f"*{text}*" if cell.muted else text


def _repeated(blocks: list[ModelBlock]) -> str:
    """A note on leave-one-out; empty without it."""
    shown = [block for block in blocks if block.clustered]
    if not shown:
        return ""
    clustered = " or by ".join(rows.unique(block.clustered for block in shown))
    places = " and ".join(f"`{_text(run)}/records.csv`" for block in shown for run in block.runs)
    about = "; ".join(f"{_text(block.title)}: {_text(block.repeated_about)}" for block in shown)
    return (
        f"Leave-one-out: {about}. AUC and rates are over all pairs; intervals are clustered by"
        f" {clustered}. Every example with its exposure, most exposed first: {places} (`row` is its place in the data set, from"
        " 0)."
    )


def _models(blocks: list[ModelBlock]) -> str:
    """One line per model: accuracies, facts of the defense, known and judged examples, the null."""
    return "\n".join(
        f"- {'. '.join([_accuracies(block), *_said(block), *_people(block), *_null(block)])}." for block in blocks
    )


def _accuracies(block: ModelBlock) -> str:
    labels = (("train", "train"), ("val", "validation"), ("test", "test"))
    shown = [(label, block.accuracy[part]) for part, label in labels if part in block.accuracy]
    parts = [
        f"{label} {cell.value}" + (f" ({cell.count}, {cell.interval})" if cell.count else "") for label, cell in shown
    ]
    return f"**{_text(block.title)}**: accuracy " + _text(", ".join(parts))


def _said(block: ModelBlock) -> list[str]:
    return [_text(block.summary)] if block.summary else []


def _people(block: ModelBlock) -> list[str]:
    return [_text(block.counts)] if block.counts else []


def _null(block: ModelBlock) -> list[str]:
    if block.null is None:
        return []
    null = block.null
    said = (
        "the 99.9% interval contains 0.5, as it must"
        if null.ok
        else "**the 99.9% interval does not contain 0.5: do not use this model's numbers**"
    )
    return [f"Membership shuffled ({_text(null.attack)}): AUC {null.auc.value} (95%: {null.auc.interval}); {said}"]


def _notes(blocks: list[ModelBlock], level: str) -> str:
    """How the table is to be read; only what applies."""
    seeds = any(len(block.runs) > 1 for block in blocks)
    parts = [
        f"Member = positive. TPR @ {level} FPR: the share of members that an attack finds with at most {level} of the non-members"
        " as false positives. TNR @ FNR is the mirror image.",
        "In parentheses: 95 % intervals. TPR and TNR: the outer interval, for the target FPR or FNR exactly, which"
        " includes the uncertainty of the threshold.",
        *([SEEDS] if seeds else []),
        *([] if all(len(block.runs) > 1 for block in blocks) else [ONE_TARGET]),
        "In about one of 20 correct runs the 95 % interval of the null excludes 0.5 by chance; the flag `null` therefore uses the"
        " 99.9 % interval.",
        "**Bold**: the strongest attack on that model. The interval of its AUC, which allows for the choice among the attacks,"
        " lies farthest from 0.5; if no interval excludes 0.5, its AUC does.",
        "*Italic*: unresolved, too few examples for this rate. The CSV has every operating point.",
    ]
    return " ".join(parts)


def _flags(flags: list[str], texts: Json) -> str:
    if not flags:
        return ""
    known = texts.get("flags", {})
    return "\n".join(["## Flags", "", *(f"- `{_text(flag)}`: {_text(known.get(flag, ''))}" for flag in flags)])


def _attacks(results: Json, texts: Json) -> str:
    needs = {attack["attack"]: attack["needs"] for model in results["models"] for attack in model["attacks"]}
    if not needs:
        return ""
    lines = ["## Attacks", ""]
    for name, need in needs.items():
        text = rows.about(texts, "attacks", name)
        link = rows.web_link(text["paper"])
        source = f" [{_text(text['reference']) or 'paper'}](<{_address(link)}>)" if link else ""
        lines.append(f"- **{_text(name)}** (needs {_text(rows.need_words(need))}). {_text(text['summary'])}{source}")
    return "\n".join(lines)


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _text(text: str) -> str:
    """Text on one line, with the characters escaped that Markdown would take for markup."""
    escaped = re.sub(r"([\\`*\[\]|#])", r"\\\1", " ".join(str(text).split()))
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _address(url: str) -> str:
    return re.sub(r"[<>\s|\\]", "", url)
