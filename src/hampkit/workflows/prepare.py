"""From a recipe to the problem that it poses: data, split, network, device. All that a user can get wrong is found here."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from hampkit.config.recipe import Recipe
from hampkit.data.base import Source
from hampkit.data.splits import SplitTable, check_classes, data_fingerprint, rare_classes, split_table
from hampkit.errors import Notice
from hampkit.nets import net_factory
from hampkit.nets.normalize import Normalize
from hampkit.registry import DATASETS, DEFENSES
from hampkit.rng import derive
from hampkit.training import Trainer
from hampkit.training.dry_run import try_network
from hampkit.types import Dataset, Task
from hampkit.workflows import problem_checks
from hampkit.workflows.problem import Problem
from hampkit.workflows.session import Session


def prepare(recipe: Recipe, session: Session) -> Problem:
    """Load and split the data and try the network. Raises: `UserError` for all that a user can mend; nothing is written."""
    device = session.torch_device()
    source = DATASETS.get(recipe.data.name)(**recipe.data.options)
    dataset = source.load(session.place())
    for note in dataset.notes:
        warnings.warn(note, Notice, stacklevel=2)
    table = _split(recipe, source, dataset)
    problem_checks.check_known(table, recipe)
    problem_checks.warn_of_threads(recipe.train.threads)
    order = table.permutation if recipe.split.permutation else None
    recipe = replace(recipe, fingerprint=data_fingerprint(dataset.sha256, order))
    recipe = replace(recipe, train=replace(recipe.train, threads=recipe.train.threads or _threads(dataset)))
    net = net_factory(recipe.net, dataset.shape, dataset.num_classes, _normalize(dataset, recipe.train.standardize))
    problem_checks.check_images(recipe, dataset)
    task, trainer = _task(recipe, dataset, table, net), Trainer(recipe.train, device, track=session.progress.track)
    if ":" in recipe.net:
        try_network(task, trainer, recipe.net)
    defense = DEFENSES.get(recipe.defense.name)(**recipe.defense.options)
    defense.check(task, trainer)
    test, shadow_val = (dataset.take(rows) for rows in (table.rows("test"), _shadow_val(table)))
    problem = Problem(recipe, dataset, table, task, defense, trainer, test, shadow_val)
    problem_checks.check(problem)
    return problem


def _split(recipe: Recipe, source: Source, dataset: Dataset) -> SplitTable:
    """The split of a data set. Raises: `UserError` for a class without members."""
    seed = recipe.split.seed if recipe.split.seed >= 0 else recipe.seed
    table = split_table(
        len(dataset),
        recipe.split.train_size,
        recipe.split.layout or source.layout,
        derive(seed, "split"),
        recipe.split.permutation,
        dataset.y if source.stratified else None,
        dataset.group,
    )
    spread = source.stratified and not recipe.split.permutation
    check_classes(dataset, table, by_seed=not spread)
    if spread and (rare := rare_classes(dataset, table)):
        warnings.warn(f"data set {dataset.name!r}: {rare}", Notice, stacklevel=3)
    return table


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
