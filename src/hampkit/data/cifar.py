"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009): training images first, then test images, in the order of their files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NoReturn

import numpy as np
import torch

from hampkit.data.base import Place, Source, fingerprint
from hampkit.data.fetch import PublicFile, fetch, find, known, read_members
from hampkit.data.safe_pickle import NotPlain, read_plain
from hampkit.errors import UserError, one_line
from hampkit.rng import derive, numpy_rng
from hampkit.types import Dataset, Domain

SHAPE = (3, 32, 32)
PIXELS = 3 * 32 * 32
TRAIN, TEST = 50_000, 10_000
SMALLEST = 44  # rows that the splits can cut, as for tables
# published for CIFAR-10 and values in [0, 1]; the published evaluation uses them for CIFAR-100 too
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
_URL = "https://www.cs.toronto.edu/~kriz/"
_LIMIT = 1 << 28  # bytes; the largest real file, CIFAR-100's train, has 155 MB


@dataclass(frozen=True)
class Form:
    """The binary or the Python version of the data set, as an archive or as its unpacked folder."""

    archive: PublicFile
    folder: str
    train: tuple[str, ...]
    test: str
    names: str  # the file with the names of the classes
    labels: str  # the key of the labels in a pickle; empty: binary records
    label_bytes: int = 1  # of a binary record; the last one is the label

    @property
    def about(self) -> str:
        return "Python" if self.labels else "binary"


class _Cifar(Source):
    """The common part of both data sets.

    The domain is 0 to 255, all values of a pixel, so that snapping changes no image. The published code draws HAMP's noise from
    0 to 254.
    """

    classes: ClassVar[int]
    forms: ClassVar[tuple[Form, ...]]  # the first one is downloaded
    folders: ClassVar[tuple[str, ...]]
    layout: ClassVar[str] = "cifar"

    rows: int
    seed: int

    def __post_init__(self) -> None:
        if self.rows and not SMALLEST <= self.rows <= TRAIN + TEST:
            raise UserError(
                f"data.rows={self.rows} of data set {self.name!r} must be 0 (all) or {SMALLEST} to {TRAIN + TEST}"
            )
        if not 0 <= self.seed < 2**63:
            raise UserError(f"data.seed={self.seed} of data set {self.name!r} must lie in [0, 2^63)")

    def load(self, place: Place) -> Dataset:
        return self.examine(place)[0]

    def examine(self, place: Place) -> tuple[Dataset, list[str]]:
        form, path, files, lines = self._files(place)
        images, labels, names = _parsed(form, path, files, self.classes)
        if self.rows:
            order = numpy_rng(derive(self.seed, self.name, "rows")).permutation(len(labels))
            chosen = np.sort(order[: self.rows])
            images, labels = images[chosen], labels[chosen]
            lines.append(f"{self.rows} rows of {TRAIN + TEST}, drawn with data.seed={self.seed}")
        x, y = torch.from_numpy(images), torch.from_numpy(labels)
        data = Dataset(
            name=self.name,
            x=x,
            y=y,
            num_classes=self.classes,
            domain=Domain.grid(SHAPE, 0, 255, 1),
            sha256=fingerprint(x, y),
            classes=names,
            mean=tuple(255 * value for value in MEAN),
            std=tuple(255 * value for value in STD),
        )
        return data, lines

    def _files(self, place: Place) -> tuple[Form, Path, dict[str, bytes], list[str]]:
        """The version that was found, its path, its files by name, and lines for `hampkit data check`."""
        found = find(place, [form.archive for form in self.forms], self.folders)
        if found is None and (unpacked := self._unpacked(place)) is not None:
            form, folder = unpacked
            lines = [f"folder {folder}", f"layout {form.about}; none of its files has a published checksum"]
            return form, folder, _folder_files(folder, form), lines
        path = found[1] if found else fetch(place, self.forms[0].archive)
        form = next(form for form in self.forms if found is None or form.archive == found[0])
        inside = {f"{form.folder}/{name}": name for name in (*form.train, form.test)}
        names = f"{form.folder}/{form.names}"
        members = read_members(path, inside, _LIMIT, optional=[names])
        files = {(inside | {names: form.names})[name]: content for name, content in members.items()}
        return form, path, files, [f"file {path}", f"layout {form.about} archive", known(form.archive)]

    def _unpacked(self, place: Place) -> tuple[Form, Path] | None:
        if place.data_dir is None:
            return None
        for folder in (place.data_dir, *(place.data_dir / name for name in self.folders)):
            for form in self.forms:
                if (folder / form.folder).is_dir():
                    return form, folder / form.folder
        return next(
            ((form, place.data_dir) for form in self.forms if form.folder == place.data_dir.resolve().name), None
        )


def _folder_files(folder: Path, form: Form) -> dict[str, bytes]:
    files = {}
    for name in (*form.train, form.test, form.names):
        try:
            files[name] = (folder / name).read_bytes()
        except FileNotFoundError:
            if name != form.names:
                raise UserError(
                    f"{folder} holds no file {name}; unpack {form.archive.name} from {form.archive.url} again"
                ) from None
        except OSError as error:
            raise UserError(
                f"cannot read {folder / name}: {one_line(error)}; make it readable or remove the folder"
            ) from None
    return files


def _parsed(
    form: Form, path: Path, files: Mapping[str, bytes], classes: int
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Images (N, 3, 32, 32) uint8, labels (N,) int64 and the names of the classes.

    Raises: `UserError` for other content.
    """
    images = np.empty((TRAIN + TEST, *SHAPE), np.uint8)
    labels = np.empty(TRAIN + TEST, np.int64)
    start = 0
    for name in (*form.train, form.test):
        count = TEST if name == form.test else TRAIN // len(form.train)
        read = _pickled if form.labels else _binary
        pixels, numbers = read(form, path / name, files[name], count)
        bad = (numbers < 0) | (numbers >= classes)
        if bad.any():
            row = int(bad.argmax())
            _wrong(form, path / name, f"label {numbers[row]} in record {row + 1}", f"0 to {classes - 1}")
        images[start : start + count] = pixels.reshape(count, *SHAPE)
        labels[start : start + count] = numbers
        start += count
    return images, labels, _names(form, path / form.names, files.get(form.names), classes)


def _binary(form: Form, path: Path, content: bytes, count: int) -> tuple[np.ndarray, np.ndarray]:
    size = form.label_bytes + PIXELS
    if len(content) != count * size:
        _wrong(form, path, f"{len(content)} bytes", f"{count} records of {size} bytes, {count * size}")
    records = np.frombuffer(content, np.uint8).reshape(count, size)
    return records[:, form.label_bytes :], records[:, form.label_bytes - 1].astype(np.int64)


def _pickled(form: Form, path: Path, content: bytes, count: int) -> tuple[np.ndarray, np.ndarray]:
    batch = _unpickled(form, path, content)
    pixels, labels = batch.get("data"), batch.get(form.labels)
    if not isinstance(pixels, np.ndarray) or pixels.shape != (count, PIXELS):
        found = f"'data' of shape {pixels.shape}" if isinstance(pixels, np.ndarray) else "no array 'data'"
        _wrong(form, path, found, f"({count}, {PIXELS})")
    # a larger label would not fit into the int64 array whose range is checked
    if not isinstance(labels, list) or not all(type(value) is int and abs(value) < 2**31 for value in labels):
        _wrong(form, path, f"no list of whole numbers {form.labels!r}", f"{count} labels")
    if len(labels) != count:
        _wrong(form, path, f"{len(labels)} labels", str(count))
    return pixels, np.array(labels, np.int64)


def _names(form: Form, path: Path, content: bytes | None, classes: int) -> tuple[str, ...]:
    """The names of the classes, or their numbers if there is no file with names."""
    if content is None:
        return tuple(str(c) for c in range(classes))
    if form.labels:
        key = form.labels.removesuffix("labels") + "label_names"
        names = _unpickled(form, path, content).get(key)
        texts = [_text(name) for name in names] if isinstance(names, list) else []
    else:
        texts = content.decode("utf-8", "replace").split()
    if len(texts) != classes or len(set(texts)) != classes:
        _wrong(form, path, f"{len(texts)} names of classes", f"{classes} different ones")
    return tuple(texts)


def _unpickled(form: Form, path: Path, content: bytes) -> dict[str, object]:
    try:
        return {_text(key): value for key, value in read_plain(content).items()}
    except NotPlain as error:
        _wrong(form, path, str(error), "a pickle of images and labels (nothing of it was run)")


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _wrong(form: Form, path: Path, found: str, expected: str) -> NoReturn:
    raise UserError(
        f"{path} is not the expected file: {found}, expected {expected};"
        f" replace it by {form.archive.name} from {form.archive.url} or remove it"
    )


def _archive(name: str, md5: str) -> PublicFile:
    return PublicFile(name, f"md5:{md5}", _URL + name)


_BATCHES = tuple(f"data_batch_{i}" for i in range(1, 6))


@dataclass(frozen=True)
class Cifar10(_Cifar):
    """60,000 colour images of 32 × 32 pixels, 10 classes."""

    name: ClassVar[str] = "cifar10"
    about: ClassVar[str] = "60,000 colour images of 32 × 32 pixels, 10 classes; downloaded (170 MB)"

    rows: int = 0  # take only so many images, drawn with data.seed; 0: all
    seed: int = 0  # of that draw

    classes: ClassVar[int] = 10
    folders: ClassVar[tuple[str, ...]] = ("cifar10", "cifar-10", "cifar")
    forms: ClassVar[tuple[Form, ...]] = (
        Form(
            archive=_archive("cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530"),
            folder="cifar-10-batches-bin",
            train=tuple(f"{name}.bin" for name in _BATCHES),
            test="test_batch.bin",
            names="batches.meta.txt",
            labels="",
        ),
        Form(
            archive=_archive("cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a"),
            folder="cifar-10-batches-py",
            train=_BATCHES,
            test="test_batch",
            names="batches.meta",
            labels="labels",
        ),
    )


@dataclass(frozen=True)
class Cifar100(_Cifar):
    """60,000 colour images of 32 × 32 pixels, 100 classes (the fine labels)."""

    name: ClassVar[str] = "cifar100"
    about: ClassVar[str] = "60,000 colour images of 32 × 32 pixels, 100 classes; downloaded (169 MB)"

    rows: int = 0  # take only so many images, drawn with data.seed; 0: all
    seed: int = 0  # of that draw

    classes: ClassVar[int] = 100
    folders: ClassVar[tuple[str, ...]] = ("cifar100", "cifar-100", "cifar")
    forms: ClassVar[tuple[Form, ...]] = (
        Form(
            archive=_archive("cifar-100-binary.tar.gz", "03b5dce01913d631647c71ecec9e9cb8"),
            folder="cifar-100-binary",
            train=("train.bin",),
            test="test.bin",
            names="fine_label_names.txt",
            labels="",
            label_bytes=2,  # coarse, fine
        ),
        Form(
            archive=_archive("cifar-100-python.tar.gz", "eb9058c3a382ffc7106e4002c42a8d85"),
            folder="cifar-100-python",
            train=("train",),
            test="test",
            names="meta",
            labels="fine_labels",
        ),
    )
