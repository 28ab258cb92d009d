"""Generators: what they make lies in the domain, repeats, and comes from the members alone."""

import inspect
import sys
from dataclasses import replace
from types import SimpleNamespace

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hampkit.config.schema import build
from hampkit.data.toy import Toy
from hampkit.errors import UserError
from hampkit.generators.base import on_domain
from hampkit.generators.bernoulli_mixture import BernoulliMixture
from hampkit.generators.columns import Columns
from hampkit.generators.ctgan import CTGAN
from hampkit.generators.dcgan import DCGAN, _raw, _resized, _scaled
from hampkit.generators.mixture import EmOptions, Features, fit
from hampkit.generators.random import Random
from hampkit.registry import GENERATORS
from hampkit.rng import torch_rng
from hampkit.types import Dataset, Domain

CPU = torch.device("cpu")


class FakeCTGAN:
    """As much of the package as is asked of it: it repeats the rows that it was given."""

    made: list = []  # noqa: RUF012

    def __init__(self, epochs, batch_size, pac, enable_gpu=True):
        self.options = (epochs, batch_size, pac, enable_gpu)
        FakeCTGAN.made.append(self)

    def set_random_state(self, seed):
        assert 0 <= seed < 2**32
        self.rng = np.random.default_rng(seed)

    def fit(self, rows, discrete=()):
        self.rows, self.discrete = rows, discrete

    def sample(self, count):
        return self.rows[self.rng.integers(len(self.rows), size=count)] + 0.4


@pytest.fixture
def ctgan(monkeypatch):
    monkeypatch.setitem(sys.modules, "ctgan", SimpleNamespace(CTGAN=FakeCTGAN))
    FakeCTGAN.made.clear()
    return FakeCTGAN.made


@pytest.fixture(autouse=True)
def _one_thread():
    """Small convolutions wait for each other's threads longer than they compute, most of all where tests share cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def mixed(rows=90):
    """A bit, a constant bit, a column of five steps, an income in whole numbers, a real number, a town of three."""
    g = torch_rng(0)
    y = torch.arange(rows) % 3
    town = torch.nn.functional.one_hot((y + torch.randint(2, (rows,), generator=g)) % 3, 3).float()
    columns = [
        (torch.rand(rows, generator=g) < 0.3).float(),
        torch.ones(rows),
        10 + 2 * torch.randint(5, (rows,), generator=g).float(),
        (3e4 + 1e4 * torch.randn(rows, generator=g)).round(),
        torch.randn(rows, generator=g) + 2 * y,
    ]
    x = torch.cat([torch.stack(columns, 1), town], 1)
    low, high = x.amin(0), x.amax(0)
    low[1] = 0  # it might be 0 as well
    step = torch.tensor([1.0, 1, 2, 1, 0, 1, 1, 1])
    return Dataset("mixed", x, y, 4, Domain(low, high, step, ((5, 8),)))


def photos(rows=40, shape=(3, 32, 32)):
    x = torch.randint(0, 256, (rows, *shape), generator=torch_rng(0)).to(torch.uint8)
    return Dataset("photos", x, torch.arange(rows) % 2, 2, Domain.grid(shape, 0, 255, 1))


def inside(x, data):
    """Every row could be an input."""
    assert x.shape[1:] == data.x.shape[1:]
    assert x.dtype == data.x.dtype
    domain, x = data.domain, x.double()
    assert ((x >= domain.low) & (x <= domain.high)).all()
    steps = (x - domain.low) / domain.step.double().clamp_min(1e-12)
    assert torch.where(domain.step > 0, (steps - steps.round()).abs() < 1e-4, True).all()
    for start, stop in domain.groups:
        assert x[:, start:stop].sum(1).eq(1).all()
        assert x[:, start:stop].amax(1).eq(1).all()


def quick(name):
    """A generator that is done at once, and members for it."""
    small = {"dcgan": {"epochs": 1, "batch_size": 16, "width": 4}, "ctgan": {"epochs": 1, "batch_size": 8, "pac": 4}}
    return GENERATORS.get(name)(**small.get(name, {})), photos() if name == "dcgan" else mixed()


# --- what every generator promises ----------------------------------------------------------------------------------


@pytest.mark.usefixtures("ctgan")
@pytest.mark.parametrize("name", GENERATORS.classes())
def test_generators_keep_to_the_domain_and_repeat(name):
    generator, data = quick(name)
    before = torch.get_rng_state()
    x = generator.sample(data, 70, 1, CPU)
    assert len(x) == 70
    inside(x, data)
    assert torch.equal(x, generator.sample(data, 70, 1, CPU))
    assert not torch.equal(x, generator.sample(data, 70, 2, CPU))
    assert torch.equal(torch.get_rng_state(), before)
    assert len(generator.sample(data, 0, 1, CPU)) == 0
    assert len(generator.sample(data.take(torch.arange(1)), 3, 1, CPU)) == 3


def test_generators_are_listed_and_say_what_they_are(cli):
    assert list(GENERATORS.classes()) == ["bernoulli-mixture", "ctgan", "dcgan", "random"]
    code, out, _ = cli("list", "generators")
    assert code == 0
    for name, cls in GENERATORS.classes().items():
        assert name in out
        assert cls.about


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: BernoulliMixture(components=0), "components=0 must be at least 1"),
        (lambda: BernoulliMixture(smoothing=float("nan")), "smoothing=nan"),
        (lambda: DCGAN(epochs=0), "epochs=0"),
        (lambda: CTGAN(batch_size=100, pac=64), "batch_size=100 must be even and a multiple of pac=64"),
        (lambda: DCGAN().sample(mixed(), 5, 0, CPU), r"shape \(8,\): take generator bernoulli-mixture"),
        (lambda: CTGAN().sample(photos(), 5, 0, CPU), "take generator dcgan"),
        (lambda: BernoulliMixture().sample(mixed().take(torch.arange(0)), 5, 0, CPU), "at least one member"),
    ],
)
def test_mistakes_are_one_line(make, said):
    with pytest.raises(UserError, match=said) as error:
        make()
    assert "\n" not in str(error.value)


def test_halves_become_one_as_published():
    x = torch.tensor([[0.5, 0.49, 1.5, float("nan")]])
    assert on_domain(x, Domain.grid((4,), 0, 1, 1), torch.uint8).tolist() == [[1, 0, 1, 0]]


def test_random_bits_are_fair():
    data = Toy(rows=100, features=20).load(None)  # pyright: ignore[reportArgumentType]
    x = Random().sample(data, 10_000, 3, CPU).double()
    assert float((x.mean(0) - 0.5).abs().max()) < 0.025  # 5 standard errors


# --- mixtures -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("smoothing", [0.0, 1.0, 20.0])
@pytest.mark.parametrize("most", [2, 32])
def test_em_never_makes_the_fit_worse(smoothing, most):
    data = mixed()
    features = Features.of(Columns.of(data.domain, most), data)
    rows = features.encode(data.x)
    for seed in range(5):
        _, course = fit(features, rows, EmOptions(6, smoothing, 40, 0.0), torch_rng(seed))
        assert len(course) > 2
        steps = np.diff(course)
        assert (steps >= -1e-7 * np.abs(course[:-1])).all(), steps
        assert course[-1] > course[0]


def test_the_likelihood_is_that_of_the_slow_formula():
    data = mixed()
    features = Features.of(Columns.of(data.domain, 32), data)
    rows = features.encode(data.x)
    mixture, _ = fit(features, rows, EmOptions(2, 1.0, 5, 0.0), torch_rng(0))
    fast = features.log_density(mixture, rows)[:7]
    columns, (places, numbers) = (
        features.columns,
        (features.columns.categories(data.x), features.columns.numbers(data.x)),
    )
    for i, k in np.ndindex(7, 2):
        slow, start = 0.0, 0
        for v in features.order.tolist():
            slow += float(mixture.probability[k, start + places[i, v]].log())
            start += columns.sizes[v]
        z = (numbers[i] - features.middle) / features.scale
        normal = torch.distributions.Normal(mixture.mean[k], mixture.variance[k].sqrt())
        assert float(fast[i, k]) == pytest.approx(slow + float(normal.log_prob(z).sum()), rel=1e-9)


def test_two_planted_prototypes_are_found():
    """One class, two patterns with 5 % of the bits flipped: made rows lie near one of them, in the planted shares."""
    g = torch_rng(5)
    patterns = torch.randint(0, 2, (2, 40), generator=g)
    which = (torch.rand(400, generator=g) < 0.25).long()
    x = (patterns[which] ^ (torch.rand(400, 40, generator=g) < 0.05).long()).to(torch.uint8)
    data = Dataset("planted", x, torch.zeros(400, dtype=torch.int64), 1, Domain.grid((40,), 0, 1, 1))
    made = BernoulliMixture(components=2).sample(data, 2000, 0, CPU).long()
    away = (made.unsqueeze(1) ^ patterns).sum(-1)  # (2000, 2)
    assert float(away.amin(1).double().mean()) == pytest.approx(2.0, abs=0.4)  # 5 % of 40
    assert float((away[:, 1] < away[:, 0]).double().mean()) == pytest.approx(float(which.double().mean()), abs=0.05)


def test_what_never_varies_stays_and_marginals_are_kept():
    data = mixed(600)
    made = BernoulliMixture(components=3).sample(data, 20_000, 0, CPU)
    assert made[:, 1].eq(1).all()
    assert float((made[:, 0].mean() - data.x[:, 0].mean()).abs()) < 0.02
    assert float((made[:, 5:].mean(0) - data.x[:, 5:].mean(0)).abs().max()) < 0.02
    for c in (3, 4):
        assert float(made[:, c].mean()) == pytest.approx(float(data.x[:, c].mean()), rel=0.05)
        assert float(made[:, c].std()) == pytest.approx(float(data.x[:, c].std()), rel=0.15)


def test_constant_numbers_and_classes_of_one_member():
    data = mixed()
    x = data.x.clone()
    x[:, 4] = 0.1
    y = torch.cat([torch.zeros(89, dtype=torch.int64), torch.tensor([3])])
    made = BernoulliMixture().sample(replace(data, x=x, y=y), 500, 0, CPU)
    inside(made, data)
    assert made[:, 4].eq(0.1).all()


def test_without_smoothing_a_class_of_one_member_repeats_it():
    data = mixed().take(torch.tensor([7]))
    made = BernoulliMixture(smoothing=0.0).sample(data, 20, 0, CPU)
    assert made.eq(data.x).all()


VALUES = st.floats(-(2.0**127), 2.0**127, width=32)


@settings(max_examples=60, deadline=None)
@given(hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=6), elements=VALUES), st.data())
def test_mixtures_survive_any_table(x, draw):
    rows = torch.from_numpy(x)
    y = torch.tensor(draw.draw(st.lists(st.integers(0, 2), min_size=len(x), max_size=len(x))))
    step = torch.tensor(draw.draw(st.lists(st.sampled_from([0.0, 1.0]), min_size=x.shape[1], max_size=x.shape[1])))
    step = step.where(rows.abs().amax(0) < 2**20, 0.0)
    rows = torch.where(step > 0, rows.round(), rows)
    data = Dataset("any", rows, y, 3, Domain(rows.amin(0), rows.amax(0), step))
    smoothing = draw.draw(st.sampled_from([0.0, 1.0]))
    made = BernoulliMixture(components=2, iterations=10, smoothing=smoothing).sample(data, 9, 0, CPU)
    assert made.isfinite().all()
    inside(made, data)


# --- DCGAN ----------------------------------------------------------------------------------------------------------


def test_images_go_to_the_network_and_back():
    data = photos(4)
    scaled = _scaled(data.x, data.domain)
    assert scaled.shape == (4, 3, 64, 64)
    assert float(scaled.abs().max()) <= 1
    flat = torch.full((1, 3, 64, 64), 51 / 255 * 2 - 1)
    assert _raw(flat, data.domain, torch.uint8).eq(51).all()
    halves = torch.rand(1, 3, 64, 64)
    mean = halves.view(1, 3, 32, 2, 32, 2).mean((3, 5))
    assert torch.allclose(_resized(halves, (32, 32)), mean, atol=1e-6)


def test_dcgan_goes_where_its_members_are():
    """Members darker or brighter than a fresh generator's grey pull it there; every chunk, also the last, is made."""
    bright = {}
    for value in (30, 225):
        data = photos(24, (1, 16, 16))
        data = replace(data, x=(value + data.x % 16).to(torch.uint8))
        generator = DCGAN(epochs=25, batch_size=8, width=4, lr=2e-3, shuffle=True)
        made = generator.sample(data, 65, 0, CPU)
        bright[value] = float(made.double().mean())
        assert made.flatten(1).double().mean(1).gt(0).all()
    assert bright[30] < 125 < 130 < bright[225], bright


# --- CTGAN ----------------------------------------------------------------------------------------------------------


def test_ctgan_is_told_what_is_discrete(ctgan):
    data = mixed()
    made = CTGAN(epochs=3, batch_size=8, pac=4).sample(data, 9000, 1, CPU)
    model = ctgan[-1]
    assert model.options == (3, 8, 4, False)
    assert model.rows.shape == (90, 6)  # bit, bit, five steps, town; income, real number
    assert model.discrete == (0, 1, 2, 3)
    assert model.rows[:, 3].tolist() == data.x[:, 5:].argmax(1).tolist()
    inside(made, data)
    assert made[:, 1].eq(1).all()  # the fake's 0.4 rounds away


def test_ctgan_as_published_binarises_numbers(ctgan):
    data = Toy(rows=60, features=10, classes=3).load(None)  # pyright: ignore[reportArgumentType]
    made = CTGAN(batch_size=8, pac=4, discrete=False).sample(data, 50, 1, CPU)
    model = ctgan[-1]
    assert model.discrete == ()
    assert model.rows.tolist() == data.x.tolist()
    assert ((made.unsqueeze(1) == data.x).all(-1).any(1)).all()


def test_ctgan_missing_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ctgan", None)
    with pytest.raises(UserError, match=r"pip install 'hampkit\[ctgan\]' \(source-available.*bernoulli-mixture"):
        CTGAN().sample(mixed(), 5, 0, CPU)


def test_the_real_ctgan_makes_rows():
    ctgan = pytest.importorskip("ctgan")
    assert "pac" in inspect.signature(ctgan.CTGAN).parameters
    data = mixed()
    for discrete in (True, False):
        generator = CTGAN(epochs=1, batch_size=20, pac=10, discrete=discrete)
        made = generator.sample(data, 30, 1, CPU)
        inside(made, data)
        assert torch.equal(made, generator.sample(data, 30, 1, CPU))


@pytest.mark.parametrize(("name", "options"), [
    ("bernoulli-mixture", {"most_values": 10**20}), ("dcgan", {"beta1": 1.5}), ("dcgan", {"lr": 1e300}),
    ("dcgan", {"width": 512}), ("dcgan", {"noise": 10_000}), ("dcgan", {"batch_size": 8192}),
    ("dcgan", {"width": 10**400}), ("bernoulli-mixture", {"components": 10**400}),
    ("bernoulli-mixture", {"components": 10_000}), ("bernoulli-mixture", {"most_values": 1000}),
    ("ctgan", {"most_values": 10_000}), ("ctgan", {"batch_size": 10**6, "pac": 1000}),
])  # fmt: skip
def test_options_beyond_all_measure_are_refused(name, options):
    with pytest.raises(UserError, match="at most") as caught:
        build(GENERATORS.get(name), options, f"generator {name}")
    assert len(str(caught.value)) < 150
