"""One recipe with several seeds: one entry of a report, whose numbers are of all its models."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest

import hampkit
from hampkit.config.content import content_hash, file_hash
from hampkit.judging.results import AttackResult, ModelResult, Rate, Results
from hampkit.judging.seeds import common_attacks, over_seeds
from hampkit.judging.verdict import concluded
from hampkit.report.schema import load_schema
from hampkit.stats.intervals import Interval, clopper_pearson, mean_of_seeds, mean_rate
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


def test_aucs_and_rates_are_means_over_seeds_and_counts_are_sums(folder, document):
    """The oracle: the results of the run folders, put together by hand."""
    for model in document["models"]:
        singles = [attacks_of(s, "target") for s in runs_of(folder, model)]
        found = attacks_of(model, "seeds")
        assert set(found) == set(singles[0])
        for name, attack in found.items():
            each = [s[name] for s in singles]
            assert attack["targets"] == len(SEEDS)
            assert attack["auc"]["value"] == pytest.approx(np.mean([e["auc"]["value"] for e in each]))
            assert [a["value"] for a in attack["auc_by_seed"]] == pytest.approx([e["auc"]["value"] for e in each])
            for alone, single in zip(attack["auc_by_seed"], each, strict=True):
                assert alone["low"] <= single["auc_corrected"]["low"], "it allows for the choice among the seeds too"
            assert attack["members"] == sum(e["members"] for e in each)
            for curve, hit, error in (("tpr_at_fpr", "tp", "fp"), ("tnr_at_fnr", "tn", "fn")):
                for point, *points in zip(attack[curve], *(e[curve] for e in each), strict=True):
                    assert point["value"] == pytest.approx(np.mean([p["value"] for p in points]))
                    assert (point[hit], point[error]) == tuple(sum(p[key] for p in points) for key in (hit, error))
                    assert point["resolved"] == all(p["resolved"] for p in points)
                    assert point["outer_high"] >= max(p["value"] for p in points) - 1e-12 or len(points) > 2
    compared = json.loads((folder / "compare.json").read_text())
    for entry, model in zip(compared["entries"], document["models"], strict=True):
        name, value, *_ = entry["highest"]["tpr"]
        assert value == pytest.approx(attacks_of(model, "seeds")[name]["tpr_at_fpr"][0]["value"]), "one definition"


def test_examples_are_recognised_across_seeds_by_their_place_in_the_data(folder, document):
    """The oracle: all scores in one array with a column for each example of the data set."""
    for model, unit, key in (
        (m, u, k) for m in document["models"] for u, k in (("seeds", "scores"), ("leave-one-out", "repeated"))
    ):
        details = [json.loads((folder / run / "details.json").read_text()) for run in model["runs"]]
        for name, attack in attacks_of(model, unit).items():
            places = [d[key][name] if unit == "seeds" else d[key][name][0] for d in details]
            files = [np.load(folder / run / place) for run, place in zip(model["runs"], places, strict=True)]
            targets = sum(len(np.atleast_2d(f["scores"])) for f in files)
            scores, member, judged = (np.zeros((targets, 2000), kind) for kind in (float, bool, bool))
            start = 0
            for file in files:
                rows = slice(start, start + len(np.atleast_2d(file["scores"])))
                scores[rows, file["unit"]], member[rows, file["unit"]] = file["scores"], file["member"]
                judged[rows, file["unit"]], start = True, rows.stop
            pairs = Pairs.of(scores, member, judged)
            auc = pairs.auc_within() if unit == "seeds" else pairs.auc()
            assert vars(auc) == pytest.approx(attack["auc"], rel=1e-6), (name, unit)


def test_two_recipes_with_several_seeds_have_no_difference(document):
    assert document["difference"] is None


@pytest.mark.parametrize(
    "damage",
    [lambda f: f.write_bytes(b""), lambda f: f.unlink(), lambda f: flipped(f, "member"), lambda f: without(f, "unit")],
)
def test_scores_that_were_changed_are_refused_in_one_line(folder, document, cli, tmp_path, damage):
    for name in document["models"][0]["runs"]:
        shutil.copytree(folder / name, tmp_path / name)
    first, second = (tmp_path / name for name in document["models"][0]["runs"])
    details = json.loads((second / "details.json").read_text())
    damage(second / details["scores"]["loss"])
    code, _, err = cli("report", first, second, "--out", tmp_path / "out")
    assert code == 2
    assert len(err.strip().splitlines()) == 1
    assert str(second) in err
    assert "attack again" in err
    assert not (tmp_path / "out" / "results.json").exists()


def flipped(path, name):
    arrays = dict(np.load(path))
    np.savez(path, **{**arrays, name: ~arrays[name]})


def without(path, name):
    """As an earlier version wrote it, with a manifest that fits."""
    arrays = dict(np.load(path))
    np.savez(path, **{key: value for key, value in arrays.items() if key != name})
    manifest = path.parent / "manifest.json"
    hashes = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(hashes | {path.name: file_hash(path)}))


@pytest.mark.parametrize(
    ("key", "value"), [("accuracy", {"train": 1.0, "test": -0.5}), ("rows", {"train": -3, "test": 9})]
)
def test_numbers_that_cannot_be_are_refused_in_one_line(folder, document, cli, tmp_path, key, value):
    name = document["models"][0]["runs"][0]
    shutil.copytree(folder / name, tmp_path / name)
    path, details = (tmp_path / name / f"{n}.json" for n in ("result", "details"))
    edited = json.loads(path.read_text()) | {key: value}
    path.write_text(json.dumps(edited))
    details.write_text(json.dumps(json.loads(details.read_text()) | {"result": content_hash(edited)}))
    code, _, err = cli("report", tmp_path / name, "--out", tmp_path / "out")
    assert (code, len(err.strip().splitlines())) == (2, 1)
    assert "edited or damaged" in err


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
    assert "## toy/hamp · 2 seeds\n" in text
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


def result(attack="loss", value=0.6, **fields):
    """One attack on one model."""
    rate = Rate(0.1, 0.0, 0.3, 0.001, 1, 0, 0.0, 0.3, False)
    auc = Interval(value, value - 0.05, value + 0.05)
    return AttackResult(attack, (), 60, 40, auc, (rate,) * 3, (rate,) * 3, fields.pop("flags", ()), **fields)


def model(seed, *attacks, **fields):
    return ModelResult(
        "toy/undefended", "undefended", f"run-{seed}", seed, {"rows": 1000}, {"train": 1.0, "test": 0.8 + seed / 100},
        {"train": 100 + seed, "val": 0, "test": 50 + seed}, {"members": 10 + seed, "nonmembers": 5}, {"strict": False},
        attacks, **{"null": Interval(0.5 + seed / 100, 0.4, 0.6), "null_attack": "loss", **fields},
    )  # fmt: skip


def pairs_of(seed, targets=2, n=100, above=0.0, strict=False):
    rng = np.random.default_rng(seed)
    member = rng.random((targets, n)) < 0.5
    return Pairs.of(rng.normal(size=member.shape) + above * member, member, rows=np.arange(n), strict=strict)


def test_every_field_of_a_model_over_seeds_is_that_of_all_models():
    again = {"unit": "leave-one-out", "untrained": 1, "left_out": 2}
    one = model(
        1, result(balanced_accuracy=Interval(0.6, 0.5, 0.7)), result("rmia", variance="pooled", **again), off_null=False,
        shift=Interval(0.5, 0.4, 0.6), facts={"epsilon": 3, "summary": "epsilon 3"}, copies={"test": 1}, groups={"members": 9},
        sizes={"test": 20.0},
    )  # fmt: skip
    other = model(
        2, result(), result("rmia", variance="global", **again), off_null=True, shift=Interval(0.6, 0.5, 0.7),
        facts={"epsilon": 4, "summary": "epsilon 4"}, copies={"test": 3}, groups={"members": 7}, sizes={"test": 20.0},
    )  # fmt: skip
    found = over_seeds([one, other], {"loss": pairs_of(0)}, {"rmia": pairs_of(1, 6)})
    assert (found.run, found.seed, found.runs, found.seeds) == ("run-1", 1, ("run-1", "run-2"), (1, 2))
    assert found.accuracy["test"] == pytest.approx(0.815)
    assert found.rows == {"train": 203, "val": 0, "test": 103}
    assert found.known == {"members": 23, "nonmembers": 10}
    assert (found.copies, found.groups, found.sizes) == ({"test": 4}, {"members": 7}, {})
    assert set(found.intervals) == {"train", "test"}
    assert found.accuracy_interval("test") == found.intervals["test"]
    assert found.off_null
    assert found.null == mean_rate([one.null, other.null])
    assert found.shift == mean_rate([one.shift, other.shift], independent=False)
    assert found.facts == {"summary": "seed 1: epsilon 3; seed 2: epsilon 4"}
    loss, rmia = found.attacks
    assert (loss.unit, loss.targets, loss.balanced_accuracy, loss.auc_within) == ("seeds", 2, None, None)
    assert (rmia.unit, rmia.targets, rmia.untrained, rmia.left_out, rmia.variance) == (
        "leave-one-out",
        6,
        2,
        4,
        "pooled, global",
    )
    assert rmia.auc_within is not None
    assert ModelResult.from_json(json.loads(json.dumps(found.to_json()))).to_json() == found.to_json()


def test_flags_of_any_seed_stay_and_those_of_the_numbers_are_measured_anew():
    one = model(1, result(flags=("shifted", "tied", "inverted")))
    (attack,) = over_seeds([one, model(2, result(flags=("masked",)))], {"loss": pairs_of(0, n=3000)}, {}).attacks
    assert attack.flags == ("few", "shifted", "masked"), "independent scores are neither tied nor inverted"


def test_attacks_are_one_if_they_are_with_every_seed():
    names = ("loss", "confidence", "entropy")
    one = model(1, result("loss"), result("confidence", same_as="loss"), result("entropy", same_as="loss"))
    other = model(2, result("loss"), result("confidence", same_as="loss"), result("entropy"))
    pairs = {name: pairs_of(0) for name in names}
    found = {a.attack: a for a in over_seeds([one, other], pairs, {}).attacks}
    assert [found[name].same_as for name in names] == ["", "loss", ""]
    assert found["loss"].auc_corrected == pairs["loss"].auc_within(1 - 0.025 / 2)
    assert found["loss"].auc_by_seed == tuple(pairs["loss"].alone(t).auc(1 - 0.025 / 4) for t in (0, 1))
    alone = {a.attack: a for a in over_seeds([one, other], {"confidence": pairs_of(0)}, {}).attacks}
    assert alone["confidence"].same_as == "", "the attack that it is one with is not among these"


def test_a_leak_that_each_seed_shows_is_a_finding_however_few_seeds_there_are():
    """The interval of a mean of two says little; the models themselves say enough."""
    models = [model(seed, result()) for seed in (1, 2)]
    found = over_seeds(models, {"loss": pairs_of(5, n=600, above=0.8)}, {})
    verdict = concluded(Results((found,), "0")).verdict
    assert not found.attacks[0].auc_corrected.low > 0.5, "the mean alone does not show it"
    assert verdict["models"][0]["finding"] == "members found"
    assert "at least one of these models" in verdict["models"][0]["sentence"]
    assert verdict["models"][0]["auc"]["seed"] in (1, 2)
    assert f"with seed {verdict['models'][0]['auc']['seed']}" in verdict["text"]
    nothing = concluded(Results((over_seeds(models, {"loss": pairs_of(6, n=600)}, {}),), "0")).verdict
    assert (nothing["models"][0]["finding"], nothing["models"][0]["word"]) == ("unclear", "Unclear")
    assert "with 2 seeds: the intervals are too wide to rule out a leak" in nothing["text"]
    assert (
        "are judged with each seed" in nothing["text"]
        or "with each seed" in concluded(Results((found,), "0")).caveats[0]["text"]
    )


def test_strict_rates_stay_strict_and_one_split_gives_no_narrower_intervals():
    models, rng = [model(seed, result()) for seed in (1, 2, 3)], np.random.default_rng(0)
    member = np.broadcast_to(np.arange(2000) < 1000, (3, 2000))
    given = rng.normal(size=member.shape), member, None, np.arange(2000)
    loose, strict = (
        over_seeds(models, {"loss": Pairs.of(*given, is_strict)}, {}).attacks[0].tpr_at_fpr
        for is_strict in (False, True)
    )
    assert [r.errors for r in loose] == [3, 30, 300]
    assert [r.errors for r in strict] == [0, 27, 297]
    same = over_seeds(models, {"loss": pairs_of(2, 3)}, {}, one_split=True)
    own = over_seeds(models, {"loss": pairs_of(2, 3)}, {})
    assert (
        same.intervals["test"].high - same.intervals["test"].low
        > own.intervals["test"].high - own.intervals["test"].low
    )


def test_an_accuracy_of_seeds_with_one_test_set_is_covered():
    """Seeds that share their test rows err on the same ones: their mean is as uncertain as one of them."""
    rng, held = np.random.default_rng(0), 0
    for _ in range(100):
        hard = rng.random(500) < 0.2
        rates = [float(np.mean(hard == (rng.random(500) < 0.97))) for _ in range(5)]
        each = [Interval(rate, *clopper_pearson(round(rate * 500), 500)) for rate in rates]
        mean = mean_of_seeds(each, overlap=1.0)
        held += mean.low <= 0.2 * 0.97 + 0.8 * 0.03 <= mean.high
        assert mean.high - mean.low > mean_of_seeds(each).high - mean_of_seeds(each).low
    assert held >= 90, held


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
