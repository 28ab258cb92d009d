"""Shadow models of another run as evidence: only where they were trained as the target was, unless that is forced."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hampkit.config.content import canonical_json, flatten
from hampkit.config.sections import ShadowConfig
from hampkit.data.splits import SEGMENTS, data_fingerprint
from hampkit.errors import UserError
from hampkit.runs.run_files import rows_of
from hampkit.runs.store import Run, read_json
from hampkit.shadow_models import train
from hampkit.shadow_models.base import ShadowSet, ShadowTask

ASKED = ("members", "nonmembers", "test")  # the pool, and the population
TRAINING = ("reference", "validation", "remaining")  # what else a training may see
# may differ between models of one recipe; of a split the rows are compared, not how they were drawn
OWN = ("seed", "split")


@dataclass(frozen=True)
class Lender:
    """A run that has shadow models, and which of them are meant."""

    run: Run
    config: ShadowConfig
    force: bool  # take them although they were trained otherwise; results are flagged `mismatched`

    @staticmethod
    def of(folder: Path, models: int = 0, force: bool = False) -> Lender:
        """The shadow models of a run folder, the most there are or so many. Errors: `UserError`."""
        run = Run.at(folder)
        found = sorted(finished(run), key=lambda s: s.models)
        fitting = [s for s in found if not models or s.models == models]
        if fitting:
            return Lender(run, fitting[-1], force)
        numbers = list(dict.fromkeys(str(s.models) for s in found))  # once, though masks of two schemes may be there
        there = ", ".join(numbers if len(numbers) < 6 else [*numbers[:3], "…", numbers[-1]])
        raise UserError(
            f"{folder} has {there} finished shadow models, not {models}; leave --shadows out or take one of these numbers"
            if found
            else f"{folder} has no finished shadow models; train them: hampkit run RECIPE --shadows M"
        )

    def load_for(self, task: ShadowTask) -> ShadowSet:
        """These shadow models as evidence about the target of a task.

        Raises: `UserError` if they were trained on other data, another split, or (without ``force``) by another recipe.
        """
        others = self._check_rows(task)
        ours = json.loads(canonical_json(task.recipe.training()))  # as a file holds it: lists for tuples
        differences = _differences(ours, self.run.recipe()) + others
        if differences and not self.force:
            raise UserError(
                f"the shadow models of {self.run.folder} were trained in another way than this target: {differences[0]}"
                + (f" and {len(differences) - 1} more" if len(differences) > 1 else "")
                + "; train its own (--shadows M), or add --force to attack with them and have the results flagged mismatched"
            )
        mode = train.read_mode(self.run.folder / train.folder_of(self.config) / "launch")
        found = train.read(task.of(self.config), self.run, mode)
        return replace(found, name=f"{self.run.name}-{found.name}", differences=tuple(differences))

    def _check_rows(self, task: ShadowTask) -> list[str]:
        """Other differences between the splits, in words.

        Raises: `UserError` if an example of the pool or the population is another one: then every signal is of another example.
        """
        here = {name: task.table.rows(name).numpy() for name in task.table.segments}
        there = rows_of(self.run.folder, SEGMENTS)
        ours, theirs = task.recipe.training(), self.run.recipe()
        order = torch.from_numpy(np.concatenate(list(there.values())))
        by_file = {data_fingerprint(task.sha256, given): given is not None for given in (None, order)}
        found = theirs["data"]["sha256"]
        if found in by_file and all(np.array_equal(here[name], there[name]) for name in ASKED):
            others = [name for name in TRAINING if not np.array_equal(here[name], there[name])]
            return [f"the rows of the split's segment {name} are others" for name in others]
        what = "other data"
        if found in by_file:
            a, b = _drawn(ours, bool(task.recipe.split.permutation)), _drawn(theirs, by_file[found])
            how = [f"split.{k} is {b[k]} there and {a[k]} here" for k in a if a[k] != b.get(k)]
            what = f"another split of the data ({', '.join(how) or 'other rows in its split.npz'}; give both the same)"
        raise UserError(
            f"the shadow models of {self.run.folder} know {what}: they say nothing about this target's rows"
        )


def _drawn(recipe: Mapping[str, Any], by_file: bool) -> dict[str, Any]:
    """What the rows of a split follow from."""
    split = dict(recipe["split"])
    drawn = split["seed"] if split["seed"] >= 0 else recipe["seed"]
    return {**split, "seed": "replaced by a split.permutation" if by_file else drawn}


def finished(run: Run) -> list[ShadowConfig]:
    """Every set of shadow models of a run whose jobs are all there and whole.

    Paired masks of few models begin those of many, so that what a run held before it grew, or holds of an unfinished growth, is
    a set too. No lock is needed: a job appears by one rename, and only a damaged one ever goes, which is no part of a set. A file
    that is mapped stays readable even then.
    """
    found = []
    for mode in sorted((run.folder / "shadows").glob("*/launch/mode.json")):
        folder = mode.parent.parent
        match = re.fullmatch(r"(published|paired)-(\d+)(?:-(\d+))?(?:-views(\d+))?(-kept)?", folder.name)
        if match is None or not run.done(str(mode.parent.relative_to(run.folder))):
            continue
        scheme, seed, models, views, kept = match.groups()
        whole = {job.name for job in folder.glob("[0-9]*-[0-9]*") if run.done(str(job.relative_to(run.folder)))}
        ends = {int(job.rpartition("-")[2]) + 1 for job in whole if re.fullmatch(r"\d+-\d+", job)}
        for count in sorted(n for n in ends if n >= 4 and n % 2 == 0 and n == int(models or n)):
            config = ShadowConfig(count, scheme, int(seed), kept is not None, int(views or 1))  # pyright: ignore[reportArgumentType]
            if set(train.job_names(config, train.read_mode(mode.parent))) <= whole:
                found.append(config)
    return found


def last_used(run: Run) -> tuple[ShadowConfig | None, str]:
    """The run's own shadow models that its last result used, or the name of the run that lent them; (None, "") without any."""
    name = _named_in_details(run)
    if not name:
        return None, ""
    own = next((s for s in finished(run) if train.name_of(s) == name), None)
    return own, "" if own is not None else re.sub(r"-(published|paired)-\d+-\d+(-views\d+)?$", "", name)


def _named_in_details(run: Run) -> str:
    """The name of the shadow models as the run's details have it, see `Lender.lend`; empty where there are none."""
    try:
        used = read_json(run.folder / "details.json", "provenance")["provenance"]["shadows"]
        return str(used["name"]) if used else ""
    except (UserError, KeyError, TypeError):  # not there yet, or damaged: it is written anew
        return ""


def _differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """What decides the weights and differs, each in words; the data set's and the defense's names first."""
    a, b = (_by_key({k: v for k, v in recipe.items() if k not in OWN}) for recipe in (ours, theirs))
    keys = {*a, *b} - {"data.sha256"}  # the data are known to be the same
    names = [k for k in sorted(keys, key=lambda k: (not k.endswith(".name"), k)) if a.get(k) != b.get(k)]
    return [f"{k} is {b.get(k, 'not set')}, here {a.get(k, 'not set')}" for k in names]


def _by_key(recipe: Mapping[str, Any]) -> dict[str, Any]:
    return {".".join(address): value for address, value in flatten(recipe).items()}
