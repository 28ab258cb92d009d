"""Copies of a row on both sides of the split: found by content, counted, flagged, and kept out of the judge's way."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import hampkit
from hampkit.attacks.threshold import Loss
from hampkit.config.recipe import JudgeConfig, ShadowConfig, load_recipe
from hampkit.data.candidates import candidates
from hampkit.data.copies import first_alike, joined
from hampkit.data.splits import shadow_members
from hampkit.errors import Notice, UserError
from hampkit.judging.case import Pool, build_case, score
from hampkit.stats import metrics
from hampkit.types import Dataset, Domain
from hampkit.workflows.prepare import prepare
from hampkit.workflows.session import Session

QUICK = ["epochs=2", "neural.epochs=2"]


@pytest.fixture
def table(tmp_path):
    """Write a table with so many distinct rows, each a number of times, and name it; labels may differ between copies."""

    def write(distinct, times, name="table.csv"):
        rng = np.random.default_rng(0)
        x = np.tile(rng.normal(size=(distinct, 4)).round(4), (times, 1))
        lines = [",".join(map(str, [*row, f"c{k}"])) for row, k in zip(x, rng.integers(0, 2, len(x)), strict=True)]
        (tmp_path / name).write_text("\n".join(["a,b,c,d,label", *lines]) + "\n")
        return tmp_path / name

    return write


# --- by content ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("shape", [(3,), (1, 2, 2)])
def test_rows_are_compared_by_all_they_hold(dtype, shape):
    x = torch.randint(0, 2, (500, *shape), generator=torch.Generator().manual_seed(0)).to(dtype)
    rows = [tuple(row) for row in x.reshape(500, -1).tolist()]
    assert first_alike(x).tolist() == [rows.index(row) for row in rows]


def test_minus_zero_is_zero_and_what_differs_in_one_bit_is_no_copy():
    x = torch.tensor([[0.0, 1.0], [-0.0, 1.0], [0.0, float(np.nextafter(np.float32(1), np.float32(2)))]])
    assert first_alike(x).tolist() == [0, 0, 2]


def test_a_view_with_gaps_is_read_as_its_values():
    x = torch.arange(12).reshape(3, 4).to(torch.uint8)[:, ::2]
    assert first_alike(torch.cat([x, x])).tolist() == [0, 1, 2, 0, 1, 2]


# --- who is known and judged ---------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.integers(0, 99), st.booleans())
def test_no_features_are_known_and_judged_or_judged_twice_or_on_the_wrong_side(kinds, seed, everyone):
    content = np.random.default_rng(seed).integers(0, kinds, 120)
    alike = first_alike(torch.from_numpy(content).unsqueeze(1))
    found = candidates(alike == np.arange(len(alike)), 70, JudgeConfig(candidates="all" if everyone else "held-out"))
    known, judged = content[found.known], content[found.judged]
    assert len(np.unique(judged)) == len(judged)
    assert everyone or not np.isin(judged, known).any()
    assert everyone or len(known) + len(judged) == len(np.unique(content))
    assert not np.isin(judged[found.judged >= 70], content[:70]).any(), "the features of a member"


def test_without_copies_all_rows_take_part_in_their_order():
    found = candidates(np.ones(100, bool), 60, JudgeConfig())
    assert found.known.tolist() == [*range(30), *range(60, 80)]
    assert found.fit.tolist() == [True] * 27 + [False] * 3 + [True] * 18 + [False] * 2
    assert found.judged.tolist() == [*range(30, 60), *range(80, 100)]


def test_copies_hide_a_leak_unless_they_are_left_out():
    """Answers follow from features, and members' features get surer ones: a perfect attack, but for copies."""
    # 80 members, 40 copies of them, 40 others
    content = np.r_[np.arange(80), np.stack([np.arange(40), np.arange(100, 140)], axis=1).ravel()]
    y = torch.zeros(160, dtype=torch.int64)
    logits = torch.from_numpy(np.where(content < 100, 3.0, 1.0) + content * 37 % 100 / 100)[
        :, None, None
    ] * torch.tensor([1.0, 0])
    pool = Dataset("p", torch.from_numpy(content).float()[:, None], y, 2, Domain.grid((1,), 0, 200, 0))
    aucs = {}
    for choice, once in (("leave-out", first_alike(pool.x) == np.arange(160)), ("keep", None)):
        case = build_case(Pool(pool, 80, once), logits.double(), JudgeConfig(), 0)
        aucs[choice] = metrics.auc(score(Loss(), case)[0], case.member)
    assert aucs["leave-out"] == 1
    assert aucs["keep"] < 0.95


# --- shadow models -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["published", "paired"])
def test_copies_are_in_or_out_together(scheme):
    together = np.r_[np.arange(50), np.arange(20), np.arange(70, 100)]
    together[[80, 81, 82]] = 80
    members = shadow_members(8, 100, 3, scheme, together).numpy()
    assert (members == members[:, together]).all()
    assert (members.sum(0) == 4).all()
    if scheme == "paired":
        assert (members[0::2] == ~members[1::2]).all()
        assert np.abs(members.sum(1) - 50).max() <= 3
        assert np.array_equal(shadow_members(16, 100, 3, scheme, together).numpy()[:8], members), "few begin many"
        assert len({tuple(row) for row in members}) == 8, "each pair is drawn anew"


@pytest.mark.parametrize("scheme", ["published", "paired"])
def test_masks_without_copies_are_those_of_before_to_the_bit(scheme):
    assert torch.equal(shadow_members(8, 101, 3, scheme, np.arange(101)), shadow_members(8, 101, 3, scheme))


def test_shadow_models_and_population_know_the_copies(table):
    recipe = load_recipe("undefended", {"shadows.models": "8"}, str(table(200, 2)), "label")
    with pytest.warns(Notice, match="non-members"):
        problem = prepare(recipe, Session())
    pool, around = problem.task.pool.x.tolist(), problem.population().x.tolist()
    assert 0 < len(around) < len(problem.test)
    assert not [x for x in around if x in pool], "no model was trained on the population"
    members = problem.shadow_task().of(ShadowConfig(8)).masks().numpy()
    twins = [i for i, x in enumerate(pool) if x == pool[0]]
    assert len(twins) > 1
    assert (members[:, twins] == members[:, [0]]).all()


def test_rows_are_joined_by_chains_of_groups_and_features():
    group, features = np.array([0, 0, 1, 1, 2, 3, 3]), np.array([5, 6, 6, 7, 8, 9, 8])
    assert joined(group, features).tolist() == [0, 0, 0, 0, 4, 4, 4]
    assert joined(group).tolist() == [0, 0, 2, 2, 4, 5, 5]
    rng = np.random.default_rng(0)
    group, features = rng.integers(0, 60, 100), rng.integers(0, 80, 100)
    found = np.arange(100)
    for _ in range(100):  # the slow way: each row takes the least place of all that it shares a value with
        found = np.array([min(found[(group == group[i]) | (features == features[i])]) for i in range(100)])
    assert joined(group, features).tolist() == found.tolist()


def test_published_masks_of_few_units_are_refused_where_a_model_is_far_from_a_half():
    """Of 10 groups drawn one by one a model may get none, or all of them."""
    together = np.arange(200) // 20 * 20
    with pytest.raises(UserError, match=r"would be trained on \d+ of 200 rows; take shadows.scheme=paired"):
        shadow_members(128, 200, 0, "published", together)
    assert (shadow_members(128, 200, 0, "paired", together).sum(1) == 100).all()
    pairs = np.arange(200) // 2 * 2
    sizes = shadow_members(128, 200, 0, "published", pairs).sum(1)
    assert ((sizes >= 50) & (sizes <= 150)).all()


def test_with_groups_copies_are_in_or_out_together_too(tmp_path):
    """Every row is there twice, as two persons': 150 persons with two rows each."""
    rng = np.random.default_rng(0)
    x, person = np.tile(rng.normal(size=(150, 4)).round(4), (2, 1)), rng.permutation(np.repeat(np.arange(150), 2))
    lines = [",".join(map(str, [*row, f"p{k}", "ab"[k % 2]])) for row, k in zip(x, person, strict=True)]
    (tmp_path / "t.csv").write_text("\n".join(["a,b,c,d,person,label", *lines]) + "\n")
    options = {"data.group": "person", "shadows.models": "8"}
    with pytest.warns(Notice, match="have the same features"):
        problem = prepare(load_recipe("undefended", options, str(tmp_path / "t.csv"), "label"), Session())
    first = first_alike(problem.task.pool.x)
    assert (first < np.arange(len(first))).sum() > 20, "there are copies in the pool"
    group = problem.task.pool.group
    assert group is not None
    for scheme in ("published", "paired"):
        members = problem.shadow_task().of(ShadowConfig(8, scheme=scheme)).masks().numpy()  # pyright: ignore[reportArgumentType]
        assert (members == members[:, first]).all()
        assert (members == members[:, first_alike(group)]).all()


@pytest.mark.parametrize("part", ["validation", "reference"])
def test_copies_in_other_parts_are_counted_and_features_of_reference_rows_are_not_judged(table, tmp_path, part):
    """Half of a part repeats members, the other half non-members."""
    path = table(400, 1)
    options = {"split.layout": "with-reference"}
    recipe = load_recipe("undefended", options, str(path), "label")
    split = prepare(recipe, Session()).table
    lines = path.read_text().split("\n")
    rows, half = split.rows(part).tolist(), len(split.rows(part)) // 2
    sources = [*split.rows("members")[:half].tolist(), *split.rows("nonmembers")[: len(rows) - half].tolist()]
    for row, source in zip(rows, sources, strict=True):
        lines[row + 1] = lines[source + 1].rpartition(",")[0] + "," + lines[row + 1].rpartition(",")[2]
    (tmp_path / "copied.csv").write_text("\n".join(lines))
    recipe = load_recipe("undefended", options, str(tmp_path / "copied.csv"), "label")
    with pytest.warns(Notice, match=f"{half} of {len(rows)} {part} rows of copied have the same features as a member"):
        problem = prepare(recipe, Session())
    assert torch.equal(problem.table.permutation, split.permutation)
    copies = problem.copies()
    assert (copies["nonmembers"], copies["test"], copies[part], problem.duplicated) == (0, 0, half, True)
    chosen = problem.candidates()
    taken = problem.task.pool.x[np.r_[chosen.known, chosen.judged]].tolist()
    again = problem.dataset.x[split.rows(part)].tolist()
    assert len([x for x in taken if x in again]) == (0 if part == "reference" else len(rows))
    assert copies["left_out"] == (len(rows) if part == "reference" else 0)


def test_rows_that_all_stay_together_have_no_half(cli, refused, nothing_written, tmp_path):
    """Two rows a person, 64 kinds of rows: all are joined."""
    rng = np.random.default_rng(0)
    lines = [f"{a},{b},{c},p{i // 2},{'ab'[i % 3 % 2]}" for i, (a, b, c) in enumerate(rng.integers(0, 4, (600, 3)))]
    (tmp_path / "few.csv").write_text("\n".join(["a,b,c,person,label", *lines]) + "\n")
    argv = [
        "run",
        "undefended",
        "--data",
        "few.csv",
        "--label",
        "label",
        "--group",
        "person",
        "judge.copies=keep",
        *QUICK,
    ]
    refused(cli(*argv, "--shadows", "4"), "492 of the 492 rows", "stay together", "leave --shadows out")
    nothing_written()
    assert cli(*argv)[0] == 0


# --- the command ---------------------------------------------------------------------------------------------------


def test_a_table_with_every_row_twice_warns_and_is_flagged(cli, table):
    path = table(150, 2, "twice.csv")
    code, out, err = cli("run", "undefended", "--data", path, "--label", "label", "--json", *QUICK)
    assert code == 0, err
    model = json.loads(out)["models"][0]
    assert all("duplicated" in a["flags"] for a in model["attacks"])
    assert "groups" not in model, "every set of features once: rows are independent"
    copies = model["copies"]
    assert copies["nonmembers"] > 20
    assert copies["left_out"] > copies["nonmembers"], "copies within a side too"
    assert f"{copies['nonmembers']} of 123 non-members, {copies['test']} of 27 test rows and" in err
    assert f"{copies['validation']} of 27 validation rows of twice have the same features as a member" in err
    judged = {(a["members"], a["nonmembers"]) for a in model["attacks"]}
    assert judged == {tuple(n // 2 + n % 2 for n in _distinct(model))}
    report = (path.parent / "runs" / "report.md").read_text()
    assert f"{copies['left_out']} copies left out" in report
    assert "(duplicated): accuracies on these parts are too high" in report


def _distinct(model):
    """Known and judged together, of members and of non-members."""
    first = model["attacks"][0]
    return [first[who] + model["known"][who] for who in ("members", "nonmembers")]


def test_copies_are_judged_where_that_is_asked_for(cli, table):
    path = table(150, 2, "twice.csv")
    argv = ["run", "undefended", "--data", path, "--label", "label", "--json", *QUICK, "judge.copies=keep"]
    code, out, err = cli(*argv)
    model = json.loads(out)["models"][0]
    assert (code, model["attacks"][0]["members"], model["attacks"][0]["nonmembers"]) == (0, 62, 62)
    assert model["copies"]["left_out"] == 0
    assert all("duplicated" in a["flags"] for a in model["attacks"])
    assert "judged all the same" in err


def test_a_table_without_copies_is_not_flagged(cli, table):
    code, out, err = cli("run", "undefended", "--data", table(150, 1), "--label", "label", "--json", *QUICK)
    model = json.loads(out)["models"][0]
    assert (code, err) == (0, "")
    assert set(model["copies"].values()) == {0}
    assert not [a for a in model["attacks"] if "duplicated" in a["flags"]]
    assert hampkit.ModelResult.from_json(model).to_json() == model


def test_where_nobody_is_left_to_judge_the_remedy_is_named(cli, table, refused, nothing_written):
    argv = ["run", "undefended", "--data", table(11, 8), "--label", "label", *QUICK]
    refused(cli(*argv), "of table have the same features", "nobody to judge", "judge.copies=keep")
    nothing_written()
    assert cli(*argv, "judge.copies=keep")[0] == 0


def test_leave_one_out_is_flagged_too(table):
    options = {"epochs": 2, "neural.epochs": 2}
    with pytest.warns(Notice):
        results = hampkit.run(
            "undefended", data=table(60, 2), label="label", shadows=4, workers=1, attacks=["attack-r"], options=options
        )
    (found,) = results.models[0].of("leave-one-out")
    assert "duplicated" in found.flags
    pool, copies = 98, results.models[0].copies
    assert found.examples == pool - copies["left_out"], "every set of features is judged once"


def test_the_choice_is_checked():
    with pytest.raises(UserError, match=r"judge.copies='drop' must be one of leave-out, keep"):
        load_recipe("toy/undefended", {"judge.copies": "drop"})
