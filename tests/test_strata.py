"""Splits of a user's table: every part holds its share of each class, whatever the seed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hampkit.config.recipe import load_recipe
from hampkit.config.sections import JudgeConfig, SplitConfig
from hampkit.data.base import Source
from hampkit.data.candidates import candidates
from hampkit.data.splits import SEGMENTS, check_classes, rare_classes, split_table
from hampkit.data.strata import stratified
from hampkit.errors import Notice, UserError
from hampkit.registry import DATASETS
from hampkit.types import Dataset, Domain
from hampkit.workflows.prepare import prepare
from hampkit.workflows.session import Session

RARE = Path(__file__).parent / "cases" / "rare-class.csv"  # 400 rows, 3 of them of class z
PUBLISHED = ("location30", "purchase100", "texas100", "cifar10", "cifar100")


def labels_of(counts):
    """Labels with so many rows per class, mixed."""
    return np.random.default_rng(5).permutation(np.repeat(np.arange(len(counts)), counts))


def split_counts(y, seed, train_size=0):
    """(S, C) rows of each class in every segment."""
    table = split_table(len(y), SplitConfig(train_size, "default", seed), labels=torch.from_numpy(y))
    return np.array([np.bincount(y[table.rows(name).numpy()], minlength=y.max() + 1) for name in SEGMENTS])


CLASSES = st.lists(st.integers(1, 60), min_size=2, max_size=12).filter(lambda counts: sum(counts) >= 60)


@settings(max_examples=80, deadline=None)
@given(CLASSES, st.integers(0, 2**31))
def test_parts_hold_their_share_of_each_class_whatever_the_seed(counts, seed):
    y = labels_of(counts)
    found = split_counts(y, seed)
    assert (found[0] >= 1).all(), "every class has a member"
    assert (found.sum(0) == np.array(counts)).all()
    expected = found.sum(1)[:, None] * np.array(counts) / len(y)
    assert np.abs(found - expected).max() < 3


@pytest.mark.parametrize(("rows", "classes"), [(2, 60), (3, 40), (6, 20), (1, 30)])
def test_a_label_alone_is_no_evidence_of_membership(rows, classes):
    """Rare classes are as often among the judged members as among the judged non-members, over the seeds.

    Of a class of one or two rows the first is a member, so that it can be trained on: that row is known, never judged.
    """
    y = labels_of([rows] * classes + [(600 - rows * classes) // 3] * 3)
    found = []
    for seed in range(60):
        table = split_table(len(y), SplitConfig(0, "default", seed), labels=torch.from_numpy(y))
        p, pool = table.n_members, y[torch.cat([table.rows("members"), table.rows("nonmembers")]).numpy()]
        judged = candidates(np.ones(2 * p, bool), p, JudgeConfig()).judged
        rare = pool[judged] < classes
        found.append(rare[judged < p].sum() - rare[judged >= p].sum())
    assert abs(np.mean(found)) < 4 * np.std(found) / np.sqrt(len(found)) + 0.5
    assert np.abs(found).max() <= 6


def test_rare_classes_have_their_share_in_every_part_taken_together():
    """100 classes of 3 rows: 9 % of the rows, also of those that the adversary knows, of those that are judged, of the test."""
    y, shares = labels_of([3] * 100 + [1000] * 3), []
    for seed in range(20):
        table = split_table(len(y), SplitConfig(0, "default", seed), labels=torch.from_numpy(y))
        rows = {name: table.rows(name).numpy() for name in ("members", "nonmembers", "test")}
        half = len(rows["members"]) // 2
        pool = (rows["members"], rows["nonmembers"])
        parts = (*(part for side in pool for part in (side[:half], side[half:])), rows["test"])
        shares.append([(y[part] < 100).mean() for part in parts])
    assert np.abs(np.mean(shares, axis=0) - 300 / 3300).max() < 0.006, np.mean(shares, axis=0)


def test_many_classes_of_one_size_do_not_all_miss_the_same_part():
    """50 classes of 4 rows and one of 800: of the 90 test rows 18 belong to the small ones."""
    found = split_counts(labels_of([4] * 50 + [800]), 0)
    for part in ("validation", "test"):
        assert 12 <= found[SEGMENTS.index(part), :50].sum() <= 24


def test_the_rows_themselves_are_drawn_by_the_seed():
    y = labels_of([208, 189, 3])
    one, two = (
        split_table(400, SplitConfig(0, "default", seed), labels=torch.from_numpy(y)).rows("members") for seed in (0, 1)
    )
    assert 50 < len(set(one.tolist()) & set(two.tolist())) < 120


def test_a_prefix_of_members_is_stratified_too():
    """The part that the adversary knows is the first half of members and of non-members."""
    y = labels_of([300, 60, 40])
    table = split_table(400, SplitConfig(0, "default", 3), labels=torch.from_numpy(y))
    for name in ("members", "nonmembers"):
        rows = table.rows(name).numpy()
        known = np.bincount(y[rows[: len(rows) // 2]], minlength=3)
        assert np.abs(known - np.array([300, 60, 40]) * len(rows) / 2 / 400).max() < 2.5, name


def test_rows_of_a_unit_stay_neighbours():
    rng = np.random.default_rng(0)
    units, y = rng.integers(0, 60, 300), rng.integers(0, 3, 300)
    order = stratified(y, units, np.random.default_rng(1), 120)
    assert sorted(order.tolist()) == list(range(300))
    assert (np.diff(units[order]) != 0).sum() == len(np.unique(units)) - 1


def test_more_classes_than_members_are_an_error_that_does_not_name_the_seed():
    y = torch.arange(100) % 50
    data = Dataset("mine", torch.zeros(100, 1), y, 50, Domain.grid((1,), 0, 1, 1))
    table = split_table(100, SplitConfig(20, "default", 0), labels=y)
    with pytest.raises(UserError, match="has none among the 18 members; remove or merge the class or raise") as caught:
        check_classes(data, table, by_seed=False)
    assert "seed" not in str(caught.value)
    with pytest.raises(UserError, match="remove or merge the class or give more rows of it") as caught:
        check_classes(data, table, by_seed=False, by_size=False)
    assert "train_size" not in str(caught.value), "it is the largest already"


def test_where_rare_classes_went_is_said_in_one_line():
    y = labels_of([1, 2, 3, 3, 391])
    data = Dataset(
        "mine", torch.zeros(400, 1), torch.from_numpy(y), 5, Domain.grid((1,), 0, 1, 1), classes=tuple("vwxyz")
    )
    said = rare_classes(data, split_table(400, SplitConfig(0, "default", 0), labels=data.y))
    assert said.startswith(
        "these classes are too rare for every part of the split: 'v' (members 1, validation 0, test 0,"
    )
    assert said.endswith("and 1 more")
    assert "'z'" not in said
    y = labels_of([40, 360])
    even = Dataset("mine", torch.zeros(400, 1), torch.from_numpy(y), 2, Domain.grid((1,), 0, 1, 1))
    assert rare_classes(even, split_table(400, SplitConfig(0, "default", 0), labels=even.y)) == ""


def test_published_data_sets_keep_their_permutation():
    for name in PUBLISHED:
        assert not DATASETS.get(name).stratified, name
    assert not Source.stratified
    assert DATASETS.get("file").stratified


def test_the_seed_does_not_decide_whether_a_table_with_a_rare_class_can_be_split():
    for seed in range(12):
        with pytest.warns(Notice, match=r"'z' \(members [123], validation [01], test [01], non-members [012]\)"):
            prepare(load_recipe("undefended", {"seed": str(seed)}, str(RARE), "kind"), Session())


def test_a_given_permutation_is_taken_as_it_is(tmp_path):
    order = np.random.default_rng(1).permutation(400)
    np.save(tmp_path / "p.npy", order)
    recipe = load_recipe("undefended", {"split.permutation": str(tmp_path / "p.npy")}, str(RARE), "kind")
    assert prepare(recipe, Session()).table.permutation.tolist() == order.tolist()


def test_the_command_says_what_it_did_with_a_rare_class(cli):
    shutil.copy(RARE, "rare.csv")
    code, out, err = cli(
        "run", "undefended", "--data", "rare.csv", "--label", "kind", "epochs=1", "neural.epochs=1", "--json"
    )
    assert code == 0
    assert "warning: data set 'rare': a class is too rare for every part of the split: 'z' (members " in err
    assert json.loads(out)["models"][0]["data"]["classes"] == 3
