"""Shadow training against the published way, and against what the machine's own matrix products reach, in one run.

    python -m benchmarks.shadows [SHAPE ...] [--short] [--rounds N] [--device cpu|cuda] [--models M] [--no-save]

On a CPU both sides have one process of one thread per core, all busy at once; on a CUDA device ours trains M models
together and the published way trains one after the other. Both train the same HAMP recipe, 1 and E epochs of it: the first
one with all that happens once per model, from the difference the time of each further epoch. Made-up bits and pixels stand
for the data: time does not depend on them. The shapes of images have the inputs of CIFAR-10 and few rows, as a processor
needs days for all; their last measurements are of each way in a process of its own, for its peak of memory.
"""

from __future__ import annotations

import argparse
import itertools
import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import machine, published
from hampkit.config.recipe import TrainConfig
from hampkit.data.base import Place
from hampkit.data.toy import Toy
from hampkit.defenses.hamp import Hamp, soft_labels
from hampkit.launch.local import cores, run_jobs
from hampkit.nets import net_factory
from hampkit.training import Trainer
from hampkit.training.cuda_graphs import cuda_graph
from hampkit.types import Dataset, Domain, Task

SGD = TrainConfig(
    optimizer="sgd", momentum=0.99, weight_decay=1e-5, lr=0.5, schedule="steps", shuffle=False, restart_optimizer=True
)


@dataclass(frozen=True)
class Shape:
    """The size of a published problem with its HAMP recipe."""

    rows: int  # members of a shadow model
    val: int  # rows that choose its checkpoint
    test: int  # rows whose accuracy the published way takes after every epoch
    inputs: tuple[int, ...]  # of an example: bits, or the pixels of an image
    classes: int
    batch: int
    epochs: int
    gamma: float
    alpha: float
    net: str = "mlp"

    def training(self, epochs: int) -> TrainConfig:
        milestones = tuple(m for m in (60, 90, 150) if m < epochs)
        return replace(SGD, batch_size=self.batch, epochs=epochs, milestones=milestones, retries=0)


SHAPES = {
    "location30": Shape(1350, 300, 710, (446,), 30, 64, 100, 0.5, 0.001),
    "purchase100": Shape(18_000, 2000, 2000, (600,), 100, 32, 200, 0.8, 0.01),
    "purchase100-batch64": Shape(18_000, 2000, 2000, (600,), 100, 64, 200, 0.8, 0.01),
    "texas100": Shape(13_500, 1500, 1500, (6169,), 100, 32, 100, 0.6, 0.01),
    "images-resnet9": Shape(256, 32, 32, (3, 32, 32), 10, 64, 100, 0.95, 0.001, "resnet9"),
    "images-densenet": Shape(256, 32, 32, (3, 32, 32), 10, 64, 100, 0.95, 0.001, "densenet"),
}
SHORT = {"location30": 12, "purchase100": 2}  # epochs of a round; the other shapes are left out
FULL = {
    "location30": 60,
    "purchase100": 3,
    "purchase100-batch64": 3,
    "texas100": 2,
    "images-resnet9": 5,
    "images-densenet": 2,
}


def made_up(rows: int, inputs: tuple[int, ...], classes: int) -> Dataset:
    """Bits, or pixels from 0 to 255."""
    if len(inputs) == 1:
        return Toy(rows=rows, features=inputs[0], classes=classes).load(Place(None, Path()))
    rng = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (rows, *inputs), generator=rng, dtype=torch.uint8)
    y = torch.randint(classes, (rows,), generator=rng)
    return Dataset("images", x, y, classes, Domain.grid(inputs, 0, 255, 1))


class Bench:
    """One shape with its data, in one process."""

    def __init__(self, shape: Shape, device: torch.device, models: int) -> None:
        self.shape, self.device = shape, device
        rows = shape.rows + shape.val + shape.test
        data = made_up(rows, shape.inputs, shape.classes)
        cuts = np.cumsum([0, shape.rows, shape.val, shape.test])
        parts = [data.take(torch.arange(a, b)) for a, b in itertools.pairwise(cuts.tolist())]
        self.parts = dict(zip(("train", "val", "test"), parts, strict=True))
        self.net = net_factory(shape.net, shape.inputs, shape.classes)
        everyone = torch.ones(models, shape.rows, dtype=torch.bool)
        self.task = Task(parts[0], everyone, tuple(range(models)), self.net, val=parts[1])

    def ours(self, epochs: int, precision: Literal["float32", "bfloat16"] = "float32", recorded: bool = True) -> float:
        config = replace(self.shape.training(epochs), precision=precision)
        record = cuda_graph if recorded and self.device.type == "cuda" else None
        trainer = Trainer(config, self.device, width=len(self.task), cuda_graphs=record)
        defense = Hamp(gamma=self.shape.gamma, alpha=self.shape.alpha, kl="mean", grid=0.01)
        return self._timed(lambda: defense.fit(self.task, trainer)) / len(self.task)

    def published(self, epochs: int) -> float:
        parts = {k: (d.x.float().to(self.device), d.y.to(self.device)) for k, d in self.parts.items()}
        y = self.parts["train"].y
        targets = soft_labels(y, self.shape.classes, self.shape.gamma, 0.01).float().to(self.device)
        net = self.net().to(self.device)
        config = self.shape.training(epochs)
        with tempfile.TemporaryDirectory() as folder:
            return self._timed(
                lambda: published.train(net, parts, targets, config, self.shape.alpha, Path(folder), epochs)
            )

    def flops(self) -> float:
        """Floating-point operations in the matrix products of one epoch of ours: training steps and validation."""
        net, rows = self.net(), self.shape.batch
        x, y = torch.zeros(rows, *self.shape.inputs), torch.zeros(rows, dtype=torch.long)
        with FlopCounterMode(display=False) as step:
            cross_entropy(net(x), y).backward()
        with torch.no_grad(), FlopCounterMode(display=False) as answer:
            net(x)
        a, b = step.get_total_flops() / rows, answer.get_total_flops() / rows
        return a * self.shape.rows + b * self.shape.val

    def products(self) -> dict[str, float]:
        """Seconds per step that the products of its linear layers take alone, on warm operands; and of nothing but them."""
        layers = [m for m in self.net().modules() if isinstance(m, nn.Linear)]
        rows = self.shape.batch
        sums: list[Callable[[], Any]] = []
        for k, layer in enumerate(layers):
            w, x = layer.weight.detach().to(self.device), torch.rand(rows, layer.in_features, device=self.device)
            g = torch.rand(rows, layer.out_features, device=self.device)
            sums += [lambda x=x, w=w: x @ w.t(), lambda x=x, g=g: g.t() @ x]
            sums += [lambda g=g, w=w: g @ w] if k else []
        return {"warm": sum(self._each(f) for f in sums), "in turn": self._each(lambda: [f() for f in sums])}

    def profile(self) -> dict[str, float]:
        """Where one epoch of ours goes, in shares of its time."""
        from torch.profiler import ProfilerActivity, profile

        self.ours(1)
        with profile(activities=[ProfilerActivity.CPU]) as seen:
            self.ours(2)
        events = [e for e in seen.key_averages() if "cuda" not in e.key.lower()]
        total = sum(e.self_cpu_time_total for e in events)
        groups = {
            "matrix products": ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm"),
            "convolutions": ("aten::mkldnn_convolution", "aten::convolution_backward"),
            "batch norm": ("aten::native_batch_norm", "aten::native_batch_norm_backward"),
            "tanh and its slope": ("aten::tanh", "aten::tanh_backward"),
            "update": ("aten::_fused_sgd_", "Optimizer.step#SGD.step", "Optimizer.zero_grad#SGD.zero_grad"),
            "initialisation": ("aten::uniform_",),
        }
        shares = {g: sum(e.self_cpu_time_total for e in events if e.key in keys) / total for g, keys in groups.items()}
        shares = {group: share for group, share in shares.items() if share >= 0.005}
        return {**shares, "all else (loss, gathering batches, autograd, Python)": 1 - sum(shares.values())}

    def _timed(self, work: Callable[[], Any]) -> float:
        machine.synchronize(self.device)
        clock = time.perf_counter()
        work()
        machine.synchronize(self.device)
        return time.perf_counter() - clock

    def _each(self, call: Callable[[], Any], times: int = 50) -> float:
        call()
        return min(self._timed(lambda: [call() for _ in range(times)]) / times for _ in range(3))


def worker(context: dict[str, Any]) -> Callable[[dict[str, Any], Callable[[dict[str, Any]], None]], None]:
    """What each process does with its jobs: see `hampkit.launch.local.run_jobs`."""
    device = torch.device(context["device"])
    bench = Bench(Shape(**context["shape"]), device, context["models"])
    calls: dict[str, Callable[[int], Any]] = {
        "peak": lambda _: machine.matrix_rate(device),
        "copy": lambda _: machine.copy_rate(device),
        "ours": bench.ours,
        "ours in bfloat16": lambda epochs: bench.ours(epochs, "bfloat16"),
        "ours, not recorded": lambda epochs: bench.ours(epochs, recorded=False),
        "published": bench.published,
        "products": lambda _: bench.products(),
        "profile": lambda _: bench.profile(),
    }

    def work(job: dict[str, Any], tell: Callable[[dict[str, Any]], None]) -> None:
        value = calls[job["what"]](job["epochs"])
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        tell({"what": job["what"], "epochs": job["epochs"], "value": value, "memory": memory})

    return work


def measure(name: str, epochs: int, rounds: int, device: str, models: int) -> dict[str, Any]:
    """All numbers of one shape. Rates are of all processes together, as they ran at the same time."""
    shape = SHAPES[name]
    processes = cores() if device == "cpu" else 1
    once = ["ours", "ours in bfloat16", "published", *(["ours, not recorded"] if device == "cuda" else [])]
    order = [(w, 1) for w in once]  # warm up
    order += [("peak", 0), *((w, e) for w in once for e in (1, epochs))] * rounds
    order += [("peak", 0), ("copy", 0), ("products", 0), *([("profile", 0)] if device == "cpu" else [])]
    jobs = [{"what": what, "epochs": e} for what, e in order for _ in range(processes)]
    seen: list[dict[str, Any]] = []
    context = {"shape": shape.__dict__, "device": device, "models": models}
    run_jobs("benchmarks.shadows:worker", context, jobs, processes, seen.append)
    counted = seen[len(once) * processes :]

    def values(what: str, e: int = 0) -> list[Any]:
        return [s["value"] for s in counted if (s["what"], s["epochs"]) == (what, e)]

    def seconds(what: str) -> np.ndarray:
        """Per model of a whole recipe, one for each time that E epochs were trained."""
        first = np.median(values(what, 1))
        return first + (np.array(values(what, epochs)) - first) / (epochs - 1) * (shape.epochs - 1)

    took = {what: seconds(what) for what in once}
    ours, rough, theirs = (took[what] for what in once[:3])
    if device == "cpu":
        memory = {what: alone(what, context) for what in once}
    else:  # what counts there is the device's memory, and its time is dear
        memory = {"all ways": max(s["memory"] for s in seen if s["what"] in once)}
    flops = Bench(shape, torch.device("cpu"), 1).flops() * shape.epochs
    peak, step = float(np.median(values("peak"))), float(np.median([p["in turn"] for p in values("products")]))
    return {
        "shape": name,
        "processes": processes,
        "models together": models,
        "epochs measured": epochs,
        "seconds per model and process": {k: v.tolist() for k, v in took.items()},
        "models per minute": {k: models_per_minute(v, processes) for k, v in took.items()},
        "ratio": float(np.median(theirs) / np.median(ours)),
        "ratio in bfloat16": float(np.median(theirs) / np.median(rough)),
        "flop per model": flops,
        "flop/s of ours": flops * processes / float(np.median(ours)),
        "flop/s of 1024 x 1024 products": peak * processes,
        "share of that": flops / float(np.median(ours)) / peak,
        "share of that in bfloat16": flops / float(np.median(rough)) / peak,
        "share of the step that its products take alone": step * steps(shape) / float(np.median(ours))
        if shape.net == "mlp"
        else None,
        "copy rate": float(np.median(values("copy"))) * processes,
        "peak memory of a process": memory,
        "profile": values("profile")[0] if device == "cpu" else {},
    }


def alone(what: str, context: dict[str, Any]) -> float:
    """Peak memory of a process that trains in this way only, two epochs."""
    seen: list[dict[str, Any]] = []
    run_jobs("benchmarks.shadows:worker", context, [{"what": what, "epochs": 2}], 1, seen.append)
    return seen[0]["memory"]


def models_per_minute(seconds: np.ndarray, processes: int) -> float:
    return 60 * processes / float(np.median(seconds))


def steps(shape: Shape) -> int:
    return shape.epochs * -(-shape.rows // shape.batch)


def _row(m: dict[str, Any]) -> dict[str, str]:
    rate, seconds = m["models per minute"], m["seconds per model and process"]
    products = m["share of the step that its products take alone"]
    spread = {k: f"{min(v):.1f} to {max(v):.1f}" for k, v in seconds.items()}
    return {
        "shape": f"{m['shape']} ({m['processes']} x {m['models together']}, {m['epochs measured']} epochs a round)",
        "models per minute, ours": f"{rate['ours']:.2f}",
        "ours in bfloat16": f"{rate['ours in bfloat16']:.2f}",
        "published way": f"{rate['published']:.2f}",
        **({k: f"{rate[k]:.2f}" for k in ("ours, not recorded",) if k in rate}),
        "ratios to it": f"{m['ratio']:.2f}, {m['ratio in bfloat16']:.2f}",
        "seconds per model and process, in that order": "; ".join(spread.values()),
        "GFLOP/s, ours": f"{m['flop/s of ours'] / 1e9:.0f}",
        "of 1024 x 1024 products": f"{m['flop/s of 1024 x 1024 products'] / 1e9:.0f} ({100 * m['share of that']:.0f} %,"
        f" in bfloat16 {100 * m['share of that in bfloat16']:.0f} %)",
        "products of a step alone": f"{100 * products:.0f} % of the time" if products else "–",
        "peak memory of a process, MB": "; ".join(f"{v / 1e6:.0f}" for v in m["peak memory of a process"].values()),
    }


def _notes(m: dict[str, Any]) -> list[str]:
    shares = ", ".join(f"{k} {100 * v:.0f} %" for k, v in m["profile"].items())
    notes = [f"{m['shape']}: where the time of ours goes (profiler, two epochs): {shares}."] if shares else []
    weights = 4 * sum(p.numel() for p in Bench(SHAPES[m["shape"]], torch.device("cpu"), 1).net().parameters())
    passes = np.median(m["seconds per model and process"]["ours"]) / steps(SHAPES[m["shape"]])
    passes *= m["copy rate"] / m["processes"] / weights
    return [
        *notes,
        f"{m['shape']}: a step takes as long as copying the weights' bytes {passes:.1f} times (read or written).",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("shapes", nargs="*", help=f"of {', '.join(SHAPES)}; default: all")
    parser.add_argument("--short", action="store_true", help="a minute or two instead of an hour")
    parser.add_argument("--rounds", type=int, default=0)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--models", type=int, default=0, help="that ours trains together; default: 1, on CUDA 128")
    parser.add_argument("--no-save", action="store_true", help="print only")
    asked = parser.parse_args()
    unknown = set(asked.shapes) - set(SHAPES)
    if unknown:
        parser.error(f"no shape {', '.join(sorted(unknown))}; there are {', '.join(SHAPES)}")
    epochs = SHORT if asked.short else FULL
    names = asked.shapes or list(epochs)
    models = asked.models or (128 if asked.device == "cuda" else 1)
    rounds = asked.rounds or (1 if asked.short else 3)
    found = []
    for name in names:
        found.append(measure(name, epochs.get(name, 2), rounds, asked.device, models))
        print("\n".join(f"{k}: {v}" for k, v in _row(found[-1]).items()), *_notes(found[-1]), sep="\n", flush=True)
    if not asked.no_save:
        for section, images in (("shadow training", False), ("shadow training on images", True)):
            some = [m for m in found if (SHAPES[m["shape"]].net != "mlp") == images]
            if some:
                print(save(section, some, asked, rounds))


def save(section: str, found: list[dict[str, Any]], asked: argparse.Namespace, rounds: int) -> Path:
    """Into the file of this machine, with the command that measures these shapes again."""
    words = [*(m["shape"] for m in found), *(["--short"] if asked.short else []), f"--rounds {rounds}"]
    document = {
        "command": f"python -m benchmarks.shadows {' '.join(words)} --device {asked.device}",
        "rows": [_row(m) for m in found],
        "notes": [note for m in found for note in _notes(m)],
        "numbers": found,
    }
    return machine.save(section, document, asked.device)


if __name__ == "__main__":
    main()
