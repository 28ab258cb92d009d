"""Shadow models of another run as evidence about a target: they must be trained like the target, or the user forces it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hampkit.config.content import canonical_json
from hampkit.config.sections import ShadowConfig
from hampkit.data.splits import SEGMENTS, data_fingerprint
from hampkit.errors import UserError
from hampkit.runs.run_files import rows_of
from hampkit.runs.store import Run, read_json
from hampkit.shadow_models import train
from hampkit.shadow_models.base import ShadowSet, ShadowTask
from hampkit.shadow_models.job_models import borrowed_probe
from hampkit.text import dotted
from hampkit.types import Probe

QUERIED = ("members", "nonmembers", "test")  # segments of the pool and of the population
TRAINING = ("reference", "validation", "remaining")  # other segments that a training may use
# keys of a recipe that may differ; of the split, the rows are compared instead
OWN = ("seed", "split")


@dataclass(frozen=True)
class Lender:
    """A run with shadow models, and the set of them that is used."""

    run: Run
    config: ShadowConfig
    force: bool  # use them even if their recipe differs; results get the flag `mismatched`

    @staticmethod
    def of(folder: Path, models: int = 0, force: bool = False) -> Lender:
        """The largest set of shadow models of a run folder, or the one of this number.

        Raises: `UserError` if there is none.
        """
        run = Run.at(folder)
        found = sorted(finished(run), key=lambda config: config.models)
        fitting = [config for config in found if models in (0, config.models)]
        if fitting:
            return Lender(run, fitting[-1], force)
        if not found:
            raise UserError(f"{folder} has no finished shadow models; train them: hampkit run RECIPE --shadows M")
        numbers = list(dict.fromkeys(str(config.models) for config in found))  # two schemes may have the same number
        listed = ", ".join(numbers if len(numbers) < 6 else [*numbers[:3], "…", numbers[-1]])
        raise UserError(
            f"{folder} has {listed} finished shadow models, not {models}; leave --shadows out or take one of these numbers"
        )

    def probes_for(self, task: ShadowTask, run: Run | None) -> dict[Probe, tuple[NDArray[np.float32], ...]]:
        """What each of the task's probes keeps of the models' answers, without the probes that cannot be had.

        The models are asked if their weights were kept, and the answers are written into ``run``, whose lock must be held. None:
        they have another recipe, so that the task's network and release are not theirs.
        """
        own, mode = task.of(self.config), train.read_mode(self.run.folder / train.folder_of(self.config) / train.LAUNCH)
        found: dict[Probe, tuple[NDArray[np.float32], ...]] = {}
        for probe in task.probes:
            parts = (borrowed_probe(own, job, probe, self.run, run) for job in train.jobs(self.config, mode))
            kept = list(takewhile(lambda part: part is not None, parts))
            if len(kept) == len(train.jobs(self.config, mode)):
                found[probe] = tuple(part for part in kept if part is not None)
        return found

    def load_for(self, task: ShadowTask) -> ShadowSet:
        """The shadow models as evidence about the target of a task, without what probes kept.

        Raises: `UserError` if they were trained on other data, another split, or (without ``force``) by another recipe.
        """
        other_rows = self._check_rows(task)
        own = json.loads(canonical_json(task.recipe.training()))  # as read from a file: lists instead of tuples
        differences = _differences(own, self.run.recipe()) + other_rows
        if differences and not self.force:
            raise UserError(
                f"the shadow models of {self.run.folder} were trained differently from this target: {differences[0]}"
                + (f" and {len(differences) - 1} more" if len(differences) > 1 else "")
                + "; train new ones (--shadows M), or add --force to attack with these and get the flag mismatched"
            )
        mode = train.read_mode(self.run.folder / train.folder_of(self.config) / train.LAUNCH)
        found = train.read(replace(task.of(self.config), probes=()), self.run, mode)
        return replace(found, name=f"{self.run.name}-{found.name}", differences=tuple(differences))

    def _check_rows(self, task: ShadowTask) -> list[str]:
        """Differences between the segments that are not queried, in words.

        Raises: `UserError` if a row of the pool or the population differs: the signals would be of another example.
        """
        own = {name: task.table.rows(name).numpy() for name in task.table.segments}
        theirs = rows_of(self.run.folder, SEGMENTS)
        by_file = self._permuted(task, theirs)
        if by_file is not None and all(np.array_equal(own[name], theirs[name]) for name in QUERIED):
            differing = [name for name in TRAINING if not np.array_equal(own[name], theirs[name])]
            return [f"the split's segment {name} has other rows" for name in differing]
        cause = "other data"
        if by_file is not None:
            here = _drawn(task.recipe.training(), bool(task.recipe.split.permutation))
            there = _drawn(self.run.recipe(), by_file)
            keys = [f"split.{k} is {there[k]} there and {here[k]} here" for k in here if here[k] != there.get(k)]
            cause = (
                f"another split of the data ({', '.join(keys) or 'other rows in its split.npz'}; use the same for both)"
            )
        raise UserError(
            f"the shadow models of {self.run.folder} are of {cause}: they are not evidence about this target's rows"
        )

    def _permuted(self, task: ShadowTask, rows: Mapping[str, NDArray[np.int64]]) -> bool | None:
        """Whether a file of ``split.permutation`` ordered the run's data; None if its data differ from the task's."""
        order = torch.from_numpy(np.concatenate(list(rows.values())))
        by_file = {data_fingerprint(task.sha256, given): given is not None for given in (None, order)}
        return by_file.get(self.run.recipe()["data"]["sha256"])


def _drawn(recipe: Mapping[str, Any], by_file: bool) -> dict[str, Any]:
    """The options that the rows of a split depend on."""
    split = dict(recipe["split"])
    seed = split["seed"] if split["seed"] >= 0 else recipe["seed"]
    return {**split, "seed": "replaced by a split.permutation" if by_file else seed}


def finished(run: Run) -> list[ShadowConfig]:
    """Every set of shadow models of a run of which all jobs are complete and undamaged.

    The paired masks of few models are the first of those of many. So if a run with shadow models gets more of them, the earlier
    ones are a set too, even while the others are not finished. No lock is needed: a job appears by one rename, and only damaged
    jobs are removed, which are in no set. A memory-mapped file can be read even after it was removed.
    """
    modes = sorted((run.folder / "shadows").glob("*/launch/mode.json"))
    return [config for mode in modes for config in _finished_of(run, mode.parent)]


def _finished_of(run: Run, launch: Path) -> list[ShadowConfig]:
    """The finished sets of one folder of jobs; launch: its step with the execution mode."""
    folder = launch.parent
    match = re.fullmatch(r"(published|paired)-(\d+)(?:-(\d+))?(?:-views(\d+))?", folder.name)
    if match is None or not run.done(str(launch.relative_to(run.folder))):
        return []
    scheme, seed, models, views = match.groups()
    done = {job.name for job in folder.glob("[0-9]*-[0-9]*") if run.done(str(job.relative_to(run.folder)))}
    ends = {int(job.rpartition("-")[2]) + 1 for job in done if re.fullmatch(r"\d+-\d+", job)}
    counts = sorted(n for n in ends if n >= 4 and n % 2 == 0 and n == int(models or n))
    configs = [ShadowConfig(n, scheme, int(seed), views=int(views or 1)) for n in counts]  # pyright: ignore[reportArgumentType]
    mode = train.read_mode(launch)
    return [config for config in configs if set(train.job_names(config, mode)) <= done]


def last_used(run: Run) -> tuple[ShadowConfig | None, str]:
    """The run's own shadow models that its last result used, or the name of the lending run; (None, "") without any."""
    name = _named_in_details(run)
    if not name:
        return None, ""
    own = next((s for s in finished(run) if train.name_of(s) == name), None)
    return own, "" if own is not None else re.sub(r"-(published|paired)-\d+-\d+(-views\d+)?$", "", name)


def _named_in_details(run: Run) -> str:
    """The name of the shadow models in the run's details.json, see `Lender.load_for`; empty without any."""
    try:
        used = read_json(run.folder / "details.json", "provenance")["provenance"]["shadows"]
        return str(used["name"]) if used else ""
    except (UserError, KeyError, TypeError):  # missing or damaged: the next attack writes it again
        return ""


def _differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """Differences between two recipes, each in words; the names of the data set and the defense first."""
    a, b = (dotted({k: v for k, v in recipe.items() if k not in OWN}) for recipe in (ours, theirs))
    keys = {*a, *b} - {"data.sha256"}  # compared by `Lender._check_rows`
    names = [k for k in sorted(keys, key=lambda k: (not k.endswith(".name"), k)) if a.get(k) != b.get(k)]
    return [f"{k} is {b.get(k, 'not set')}, here {a.get(k, 'not set')}" for k in names]
