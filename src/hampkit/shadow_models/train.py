"""Shadow models: the target's recipe trained again on other halves of the pool. Of each, only its answers' signals are kept.

They lie in the target's run folder, cut into jobs that appear only when complete, so that a kill loses at most the jobs in
flight and a damaged one is made again alone. The folder's name says which masks they have; recipe and data are those of the run.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hampkit import signals
from hampkit.attacks import Shadows
from hampkit.config.recipe import ShadowConfig
from hampkit.data.splits import shadow_members
from hampkit.defenses import Models
from hampkit.errors import Notice, UserError
from hampkit.launch.local import run_jobs
from hampkit.rng import derive
from hampkit.runs.locks import held_by_parent
from hampkit.runs.store import Run, read_json, save_tensors, write_json
from hampkit.shadow_models.plan import ExecutionMode
from hampkit.targets.augmentations import augmented
from hampkit.targets.blackbox import BlackBox
from hampkit.training.threads import threads
from hampkit.types import Dataset
from hampkit.workflows.problem import Problem, Settings, prepare, recipe_of_run

WORK = "hampkit.shadow_models.train:worker"
POPULATION = 10_000  # examples at most of the test segment that stand for the population


def masks(problem: Problem, shadowing: ShadowConfig) -> Tensor:
    """(M, P) bool: which shadow model is trained on which example of the pool."""
    pool = len(problem.task.pool)
    return shadow_members(shadowing.models, pool, shadowing.seed, shadowing.scheme, problem.units())


def folder_of(shadowing: ShadowConfig) -> str:
    """Where the jobs lie in the run. The published masks of M and of 2M models have nothing in common, paired ones do."""
    models = f"-{shadowing.models}" if shadowing.scheme == "published" else ""
    views = f"-views{shadowing.views}" if shadowing.views > 1 else ""
    kept = "-kept" if shadowing.keep_models else ""
    return f"shadows/{shadowing.scheme}-{shadowing.seed}{models}{views}{kept}"


def name_of(shadowing: ShadowConfig) -> str:
    """Which shadow models, for results that rest on them."""
    return f"{shadowing.scheme}-{shadowing.seed}-{shadowing.models}" + (
        f"-views{shadowing.views}" if shadowing.views > 1 else ""
    )


def left_aside(shadowing: ShadowConfig, run: Run) -> str:
    """Why shadow models that are there already are of no use for these, or nothing."""
    stem = f"{shadowing.scheme}-{shadowing.seed}-"
    there = sorted(int(p.name.split("-")[2]) for p in (run.folder / "shadows").glob(f"{stem}[0-9]*"))
    others = [m for m in there if m != shadowing.models]
    if shadowing.scheme != "published" or not others:
        return ""
    return (
        f"the {others[-1]} that are there cannot be used: published masks of {others[-1]} and of {shadowing.models} models have"
        " nothing in common (those of shadows.scheme=paired have)"
    )


def population(problem: Problem) -> Dataset:
    """Examples that no model was trained on or chosen by: the test segment, but for copies of the pool where others are left."""
    unseen = np.flatnonzero(problem.alike["test"] >= len(problem.task.pool))
    rows = torch.from_numpy(unseen) if len(unseen) else torch.arange(len(problem.test))
    return problem.test.take(rows[:POPULATION])


def train(problem: Problem, shadowing: ShadowConfig, settings: Settings, run: Run, mode: ExecutionMode) -> Shadows:
    """Train what is missing, in the processes that the mode asks for; the run's lock must be held."""
    jobs = _jobs(shadowing, mode.job)
    missing = [job for job in jobs if not run.done(_step(shadowing, job))]
    done = shadowing.models - sum(len(job) for job in missing)
    what = f"shadow models of {problem.recipe.title}"
    settings.track(what, done, shadowing.models)

    def event(message: dict[str, Any]) -> None:
        nonlocal done
        done += message["trained"]
        settings.track(what, done, shadowing.models)

    context = {
        "run": str(run.folder.resolve()),
        "data_dir": None if settings.data_dir is None else str(settings.data_dir),
        "device": str(problem.trainer.device),
        "shadowing": asdict(shadowing),
        "mode": asdict(mode),
    }
    if mode.workers > 1 and len(missing) > 1:
        run_jobs(WORK, context, missing, mode.workers, event)
    else:
        for job in missing:
            train_job(problem, shadowing, job, run, mode)
            event({"trained": len(job)})
    return read(problem, shadowing, run, mode)


def worker(context: dict[str, Any]) -> Callable[[list[int], Callable[[dict[str, Any]], None]], None]:
    """What a worker process does with its jobs: see `hampkit.launch.local.run_jobs`."""
    run, shadowing, mode = (
        Run(Path(context["run"])),
        ShadowConfig(**context["shadowing"]),
        ExecutionMode(**context["mode"]),
    )
    data_dir = None if context["data_dir"] is None else Path(context["data_dir"])
    settings = Settings(data_dir, run.folder.parent, context["device"])
    recipe = recipe_of_run(run.recipe(), read_json(run.folder / "local.json", "judge", "attacks"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Notice)  # the process that started this one has said it
        problem = prepare(replace(recipe, shadows=shadowing), settings)
    if problem.folder != run.name:
        raise UserError(
            f"the data or the source of {run.name} changed while it was trained; run the same command again"
        )

    def work(job: list[int], tell: Callable[[dict[str, Any]], None]) -> None:
        with held_by_parent(run.name):
            train_job(problem, shadowing, job, run, mode)
        tell({"trained": len(job)})

    return work


def train_job(problem: Problem, shadowing: ShadowConfig, job: list[int], run: Run, mode: ExecutionMode) -> None:
    """Train some of the shadow models together and keep the signals of their answers, as one step of the run."""

    def write(folder: Path) -> None:
        clock = time.perf_counter()
        task = replace(
            problem.task,
            members=masks(problem, shadowing)[job],
            seeds=tuple(derive(problem.recipe.seed, "shadow", m) for m in job),
            val=problem.shadow_val,
        )
        trained = problem.defense.fit(task, mode.of(problem.trainer))
        answers = [_ask(problem, trained, k, task.seeds[k]) for k in range(len(job))]
        for m, asked in zip(job, answers, strict=True):
            _check_finite(problem, m, asked)
        np.save(folder / "scaled_logit.npy", np.stack([pool for pool, _ in answers]))
        np.save(folder / "population.npy", np.stack([others for _, others in answers]))
        history = {
            "models": [asdict(h) for h in trained.stack.history],
            "seconds": round(time.perf_counter() - clock, 3),
        }
        write_json(folder / "history.json", history)
        if shadowing.keep_models:
            save_tensors(folder / "stack.safetensors", trained.tensors())

    with threads(problem.recipe.train.threads):
        run.step(_step(shadowing, job), write)


def read(problem: Problem, shadowing: ShadowConfig, run: Run, mode: ExecutionMode) -> Shadows:
    """The signals of all shadow models, memory-mapped."""
    folders = [run.folder / _step(shadowing, job) for job in _jobs(shadowing, mode.job)]
    parts = tuple(np.load(f / "scaled_logit.npy", mmap_mode="r", allow_pickle=False) for f in folders)
    others = np.concatenate([np.load(f / "population.npy", allow_pickle=False) for f in folders])
    members = masks(problem, shadowing).numpy()
    return Shadows(parts, members, others, np.arange(members.shape[1]), np.arange(len(members)))


def jobs(shadowing: ShadowConfig, mode: ExecutionMode) -> list[str]:
    """The folders of these shadow models, below `folder_of`."""
    return [_name(job) for job in _jobs(shadowing, mode.job)]


def untrained(shadowing: ShadowConfig, run: Run, mode: ExecutionMode) -> tuple[int, ...]:
    """Which ones learnt next to nothing with every seed tried."""
    steps = [run.folder / _step(shadowing, job) / "history.json" for job in _jobs(shadowing, mode.job)]
    histories = [h for path in steps for h in read_json(path, "models")["models"]]
    return tuple(m for m, h in enumerate(histories) if h["diverged"])


def _ask(problem: Problem, trained: Models, k: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Scaled logits (P, V) and (Z,) float32 of the released answers of one model to the pool and to the population."""
    release = problem.defense.release(trained.state_of(k), problem.dataset.domain)
    box = BlackBox(trained.stack.take([k]), release, problem.trainer)
    pool, others = problem.task.pool, population(problem)

    def ask(x: Tensor, y: Tensor, *place: int) -> np.ndarray:
        return signals.scaled_logit(box.query(x, derive(seed, "query", *place)), y).float().numpy()

    seen = [ask(pool.x, pool.y, 0)]
    seen += [ask(augmented(pool.x, v), pool.y, 0, v) for v in range(1, problem.views)]
    return np.stack(seen, axis=-1), ask(others.x, others.y, 1)


def _check_finite(problem: Problem, m: int, asked: tuple[np.ndarray, np.ndarray]) -> None:
    """No attack can use other signals, and a step that is kept is never made again. Errors: `UserError`."""
    bad = sum(int((~np.isfinite(signal)).sum()) for signal in asked)
    if bad:
        raise UserError(
            f"shadow model {m} of {problem.recipe.title}: {bad} of {sum(signal.size for signal in asked)} answers of defense"
            f" {problem.recipe.defense.name} hold NaN, infinity or a probability of exactly 0 or 1, and no attack can use them;"
            " mend what the defense releases, then run again"
        )


def _jobs(shadowing: ShadowConfig, size: int) -> list[list[int]]:
    return [list(range(i, min(i + size, shadowing.models))) for i in range(0, shadowing.models, size)]


def _name(job: list[int]) -> str:
    return f"{job[0]:03d}-{job[-1]:03d}"


def _step(shadowing: ShadowConfig, job: list[int]) -> str:
    return f"{folder_of(shadowing)}/{_name(job)}"
