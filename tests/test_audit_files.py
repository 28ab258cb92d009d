"""What an audit writes and what it leaves alone; where its numbers come from; limits that its numbers cannot decide."""

import copy
import csv
import hashlib
import json
import warnings

import numpy as np
import pytest

import hampkit
from hampkit.cli.app import guarded
from hampkit.errors import Notice, UserError
from hampkit.judging.policy import Limit, judged
from hampkit.judging.results.attacks import exposure_of
from hampkit.judging.results.tail import tail_line
from hampkit.judging.results.wording import at_least
from hampkit.report.annex import bounds_line, exposure_line
from hampkit.stats.bounds import one_run_epsilon

ROWS = 400
WORDS = ["--label", "y", "--member", "in", "--attacks", "loss"]


@pytest.fixture(scope="module")
def arrays():
    """Coins decide on the records of a model that leaks."""
    rng = np.random.default_rng(0)
    y, member = rng.integers(0, 2, ROWS), rng.random(ROWS) < 0.5
    margin = rng.normal(size=ROWS) + 2 * member
    return {"logits": np.stack([np.zeros(ROWS), np.where(y == 1, margin, -margin)], axis=1), "y": y, "member": member}


@pytest.fixture
def table(arrays, tmp_path, monkeypatch):
    """predictions.csv in the current folder."""
    monkeypatch.chdir(tmp_path)
    rows = zip(arrays["y"], arrays["member"].astype(int), *arrays["logits"].T, strict=True)
    text = "\n".join(["y,in,p_0,p_1", *(",".join(f"{v:.6g}" for v in row) for row in rows)]) + "\n"
    path = tmp_path / "predictions.csv"
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def with_shadows(arrays):
    """Six shadow models, of which three were trained on each record."""
    rng = np.random.default_rng(1)
    half = rng.random((3, ROWS)) < 0.5
    members = np.concatenate([half, ~half])
    logits = arrays["logits"] + rng.normal(size=(6, ROWS, 1)) * [0, 1] + members[..., None] * [0, 1]
    return {**arrays, "shadow_logits": logits, "shadow_members": members}


def test_a_file_that_is_read_is_never_written(table, arrays, capsys):
    """Neither the page nor the table takes the place of an input; nothing is trained or written before that is found."""
    for name in ("results.csv", "records.csv"):
        table.with_name(name).write_bytes(table.read_bytes())
        before = sorted(p.name for p in table.parent.iterdir())
        assert guarded(["audit", name, *WORDS, "--out", "."]) == 2
        assert f"{name} is an input" in capsys.readouterr().err
        assert sorted(p.name for p in table.parent.iterdir()) == before
    run = ["--data", "results.csv", "--label", "y", "epochs=1"]
    for words in (["run", "undefended", *run], ["compare", *run, "--defenses", "undefended"]):
        assert guarded([*words, "--out", ".", "--quiet"]) == 2
        assert "results.csv is an input" in capsys.readouterr().err
    assert table.with_name("results.csv").read_bytes() == table.read_bytes()


def test_files_of_the_user_in_the_folder_stay(table, with_shadows, capsys):
    """Only files that SHA256SUMS lists are replaced or removed, with a warning; the user's own records.csv is none of them."""
    out = table.parent / "out"
    out.mkdir()
    (out / "records.csv").write_text("mine")
    assert guarded(["audit", str(table), *WORDS, "--out", "out"]) == 2
    assert "records.csv is not of an audit" in capsys.readouterr().err
    assert (out / "records.csv").read_text() == "mine"
    (out / "records.csv").rename(out / "mine.csv")
    assert guarded(["audit", str(table), *WORDS, "--out", "out"]) == 0
    assert "of an earlier command" not in capsys.readouterr().out
    hampkit.audit(**with_shadows, attacks=["loss"], out=out)
    assert (out / "mine.csv").read_text() == "mine"
    assert guarded(["audit", str(table), *WORDS, "--out", "out"]) == 0
    shown = capsys.readouterr()
    assert "records.csv of an earlier audit is removed" in shown.err
    assert "in place of the page of an earlier command" in shown.out
    assert not (out / "records.csv").exists()
    assert guarded(["audit", str(table), *WORDS, "--out", "out"]) == 0
    assert "of an earlier command" not in capsys.readouterr().out, "the same results"


def test_outcomes_are_written_into_xml_files_only(table, capsys):
    assert guarded(["audit", str(table), *WORDS, "--fail-if", "auc>0.9", "--junit", str(table)]) == 2
    assert "write --junit predictions.xml" in capsys.readouterr().err
    assert table.read_text().startswith("y,in")


def test_a_failed_audit_leaves_no_folder(table):
    assert guarded(["audit", str(table), "--label", "nothere", "--member", "in", "--out", "new"]) == 2
    assert not (table.parent / "new").exists()


def test_the_page_names_the_file_its_hash_and_the_columns(table):
    words = [*WORDS, "--by", "y2", "decimal=.", "drop=p_2"]
    lines = table.read_text().splitlines()
    table.write_text("\n".join([f"{lines[0]},p_2,y2", *(f"{line},0,a" for line in lines[1:])]) + "\n")
    assert guarded(["audit", str(table), *words, "--out", "out"]) == 0
    digest = hashlib.sha256(table.read_bytes()).hexdigest()
    document = json.loads((table.parent / "out/results.json").read_text())
    source = document["models"][0]["audit"]["source"]
    assert source["files"]["predictions"] == {"name": table.name, "bytes": table.stat().st_size, "sha256": digest}
    assert source["columns"] == {"--label": "y", "--member": "in", "--by": "y2"}
    assert source["options"] == {"data.drop": ["p_2"]}
    for name in ("report.html", "report.md"):
        text = (table.parent / "out" / name).read_text()
        assert digest in text
        assert "--member in" in text


def test_records_csv_has_the_persons(with_shadows, tmp_path):
    persons = [f"person-{k // 2}" for k in range(ROWS)]
    member = np.repeat(with_shadows["member"][::2], 2)
    half = np.repeat(with_shadows["shadow_members"][:3, ::2], 2, axis=1)
    given = {**with_shadows, "member": member, "shadow_members": np.concatenate([half, ~half])}
    hampkit.audit(**given, group=persons, id=[f"r{k}" for k in range(ROWS)], attacks=["loss"], out=tmp_path)
    rows = list(csv.DictReader((tmp_path / "records.csv").open()))
    assert len(rows) == ROWS // 2
    assert all(row["person"] == f"person-{int(row['record'][1:]) // 2}" for row in rows)
    assert f"{rows[0]['person']} (record {rows[0]['record']})" in (tmp_path / "report.html").read_text()


def status(results, **limit):
    (outcome,) = judged([Limit(**limit)], results)
    return outcome.status


def test_too_few_shadow_models_decide_no_limit(with_shadows):
    """Six models show a record only if all are exposed: p is 1/20 at least. The reports state it."""
    found = hampkit.audit(**with_shadows, attacks=["loss"]).to_json()
    assert found["models"][0]["audit"]["exposure"]["models"] == 6
    found["models"][0]["audit"]["exposure"]["exposed"] = 0
    for models, least, wanted, words in (
        (4, 1 / 6, "unresolved", "4 shadow models cannot show that a record is exposed"),
        (6, 1 / 20, "unresolved", "6 shadow models show exposed records only if 100% of all are exposed"),
        (8, 1 / 70, "unresolved", "8 shadow models show exposed records only if 29% of all are exposed"),
        (16, 1 / 12_870, "passed", "which is no proof that none is"),
    ):
        made = copy.deepcopy(found)
        made["models"][0]["audit"]["exposure"] |= {"models": models, "least_p": least}
        assert status(made, what="records_exposed", at_most=0) == wanted
        assert words in exposure_line(exposure_of(made["models"][0]))


def test_limits_on_flagged_numbers_are_unresolved(arrays):
    found = hampkit.audit(**arrays, membership="coin", attacks=["loss"]).to_json()
    assert status(found, what="auc.low", at_most=0.99) == "passed"
    for flag in ("shifted", "constant", "untrained", "null"):
        flagged = copy.deepcopy(found)
        flagged["models"][0]["attacks"][0]["flags"].append(flag)
        for what, most in (("auc.low", 0.99), ("tpr_at_fpr.0.1.high", 1.0), ("epsilon.low", 3.0)):
            assert status(flagged, what=what, at_most=most) == "unresolved", (flag, what)
        assert status(flagged, what="auc.low", at_most=0.55) == "failed"
        assert status(flagged, what="accuracy.test", at_least=0.1) == "passed"


def test_an_epsilon_that_the_records_cannot_show_is_no_limit(arrays):
    """400 coins show an epsilon of at most that of 200 right guesses of 200, one of seven at their level."""
    found = hampkit.audit(**arrays, membership="coin", attacks=["loss"], claimed_epsilon=8.0)
    bounds = found.models[0].audit["bounds"]
    best = max(one_run_epsilon(ROWS, k, k, 1e-5, 1 - 0.05 / 7) for k in (4, 8, 20, 40, 80, 120, 200))
    assert bounds["most"]["epsilon"] == pytest.approx(best)
    document = found.to_json()
    assert status(document, what="epsilon.low", at_most=8) == "unresolved"
    assert status(document, what="epsilon.low", at_most=best * 0.99) == "passed"
    assert f"could show {at_least(best)} at most" in bounds_line(document["models"][0]["audit"])


def test_a_claim_is_refuted_in_words(arrays):
    member = arrays["member"]
    told = {**arrays, "logits": np.where(member[:, None], 20.0, -20.0) * (np.eye(2)[arrays["y"]] - 0.5)}
    found = hampkit.audit(**told, membership="coin", attacks=["loss"], claimed_epsilon=0.5).to_json()
    assert "The claimed epsilon of 0.5 is refuted at delta 1e-05" in bounds_line(found["models"][0]["audit"])


def test_numbers_that_no_coins_give_have_no_bounds(arrays, tmp_path, capsys):
    many = {name: np.concatenate([values, values[arrays["member"]]]) for name, values in arrays.items()}
    (model,) = hampkit.audit(**many, membership="coin", attacks=["loss"]).models
    assert "which fair coins give with a probability below 1e-6" in model.audit["bounds"]["reason"]
    path = tmp_path / "scores.csv"
    path.write_text("score,in\n" + "".join(f"{k},{int(k % 10 > 0)}\n" for k in range(200)))
    assert guarded(["bound", str(path), "--included", "in"]) == 2
    assert "180 of 200 records are members" in capsys.readouterr().err


MISTAKES = {
    "one column": (["--score", "in"], "name one column, 'in'"),
    "delta": (["--delta", "1.5"], "--delta 1.5 must be"),
    "level": (["--level", "2"], "--level 2 must lie"),
    "seed": (["--seed", "-1"], "--seed -1 must be"),
}


@pytest.mark.parametrize("case", MISTAKES, ids=str)
def test_bound_names_the_option(tmp_path, capsys, case):
    path = tmp_path / "scores.csv"
    path.write_text("score,in\n" + "".join(f"{k},{k % 2}\n" for k in range(200)))
    words, message = MISTAKES[case]
    assert guarded(["bound", str(path), "--included", "in", *words]) == 2
    assert message in capsys.readouterr().err


def test_a_tail_below_guessing_is_said_to_be_below():
    point = {"fnr": 0.01, "value": 0.0, "outer_low": 0.0, "outer_high": 0.005, "resolved": True}
    attack = {"attack": "loss", "unit": "target", "options": {}, "tnr_at_fnr": [point]}
    assert "The interval lies below 1%" in tail_line({"attacks": [attack]})


def test_limits_that_no_audit_decides_are_refused_at_once():
    for what, message in (("tpr_at_fpr.0.02.high", "0.001, 0.01, 0.1 only"), ("records_exposed", "at least 0")):
        with pytest.raises(UserError, match=message):
            Limit(what, at_most=-1 if what == "records_exposed" else 0.5)
    with pytest.raises(UserError, match="attack=loss has no effect on a limit on accuracy"):
        Limit("accuracy.test", attack="loss", at_least=0.5)


def test_training_for_an_audit_is_named(tmp_path):
    """The caveat that the audited model is another one, membership as measured, and the advice to add shadow models."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(ROWS, 3)), rng.integers(0, 2, ROWS)

    def fit(x, y, seed):
        return lambda rows: np.full((len(rows), 2), 0.5) + rng.normal(size=(len(rows), 1)) * [1e-3, -1e-3]

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = hampkit.audit(train=fit, data=(x, y), group=np.arange(ROWS) // 2, attacks=["loss"], out=tmp_path)
    assert any("add --shadows 16" in str(w.message) for w in said if issubclass(w.category, Notice))
    assert any(caveat["flag"] == "trained-for-audit" for caveat in found.caveats)
    assert "records of one person share theirs" in found.models[0].audit["bounds"]["reason"]
    page = (tmp_path / "report.html").read_text()
    assert "hampkit drew a fair coin for each person" in page
    assert "labels and persons: as given" in page
