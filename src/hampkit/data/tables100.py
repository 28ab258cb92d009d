"""Purchase100 and Texas100: binary features, 100 classes (Shokri et al., IEEE S&P 2017), in all common file formats."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

import torch

from hampkit.data import bit_arrays, bit_text, first_seen
from hampkit.data.base import Place, Source, fingerprint
from hampkit.data.bits import Bits, Expected, join, restore, save
from hampkit.data.fetch import PublicFile, fetch, parse_members
from hampkit.errors import UserError
from hampkit.types import Dataset, Domain

CLASSES = 100
_FORMAT = 1  # of the packed tables in the cache
_URL = "https://github.com/privacytrustlab/datasets/raw/master/"


@dataclass(frozen=True)
class Form:
    """One of the file formats in which a data set is distributed."""

    about: str
    files: tuple[str, ...]  # relative to the user's folder; all are needed
    read: Callable[[tuple[Path, ...], Expected], Bits]


class _Bits100(Source):
    """The common part of both data sets. None of their files has a published checksum, see `hampkit.data.first_seen`.

    An older ``purchase100.npz`` (md5 0d7538b9806e7ee622e1a252585e7768, release 1 of Purchase100-dataset) is another data
    set with other clusters. It is refused because its labels are numbers and not one-hot.
    """

    title: ClassVar[str]
    features: ClassVar[int]
    published_rows: ClassVar[int]
    archive: ClassVar[PublicFile]
    folders: ClassVar[tuple[str, ...]]
    forms: ClassVar[tuple[Form, ...]]  # the first one is the archive

    def load(self, place: Place) -> Dataset:
        return self.examine(place)[0]

    def examine(self, place: Place) -> tuple[Dataset, list[str]]:
        form, paths = self._find(place) or (self.forms[0], (fetch(place, self.archive),))
        seen = first_seen.look(place.cache, self.name, paths)
        bits, how = self._bits(place, form, seen)
        lines = [f"file {file.path}" for file in seen] + [f"layout {form.about}; {how}"]
        lines += first_seen.keep(place.cache, seen)
        if len(bits.labels) != self.published_rows:
            lines.append(f"not the whole data set: {len(bits.labels)} rows, published are {self.published_rows}")
        x = torch.from_numpy(bits.features(self.features))
        y = torch.from_numpy(bits.labels).long()
        data = Dataset(
            name=self.name,
            x=x,
            y=y,
            num_classes=CLASSES,
            domain=Domain.grid((self.features,), 0, 1, 1),
            sha256=fingerprint(x, y),
            classes=tuple(str(c + 1) for c in range(CLASSES)),
        )
        return data, lines

    def _find(self, place: Place) -> tuple[Form, tuple[Path, ...]] | None:
        if place.data_dir is None:
            return None
        incomplete = ""
        for folder in (place.data_dir, *(place.data_dir / name for name in self.folders)):
            for form in self.forms:
                paths = tuple(folder / name for name in form.files)
                there = [path for path in paths if path.is_file()]
                if len(there) == len(paths):
                    return form, paths
                if there and there[0].name != "labels" and not incomplete:  # too common a name to count
                    (missing, *_) = (path for path in paths if path not in there)
                    incomplete = f"{there[0]} lies there without {missing}; put that beside it or remove the first"
        if incomplete:  # these files are meant to be used: do not download others
            raise UserError(incomplete)
        return None

    def _bits(self, place: Place, form: Form, seen: list[first_seen.Seen]) -> tuple[Bits, str]:
        """The table from the cache or else from its files, and which of both it was, in words."""
        expected = Expected(
            self.title,
            self.features,
            CLASSES,
            f"replace it by {self.archive.name} from {self.archive.url} or remove it",
        )
        key = hashlib.sha256(repr((_FORMAT, form.about, [file.sha256 for file in seen])).encode()).hexdigest()
        kept = place.cache / f"{self.name}-{key[:32]}.npz"
        if (bits := restore(kept, expected)) is not None:
            return bits, f"read before, kept as {kept}"
        bits = form.read(tuple(file.path for file in seen), expected)
        return bits, f"read and kept as {kept}" if save(kept, bits) else f"read; {place.cache} cannot be written"


def _labelled_archive(paths: tuple[Path, ...], expected: Expected, member: str) -> Bits:
    (path,) = paths
    parse = partial(bit_text.read_labelled_rows, path=path, expected=expected)
    return join(path, expected, *parse_members(path, {member: parse})[member])


def _labelled_text(paths: tuple[Path, ...], expected: Expected) -> Bits:
    (path,) = paths
    with path.open("rb") as stream:
        return join(path, expected, *bit_text.read_labelled_rows(stream, path, expected))


def _paired_archive(paths: tuple[Path, ...], expected: Expected, features: str, labels: str) -> Bits:
    (path,) = paths
    parsers = {
        features: partial(bit_text.read_rows, path=path, expected=expected),
        labels: partial(bit_text.read_labels, path=path, expected=expected),
    }
    found = parse_members(path, parsers)
    return join(path, expected, found[features], found[labels])


def _paired_text(paths: tuple[Path, ...], expected: Expected) -> Bits:
    features, labels = paths
    with features.open("rb") as stream:
        bits = bit_text.read_rows(stream, features, expected)
    with labels.open("rb") as stream:
        return join(labels, expected, bits, bit_text.read_labels(stream, labels, expected))


@dataclass(frozen=True)
class Purchase100(_Bits100):
    """197,324 shoppers, 600 binary features (has bought a product), 100 clusters as classes."""

    name: ClassVar[str] = "purchase100"
    about: ClassVar[str] = "197,324 shoppers, 600 binary features, 100 classes; downloaded, or any of the usual files"
    layout: ClassVar[str] = "purchase100"

    title: ClassVar[str] = "Purchase100"
    features: ClassVar[int] = 600
    published_rows: ClassVar[int] = 197_324
    archive: ClassVar[PublicFile] = PublicFile("dataset_purchase.tgz", url=_URL + "dataset_purchase.tgz")
    folders: ClassVar[tuple[str, ...]] = ("purchase100", "purchase")
    forms: ClassVar[tuple[Form, ...]] = (
        Form("the authors' archive", ("dataset_purchase.tgz",), partial(_labelled_archive, member="dataset_purchase")),
        Form("arrays with one-hot labels", ("purchase100.npz",), bit_arrays.read_npz),
        Form("the unpacked text", ("dataset_purchase",), _labelled_text),
        Form("array with labels in column 0", ("purchase.npy",), bit_arrays.read_table),
    )


@dataclass(frozen=True)
class Texas100(_Bits100):
    """67,330 hospital stays, 6,169 binary features, the 100 most frequent procedures as classes."""

    name: ClassVar[str] = "texas100"
    about: ClassVar[str] = "67,330 hospital stays, 6,169 binary features, 100 classes; downloaded, or any usual files"
    layout: ClassVar[str] = "texas100"

    title: ClassVar[str] = "Texas100"
    features: ClassVar[int] = 6169
    published_rows: ClassVar[int] = 67_330
    archive: ClassVar[PublicFile] = PublicFile("dataset_texas.tgz", url=_URL + "dataset_texas.tgz")
    folders: ClassVar[tuple[str, ...]] = ("texas100", "texas")
    forms: ClassVar[tuple[Form, ...]] = (
        Form(
            "the authors' archive",
            ("dataset_texas.tgz",),
            partial(_paired_archive, features="texas/100/feats", labels="texas/100/labels"),
        ),
        Form("arrays with one-hot labels", ("texas100.npz",), bit_arrays.read_npz),
        *(
            Form("the unpacked text", (f"{folder}feats", f"{folder}labels"), _paired_text)
            for folder in ("texas/100/", "100/", "")
        ),
        Form(
            "arrays of features and of labels",
            ("texas100-features.npy", "texas100-labels.npy"),
            bit_arrays.read_pair,
        ),
    )
