"""The same numbers as before? A fixed set of commands with the code of BASE and with the code here, on the same machine.

    python -m benchmarks.freeze BASE [--only CASE,…] [--keep FOLDER]

BASE is a commit. It is checked out into a scratch worktree; its command and the one of this checkout run the same cases, one of
each at a time. Compared are results.json, compare.json, records.csv, the weights of every model and the shadow models'
signals; times, hashes, versions and the names of run folders are not. No trained number is stored: processors differ.

Cases: every defense on toy, each with shadow models; every defense on digits, without; two seeds; published judging; a table
with groups; images. Exit code 1 if a number changed or is gone. A number that is new is printed and passes. Keys that were
renamed on purpose stand in `RENAMED`; numbers that changed on purpose belong into the message of the commit.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

HERE = Path(__file__).resolve().parent.parent
DEFENSES = (
    "advreg", "confidence-penalty", "dmp", "dp-sgd", "early-stopping", "hamp", "label-smoothing", "memguard", "mixup",
    "relaxloss", "round", "selena", "temperature", "top1", "undefended",
)  # fmt: skip
QUICK = ("epochs=3", "train.retries=0")
CASES: dict[str, list[str]] = {
    "toy": ["compare", "toy", "--shadows", "4", "rows=400", "features=16", "classes=4", "epochs=4"],
    "digits": [
        "run", *(f"digits/{d}" for d in DEFENSES), "train.epochs=4", "train.retries=0", "defense.epoch=2",
        "synthetic=500", "surrogate_epochs=20", "attack_steps=10", "neural.epochs=10",
    ],
    "seeds": ["compare", "toy", "--defenses", "undefended,hamp,round", "--seeds", "2", "rows=300", *QUICK],
    "published": [
        "run", "digits/undefended", "digits/hamp", "--shadows", "4", "judge.strict=true", "judge.copies=keep",
        "judge.candidates=all", "shadows.scheme=published", *QUICK,
    ],
    "table": [
        "compare", "--data", "TABLE", "--label", "y", "--group", "person", "--shadows", "8",
        "--defenses", "undefended,hamp,top1", *QUICK,
    ],
    "images": [
        "run", "undefended", "hamp", "--data", "IMAGES", "--label", "y", "--shadows", "4", "net=convnet-gn",
        "shadows.views=2", "train.batch_size=32", *QUICK,
    ],
}  # fmt: skip

# keys that mean nothing on another day or with other code
PASSING = re.compile(r"seconds|overhead|sha256|/hampkit$|/run$|/runs/|/schema$|/leave_one_out/[^/]*/examples$")
# old key → new key, as regular expressions over paths such as "/models/digits-hamp/attacks/neural/auc/value"
RENAMED: dict[str, str] = {
    r"(/facts|/compare.json/entries/.*)/said$": r"\1/summary",
    # leave-one-out is in the list of attacks, behind those on the target
    r"/leave_one_out/([^/]*)/models$": r"/attacks/\1#1/targets",
    r"/leave_one_out/([^/]*)/": r"/attacks/\1#1/",
}
NAMES = ("run", "recipe", "attack", "defense", "fpr", "fnr")  # what an item of a list is called by, if it has one


def main() -> None:
    args = _arguments()
    folder = Path(args.keep or tempfile.mkdtemp(prefix="freeze-")).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    files = {"TABLE": write_table(folder / "table.csv"), "IMAGES": write_images(folder / "images.npz")}
    cases = {name: CASES[name] for name in (args.only.split(",") if args.only else CASES)}
    with worktree(args.base, folder) as base, ThreadPoolExecutor(2) as pool:
        for code, tree in (("base", base), ("here", HERE)):
            for name, words in cases.items():
                command = [str(files.get(word, word)) for word in words]
                pool.submit(run, tree, folder / code / name, command)
    changed = sum(report(name, folder / "base" / name, folder / "here" / name) for name in cases)
    sys.exit(1 if changed else 0)


def run(tree: Path, folder: Path, command: list[str]) -> None:
    """One case with the code of one checkout; its output stands in ``folder/log.txt``."""
    folder.mkdir(parents=True)
    cache, path = str(folder / "cache"), os.pathsep.join([str(tree / "src"), str(tree)])
    environment = {**os.environ, "PYTHONPATH": path, "XDG_CACHE_HOME": cache, "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-m", "hampkit", *command, "--runs-dir", "runs", "--workers", "1"]
    if command[0] == "run" and "--shadows" not in command:
        words = words[:-2]  # nothing to share out; an older command may refuse the flag
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    (folder / "log.txt").write_text(done.stdout + done.stderr)
    (folder / "code.txt").write_text(str(done.returncode))


def report(name: str, base: Path, here: Path) -> int:
    """Print what differs in one case. Returns how many numbers changed or are gone."""
    codes = [(folder / "code.txt").read_text() for folder in (base, here)]
    if codes != ["0", "0"]:
        print(f"{name}: exit codes {codes}; see {base / 'log.txt'} and {here / 'log.txt'}")
        return 1
    before, after = (dict(numbers(folder / "runs")) for folder in (base, here))
    before = {_renamed(key): value for key, value in before.items()}
    lists = {
        "changed": [f"{k}: {before[k]} → {after[k]}" for k in before if k in after and not same(before[k], after[k])],
        "gone": [k for k in before if k not in after],
        "new": [k for k in after if k not in before],
    }
    print(f"{name}: {len(before):,} values, " + ", ".join(f"{len(found):,} {what}" for what, found in lists.items()))
    for what, found in lists.items():
        for line in found[:15]:
            print(f"    {what} {line}")
    return len(lists["changed"]) + len(lists["gone"])


def numbers(runs: Path) -> Iterator[tuple[str, Any]]:
    """Every compared value of a runs folder by a path that does not depend on hashes."""
    for file in ("results.json", "compare.json"):
        if (runs / file).is_file():
            for key, value in flat(json.loads((runs / file).read_text())):
                if not PASSING.search(key):
                    yield f"/{file}{key}", value
    for folder in sorted(path for path in runs.iterdir() if (path / "recipe.json").is_file()):
        label = f"/{called(folder)}"
        yield from ((f"{label}/records{key}", value) for key, value in rows(folder / "records.csv"))
        for path in sorted(folder.rglob("stack.safetensors")):
            where = f"{label}/{path.parent.relative_to(folder)}"
            yield from ((f"{where}/{tensor}", array) for tensor, array in load_file(path).items())
        for path in sorted(folder.rglob("shadows/*/*/*.npy")):
            yield f"{label}/{path.relative_to(folder)}", np.load(path)


def called(folder: Path) -> str:
    """The name of a run folder without its hash, with its seed."""
    return f"{folder.name.rpartition('-')[0]}-{json.loads((folder / 'recipe.json').read_text())['seed']}"


def flat(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Nested plain values as (path, leaf); items of a list by their name, where they have one."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from flat(inner, f"{key}/{name}")
    elif isinstance(value, list):
        taken: dict[str, int] = {}
        for k, inner in enumerate(value):
            name = _name(inner) or str(k)
            taken[name] = taken.get(name, -1) + 1
            yield from flat(inner, f"{key}/{name}" + (f"#{taken[name]}" if taken[name] else ""))
    else:
        yield key, value


def rows(path: Path) -> Iterator[tuple[str, str]]:
    if path.is_file():
        with path.open(newline="") as file:
            for line in csv.DictReader(file):
                yield from ((f"/{line['row']}/{name}", value) for name, value in line.items())


def same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return bool(np.array_equal(a, b, equal_nan=a.dtype.kind == "f"))
    return a == b or (a != a and b != b)


def write_table(path: Path, persons: int = 120) -> Path:
    """A table with numbers, categories and several rows per person, made from a seed."""
    rng = np.random.default_rng(0)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["person", "age", "income", "colour", "y"])
        for person in range(persons):
            kind = person % 3
            for _ in range(1 + person % 4):
                age, income = 20 + 10 * kind + rng.normal(0, 6), 1000 * (kind + 1) + rng.normal(0, 700)
                colour = rng.choice(["red", "green", "blue"], p=np.roll([0.6, 0.3, 0.1], kind))
                writer.writerow([f"p{person}", f"{age:.1f}", f"{income:.0f}", colour, f"class{kind}"])
    return path


def write_images(path: Path, n: int = 240, side: int = 8) -> Path:
    """Images of three classes, a pattern each under noise, made from a seed: x (N, 3, side, side) bytes, y (N,)."""
    rng = np.random.default_rng(1)
    y = np.arange(n) % 3
    pattern = rng.integers(60, 196, (3, 3, side, side))
    x = np.clip(pattern[y] + rng.normal(0, 50, (n, 3, side, side)), 0, 255).astype(np.uint8)
    np.savez(path, x=x, y=y)
    return path


@contextmanager
def worktree(commit: str, folder: Path) -> Iterator[Path]:
    """The files of a commit in a scratch folder."""
    tree = folder / "worktree"
    git: Callable[..., Any] = lambda *words: subprocess.run(["git", "-C", str(HERE), "worktree", *words], check=True)  # noqa: E731
    git("add", "--detach", "--force", str(tree), commit)
    try:
        yield tree
    finally:
        git("remove", "--force", str(tree))


def _name(item: Any) -> str:
    found = [str(item[key]) for key in NAMES if key in item] if isinstance(item, dict) else []
    return re.sub(r"-[0-9a-f]{8}$", "", found[0]) if found else ""


def _renamed(key: str) -> str:
    for old, new in RENAMED.items():
        key = re.sub(old, new, key)
    return key


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("base", help="a commit")
    parser.add_argument("--only", default="", help="cases, with commas: " + ", ".join(CASES))
    parser.add_argument("--keep", default="", help="a new folder for all outputs; default: a temporary one")
    return parser.parse_args()


if __name__ == "__main__":
    main()
