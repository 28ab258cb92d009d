"""Training of shadow models: the target's recipe on other halves of the pool, and the signals of their answers.

They are stored in the target's run folder as jobs that appear only when they are complete. So a kill loses at most the current
jobs, and only a damaged job is trained again. The name of the folder contains the options of their masks; recipe and data are
the run's. Weights, and what probes keep, are further steps of a job: see `hampkit.shadow_models.job_models`.
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
from hampkit.runs.store import Run, read_json, write_json
from hampkit.shadow_models.base import ShadowSet, ShadowTask
from hampkit.shadow_models.job_models import (
    Job,
    JobModels,
    folder_of,
    job_name,
    missing_probes,
    probe_step,
    read_probe,
    seeds_of,
    weights_step,
)
from hampkit.shadow_models.mode import ExecutionMode
from hampkit.targets.blackbox import BlackBox, scaled_logits, view
from hampkit.training.threads import threads

LAUNCH = "launch"  # the step with the execution mode


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
    """The jobs that are not done: without signals, without the answers to a probe, or without weights that are to be kept."""

    def done(job: Job) -> bool:
        kept = task.config.keep_models != "yes" or weights_step(task, job).done(run)
        return kept and job_step(task, job).done(run) and not missing_probes(task, job, run)

    return [job for job in jobs(task.config, mode) if not done(job)]


def trained_again(task: ShadowTask, run: Run, missing: list[Job]) -> int:
    """The number of models in these jobs that were trained before, but whose weights were not kept."""
    before = [job for job in missing if job_step(task, job).done(run) and not weights_step(task, job).done(run)]
    return sum(map(len, before))


def worker(task: ShadowTask, run: Run, mode: ExecutionMode) -> Callable[[Job, Callable[[dict[str, Any]], None]], None]:
    """The function that trains one job in a worker process, see `hampkit.types.Launcher`.

    It sends an event after an epoch (`hampkit.launch.progress.reported`), and one at the end, ``{"job": …, "trained": models}``.
    """

    def work(job: Job, send: Callable[[dict[str, Any]], None]) -> None:
        trainer = replace(task.trainer, track=reported(job_name(job), len(job), send))
        with held_by_parent(run.name):
            train_job(replace(task, trainer=trainer), job, run, mode)
        send({"job": job_name(job), "trained": len(job)})

    return work


def train_job(task: ShadowTask, job: Job, run: Run, mode: ExecutionMode) -> None:
    """Train the shadow models of a job if they are needed, and write what is missing: signals, answers to probes, weights.

    Raises: `UserError` if a model diverged with every seed, or if a signal is not finite.
    """
    models = JobModels(task, job, mode, run)
    with threads(task.recipe.train.threads):
        if task.config.keep_models == "yes":
            models.keep()
        job_step(task, job, models).folder(run)
        for probe in task.probes:
            probe_step(task, job, probe, models).folder(run)


def job_step(task: ShadowTask, job: Job, models: JobModels | None = None) -> Step[JobSignals]:
    """The step of a job's signals; models: those that are asked if it is missing.

    Its folder is named by masks and models; the run's recipe decides the rest.
    """

    def write(folder: Path) -> None:
        assert models is not None, "a missing job is only read"
        _write(task, job, models, folder)

    return Step(_place(task.config, job), None, write, _read_job)


def _read_job(folder: Path) -> JobSignals:
    mapped = np.load(folder / "scaled_logit.npy", mmap_mode="r", allow_pickle=False)
    return JobSignals(mapped, np.load(folder / "population.npy", allow_pickle=False))


def _write(task: ShadowTask, job: Job, models: JobModels, folder: Path) -> None:
    trained, clock = models.get(), time.perf_counter()
    answers = [_query(task, trained, k, seed) for k, seed in enumerate(seeds_of(task, job))]
    for m, signals in zip(job, answers, strict=True):
        _check_finite(task, m, signals)
    np.save(folder / "scaled_logit.npy", np.stack([pool for pool, _ in answers]))
    np.save(folder / "population.npy", np.stack([others for _, others in answers]))
    seconds = round(models.seconds + time.perf_counter() - clock, 3)
    write_json(folder / "history.json", {"models": [asdict(h) for h in trained.stack.history], "seconds": seconds})


def read(task: ShadowTask, run: Run, mode: ExecutionMode) -> ShadowSet:
    """The signals of all shadow models and what probes kept of their answers, memory-mapped.

    Raises: `UserError` for a missing or damaged history of a job.
    """
    config = task.config
    all_jobs = jobs(config, mode)
    steps = [job_step(task, job) for job in all_jobs]
    found = [step.read(run.folder / step.place) for step in steps]
    parts, population = tuple(s.scaled_logit for s in found), np.concatenate([s.population for s in found])
    probes = {probe: tuple(read_probe(task, job, probe, run) for job in all_jobs) for probe in task.probes}
    names = name_of(config), untrained(config, run, mode)
    return ShadowSet(parts, task.masks().numpy(), population, *names, probes=probes)


def jobs(config: ShadowConfig, mode: ExecutionMode) -> list[Job]:
    """All jobs of these shadow models."""
    return [list(range(i, min(i + mode.job, config.models))) for i in range(0, config.models, mode.job)]


def job_names(config: ShadowConfig, mode: ExecutionMode) -> list[str]:
    """Names of the jobs' folders in `folder_of`."""
    return [job_name(job) for job in jobs(config, mode)]


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


def _place(config: ShadowConfig, job: Job) -> str:
    return f"{folder_of(config)}/{job_name(job)}"
