"""What shadow models will cost, and how they run best: measured in a few steps on this machine, never believed."""

from __future__ import annotations

import contextlib
import resource
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from hampkit.config import content_hash
from hampkit.environment import environment
from hampkit.errors import UserError
from hampkit.launch import cores
from hampkit.problem import Problem
from hampkit.rng import derive
from hampkit.store import read_json, write_json

SHORT = 20.0  # seconds of work below which starting processes costs more than it saves
JOB_SECONDS = 20.0  # a kill loses at most the jobs in flight
STACKS = {"cpu": (8,), "cuda": (16, 128)}  # widths that are tried beside one


@dataclass(frozen=True)
class Mode:
    """How shadow models run."""

    width: int = 1  # models that are trained together
    workers: int = 1  # processes
    threads: int = 0  # of each process; 0: torch's own choice
    job: int = 1  # models whose results appear together

    @contextlib.contextmanager
    def threads_set(self) -> Iterator[None]:
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads or before)
        try:
            yield
        finally:
            torch.set_num_threads(before)


@dataclass(frozen=True)
class Plan:
    """The expected cost of M shadow models, and what they will show."""

    models: int
    mode: Mode
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
        how = f"{self.mode.workers} at a time, one per core" if self.mode.workers > 1 else f"{self.mode.width} together"
        return (
            f"{self.models} shadow models ({how}): about {_duration(self.seconds)}, {self.memory / 1e9:.1f} GB of memory,"
            f" {self.disk / 1e6:.0f} MB of disk; resolves a false-positive rate of {_rate(self.fpr_target)} against the target,"
            f" {_rate(self.fpr_repeated)} leave-one-out; {self._people()}"
        ) + (f"; {self.note}" if self.note else "")

    def _people(self) -> str:
        """Who is judged: not the same as without shadow models."""
        said = f"judged are {self.members:,} members and {self.nonmembers:,} non-members"
        if not self.left_out:
            return said
        return f"{said} ({self.left_out:,} non-members take no part: shadow models need as many as members)"


def plan(problem: Problem, models: int, workers: int = 0, cache: Path | None = None, anew: bool = True) -> Plan:
    """Measure a few steps of every way to run and take the quickest; workers: 0 lets the measurement decide.

    cache: a folder that keeps what was measured, per device, network and recipe; anew: measure again all the same.
    """
    device = problem.trainer.device.type
    all_cores = cores()
    ways = [Mode(1, threads=1, workers=workers or (all_cores if device == "cpu" else 1)), Mode(1)]
    ways += [Mode(width) for width in STACKS[device] if width <= max(models, 8)]
    path = None if cache is None else cache / "measured" / f"{_key(problem, ways)}.json"
    seconds = None if anew else _remembered(path, len(ways))
    if seconds is None:
        seconds = [seconds_per_model(problem, mode) for mode in ways]
        _remember(path, seconds)
    cost, best = min((s / mode.workers, k) for k, (s, mode) in enumerate(zip(seconds, ways, strict=True)))
    mode = ways[best]
    if workers == 0 and cost * models < SHORT and mode.workers > 1:
        mode = replace(mode, workers=1)
        cost *= all_cores
    job = max(mode.width, min(int(JOB_SECONDS / max(cost * mode.workers, 1e-3)), -(-models // mode.workers), 16), 1)
    mode = replace(mode, job=job - job % mode.width or mode.width)
    pool, others = len(problem.task.pool), len(problem.test)
    signals = 4 * (pool * problem.views + min(others, 10_000))
    history = 100 + (14 * problem.trainer.config.epochs if problem.trainer.config.select == "best" else 0)  # as JSON
    disk = models * (signals + history) + 600 * -(-models // mode.job)
    members, nonmembers = problem.judged()
    start = 4.0 * (mode.workers > 1)  # seconds that an interpreter takes to start
    return Plan(
        models=models,
        mode=mode,
        seconds=cost * models + start,
        memory=_memory(problem, mode, models),
        disk=disk,
        fpr_target=10 / nonmembers,
        fpr_repeated=20 / (models * pool),
        members=members,
        nonmembers=nonmembers,
        left_out=problem.left_out(),
    )


def _key(problem: Problem, ways: list[Mode]) -> str:
    """Of all that the speed depends on: the device, the versions, the network and how it is trained."""
    device = environment(problem.trainer.device)
    recipe = {k: v for k, v in problem.recipe.training().items() if k != "seed"}
    size = [len(problem.task.pool), *problem.task.pool.shape]
    return content_hash([recipe, size, device["device"], device["versions"], [asdict(w) for w in ways]])[:16]


def _remembered(path: Path | None, ways: int) -> list[float] | None:
    """The seconds per model of each way, or nothing where they were not measured or the file is no use."""
    try:
        seconds = read_json(path, "seconds per model")["seconds per model"] if path is not None else None
    except UserError:
        return None
    valid = isinstance(seconds, list) and len(seconds) == ways and all(isinstance(s, float) and s > 0 for s in seconds)
    return seconds if valid else None


def _remember(path: Path | None, seconds: list[float]) -> None:
    if path is not None:
        with contextlib.suppress(OSError):  # a cache that cannot be written costs a measurement, nothing else
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, {"seconds per model": seconds})


def seconds_per_model(problem: Problem, mode: Mode) -> float:
    """Of a whole training, from short ones: T(E, b) = c + E (a b + v) with E epochs, b batches, v the validation pass."""
    config = problem.trainer.config
    batches = -(-(len(problem.task.pool) // 2) // config.batch_size) * config.passes_per_epoch
    few, many = min(3, batches), min(9, batches)
    with mode.threads_set():
        _time(problem, mode, 1, few)  # warm up
        once, thrice = (_time(problem, mode, epochs, few) for epochs in (1, 3))
        longer = _time(problem, mode, 3, many) if many > few else thrice
    epoch = max((thrice - once) / 2, 1e-6)
    batch = min(max((longer - thrice) / 3 / max(many - few, 1), 0), epoch / few)
    start = max(once - epoch, 0)
    if many == few:
        return (start + config.epochs * epoch) / mode.width
    return (start + config.epochs * (batch * batches + epoch - batch * few)) / mode.width


def _time(problem: Problem, mode: Mode, epochs: int, batches: int) -> float:
    config = problem.trainer.config
    rows = torch.arange(len(problem.task.pool))
    count = min(batches * config.batch_size // config.passes_per_epoch or 1, len(rows) // 2)
    members = (rows < count).expand(mode.width, -1).clone()
    seeds = tuple(derive(problem.recipe.seed, "measure", m) for m in range(mode.width))
    milestones = tuple(m for m in config.milestones if m < epochs)
    short = replace(config, epochs=epochs, retries=0, milestones=milestones)
    task = replace(problem.task, members=members, seeds=seeds, val=problem.shadow_val)
    trainer = replace(problem.trainer, config=short, width=mode.width, track=lambda *_: None)
    _synchronize(trainer.device)
    clock = time.perf_counter()
    problem.defense.fit(task, trainer)
    _synchronize(trainer.device)
    return time.perf_counter() - clock


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _memory(problem: Problem, mode: Mode, models: int) -> int:
    """Training: this process's peak so far, and per model weights, gradients, momentum, the update and the best checkpoint.

    Judging: four copies of the answers to the pool, and of all scores of leave-one-out five numbers each.
    """
    now = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    net = problem.task.net()
    weights = 4 * sum(p.numel() for p in net.parameters())
    pool = len(problem.task.pool)
    judging = now + 8 * pool * (4 * problem.task.pool.num_classes * problem.views + 5 * models)
    return max(mode.workers * (now + 5 * weights * mode.width), judging)


def _duration(seconds: float) -> str:
    """
    >>> _duration(95), _duration(7300)
    ('95 s', '2 h 2 min')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def _rate(fpr: float) -> str:
    return f"{100 * fpr:.2g} %" if fpr <= 1 else "none"
