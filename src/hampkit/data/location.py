"""Location30: binary features of Foursquare check-ins in Bangkok, 30 classes (Shokri et al., IEEE S&P 2017)."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from hampkit.data.base import Place, Source, fingerprint
from hampkit.data.bit_text import read_labelled_rows
from hampkit.data.bits import Expected, join
from hampkit.data.fetch import PublicFile, known, obtain, read_member
from hampkit.types import Dataset, Domain

ARCHIVE = PublicFile(
    "dataset_location.tgz",
    "sha256:927203f85a868f8ee17a0ded1dc61699efe602167beabe34fbf45b4b1de94b33",
    "https://github.com/privacytrustlab/datasets/raw/master/dataset_location.tgz",
)
UNPACKED = PublicFile("bangkok", "sha256:2ca8f7fc231251e089823e44d39f2d1eed124574cc351c7f80368cfe631dd718")
ROWS, FEATURES, CLASSES = 5010, 446, 30
_LIMIT = 1 << 24  # bytes; the real member has 4.5 MB


@dataclass(frozen=True)
class Location30(Source):
    """5,010 users, 446 binary features (has been in a region, or a kind of place), 30 clusters as classes."""

    name: ClassVar[str] = "location30"
    about: ClassVar[str] = "5,010 users' check-ins, 446 binary features, 30 classes; downloaded (0.3 MB)"
    layout: ClassVar[str] = "location30"

    def load(self, place: Place) -> Dataset:
        return self.examine(place)[0]

    def examine(self, place: Place) -> tuple[Dataset, list[str]]:
        file, path = obtain(place, (ARCHIVE, UNPACKED), ("location30", "location"))
        content = read_member(path, UNPACKED.name, _LIMIT) if file.name == ARCHIVE.name else path.read_bytes()
        features, labels = _parse(content, path)
        x, y = torch.from_numpy(features), torch.from_numpy(labels)
        data = Dataset(
            name=self.name,
            x=x,
            y=y,
            num_classes=CLASSES,
            domain=Domain.grid((FEATURES,), 0, 1, 1),
            sha256=fingerprint(x, y),
            classes=tuple(str(c + 1) for c in range(CLASSES)),
        )
        return data, [f"file {path}", known(file)]


def _parse(content: bytes, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Lines ``"label",bit,…,bit`` → features (5010, 446) uint8 and labels (5010,) int64 in [0, 30)."""
    remedy = f"replace it by {ARCHIVE.name} from {ARCHIVE.url} or remove it"
    expected = Expected("Location30", FEATURES, CLASSES, remedy)
    if (lines := len(content.splitlines())) != ROWS:
        expected.wrong(path, f"{lines} lines", f"{ROWS} lines")
    bits = join(path, expected, *read_labelled_rows(io.BytesIO(content), path, expected))
    return bits.features(FEATURES), bits.labels.astype(np.int64)
