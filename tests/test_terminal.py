"""Tables on screen: at every width all numbers, intervals and flags are there, whole; only names are broken."""

import io
import re
from dataclasses import replace
from textwrap import fill

import pytest
from rich.console import Console

from hampkit.cli import terminal, terminal_table
from hampkit.cli.terminal_table import UNBOUNDED, Column, fitted
from hampkit.judging.results import AttackResult, ModelResult, Rate, Results
from hampkit.judging.strongest import Comparison, Entry, Leak
from hampkit.report import about, render_markdown, rows
from hampkit.stats.metrics import Interval

FLAGS = ("unresolved", "tied", "randomised", "masked", "mismatched", "overlapping", "duplicated")
NAMES = ("modified-entropy-per-class", "loss", "confidence-per-class", "lira-offline-fixed")
WIDTHS = (80, 100, 132, UNBOUNDED)
AUCS = [Interval(0.6 + k / 1000, 0.5 + k / 1000, 0.7 + k / 1000) for k in range(len(NAMES))]
WITHIN = Interval(0.52, 0.46, 0.58)
RATES = (Rate(0.02, 0.01, 0.04, 0.001, 1, 0, 0.003, 0.09, False),)
INTERVAL = re.compile(r"\[\d+\.\d+, \d+\.\d+\]")


def shown(width, show):
    out = io.StringIO()
    show(Console(file=out, width=width, highlight=False))
    return out.getvalue()


def whole(text, width, wanted):
    """All that is wanted stands in one line, no line of a table is broken or wider than the terminal."""
    assert "…" not in text
    missing = [word for word in wanted if word not in text]
    assert not missing, text
    table = [line for line in text.splitlines() if line[:1] in "│┃┏└┡├"]
    assert all(line[-1:] in "│┃┓┘┩┤" for line in table), text
    assert max(map(len, table)) <= width, text


def attacked(name, auc):
    return AttackResult(name, (), False, 50, 80, auc, RATES, RATES, FLAGS, auc, options={"epochs": 400})


def audited():
    flags = ("pooled", *FLAGS)
    loo = AttackResult(
        "lira-online",
        (),
        False,
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
def test_no_number_and_no_flag_of_an_audit_is_cut(width):
    results = Results((audited(),), "0")
    text = shown(width, lambda console: terminal.show_results(console, results))
    wanted = [f"[{auc.low:.3f}, {auc.high:.3f}]" for auc in (*AUCS, WITHIN)]
    whole(text, width, [*wanted, "[0.3, 9.0]", *FLAGS, "pooled"])
    for head in ("TPR@0.1%FPR", "TNR@0.1%FNR", "AUC"):
        assert head in text
    # four rows of the target and one of leave-one-out, each with all its flags
    assert [text.count(flag) for flag in FLAGS] == [5] * len(FLAGS)
    assert len(INTERVAL.findall(text.split("null")[0])) == 3 * len(NAMES) + 4


def compared(name):
    rate = Rate(0.0123, 0.0, 0.1, 0.001, 1, 0, 0.0012, 0.1234, False)
    leak = Leak(f"{NAMES[0]} / {NAMES[2]}", "leave-one-out", AUCS[0], rate, rate, 12_345, 67_890, FLAGS)
    accuracy = {"train": 1.0, "val": 0.9, "test": 0.912}
    highest = {"tpr": (NAMES[0], 0.0123, False), "tnr": (NAMES[2], 0.3, True)}
    return Entry(f"toy/{name}", name, ("run",), accuracy, Interval(0.912, 0.9, 0.92), leak, highest, 123.4, 1.0, 3.2)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("paper", [False, True])
def test_no_number_and_no_flag_of_a_comparison_is_cut(monkeypatch, width, paper):
    found = Comparison("toy", (0,), 0, tuple(map(compared, ("undefended", "confidence-penalty"))), "0")

    def show(console):
        monkeypatch.setattr(terminal, "stdout_console", lambda: console)
        terminal.show_comparison([found], paper)

    text = shown(width, show)
    if paper:
        whole(text, width, ["1.23%", "30.00%", "91.2%"])
        return
    whole(
        text, width, ["[0.500, 0.700]", "[0.12, 12.34] %", "(unresolved)", "[90.0, 92.0]", "123.4", "3.2 times", *FLAGS]
    )
    assert all(text.split("masked:")[0].count(flag) >= 2 for flag in FLAGS)
    assert "12,345" in text
    assert "67,890" in text


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


def test_what_is_narrower_than_a_column_is_left_whole():
    text = shown(20, lambda console: terminal.show_results(console, Results((audited(),), "0")))
    assert "[0.500, 0.700]" in text
    assert "…" not in text


def test_a_table_is_changed_as_little_as_its_width_asks_for():
    columns = [Column("attack", "name"), Column("AUC"), Column("flags", "flags")]
    rows = [["modified-entropy-per-class", "0.658 [0.617, 0.697]", "unresolved tied"]]
    widths = {}
    for width in range(120, 0, -1):
        grids = fitted(columns, rows, width)
        assert all(g.width() <= width or len(g.heads) == 2 for g in grids)
        widths.setdefault(tuple("|".join(g.rows[0]).replace("\n", "/") for g in grids), width)
    assert list(widths) == [
        ("modified-entropy-per-class|0.658 [0.617, 0.697]|unresolved tied",),
        ("modified-entropy-per-class|0.658 [0.617, 0.697]|unresolved/tied",),
        ("modified-entropy-per-/class|0.658 [0.617, 0.697]|unresolved/tied",),
        ("modified-entropy-per-class|0.658/[0.617, 0.697]|unresolved/tied",),
        ("modified-entropy-per-/class|0.658/[0.617, 0.697]|unresolved/tied",),
        ("modified-entropy-/per-class|0.658/[0.617, 0.697]|unresolved/tied",),
        ("modified-/entropy-per-/class|0.658/[0.617, 0.697]|unresolved/tied",),
        ("modified-/entropy-per-/class|0.658/[0.617, 0.697]", "modified-/entropy-per-/class|unresolved/tied"),
    ]


def test_a_pipe_has_no_width(monkeypatch):
    monkeypatch.setattr("sys.stdout", io.StringIO())
    assert terminal_table.stdout_console().width == UNBOUNDED
