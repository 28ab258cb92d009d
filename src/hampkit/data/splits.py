"""The split of a data set: consecutive segments of one permutation, the known part, and the masks of shadow models."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hampkit.config.files import plain_file
from hampkit.config.sections import SplitConfig
from hampkit.data.safe_pickle import NotPlain, read_numbers
from hampkit.data.strata import stratified
from hampkit.errors import UserError, did_you_mean, one_line
from hampkit.text import counted
from hampkit.types import Dataset

SEGMENTS = ("members", "reference", "validation", "test", "unused", "nonmembers", "remaining")
SMALLEST = 20  # T: below it a validation set of int(0.2 T) rows is too small to choose anything


@dataclass(frozen=True)
class Layout:
    """The sizes of the segments, from the train size T and P = int(0.9 T) members."""

    val: float  # share of T
    test: Callable[[int], int]  # T → rows
    reference: float = 0  # times P
    unused: int = 0  # times P; rows between test and non-members that are not used
    nonmembers: int = 1  # times P

    def sizes(self, train_size: int) -> tuple[int, ...]:
        """The numbers of rows of the segments, without the remaining rows."""
        p = int(0.9 * train_size)
        return (
            p,
            int(self.reference * p),
            int(self.val * train_size),
            self.test(train_size),
            self.unused * p,
            self.nonmembers * p,
        )

    def largest(self, n: int) -> int:
        """The largest T that fits n rows; 0 if none does.

        The search goes downwards, because Purchase100's test set shrinks at T = 10,000: the total may fall as T rises.
        """
        p_at_most = int(n / (1 + self.nonmembers + self.reference + self.unused))
        candidates = range(int((p_at_most + 1) / 0.9) + 1, 0, -1)
        return next((t for t in candidates if sum(self.sizes(t)) <= n), 0)


def _tenth(train_size: int) -> int:
    return int(0.1 * train_size)


def _fifth(train_size: int) -> int:
    return int(0.2 * train_size)


def _thousand(train_size: int) -> int:
    return 1000


def _six_hundred(train_size: int) -> int:
    return 600


def _purchase_test(train_size: int) -> int:
    return int(0.1 * train_size) if train_size >= 10000 else 10000


LAYOUTS = {
    "default": Layout(val=0.2, test=_fifth),
    "with-reference": Layout(val=0.2, test=_fifth, reference=0.5),  # for defenses that need other rows than the members
    "purchase100": Layout(val=0.1, test=_purchase_test, reference=1, unused=1),
    "texas100": Layout(val=0.1, test=_tenth, reference=1),
    "location30": Layout(val=0.2, test=_thousand),
    "cifar": Layout(val=0.1, test=_tenth),
    # few members: rates need more non-members and test rows than members
    "digits": Layout(val=0.2, test=_six_hundred, nonmembers=4),
}


@dataclass(frozen=True)
class SplitTable:
    """One permutation that is cut into consecutive segments: the only place where membership is decided."""

    permutation: Tensor  # (N,) int64, rows of the data set
    segments: dict[str, tuple[int, int]]  # name → half-open range in the permutation; in the order of SEGMENTS

    def __post_init__(self) -> None:
        n = len(self.permutation)
        assert self.permutation.dtype == torch.int64, self.permutation.dtype
        assert torch.equal(self.permutation.sort().values, torch.arange(n)), "no permutation"
        assert tuple(self.segments) == SEGMENTS, tuple(self.segments)
        edges = [0, *(stop for _, stop in self.segments.values())]
        # each segment begins where the previous one ends, none is negative, the last ends at N: disjoint and complete
        assert [start for start, _ in self.segments.values()] == edges[:-1], self.segments
        assert edges == sorted(edges), self.segments
        assert edges[-1] == n, (edges[-1], n)

    def __len__(self) -> int:
        return len(self.permutation)

    @property
    def n_members(self) -> int:
        """P, the number of members."""
        return self.segments["members"][1]

    def rows(self, name: str) -> Tensor:
        """(n,) int64, the rows of the data set in a segment, in the order of the permutation."""
        start, stop = self.segments[name]
        return self.permutation[start:stop]

    def population(self) -> Tensor:
        """(2P,) int64, the first 2P rows, members first: the pool of the published shadow models."""
        return self.permutation[: 2 * self.n_members]


def split_table(n: int, config: SplitConfig, labels: Tensor | None = None, groups: Tensor | None = None) -> SplitTable:
    """The split of n rows.

    config: its layout must be given, and its seed is that of the permutation itself; train_size 0 takes the largest T that fits.
    The permutation is that of the .npy file if there is one. Else with labels (n,) every segment gets its share of each class,
    see `hampkit.data.strata`; without it is ``numpy.random.default_rng(seed).permutation(n)``. With groups (n,) segments end
    where a group ends: each end moves by at most half of the largest group.
    Raises: `UserError` for an unknown layout, a T that does not fit, a file without a permutation of n rows, and large groups.
    """
    if config.layout not in LAYOUTS:
        raise UserError(f"unknown split.layout={config.layout!r}; {did_you_mean(config.layout, LAYOUTS)}")
    sizes, file = LAYOUTS[config.layout].sizes(_train_size(n, config)), config.permutation
    edges = [*np.cumsum([0, *sizes]).tolist(), n]
    order = _read_permutation(file, n) if file else _drawn(n, config.seed, sizes[0], labels, groups)
    if groups is not None:
        _check_groups(groups, sizes, file)
        edges = _at_groups(groups.numpy()[order], edges)
    segments = {name: (edges[i], edges[i + 1]) for i, name in enumerate(SEGMENTS)}
    return SplitTable(torch.from_numpy(order.astype(np.int64)), segments)


def _drawn(n: int, seed: int, first: int, labels: Tensor | None, groups: Tensor | None) -> NDArray[np.int64]:
    """(n,) a random permutation, stratified by labels (n,) if there are any; the ``first`` rows become the members."""
    rng = np.random.default_rng(seed)
    if labels is None:
        return rng.permutation(n)
    return stratified(labels.numpy(), np.arange(n) if groups is None else groups.numpy(), rng, first)


def _check_groups(groups: Tensor, sizes: tuple[int, ...], permutation_file: str) -> None:
    """Check that every segment is larger than the largest group, so that none becomes empty.

    Raises: `UserError`.
    """
    if permutation_file:
        raise UserError("split.permutation and data.group both decide which rows go together; leave one out")
    largest, smallest = int(groups.bincount().max()), min(size for size in sizes if size)
    if largest >= smallest:
        raise UserError(
            f"the largest of {int(groups.max()) + 1} groups (data.group) has {largest} rows, and a part of the split only"
            f" {smallest}: it must hold more than one group; group by another column, or give more rows"
        )


def _at_groups(groups: NDArray[np.int64], edges: list[int]) -> list[int]:
    """Edges moved to the nearest end of a group; groups (n,) are in the order of the permutation."""
    ends = np.r_[0, np.flatnonzero(np.diff(groups)) + 1, len(groups)]
    after = np.searchsorted(ends, edges).clip(1, len(ends) - 1)
    before = after - 1
    nearer = np.asarray(edges) - ends[before] < ends[after] - np.asarray(edges)
    return np.where(nearer, ends[before], ends[after]).tolist()


def _train_size(n: int, config: SplitConfig) -> int:
    train_size, layout, rule = config.train_size, config.layout, LAYOUTS[config.layout]
    if train_size and train_size < SMALLEST:
        raise UserError(f"split.train_size={train_size} must be at least {SMALLEST}, or 0 for the largest that fits")
    if train_size and sum(rule.sizes(train_size)) <= n:
        return train_size
    largest = rule.largest(n)
    if largest < SMALLEST:
        need = sum(rule.sizes(SMALLEST))
        raise UserError(
            f"{n} rows are too few for split.layout={layout!r}, which takes {need} of them"
            f" for split.train_size={SMALLEST}; give more rows or take another layout"
        )
    if train_size:
        raise UserError(
            f"split.train_size={train_size} takes {sum(rule.sizes(train_size))} rows in split.layout={layout!r},"
            f" and the data have {n}; give at most {largest}, or 0 for the largest that fits"
        )
    return largest


def _read_permutation(file: str, n: int) -> np.ndarray:
    path, place = plain_file(file, "split.permutation"), f"split.permutation={file!r}"
    order = _unpickled(path, place) if path.suffix.lower() in (".pkl", ".pickle") else _loaded(path, place, n)
    if not isinstance(order, np.ndarray) or order.dtype.kind not in "iu":
        what = order.dtype if isinstance(order, np.ndarray) else "an archive of arrays"
        raise UserError(f"{place} holds {what}, not whole numbers; save one array of the numbers 0 to {n - 1}")
    if order.shape != (n,):
        raise UserError(
            f"{place} has shape {order.shape}, and the data have {n} rows; give each number from 0 to {n - 1} once"
        )
    if not np.array_equal(np.sort(order), np.arange(n)):
        raise UserError(f"{place} is not a permutation of the {n} rows; give each number from 0 to {n - 1} once")
    return order


def _unpickled(path: Path, place: str) -> np.ndarray:
    """The array of a pickle, as permutations were published, read without running any code in it."""
    try:
        return read_numbers(path.read_bytes())
    except NotPlain as error:
        raise UserError(
            f"{place} is a pickle with more than an array of whole numbers ({error}), and nothing of it was run; if you trust it,"
            f" convert it once: numpy.save({str(path.with_suffix('.npy'))!r}, numpy.load({str(path)!r}, allow_pickle=True))"
        ) from None


def _loaded(path: Path, place: str, n: int) -> Any:
    try:
        order = np.load(path, allow_pickle=False)
        if isinstance(order, np.lib.npyio.NpzFile):
            order.close()  # it is refused by the caller
    except Exception as error:  # a damaged file may raise anything, and claim more rows than fit into memory
        text = "it is empty" if isinstance(error, EOFError) else one_line(error, 120)
        raise UserError(f"cannot read {place}: {text}; give a .npy file of {n} whole numbers") from None
    return order


def check_classes(dataset: Dataset, table: SplitTable, by_seed: bool = True, by_size: bool = True) -> None:
    """Check that every class has a member, or a network could never predict it.

    by_seed: another seed may help. by_size: so may more members, which the data have room for.

    Raises: `UserError` for a class without members.
    """
    counts = _counts(dataset, table, "members")
    for c in (counts == 0).nonzero().flatten().tolist():
        name, rows = _class(dataset, c)
        remedies = ["remove or merge the class", *(["raise split.train_size"] if by_size else ["give more rows of it"])]
        remedies += ["change split.seed"] if by_seed else []
        raise UserError(
            f"class {name!r} of data set {dataset.name!r} ({counted(rows, 'row')}) has none among the {table.n_members}"
            f" members; {', '.join(remedies[:-1])} or {remedies[-1]}"
        )


def rare_classes(dataset: Dataset, table: SplitTable, most: int = 3) -> str:
    """One line on the classes that are missing from a part of the split, with their rows in each part; empty for none.

    Parts are members, validation, test and non-members, if the layout has them.
    """
    names = [name for name in _PARTS if len(table.rows(name))]
    counts = torch.stack([_counts(dataset, table, name) for name in names])
    found = (counts == 0).any(0).nonzero().flatten().tolist()
    if not found:
        return ""
    classes = []
    for c in found[:most]:
        rows = zip(names, counts[:, c].tolist(), strict=True)
        classes.append(f"{_class(dataset, c)[0]!r} ({', '.join(f'{_PARTS[part]} {k}' for part, k in rows)})")
    more = f" and {len(found) - most} more" if len(found) > most else ""
    subject = "these classes are" if len(found) > 1 else "a class is"
    return f"{subject} too rare for every part of the split: {', '.join(classes)}{more}"


_PARTS = {"members": "members", "validation": "validation", "test": "test", "nonmembers": "non-members"}


def _counts(dataset: Dataset, table: SplitTable, segment: str) -> Tensor:
    """(C,) the number of rows of each class in a segment."""
    return torch.bincount(dataset.y[table.rows(segment)], minlength=dataset.num_classes)


def _class(dataset: Dataset, c: int) -> tuple[str, int]:
    """The name of a class and its number of rows."""
    return dataset.classes[c] if dataset.classes else str(c), int((dataset.y == c).sum())


def known_split(p: int, known_train: float, known_val: float) -> tuple[int, int]:
    """``(a, b)`` of P rows: ``[0, a)`` known for fitting, ``[a, b)`` for choosing, ``[b, P)`` unknown.

    >>> known_split(18000, 0.45, 0.05), known_split(1350, 0.3, 0.2)
    ((8100, 9000), (405, 675))
    """
    # 0.7 + 0.1 is a little less than 0.8: without rounding, int() would lose a row.
    return int(round(known_train * p, 6)), int(round((known_train + known_val) * p, 6))


def shadow_members(
    M: int, N: int, seed: int, scheme: Literal["published", "paired"] = "published", together: Any = None
) -> Tensor:
    """The masks of M shadow models on N examples, (M, N) bool: each example is IN for M/2 models.

    published: the masks of the published evaluation to the bit, ``argsort(U, axis=0) < M/2`` with legacy NumPy uniforms; models
    differ a little in size. paired: model 2i has N // 2 examples, and model 2i+1 has the others.
    together: (N,) the index of the first example of the same unit, such as copies of a row. A unit is IN or OUT as a whole, so
    that no model is OUT for an example whose copy it was trained on. Models then differ by the size of a unit.
    Raises: `UserError` for an M that is odd or below 4, and for units that are so few or large that a model of the published
    scheme has less than a quarter or more than three quarters of the examples.
    """
    if M < 4 or M % 2:
        raise UserError(f"{M} shadow models: each example must be in half of them; give an even number of at least 4")
    if scheme == "published":
        # legacy seeds have 32 bits; larger ones are two words, so that 0 to 2^32-1 give the published masks
        legacy = np.random.RandomState(seed if seed < 2**32 else [seed & 0xFFFFFFFF, seed >> 32])
        masks = legacy.uniform(0, 1, (M, N)).argsort(axis=0) < M // 2
        if together is not None and (np.asarray(together) != np.arange(N)).any():
            masks = masks[:, together]
            _check_halves(masks)
        return torch.from_numpy(masks)
    if scheme == "paired":
        rng = np.random.default_rng(seed)
        first = _halves(rng, M // 2, N) if together is None else _halves_of_units(rng, M // 2, np.asarray(together))
        return torch.from_numpy(np.stack([first, ~first], axis=1).reshape(M, N))
    raise UserError(f"unknown shadow scheme {scheme!r}; {did_you_mean(scheme, ('published', 'paired'))}")


def _check_halves(masks: NDArray[np.bool_]) -> None:
    """Check the sizes of models: with few or large units they may be far from a half.

    Raises: `UserError`.
    """
    sizes, n = masks.sum(1), masks.shape[1]
    worst = int(np.abs(sizes - n / 2).argmax())
    if abs(sizes[worst] - n / 2) > n / 4:
        raise UserError(
            "shadows.scheme=published draws units (groups, or copies of a row) one by one, and they are too few or too large:"
            f" shadow model {worst} would be trained on {sizes[worst]:,} of {n:,} rows; take shadows.scheme=paired, which draws"
            " halves"
        )


def _halves(rng: np.random.Generator, times: int, n: int) -> NDArray[np.bool_]:
    """(times, n) bool: independent draws of n // 2 of n examples."""
    return rng.permuted(np.tile(np.arange(n) < n // 2, (times, 1)), axis=1)


def _halves_of_units(rng: np.random.Generator, times: int, together: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(times, n) bool: independent draws of units; a unit is IN if its middle is in the first half of a random order."""
    _, unit, sizes = np.unique(together, return_inverse=True, return_counts=True)
    if len(sizes) == len(together):
        return _halves(rng, times, len(together))
    drawn = np.empty((times, len(together)), dtype=bool)
    for row in drawn:
        order = rng.permutation(len(sizes))
        chosen = np.empty(len(sizes), dtype=bool)
        chosen[order] = sizes[order].cumsum() - sizes[order] / 2 < len(together) / 2
        row[:] = chosen[unit]
    return drawn


def data_fingerprint(sha256: str, order: Tensor | None) -> str:
    """The hash of a data set; with a permutation (N,) that the user gave, of both."""
    if order is None:
        return sha256
    return hashlib.sha256(sha256.encode() + order.numpy().tobytes()).hexdigest()
