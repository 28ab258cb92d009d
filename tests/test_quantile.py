"""The quantile attack: what it finds that one threshold does not, its quantiles, its null."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hampkit import UserError
from hampkit.attacks.base import Evidence, Population
from hampkit.attacks.quantile import Quantile, _features
from hampkit.attacks.threshold import Confidence
from hampkit.stats.metrics import auc_interval

pytestmark = pytest.mark.numeric


def made(seed=0, n=400, others=1500, gap=1.5):
    """Answers whose scaled logit depends on the input much more than on membership."""
    rng = np.random.default_rng(seed)

    def side(count, shift):
        x = rng.normal(size=(count, 5))
        phi = 6 * x[:, 0] + (1 + (x[:, 1] > 0)) * rng.normal(size=count) + shift
        logits = np.stack([phi, np.zeros(count)], -1)[:, None]
        return torch.from_numpy(x).float(), torch.zeros(count, dtype=torch.long), torch.from_numpy(logits)

    member = rng.random(n) < 0.5
    x, y, logits = side(n, gap * member)
    px, py, plogits = side(others, 0.0)
    return Evidence(x, y, logits, population=Population(py, plogits, px)), member


def test_it_finds_members_that_one_threshold_does_not():
    evidence, member = made()
    found, plain = (auc_interval(attack(evidence), member) for attack in (Quantile(), Confidence()))
    assert found.low > plain.high


def test_a_share_of_the_population_lies_below_each_quantile():
    evidence, _ = made(1, n=3000, gap=0.0)
    others = evidence.population
    fitted, asked = _features(others.x, others.y, evidence.x, evidence.y, 2)
    known, fresh = others.logits[:, 0, 0].numpy(), evidence.logits[:, 0, 0].numpy()
    for quantile in (0.5, 0.9):
        below = (fresh < Quantile()._fit(fitted, known, quantile).predict(asked)).mean()
        assert abs(below - quantile) < 0.05


def test_nothing_is_found_where_there_is_nothing():
    missed = 0
    for seed in range(20):
        evidence, member = made(seed + 10, n=200, others=400, gap=0.0)
        interval = auc_interval(Quantile(trees=20)(evidence), member)
        missed += not interval.low <= 0.5 <= interval.high
    assert missed <= 4


def test_long_inputs_are_replaced_by_their_components():
    rng = torch.Generator().manual_seed(0)
    x, y = torch.rand(120, 600, generator=rng), torch.arange(120) % 3
    fitted, asked = _features(x, y, x[:10], y[:10], 3)
    assert fitted.shape == (120, 64 + 3)
    assert np.allclose(fitted[:10], asked)


def test_it_needs_inputs_and_levels_in_their_range():
    evidence, _ = made(n=20, others=40)
    without = Evidence(
        evidence.x,
        evidence.y,
        evidence.logits,
        population=Population(evidence.population.y, evidence.population.logits),
    )
    with pytest.raises(ValueError, match="inputs of the population"):
        Quantile()(without)
    with pytest.raises(UserError, match=r"level=0.4 must lie between 0.5 and 1"):
        Quantile(level=0.4)
    with pytest.raises(UserError, match="trees=0 must lie"):
        Quantile(trees=0)
