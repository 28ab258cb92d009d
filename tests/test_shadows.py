"""Shadow runs: shared, resumed, checked, never taken for others; leave-one-out and its intervals; the plan."""

import csv
import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

import hampkit
from hampkit import UserError
from hampkit.attacks import Shadows
from hampkit.attacks.held_out import sides
from hampkit.attacks.lira import LiraGlobal, LiraOffline, LiraOfflineFixed, LiraOnline, LiraOnlineFixed
from hampkit.attacks.reference import AttackP, AttackR
from hampkit.attacks.rmia import Rmia, RmiaOffline
from hampkit.config.recipe import ShadowConfig, load_recipe
from hampkit.data.splits import shadow_members
from hampkit.judging.leave_one_out import records, repeated_scores, scores_of, variance_used
from hampkit.judging.verdict import limits
from hampkit.launch.local import LocalProcesses, run_jobs
from hampkit.runs.run_files import write_run
from hampkit.runs.store import Run, write_json
from hampkit.shadow_models.base import ShadowSet
from hampkit.shadow_models.train import folder_of
from hampkit.signals import confidence
from hampkit.stats import clustered, metrics
from hampkit.stats.exposure import exposure
from hampkit.workflows.prepare import prepare
from hampkit.workflows.session import Session
from hampkit.workflows.shadow import for_each_other, for_target, plan_shadows, train_shadow_models
from hampkit.workflows.train import content_of

QUICK = {"rows": 600, "features": 24, "classes": 4, "flip": 0.35, "epochs": 6, "neural.epochs": 2, "net": "mlp-small"}
WORDS = [f"{k}={v}" for k, v in QUICK.items()]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shadows") / "runs"
    return folder, hampkit.run("toy/undefended", options=QUICK, shadows=8, workers=1, runs_dir=folder)


def problem_of(folder, models=8, **options):
    texts = {k: str(v) for k, v in {**QUICK, **options, "shadows.models": models}.items()}
    return prepare(load_recipe("toy/undefended", texts), Session(runs_dir=folder))


def signals(folder):
    """The signals of every finished job, by its place in the run; what is being written meanwhile is hidden."""
    parts = sorted(Path(folder).glob("shadows/*/[0-9]*/scaled_logit.npy"))
    return {str(p.relative_to(folder)): p.read_bytes() for p in parts}


def test_a_run_with_shadows_attacks_with_them_and_repeats_them(runs):
    folder, results = runs
    (model,) = results.models
    names = {a.attack for a in model.attacks}
    variants = {f"lira-{v}" for v in ("online", "online-fixed", "offline", "offline-fixed", "global")}
    assert variants | {"rmia", "rmia-offline", "attack-r", "attack-p", "loss", "neural", "label-only", "rank"} <= names
    assert len({(a.members, a.nonmembers) for a in model.of("target")}) == 1, "all on the same candidates"
    others = {"rmia", "rmia-offline", "attack-r", "attack-p", "label-only", "rank"}
    assert {r.attack for r in model.of("leave-one-out")} == variants | others
    online = next(r for r in model.of("leave-one-out") if r.attack == "lira-online")
    assert online.auc.low > 0.5, "models as small as these remember"
    assert (online.targets, online.examples) == (8, len(problem_of(folder).task.pool))
    document = json.loads((folder / "results.json").read_text())
    from jsonschema import Draft202012Validator

    from hampkit.report import load_schema

    Draft202012Validator(load_schema()).validate(document)
    assert hampkit.ModelResult.from_json(document["models"][0]) == model
    for name in ("report.html", "report.md"):
        assert "eave-one-out" in (folder / name).read_text()


def test_the_page_has_the_most_exposed_records_and_the_losses_on_a_logit_scale(runs):
    runs_dir, results = runs
    page, folder = (runs_dir / "report.html").read_text(), runs_dir / results.models[0].run
    lines = list(csv.DictReader((folder / "records.csv").read_text().splitlines()))
    details = json.loads((folder / "details.json").read_text())
    assert len(details["records"]["first"]) == 10
    assert details["records"]["first"] == lines[:10]
    assert f'<tr><th scope="row">{lines[0]["row"]}</th><td>{lines[0]["label"]}</td>' in page
    histogram, task = details["histogram"], problem_of(runs_dir).task
    (answers,) = folder.glob("answers/*/own.npy")
    p = confidence(np.load(answers), task.pool.y.numpy())
    edges, member = np.array(histogram["before"]["edges"]), task.members[0].numpy()
    logit = np.clip(np.log(p / (1 - p)), edges[0], edges[-1])
    counts = np.histogram(logit[member], edges)[0]
    assert np.abs(counts - histogram["before"]["members"]).sum() <= 2  # the edges are rounded
    assert sum(histogram["before"]["nonmembers"]) == (~member).sum()
    assert histogram["scale"] == "logit"


def test_results_and_tables_name_the_variance_that_was_used(runs, cli):
    folder, results = runs
    (model,) = results.models
    for found in map(model.of, ("target", "leave-one-out")):
        used = {r.attack: r.variance for r in found}
        by_lira = {k for k in used if (k.startswith("lira") and k != "lira-global") or k in ("label-only", "rank")}
        assert {used[k] for k in by_lira} == {"pooled"}
        assert {used[k] for k in used if k not in by_lira} == {""}
    document = json.loads((folder / "results.json").read_text())["models"][0]
    assert [r["variance"] for r in document["attacks"] if r["attack"] == "lira-online"] == ["pooled", "pooled"]
    assert "lira-online (pooled variance)" in (folder / "report.html").read_text()
    assert (folder / "report.md").read_text().count("lira-online (pooled variance)") >= 2
    lines = csv.DictReader((folder / "results.csv").read_text().splitlines())
    assert [line["variance"] for line in lines if line["attack"] == "lira-online"] == ["pooled", "pooled"]


def test_the_variance_that_was_used_is_that_of_the_targets():
    shadows, _ = made_up(68, 30, scheme="published")
    assert LiraOnline().variance_used(*shadows.sizes()) == "per-example"
    assert LiraOffline(variance="global").variance_used(*shadows.sizes()) == "global"
    assert variance_used(LiraOnline(), shadows, range(68)) == "per-example"
    assert variance_used(LiraOnlineFixed(), shadows, range(68)) == "pooled"
    counts = np.ones_like(shadows.members)
    counts[np.flatnonzero(~shadows.members[:, 0])[:3], 0] = (
        False  # 31 OUT models of one example: 30 or 31 without a target
    )
    few = replace(shadows, counts=counts)
    assert LiraOnline().variance_used(*few.sizes()) == "per-example and pooled"
    assert LiraOffline().variance_used(*few.sizes()) == "pooled"
    assert "pooled" in variance_used(LiraOnline(), few, range(68))


def test_records_name_every_example_once_most_exposed_first(runs):
    folder, results = runs
    lines = (folder / results.models[0].run / "records.csv").read_text().splitlines()
    rows = [dict(zip(lines[0].split(","), line.split(","), strict=True)) for line in lines[1:]]
    pool = problem_of(folder).task.pool
    assert len(rows) == len(pool) == len({r["row"] for r in rows})
    lows = [float(r["low"]) for r in rows]
    assert lows == sorted(lows, reverse=True)
    assert all(float(r["low_all"]) < float(r["low"]) < float(r["high"]) < float(r["high_all"]) for r in rows)
    assert all(float(r["advantage_low"]) <= float(r["advantage"]) <= float(r["advantage_high"]) for r in rows)
    problem, at = problem_of(folder), {int(r["row"]): r for r in rows}
    parts = sorted(folder.glob("toy-*/shadows/*/[0-9]*/scaled_logit.npy"))
    answers = np.concatenate([np.load(part) for part in parts]).mean(axis=2, dtype=np.float64)
    config = problem.recipe.shadows
    masks = shadow_members(8, len(pool), config.seed, config.scheme, problem.units()).numpy()
    expected = exposure(answers, masks)
    for place, mu, p in zip(problem.places().tolist(), expected.mu, expected.adjusted, strict=True):
        assert float(at[place]["mu"]) == pytest.approx(mu, rel=1e-4)
        assert float(at[place]["adjusted_p"]) == pytest.approx(p, rel=1e-4)
    summary = results.models[0].exposure
    assert summary["judged"] == len(pool)
    assert summary["exposed"] == sum(r["exposed"] == "yes" for r in rows)
    assert all(r["in_models"] == r["out_models"] == "4" for r in rows)


def test_records_are_of_an_attack_turned_around_where_it_points_the_wrong_way(tmp_path, monkeypatch):
    """The first of them are the most exposed, not those that it takes for members least."""
    from hampkit.workflows import leave_one_out as repeat

    def below(attack, shadows, targets, step):
        members = shadows.membership()[targets]
        return np.random.default_rng(0).normal(size=members.shape) - members

    monkeypatch.setattr(repeat, "repeated_scores", below)
    options = {"options": QUICK | {"epochs": 1, "rows": 200}, "shadows": 4, "workers": 1, "attacks": ["attack-r"]}
    results = hampkit.run("toy/undefended", runs_dir=tmp_path, **options)
    (model,) = results.models
    assert model.of("leave-one-out")[0].auc.high < 0.5, "else it shows nothing"
    table = csv.DictReader((tmp_path / model.run / "records.csv").open())
    separations = [float(row["separation"]) for row in table]
    assert np.mean(separations) > 0
    assert separations[0] > 0


def test_every_defense_gets_the_same_masks_and_sets_as_large_as_the_targets(runs):
    folder, _ = runs
    problem = problem_of(folder)
    members = problem.shadow_task().of(problem.recipe.shadows).masks()
    hamp = prepare(
        replace(load_recipe("toy/hamp", {k: str(v) for k, v in QUICK.items()}), shadows=ShadowConfig(8)), Session()
    )
    assert np.array_equal(members, hamp.shadow_task().of(hamp.recipe.shadows).masks())
    assert set(members.sum(1).tolist()) == {int(problem.task.members.sum())}
    assert (members.sum(0) == 4).all()


def test_shadows_are_found_again_and_more_are_added(runs):
    folder, results = runs
    run = folder / results.models[0].run
    before = signals(run)
    hampkit.shadow("toy/undefended", 8, options=QUICK, workers=1, runs_dir=folder)
    assert signals(run) == before
    hampkit.shadow("toy/undefended", 12, options=QUICK, workers=1, runs_dir=folder)
    after = signals(run)
    assert len(after) >= len(before)
    assert before.items() <= after.items()


def test_records_of_an_earlier_result_do_not_stay(tmp_path):
    results = hampkit.run(
        "toy/undefended", options=QUICK, shadows=4, workers=1, attacks=["attack-r"], runs_dir=tmp_path
    )
    run = tmp_path / results.models[0].run
    assert (run / "records.csv").is_file()
    results = hampkit.run("toy/undefended", options=QUICK, attacks=["loss"], runs_dir=tmp_path)
    assert tmp_path / results.models[0].run == run
    assert not results.models[0].of("leave-one-out")
    assert not (run / "records.csv").exists()


OTHERS = [{"lr": 0.002}, {"rows": 640}, {"seed": 1}, {"shadows.seed": 1}, {"shadows.scheme": "published"}]


@pytest.mark.parametrize("change", OTHERS)
def test_nothing_old_is_taken_for_another_recipe_data_or_masks(runs, change):
    folder, results = runs
    other = problem_of(folder, **change)
    same_run = other.folder == results.models[0].run
    assert not same_run or folder_of(other.recipe.shadows) != folder_of(problem_of(folder).recipe.shadows)


def test_published_masks_of_another_number_are_other_masks():
    assert folder_of(ShadowConfig(8, "published")) != folder_of(ShadowConfig(16, "published"))
    assert folder_of(ShadowConfig(8, "paired")) == folder_of(ShadowConfig(16, "paired"))


def test_a_damaged_signals_file_is_noticed_and_only_its_job_is_made_again(runs):
    folder, results = runs
    run = folder / results.models[0].run
    before, times = signals(run), {p: p.stat().st_mtime_ns for p in run.rglob("scaled_logit.npy")}
    victim = run / next(iter(before))
    victim.write_bytes(victim.read_bytes()[:-4] + b"spam")
    hampkit.shadow("toy/undefended", 8, options=QUICK, workers=1, runs_dir=folder)
    assert signals(run) == before
    changed = [p for p, t in times.items() if p.stat().st_mtime_ns != t]
    assert changed == [victim]


def test_processes_and_one_process_give_the_same_signals(tmp_path):
    """The same threads in both: a matrix product of two threads may differ in the last digit."""
    problem = problem_of(tmp_path)
    run = Run.create(tmp_path, problem.folder, lambda f: write_run(content_of(problem), f))
    from hampkit.shadow_models.mode import ExecutionMode

    one, two = ExecutionMode(threads=1, job=2), ExecutionMode(threads=1, job=2, workers=2)

    def trained(mode):
        task = problem.shadow_task().of(ShadowConfig(4))
        run.step(f"{folder_of(task.config)}/launch", lambda f: write_json(f / "mode.json", asdict(mode)))
        return train_shadow_models(replace(problem, recipe=task.recipe), run, Session(runs_dir=tmp_path))

    alone = trained(one)
    first = [np.array(p) for p in alone.parts]
    import shutil

    shutil.rmtree(run.folder / "shadows")
    both = trained(two)
    assert all(np.array_equal(a, b) for a, b in zip(first, both.parts, strict=True))


# the command, which kills itself, not its workers, when it hears of the n-th job that is done
DYING = """
import os, signal, sys
from hampkit.__main__ import main
from hampkit.launch import local

def told(function, context, jobs, workers, event):
    def count(message):
        global left
        event(message)
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    run_jobs(function, context, jobs, workers, count)

left = int(sys.argv.pop(1))
run_jobs, local.run_jobs = local.run_jobs, told
main()
"""


@pytest.mark.slow
def test_killed_while_training_shadows_the_signals_are_the_same_bytes(tmp_path):
    """Ten times, as the next jobs appeared; what was there is never lost, and no worker stays behind."""
    import signal

    from hampkit.shadow_models.mode import ExecutionMode

    models = 40

    def prepared(folder):
        """A run whose jobs hold one model each, so that there is something to interrupt."""
        problem = problem_of(folder / "runs", models)
        run = Run.create(folder / "runs", problem.folder, lambda f: write_run(content_of(problem), f))
        mode = asdict(ExecutionMode(threads=1, workers=2, job=1))
        run.step(f"{folder_of(problem.recipe.shadows)}/launch", lambda f: write_json(f / "mode.json", mode))
        return run.folder

    def start(folder, at=0):
        command = ["shadow", "toy/undefended", *WORDS, "--models", str(models)]
        return subprocess.run([sys.executable, "-c", DYING, str(at), *command], cwd=folder, stdout=subprocess.DEVNULL)

    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    whole, interrupted = prepared(tmp_path / "whole"), prepared(tmp_path / "killed")
    assert start(tmp_path / "whole").returncode == 0
    for k in range(10):
        before = signals(interrupted)
        assert start(tmp_path / "killed", 1 + k % 3).returncode == -signal.SIGKILL
        assert before.items() <= signals(interrupted).items()
    assert start(tmp_path / "killed").returncode == 0
    assert len(signals(whole)) == models
    assert signals(whole) == signals(interrupted)
    assert not list(interrupted.rglob("*.partial"))


# leave-one-out


def made_up(models=16, examples=300, gap=0.0, seed=0, scheme="paired"):
    rng = np.random.default_rng(seed + 10**6)  # not that of the masks
    members = shadow_members(models, examples, seed, scheme).numpy()
    s = (rng.normal(0, 2, examples) + rng.normal(0, 1, (models, examples)) + gap * members).astype(np.float32)
    z = rng.normal(0, 2, (models, 100)).astype(np.float32)
    return Shadows((s[..., None],), members, z, np.arange(examples), np.arange(models)), members


@pytest.mark.parametrize("attack", [LiraOnline(), Rmia()], ids=lambda a: a.name)
def test_a_target_is_attacked_without_itself_and_without_its_twin(attack):
    shadows, _ = made_up(8, 50, gap=2.0)
    scores = repeated_scores(attack, shadows)
    s, z = shadows.signals(), shadows.background()
    for t in (0, 3, 7):
        others = np.array([m for m in range(8) if m not in (t, t ^ 1)])
        alone = replace(shadows, models=others)
        expected = attack.score_signals(s[t][:, None].astype(float), z[t].astype(float), alone)
        assert np.allclose(scores[t], expected, rtol=1e-9, atol=1e-9)
    poisoned = s.copy()
    poisoned[[0, 1]] = np.nan
    clean = repeated_scores(attack, replace(shadows, models=np.arange(8)))[0]
    moved = replace(shadows, parts=(np.where(np.arange(8)[:, None] == 1, 99, s)[..., None].astype(np.float32),))
    assert np.allclose(repeated_scores(attack, moved)[0], clean, atol=1e-9), "the twin plays no part"


def one_by_one(attack, shadows, targets=None):
    return np.stack([scores_of(t, attack, shadows) for t in (targets or range(len(shadows)))])


EVERY_WAY = [
    *(LiraOnline(variance=v) for v in ("auto", "per-example", "global", "moderated")),
    LiraOnline(center="median"), LiraOnline(variance="moderated", center="median"),
    LiraOnlineFixed(variance="global"), LiraOffline(), LiraOffline(variance="moderated"), LiraOfflineFixed(), LiraGlobal(),
    Rmia(), RmiaOffline(), RmiaOffline(a=0.3), Rmia(score="share"), RmiaOffline(score="share", gamma=1.0, a=1.0),
    AttackR(), AttackP(),
]  # fmt: skip


def hard(scheme, untrained=(), missing=0.0, models=12):
    """Two views in two parts; scores of all sizes, one example with equal scores, one with a score beyond all others."""
    shadows, members = made_up(models, 60, gap=1.0, scheme=scheme)
    s = shadows.parts[0] * np.geomspace(0.1, 1e3, 60)[:, None].astype(np.float32)
    s[:, 3], s[1, 5], s[:, 6] = 1.5, 1e4, np.where(np.arange(models) == 2, 0.0, -800.0)[:, None]
    s = np.concatenate([s, s[::-1] + 1], axis=2)
    counts = np.random.default_rng(0).random(members.shape) >= missing
    counts[list(untrained)] = False
    counts = None if counts.all() else counts
    return replace(shadows, parts=(s[:5], s[5:]), counts=counts), [t for t in range(models) if t not in untrained]


@pytest.mark.parametrize("attack", EVERY_WAY, ids=str)
def test_all_targets_at_once_are_as_one_by_one(attack):
    for scheme in ("paired", "published"):
        for how in (
            {},
            {"untrained": (5,)},
            {"untrained": (4, 5)},
            {"missing": 0.05},
            {"missing": 0.05, "models": 14},
            {"models": 6},
        ):
            shadows, targets = hard(scheme, **how)
            fast = repeated_scores(attack, shadows, targets)
            slow = one_by_one(attack, shadows, targets)
            assert np.allclose(fast, slow, rtol=1e-9, atol=1e-9), (scheme, how)


@pytest.mark.parametrize("scheme", ["paired", "published"])
@pytest.mark.parametrize("attack", [LiraOnline(), Rmia(), RmiaOffline(), AttackR()], ids=lambda a: a.name)
def test_four_models_at_once_are_as_one_by_one(attack, scheme):
    shadows, _ = hard(scheme, models=4)
    assert np.allclose(repeated_scores(attack, shadows), one_by_one(attack, shadows), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("scheme", ["paired", "published"])
def test_too_few_models_are_refused_alike(scheme):
    shadows, _ = made_up(8, 40, scheme=scheme)
    counts = np.ones_like(shadows.members)
    counts[np.flatnonzero(~shadows.members[:, 7])[1:], 7] = (
        False  # one OUT model of one example, and it is a target too
    )
    shadows = replace(shadows, counts=counts)
    for attack in (LiraOnline(), LiraOnline(variance="per-example"), Rmia(), AttackR()):
        with pytest.raises(UserError) as fast:
            repeated_scores(attack, shadows)
        with pytest.raises(UserError) as slow:
            one_by_one(attack, shadows)
        assert str(fast.value) == str(slow.value)


@pytest.mark.parametrize("scheme", ["paired", "published"])
@pytest.mark.parametrize(
    "attack",
    [LiraOnline(), LiraOnlineFixed(), LiraOffline(), Rmia(), RmiaOffline(a=0.3), AttackR()],
    ids=lambda a: a.name,
)
def test_targets_that_leak_nothing_are_at_chance_with_few_models_too(attack, scheme):
    """With the published masks an example's own side has one model fewer without the target: online LiRA had 0.46."""
    aucs = []
    for seed in range(12):
        shadows, members = made_up(8, 500, seed=seed, scheme=scheme)
        aucs.append(metrics.auc(repeated_scores(attack, shadows).ravel(), members.ravel()))
    assert abs(np.mean(aucs) - 0.5) < 0.012  # four standard errors


@pytest.mark.parametrize("models", [4, 8, 16])
def test_both_sides_of_every_example_are_as_large_whoever_the_target_is(models):
    shadows, members = made_up(models, 200, scheme="published")
    for t in range(models):
        left = shadows.without(t)
        assert t not in left.models
        inside, outside = sides(left.membership(), left.counted())
        assert set(inside.sum(0)) == set(outside.sum(0)) == {models // 2 - 1}
    dropped = np.stack([~shadows.without(0).counts[m] for m in range(1, models)])
    assert (dropped.sum(0) == 1).all(), "one of the other side, and none of its own"
    assert not (dropped & (members[1:] == members[0])).any()
    assert (dropped.sum(1) > 0).all(), "one for some examples, another for others"


def test_shuffled_membership_gives_chance_with_calibrated_clustered_intervals():
    """200 repetitions: the 95 % intervals of AUC and of TPR at 1 % and 0.1 % FPR cover chance in 90 % or more of cases."""
    auc, rates = 0, dict.fromkeys((0.01, 0.001), 0)
    for seed in range(200):
        shadows, members = made_up(10, 200, gap=0.0, seed=seed)
        scores = repeated_scores(LiraOnline(), shadows)
        interval = clustered.auc_interval(scores, members)
        auc += interval.low <= 0.5 <= interval.high
        for rate, point in zip(rates, clustered.tpr_points(scores, members, list(rates)), strict=True):
            rates[rate] += point.low <= rate <= point.high
    assert 0.90 <= auc / 200 <= 0.99
    assert min(rates.values()) / 200 >= 0.90, rates


def test_clustered_intervals_cover_where_models_differ_and_naive_ones_do_not():
    """Effects that differ between models: the truth is that of many models."""
    rng = np.random.default_rng(0)

    def draw(models):
        member = rng.random((models, 300)) < 0.5
        effect = 1 + 0.5 * rng.standard_normal((models, 1))
        return rng.standard_normal((models, 300)) + effect * member, member

    s, m = draw(6000)
    truth, rate = metrics.auc(s.ravel(), m.ravel()), metrics.tpr_at_fpr(s.ravel(), m.ravel(), 0.01)
    wide = naive = tpr = narrow = 0
    for _ in range(200):
        s, m = draw(16)
        a, b = clustered.auc_interval(s, m), metrics.auc_interval(s.ravel(), m.ravel())
        p, q = clustered.tpr_point(s, m, 0.01), metrics.tpr_point(s.ravel(), m.ravel(), 0.01)
        assert a.high - a.low > b.high - b.low
        wide, naive = wide + (a.low <= truth <= a.high), naive + (b.low <= truth <= b.high)
        tpr, narrow = tpr + (p.low <= rate <= p.high), narrow + (q.low <= rate <= q.high)
    assert 0.90 <= wide / 200 <= 0.99
    assert tpr / 200 >= 0.90
    assert naive / 200 < 0.6
    assert narrow / 200 < 0.6


def test_naive_and_clustered_auc_agree_where_models_do_not_differ():
    rng, both = np.random.default_rng(1), [0, 0]
    for _ in range(200):
        m = rng.random((16, 200)) < 0.5
        s = rng.standard_normal((16, 200)) + m
        for k, i in enumerate((clustered.auc_interval(s, m), metrics.auc_interval(s.ravel(), m.ravel()))):
            both[k] += i.low <= 0.760250 <= i.high  # Φ(1/√2)
    assert all(0.90 <= count / 200 <= 0.99 for count in both)


def test_records_find_the_example_that_is_remembered():
    shadows, members = made_up(32, 100, gap=0.0)
    loud = shadows.parts[0].copy()
    loud[:, 7, 0] += 8 * members[:, 7]
    shadows = replace(shadows, parts=(loud,))
    scores = repeated_scores(LiraOnline(), shadows)
    found = records(scores, members, list(range(100)))
    assert found[0].row == 7
    assert found[0].advantage.low > 0.5
    assert found[0].separation > 2
    assert found[0].found == found[0].inside == 16


def test_shadow_models_that_learnt_nothing_are_no_targets_and_the_report_says_so(monkeypatch, runs, tmp_path):
    folder, results = runs
    monkeypatch.setattr("hampkit.shadow_models.train.untrained", lambda *_: (3,))
    run = folder / results.models[0].run
    found = hampkit.attack(run, "lira", shadows=8, workers=1, out=tmp_path).models[0].of("leave-one-out")
    assert {(r.targets, r.untrained, r.left_out) for r in found} == {(7, 1, 1)}
    assert [
        a.left_out for a in hampkit.attack(run, "lira", shadows=8, workers=1, out=tmp_path).models[0].attacks[:5]
    ] == [1] * 5
    assert found[0].auc != next(r for r in results.models[0].of("leave-one-out") if r.attack == found[0].attack).auc
    assert "left out: 1 that learnt next to nothing" in (tmp_path / "report.html").read_text()
    lines = (run / "records.csv").read_text().splitlines()
    assert {line.split(",")[12] for line in lines[1:]} == {"3", "4"}, "three or four of the seven saw each example"


def collapsed(shadows, *which):
    return ShadowSet(shadows.parts, shadows.members, shadows.population, "made up", untrained=which)


def test_collapsed_models_attack_neither_the_target_nor_one_another():
    shadows, _ = made_up(12, 60, gap=1.0)
    loud = shadows.parts[0].copy()
    loud[[5, 8]] = 99.0
    attack = LiraOnline()
    quiet, noisy = (for_target(collapsed(replace(shadows, parts=(p,)), 5, 8)) for p in (*shadows.parts, loud))
    assert quiet.models.tolist() == [0, 1, 2, 3, 4, 6, 7, 9, 10, 11]
    assert (quiet.left_out(), shadows.left_out()) == (2, 0)
    t, z = shadows.signals()[3][:, None].astype(float), shadows.background()[3]
    assert np.array_equal(attack.score_signals(t, z, quiet), attack.score_signals(t, z, noisy))
    quiet, loud = (collapsed(replace(shadows, parts=(p,)), 5, 8) for p in (*shadows.parts, loud))
    assert for_each_other(quiet).left_out() == 2
    quiet, loud = (repeated_scores(attack, for_each_other(s), s.targets()) for s in (quiet, loud))
    assert np.array_equal(quiet, loud)


def test_collapsed_models_stay_where_too_few_would_remain():
    for models, which, scheme in ((4, (0,), "paired"), (8, (0, 1, 2, 3, 4), "published")):
        shadowed = collapsed(made_up(models, 200, scheme=scheme)[0], *which)
        assert len(shadowed.for_target()) == models
        assert for_each_other(shadowed).left_out() == 0
        assert shadowed.used() == "made up"
    lonely = collapsed(
        made_up(6, 200)[0], 0, 2
    )  # of some examples one model of a side is left: none once it is the target
    assert len(lonely.for_target()) == 4
    assert lonely.used() == "made up-without-0-2"
    assert for_each_other(lonely).left_out() == 0
    assert lonely.targets() == [1, 3, 4, 5]


@pytest.mark.parametrize("scheme", ["paired", "published"])
def test_the_sizes_of_the_sides_tell_nothing_where_models_are_left_out(scheme):
    shadows, members = made_up(12, 400, scheme=scheme)
    shadowed = collapsed(shadows, 5, 8)
    shadows = for_each_other(shadowed)
    for t in shadowed.targets():
        left = shadows.without(t)
        assert not {t, 5, 8} & set(left.models.tolist())
        inside, outside = (side.sum(0) for side in sides(left.membership(), left.counted()))
        if scheme == "published":
            assert (inside == outside).all()
        else:  # its twin, or both of one of each, whoever the target is
            gone = list({5, 8, t, t ^ 1})
            assert (inside == 6 - members[gone].sum(0)).all()
            assert (outside == 6 - (~members[gone]).sum(0)).all()
            assert (members[t] != members[t ^ 1]).all()


@pytest.mark.parametrize("scheme", ["paired", "published"])
def test_targets_that_leak_nothing_are_at_chance_where_models_are_left_out(scheme):
    """With the published masks and sides of unequal size online LiRA had 0.521."""
    aucs = []
    for seed in range(24):
        shadows, members = made_up(8, 400, seed=seed, scheme=scheme)
        shadowed = collapsed(shadows, 2, 3)
        scores = repeated_scores(LiraOnline(), for_each_other(shadowed), shadowed.targets())
        aucs.append(metrics.auc(scores.ravel(), members[shadowed.targets()].ravel()))
    assert abs(np.mean(aucs) - 0.5) < 0.01  # four standard errors


def test_one_collapsed_target_would_swallow_all_the_errors_that_are_allowed():
    """Its answers are flat, so that RMIA ranks all its hard examples high, whoever saw them."""
    shadows, members = made_up(32, 400, gap=2.0)
    flat = shadows.parts[0].copy()
    flat[5] = 0.0
    shadows = replace(shadows, parts=(flat,))
    targets = collapsed(shadows, 5).targets()
    assert targets == [m for m in range(32) if m != 5]
    scores = {len(t): repeated_scores(Rmia(), shadows, t) for t in (list(range(32)), targets)}
    all_, rest = (clustered.tpr_point(scores[n], members[t], 0.001).value for n, t in ((32, range(32)), (31, targets)))
    assert rest > 2 * all_


# the plan, processes, mistakes


def test_the_plan_says_what_it_will_cost_and_what_it_can_show():
    found = hampkit.plan("toy/undefended", 16, options=QUICK, workers=1)
    assert found.models == 16
    assert 0 < found.seconds < 600
    examples = int(problem_of(Path("runs"), 16).once.sum())
    assert found.fpr_repeated == pytest.approx(10 / (16 * examples / 2))
    assert "16 shadow models" in found.line()


@pytest.mark.parametrize(
    "how", [{}, {"known_train": 0.2, "known_val": 0.1}, {"candidates": "all", "known_train": 0.6}], ids=str
)
def test_the_plan_counts_those_that_the_run_judges(monkeypatch, tmp_path, how):
    from hampkit.shadow_models import plan as planning

    monkeypatch.setattr(planning, "seconds_of", lambda problem, ways: [0.01] * len(ways))
    options = {**QUICK, **how, "split.layout": "digits", "rows": 1400, "train_size": 100}
    found = hampkit.plan("toy/undefended", 4, options=options, workers=1, runs_dir=tmp_path)
    results = hampkit.run("toy/undefended", options=options, attacks=["loss"], shadows=4, workers=1, runs_dir=tmp_path)
    loss = results.models[0].attacks[0]
    assert (found.n_members, found.n_nonmembers) == (loss.members, loss.nonmembers)
    assert found.fpr_target == 10 / loss.nonmembers
    assert found.left_out == 3 * 90
    assert f"{loss.members} members and {loss.nonmembers} non-members are judged (270 non-members" in found.line()


def test_disk_is_as_planned(runs):
    folder, results = runs
    run = folder / results.models[0].run
    plan = hampkit.plan("toy/undefended", 8, options=QUICK, workers=1, runs_dir=folder)
    used = [p for p in (run / "shadows" / "paired-0").rglob("*") if p.is_file() and "launch" not in p.parts]
    first = [p for p in used if int(p.parent.name.split("-")[1]) < 8]
    found = sum(p.stat().st_size for p in first)
    assert found == pytest.approx(plan.disk, rel=0.1)


def square(context):
    def work(job, tell):
        if job == context.get("bad"):
            raise UserError("job 3 is bad")
        tell({"square": job * job})

    return work


def test_jobs_run_in_processes_and_mistakes_come_back(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    seen = []
    run_jobs("test_shadows:square", {}, [1, 2, 3, 4], 2, lambda m: seen.append(m["square"]))
    assert sorted(seen) == [1, 4, 9, 16]
    with pytest.raises(UserError, match="job 3 is bad"):
        run_jobs("test_shadows:square", {"bad": 3}, [1, 2, 3, 4], 2, lambda m: None)


@pytest.mark.parametrize("models", [3, 2, 7, -4, 10**9])
def test_an_odd_or_small_number_is_one_clear_line(models, tmp_path):
    with pytest.raises(UserError, match="even number from 4 to 10000"):
        hampkit.run("toy/undefended", options=QUICK, shadows=models, runs_dir=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("models", [0, -2, 2, 5])
@pytest.mark.parametrize("command", [("plan", "--shadows"), ("shadow", "--models")], ids=lambda c: c[0])
def test_no_or_odd_shadow_models_are_neither_planned_nor_trained(cli, refused, nothing_written, command, models):
    refused(
        cli(command[0], "toy/undefended", *WORDS, command[1], models), f"shadows.models={models}", "even number from 4"
    )
    nothing_written()


def test_attacks_that_need_shadows_say_so(tmp_path):
    with pytest.raises(UserError, match="add --shadows M"):
        hampkit.run("toy/undefended", options=QUICK, attacks=["lira"], runs_dir=tmp_path / "runs")


def test_too_few_models_for_leave_one_out_are_named(tmp_path):
    """Of four paired models, two are left for a target: too few for one variance within examples, enough for a common one."""
    found = hampkit.run(
        "toy/undefended", options=QUICK, shadows=4, workers=1, attacks=["lira-online"], runs_dir=tmp_path
    )
    assert found.models[0].of("leave-one-out")[0].targets == 4
    options = {**QUICK, "lira-online.variance": "pooled"}
    text = "leave-one-out of 4 shadow models, attack lira-online: lira-online.variance=pooled needs at least 2"
    with pytest.raises(UserError, match=text):
        hampkit.run("toy/undefended", options=options, shadows=4, attacks=["lira-online"], runs_dir=tmp_path)


def test_an_attack_shows_the_leave_one_out_of_what_was_asked_for_with_its_options(runs, tmp_path):
    folder, results = runs
    run, given = folder / results.models[0].run, {"rmia-offline.score": "share"}
    hampkit.attack(run, "rmia-offline", options=given, shadows=8, workers=1, out=tmp_path)
    options = {"lira-online.variance": "global"}
    found = hampkit.attack(run, "lira-online", options=options, shadows=8, workers=1, out=tmp_path).models[0]
    assert [(r.attack, r.options) for r in found.of("leave-one-out")] == [("lira-online", {"variance": "global"})]
    rows = hampkit.write_report(run, out=tmp_path).models[0].of("leave-one-out")
    assert {r.attack: r.options for r in rows}["rmia-offline"] == {"score": "share"}
    labels = hampkit.attack(run, "correctness", shadows=8, workers=1, out=tmp_path)
    assert not labels.models[0].of("leave-one-out")
    assert "attacks with shadow models or many queries may find more" in limits(labels)


def test_an_attack_keeps_the_shadow_models_of_the_last_result(tmp_path):
    """Another attack, asked for without a number of shadow models, leaves leave-one-out and the records as they were."""
    first = hampkit.run("toy/undefended", options=QUICK, attacks=["loss"], shadows=4, workers=1, runs_dir=tmp_path)
    run = tmp_path / first.models[0].run
    moderated = {"lira-online.variance": "moderated"}  # possible with 6 models, not with the recipe's 4
    more = hampkit.attack(run, "lira-online", options=moderated, shadows=6, workers=1).models[0]
    records = (run / "records.csv").read_bytes()
    hampkit.attack(run, "loss", workers=1)
    document = json.loads((run / "result.json").read_text())
    left = hampkit.ModelResult.from_json(document)
    assert left.of("leave-one-out") == more.of("leave-one-out") != ()
    assert {a.attack for a in left.attacks} == {"loss", "lira-online"}
    assert (run / "records.csv").read_bytes() == records


def test_attack_takes_a_family_and_trains_what_is_missing(runs, tmp_path):
    folder, results = runs
    found = hampkit.attack(folder / results.models[0].run, "lira", shadows=8, workers=1, out=tmp_path)
    assert [a.attack for a in found.models[0].of("target")] == [
        "lira-global", "lira-offline", "lira-offline-fixed", "lira-online", "lira-online-fixed"
    ]  # fmt: skip


def test_what_was_measured_is_measured_once_unless_asked_anew(monkeypatch, tmp_path):
    from hampkit.shadow_models import plan as planning

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    asked = []
    monkeypatch.setattr(planning, "seconds_of", lambda problem, ways: asked.extend(ways) or [0.5] * len(ways))
    settings = Session(runs_dir=tmp_path)
    first = plan_shadows(problem_of(tmp_path), settings)
    ways = len(asked)
    assert ways == 1, "on a CPU shadow models are trained one by one"
    assert plan_shadows(problem_of(tmp_path), settings) == first
    assert plan_shadows(problem_of(tmp_path, seed=4), settings).seconds == first.seconds
    assert len(asked) == ways
    for change in ({"lr": 0.002}, {"net": "mlp"}, {"rows": 640}):
        plan_shadows(problem_of(tmp_path, **change), settings)
    assert len(asked) == 4 * ways, "another recipe, network or size is measured"
    plan_shadows(problem_of(tmp_path), settings, anew=True)
    assert len(asked) == 5 * ways
    (tmp_path / "cache").joinpath("hampkit", "measured").chmod(0o500)
    for file in tmp_path.rglob("measured/*.json"):
        file.write_text('{"seconds per model": "spam"}')
    assert plan_shadows(problem_of(tmp_path), settings) == first, "a damaged file is no use and no error"
    assert len(asked) == 6 * ways
    (tmp_path / "cache").joinpath("hampkit", "measured").chmod(0o700)


def test_more_models_reuse_what_the_masks_allow_and_say_so_where_they_do_not(tmp_path):
    """Paired masks of 8 models begin with those of 4; the published ones of 4 and of 8 have nothing in common."""
    for scheme, note in (("paired", ""), ("published", "the 4 that are there cannot be used")):
        options = {**QUICK, "shadows.scheme": scheme}
        run = hampkit.shadow("toy/undefended", 4, options=options, workers=1, runs_dir=tmp_path)
        before = {p: p.stat().st_mtime_ns for p in run.rglob("scaled_logit.npy") if scheme in str(p)}
        planned = hampkit.plan("toy/undefended", 8, options=options, runs_dir=tmp_path)
        assert planned.note.startswith(note)
        assert bool(planned.note) == bool(note)
        assert planned.line().endswith(planned.note)
        hampkit.shadow("toy/undefended", 8, options=options, workers=1, runs_dir=tmp_path)
        after = {p: p.stat().st_mtime_ns for p in run.rglob("scaled_logit.npy") if scheme in str(p)}
        assert before.items() <= after.items()
        assert len(after) > len(before)


@pytest.fixture
def measured(monkeypatch, tmp_path):
    """In place of measurements: what a model takes in each way; and what was asked for."""
    from hampkit.launch import local as launch
    from hampkit.shadow_models import plan as planning

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for module in (launch, planning):
        monkeypatch.setattr(module, "cores", lambda: 4)
    asked = []

    def seconds(problem, ways):
        asked.extend(ways)
        return [{1: 4.0, 8: 30.0}[way.width] for way in ways]

    monkeypatch.setattr(planning, "seconds_of", seconds)
    return asked


def test_a_plan_for_what_was_begun_is_about_the_way_it_runs(measured, tmp_path):
    """Its models are stacked by eight, though one by one is much quicker: seconds, memory and words are those of stacks."""
    from hampkit.shadow_models.mode import ExecutionMode

    problem, settings = problem_of(tmp_path, 16), Session(runs_dir=tmp_path)
    free = plan_shadows(problem, settings)
    assert (free.mode.width, free.mode.workers, free.seconds) == (1, 4, 16 * 4.0 / 4 + 4)
    run = Run.create(tmp_path, problem.folder, lambda f: write_run(content_of(problem), f))
    mode = ExecutionMode(width=8, job=8)
    run.step(f"{folder_of(problem.recipe.shadows)}/launch", lambda f: write_json(f / "mode.json", asdict(mode)))
    measured.clear()
    found = plan_shadows(problem, settings)
    assert [way.width for way in measured] == [8], "on a CPU no other way is measured, and this one was not"
    assert (found.mode, found.seconds) == (mode, 16 * 30.0)
    assert found.memory < free.memory
    assert "(8 together): about 8 min" in found.line()
    assert "(4 together): about 2 min" in plan_shadows(problem_of(tmp_path, 4), settings).line()
    assert plan_shadows(problem, settings, anew=True) == found


def test_a_plan_for_processes_that_were_begun_counts_those_of_now(measured, tmp_path):
    problem = problem_of(tmp_path, 16)
    run = Run.create(tmp_path, problem.folder, lambda f: write_run(content_of(problem), f))
    mode = asdict(plan_shadows(problem, Session(runs_dir=tmp_path)).mode)
    run.step(f"{folder_of(problem.recipe.shadows)}/launch", lambda f: write_json(f / "mode.json", mode))
    two = plan_shadows(problem, Session(runs_dir=tmp_path, launcher=LocalProcesses(2)))
    assert (two.mode.workers, two.seconds) == (2, 16 * 4.0 / 2 + 4)
    assert "(2 at a time, one thread each)" in two.line()


@pytest.mark.parametrize(("workers", "processes", "seconds"), [(3, 3, 3 * 4.0), (8, 8, 2 * 4.0), (1000, 8, 2 * 4.0)])
def test_a_plan_has_no_more_processes_than_jobs_and_no_more_speed_than_cores(
    measured, tmp_path, workers, processes, seconds
):
    few, many = (
        plan_shadows(problem_of(tmp_path, 8), Session(runs_dir=tmp_path, launcher=LocalProcesses(w)))
        for w in (1, workers)
    )
    assert f"({processes} at a time, one thread each{'' if processes < 4 else ' on 4 cores'})" in many.line()
    assert "8 shadow models (trained one at a time): about" in few.line()
    assert many.seconds == seconds + 4
    assert many.memory / few.memory == pytest.approx(processes, rel=0.05)


def test_jobs_are_cut_by_the_number_of_models_alone(measured, tmp_path, monkeypatch):
    """Neither by a clock nor by the number of processes, which would give the folders other names on another day."""
    from hampkit.shadow_models import plan as planning

    cut = []
    for workers, seconds in ((1, 0.001), (3, 0.001), (8, 1000.0)):
        monkeypatch.setattr(planning, "seconds_of", lambda problem, ways, seconds=seconds: [seconds for _ in ways])
        settings = Session(runs_dir=tmp_path, launcher=LocalProcesses(workers))
        cut.append([plan_shadows(problem_of(tmp_path, m), settings, anew=True).mode.job for m in (8, 130, 1024)])
    assert cut == [[1, 3, 16]] * 3
    assert planning._cut(planning.ExecutionMode(width=16), 128).job == 16
    assert planning._cut(planning.ExecutionMode(width=8), 1024).job == 16


def test_processes_beyond_all_sense_are_one_line(cli, refused):
    for workers in (100_000, -1):
        refused(cli("plan", "toy/undefended", "--shadows", 8, "--workers", workers), f"workers={workers}", "up to 1024")
