"""Shadow models: the target's recipe trained again on other halves of the pool. Of each, only its answers' signals are kept.

They lie in the target's run folder, cut into jobs that appear only when complete, so that a kill loses at most the jobs in
flight and a damaged one is made again alone. The folder's name states their masks; recipe and data are those of the run.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from hampkit.config.sections import ShadowConfig
from hampkit.defenses import Models
from hampkit.errors import UserError
from hampkit.rng import derive
from hampkit.runs.locks import held_by_parent
from hampkit.runs.step import Step
from hampkit.runs.store import Run, read_json, save_tensors, write_json
from hampkit.shadow_models.base import ShadowSet, ShadowTask
from hampkit.shadow_models.plan import ExecutionMode
from hampkit.targets.augmentations import augmented
from hampkit.targets.blackbox import BlackBox, scaled_logits
from hampkit.training.threads import threads
from hampkit.types import Launcher

Job = list[int]  # numbers of shadow models whose results appear together


def folder_of(config: ShadowConfig) -> str:
    """Where the jobs lie in the run. The published masks of M and of 2M models have nothing in common, paired ones do."""
    models = f"-{config.models}" if config.scheme == "published" else ""
    views = f"-views{config.views}" if config.views > 1 else ""
    kept = "-kept" if config.keep_models else ""
    return f"shadows/{config.scheme}-{config.seed}{models}{views}{kept}"


def name_of(config: ShadowConfig) -> str:
    """A name for these shadow models, in results that rest on them."""
    views = f"-views{config.views}" if config.views > 1 else ""
    return f"{config.scheme}-{config.seed}-{config.models}{views}"


def left_aside(config: ShadowConfig, run: Run) -> str:
    """Why shadow models that a run holds already cannot be used for these; empty if they can, or if there are none."""
    stem = f"{config.scheme}-{config.seed}-"
    there = sorted(int(p.name.split("-")[2]) for p in (run.folder / "shadows").glob(f"{stem}[0-9]*"))
    others = [m for m in there if m != config.models]
    if config.scheme != "published" or not others:
        return ""
    return (
        f"the {others[-1]} that are there cannot be used: published masks of {others[-1]} and of {config.models} models have"
        " nothing in common (those of shadows.scheme=paired have)"
    )


def train(task: ShadowTask, run: Run, mode: ExecutionMode, map_jobs: Callable[[list[Job]], None]) -> ShadowSet:
    """Train what is missing, by ``map_jobs``, which calls `train_job` for each job; the run's lock must be held."""
    missing = missing_jobs(task.config, run, mode)
    if missing:
        map_jobs(missing)
    return read(task, run, mode)


def missing_jobs(config: ShadowConfig, run: Run, mode: ExecutionMode) -> list[Job]:
    return [job for job in jobs(config, mode) if not run.done(_place(config, job))]


def map_in_processes(launcher: Launcher, function: str, context: dict[str, Any], event: Callable[[Any], None]) -> Any:
    """``map_jobs`` of `train` by a launcher: ``function(context)`` returns what does one job, see `worker`."""
    return lambda missing: launcher.map(function, context, missing, event)


def worker(task: ShadowTask, run: Run, mode: ExecutionMode) -> Callable[[Job, Callable[[dict[str, Any]], None]], None]:
    """What a worker process does with its jobs: see `hampkit.types.Launcher`."""

    def work(job: Job, tell: Callable[[dict[str, Any]], None]) -> None:
        with held_by_parent(run.name):
            train_job(task, job, run, mode)
        tell({"trained": len(job)})

    return work


def train_job(task: ShadowTask, job: Job, run: Run, mode: ExecutionMode) -> None:
    """Train some of the shadow models together and keep the signals of their answers, as one step of the run."""
    with threads(task.recipe.train.threads):
        run.step(_place(task.config, job), lambda folder: _write(task, job, mode, folder))


def _write(task: ShadowTask, job: Job, mode: ExecutionMode, folder: Path) -> None:
    clock = time.perf_counter()
    seeds = tuple(derive(task.recipe.seed, "shadow", m) for m in job)
    trained = task.defense.fit(replace(task.task, members=task.masks()[job], seeds=seeds), mode.of(task.trainer))
    answers = [_ask(task, trained, k, seeds[k]) for k in range(len(job))]
    for m, signals in zip(job, answers, strict=True):
        _check_finite(task, m, signals)
    np.save(folder / "scaled_logit.npy", np.stack([pool for pool, _ in answers]))
    np.save(folder / "population.npy", np.stack([others for _, others in answers]))
    history = {"models": [asdict(h) for h in trained.stack.history], "seconds": round(time.perf_counter() - clock, 3)}
    write_json(folder / "history.json", history)
    if task.config.keep_models:
        save_tensors(folder / "stack.safetensors", trained.tensors())


def read(task: ShadowTask, run: Run, mode: ExecutionMode) -> ShadowSet:
    """The signals of all shadow models, memory-mapped."""
    config = task.config
    folders = [run.folder / _place(config, job) for job in jobs(config, mode)]
    parts = tuple(np.load(f / "scaled_logit.npy", mmap_mode="r", allow_pickle=False) for f in folders)
    population = np.concatenate([np.load(f / "population.npy", allow_pickle=False) for f in folders])
    return ShadowSet(parts, task.masks().numpy(), population, name_of(config), untrained(config, run, mode))


def jobs(config: ShadowConfig, mode: ExecutionMode) -> list[Job]:
    return [list(range(i, min(i + mode.job, config.models))) for i in range(0, config.models, mode.job)]


def job_names(config: ShadowConfig, mode: ExecutionMode) -> list[str]:
    """The folders of these shadow models, below `folder_of`."""
    return [_name(job) for job in jobs(config, mode)]


def untrained(config: ShadowConfig, run: Run, mode: ExecutionMode) -> tuple[int, ...]:
    """The models that learnt next to nothing with every seed tried."""
    steps = [run.folder / _place(config, job) / "history.json" for job in jobs(config, mode)]
    histories = [h for path in steps for h in read_json(path, "models")["models"]]
    return tuple(m for m, h in enumerate(histories) if h["diverged"])


def launch_step(config: ShadowConfig, mode: Callable[[], ExecutionMode]) -> Step[ExecutionMode]:
    """How these shadow models run, chosen once: the first time that it is asked for."""
    return Step(
        f"{folder_of(config)}/launch",
        None,
        lambda folder: write_json(folder / "mode.json", asdict(mode())),
        read_mode,
    )


def read_mode(folder: Path) -> ExecutionMode:
    return ExecutionMode(**read_json(folder / "mode.json"))


def _ask(task: ShadowTask, trained: Models, k: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Scaled logits (P, V) and (Z,) float32 of the released answers of one model to the pool and to the population."""
    release = task.defense.release(trained.state_of(k), task.domain)
    box = BlackBox(trained.stack.take([k]), release, task.trainer)
    pool, others = task.task.pool, task.population

    def ask(x: Tensor, y: Tensor, *place: int) -> np.ndarray:
        return scaled_logits(box, x, y, derive(seed, "query", *place))

    seen = [ask(pool.x, pool.y, 0)]
    seen += [ask(augmented(pool.x, v), pool.y, 0, v) for v in range(1, task.views)]
    return np.stack(seen, axis=-1), ask(others.x, others.y, 1)


def _check_finite(task: ShadowTask, m: int, signals: tuple[np.ndarray, np.ndarray]) -> None:
    """Raises: `UserError` for signals that no attack can use; a step that is kept is never made again."""
    bad = sum(int((~np.isfinite(signal)).sum()) for signal in signals)
    if bad:
        raise UserError(
            f"shadow model {m} of {task.recipe.title}: {bad} of {sum(signal.size for signal in signals)} answers of defense"
            f" {task.recipe.defense.name} hold NaN, infinity or a probability of exactly 0 or 1, and no attack can use them;"
            " mend what the defense releases, then run again"
        )


def _name(job: Job) -> str:
    return f"{job[0]:03d}-{job[-1]:03d}"


def _place(config: ShadowConfig, job: Job) -> str:
    return f"{folder_of(config)}/{_name(job)}"
