"""One recipe with several seeds: one entry of a report, whose numbers are of all its models."""

import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest

import hampkit
from hampkit.judging.results import ModelResult
from hampkit.judging.seeds import common_attacks, over_seeds
from hampkit.report.schema import load_schema
from hampkit.stats import metrics
from hampkit.stats.pairs import Pairs
from hampkit.workflows.report import write_report
from hampkit.workflows.seeds import one_for_each_recipe

OPTIONS = {"rows": 400, "epochs": 2, "neural.epochs": 2, "shadows.models": 4}
SEEDS = (3, 4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, _own_cache):
    """Two defenses with two seeds and four shadow models each."""
    folder = tmp_path_factory.mktemp("seeds")
    defenses = ["undefended", "hamp"]
    hampkit.compare("toy", defenses=defenses, options=OPTIONS, runs_dir=folder, seeds=len(SEEDS), seed=SEEDS[0])
    return folder


@pytest.fixture(scope="module")
def document(folder):
    return json.loads((folder / "results.json").read_text())


def runs_of(folder, model):
    return [json.loads((folder / run / "result.json").read_text()) for run in model["runs"]]


def attacks_of(model, unit):
    return {attack["attack"]: attack for attack in model["attacks"] if attack["unit"] == unit}


def test_a_report_has_one_entry_for_each_recipe(folder, document):
    jsonschema.validate(document, load_schema())
    assert [m["recipe"] for m in document["models"]] == ["toy/undefended", "toy/hamp"]
    for model in document["models"]:
        assert model["seeds"] == list(SEEDS)
        assert (model["seed"], model["run"]) == (SEEDS[0], model["runs"][0])
        singles = runs_of(folder, model)
        assert [(s["seed"], s["seeds"]) for s in singles] == [(seed, [seed]) for seed in SEEDS]
        assert model["accuracy"]["test"] == pytest.approx(np.mean([s["accuracy"]["test"] for s in singles]))
        assert model["known"]["members"] == sum(s["known"]["members"] for s in singles)
        assert {a["unit"] for a in model["attacks"]} == {"seeds", "leave-one-out"}


def test_the_auc_is_the_mean_over_seeds_and_rates_are_of_all_pairs(folder, document):
    """The oracle: the scores of the run folders, put together by hand."""
    model = document["models"][0]
    singles = [attacks_of(s, "target") for s in runs_of(folder, model)]
    found = attacks_of(model, "seeds")
    assert set(found) == set(singles[0])
    for name, attack in found.items():
        assert attack["targets"] == len(SEEDS)
        assert attack["auc"]["value"] == pytest.approx(np.mean([s[name]["auc"]["value"] for s in singles]))
        assert attack["members"] == sum(s[name]["members"] for s in singles)
        assert attack["auc_corrected"]["high"] >= attack["auc"]["high"]
    details = [json.loads((folder / run / "details.json").read_text()) for run in model["runs"]]
    places = [folder / run / d["scores"]["loss"] for run, d in zip(model["runs"], details, strict=True)]
    files = [np.load(place) for place in places]
    scores, member = (np.concatenate([file[key] for file in files]) for key in ("scores", "member"))
    for point in found["loss"]["tpr_at_fpr"]:
        wanted = metrics.tpr_point(scores, member, point["fpr"])
        assert (point["tp"], point["fp"]) == (wanted.hits, wanted.errors)


def test_leave_one_out_has_the_shadow_models_of_all_seeds_as_targets(folder, document):
    model = document["models"][1]
    singles = [attacks_of(s, "leave-one-out") for s in runs_of(folder, model)]
    for name, attack in attacks_of(model, "leave-one-out").items():
        assert attack["targets"] == sum(s[name]["targets"] for s in singles) == 8
        assert attack["members"] == sum(s[name]["members"] for s in singles)
        low, high = sorted(s[name]["auc_within"]["value"] for s in singles)
        assert low <= attack["auc_within"]["value"] <= high


def test_every_form_of_the_report_names_the_seeds(folder, document):
    page, text, table = ((folder / f"{n}").read_text() for n in ("report.html", "report.md", "results.csv"))
    for shown in (page, text):
        assert "toy/hamp · 2 seeds" in shown
        assert "mean test accuracy" in shown
    assert "2 seeds" in text.split("| toy/hamp")[1].split("\n")[0]
    for run in document["models"][1]["runs"]:
        assert run in page
        assert f"`{run}/records.csv`" in text
    assert f"{SEEDS[0]} {SEEDS[1]}" in table
    assert "2 models of one recipe, each with a seed of its own" in document["verdict"]["limits"]


def test_results_are_read_back_as_they_were(document):
    for model in document["models"]:
        assert ModelResult.from_json(model).to_json() == model


def test_a_report_of_run_folders_merges_seeds_in_any_order_and_nothing_else(folder, document, cli, tmp_path):
    plain, hamp = (model["runs"] for model in document["models"])
    both = write_report(folder / plain[1], folder / hamp[0], folder / plain[0], out=tmp_path)
    assert [m.recipe for m in both.models] == ["toy/undefended", "toy/hamp"]
    assert both.models[0].seeds == SEEDS, "sorted"
    assert both.models[1].seeds == ()
    mine = {a.attack: a.auc.value for a in both.models[0].of("target")}
    assert mine == pytest.approx({n: a["auc"]["value"] for n, a in attacks_of(document["models"][0], "seeds").items()})
    code, out, _ = cli("report", str(folder / plain[0]), str(folder / plain[1]), "--out", str(tmp_path))
    assert code == 0
    assert "seeds 3, 4" in out
    assert "over 2 seeds together" in out


def evaluated(folder, runs):
    from hampkit.runs.store import Run, read_json
    from hampkit.workflows.report_inputs import Evaluated, details

    found = [Run.at(folder / run) for run in runs]
    return [Evaluated(r, ModelResult.from_json(read_json(r.folder / "result.json")), details(r)) for r in found]


def test_models_with_one_seed_or_other_attacks_stay_apart(folder, document):
    one, other = evaluated(folder, document["models"][0]["runs"])
    assert len(one_for_each_recipe([one, other])) == 1
    assert len(one_for_each_recipe([one, one])) == 2, "the same model twice is not two seeds"
    judge = {**other.result.judge, "strict": True}
    assert len(one_for_each_recipe([one, replace(other, result=replace(other.result, judge=judge))])) == 2
    none = replace(other.result, attacks=())
    assert len(one_for_each_recipe([one, replace(other, result=none)])) == 2


def test_only_attacks_with_the_same_options_are_put_together(folder, document):
    one, other = (e.result for e in evaluated(folder, document["models"][0]["runs"]))
    names = common_attacks([one, other], "target")
    assert names == [a.attack for a in one.of("target")]
    changed = [replace(a, options={"epochs": 9}) if a.attack == "neural" else a for a in other.attacks]
    assert common_attacks([one, replace(other, attacks=tuple(changed))], "target") == [
        n for n in names if n != "neural"
    ]


def test_attacks_that_one_seed_lacks_are_named(folder, document):
    one, other = evaluated(folder, document["models"][0]["runs"])
    few = tuple(a for a in other.result.attacks if a.unit == "target" and a.attack != "neural")
    with pytest.warns(
        hampkit.Notice, match=r"toy/undefended: the entry of seeds 3, 4 .* left out: neural, .*leave-one-out"
    ):
        (found,) = one_for_each_recipe([one, replace(other, result=replace(other.result, attacks=few))])
    assert "neural" not in {a.attack for a in found.result.attacks}
    assert not found.result.of("leave-one-out")


def test_flags_of_any_seed_stay_and_those_of_the_numbers_are_measured_anew(folder, document):
    one, other = (e.result for e in evaluated(folder, document["models"][0]["runs"]))
    marked = replace(one, attacks=tuple(replace(a, flags=("shifted", "tied", "inverted")) for a in one.attacks))
    rng = np.random.default_rng(0)
    pairs = {name: Pairs.of(rng.normal(size=(2, 3000)), rng.random((2, 3000)) < 0.5) for name in ("loss", "confidence")}
    found = over_seeds([marked, other], pairs, {})
    assert [a.attack for a in found.attacks] == ["loss", "confidence"]
    for attack in found.attacks:
        assert set(attack.flags) == {"unresolved", "shifted"}, "independent scores are neither tied nor inverted"


def test_units_are_numbered_alike_whatever_the_split(tmp_path):
    """An example has one number with every seed; rows with the same features share it."""
    from hampkit.workflows.prepare import prepare
    from hampkit.workflows.recipes import RecipeOptions
    from hampkit.workflows.session import Session

    session = Session(runs_dir=Path(tmp_path))
    numbers = {}
    for seed in SEEDS:
        (recipe,) = RecipeOptions(OPTIONS, seed=seed).recipes(["toy/undefended"])
        problem = prepare(recipe, session)
        for x, unit in zip(problem.task.pool.x.numpy(), problem.units_of_data, strict=True):
            assert numbers.setdefault(x.tobytes(), unit) == unit
    assert len(set(numbers.values())) == len(numbers)
