"""Rows of one person stay on one side of the split: of every segment, of what is known, of shadow models' masks."""

from __future__ import annotations

import json
import weakref
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import hampkit
from hampkit.config.recipe import ShadowConfig, load_recipe
from hampkit.config.sections import JudgeConfig, SplitConfig
from hampkit.data.base import Place
from hampkit.data.candidates import candidates
from hampkit.data.copies import joined
from hampkit.data.splits import SEGMENTS, split_table
from hampkit.data.table import File
from hampkit.errors import UserError
from hampkit.workflows.prepare import prepare
from hampkit.workflows.session import Session

HERE = Place(None, Path("cache"), False)
QUICK = ["epochs=2", "neural.epochs=2"]


@pytest.fixture
def people(write_table):
    """300 rows of 75 people, one to seven each, not next to one another; some names are numbers that floats would merge."""
    rng = np.random.default_rng(3)
    who = rng.integers(0, 75, 300)
    return write_table(rows=300, person=[2**53 + k for k in who], visit=rng.normal(size=300).round(4)), who


def in_segments(table, group):
    return [set(group[table.rows(name).numpy()].tolist()) for name in SEGMENTS]


@settings(max_examples=80, deadline=None)
@given(st.integers(20, 400), st.integers(1, 9), st.integers(0, 2**31))
def test_no_group_is_in_two_segments_and_sizes_are_near_the_layouts(groups, largest, seed):
    rng = np.random.default_rng(seed)
    group = rng.permutation(np.repeat(np.arange(groups), rng.integers(1, largest + 1, groups)))
    y = torch.from_numpy(rng.integers(0, 3, len(group)))
    if len(group) < 120:
        return
    table = split_table(len(group), SplitConfig(0, "default", seed), labels=y, groups=torch.from_numpy(group))
    assert not [a & b for a, b in combinations(in_segments(table, group), 2) if a & b]
    plain = split_table(len(group), SplitConfig(0, "default", seed))
    for name in SEGMENTS:
        assert abs(len(table.rows(name)) - len(plain.rows(name))) <= largest, name


def test_groups_of_one_row_change_nothing():
    y = torch.arange(500) % 3
    plain, one = (split_table(500, SplitConfig(0, "default", 4), labels=y, groups=g) for g in (None, torch.arange(500)))
    assert torch.equal(one.permutation, plain.permutation)
    assert one.segments == plain.segments


def test_a_group_larger_than_a_part_is_refused_whatever_the_seed():
    group = torch.cat([torch.zeros(60), torch.arange(1, 341)]).long()
    for seed in range(3):
        with pytest.raises(
            UserError, match=r"largest of 341 groups \(data.group\) has 60 rows, .* only 36: .*another column"
        ):
            split_table(400, SplitConfig(0, "default", seed), labels=torch.arange(400) % 2, groups=group)


def test_a_permutation_and_groups_are_one_too_many(tmp_path):
    np.save(tmp_path / "p.npy", np.arange(400))
    with pytest.raises(UserError, match=r"split.permutation and data.group .* leave one out"):
        split_table(
            400, SplitConfig(0, "default", 0, str(tmp_path / "p.npy")), torch.arange(400) % 2, torch.arange(400)
        )


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=6, max_size=40), st.integers(0, 99))
def test_groups_are_known_or_judged_as_a_whole(sizes, seed):
    group = np.repeat(np.arange(len(sizes)), sizes)
    members = int(np.cumsum(sizes)[len(sizes) // 2 - 1])
    found = candidates(np.ones(len(group), bool), members, JudgeConfig(), group)
    parts = [found.known[found.fit], found.known[~found.fit], found.judged]
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(group)))
    for a, b in combinations(parts, 2):
        assert not set(group[a]) & set(group[b])
    for part in parts:
        assert (part < members).any()
        assert (part >= members).any()


# --- tables --------------------------------------------------------------------------------------------------------


def test_the_group_column_is_no_feature_and_keeps_long_numbers_apart(people):
    file, who = people
    data = File(file=file, label="risk", group="person").load(HERE)
    plain = File(file=file, label="risk", drop=("person",)).load(HERE)
    assert torch.equal(data.x, plain.x)
    assert data.sha256 != plain.sha256, "another split, so another run"
    assert data.group is not None
    assert np.array_equal(data.group.numpy(), np.unique(who, return_inverse=True)[1])
    assert data.take(torch.tensor([3, 1])).group.tolist() == data.group[[3, 1]].tolist()  # pyright: ignore


@pytest.mark.parametrize("names", [["Ann", "Bob", "Cid", "01", "1"], [1.5, 2.5, 3.5, 4.5, 5.5], [True, False]])
def test_groups_may_be_of_any_kind(write_table, names):
    who = [names[k % len(names)] for k in range(200)]
    group = File(file=write_table(person=who), label="risk", group="person").load(HERE).group
    assert group is not None
    assert len(group.unique()) == len(names)
    assert torch.equal(group[: len(names)], group[len(names) : 2 * len(names)])


def test_an_npz_names_an_array(tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 3)), np.arange(60) % 2
    np.savez(tmp_path / "a.npz", x=x, y=y, who=np.arange(60) // 2, short=np.arange(5))
    group = File(file=str(tmp_path / "a.npz"), group="who").load(HERE).group
    assert group is not None
    assert group.tolist() == [k // 2 for k in range(60)]
    with pytest.raises(UserError, match=r"array 'short' .* of shape \(60,\), one group for each row"):
        File(file=str(tmp_path / "a.npz"), group="short").load(HERE)
    with pytest.raises(UserError, match="no array 'whom'"):
        File(file=str(tmp_path / "a.npz"), group="whom").load(HERE)
    np.savez(tmp_path / "b.npz", x=x, y=y, who=np.full(60, 7))
    with pytest.raises(UserError, match=r"group array 'who' .* one value in all 60 rows"):
        File(file=str(tmp_path / "b.npz"), group="who").load(HERE)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--group", "persn"], ["no column 'persn' (data.group)", "did you mean 'person'?"]),
        (["--group", "risk"], ["column 'risk'", "is the group and the label"]),
        (["--group", "person", "drop=[person]"], ["'person'", "is the group and in data.drop"]),
        (["--group", "person", "data.group=town"], ["--group person and data.group=town are the same option"]),
        (["--group", "town", "drop=[gap]"], ["largest of 3 groups", "group by another column"]),
        (["--group", "one", "drop=[gap]"], ["group column 'one'", "one value in all 200 rows", "several groups"]),
        (["--group", "gap"], ["group column 'gap'", "no value in data row 3"]),
    ],
)
def test_a_bad_group_is_one_clear_line(cli, write_table, refused, nothing_written, argv, said):
    file = write_table(person=[k // 3 for k in range(200)], gap=[1, 2, "", *range(197)], one=[7] * 200)
    refused(cli("run", "hamp", "--data", file, "--label", "risk", *argv), *said)
    nothing_written()


def test_a_plan_takes_the_column(cli, write_table, refused):
    argv = ["plan", "hamp", "--shadows", "4", "--data", write_table(), "--label", "risk", "--group", "persn"]
    refused(cli(*argv), "'persn' (data.group)")


def test_a_group_needs_a_table(cli, refused):
    refused(cli("run", "digits/hamp", "--group", "person"), "data.group=person", "--group", "add --data FILE")


# --- runs ----------------------------------------------------------------------------------------------------------


def test_masks_hold_whole_groups(people):
    file, _ = people
    recipe = load_recipe("undefended", {"shadows.models": "8", "data.group": "person"}, file, "risk")
    problem = prepare(recipe, Session())
    members, group = problem.shadow_task().of(ShadowConfig(8)).masks().numpy(), problem.task.pool.group
    assert group is not None
    for g in group.unique():
        rows = members[:, (group == g).numpy()]
        assert (rows == rows[:, :1]).all()
    assert (members.sum(0) == 4).all()
    assert np.abs(members.sum(1) - len(group) / 2).max() <= 7


def test_units_are_computed_once_and_the_population_is_not_kept(people, monkeypatch):
    file, _ = people
    problem = prepare(load_recipe("undefended", {"data.group": "person"}, file, "risk"), Session())
    calls = []
    monkeypatch.setattr("hampkit.workflows.problem.joined", lambda *kinds: calls.append(0) or joined(*kinds))
    task = problem.shadow_task()
    assert task.units is problem.units() is problem.shadow_task().units
    assert len(calls) <= 1  # none if a check has asked before
    population = weakref.ref(task.population.x)
    del task
    assert population() is None


@pytest.mark.parametrize(
    "command", [["train", "undefended"], ["shadow", "undefended", "--models", "4", "--workers", "1"]]
)
def test_commands_take_the_column(cli, people, command):
    file, who = people
    code, out, err = cli(*command, "--data", file, "--label", "risk", "--group", "person", "epochs=1", "--quiet")
    assert code == 0, err
    split = np.load(Path(out.split()[0]) / "split.npz")
    sides = [set(who[split[f"rows_{name}"]]) for name in SEGMENTS]
    assert not [a & b for a, b in combinations(sides, 2) if a & b]


def test_a_run_with_groups_can_be_attacked_again(cli, people):
    file, _ = people
    code, out, err = cli("run", "undefended", "--data", file, "--label", "risk", "--group", "person", "--json", *QUICK)
    assert code == 0, err
    model = json.loads(out)["models"][0]
    folder = Path("runs") / model["run"]
    (again,) = hampkit.attack(folder, "loss").models[0].attacks
    (before,) = (a for a in model["attacks"] if a["attack"] == "loss")
    assert {key: again.to_json()[key] for key in ("auc", "members", "tpr_at_fpr")}.items() <= before.items()


def test_a_comparison_takes_the_column(cli, people):
    file, _ = people
    argv = ["compare", "--data", file, "--label", "risk", "--group", "person", "--defenses", "undefended,round", *QUICK]
    code, _, err = cli(*argv, "--quiet")
    assert code == 0, err
    assert json.loads(Path("runs/compare.json").read_text())["options"]["data.group"] == "person"
