"""Canaries: what they are, who is trained on them, what they prove; a null and a positive control."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from tests.test_pages import repeated_ids

import hampkit
from hampkit import UserError
from hampkit.config.recipe import load_recipe
from hampkit.config.sections import CanaryConfig, SplitConfig
from hampkit.data.canaries import make_canaries, sides_of, with_canaries
from hampkit.data.splits import split_table
from hampkit.data.toy import Toy
from hampkit.rng import numpy_rng
from hampkit.stats.bounds import audit_scores
from hampkit.types import Dataset, Domain
from hampkit.workflows.prepare import prepare
from hampkit.workflows.session import Session

QUICK = {"rows": 700, "features": 24, "classes": 4, "flip": 0.35, "epochs": 8, "net": "mlp-small", "neural.epochs": 1}
KINDS = ["mislabelled", "out-of-support", "near-duplicate"]


def toy():
    data = Toy(rows=700, features=24, classes=4, flip=0.3).load(None)  # pyright: ignore[reportArgumentType]
    return data, split_table(len(data), SplitConfig(layout="default", seed=1))


def made(kind="mislabelled", count=100, seed=0, recipe_seed=0):
    data, table = toy()
    return data, table, make_canaries(data, sides_of(table), CanaryConfig(count, kind, seed), recipe_seed)


@pytest.mark.parametrize("kind", KINDS)
def test_canaries_are_what_their_kind_promises(kind):
    data, table, found = made(kind)
    rows = {tuple(row.tolist()): int(y) for row, y in zip(data.x, data.y, strict=True)}
    alike = [rows.get(tuple(row.tolist())) for row in found.x]
    assert found.x.dtype == data.x.dtype
    if kind == "mislabelled":
        assert all(true is not None and true != y for true, y in zip(alike, found.y.tolist(), strict=True))
        others = {tuple(data.x[i].tolist()) for i in table.rows("nonmembers").tolist()}
        assert {tuple(row.tolist()) for row in found.x} <= others
    if kind == "out-of-support":
        assert sum(true is not None for true in alike) < 5
        assert abs(float(found.x.float().mean()) - 0.5) < 0.05, "fair bits"
    if kind == "near-duplicate":
        members = data.x[table.rows("members")].float()
        distance = torch.cdist(found.x.float(), members, p=1).amin(1)
        assert (distance <= 6).all()
        assert (distance > 0).float().mean() > 0.9
    counts = np.bincount(found.y.numpy(), minlength=4)
    assert counts.min() > 5, "labels of all classes"


def test_blank_images_have_one_colour_each_and_tables_have_none():
    x = torch.randint(0, 256, (200, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images = Dataset("pictures", x, torch.arange(200) % 4, 4, Domain.grid((3, 8, 8), 0, 255, 1))
    table = split_table(200, SplitConfig(layout="default", seed=1))
    found = make_canaries(images, sides_of(table), CanaryConfig(50, "blank"), 0)
    flat = found.x.flatten(2)
    assert (flat == flat[:, :, :1]).all()
    assert len({tuple(row.tolist()) for row in flat[:, :, 0]}) > 45
    with pytest.raises(UserError, match=r"canaries.kind=blank is for images .* take mislabelled"):
        made("blank")


def test_the_coins_are_fair_and_the_hash_covers_all():
    shares = [made(seed=s, recipe_seed=r)[2].included.mean() for s in range(6) for r in range(6)]
    assert abs(np.mean(shares) - 0.5) < 5 * 0.5 / np.sqrt(36 * 100)
    first, again, other_coins, other = (made(seed=s, recipe_seed=r)[2] for s, r in ((0, 0), (0, 0), (0, 1), (1, 0)))
    assert first.sha256 == again.sha256
    assert len({first.sha256, other_coins.sha256, other.sha256}) == 3
    assert torch.equal(first.x, other_coins.x), "the coins alone depend on the recipe's seed"


def test_the_split_with_canaries_keeps_everybody_else_where_they_are():
    data, table, found = made()
    whole, split = with_canaries(data, table, found)
    assert len(whole) == len(data) + 100
    inside = set((len(data) + np.flatnonzero(found.included)).tolist())
    assert set(split.rows("members").tolist()) == set(table.rows("members").tolist()) | inside
    assert set(split.rows("nonmembers").tolist()) == set(range(len(data), len(whole))) - inside
    for name in ("test", "validation", "reference", "remaining"):
        assert torch.equal(split.rows(name), table.rows(name))


def problem_of(**options):
    texts = {k: str(v) for k, v in {**QUICK, "canaries.count": 100, "shadows.models": 8, **options}.items()}
    return prepare(load_recipe("toy/undefended", texts), Session())


def test_members_are_always_in_training_and_each_canary_in_half_of_the_models():
    problem = problem_of()
    masks = problem.shadow_task().masks().numpy()
    drawn = problem.drawn
    assert drawn is not None
    others = np.setdiff1d(np.arange(masks.shape[1]), drawn)
    assert masks[:, others].all()
    assert (masks[:, drawn].sum(0) == 4).all()
    assert (masks[0::2, :][:, drawn] == ~masks[1::2, :][:, drawn]).all(), "pairs"
    assert set(np.flatnonzero(problem.once)) <= set(drawn)
    assert np.array_equal(problem.task.members[0].numpy()[drawn].sum(), problem.canaries.included.sum())
    known, _, judged = problem.candidates()
    assert set(known) | set(judged) <= set(drawn)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"canaries.count": 3}, "canaries.count=3 must lie between 20 and"),
        ({"canaries.count": 600}, "canaries.count=600 must be at most [0-9]+, the number of nonmembers"),
        ({"canaries.kind": "blank"}, "canaries.kind=blank is for images"),
        ({"canaries.kind": "noise"}, "canaries.kind='noise'"),
        ({"canaries.seed": -1}, "canaries.seed=-1 must lie in"),
    ],
)
def test_canaries_that_cannot_be_made_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        problem_of(**options)


def test_a_recipe_without_canaries_has_the_folder_of_before():
    plain, asked = (load_recipe("toy/undefended", o) for o in ({}, {"canaries.count": "100"}))
    assert "canaries" not in plain.training()
    assert plain.folder() != asked.folder()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("canaries") / "runs"
    options = {**QUICK, "rows": 500, "features": 100, "net": "mlp", "epochs": 60, "train.select": "last"}
    return folder, hampkit.run(
        "toy/undefended", "toy/hamp", options=options, canaries=60, shadows=8, runs_dir=folder, workers=1
    )


def of(model, name, unit="leave-one-out"):
    return next(a for a in model.of(unit) if a.attack == name)


@pytest.mark.slow
def test_a_memorising_model_gives_its_canaries_away(run):
    _, results = run
    clean, canary, _, _ = results.models
    found = of(canary, "lira-online")
    assert found.auc.value > 0.97
    assert found.tpr_at_fpr[2].value > 0.95, "at 10 % false positives"
    assert found.auc.value > of(clean, "lira-online").auc.high
    bounds = canary.canaries["bounds"]
    assert bounds["canaries"] == 60
    assert 0 < bounds["epsilon"] <= bounds["most"]["epsilon"]
    assert bounds["epsilon"] > 1


@pytest.mark.slow
def test_every_form_has_canaries_beside_the_data_set(run, cli):
    folder, results = run
    assert [bool(m.canaries) for m in results.models] == [False, True, False, True]
    document = json.loads((folder / "results.json").read_text())
    from jsonschema import Draft202012Validator

    from hampkit.report import load_schema
    from hampkit.report.canaries import canary_blocks

    Draft202012Validator(load_schema()).validate(document)
    assert hampkit.ModelResult.from_json(document["models"][1]) == results.models[1]
    undefended, hamp = canary_blocks(document)
    assert (undefended.recipe, hamp.recipe) == ("toy/undefended", "toy/hamp")
    assert {row.attack for row in hamp.rows} >= {
        "lira-online",
        "rmia",
        "label-only",
        "repeated",
        "rank",
        "stripped-lira",
    }
    lira = next(row for row in hamp.rows if row.attack == "lira-online")
    assert lira.clean["value"] == of(results.models[2], "lira-online").auc.value
    assert lira.canary["value"] == of(results.models[3], "lira-online").auc.value
    sha = results.models[1].canaries["sha256"]
    for text in ((folder / "report.md").read_text(), (folder / "report.html").read_text()):
        assert sha[:12] in text
        assert "60 mislabelled canaries" in text
        assert "epsilon ≥" in text
    page = (folder / "report.html").read_text()
    assert '"canary-chart"' in page, "the picture"
    assert not repeated_ids(page)
    assert (folder / results.models[1].run / "records.csv").read_text().count("\n") == 61


@pytest.mark.numeric
def test_the_bounds_are_zero_on_canaries_that_nobody_saw():
    """The nominal error is 5 %; 400 models that never saw the canaries."""
    above = 0
    for seed in range(400):
        rng = numpy_rng(seed)
        above += audit_scores(rng.normal(size=200), rng.random(200) < 0.5).epsilon > 0
    assert above <= 0.05 * 400 + 3 * np.sqrt(0.0475 * 400)


def test_the_command_line_makes_a_second_model_of_each_recipe(cli, tmp_path):
    words = [f"{k}={v}" for k, v in QUICK.items()]
    code, out, err = cli(
        "run", "toy/hamp", *words, "--canaries", "40", "--canary-kind", "out-of-support", "--runs-dir", "r"
    )
    assert code == 0, err
    results = json.loads((tmp_path / "r" / "results.json").read_text())
    clean, canary = results["models"]
    assert canary["canaries"]["kind"] == "out-of-support"
    assert canary["canaries"]["bounds"]["attack"] == "loss"
    assert "40 out-of-support canaries" in out
    assert "canaries" not in clean
    code, _, err = cli("run", "toy/hamp", *words, "--canary-kind", "blank", "--runs-dir", "r")
    assert (code, "add --canaries 500" in err) == (2, True)
    code, _, err = cli("run", "toy/hamp", *words, "canaries.count=50", "--canaries", "40", "--runs-dir", "r")
    assert (code, "are the same option" in err) == (2, True)
    code, _, err = cli("run", "toy/hamp", *words, "--canaries", "40", "--shadows-from", "r", "--runs-dir", "r")
    assert code == 2


def faked(monkeypatch, accuracy_of):
    """DP-SGD whose validation accuracy is a function of its noise; returns the noises that were tried."""
    from types import SimpleNamespace

    from hampkit.workflows import matched

    tried = []

    def train(recipe, session):
        noise = recipe.defense.options["noise_multiplier"]
        tried.append(noise)
        return SimpleNamespace(accuracy={"val": accuracy_of(noise)})

    monkeypatch.setattr(matched, "train", train)
    monkeypatch.setattr(matched, "prepare", lambda recipe, session: recipe)
    return tried


def matches_of(accuracies):
    from hampkit.workflows.matched import matches

    return matches(load_recipe("digits/dp-sgd"), accuracies, Session())


def test_dp_sgd_is_matched_by_at_most_five_trainings(monkeypatch):
    tried = faked(monkeypatch, lambda noise: 0.9 / (1 + noise))
    near, far = matches_of({"hamp": 0.68, "undefended": 0.99})
    assert abs(near.reached - 0.68) <= 0.01
    assert near.trainings == len(tried) - 5 < 5, "it ends once it is close"
    assert far.reached < 0.98
    assert far.trainings == 5
    assert "the nearest that was found" in far.summary("")
    assert "nearest" not in near.summary("epsilon 3")
    assert "; epsilon 3; the search" in near.summary("epsilon 3")
    assert near.recipe.defense.options["target_epsilon"] == 0.0
    assert near.title == "dp-sgd (as accurate as hamp)"
    assert far.title == "dp-sgd (nearest to undefended)"


def test_defenses_of_one_accuracy_share_a_match(monkeypatch):
    tried = faked(monkeypatch, lambda noise: 0.9 / (1 + noise))
    (match,) = matches_of({"hamp": 0.601, "selena": 0.599})
    assert match.defenses == ("hamp", "selena")
    count = len(tried)
    (both,) = matches_of({"hamp": 0.95, "undefended": 0.99})
    assert both.defenses == ("hamp", "undefended"), "the weakest noise is the nearest for both"
    assert len(tried) - count == 10


@pytest.mark.slow
def test_compare_has_canaries_and_dp_sgd_of_equal_accuracy(cli, tmp_path):
    words = ["rows=700", "features=24", "classes=4", "flip=0.35", "epochs=6", "net=mlp-small", "neural.epochs=1"]
    ask = ["--defenses", "undefended,round", "--canaries", "40", "--shadows", "4", "--runs-dir", "r", "--workers", "1"]
    code, out, err = cli("compare", "toy", *words, *ask)
    assert code == 0, err
    found = json.loads((tmp_path / "r" / "compare.json").read_text())
    entries = {entry["defense"]: entry for entry in found["entries"]}
    assert list(entries)[:2] == ["undefended", "round"]
    assert any(
        name.startswith(("dp-sgd (as accurate as undefended", "dp-sgd (nearest to undefended")) for name in entries
    ), list(entries)
    assert all(entry["canaries"]["about"][0]["count"] == 40 for entry in entries.values())
    hashes = {entry["canaries"]["about"][0]["sha256"] for entry in entries.values()}
    assert len(hashes) == 1, "all defenses have the same canaries"
    assert "--canaries 40" in found["command"]
    for text in (out, (tmp_path / "r" / "compare.md").read_text(), (tmp_path / "r" / "compare.html").read_text()):
        assert "AUC on canaries" in text
        assert "mislabelled canaries" in text
    models = json.loads((tmp_path / "r" / "results.json").read_text())["models"]
    assert sum(bool(model.get("canaries")) for model in models) == len(entries)


def test_near_duplicates_of_a_table_have_one_category_each():
    rng = torch.Generator().manual_seed(0)
    hot = torch.nn.functional.one_hot(torch.randint(0, 5, (400,), generator=rng), 5).float()
    x = torch.cat([torch.randint(0, 2, (400, 3), generator=rng).float(), hot], dim=1)
    domain = Domain(torch.zeros(8), torch.ones(8), torch.ones(8), ((3, 8),))
    data = Dataset("towns", x, torch.arange(400) % 3, 3, domain)
    table = split_table(400, SplitConfig(layout="default", seed=1))
    found = make_canaries(data, sides_of(table), CanaryConfig(100, "near-duplicate"), 0)
    assert found.rows is not None
    assert (found.x[:, 3:].sum(1) == 1).all()
    assert (found.x[:, 3:] != x[found.rows][:, 3:]).any(), "some have another category"
