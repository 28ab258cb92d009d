"""Whether a rate can be seen at all: groups count, and not their rows."""

import numpy as np
import pytest

from hampkit.data.splits import shadow_members
from hampkit.judging import strongest as comparison
from hampkit.judging.evaluate import evaluate


def target(groups, size):
    """Scores and membership of so many groups a side, each of so many rows."""
    member = np.arange(2 * groups * size) < groups * size
    return np.random.default_rng(0).standard_normal(len(member)) + member, member, np.arange(len(member)) // size


def repeated(size, models=128, examples=200):
    """128 models of 200 examples: 12,800 pairs a side; in units of so many rows."""
    member = shadow_members(models, examples, 0, "paired", np.arange(examples) // size * size).numpy()
    return np.random.default_rng(0).standard_normal(member.shape), member, np.arange(examples) // size


class Named:
    name = "made-up"


@pytest.mark.parametrize(
    ("groups", "size", "seen"), [(6, 2000, []), (1500, 8, [0.01, 0.1]), (10_000, 2, [0.001, 0.01, 0.1])]
)
def test_rates_of_one_target_are_resolved_by_groups(groups, size, seen):
    scores, member, group = target(groups, size)
    judged = evaluate(scores, member, rows=group)
    for found in (judged.tpr, judged.tnr):
        assert [rate.at for rate in found if rate.resolved] == seen
    judged = evaluate(scores, member)
    for found in (judged.tpr, judged.tnr):
        assert all(rate.resolved for rate in found)


def test_each_rate_counts_the_groups_of_its_own_side():
    scores, member, group = target(10_000, 2)
    group = np.where(member, group // 1000, group)
    found = evaluate(scores, member, rows=group)
    tpr, tnr = found.tpr, found.tnr
    assert [r.resolved for r in tpr] == [True] * 3
    assert [r.resolved for r in tnr] == [False] * 3, "ten groups of members"


def test_groups_of_uneven_size_are_worth_fewer_than_there_are():
    scores, member, group = target(10_000, 2)
    one = np.flatnonzero(~member)
    group[one[:400]] = group[one[0]]
    assert len(set(group[~member])) == 9801
    more = np.concatenate([scores, scores[one[:1000]]]), np.r_[member, np.zeros(1000, bool)]
    own = np.r_[group, group.max() + 1 + np.arange(1000)]
    assert len(set(own[~more[1]])) > 10_000
    assert not evaluate(*more, rows=own).tpr[0].resolved


@pytest.mark.parametrize(
    ("rows", "groups", "flags", "reason"),
    [
        (4_999, 1, ("few",), "4,999 non-members, 5,000 needed"),
        (5_000, 1, ("unresolved",), ""),
        (9_999, 1, ("unresolved",), ""),
        (10_000, 1, (), ""),
        (12_000, 3, ("few",), "4,000 groups of non-members, 5,000 needed"),
        (12_000, 2, ("unresolved",), ""),
    ],
)
def test_a_rate_is_shown_from_five_errors_and_resolved_from_ten(rows, groups, flags, reason):
    """One rule for TPR and TNR; groups count, if there are groups."""
    member = np.arange(2 * rows) < rows
    scores = np.random.default_rng(0).standard_normal(2 * rows) + member
    found = evaluate(scores, member, rows=None if groups == 1 else np.arange(2 * rows) // groups)
    assert found.flags == flags
    assert (found.tpr[0].reason, found.tnr[0].reason) == (reason, reason.replace("non-members", "members"))
    assert not found.tpr[1].reason, "1 % needs a tenth"


def test_pairs_are_counted_in_leave_one_out_and_halves_in_a_comparison():
    scores, member, units = repeated(1, models=8, examples=1000)
    assert evaluate(scores, member, rows=units).tpr[0].reason == "4,000 pairs with non-members, 5,000 needed"
    part = ("loss", *target(1_000, 1)[:2])
    _, tpr, _ = comparison._measure([part, part], comparison.TARGET, None, False)
    assert tpr.reason == "1,000 non-members, 5,000 needed in each half"


@pytest.mark.parametrize(("size", "seen"), [(1, True), (2, False)])
def test_leave_one_out_is_resolved_by_units(size, seen):
    scores, member, units = repeated(size)
    found = evaluate(scores, member, rows=units)
    assert [found.tpr[0].resolved, found.tnr[0].resolved] == [seen, seen]
    assert bool({"few", "unresolved"} & {*found.flags}) != seen
    assert found.tpr[1].resolved


@pytest.mark.parametrize(("size", "seen"), [(1, True), (2000, False)])
def test_a_comparison_is_resolved_by_groups(size, seen):
    scores, member, group = target(12_000 // size, size)
    part = ("loss", scores, member, group)
    _, tpr, tnr = comparison._measure([part, part], comparison.TARGET, None, False)
    assert [tpr.resolved, tnr.resolved] == [seen, seen]
