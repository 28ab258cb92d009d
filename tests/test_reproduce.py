"""The critique of published evaluations: which number stands where, the files, and what is refused."""

from __future__ import annotations

import json

import pytest
from tests.test_pages import repeated_ids

from hampkit.report.critique import VIEWS, critique_rows
from hampkit.report.critique_page import critique_chart


def attack(name, low, tier="probabilities", queries=1, few=False):
    point = {"fpr": 0.001, "value": low + 0.01, "outer_low": low, "outer_high": low + 0.02, "tp": 3, "resolved": True}
    point |= {"reason": "80 non-members, 5,000 needed"} if few else {}
    auc = {"value": 0.6, "low": 0.55, "high": 0.65}
    numbers = {"members": 80, "nonmembers": 80, "tpr_at_fpr": [point], "tnr_at_fnr": [], "auc": auc, "targets": 4}
    return {"attack": name, "unit": "leave-one-out", "tier": tier, "queries": queries, "flags": [], **numbers}


def document(*attacks, canaries=False):
    found = {"canaries": {"count": 40, "kind": "blank", "included": 20, "sha256": "0" * 64, "bounds": {"reason": "x"}}}
    return {"recipe": "toy/hamp", "attacks": list(attacks), **(found if canaries else {})}


def comparison(count=""):
    leak = {"attack": "rank", "auc": {"value": 0.9, "low": 0.8, "high": 0.95}}
    canaries = {"test": {"value": 0.5}, "leak": leak, "about": [document(canaries=True)["canaries"]]}
    highest = {"tpr": ("loss", 0.02, True, count)}
    entry = {"defense": "hamp", "accuracy": {"test": 0.6}, "canaries": canaries, "highest": highest, "summary": ""}
    return {"data": "toy", "shadows": 4, "entries": [entry], "left_out": {}}


def test_each_view_has_the_strongest_of_its_attacks():
    clean = document(
        attack("loss-like", 0.01), attack("rank", 0.05, "ranks", 32), attack("stripped-lira", 0.09, "weights")
    )
    canary = document(attack("loss-like", 0.2), attack("rank", 0.1, "ranks", 32), canaries=True)
    (row,) = critique_rows(comparison(), {"models": [clean, canary], "hampkit": "0"})
    assert row.defense == "hamp"
    assert row.cells[3] == "2.0% (loss)"
    assert row.cells[4].endswith("(loss-like)"), "one question, on what the release returns"
    assert row.cells[5].endswith("(stripped-lira)")
    assert row.cells[6].endswith("(loss-like)")
    assert [round(row.rates[view]["low"], 2) for view in VIEWS] == [0.01, 0.09, 0.2]


def test_a_rate_of_too_few_examples_is_a_count_and_has_no_mark():
    clean, canary = document(attack("a", 0.1, few=True)), document(attack("a", 0.1), canaries=True)
    (row,) = critique_rows(comparison("4 of 144"), {"models": [clean, canary], "hampkit": "0"})
    assert row.cells[3] == "4 of 144 (loss)"
    assert row.cells[4].startswith("3 of 80 (few)")
    assert set(row.rates) == {"canaries"}
    marks = critique_chart([row])["views"]["tpr"]["data"]
    assert [len(each["x"]) for each in marks] == [0, 0, 1]


@pytest.mark.slow
def test_the_command_writes_a_table_and_a_page(cli, tmp_path):
    words = ["rows=700", "features=24", "classes=4", "flip=0.35", "epochs=4", "net=mlp-small", "neural.epochs=1"]
    ask = ["--defenses", "undefended,hamp", "--shadows", "4", "--canaries", "40", "--workers", "1", "--runs-dir", "r"]
    code, out, err = cli("reproduce", "critique", "toy", *words, *ask)
    assert code == 0, err
    rows = json.loads((tmp_path / "r" / "critique.json").read_text())["rows"]
    assert [row["cells"][0] for row in rows][:2] == ["undefended", "hamp"]
    assert rows[2]["cells"][0].startswith(("dp-sgd (as accurate as ", "dp-sgd (nearest to "))
    page, text = ((tmp_path / "r" / f"critique.{kind}").read_text() for kind in ("html", "md"))
    assert not repeated_ids(page)
    assert "hampkit reproduce critique toy --defenses undefended,hamp --shadows 4 --canaries 40 rows=700" in text
    for form in (page, text, out):
        assert "knows the defense" in form
    assert '"critique"' in page


def test_what_it_needs_is_refused_in_a_line(cli):
    for words, message in (
        (["toy", "--shadows", "0"], "needs shadow models and canaries"),
        (["toy", "digits"], "takes one data set, and 'digits' is another"),
        (["toyy"], "toyy"),
        (["toy", "--canaries", "3", "--shadows", "4"], "canaries.count=3 must lie between"),
    ):
        code, _, err = cli("reproduce", "critique", *words)
        assert code == 2, err
        assert message in err
        assert err.count("\n") == 1
