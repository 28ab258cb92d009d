"""The models of a user's own training function: each is trained, asked and written as one step of a run."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from hampkit.data.base import fingerprint
from hampkit.errors import UserError
from hampkit.registry import load_own
from hampkit.rng import derive
from hampkit.runs.step import Step
from hampkit.runs.store import Run, read_json, write_json
from hampkit.shadow_models.job_models import place_of
from hampkit.targets.answers import Kind
from hampkit.targets.encoding import Encoding, Place
from hampkit.targets.training_function import About, Fit, fitted, kept_answers
from hampkit.types import Probe
from hampkit.workflows.chosen_attacks import attacks_from_json, shadow_probes_of

FAILED = "failed.json"  # probe → why the model cannot answer its questions


class ModelAnswers(NamedTuple):
    """The answers of one model."""

    records: NDArray[Any]  # (N, C) to all records as they are
    probes: dict[Probe, NDArray[np.float32]]  # what each probe kept, (P, k)
    failed: dict[Probe, str]  # why the model cannot answer the questions of others


@dataclass(frozen=True)
class OwnModels:
    """Models of one training function on one table, model 0 the target."""

    function: Fit
    about: About  # the records, and those that probes ask about
    masks: NDArray[np.bool_]  # (1 + M, N): which records each is trained on
    seed: int
    kind: Kind = "auto"  # of the answers

    def __len__(self) -> int:
        return len(self.masks)

    def step(self, m: int, probes: Sequence[Probe]) -> Step[ModelAnswers]:
        """The answers of model m. Without probes the step keeps the name that earlier versions gave it."""
        key: dict[str, Any] = {"members": fingerprint(torch.from_numpy(self.masks[m]))}
        if probes:
            key |= {"probes": sorted(map(place_of, probes)), "kind": self.kind}
        return Step(
            f"models/{m:03d}", key, lambda folder: self._write(m, probes, folder), lambda folder: _read(folder, probes)
        )

    def _write(self, m: int, probes: Sequence[Probe], folder: Path) -> None:
        model = fitted(self.function, self.about, self.masks[m], derive(self.seed, "own model", m) % 2**31)
        answers = model.answers(self.about.encoding.inputs.copy())
        np.save(folder / "answers.npy", np.asarray(answers))
        failed = {}
        for probe in probes:
            try:
                kept = kept_answers(model, probe, self.about, answers, self.kind)
            except UserError as error:  # a model need not accept records that were changed: attacks without them go on
                if _passing(error):
                    raise
                failed[place_of(probe)] = str(error)
            else:
                np.save(folder / f"{place_of(probe)}.npy", kept)
        if failed:
            write_json(folder / FAILED, failed)


def _passing(error: UserError) -> bool:
    """Whether the cause of an error is one of the machine, such as too little memory, which another try may not have."""
    cause = error.__cause__
    return isinstance(cause, (MemoryError, OSError)) or any(word in str(cause) for word in ("out of memory", "CUDA"))


def worker(context: dict[str, Any]) -> Callable[..., None]:
    """The function that trains one model in a worker process, see `hampkit.types.Launcher`."""
    run, function = Run(Path(context["run"])), load_own(context["train"])
    folder = run.folder / context["data"]
    masks = np.load(folder / "masks.npy", allow_pickle=False)
    about = read_records(folder, context["classes"])
    models = OwnModels(function, about, masks, context["seed"], context["kind"])
    probes = shadow_probes_of(attacks_from_json(context["attacks"]))

    def job(m: int, send: Callable[[dict[str, Any]], None]) -> None:
        models.step(m, probes).of(run)
        send({"job": str(m), "trained": 1})

    return job


def records_step(models: OwnModels) -> Step[Path]:
    """The records and masks for worker processes."""

    def write(folder: Path) -> None:
        inputs = about.encoding.inputs
        if isinstance(inputs, np.ndarray):
            np.save(folder / "inputs.npy", inputs)
        else:
            inputs.to_parquet(folder / "inputs.parquet")
        np.save(folder / "x.npy", about.encoding.x.numpy())
        np.save(folder / "y.npy", about.y)
        np.save(folder / "rows.npy", about.rows)
        np.save(folder / "masks.npy", models.masks)
        (folder / "places.json").write_text(json.dumps(about.encoding.places))

    about = models.about
    given = fingerprint(*(torch.from_numpy(each) for each in (models.masks, about.rows, about.y)))
    return Step("records", given, write, lambda folder: folder)


def read_records(folder: Path, classes: int) -> About:
    """The records that `records_step` wrote."""
    x, y, rows = (np.load(folder / f"{name}.npy", allow_pickle=False) for name in ("x", "y", "rows"))
    places = tuple(Place(*place) for place in json.loads((folder / "places.json").read_text()))
    if (folder / "inputs.npy").exists():
        inputs = np.load(folder / "inputs.npy", allow_pickle=False)
    else:
        import pyarrow.parquet

        inputs = pyarrow.parquet.read_table(folder / "inputs.parquet").to_pandas()
    return About(Encoding(inputs, torch.from_numpy(x), places), y, rows, classes)


def _read(folder: Path, probes: Sequence[Probe]) -> ModelAnswers:
    answers = np.load(folder / "answers.npy", allow_pickle=False)
    said = read_json(folder / FAILED) if (folder / FAILED).exists() else {}
    failed = {probe: said[place_of(probe)] for probe in probes if place_of(probe) in said}
    kept = {p: np.load(folder / f"{place_of(p)}.npy", allow_pickle=False) for p in probes if p not in failed}
    return ModelAnswers(answers, kept, failed)
