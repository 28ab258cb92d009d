"""What is fuzzed: each target makes a file of its own kind, most often a damaged one, and reads it as a user would."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

import hampkit
from hampkit.config import recipe as recipes
from hampkit.config.sections import SplitConfig
from hampkit.data import first_seen
from hampkit.data.base import Place
from hampkit.data.cifar import Cifar10
from hampkit.data.fetch import read_members
from hampkit.data.splits import split_table
from hampkit.data.table import File
from hampkit.data.tables100 import Purchase100, Texas100

from .mutate import NASTY, NUMBERS, damaged, one_of

Rng = np.random.Generator
OPTIONS = {
    "missing": ("error", "drop", "median", "category"), "na": ((), ("?",), ("0", ""), ("nan",)), "header": (None, True, False),
    "separator": ("", ",", ";", "tab", "|"), "decimal": (".", ","), "categories": ((), ("a",), ("b", "word")),
    "drop": ((), ("a",), ("", "word"), ("nope",)), "group": ("", "a", "word", "nope"),
    "label": ("y", "y", "y", "a", "word", "", "nope"),
}  # fmt: skip


def csv(folder: Path, rng: Rng) -> None:
    """A table of random cells, with random options."""
    separator = one_of((",", ",", ";", "\t", "|"), rng)
    names = ["a", "b", "word", one_of(NASTY, rng), "y"]
    cells: list[Callable[[], str]] = [
        lambda: str(rng.integers(100)), lambda: f"{rng.normal():.3f}", lambda: one_of(("red", "blue", "green"), rng),
        lambda: str(rng.integers(3)), lambda: str(rng.integers(2)),
    ]  # fmt: skip
    lines = [names, *([cell() for cell in cells] for _ in range(int(rng.integers(0, 120))))]
    for _ in range(int(rng.integers(0, 6))):
        row = lines[int(rng.integers(len(lines)))]
        row[int(rng.integers(len(row)))] = one_of(NASTY, rng)
    text = "\n".join(separator.join(_quoted(cell, separator, rng) for cell in row) for row in lines)
    _table(folder / "t.csv", text.encode("utf-8", "surrogatepass"), rng)


def parquet(folder: Path, rng: Rng) -> None:
    import pyarrow as pa
    import pyarrow.parquet

    n = int(rng.integers(1, 120))
    columns = {
        "a": pa.array(rng.integers(0, 9, n)), "b": pa.array([one_of((0.5, None, float("nan"), 1e39), rng) for _ in range(n)]),
        "word": pa.array([one_of(("red", "blue", None, *NASTY[:6]), rng) for _ in range(n)]),
        "list": pa.array([[1]] * n), "when": pa.array(np.arange(n).astype("datetime64[D]")), "y": pa.array(rng.integers(0, 2, n)),
    }  # fmt: skip
    kept = {name: column for name, column in columns.items() if name == "y" or rng.random() < 0.6}
    stream = io.BytesIO()
    pyarrow.parquet.write_table(pa.table(kept), stream)
    _table(folder / "t.parquet", stream.getvalue(), rng)


def npz(folder: Path, rng: Rng) -> None:
    shape = one_of(((60, 4), (60, 8, 8, 3), (60, 3, 8, 8), (60,), (0, 4), (60, 0), (60, 1, 1, 1, 1)), rng)
    kind = one_of(("<f8", "<f4", "<f2", "u1", "<i8", "?", "<U3", "S2", "<c16", "<M8[D]", ">f4"), rng)
    x = np.zeros(shape, dtype=kind) if rng.random() < 0.3 else rng.integers(0, 50, shape).astype(kind)
    if x.dtype.kind == "f" and x.size:
        x.reshape(-1)[:: int(rng.integers(1, 50))] = one_of((0.0, np.nan, np.inf, 1.0), rng)
    y = one_of(
        (np.arange(60) % 3, np.eye(3)[np.arange(60) % 3], (np.arange(60) % 2)[:, None], np.array(["a", "b"] * 30)), rng
    )
    stream = io.BytesIO()
    save = np.savez if rng.random() < 0.5 else np.savez_compressed
    save(stream, **{one_of(("x", "features", "z"), rng): x, one_of(("y", "labels"), rng): y})
    _table(folder / "t.npz", stream.getvalue(), rng)


def toml(folder: Path, rng: Rng) -> None:
    """A recipe with random values for random keys."""
    data, defense = (
        one_of(("toy", "digits", "file", "nope"), rng),
        one_of(("hamp", "undefended", "dp-sgd", "dmp", "selena", "x"), rng),
    )
    lines = [f'data = {{name = "{data}"}}', f'defense = {{name = "{defense}"}}']
    lines = [f'extends = "{data}/{defense}"'] if rng.random() < 0.5 else lines
    keys = recipes.keys("toy/hamp")
    for _ in range(int(rng.integers(0, 6))):
        *section, key = one_of(tuple(keys), rng).split(".")
        lines.append(f"[{'.'.join(section)}]\n{key} = {_value(rng)}" if section else f"{key} = {_value(rng)}")
    content = "\n".join(lines).encode("utf-8", "surrogatepass")
    (folder / "r.toml").write_bytes(damaged(content, rng) if rng.random() < 0.5 else content)
    hampkit.recipe(folder / "r.toml", {one_of(tuple(keys), rng): one_of(NASTY, rng)} if rng.random() < 0.5 else None)


def words(folder: Path, rng: Rng) -> None:
    """Options as they come from the command line and from Python."""
    keys = tuple(recipes.keys("toy/hamp"))
    values = (*NASTY, *NUMBERS, [], ["a", 1], [[1]], {"a": 1}, None, b"x", np.float32(1), np.array([1, 2]))
    hampkit.recipe(one_of(("toy/hamp", "digits/dmp", *NASTY), rng), {one_of((*keys, *NASTY), rng): one_of(values, rng)})


def permutation(folder: Path, rng: Rng) -> None:
    stream = io.BytesIO()
    np.save(stream, rng.permutation(100).astype(one_of(("<i8", "u1", "<f8", ">i4"), rng)))
    (folder / "p.npy").write_bytes(damaged(stream.getvalue(), rng))
    split_table(100, SplitConfig(40, "default", 0, str(folder / "p.npy")))


def archive(folder: Path, rng: Rng) -> None:
    """A tar archive with a member of a data set."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=one_of(("w:gz", "w", "w:bz2"), rng)) as tar:
        for name in ("bangkok", one_of(("../x", "/abs", "b/c", "bangkok"), rng)):
            info = tarfile.TarInfo(name)
            info.size = 500
            tar.addfile(info, io.BytesIO(rng.bytes(500)))
    (folder / "a.tgz").write_bytes(damaged(stream.getvalue(), rng))
    read_members(folder / "a.tgz", ["bangkok"], 10_000)


def bits(folder: Path, rng: Rng) -> None:
    """Files of Purchase100 and Texas100 in their published layouts, far too small."""
    source = one_of((Purchase100(), Texas100()), rng)
    name = one_of(
        ("texas100.npz", "purchase100.npz", "dataset_purchase", "dataset_texas", "texas100-features.npy"), rng
    )
    stream = io.BytesIO()
    if name.endswith(".npz"):
        np.savez(stream, features=rng.integers(0, 2, (20, 6169)), labels=np.eye(100)[rng.integers(0, 100, 20)])
    else:
        stream.write("\n".join(",".join(map(str, rng.integers(0, 2, 601))) for _ in range(20)).encode())
    (folder / name).write_bytes(damaged(stream.getvalue(), rng))
    source.load(Place(folder, folder / "cache", download=False))


def images(folder: Path, rng: Rng) -> None:
    """CIFAR-10 in its binary and its pickled layout, far too small."""
    inside = folder / one_of(("cifar-10-batches-bin", "cifar-10-batches-py"), rng)
    inside.mkdir(exist_ok=True)
    for k in range(1, 6):
        if inside.name.endswith("bin"):
            (inside / f"data_batch_{k}.bin").write_bytes(damaged(rng.bytes(3073 * 3), rng))
        else:
            (inside / f"data_batch_{k}").write_bytes(damaged(_pickled(rng), rng))
    Cifar10().load(Place(folder, folder / "cache", download=False))


def record(folder: Path, rng: Rng) -> None:
    """The file with the checksums of files first seen."""
    folder.mkdir(exist_ok=True)
    (folder / "f").write_bytes(b"x")
    (folder / first_seen.RECORD).write_bytes(damaged(json.dumps({"toy/f": "0" * 64}).encode(), rng))
    first_seen.look(folder, "toy", [folder / "f"])


def run_folder(folder: Path, rng: Rng) -> None:
    """A run that was attacked, with one damaged file: a report of it, or another attack."""
    run = _run(folder)
    copy = folder / "copy" / run.name
    shutil.rmtree(folder / "copy", ignore_errors=True)
    shutil.copytree(run, copy)
    files = sorted(path for path in copy.rglob("*") if path.is_file())
    path = files[int(rng.integers(len(files)))]
    content = path.read_bytes()
    path.write_bytes(
        _json_damage(content, rng) if path.suffix == ".json" and rng.random() < 0.7 else damaged(content, rng)
    )
    if rng.random() < 0.9:
        hampkit.write_report(copy, out=folder / "out")
    else:
        hampkit.attack(copy, "loss", out=folder / "out")


def _run(folder: Path) -> Path:
    """A trained and attacked run, made once."""
    runs = folder.parent / "run"
    if not runs.exists():
        hampkit.run("toy/undefended", options={"rows": 200, "epochs": 1, "neural.epochs": 1}, runs_dir=runs)
    return next(path for path in runs.iterdir() if path.name.startswith("toy-"))


def _json_damage(content: bytes, rng: Rng) -> bytes:
    """The document with one value replaced or removed."""
    document = json.loads(content)
    node = document
    while isinstance(node, (dict, list)) and node:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        key = keys[int(rng.integers(len(keys)))]
        if not isinstance(node[key], (dict, list)) or not node[key] or rng.random() < 0.3:
            if rng.random() < 0.3:
                del node[key]
            else:
                node[key] = one_of((None, [], {}, "x", *NASTY[:12], 0, -1, 1e308, True, [1], {"a": 1}), rng)
            break
        node = node[key]
    return json.dumps(document).encode()


def _table(path: Path, content: bytes, rng: Rng) -> None:
    path.write_bytes(damaged(content, rng) if rng.random() < 0.5 else content)
    options = {key: one_of(values, rng) for key, values in OPTIONS.items() if key == "label" or rng.random() < 0.2}
    File(file=str(path), **options).load(Place(path.parent, path.parent / "cache", download=False))


def _quoted(cell: str, separator: str, rng: Rng) -> str:
    if rng.random() < 0.9 and (separator in cell or '"' in cell or "\n" in cell):
        return '"' + cell.replace('"', '""') + '"'
    return cell


def _value(rng: Rng) -> str:
    """A value as TOML has it, or nearly."""
    if rng.random() < 0.5:
        return str(one_of(NUMBERS, rng)).lower()
    return one_of(
        (json.dumps(one_of(NASTY, rng)), "[]", '["a", "b"]', "[1, 2]", "{a = 1}", "2024-01-01", "1e400", "[[1]]"), rng
    )


def _pickled(rng: Rng) -> bytes:
    import pickle

    return pickle.dumps(
        {b"data": np.frombuffer(rng.bytes(3072 * 2), np.uint8).reshape(2, 3072), b"labels": [1, 2]}, protocol=2
    )


TARGETS: dict[str, Callable[[Path, Rng], None]] = {
    each.__name__: each
    for each in (csv, parquet, npz, toml, words, permutation, archive, bits, images, record, run_folder)
}
