"""A table in which every person has four equal rows, judged with copies kept, with copies left out, and by group.

    python -m benchmarks.groups_table

150 persons of ten normal numbers; four classes, the largest of four linear functions with noise. Prints Markdown.
"""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path

import numpy as np

import hampkit
from hampkit.judging.results import ModelResult

PERSONS, ROWS, NOISE = 150, 4, 1.5
TRAINING = {"epochs": 200, "select": "last"}
WAYS = {
    "every row, copies kept": {"judge.copies": "keep"},
    "copies left out": {},
    "`--group person`": {"data.group": "person"},
}


def write(path: Path) -> None:
    """Several equal rows per person, with a column that names the person."""
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(PERSONS, 10)).round(4), rng.normal(size=(10, 4))
    y = (x @ w + NOISE * rng.normal(size=(PERSONS, 4))).argmax(1)
    head = ",".join([*(f"x{k}" for k in range(10)), "person", "label"])
    rows = [f"{','.join(map(str, row))},p{i},c{c}" for i, (row, c) in enumerate(zip(x, y, strict=True))]
    path.write_text("\n".join([head, *rows * ROWS]) + "\n")


def judge(folder: Path, options: dict[str, str]) -> ModelResult:
    """The undefended model, attacked by its loss; the column of persons is a group or left out."""
    given = {**TRAINING, **({} if "data.group" in options else {"data.drop": ["person"]}), **options}
    return hampkit.run(
        "undefended", data=folder / "t.csv", label="label", options=given, attacks=["loss"], runs_dir=folder / "runs"
    ).models[0]


def row(way: str, found: ModelResult) -> str:
    """AUC, who is judged, and the test accuracy with its exact interval for as many independent rows as there are."""
    (loss,), test, n = found.attacks, found.accuracy["test"], found.rows["test"]
    span = found.accuracy_interval("test")
    low, high = span.low, span.high
    judged = f"{loss.members} + {loss.nonmembers}"
    if found.groups:
        judged += f" in {found.groups['members']} + {found.groups['nonmembers']} groups"
    auc = f"{loss.auc.value:.3f} [{loss.auc.low:.3f}, {loss.auc.high:.3f}]"
    return f"| {way} | {auc} | {judged} | {test:.1%} [{low:.1%}, {high:.1%}] | {n} |"


def main() -> None:
    print("| rows | AUC of the loss attack | judged | test accuracy | n |\n|---|--:|--:|--:|--:|")
    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
        warnings.simplefilter("ignore", hampkit.Notice)
        write(Path(name) / "t.csv")
        for way, options in WAYS.items():
            print(row(way, judge(Path(name), options)), flush=True)


if __name__ == "__main__":
    main()
