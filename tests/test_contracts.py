"""What every registered defense and attack promises. A new one is tested here with no edit."""

from dataclasses import fields, is_dataclass, replace

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy, one_hot

from hampkit import signals
from hampkit.attacks import Attack, Evidence, Known, Population, Reference, Shadows
from hampkit.attacks.probes import ranks
from hampkit.config.recipe import TrainConfig
from hampkit.defenses.hamp import Hamp
from hampkit.errors import UserError
from hampkit.registry import ATTACKS, DEFENSES, GENERATORS
from hampkit.stats.metrics import auc_interval
from hampkit.targets.blackbox import BlackBox
from hampkit.training import MeanLoss, Trainer
from hampkit.training.trainer import _Run
from hampkit.training.vectorize import vectorize_over
from hampkit.types import Batch, Stack, Task

pytestmark = pytest.mark.numeric

defenses = pytest.mark.parametrize(
    "defense", [cls(**cls.quick) for cls in DEFENSES.classes().values()], ids=lambda d: d.name
)
ATTACKERS = [cls() for cls in ATTACKS.classes().values()]
PROBES = list(dict.fromkeys(probe for attack in ATTACKERS for probe in attack.shadow_probes()))
attacks = pytest.mark.parametrize("attack", ATTACKERS, ids=lambda a: a.name)


def close(a, b, rtol=1e-9):
    """Every weight, to a share of the largest of its tensor."""
    for name, value in (a.params | a.buffers).items():
        _near(value, (b.params | b.buffers)[name], rtol, name)


def _near(value, other, rtol, what, scale=0.0):
    scale = scale or max(float(value.abs().max()), 1e-6)
    assert float((value.double() - other.double()).abs().max()) <= rtol * scale, what


@defenses
def test_stacked_equals_one_by_one_equals_alone(defense, task_of, short, float64):
    task = task_of(defense, Trainer(short))
    stacked = defense.fit(task, Trainer(short, width=8)).stack
    in_threes = defense.fit(task, Trainer(short, width=3)).stack
    one_by_one = defense.fit(task, Trainer(short, width=1)).stack
    close(stacked, one_by_one)
    close(stacked, in_threes)
    for m in (7,):
        alone = defense.fit(task.only([m]), Trainer(short, width=8)).stack
        close(stacked.take([m]), alone)


ADAM = {"optimizer": "adam", "lr": 1e-3, "momentum": 0.0, "epochs": 2, "passes_per_epoch": 2, "restart_optimizer": True}


@defenses
def test_adam_and_batches_in_order_stack_too(defense, task_of, short, float64):
    task = task_of(defense, Trainer(short))
    config = replace(short, shuffle=False, **ADAM)
    stacked, one_by_one = (defense.fit(task, Trainer(config, width=width)).stack for width in (8, 1))
    close(stacked, one_by_one)


@defenses
@pytest.mark.parametrize("options", [{}, ADAM], ids=["sgd", "adam"])
def test_every_step_of_a_stack_has_the_gradients_of_its_models(defense, options, task_of, short, monkeypatch):
    """From the same weights, in float32, to 1e-5 of the model's largest gradient."""
    steps = []

    def compared(run, batch, lr, idle, rngs):
        steps.append(len(run.stack))
        if len(run.stack) > 1:
            _compare_gradients(run, batch, idle, rngs)
        step(run, batch, lr, idle, rngs)

    step = _Run._step
    monkeypatch.setattr(_Run, "_step", compared)
    task = task_of(defense, Trainer(short))
    config = replace(short, **{"epochs": 2, **options})
    defense.fit(task, Trainer(config, width=8))
    assert steps.count(8) > 10


def _compare_gradients(run, batch, idle, rngs):
    """The next step's gradients of the whole stack and of its models, each alone, from the same state."""
    before = [rng.get_state() for rng in rngs]
    going = range(len(rngs)) if idle is None else (~idle).nonzero().flatten().tolist()
    whole, drawn = _gradient(run, list(range(len(rngs))), batch, rngs, before)
    for m in going:
        rows = batch.y.shape[1] if run.pad else int(batch.weight[m].sum()) or 1
        mine = Batch(*(t[[m], :rows] for t in batch))
        alone, draws = _gradient(run, [m], mine, [rngs[m]], [before[m]])
        # the sum over a batch may cancel in a bias of one number: the measure is the model's largest gradient
        scale = float(max(g[m].abs().max() for g in whole.grads.values()))
        for name, value in whole.grads.items():
            _near(alone.grads[name][0], value[m], 1e-5, (m, name), scale)
        for name, value in whole.buffers.items():
            _near(alone.buffers[name][0], value[m], 1e-5, (m, name))
        assert torch.equal(drawn[m], draws[0]), "a model alone has drawn other numbers"
    for rng, state in zip(rngs, before, strict=True):
        rng.set_state(state)


def _gradient(run, models, batch, rngs, before):
    for rng, state in zip(rngs, before, strict=True):
        rng.set_state(state)
    stack = Stack(
        run.stack.net, *({k: v[models].clone() for k, v in g.items()} for g in (run.stack.params, run.stack.buffers))
    )
    state = _of_models(run.state, models, len(run.stack))
    found = run.objective.gradient(vectorize_over(len(models)), stack, state, batch, rngs)
    run.stack.net.train()
    return found, [rng.get_state() for rng in rngs]


def _of_models(state, models, count):
    """A copy of what an objective keeps, for some of its models: whatever has an entry per model is cut."""
    if isinstance(state, Task):
        return state.only(models)
    if isinstance(state, torch.Tensor):
        return state[models].clone() if state.ndim and len(state) == count else state.clone()
    if isinstance(state, dict):
        return {k: _of_models(v, models, count) for k, v in state.items()}
    if isinstance(state, list | tuple):
        return [state[m] for m in models] if len(state) == count else state
    if is_dataclass(state) and not isinstance(state, TrainConfig):
        return replace(state, **{f.name: _of_models(getattr(state, f.name), models, count) for f in fields(state)})
    return state


@defenses
@pytest.mark.parametrize("width", [1, 8])
def test_nothing_of_a_non_member_enters_its_model(defense, task_of, short, width):
    task = task_of(defense, Trainer(short))
    one = replace(task.only([2]), pool=task.pool)
    spoilt = task.pool.x.float().clone()
    spoilt[~task.members[2]] = torch.nan
    clean = defense.fit(one, Trainer(short, width=width))
    poisoned = defense.fit(replace(one, pool=replace(task.pool, x=spoilt)), Trainer(short, width=width))
    for group in ("params", "buffers"):
        for name, value in getattr(clean.stack, group).items():
            assert torch.equal(value, getattr(poisoned.stack, group)[name]), name


@defenses
def test_one_seed_gives_the_same_bytes_and_another_seed_others(defense, task_of, short):
    task = task_of(defense, Trainer(short))
    trainer = Trainer(replace(short, epochs=2), width=8)
    a, b = defense.fit(task, trainer), defense.fit(task, trainer)
    other = defense.fit(replace(task, seeds=tuple(s + 50 for s in task.seeds)), trainer)
    for name, value in a.stack.params.items():
        assert value.numpy().tobytes() == b.stack.params[name].numpy().tobytes(), name
    assert any(not torch.equal(value, other.stack.params[name]) for name, value in a.stack.params.items())
    for name, value in a.state.items():
        assert torch.equal(value, b.state[name]), name


@defenses
def test_the_released_label_is_the_models_own(defense, task_of, short):
    task = task_of(defense, Trainer(short))
    trainer = Trainer(short)
    variants = [defense, Hamp(bank=20), Hamp(noise="keyed")] if isinstance(defense, Hamp) else [defense]
    for variant in variants:
        models = variant.fit(task.only([0]), trainer)
        release = variant.release({k: v[0] for k, v in models.state.items()}, task.pool.domain)
        box = BlackBox(models.stack, release, trainer)
        answers = box.query(task.pool.x, seed=1)
        own = trainer.predict(models.stack, task.pool.x)[0]
        assert torch.equal(answers.argmax(-1), own.argmax(-1))
        assert torch.equal(answers, box.query(task.pool.x, seed=1))
        assert box.queries == 2 * len(task.pool)
        if release.keeps_order:
            labels = task.pool.y
            assert torch.equal(ranks(answers, labels), ranks(own.double(), labels))


def evidence(seed=0, n=160, known=160, gap=2.0, classes=4):
    """An overfitted model's answers: members are answered more surely, and more often rightly, than non-members."""
    rng = np.random.default_rng(seed)

    def side(count):
        member = rng.permutation(np.arange(count) % 2 == 0)
        y = rng.integers(0, classes, count)
        logits = rng.normal(size=(count, 1, classes))
        logits[np.arange(count), 0, y] += 1.5 + gap * member
        x = rng.normal(size=(count, 6))
        return torch.from_numpy(x).float(), torch.from_numpy(y), torch.from_numpy(logits), torch.from_numpy(member)

    x, y, logits, member = side(n)
    kx, ky, klogits, kmember = side(known)
    fit = torch.arange(known) < int(0.8 * known)
    asked, kasked = (answered(rng, side, gap, classes) for side in ((y, member), (ky, kmember)))
    told = Known(kx, ky, klogits, kmember, fit, torch.arange(n, n + known), kasked)
    others = side(80)
    population = Population(
        others[1], others[2] - gap * others[3].view(-1, 1, 1) * one_hot(others[1], classes).unsqueeze(1), others[0]
    )
    labels = torch.cat([y, ky])
    models = shadows(rng, labels, gap, classes, n), population, reference(rng, labels.numpy(), classes, n)
    return Evidence(x, y, logits, seed, told, *models, asked), member


def reference(rng, labels, classes, candidates, features=5):
    """A model that answers as the target answers non-members, and the posterior of its last layer."""
    logits = rng.normal(size=(len(labels), classes))
    logits[np.arange(len(labels)), labels] += 1.5
    squares = rng.random((len(labels), features))
    directions, _ = np.linalg.qr(rng.normal(size=(classes, classes)))
    curvature = rng.random(features), rng.random(classes)
    return Reference(logits, squares, *curvature, directions, 80, np.arange(candidates))


def answered(rng, side, gap, classes):
    """What the probe of every attack keeps of a model's answers about examples with these labels and this membership."""
    y, member = side
    found = {}
    for probe in PROBES:
        logits = rng.normal(size=(len(y), probe.questions((6,)), classes))
        logits += (1.5 + gap * member.numpy())[:, None, None] * one_hot(y, classes).numpy()[:, None]
        found[probe] = probe.keep(torch.from_numpy(logits), y).float().numpy()
    return found


def shadows(rng, labels, gap, classes, candidates, models=12):
    """Models that answer as the target does, each having seen another half of the examples."""
    examples = len(labels)

    def scaled(member):
        logits = rng.normal(size=(*member.shape, classes))
        logits[..., 0] += 1.5 + gap * member
        return signals.scaled_logit(logits, np.zeros(member.shape, dtype=np.int64)).astype(np.float32)

    members = rng.permuted(np.arange(models)[:, None] < np.full(examples, models // 2), axis=0)
    parts = tuple(np.split(scaled(members)[..., None], [5]))
    population = scaled(np.zeros((models, 80), bool))
    asked = [answered(rng, (labels, torch.from_numpy(m)), gap, classes) for m in members]
    probes = {probe: tuple(np.split(np.stack([kept[probe] for kept in asked]), [5])) for probe in PROBES}
    return Shadows(parts, members, population, np.arange(candidates), np.arange(models), probes=probes)


@attacks
def test_attack_finds_members_of_an_overfitted_model_and_points_the_right_way(attack):
    e, member = evidence()
    interval = auc_interval(attack(e), member.numpy())
    assert interval.low > 0.5, interval


@attacks
def test_attack_finds_nothing_where_there_is_nothing(attack):
    """Membership shuffled, for the fit and for the judgement: five times, inside a 99.99 % interval each.

    With a 99.9 % interval each, one of more than a hundred such checks would fail by chance one time in eight.
    """
    if hasattr(attack, "epochs"):
        attack = replace(attack, epochs=40)  # what cannot be learnt in 40 epochs can be overfitted as well as in 200
    for seed in range(5):
        e, member = evidence(seed)
        rng = torch.Generator().manual_seed(seed)
        assert e.known is not None
        known = replace(e.known, member=e.known.member[torch.randperm(len(e.known.member), generator=rng)])
        truth = member[torch.randperm(len(member), generator=rng)].numpy()
        interval = auc_interval(attack(replace(e, known=known)), truth, level=0.9999)
        assert interval.low <= 0.5 <= interval.high, (seed, interval)


@attacks
def test_scores_permute_with_the_candidates(attack):
    e, _ = evidence(1)
    order = torch.randperm(len(e.y), generator=torch.Generator().manual_seed(0))
    probes = {probe: kept[order.numpy()] for probe, kept in e.probes.items()}
    moved = replace(e, x=e.x[order], y=e.y[order], logits=e.logits[order], probes=probes)
    moved = replace(moved, shadows=replace(e.shadows, rows=e.shadows.rows[order.numpy()]))
    assert e.reference is not None
    moved = replace(moved, reference=replace(e.reference, rows=e.reference.rows[order.numpy()]))
    assert np.allclose(attack(e)[order.numpy()], attack(moved), rtol=1e-4, atol=1e-5)


@attacks
def test_attack_is_deterministic_and_finite_on_extreme_answers(attack):
    e, _ = evidence(2)
    rows = e.logits.clone()
    rows[0], rows[1], rows[2] = 1e4 * torch.eye(4).double()[0], -1e4 * torch.eye(4).double()[1], 0.0
    asked = {probe: probe.keep(_several(rows, probe.questions((6,))), e.y).float().numpy() for probe in e.probes}
    extreme = replace(e, logits=rows, probes=asked)
    assert np.isfinite(attack(extreme)).all()
    assert np.array_equal(attack(extreme), attack(extreme))


def _several(answers, questions):
    """The answers (N, 1, C) as answers to so many questions (N, R, C)."""
    return answers.expand(len(answers), questions, answers.shape[-1])


@attacks
def test_attack_says_what_it_needs(attack):
    e, _ = evidence()
    for evidence_of in ("known", "shadows", "population", "reference", "probes"):
        if evidence_of in attack.needs:
            with pytest.raises(ValueError, match=f"needs {evidence_of}"):
                attack(replace(e, **{evidence_of: None}))
        else:
            assert np.isfinite(attack(replace(e, **{evidence_of: None}))).all()


@attacks
def test_one_class_among_the_known_examples_is_no_trouble(attack):
    """Only members of class 0 are known, and class 3 is not known at all."""
    e, _ = evidence(3)
    assert e.known is not None
    keep = (e.known.y != 3) & ((e.known.y != 0) | e.known.member)
    known = Known(*(t[keep] for t in (e.known.x, e.known.y, e.known.logits, e.known.member, e.known.fit)))
    assert np.isfinite(attack(replace(e, known=known))).all()


@attacks
def test_what_an_attack_asks_is_declared(attack):
    assert bool(attack.probes()) == ("probes" in attack.needs)
    assert attack.queries((6,)) == (sum(probe.questions((6,)) for probe in attack.probes()) or 1)
    assert all(isinstance(hash(probe), int) for probe in attack.probes())


def test_the_attacks_on_a_defense_are_registered():
    for defense in DEFENSES.classes().values():
        assert set(defense.adaptive) <= set(ATTACKS.classes()), defense.name


@pytest.mark.parametrize("registry", [DEFENSES, ATTACKS, GENERATORS], ids=lambda r: r.kind)
def test_everything_registered_explains_itself(registry):
    for name, cls in registry.classes().items():
        assert name == cls.name
        assert cls.paper.startswith("https://"), name
        assert len((cls.__doc__ or "").strip()) > 30, name


@pytest.mark.parametrize(
    ("returned", "reason"),
    [
        (lambda n: np.zeros((n, 1)), "shape"),
        (lambda n: np.full(n, np.nan), "NaN or infinite"),
        (lambda n: np.inf * np.ones(n), "NaN"),
    ],
)
def test_wrong_scores_of_ones_own_attack_are_refused_in_one_line(returned, reason):
    class Mine(Attack):
        name = "mine"

        def score(self, evidence):
            return returned(len(evidence.y))

    e, _ = evidence()
    with pytest.raises(UserError, match=f"attack mine returned .*{reason}"):
        Mine()(e)
    assert (Mine.paper, Mine.reference) == ("", ""), "an attack needs neither"


def test_a_loss_that_is_no_value_per_row_is_refused(task_of, short):
    task = task_of(Hamp(), Trainer(short))
    with pytest.raises(UserError, match=r"a loss of shape \(\) must have one value for each row"):
        Trainer(short).fit(task, MeanLoss(lambda z, b: cross_entropy(z, b.y)))
