"""Lines whose loss nobody would notice from a table: each test here was seen to fail with its line broken."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import hampkit
from hampkit.attacks.neural import Neural, _balanced_accuracy
from hampkit.attacks.threshold import Correctness, Entropy, Loss
from hampkit.config.recipe import JudgeConfig, TrainConfig
from hampkit.defenses.hamp import Hamp, SwapConfidences, soft_labels
from hampkit.judging import flags as checks
from hampkit.judging.case import Pool, build_case, score, shuffled
from hampkit.judging.evaluate import evaluate, judge_scores
from hampkit.rng import derive, forked
from hampkit.runs.store import Run
from hampkit.stats import metrics
from hampkit.training import MeanLoss, Trainer
from hampkit.types import Dataset, Domain, Task
from hampkit.workflows.attack import Attacked, _assemble
from hampkit.workflows.open_run import open_run
from hampkit.workflows.report_inputs import details
from hampkit.workflows.session import Session
from hampkit.workflows.train import train

QUICK = {"rows": 600, "features": 24, "classes": 4, "epochs": 3}


def pool(members, others, gap=2.0, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    n = members + others
    y = torch.from_numpy(rng.integers(0, classes, n))
    logits = torch.from_numpy(rng.normal(size=(n, 1, classes)))
    logits[torch.arange(n), 0, y] += 1 + gap * (torch.arange(n) < members)
    x = torch.arange(n, dtype=torch.float32).unsqueeze(-1)
    return Dataset("p", x, y, classes, Domain.grid((1,), 0, float(n), 0)), logits


# training


class Normed(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(24, 8), nn.BatchNorm1d(8), nn.Linear(8, 4)

    def forward(self, x):
        return self.last(torch.tanh(self.norm(self.first(x))))


@pytest.mark.parametrize("width", [1, 4])
def test_a_network_with_batch_norm_trains_as_in_a_plain_loop(toy, width, float64):
    """In training mode, with its running statistics updated by every batch."""
    members = torch.zeros(2, 400, dtype=torch.bool)
    members[0, :128], members[1, 100:228] = True, True
    task = Task(toy, members, (7, 8), Normed)
    config = TrainConfig(epochs=3, batch_size=32, optimizer="sgd", lr=0.1, shuffle=False, select="last", retries=0)
    loss = MeanLoss(lambda logits, batch: cross_entropy(logits, batch.y, reduction="none"))
    ours = Trainer(config, width=width).fit(task, loss)
    with forked(derive(8, "init")):
        net = Normed()
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    for _ in range(3):
        for bx, by in zip(toy.x[100:228].double().split(32), toy.y[100:228].split(32), strict=True):
            optimizer.zero_grad()
            cross_entropy(net(bx), by).backward()
            optimizer.step()
    for key, value in net.state_dict().items():
        found = (ours.params | ours.buffers)[key][1]
        assert torch.allclose(found.double(), value.double(), rtol=1e-9, atol=1e-12), key


@pytest.mark.parametrize("options", [{"grid": 0.01}, {"kl": "mean"}])
def test_hamps_published_options_change_what_is_trained(task, short, options):
    plain, published = (Hamp(**o).fit(task.only([0]), Trainer(short)).stack for o in ({}, options))
    assert any(not torch.equal(v, published.params[k]) for k, v in plain.params.items())


def test_hamps_targets_are_its_soft_labels(task, short):
    seen = {}

    class Spy(Trainer):
        def fit(self, task, objective, targets=None):
            seen["targets"] = targets
            return super().fit(task, objective, targets)

    Hamp(gamma=0.7, grid=0.01).fit(task.only([0]), Spy(short))
    assert torch.equal(seen["targets"], soft_labels(task.pool.y, 4, 0.7, 0.01).float())


# release


def keyed(secret, domain=None):
    return SwapConfidences(
        domain or Domain.grid((6,), 0, 1, 1), "keyed", torch.full((32,), secret, dtype=torch.uint8), None
    )


def test_keyed_noise_depends_on_the_secret_and_every_model_has_its_own(task, short):
    x = torch.randint(0, 2, (40, 6)).float()
    ask = nn.Linear(6, 4).requires_grad_(False)
    rng = torch.Generator().manual_seed(0)
    assert not torch.equal(keyed(1)(ask, x, rng), keyed(2)(ask, x, rng))
    secrets = Hamp().fit(task.only([0, 1]), Trainer(short)).state["secret"]
    assert not torch.equal(secrets[0], secrets[1])


def test_inputs_that_mean_the_same_get_the_same_keyed_noise():
    """Otherwise an input with k zeros could be asked 2^k times, each time with new noise."""
    swap, ask = keyed(1), nn.Linear(6, 4).requires_grad_(False)
    x = torch.randint(0, 2, (30, 6)).float()
    rng = torch.Generator().manual_seed(0)
    answers = swap(ask, x, rng)
    same = torch.where(x == 0, torch.full_like(x, -0.0), x)
    assert torch.equal(swap(lambda q: ask(q.round()), same, rng), answers)
    nudged = x + 1e-3 * torch.rand(30, 6)
    assert torch.equal(swap(lambda q: ask(q.round()), nudged, rng), answers)


# judging


def test_the_outer_interval_of_a_rate_covers_the_truth_where_the_exact_one_does_not():
    from scipy.stats import norm

    rng, truth, covered = np.random.default_rng(0), 1 - norm.cdf(norm.ppf(0.99) - 2), {"outer": 0, "exact": 0}
    for _ in range(300):
        s, m = np.r_[rng.normal(2, 1, 500), rng.normal(0, 1, 500)], np.arange(1000) < 500
        low, high = metrics.tpr_bounds(s, m, 0.01)
        point = metrics.tpr_point(s, m, 0.01)
        assert low <= point.value <= high
        covered["outer"] += low <= truth <= high
        covered["exact"] += point.low <= truth <= point.high
    assert covered["outer"] >= 0.95 * 300
    assert covered["exact"] < 0.8 * 300
    low, high = metrics.tnr_bounds(s, m, 0.01)
    assert (low, high) == metrics.tpr_bounds(-s, ~m, 0.01)


def test_few_is_about_the_smaller_group_and_each_rate_about_its_own():
    data, logits = pool(400, 24000)
    case = build_case(Pool(data, 400), logits, JudgeConfig(), 0)
    result = judge_scores(Loss(), *score(Loss(), case), case, JudgeConfig())
    assert "few" in result.flags
    assert result.tpr_at_fpr[0].resolved, "12,000 non-members show 0.1 %"
    assert not result.tnr_at_fnr[0].resolved, "200 members do not"
    assert [r.reason for r in (result.tpr_at_fpr[0], result.tnr_at_fnr[0])] == ["", "200 members, 5,000 needed"]


def test_strict_reaches_both_rates():
    data, logits = pool(400, 400)
    case = build_case(Pool(data, 400), logits, JudgeConfig(), 0)
    scores = score(Loss(), case)
    loose, strict = (judge_scores(Loss(), *scores, case, JudgeConfig(strict=s)) for s in (False, True))
    assert [r.tnr_at_fnr[1].errors for r in (loose, strict)] == [2, 1]


def test_the_null_tells_an_attack_wrong_things_about_the_known_examples_too():
    data, logits = pool(400, 400)
    case = build_case(Pool(data, 400), logits, JudgeConfig(), 0)
    known = shuffled(case, 0).evidence.known
    assert known is not None
    assert 0.3 < (known.member.numpy() == case.known_member).mean() < 0.7


def test_a_flag_takes_more_than_one_run_in_twenty():
    """Over 300 nulls, what a 95 % interval would flag 5 % of the time is flagged hardly ever."""
    rng, raised = np.random.default_rng(1), {"off_null": 0, "inverted": 0, "masked": 0, "95": 0}
    member = np.arange(300) < 150
    for _ in range(300):
        s, label = rng.normal(size=300), (rng.random(300) < 0.5).astype(float)
        interval = metrics.auc_interval(s, member)
        raised["95"] += not interval.low <= 0.5 <= interval.high
        raised["off_null"] += checks.off_null(s, member)
        raised["inverted"] += "inverted" in evaluate(s, member).flags
        raised["masked"] += checks.masked(s, label, member)
    assert raised["95"] >= 6
    assert max(raised["off_null"], raised["inverted"], raised["masked"]) <= 3, raised


def test_the_neural_attack_is_chosen_by_balanced_accuracy():
    class Never(nn.Module):
        def logit(self, logits, y, loss):
            return torch.full((len(y),), -1.0)

    member = torch.arange(100) < 10
    features = (torch.zeros(100, 3), torch.zeros(100).long(), torch.zeros(100))
    assert _balanced_accuracy(Never(), features, member, torch.ones(100, dtype=torch.bool)) == 0.5  # pyright: ignore[reportArgumentType]


def test_the_neural_attack_keeps_the_best_of_its_epochs_by_examples_it_was_not_fitted_on(monkeypatch):
    """Its rate falls by ten in the middle; the weights of the best epoch on the examples set aside are kept."""
    from hampkit.attacks import neural

    data, logits = pool(60, 60)
    case = build_case(Pool(data, 60), logits, JudgeConfig(known_train=0.3, known_val=0.2), 0)
    known = case.evidence.known
    assert known is not None
    asked, rates, states = [], [], []

    def right(net, features, member, rows):
        asked.append(rows)
        states.append([p.detach().clone() for p in net.parameters()])
        return 1.0 if len(asked) == 3 else 0.5

    step = torch.optim.Adam.step

    def spy(self, *a, **k):
        rates.append(self.param_groups[0]["lr"])
        return step(self, *a, **k)

    monkeypatch.setattr(neural, "_balanced_accuracy", right)
    monkeypatch.setattr(torch.optim.Adam, "step", spy)
    attack = Neural(epochs=6)
    net = attack._train(known, neural._Scale.of(known), 0)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), states[2], strict=True))
    assert all(torch.equal(rows, ~known.fit) for rows in asked)
    assert rates == [5e-4] * 3 + [pytest.approx(5e-5)] * 3


# the pipeline


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("guards") / "runs"
    names = ("loss", "correctness", "entropy")
    return folder, hampkit.run("toy/undefended", "toy/hamp", options=QUICK, attacks=names, runs_dir=folder)


def test_the_difference_is_that_of_the_first_model_minus_the_second(runs):
    folder, results = runs
    first, second = results.models
    d = results.difference
    assert d is not None
    # the highest lower bound on one model, the highest AUC on the other
    one, other = (max(model.attacks, key=lambda a: (a.auc_corrected or a.auc).low) for model in (first, second))
    pairs = ((one, second.highest()), (first.highest(), other))
    pair = next(p for p in pairs if d.attacks == (p[0].attack, p[1].attack))
    assert d.value == pytest.approx(pair[0].auc.value - pair[1].auc.value)
    assert hampkit.write_report(folder / second.run, folder / first.run, out=folder / "r").difference.value == -d.value
    assert results.to_json()["difference"]["attacks"] == list(d.attacks)


def test_models_that_were_judged_otherwise_or_split_otherwise_are_not_compared(runs, tmp_path):
    folder, results = runs
    a, b = (folder / m.run for m in results.models)
    hampkit.attack(b, "loss", options={"judge.known_train": 0.2}, out=tmp_path)
    assert hampkit.write_report(a, b, out=tmp_path).difference is None
    hampkit.attack(b, "loss", "correctness", "entropy", out=tmp_path)
    assert hampkit.write_report(a, b, out=tmp_path).difference is not None
    other = hampkit.run("toy/hamp", options=QUICK, attacks=("loss",), seed=1, runs_dir=folder).models[0]
    assert hampkit.write_report(a, folder / other.run, out=tmp_path).difference is None
    # the same places in the list of candidates, but other examples in them
    resplit = hampkit.run("toy/hamp", options={**QUICK, "split.seed": 5}, attacks=("loss",), runs_dir=folder).models[0]
    assert hampkit.write_report(a, folder / resplit.run, out=tmp_path).difference is None


def test_options_of_the_judge_give_other_numbers_and_the_report_says_which(runs, tmp_path):
    folder, results = runs
    run = folder / results.models[0].run
    before = hampkit.attack(run, "loss", out=tmp_path).models[0]
    after = hampkit.attack(run, "loss", options={"judge.known_train": 0.2}, out=tmp_path).models[0]
    assert (before.known["members"], after.known["members"]) != (before.known["members"],) * 2
    assert after.attacks[0].members > before.attacks[0].members
    assert details(Run(run))["provenance"]["recipe"]["judge"]["known_train"] == 0.2
    assert after.judge["known_train"] == 0.2


def test_a_second_attack_does_not_make_a_run_forget_the_first(runs, tmp_path):
    folder, _ = runs
    run = (
        folder / hampkit.run("toy/undefended", options=QUICK, attacks=("loss",), seed=3, runs_dir=folder).models[0].run
    )
    only = hampkit.attack(run, "neural", options={"neural.epochs": 2}, out=tmp_path)
    assert [a.attack for a in only.models[0].attacks] == ["neural"], "shown is what was asked for"
    assert only.models[0].attacks[0].options == {"epochs": 2}
    names = {a.attack for a in hampkit.write_report(run, out=tmp_path).models[0].attacks}
    assert names == {"loss", "neural"}


def test_flags_of_a_run_are_put_together_as_the_answers_are(monkeypatch, runs):
    """masked: where the release changes answers, on attacks that see more than the label; untrained: from the history."""
    folder, results = runs
    session = Session(runs_dir=folder)
    problem = open_run(folder / results.models[1].run, session)
    trained = train(problem, session)
    data, logits = pool(200, 200)
    case = build_case(Pool(data, 200), logits, JudgeConfig(), 0)
    rows = [judge_scores(a, *score(a, case), case, JudgeConfig()) for a in (Correctness(), Entropy())]
    scores = {"correctness": case.member.astype(float), "entropy": np.random.default_rng(0).normal(size=200)}
    interval = {"value": 0.5, "low": 0.4, "high": 0.6}
    checked = {"shifted": False, "off_null": False, "null": interval, "shift": interval}

    def flags(modified, diverged=""):
        history = tuple(replace(h, diverged=diverged) for h in trained.models.stack.history)
        stack = replace(trained.models.stack, history=history)
        model = replace(trained, models=replace(trained.models, stack=stack))
        attacked = Attacked(problem, model)
        answers = replace(attacked.answers, randomised=True, modified=modified)
        vars(attacked).update(case=case, answers=answers)  # in place of what was cached
        result = _assemble(attacked, rows, scores, checked)
        return {a.attack: set(a.flags) for a in result.attacks}

    assert "masked" in flags(True)["entropy"]
    assert "masked" not in flags(True)["correctness"]
    assert "masked" not in flags(False)["entropy"]
    assert "untrained" in flags(True, "it learnt nothing")["entropy"]
    assert "untrained" not in flags(True)["entropy"]
    assert "randomised" in flags(True)["entropy"]
    assert "randomised" not in flags(True)["correctness"]


def test_answers_are_drawn_with_the_runs_own_seed(monkeypatch, tmp_path):
    from hampkit.targets.blackbox import BlackBox

    seeds, query = [], BlackBox.query

    def spy(self, x, seed):
        seeds.append(seed)
        return query(self, x, seed)

    monkeypatch.setattr(BlackBox, "query", spy)
    for seed in (0, 1):
        hampkit.run("toy/hamp", options=QUICK, attacks=("loss",), seed=seed, runs_dir=tmp_path / "runs")
    assert len(set(seeds)) == 6, "the pool, a part of it again, and the population, in each of two runs"


def test_what_a_killed_process_left_is_cleared_away(runs):
    folder, results = runs
    run = folder / results.models[0].run
    left = run / "attacks" / ".loss-0.x.partial"
    left.mkdir()
    hampkit.run("toy/undefended", options=QUICK, attacks=("loss",), runs_dir=folder)
    assert not left.exists()
