"""From a recipe to the problem it poses: data, split, network, device. Everything the user can get wrong is found here."""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hampkit.config.recipe import Recipe, recipe_from_dict
from hampkit.data.base import Place
from hampkit.data.candidates import Candidates, candidates
from hampkit.data.copies import first_alike, joined
from hampkit.data.splits import SplitTable, check_classes, known_split, rare_classes, shadow_members, split_table
from hampkit.defenses import Defense
from hampkit.errors import Notice, UserError
from hampkit.launch.local import cores
from hampkit.nets import net_factory
from hampkit.nets.normalize import Normalize
from hampkit.registry import DATASETS, DEFENSES
from hampkit.rng import derive
from hampkit.training import Trainer
from hampkit.training.dry_run import try_network
from hampkit.training.trainer import silent
from hampkit.types import Dataset, Task

# parts of the split that may hold copies of members, and their rows in words
COPIED = {
    "nonmembers": "non-members",
    "test": "test rows",
    "validation": "validation rows",
    "reference": "reference rows",
}


@dataclass(frozen=True)
class Settings:
    """Where things lie and run; nothing here changes a result."""

    data_dir: Path | None = None  # searched for data files before the user's cache; default: $HAMPKIT_DATA
    runs_dir: Path = Path("runs")
    device: str = "auto"  # auto, cpu, cuda, or one of several GPUs as cuda:1
    track: Callable[[str, int, int], None] = (
        silent  # told what is being done, how much of it is done, how much there is
    )
    workers: int = 0  # targets or shadow models trained at once; 0: as many as the cores hold
    progress: Any = False  # pooch's progress bar for downloads

    def place(self) -> Place:
        return Place.default(self.data_dir, progress=self.progress)

    def torch_device(self) -> torch.device:
        """Errors: `UserError` where CUDA is asked for and absent."""
        if not re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?", self.device):
            raise UserError(f"--device {self.device} must be auto, cpu, cuda or cuda:N, a GPU by its number from 0")
        there = torch.cuda.device_count() if self.device != "cpu" and torch.cuda.is_available() else 0
        if self.device.startswith("cuda") and not there:
            raise UserError(
                f"--device {self.device}: this machine has no CUDA device that torch can use; take --device cpu or auto"
            )
        if self.device.startswith("cuda:") and int(self.device[5:]) >= there:
            raise UserError(
                f"--device {self.device}: this machine has {there} CUDA devices, cuda:0 to cuda:{there - 1}"
            )
        return torch.device(self.device if self.device != "auto" else "cuda" if there else "cpu")


@dataclass(frozen=True)
class Problem:
    """A recipe with its data loaded, checked and split: ready to train."""

    recipe: Recipe
    dataset: Dataset
    table: SplitTable
    task: Task  # pool: the members, then as many non-members
    defense: Defense
    trainer: Trainer
    test: Dataset = field(repr=False)
    shadow_val: Dataset = field(
        repr=False
    )  # for the shadow models' checkpoints: rows that the target never used, if any

    @property
    def folder(self) -> str:
        return self.recipe.folder()

    @property
    def views(self) -> int:
        """How many views of each example are asked about."""
        return self.recipe.shadows.views if self.recipe.shadows.models else 1

    def candidates(self) -> Candidates:
        """Which rows of the pool are known to the adversary, and which are judged."""
        judge = self.recipe.judge
        everyone = judge.candidates == "all"
        shares = judge.known_train, judge.known_val
        return candidates(self.once, self.table.n_members, *shares, everyone, self.task.pool.group)

    def judged(self) -> tuple[int, int]:
        """How many members and non-members every attack is judged on."""
        members = int((self.candidates().judged < self.table.n_members).sum())
        return members, len(self.candidates().judged) - members

    def left_out(self) -> int:
        """Non-members that take no part where there are shadow models: half of the pool is a training set of one size."""
        return len(self.table.rows("nonmembers")) - (len(self.task.pool) - self.table.n_members)

    def units(self) -> NDArray[np.int64]:
        """(P,) for each row of the pool the first one that is IN and OUT with it: of its group or with its features."""
        group = self.task.pool.group
        return self.alike["pool"] if group is None else joined(self.alike["pool"], group.numpy())

    @cached_property
    def alike(self) -> dict[str, NDArray[np.int64]]:
        """For each row of a part the first row with its features, see `hampkit.data.copies`.

        Rows are counted through all parts, from the pool on: places below P are rows of the pool.
        """
        parts = {
            "pool": self.task.pool,
            "test": self.test,
            "validation": self.task.val,
            "reference": self.task.reference,
        }
        xs = {name: part.x if part is not None else self.test.x[:0] for name, part in parts.items()}
        ends = np.cumsum([len(x) for x in xs.values()])
        return dict(zip(xs, np.split(first_alike(torch.cat(list(xs.values()))), ends[:-1]), strict=True))

    @cached_property
    def once(self) -> NDArray[np.bool_]:
        """(P,) the rows of the pool that are known or judged: every set of features once, as a member's where a member has it.

        Features of reference rows are left out: a defense may learn from these that their owner is no member.
        """
        places = self.alike["pool"]
        if self.recipe.judge.copies == "keep":
            return np.ones(len(places), dtype=bool)
        return (places == np.arange(len(places))) & ~np.isin(places, self.alike["reference"])

    def copies(self) -> dict[str, int]:
        """How many rows of each part are copies of members, and how many rows of the pool take no part for being copies."""
        members = self.table.n_members
        parts = {**self.alike, "nonmembers": self.alike["pool"][members:]}
        found = {name: int((places < members).sum()) for name, places in parts.items() if name != "pool"}
        return {**found, "left_out": int((~self.once).sum())}

    @property
    def duplicated(self) -> bool:
        """Whether rows of another part of the split are copies of members."""
        found = self.copies()
        return any(found[name] for name in COPIED)

    def rows(self) -> dict[str, int]:
        """How many examples stand behind the accuracies."""
        val = 0 if self.task.val is None else len(self.task.val)
        return {"train": self.table.n_members, "val": val, "test": len(self.test)}

    def data(self) -> dict[str, Any]:
        """What a result holds of its data."""
        features = int(torch.tensor(self.dataset.shape).prod())
        name = str(self.recipe.data.options.get("title") or self.dataset.name)
        return {
            "name": name,
            "rows": len(self.dataset),
            "features": features,
            "classes": self.dataset.num_classes,
            "sha256": self.dataset.sha256,
        }


def prepare(recipe: Recipe, settings: Settings) -> Problem:
    """Load and split the data and try the network. Errors: `UserError`; nothing is written."""
    device = settings.torch_device()
    source = DATASETS.get(recipe.data.name)(**recipe.data.options)
    dataset = source.load(settings.place())
    for note in dataset.notes:
        warnings.warn(note, Notice, stacklevel=2)
    split_seed = recipe.split.seed if recipe.split.seed >= 0 else recipe.seed
    table = split_table(
        len(dataset),
        recipe.split.train_size,
        recipe.split.layout or source.layout,
        derive(split_seed, "split"),
        recipe.split.permutation,
        dataset.y if source.stratified else None,
        dataset.group,
    )
    spread = source.stratified and not recipe.split.permutation
    check_classes(dataset, table, by_seed=not spread)
    if spread and (rare := rare_classes(dataset, table)):
        warnings.warn(f"data set {dataset.name!r}: {rare}", Notice, stacklevel=2)
    _check_known(table, recipe)
    _warn_of_threads(recipe.train.threads)
    order = table.permutation if recipe.split.permutation else None
    recipe = replace(recipe, fingerprint=fingerprint(dataset.sha256, order))
    recipe = replace(recipe, train=replace(recipe.train, threads=recipe.train.threads or _threads(dataset)))
    net = net_factory(recipe.net, dataset.shape, dataset.num_classes, _normalize(dataset, recipe.train.standardize))
    _check_images(recipe, dataset)
    task, trainer = _task(recipe, dataset, table, net), Trainer(recipe.train, device, track=settings.track)
    if ":" in recipe.net:
        try_network(task, trainer, recipe.net)
    defense = DEFENSES.get(recipe.defense.name)(**recipe.defense.options)
    defense.check(task, trainer)
    problem = Problem(
        recipe=recipe,
        dataset=dataset,
        table=table,
        task=task,
        defense=defense,
        trainer=trainer,
        test=dataset.take(table.rows("test")),
        shadow_val=dataset.take(_shadow_val(table)),
    )
    if recipe.shadows.models:
        _check_units(problem)
    _check_candidates(problem)
    return problem


def recipe_of_run(training: dict[str, Any], local: dict[str, Any]) -> Recipe:
    """The recipe of a run folder, from its recipe.json and its local.json."""
    document = {k: v for k, v in training.items() if k not in ("schema", "version", "code")}
    document["data"] = {k: v for k, v in document["data"].items() if k != "sha256"}
    if local.get("file"):
        document["data"]["file"] = local["file"]
    if local.get("inputs"):
        document["defense"] = {**document["defense"], "file": local["inputs"]}
    document["split"] = {**document["split"], "permutation": local.get("permutation", "")}
    how = {"judge": local["judge"], "attacks": local["attacks"], "shadows": local.get("shadows", {})}
    return recipe_from_dict({**document, **how}, place="recipe.json")


def check_code(recipe: Recipe, training: dict[str, Any], where: Path) -> None:
    """Errors: `UserError` where a run was trained by other code of its defense or of the user's network."""
    now, then = recipe.code(), training.get("code", {})
    names = {"defense": recipe.defense.name, "net": recipe.net, "file": recipe.defense.options.get("file")}
    for what in (what for what in names if now.get(what) != then.get(what)):
        part = "content" if what == "file" else "source"
        raise UserError(
            f"the {part} of {what} {names[what]} is no longer what {where} was trained with; put it back, or train anew:"
            " hampkit run"
        )


def _task(recipe: Recipe, dataset: Dataset, table: SplitTable, net: Callable[[], nn.Module]) -> Task:
    members, others = table.rows("members"), table.rows("nonmembers")
    if recipe.shadows.models:
        others = others[: len(members)]  # half of the pool is a training set, as large as the target's
    mask = torch.zeros(1, len(members) + len(others), dtype=torch.bool)
    mask[:, : len(members)] = True
    reference = _reference(table)
    return Task(
        pool=dataset.take(torch.cat([members, others])),
        members=mask,
        seeds=(derive(recipe.seed, "model", 0),),
        net=net,
        reference=dataset.take(reference) if len(reference) else None,
        val=dataset.take(table.rows("validation")),
    )


def _shadow_val(table: SplitTable) -> Tensor:
    """As many rows as validate the target: of those that nobody uses where there are enough, as published, else the same."""
    rows, spare = table.rows("validation"), table.rows("remaining")
    return spare[: len(rows)] if len(spare) >= len(rows) else rows


def _reference(table: SplitTable) -> Tensor:
    """The reference segment; where the layout has none, the rows that nobody else uses."""
    rows, spare = table.rows("reference"), table.rows("remaining")
    taken = len(table.rows("validation")) if len(spare) >= len(table.rows("validation")) else 0
    return rows if len(rows) else spare[taken:]


def _check_images(recipe: Recipe, dataset: Dataset) -> None:
    asked = {
        f"shadows.views={recipe.shadows.views}": recipe.shadows.views > 1,
        f"train.augment=[{','.join(recipe.train.augment)}]": bool(recipe.train.augment),
    }
    for key, wanted in asked.items():
        if wanted and len(dataset.shape) != 3:
            raise UserError(
                f"{key} mirrors and shifts images of shape (channels, height, width); examples of"
                f" {dataset.name} have shape {dataset.shape}: leave it out"
            )


def _check_known(table: SplitTable, recipe: Recipe) -> None:
    """Every part of the known and of the unknown half must hold members and non-members."""
    judge = recipe.judge
    for name in ("members", "nonmembers"):
        count = len(table.rows(name))
        if recipe.shadows.models:
            count = min(count, table.n_members)
        a, b = known_split(count, judge.known_train, judge.known_val)
        if not 0 < a < b < count:
            raise UserError(
                f"judge.known_train={judge.known_train} and judge.known_val={judge.known_val} of {count} {name} leave {a} known"
                f" for fitting, {b - a} for choosing and {count - b} to judge on; each needs at least 1"
            )


def _check_candidates(problem: Problem) -> None:
    """Warns of copies on both sides of the split. Errors: `UserError` where too few other rows are left."""
    found, name = problem.copies(), problem.data()["name"]
    parts = problem.candidates()
    for sided in (parts.judged, parts.known[parts.fit], parts.known[~parts.fit]):
        members = int((sided < problem.table.n_members).sum())
        if not 0 < members < len(sided) and not found["left_out"]:
            raise UserError(
                f"the groups of {name} (data.group) are too few to know some and judge others; give more rows, or smaller groups"
            )
        if not 0 < members < len(sided):
            raise UserError(
                f"{found['left_out']:,} rows of {name} have the same features as another one, and the few others leave nobody to"
                " judge; remove the copies, or judge every row: judge.copies=keep"
            )
    if not problem.duplicated:
        return
    kept = "every set of features is judged once (judge.copies=keep judges every row)"
    if problem.recipe.judge.copies == "keep":
        kept = "these non-members are judged all the same"
    sizes = {part: len(places) for part, places in problem.alike.items()}
    sizes["nonmembers"] = sizes["pool"] - problem.table.n_members
    if found["nonmembers"] == sizes["nonmembers"]:
        kept = "no attack can tell such non-members from members"
    counted = [f"{found[part]:,} of {sizes[part]:,} {word}" for part, word in COPIED.items() if found[part]]
    warnings.warn(
        f"{', '.join(counted[:-1])}{' and ' if counted[1:] else ''}{counted[-1]} of {name} have the same features as a member:"
        f" accuracies on such rows are too high, and {kept}; remove copies that are there by mistake",
        Notice,
        stacklevel=3,
    )


def _check_units(problem: Problem) -> None:
    """Errors: `UserError` where no halves of the pool can be drawn, because too much of it stays together."""
    units, drawn = problem.units(), problem.recipe.shadows
    largest, pool = int(np.unique(units, return_counts=True)[1].max()), len(units)
    if 2 * largest > pool:
        raise UserError(
            f"{largest:,} of the {pool:,} rows that shadow models are trained on stay together, because they share features or a"
            " group with one another, in chains: no half of the rows can be drawn; remove copies, group by another column"
            " (data.group), or leave --shadows out"
        )
    if largest > 1 and drawn.scheme == "published":  # refused here, before anything is trained
        shadow_members(drawn.models, pool, drawn.seed, drawn.scheme, units)


def fingerprint(sha256: str, order: Tensor | None) -> str:
    """The data's hash; with a given permutation, that of both."""
    if order is None:
        return sha256
    return hashlib.sha256(sha256.encode() + order.numpy().tobytes()).hexdigest()


def _warn_of_threads(count: int) -> None:
    """More threads than cores wait for one another, and a training may take a hundred times as long."""
    if count > cores():
        warnings.warn(
            f"train.threads={count} is more than the {cores()} cores that this process may use, and training may take many times"
            f" as long; take train.threads={cores()} or fewer (another number is another run)",
            Notice,
            stacklevel=3,
        )


def _threads(dataset: Dataset) -> int:
    """Of the data and not of the machine, so that a name means the same bytes: steps on a table are too short to be shared."""
    return 2 if len(dataset.shape) == 3 else 1


def _normalize(dataset: Dataset, standardize: bool) -> Normalize | None:
    if standardize:
        return Normalize(torch.zeros(dataset.shape), torch.ones(dataset.shape), own=True)
    if dataset.mean is None or dataset.std is None:
        return None
    return Normalize(_per_channel(dataset.mean, dataset.shape), _per_channel(dataset.std, dataset.shape))


def _per_channel(values: tuple[float, ...], shape: tuple[int, ...]) -> Tensor:
    return torch.tensor(values).view(-1, *(1,) * (len(shape) - 1))
