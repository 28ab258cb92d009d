"""What is said in words must follow from the numbers, and claim no more than they do."""

from dataclasses import replace

import pytest

from hampkit.metrics import Interval
from hampkit.report import limits, verdict
from hampkit.report.view import accuracy_interval, blocks
from hampkit.results import AttackResult, Difference, ModelResult, Results

LEAKY, SAFE = Interval(0.7, 0.65, 0.75), Interval(0.52, 0.45, 0.58)


def attack(auc, name="loss", flags=(), members=50, others=50, **more):
    return AttackResult(name, (), False, members, others, auc, (), (), auc, flags, **more)


def model(name, *attacks, **more):
    of, accuracy, null = (
        {"train": 50, "val": 20, "test": 50},
        {"train": 1.0, "val": 0.9, "test": 0.9},
        Interval(0.5, 0.4, 0.6),
    )
    known = {"members": 10, "nonmembers": 12}
    data = {"name": "toy", "rows": 1, "features": 1, "classes": 2, "sha256": "x"}
    return ModelResult(name, name, name, 0, data, accuracy, of, known, {}, attacks, null, "loss", **more)


def say(*models, difference=None):
    return verdict(Results(models, "0", difference=difference))


def test_the_comparison_follows_the_interval_and_names_the_attacks():
    a, b = model("toy/a", attack(LEAKY, flags=("unresolved",))), model("toy/b", attack(SAFE))
    names = ("loss", "loss")
    sure = say(a, b, difference=Difference(0.18, 0.1, 0.26, names))
    assert "toy/b leaks less than toy/a" in sure
    assert "by loss" in sure
    assert "chosen on these candidates" in sure
    assert "neither is shown to leak less" in say(a, b, difference=Difference(0.05, -0.1, 0.2, names))
    assert "toy/a leaks less than toy/b" in say(a, b, difference=Difference(-0.18, -0.26, -0.1, names))
    assert "entropy against loss" in say(a, b, difference=Difference(0.18, 0.1, 0.26, ("entropy", "loss")))
    assert "leaks less" not in say(a, b)


@pytest.mark.parametrize("flag", ["untrained", "null", "shifted"])
def test_a_model_whose_numbers_mean_nothing_is_never_said_to_leak_less(flag):
    a, b = model("toy/a", attack(LEAKY)), model("toy/b", attack(SAFE, flags=(flag,)))
    said = say(a, b, difference=Difference(0.18, 0.1, 0.26, ("loss", "loss")))
    assert "leaks less" not in said
    assert "toy/b" in said.split(". ", 2)[2], "the flag is put into words"


def test_models_that_were_attacked_otherwise_are_not_compared():
    a = model("toy/a", attack(LEAKY))
    for other in ((attack(SAFE), attack(SAFE, "entropy")), (attack(SAFE, options={"epochs": 4}),)):
        said = say(a, model("toy/b", *other), difference=Difference(0.18, 0.1, 0.26, ("loss", "loss")))
        assert "leaks less" not in said
        assert "not compared" in said


def test_one_of_many_attacks_must_be_surer_than_an_only_one():
    border = Interval(0.55, 0.505, 0.5942)
    assert "members give themselves away" in say(model("toy/a", attack(border)))
    many = [attack(Interval(0.5, 0.45, 0.55), f"a{k}") for k in range(9)]
    said = say(model("toy/a", attack(border), *many))
    assert "none of these 10 attacks tells" in said
    assert "AUC 0.550 [0.505, 0.594]" in said
    sure = say(model("toy/a", attack(LEAKY), *many))
    assert "members give themselves away, AUC 0.700 [0.650, 0.750] by loss, best of 10 attacks" in sure
    assert "members give themselves away" in say(model("toy/a", attack(Interval(1.0, 0.93, 1.0)), *many))


def test_an_attack_that_points_the_wrong_way_is_no_clearance():
    said = say(model("toy/a", attack(Interval(0.15, 0.10, 0.20), flags=("inverted",))))
    assert "turned around tells members" in said
    assert "beyond chance" not in said


def test_unresolved_names_the_side_that_is_too_small():
    said = say(model("toy/a", attack(SAFE, flags=("unresolved",), members=100, others=20_000)))
    assert "100 members cannot show TNR at 0.1 % FNR" in said
    assert "20000" not in said
    both = say(model("toy/a", attack(SAFE, flags=("unresolved",), members=100, others=200)))
    assert "200 non-members cannot show TPR" in both


@pytest.mark.parametrize("flag", ["overlapping", "randomised", "masked", "inverted", "shifted", "null", "untrained"])
def test_every_flag_that_changes_what_a_number_means_is_in_the_verdict(flag):
    assert len(say(model("toy/a", attack(LEAKY, flags=(flag,))))) > len(say(model("toy/a", attack(LEAKY)))) + 30


def test_the_limits_follow_what_the_attacks_hold():
    plain = limits(Results((model("toy/a", attack(SAFE)),), "0"))
    assert "lower bound" in plain
    assert "shadow models" in plain
    shadowed = replace(attack(SAFE), needs=("shadows", "population"))
    assert "shadow models" not in limits(Results((model("toy/a", shadowed),), "0"))


def test_the_table_says_who_was_judged_and_how_sure_an_accuracy_is():
    results = Results((model("toy/a", attack(SAFE, options={"epochs": 4})),), "0").to_json()
    (block,) = blocks(results)
    members, others = block.judged.split("; ")
    assert members == "60 members: 10 known to the adversary, 50 judged"
    assert others == "62 non-members: 12 known to the adversary, 50 judged"
    assert block.accuracy["test_interval"] == "78.2–96.7%, n = 50"
    low, high = accuracy_interval(0.9, 50)
    assert (round(low, 4), round(high, 4)) == (0.7819, 0.9667)
    assert block.rows[0].options == "(epochs=4)"


@pytest.mark.parametrize(
    ("off", "auc", "ok", "inside"),
    [
        (False, Interval(0.5, 0.4, 0.6), True, True),
        (False, Interval(0.44, 0.39, 0.496), True, False),
        (True, Interval(0.3, 0.2, 0.4), False, False),
    ],
)
def test_the_null_is_judged_by_its_flag_and_not_by_the_shown_interval(off, auc, ok, inside):
    from hampkit.report import render_markdown

    results = Results((replace(model("toy/a", attack(SAFE)), null=auc, off_null=off),), "0").to_json()
    (block,) = blocks(results)
    assert block.null is not None
    assert (block.null.ok, block.null.inside) == (ok, inside)
    assert ("do not trust" in render_markdown(results, {}, "x")) == off
