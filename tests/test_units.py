"""Leave-one-out where examples come in few units, such as persons: rates must not be surer than so many units allow."""

import numpy as np
import pytest
from scipy.stats import norm

from hampkit.data.splits import shadow_members
from hampkit.stats import clustered, metrics


def audit(seed, models=32, units=10, size=8, effect=100.0, unexposed=0.0):
    """Members' scores lie higher by the effect, but for the units that are not exposed."""
    rng = np.random.default_rng(seed)
    of = np.repeat(np.arange(units), size)
    member = shadow_members(models, len(of), seed, "paired", of * size).numpy()
    exposed = (rng.random(units) >= unexposed)[of]
    return rng.standard_normal(member.shape) + effect * member * exposed, member, of


@pytest.mark.parametrize(("models", "units"), [(128, 10), (6, 10)])
def test_a_rate_of_all_is_no_surer_than_models_or_units_allow(models, units):
    s, m, of = audit(0, models, units)
    bound = metrics.clopper_pearson(min(models, units), min(models, units))[0]
    for point in (clustered.tpr_point(s, m, 0.01, units=of), clustered.tnr_point(-s, ~m, 0.01, units=of)):
        assert (point.value, point.low) == (1, pytest.approx(bound))


def test_units_of_uneven_size_count_as_kishs_number():
    s, m, _ = audit(0, units=20, size=4)
    of = np.r_[np.zeros(40, int), np.arange(1, 41)]
    kish = 80**2 / (40**2 + 40)
    assert clustered.tpr_point(s, m, 0.01, units=of).low == pytest.approx(metrics.clopper_pearson(kish, kish)[0])


def test_many_rows_without_units_change_nothing():
    s, m, _ = audit(0, models=16, units=300, size=1)
    assert clustered.tpr_point(s, m, 0.01).low == metrics.clopper_pearson(16, 16)[0]


@pytest.mark.parametrize(("models", "effect"), [(128, 100.0), (32, 5.0)])
def test_a_share_of_units_that_is_not_exposed_is_covered_though_none_is_seen(models, effect):
    """5 % of the units are not exposed, and of 10 units none is seen in 60 % of 100 audits: these missed the truth."""
    fpr, held = 0.01, 0
    truth = 0.95 * norm.sf(norm.isf(fpr) - effect) + 0.05 * fpr
    for seed in range(100):
        s, m, of = audit(seed, models, effect=effect, unexposed=0.05)
        point = clustered.tpr_point(s, m, fpr, units=of)
        held += point.low <= truth <= point.high
    assert held >= 90


def test_few_units_that_differ_are_covered():
    """What members' scores gain is 1 + N(0, 3²) of one of 5 units, in 64 models. Student's t of the models alone covered 88 %."""
    fpr, held = 0.001, 0
    truth = norm.sf((norm.isf(fpr) - 1) / np.sqrt(10))
    for seed in range(150):
        s, m, of = audit(seed, 64, 5, 8, effect=1.0)
        s = s + 3 * m * np.random.default_rng([seed, 1]).standard_normal(5)[of]
        point = clustered.tpr_point(s, m, fpr, units=of)
        held += point.low <= truth <= point.high
    assert held >= 142
