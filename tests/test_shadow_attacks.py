"""LiRA, RMIA, attack-r, attack-p: against explicit loops over examples with SciPy, at extremes, and against the optimal test."""

import numpy as np
import pytest
from benchmarks.shadow_attacks import rows, sets
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.special import log_expit, logsumexp

import hampkit
from hampkit import UserError
from hampkit.attacks import Shadows, ShadowScores
from hampkit.attacks.held_out import HeldOut
from hampkit.attacks.lira import FLOOR, VARIANTS, LiraOnlineFixed, LiraOptions, lira_scores
from hampkit.attacks.reference import AttackR, attack_p_scores, attack_r_scores
from hampkit.attacks.rmia import GRID, Background, Rmia, RmiaOffline, RmiaOptions, choose_a, log_ratio, rmia_scores
from hampkit.stats import metrics, moderated


def case(models=8, examples=40, seed=0, scale=3.0):
    """Random scores; every example has at least two models on either side, in uneven numbers; one column is constant."""
    rng = np.random.default_rng(seed)
    s = rng.normal(0, scale, (models, examples))
    m = rng.random((models, examples)) < rng.uniform(0.2, 0.8, examples)
    half = models // 2
    m[:half, ~((m.sum(0) >= 2) & (m.sum(0) <= models - 2))] = True
    m[half:, (m.sum(0) < 2) | (m.sum(0) > models - 2)] = False
    s[:, 3] = 1.5
    return s, m, rng.normal(0, scale, examples)


def one_lira(s, m, t, variant, variance, center=np.mean):
    """The definition, an example at a time, with SciPy."""

    def shared(side):
        groups = [s[side[:, j], j] for j in range(s.shape[1])]
        if variance == "pooled":
            return np.sqrt(sum(((g - g.mean()) ** 2).sum() for g in groups) / sum(len(g) - 1 for g in groups))
        return np.std(np.concatenate(groups))

    of_all = {True: shared(m), False: shared(~m)}

    def deviation(i, inside):
        own = np.std(s[m[:, i] == inside, i])
        return max(own if variance == "per-example" else of_all[inside], FLOOR)

    scores = []
    for i in range(s.shape[1]):
        inside, out = s[m[:, i], i], s[~m[:, i], i]
        if variant == "global":
            scores.append(t[i])
        elif variant.startswith("offline"):
            z = (t[i] - center(out)) / deviation(i, False)
            scores.append(stats.norm.logcdf(z) - stats.norm.logsf(z))
        else:
            a = stats.norm.logpdf(t[i], center(inside), deviation(i, True))
            scores.append(a - stats.norm.logpdf(t[i], center(out), deviation(i, False)))
    return np.array(scores)


def one_log_ratio(s, m, t, a, offline):
    def usual(column, member):
        out = logsumexp(log_expit(column[~member])) - np.log((~member).sum())
        if offline:
            return np.log(((1 + a) * np.exp(out) + 1 - a) / 2)
        inside = logsumexp(log_expit(column[member])) - np.log(member.sum())
        return np.logaddexp(inside, out) - np.log(2)

    return np.array([log_expit(t[i]) - usual(s[:, i], m[:, i]) for i in range(s.shape[1])])


def one_rmia(s, m, t, zs, zt, gamma, a, offline):
    ratio_z = one_log_ratio(zs, np.zeros(zs.shape, bool), zt, a, offline=True)
    return np.array([np.mean(ratio - ratio_z >= np.log(gamma)) for ratio in one_log_ratio(s, m, t, a, offline)])


@pytest.mark.parametrize("models", [4, 7, 16, 70])
@pytest.mark.parametrize("variance", ["per-example", "pooled", "global"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_lira_is_the_loop_over_examples(variant, variance, models):
    if variant.endswith("-fixed") and variance == "per-example":
        return
    s, m, t = case(models)
    for center, mean in (("mean", np.mean), ("median", np.median)):
        found = lira_scores(ShadowScores(s, m), t, LiraOptions(variant, variance, center))
        assert np.allclose(found, one_lira(s, m, t, variant, variance, mean), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("center", "factor"), [("mean", 1.0), ("median", np.pi / 2)])
@pytest.mark.parametrize("models", [4, 9, 70])
def test_moderated_lira_is_the_loop_over_examples_with_student(models, center, factor):
    s, m, t = case(models, 60)
    s[:, 3] = np.random.default_rng(9).normal(size=models)
    s *= np.geomspace(0.5, 4, 60)

    def laws(side):
        groups = [s[side[:, i], i] for i in range(60)]
        squares, n = np.array([((g - g.mean()) ** 2).sum() for g in groups]), np.array([len(g) for g in groups])
        prior = moderated.fit(squares, n - 1)
        variances = (prior.freedom * prior.variance + squares) / (prior.freedom + n - 1)
        centers = [np.median(g) if center == "median" else g.mean() for g in groups]
        return stats.t(prior.freedom + n - 1, centers, np.sqrt(variances * (1 + factor / n)))

    inside, out = laws(m), laws(~m)
    online = lira_scores(ShadowScores(s, m), t, LiraOptions("online", "moderated", center))
    assert np.allclose(online, inside.logpdf(t) - out.logpdf(t), rtol=1e-9, atol=1e-9)
    offline = lira_scores(ShadowScores(s, m), t, LiraOptions("offline", "moderated", center))
    assert np.allclose(offline, out.logcdf(t) - out.logsf(t), rtol=1e-9, atol=1e-9)


def test_moderated_lira_takes_examples_with_one_model_on_a_side():
    s, m, t = case(8, 60)
    m[:, 0] = np.arange(8) < 1
    assert np.isfinite(lira_scores(ShadowScores(s, m), t, LiraOptions("online", "moderated"))).all()


def test_lira_takes_blocks_of_examples_without_a_seam():
    s, m, t = case(8, 9000)
    for variant in VARIANTS:
        variance = "pooled" if variant.endswith("-fixed") else "per-example"
        one_by_one = one_lira(s[:, 4090:4100], m[:, 4090:4100], t[4090:4100], variant, "per-example")
        found = lira_scores(ShadowScores(s, m), t, LiraOptions(variant, variance))[4090:4100]
        if variance == "per-example":
            assert np.allclose(found, one_by_one, rtol=1e-9)
        else:  # the pooled deviation of all 9,000, seen through two examples of different blocks
            assert np.allclose(found, one_lira(s, m, t, variant, "pooled")[4090:4100], rtol=1e-9)


@pytest.mark.parametrize("offline", [False, True])
@pytest.mark.parametrize(("gamma", "a"), [(1.0, 0.0), (2.0, 0.3), (2.0, 1.0)])
def test_rmia_is_the_loop_over_examples(offline, gamma, a):
    s, m, t = case(8)
    zs, zt, _ = case(8, 30, seed=1)
    zt = zt[0].astype(float) * np.linspace(-4, 4, 30)
    found = rmia_scores(ShadowScores(s, m), t, Background(zs, zt), RmiaOptions(gamma, a, offline))
    assert np.abs(found - one_rmia(s, m, t, zs, zt, gamma, a, offline)).max() < 1e-9
    smooth = rmia_scores(ShadowScores(s, m), t, Background(zs, zt), RmiaOptions(gamma, a, offline, smooth=True))
    assert (np.diff(smooth[np.argsort(found, kind="stable")])[np.diff(np.sort(found)) > 0] > 0).all()
    assert np.abs(log_ratio(ShadowScores(s, m), t, a, offline) - one_log_ratio(s, m, t, a, offline)).max() < 1e-9


@pytest.mark.parametrize("offline", [False, True])
def test_within_one_target_share_log_ratio_base_and_informia_have_one_order(offline):
    s, m, t = case(8, 300)
    m[:] = np.argsort(np.random.default_rng(1).random(m.shape), axis=0) < 4  # as many IN as OUT models
    zs, zt, _ = case(8, 30, seed=1)
    a = 1.0  # BASE offline leaves the IN models out instead of supposing them
    ratio = log_ratio(ShadowScores(s, m), t, a, offline)
    share = rmia_scores(ShadowScores(s, m), t, Background(zs, zt[0]), RmiaOptions(2.0, a, offline, smooth=True))
    assert np.array_equal(np.argsort(ratio), np.argsort(share))
    kept = np.where(~m | (not offline), log_expit(s), -np.inf)
    base = log_expit(t) - logsumexp(kept, axis=0) + np.log(np.isfinite(kept).sum(0))
    assert np.allclose(ratio, base, atol=1e-9)
    usual_z = logsumexp(log_expit(zs), axis=0) - np.log(len(zs))
    informia = base - np.sum(np.exp(usual_z) * (usual_z - log_expit(zt[0])))  # one number for all examples
    assert np.array_equal(np.argsort(ratio), np.argsort(informia))


def test_across_targets_the_share_loses_what_the_log_ratio_keeps():
    """Two targets that leak alike; the second answers the population with less certainty than any shadow model."""
    rng = np.random.default_rng(0)
    m = np.argsort(rng.random((16, 2000)), axis=0) < 8
    s, z = rng.normal(0, 1, (16, 2000)) + m, rng.normal(0, 1, (16, 500))
    member = rng.random((2, 2000)) < 0.5
    t, zt = rng.normal(0, 1, (2, 2000)) + member, rng.normal(0, 1, (2, 500)) - [[0], [4]]
    shadows, options = ShadowScores(s, m), RmiaOptions(smooth=True)
    share = np.concatenate([rmia_scores(shadows, t[k], Background(z, zt[k]), options) for k in (0, 1)])
    ratios = [log_ratio(shadows, t[k]) for k in (0, 1)]
    ratio, within = np.concatenate(ratios), np.mean([metrics.auc(ratios[k], member[k]) for k in (0, 1)])
    assert metrics.auc(ratio, member.ravel()) > within - 0.01
    assert metrics.auc(share, member.ravel()) < within - 0.05


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Rmia(gamma=1.0), ["attacks.rmia.gamma=1.0", "score=log-ratio", "add attacks.rmia.score=share"]),
        (lambda: RmiaOffline(gamma=2.0), ["attacks.rmia-offline.gamma=2.0", "score=log-ratio"]),
        (lambda: Rmia(score="share", gamma=0.0), ["attacks.rmia.gamma=0.0", "above 0"]),
        (lambda: Rmia(a=0.3), ["attacks.rmia.a=0.3", "score=log-ratio", "rmia-offline"]),
        (lambda: RmiaOffline(a=1.5), ["attacks.rmia-offline.a=1.5", "[0, 1]"]),
    ],
)
def test_options_without_effect_or_sense_are_refused(make, words):
    with pytest.raises(UserError) as error:
        make()
    assert all(word in str(error.value) for word in words), error.value


def test_gamma_is_two_by_default_and_moves_the_share():
    s, m, t = case(8)
    shadows = Shadows((s.astype(np.float32)[..., None],), m, s[:, :9].astype(np.float32), np.arange(40), np.arange(8))
    two, one, default = (
        Rmia(score="share", gamma=g, a=0.3).score_signals(t[:, None], t[:9], shadows) for g in (2.0, 1.0, None)
    )
    assert np.array_equal(two, default)
    assert (one >= two).all()
    assert (one > two).any()


def test_attack_r_and_attack_p_are_the_loops():
    s, m, t = case(9)
    t[:9] = s[0, :9]  # ties count
    expected = [np.mean([s[k, i] <= t[i] for k in range(9) if not m[k, i]]) for i in range(len(t))]
    assert attack_r_scores(ShadowScores(s, m), t).tolist() == expected
    z = np.r_[t[:5], np.linspace(-3, 3, 20)]
    assert attack_p_scores(t, z).tolist() == [np.mean([v <= u for v in z]) for u in t]


@settings(max_examples=60, deadline=None)
@given(
    st.integers(4, 9),
    st.lists(st.sampled_from([-1e4, -745.0, -1e-8, 0.0, 1e-8, 36.7, 745.0, 1e4]), min_size=12, max_size=12),
    st.integers(0, 2**32),
)
def test_extreme_scores_give_finite_results(models, values, seed):
    rng = np.random.default_rng(seed)
    s, t = rng.choice(values, (models, 12)), rng.choice(values, 12)
    m = np.zeros((models, 12), bool)
    m[:2] = True
    shadows = ShadowScores(s, rng.permuted(m, axis=0))
    for variant in VARIANTS:
        for variance in ("auto", "pooled", "global", *([] if variant.endswith("-fixed") else ["moderated"])):
            assert np.isfinite(lira_scores(shadows, t, LiraOptions(variant, variance))).all()
    z = rng.choice(values, (models, 5))
    for offline in (False, True):
        for a in (0.0, 0.5, 1.0):
            options = RmiaOptions(2.0, a, offline, smooth=True)
            assert np.isfinite(rmia_scores(shadows, t, Background(z, z[0]), options)).all()
            assert np.isfinite(log_ratio(shadows, t, a, offline)).all()
    assert np.isfinite(attack_r_scores(shadows, t)).all()
    assert 0 <= choose_a(shadows) <= 1


def test_online_lira_is_as_good_as_the_best_test_there_is():
    rng = np.random.default_rng(5)
    m = rng.permuted(np.arange(128)[:, None] < np.full(4000, 64), axis=0)
    mean_out, gap = rng.normal(0, 3, 4000), rng.uniform(0, 2, 4000)
    s = rng.normal(mean_out + gap * m, 1)
    member = rng.random(4000) < 0.5
    t = rng.normal(mean_out + gap * member, 1)
    best = gap * (t - mean_out) - gap**2 / 2  # ln N(mean + gap, 1) - ln N(mean, 1)
    for variant in ("online", "online-fixed"):
        difference = metrics.auc_difference(best, lira_scores(ShadowScores(s, m), t, LiraOptions(variant)), member)
        assert difference.low - 0.004 <= 0 <= difference.high + 0.004, difference
    assert (
        metrics.auc(lira_scores(ShadowScores(s, m), t, LiraOptions("global")), member) < metrics.auc(best, member) - 0.1
    )


def test_offline_lira_takes_a_low_score_for_a_non_member_as_the_published_test_does_not():
    s, m = np.zeros((8, 3)) + np.linspace(-1, 1, 8)[:, None], np.zeros((8, 3), bool)
    m[:4] = True
    low, middle, high = lira_scores(ShadowScores(s, m), [-5.0, 0.7, 5.0], LiraOptions("offline"))
    assert low < middle < high


def test_the_variance_is_chosen_by_the_number_of_models():
    for models, chosen in ((8, "pooled"), (64, "per-example")):
        rng = np.random.default_rng(models)
        m = rng.permuted(np.arange(models)[:, None] < np.full(50, models // 2), axis=0)
        s, t = rng.normal(size=(models, 50)) * rng.uniform(0.1, 3, 50), rng.normal(size=50)
        shadows = ShadowScores(s, m)
        assert np.array_equal(lira_scores(shadows, t), lira_scores(shadows, t, LiraOptions("online", chosen)))
    two = ShadowScores([[1.0], [0.0]], np.array([[True], [False]]))
    assert np.array_equal(lira_scores(two, [0.9]), lira_scores(two, [0.9], LiraOptions("online", "global")))


def test_a_is_chosen_where_it_was_planted():
    """Models for which p_in = a p_out + 1 - a holds exactly."""
    rng = np.random.default_rng(0)
    m = rng.permuted(np.arange(16)[:, None] < np.full(600, 8), axis=0)
    out = rng.uniform(0.05, 0.95, 600)
    p = np.where(m, 0.3 * out + 0.7, out) * rng.uniform(0.97, 1.0, m.shape)
    found = choose_a(ShadowScores(np.log(p / (1 - p)), m))
    assert found <= 0.6, found


def test_a_is_the_usual_one_where_nothing_can_be_attacked():
    """Of two models, or of two pairs of which only one of each is left, none has an example to be told apart by."""
    members = np.arange(2)[:, None] < np.ones((1, 30))
    assert choose_a(ShadowScores(np.zeros((2, 30)), members)) == 0.3


def test_a_is_the_one_with_the_highest_auc_by_share_too():
    rng = np.random.default_rng(4)
    m = np.argsort(rng.random((8, 500)), axis=0) < 4
    s, z = rng.normal(rng.normal(0, 2, 500), 1, (8, 500)) + m, rng.normal(0, 2, (8, 100))
    aucs = np.zeros(len(GRID))
    for t in range(4):
        counts = HeldOut(m).counts(t)
        heard = counts.any(1)
        for k, a in enumerate(GRID):
            shadows, options = ShadowScores(s[heard], m[heard], counts[heard]), RmiaOptions(2.0, a, True, smooth=True)
            scores = rmia_scores(shadows, s[t], Background(z[heard], z[t]), options)
            aucs[k] += metrics.auc(scores, m[t])
    assert choose_a(ShadowScores(s, m)) == GRID[int(aucs.argmax())]


def test_a_is_chosen_without_the_twin_of_the_model_that_is_attacked():
    """A twin's answers tell the membership of its sibling: with them another a would look best."""
    rng = np.random.default_rng(0)
    half = rng.random((6, 400)) < 0.5
    m = np.stack([half, ~half], 1).reshape(12, 400)
    s = rng.normal(0, 2, 400) + rng.normal(0, 1, (12, 400)) + 2 * m
    loud = s.copy()
    loud[1::2] = 50.0  # of every pair one that knows everything; those asked, 0 and 2, must not hear their twins
    kept = np.delete(np.arange(12), [1])
    assert choose_a(ShadowScores(loud, m), mocks=1) == choose_a(ShadowScores(loud[kept], m[kept]), mocks=1)


def explicit(s, m, counts):
    """Rows of another matrix: the models that count, of every example as many."""
    order = np.argsort(~counts, axis=0, kind="stable")[: counts.sum(0).min()]
    return np.take_along_axis(s, order, 0), np.take_along_axis(m, order, 0)


def test_answers_that_do_not_count_play_no_part():
    rng = np.random.default_rng(3)
    m = np.argsort(rng.random((12, 80)), axis=0) < 6
    counts = np.argsort(
        np.where(m, 2, 0) + rng.random((12, 80)), axis=0
    )  # of every example two OUT models do not count
    counts = np.argsort(counts, axis=0) >= 2
    s, t, z = rng.normal(0, 3, (12, 80)), rng.normal(0, 3, 80), rng.normal(0, 3, (12, 50))
    some, fewer = ShadowScores(s, m, counts), ShadowScores(*explicit(s, m, counts))
    for variant in VARIANTS:
        found, wanted = (lira_scores(shadows, t, LiraOptions(variant)) for shadows in (some, fewer))
        assert np.allclose(found, wanted)
    assert np.array_equal(attack_r_scores(some, t), attack_r_scores(fewer, t))
    for offline in (False, True):
        options = RmiaOptions(offline=offline)
        found, wanted = (rmia_scores(shadows, t, Background(z, z[0]), options) for shadows in (some, fewer))
        assert np.allclose(found, wanted)
    assert not np.allclose(lira_scores(ShadowScores(s, m), t), lira_scores(some, t))


@pytest.mark.parametrize(
    ("call", "needle"),
    [
        (lambda s, m, t: LiraOptions("onlin"), "did you mean"),
        (lambda s, m, t: LiraOptions("online", "shared"), "unknown variance"),
        (lambda s, m, t: LiraOptions("online-fixed", "per-example"), "one variance"),
        (lambda s, m, t: LiraOptions("online-fixed", "moderated"), "variant online for variance=moderated"),
        (lambda s, m, t: LiraOptions(center="mode"), "unknown center 'mode'"),
        (
            lambda s, m, t: lira_scores(
                ShadowScores(s[:2], np.arange(2)[:, None] < [1] * 40), t, LiraOptions("online", "moderated")
            ),
            r"lira-online.variance=moderated needs at least 2 OUT .*--shadows 6 or more\), or lira-online.variance=global",
        ),
        (lambda s, m, t: LiraOnlineFixed(variance="moderated"), "one variance for all"),
        (lambda s, m, t: lira_scores(ShadowScores(s, m | True), t, LiraOptions("offline")), "no OUT model among 8"),
        (lambda s, m, t: lira_scores(ShadowScores(s, m & False), t, LiraOptions("online")), "no IN model"),
        (
            lambda s, m, t: lira_scores(
                ShadowScores(s, np.arange(8)[:, None] < [1] * 40), t, LiraOptions("online", "per-example")
            ),
            "at least 2 IN",
        ),
        (lambda s, m, t: rmia_scores(ShadowScores(s, m & False), t, Background(s[:, :3], t[:3])), "offline attack"),
        (lambda s, m, t: rmia_scores(ShadowScores(s, m), t, Background(s[:, :0], t[:0])), "population"),
        (lambda s, m, t: RmiaOptions(gamma=0), "gamma=0"),
        (lambda s, m, t: RmiaOptions(a=2), "a=2"),
        (lambda s, m, t: log_ratio(ShadowScores(s, m), t, a=2), "a=2"),
        (lambda s, m, t: attack_r_scores(ShadowScores(s, m | True), t), "no OUT model"),
    ],
)
def test_what_cannot_be_computed_is_said_in_one_line(call, needle):
    with pytest.raises(UserError, match=needle):
        call(*case())


def test_shapes_and_numbers_that_are_none_are_refused():
    s, m, t = case()
    for bad in ((s[0], m, t), (s, m.astype(int), t), (s, m, t[:5]), (s * np.nan, m, t)):
        with pytest.raises(ValueError):
            lira_scores(ShadowScores(*bad[:2]), bad[2])
    with pytest.raises(ValueError):
        rmia_scores(ShadowScores(s, m), t * np.inf, Background(s, t))


def test_the_benchmark_takes_every_set_of_a_run(tmp_path):
    """Also of a run that began without shadow models, when its pool was another one."""
    options = {"epochs": 1, "net": "mlp-small"}
    hampkit.train("digits/undefended", options=options, runs_dir=tmp_path)
    for seed in (3, 0):
        folder = hampkit.shadow(
            "digits/undefended", 4, options={**options, "shadows.seed": seed}, workers=1, runs_dir=tmp_path
        )
    found = list(sets(folder, 4, None))
    assert [shadowing.seed for shadowing, _ in found] == [0, 3]
    masks = [shadowed.members for _, shadowed in found]
    assert masks[0].shape == masks[1].shape
    assert (masks[0] != masks[1]).any()
    assert [len(rows(shadowed, [AttackR()], keep=True)) for _, shadowed in found] == [1, 1]
    assert not list(sets(folder, 6, None))
