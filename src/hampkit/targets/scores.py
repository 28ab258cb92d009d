"""Published score files: the scaled logits of shadow models, and of a target, in the layouts of two research codes.

The layout of HAMP's artifact: ``0_score.npy`` (N,) and ``0_keep.npy`` (N,) bool beside it, for each model; ``shadow_label.npy``
(N,) if there is one. The layout of LiRA's code (Carlini et al. 2022): ``experiment-0/keep.npy`` and ``experiment-0/scores/*.npy``
(N,) or (N, views), the last of which is read; ``y_train.npy`` if there is one. Labels are in the folder of the shadow models.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hampkit.data.memory import check_fits
from hampkit.data.table_values import listed
from hampkit.errors import UserError, one_line
from hampkit.targets.base import Given
from hampkit.targets.records import Records, numbered
from hampkit.text import counted

LABELS = ("shadow_label.npy", "y_train.npy")
MOST_CLASSES = 10_000
WHERE = "files *score*.npy with *keep*.npy beside them, or folders experiment-* with keep.npy and scores/*.npy"


@dataclass(frozen=True)
class Published:
    """The scores of M models about N records, and the records that each of them was trained on."""

    folder: Path
    models: tuple[str, ...]  # (M,) their files
    scores: NDArray[np.float64]  # (M, N, V) scaled logits
    members: NDArray[np.bool_]  # (M, N)
    notes: tuple[str, ...] = ()


def given_of_scores(shadows: str | Path, target: str | Path | None, title: str = "") -> Given:
    """The scores of a target and of its shadow models. Without a target the last model is the target, attacked by the others.

    Raises: `UserError` for folders in no known layout, and for files that do not fit together.
    """
    found = read_published(shadows, "scores")
    aim = _last(found) if target is None else _only(read_published(target, "target_scores"), found)
    y, classes = _labels(found)
    records = Records(y, aim.members[0], classes)
    return Given(
        title=title or aim.folder.resolve().name,
        what=f"the score file {aim.models[0]}",
        records=records,
        answers=aim.scores[0],
        way="scores",
        kind="scores",
        shadow_answers=found.scores,
        shadow_members=found.members,
        notes=(*found.notes, *aim.notes),
        as_target=len(found.models) - 1 if target is None else None,
    )


def read_published(folder: str | Path, name: str) -> Published:
    """The models of a folder in one of both layouts, in the order of their numbers. name: of the option, for messages.

    Raises: `UserError`.
    """
    place = Path(folder).expanduser()
    if not place.is_dir():
        raise UserError(f"{name}={str(folder)!r} is no folder; give the folder with the score files")
    pairs, notes = _of_experiments(sorted(place.glob("experiment*"), key=_natural))
    whole = bool(pairs)  # whether the masks may have further records
    pairs = pairs or _of_artifact(place)
    if not pairs:
        raise UserError(f"{place} has no score files; give a folder with {WHERE}")
    check_fits(place, 2.0 * len(pairs) * pairs[0][0].stat().st_size)
    scores = [_scores(path) for path, _ in pairs]
    for (path, _), each in zip(pairs, scores, strict=True):
        if each.shape != scores[0].shape:
            raise UserError(
                f"{path} has scores of shape {each.shape}, and {pairs[0][0]} of {scores[0].shape}; all models must have scores"
                " of the same records"
            )
    members = [_members(keep, len(each), whole) for (_, keep), each in zip(pairs, scores, strict=True)]
    models = tuple(str(path) for path, _ in pairs)
    return Published(place, models, np.stack(scores), np.stack(members), notes)


def _of_experiments(folders: list[Path]) -> tuple[list[tuple[Path, Path]], tuple[str, ...]]:
    """The last score file of each experiment with its keep.npy, as LiRA's code reads them, and what was left out, in words."""
    files = {folder: sorted((folder / "scores").glob("*.npy"), key=_natural) for folder in folders}
    pairs = [(there[-1], folder / "keep.npy") for folder, there in files.items() if there]
    notes = []
    if empty := len(folders) - len(pairs):
        notes.append(f"{counted(empty, 'folder')} experiment-* without scores left out")
    if any(len(there) > 1 for there in files.values()):
        notes.append("of several score files of an experiment the last one is read")
    return pairs, tuple(notes)


def _of_artifact(folder: Path) -> list[tuple[Path, Path]]:
    """The score files in or below a folder, each with its keep file. Raises: `UserError` for files of several folders."""
    files = sorted(folder.rglob("*score*.npy"), key=_natural)
    homes = sorted({str(file.parent) for file in files})
    if len(homes) > 1:
        raise UserError(
            f"{folder} has score files in {len(homes)} folders, {listed(homes, 3)}; give one of them, so that no other model's"
            " scores are mixed in"
        )
    return [(file, file.with_name(file.name.replace("score", "keep"))) for file in files]


def _natural(path: Path) -> list[Any]:
    """A key by which 2_score.npy comes before 10_score.npy."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path.name) if part]


def _array(path: Path) -> NDArray[Any]:
    """The array of a .npy file. Raises: `UserError` for anything else; nothing is ever unpickled."""
    try:
        found = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise UserError(
            f"{path} is missing; each file of scores needs the records that its model was trained on"
        ) from None
    except Exception as error:  # a damaged file may raise anything
        raise UserError(f"cannot read {path}: {one_line(error)}; write it with numpy.save") from None
    if not isinstance(found, np.ndarray):
        raise UserError(f"{path} is an archive of arrays; write a single array with numpy.save")
    return found


def _scores(path: Path) -> NDArray[np.float64]:
    """(N, V) the scaled logits of a model."""
    found = _array(path)
    if found.dtype.kind != "f" or found.ndim not in (1, 2) or not found.size:
        raise UserError(
            f"{path} is {found.dtype} {found.shape}; give scaled logits of shape (records,) or (records, views)"
        )
    scores = found.astype(np.float64).reshape(len(found), -1)
    bad = ~np.isfinite(scores).all(1)
    if bad.any():
        raise UserError(
            f"{path} has NaN or infinity in row {int(bad.argmax()) + 1} ({int(bad.sum()):,} such rows); compute the scores with"
            " logarithms of at least 1e-45, as both research codes do"
        )
    return scores


def _members(path: Path, n: int, longer: bool) -> NDArray[np.bool_]:
    """(N,) the records that a model was trained on; longer: further records, without scores, are left out."""
    found = _array(path)
    if found.ndim != 1 or found.dtype.kind not in "biuf" or not np.isin(found, (0, 1)).all():
        raise UserError(
            f"{path} is {found.dtype} {found.shape}; give one bool per record: whether the model was trained on it"
        )
    if len(found) != n and not (longer and len(found) > n):
        raise UserError(
            f"{path} has {len(found):,} records, and the scores beside it {n:,}; they must be the same records"
        )
    return found[:n].astype(bool)


def _last(found: Published) -> Published:
    """The last model as the target, as LiRA's code has it."""
    n = len(found.models)
    note = f"no target was given: {found.models[-1]} is the target, attacked with the other {n - 1:,} models"
    return replace(found, models=found.models[-1:], scores=found.scores[-1:], members=found.members[-1:], notes=(note,))


def _only(aim: Published, shadows: Published) -> Published:
    """The one model of the target's folder. Raises: `UserError` for several, or for other records."""
    if len(aim.models) != 1:
        raise UserError(
            f"{aim.folder} has scores of {len(aim.models)} models; a target is one model: give a folder with its score file alone"
        )
    if aim.scores.shape[1:] != shadows.scores.shape[1:]:
        (n, views), (m, others) = aim.scores.shape[1:], shadows.scores.shape[1:]
        raise UserError(
            f"{aim.models[0]} has scores of {n:,} records and {counted(views, 'view')}, and the shadow models in"
            f" {shadows.folder} of {m:,} and {others}; both must be about the same records, in the same order"
        )
    return aim


def _labels(found: Published) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """(N,) the labels in the folder and the names of the classes; without labels, all records are of one class without a name."""
    n = found.scores.shape[1]
    path = next((found.folder / name for name in LABELS if (found.folder / name).is_file()), None)
    if path is None:
        return np.zeros(n, dtype=np.int64), ("",)
    y = _array(path)
    if path.name == LABELS[1]:
        y = y[:n]
    if y.shape != (n,):
        raise UserError(f"{path} has shape {y.shape}; it must have one label for each of {n:,} records")
    codes = numbered(str(path), y, MOST_CLASSES)
    return codes, tuple(map(str, range(int(codes.max()) + 1)))
