"""The models of a job of shadow models: trained, kept, and asked what probes want asked.

A job is a few shadow models whose results are written together. Its steps are signals, weights and the answers to each probe.
The weights are kept if they fit the budget; then a later attack with another probe asks them, instead of training again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hampkit.config.content import content_hash
from hampkit.config.sections import ShadowConfig
from hampkit.defenses import Models
from hampkit.rng import derive
from hampkit.runs.step import Step
from hampkit.runs.store import Run, read_json, save_tensors, write_json
from hampkit.shadow_models.base import ShadowTask
from hampkit.shadow_models.mode import ExecutionMode
from hampkit.targets.blackbox import BlackBox, release_for
from hampkit.targets.probing import ask, check_kept
from hampkit.targets.trained import read_models
from hampkit.types import Probe

Job = list[int]  # indices of shadow models whose results are written together


def folder_of(config: ShadowConfig) -> str:
    """The folder of the jobs in the run.

    It contains the number M of models for published masks, because those of M and of 2M models differ; paired masks of M models
    are the first of those of 2M.
    """
    models = f"-{config.models}" if config.scheme == "published" else ""
    views = f"-views{config.views}" if config.views > 1 else ""
    return f"shadows/{config.scheme}-{config.seed}{models}{views}"


def job_name(job: Job) -> str:
    """The name of a job's folders."""
    return f"{job[0]:03d}-{job[-1]:03d}"


def seeds_of(task: ShadowTask, job: Job) -> tuple[int, ...]:
    """The seed of each model of a job."""
    return tuple(derive(task.recipe.seed, "shadow", m) for m in job)


class JobModels:
    """The models of a job, which are trained when they are first asked for, unless their weights were kept."""

    def __init__(self, task: ShadowTask, job: Job, mode: ExecutionMode, run: Run) -> None:
        self._task, self._job, self._mode, self._run = task, job, mode, run
        self._found: Models | None = None
        self.seconds = 0.0  # that their training took

    def get(self) -> Models:
        """The trained models."""
        if self._found is None:
            step = weights_step(self._task, self._job)
            self._found = step.of(self._run) if step.done(self._run) else self._trained()
        return self._found

    def keep(self) -> None:
        """Keep the weights, whatever they take."""
        self._keep(self.get())

    def _trained(self) -> Models:
        task, clock = self._task, time.perf_counter()
        members = task.masks()[self._job]
        own = replace(task.task, members=members, seeds=seeds_of(task, self._job))
        found = task.defense.fit(own, self._mode.of(task.trainer))
        self.seconds = time.perf_counter() - clock
        if fits(task.config, size_of(found) / len(self._job)):
            self._keep(found)
        return found

    def _keep(self, models: Models) -> None:
        weights_step(self._task, self._job, models).folder(self._run)


def fits(config: ShadowConfig, each: float) -> bool:
    """Whether the weights of all models are kept, if one takes ``each`` bytes: all of them, or none."""
    if config.keep_models == "auto":
        return each * config.models <= config.keep_gb * 1e9
    return config.keep_models == "yes"


def size_of(models: Models) -> int:
    """Bytes of the weights of all models, and of what their releases need."""
    return sum(tensor.numel() * tensor.element_size() for tensor in models.tensors().values())


def weights_step(task: ShadowTask, job: Job, models: Models | None = None) -> Step[Models]:
    """The step with the weights of a job; models: what is written if they are missing."""

    def write(folder: Path) -> None:
        assert models is not None, "weights that were not kept cannot be read"
        save_tensors(folder / "stack.safetensors", models.tensors())
        write_json(folder / "history.json", {"models": [asdict(h) for h in models.stack.history]})

    def read(folder: Path) -> Models:
        return read_models(task.task, folder, read_json(folder / "history.json", "models"))

    return Step(f"{folder_of(task.config)}/weights/{job_name(job)}", None, write, read)


def probe_step(task: ShadowTask, job: Job, probe: Probe, models: JobModels) -> Step[Any]:
    """The step with what a probe keeps of the answers of a job's models, (m, P, k) float32."""
    return Step(
        _probe_place(task, job, probe), None, lambda folder: _write_probe(task, job, probe, models.get, folder), _read
    )


def read_probe(task: ShadowTask, job: Job, probe: Probe, run: Run) -> NDArray[np.float32]:
    """What a probe kept of the answers of a job's models, (m, P, k), memory-mapped."""
    return _read(run.folder / _probe_place(task, job, probe))


def missing_probes(task: ShadowTask, job: Job, run: Run) -> list[Probe]:
    """The probes that a job's models were not asked about."""
    return [probe for probe in task.probes if not run.done(_probe_place(task, job, probe))]


def borrowed_probe(
    task: ShadowTask, job: Job, probe: Probe, lender: Run, run: Run | None
) -> NDArray[np.float32] | None:
    """What a probe keeps of the answers of a job's models of another run; None if they were neither asked nor kept.

    They are asked by way of the kept weights, and the answers are written into ``run``; None: they cannot be asked.
    """
    place = _probe_place(task, job, probe)
    if lender.done(place):
        return _read(lender.folder / place)
    weights = weights_step(task, job)
    if run is None or not weights.done(lender):
        return None

    def write(folder: Path) -> None:
        _write_probe(task, job, probe, lambda: weights.of(lender), folder)

    return Step(f"borrowed/{lender.name}/{place}", None, write, _read).of(run)


def _write_probe(task: ShadowTask, job: Job, probe: Probe, models: Callable[[], Models], folder: Path) -> None:
    trained, seeds = models(), seeds_of(task, job)
    asked = [_asked(task, trained, k, probe) for k in range(len(job))]
    kept = ask(asked, probe, task.task.pool, task.space, [derive(seed, "probe", probe.name) for seed in seeds])
    whose = f"shadow models {job_name(job)} of {task.recipe.title}: "
    check_kept(kept, probe, task.recipe.defense.name, whose)
    np.save(folder / "kept.npy", kept)


def _asked(task: ShadowTask, trained: Models, k: int, probe: Probe) -> BlackBox:
    """Model k of a job as a probe asks it."""
    release = task.defense.release(trained.state_of(k), task.domain)
    return BlackBox(trained.stack.take([k]), release_for(probe, release), task.trainer)


def _probe_place(task: ShadowTask, job: Job, probe: Probe) -> str:
    return f"{folder_of(task.config)}/probes/{place_of(probe)}/{job_name(job)}"


def place_of(probe: Probe) -> str:
    """The name of a probe's folder, with a hash of its options."""
    return f"{probe.name}-{content_hash(probe.key())[:8]}"


def _read(folder: Path) -> NDArray[np.float32]:
    return np.load(folder / "kept.npy", mmap_mode="r", allow_pickle=False)
