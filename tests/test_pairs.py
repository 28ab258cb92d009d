"""Pairs of targets and examples: the intervals of one target, of several, and pairs that are not judged."""

import numpy as np
import pytest

from hampkit.attacks.threshold import Loss
from hampkit.judging.evaluate import evaluate
from hampkit.judging.results import FPRS, AttackResult
from hampkit.stats import clustered, grouped
from hampkit.stats.pairs import Pairs, mean_auc


def drawn(targets, examples=400, gap=0.7, seed=0):
    rng = np.random.default_rng(seed)
    member = rng.random((targets, examples)) < 0.5
    return rng.normal(size=member.shape) + gap * member, member


def test_one_target_has_the_intervals_of_independent_examples_or_groups():
    scores, member = drawn(1)
    groups = np.arange(400) // 4 * 2 + member[0]
    for units in (None, groups):
        pairs = Pairs.of(scores[0], member[0], units=units)
        assert pairs.auc() == grouped.auc_interval(scores[0], member[0], units)
        rates = pairs.rates(FPRS)
        assert rates.tpr == [grouped.tpr_point(scores[0], member[0], rate, False, units) for rate in FPRS]
        assert rates.tnr == [grouped.tnr_point(scores[0], member[0], rate, False, units) for rate in FPRS]
        assert pairs.auc_within() is None


def test_several_targets_have_intervals_clustered_by_both():
    scores, member = drawn(6)
    pairs = Pairs.of(scores, member)
    assert pairs.auc() == clustered.auc_interval(scores, member)
    assert pairs.auc_within() == clustered.auc_within(scores, member)
    rates = pairs.rates(FPRS)
    assert [point for point, _ in rates.tpr] == clustered.tpr_points(scores, member, FPRS)
    assert [point for point, _ in rates.tnr] == clustered.tnr_points(scores, member, FPRS)
    assert not rates.tied
    coarse = np.round(scores)
    assert Pairs.of(coarse, member).rates(FPRS).tied
    assert Pairs.of(coarse[0], member[0]).rates(FPRS).tied
    with pytest.raises(ValueError, match="of one target, not of 6"):
        pairs.balanced_accuracy(0.5)


@pytest.mark.parametrize("targets", [1, 6])
def test_examples_that_are_not_judged_have_no_part_in_any_number(targets):
    scores, member = drawn(targets)
    judged = np.broadcast_to(np.arange(400) % 3 > 0, member.shape)
    kept = judged[0]
    found = evaluate(scores, member, judged=judged, units=np.arange(400) * 2)
    wanted = evaluate(scores[:, kept], member[:, kept])
    assert (found.auc, found.auc_within, found.tpr, found.tnr, found.flags) == (
        wanted.auc, wanted.auc_within, wanted.tpr, wanted.tnr, wanted.flags
    )  # fmt: skip
    if targets > 1:
        other = judged.copy()
        other[0] = True
        with pytest.raises(ValueError, match="the same for every target"):
            evaluate(scores, member, judged=other)


@pytest.mark.parametrize("targets", [1, 6])
def test_a_result_counts_pairs_and_is_read_back_as_it_was(targets):
    scores, member = drawn(targets)
    result = evaluate(scores, member).result(Loss(), "target" if targets == 1 else "leave-one-out")
    assert (result.targets, result.members, result.nonmembers) == (targets, member.sum(), (~member).sum())
    assert result.examples == 400
    assert AttackResult.from_json(result.to_json()) == result


@pytest.mark.parametrize("targets", [1, 6])
def test_shuffled_membership_is_found_by_neither(targets):
    covered = 0
    for seed in range(60):
        scores, member = drawn(targets, gap=0.0, seed=seed)
        interval = Pairs.of(scores, member).auc()
        covered += interval.low <= 0.5 <= interval.high
    assert covered >= 52, "60 audits of 95 %: fewer in one of a thousand such tests"


@pytest.mark.parametrize("targets", [1, 6])
def test_the_mean_of_two_halves_is_that_of_the_statistics_below(targets):
    halves = [Pairs.of(*drawn(targets, seed=seed)) for seed in (0, 1)]
    found = mean_auc(halves, correlation=0.3)
    if targets == 1:
        wanted = grouped.mean_auc([(h.scores[0], h.membership[0]) for h in halves], correlation=0.3)
    else:
        wanted = clustered.mean_auc([(h.scores, h.membership) for h in halves], correlation=0.3)
    assert found == wanted
