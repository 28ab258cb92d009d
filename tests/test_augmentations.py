"""Views of images: what they are, that shadow models and target are asked about the same ones, and that they help."""

import numpy as np
import pytest
import torch

import hampkit
from hampkit import UserError
from hampkit.attacks.lira import LiraOnline, lira_scores
from hampkit.config.recipe import ShadowConfig, load_recipe
from hampkit.config.sections import MOST_VIEWS
from hampkit.nets.augmentations import augmented
from hampkit.shadow_models.train import folder_of
from hampkit.workflows.prepare import prepare
from hampkit.workflows.session import Session


def test_a_view_is_an_image_of_the_same_pixels_moved_and_mirrored():
    x = torch.arange(2 * 3 * 16 * 24, dtype=torch.float32).view(2, 3, 16, 24)
    seen = [augmented(x, k) for k in range(MOST_VIEWS)]
    assert all(v.shape == x.shape and v.dtype == x.dtype for v in seen)
    assert torch.equal(seen[0], x)
    assert torch.equal(seen[1], x.flip(3))
    assert len({v.numpy().tobytes() for v in seen}) == MOST_VIEWS
    for k in range(0, MOST_VIEWS, 2):
        assert torch.equal(seen[k + 1], seen[k].flip(3)), "every shift has its mirror image"
    up_left = augmented(x, 2)  # two rows and three columns come in, reflected
    assert torch.equal(up_left[:, :, 2:, 3:], x[:, :, :-2, :-3])
    assert torch.equal(up_left[:, :, 0, 3:], x[:, :, 2, :-3])
    assert torch.equal(augmented(x.byte(), 5), seen[5].byte())


@pytest.mark.parametrize("size", [1, 2, 3])
def test_the_smallest_images_have_views(size):
    x = torch.rand(1, 1, size, size)
    assert all(set(augmented(x, k).flatten().tolist()) <= set(x.flatten().tolist()) for k in range(MOST_VIEWS))


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 400)
    x = rng.normal(size=(400, 1, 8, 8)) + 0.3 * y[:, None, None, None]
    path = tmp_path_factory.mktemp("images") / "images.npz"
    np.savez(path, x=x.astype(np.float32), y=y)
    return path


OPTIONS = {"epochs": 8, "neural.epochs": 2, "net": "mlp-small"}


def test_shadow_models_and_target_are_asked_about_every_view(images, tmp_path):
    plain_options = {**OPTIONS, "epochs": 1}
    options, given = {**plain_options, "shadows.views": 4}, {"attacks": ["loss", "lira-online"], "runs_dir": tmp_path}
    found = hampkit.run("undefended", "hamp", data=images, label="y", options=options, shadows=4, workers=1, **given)
    for model in found.models:
        run = tmp_path / model.run
        (signals,) = {np.load(p).shape[1:] for p in run.rglob("scaled_logit.npy")}
        (views,) = run.rglob("views.npy")
        released = np.load(views.parent / "released.npy")
        assert signals == (len(released), 4)
        assert np.load(views).shape == (len(released), 3, 3)
        assert not np.array_equal(np.load(views)[:, 0], released)
    plain = hampkit.run("undefended", data=images, label="y", options=plain_options, shadows=4, workers=1, **given)
    aucs = [{a.attack: a.auc for a in m.attacks} for m in (found.models[0], plain.models[0])]
    assert aucs[0]["lira-online"] != aucs[1]["lira-online"]
    assert aucs[0]["loss"] == aucs[1]["loss"], "the others see the example itself"


def test_answers_about_views_that_are_no_numbers_are_refused_and_not_kept(images, tmp_path, monkeypatch):
    monkeypatch.setattr("hampkit.workflows.query.view", lambda x, v: x * float("nan"))
    options = {**OPTIONS, "shadows.views": 2, "shadows.models": 4, "epochs": 2}
    with pytest.raises(UserError, match="answers of defense undefended hold NaN or infinity"):
        hampkit.run("undefended", data=images, label="y", options=options, workers=1, runs_dir=tmp_path)
    assert not list(tmp_path.rglob("released.npy"))


def test_lira_takes_the_mean_over_views():
    rng = np.random.default_rng(1)
    members = np.tile([True, False], (40, 4)).T
    scores = rng.normal(size=(8, 40, 3)).astype(np.float32)
    target = rng.normal(size=(40, 3))
    from hampkit.attacks import Shadows, ShadowScores

    shadows = Shadows((scores,), members, rng.normal(size=(8, 5)).astype(np.float32), np.arange(40), np.arange(8))
    wanted = np.mean([lira_scores(ShadowScores(scores[:, :, v], members), target[:, v]) for v in range(3)], axis=0)
    assert np.allclose(LiraOnline().score_signals(target, np.zeros(5), shadows), wanted, rtol=0, atol=1e-9)


def test_views_of_what_is_no_image_and_too_many_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"shadows.views=2 mirrors and shifts images .* of toy have shape \(64,\)"):
        prepare(load_recipe("toy/undefended", {"shadows.views": "2", "shadows.models": "8"}), Session())
    with pytest.raises(UserError, match="must lie between 1 and 18"):
        load_recipe("toy/undefended", {"shadows.views": "19"})
    assert folder_of(ShadowConfig(8, views=2)) != folder_of(ShadowConfig(8))


def test_shadow_models_with_views_can_be_lent(images, tmp_path):
    options = {**OPTIONS, "shadows.views": 2, "split.seed": 1}
    lender = hampkit.shadow(
        "undefended", 4, data=images, label="y", options=options, workers=1, runs_dir=tmp_path / "runs"
    )
    found = hampkit.run(
        "undefended", data=images, label="y", options={**OPTIONS, "split.seed": 1}, seed=1, shadows_from=lender, runs_dir=tmp_path
    )  # fmt: skip
    assert any(a.attack == "lira-online" for a in found.models[0].attacks)
