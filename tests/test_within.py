"""Leave-one-out: the AUC within single models beside the pooled one, in every form of the results."""

import csv
import io
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from hampkit.attacks import Shadows
from hampkit.attacks.lira import LiraOnline
from hampkit.cli.terminal import show_results
from hampkit.data.splits import shadow_members
from hampkit.judging.evaluate import evaluate
from hampkit.judging.leave_one_out import repeated_scores
from hampkit.judging.results import AttackResult, ModelResult, Rate, Results
from hampkit.report import RESULTS_SCHEMA, render_csv, render_html, render_markdown
from hampkit.stats import clustered, metrics
from hampkit.stats.metrics import Interval

JUDGE = {"known_train": 0.45, "known_val": 0.05, "candidates": "held-out", "strict": False}


def shifted(spread, models=16, examples=300, gap=1.0, seed=0):
    """Scores that tell members within each model, on scales whose origins differ by so much between models."""
    rng = np.random.default_rng(seed)
    member = rng.random((models, examples)) < 0.5
    scores = rng.standard_normal(member.shape) + gap * member
    return scores + spread * rng.standard_normal((models, 1)), member


def of_nothing(seed, models=16, examples=120):
    """Shadow models that remember nothing, with paired masks, on examples that differ."""
    rng = np.random.default_rng(seed)
    half = rng.permuted(np.tile(np.arange(examples) < examples // 2, (models // 2, 1)), axis=1)
    members = np.stack([half, ~half], 1).reshape(models, examples)
    s = (rng.normal(0, 2, examples) + rng.normal(0, 1, members.shape)).astype(np.float32)
    z = rng.normal(0, 2, (models, 100)).astype(np.float32)
    return Shadows((s[..., None],), members, z, np.arange(examples), np.arange(models)), members


def test_it_is_the_mean_of_the_aucs_of_single_models_whatever_their_scales():
    s, m = shifted(0.0)
    alone = np.mean([metrics.auc(row, inside) for row, inside in zip(s, m, strict=True)])
    assert clustered.auc_within(s, m).value == pytest.approx(alone)
    moved = clustered.auc_within(s + 100 * np.arange(16)[:, None], m)
    assert vars(moved) == pytest.approx(vars(clustered.auc_within(s, m)))
    assert moved.low < moved.value < moved.high


def test_its_interval_covers_chance_where_students_t_over_models_does_not():
    from scipy.stats import t

    covers = plain = 0
    for seed in range(100):
        shadows, m = of_nothing(seed)
        s = repeated_scores(LiraOnline(), shadows)
        interval = clustered.auc_within(s, m)
        covers += interval.low <= 0.5 <= interval.high
        aucs = [metrics.auc(row, inside) for row, inside in zip(s, m, strict=True)]
        plain += abs(interval.value - 0.5) <= t.ppf(0.975, 15) * np.std(aucs, ddof=1) / 4
    assert 88 <= covers <= 99
    assert plain < 85


def test_its_interval_covers_where_models_differ():
    def draw(seed, models=16):
        rng = np.random.default_rng(seed)
        m = rng.random((models, 200)) < 0.5
        return rng.standard_normal(m.shape) + (1 + 0.5 * rng.standard_normal((models, 1))) * m, m

    truth = clustered.auc_within(*draw(0, 4000)).value
    found = [clustered.auc_within(*draw(seed)) for seed in range(1, 201)]
    assert 0.90 <= np.mean([i.low <= truth <= i.high for i in found]) <= 0.99


def test_the_flag_is_raised_where_pooling_hides_what_single_models_show_and_only_there():
    flags = {spread: evaluate(*shifted(spread)).flags for spread in (0.0, 2.0)}
    assert "pooled" in flags[2.0]
    assert "pooled" not in flags[0.0]


def test_complete_separation_within_every_model():
    s, m = shifted(5.0, gap=50.0)
    interval = clustered.auc_within(s, m)
    assert (interval.value, interval.high) == (1.0, 1.0)
    assert interval.low < 1


@pytest.mark.parametrize("of", [clustered.auc_interval, clustered.auc_within])
def test_one_inverted_pair_is_nearly_complete_separation(of):
    s, m = shifted(0.0, gap=50.0)
    whole = of(s, m)
    assert whole.low > metrics.clopper_pearson(150, 150)[0], "as sure as one model alone"
    s[3, np.flatnonzero(m[3])[0]] = np.sort(s[3, ~m[3]])[-2] + 1e-9  # below one non-member of its own model
    nearly = of(s, m)
    assert nearly.value < 1
    assert abs(whole.low - nearly.low) < 0.1 * (whole.high - whole.low)


@pytest.mark.parametrize("of", [clustered.auc_interval, clustered.auc_within])
def test_repairing_inverted_pairs_does_not_take_the_lower_bound_away(of):
    s, m = shifted(0.0, models=8, examples=100, gap=2.5)
    found = [of(s, m)]
    for gap in np.linspace(0, 6, 200):
        found.append(of(s + gap * m, m))
    low, width = np.array([i.low for i in found]), np.array([i.high - i.low for i in found])
    assert found[-1].value == 1
    assert ((np.maximum.accumulate(low) - low) / width).max() < 1 / 3


@pytest.mark.parametrize("of", [clustered.auc_interval, clustered.auc_within])
@settings(max_examples=60)
@given(data=st.data(), models=st.integers(1, 5), examples=st.integers(2, 8), level=st.sampled_from([0.5, 0.95, 0.999]))
@pytest.mark.filterwarnings("error")
def test_intervals_never_fail_and_hold_their_values(of, data, models, examples, level):
    size = models * examples
    m = np.array(data.draw(st.lists(st.booleans(), min_size=size, max_size=size))).reshape(models, examples)
    m[0, :2] = False, True
    s = np.array(data.draw(st.lists(st.integers(-2, 2), min_size=size, max_size=size)), float).reshape(m.shape)
    i, turned = of(s, m, level=level), of(-s, m, level=level)
    assert 0 <= i.low <= i.value <= i.high <= 1
    assert i.low < i.high
    assert (1 - turned.high, 1 - turned.low) == pytest.approx((i.low, i.high), abs=1e-6)


def test_one_model_has_the_interval_of_its_scores():
    s, m = shifted(0.0, models=1)
    alone = metrics.auc_interval(s[0], m[0])
    assert clustered.auc_interval(s, m) == clustered.auc_within(s, m) == alone


def test_models_without_both_sides_are_left_out_of_the_mean():
    s, m = shifted(0.0, models=6)
    expected = clustered.auc_within(s[2:], m[2:])
    m[0], m[1] = True, False
    assert clustered.auc_within(s, m) == expected
    with pytest.raises(ValueError, match="no model has both members and non-members"):
        clustered.auc_within(s[:2], m[:2])


def test_intervals_cover_where_models_differ_and_the_auc_is_near_its_end():
    """Among the members of each model N(5.3, 1) + N(0, 1) of its own: the interval on the logit scale covered 75 %."""
    rng = np.random.default_rng(0)

    def draw(models):
        m = rng.random((models, 300)) < 0.5
        return rng.standard_normal(m.shape) + (5.3 + rng.standard_normal((models, 1))) * m, m

    truth = clustered.auc_within(*draw(4000)).value
    covered = np.mean([i.low <= truth <= i.high for i in (clustered.auc_within(*draw(16)) for _ in range(100))])
    assert covered >= 0.9


def repeated():
    return evaluate(*shifted(2.0)).result(LiraOnline(), "leave-one-out")


def with_repeated():
    rate, auc = Rate(0.02, 0.01, 0.04, 0.001, 1, 0, 0.003, 0.09, False), Interval(0.6, 0.5, 0.7)
    attack = AttackResult("loss", (), 50, 80, auc, (rate,), (rate,), (), auc)
    names = ("toy/new", "toy/old")
    found = (repeated(), replace(repeated(), auc_within=None))
    models = [
        ModelResult(
            recipe=name, defense="hamp", run=name, seed=0, accuracy={"train": 1.0, "test": 0.9},
            known={"members": 5, "nonmembers": 8}, judge=JUDGE,
            data={"name": "toy", "rows": 300, "features": 4, "classes": 3, "sha256": "9f" * 32},
            rows={"train": 100, "test": 200}, attacks=(attack, one), null=auc, null_attack="loss",
        )
        for name, one in zip(names, found, strict=True)
    ]  # fmt: skip
    return Results(tuple(models), "0")


def test_results_keep_it_and_older_ones_lack_it():
    from jsonschema import Draft202012Validator

    assert AttackResult.from_json(repeated().to_json()) == repeated()
    results = with_repeated()
    document = results.to_json()
    Draft202012Validator(RESULTS_SCHEMA).validate(document)
    assert [ModelResult.from_json(m) for m in document["models"]] == list(results.models)
    document["models"][0]["attacks"][1]["auc_within"]["value"] = 2
    assert not Draft202012Validator(RESULTS_SCHEMA).is_valid(document)


def test_every_form_shows_both():
    results, found, out = with_repeated(), repeated(), io.StringIO()
    assert found.auc_within is not None
    document = results.to_json()
    show_results(Console(file=out, width=140), results)
    for text in (render_html(document, [{}, {}], {}), render_markdown(document, {}), out.getvalue()):
        assert f"{found.auc.value:.3f}" in text
        assert f"{found.auc_within.value:.3f}" in text
        assert "ithin a model" in text or "AUC within" in text
        assert "records.csv" in text or text == out.getvalue()


def test_the_csv_has_rows_of_leave_one_out():
    rows = list(csv.DictReader(io.StringIO(render_csv(with_repeated().to_json()))))
    assert [row["unit"] for row in rows] == ["target", "leave-one-out"] * 2
    row, found = rows[1], repeated()
    assert found.auc_within is not None
    assert (float(row["auc"]), float(row["auc_within_low"])) == (found.auc.value, found.auc_within.low)
    assert (row["targets"], row["attack"]) == ("16", "lira-online")
    assert int(row["members"]) + int(row["nonmembers"]) == 16 * 300
    assert float(row["tpr_at_fpr_0.001_tp"]) == found.tpr_at_fpr[0].hits
    assert row["null_auc"] == "", "it is of the target"
    assert rows[3]["auc_within"] == ""


# rates: what is clustered, and how


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("models", [3, 4, 7, 10])
def test_rates_without_two_models_are_those_of_the_others(models, turned):
    """Against the plain way, with tied scores; of three models one is left out at a time."""
    rng = np.random.default_rng(models)
    member = rng.random((models, 60)) < 0.4
    scores = np.round(rng.standard_normal(member.shape) + member, 1)
    pooled = clustered.Pooled.of(scores, member)
    pooled = pooled.exchanged() if turned else pooled
    rates, size = [0.01, 0.05, 0.3, 1.0], 1 if models == 3 else 2
    found = clustered._without_each(pooled, rates)
    groups = [np.arange(k, min(k + size, models)) for k in range(0, models, size)]
    for row, group in zip(found, groups, strict=True):
        s, m = np.delete(scores, group, axis=0).ravel(), np.delete(member, group, axis=0).ravel()
        assert row == pytest.approx([_shared(-s if turned else s, ~m if turned else m, r) for r in rates], abs=1e-12)


def _shared(s, m, rate):
    """The TPR at a rate, threshold by threshold; of tied scores that are allowed in part the share that is."""
    hits = errors = 0
    most = metrics.allowed(rate, int((~m).sum()))
    for level in sorted(set(s), reverse=True):
        more, worse = int((m & (s == level)).sum()), int((~m & (s == level)).sum())
        if errors + worse > most:
            return (hits + more * (most - errors) / worse) / m.sum()
        hits, errors = hits + more, errors + worse
    return hits / m.sum()


def test_tied_scores_at_the_top_leave_a_rate_of_none_as_sure_as_others():
    """A twentieth of all pairs share the highest score: no threshold keeps to 1 %, and that is the same with every model.

    In a random order of these scores a few members would be found: the interval reaches little above their share.
    """
    rng = np.random.default_rng(0)
    m = rng.random((32, 400)) < 0.5
    s = np.minimum(np.round(rng.standard_normal(m.shape) + m, 1), 1.6)
    point = clustered.tpr_point(s, m, 0.01)
    assert point.value == 0
    in_random_order = 0.01 / (~m & (s == 1.6)).sum() * (~m).sum() * (m & (s == 1.6)).sum() / m.sum()
    assert in_random_order < point.high < 1.2 * in_random_order


def test_twins_are_left_out_together_though_others_are_missing():
    """Models that learnt nothing are no targets: those after them are still paired as their masks are."""
    member = shadow_members(12, 40, 0, "paired").numpy()
    for gone, sizes in (
        ([], [2] * 6),
        ([0], [1] + [2] * 5),
        ([3, 6], [2, 1, 2, 1, 2, 2]),
        ([1, 10], [1, 2, 2, 2, 2, 1]),
    ):
        kept = np.delete(member, gone, axis=0)
        groups = clustered._groups(kept, ~kept)
        assert [g.stop - g.start for g in groups] == sizes, gone
    member = shadow_members(6, 40, 0).numpy()
    assert [g.start for g in clustered._groups(member, ~member)] == [0, 2, 4], "no twins: neighbours"


@pytest.mark.parametrize(("fpr", "models", "examples"), [(0.001, 16, 1000), (0.01, 64, 200)])
def test_rates_cover_what_they_say_where_whole_models_lie_higher(fpr, models, examples):
    """Every model on a scale of its own: one or two hold all errors. Student's t for all models covered 63 to 84 %."""
    rng, s, m = np.random.default_rng(0), *shifted(0.0, 4000, 400)
    scale = np.exp(rng.standard_normal((4000, 1)) / 2)
    truth, covered = metrics.tpr_at_fpr((s * scale).ravel(), m.ravel(), fpr), 0
    for seed in range(60):
        s, m = shifted(0.0, models, examples, seed=seed)
        point = clustered.tpr_point(s * np.exp(rng.standard_normal((models, 1)) / 2), m, fpr)
        covered += point.low <= truth <= point.high
    assert covered / 60 >= 0.85


def test_a_rate_of_none_or_all_is_clustered_too():
    """Where models differ, no hit among thousands of pairs is not thousands of independent misses."""
    s, m = shifted(3.0, gap=0.0)
    s[0, ~m[0]] += 100.0  # one model holds all the errors that are allowed
    for point, exact in (
        (clustered.tpr_point(s, m, 0.01), metrics.clopper_pearson(0, int(m.sum()))),
        (clustered.tnr_point(-s, ~m, 0.01), metrics.clopper_pearson(0, int(m.sum()))),
    ):
        assert point.value == 0.0 == point.low
        assert point.high > 5 * exact[1]
    s, m = shifted(0.0, gap=50.0)
    found = clustered.tpr_point(s, m, 0.01)
    assert (found.value, found.high) == (1.0, 1.0)
    assert found.low == metrics.clopper_pearson(16, 16)[0]


@pytest.mark.parametrize("gap", [0.0, 50.0])
def test_a_rate_at_no_errors_at_all_has_an_interval(gap):
    s, m = shifted(0.0, gap=gap)
    if not gap:
        s[0, np.flatnonzero(~m[0])[0]] += 50.0  # the highest score is a non-member's
    for point in (clustered.tpr_point(s, m, 0.0), clustered.tnr_point(-s, ~m, 0.0)):
        assert point.value == (gap > 0) == point.hits / point.of
        assert 0 <= point.low <= point.value <= point.high <= 1
        assert point.high - point.low > 1 / point.of


@pytest.mark.filterwarnings("error")
def test_members_that_all_belong_to_one_or_two_models_are_one_find():
    """Without their models there is nothing to find: the rate of the others is no number."""
    rng = np.random.default_rng(0)
    s, m = rng.standard_normal((8, 50)), np.zeros((8, 50), dtype=bool)
    m[2:4] = rng.random((2, 50)) < 0.5
    for point in (clustered.tpr_point(s, m, 0.3), clustered.tnr_point(-s, ~m, 0.3)):
        assert 0 < point.low < point.value < point.high
        assert point.high - point.low > 0.5, "of one group of models"


def test_equal_scores_give_no_certainty():
    _, m = shifted(0.0)
    for interval in (clustered.auc_interval(m * 0.0, m), clustered.auc_within(m * 0.0, m)):
        assert interval.low < 0.45
        assert interval.value == 0.5
        assert interval.high > 0.55


def test_the_mean_of_groups_of_models_is_that_of_their_pooled_aucs():
    rng = np.random.default_rng(0)
    member = rng.random((8, 200)) < 0.5
    scores = rng.normal(size=(8, 200)) + member + rng.normal(size=200)
    whole = clustered.auc_interval(scores, member)
    assert vars(clustered.mean_auc([(scores, member)])) == pytest.approx(vars(whole))
    halves = [(scores[:4], member[:4]), (1000 * scores[4:], member[4:])]
    found = clustered.mean_auc(halves)
    assert found.value == pytest.approx(np.mean([clustered.auc_interval(*half).value for half in halves]))
    assert found.high - found.low == pytest.approx(whole.high - whole.low, rel=0.3), "the examples are the same in both"
    wider = clustered.mean_auc(halves, correlation=0.44)
    assert wider.high - wider.low > found.high - found.low


# --- examples that are not independent -----------------------------------------------------------------------------


@pytest.mark.parametrize("of", [clustered.auc_interval, clustered.auc_within])
def test_rows_of_a_unit_that_are_alike_tell_no_more_than_one(of):
    """Each example three times: with units the interval is that of each example once, without them narrower."""
    s, m = shifted(0.0, models=8)
    s = s + 3 * m * np.random.default_rng(1).normal(size=s.shape[1])  # what a member gains is of the example
    units = np.repeat(np.arange(s.shape[1]), 3)
    once, thrice = of(s, m), of(s[:, units], m[:, units], units)
    assert (thrice.value, thrice.low, thrice.high) == pytest.approx((once.value, once.low, once.high), abs=1e-9)
    taken_for_more = of(s[:, units], m[:, units])
    assert taken_for_more.high - taken_for_more.low < 0.9 * (once.high - once.low)


def test_rates_of_units_that_are_alike_tell_no_more_than_one():
    s, m = shifted(1.0, models=8)
    units = np.repeat(np.arange(s.shape[1]), 3)
    for fpr in (0.0, 0.05, 0.3):
        once = clustered.tpr_point(s, m, fpr)
        thrice = clustered.tpr_point(s[:, units], m[:, units], fpr, units=units)
        alone = clustered.tpr_point(s[:, units], m[:, units], fpr)
        # the jackknife over models and the slope see three times as many pairs, with other steps between them
        assert thrice.high - thrice.low == pytest.approx(once.high - once.low, rel=0.15)
        assert alone.high - alone.low <= thrice.high - thrice.low + 1e-12


def test_units_of_one_row_change_nothing_and_others_must_fit():
    s, m = shifted(1.0, models=8)
    assert clustered.auc_interval(s, m, np.arange(s.shape[1])) == clustered.auc_interval(s, m)
    with pytest.raises(ValueError, match="one for each example"):
        clustered.auc_interval(s, m, np.arange(3))


@pytest.mark.parametrize("size", [2, 8])
def test_intervals_by_unit_hold_where_rows_of_a_unit_leak_alike(size):
    """What members' scores gain is of the unit. 120 audits: at least 95 % would be covered but for chance; by rows 60 to 90 %."""
    held = 0
    for seed in range(120):
        rng = np.random.default_rng(seed)
        units = np.arange(240) // size
        m = shadow_members(12, 240, seed, "paired", units * size).numpy()
        s = 0.5 * rng.normal(size=m.shape) + m * 1.5 * rng.normal(size=units.max() + 1)[units]
        found = clustered.auc_interval(s, m, units)
        held += found.low <= 0.5 <= found.high
    assert held >= 120 * 0.88
