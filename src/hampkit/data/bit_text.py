"""Bits as text, one row per line, read block by block: such a file may have 800 MB."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from hampkit.data.bits import Expected, packed

_BLOCK = 1 << 25  # bytes of text that are read at once


def read_rows(stream: IO[bytes], path: Path, expected: Expected) -> np.ndarray:
    """Lines ``bit,…,bit`` → packed bits (N, ceil(d / 8)).

    Raises: `UserError` for any other line.
    """
    return packed(_bits(lines, first, path, expected) for first, lines in _blocks(stream, path, expected))


def read_labelled_rows(stream: IO[bytes], path: Path, expected: Expected) -> tuple[np.ndarray, np.ndarray]:
    """Lines ``label,bit,…,bit`` → packed bits (N, ceil(d / 8)) and labels (N,) in [0, C).

    Raises: `UserError` for others.
    """
    labels: list[np.ndarray] = []

    def bits() -> Iterator[np.ndarray]:
        for first, lines in _blocks(stream, path, expected):
            parts = [line.partition(b",") for line in lines]
            labels.append(_labels([label for label, _, _ in parts], first, path, expected))
            yield _bits([rest for _, _, rest in parts], first, path, expected)

    rows = packed(bits())
    return rows, np.concatenate(labels) if labels else np.empty(0, np.uint8)


def read_labels(stream: IO[bytes], path: Path, expected: Expected) -> np.ndarray:
    """Lines with one label from 1 to C each → (N,) uint8 in [0, C).

    Raises: `UserError` for any other line.
    """
    parts = [_labels(lines, first, path, expected) for first, lines in _blocks(stream, path, expected)]
    return np.concatenate(parts) if parts else np.empty(0, np.uint8)


def _blocks(stream: IO[bytes], path: Path, expected: Expected) -> Iterator[tuple[int, list[bytes]]]:
    """Blocks of whole lines without quotes, each with the number of its first line, counted from 1."""
    rest, first = b"", 1
    while chunk := stream.read(_BLOCK):
        text = rest + chunk
        cut = text.rfind(b"\n") + 1
        if not cut and len(text) > 8 * (expected.features + 8):  # a file without line breaks must not fill the memory
            expected.wrong(path, f"line {first} has over {len(text)} bytes", f"{expected.features} single digits")
        rest, lines = text[cut:], _lines(text[:cut])
        if lines:
            yield first, lines
        first += len(lines)
    if lines := _lines(rest):
        yield first, lines


def _lines(text: bytes) -> list[bytes]:
    return (text.replace(b'"', b"") if b'"' in text else text).splitlines()


def _labels(texts: list[bytes], first: int, path: Path, expected: Expected) -> np.ndarray:
    """Texts ``1`` … ``C`` (n,) → (n,) uint8 in 0 … C-1."""
    numbers = {str(c + 1).encode(): c for c in range(expected.classes)}
    labels = [numbers.get(text.strip(), -1) for text in texts]
    if -1 in labels:
        row = labels.index(-1)
        hint = "; the labels seem to count from 0, add 1" if texts[row].strip() == b"0" else ""
        found = f"label {texts[row].decode('utf-8', 'replace')!r:.40} in line {first + row}"
        expected.wrong(path, found, f"1 to {expected.classes}{hint}")
    return np.array(labels, np.uint8)


def _bits(lines: list[bytes], first: int, path: Path, expected: Expected) -> np.ndarray:
    """Lines of d digits with commas between them → (n, d) uint8 of 0 and 1."""
    width = 2 * expected.features - 1
    sizes = np.fromiter(map(len, lines), np.int64, len(lines))
    if (sizes != width).any():
        row = int((sizes != width).argmax())
        found = f"{lines[row].count(b',') + 1} features in {sizes[row]} bytes in line {first + row}"
        expected.wrong(path, found, f"{expected.features} single digits")
    # all lines have one length, with digits at even and commas at odd places: much faster than a csv reader
    table = np.frombuffer(b"".join(lines), np.uint8).reshape(len(lines), width)
    bits = table[:, ::2] - ord("0")
    bad = (bits > 1).any(1) | (table[:, 1::2] != ord(",")).any(1)
    if bad.any():
        found = f"a feature other than 0 and 1 in line {first + int(bad.argmax())}"
        expected.wrong(path, found, "0 or 1, with commas between")
    return bits
