"""Screens of 80, 100, 120 and 200 columns, and pipes: no line is too long, every interval is whole, every flag is named."""

import io
import re
from dataclasses import replace
from textwrap import fill

import pytest
from rich.console import Console

from hampkit.cli import terminal, terminal_table
from hampkit.cli.catalog import LISTS, listing
from hampkit.cli.terminal import LETTERS
from hampkit.cli.terminal_table import UNBOUNDED, Column, Form, fitting, show_table
from hampkit.cli.wrapping import wrapped
from hampkit.judging.flags import FLAGS as ALL_FLAGS
from hampkit.judging.results import AttackResult, ModelResult, Rate, Results
from hampkit.judging.strongest import Comparison, Entry, Leak
from hampkit.report import about, render_markdown, rows
from hampkit.stats.metrics import Interval

FLAGS = ("unresolved", "tied", "randomised", "masked", "mismatched", "overlapping", "duplicated")
NAMES = ("modified-entropy-per-class", "loss", "confidence-per-class", "lira-offline-fixed")
WIDTHS = (80, 100, 120, 200, UNBOUNDED)
AUCS = [Interval(0.6 + k / 1000, 0.5 + k / 1000, 0.7 + k / 1000) for k in range(len(NAMES))]
WITHIN = Interval(0.52, 0.46, 0.58)
RATES = (Rate(0.02, 0.01, 0.04, 0.001, 1, 0, 0.003, 0.09, False),)
BROKEN = re.compile(r"\[[^\]]*$", re.MULTILINE)  # an interval that goes on in the next line


def shown(width, show):
    out = io.StringIO()
    show(Console(file=out, width=width, highlight=False))
    return out.getvalue()


def fits(text, width):
    """No line is wider than the terminal, nothing is cut, and no interval goes on in the next line."""
    assert "…" not in text
    assert not [line for line in text.splitlines() if len(line) > width]
    assert not BROKEN.search(text)
    assert not [line for line in text.splitlines() if line.endswith(" ")]


def line_of(text, name):
    """The one line of a table for a name, with an interval."""
    (line,) = [line for line in text.splitlines() if re.match(rf"{name}(  | \(epochs=400\) )", line) and "[" in line]
    return line


def named(line, text):
    """The flags in a line of a table: in words, or in letters that a line below the table explains."""
    (legend,) = re.findall(r"^flags: ([a-z] [a-z]{4}.*)", text, re.MULTILINE)[:1] or [""]
    words = dict(re.findall(r"\b([a-z]) ([a-z]{4,})", " ".join(text[text.find(legend) :].split())))
    shown = line.rpartition("]")[2].split()
    return {words[letter] for letter in shown[0]} if words else set(shown)


def attacked(name, auc):
    return AttackResult(name, (), 50, 80, auc, RATES, RATES, FLAGS, auc, options={"epochs": 400})


def audited():
    flags = ("pooled", *FLAGS)
    loo = AttackResult(
        "lira-online",
        (),
        8000,
        8000,
        AUCS[0],
        RATES,
        RATES,
        flags,
        unit="leave-one-out",
        targets=16,
        auc_within=WITHIN,
    )
    return ModelResult(
        recipe="location30/confidence-penalty",
        defense="confidence-penalty",
        run="run",
        seed=0,
        data={},
        accuracy={"train": 1.0, "test": 0.9},
        rows={"train": 100, "test": 200},
        known={"members": 50, "nonmembers": 20},
        judge={},
        attacks=(*map(attacked, NAMES, AUCS), loo),
        null=WITHIN,
        null_attack="loss",
    )


@pytest.mark.parametrize("width", WIDTHS)
def test_every_attack_of_an_audit_has_one_line(width):
    """With AUC, TPR and flags; the TNR where the table fits."""
    results = Results((audited(),), "0")
    text = shown(width, lambda console: terminal.show_results(console, results))
    fits(text, width)
    table, whole = text.split("null (shuffled")[0], width == UNBOUNDED
    for name, auc in zip((*NAMES, "lira-online"), (*AUCS, AUCS[0]), strict=True):
        line = line_of(table, name)
        assert f"{auc.value:.3f} [{auc.low:.3f}, {auc.high:.3f}]" in line
        assert line.count("2.0 [0.3, 9.0]") == (2 if whole else 1)
        assert named(line, table) == {*FLAGS, *(["pooled"] if name == "lira-online" else [])}
    assert "0.520 [0.460, 0.580]" in table, "the AUC within single models"
    assert ("TNR@0.1%FNR, %" in table) == whole
    assert "TPR@0.1%FPR, %" in table
    assert "epochs=400" in table
    assert ("here if the terminal has" in text) == (not whole)


def test_the_flags_that_fit_are_in_words():
    model = replace(audited(), attacks=tuple(replace(a, flags=("unresolved", "tied")) for a in audited().attacks[:4]))
    text = shown(90, lambda console: terminal.show_results(console, Results((model,), "0")))
    assert "unresolved tied" in line_of(text, "loss")
    assert "flags: u" not in text


@pytest.mark.parametrize("width", WIDTHS)
def test_too_few_examples_show_a_count(width):
    few = replace(RATES[0], reason="80 non-members, 5,000 needed")
    attacks = tuple(replace(a, tpr_at_fpr=(few,), flags=("few",)) for a in audited().attacks[:2])
    text = shown(
        width, lambda console: terminal.show_results(console, Results((replace(audited(), attacks=attacks),), "0"))
    )
    line = line_of(text.split("null (shuffled")[0], NAMES[0])
    assert f"{few.hits} of 50" in line
    assert line.count("2.0 [0.3, 9.0]") == ("TNR@0.1%FNR, %" in text), "the TNR has enough"


def test_every_flag_has_a_letter_of_its_own():
    assert set(LETTERS) == set(ALL_FLAGS)
    assert len(set(LETTERS.values())) == len(LETTERS)


def test_an_attack_has_one_name_on_a_screen():
    """Whichever variance it chose, against the target and in leave-one-out: that is below the table."""
    target, loo = audited().attacks[0], audited().attacks[-1]
    attacks = (
        replace(target, attack="lira-online", options={}, variance="global"),
        replace(loo, variance="pooled"),
        replace(loo, attack="lira-offline", variance="pooled"),
    )
    verdict = {"text": "lira-online (global variance) is first, and in leave-one-out lira-offline (pooled variance)."}
    results = Results((replace(audited(), attacks=attacks),), "0", verdict=verdict)
    for width in WIDTHS:
        text = shown(width, lambda console: terminal.show_results(console, results))
        fits(text, width)
        assert not re.search(r"lira-o\w+ \((global|pooled)", text)
        flat = " ".join(text.split())
        assert (
            "variance global: lira-online (target); variance pooled: lira-online (leave-one-out), lira-offline" in flat
        )
        assert "lira-online is first, and in leave-one-out lira-offline." in flat


def compared(name):
    rate = Rate(0.0123, 0.0, 0.1, 0.001, 1, 0, 0.0012, 0.1234, False)
    leak = Leak(f"{NAMES[0]} / {NAMES[2]}", "leave-one-out", AUCS[0], rate, rate, 12_345, 67_890, FLAGS)
    accuracy = {"train": 1.0, "val": 0.9, "test": 0.912}
    highest = {"tpr": (NAMES[0], 0.0123, False, ""), "tnr": (NAMES[2], 0.3, True, "")}
    return Entry(f"toy/{name}", name, ("run",), accuracy, Interval(0.912, 0.9, 0.92), leak, highest, 123.4, 1.0, 3.2)


@pytest.mark.parametrize("width", WIDTHS)
def test_every_defense_of_a_comparison_has_one_line(monkeypatch, width):
    """Five columns on a terminal, and all of them where there is no end of columns; every flag is named."""
    found = Comparison("toy", (0,), 0, tuple(map(compared, ("undefended", "confidence-penalty"))), "0")

    def show(console):
        monkeypatch.setattr(terminal, "stdout_console", lambda: console)
        terminal.show_comparison([found], False)

    text = shown(width, show)
    fits(text, width)
    table, flat = text.split("unresolved: At the target")[0], " ".join(text.split())
    for name in ("undefended", "confidence-penalty"):
        line = line_of(table, name)
        assert "0.600 [0.500, 0.700]" in line
        if width == UNBOUNDED:
            assert "91.2% [90.0, 92.0]" in line
            assert "1.23 [0.12, 12.34] % (unresolved)" in line
            assert all(word in line for word in ("12,345 + 67,890", "123.4", "3.2 times", *FLAGS))
        else:
            assert "1.2 [0.1, 12.3]" in line
            assert named(line, table) == set(FLAGS)
            assert ("[90.0, 92.0]" in line) == (width >= 100)
            assert re.search(r"\b91.2\b", line)
    assert f"{NAMES[0]} / {NAMES[2]} (leave-one-out)" in flat
    assert width == UNBOUNDED or "The page has the intervals of accuracies" in flat


@pytest.mark.parametrize("width", WIDTHS)
def test_the_published_layout_fits(monkeypatch, width):
    found = Comparison("toy", (0,), 0, tuple(map(compared, ("undefended", "confidence-penalty"))), "0")

    def show(console):
        monkeypatch.setattr(terminal, "stdout_console", lambda: console)
        terminal.show_comparison([found], True)

    text = shown(width, show)
    fits(text, width)
    assert text.count("1.23%") == text.count("30.00%") == text.count("91.2%") == 2


def test_leave_one_out_names_what_its_intervals_are_clustered_by():
    """On screen, in Markdown and on the page: by model and example, or by group."""
    grouped = replace(audited(), groups={"members": 9, "nonmembers": 9}, data={"name": "toy", "sha256": "x"})
    plain = replace(grouped, groups={})
    words = {"attacks": {}, "defenses": {}, "flags": {}}
    for model, unit, other in ((plain, "example", "group"), (grouped, "group", "example")):
        results = Results((model,), "0")
        text = shown(200, lambda console, results=results: terminal.show_results(console, results))
        for place in (text, render_markdown(results.to_json(), words), rows.blocks(results.to_json())[0].clustered):
            assert f"model and {unit}" in place
            assert f"model and {other}" not in place


def test_the_null_names_its_test():
    sound, off = (replace(audited(), off_null=off) for off in (False, True))
    for model, words in ((sound, "✓ the 99.9 % interval contains 0.5"), (off, "✗ the 99.9 % interval does not")):
        text = shown(200, lambda console, model=model: terminal.show_results(console, Results((model,), "0")))
        assert words in text


def test_below_a_comparison_stands_only_what_applies():
    def words(seeds=(0,), **leak):
        entry = compared("undefended")
        plain = {"attack": "loss", "judged": "target", "flags": ()} | leak
        entry = replace(entry, leak=replace(entry.leak, **plain))
        return about([Comparison("toy", seeds, 0, (entry,), "0").to_json()])

    assert len(fill(words(), 80).splitlines()) <= 6
    occurs = {
        "of the candidates": {},
        "of the shadow models": {"judged": "leave-one-out"},
        "Two names": {"attack": "loss / entropy"},
        "Student's": {"seeds": (0, 1)},
        "inverted": {"flags": ("inverted",)},
    }
    for word, case in occurs.items():
        assert word in words(**case)
        assert word == "of the candidates" or word not in words()
    assert "of the candidates" not in words(judged="leave-one-out")


@pytest.mark.parametrize("width", [20, 40, 60])
def test_where_no_table_fits_each_attack_is_a_record(width):
    text = shown(width, lambda console: terminal.show_results(console, Results((audited(),), "0")))
    assert "…" not in text
    assert not BROKEN.search(text)
    assert text.count("0.600 [0.500, 0.700]") == 2
    assert all(text.count(flag) >= len(NAMES) for flag in FLAGS)
    assert max(map(len, text.splitlines())) <= max(width, len("location30/confidence-penalty"))


def test_the_widest_form_that_fits_is_chosen():
    columns = [Column("attack", "name"), Column("AUC"), Column("flags", "flags")]
    words = Form(columns, [["loss", "0.658 [0.617, 0.697]", "unresolved tied"]])
    letters = Form(columns, [["loss", "0.658 [0.617, 0.697]", "u t"]], ["flags: u unresolved, t tied"])
    assert (words.width(), letters.width()) == (45, 35)
    assert [fitting([words, letters], width) for width in (45, 44, 35, 34)] == [0, 1, 1, 2]
    lines = shown(35, lambda console: show_table(console, "title", [words, letters])).splitlines()
    assert lines == [
        "title",
        "attack                   AUC  flags",
        "─" * 35,
        "loss    0.658 [0.617, 0.697]  u t",
        "flags: u unresolved, t tied",
    ]


@pytest.mark.parametrize("width", [20, 33, 80])
def test_lines_are_broken_between_words_and_never_inside_a_number(width):
    text = "AUC 0.739 [0.655, 0.813] of n = 600, at 99.9 % (162 + 162 judged), modified-entropy-per-class"
    lines = wrapped(text, width)
    assert " ".join(lines) == text
    assert max(map(len, lines)) <= max(width, len("modified-entropy-per-class"))
    for piece in ("0.739 [0.655, 0.813]", "n = 600,", "99.9 %", "162 + 162", "modified-entropy-per-class"):
        assert any(piece in line for line in lines), lines


@pytest.mark.parametrize("width", [80, 100, 120, 200])
@pytest.mark.parametrize("what", ["", *LISTS])
def test_lists_fit_a_screen_and_have_all_their_words(what, width):
    shown_lines = listing(what, (), None, width)
    assert max(map(len, shown_lines)) <= width
    assert " ".join(shown_lines).split() == " ".join(listing(what)).split()


@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_help_fits_a_screen(monkeypatch, cli, width):
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERMINAL_WIDTH", str(width))
    for words in ((), *((name,) for name in ("run", "shadow", "plan", "train", "attack", "compare", "report", "list"))):
        code, out, _ = cli(*words, "--help")
        assert code == 0
        assert max(map(len, out.splitlines())) <= width
        assert not re.search(r"\w\.\.\.$", out, re.MULTILINE), "a description is cut"


def test_a_pipe_has_no_width(monkeypatch):
    monkeypatch.setattr("sys.stdout", io.StringIO())
    assert terminal_table.stdout_console().width == UNBOUNDED
