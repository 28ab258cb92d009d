"""What pages conclude: leave-one-out on the card, several models, one finding for each word, and where numbers come from."""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from tests.test_pages import comparison, details_with_records, page, results_with_verdict
from tests.test_report import example_results, example_texts, text_of
from tests.test_verdict import ABOVE, CHANCE, HEADLINES, attack, model, of_models, terminal

import hampkit
from hampkit.errors import Notice
from hampkit.judging.headlines import FINDINGS, WORDS
from hampkit.judging.pairs_of_models import MOST
from hampkit.judging.results import AttackResult, Difference, Results
from hampkit.judging.verdict import concluded
from hampkit.report import load_schema, render_comparison_html, render_csv, render_markdown, rows
from hampkit.report.comparison import render_comparison_csv, render_comparison_markdown
from hampkit.report.findings import findings
from hampkit.report.provenance import provenance
from hampkit.runs.store import read_json
from hampkit.stats.metrics import Interval
from hampkit.workflows.command import command_of_comparison
from hampkit.workflows.recipes import RecipeOptions

QUICK = {"rows": 400, "epochs": 2, "neural.epochs": 2}
WORDS_OF = {"attacks": {}, "defenses": {}, "flags": {}}
UNDECIDED = Interval(0.53, 0.49, 0.57)  # at the level that allows for the choice among the attacks


def repeated(auc=ABOVE, corrected=None, name="rmia"):
    return of_models(name, auc, attack().tpr_at_fpr, 8, 300, auc_corrected=corrected)


def verdict_of(*models, **more):
    return concluded(Results(models, "0", **more)).verdict


def named(name, *attacks, **more):
    return model(name, *attacks, data={"name": "toy", "sha256": "x"}, **more)


def test_what_leave_one_out_finds_is_on_the_card_where_the_attacks_on_the_target_find_nothing():
    results = concluded(Results((named("toy/a", attack(), repeated()),), "0"))
    document = results.to_json()
    (found,) = document["verdict"]["models"]
    assert (found["word"], found["finding"]) == ("Unclear", "unclear")
    assert (
        "in leave-one-out they distinguished training records of models that were trained in the same way"
        in found["sentence"]
    )
    assert found["leave_one_out"] == {"attack": "rmia", "targets": 8, "auc": {**vars(ABOVE), "turned": False}}
    shown = "Leave-one-out over 8 shadow models: AUC 0.700 [0.650, 0.746] (rmia)"
    assert [f.repeated for f in findings(document)] == [shown]
    markdown = render_markdown(document, WORDS_OF).replace("\\", "")
    assert shown in markdown
    said = "in leave-one-out membership can be inferred: over 8 shadow models, rmia has AUC 0.700 [0.650, 0.746]"
    assert said in markdown
    assert said in " ".join(terminal(named("toy/a", attack(), repeated()), **document["verdict"]).split())


def test_the_page_shows_what_leave_one_out_finds_on_the_card():
    results = results_with_verdict()
    assert "Leave-one-out over" not in text_of(page(results))
    auc = {"value": 0.61, "low": 0.58, "high": 0.64, "turned": False}
    results["verdict"]["models"][2]["leave_one_out"] = {"attack": "rmia", "targets": 16, "auc": auc}
    cards = re.findall(r'<article class="finding.*?</article>', page(results), re.DOTALL)
    assert "Leave-one-out over 16 shadow models: AUC 0.610 [0.580, 0.640] (rmia)" in text_of(cards[2])
    assert "Leave-one-out over" not in text_of(cards[0])


def test_leave_one_out_counts_by_the_interval_that_allows_for_the_choice_among_its_attacks():
    (found,) = verdict_of(model("toy/a", attack(), repeated(Interval(0.53, 0.51, 0.55), UNDECIDED)))["models"]
    assert found["word"] == "Nothing found"
    assert "leave_one_out" not in found
    assert "leave-one-out" not in found["text"]


def test_leave_one_out_does_not_change_what_was_found_on_the_target():
    (found,) = verdict_of(model("toy/a", attack(auc=ABOVE), repeated()))["models"]
    assert found["word"] == "Leak found"
    assert found["leave_one_out"]["attack"] == "rmia"
    (null,) = verdict_of(model("toy/a", attack(), repeated(), off_null=True))["models"]
    assert null["word"] == "Not valid"


def test_leave_one_out_below_one_half_is_turned_around():
    (found,) = verdict_of(model("toy/a", attack(), repeated(Interval(0.3, 0.25, 0.35))))["models"]
    assert found["leave_one_out"]["auc"] == {"value": 0.7, "low": 0.65, "high": 0.75, "turned": True}
    assert "rmia, turned around, has AUC 0.700" in found["text"]


@pytest.mark.parametrize(("attacks", "more", "word"), HEADLINES)
def test_scripts_and_readers_get_one_finding(attacks, more, word):
    (found,) = verdict_of(model("toy/a", *attacks, **more))["models"]
    assert found["finding"] == FINDINGS[word]
    assert set(FINDINGS) == set(WORDS)
    models = load_schema()["properties"]["verdict"]["properties"]["models"]
    assert models["items"]["properties"]["finding"]["enum"] == list(FINDINGS.values())


def test_the_finding_of_the_docs_is_that_of_the_code():
    text = (Path(__file__).parent.parent / "docs" / "reading.md").read_text(encoding="utf-8")
    assert all(f"| {word} | `{finding}` |" in text for word, finding in FINDINGS.items())


def difference(models, value, low, high, attacks=("loss", "loss")):
    return Difference(value, low, high, attacks, models=models)


def three(**flags):
    """An undefended model that leaks and two others; flags by the name of the model."""
    aucs = {"undefended": ABOVE, "hamp": CHANCE, "top1": CHANCE}
    return [named(f"toy/{name}", attack(auc=auc, flags=flags.get(name, ()))) for name, auc in aucs.items()]


APART = (difference((0, 1), 0.18, 0.1, 0.26), difference((0, 2), 0.18, 0.09, 0.27), difference((1, 2), 0.0, -0.1, 0.1))


def test_of_three_models_the_pairs_that_are_shown_to_differ_are_named_and_words_do_not_rank():
    verdict = verdict_of(*three(), differences=APART)
    said = verdict["comparison"]
    assert said.startswith("3 pairs of models were judged on the same records. Shown under these attacks")
    assert "toy/hamp leaks less than toy/undefended (0.180 [0.100, 0.260])" in said
    assert "toy/top1 leaks less than toy/undefended (0.180 [0.090, 0.270])" in said
    assert (
        "In no other pair is one of the two shown to leak less. The words of the verdict do not rank the models" in said
    )
    pair = {"leaks_more": "toy/undefended"}
    assert verdict["pairs"] == [{"leaks_less": "toy/hamp", **pair}, {"leaks_less": "toy/top1", **pair}]
    assert verdict["leaks_less"] == ""
    assert said in verdict["text"]


def test_of_three_models_none_is_ranked_where_no_pair_differs():
    same = tuple(difference(d.models, 0.01, -0.1, 0.1) for d in APART)
    verdict = verdict_of(*three(), differences=same)
    assert (
        "In no pair is one of the two shown to leak less. The words of the verdict do not rank" in verdict["comparison"]
    )
    assert "leaks less than" not in verdict["comparison"]
    assert verdict["pairs"] == []


@pytest.mark.parametrize("flag", ["untrained", "constant", "null"])
def test_a_model_of_three_whose_numbers_mean_little_is_in_no_pair(flag):
    verdict = verdict_of(*three(hamp=(flag,)), differences=APART)
    assert [p["leaks_less"] for p in verdict["pairs"]] == ["toy/top1"]
    assert verdict["comparison"].startswith("1 pair of models was judged on the same records")
    assert f"Not compared: toy/hamp ({flag})" in verdict["comparison"]


def test_the_corrected_interval_decides_and_pairs_with_the_undefended_model_come_first():
    models = [
        named("toy/hamp", attack(auc=ABOVE)),
        named("toy/undefended", attack(auc=ABOVE)),
        named("toy/top1", attack()),
    ]
    wide = replace(difference((0, 1), 0.18, 0.1, 0.26), corrected=Interval(0.18, -0.01, 0.3))
    found = verdict_of(*models, differences=(wide, *APART[1:2], difference((1, 2), 0.18, 0.1, 0.26)))
    assert found["pairs"] == [
        {"leaks_less": "toy/top1", "leaks_more": "toy/undefended"},
        {"leaks_less": "toy/top1", "leaks_more": "toy/hamp"},
    ]


def test_of_many_pairs_a_few_are_named_and_all_are_data():
    models = [named(f"toy/{name}", attack(auc=ABOVE if name == "undefended" else CHANCE)) for name in
              ["undefended", *(f"d{i}" for i in range(9))]]  # fmt: skip
    verdict = verdict_of(*models, differences=tuple(difference((0, i), 0.18, 0.1, 0.26) for i in range(1, 10)))
    assert len(verdict["pairs"]) == 9
    assert verdict["comparison"].count("leaks less than") == MOST
    assert f"and {9 - MOST} more, see verdict.pairs in results.json" in verdict["comparison"]


def test_models_that_cannot_be_paired_are_not_ranked_either():
    apart = verdict_of(*three())["comparison"]
    assert "not compared, as they were not judged on the same records. The words of the verdict do not rank" in apart
    seeds = [replace(m, seeds=(0, 1), runs=("a", "b")) for m in three()]
    assert "means over seeds have no paired interval" in verdict_of(*seeds)["comparison"]
    assert verdict_of(three()[0])["comparison"] == ""


@pytest.fixture(scope="module")
def audited(tmp_path_factory, _own_cache):
    """Three models, the first attacks with shadow models: (results, the folder of runs)."""
    folder = tmp_path_factory.mktemp("audited")
    names, attacks = ["toy/undefended", "toy/round", "toy/top1"], ["loss", "correctness", "attack-r", "rmia"]
    return hampkit.run(*names, options=QUICK, shadows=4, workers=1, attacks=attacks, runs_dir=folder), folder


def test_a_report_of_three_models_has_all_differences_and_fits_the_schema(audited):
    results, folder = audited
    document = read_json(folder / "results.json")
    Draft202012Validator(load_schema()).validate(document)
    assert [d["models"] for d in document["differences"]] == [[0, 1], [0, 2], [1, 2]]
    assert document["difference"] is None
    distinct = [m.distinct() for m in results.models]
    assert [d["tried"] for d in document["differences"]] == [
        3 * max(distinct[i], distinct[j]) for i, j in ((0, 1), (0, 2), (1, 2))
    ]
    for d in document["differences"]:
        assert d["corrected"]["low"] <= d["low"] <= d["value"] <= d["high"] <= d["corrected"]["high"]
    assert "do not rank" in text_of((folder / "report.html").read_text(encoding="utf-8"))


def test_leave_one_out_has_the_interval_for_the_best_of_its_attacks(audited):
    results, _ = audited
    for found in (a for m in results.models for a in m.of("leave-one-out")):
        assert found.auc_corrected is not None
        assert found.auc_corrected.value == pytest.approx(found.auc.value)
        assert found.auc_corrected.low < found.auc.low < found.auc.high < found.auc_corrected.high
        assert AttackResult.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_records_that_are_removed_are_named(tmp_path):
    kept = hampkit.run("toy/undefended", options=QUICK, shadows=4, workers=1, attacks=["attack-r"], runs_dir=tmp_path)
    records = tmp_path / kept.models[0].run / "records.csv"
    with pytest.warns(Notice, match=r"records\.csv is removed"):
        hampkit.run("toy/undefended", options=QUICK, attacks=["loss"], runs_dir=tmp_path)
    assert not records.exists()
    with warnings.catch_warnings():
        warnings.simplefilter("error", Notice)
        hampkit.run("toy/undefended", options=QUICK, attacks=["correctness"], runs_dir=tmp_path)


def test_a_report_names_the_attacks_of_earlier_commands(tmp_path):
    first = hampkit.run("toy/undefended", options=QUICK, attacks=["loss", "entropy"], runs_dir=tmp_path)
    folder = tmp_path / first.models[0].run
    only = hampkit.attack(folder, "correctness")
    assert [a.attack for a in only.models[0].attacks] == ["correctness"]
    assert only.models[0].earlier == ()
    out = tmp_path / "report"
    again = hampkit.write_report(folder, out=out)
    assert set(again.models[0].earlier) == {"loss", "entropy"}
    line = f"rom an earlier command on this run: {', '.join(again.models[0].earlier)}; they count among the attacks"
    for name in ("report.html", "report.md"):
        assert line in text_of((out / name).read_text(encoding="utf-8"))
    assert line in " ".join(terminal(*again.models, **again.verdict).split())
    assert "earlier command" not in (folder / "report.md").read_text(encoding="utf-8")


def test_a_page_that_takes_the_place_of_another_is_named(cli, audited, tmp_path):
    results, runs = audited
    file = tmp_path / "report.html"

    def last(model):
        code, out, err = cli("report", runs / model.run, "--out", tmp_path)
        assert code == 0, err
        return out.splitlines()[-1]

    assert last(results.models[0]) == f"report: {file}"
    assert last(results.models[0]) == f"report: {file}"  # the same page again
    replaced = last(results.models[1])
    assert replaced.startswith(f"report: {file} (in place of the page of an earlier command")
    assert "--out" in replaced


def test_a_comparison_has_a_command_that_makes_it_again(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = {
        "rows": 400,
        "train.epochs": 2,
        "neural.epochs": 2,
        "milestones": [1],
        "train.schedule": "steps",
    }
    hampkit.compare("toy", defenses=["undefended"], options=options, runs_dir=tmp_path / "runs", seed=3)
    first = read_json(tmp_path / "runs" / "compare.json")
    words = shlex.split(first["command"])
    assert words[:3] == ["hampkit", "compare", "toy"]
    code, out, err = cli(*words[1:], "--runs-dir", tmp_path / "runs", "--out", tmp_path / "again")
    assert code == 0, err
    assert out.splitlines()[-1] == f"page: {tmp_path / 'again' / 'compare.html'}"
    again = read_json(tmp_path / "again" / "compare.json")
    assert again["command"] == first["command"]
    assert [e["runs"] for e in again["entries"]] == [e["runs"] for e in first["entries"]]
    assert "replaced" not in first
    assert all(len(e["weights"]) == len(e["started"]) == len(e["runs"]) for e in first["entries"])
    html, markdown = ((tmp_path / "runs" / f"compare.{kind}").read_text(encoding="utf-8") for kind in ("html", "md"))
    facts = [
        first["data_sha256"],
        first["entries"][0]["started"][0][:10],
        *(w for e in first["entries"] for w in e["weights"]),
    ]
    for text in (text_of(html), markdown):
        assert first["command"] in text
        assert all(fact in text for fact in facts)
    assert f"hampkit {first['hampkit']} · {facts[1]}" in text_of(html)


def test_a_command_of_a_comparison_names_the_table_and_no_folder():
    given = RecipeOptions({"data.group": "the person", "drop": ["id", "a, b"]}, 7, "/home/me/people.csv", "the risk")
    command = command_of_comparison("digits", [], given, {"seeds": 2, "seed": 7, "shadows": None})
    assert shlex.split(command) == ["hampkit", "compare", "--data", "people.csv", "--label", "the risk",
                                    "data.group=the person", 'drop=[id, "a, b"]', "--seeds", "2", "--seed", "7"]  # fmt: skip


def test_the_comparison_states_why_a_run_has_other_numbers():
    said = "give other numbers for the same run folders: there every attack is judged on all candidates"
    assert said in text_of(render_comparison_html(comparison()))
    assert said in render_comparison_markdown(comparison())
    docs = (Path(__file__).parent.parent / "docs" / "comparing.md").read_text(encoding="utf-8")
    assert "give other numbers for the same run folders" in " ".join(docs.split())


def test_a_verdict_of_one_seed_gives_the_mean_that_the_chart_shows():
    mean, one = Interval(0.6, 0.4, 0.8), Interval(0.7, 0.62, 0.78)
    seeds = {"unit": "seeds", "targets": 2, "auc_corrected": mean, "auc_by_seed": (Interval(0.5, 0.4, 0.6), one)}
    found = replace(attack(auc=mean), **seeds)
    several = named("toy/a", found, seeds=(3, 4), runs=("a", "b"), intervals={"train": mean, "test": mean})
    document = concluded(Results((several,), "0")).to_json()
    (card,) = findings(document)
    assert card.number == "AUC 0.700 [0.620, 0.780]"
    assert card.attack == "loss, with seed 4 (mean of 2 seeds: 0.600 [0.400, 0.800])"
    assert "the answers of at least one of these models" in card.sentence
    both = concluded(Results((replace(several, attacks=(replace(found, auc_by_seed=()),)),), "0")).to_json()
    assert findings(both)[0].attack == "loss"


def test_the_caption_of_the_chart_names_the_mean_over_seeds():
    results = results_with_verdict()
    assert "Over several seeds both are means" not in text_of(page(results))
    results["models"][0]["seeds"] = [0, 1]
    assert "Over several seeds both are means" in text_of(page(results))


def test_provenance_has_no_value_of_python():
    detail = details_with_records(results_with_verdict())[0]
    detail["provenance"]["recipe"] = {
        "defense": {"grid": None, "modify": True}, "train": {"milestones": [60, 90], "lr": 5e-5},
        "data": {"drop": ["id", "a, b"]}, "split": {"layout": ""},
    }  # fmt: skip
    assert provenance(results_with_verdict()["models"][0], detail)["Recipe"] == {
        "defense.grid": "none", "defense.modify": "true", "train.milestones": "[60, 90]", "train.lr": "5e-05",
        "data.drop": '[id, "a, b"]', "split.layout": '""',
    }  # fmt: skip


def test_markdown_has_commands_and_hashes():
    results = results_with_verdict()
    text = render_markdown(results, example_texts()).split("## Provenance")[1]
    for each in results["models"]:
        assert f"command: `{each['commands'][0]}`" in text
        assert each["weights"][0] in text
        assert each["data"]["sha256"] in text
        assert each["run"] in text


def test_a_cell_of_a_csv_file_has_no_hidden_characters():
    hidden = "a\x1b[31mb\u202ec"
    results, document = example_results(), comparison()
    results["models"][0]["recipe"] = results["models"][0]["data"]["name"] = hidden
    document["entries"][0]["defense"] = hidden
    for text, column in ((render_csv(results), "recipe"), (render_comparison_csv(document), "defense")):
        assert not any(c in text for c in "\x1b\u202e")
        assert next(csv.DictReader(io.StringIO(text)))[column] == "a\\x1b[31mb\\u202ec"


def test_an_attack_is_named_with_what_its_variance_is():
    row = replace(repeated(name="lira-online"), variance="pooled")
    document = concluded(Results((named("toy/a", attack(), row),), "0")).to_json()
    label = "lira-online (pooled variance)"
    assert [r.label for r in rows.blocks(document)[0].of("leave-one-out")] == [label]
    assert label in render_markdown(document, WORDS_OF)
