"""Training of shadow models: the target's recipe on other halves of the pool. Only the signals of their answers are kept.

They are stored in the target's run folder as jobs that appear only when they are complete. So a kill loses at most the current
jobs, and only a damaged job is trained again. The name of the folder contains the options of their masks; recipe and data are
the run's.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from hampkit.config.sections import ShadowConfig
from hampkit.defenses import Models
from hampkit.errors import UserError
from hampkit.launch.progress import reported
from hampkit.rng import derive
from hampkit.runs.locks import held_by_parent
from hampkit.runs.step import Step
from hampkit.runs.store import Run, read_json, save_tensors, write_json
from hampkit.shadow_models.base import ShadowSet, ShadowTask
from hampkit.shadow_models.plan import ExecutionMode
from hampkit.targets.blackbox import BlackBox, scaled_logits, view
from hampkit.training.threads import threads

LAUNCH = "launch"  # the step with the execution mode
Job = list[int]  # indices of shadow models whose results are written together


def folder_of(config: ShadowConfig) -> str:
    """The folder of the jobs in the run.

    It contains the number M of models for published masks, because those of M and of 2M models differ; paired masks of M models
    are the first of those of 2M.
    """
    models = f"-{config.models}" if config.scheme == "published" else ""
    views = f"-views{config.views}" if config.views > 1 else ""
    kept = "-kept" if config.keep_models else ""
    return f"shadows/{config.scheme}-{config.seed}{models}{views}{kept}"


def name_of(config: ShadowConfig) -> str:
    """A name for these shadow models in results."""
    views = f"-views{config.views}" if config.views > 1 else ""
    return f"{config.scheme}-{config.seed}-{config.models}{views}"


def left_aside(config: ShadowConfig, run: Run) -> str:
    """Why the existing shadow models of a run cannot be used with these options; empty if they can, or if there are none."""
    stem = f"{config.scheme}-{config.seed}-"
    existing = sorted(int(p.name.split("-")[2]) for p in (run.folder / "shadows").glob(f"{stem}[0-9]*"))
    others = [m for m in existing if m != config.models]
    if config.scheme != "published" or not others:
        return ""
    return (
        f"the {others[-1]} that are there cannot be used: published masks of {others[-1]} and of {config.models} models differ"
        " (those of shadows.scheme=paired do not)"
    )


class JobSignals(NamedTuple):
    """What is kept of the m shadow models of a job."""

    scaled_logit: NDArray[np.float32]  # (m, P, V), memory-mapped
    population: NDArray[np.float32]  # (m, Z)


def missing_jobs(task: ShadowTask, run: Run, mode: ExecutionMode) -> list[Job]:
    """The jobs that are not done."""
    return [job for job in jobs(task.config, mode) if not job_step(task, job, mode).done(run)]


def worker(task: ShadowTask, run: Run, mode: ExecutionMode) -> Callable[[Job, Callable[[dict[str, Any]], None]], None]:
    """The function that trains one job in a worker process, see `hampkit.types.Launcher`.

    It sends an event after an epoch (`hampkit.launch.progress.reported`), and one at the end, ``{"job": …, "trained": models}``.
    """

    def work(job: Job, send: Callable[[dict[str, Any]], None]) -> None:
        trainer = replace(task.trainer, track=reported(_name(job), len(job), send))
        with held_by_parent(run.name):
            train_job(replace(task, trainer=trainer), job, run, mode)
        send({"job": _name(job), "trained": len(job)})

    return work


def train_job(task: ShadowTask, job: Job, run: Run, mode: ExecutionMode) -> None:
    """Train the shadow models of a job and write the signals of their answers, as one step of the run.

    Raises: `UserError` if a model diverged with every seed, or if a signal is not finite.
    """
    with threads(task.recipe.train.threads):
        job_step(task, job, mode).folder(run)


def job_step(task: ShadowTask, job: Job, mode: ExecutionMode) -> Step[JobSignals]:
    """The step of a job. Its folder is named by masks and models; the run's recipe decides the rest."""
    return Step(_place(task.config, job), None, lambda folder: _write(task, job, mode, folder), _read_job)


def _read_job(folder: Path) -> JobSignals:
    mapped = np.load(folder / "scaled_logit.npy", mmap_mode="r", allow_pickle=False)
    return JobSignals(mapped, np.load(folder / "population.npy", allow_pickle=False))


def _write(task: ShadowTask, job: Job, mode: ExecutionMode, folder: Path) -> None:
    clock = time.perf_counter()
    seeds = tuple(derive(task.recipe.seed, "shadow", m) for m in job)
    trained = task.defense.fit(replace(task.task, members=task.masks()[job], seeds=seeds), mode.of(task.trainer))
    answers = [_query(task, trained, k, seeds[k]) for k in range(len(job))]
    for m, signals in zip(job, answers, strict=True):
        _check_finite(task, m, signals)
    np.save(folder / "scaled_logit.npy", np.stack([pool for pool, _ in answers]))
    np.save(folder / "population.npy", np.stack([others for _, others in answers]))
    history = {"models": [asdict(h) for h in trained.stack.history], "seconds": round(time.perf_counter() - clock, 3)}
    write_json(folder / "history.json", history)
    if task.config.keep_models:
        save_tensors(folder / "stack.safetensors", trained.tensors())


def read(task: ShadowTask, run: Run, mode: ExecutionMode) -> ShadowSet:
    """The signals of all shadow models, memory-mapped.

    Raises: `UserError` for a missing or damaged history of a job.
    """
    config = task.config
    steps = [job_step(task, job, mode) for job in jobs(config, mode)]
    found = [step.read(run.folder / step.place) for step in steps]
    parts, population = tuple(s.scaled_logit for s in found), np.concatenate([s.population for s in found])
    return ShadowSet(parts, task.masks().numpy(), population, name_of(config), untrained(config, run, mode))


def jobs(config: ShadowConfig, mode: ExecutionMode) -> list[Job]:
    """All jobs of these shadow models."""
    return [list(range(i, min(i + mode.job, config.models))) for i in range(0, config.models, mode.job)]


def job_names(config: ShadowConfig, mode: ExecutionMode) -> list[str]:
    """Names of the jobs' folders in `folder_of`."""
    return [_name(job) for job in jobs(config, mode)]


def untrained(config: ShadowConfig, run: Run, mode: ExecutionMode) -> tuple[int, ...]:
    """The models that learnt almost nothing with any of their seeds.

    Raises: `UserError` for a missing or damaged history of a job.
    """
    steps = [run.folder / _place(config, job) / "history.json" for job in jobs(config, mode)]
    histories = [h for path in steps for h in read_json(path, "models")["models"]]
    return tuple(m for m, h in enumerate(histories) if h["diverged"])


def launch_step(config: ShadowConfig, mode: Callable[[], ExecutionMode]) -> Step[ExecutionMode]:
    """The execution mode of these shadow models, a step of the run; ``mode`` is called only if the step is missing."""
    return Step(
        f"{folder_of(config)}/{LAUNCH}",
        None,
        lambda folder: write_json(folder / "mode.json", asdict(mode())),
        read_mode,
    )


def mode_of(config: ShadowConfig, run: Run) -> ExecutionMode | None:
    """The execution mode in which these shadow models were begun; None if they were not."""
    launch = run.folder / folder_of(config) / LAUNCH
    return read_mode(launch) if run.done(f"{folder_of(config)}/{LAUNCH}") else None


def read_mode(folder: Path) -> ExecutionMode:
    """The execution mode in a step folder.

    Raises: `UserError` for a missing or damaged file.
    """
    return ExecutionMode(**read_json(folder / "mode.json"))


def _query(task: ShadowTask, trained: Models, k: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Scaled logits float32 of the released answers of model k, for the pool (P, V) and for the population (Z,)."""
    release = task.defense.release(trained.state_of(k), task.domain)
    box = BlackBox(trained.stack.take([k]), release, task.trainer)
    pool, others = task.task.pool, task.population

    def query(x: Tensor, y: Tensor, *place: int) -> np.ndarray:
        return scaled_logits(box, x, y, derive(seed, "query", *place))

    views = [query(pool.x, pool.y, 0)]
    views += [query(view(pool.x, v), pool.y, 0, v) for v in range(1, task.views)]
    return np.stack(views, axis=-1), query(others.x, others.y, 1)


def _check_finite(task: ShadowTask, m: int, signals: tuple[np.ndarray, np.ndarray]) -> None:
    """Check the signals of model m before they are written.

    Raises: `UserError` for a signal that is not finite, which no attack can use.
    """
    bad = sum(int((~np.isfinite(signal)).sum()) for signal in signals)
    if bad:
        raise UserError(
            f"shadow model {m} of {task.recipe.title}: {bad} of {sum(signal.size for signal in signals)} answers of defense"
            f" {task.recipe.defense.name} hold NaN, infinity or a probability of exactly 0 or 1, and no attack can use them;"
            " correct the release of the defense, then run again"
        )


def _name(job: Job) -> str:
    return f"{job[0]:03d}-{job[-1]:03d}"


def _place(config: ShadowConfig, job: Job) -> str:
    return f"{folder_of(config)}/{_name(job)}"
