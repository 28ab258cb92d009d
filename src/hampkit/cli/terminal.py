"""The results as a person sees them in the terminal. Nothing here decides anything."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console

from hampkit.cli.terminal_table import Column, Form, fitting, say, show_table, stdout_console
from hampkit.report import verdict_lines

if TYPE_CHECKING:
    from hampkit.api import AttackResult, Comparison, ModelResult, Rate, Results

TPR, TNR, AUC = "TPR@0.1%FPR, %", "TNR@0.1%FNR, %", "AUC"
# where a table is too narrow for the names of flags, each has a letter, which is explained below the table
LETTERS = {
    "few": "f", "unresolved": "u", "tied": "t", "randomised": "r", "masked": "m", "mismatched": "x", "pooled": "p",
    "inverted": "i", "shifted": "s", "duplicated": "d", "overlapping": "o", "untrained": "l", "constant": "c", "null": "n",
}  # fmt: skip


def show_results(console: Console, results: Results) -> None:
    """One table per model, and the lines that describe what they mean."""
    needed = max([_show_model(console, model) for model in results.models], default=0)
    for line in verdict_lines(results.to_json()):
        say(console, _one_name(line, results))
    say(
        console,
        "95 % intervals in brackets; those of TPR and TNR are for the target FPR and FNR exactly, with the uncertainty of the "
        "threshold in them. Flags are explained in the report and in docs/reading.md.",
        "dim",
    )
    if needed > console.width:
        say(console, f"TNR@0.1%FNR stands in the report, and here if the terminal has {needed} columns.", "dim")


def show_first_look(console: Console, results: Results) -> bool:
    """A small table and a sentence for each model, of a run with the default recipes; False without leave-one-out."""
    from hampkit.report.first_look import HEAD, first_look

    found = first_look(results.to_json())
    if found is None:
        return False
    columns = [Column(name, "name" if name == "model" else "number") for name in HEAD]
    show_table(console, "members found at 1 % false positives, in %", [Form(columns, found.rows)])
    for line in found.sentences:
        say(console, line)
    say(console, found.note, "dim")
    return True


def _one_name(line: str, results: Results) -> str:
    """A line of the verdict with the names that the tables have: without the variance that an attack chose by itself."""
    from hampkit.report.rows import joined_label

    labels = {}
    for attack in (a for model in results.models for a in model.attacks if a.variance):
        document = {**attack.to_json(), "same_as": ""}
        labels[joined_label([document])] = joined_label([{**document, "variance": ""}])
    for long, short in labels.items():
        line = line.replace(long, short)
    return line


def show_critique(rows: Sequence[list[str]], lines: Sequence[str]) -> None:
    """A row per defense: published attacks, attacks that know it, canaries; and how the table is read."""
    from hampkit.report.critique import COLUMNS

    console, shown = stdout_console(), (0, 1, 3, 4, 5, 6)
    columns = [Column(COLUMNS[k], "name" if k in (0, 3, 4, 5, 6) else "number") for k in shown]
    show_table(
        console, "members found at 0.1 % false positives", [Form(columns, [[row[k] for k in shown] for row in rows])]
    )
    for line in lines:
        say(console, line, "dim")


def show_comparison(found: Sequence[Comparison], paper: bool) -> None:
    """A row per defense; ``paper``: in the layout of the published comparison."""
    from hampkit.report import about, paper_layout

    console = stdout_console()
    documents = [c.to_json() for c in found]
    if paper:
        head, *body = paper_layout(documents)
        title = "highest over the attacks on the target, as published (by luck too; ? or a count: too few examples for the rate)"
        columns = [Column(name, "name" if k == 0 else "number") for k, name in enumerate(head)]
        show_table(console, title, [Form(columns, body)])
        return
    for document in documents:
        show_table(console, f"defenses on {document['data']}", _comparison_forms(document))
        _show_canaries(console, document)
        for name, why in document["left_out"].items():
            say(console, f"left out: {name}: {why}")
        for entry in document["entries"]:
            if entry["summary"]:
                say(console, f"{entry['defense']}: {entry['summary']}", "dim")
        for flag, text in document["flags"].items():
            say(console, f"{flag}: {text}", "dim")
    say(console, about(documents))


def _show_canaries(console: Console, document: Mapping[str, Any]) -> None:
    """The table of canaries, if there are any."""
    from hampkit.report import CANARY_COLUMNS, canary_lines, canary_rows

    rows, shown = canary_rows(dict(document)), (0, 2, 4, 5, 6, 7)
    if rows:
        columns = [Column(CANARY_COLUMNS[k], "name" if k in (0, 4) else "number") for k in shown]
        show_table(console, "canaries", [Form(columns, [[row[k] for k in shown] for row in rows])])
        for line in canary_lines(dict(document)):
            say(console, f"{line}.", "dim")


def _comparison_forms(document: Mapping[str, Any]) -> list[Form]:
    """All columns of the page, or five of them; where those do not fit either, the flags stand below the table."""
    from hampkit.report import COLUMNS, comparison_rows

    kinds = {"defense": "name", "worst attack": "name", "flags": "flags"}
    rows = [[cell.replace(", ", " ") if name == "flags" else cell for name, cell in zip(COLUMNS, row, strict=True)]
            for row in comparison_rows(dict(document))]  # fmt: skip
    whole = Form([Column(name, kinds.get(name, "number")) for name in COLUMNS], rows)  # pyright: ignore[reportArgumentType]
    entries = document["entries"]
    columns = [
        Column("defense", "name"),
        Column("test accuracy, %"),
        Column(AUC),
        Column(TPR),
        Column("flags", "flags"),
    ]
    flags = [_flags_of(entry) for entry in entries]
    cells = [_five(entry) for entry in entries]
    notes = [
        _by_text("worst attack", {e["defense"]: f"{e['leak']['attack']} ({e['leak']['judged']})" for e in entries})
    ]
    notes += [
        "The page has the intervals of accuracies, train accuracy, TNR, numbers of members and non-members, and costs too."
    ]
    words = Form(columns, [[*row, " ".join(each)] for row, each in zip(cells, flags, strict=True)], notes)
    in_letters = [[*row, _letters(each)] for row, each in zip(cells, flags, strict=True)]
    letters = Form(columns, in_letters, [_legend(flags), *notes])
    # the accuracy without its interval, which the page has
    short = [[row[0], row[1].partition(" ")[0], *row[2:]] for row in in_letters]
    small = Form([columns[0], Column("test acc., %"), *columns[2:]], short, [_legend(flags), *notes])
    below = _by_text("flags", {e["defense"]: ", ".join(each) or "none" for e, each in zip(entries, flags, strict=True)})
    last = Form(small.columns[:-1], [row[:-1] for row in short], [below, *notes])
    return [whole, words, letters, small, last]


def _flags_of(entry: Mapping[str, Any]) -> list[str]:
    """The flags of an entry, with that of the rate, which the page has beside the rate itself."""
    from hampkit.report import sampling

    leak = entry["leak"]
    of_rate = sampling(leak["tpr"])
    return list(dict.fromkeys([*([of_rate] if of_rate else []), *leak["flags"]]))


def _five(entry: Mapping[str, Any]) -> list[str]:
    test, leak = entry["test"], entry["leak"]
    return [entry["defense"], _percent(test), _number(leak["auc"]), _rate(leak["tpr"], leak["members"])]


def _show_model(console: Console, model: ModelResult) -> int:
    """The attacks on the target, then those of leave-one-out, in two tables where one is too wide; returns the width of one."""
    from hampkit.report import named
    from hampkit.report.canaries import about_line, bounds_line
    from hampkit.report.records import exposure_line
    from hampkit.report.rows import counts, earlier, skipped_lines, tail_line

    accuracy = ", ".join(_accuracy(model, part) for part in ("train", "test") if part in model.accuracy) or "unknown"
    seeds = f"seed{'s' if model.seeds else ''} {', '.join(map(str, model.seeds or (model.seed,)))}"
    alike, document = _alike(model.attacks), model.to_json()
    title = f"{named(document)}  {seeds}  accuracy: {accuracy}"
    bold, wide = _strongest(model, alike), _wide(alike, bool(model.seeds))
    if wide.width() <= console.width:
        show_table(console, title, [wide], bold)
    else:
        say(console, title, "italic")
        _show_units(console, alike, bold)
    for line in (
        _variances(model),
        model.facts.get("summary"),
        counts(document),
        *([about_line(model.canaries), bounds_line(model.canaries)] if model.canaries else []),
        earlier(document),
        *skipped_lines(document),
        _leave_one_out(model),
        exposure_line(model.exposure),
        tail_line(document),
        _null(model),
    ):
        if line:
            say(console, line, "dim italic")
    return wide.width()


def _show_units(console: Console, alike: Sequence[Sequence[AttackResult]], bold: Sequence[bool]) -> None:
    """A narrow table for the attacks on the target, and one for those of leave-one-out."""
    units = list(dict.fromkeys(same[0].unit for same in alike))
    rows = {unit: [k for k, same in enumerate(alike) if same[0].unit == unit] for unit in units}
    forms = {unit: _narrow([alike[k] for k in chosen]) for unit, chosen in rows.items()}
    least = max(fitting(each, console.width) for each in forms.values())
    for unit, chosen in rows.items():
        show_table(console, _heading(alike[chosen[0]][0]), forms[unit], [bold[k] for k in chosen], least)


def _alike(attacks: Sequence[AttackResult]) -> list[list[AttackResult]]:
    """The attacks, those with the same numbers together."""
    from hampkit.report.rows import attack_numbers, merged

    return merged(attacks, lambda attack: attack_numbers(attack.to_json()))


def _strongest(model: ModelResult, alike: Sequence[Sequence[AttackResult]]) -> list[bool]:
    """Which rows hold a strongest attack."""
    best = [model.strongest()] if model.of("target") else []
    best += [model.strongest("leave-one-out")] if model.of("leave-one-out") else []
    return [any(a is b for a in same for b in best) for same in alike]


def _heading(attack: AttackResult) -> str:
    from hampkit.report.rows import judged_on

    where = judged_on(attack.to_json())
    return f"leave-one-out, {where} in turn" if attack.unit == "leave-one-out" else f"on the {where}"


def _wide(alike: Sequence[Sequence[AttackResult]], seeds: bool) -> Form:
    """Every number and the whole name of each attack; with the columns that only several targets need if there are several."""
    from hampkit.report.rows import judged_on

    repeated = any(same[0].unit == "leave-one-out" for same in alike)
    columns = [Column("attack", "name"), *([Column("judged on", "name")] if repeated or seeds else []), Column(AUC)]
    columns += [*([Column("AUC within")] if repeated else []), Column(TPR), Column(TNR), Column("flags", "flags")]
    rows = []
    for same in alike:
        first = same[0]
        cells = {
            "attack": _label(same),
            "judged on": judged_on(first.to_json()),
            AUC: _number(first.auc),
            "AUC within": _number(first.auc_within),
            TPR: _rate(first.tpr_at_fpr[0], first.members),
            TNR: _rate(first.tnr_at_fnr[0], first.nonmembers),
            "flags": " ".join(first.flags),
        }
        rows.append([cells[column.head] for column in columns])
    return Form(columns, rows)


def _narrow(alike: Sequence[Sequence[AttackResult]]) -> list[Form]:
    """One line for each attack: its name, AUC, TPR, and flags in words or in letters."""
    columns = [Column("attack", "name"), Column(AUC), Column(TPR), Column("flags", "flags")]
    firsts = [same[0] for same in alike]
    cells = [[a.attack, _number(a.auc), _rate(a.tpr_at_fpr[0], a.members)] for a in firsts]
    more = [label for same in alike if (label := _label(same)) != same[0].attack]
    notes = [*([f"names in full: {'; '.join(more)}"] if more else []), *_within(firsts)]
    words = Form(columns, [[*row, " ".join(a.flags)] for row, a in zip(cells, firsts, strict=True)], notes)
    letters = [[*row, _letters(a.flags)] for row, a in zip(cells, firsts, strict=True)]
    return [words, Form(columns, letters, [_legend(a.flags for a in firsts), *notes])]


def _within(attacks: Sequence[AttackResult]) -> list[str]:
    """The AUCs within single models, which have no column of their own in a narrow table."""
    found = {a.attack: _number(a.auc_within) for a in attacks if a.auc_within is not None}
    return [_by_text("AUC within", found)] if found else []


def _label(alike: Sequence[AttackResult]) -> str:
    """The names of attacks with equal numbers, with their options, and without the variance that they chose by themselves."""
    from hampkit.report.rows import joined_label

    return joined_label([{**a.to_json(), "variance": ""} for a in alike])


def _variances(model: ModelResult) -> str:
    """The variance that attacks chose by themselves. It is no part of their names: an attack has one name on a screen."""
    chosen = [a for a in model.attacks if a.variance and "variance" not in a.options]
    found: dict[str, dict[str, None]] = {}
    for attack in chosen:
        several = len({a.variance for a in chosen if a.attack == attack.attack}) > 1
        where = f" ({'leave-one-out' if attack.unit == 'leave-one-out' else 'target'})" if several else ""
        found.setdefault(attack.variance, {})[attack.attack + where] = None
    return "; ".join(f"variance {how}: {', '.join(names)}" for how, names in found.items())


def _letters(flags: Iterable[str]) -> str:
    """The letters of flags, and the names of those that have none."""
    flags = list(flags)
    return " ".join(
        ["".join(LETTERS[f] for f in flags if f in LETTERS), *(f for f in flags if f not in LETTERS)]
    ).strip()


def _legend(flags: Iterable[Iterable[str]]) -> str:
    """The letters that occur, explained."""
    seen = dict.fromkeys(flag for each in flags for flag in each)
    return "flags: " + (", ".join(f"{LETTERS[flag]} {flag}" for flag in seen if flag in LETTERS) or "none")


def _by_text(what: str, texts: Mapping[str, str]) -> str:
    """A line with a text for each name; names with the same text stand together.

    >>> _by_text("flags", {"hamp": "tied", "round": "tied", "top1": "none"})
    'flags: hamp, round: tied; top1: none'
    """
    names: dict[str, list[str]] = {}
    for name, text in texts.items():
        names.setdefault(text, []).append(name)
    return f"{what}: " + "; ".join(f"{', '.join(each)}: {text}" for text, each in names.items())


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


def _number(auc: Any) -> str:
    """``0.658 [0.617, 0.697]`` of an interval, as an object or as JSON has it."""
    if auc is None:
        return "–"
    value, low, high = _bounds(auc)
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


def _percent(rate: Any) -> str:
    value, low, high = (100 * bound for bound in _bounds(rate))
    return f"{value:.1f} [{low:.1f}, {high:.1f}]"


def _bounds(found: Any) -> tuple[float, float, float]:
    if isinstance(found, Mapping):
        return found["value"], found["low"], found["high"]
    return found.value, found.low, found.high


def _accuracy(model: ModelResult, part: str) -> str:
    n, each = model.rows.get(part), f" over {len(model.seeds)} seeds" if model.seeds else ""
    return f"{part} {model.accuracy[part]:.1%}" + (f" (n={n}{each})" if n else "")


def _rate(rate: Rate | Mapping[str, Any], n: int) -> str:
    """A rate in percent with its interval for the target FPR or FNR exactly; of too few examples ``3 of 162``."""
    found = rate if isinstance(rate, Mapping) else vars(rate)
    if found.get("reason"):
        return f"{found['hits']:,} of {n:,}"
    return _percent({"value": found["value"], "low": found["outer_low"], "high": found["outer_high"]})


def _null(model: ModelResult) -> str:
    null = model.null
    said = (
        "✗ the 99.9 % interval does not contain 0.5: do not use these numbers"
        if model.off_null
        else "✓ the 99.9 % interval contains 0.5"
    )
    return f"null (shuffled membership): AUC {null.value:.3f}, 95 % interval [{null.low:.3f}, {null.high:.3f}]; {said}"
