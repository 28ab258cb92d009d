"""What shadow models will cost, and how they run best: measured in a few steps on this machine, never believed."""

from __future__ import annotations

import contextlib
import math
import resource
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from hampkit.config.content import content_hash
from hampkit.durations import duration
from hampkit.errors import UserError
from hampkit.launch.local import at_once, cores
from hampkit.runs.environment import environment
from hampkit.runs.store import read_json, write_json
from hampkit.shadow_models import timing
from hampkit.shadow_models.base import ShadowTask
from hampkit.training import Trainer
from hampkit.training.cuda_graphs import cuda_graph
from hampkit.training.threads import threads

SHORT = 20.0  # seconds of work below which starting processes costs more than it saves
START = 4.0  # seconds that an interpreter takes to start
MOST_WORKERS = 1024  # more is a slip of the finger
MOST_JOBS = 64  # folders of a set of shadow models: a kill loses the jobs in flight, and each folder holds a file open
STACKS = (16, 128)  # widths that are tried on a GPU beside one by one, which is the only way on a CPU: see `_ways`


NEVER = 1e12  # seconds, of a way that was not measured to the end: JSON has no infinity


@dataclass(frozen=True)
class ExecutionMode:
    """How shadow models run."""

    width: int = 1  # models that are trained together
    workers: int = 1  # processes
    threads: int = 1  # of each process, as the recipe has it
    job: int = 1  # models whose results appear together
    cuda_graphs: bool = False  # steps are CUDA graphs

    def of(self, trainer: Trainer) -> Trainer:
        """The same trainer, running its models in this way."""
        return replace(trainer, width=self.width, cuda_graphs=cuda_graph if self.cuda_graphs else None)

    def processes(self, models: int) -> int:
        """How many will work: no more than there are jobs."""
        return min(self.workers, -(-models // self.job))

    def seconds(self, each: float, models: int) -> float:
        """What so many models take, where one model takes a process so long."""
        jobs, processes = -(-models // self.job), self.processes(models)
        busiest = min(-(-jobs // processes) * self.job, models)  # the models of the process that is done last
        return each * max(busiest, models / at_once(self.threads))  # more processes than that share the cores


@dataclass(frozen=True)
class Plan:
    """The expected cost of M shadow models, and what they will show."""

    models: int
    mode: ExecutionMode
    each: float  # seconds of one model in one process
    seconds: float
    memory: int  # bytes at the peak, all processes
    disk: int  # bytes
    fpr_target: float  # the smallest false-positive rate that can be resolved against the one target
    fpr_repeated: float  # the same with every shadow model as the target
    members: int  # that are judged against the target
    nonmembers: int  # the same
    left_out: int  # non-members that would be judged without shadow models
    note: str = ""  # what of other shadow models that are there cannot be used, and why

    def line(self) -> str:
        """In one line of plain words."""
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
            f" {disk} MB of disk; resolves a false-positive rate of {_rate(self.fpr_target)} against the target,"
            f" {_rate(self.fpr_repeated)} leave-one-out; {self._people()}"
        ) + (f"; {self.note}" if self.note else "")

    def _people(self) -> str:
        """Who is judged: not the same as without shadow models."""
        said = f"judged are {self.members:,} members and {self.nonmembers:,} non-members"
        if not self.left_out:
            return said
        return f"{said} ({self.left_out:,} non-members take no part: shadow models need as many as members)"


@dataclass(frozen=True)
class Judged:
    """How many examples the attacks with shadow models are judged on."""

    members: int
    nonmembers: int
    left_out: int  # non-members that would be judged without shadow models
    # effective numbers, if groups or copies of rows depend on each other: of non-members against the target, of leave-one-out's
    independent: float
    independent_repeated: float


def plan(
    task: ShadowTask,
    judged: Judged,
    mode: ExecutionMode | None = None,
    *,
    workers: int = 0,
    cache: Path | None = None,
    anew: bool = True,
) -> Plan:
    """The expected cost of shadow models, from a few measured steps of every mode; the quickest one is taken.

    mode: the settled one, if there is one; then only it is measured. workers: processes; 0: as many as the cores hold.
    cache: a folder that keeps measurements per device, network and recipe; anew: measure again all the same.
    """
    models = task.config.models
    mode, each = (
        _best(task, workers, cache, anew) if mode is None else (mode, _of_one(task, mode, workers, cache, anew))
    )
    return Plan(
        models=models,
        mode=mode,
        each=each,
        seconds=mode.seconds(each, models) + START * (mode.processes(models) > 1),
        memory=_memory(task, mode, models),
        disk=_disk(task, mode, models),
        fpr_target=10 / judged.independent,
        fpr_repeated=20 / (models * judged.independent_repeated),
        members=judged.members,
        nonmembers=judged.nonmembers,
        left_out=judged.left_out,
    )


def _best(task: ShadowTask, workers: int, cache: Path | None, anew: bool) -> tuple[ExecutionMode, float]:
    """The quickest mode and its seconds per model."""
    models, ways = task.config.models, _ways(task, workers)
    seconds = _measured(task, ways, cache, anew)
    cut = [_cut(way, models) for way in ways]
    _, best = min((way.seconds(each, models), k) for k, (way, each) in enumerate(zip(cut, seconds, strict=True)))
    mode, each = cut[best], seconds[best]
    if workers == 0 and each * models < SHORT and mode.workers > 1:
        mode = replace(mode, workers=1)
    return mode, each


def _disk(task: ShadowTask, mode: ExecutionMode, models: int) -> int:
    """Bytes of signals, histories and manifests."""
    config = task.trainer.config
    signals = 4 * (len(task.task.pool) * task.views + len(task.population))
    history = 100 + (14 * config.epochs if config.select == "best" else 0)  # as JSON
    return models * (signals + history) + 600 * -(-models // mode.job)


def _ways(task: ShadowTask, workers: int) -> list[ExecutionMode]:
    """On a CPU there is one: which one is quicker would differ from day to day, and with it the last digits of a model."""
    threads = task.recipe.train.threads
    if task.trainer.device.type == "cpu":
        return [ExecutionMode(1, workers or at_once(threads), threads)]
    widths = [1, *(width for width in STACKS if width <= max(task.config.models, 8))]
    return [
        ExecutionMode(width, 1, threads, cuda_graphs=r)
        for width in widths
        for r in ((False, True) if width > 1 else (False,))
    ]


def _cut(mode: ExecutionMode, models: int) -> ExecutionMode:
    """The same, cut into at most `MOST_JOBS` jobs of whole stacks.

    The cut follows from the number of models alone, not from a clock or from processes: the same folders everywhere.
    """
    stacks = -(-models // mode.width)
    return replace(mode, job=mode.width * -(-stacks // MOST_JOBS))


def _measured(task: ShadowTask, ways: list[ExecutionMode], cache: Path | None, anew: bool) -> list[float]:
    """Seconds per model of every way, cached ones unless they are to be measured anew."""
    path = _path(task, ways, cache)
    seconds = None if anew else _cached(path, len(ways))
    if seconds is None:
        seconds = seconds_of(task, ways)
        _keep(path, seconds)
    return seconds


def _of_one(task: ShadowTask, mode: ExecutionMode, workers: int, cache: Path | None, anew: bool) -> float:
    """Cached seconds per model in this mode if a complete measurement exists, else measured now."""
    ways = _ways(task, workers)
    mode = replace(mode, workers=1, job=1)  # neither changes what a model takes
    before = None if anew else _cached(_path(task, ways, cache), len(ways))
    for way, seconds in zip(ways, before or [], strict=False):
        if replace(way, workers=1) == mode and seconds < NEVER:
            return seconds
    return _measured(task, [mode], cache, anew)[0]


def _path(task: ShadowTask, ways: list[ExecutionMode], cache: Path | None) -> Path | None:
    """A name for all that the speed depends on: the device, the versions, the network and how it is trained."""
    if cache is None:
        return None
    device = environment(task.trainer.device)
    recipe = {k: v for k, v in task.recipe.training().items() if k != "seed"}
    size = [len(task.task.pool), *task.task.pool.shape]
    key = content_hash([recipe, size, device["device"], device["versions"], [asdict(w) for w in ways]])[:16]
    return cache / "measured" / f"{key}.json"


def _cached(path: Path | None, ways: int) -> list[float] | None:
    """Seconds per model of each way from an earlier measurement; None without one, or if its file is damaged."""
    try:
        seconds = read_json(path, "seconds per model")["seconds per model"] if path is not None else None
    except UserError:
        return None
    valid = isinstance(seconds, list) and len(seconds) == ways and all(isinstance(s, float) and s > 0 for s in seconds)
    return seconds if valid else None


def _keep(path: Path | None, seconds: list[float]) -> None:
    if path is not None:
        with contextlib.suppress(OSError):  # a cache that cannot be written costs a measurement, nothing else
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, {"seconds per model": [min(s, NEVER) for s in seconds]})


def seconds_of(task: ShadowTask, ways: list[ExecutionMode]) -> list[float]:
    """Seconds per model of a whole training in each way; infinite for one that is soon seen to be slower than another."""
    found: list[float] = []
    best: list[float] = []
    for mode in ways:
        with threads(mode.threads):
            seconds, first = timing.seconds_per_model(task, mode.of(task.trainer), best)
        if seconds <= min(found, default=math.inf):
            best = [s / mode.workers for s in first]
        found.append(seconds)
    return found


def _memory(task: ShadowTask, mode: ExecutionMode, models: int) -> int:
    """Training: this process's peak so far, and per model weights, gradients, momentum, the update and the best checkpoint.

    Judging: four copies of the answers to the pool, and of all scores of leave-one-out five numbers each.
    """
    now = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    net = task.task.net()
    weights = 4 * sum(p.numel() for p in net.parameters())
    pool = len(task.task.pool)
    judging = now + 8 * pool * (4 * task.task.pool.num_classes * task.views + 5 * models)
    return max(mode.processes(models) * (now + 5 * weights * mode.width), judging)


def _rate(fpr: float) -> str:
    return f"{100 * fpr:.2g} %" if fpr <= 1 else "none"
