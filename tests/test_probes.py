"""Probes and the attacks on their answers: the questions, slow references, nulls, and what is asked of whom on disk."""

from __future__ import annotations

import math
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestNeighbors

import hampkit
from hampkit import UserError
from hampkit.attacks.base import BudgetSpent, Evidence, Oracle, Shadows
from hampkit.attacks.bits import bit_scores
from hampkit.attacks.label_only import LabelOnly
from hampkit.attacks.probes import FLIPS, MOVES, Neighbours, NoisyCopies, OwnAnswers, Repeats, nearest, ranks
from hampkit.attacks.rank import Rank
from hampkit.attacks.repeated import Repeated
from hampkit.attacks.stripped import StrippedLira, StrippedRmia
from hampkit.judging.evaluate import evaluate
from hampkit.judging.leave_one_out import repeated_scores, scores_of
from hampkit.nets.augmentations import augmented
from hampkit.rng import numpy_rng, torch_rng
from hampkit.stats.metrics import auc_interval
from hampkit.targets import probing
from hampkit.targets.probing import ask, input_space
from hampkit.types import Dataset, Domain

ATTACKS = [LabelOnly(), LabelOnly(by="logistic", copies=8), Rank(), Repeated(), StrippedLira(), StrippedRmia()]
attacks = pytest.mark.parametrize("attack", ATTACKS, ids=lambda a: f"{a.name}-{getattr(a, 'by', '')}")


def space_of(domain, population, rows=None):
    return input_space(domain, population, population if rows is None else rows)


# the questions


def test_bits_flip_as_often_as_declared():
    domain, x = Domain.grid((400,), 0, 1, 1), torch.zeros(50, 400, dtype=torch.uint8)
    found = NoisyCopies(32).inputs(x, space_of(domain, x), torch_rng(0))
    assert found.shape == (50, 32, 400)
    assert set(found.unique().tolist()) == {0.0, 1.0}
    for half, p in zip((found[:, :16], found[:, 16:]), FLIPS, strict=True):
        assert abs(float(half.mean()) - p) < 5 * math.sqrt(p * (1 - p) / half.numel())


def test_numbers_move_by_shares_of_their_deviation_and_stay_in_bounds():
    population = torch.stack([torch.linspace(0, 100, 5001), torch.linspace(-1, 1, 5001)], 1)
    domain = Domain(torch.tensor([0.0, -1.0]), torch.tensor([100.0, 1.0]), torch.zeros(2))
    x = torch.tensor([[50.0, 0.0]]).expand(2000, 2)
    found = NoisyCopies(8).inputs(x, space_of(domain, population), torch_rng(1))
    deviation = population.std(0, correction=0)
    for half, share in zip((found[:, :4], found[:, 4:]), MOVES, strict=True):
        moved = (half - x[:, None]).flatten(0, 1).std(0) / deviation
        assert torch.allclose(moved, torch.full((2,), share), rtol=0.05)
    edge = NoisyCopies(8).inputs(torch.tensor([[0.0, 1.0]]).expand(500, 2), space_of(domain, population), torch_rng(2))
    assert (edge[..., 0] >= 0).all()
    assert (edge[..., 1] <= 1).all()


def test_categories_are_drawn_anew_and_stay_categories():
    low, high = torch.zeros(5), torch.ones(5)
    domain = Domain(low, high, torch.ones(5), groups=((1, 5),))
    x = torch.tensor([[0.0, 1, 0, 0, 0]]).expand(4000, 5)
    found = NoisyCopies(2).inputs(x, space_of(domain, x), torch_rng(3))
    assert (found[..., 1:].sum(-1) == 1).all()
    changed = (found[..., 1] != 1).float().mean(0)
    assert torch.allclose(changed, torch.tensor(FLIPS) * 3 / 4, atol=0.01)  # a fourth of the draws is the old category


def test_images_are_mirrored_and_shifted_and_asked_at_most_18_times():
    x = torch.randint(0, 256, (3, 1, 8, 8), dtype=torch.uint8, generator=torch_rng(0))
    domain = Domain.grid((1, 8, 8), 0, 255, 1)
    found = NoisyCopies(32).inputs(x, space_of(domain, x), torch_rng(0))
    assert found.shape[1] == NoisyCopies(32).questions((1, 8, 8)) == 18
    assert all(torch.equal(found[:, k], augmented(x, k)) for k in range(18))


def test_neighbours_are_the_nearest_others_in_deviations():
    rng = torch_rng(4)
    rows = torch.rand(300, 6, generator=rng) * torch.tensor([1.0, 10, 100, 1, 1, 1])
    rows[7] = rows[3]  # an equal row is no neighbour
    space = space_of(Domain(rows.amin(0), rows.amax(0), torch.zeros(6)), rows)
    found = nearest(rows, space, 4)
    scaled = (rows / rows.std(0, correction=0)).numpy()
    slow = NearestNeighbors(n_neighbors=7).fit(scaled).kneighbors(scaled, return_distance=False)
    for k in range(300):
        same = {3, 7} if k in (3, 7) else {k}
        wanted = [j for j in slow[k] if j not in same][:4]
        assert {3 if j == 7 else j for j in found[k].tolist()} == {3 if j == 7 else int(j) for j in wanted}
    asked = Neighbours(4).inputs(rows[:2], space, rng)
    assert torch.equal(asked[:, 0], rows[:2])
    assert torch.equal(asked[0, 1:], rows[found[0]])
    with pytest.raises(UserError, match="neighbours=4 must be below the number of candidates, 3"):
        nearest(rows[:3], space_of(space.domain, rows[:3]), 4)


def test_long_inputs_are_projected_before_distances():
    rows = torch.randint(0, 2, (60, 600), generator=torch_rng(5)).float()
    near = rows.clone()
    near[:, :3] = 1 - near[:, :3]
    everyone = torch.cat([rows, near])
    space = space_of(Domain.grid((600,), 0, 1, 1), everyone)
    assert space.scaled_rows.shape == (120, 128)
    assert nearest(rows, space, 1).flatten().tolist() == list(range(60, 120))


@pytest.mark.parametrize("copies", [0, 1, 5000, -3])
def test_a_number_of_questions_out_of_range_is_refused(copies):
    with pytest.raises(UserError, match=f"copies={copies} must lie between 2 and 1024"):
        NoisyCopies(copies)


# what is kept


def test_ranks_equal_those_of_a_stable_sort():
    rng = np.random.default_rng(0)
    answers = rng.integers(0, 4, (200, 3, 5)).astype(float)  # many equal ones
    y = rng.integers(0, 5, (200, 3))
    found = ranks(torch.from_numpy(answers), torch.from_numpy(y)).numpy()
    for i, j in np.ndindex(200, 3):
        order = sorted(range(5), key=lambda c: (-answers[i, j, c], c))
        assert found[i, j] == order.index(y[i, j])
    assert np.array_equal(found == 0, answers.argmax(-1) == y)


class Model:
    """A linear model that counts its questions, with noise from the seed if it is randomised."""

    def __init__(self, seed, classes=3, features=5, randomised=False):
        self.w = torch.randn(features, classes, generator=torch_rng(seed), dtype=torch.float64)
        self.randomised, self.seen = randomised, []

    def query(self, x, seed):
        self.seen.append(x.clone())
        answers = x.double() @ self.w
        return answers + (torch.randn(answers.shape, generator=torch_rng(seed)).double() if self.randomised else 0)


def bits_data(n=40, features=5):
    x = torch.randint(0, 2, (n, features), generator=torch_rng(9), dtype=torch.uint8)
    return Dataset("bits", x, torch.arange(n) % 3, 3, Domain.grid((features,), 0, 1, 1))


@pytest.mark.parametrize("probe", [NoisyCopies(4), Repeats(3), OwnAnswers(), Neighbours(2)], ids=lambda p: p.name)
def test_all_models_get_the_same_questions_in_blocks_of_bounded_memory(probe, monkeypatch):
    monkeypatch.setattr(probing, "BLOCK", 5 * 7 * 4)
    data, models = bits_data(), [Model(0), Model(1)]
    kept = ask(models, probe, data, space_of(data.domain, data.x), [1, 2])
    for a, b in zip(models[0].seen, models[1].seen, strict=True):
        assert torch.equal(a, b)
        assert a.numel() <= probing.BLOCK
    assert len(torch.cat(models[0].seen)) == len(data) * probe.questions(data.shape)
    # one example and one question at a time
    asked = torch.cat(models[0].seen).view(len(data), probe.questions(data.shape), 5)
    for m, model in enumerate(models):
        answers = torch.stack([torch.stack([q.double() @ model.w for q in each]) for each in asked])
        slow = torch.cat([probe.keep(answers[i : i + 1], data.y[i : i + 1]) for i in range(len(data))])
        assert np.allclose(kept[m], slow.numpy(), rtol=1e-6)


def test_a_randomised_release_gets_another_draw_for_every_question():
    data = bits_data(6)
    one, many = (
        ask([Model(0, randomised=True)], Repeats(r), data, space_of(data.domain, data.x), [1]) for r in (2, 1000)
    )
    exact = ask([Model(0)], Repeats(2), data, space_of(data.domain, data.x), [1])
    assert np.abs(one - exact).max() > 0.05
    assert np.abs(many - exact).mean() < 0.3  # the mean of the scaled logits, which noise shifts a little


# the attacks, against slow versions


def made_up(seed=0, models=12, examples=30, strength=1.5, k=16):
    """Answers of shadow models and of a target to every probe, of which members get higher ranks and logits."""
    rng = np.random.default_rng(seed)
    members = rng.permuted(np.arange(models)[:, None] < np.full(examples, models // 2), axis=0)
    target = rng.random(examples) < 0.5

    def kept(member):
        shape = (*member.shape, k)
        right = rng.random(shape) < 1 / (1 + np.exp(-(strength * (member - 0.5))))[..., None]
        rank = np.where(right, 0, rng.integers(1, 6, shape)).astype(np.float32)
        logit = (strength * member + rng.normal(size=member.shape)).astype(np.float32)[..., None]
        return {NoisyCopies(32): rank, NoisyCopies(8): rank[..., :8], Repeats(): logit, OwnAnswers(): logit}

    inside, own = kept(members), kept(target)
    empty = np.empty((models, 0), np.float32)
    parts = {probe: tuple(np.split(values, [4])) for probe, values in inside.items()}
    shadows = Shadows((np.zeros((models, examples, 1), np.float32),), members, empty, np.arange(examples), np.arange(models),
                      probes=parts)  # fmt: skip
    nothing = torch.zeros(examples, 1, 3, dtype=torch.float64)
    evidence = Evidence(
        torch.zeros(examples, 2), torch.zeros(examples, dtype=torch.long), nothing, shadows=shadows, probes=own
    )
    return evidence, members, inside, own, target


def slow_signal(attack, numbers):
    """The signal of one example from what is kept of its answers, in plain Python."""
    if isinstance(attack, LabelOnly):
        right = sum(1 for rank in numbers if rank == 0)
        return math.log((right + 0.5) / (len(numbers) - right + 0.5))
    if isinstance(attack, Rank):
        mean = sum(1 / (1 + float(rank)) for rank in numbers) / len(numbers)
        n = len(numbers)
        return math.log((n * mean + 0.5) / (n - n * mean + 0.5))
    return float(numbers[0])


def slow_lira(signal, members, target):
    """Online LiRA with one variance for each side, from the deviations within examples."""
    scores = []
    sides = [[signal[members[:, i] == side, i] for i in range(signal.shape[1])] for side in (True, False)]
    deviation = []
    for side in sides:
        squares = sum(((s - s.mean()) ** 2).sum() for s in side)
        deviation.append(math.sqrt(squares / sum(len(s) - 1 for s in side)))
    for i, t in enumerate(target):
        logs = [
            -0.5 * ((t - side[i].mean()) / sd) ** 2 - math.log(sd) for side, sd in zip(sides, deviation, strict=True)
        ]
        scores.append(logs[0] - logs[1])
    return np.array(scores)


@pytest.mark.numeric
@pytest.mark.parametrize("attack", [LabelOnly(), Rank(), Repeated(), StrippedLira()], ids=lambda a: a.name)
def test_each_attack_is_lira_on_its_signal(attack):
    evidence, members, inside, own, _ = made_up()
    (probe,) = attack.probes()
    signal = np.array([[slow_signal(attack, row) for row in model] for model in inside[probe]], dtype=np.float32)
    target = np.array([slow_signal(attack, row) for row in own[probe]], dtype=np.float32)
    assert np.allclose(attack(evidence), slow_lira(signal.astype(float), members, target.astype(float)), atol=1e-9)


@pytest.mark.numeric
def test_the_bits_of_each_example_get_a_ridge_logistic_regression():
    evidence, members, inside, own, _ = made_up(models=14)
    attack = LabelOnly(by="logistic", copies=8)
    found = attack(evidence)
    for i in range(len(found)):
        x = (inside[NoisyCopies(8)][:, i] == 0).astype(float)
        slow = LogisticRegression(C=1.0, tol=1e-12, max_iter=10_000).fit(x, members[:, i])
        bits = (own[NoisyCopies(8)][i] == 0).astype(float)
        assert found[i] == pytest.approx(slow.decision_function(bits[None])[0], abs=1e-4)
    unused = np.ones(members.shape, bool)
    unused[3] = False
    bits = inside[NoisyCopies(8)] == 0
    target = own[NoisyCopies(8)] == 0
    without = bit_scores(np.delete(bits, 3, 0), np.delete(members, 3, 0), None, target)
    assert np.allclose(bit_scores(bits, members, unused, target), without)


@attacks
def test_leave_one_out_is_the_attack_on_each_model_from_the_start(attack):
    evidence, *_ = made_up(models=10)
    scores = repeated_scores(attack, evidence.shadows)
    (probe,) = attack.probes()
    for t in range(10):
        kept = np.concatenate(evidence.shadows.probes[probe])[t]
        alone = replace(evidence, shadows=evidence.shadows.without(t), probes={probe: kept})
        assert np.allclose(scores[t], attack(alone), atol=1e-9)
    if not isinstance(attack, LabelOnly):
        moved = evidence.shadows.of_probe(probe, attack.signal)
        assert np.allclose(scores[2], scores_of(2, attack.comparison(), moved), atol=1e-9)


@pytest.mark.numeric
@attacks
def test_each_attack_finds_members_and_nothing_on_shuffled_membership(attack):
    """200 simulated audits: the intervals of AUC and TPR at 0.1 % FPR miss 0.5 and 0.1 % in about 5 % of them at most."""
    audits = 60 if getattr(attack, "by", "") == "logistic" else 200
    missed = np.zeros(2)
    for seed in range(audits):
        evidence, _, _, _, target = made_up(seed, models=8, examples=120, k=32)
        scores = attack(evidence)
        found = evaluate(scores, numpy_rng(seed).permutation(target))
        low, high = found.tpr[0].outer_low, found.tpr[0].outer_high
        missed += [not found.auc.low <= 0.5 <= found.auc.high, not low <= 0.001 <= high]
        if seed == 0:
            assert auc_interval(scores, target).low > 0.5
    # 5 % of 200 audits, and three standard deviations more
    assert missed.max() <= 0.05 * audits + 3 * math.sqrt(0.0475 * audits)


def test_an_oracle_counts_questions_and_keeps_its_budget():
    oracle = Oracle(lambda x: x * 2.0, candidates=3, budget=2)
    assert oracle([0, 0, 1], torch.ones(3, 1)).tolist() == [[2.0]] * 3
    with pytest.raises(BudgetSpent, match="1 candidates would be asked about more than 2 times"):
        oracle([2, 0], torch.ones(2, 1))
    assert oracle.asked.tolist() == [2, 1, 0], "what is refused is not counted"
    oracle([1], torch.ones(1, 1))
    assert oracle.asked.tolist() == [2, 2, 0]


# runs

QUICK = {"rows": 700, "features": 24, "classes": 4, "flip": 0.35, "epochs": 6, "net": "mlp-small"}
NAMES = ("label-only", "rank", "repeated", "stripped")


@pytest.fixture(scope="module")
def hamp(tmp_path_factory):
    """An overfitted HAMP model with 16 shadow models, and the answers of a run."""
    folder = tmp_path_factory.mktemp("hamp") / "runs"
    options = {**QUICK, "epochs": 40, "neural.epochs": 2}
    return folder, hampkit.run("toy/hamp", options=options, shadows=16, runs_dir=folder, workers=1)


def auc(results, name, unit="leave-one-out"):
    return next(a for a in results.models[0].of(unit) if a.attack == name).auc


@pytest.mark.slow
def test_what_hamp_hides_comes_back_with_more_questions(hamp):
    _, results = hamp
    one, many, label, rank, stripped = (
        auc(results, name) for name in ("lira-online", "repeated", "label-only", "rank", "stripped-lira")
    )
    assert many.value > one.value
    assert stripped.low > many.high
    assert label.low > one.high
    assert rank.low > one.high
    made = {a.attack: a for a in results.models[0].of("target")}
    assert made["label-only"].tier == "label"
    assert (made["rank"].tier, made["rank"].queries) == ("ranks", 32)
    assert (made["repeated"].tier, made["repeated"].queries) == ("probabilities", 16)
    assert (made["stripped-lira"].tier, made["stripped-lira"].queries) == ("weights", 1)
    assert "randomised" not in made["repeated"].flags + made["rank"].flags + made["stripped-lira"].flags
    assert "randomised" in made["lira-online"].flags


@pytest.mark.slow
def test_a_keyed_release_gives_away_nothing_more_when_it_is_asked_again(hamp, tmp_path):
    options = {**QUICK, "epochs": 40, "noise": "keyed"}
    keyed = hampkit.run("toy/hamp", options=options, shadows=16, runs_dir=tmp_path, workers=1)
    assert keyed.models[0].skipped == {"repeated": "equal questions have equal answers"}
    again = hampkit.attack(tmp_path / keyed.models[0].run, "repeated", "lira-online")
    asked, once = auc(again, "repeated"), auc(again, "lira-online")
    assert asked.value == pytest.approx(once.value, abs=1e-3), "16 answers are the one answer"
    assert auc(keyed, "rank").low > 0.5, "and the order of the classes is still there"


@pytest.mark.slow
def test_labels_alone_give_members_away(tmp_path):
    options = {**QUICK, "epochs": 40}
    found = hampkit.run("toy/top1", options=options, shadows=16, runs_dir=tmp_path, workers=1)
    assert auc(found, "label-only").low > auc(found, "lira-online").high > 0.5


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("probes") / "runs"
    return folder, hampkit.run("toy/hamp", attacks=["rank"], options=QUICK, shadows=4, runs_dir=folder, workers=1)


def steps(folder, kind):
    return sorted(str(p.parent.relative_to(folder)) for p in folder.glob(f"**/{kind}/**/manifest.json"))


def test_a_later_attack_asks_the_stored_models(small, monkeypatch):
    folder, results = small
    run = folder / results.models[0].run
    before = {p: p.read_bytes() for p in run.glob("shadows/*/[0-9]*/*.npy")}
    monkeypatch.setattr("hampkit.training.Trainer.fit", lambda *a, **k: pytest.fail("trained again"))
    again = hampkit.attack(run, "repeated", "stripped")
    assert {a.attack for a in again.models[0].attacks} == {"repeated", "stripped-lira", "stripped-rmia"}
    assert {p: p.read_bytes() for p in run.glob("shadows/*/[0-9]*/*.npy")} == before


def test_weights_over_the_budget_are_not_kept_and_models_are_trained_again(small, tmp_path):
    folder, results = small
    options = {**QUICK, "shadows.keep_gb": 1e-6}
    found = hampkit.run("toy/hamp", attacks=["rank"], options=options, shadows=4, runs_dir=tmp_path, workers=1)
    run = tmp_path / found.models[0].run
    assert not list(run.glob("shadows/*/weights"))
    assert auc(found, "rank") == auc(results, "rank")
    kept = hampkit.attack(folder / results.models[0].run, "repeated")
    lines = []
    again = hampkit.attack(run, "repeated", progress=hampkit.Progress(say=lines.append))
    assert [line for line in lines if "4 shadow models of toy/hamp are trained again" in line]
    assert auc(again, "repeated") == auc(kept, "repeated"), "the same recipe gives the same models"
    hampkit.shadow("toy/hamp", 4, options={**QUICK, "shadows.keep_models": "yes"}, runs_dir=tmp_path, workers=1)
    assert list(run.glob("shadows/*/weights/*/stack.safetensors"))


def test_the_plan_has_the_weights(tmp_path):
    small, large = (
        hampkit.plan("toy/hamp", 8, options={**QUICK, "shadows.keep_gb": gb}, runs_dir=tmp_path) for gb in (2, 1e-6)
    )
    assert small.kept
    assert small.weights > 8 * 4 * 24 * 256
    assert small.disk > small.weights > large.disk
    assert "are not kept: an attack with other questions trains again" in large.line()
    assert "not kept" not in small.line()


def test_shadow_models_of_another_run_are_asked_by_their_weights(small, tmp_path):
    folder, results = small
    lender = folder / results.models[0].run
    options = {**QUICK, "repeated.copies": 5}  # nobody asked this before
    mine = hampkit.run("toy/hamp", attacks=["repeated"], options=options, shadows_from=lender, runs_dir=tmp_path)
    wanted = hampkit.attack(lender, "repeated", options={"repeated.copies": 5})
    assert auc(mine, "repeated") == auc(wanted, "repeated")
    run = tmp_path / mine.models[0].run
    assert list(run.glob("borrowed/*/shadows/*/probes/*/*/kept.npy"))
    assert not list(run.glob("shadows/*/probes"))


def test_without_weights_the_models_of_another_run_cannot_be_asked(tmp_path):
    one, other = tmp_path / "a", tmp_path / "b"
    options = {**QUICK, "shadows.keep_models": "no"}
    lender = hampkit.run("toy/hamp", attacks=["lira-online"], options=options, shadows=4, runs_dir=one, workers=1)
    folder = one / lender.models[0].run
    with pytest.raises(UserError, match=r"attack rank is not possible: .* with shadows.keep_models=yes"):
        hampkit.run("toy/hamp", attacks=["rank"], options=QUICK, shadows_from=folder, runs_dir=other)
    options = {**QUICK, "neural.epochs": 1}
    found = hampkit.run("toy/hamp", options=options, shadows_from=folder, runs_dir=other)
    assert set(found.models[0].skipped) == {"label-only", "rank", "repeated", "stripped-lira", "stripped-rmia"}
    text = (other / "report.md").read_text()
    assert "Not made: label-only, rank, repeated, stripped-lira, stripped-rmia: the weights" in text
    assert "not made: label-only" in (other / "report.html").read_text()


def test_the_noise_is_undone_by_models_that_the_adversary_made():
    """The answers are shifted by an amount that the rank reveals: LiRA on the answers finds less than on the restored ones."""
    from hampkit.attacks.lira import LiraOnline
    from hampkit.attacks.probes import AnswerShape
    from hampkit.attacks.restored import Reference

    rng = np.random.default_rng(3)
    models, examples = 16, 200
    members = rng.permuted(np.arange(models)[:, None] < np.full(examples, 8), axis=0)
    target = rng.random(examples) < 0.5
    noise = rng.integers(0, 4, (models + 1, examples)).astype(np.float32)
    own = (2 * np.vstack([members, target]) + rng.normal(size=(models + 1, examples))).astype(np.float32)
    shape = np.stack([own - 4 * noise, noise, 0 * noise, 0 * noise, 0 * noise, 0 * noise], -1).astype(np.float32)
    probes = {AnswerShape(): (shape[:models],), OwnAnswers(): (own[:models, :, None],)}
    empty, places = np.empty((models, 0), np.float32), (np.arange(examples), np.arange(models))
    shadows = Shadows((shape[:models, :, :1],), members, empty, *places, probes=probes)
    y, logits = torch.zeros(examples, dtype=torch.long), torch.zeros(examples, 1, 3, dtype=torch.float64)
    evidence = Evidence(torch.zeros(examples, 2), y, logits, shadows=shadows, probes={AnswerShape(): shape[models]})
    found = auc_interval(Reference()(evidence), target)
    plain = auc_interval(LiraOnline().score_signals(shape[models, :, :1], np.empty(0), shadows), target)
    assert found.low > plain.high
    assert found.value > 0.85


DYING = """
import os, signal, sys
from hampkit.cli.app import guarded
from hampkit.targets import probing

left, ask = int(sys.argv[1]), probing.ask

def dying(*args):
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
    return ask(*args)

from hampkit.shadow_models import job_models
from hampkit.workflows import query
job_models.ask = query.ask = dying
sys.exit(guarded(sys.argv[2:]))
"""


def kept(folder):
    """What every probe kept, by its place in the run."""
    found = sorted(folder.rglob("kept.npy"))
    return {str(p.relative_to(folder)): p.read_bytes() for p in found if ".partial" not in str(p)}


@pytest.mark.slow
def test_killed_while_it_asks_the_answers_are_the_same_bytes(tmp_path):
    words = [f"{k}={v}" for k, v in {**QUICK, "neural.epochs": 1}.items()]
    command = ["run", "toy/hamp", *words, "--shadows", "4", "--workers", "1", "--runs-dir", "r", "--quiet"]

    def start(folder, at):
        folder.mkdir(exist_ok=True)
        return subprocess.run([sys.executable, "-c", DYING, str(at), *command], cwd=folder).returncode

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert start(whole, 10**9) == 0
    for at in (1, 2, 3, 4, 5):
        before = kept(killed)
        assert start(killed, at) == -signal.SIGKILL
        assert before.items() <= kept(killed).items()
    assert start(killed, 10**9) == 0
    assert len(kept(whole)) == 4 * 3 + 3, "three probes of four shadow models and of the target"
    assert kept(killed) == kept(whole)
    assert not list(killed.rglob("*.partial"))


def test_a_probe_that_would_ask_otherwise_makes_other_steps(monkeypatch):
    """The files of an attack are named by what it asks, also where its options are the same."""
    before = {attack.name: attack.asks() for attack in ATTACKS}
    monkeypatch.setattr(NoisyCopies, "version", 99)
    changed = {attack.name for attack in ATTACKS if attack.asks() != before[attack.name]}
    assert changed == {"label-only", "rank"}
