"""Random damage to the bytes of a file, and values that programs often stumble over."""

from __future__ import annotations

import numpy as np

NASTY = (
    "", " ", "nan", "NaN", "inf", "-inf", "null", "None", "NA", "-", "?", "0", "-0", "1e308", "1e-320", "1e999", "9" * 400,
    "01", "1_000", "0x10", "1,5", "1.234,5", "12%", "€5", "true", "True", "2024-02-30", "\x1b[31mred\x1b[0m", "\u202eabc",
    "\ufeff", "\x00", "\x7f", "é" * 50, "a" * 5000, '"', "'", '""', "a\nb", "a\r\nb", "a;b", "a\tb", "a|b", "=cmd",
    "../../etc/passwd", "~nobody/x", "{}", "[]", "[[[[", "\\", "%s", "👾", "\u0000", "\ud7ff", "٣", "1e3", "[a]", "a=b", "#",
)  # fmt: skip
NUMBERS = (
    0, -1, 1, 2, 3, 0.5, -0.0, 1e-300, 1e300, float("inf"), float("-inf"), float("nan"), 2**31, 2**53 + 1, 2**63, 2**64,
    -(2**63), 10**30, 10**400, True, False,
)  # fmt: skip


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """The content after one to four random changes."""
    for _ in range(int(rng.integers(1, 5))):
        change = CHANGES[int(rng.integers(len(CHANGES)))]
        content = change(bytearray(content), rng) if content else b"x"
    return content


def one_of(values: tuple, rng: np.random.Generator):
    return values[int(rng.integers(len(values)))]


def _flip(content: bytearray, rng: np.random.Generator) -> bytes:
    for _ in range(int(rng.integers(1, 8))):
        content[int(rng.integers(len(content)))] ^= 1 << int(rng.integers(8))
    return bytes(content)


def _cut(content: bytearray, rng: np.random.Generator) -> bytes:
    return bytes(content[: int(rng.integers(len(content)))])


def _remove(content: bytearray, rng: np.random.Generator) -> bytes:
    start, length = int(rng.integers(len(content))), int(rng.integers(1, 40))
    del content[start : start + length]
    return bytes(content)


def _repeat(content: bytearray, rng: np.random.Generator) -> bytes:
    start, length = int(rng.integers(len(content))), int(rng.integers(1, 400))
    return (
        bytes(content[:start])
        + bytes(content[start : start + length]) * int(rng.integers(2, 5))
        + bytes(content[start:])
    )


def _insert(content: bytearray, rng: np.random.Generator) -> bytes:
    start = int(rng.integers(len(content)))
    return bytes(content[:start]) + one_of(NASTY, rng).encode("utf-8", "surrogatepass") + bytes(content[start:])


def _noise(content: bytearray, rng: np.random.Generator) -> bytes:
    start, length = int(rng.integers(len(content))), int(rng.integers(1, 64))
    content[start : start + length] = rng.bytes(length)
    return bytes(content)


def _number(content: bytearray, rng: np.random.Generator) -> bytes:
    """A run of digits becomes another number: sizes and counts that are declared in a header."""
    digits = [k for k, byte in enumerate(content) if 48 <= byte <= 57]
    if not digits:
        return bytes(content)
    start = digits[int(rng.integers(len(digits)))]
    end = start
    while end < len(content) and 48 <= content[end] <= 57:
        end += 1
    return bytes(content[:start]) + str(one_of(NUMBERS, rng)).encode() + bytes(content[end:])


CHANGES = (_flip, _cut, _remove, _repeat, _insert, _noise, _number)
