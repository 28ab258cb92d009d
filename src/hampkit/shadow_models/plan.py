"""The expected cost of shadow models and their fastest execution mode, from a few measured steps on this machine."""

from __future__ import annotations

import contextlib
import math
import resource
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from hampkit.config.content import content_hash
from hampkit.errors import UserError
from hampkit.launch.local import at_once, cores
from hampkit.runs.environment import environment
from hampkit.runs.store import read_json, write_json
from hampkit.shadow_models import timing
from hampkit.shadow_models.base import ShadowTask
from hampkit.shadow_models.job_models import fits
from hampkit.shadow_models.mode import ExecutionMode
from hampkit.text import counted, duration
from hampkit.training.threads import threads

SHORT = 20.0  # seconds of work below which additional processes cost more time than they save
START = 4.0  # seconds for the start of a Python interpreter
MOST_WORKERS = 1024  # a larger number is a typing error
MOST_JOBS = 64  # per set of shadow models: a kill loses the current jobs, and every job is a folder with an open file
STACKS = (16, 128)  # widths that are measured on a GPU beside 1, see `_candidates`
NEVER = 1e12  # seconds of a mode that was not measured completely, in JSON, which has no infinity


@dataclass(frozen=True)
class Plan:
    """The expected cost of M shadow models, and the false positive rates that they resolve."""

    models: int
    mode: ExecutionMode
    each: float  # seconds per model in one process
    seconds: float
    memory: int  # bytes at the peak, all processes
    disk: int  # bytes
    fpr_target: float  # the smallest false positive rate that can be resolved for the target
    fpr_repeated: float  # the same for leave-one-out, where every shadow model is a target
    n_members: int  # judged members
    n_nonmembers: int  # judged non-members
    left_out: int  # non-members that would be judged without shadow models
    weights: int = 0  # bytes of the weights, a part of ``disk`` if they are kept
    kept: bool = True  # whether they are kept, so that a later attack can ask the models more
    reference: float = 0.0  # seconds of the training of one reference model for attacks without shadow models; 0: none
    note: str = ""  # why existing shadow models of the run cannot be used, in words

    def line(self) -> str:
        """The plan in one line."""
        processes = self.mode.processes(self.models)
        each = f"{self.mode.threads} threads each" if self.mode.threads > 1 else "one thread each"
        each += f" on {cores()} cores" if processes * self.mode.threads > cores() else ""
        width = min(self.mode.width, self.models)
        alone = f"{width} together" if width > 1 else "trained one at a time"
        how = f"{processes} at a time, {each}" if processes > 1 else alone
        how += ", recorded steps" if self.mode.cuda_graphs else ""
        disk = max(1, round(self.disk / 1e6))
        return (
            f"{self.models} shadow models ({how}): about {duration(self.seconds)}, {self.memory / 1e9:.1f} GB of memory,"
            f" {disk} MB of disk{self._weights()}; smallest target FPR with enough non-members: {_rate(self.fpr_target)} against"
            f" the target, {_rate(self.fpr_repeated)} in leave-one-out; {self._judged()}"
        ) + self._more()

    def _more(self) -> str:
        """The reference model, and why existing shadow models cannot be used."""
        reference = f"one reference model: about {duration(self.reference)}" if self.reference else ""
        return "".join(f"; {part}" for part in (reference, self.note) if part)

    def _weights(self) -> str:
        """Whether weights are kept."""
        if self.kept:
            return ""
        return (
            f" (their weights, {self.weights / 1e9:.1f} GB, are not kept: an attack with other questions trains again)"
        )

    def _judged(self) -> str:
        """The judged examples, of which there may be fewer than without shadow models."""
        text = f"{counted(self.n_members, 'member')} and {counted(self.n_nonmembers, 'non-member')} are judged"
        if not self.left_out:
            return text
        return f"{text} ({counted(self.left_out, 'non-member')} left out: shadow models need as many as members)"


@dataclass(frozen=True)
class Judged:
    """Numbers of examples on which attacks with shadow models are judged."""

    n_members: int
    n_nonmembers: int
    left_out: int  # non-members that would be judged without shadow models
    # effective numbers of independent examples, which are smaller if rows belong to groups or have copies
    independent: float  # non-members, for the target
    independent_repeated: float  # all examples, for leave-one-out


@dataclass(frozen=True)
class Measuring:
    """How execution modes are measured."""

    workers: int = 0  # processes of a mode; 0: as many as the cores allow
    cache: Path | None = None  # folder of earlier measurements, by device, network and recipe
    again: bool = True  # measure also if the cache contains a measurement


def plan(task: ShadowTask, judged: Judged, mode: ExecutionMode | None, measuring: Measuring) -> Plan:
    """The expected cost of shadow models in the fastest execution mode, from a few measured steps of every mode.

    mode: the mode of shadow models that were started earlier, which is then the only one to measure.
    """
    models = task.config.models
    mode, each = _fastest(task, measuring) if mode is None else (mode, _of_one(task, mode, measuring))
    return Plan(
        models=models,
        mode=mode,
        each=each,
        seconds=mode.seconds(each, models) + START * (mode.processes(models) > 1),
        memory=_memory(task, mode, models),
        disk=_disk(task, mode, models),
        weights=models * _weights_of_one(task),
        kept=fits(task.config, _weights_of_one(task)),
        fpr_target=10 / judged.independent,
        fpr_repeated=20 / (models * judged.independent_repeated),
        n_members=judged.n_members,
        n_nonmembers=judged.n_nonmembers,
        left_out=judged.left_out,
    )


def _fastest(task: ShadowTask, measuring: Measuring) -> tuple[ExecutionMode, float]:
    """The fastest mode and its seconds per model."""
    models, modes = task.config.models, _candidates(task, measuring.workers)
    seconds = _measured(task, modes, measuring)
    cut = [_cut(mode, models) for mode in modes]
    _, best = min((mode.seconds(each, models), k) for k, (mode, each) in enumerate(zip(cut, seconds, strict=True)))
    mode, each = cut[best], seconds[best]
    if measuring.workers == 0 and each * models < SHORT and mode.workers > 1:
        mode = replace(mode, workers=1)
    return mode, each


def _disk(task: ShadowTask, mode: ExecutionMode, models: int) -> int:
    """Expected bytes of signals, answers to probes (at most a number per answer), weights, histories and manifests."""
    config = task.trainer.config
    signals = 4 * (len(task.task.pool) * task.questions + len(task.population))
    history = 100 + (14 * config.epochs if config.select == "best" else 0)  # as JSON
    each = _weights_of_one(task)
    weights = each if fits(task.config, each) else 0
    return models * (signals + history + weights) + 600 * (2 + len(task.probes)) * -(-models // mode.job)


def _weights_of_one(task: ShadowTask) -> int:
    """Bytes of the weights of one model, without what a release needs."""
    net = task.task.net()
    return sum(t.numel() * t.element_size() for t in (*net.parameters(), *net.buffers()))


def _candidates(task: ShadowTask, workers: int) -> list[ExecutionMode]:
    """The modes to choose from.

    On a CPU there is only one: the fastest would depend on the machine's other load, and the last digits of a model on the mode.
    """
    threads = task.recipe.train.threads
    if task.trainer.device.type == "cpu":
        return [ExecutionMode(1, workers or at_once(threads), threads)]
    widths = [1, *(width for width in STACKS if width <= max(task.config.models, 8))]
    return [
        ExecutionMode(width, 1, threads, cuda_graphs=cuda_graphs)
        for width in widths
        for cuda_graphs in ((False, True) if width > 1 else (False,))
    ]


def _cut(mode: ExecutionMode, models: int) -> ExecutionMode:
    """The mode with at most `MOST_JOBS` jobs of whole stacks.

    The jobs depend only on the number of models, not on timings or processes, so that their folders are the same everywhere.
    """
    stacks = -(-models // mode.width)
    return replace(mode, job=mode.width * -(-stacks // MOST_JOBS))


def _measured(task: ShadowTask, modes: list[ExecutionMode], measuring: Measuring) -> list[float]:
    """Seconds per model in each mode, from the cache if allowed."""
    path = _path(task, modes, measuring.cache)
    seconds = None if measuring.again else _cached(path, len(modes))
    if seconds is None:
        seconds = seconds_of(task, modes)
        _keep(path, seconds)
    return seconds


def _of_one(task: ShadowTask, mode: ExecutionMode, measuring: Measuring) -> float:
    """Cached seconds per model in this mode if a complete measurement exists, else measured now."""
    modes = _candidates(task, measuring.workers)
    mode = replace(mode, workers=1, job=1)  # neither changes the seconds per model
    cached = None if measuring.again else _cached(_path(task, modes, measuring.cache), len(modes))
    for candidate, seconds in zip(modes, cached or [], strict=False):
        if replace(candidate, workers=1) == mode and seconds < NEVER:
            return seconds
    return _measured(task, [mode], measuring)[0]


def _path(task: ShadowTask, modes: list[ExecutionMode], cache: Path | None) -> Path | None:
    """The file of a measurement, named by a hash of the device, the versions, the recipe, the pool's shape and the modes."""
    if cache is None:
        return None
    device = environment(task.trainer.device)
    recipe = {k: v for k, v in task.recipe.training().items() if k != "seed"}
    size = [len(task.task.pool), *task.task.pool.shape]
    key = content_hash([recipe, size, device["device"], device["versions"], [asdict(mode) for mode in modes]])[:16]
    return cache / "measured" / f"{key}.json"


def _cached(path: Path | None, n_modes: int) -> list[float] | None:
    """Seconds per model in each mode from an earlier measurement; None without one, or if its file is damaged."""
    try:
        seconds = read_json(path, "seconds per model")["seconds per model"] if path is not None else None
    except UserError:
        return None
    valid = (
        isinstance(seconds, list) and len(seconds) == n_modes and all(isinstance(s, float) and s > 0 for s in seconds)
    )
    return seconds if valid else None


def _keep(path: Path | None, seconds: list[float]) -> None:
    if path is not None:
        with contextlib.suppress(OSError):  # without a writable cache it is measured again next time
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, {"seconds per model": [min(s, NEVER) for s in seconds]})


def seconds_of(task: ShadowTask, modes: list[ExecutionMode]) -> list[float]:
    """Seconds per model of a complete training in each mode; infinite for a mode that is certainly slower than another."""
    found: list[float] = []
    best: list[float] = []
    for mode in modes:
        with threads(mode.threads):
            seconds, first = timing.seconds_per_model(task, mode.of(task.trainer), best)
        if seconds <= min(found, default=math.inf):
            best = [s / mode.workers for s in first]
        found.append(seconds)
    return found


def _memory(task: ShadowTask, mode: ExecutionMode, models: int) -> int:
    """Expected bytes at the peak: the larger one of training in all processes and of judging.

    Training: the peak of this process so far, and per model weights, gradients, momentum, update and best checkpoint.
    Judging: four copies of the answers to the pool, and five numbers per score of leave-one-out.
    """
    now = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    net = task.task.net()
    weights = 4 * sum(p.numel() for p in net.parameters())
    pool = len(task.task.pool)
    judging = now + 8 * pool * (4 * task.task.pool.num_classes * task.views + 5 * models)
    return max(mode.processes(models) * (now + 5 * weights * mode.width), judging)


def _rate(fpr: float) -> str:
    return f"{100 * fpr:.2g} %" if fpr < 0.995 else "none"
