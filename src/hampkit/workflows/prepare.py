"""From a recipe to its problem: data, split, network, device. Mistakes of the user are found here, before any training."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from hampkit.config.recipe import Recipe
from hampkit.data.base import Source
from hampkit.data.canaries import make_canaries, sides_of, with_canaries
from hampkit.data.splits import LAYOUTS, SplitTable, check_classes, data_fingerprint, rare_classes, split_table
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
    """Load and split the data, build the network and the defense, and check that they fit together. Nothing is written.

    Raises: `UserError` for every mistake that the user can correct.
    """
    device = session.torch_device()
    source = DATASETS.get(recipe.data.name)(**recipe.data.options)
    reading = f"reading {recipe.data.options.get('title') or recipe.data.name}"
    session.progress.track(reading, 0, 1)
    dataset = source.load(session.place())
    session.progress.track(reading, 1, 1)
    for note in (*dataset.done, *dataset.notes):
        warnings.warn(note, Notice, stacklevel=2)
    table = _split(recipe, source, dataset)
    problem_checks.check_known(table, recipe)
    problem_checks.warn_of_threads(recipe.train.threads)
    recipe = _completed(recipe, dataset, table)
    canaries = None
    if recipe.canaries.count:
        canaries = make_canaries(dataset, sides_of(table), recipe.canaries, recipe.seed)
        dataset, table = with_canaries(dataset, table, canaries)
    net = net_factory(recipe.net, dataset.shape, dataset.num_classes, _normalize(dataset, recipe.train.standardize))
    problem_checks.check_images(recipe, dataset)
    task, trainer = _task(recipe, dataset, table, net), Trainer(recipe.train, device, track=session.progress.track)
    if ":" in recipe.net:
        try_network(task, trainer, recipe.net)
    defense = DEFENSES.get(recipe.defense.name)(**recipe.defense.options)
    defense.check(task, trainer)
    test, shadow_val = (dataset.take(rows) for rows in (table.rows("test"), _shadow_val(table)))
    problem = Problem(recipe, dataset, table, task, defense, trainer, test, shadow_val, canaries)
    problem_checks.check(problem)
    return problem


def _completed(recipe: Recipe, dataset: Dataset, table: SplitTable) -> Recipe:
    """The recipe with the values that depend on the data: their fingerprint and the number of threads."""
    order = table.permutation if recipe.split.permutation else None
    train = replace(recipe.train, threads=recipe.train.threads or usual_threads(dataset))
    return replace(recipe, fingerprint=data_fingerprint(dataset.sha256, order), train=train)


def _split(recipe: Recipe, source: Source, dataset: Dataset) -> SplitTable:
    """The split of a data set.

    Raises: `UserError` for a class without members.
    """
    seed = recipe.split.seed if recipe.split.seed >= 0 else recipe.seed
    config = replace(recipe.split, layout=recipe.split.layout or source.layout, seed=derive(seed, "split"))
    table = split_table(len(dataset), config, dataset.y if source.stratified else None, dataset.group)
    stratified = source.stratified and not recipe.split.permutation
    larger = 0 < config.train_size < LAYOUTS[config.layout].largest(len(dataset))
    check_classes(dataset, table, by_seed=not stratified, by_size=larger)
    if stratified and (rare := rare_classes(dataset, table)):
        warnings.warn(f"data set {dataset.name!r}: {rare}", Notice, stacklevel=3)
    return table


def _task(recipe: Recipe, dataset: Dataset, table: SplitTable, net: Callable[[], nn.Module]) -> Task:
    """The task of the target. Its pool of P rows: the members, then the non-members."""
    members, others = table.rows("members"), table.rows("nonmembers")
    if recipe.shadows.models:
        others = others[: len(members)]  # so that half of the pool is as large as the target's training set
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
    """Validation rows (n,) of the shadow models: as many unused rows as the target's, as published, or the same if too few."""
    rows, spare = table.rows("validation"), table.rows("remaining")
    return spare[: len(rows)] if len(spare) >= len(rows) else rows


def _reference(table: SplitTable) -> Tensor:
    """The rows (n,) of the reference segment; if the layout has none, the unused rows that are not `_shadow_val`."""
    rows, spare = table.rows("reference"), table.rows("remaining")
    taken = len(table.rows("validation")) if len(spare) >= len(table.rows("validation")) else 0
    return rows if len(rows) else spare[taken:]


def usual_threads(dataset: Dataset) -> int:
    """The default of ``train.threads``: it depends on the data, not on the machine, so that equal recipes give equal bytes.

    Two for images; steps on a table are too short to be divided between threads.
    """
    return 2 if len(dataset.shape) == 3 else 1


def _normalize(dataset: Dataset, standardize: bool) -> Normalize | None:
    """The first layer of the network: scaling by the training set's statistics, by the data set's constants, or none."""
    if standardize:
        return Normalize(torch.zeros(dataset.shape), torch.ones(dataset.shape), own=True)
    if dataset.mean is None or dataset.std is None:
        return None
    return Normalize(_per_channel(dataset.mean, dataset.shape), _per_channel(dataset.std, dataset.shape))


def _per_channel(values: tuple[float, ...], shape: tuple[int, ...]) -> Tensor:
    """The values (channels, 1, …, 1), which broadcast against inputs of this shape."""
    return torch.tensor(values).view(-1, *(1,) * (len(shape) - 1))
