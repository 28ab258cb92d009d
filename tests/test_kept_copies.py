"""judge.copies=keep: all rows are judged, and copies of one row are no independent evidence."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import norm

from hampkit.attacks.threshold import Confidence
from hampkit.config.recipe import JudgeConfig, load_recipe
from hampkit.data.copies import first_alike
from hampkit.errors import Notice
from hampkit.judging.case import Pool, build_case, score, shuffled
from hampkit.judging.evaluate import judge_scores
from hampkit.stats import grouped, metrics
from hampkit.types import Dataset, Domain
from hampkit.workflows.prepare import prepare
from hampkit.workflows.session import Session
from hampkit.workflows.shadow import judged_of


def kept(seed, times=5, distinct=80, both=0, by_row=False):
    """A case of members and non-members, each row so often; the first ones among the non-members repeat members."""
    rng = np.random.default_rng(seed)
    content = np.r_[np.arange(distinct), rng.permutation(distinct)[:both], np.arange(distinct + both, 2 * distinct)]
    content[distinct:] = rng.permutation(content[distinct:])
    content = content.repeat(times)
    answers = rng.standard_normal(2 * distinct) + 0.5 * (np.arange(2 * distinct) < distinct)
    logits = torch.from_numpy(answers[content])[:, None, None] * torch.tensor([0.1, -0.1])
    y = torch.zeros(len(content), dtype=torch.int64)
    pool = Dataset("p", torch.from_numpy(content).float()[:, None], y, 2, Domain.grid((1,), 0, 1000, 0))
    units = None if by_row else first_alike(pool.x)
    return build_case(Pool(pool, distinct * times, units=units), logits.double(), JudgeConfig(copies="keep"), seed)


def auc_of(case):
    scores, known = score(Confidence(), case)
    return judge_scores(Confidence(), scores, known, case, JudgeConfig(copies="keep")).auc


@pytest.mark.parametrize("both", [0, 40])
def test_the_interval_covers_though_every_row_is_there_five_times(both):
    """Of 80 non-members, 40 have a member's features: half of the pairs are guessing. By row 62 to 68 % are covered."""
    share = both / 80
    truth = (1 - share) * norm.cdf(0.5 / np.sqrt(2)) + share / 2
    held = rows = 0
    for seed in range(70):
        found, alone = auc_of(kept(seed, both=both)), auc_of(kept(seed, both=both, by_row=True))
        assert found.value == alone.value
        held, rows = held + (found.low <= truth <= found.high), rows + (alone.low <= truth <= alone.high)
    assert held >= 65
    assert rows < 60


def test_copies_are_one_group_on_each_side_of_membership():
    case = kept(0, times=3, both=40)
    assert case.group is not None
    content = case.evidence.x[:, 0].numpy()
    for side in (case.member, ~case.member):
        assert len(np.unique(case.group[side])) == len(np.unique(content[side]))
        for group in np.unique(case.group[side]):
            assert len(np.unique(content[case.group == group])) == 1
    assert not np.isin(case.group[case.member], case.group[~case.member]).any()
    assert shuffled(case, 0).group is case.group


def test_rows_without_copies_are_in_no_groups():
    assert kept(0, times=1).group is None


@pytest.fixture
def twice(tmp_path):
    """Every row is there as two persons', 100 persons of three rows each."""
    rng = np.random.default_rng(0)
    x, person = np.tile(rng.normal(size=(150, 3)).round(4), (2, 1)), rng.permutation(np.repeat(np.arange(100), 3))
    lines = [",".join(map(str, [*row, f"p{k}", "ab"[k % 2]])) for row, k in zip(x, person, strict=True)]
    (tmp_path / "twice.csv").write_text("\n".join(["a,b,c,person,label", *lines]) + "\n")
    return tmp_path / "twice.csv"


def test_a_run_that_keeps_copies_judges_by_group(cli, twice):
    argv = [
        "run",
        "undefended",
        "--data",
        twice,
        "--label",
        "label",
        "drop=[person]",
        "--json",
        "epochs=2",
        "neural.epochs=2",
    ]
    code, out, err = cli(*argv, "judge.copies=keep")
    assert code == 0, err
    model = json.loads(out)["models"][0]
    loss = next(a for a in model["attacks"] if a["attack"] == "loss")
    assert model["groups"]["members"] < loss["members"]
    (place,) = (Path("runs") / model["run"]).glob("attacks/loss-????????/scores.npz")
    file = np.load(place)
    wanted = grouped.auc_interval(file["scores"], file["member"], file["group"])
    assert (loss["auc"]["low"], loss["auc"]["high"]) == (wanted.low, wanted.high)
    alone = metrics.auc_interval(file["scores"], file["member"])
    assert loss["auc"]["high"] - loss["auc"]["low"] > alone.high - alone.low


def test_persons_and_copies_are_joined(twice):
    options = {"data.group": "person", "judge.copies": "keep"}
    with pytest.warns(Notice, match="have the same features"):
        problem = prepare(load_recipe("undefended", options, str(twice), "label"), Session())
    pool, members = problem.task.pool, problem.table.n_members
    assert pool.group is not None
    logits = torch.zeros(len(pool), 1, 2, dtype=torch.float64)
    case = build_case(Pool(pool, members, problem.once, problem.units()), logits, JudgeConfig(copies="keep"), 0)
    assert case.group is not None
    by_person = build_case(Pool(pool, members, problem.once), logits, JudgeConfig(copies="keep"), 0)
    assert sum(case.groups().values()) < sum(by_person.groups().values())
    assert by_person.group is not None
    for group in np.unique(by_person.group):
        assert len(np.unique(case.group[by_person.group == group])) == 1


@pytest.mark.parametrize("copies", ["keep", "leave-out"])
def test_a_plan_counts_groups_and_not_their_rows(twice, copies):
    options = {"data.group": "person", "judge.copies": copies}
    with pytest.warns(Notice, match="have the same features"):
        problem = prepare(load_recipe("undefended", options, str(twice), "label"), Session())
    judged = problem.candidates().judged
    others = problem.units()[judged[judged >= problem.table.n_members]].tolist()
    every = problem.units()[problem.once].tolist()
    wanted = [len(of) ** 2 / sum(of.count(unit) ** 2 for unit in set(of)) for of in (others, every)]
    found = judged_of(problem)
    assert [found.independent, found.independent_repeated] == pytest.approx(wanted)
    assert wanted[0] < len(others)
    assert wanted[1] < len(every)
