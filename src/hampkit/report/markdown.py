"""The results as Markdown, for pull requests and model cards."""

from __future__ import annotations

import re

from hampkit.judging.results.wording import seeds_of, verdict_lines
from hampkit.report import rows
from hampkit.report.annex import annex
from hampkit.report.canaries import CANARY_NOTE, canary_blocks
from hampkit.report.findings import findings, reading
from hampkit.report.markup import code, prose, text
from hampkit.report.provenance import ANSWERS_HASH, audited_files
from hampkit.report.rows import AttackRow, Cell, Json, ModelBlock

WITHIN = "AUC within a model (mean)"
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
    """The verdict, a table per model at one operating point, and explanations of the flags and attacks that occur."""
    blocks = rows.blocks(results)
    level = rows.main_level(rows.levels(results))
    parts = [
        "# Membership inference report",
        _findings(results),
        *_verdict(verdict_lines(results)),
        _data(results),
        *(_model(block, level) for block in blocks),
        _canaries(results),
        _repeated(blocks),
        *(["## How to read the tables", _notes(blocks, level)] if blocks else []),
        _annex(results),
        _flags(rows.seen_flags(results), texts),
        _attacks(results, texts),
        _provenance(results, blocks),
        f"Written by hampkit {text(results['hampkit'])}.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _findings(results: Json) -> str:
    """One line per model: word, sentence, number."""
    found = findings(results)
    lines = [
        f"- **{text(each.title)}: {each.word}.** {text(each.sentence)}."
        + (f" {text(each.number)}." if each.number else "")
        + (f" {text(each.repeated)}." if each.repeated else "")
        for each in found
    ]
    return "\n".join([*lines, *(["", reading(found)] if reading(found) else [])])


def _data(results: Json) -> str:
    """What was done to the values of the user's files; empty for other data."""
    notes = ((model["data"]["name"], note) for model in results["models"] for note in model["data"].get("notes") or [])
    return "\n".join(rows.unique(f"- {text(name)}: {prose(note)}" for name, note in notes))


def _verdict(lines: list[str]) -> list[str]:
    """The lines of the verdict."""
    return [text(line) for line in lines]


def _model(block: ModelBlock, level: str) -> str:
    """The table of one model under its title, with its accuracies, facts and null."""
    about = f"{'. '.join([_accuracies(block), *_said(block), *_people(block), *_null(block)])}."
    return "\n\n".join([f"## {text(block.title)}", _capital(about), _table(block, level)])


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


def _table(block: ModelBlock, level: str) -> str:
    """One row per attack; columns for several targets and for leave-one-out only if needed. Units are in the head."""
    several = bool(block.clustered) or any(row.judged != "target" for row in block.rows)
    rates = [f"TPR @ {level} FPR, %", f"TNR @ {level} FNR, %", "AUC, 0.5 = guessing"]
    within = [WITHIN] if block.clustered else []
    head = ["Attack", *(["Judged on"] if several else []), *rates, *within]
    head += ["Balanced accuracy, %", "Members + non-members, n", "Flags"]
    marks = [":--" if name in ("Attack", "Judged on", "Flags") else "--:" for name in head]
    return "\n".join([_line(head), _line(marks), *(_line(_cells(row, level, set(head))) for row in block.rows)])


def _cells(row: AttackRow, level: str, head: set[str]) -> list[str]:
    name = text(row.label)
    return [
        f"**{name}**" if row.strongest else name,
        *([text(row.judged)] if "Judged on" in head else []),
        _number(row.tpr.get(level)),
        _number(row.tnr.get(level)),
        _number(row.auc),
        *([_number(row.within)] if WITHIN in head else []),
        _number(row.balanced),
        row.auc.count,
        text(", ".join(row.flags)),
    ]


def _number(cell: Cell | None) -> str:
    """The number and its interval, without the percent sign: the head has it."""
    if cell is None:
        return "–"
    if cell.caution == "few":
        return f"*{cell.value}* ({cell.count})"
    shown = f"{cell.value} ({cell.interval})".replace("%", "").replace("<", "&lt;").replace(">", "&gt;")
    return f"*{shown}*" if cell.caution else shown


def _repeated(blocks: list[ModelBlock]) -> str:
    """A note on leave-one-out; empty without it."""
    shown = [block for block in blocks if block.clustered]
    if not shown:
        return ""
    clustered = " or by ".join(rows.unique(block.clustered for block in shown))
    places = " and ".join(f"`{text(run)}/records.csv`" for block in shown for run in block.runs if block.defense)
    listed = (
        f" Every example with its exposure, most exposed first: {places} (`row` is its place in the data set, from 0)."
    )
    about = "; ".join(f"{text(block.title)}: {text(block.repeated_about)}" for block in shown)
    return (f"Leave-one-out: {about}. AUC and rates are over all pairs; intervals are clustered by {clustered}.") + (
        listed if places else ""
    )


def _canaries(results: Json) -> str:
    """Attacks on canaries beside those on records of the data set; empty without canaries."""
    found = canary_blocks(results)
    if not found:
        return ""
    parts = ["## Canaries", CANARY_NOTE]
    for block in found:
        level = block.rows[0].level if block.rows else ""
        head = [
            "Attack",
            "Judged on",
            f"TPR @ {level} FPR",
            f"on canaries: TPR @ {level} FPR",
            "AUC",
            "on canaries: AUC",
        ]
        lines = [_line(head), _line(["---"] * len(head))]
        for row in block.rows:
            rates = (side.get("text", "–") for side in (row.clean, row.canary))
            aucs = (side.get("auc", "–") for side in (row.clean, row.canary))
            lines.append(_line([text(row.attack), row.judged, *map(text, rates), *aucs]))
        said = "; ".join((block.about, block.accuracy, block.bounds))
        parts += [f"### {text(block.recipe)}", f"{text(_capital(said))}.", "\n".join(lines)]
    return "\n\n".join(parts)


def _annex(results: Json) -> str:
    """What was measured, declared and not tested of each audited model, and its policy; empty without audited models."""
    parts = []
    for each in annex(results, [{}] * len(results["models"])):
        heads = (("Measured", "measured"), ("Declared by the user", "declared"), ("Not tested", "not_tested"))
        lists = ["\n".join([f"**{head}**", "", *(f"- {prose(line)}." for line in each[key])]) for head, key in heads]
        lines = [f"{prose(each[key])}." for key in ("exposure", "bounds") if each[key]]
        values = [
            f"- {text(row['attack'])} at {row['threshold']} FPR ({row['count']}): "
            + ", ".join(f"{value} [{ends}] at a share of {prior}" for prior, value, ends in row["values"])
            for row in each["values"]
        ]
        rows = [
            f"- {text(name)} ({count}): {text(attack)}, AUC {text(auc)}"
            for name, count, attack, auc in each["subgroups"]
        ]
        parts += [f"## Annex: {text(each['title'])}", *lists, *lines]
        parts += ["**Positive predictive value**, by the share of members", "\n".join(values)] if values else []
        parts += ["**Subgroups**, the strongest attack in each", "\n".join(rows)] if rows else []
    several = len(results["models"]) > 1
    limits = [
        f"- {text(o['model']) + ', ' if several else ''}{prose(o['limit']['text'])}: {o['status']}; {prose(o['text'])}"
        for o in results.get("policy") or []
    ]
    return "\n\n".join([*parts, *(["## Policy", "\n".join(limits)] if limits else [])])


def _accuracies(block: ModelBlock) -> str:
    labels = (("train", "train"), ("val", "validation"), ("test", "test"))
    shown = [(label, block.accuracy[part]) for part, label in labels if part in block.accuracy]
    parts = [
        f"{label} {cell.value}" + (f" ({cell.count}, {cell.interval})" if cell.count else "") for label, cell in shown
    ]
    return "accuracy: " + (text(", ".join(parts)) or "unknown")


def _said(block: ModelBlock) -> list[str]:
    return [prose(block.summary)] if block.summary else []


def _people(block: ModelBlock) -> list[str]:
    return [
        text(line)
        for line in (block.counts, block.tail, _capital(block.earlier), *map(_capital, block.skipped))
        if line
    ]


def _null(block: ModelBlock) -> list[str]:
    if block.null is None:
        return []
    null = block.null
    said = (
        "the 99.9% interval contains 0.5, as it must"
        if null.ok
        else "**the 99.9% interval does not contain 0.5: do not use this model's numbers**"
    )
    return [f"Membership shuffled ({text(null.attack)}): AUC {null.auc.value} (95%: {null.auc.interval}); {said}"]


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
        "*Italic*: too few examples for this rate; *k of n*: so few that a count stands in its place. The CSV has every operating"
        " point.",
    ]
    return " ".join(parts)


def _flags(flags: list[str], texts: Json) -> str:
    if not flags:
        return ""
    known = texts.get("flags", {})
    return "\n".join(["## Flags", "", *(f"- `{text(flag)}`: {prose(known.get(flag, ''))}" for flag in flags)])


def _attacks(results: Json, texts: Json) -> str:
    made = {attack["attack"]: attack for model in results["models"] for attack in model["attacks"]}
    if not made:
        return ""
    lines = ["## Attacks", ""]
    for name, attack in made.items():
        about = rows.about(texts, "attacks", name)
        link = rows.web_link(about["paper"])
        source = f" [{text(about['reference']) or 'paper'}](<{_address(link)}>)" if link else ""
        lines.append(f"- **{text(name)}** (needs {text(rows.need_words(attack))}). {prose(about['summary'])}{source}")
    return "\n".join(lines)


def _provenance(results: Json, blocks: list[ModelBlock]) -> str:
    """Of each model the run folders, the hashes of data and weights, and the command that trains and attacks it again."""
    parts = []
    for model, block in zip(results["models"], blocks, strict=True):
        facts = {
            "run folder": ", ".join(block.runs),
            "seed": ", ".join(map(str, seeds_of(model))),
            ANSWERS_HASH if model.get("audit") else "SHA-256 of the weights": ", ".join(model.get("weights") or []),
            "SHA-256 of the data as read": model["data"]["sha256"],
            **audited_files(model.get("audit") or {}),
        }
        lines = [f"- {text(block.title)}", *(f"  - {name}: {text(value)}" for name, value in facts.items() if value)]
        parts += [*lines, *(f"  - command: {code(command)}" for command in model.get("commands") or [] if command)]
    return "\n".join(["## Provenance", "", *parts]) if parts else ""


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _address(url: str) -> str:
    return re.sub(r"[<>\s|\\]", "", url)
