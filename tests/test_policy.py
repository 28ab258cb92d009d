"""Release policies: which numbers a limit is on, what cannot be decided, the short form, JUnit XML and the exit code."""

import json
from xml.etree import ElementTree

import numpy as np
import pytest

import hampkit
from hampkit.cli.app import guarded
from hampkit.errors import UserError
from hampkit.judging.policy import Limit, judged, limit_of, read_policy
from hampkit.report.junit import render_junit
from hampkit.workflows.gate import Gate

ROWS = 600


@pytest.fixture(scope="module")
def arrays():
    """A model that leaks: the probability of the true label is higher for members."""
    rng = np.random.default_rng(0)
    y, member = rng.integers(0, 2, ROWS), np.arange(ROWS) % 2 == 0
    margin = rng.normal(size=ROWS) + 2 * member
    return {"logits": np.stack([np.zeros(ROWS), np.where(y == 1, margin, -margin)], axis=1), "y": y, "member": member}


@pytest.fixture(scope="module")
def results(arrays, tmp_path_factory):
    return hampkit.audit(**arrays, attacks=("loss",), out=tmp_path_factory.mktemp("audit")).to_json()


def status(results, **limit):
    (outcome,) = judged([Limit(**limit)], results)
    return outcome.status


def test_limits_are_on_the_numbers_of_the_results(results):
    attack = results["models"][0]["attacks"][0]
    auc = attack["auc_corrected"]
    for end in ("low", "value", "high"):
        assert status(results, what=f"auc.{end}", at_most=auc[end]) == "passed"
        assert status(results, what=f"auc.{end}", at_most=auc[end] - 1e-9) == "failed"
        assert status(results, what=f"auc.{end}", at_least=auc[end]) == "passed"
        assert status(results, what=f"auc.{end}", at_least=auc[end] + 1e-9) == "failed"
    accuracy = results["models"][0]["accuracy"]["test"]
    assert status(results, what="accuracy.test", at_least=accuracy) == "passed"
    assert status(results, what="accuracy.test", at_least=accuracy + 1e-9) == "failed"
    tpr = next(point for point in attack["tpr_at_fpr"] if point["fpr"] == 0.1)
    assert tpr["resolved"]
    assert status(results, what="tpr_at_fpr.0.1.high", at_most=tpr["outer_high"]) == "passed"
    assert status(results, what="tpr_at_fpr.0.1.high", at_most=tpr["outer_high"] - 1e-9) == "failed"


def test_an_attack_below_one_half_counts_turned_around(results):
    import copy

    turned = copy.deepcopy(results)
    for auc in (turned["models"][0]["attacks"][0][key] for key in ("auc", "auc_corrected")):
        auc.update(value=1 - auc["value"], low=1 - auc["high"], high=1 - auc["low"])
    assert status(turned, what="auc.low", at_most=0.6) == "failed"
    low = results["models"][0]["attacks"][0]["auc_corrected"]["low"]
    assert status(turned, what="auc.low", at_most=low + 1e-9) == "passed"


UNRESOLVED = {
    "few records": ({"what": "tpr_at_fpr.0.001.high", "at_most": 1.0}, "too few"),
    "no shadow models": ({"what": "records_exposed", "at_most": 0}, "no shadow models"),
    "no coins": ({"what": "epsilon.low", "at_most": 1}, "not randomised"),
    "no coins, by mu": ({"what": "epsilon_of_mu.low", "at_most": 1}, "not randomised"),
    "no such attack": ({"what": "auc.low", "attack": "entropy", "at_most": 0.6}, "entropy was not made"),
}


@pytest.mark.parametrize("case", UNRESOLVED, ids=str)
def test_what_cannot_be_decided_fails_unless_the_policy_accepts_it(results, case):
    limit, why = UNRESOLVED[case]
    for accepted in (False, True):
        (outcome,) = judged([Limit(**limit, if_unresolved="pass" if accepted else "fail")], results)
        assert outcome.status == "unresolved"
        assert why in outcome.text
        assert outcome.passed == accepted


def test_a_policy_is_read_from_toml(tmp_path):
    (tmp_path / "p.toml").write_text(
        '[[limit]]\nwhat = "auc.low"\nat_most = 0.6\n[[limit]]\nwhat = "accuracy.test"\nat_least = 1\n'
    )
    assert read_policy(tmp_path / "p.toml") == [Limit("auc.low", at_most=0.6), Limit("accuracy.test", at_least=1.0)]


BAD = {
    "empty": ("", "holds no limit"),
    "unknown table": ("[limits]\n", "unknown key 'limits'"),
    "unknown key": ('[[limit]]\nwhat = "auc.low"\nmost = 1\n', "unknown key 'most' in limit 1"),
    "unknown number": ('[[limit]]\nwhat = "auc.lower"\nat_most = 1\n', "did you mean 'auc.low'"),
    "no bound": ('[[limit]]\nwhat = "auc.low"\n', "one of at_most and at_least"),
    "two bounds": ('[[limit]]\nwhat = "auc.low"\nat_most = 1\nat_least = 0\n', "one of at_most and at_least"),
    "text bound": ('[[limit]]\nwhat = "auc.low"\nat_most = "x"\n', "at_most"),
    "unresolved": ('[[limit]]\nwhat = "auc.low"\nat_most = 1\nif_unresolved = "maybe"\n', "if_unresolved"),
    "per cent": ('[[limit]]\nwhat = "auc.low"\nat_most = 60\n', "share in"),
    "NaN": ('[[limit]]\nwhat = "epsilon.low"\nat_most = nan\n', "must be finite"),
    "not TOML": ("limit", "must be TOML"),
    "a value": ("limit = 1", "holds no limit"),
    "a table": ('[limit]\nwhat = "auc.low"', "holds no limit"),
}


@pytest.mark.parametrize("case", BAD, ids=str)
def test_a_policy_that_cannot_be_read_is_one_line(tmp_path, case):
    text, message = BAD[case]
    (tmp_path / "p.toml").write_text(text)
    with pytest.raises(UserError, match=message):
        read_policy(tmp_path / "p.toml")


def test_a_limit_on_an_attack_that_does_not_exist_is_a_mistake(tmp_path):
    text = '[[limit]]\nwhat = "auc.low"\nat_most = 1\nattack = "los"\nif_unresolved = "pass"\n'
    (tmp_path / "p.toml").write_text(text)
    with pytest.raises(UserError, match="did you mean 'loss'"):
        Gate.of(tmp_path / "p.toml")


@pytest.mark.parametrize(
    "text", ["", "auc.low", "auc.low>", ">0.6", "auc.low>x", "auc.low=0.6", "auc.low>=0.6", "a b>1"]
)
def test_a_short_form_that_cannot_be_read_is_one_line(text):
    with pytest.raises(UserError, match=r"--fail-if|no number of an audit"):
        limit_of(text)


def test_junit_counts_failures_and_what_was_accepted(results):
    limits = [
        Limit("auc.low", at_most=0.5),
        Limit("auc.low", at_most=1.0),
        Limit("records_exposed", at_most=0),
        Limit("records_exposed", at_most=0, if_unresolved="pass"),
    ]
    suites = ElementTree.fromstring(render_junit([outcome.to_json() for outcome in judged(limits, results)]))
    assert (suites.get("tests"), suites.get("failures"), suites.get("skipped")) == ("4", "2", "1")
    cases = suites.findall("testsuite/testcase")
    assert [[child.tag for child in case] for case in cases] == [["failure"], [], ["failure"], ["skipped"]]


def test_titles_with_control_characters_stay_xml(results):
    outcome = judged([Limit("auc.low", at_most=0.5)], results)[0].to_json() | {"model": "a\x1b<b>&\u202e"}
    assert ElementTree.fromstring(render_junit([outcome])).find("testsuite/testcase") is not None


@pytest.fixture
def file(arrays, tmp_path):
    np.savez(tmp_path / "p.npz", **arrays)
    return "p.npz"


@pytest.mark.parametrize(
    ("limit", "code"), [("auc.low>0.6", 3), ("auc.low>0.99", 0), ("auc.lower>0.6", 2), ("accuracy.test<1", 3)]
)
def test_the_exit_code_of_an_audit(file, tmp_path, capsys, limit, code):
    words = ["audit", file, "--attacks", "loss", "--fail-if", limit, "--out", "out", "--junit", "j.xml"]
    assert guarded(words) == code
    printed = capsys.readouterr()
    if code == 2:
        assert len(printed.err.splitlines()) == 1
        assert not (tmp_path / "out").exists()
        return
    assert ("policy failed" if code else "policy passed") in printed.out
    for name in ("j.xml", "out/junit.xml"):
        assert ElementTree.parse(tmp_path / name).getroot().get("failures") == ("1" if code else "0")
    assert "Policy" in (tmp_path / "out" / "report.html").read_text()


def test_limits_of_run_and_compare(tmp_path, capsys):
    quick = ("rows=300", "epochs=1", "neural.epochs=1", "--quiet")
    for words in (["run", "toy/undefended"], ["compare", "toy", "--defenses", "undefended"]):
        assert guarded([*words, *quick, "--fail-if", "auc.low>0.1"]) == 3
        assert guarded([*words, *quick, "--fail-if", "auc.low>0.999", "--junit", "j.xml"]) == 0
        assert guarded([*words, *quick, "--fail-if", "nothing>1"]) == 2
        assert guarded([*words, *quick, "--junit", "j.xml"]) == 2
        assert "--fail-if LIMIT" in capsys.readouterr().err


def test_reports_of_run_and_compare_state_what_became_of_the_limits(tmp_path):
    """In Python as on the command line: page, Markdown and JSON have the outcomes, and ``passed`` is the verdict."""
    options = {"rows": 300, "epochs": 1, "neural.epochs": 1}
    given = {"options": options, "fail_if": ["auc.low>0.999", "accuracy.test<0.999"], "runs_dir": tmp_path}
    found = hampkit.run("toy/undefended", "toy/round", **given)
    compared = hampkit.compare("toy", defenses=["undefended", "round"], out=tmp_path / "compared", **given)
    for result, folder in ((found, tmp_path), (compared, tmp_path / "compared")):
        assert not result.passed
        assert [each["status"] for each in result.policy] == ["passed"] * 2 + ["failed"] * 2
        assert json.loads((folder / "results.json").read_text())["policy"] == list(result.policy)
        page, text = (folder / "report.html").read_text(), (folder / "report.md").read_text()
        assert "Policy: failed" in page
        assert page.split("<script")[0].count("accuracy.test at least 0.999") == 2
        assert "- toy/round, accuracy.test at least 0.999: failed" in text
    assert hampkit.run("toy/undefended", **{**given, "fail_if": []}).passed
    assert 'id="policy"' not in (tmp_path / "report.html").read_text()
    with pytest.raises(UserError, match="nothing"):
        hampkit.compare("toy", **{**given, "fail_if": ["nothing>1"]})
