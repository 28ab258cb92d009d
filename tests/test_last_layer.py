"""The attack by one reference model: its posterior against slow obvious versions, what it finds, its step, its refusals."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import hampkit
from hampkit import UserError, signals
from hampkit.attacks.base import Attack, Evidence, Reference
from hampkit.attacks.last_layer import FLOOR, LastLayer
from hampkit.config.recipe import load_recipe
from hampkit.config.sections import JudgeConfig
from hampkit.defenses.undefended import Undefended
from hampkit.judging.case import Pool, build_case, everyone, score
from hampkit.nets import net_factory
from hampkit.nets.normalize import Normalize
from hampkit.rng import derive, numpy_rng
from hampkit.runs.run_files import write_run
from hampkit.runs.store import Run
from hampkit.stats.metrics import auc_interval
from hampkit.targets import last_layer
from hampkit.targets.last_layer import NOT_LINEAR, Posterior
from hampkit.targets.trained import network_of
from hampkit.training.trainer import Diverged
from hampkit.workflows import reference_model
from hampkit.workflows.attack import Attacked
from hampkit.workflows.prepare import prepare
from hampkit.workflows.session import Session
from hampkit.workflows.shadow import plan_shadows
from hampkit.workflows.train import content_of, target_step

pytestmark = pytest.mark.numeric

QUICK = {"rows": 1500, "features": 24, "classes": 4, "flip": 0.35, "epochs": 15, "neural.epochs": 2, "net": "mlp-small"}
TINY = {**QUICK, "rows": 100}  # a test segment of nine rows


def problem_of(folder, options=None):
    texts = {k: str(v) for k, v in {**QUICK, **(options or {})}.items()}
    return prepare(load_recipe("toy/undefended", texts), Session(runs_dir=folder))


# --- the posterior --------------------------------------------------------------------------------------------------


def small(seed=0, n=40, others=6, features=3, classes=3):
    """Features (with a 1), logits and labels of training rows and of other rows, and the weights of the layer."""
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=(classes, features + 1))
    phi = np.c_[rng.normal(size=(n + others, features)) * (1, 2, 0.3), np.ones(n + others)]
    return phi[:n], phi[n:], weights, rng.integers(0, classes, others)


def reference_of(known, asked, weights):
    posterior = Posterior.of(torch.from_numpy(known), torch.from_numpy(known @ weights.T))
    return Reference(
        asked @ weights.T,
        posterior.squares(torch.from_numpy(asked)).numpy(),
        posterior.feature_curvature.numpy(),
        posterior.class_curvature.numpy(),
        posterior.class_directions.numpy(),
        posterior.rows,
        np.arange(len(asked)),
    )


def covariance(known, weights, prior):
    """(CD, CD) of the weights (C, D) in the order of `numpy.ravel`, from loops over the rows and a dense inverse."""
    n, (classes, features) = len(known), weights.shape
    a, g = np.zeros((features, features)), np.zeros((classes, classes))
    for phi in known:
        p = np.exp(weights @ phi) / np.exp(weights @ phi).sum()
        a += np.outer(phi, phi) / n
        g += (np.diag(p) - np.outer(p, p)) / n
    damped = [np.sqrt(n) * m + np.sqrt(prior) * np.eye(len(m)) for m in (g, a)]
    return np.linalg.inv(np.kron(*damped))


@pytest.mark.parametrize("prior", [0.5, 4.0])
def test_the_posterior_of_the_logits_is_that_of_the_weights(prior):
    known, asked, weights, _ = small()
    of_weights, found = covariance(known, weights, prior), reference_of(known, asked, weights)
    n, classes = np.sqrt(len(known)), len(weights)
    inverse = np.diag(1 / (n * found.class_curvature + np.sqrt(prior)))
    of_classes = found.class_directions @ inverse @ found.class_directions.T
    for phi, squares in zip(asked, found.squares, strict=True):
        jacobian = np.kron(np.eye(classes), phi)  # (C, CD) of the logits
        leverage = (squares / (n * found.feature_curvature + np.sqrt(prior))).sum()
        assert np.allclose(jacobian @ of_weights @ jacobian.T, leverage * of_classes, rtol=1e-9, atol=1e-12)


def test_samples_have_the_moments_of_networks_with_sampled_weights():
    known, asked, weights, y = small(1)
    rng, draws = np.random.default_rng(0), 20_000
    sampled = rng.multivariate_normal(weights.ravel(), covariance(known, weights, 1.0), draws).reshape(
        -1, *weights.shape
    )
    slow = signals.scaled_logit(np.einsum("mcd,nd->mnc", sampled, asked), np.tile(y, (draws, 1)))
    noise = rng.standard_normal((draws, len(weights)))
    fast = LastLayer()._sampled(reference_of(known, asked, weights), y, noise)
    sd = slow.std(0)
    assert np.allclose(fast.mean(0), slow.mean(0), atol=5 * np.sqrt(2 / draws) * sd.max())
    assert np.allclose(fast.std(0), sd, rtol=0.03)
    skewed = [((s - s.mean(0)) ** 3).mean(0) / s.std(0) ** 3 for s in (fast, slow)]
    assert np.allclose(*skewed, atol=0.15)


def test_with_one_training_row_the_factors_give_the_exact_curvature():
    known, _, weights, _ = small(n=1)
    phi, start = torch.from_numpy(known), torch.from_numpy(weights)
    exact = torch.func.hessian(lambda w: cross_entropy(phi @ w.T, torch.tensor([2])))(start)
    p = Posterior.of(phi, phi @ start.T)
    a, g = (
        v @ e.diag() @ v.T
        for e, v in ((p.feature_curvature, p.feature_directions), (p.class_curvature, p.class_directions))
    )
    size = weights.size
    assert torch.allclose(exact.reshape(size, size), torch.kron(g, a), atol=1e-12)


def test_the_score_is_the_t_statistic_of_a_plain_loop():
    known, asked, weights, y = small(2, others=9)
    reference, attack = reference_of(known, asked, weights), LastLayer(samples=16, prior_precision=2.0)
    answers = np.random.default_rng(3).normal(size=(9, 1, 3))
    noise = numpy_rng(derive(7, "last-layer")).standard_normal((16, 3))
    expected = []
    for i in range(9):
        leverage = sum(
            s / (np.sqrt(40) * a + np.sqrt(2))
            for s, a in zip(reference.squares[i], reference.feature_curvature, strict=True)
        )
        root = reference.class_directions @ np.diag((np.sqrt(40) * reference.class_curvature + np.sqrt(2)) ** -0.5)
        phis = [signals.scaled_logit(reference.logits[i] + np.sqrt(leverage) * root @ e, y[i]).item() for e in noise]
        mean = sum(phis) / 16
        sd = np.sqrt(sum((phi - mean) ** 2 for phi in phis) / 15)
        mine = signals.scaled_logit(answers[i, 0], y[i]).item()
        expected.append((mine - mean) / (sd * np.sqrt(1 + 1 / 16)))
    evidence = Evidence(torch.zeros(9, 1), torch.from_numpy(y), torch.from_numpy(answers), seed=7, reference=reference)
    assert np.allclose(attack(evidence), expected, rtol=1e-9)


def test_a_score_does_not_depend_on_the_other_candidates():
    evidence, _ = made(gap=1.0)
    order = np.random.default_rng(0).permutation(len(evidence.y))[:50]
    rows = torch.from_numpy(order)
    assert evidence.reference is not None
    few = replace(evidence, x=evidence.x[rows], y=evidence.y[rows], logits=evidence.logits[rows])
    few = replace(few, reference=replace(evidence.reference, rows=evidence.reference.rows[order]))
    assert np.array_equal(LastLayer()(evidence)[order], LastLayer()(few))


def test_samples_that_are_all_equal_are_no_trouble():
    evidence, _ = made(n=20)
    assert evidence.reference is not None
    zero = replace(evidence.reference, squares=np.zeros_like(evidence.reference.squares))
    mine, mean = (signals.scaled_logit(z, evidence.y.numpy()) for z in (evidence.logits[:, 0].numpy(), zero.logits))
    assert np.allclose(LastLayer()(replace(evidence, reference=zero)), (mine - mean) / (FLOOR * np.sqrt(1 + 1 / 64)))


# --- the last layer of a network ------------------------------------------------------------------------------------

TABLES = {"mlp", "mlp-small"}
IMAGES = ["densenet-small", "convnet-gn", "resnet9", "wrn-28-2"]


@pytest.mark.parametrize("name", [*sorted(TABLES), *IMAGES])
def test_it_is_found_in_every_network_that_is_registered(name):
    shape = (12,) if name in TABLES else (3, 16, 16)
    torch.manual_seed(0)
    net = net_factory(name, shape, 5, Normalize(torch.full(shape, 0.3), torch.full(shape, 0.7)))().eval()
    x = torch.rand(7, *shape)
    layer = last_layer.LastLayer.of(net, x[:2])
    features = layer.features(x)
    assert (layer.factor == 1) == (name != "resnet9")
    assert features.dtype == torch.float64
    assert torch.allclose(features[:, -1], torch.full((7,), layer.factor, dtype=torch.float64))
    assert torch.allclose(layer.logits(features), net(x).detach().double(), rtol=1e-4, atol=1e-5)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules()), "hooks stay behind"


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        return self.layer(self.layer(x).tanh())


class Shifted(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        return self.layer(x) + x


@pytest.mark.parametrize(
    "net",
    [
        nn.Sequential(nn.Linear(4, 4), nn.ReLU()),
        nn.Sequential(nn.Linear(4, 4), nn.LogSoftmax(-1)),
        nn.Sequential(nn.Unflatten(1, (1, 4)), nn.Conv1d(1, 2, 1), nn.Flatten()),
        nn.Sequential(nn.Linear(4, 6), nn.Unflatten(1, (1, 6)), nn.AdaptiveAvgPool1d(3), nn.Flatten()),
        Twice(),
        Shifted(),
    ],
    ids=["relu", "softmax", "convolution", "pooled", "twice", "shifted"],
)
def test_a_network_that_does_not_end_in_a_linear_layer_is_refused(net):
    with pytest.raises(UserError, match=NOT_LINEAR):
        last_layer.LastLayer.of(net.eval(), torch.randn(3, 4))


def test_a_layer_without_bias_or_with_weights_of_zero_is_one_too():
    for bias in (False, True):
        layer = nn.Linear(4, 3, bias=bias)
        nn.init.zeros_(layer.weight)
        found = last_layer.LastLayer.of(nn.Sequential(nn.Tanh(), layer), torch.randn(2, 4))
        assert found.features(torch.randn(5, 4)).shape == (5, 4 + bias)


# --- what it finds --------------------------------------------------------------------------------------------------


def made(seed=0, n=400, classes=3, gap=2.0):
    """Examples of very different difficulty, which the reference model has too; members are answered more surely by ``gap``."""
    rng = np.random.default_rng(seed)
    y, member = rng.integers(0, classes, n), rng.random(n) < 0.5
    known, asked, weights, _ = small(seed, others=n, classes=classes)
    reference = reference_of(known, asked, weights)
    logits = 3 * reference.logits + rng.normal(size=(n, classes))
    reference = replace(reference, logits=3 * reference.logits)
    logits[np.arange(n), y] += gap * member
    return Evidence(
        torch.zeros(n, 1), torch.from_numpy(y), torch.from_numpy(logits[:, None]), reference=reference
    ), member


def test_it_finds_members_that_one_threshold_does_not():
    evidence, member = made()
    plain = signals.scaled_logit(evidence.logits[:, 0], evidence.y).numpy()
    found, threshold = (auc_interval(scores, member) for scores in (LastLayer()(evidence), plain))
    assert found.low > 0.7
    assert found.low > threshold.high


def test_nothing_is_found_where_there_is_nothing():
    missed = 0
    for seed in range(20):
        evidence, member = made(seed + 10, n=200, gap=0.0)
        interval = auc_interval(LastLayer()(evidence), member)
        missed += not interval.low <= 0.5 <= interval.high
    assert missed <= 4


def test_known_examples_are_scored_like_the_candidates():
    evidence, member = made(n=200)
    order = np.argsort(~member, kind="stable")
    data = replace(toy_of(200), y=evidence.y[order])
    case = build_case(Pool(data, int(member.sum())), evidence.logits[order], JudgeConfig(), 0)
    assert evidence.reference is not None
    mine = replace(
        evidence.reference, logits=evidence.reference.logits[order], squares=evidence.reference.squares[order]
    )
    case = case.holding(None, None).holding_reference(mine)
    scores, known = score(LastLayer(), case)
    told = case.evidence.known
    held = everyone(case).reference
    assert told is not None
    assert told.rows is not None
    assert held is not None
    assert case.rows is not None
    rows = np.r_[case.rows, told.rows.numpy()]
    assert np.array_equal(held.rows, rows)
    at_once = replace(evidence, seed=case.evidence.seed)
    assert np.array_equal(np.r_[scores, known], LastLayer()(at_once)[order][rows])


def toy_of(rows):
    from hampkit.data.toy import Toy

    return Toy(rows=rows, features=4, classes=3).load(None)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ({"samples": 1}, "samples=1 must lie"),
        ({"prior_precision": 0.0}, "prior_precision=0.0 must be a number above 0"),
        ({"prior_precision": float("nan")}, "prior_precision=nan"),
    ],
)
def test_options_have_ranges(option, said):
    with pytest.raises(UserError, match=said):
        LastLayer(**option)


# --- the reference model of a run -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A model that memorises labels which nothing explains, without shadow models, attacked by this attack alone."""
    folder, rng = tmp_path_factory.mktemp("last-layer"), np.random.default_rng(0)
    table, labels = folder / "noise.csv", [f"c{k}" for k in rng.integers(0, 20, 1200)]
    rows = [
        ",".join([*map(str, x), label]) for x, label in zip(rng.normal(size=(1200, 20)).round(4), labels, strict=True)
    ]
    table.write_text("\n".join([",".join([*(f"f{i}" for i in range(20)), "label"]), *rows]) + "\n")
    options = {"epochs": 80, "select": "last", "net": "mlp-small"}
    given = {"data": table, "label": "label", "options": options, "runs_dir": folder / "runs"}
    return folder / "runs", hampkit.run("undefended", attacks=["last-layer"], **given)


def test_a_memorising_target_is_found_out_with_one_training_and_no_shadow_model(runs):
    folder, results = runs
    (result,) = results.models[0].of("target")
    assert result.attack == "last-layer"
    assert result.auc.low > 0.8
    run = folder / results.models[0].run
    assert len(list((run / "reference-model").iterdir())) == 1
    assert not (run / "shadows").exists()


def test_the_step_is_found_again_whatever_the_options_of_the_attack(runs, monkeypatch):
    folder, results = runs
    run = folder / results.models[0].run

    def fail(*_):
        raise AssertionError("trained again")

    monkeypatch.setattr(Undefended, "fit", fail)
    again = hampkit.attack(run, "last-layer", options={"last-layer.prior_precision": 100.0}, out=folder / "again")
    assert again.models[0].of("target")[0].auc != results.models[0].of("target")[0].auc
    same = hampkit.attack(run, "last-layer", options={"last-layer.prior_precision": 1.0}, out=folder / "again")
    assert same.models[0].of("target")[0].auc == results.models[0].of("target")[0].auc


def test_damaged_weights_are_trained_again_to_the_same_bytes(runs):
    folder, results = runs
    run = folder / results.models[0].run
    (weights,) = (run / "reference-model").rglob("stack.safetensors")
    before = weights.read_bytes()
    weights.write_bytes(before[:-4] + b"spam")
    hampkit.attack(run, "last-layer", out=folder / "again")
    assert weights.read_bytes() == before


def test_a_run_passes_the_models_answers_and_features_to_the_attack(tmp_path):
    options = {**QUICK, "rows": 600, "epochs": 3}
    results = hampkit.run("toy/undefended", options=options, attacks=["last-layer"], runs_dir=tmp_path)
    run = Run.at(tmp_path / results.models[0].run)
    problem = problem_of(tmp_path, options)
    target = target_step(problem, run).of(run)
    found = reference_model.reference_of(problem, target)
    task, models = reference_model.reference_task(problem), reference_model.reference_step(problem).of(run)
    logits = problem.trainer.predict(models.stack, target.pool.x)[0].double().numpy()
    assert np.allclose(found.logits, logits, atol=1e-4)
    known, lengths = (_features(models.stack, x) ** 2 for x in (task.pool.x, target.pool.x))
    assert np.isclose(found.feature_curvature.sum(), known.sum(1).mean(), rtol=1e-5)
    assert np.allclose(found.squares.sum(1), lengths.sum(1), rtol=1e-5)
    assert found.trained_on == len(task.pool)
    case = Attacked(problem, target).case.holding_reference(found)
    (file,) = run.folder.glob("attacks/last-layer-*/scores.npz")
    with np.load(file) as stored:
        for name, mine in zip(("scores", "known_scores"), score(LastLayer(), case), strict=True):
            assert np.allclose(stored[name], mine)


def _features(stack, x):
    """The inputs of the classifier of an MLP, and the one of its bias."""
    net = network_of(stack)
    hidden = net.get_submodule("features")(x.float()).detach().double().numpy()
    return np.c_[hidden, np.ones(len(hidden))]


def test_it_is_trained_on_rows_that_nobody_is_judged_or_trained_on(tmp_path):
    problem = problem_of(tmp_path)
    task = reference_model.reference_task(problem)
    rows = {tuple(x) for x in task.pool.x.tolist()}
    assert not rows & {tuple(x) for x in problem.task.pool.x.tolist()}
    assert rows <= {tuple(x) for x in problem.test.x.tolist()}
    assert len(task.pool) <= problem.table.n_members
    assert task.members.all()
    taken = {*problem.task.seeds, *(derive(problem.recipe.seed, "shadow", m) for m in range(100))}
    assert not taken & set(task.seeds)
    digits = prepare(load_recipe("digits/undefended", {}), Session(runs_dir=tmp_path))
    assert len(reference_model.reference_task(digits).pool) == digits.table.n_members


def test_it_is_made_by_default_with_shadow_models_and_not_without(tmp_path):
    options = {**QUICK, "rows": 600, "epochs": 4}
    with_shadows = hampkit.run("toy/undefended", options=options, shadows=4, workers=1, runs_dir=tmp_path / "with")
    assert "last-layer" in {a.attack for a in with_shadows.models[0].of("target")}
    assert "last-layer" not in {a.attack for a in with_shadows.models[0].of("leave-one-out")}
    alone = hampkit.run("toy/undefended", options=options, runs_dir=tmp_path / "alone")
    assert "last-layer" not in {a.attack for a in alone.models[0].of("target")}
    assert not list((tmp_path / "alone").rglob("reference-model"))


def test_the_plan_counts_its_training(tmp_path):
    session = Session(runs_dir=tmp_path)
    problem = problem_of(tmp_path, {"shadows.models": 4})
    planned = plan_shadows(problem, session)
    assert "; one reference model: about" in planned.line()
    assert planned.reference < planned.each, "it has fewer rows"
    assert "reference" not in plan_shadows(problem, session, attacks=["lira"]).line()
    run = Run.create(tmp_path, problem.folder, lambda f: write_run(content_of(problem), f))
    reference_model.reference_step(problem).folder(run)
    assert "reference" not in plan_shadows(problem, session).line()


# --- refusals -------------------------------------------------------------------------------------------------------


def test_too_few_rows_are_refused_before_anything_is_trained(tmp_path):
    with pytest.raises(
        UserError, match=r"attack last-layer is not possible: .* at least 20 rows .*there are 9; leave it out"
    ):
        hampkit.run("toy/undefended", options=TINY, attacks=["last-layer"], runs_dir=tmp_path)
    assert not list(tmp_path.iterdir())


def test_too_few_rows_leave_it_out_by_default_with_the_reason(tmp_path):
    results = hampkit.run("toy/undefended", options=TINY, shadows=4, workers=1, runs_dir=tmp_path)
    assert "at least 20 rows" in results.models[0].skipped["last-layer"]
    assert "last-layer" not in {a.attack for a in results.models[0].attacks}
    assert not list(tmp_path.rglob("reference-model"))
    assert (
        "reference" not in plan_shadows(problem_of(tmp_path, {**TINY, "shadows.models": 4}), Session(tmp_path)).line()
    )


def test_a_population_of_one_class_teaches_nothing(tmp_path):
    problem = problem_of(tmp_path)
    one = replace(problem, test=replace(problem.test, y=torch.zeros_like(problem.test.y)))
    assert not reference_model.obstacle(problem)
    assert "rows of two classes" in reference_model.obstacle(one)


def test_a_population_of_copies_of_the_candidates_is_none(tmp_path):
    """It would be trained on the rows that are judged."""
    problem = problem_of(tmp_path, {"features": 3, "judge.copies": "keep"})
    assert len(problem.population()) > 100
    assert "there are 0" in reference_model.obstacle(problem)


def test_from_the_command_line_it_needs_no_shadow_models_and_others_are_refused_before_anything_is_trained(
    cli, refused, nothing_written
):
    words = ["run", "toy/undefended", *(f"{key}={value}" for key, value in {**QUICK, "epochs": 2}.items())]
    refused(cli(*words, "--attacks", "last-layer,lira-online"), "attack lira-online needs shadows; add --shadows M")
    nothing_written()
    code, out, _ = cli(*words, "--attacks", "last-layer,loss", "--json")
    assert code == 0
    assert [attack["attack"] for attack in json.loads(out)["models"][0]["attacks"]] == ["last-layer", "loss"]


NET = """
from torch import nn

def curved(shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(shape[0], classes), nn.Tanh())
"""


def test_another_kind_of_network_is_refused(tmp_path, monkeypatch):
    (tmp_path / "curvednet_for_test.py").write_text(NET)
    monkeypatch.syspath_prepend(tmp_path)
    options = {**QUICK, "net": "curvednet_for_test:curved"}
    with pytest.raises(UserError, match=f"last-layer is not possible: .*: {NOT_LINEAR}; leave it out"):
        hampkit.run("toy/undefended", options=options, attacks=["last-layer"], runs_dir=tmp_path / "runs")


def test_a_defense_that_cannot_be_trained_on_so_few_rows_is_a_reason(tmp_path, monkeypatch):
    problem = problem_of(tmp_path)

    def check(self, task, trainer):
        if len(task.pool) < 300:
            raise UserError("too few for me")

    monkeypatch.setattr(Undefended, "check", check)
    assert "cannot be trained on 136 rows: too few for me" in reference_model.obstacle(problem)


@pytest.mark.parametrize("how", ["diverged", "learnt nothing"])
def test_a_training_that_fails_leaves_it_out_or_is_an_error_where_it_was_named(tmp_path, monkeypatch, how):
    problem, real = problem_of(tmp_path), Undefended.fit
    run = Run.create(tmp_path, problem.folder, lambda f: write_run(content_of(problem), f))

    def fit(self, task, trainer):
        if how == "diverged":
            raise Diverged("model 0 diverged")
        models = real(self, task, trainer)
        history = tuple(replace(h, diverged="it learnt nothing") for h in models.stack.history)
        return replace(models, stack=replace(models.stack, history=history))

    monkeypatch.setattr(Undefended, "fit", fit)
    attacks: tuple[list[Attack], list[Attack]] = [LastLayer()], [LastLayer(samples=8)]
    chosen, others, without = reference_model.with_reference(problem, run, attacks, named=False)
    assert (chosen, others, list(without)) == ([], [], ["last-layer"])
    assert how in without["last-layer"]
    with pytest.raises(UserError, match=f"attack last-layer is not possible: .*{how}"):
        reference_model.with_reference(problem, run, attacks, named=True)
    assert not [p for p in run.folder.rglob("*") if ".partial" in p.name]
