"""Networks: sizes that were published, answers that stay, and stacks that nobody notices."""

import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import hampkit
from hampkit.config.recipe import TrainConfig, load_recipe
from hampkit.data.base import fingerprint
from hampkit.defenses.dp_sgd import DpSgd
from hampkit.errors import UserError
from hampkit.nets import NETS, net_factory
from hampkit.nets.dcgan import Discriminator, ImageGenerator
from hampkit.nets.normalize import Normalize
from hampkit.nets.wideresnet import WideResNet
from hampkit.rng import forked, torch_rng
from hampkit.training import Trainer
from hampkit.training.layout import channels_last, prefers_channels_last, rows_at_once
from hampkit.training.objectives import CROSS_ENTROPY
from hampkit.training.optim import Optimizer
from hampkit.training.stacks import initial, normalises_batches
from hampkit.types import Dataset, Domain, Task

pytestmark = pytest.mark.numeric

IMAGE_NETS = sorted(name for name, net in NETS.items() if net.side)
RECIPE = TrainConfig(
    epochs=1, batch_size=8, optimizer="sgd", lr=0.1, momentum=0.9, weight_decay=1e-4, retries=0, select="last"
)  # fmt: skip


@pytest.fixture(autouse=True)
def _one_thread():
    """Small convolutions wait for each other's threads longer than they compute, most of all where tests share cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def size(net):
    return sum(p.numel() for p in net.parameters())


def images(rows=12, shape=(3, 16, 16), classes=3):
    rng = torch_rng(0)
    y = torch.arange(rows) % classes
    x = torch.randint(0, 120, (rows, *shape), generator=rng) + 60 * y.view(-1, 1, 1, 1)
    x = x.to(torch.uint8)
    return Dataset("images", x, y, classes, Domain.grid(shape, 0, 255, 1), fingerprint(x, y))


def image_task(name, models=3, side=0):
    """Models with four to six members of their own."""
    shape = (3, *[side or max(NETS[name].side, 8)] * 2) if name in NETS else (3, 32, 32)
    data = images(shape=shape)
    members = torch.zeros(models, len(data), dtype=torch.bool)
    for m in range(models):
        members[m, 2 * m : 3 * m + 4] = True
    scale = Normalize(torch.tensor([120.0]), torch.tensor([60.0]))
    return Task(data, members, tuple(range(models)), net_factory(name, shape, data.num_classes, scale))


# --- what was published ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("classes", "count"), [(10, 769_162), (100, 800_032)])
def test_densenet_has_the_published_size(classes, count):
    """Protocol 2.2."""
    net = net_factory("densenet", (3, 32, 32), classes)()
    assert size(net) == count
    assert sum(isinstance(m, nn.Conv2d) for m in net.modules()) == 99
    assert sum(isinstance(m, nn.BatchNorm2d) for m in net.modules()) == 99


def test_densenet_starts_as_published():
    with forked(0):
        net = net_factory("densenet", (3, 32, 32), 10)()
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert bool(layer.weight.eq(1).all())
            assert bool(layer.bias.eq(0).all())
        if isinstance(layer, nn.Conv2d) and layer.weight.numel() > 5000:
            wanted = (2 / (layer.kernel_size[0] ** 2 * layer.out_channels)) ** 0.5
            assert float(layer.weight.detach().std()) == pytest.approx(wanted, rel=0.05)
            assert abs(float(layer.weight.detach().mean())) < wanted / 20


def test_densenet_pools_as_published():
    """AvgPool(8) at 32 × 32."""
    net = net_factory("densenet-small", (3, 32, 32), 10)().eval()
    x = torch.rand(2, 3, 32, 32, generator=torch_rng(0))
    features = net.dense3(net.trans2(net.dense2(net.trans1(net.dense1(net.conv1(x))))))
    pooled = nn.AvgPool2d(8)(torch.relu(net.bn(features))).flatten(1)
    assert torch.allclose(net(x), net.fc(pooled), atol=1e-6)


def test_densenet_answers_as_it_always_has(float64):
    """Weights of seed 3, images of seed 4: whoever changes the network or its initialisation sees it here.

    In training mode: without statistics of its own, batch norm lets the numbers of a fresh network grow to thousands.
    """
    with forked(3):
        net = net_factory("densenet", (3, 32, 32), 10)().train()
    with torch.no_grad():
        answer = net(torch.rand(4, 3, 32, 32, generator=torch_rng(4)))[0]
    assert answer[:4].tolist() == pytest.approx(ANSWER, abs=1e-7)


ANSWER = [-0.0182946247, -0.2611442876, -0.0888691431, -0.4034385985]


@pytest.mark.parametrize(("depth", "widen", "millions"), [(40, 4, 8.9), (16, 8, 11.0), (22, 8, 17.2), (28, 10, 36.5)])
def test_wide_resnets_have_the_published_sizes(depth, widen, millions):
    """Zagoruyko & Komodakis, table 4."""
    assert size(WideResNet((3, 32, 32), 10, depth, widen)) / 1e6 == pytest.approx(millions, abs=0.05)


def test_convnet_gn_answers_every_image_by_itself_also_in_training():
    net = net_factory("convnet-gn", (3, 32, 32), 10)().train()
    assert size(net) == 9 * (3 * 32 + 32**2 + 32 * 64 + 64**2 + 64 * 128 + 128**2) + 4 * (32 + 64 + 128) + 129 * 10
    assert not normalises_batches(net)
    x = torch.rand(5, 3, 32, 32, generator=torch_rng(0))
    assert torch.allclose(net(x)[:2], net(x[:2]), atol=1e-5)


def test_dp_sgd_trains_convnet_gn_on_images():
    task = image_task("convnet-gn", models=1)
    models = DpSgd().fit(task, Trainer(replace(RECIPE, batch_size=2, lr=0.01)))
    (fact,) = models.facts
    assert fact["steps"] == 2
    assert all(v.isfinite().all() for v in models.stack.params.values())


def test_dcgan_has_the_published_sizes_and_start():
    """Protocol 2.6."""
    with forked(0):
        generator, discriminator = ImageGenerator(3), Discriminator(3)
    assert (size(generator), size(discriminator)) == (3_576_704, 2_765_568)
    fake = generator(torch.randn(2, 100, generator=torch_rng(0))).detach()
    assert fake.shape == (2, 3, 64, 64)
    assert float(fake.abs().max()) <= 1
    assert discriminator(fake).shape == (2,)
    for net in (generator, discriminator):
        weights = [m.weight for m in net.modules() if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d))]
        assert all(float(w.detach().std()) == pytest.approx(0.02, rel=0.1) for w in weights)
        norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
        assert float(torch.cat([m.weight for m in norms]).detach().std()) == pytest.approx(0.02, rel=0.2)
        assert all(bool(m.bias.eq(0).all()) for m in norms)


# --- shapes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [n for n in IMAGE_NETS if n not in ("densenet", "wrn-28-10")])
@pytest.mark.parametrize("shape", [(1, 16, 16), (3, 32, 32), (4, 17, 30)])
def test_image_networks_take_channels_and_size_of_the_data(name, shape):
    net = net_factory(name, shape, 7)()
    assert net(torch.rand(2, *shape)).shape == (2, 7)


@pytest.mark.parametrize("name", IMAGE_NETS)
def test_the_smallest_images_can_be_trained_on_one_by_one(name):
    """At the end more than one place is left, so batch norm works on a single image."""
    side = NETS[name].side
    if name != "wrn-28-10":  # half a second, and the same code as wrn-28-2
        net_factory(name, (1, side, side), 2)().train()(torch.rand(1, 1, side, side))


@pytest.mark.parametrize("name", IMAGE_NETS)
def test_image_networks_refuse_what_is_no_image(name):
    with pytest.raises(UserError, match=rf"net={name} is for images.*\(600,\).*net=mlp"):
        net_factory(name, (600,), 10)
    with pytest.raises(UserError, match=rf"net={name} needs images of at least \d+ × \d+.*\(3, 32, 5\)"):
        net_factory(name, (3, 32, 5), 10)


def test_a_table_with_an_image_network_is_one_clear_line(cli, refused, nothing_written):
    refused(cli("run", "toy/hamp", "net=resnet9"), "net=resnet9 is for images", "(64,)", "net=mlp")
    nothing_written()


# --- training -------------------------------------------------------------------------------------------------------


def close(a, b, rtol=1e-9):
    """Every weight, to a share of the largest of its tensor."""
    for name, value in (a.params | a.buffers).items():
        other = (b.params | b.buffers)[name]
        scale = value.double().abs().max().clamp_min(1e-6)
        assert ((value.double() - other.double()).abs() / scale).max() <= rtol, name


@pytest.mark.parametrize("name", ["convnet-gn", "densenet-small", "resnet9", "wrn-16-4"])
def test_a_step_of_three_models_stacked_equals_one_by_one(name, float64):
    task = image_task(name)
    stacked = Trainer(RECIPE, width=3).fit(task, CROSS_ENTROPY)
    one_by_one = Trainer(RECIPE, width=1).fit(task, CROSS_ENTROPY)
    close(stacked, one_by_one)
    fresh = task.net()
    assert not torch.equal(stacked.params[next(iter(stacked.params))][0], next(fresh.parameters()))
    moved = [bool(v.abs().sum(-1).gt(0).all()) for k, v in stacked.buffers.items() if k.endswith("running_mean")]
    assert any(moved) or not normalises_batches(fresh)


@pytest.mark.parametrize("options", [{}, {"optimizer": "adam", "momentum": 0.0, "lr": 1e-3}], ids=["sgd", "adam"])
@pytest.mark.parametrize("name", ["convnet-gn", "densenet-small"])
def test_channels_last_in_memory_changes_nothing(name, options, monkeypatch, float64):
    """Weights, gradients and the optimiser's state lie in memory in another order, and are the same numbers."""
    task, trainer = image_task(name), Trainer(replace(RECIPE, **options), width=1)
    assert prefers_channels_last(initial(task.only([0]), [torch.arange(4)], torch.device("cpu")), torch.device("cpu"))
    faster = trainer.fit(task, CROSS_ENTROPY)
    answers = trainer.predict(faster, task.pool.x)
    for module in ("trainer", "layout"):
        monkeypatch.setattr(f"hampkit.training.{module}.prefers_channels_last", lambda stack, device: False)
    plain = trainer.fit(task, CROSS_ENTROPY)
    close(faster, plain)
    assert torch.allclose(answers, trainer.predict(plain, task.pool.x), rtol=1e-9, atol=1e-9)


def test_the_optimizer_takes_gradients_of_any_strides(float64):
    weight = channels_last(torch.randn(1, 4, 3, 3, 3, generator=torch_rng(0)))
    gradient = torch.randn(1, 4, 3, 3, 3, generator=torch_rng(1))
    assert weight.stride() != gradient.stride()
    for kind in ("sgd", "adam"):
        params = {"w": weight.clone()}
        assert params["w"].stride() == weight.stride()
        Optimizer(replace(RECIPE, optimizer=kind, weight_decay=0.0)).step(params, {"w": gradient}, 0.1)
        moved = 0.1 * (gradient if kind == "sgd" else gradient / (gradient.abs() + 1e-8))
        assert torch.allclose(params["w"], weight - moved, rtol=1e-9, atol=1e-9), kind


def test_rows_that_are_answered_at_once_follow_from_the_activations():
    net = net_factory("densenet-small", (3, 32, 32), 10)().train()
    size = rows_at_once(net, (3, 32, 32))
    assert net.training, "its mode is put back"
    assert size in {2**k for k in range(4, 13)}
    assert rows_at_once(net, (3, 64, 64)) <= size / 2
    assert rows_at_once(net_factory("mlp", (446,), 30)(), (446,)) == 4096
    assert rows_at_once(nn.Linear(60_000, 2), (60_000,)) == 1024


def test_densenet_of_the_publication_trains():
    """Protocol 2.2 in the trainer: three steps on a few images move every weight."""
    task = image_task("densenet", models=1)
    stack = Trainer(replace(RECIPE, batch_size=2)).fit(task, CROSS_ENTROPY)
    start = initial(task, [task.members[0].nonzero().squeeze(-1)], torch.device("cpu"))
    for name, value in stack.params.items():
        assert value.isfinite().all(), name
        assert not torch.equal(value, start.params[name]), name


def test_the_densenet_recipe_trains_as_it_always_has(float64):
    """The published recipe of CIFAR-10 in three steps on twelve images, and what the network then says of two of them.

    In float64: at its learning rate of 0.5 the rounding of float32 grows within three steps to what can be seen.
    """
    recipe = load_recipe("cifar10/undefended")
    data = images(14, shape=(3, 32, 32))
    members = (torch.arange(14) < 12).unsqueeze(0)
    scale = Normalize(torch.tensor([120.0]), torch.tensor([60.0]))
    task = Task(data, members, (5,), net_factory(recipe.net, (3, 32, 32), data.num_classes, scale))
    trainer = Trainer(replace(recipe.train, epochs=1, batch_size=4, select="last", retries=0))
    stack = trainer.fit(task, CROSS_ENTROPY)
    net = task.net().train()  # so few steps leave batch norm without statistics of its own
    net.load_state_dict({k: v[0] for k, v in (stack.params | stack.buffers).items()})
    with torch.no_grad():
        answer = net(data.x[:6].to(stack.dtype))
    assert answer[:2].flatten().tolist() == pytest.approx(TRAINED, abs=1e-6)


TRAINED = [8.4557556421, 3.4396658470, -12.5344298681, -19.9482091347, 16.0642387966, 3.3718952240]


# --- timm -----------------------------------------------------------------------------------------------------------


class Timm:
    """As much of timm as is asked of it."""

    asked: tuple = ()

    @staticmethod
    def list_models():
        return ["resnet18", "convnext_atto", *(f"vit_{k}" for k in range(300))]

    @classmethod
    def create_model(cls, name, pretrained, in_chans, num_classes):
        cls.asked = (name, pretrained, in_chans, num_classes)
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(in_chans, num_classes))


@pytest.fixture
def timm(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", SimpleNamespace(**{k: getattr(Timm, k) for k in dir(Timm)}))


@pytest.mark.usefixtures("timm")
def test_a_network_of_timm():
    net = net_factory("timm:resnet18", (1, 12, 12), 7)()
    assert Timm.asked == ("resnet18", False, 1, 7)
    assert net(torch.rand(2, 1, 12, 12)).shape == (2, 7)


@pytest.mark.usefixtures("timm")
def test_unknown_names_of_timm_are_one_short_line():
    for name, said in (("resnet81", "did you mean 'resnet18'"), ("qqqq", r"timm.list_models\(\) names all")):
        with pytest.raises(UserError, match=f"unknown network 'timm:{name}'; {said}") as error:
            net_factory(f"timm:{name}", (3, 32, 32), 10)
        assert len(str(error.value)) < 150
    with pytest.raises(UserError, match=r"timm:resnet18 is for images.*\(600,\)"):
        net_factory("timm:resnet18", (600,), 10)


def test_timm_that_is_not_installed_says_how(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match=r"net=timm:resnet18: .*pip install 'hampkit\[timm\]'"):
        net_factory("timm:resnet18", (3, 32, 32), 10)


def test_timm_that_cannot_be_imported_says_why(monkeypatch):
    """A torchvision built for another torch raises a RuntimeError."""

    class Broken:
        def find_spec(self, name, path=None, target=None):
            if name == "timm":
                raise RuntimeError("operator torchvision::nms\n does not exist")

    monkeypatch.delitem(sys.modules, "timm", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    with pytest.raises(
        UserError, match=r"RuntimeError: operator torchvision::nms does not exist.*version of torch"
    ) as error:
        net_factory("timm:resnet18", (3, 32, 32), 10)
    assert "\n" not in str(error.value)


def test_a_real_network_of_timm_trains(float64):
    pytest.importorskip("timm", exc_type=Exception)
    close(*(Trainer(RECIPE, width=w).fit(image_task("timm:resnet18"), CROSS_ENTROPY) for w in (3, 1)))


@pytest.mark.usefixtures("timm")
def test_a_network_of_timm_trains(tmp_path):
    """From the name to a trained model: the version of timm is part of the run's identity, if it is installed."""
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "images.npz", x=rng.random((200, 3, 8, 8), dtype=np.float32), y=np.arange(200) % 2)
    options = {"net": "timm:resnet18", "epochs": 1}
    data = tmp_path / "images.npz"
    trained = hampkit.train("undefended", options=options, data=data, label="y", runs_dir=tmp_path / "runs")
    assert trained.query(trained.test.x, seed=0).shape == (len(trained.test), 2)
