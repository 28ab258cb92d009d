"""The results as Markdown, for pull requests and model cards."""

from __future__ import annotations

import re

from hampkit.report import view
from hampkit.report.view import AttackRow, Cell, Json, ModelBlock


def render_markdown(results: Json, texts: Json, verdict: str) -> str:
    """The verdict, the table at the smallest operating point, the null, and the flags and attacks that occur."""
    blocks = view.blocks(results)
    level = view.main_level(view.levels(results))
    parts = [
        "# Membership inference report",
        f"**{_text(verdict)}**",
        _text(texts.get("limits", "")),
        _table(blocks, level),
        _models(blocks),
        _nulls(blocks),
        _notes(level),
        _flags(view.seen_flags(results), texts),
        _attacks(results, texts),
        f"Written by hampkit {_text(results['hampkit'])}.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _table(blocks: list[ModelBlock], level: str) -> str:
    head = [
        "Model",
        "Accuracy, train / test",
        "Attack",
        f"TPR @ {level} FPR",
        f"TNR @ {level} FNR",
        "AUC",
        "Balanced accuracy",
        "Members + non-members",
        "Flags",
    ]
    lines = [_line(head), _line([":--", ":--", ":--", "--:", "--:", "--:", "--:", "--:", ":--"])]
    return "\n".join(lines + [_line(_cells(block, row, level)) for block in blocks for row in block.rows])


def _cells(block: ModelBlock, row: AttackRow, level: str) -> list[str]:
    name = _text(f"{row.name} {row.options}".strip())
    return [
        _text(block.title),
        f"{block.accuracy['train']} / {block.accuracy['test']}",
        f"**{name}**" if row.strongest else name,
        _number(row.tpr.get(level)),
        _number(row.tnr.get(level)),
        _number(row.auc),
        _number(row.balanced),
        row.auc.count,
        _text(", ".join(row.flags)),
    ]


def _number(cell: Cell | None) -> str:
    if cell is None:
        return "–"
    text = f"{cell.value} ({cell.interval})".replace("<", "&lt;")
    return f"*{text}*" if cell.muted else text


def _nulls(blocks: list[ModelBlock]) -> str:
    nulls = [(block.title, block.null) for block in blocks if block.null]
    return "\n".join(
        f"- {_text(title)}, membership shuffled ({_text(null.attack)}): AUC {null.auc.value} ({null.auc.interval}), "
        + _said(null)
        for title, null in nulls
    )


def _said(null: view.NullRow) -> str:
    if not null.ok:
        return "**0.5 is outside its 99.9 % interval: do not trust this model's numbers.**"
    if null.inside:
        return "0.5 is inside."
    return "0.5 is outside the 95 % interval, as in one of 20 sound runs, and inside that of 99.9 %."


def _models(blocks: list[ModelBlock]) -> str:
    lines = []
    for block in blocks:
        parts = ((name, f"{name}_interval") for name in ("train", "val", "test"))
        accuracy = [f"{n} {block.accuracy[n]} ({block.accuracy[i]})" for n, i in parts if i in block.accuracy]
        facts = "; ".join(
            part for part in ("accuracy: " + ", ".join(accuracy) if accuracy else "", block.judged) if part
        )
        lines += [f"- {_text(block.title)}: {_text(facts)}."] if facts else []
    return "\n".join(lines)


def _notes(level: str) -> str:
    return (
        f"Member = positive. TPR @ {level} FPR: the share of members that the attack finds while it accuses at most "
        f"{level} of the non-members; TNR @ FNR is the mirror image. In parentheses: the 95 % interval, for TPR and "
        "TNR that at the asked error rate exactly, which also covers that the threshold was read off "
        "these examples. **Bold**: the strongest attack on that model, by the lower "
        "bound of its AUC. *Italic*: unresolved, too few examples for this rate. The CSV has every operating point."
    )


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
        text = view.about(texts, "attacks", name)
        link = view.web_link(text["paper"])
        source = f" [{_text(text['reference']) or 'paper'}](<{_address(link)}>)" if link else ""
        lines.append(f"- **{_text(name)}** (needs {_text(view.need_words(need))}). {_text(text['summary'])}{source}")
    return "\n".join(lines)


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _text(text: str) -> str:
    """Text that Markdown shows as it is: on one line, without markup, without breaking a table."""
    escaped = re.sub(r"([\\`*\[\]|#])", r"\\\1", " ".join(str(text).split()))
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _address(url: str) -> str:
    return re.sub(r"[<>\s|\\]", "", url)
