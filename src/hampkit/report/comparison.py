"""A comparison of defenses as a page, as Markdown, and in the layout of the published table."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from hampkit.report import charts
from hampkit.report.canaries import about_line
from hampkit.report.cells import safe
from hampkit.report.markup import code, prose, text
from hampkit.report.page import rendered
from hampkit.report.provenance import days_of

Json = dict[str, Any]

COLUMNS = (
    "defense", "test accuracy", "train accuracy", "worst attack", "AUC", "TPR@0.1%FPR", "TNR@0.1%FNR", "flags",
    "members + non-members", "training, s", "passes per answer", "time per answer",
)  # fmt: skip
CANARY_COLUMNS = (
    "defense", "test accuracy", "with canaries", "AUC", "worst attack on canaries", "AUC on canaries", "TPR@0.1%FPR on canaries",
    "epsilon at least", "mu at least",
)  # fmt: skip
OTHER_NUMBERS = (
    "`report.html` and `hampkit run` give other numbers for the same run folders: there every attack is judged on all candidates,"
    " and the interval of the strongest one is wider instead"
)
FEW_SEEDS = 3  # up to so many, Student's factor is above 4


def about(documents: Sequence[Json]) -> str:
    """An explanation of the columns, of what occurs in these tables only."""
    return ". ".join(about_lines(documents)) + "."


def about_lines(documents: Sequence[Json]) -> list[str]:
    """The sentences of `about`, without full stops."""
    entries = [entry for document in documents for entry in document["entries"]]
    leaks = [entry["leak"] for entry in entries]
    judged = {leak["judged"] for leak in leaks}
    ways = {
        "target": "the highest lower bound of the AUC on one half of the candidates",
        "leave-one-out": "the highest AUC on one half of the shadow models",
    }
    chosen = ", or ".join(text for kind, text in ways.items() if kind in judged) or ways["target"]
    said = [
        f"Worst attack: the one with {chosen}, judged on the other half; then the halves are exchanged, and the mean of both"
        " results is shown"
    ]
    if any(" / " in leak["attack"] for leak in leaks):
        said.append("Two names: each half chose another attack")
    said.append("The interval is for the worst attack, whichever it is; read its upper end")
    if any("inverted" in leak["flags"] for leak in leaks):
        said.append("The flag inverted may be of an attack that is not named")
    said.append("95 % intervals in brackets")
    said += _over_seeds(min((len(d["seeds"]) for d in documents if len(d["seeds"]) > 1), default=1))
    if "leave-one-out" in judged:
        said.append("members + non-members: judged pairs of model and example, over all seeds")
    said.append("training, s: wall time while other trainings ran on the same machine")
    said.append("What these attacks find is a lower bound on what leaks")
    return said


def _over_seeds(fewest: int) -> list[str]:
    """Sentences about intervals over several seeds; fewest: of any table."""
    if fewest == 1:
        return []
    said = [
        "Over several seeds the interval is for the mean: Student's, or the seeds' own half-widths divided by the root of their"
        " number if that is wider"
    ]
    if fewest <= FEW_SEEDS:
        said.append(
            f"With {fewest} seeds Student's interval is very wide, up to [0, 1], whatever the attacks find, because so few values"
            " hardly show how much seeds differ; five or more seeds help"
        )
    return said


def comparison_rows(document: Json) -> list[list[str]]:
    """The rows of the table as text, with the columns `COLUMNS`."""
    return [_row(entry) for entry in document["entries"]]


def canary_rows(document: Json) -> list[list[str]]:
    """The rows of the table of canaries as text, with the columns `CANARY_COLUMNS`; none without canaries."""
    return [_canary_row(entry) for entry in document["entries"] if entry.get("canaries")]


def canary_lines(document: Json) -> list[str]:
    """The canaries of a comparison in words; none without them."""
    first = next((e["canaries"]["about"][0] for e in document["entries"] if e.get("canaries")), None)
    if first is None:
        return []
    return [
        f"Each defense was trained a second time with {about_line(first)} (first seed), on which alone its attacks are judged"
        " (docs/canaries.md)",
        "DP-SGD of equal accuracy has the noise that brings its validation accuracy within a point of the defense's, if five"
        " trainings find it",
    ]


def render_comparison_markdown(document: Json) -> str:
    """The table with its explanation."""
    lines = [f"# {text(_title(document))}", "", "| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    lines += ["| " + " | ".join(text(cell) for cell in row) + " |" for row in comparison_rows(document)]
    if rows := canary_rows(document):
        lines += ["", "## Canaries", "", "| " + " | ".join(CANARY_COLUMNS) + " |", "|" + "---|" * len(CANARY_COLUMNS)]
        lines += ["| " + " | ".join(text(cell) for cell in row) + " |" for row in rows]
        lines += ["", f"{'. '.join(map(text, canary_lines(document)))}."]
    lines += ["", f"{about([document])} {OTHER_NUMBERS}.", "", text(_seeds(document)), ""]
    lines += [f"- {text(flag)}: {prose(why)}" for flag, why in document["flags"].items()]
    said = [f"- {text(e['defense'])}: {prose(e['summary'])}" for e in document["entries"] if e["summary"]]
    left = [f"- left out: {text(name)}: {prose(why)}" for name, why in document["left_out"].items()]
    sources = [
        f"- {text(head)}: {', '.join(map(text, values))}"
        for head, values in (*((key, [value]) for key, value in _facts(document).items()), *_of_runs(document).items())
    ]
    command = [f"- Command: {code(document['command'])}"] if document.get("command") else []
    more = [*([""] if said or left else []), *said, *left, "", "## Provenance", "", *command, *sources, ""]
    return "\n".join([*lines, *more])


def render_comparison_html(document: Json) -> str:
    """The page, a single file."""
    legend = charts.styles([e["defense"] for e in document["entries"]])
    figures = {"tradeoff": charts.comparison_chart(document, legend)}
    context = {
        "title": _title(document),
        "about": [*about_lines([document]), OTHER_NUMBERS],
        "seeds": document["seeds"],
        "said": _seeds(document),
        "columns": COLUMNS,
        "measured": ("test accuracy", "AUC", "TPR@0.1%FPR", "TNR@0.1%FNR"),
        "rows": comparison_rows(document),
        "canary_columns": CANARY_COLUMNS,
        "canary_rows": canary_rows(document),
        "canary_lines": canary_lines(document),
        "entries": document["entries"],
        "summaries": [entry for entry in document["entries"] if entry["summary"]],
        "left_out": document["left_out"],
        "flags": document["flags"],
        "facts": _facts(document),
        "command": document.get("command", ""),
        "when": _days(document),
        "sources": {head: ", ".join(values) for head, values in _of_runs(document).items()},
        "versions": {name: v for name, v in (document.get("versions") or {}).items() if name != "hampkit"},
        "legend": legend,
        "charts": figures,
        "version": document["hampkit"],
        "data_for_script": {"charts": figures, "results": document, "csv": render_comparison_csv(document)},
    }
    return rendered("comparison.html.jinja", context)


def render_comparison_csv(document: Json) -> str:
    """One row per defense; rates as fractions in full precision, seconds, and lists joined by spaces."""
    table = [_flat(entry) for entry in document["entries"]]
    out = io.StringIO()
    writer = csv.DictWriter(out, list(table[0]) if table else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: safe(v) if isinstance(v, str) else v for k, v in row.items()} for row in table)
    return out.getvalue()


def paper_layout(documents: Sequence[Json]) -> list[list[str]]:
    """The table of the publication: per defense and data set the highest TPR@0.1%FPR and TNR@0.1%FNR of any attack on the target.

    The first row is the head. Percentages with two decimals, the attack, and a question mark where the examples are too few to
    resolve the rate, or a count where they are too few to show it; a defense that was not run has a dash.
    """
    head = ["defense"]
    for document in documents:
        head += [
            f"{document['data']} TPR@0.1%FPR",
            f"{document['data']} TNR@0.1%FNR",
            f"{document['data']} test accuracy",
        ]
    names = list(dict.fromkeys(e["defense"] for d in documents for e in d["entries"]))
    table = [head]
    for name in names:
        row = [name]
        for document in documents:
            entry = next((e for e in document["entries"] if e["defense"] == name), None)
            row += ["–", "–", "–"] if entry is None else [*_highest(entry), _percent(entry["accuracy"]["test"])]
        table.append(row)
    return table


def _highest(entry: Json) -> list[str]:
    return [
        f"{count or f'{100 * value:.2f}%'} ({attack}){'' if resolved or count else ' ?'}"
        for attack, value, resolved, count in (entry["highest"]["tpr"], entry["highest"]["tnr"])
    ]


def _row(e: Json) -> list[str]:
    leak = e["leak"]
    auc = leak["auc"]
    return [
        e["defense"],
        f"{_percent(e['accuracy']['test'])} [{100 * e['test']['low']:.1f}, {100 * e['test']['high']:.1f}]",
        _percent(e["accuracy"]["train"]),
        f"{leak['attack']} ({leak['judged']})",
        f"{auc['value']:.3f} [{auc['low']:.3f}, {auc['high']:.3f}]",
        _rate(leak["tpr"], leak["members"]),
        _rate(leak["tnr"], leak["nonmembers"]),
        ", ".join(leak["flags"]) or "–",
        f"{leak['members']:,} + {leak['nonmembers']:,}",
        f"{e['seconds']:.1f}",
        f"{e['queries']:.2g}",
        f"{e['overhead']:.1f} times",
    ]


def _canary_row(e: Json) -> list[str]:
    found, auc = e["canaries"], e["leak"]["auc"]
    leak, test = found["leak"], found["test"]
    bounds = [about["bounds"] for about in found["about"] if "reason" not in about["bounds"]]
    return [
        e["defense"],
        _percent(e["accuracy"]["test"]),
        f"{_percent(test['value'])} [{100 * test['low']:.1f}, {100 * test['high']:.1f}]",
        f"{auc['value']:.3f} [{auc['low']:.3f}, {auc['high']:.3f}]",
        f"{leak['attack']} ({leak['judged']})",
        f"{leak['auc']['value']:.3f} [{leak['auc']['low']:.3f}, {leak['auc']['high']:.3f}]",
        _rate(leak["tpr"], leak["members"]),
        f"{bounds[0]['epsilon']:.2f}" if bounds else "–",
        f"{bounds[0]['mu']:.2f}" if bounds else "–",
    ]


def _rate(rate: Json, n: int) -> str:
    """A rate in percent with its interval; ``3 of 162 (few)`` where there are too few examples for a rate."""
    if rate.get("reason"):
        return f"{rate['hits']:,} of {n:,} (few)"
    said = f"{100 * rate['value']:.2f} [{100 * rate['outer_low']:.2f}, {100 * rate['outer_high']:.2f}] %"
    return said if rate["resolved"] else f"{said} (unresolved)"


def _percent(value: float) -> str:
    return f"{100 * value:.1f}%"


def _title(document: Json) -> str:
    return f"Defenses on {document['data']}"


def _seeds(document: Json) -> str:
    seeds = ", ".join(map(str, document["seeds"]))
    shadows = f", {document['shadows']} shadow models per defense and seed" if document["shadows"] else ""
    options = " ".join(f"{key}={value}" for key, value in document["options"].items())
    given = f" Options: {options}; all others as in the recipes." if options else " All options as in the recipes."
    return f"Seed{'s' if len(document['seeds']) > 1 else ''} {seeds}{shadows}.{given} hampkit {document['hampkit']}."


def _facts(document: Json) -> dict[str, str]:
    """Where the comparison comes from."""
    options = " ".join(f"{key}={value}" for key, value in document["options"].items())
    return {
        "Data": document["data"],
        "Seeds": ", ".join(map(str, document["seeds"])),
        "Shadow models": f"{document['shadows']} per defense and seed" if document["shadows"] else "none",
        "Options": options or "all as in the recipes",
        "hampkit": document["hampkit"],
        **{head: value for head, value in _where(document).items() if value},
    }


def _where(document: Json) -> dict[str, str]:
    return {
        "Trained on": _days(document),
        "Device": document.get("device", ""),
        "SHA-256 of the data as read": document.get("data_sha256", ""),
    }


def _days(document: Json) -> str:
    """The first and the last day on which a model was trained."""
    return days_of(start for entry in document["entries"] for start in entry.get("started") or [])


def _of_runs(document: Json) -> dict[str, list[str]]:
    """Of each defense the run folders and the hashes of the weights."""
    found: dict[str, list[str]] = {}
    for entry in document["entries"]:
        several = "s" if len(entry["runs"]) > 1 else ""
        found[f"Run folder{several} of {entry['defense']}"] = list(entry["runs"])
        if entry.get("weights"):
            found[f"SHA-256 of the weights of {entry['defense']}"] = list(entry["weights"])
    return found


def _flat(e: Json) -> dict[str, Any]:
    leak = e["leak"]
    row = {"defense": e["defense"], "recipe": e["recipe"], "runs": " ".join(e["runs"])}
    row |= {"accuracy_test": e["accuracy"]["test"], **_ends("accuracy_test", e["test"])}
    row |= {"accuracy_train": e["accuracy"]["train"], "attack": leak["attack"], "judged": leak["judged"]}
    row |= {"auc": leak["auc"]["value"], **_ends("auc", leak["auc"])}
    for name, hits, rate in (("tpr_at_fpr_0.001", "tp", leak["tpr"]), ("tnr_at_fnr_0.001", "tn", leak["tnr"])):
        shown = {**rate, **dict.fromkeys(("value", "outer_low", "outer_high"), "")} if rate.get("reason", "") else rate
        row |= {name: shown["value"], **_ends(f"{name}_outer", shown, "outer_"), f"{name}_{hits}": rate.get("hits", "")}
        row |= {f"{name}_resolved": str(rate["resolved"]).lower(), f"{name}_reason": rate.get("reason", "")}
    row |= {"flags": " ".join(leak["flags"]), "members": leak["members"], "nonmembers": leak["nonmembers"]}
    return row | {"seconds": e["seconds"], "queries": e["queries"], "overhead": e["overhead"]}


def _ends(name: str, interval: Mapping[str, Any], key: str = "") -> dict[str, Any]:
    return {f"{name}_{end}": interval[f"{key}{end}"] for end in ("low", "high")}
