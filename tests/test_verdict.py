"""The verdict and the terminal: they say no more than the numbers do, and what these cannot say."""

import io
import json
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from hampkit.cli.terminal import show_results
from hampkit.judging.evaluate import judged_together
from hampkit.judging.flags import FLAGS
from hampkit.judging.headlines import WORDS, headline
from hampkit.judging.results import AttackResult, Difference, ModelResult, Rate, Results, clearer
from hampkit.judging.results.attacks import attack_label
from hampkit.judging.results.tail import tail_line
from hampkit.judging.results.wording import verdict_lines
from hampkit.judging.verdict import CAVEATS, WITHOUT_CAVEAT, concluded, limits
from hampkit.report import charts, load_schema, render_csv, render_markdown, rows
from hampkit.stats.metrics import Interval, auc_difference, auc_interval

JUDGE = {"known_train": 0.45, "known_val": 0.05, "candidates": "held-out", "strict": False}
ABOVE = Interval(0.7, 0.65, 0.746)
CHANCE = Interval(0.52, 0.46, 0.58)
BARELY = Interval(0.552, 0.503, 0.600)  # above chance alone, not as the best of ten
BELOW = Interval(0.3, 0.254, 0.35)


def attack(name="loss", auc=CHANCE, flags=(), members=50, nonmembers=80, needs=(), corrected=None, same="", **options):
    def rates(enough):
        return (Rate(0.02, 0.01, 0.04, 0.001, 1, 0, 0.003, 0.09, enough),)

    enough = (nonmembers >= 10_000, members >= 10_000)
    return AttackResult(
        name, needs, members, nonmembers, auc, rates(enough[0]), rates(enough[1]), flags, auc, options=options,
        same_as=same, auc_corrected=corrected,
    )  # fmt: skip


def model(name, *attacks, **more):
    result = ModelResult(
        recipe=name,
        defense=name.split("/")[1],
        run=name,
        seed=0,
        data={"sha256": "x"},
        accuracy={"train": 1.0, "test": 0.9},
        rows={"train": 100, "test": 200},
        known={"members": 50, "nonmembers": 20},
        judge=JUDGE,
        attacks=attacks,
        null=CHANCE,
        null_attack="loss",
    )
    return replace(result, **more)


def verdict(results):
    """The lines of what was found and of the caveats; the limits are always the last line."""
    *lines, _ = verdict_lines(concluded(results).to_json())
    return "\n".join(lines)


def said(*models, difference=None):
    return verdict(Results(models, "0", difference=difference))


def difference(value, low, high, attacks=("loss", "loss")):
    return Difference(value, low, high, attacks)


def test_a_difference_must_hold_for_the_best_of_so_many_attacks():
    """The interval that is printed is the one that decides: that of the corrected level."""
    rng, seen = np.random.default_rng(0), set()
    for shift in (-0.6, -0.35, -0.2, 0.0, 0.25, 0.3, 0.35, 0.6):
        member = np.arange(400) < 200
        one, other = (rng.normal(size=400) + s * member for s in (0.3 + shift, 0.3))
        plain, wide = (auc_difference(one, other, member, 1 - 0.05 / k) for k in (1, 10))
        apart = not wide.low <= 0 <= wide.high
        found = replace(difference(*vars(plain).values(), ("last", "last")), corrected=wide, tried=10)
        text = said(model("toy/a", *ten(ABOVE)), model("toy/b", *ten(ABOVE if shift < 0 else CHANCE)), difference=found)
        assert ("leaks less than" in text) == apart
        assert f"{wide.value:.3f} [{wide.low:.3f}, {wide.high:.3f}])" in text
        assert text.count("allow for the choice among the attacks") == 1
        assert "rank the examples alike" not in text
        seen.add((apart, plain.low <= 0 <= plain.high))
    assert seen == {(True, False), (False, False), (False, True)}


def ten(auc, corrected=None):
    return [attack(f"a{i}", CHANCE) for i in range(9)] + [attack("last", auc, corrected=corrected or auc)]


def test_two_models_are_compared_by_the_interval_of_their_difference():
    a, b = model("toy/a", attack(auc=ABOVE)), model("toy/b", attack())
    sure = said(a, b, difference=difference(0.18, 0.1, 0.26))
    assert "toy/b leaks less than toy/a" in sure
    assert "AUC of loss on toy/a minus that of loss on toy/b: 0.180 [0.100, 0.260]" in sure
    assert (
        "toy/b (test accuracy 90.0%, n = 200): no attack is shown to distinguish members from non-members: the only"
        in sure
    )
    assert "Neither is shown to leak less" in said(a, b, difference=difference(0.05, -0.1, 0.2))
    more = model("toy/b", attack(auc=ABOVE))
    assert "toy/a leaks less than toy/b" in said(a, more, difference=difference(-0.18, -0.26, -0.1))
    assert "leak less" not in said(a, b)
    none = said(model("toy/a", attack()), b, difference=difference(0.18, 0.1, 0.26))
    assert "Neither is shown to leak less" in none, "an attack below guessing on one, and no leak on either"
    twice = said(a, replace(b, recipe="toy/a", seed=1), difference=difference(0.18, 0.1, 0.26))
    assert "toy/a · seed 1 leaks less than toy/a · seed 0" in twice


def test_the_attack_on_the_model_that_leaks_less_must_be_the_highest_there():
    """Its choice then makes the difference smaller; with another one the difference shows nothing."""
    high, low = attack("high", Interval(0.66, 0.5, 0.8)), attack("low", CHANCE)
    a = model("toy/a", attack("high", ABOVE), attack("low"))
    b = model("toy/b", high, low)
    assert "leaks less" not in said(a, b, difference=difference(0.18, 0.1, 0.26, ("high", "low")))
    assert "leaks less" not in said(b, a, difference=difference(-0.18, -0.26, -0.1, ("low", "high")))
    assert "toy/b leaks less than toy/a" in said(a, b, difference=difference(0.04, 0.01, 0.07, ("high", "high")))
    assert "toy/b leaks less than toy/a" in said(b, a, difference=difference(-0.04, -0.07, -0.01, ("high", "high")))


def test_of_two_differences_the_one_that_shows_something_is_taken():
    def clear(first, second):
        one, other = difference(*first, ("strong", "high")), difference(*second, ("high", "strong"))
        return clearer(one, other).value

    assert clear((0.3, 0.1, 0.5), (0.2, -0.1, 0.4)) == 0.3
    assert clear((-0.1, -0.3, 0.1), (-0.2, -0.3, -0.1)) == -0.2
    assert clear((0.1, -0.1, 0.3), (0.1, -0.2, 0.3)) == 0.1
    # never one that lies on the wrong side altogether: it would look like what it does not show
    assert clear((-0.2, -0.25, -0.15), (0.1, -0.4, 0.6)) == 0.1
    wide = replace(difference(0.3, 0.1, 0.5, ("strong", "high")), corrected=Interval(0.3, -0.4, 1.0))
    assert clearer(wide, difference(-0.1, -0.3, 0.1, ("high", "strong"))).value == -0.1


def test_the_best_of_many_must_be_better_than_one():
    wide = Interval(0.552, 0.481, 0.621)
    alone, best = said(model("toy/a", attack(auc=BARELY))), said(model("toy/a", *ten(BARELY, wide)))
    assert "membership can be inferred: the only attack, loss, has AUC 0.552 [0.503, 0.600]" in alone
    assert "choice" not in alone
    assert (
        "no attack is shown to distinguish members from non-members: the highest AUC of 10 attacks is that of last, 0.5"
        in best
    )
    assert (
        "Intervals in these sentences allow for the choice among the attacks and are wider than those of the t" in best
    )
    assert "can be inferred" not in best
    assert "of 10 attacks, last has the highest lower bound, AUC 0.700" in said(model("toy/a", *ten(ABOVE)))


def test_where_nothing_is_found_the_highest_auc_is_named_and_not_the_narrowest_interval():
    narrow = attack("correctness", Interval(0.5, 0.49, 0.51), members=9, nonmembers=9)
    wide = attack(
        "entropy", Interval(0.566, 0.485, 0.628), corrected=Interval(0.566, 0.45, 0.67), members=9, nonmembers=9
    )
    text = said(model("toy/a", narrow, wide))
    assert (
        "the highest AUC of 2 attacks is that of entropy, 0.566 [0.450, 0.670] (9 + 9 judged, too few to rule" in text
    )
    assert "correctness" not in text
    assert "(9 + 9 judged in 3 + 4 groups, too few" in said(
        model("toy/a", narrow, wide, groups={"members": 3, "nonmembers": 4})
    )


@pytest.mark.parametrize(
    ("low", "high", "few"), [(0.46, 0.58, False), (0.45, 0.61, True), (0.39, 0.56, True), (0.41, 0.59, False)]
)
def test_what_a_wide_interval_leaves_open_is_said_whichever_attack_has_it(low, high, few):
    """The bound is 0.6, and 0.4 below: an attack may be turned around."""
    other = attack("entropy", Interval(0.5, low, high))
    text = said(model("toy/a", attack(auc=Interval(0.51, 0.5, 0.52)), other))
    assert "is that of loss, 0.510 [0.500, 0.520] (50 + 80 judged" in text
    assert ("too few to rule out a leak" in text) == few
    assert not any(word in text for word in ("no leak", "safe", "does not leak", "absence", "private"))


def test_the_one_that_is_sure_is_named_even_where_another_has_the_higher_bound():
    wide = attack("wide", Interval(0.65, 0.52, 0.762), corrected=Interval(0.65, 0.49, 0.78))
    narrow = attack("narrow", Interval(0.53, 0.515, 0.545), corrected=Interval(0.53, 0.505, 0.555))
    found = model("toy/a", *ten(CHANCE), wide, narrow)
    assert (
        "of 12 attacks, narrow has the highest lower bound, AUC 0.530 [0.505, 0.555], and wide the highest AUC,"
        " 0.650 [0.490, 0.780]" in said(found)
    )
    assert (found.strongest().attack, found.highest().attack) == ("narrow", "wide")


def test_an_attack_below_chance_by_luck_is_not_the_highest():
    text = said(model("toy/a", attack(auc=ABOVE), attack("low", Interval(0.2, 0.05, 0.55))))
    assert "of 2 attacks, loss has the highest lower bound, AUC 0.700 [0.650, 0.746]." in text
    assert "low" not in text.replace("lower bound", "").replace("allow", "")


def test_attacks_of_one_order_are_counted_once():
    same = [attack("confidence", ABOVE), attack("loss", ABOVE, same="confidence"), attack("entropy")]
    text = said(model("toy/a", *same))
    assert "of 3 attacks (2 distinct rankings), confidence has the highest lower bound, AUC 0.700" in text
    assert "the highest AUC" not in text
    assert "Attacks that rank the examples alike count as one." in text
    assert model("toy/a", *same).distinct() == 2


def test_options_stand_in_the_order_of_the_fields_however_a_file_has_them():
    found = attack("rmia", score="share", gamma=1.0)
    rates, auc = found.tpr_at_fpr, Interval(0.6, 0.55, 0.65)
    repeated = of_models("rmia", auc, rates, 8, 300, options={"score": "share", "gamma": 1.0})
    labels = set()
    for result in (found, repeated):
        sorted_ = json.loads(json.dumps(result.to_json(), sort_keys=True))
        assert list(sorted_["options"]) == ["gamma", "score"]
        labels |= {attack_label(r.to_json()) for r in (result, type(result).from_json(sorted_))}
    assert labels == {"rmia (score=share, gamma=1.0)"}
    gone = attack("no-longer-there", b=1, a=2).to_json()
    assert AttackResult.from_json(gone).options == {"b": 1, "a": 2}


def test_the_level_is_that_of_the_distinct_attacks():
    rng = np.random.default_rng(0)
    member = np.arange(300) < 100
    p = rng.random(300) + 0.3 * member
    scores = {
        "attack-p": np.searchsorted(np.sort(rng.random(5000) * 1.3), p) / 5000,
        "confidence": p,
        "loss": np.log(p),
    }
    scores |= {"correctness": (p > 0.5) * 1.0, "entropy": rng.random(300)}
    results = [attack(name, needs=("population",) * (name == "attack-p")) for name in scores]
    found = {r.attack: r for r in judged_together(results, scores, member)}
    assert {name: r.same_as for name, r in found.items()} == {
        "attack-p": "confidence", "confidence": "", "loss": "confidence", "correctness": "", "entropy": ""
    }  # fmt: skip
    for name, r in found.items():
        assert r.auc_corrected == auc_interval(scores[name], member, 1 - 0.05 / 3)
    again = AttackResult.from_json(found["loss"].to_json())
    assert (again.same_as, again.auc_corrected) == ("confidence", found["loss"].auc_corrected)


def test_the_strongest_is_the_attack_with_more_pairs_in_order():
    """Of 162 members and 648 non-members: labels alone order 99 % of the pairs, the entropy all but a few."""
    rng = np.random.default_rng(0)
    member = np.arange(810) < 162
    label = np.where(member, 1.0, (rng.random(810) < 0.02) * 1.0)
    entropy = member + rng.random(810) * 0.9
    entropy[200:203] = 1.2
    aucs = {"correctness": auc_interval(label, member), "entropy": auc_interval(entropy, member)}
    assert 0.985 < aucs["correctness"].value < aucs["entropy"].value < 1
    best = model("toy/a", *(attack(name, auc) for name, auc in aucs.items())).strongest()
    assert best.attack == "entropy"


def test_equal_rows_are_one_row_with_all_names():
    same = model(
        "toy/a", attack("confidence"), attack("loss", same="confidence"), attack("neural", ABOVE, same="confidence")
    )
    text = terminal(same)
    assert "confidence = loss" in text
    assert "neural (same order as confidence)" in text
    words = {"attacks": {}, "defenses": {}, "flags": {}}
    same = replace(same, data={"name": "toy", "sha256": "x"})
    page = render_markdown(Results((same,), "0").to_json(), words)
    assert "confidence = loss" in page
    assert "neural (same order as confidence)" in page


def test_an_attack_that_points_the_wrong_way_gives_members_away():
    text = said(model("toy/a", attack(auc=BELOW, flags=("inverted",)), attack("entropy")))
    assert (
        "membership can be inferred: of 2 attacks, loss, turned around, has the highest lower bound, AUC 0.700"
        " [0.650, 0.746]." in text
    )
    alone = said(model("toy/a", attack(auc=BELOW, flags=("inverted",))))
    assert "the only attack, loss, turned around, has AUC 0.700 [0.650, 0.746]." in alone
    both = said(model("toy/a", attack(auc=Interval(0.08, 0.03, 0.15)), attack("entropy", Interval(0.56, 0.52, 0.6))))
    assert "of 2 attacks, loss, turned around, has the highest lower bound, AUC 0.920 [0.850, 0.970]." in both
    assert "with the flag inverted have AUCs below 0.5" in text
    a, b = model("toy/a", attack(auc=ABOVE)), model("toy/b", attack(auc=BELOW))
    text = said(a, b, difference=difference(0.4, 0.3, 0.5))
    assert "leaks less" not in text
    assert "not compared" in text


def test_where_nothing_is_found_an_auc_below_one_half_counts_as_much_as_one_above():
    low = attack("b", Interval(0.41, 0.3, 0.501))
    text = said(model("toy/a", attack(auc=Interval(0.5, 0.49, 0.51)), low))
    assert "the AUC farthest from 0.5 of 2 attacks is that of b, 0.410 [0.300, 0.501] (50 + 80 judged" in text
    assert "turned around" not in text


@pytest.mark.parametrize(
    ("aucs", "name"),
    [
        ({"tied": (0.5, 0.499, 0.501), "entropy": (0.525, 0.45, 0.6)}, "entropy"),
        ({"above": (0.56, 0.52, 0.6), "below": (0.3, 0.254, 0.35)}, "below"),
        ({"above": (0.7, 0.65, 0.75), "below": (0.44, 0.4, 0.48)}, "above"),
        ({"below": (0.44, 0.4, 0.501), "above": (0.53, 0.49, 0.57)}, "below"),
    ],
)
def test_verdict_table_and_chart_name_one_attack(aucs, name):
    found = replace(
        model("toy/a", *(attack(n, Interval(*auc)) for n, auc in aucs.items())), data={"name": "toy", "sha256": "x"}
    )
    document = Results((found,), "0").to_json()
    assert found.strongest().attack == name
    assert [row.name for row in rows.blocks(document)[0].rows if row.strongest] == [name]
    assert f"{name}{', turned around, has' if name == 'below' and aucs[name][2] < 0.5 else ''}" in said(found)
    (point,) = charts.tradeoff_chart(document, charts.styles(["toy/a"]))["views"]["auc"]["data"]
    value, _, high = aucs[name]
    assert point["customdata"][0][1] == name + (", turned around" if high < 0.5 else "")
    assert list(point["y"]) == [1 - value if high < 0.5 else value]
    assert f"**{name}**" in render_markdown(document, {"attacks": {}, "defenses": {}, "flags": {}})


def test_leave_one_out_has_the_same_rule_for_the_bold_row():
    values = {"tied": (0.5, 0.499, 0.501), "rmia": (0.525, 0.45, 0.6)}
    rates = attack().tpr_at_fpr
    repeated = tuple(of_models(n, Interval(*v), rates, 8, 300) for n, v in values.items())
    found = model("toy/a", attack(), *repeated, data={"name": "toy", "sha256": "x"})
    (block,) = rows.blocks(Results((found,), "0").to_json())
    assert [row.name for row in block.of("leave-one-out") if row.strongest] == ["rmia"]


@pytest.mark.parametrize("flag", ["untrained", "null"])
@pytest.mark.parametrize("where", [0, 1])
def test_a_model_whose_numbers_mean_little_is_never_said_to_leak_less(flag, where):
    models = [model("toy/a", attack(auc=ABOVE)), model("toy/b", attack())]
    models[where] = replace(models[where], attacks=(replace(models[where].attacks[0], flags=(flag,)),))
    text = said(*models, difference=difference(0.18, 0.1, 0.26))
    assert "leaks less" not in text
    assert f"The models are not compared, as {models[where].recipe} carries the flag {flag}" in text


def test_a_null_that_is_off_is_a_caveat_also_where_no_attack_carries_the_flag():
    assert "Do not use the numbers of toy/a" in said(model("toy/a", attack(), off_null=True))


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("untrained", "toy/b learnt next to nothing"),
        ("shifted", "non-members of toy/b differ without any model"),
        ("null", "Do not use the numbers of toy/b"),
        ("inverted", "Attacks on toy/b with the flag inverted"),
        ("overlapping", "examples that they were fitted on"),
        ("randomised", "The answers of toy/b are random"),
        ("masked", "On toy/b a label-only attack finds more"),
        ("mismatched", "The shadow models for toy/b were not trained as the target was"),
        ("duplicated", "Members of toy/b have copies"),
    ],
)
def test_flags_that_change_the_meaning_are_said_with_the_model(flag, words):
    assert words in said(model("toy/a", attack()), model("toy/b", attack(flags=(flag,))))
    assert words not in said(model("toy/a", attack()), model("toy/b", attack()))


def test_every_flag_has_a_caveat_or_a_reason_for_none():
    assert {*CAVEATS, *WITHOUT_CAVEAT} == set(FLAGS)
    assert not {*CAVEATS} & {*WITHOUT_CAVEAT}


def test_unresolved_names_the_side_and_the_n_that_bind():
    def text(members, nonmembers):
        return said(model("toy/a", attack(members=members, nonmembers=nonmembers)))

    assert "Rates at 0.1% are unresolved: TPR needs 10,000 non-members, and 80 are judged; TNR needs 10,000 " in text(
        50, 80
    )
    assert "TPR takes" not in text(50, 20_000)
    assert "TNR needs 10,000 members, and 50 are judged" in text(50, 20_000)
    assert "TNR takes" not in text(20_000, 80)
    assert "unresolved" not in text(20_000, 20_000)


def test_too_few_for_a_rate_names_how_many_it_needs():
    """Counts below 5/FPR; the side that is only unresolved has a sentence of its own."""
    few = Rate(0.02, 0.01, 0.04, 0.001, 1, 0, 0.003, 0.09, False, "80 non-members, 5,000 needed")
    mixed = replace(attack(members=7_000, nonmembers=80), tpr_at_fpr=(few,))
    text = said(model("toy/a", mixed))
    assert "Counts stand in place of the rates at 0.1%: TPR needs 5,000 non-members, and 80 are judged." in text
    assert "Rates at 0.1% are unresolved: TNR needs 10,000 members, and 7,000 are judged." in text


def test_unresolved_names_groups_where_rows_are_in_groups():
    def text(members, nonmembers, *more):
        # rates that 12,000 rows would show are not resolved: the groups are few
        few = replace(attack(members=12_000, nonmembers=12_000), **{
            curve: (Rate(0.02, 0.01, 0.04, 0.001, 1, 0, 0.003, 0.09, False),) for curve in ("tpr_at_fpr", "tnr_at_fnr")
        })  # fmt: skip
        return said(model("toy/a", few, *more, groups={"members": members, "nonmembers": nonmembers}))

    assert (
        "TPR needs 10,000 groups of non-members, and 6 are judged; TNR needs 10,000 groups of members, and 7 are judged"
        in text(7, 6)
    )
    assert "11,000 of uneven size are judged" in text(7, 11_000)
    assert "leave-one-out: about" not in text(7, 6, repeated())


def repeated(models=16, examples=1000):
    rates = (Rate(0.02, 0.01, 0.04, 0.001, 1, 0, 0.003, 0.09, False),)
    return of_models("lira-online", ABOVE, rates, models, examples)


def of_models(name, auc, rates, targets, examples, **more):
    half, unit = targets * examples // 2, "leave-one-out"
    return AttackResult(name, (), half, half, auc, rates, rates, (), unit=unit, targets=targets, **more)


def test_with_leave_one_out_the_limits_and_the_unresolved_are_not_of_one_model():
    alone, more = model("toy/a", attack()), model("toy/a", attack(), repeated())
    assert "leave-one-out" not in said(alone) + bounds(alone)
    assert "TPR needs 10,000 non-members, and 80 are judged (in leave-one-out about 8,000)" in said(more)
    assert "Every number is of one model" not in bounds(more)
    assert "against the target are of one model, one seed; leave-one-out is of many models" in bounds(more)


def test_models_that_were_not_treated_alike_are_not_compared():
    a, apart = model("toy/a", attack(auc=ABOVE)), difference(0.18, 0.1, 0.26)
    more, other = model("toy/b", attack(), attack("entropy")), model("toy/b", attack(epochs=4))
    strict = model("toy/b", attack(), judge=JUDGE | {"strict": True})
    for b, way in ((more, "attacked"), (other, "attacked"), (strict, "judged")):
        text = said(a, b, difference=apart)
        assert "leaks less" not in text
        assert f"The models were not {way} alike" in text
    assert "loss (epochs=4), has AUC" in said(other)


def bounds(*models):
    return limits(Results(models, "0"))


def test_what_such_attacks_cannot_see_is_said_but_not_of_those_that_are_there():
    plain = bounds(model("toy/a", attack()))
    assert "once per record, or per view of an image; what they find is a lower bound" in plain
    assert "lower bound on what leaks: attacks with shadow models or many queries may find more" in plain
    assert "one model, one seed" in plain
    shadows = bounds(model("toy/a", attack(needs=("shadows",))))
    assert "lower bound on what leaks: attacks with many queries may find more" in shadows
    assert "shadow" not in shadows
    assert "Aerni" not in shadows
    assert "Each attack queries the model once per record" in shadows
    assert "Aerni" in plain
    assert "shadow models" in bounds(model("toy/a", attack(needs=("population",))))
    asked = bounds(model("toy/a", attack(needs=("shadows", "oracle"))))
    assert "once per record" not in asked
    assert "shadow" not in bounds(model("toy/a", attack(), repeated())).split("Numbers")[0]
    assert "find more" not in asked
    assert "lower bound" in asked


def test_rows_of_leave_one_out_carry_their_options():
    row = replace(repeated(), options={"variance": "global"})
    assert AttackResult.from_json(row.to_json()) == row
    old = {key: value for key, value in row.to_json().items() if key != "options"}
    assert AttackResult.from_json(old).options == {}
    shown = model("toy/a", attack(), row, data={"name": "toy", "sha256": "x"})
    words = {"attacks": {}, "defenses": {}, "flags": {}}
    assert "lira-online (variance=global)" in terminal(shown)
    assert "lira-online (variance=global)" in render_markdown(Results((shown,), "0").to_json(), words)
    assert ",variance=global," in render_csv(Results((shown,), "0").to_json())


def test_no_models_and_no_attacks():
    assert verdict(Results((), "0")) == ""
    assert "no attack was made" in said(model("toy/a"))


def terminal(*models, **verdict):
    out = io.StringIO()
    show_results(Console(file=out, width=140), Results(models, "0", verdict=verdict))
    return out.getvalue()


def test_the_terminal_shows_the_outer_interval_the_n_and_the_options():
    text = terminal(model("toy/a", attack(epochs=4, wide=True)), text="A [b] c.", limits="Limits.")
    assert "2.0 [0.3, 9.0]" in text
    assert "uncertainty of the" in text
    assert "train 100.0% (n=100), test 90.0% (n=200)" in text
    assert "loss (epochs=4, wide=true)" in text
    assert "100 members, 50 known to the adversary, 50 judged; 100 non-members, 20 known to the adversary, 80" in text
    assert "A [b] c." in text
    assert "Limits." in text


def test_the_terminal_marks_the_null_by_its_flag():
    band = model("toy/a", attack(), null=Interval(0.55, 0.51, 0.6))
    assert "✓" in terminal(band)
    assert "✗" not in terminal(band)
    off = terminal(replace(band, off_null=True))
    assert "✗ the 99.9 % interval does not contain 0.5" in off
    assert "✓" not in off


def test_results_hold_the_verdict_and_the_caveats_as_data_too():
    from jsonschema import Draft202012Validator

    a, b = model("toy/a", attack("loss", ABOVE)), model("toy/b", attack(flags=("randomised",)))
    results = concluded(Results((a, b), "0"))
    document = results.to_json()
    Draft202012Validator(load_schema()["properties"]["verdict"] | {"$defs": load_schema()["$defs"]}).validate(
        document["verdict"]
    )
    assert [m["finding"] for m in document["verdict"]["models"]] == ["members found", "nothing found"]
    assert document["verdict"]["models"][0]["attack"] == "loss"
    assert {c["flag"]: c["models"] for c in document["caveats"]}["randomised"] == ["toy/b"]
    text, caveats = verdict(results).splitlines()
    assert all(m["text"] in text for m in document["verdict"]["models"])
    assert all(c["text"] in caveats for c in document["caveats"])
    assert "verdict" not in Results((a, b), "0").to_json(), "nobody has concluded anything"


def test_the_model_that_leaks_less_is_named_as_data():
    a, b = model("toy/a", attack(auc=ABOVE)), model("toy/b", attack())
    assert concluded(Results((a, b), "0", difference=difference(0.18, 0.1, 0.26))).verdict["leaks_less"] == "toy/b"
    assert concluded(Results((a, b), "0", difference=difference(0.18, -0.1, 0.26))).verdict["leaks_less"] == ""


def test_an_accuracy_has_the_exact_interval_for_as_many_independent_rows_as_there_are():
    from hampkit.stats.intervals import clopper_pearson

    plain = model("toy/a", attack(), accuracy={"test": 0.914, "train": 1.0}, rows={"test": 500, "train": 7})
    for part, k, n in (("test", 457, 500), ("train", 7, 7)):
        found = plain.to_json()["accuracy_interval"][part]
        assert (found["low"], found["high"]) == pytest.approx(clopper_pearson(k, n))
    grouped = replace(plain, sizes={"test": 99.5}).accuracy_interval("test")
    assert (grouped.low, grouped.high) == pytest.approx(clopper_pearson(0.914 * 99.5, 99.5))
    assert grouped.high - grouped.low > 2 * (plain.accuracy_interval("test").high - plain.accuracy_interval("test").low)


HEADLINES = [
    ((attack(auc=ABOVE),), {}, "Leak found"),
    ((attack(auc=BELOW),), {}, "Leak found"),
    ((attack(auc=CHANCE),), {}, "Nothing found"),
    ((attack(auc=Interval(0.52, 0.4, 0.64)),), {}, "Unclear"),
    ((attack(auc=CHANCE, flags=("untrained",)),), {}, "Unclear"),
    ((attack(auc=CHANCE, flags=("constant",)),), {}, "Unclear"),
    ((attack(auc=ABOVE, flags=("shifted",)),), {}, "Unclear"),
    ((attack(auc=CHANCE, flags=("shifted",)),), {}, "Nothing found"),
    ((attack(auc=ABOVE, flags=("null",)),), {}, "Not valid"),
    ((attack(auc=CHANCE),), {"off_null": True}, "Not valid"),
    ((), {}, "Not attacked"),
]


@pytest.mark.parametrize(("attacks", "more", "word"), HEADLINES)
def test_a_model_has_one_word_and_a_sentence_that_promises_nothing(attacks, more, word):
    results = concluded(Results((model("toy/a", *attacks, **more),), "0"))
    (found,) = results.verdict["models"]
    assert found["word"] == word
    assert found["sentence"][0].isupper()
    assert not found["sentence"].endswith(".")
    assert not any(w in found["sentence"].lower() for w in ("safe", "private", "anonymous", "protected", "secure"))
    assert ("auc" in found) == bool(attacks)


def test_every_word_occurs_and_each_has_sentences_of_its_own():
    said = {}
    for attacks, more, word in HEADLINES:
        (found,) = concluded(Results((model("toy/a", *attacks, **more),), "0")).verdict["models"]
        said.setdefault(found["sentence"], set()).add(word)
    assert {word for words in said.values() for word in words} == set(WORDS)
    assert all(len(words) == 1 for words in said.values())
    seeds = headline(False, (), wide=True, seeds=3)
    assert seeds["word"] == "Unclear"
    assert "seeds" in seeds["sentence"]


def test_the_tail_of_the_losses_is_a_warning_where_there_are_no_shadow_models():
    """At the lowest FNR that enough members show; above guessing it warns, at guessing it says that this proves nothing."""
    few = Rate(0.4, 0.3, 0.5, 0.001, 1, 0, 0.2, 0.6, False, "50 members, 5,000 needed")
    for low, words in ((0.2, "Such a tail warns"), (0.005, "The interval includes 1%")):
        shown = Rate(0.3, low, 0.4, 0.01, 1, 0, low, 0.4, True)
        document = model("toy/a", replace(attack(), tnr_at_fnr=(few, shown))).to_json()
        line = tail_line(document)
        assert line.startswith(
            f"The loss attack has a TNR of 30.0% [{100 * low:.1f}, 40.0] at 1% FNR, where guessing has 1%."
        )
        assert words in line
    assert not tail_line(model("toy/a", replace(attack(), tnr_at_fnr=(few,))).to_json()), "too few members"
    assert not tail_line(model("toy/a", replace(attack(), tnr_at_fnr=(shown,)), repeated()).to_json()), "shadow models"
    assert not tail_line(model("toy/a", replace(attack("entropy"), tnr_at_fnr=(shown,))).to_json()), "not the loss"


def test_the_caveat_on_noise_names_the_attack_that_averages_it():
    noisy = attack(flags=("randomised",))
    (alone,) = [c for c in concluded(Results((model("toy/hamp", noisy),), "0")).caveats if c["flag"] == "randomised"]
    assert "who averages many answers may find more" in alone["text"]
    both = model("toy/hamp", noisy, attack("repeated"))
    (asked,) = [c for c in concluded(Results((both,), "0")).caveats if c["flag"] == "randomised"]
    assert "the attack repeated averages over several" in asked["text"]
