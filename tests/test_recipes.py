"""The shipped recipes: every pair is there, says where its numbers come from, and holds those that were published."""

import itertools
import re
from dataclasses import replace
from importlib import resources
from typing import get_type_hints

import pytest
import torch

import hampkit
from hampkit.config.extends import resolve, shipped
from hampkit.config.recipe import load_recipe
from hampkit.config.schema import build
from hampkit.config.sections import TrainConfig, TrainOverrides
from hampkit.data.splits import LAYOUTS
from hampkit.defenses.hamp import soft_labels
from hampkit.defenses.relaxloss import RelaxLoss
from hampkit.errors import UserError
from hampkit.nets import NETS
from hampkit.registry import DEFENSES
from hampkit.training.accounting import epsilon
from hampkit.training.batches import poisson_steps
from hampkit.training.optim import learning_rate

ROOT = resources.files("hampkit") / "recipes"
DATA = {"purchase100": 18_000, "texas100": 13_500, "location30": 1350, "cifar10": 22_500, "cifar100": 22_500}  # members
CLASSES = {"purchase100": 100, "texas100": 100, "location30": 30, "cifar10": 10, "cifar100": 100}
ROWS = {"purchase100": 197_324, "texas100": 67_330, "location30": 5010, "cifar10": 60_000, "cifar100": 60_000}
NAMES = ["undefended", "hamp", "label-smoothing", "early-stopping", "advreg", "memguard", "selena", "dmp", "dp-sgd"]
PAIRS = list(itertools.product(DATA, [*NAMES, "relaxloss"]))
OURS = {(d, "early-stopping") for d in DATA} | {
    ("location30", "label-smoothing"), ("cifar10", "label-smoothing"), ("purchase100", "dmp"),
    ("cifar10", "dp-sgd"), ("cifar100", "dp-sgd"),
}  # fmt: skip
OWN = [f"{d.name}/{f.name[:-5]}" for d in ROOT.iterdir() if d.name not in DATA and d.is_dir() for f in d.iterdir()]
FROM_SOFT_LABELS = {"optimizer": "sgd", "momentum": 0.99, "weight_decay": 1e-5, "schedule": "steps",
                    "milestones": (60, 90, 150), "decay": 0.1, "restart_optimizer": True}  # fmt: skip


def text(data, defense):
    return (ROOT / data / f"{defense}.toml").read_text("utf-8")


def head(data, defense):
    """The comment that a file begins with."""
    return " ".join(itertools.takewhile(lambda line: line.startswith("#"), text(data, defense).splitlines()))


def student(recipe):
    return recipe.defense.options["distill"].of(recipe.train)


@pytest.mark.parametrize(("data", "defense"), PAIRS)
def test_every_pair_has_a_recipe_of_its_own_in_the_frame_of_its_data_set(data, defense):
    assert (ROOT / data / f"{defense}.toml").is_file()
    document = resolve(shipped(data, defense)).document
    assert (document["data"], document["defense"]["name"]) == ({"name": data}, defense)
    recipe, plain = load_recipe(f"{data}/{defense}"), load_recipe(f"{data}/undefended")
    assert (recipe.split, recipe.judge, recipe.attacks, recipe.shadows) == (
        plain.split, plain.judge, plain.attacks, plain.shadows
    )  # fmt: skip
    assert recipe.net == plain.net or (recipe.net, defense) == ("convnet-gn", "dp-sgd")
    assert recipe.net in NETS
    layout = LAYOUTS[recipe.split.layout]
    assert layout.sizes(recipe.split.train_size)[0] == DATA[data]
    assert (recipe.judge.known_train, recipe.judge.known_val) == ((0.3, 0.2) if data == "location30" else (0.45, 0.05))
    neural = recipe.attacks["neural"]
    assert (neural["batch_size"], neural["wide"]) == ((64, True) if data == "location30" else (256, False))
    assert neural["epochs"] == 200
    assert recipe.shadows.scheme == "published"


@pytest.mark.parametrize(("data", "defense"), PAIRS)
def test_every_recipe_says_where_its_numbers_come_from(data, defense):
    said = head(data, defense)
    if (data, defense) in OURS:
        assert "ours" in said
        assert "published code has no such recipe" in said
    elif defense == "relaxloss":
        assert "published code of HAMP" in said
        assert "has no such recipe" in said or "has such a recipe" in said
        assert "ours" in said if data == "location30" else re.search(r"configs/\w+\.yml.*revision fc8c68e", said)
    else:
        assert re.search(r"\w\.py:\d+|lines \d+", said), said
        assert "as published" in said or defense == "memguard"


@pytest.mark.parametrize("name", OWN)
def test_recipes_of_no_published_data_set_say_that_their_numbers_are_ours(name):
    said = head(*name.split("/"))
    assert "numbers are ours" in said or "published for Location30" in said, said


def test_no_recipe_has_a_key_that_its_sections_do_not_know():
    """Loading checks that for the registered data sets; here for tables of one's own."""
    for name in (f for d, f in (n.split("/") for n in OWN) if d == "file"):
        assert load_recipe(name, file="table.csv", label="y").defense.name == name


@pytest.mark.parametrize(
    ("name", "train"),
    [
        ("purchase100", TrainConfig(100, 32, "adam", 5e-5, weight_decay=1e-3, shuffle=False)),
        ("texas100", TrainConfig(20, 32, "adam", 5e-4, shuffle=False)),
        ("location30", TrainConfig(50, 64, "sgd", 0.5, shuffle=False)),
        ("cifar10", TrainConfig(100, 64, "sgd", 0.5, 0.9, 1e-4, "steps", (30, 60, 90), shuffle=False)),
        ("cifar100", TrainConfig(100, 64, "sgd", 0.5, 0.9, 1e-4, "steps", (30, 60, 90), shuffle=False)),
    ],
)
def test_whatever_starts_from_the_undefended_network_trains_it_as_published(name, train):
    for defense in ("undefended", "early-stopping", "memguard", "dmp"):
        assert load_recipe(f"{name}/{defense}").train == train, defense
    teachers = load_recipe(f"{name}/selena").train
    assert teachers == (
        TrainConfig(20, 32, "adam", 5e-4, weight_decay=1e-3, shuffle=False) if name == "texas100" else train
    )


@pytest.mark.parametrize(
    ("name", "gamma", "alpha", "lr", "batch", "epochs", "top", "other"),
    [
        ("purchase100", 0.8, 0.01, 0.5, 32, 200, 0.33, 0.00676768),
        ("texas100", 0.6, 0.01, 0.5, 32, 100, 0.54, 0.00464646),
        ("location30", 0.5, 0.001, 0.5, 64, 100, 0.68, 0.01103448),
        ("cifar10", 0.95, 0.001, 0.5, 64, 200, 0.26, 0.08222222),
        ("cifar100", 0.5, 0.005, 1.0, 64, 200, 0.64, 0.00363636),
    ],
)
def test_hamp_has_the_published_numbers_and_soft_labels(name, gamma, alpha, lr, batch, epochs, top, other):
    recipe = load_recipe(f"{name}/hamp")
    options = recipe.defense.options
    assert (options["gamma"], options["alpha"], options["kl"], options["grid"]) == (gamma, alpha, "mean", 0.01)
    label = soft_labels(torch.tensor([0]), CLASSES[name], gamma, options["grid"])[0, :2].tolist()
    assert label == pytest.approx([top, other], abs=1e-8)
    cifar = name.startswith("cifar")
    expected = TrainConfig(epochs, batch, lr=lr, shuffle=False, min_delta=0.01 if cifar else 0.0, **FROM_SOFT_LABELS)
    assert recipe.train == expected


@pytest.mark.parametrize(
    ("name", "gamma", "top", "other"),
    [
        ("purchase100", 0.05, 0.97, 0.00030303),
        ("texas100", 0.15, 0.91, 0.00090909),
        ("cifar100", 0.01, 0.99, 0.00010101),
        ("location30", 0.05, 0.97, 0.03 / 29),
        ("cifar10", 0.01, 0.99, 0.01 / 9),
    ],
)
def test_label_smoothing_is_the_training_of_hamp_with_its_own_soft_labels(name, gamma, top, other):
    recipe, hamp = load_recipe(f"{name}/label-smoothing"), load_recipe(f"{name}/hamp")
    options = recipe.defense.options
    assert (options["gamma"], options["kl"], options["grid"]) == (gamma, "mean", 0.01)
    label = soft_labels(torch.tensor([0]), CLASSES[name], gamma, options["grid"])[0, :2].tolist()
    assert label == pytest.approx([top, other], abs=1e-8)
    assert recipe.train.lr == 0.5  # also on CIFAR-100, where HAMP has 1.0
    assert {**vars(recipe.train), "lr": 0} == {**vars(hamp.train), "lr": 0}


@pytest.mark.parametrize(
    ("name", "lr", "strength", "batch", "epochs", "rates"),
    [
        ("purchase100", 5e-4, 3, 64, 50, {0: 5e-4, 24: 5e-4, 25: 5e-6, 49: 5e-6}),
        ("texas100", 1e-3, 10, 64, 20, {0: 1e-3, 19: 1e-3}),
        ("location30", 1e-3, 10, 64, 50, {25: 1e-5}),
        ("cifar10", 1.0, 6, 256, 200, {59: 1.0, 60: 1e-2, 90: 1e-4, 150: 1e-6}),
        ("cifar100", 1.0, 6, 256, 200, {59: 1.0, 60: 1e-2, 90: 1e-4, 150: 1e-6}),
    ],
)
def test_advreg_has_the_target_s_published_numbers(name, lr, strength, batch, epochs, rates):
    recipe = load_recipe(f"{name}/advreg")
    train, options = recipe.train, recipe.defense.options
    assert (train.lr, train.batch_size, train.epochs, options["strength"]) == (lr, batch, epochs, strength)
    assert {e: learning_rate(train, e) for e in rates} == pytest.approx(rates)
    assert not train.shuffle
    assert not train.restart_optimizer
    cifar = name.startswith("cifar")
    momentum, decay = (0.9, 1e-4) if cifar else (0.0, 0.0)
    assert (train.optimizer, train.momentum, train.weight_decay) == ("sgd" if cifar else "adam", momentum, decay)
    assert train.milestones == ((60, 90, 150) if cifar else (25, 80))
    names = ("attack_steps", "round_batches", "attack_lr", "warmup_passes", "warmup_batch", "published_order")
    assert tuple(options[k] for k in names) == (52, 2, 1e-4, 5, 256 if cifar else 16, True)


@pytest.mark.parametrize(
    ("name", "alpha", "upper", "form"),
    [
        ("purchase100", 0.8, 0.3, "table"),
        ("texas100", 2.5, 0.1, "table"),
        ("location30", 0.5, 1.0, "table"),
        ("cifar10", 1.0, 1.0, "image"),
        ("cifar100", 3.0, 1.0, "image"),
    ],
)
def test_relaxloss_has_the_numbers_of_its_authors(name, alpha, upper, form):
    recipe = load_recipe(f"{name}/relaxloss")
    options = recipe.defense.options
    assert (options["alpha"], options["upper"], options["form"]) == (alpha, upper, form)
    if name == "location30":
        assert recipe.train == load_recipe(f"{name}/undefended").train
        assert (alpha, upper) == (RelaxLoss.alpha, RelaxLoss.upper)
        return
    table = form == "table"
    epochs, milestones = (120, (50, 100)) if table else (300, (150, 225))
    assert recipe.train == TrainConfig(epochs, 128, "sgd", 0.1, 0.9, 1e-4, "steps", milestones, select="last")


@pytest.mark.parametrize(
    ("name", "lr", "epochs", "batch"),
    [("purchase100", 1.0, 200, 32), ("texas100", 1.0, 100, 32), ("location30", 1.0, 100, 64), ("cifar10", 0.5, 200, 64),
     ("cifar100", 1.0, 200, 64)],
)  # fmt: skip
def test_selena_has_the_published_student(name, lr, epochs, batch):
    recipe = load_recipe(f"{name}/selena")
    options = recipe.defense.options
    assert (options["submodels"], options["left_out"], options["kl"]) == (25, 10, "mean")
    assert student(recipe) == TrainConfig(epochs, batch, lr=lr, shuffle=False, **FROM_SOFT_LABELS)


@pytest.mark.parametrize(
    ("name", "synthetic", "lr", "epochs", "batch", "passes", "generator"),
    [
        ("texas100", 100_000, 1.0, 100, 32, 1, "auto"),
        ("location30", 10_000, 0.1, 100, 64, 2, "auto"),
        ("cifar10", 150_000, 0.1, 200, 64, 1, "dcgan"),
        ("cifar100", 150_000, 0.1, 200, 64, 1, "dcgan"),
    ],
)
def test_dmp_has_the_published_student(name, synthetic, lr, epochs, batch, passes, generator):
    recipe = load_recipe(f"{name}/dmp")
    options = recipe.defense.options
    found = tuple(options[k] for k in ("synthetic", "keep", "kl", "generator", "file"))
    assert found == (synthetic, 1.0, "mean", generator, "")
    assert student(recipe) == TrainConfig(
        epochs, batch, lr=lr, shuffle=False, passes_per_epoch=passes, **FROM_SOFT_LABELS
    )


@pytest.mark.parametrize(
    ("name", "batch", "clip", "noise", "epochs", "steps", "found"),
    [
        ("purchase100", 128, 1.0, 1.7, 200, 28_200, 3.520),
        ("texas100", 64, 1.0, 1.44, 200, 42_200, 3.525),
        ("location30", 128, 3.0, 2.91, 50, 550, 3.531),
    ],
)
def test_dp_sgd_spends_the_epsilon_of_the_published_numbers(name, batch, clip, noise, epochs, steps, found):
    recipe = load_recipe(f"{name}/dp-sgd")
    train, options = recipe.train, recipe.defense.options
    assert train == TrainConfig(epochs, batch, "sgd", 0.005, 0.9, 5e-4, "cosine")
    assert (options["max_grad_norm"], options["noise_multiplier"], options["target_epsilon"]) == (clip, noise, 0)
    members = LAYOUTS[recipe.split.layout].sizes(recipe.split.train_size)[0]
    batches = poisson_steps(members, train.batch_size)
    assert batches * train.epochs == steps
    spent = epsilon(noise, 1 / batches, steps, options["delta"], options["accountant"])
    assert (options["delta"], spent) == (1e-5, pytest.approx(found, abs=5e-4))


def test_dp_sgd_on_images_has_a_network_whose_answers_do_not_mix_a_batch():
    from hampkit.training.stacks import normalises_batches

    for name in ("cifar10", "cifar100"):
        recipe = load_recipe(f"{name}/dp-sgd")
        assert not normalises_batches(NETS[recipe.net].build((3, 32, 32), 10))
        assert recipe.defense.options["target_epsilon"] == 3.52


def test_recipes_that_need_reference_rows_leave_some():
    for data, defense in itertools.product((*DATA, "toy", "file"), ("advreg", "memguard")):
        split = resolve(shipped(data, defense)).document["split"]
        rows, layout = ROWS.get(data, 2000), LAYOUTS[split["layout"]]
        _, reference, validation, *_ = sizes = layout.sizes(split.get("train_size") or layout.largest(rows))
        spare = rows - sum(sizes) - validation  # without those that choose the shadow models' checkpoints
        assert max(reference, spare) >= 128, (data, defense)  # half a batch of the published AdvReg on CIFAR


def test_digits_is_one_split_for_all_defenses():
    """Otherwise no two of them could be compared."""
    splits = {load_recipe(f"digits/{name}").split for name in DEFENSES.classes()}
    assert len(splits) == 1


@pytest.mark.parametrize("name", ["hamp", "label-smoothing", "early-stopping", "memguard", "dp-sgd"])
def test_a_digits_recipe_trains(name, tmp_path):
    trained = hampkit.train(f"digits/{name}", runs_dir=tmp_path, options={"epochs": 10, **SHORT.get(name, {})})
    assert trained.accuracy["train"] > 0.1


SHORT = {"early-stopping": {"epoch": 5}, "memguard": {"surrogate_epochs": 5}}


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_digits_recipe_trains_as_it_is_shipped(name, tmp_path):
    trained = hampkit.train(f"digits/{name}", runs_dir=tmp_path)
    assert trained.accuracy["test"] > 0.5
    if name == "dp-sgd":
        assert trained.history["facts"]["epsilon"] <= 8


@pytest.mark.parametrize("name", ["advreg", "selena", "dmp"])
def test_a_digits_recipe_of_two_trainings_runs(name, tmp_path):
    quick = {**DEFENSES.get(name).quick, "train.epochs": 2}
    if name != "advreg":
        quick["defense.distill.epochs"] = 1
    hampkit.train(f"digits/{name}", runs_dir=tmp_path, options=quick)


@pytest.mark.parametrize("name", ["advreg", "memguard", "dp-sgd"])
def test_a_recipe_for_one_s_own_table_trains(name, tmp_path, monkeypatch, write_table):
    monkeypatch.chdir(tmp_path)
    options = {**DEFENSES.get(name).quick, "train.epochs": 2}
    trained = hampkit.train(name, data=write_table(rows=400), label="risk", runs_dir=tmp_path / "runs", options=options)
    assert len(trained.models.stack) == 1
    layout = load_recipe(name, file="people.csv", label="risk").split.layout
    assert layout == ("" if name == "dp-sgd" else "with-reference")


def test_overrides_have_every_option_of_a_training_that_a_recipe_does_not_share():
    hints, wanted = get_type_hints(TrainOverrides), get_type_hints(TrainConfig)
    assert set(vars(TrainOverrides())) == set(vars(TrainConfig())) - set(TrainConfig.SHARED)
    assert all(hints[name] == wanted[name] | None for name in vars(TrainOverrides()))
    train = TrainConfig(epochs=7, lr=0.1, patience=2)
    assert TrainOverrides().of(train) == train
    assert TrainOverrides(lr=0.2, patience=0).of(train) == replace(train, lr=0.2, patience=0)
    with pytest.raises(UserError, match=r"unknown key 'threads' in defense\.distill"):
        build(TrainOverrides, {"threads": 2}, "defense.distill")
    with pytest.raises(UserError, match=r"defense\.distill\.select='nothing' must be one of best, last"):
        build(TrainOverrides, {"select": "nothing"}, "defense.distill")


def test_a_training_with_defaults_keeps_only_what_a_recipe_shares():
    train = TrainConfig(
        epochs=7, batch_size=9, retries=1, precision="bfloat16", threads=3, augment=("flip",), patience=2
    )
    assert train.with_defaults(lr=0.5) == TrainConfig(lr=0.5, retries=1, precision="bfloat16", threads=3)
