"""Splits, known halves and shadow masks: the numbers of the protocol, to the row and to the bit."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hampkit.config.sections import SplitConfig
from hampkit.data.splits import (
    LAYOUTS,
    SEGMENTS,
    SplitTable,
    check_classes,
    known_split,
    shadow_members,
    split_table,
)
from hampkit.errors import UserError
from hampkit.types import Dataset, Domain


def refused(call: Callable[[], object], *parts: str) -> None:
    with pytest.raises(UserError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message, message


# --- segments ------------------------------------------------------------------------------------------------------

# Protocol 1.3, "Concrete layout for the shipped sizes": where members, reference, …, unused, non-members stop.
PUBLISHED = {
    "purchase100": (197324, 20000, [18000, 36000, 38000, 40000, 58000, 76000]),
    "texas100": (67330, 15000, [13500, 27000, 28500, 30000, 30000, 43500]),
    "location30": (5010, 1500, [1350, 1350, 1650, 2650, 2650, 4000]),
    "cifar": (60000, 25000, [22500, 22500, 25000, 27500, 27500, 50000]),
}


@pytest.mark.parametrize("layout", PUBLISHED)
def test_published_segments(layout):
    n, train_size, stops = PUBLISHED[layout]
    table = split_table(n, SplitConfig(train_size, layout, 0))
    assert list(table.segments) == list(SEGMENTS)
    assert [stop for _, stop in table.segments.values()] == [*stops, n]
    assert [start for start, _ in table.segments.values()] == [0, *stops]
    assert table.n_members == stops[0]
    assert len(table) == n


def test_purchase_has_a_fixed_test_set_below_ten_thousand():
    assert split_table(197324, SplitConfig(9999, "purchase100", 0)).segments["test"] == (
        2 * 8999 + 999,
        2 * 8999 + 999 + 10000,
    )


def test_default_layout_for_a_users_data():
    table = split_table(1000, SplitConfig(400, "default", 0))
    sizes = {name: stop - start for name, (start, stop) in table.segments.items()}
    assert sizes == {
        "members": 360,
        "reference": 0,
        "validation": 80,
        "test": 80,
        "unused": 0,
        "nonmembers": 360,
        "remaining": 120,
    }


def test_rows_follow_numpys_default_rng():
    table = split_table(500, SplitConfig(100, "default", 7))
    order = np.random.default_rng(7).permutation(500)
    assert table.rows("members").tolist() == order[:90].tolist()
    assert table.rows("nonmembers").tolist() == order[130:220].tolist()
    assert table.population().tolist() == order[:180].tolist()
    assert split_table(500, SplitConfig(100, "default", 8)).rows("members").tolist() != order[:90].tolist()


@settings(max_examples=60, deadline=None)
@given(st.integers(44, 3000), st.integers(0, 2**31))
def test_segments_are_disjoint_complete_and_as_large_as_they_can_be(n, seed):
    table = split_table(n, SplitConfig(0, "default", seed))
    rows = torch.cat([table.rows(name) for name in SEGMENTS])
    assert sorted(rows.tolist()) == list(range(n))
    largest = max(t for t in range(20, n) if 2 * int(0.9 * t) + 2 * int(0.2 * t) <= n)
    assert table.n_members == int(0.9 * largest)
    assert len(table.rows("members")) == len(table.rows("nonmembers"))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_largest_size_fits_and_one_more_does_not(layout):
    n = 47_000  # where Purchase100's total falls again at T = 10,000
    largest = LAYOUTS[layout].largest(n)
    assert sum(LAYOUTS[layout].sizes(largest)) <= n
    assert all(sum(LAYOUTS[layout].sizes(t)) > n for t in range(largest + 1, largest + 2000))
    assert split_table(n, SplitConfig(0, layout, 0)).n_members == int(0.9 * largest)
    more = largest + 1
    refused(
        lambda: split_table(n, SplitConfig(more, layout, 0)), f"train_size={more}", f"at most {largest}", str(n), layout
    )


def test_too_large_for_location():
    refused(
        lambda: split_table(5010, SplitConfig(3000, "location30", 0)),
        "train_size=3000",
        "5010",
        "at most 2005",
        "location30",
    )


def test_too_few_rows_and_too_small_sizes():
    refused(lambda: split_table(43, SplitConfig(0, "default", 0)), "43 rows", "'default'", "44", "more rows")
    refused(lambda: split_table(43, SplitConfig(30, "default", 0)), "43 rows", "'default'", "44", "more rows")
    refused(lambda: split_table(800, SplitConfig(0, "location30", 0)), "800 rows", "'location30'", "another layout")
    refused(lambda: split_table(1000, SplitConfig(19, "default", 0)), "split.train_size=19", "at least 20")
    refused(lambda: split_table(1000, SplitConfig(-5, "default", 0)), "split.train_size=-5", "at least 20")
    assert split_table(44, SplitConfig(20, "default", 0)).n_members == 18


def test_unknown_layout():
    refused(lambda: split_table(1000, SplitConfig(100, "cifra", 0)), "split.layout='cifra'", "did you mean 'cifar'?")


@pytest.mark.parametrize(
    "change",
    [
        lambda t: replace(t, permutation=torch.zeros(100, dtype=torch.int64)),
        lambda t: replace(t, permutation=t.permutation[:-1]),
        lambda t: replace(t, permutation=t.permutation.int()),
        lambda t: replace(t, segments=t.segments | {"test": (0, 5)}),
        lambda t: replace(t, segments=t.segments | {"remaining": (t.segments["remaining"][0], 101)}),
        lambda t: replace(t, segments={k: v for k, v in t.segments.items() if k != "unused"}),
    ],
)
def test_a_table_that_is_no_partition_cannot_be_made(change):
    table = split_table(100, SplitConfig(40, "default", 0))
    assert isinstance(table, SplitTable)
    with pytest.raises(AssertionError):
        change(table)


# --- permutation files ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint16])
def test_permutation_from_a_file(tmp_path, dtype):
    order = np.random.default_rng(1).permutation(200)
    np.save(tmp_path / "p.npy", order.astype(dtype))
    table = split_table(200, SplitConfig(50, "default", 0, str(tmp_path / "p.npy")))
    assert table.permutation.tolist() == order.tolist()
    assert table.permutation.dtype == torch.int64


def test_bad_permutation_files(tmp_path: Path):
    path = tmp_path / "p.npy"

    def load(file: Path = path) -> object:
        return split_table(50, SplitConfig(20, "default", 0, str(file)))

    refused(load, "p.npy", "no file", "give the path of an existing file")
    for content in (np.arange(50.0), np.arange(50) > 3):
        np.save(path, content)
        refused(load, "p.npy", str(content.dtype), "0 to 49")
    np.save(path, np.arange(49))
    refused(load, "p.npy", "(49,)", "50 rows", "0 to 49 once")
    for content in (np.r_[np.arange(49), 3], np.arange(1, 51), np.arange(50) - 1):
        np.save(path, content)
        refused(load, "p.npy", "is not a permutation of the 50 rows", "0 to 49 once")
    np.save(path, np.array([{}], dtype=object), allow_pickle=True)
    refused(load, "p.npy", "cannot read", ".npy file of 50")
    path.write_bytes(b"")
    refused(load, "p.npy", "cannot read", "it is empty;", ".npy file of 50")
    header = b"{'descr': '" + b"<i8" * 2000 + b"', 'fortran_order': False, 'shape': (50,), }\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    refused(load, "p.npy", "cannot read", "…; give a .npy file of 50")
    with pytest.raises(UserError) as caught:
        load()
    assert len(str(caught.value)) < 250 + len(str(path))
    np.savez(tmp_path / "p.npz", a=np.arange(50))
    refused(lambda: load(tmp_path / "p.npz"), "p.npz", "archive", "0 to 49")


def test_a_published_permutation_is_read_from_its_pickle(tmp_path: Path):
    order = np.random.default_rng(0).permutation(50)
    order.dump(tmp_path / "location_shuffle.pkl")
    table = split_table(50, SplitConfig(20, "default", 0, str(tmp_path / "location_shuffle.pkl")))
    assert table.permutation.tolist() == order.tolist()


def test_another_pickle_is_refused_and_told_how_to_convert(tmp_path: Path):
    # protocol 5 builds an array by a function that the reader does not know
    (tmp_path / "location_shuffle.pkl").write_bytes(pickle.dumps(np.arange(50), 5))
    source, target = str(tmp_path / "location_shuffle.pkl"), str(tmp_path / "location_shuffle.npy")
    remedy = f"numpy.save({target!r}, numpy.load({source!r}, allow_pickle=True))"
    refused(lambda: split_table(50, SplitConfig(20, "default", 0, source)), "pickle", remedy)
    exec("import numpy; " + remedy)  # the remedy must work
    table = split_table(50, SplitConfig(20, "default", 0, target))
    assert table.permutation.tolist() == list(range(50))


# --- classes -------------------------------------------------------------------------------------------------------


def test_a_class_without_members():
    table = split_table(100, SplitConfig(40, "default", 0))
    y = torch.zeros(100, dtype=torch.int64)
    y[table.rows("members")[:5]] = 1
    y[table.rows("nonmembers")[:3]] = 2
    x = torch.zeros(100, 2)
    data = Dataset("mine", x, y, 3, Domain.grid((2,), 0, 1, 1), classes=("a", "b", "rare"))
    refused(lambda: check_classes(data, table), "'rare'", "'mine'", "(3 rows)", "36 members", "split.seed")
    refused(lambda: check_classes(replace(data, classes=()), table), "class '2'", "(3 rows)")
    y[table.rows("members")[5]] = 2
    check_classes(data, table)


# --- known half ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("p", "train", "val", "sizes"),
    [
        (18000, 0.45, 0.05, (8100, 900, 9000)),
        (13500, 0.45, 0.05, (6075, 675, 6750)),
        (1350, 0.3, 0.2, (405, 270, 675)),
        (22500, 0.45, 0.05, (10125, 1125, 11250)),
    ],
)
def test_known_split_as_published(p, train, val, sizes):
    a, b = known_split(p, train, val)
    assert (a, b - a, p - b) == sizes


def test_known_split_loses_no_row_to_rounding():
    assert int((0.7 + 0.1) * 10) == 7, "the trap"
    assert known_split(10, 0.7, 0.1) == (7, 8)
    assert int(0.29 * 100) == 28, "the other trap"
    assert known_split(100, 0.29, 0.01) == (29, 30)
    assert known_split(7, 0.45, 0.05) == (3, 3)


# --- shadow models -------------------------------------------------------------------------------------------------

# Protocol 5.1 and appendix A: first six sizes, smallest, largest, of 128 models on 2P rows.
MASKS = {
    36000: ([17939, 18178, 17949, 18025, 18000, 17993], 17762, 18259),
    27000: ([13535, 13448, 13442, 13534, 13421, 13525], 13315, 13717),
    2700: ([1357, 1365, 1328, 1327, 1325, 1355], 1275, 1412),
    45000: ([22443, 22456, 22405, 22499, 22601, 22393], 22239, 22793),
}


@pytest.mark.parametrize("n", MASKS)
def test_published_masks(n):
    first, smallest, largest = MASKS[n]
    members = shadow_members(128, n, seed=0)
    sizes = members.sum(1)
    assert members.dtype == torch.bool
    assert sizes[:6].tolist() == first
    assert (int(sizes.min()), int(sizes.max())) == (smallest, largest)
    assert bool((members.sum(0) == 64).all())


def test_published_masks_to_the_bit():
    np.random.seed(5)  # noqa: NPY002 - the published lines, word for word
    keep = np.random.uniform(0, 1, (16, 100))  # noqa: NPY002
    order = keep.argsort(0)
    keep = order < int(0.5 * 16)
    assert torch.equal(shadow_members(16, 100, seed=5), torch.from_numpy(keep))


@pytest.mark.parametrize("n", [100, 101])
def test_paired_masks_are_complementary_halves(n):
    members = shadow_members(8, n, seed=3, scheme="paired")
    assert torch.equal(members[0::2], ~members[1::2])
    assert members[0::2].sum(1).tolist() == [n // 2] * 4
    assert bool((members.sum(0) == 4).all())
    assert len({tuple(row) for row in members[0::2].int().tolist()}) == 4, "each pair is drawn anew"
    assert torch.equal(members, shadow_members(8, n, seed=3, scheme="paired"))


@pytest.mark.parametrize("scheme", ["published", "paired"])
def test_seeds_of_63_bits_are_accepted_and_differ(scheme):
    seeds = [0, 1, 2**32 - 1, 2**32, 2**32 + 1, 2**62]
    masks = {tuple(shadow_members(4, 200, s, scheme).flatten().tolist()) for s in seeds}
    assert len(masks) == len(seeds)


@pytest.mark.parametrize("m", [0, 1, 2, 3, 5, 127])
def test_a_number_of_shadow_models_that_cannot_be_halved(m):
    refused(lambda: shadow_members(m, 10, 0), f"{m} shadow models", "even number of at least 4")


def test_unknown_scheme():
    refused(lambda: shadow_members(4, 10, 0, "pared"), "'pared'", "did you mean 'paired'?")  # pyright: ignore
