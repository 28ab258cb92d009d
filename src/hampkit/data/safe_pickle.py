"""Read published pickles without running any of their code: plain values and arrays of bytes, or one array of whole numbers.

This is the only file of hampkit that reads pickles. Not even NumPy's constructors are called: the few names that an array in
a pickle refers to are replaced by stand-ins that only store their arguments, and any other name is refused.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from collections.abc import Callable
from typing import Any

import numpy as np

from hampkit.errors import one_line

_RECONSTRUCT = ("numpy.core.multiarray", "_reconstruct"), ("numpy._core.multiarray", "_reconstruct")
TUPLES = 24  # an array takes about seven
LARGEST = 2**32  # whole numbers below it have distinct hashes
_WHOLE = ("INT", "LONG", "LONG1", "LONG4")  # other opcodes hold numbers below 2^31
_SETS = ("EMPTY_SET", "ADDITEMS", "FROZENSET")
_LEAVES = {c.name for c in pickletools.opcodes if c.name.endswith(("STRING", "UNICODE", "UNICODE8", "BYTES", "BYTES8"))}
_LEAVES |= {"REDUCE", "GLOBAL", "STACK_GLOBAL"}
_BYTES = ("|u1", "u1", "uint8")
_NUMBERS = ("i4", "i8", "u4", "u8")


class NotPlain(ValueError):
    """A pickle that is damaged, or that has more than plain values and arrays of bytes."""


def read_plain(content: bytes) -> Any:
    """The dictionary in a pickle: texts of Python 2 as bytes, arrays as `numpy.ndarray` of uint8.

    Raises: `NotPlain` for a damaged pickle, and for anything but plain values and arrays of bytes.
    """
    return _read(content, _filled)


def read_numbers(content: bytes) -> np.ndarray:
    """The array (N,) of whole numbers in a pickle, such as a published permutation.

    Raises: `NotPlain` for a damaged pickle, and for anything else.
    """
    return _read(content, _numbers)


def _read(content: bytes, convert: Callable[[Any], Any]) -> Any:
    try:
        _check(content)
        return convert(_Plain(content).load())
    except NotPlain:
        raise
    except Exception as error:  # a damaged pickle may raise anything
        raise NotPlain(one_line(error, 120, named=True)) from None


def _check(content: bytes) -> None:
    """Refuse a pickle that would take forever, or more memory than its size justifies, before anything is built.

    Tuples may be keys of a dictionary: hashing nested tuples overflows C's stack, and tuples that repeat others take forever to
    hash. So few tuples are allowed, and only values without parts may be repeated. Keys with equal hashes take forever too.
    Large whole numbers can be built that way and are refused; at most a few hundred fractions share a hash, and for texts no
    way is known.
    """
    count, before = 0, ""
    memo, closed = set(), set()  # places in the memo; those that may hold a tuple or a list
    for step, (code, place, _) in enumerate(pickletools.genops(content)):
        count += "TUPLE" in code.name
        if count > TUPLES or code.name in _SETS:
            raise NotPlain(f"it holds more than {TUPLES} tuples, or a set; an array of bytes takes a few")
        number = place if isinstance(place, int) else 0
        if code.name in _WHOLE and abs(number) >= LARGEST:
            raise NotPlain("it holds a very large whole number; labels and sizes are small")
        if "PUT" in code.name and number > step:  # the memo is a list as long as its last place
            raise NotPlain(
                f"it keeps its value number {step} at place {number}, which takes memory for all places below"
            )
        if code.name == "MEMOIZE" or "PUT" in code.name:
            place = len(memo) if code.name == "MEMOIZE" else place
            memo.add(place)
            if before not in _LEAVES:
                closed.add(place)
        elif code.name == "DUP" or ("GET" in code.name and place in closed):
            raise NotPlain("it repeats a list, a tuple or a dictionary; an array of bytes takes none")
        before = before if code.name == "FRAME" else code.name


class _Plain(pickle.Unpickler):
    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content), encoding="bytes")
        # characters that may still be encoded: each text once, and it takes at least as many bytes in the pickle
        self.room = len(content)

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _RECONSTRUCT:
            return _Reconstruct()
        if (module, name) in (("numpy", "ndarray"), ("numpy", "dtype")):
            return _Dtype() if name == "dtype" else _Name()
        if (module, name) == ("_codecs", "encode"):
            return _Encode(self)
        raise NotPlain(f"it asks for {module}.{name}, which is not part of an array of bytes")


class _Name:
    """A stand-in that is only passed on. Without slots a pickle could set attributes on it."""

    __slots__ = ()


class _Encode:
    """``encode(text, "latin1")``, as Python 3 writes bytes in formats without them."""

    __slots__ = ("_reader",)

    def __init__(self, reader: _Plain) -> None:
        self._reader = reader

    def __setstate__(self, state: Any) -> None:  # otherwise a pickle could set the slot
        raise NotPlain("it changes a function")

    def __call__(self, text: str, encoding: Any = "latin1") -> bytes:
        if encoding not in ("latin1", b"latin1"):
            raise NotPlain(f"it encodes with {encoding!r:.40}, not with latin1")
        self._reader.room -= len(text)
        if self._reader.room < 0:
            raise NotPlain("it encodes one text again and again")
        return text.encode("latin1")


class _Reconstruct:
    """``_reconstruct(ndarray, (0,), b"b")``, which begins an array; its values follow with ``__setstate__``."""

    __slots__ = ()

    def __call__(self, *about: Any) -> _Array:
        return _Array()


class _Dtype:
    """``dtype("u1", 0, 1)``, a type of numbers; its ``__setstate__`` adds the byte order, which single bytes do not need."""

    __slots__ = ("kind", "order")

    def __call__(self, kind: Any, *about: Any) -> _Dtype:
        made = _Dtype()
        made.kind = kind.decode("latin1") if isinstance(kind, bytes) else kind
        return made

    def __setstate__(self, state: Any) -> None:
        self.order = state[1]


class _Array:
    """An array before it is built, with the state (version, shape, dtype, is column-major, bytes)."""

    __slots__ = ("state",)

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def values(self) -> np.ndarray:
        """The array (*shape) uint8.

        Raises: `NotPlain` for anything but rows of bytes.
        """
        _, shape, dtype, fortran, content = self.state
        kind = getattr(dtype, "kind", None)
        if kind not in _BYTES or fortran or not isinstance(content, bytes):
            raise NotPlain(f"it holds an array of type {kind!r:.40}, not rows of bytes")
        return np.frombuffer(content, np.uint8).reshape(shape)

    def numbers(self) -> np.ndarray:
        """The array (N,) of whole numbers.

        Raises: `NotPlain` for anything else.
        """
        _, shape, dtype, _, content = self.state
        kind, order = getattr(dtype, "kind", None), getattr(dtype, "order", None)
        order = order.decode("latin1") if isinstance(order, bytes) else order
        if kind not in _NUMBERS or order not in ("<", ">") or not isinstance(content, bytes):
            raise NotPlain(f"it holds an array of type {kind!r:.40}, not of whole numbers")
        found = np.frombuffer(content, f"{order}{kind}")
        if shape != found.shape:
            raise NotPlain(f"it holds {len(found)} numbers of shape {shape!r:.40}, not one row of them")
        return found


def _numbers(value: Any) -> np.ndarray:
    if isinstance(value, _Array):
        return value.numbers()
    raise NotPlain(f"it holds a {type(value).__name__}, not an array of whole numbers")


def _filled(value: Any) -> Any:
    """A dictionary with arrays in place of their stand-ins, which are its values and never nested."""
    if isinstance(value, dict):
        return {key: item.values() if isinstance(item, _Array) else item for key, item in value.items()}
    raise NotPlain(f"it holds a {type(value).__name__}, not a dictionary")
