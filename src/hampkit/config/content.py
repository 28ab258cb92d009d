"""Documents in canonical form, and hashes of documents and files."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any


def canonical_json(document: Any) -> str:
    """The JSON of a document with sorted keys and without spaces.

    Raises: `ValueError` for NaN and infinity.
    """
    return json.dumps(document, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def content_hash(document: Any) -> str:
    """The sha256 of the canonical JSON of a document, 64 hex digits.

    >>> content_hash({"a": 1, "b": 2}) == content_hash({"b": 2, "a": 1})
    True
    """
    return hashlib.sha256(canonical_json(document).encode()).hexdigest()


def file_hash(path: Path, algorithm: str = "sha256") -> str:
    """The sha256 or md5 of the content of a file in hex digits, read block by block.

    Raises: `OSError`.
    """
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
