"""Intervals where rows come in groups: against rows that are independent, against simulation, and in a run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from benchmarks.auc_groups import draw
from hypothesis import given, settings
from hypothesis import strategies as st

from hampkit.judging import strongest as comparison
from hampkit.judging.case import Case, shuffled
from hampkit.stats import grouped, metrics


def scored(seed=0, members=30, others=40, gap=1.0):
    rng = np.random.default_rng(seed)
    member = np.arange(members + others) < members
    return rng.normal(size=len(member)) + gap * member, member


@pytest.mark.parametrize("groups", [None, np.arange(70)])
def test_groups_of_one_row_give_what_rows_give(groups):
    scores, member = scored()
    other = scored(seed=1)[0]
    assert grouped.auc_interval(scores, member, groups) == metrics.auc_interval(scores, member)
    assert grouped.auc_difference(scores, other, member, groups) == metrics.auc_difference(scores, other, member)
    assert grouped.tpr_point(scores, member, 0.1, groups=groups) == (
        metrics.tpr_point(scores, member, 0.1),
        metrics.tpr_bounds(scores, member, 0.1),
    )
    assert grouped.tnr_point(scores, member, 0.1, groups=groups)[0] == metrics.tnr_point(scores, member, 0.1)
    assert grouped.balanced_point(scores, member, 0.5, groups) == metrics.balanced_point(scores, member, 0.5)


def test_rows_that_are_repeated_tell_nothing_new():
    """Five copies of each row as a group: variance and number of groups are those of the rows; only Student's t is added."""
    scores, member = scored(members=60, others=80)
    many, among, group = np.repeat(scores, 5), np.repeat(member, 5), np.repeat(np.arange(140), 5)
    of_members, _ = metrics.placements(scores, member)
    found = grouped.moments(np.repeat(of_members, 5), np.repeat(np.arange(60), 5))
    assert found.variance == pytest.approx(of_members.var(ddof=1) / 60)
    assert found.groups == pytest.approx(60)
    once, again = metrics.auc_interval(scores, member), grouped.auc_interval(many, among, group)
    assert again.value == pytest.approx(once.value)
    assert 1 < (again.high - again.low) / (once.high - once.low) < 1.04
    assert grouped.size_of_rate(np.repeat(scores > 0, 5), group) == pytest.approx(140, rel=0.04)
    alone = metrics.auc_interval(many, among)
    assert (alone.high - alone.low) < 0.5 * (once.high - once.low), "rows alone would be taken for five times as many"


def test_tnr_is_tpr_with_the_sides_exchanged():
    scores, member = scored()
    group = np.arange(70) // 3
    group[member] += 100
    one = grouped.tnr_point(scores, member, 0.1, groups=group)
    other = grouped.tpr_point(-scores, ~member, 0.1, groups=group)
    assert one[1] == other[1]
    assert (one[0].value, one[0].low, one[0].high) == (other[0].value, other[0].low, other[0].high)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 12), st.integers(2, 12), st.sampled_from([0.0, 0.5, 3.0, 50.0]))
def test_intervals_hold_their_values_and_never_fail(seed, members, others, gap):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 6, members + others)
    group = np.repeat(np.arange(members + others), sizes)
    member = group < members
    scores, other = (rng.normal(size=len(group)).round(1) + gap * member for _ in range(2))
    point, outer = grouped.tpr_point(scores, member, 0.1, groups=group)
    found = [grouped.auc_interval(scores, member, group), grouped.balanced_point(scores, member, 0.5, group), point]
    for i in found:
        assert 0 <= i.low <= i.value + 1e-12
        assert i.value - 1e-12 <= i.high <= 1
    assert 0 <= outer[0] <= outer[1] <= 1
    difference = grouped.auc_difference(scores, other, member, group)
    assert -1 <= difference.low <= difference.value <= difference.high <= 1
    hits = scores > gap / 2
    kish, size = len(group) ** 2 / (sizes**2).sum(), grouped.size_of_rate(hits, group)
    assert kish - 1e-9 <= size <= len(group) if kish >= 3 or sizes.max() == 1 else size == 1


def test_groups_that_do_not_fit_are_refused():
    scores, member = scored()
    mixed, short = np.arange(70) // 2 * (np.arange(70) != 30) + 100 * (np.arange(70) == 30), np.arange(69)
    mixed[[29, 30]] = 7  # rows 0 to 29 are members
    for call in (
        lambda g: grouped.auc_interval(scores, member, g),
        lambda g: grouped.auc_difference(scores, -scores, member, g),
        lambda g: grouped.tpr_point(scores, member, 0.1, groups=g),
        lambda g: grouped.tnr_point(scores, member, 0.1, groups=g),
        lambda g: grouped.balanced_point(scores, member, 0.5, g),
    ):
        with pytest.raises(ValueError, match="1 groups hold members and non-members"):
            call(mixed)
        with pytest.raises(ValueError, match=r"groups \(69,\) must be \(70,\)"):
            call(short)
    with pytest.raises(ValueError, match="one for each row"):
        grouped.rate(member, short)


def test_two_groups_show_next_to_nothing_of_a_rate():
    found = grouped.rate(np.r_[np.ones(50), np.zeros(50)], np.repeat([0, 1], 50))
    assert found.low < 0.01
    assert found.high > 0.99


def test_a_better_attack_is_not_punished_near_one():
    """The last inverted pair is repaired: the lower bound moves by less than a tenth of the width."""
    group = np.repeat(np.arange(80), 4)
    member = group < 40
    perfect = np.arange(320)[::-1].astype(float)
    nearly = perfect.copy()
    nearly[[159, 160]] = perfect[[160, 159]]
    one, two = (grouped.auc_interval(s, member, group) for s in (nearly, perfect))
    assert two.value == 1
    assert one.low - two.low < 0.1 * (two.high - two.low)


def test_one_group_on_a_side_shows_nothing_of_how_groups_differ():
    scores, member = scored()
    group = np.where(member, 0, np.arange(70))
    found = grouped.auc_interval(scores, member, group)
    assert (found.low, found.high) == (0, 1)
    difference = grouped.auc_difference(scores, -scores, member, group)
    assert (difference.low, difference.high) == (-1, 1)


def test_intervals_by_group_cover_where_those_by_row_do_not():
    """40 + 60 groups of uneven size, correlation 0.6 within a group: 300 audits."""
    rng, audits, truth = np.random.default_rng(0), 300, 0.7602
    by_group = by_row = rates = 0
    for _ in range(audits):
        scores, member, group = draw(rng, (40, 60), "uneven", 0.6, 0.0, 1.0)
        found, alone = grouped.auc_interval(scores, member, group), metrics.auc_interval(scores, member)
        by_group, by_row = by_group + (found.low <= truth <= found.high), by_row + (alone.low <= truth <= alone.high)
        rate = grouped.rate(scores[member] > 0, group[member])
        rates += rate.low <= 0.8413 <= rate.high
    assert by_group / audits > 0.93
    assert rates / audits > 0.92
    assert by_row / audits < 0.7


def test_the_difference_of_two_attacks_of_one_auc_is_covered_by_group_and_not_by_row():
    rng, audits = np.random.default_rng(1), 300
    covered = {"group": 0, "row": 0}
    for _ in range(audits):
        (one, member, group), (other, *_) = (draw(rng, (30, 50), "even", 0.6, 0.0, 1.0) for _ in range(2))
        by_group, by_row = grouped.auc_difference(one, other, member, group), metrics.auc_difference(one, other, member)
        covered["group"] += by_group.low <= 0 <= by_group.high
        covered["row"] += by_row.low <= 0 <= by_row.high
    assert covered["group"] / audits > 0.93
    assert covered["row"] / audits < 0.8


# --- in a run ------------------------------------------------------------------------------------------------------


def test_the_null_deals_membership_to_whole_groups():
    group = np.repeat(np.arange(40), 3)
    member = group < 20

    case = Case(_evidence(), member, np.array([True, False]), group)
    null = shuffled(case, 0)
    assert all(len(set(null.member[group == g])) == 1 for g in range(40))
    assert null.member.sum() == 60
    assert 0.2 < (null.member == member).mean() < 0.8


def _evidence():
    import torch

    from hampkit.attacks import Evidence, Known

    one = torch.zeros(2, dtype=torch.bool)
    known = Known(torch.zeros(2, 1), torch.zeros(2), torch.zeros(2, 1, 2), one, one)
    return Evidence(torch.zeros(1, 1), torch.zeros(1), torch.zeros(1, 1, 2), 0, known)


def test_a_half_of_a_comparison_holds_whole_groups():
    group = np.repeat(np.arange(40), 3)
    half = comparison.half_of_each(group < 20, 3, group)
    assert all(len(set(half[group == g])) == 1 for g in range(40))
    assert half[:60].sum() == 30


def test_a_run_states_its_groups_and_its_intervals_are_wider(cli, write_table):
    """The same rows, each four times over with a little noise: persons. Their intervals are those of a quarter of the rows."""
    rng = np.random.default_rng(0)
    who = np.repeat(np.arange(60), 4)
    age = np.repeat(rng.normal(size=60), 4)
    file = write_table(
        rows=240, person=who, age=(age + rng.normal(size=240) / 100).round(4), income=(age * 2).round(3), town=["Ulm"] * 240,
        risk=[f"c{k}" for k in np.repeat(rng.integers(0, 2, 60), 4)],
    )  # fmt: skip
    argv = ["run", "undefended", "--data", file, "--label", "risk", "--json", "epochs=40", "neural.epochs=2"]
    code, out, err = cli(*argv, "--group", "person")
    assert code == 0, err
    model = json.loads(out)["models"][0]
    folder = Path("runs") / model["run"]
    members, others = (model["groups"][who] for who in ("members", "nonmembers"))
    loss = next(a for a in model["attacks"] if a["attack"] == "loss")
    assert (loss["members"], loss["nonmembers"]) == (4 * members, 4 * others)
    assert model["groups"]["sizes"]["train"] < model["rows"]["train"]
    files = np.load(next(iter(folder.glob("attacks/loss-*/scores.npz"))))
    alone = metrics.auc_interval(files["scores"], files["member"])
    assert loss["auc"]["high"] - loss["auc"]["low"] > 1.5 * (alone.high - alone.low)
    assert (
        f"{members} and {others} groups are judged, and intervals are by group"
        in (folder.parent / "report.md").read_text()
    )
