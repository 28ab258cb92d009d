"""Candidates, known halves, flags and the null: each flag is raised where it must be and silent where it must not."""

import numpy as np
import pytest
import torch

from hampkit.attacks.threshold import Correctness, Loss, ModifiedEntropyPerClass, class_thresholds
from hampkit.config.recipe import JudgeConfig
from hampkit.judging import flags as checks
from hampkit.judging.case import Pool, build_case, score, shuffled
from hampkit.judging.evaluate import evaluate, judge_scores
from hampkit.judging.results import AttackResult
from hampkit.stats import metrics, pairs
from hampkit.types import Dataset, Domain


def make_case(members=60, others=60, gap=2.0, seed=0, judge=None):
    rng = np.random.default_rng(seed)
    n = members + others
    y = torch.from_numpy(rng.integers(0, 3, n))
    logits = torch.from_numpy(rng.normal(size=(n, 1, 3)))
    logits[torch.arange(n), 0, y] += 1 + gap * (torch.arange(n) < members)
    pool = Dataset("p", torch.arange(n, dtype=torch.float32).unsqueeze(-1), y, 3, Domain.grid((1,), 0, 1, 0))
    return build_case(Pool(pool, members), logits, judge or JudgeConfig(), seed)


@pytest.mark.parametrize(("members", "others"), [(60, 60), (40, 160)])
def test_candidates_are_held_out_and_in_no_telling_order(members, others):
    case = make_case(members, others)
    e, known = case.evidence, case.evidence.known
    assert known is not None
    candidates, told = set(e.x.flatten().int().tolist()), set(known.x.flatten().int().tolist())
    assert not candidates & told
    assert candidates | told == set(range(members + others))
    assert case.member.sum() == members // 2
    assert (~case.member).sum() == others // 2
    assert np.array_equal(case.member, e.x.flatten().numpy() < members)
    assert np.array_equal(case.known_member, known.x.flatten().numpy() < members)
    assert known.fit.sum() == int(0.45 * members) + int(0.45 * others)
    assert not (case.member[: members // 2]).all(), "members do not come first"


def test_all_candidates_is_the_published_choice_and_flagged_where_it_flatters():
    case = make_case(judge=JudgeConfig(candidates="all"))
    assert len(case.member) == 120
    for attack, flagged in ((Loss(), False), (ModifiedEntropyPerClass(), True)):
        result = judge_scores(attack, *score(attack, case), case, JudgeConfig(candidates="all"))
        assert ("overlapping" in result.flags) == flagged


def test_a_result_says_what_its_scores_say():
    case = make_case(members=400, others=400)
    scores, known = score(Loss(), case)
    result = judge_scores(Loss(), scores, known, case, JudgeConfig())
    assert result.auc == metrics.auc_interval(scores, case.member)
    assert result.tpr_at_fpr[1].value == metrics.tpr_at_fpr(scores, case.member, 0.01)
    assert result.tnr_at_fnr[2].value == metrics.tnr_at_fnr(scores, case.member, 0.1)
    threshold = metrics.best_threshold(known, case.known_member)
    assert result.balanced_accuracy.value == metrics.balanced_accuracy(scores, case.member, threshold)
    assert result.balanced_accuracy.value < metrics.balanced_accuracy(scores, case.member) + 1e-12
    assert AttackResult.from_json(result.to_json()) == result


def test_strict_is_passed_on():
    case = make_case(members=400, others=400)
    scores, known = score(Loss(), case)
    loose, strict = (judge_scores(Loss(), scores, known, case, JudgeConfig(strict=s)) for s in (False, True))
    assert (loose.tpr_at_fpr[1].errors, strict.tpr_at_fpr[1].errors) == (2, 1)


def test_shuffled_membership_keeps_the_counts_and_nothing_else():
    case = make_case(members=200, others=200)
    null = shuffled(case, 0)
    assert null.member.sum() == case.member.sum()
    assert null.known_member.sum() == case.known_member.sum()
    assert 0.3 < (null.member == case.member).mean() < 0.7
    assert null.evidence.known is not None
    assert np.array_equal(null.evidence.known.member.numpy(), null.known_member)


def test_the_null_is_calibrated():
    """200 shuffles of one overfitted model: the 95 % interval covers 0.5 in 90 to 99 % of cases, for a fitted attack too."""
    case, hits = make_case(members=160, others=160), {"loss": 0, "per class": 0}
    for seed in range(200):
        null = shuffled(case, seed)
        for name, attack in (("loss", Loss()), ("per class", ModifiedEntropyPerClass())):
            scores, _ = score(attack, null)
            interval = metrics.auc_interval(scores, null.member)
            hits[name] += interval.low <= 0.5 <= interval.high
    for name, count in hits.items():
        assert 0.90 <= count / 200 <= 0.99, name


def test_the_null_of_a_label_only_attack_is_calibrated():
    """Few distinct values: the plain DeLong interval would be too narrow here."""
    case, hits = make_case(members=160, others=160, gap=4.0), 0
    for seed in range(200):
        null = shuffled(case, seed)
        interval = metrics.auc_interval(score(Correctness(), null)[0], null.member)
        hits += interval.low <= 0.5 <= interval.high
    assert 0.90 <= hits / 200 <= 1.0


def test_unresolved():
    assert checks.resolved(0.001, 10_000)
    assert not checks.resolved(0.001, 9_999)
    assert checks.resolved(0.1, 100)


def tied(scores, member, rate, strict=False):
    return pairs.tied(metrics.count(scores, member), rate, strict)


def test_tied():
    member = np.arange(4000) < 2000
    distinct = np.random.default_rng(0).permutation(4000).astype(float)
    assert not tied(distinct, member, 0.001)
    assert tied((distinct > 3000).astype(float), member, 0.001)
    saturated = np.where(distinct > 3950, 1e9, distinct)
    assert tied(saturated, member, 0.001), "confident answers that tie at the top"
    middle = np.where((distinct > 1000) & (distinct < 3000), 2000.0, distinct)
    assert not tied(middle, member, 0.001), "ties far from both thresholds do no harm"
    below = np.where(distinct < 1000, 0.0, distinct)
    assert tied(below, member, 0.001), "ties at the bottom keep the TNR from being read off"
    pair = np.r_[np.arange(100), 200.0, 200.0]  # the two highest non-members tie, and none is allowed
    assert not tied(np.r_[np.full(100, 300.0), pair], np.arange(202) < 100, 0.0), "nothing is lost by this tie"
    four = np.r_[np.full(3997, -1.0), 4.0, 3.0, 2.0, 1.0]
    assert not tied(np.r_[-9.0, four], np.arange(4002) < 1, 0.001, strict=True), "three fit below 0.1 % of 4,001"


def test_inverted_and_off_null():
    rng = np.random.default_rng(0)
    member = np.arange(200) < 100
    against = rng.normal(size=200) - member
    assert "inverted" in evaluate(against, member).flags
    assert "inverted" not in evaluate(rng.normal(size=200), member).flags
    assert checks.off_null(against, member)


def test_masked():
    rng = np.random.default_rng(0)
    member = np.arange(2000) < 1000
    right = (rng.random(2000) < np.where(member, 0.95, 0.6)).astype(float)
    hidden, honest = rng.normal(size=2000), right * 3 + rng.normal(size=2000)
    assert checks.masked(hidden, right, member)
    assert not checks.masked(honest, right, member)


def test_shifted_finds_other_inputs_and_other_labels_and_nothing_else():
    rng = np.random.default_rng(0)
    member, new = np.arange(400) % 2 == 0, np.arange(400) % 2 == 1
    x, z, y, v = rng.normal(size=(400, 5)), rng.normal(size=(400, 5)), rng.integers(0, 3, 400), rng.integers(0, 3, 400)
    assert not any(
        checks.shift(x, y, rng.permutation(member), z, v, rng.permutation(new), seed)[1] for seed in range(8)
    )
    assert checks.shift(x + member[:, None], y, member, z + new[:, None], v, new, 0)[1]
    assert checks.shift(x, y + 3 * member, member, z, v + 3 * new, new, 0)[1]
    assert not checks.shift(x, y, np.ones(400, bool), z, v, new, 0)[1]


def test_shifted_finds_classes_whose_numbers_have_no_order():
    """Half of 100 classes, drawn at random, are twice as likely among members."""
    rng = np.random.default_rng(0)
    x, member = rng.normal(size=(4000, 50)), np.arange(4000) % 2 == 0
    y = 2 * rng.integers(0, 50, 4000) + (rng.random(4000) < np.where(member, 2, 1) / 3)
    y = rng.permutation(100)[y]
    new = rng.permutation(4000)[:2000]
    known = np.setdiff1d(np.arange(4000), new)
    assert checks.shift(x[known], y[known], member[known], x[new], y[new], member[new], 0)[1]


def test_without_inputs_the_baseline_is_the_share_of_members_of_each_class():
    """The AUC is that of shares counted one class at a time; a class that nobody knows has a share of one half."""
    rng = np.random.default_rng(2)
    y, member = rng.integers(0, 6, 600), rng.random(600) < 0.5
    y[member & (rng.random(600) < 0.3)] = 1
    known, new = np.arange(300)[y[:300] != 5], np.arange(300, 600)
    nothing = np.empty((600, 0))
    share = {c: (member[known][y[known] == c].sum() + 1) / ((y[known] == c).sum() + 2) for c in range(6)}
    assert share[5] == 0.5
    slow = metrics.auc_interval(np.array([share[c] for c in y[new]]), member[new])
    found, surely = checks.shift(nothing[known], y[known], member[known], nothing[new], y[new], member[new], 0)
    assert (found, surely) == (slow, True)
    drawn = [rng.permutation(member) for _ in range(40)]
    claims = [checks.shift(nothing[known], y[known], m[known], nothing[new], y[new], m[new], 0)[1] for m in drawn]
    assert sum(claims) <= 1


def test_class_thresholds_equal_a_loop():
    rng = np.random.default_rng(3)
    scores, member, y = rng.normal(size=90), rng.random(90) < 0.5, rng.integers(0, 4, 90)
    member[y == 3] = True  # no known non-member of class 3
    found = class_thresholds(scores, member, y, 5)
    overall = metrics.best_threshold(scores, member)
    for c in range(5):
        mine = y == c
        if c < 3:
            best = max(
                sorted(set(scores[mine]), reverse=True),
                key=lambda t, mine=mine: metrics.balanced_accuracy(scores[mine], member[mine], t),
            )
            assert found[c] == best
        else:
            assert found[c] == overall


def test_domain_samples_what_it_says():
    rng = torch.Generator().manual_seed(0)
    binary = Domain.grid((5,), 0, 1, 1).sample(4000, rng)
    assert set(binary.unique().tolist()) == {0.0, 1.0}
    assert binary.mean(0).sub(0.5).abs().max() < 0.05
    pixels = Domain.grid((1, 2, 2), 0, 254, 1).sample(2000, rng)
    assert pixels.shape == (2000, 1, 2, 2)
    assert (pixels == pixels.round()).all()
    assert pixels.min() < 5
    assert pixels.max() <= 254
    assert pixels.max() > 249
    mixed = Domain(torch.tensor([-1.0, 0, 0, 0]), torch.tensor([3.0, 1, 1, 1]), torch.tensor([0.0, 1, 1, 1]), ((1, 4),))
    x = mixed.sample(3000, rng)
    assert (x[:, 1:].sum(-1) == 1).all()
    assert x[:, 1:].mean(0).sub(1 / 3).abs().max() < 0.05
    assert -1 <= x[:, 0].min() < -0.9
    assert 2.9 < x[:, 0].max() <= 3


def test_answers_are_constant_only_up_to_rounding():
    rng = np.random.default_rng(0)
    answers, offset = rng.normal(size=(200, 3)) * 1e-5, rng.normal(size=(200, 1)) * 100
    assert not checks.constant(answers), "an early-stopped or heavily smoothed network differs little"
    assert not checks.constant(1e4 + rng.normal(size=(200, 3)) * 0.3), "a number added to all logits has no effect"
    assert not checks.constant([20.0, -20.0, 0.0] + rng.normal(size=(200, 3)) * 1e-3), "large biases"
    same = np.tile([20.0, -20.0, 0.0], (200, 1))
    assert checks.constant(same)
    assert checks.constant((same + offset).astype(np.float32)), "the same probabilities, rounded"
    assert checks.constant((same * (1 + rng.normal(size=(200, 3)) * 1e-7)).astype(np.float32)), "rounded"
    assert not checks.constant(np.zeros((200, 2)) + [0.0, 1.0] * rng.integers(0, 2, (200, 1)))
