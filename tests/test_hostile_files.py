"""Pickles, archives and arrays that were made to hurt, or that are damaged in uncommon ways: one line, at once."""

import io
import pickle
import struct
import tarfile
import tracemalloc
import zipfile
from dataclasses import replace

import numpy as np
import pytest

from hampkit.data import safe_pickle
from hampkit.data.base import Place
from hampkit.data.cifar import Cifar10
from hampkit.data.fetch import checksum, read_members
from hampkit.data.safe_pickle import NotPlain, read_plain
from hampkit.data.table import File
from hampkit.data.tables100 import Purchase100
from hampkit.errors import UserError


def _key(form: bytes) -> bytes:
    return b"\x80\x02}" + form + b"K\x01s."


@pytest.mark.parametrize(
    ("form", "said"),
    [
        (b")" + b"\x85" * 2_000_000, "more than 24 tuples"),
        (b"(K\x01\x91", "more than 24 tuples"),
        (b")" + b"2\x86" * 20, "repeats"),
        (b")" + b"".join(b"(" + b"2" * 1000 + b"t" for _ in range(20)), "repeats"),
        (b")q\x00" + b"".join(b"0(" + b"h%c" % i * 1000 + b"tq%c" % (i + 1) for i in range(20)), "repeats"),
        (b")q\x00" + b"".join(b"0(" + b"h%c" % i * 1000 + b"tNbq%c" % (i + 1) for i in range(20)), "repeats"),
        (b")\x94" + b"".join(b"0(" + b"h%c" % i * 1000 + b"t(e\x94" for i in range(20)), "repeats"),
    ],
    ids=["deep", "set", "doubling", "wide", "memo", "hidden", "counted"],
)
def test_keys_that_cannot_be_hashed_in_reason_are_refused(form, said):
    with pytest.raises(NotPlain, match=said):
        read_plain(_key(form))


def test_a_message_never_writes_out_what_a_pickle_repeats():
    lists = b"]q\x00" + b"".join(b"0](" + b"h%c" % i * 1000 + b"eq%c" % (i + 1) for i in range(20))
    with pytest.raises(NotPlain, match="repeats"):
        read_plain(b"\x80\x02}U\x01ac_codecs\nencode\nX\x01\x00\x00\x00a" + lists + b"\x86Rs.")


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02}r\xff\xff\xff\x0f.",
        b"\x80\x02}p4000000000\n.",
        b"\x80\x02}" + b"q\x00" * 300 + b"r\x00\x10\x00\x00.",
    ],
    ids=["binary", "text", "later"],
)
def test_a_place_in_the_memo_takes_no_memory_that_the_file_does_not_justify(content):
    tracemalloc.start()
    with pytest.raises(NotPlain, match="at place"):
        read_plain(content)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def _keys(form: str) -> bytes:
    """A dictionary of numbers that all have the hash 1."""
    prime, n = 2**61 - 1, 40_000
    numbers = [1 + k * prime for k in range(n)]
    if form == "long1":
        items = [b"\x8a\x0a" + x.to_bytes(10, "little") for x in numbers]
    elif form == "long4":
        items = [b"\x8b\x0a\0\0\0" + x.to_bytes(10, "little") for x in numbers]
    else:
        items = [form.encode() + str(x).encode() + b"\n" for x in numbers]
    return b"\x80\x02}(" + b"K\x01".join(items) + b"K\x01u."


@pytest.mark.parametrize("form", ["long1", "long4", "I", "L"])
def test_keys_of_one_hash_are_refused_before_anything_is_built(form, monkeypatch):
    """A dictionary of them takes time that grows with the square of their number."""
    monkeypatch.setattr(safe_pickle, "_Plain", None)
    with pytest.raises(NotPlain, match="very large whole number"):
        read_plain(_keys(form))


def test_sets_are_refused():
    with pytest.raises(NotPlain, match="or a set"):
        read_plain(b"\x80\x04}\x8f(K\x01K\x02\x90.")


def test_a_text_that_is_encoded_again_and_again_is_refused():
    text = b"X" + struct.pack("<I", 1_000_000) + b"a" * 1_000_000 + b"q\x00"
    calls = b"(h\x00i_codecs\nencode\n" * 2_000
    with pytest.raises(NotPlain, match="again and again"):
        read_plain(b"\x80\x02}U\x01a](" + text + calls + b"es.")


def test_a_pickle_cannot_reset_what_was_counted():
    state = b"(N}X\x07\x00\x00\x00_readerK\x01st"
    with pytest.raises(NotPlain, match="changes a function"):
        read_plain(b"\x80\x02}U\x01ac_codecs\nencode\n" + state + b"bs.")


def test_real_sizes_load():
    images = np.zeros((10_000, 3072), np.uint8)
    labels, files = [7] * 10_000, [f"{i}.png" for i in range(10_000)]
    for protocol in (0, 2, 4):
        content = pickle.dumps({"data": images, "labels": labels, "filenames": files}, protocol)
        found = read_plain(content)
        assert np.array_equal(found["data"], images)
        assert (found["labels"], found["filenames"]) == (labels, files)


MEMBER = "cifar-10-batches-bin/data_batch_1.bin"


def _tar(mode: str, headers: dict[str, str] | None = None) -> bytes:
    """An archive of one member of noise, which no compression makes smaller."""
    content, stream = np.random.default_rng(0).bytes(200_000), io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode, format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo(MEMBER)
        info.size, info.pax_headers = len(content), headers or {}
        tar.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def _flipped(content: bytes, *places: int) -> bytes:
    changed = bytearray(content)
    for place in places:
        changed[place] ^= 0xFF
    return bytes(changed)


def _unknown_compression() -> bytes:
    """A .npz whose arrays claim to be compressed by a method that nobody knows, in both of their headers."""
    stream = io.BytesIO()
    np.savez(stream, x=np.zeros((60, 3)), y=np.arange(60) % 2, features=np.zeros((60, 600)), labels=np.zeros((60, 100)))
    content = bytearray(stream.getvalue())
    for signature, offset in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        place = content.find(signature)
        while place >= 0:
            content[place + offset : place + offset + 2] = struct.pack("<H", 77)
            place = content.find(signature, place + 4)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert {entry.compress_type for entry in archive.infolist()} == {77}
    return bytes(content)


XZ, SPARSE = _tar("w:xz"), {"GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.size": "200000"}
ARCHIVES = {
    "xz, changed": _flipped(XZ, len(XZ) // 2),
    "xz, its end changed": _flipped(XZ, len(XZ) - 20),
    "xz, cut": XZ[: len(XZ) // 2],
    "xz, its start only": XZ[:20],
    "sparse map of words": _tar("w:gz", {"GNU.sparse.map": "0,many", **SPARSE}),
    "sparse map that is negative": _tar("w:gz", {"GNU.sparse.map": "0,-5,7,9", **SPARSE}),
    "sparse map beyond the member": _tar("w:gz", {"GNU.sparse.map": "0,9000000", **SPARSE}),
    "sparse map, a bomb": _tar("w:gz", {"GNU.sparse.map": "0,5", **SPARSE, "GNU.sparse.size": str(10**15)}),
    "sparse map of digits without end": _tar("w:gz", {"GNU.sparse.map": "9" * 5000, **SPARSE}),
    "zip, compressed by nobody knows what": _unknown_compression(),
}


def _one_line(call) -> str:
    with pytest.raises(UserError) as caught:
        call()
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600
    return str(caught.value)


@pytest.mark.parametrize("case", ARCHIVES)
def test_archives_damaged_in_uncommon_ways_are_one_line(case, tmp_path, monkeypatch):
    path = tmp_path / "archive.tar.gz"
    path.write_bytes(ARCHIVES[case])
    said = _one_line(lambda: read_members(path, [MEMBER], 1 << 20))
    assert str(path) in said
    assert "remove it" in said
    form = Cifar10.forms[0]  # the same in the place of a public archive
    path = path.rename(tmp_path / form.archive.name)
    archive = replace(form.archive, checksum=f"md5:{checksum(path, 'md5')}")
    monkeypatch.setattr(Cifar10, "forms", (replace(form, archive=archive),))
    assert str(path) in _one_line(lambda: Cifar10().load(Place(tmp_path, tmp_path / "cache", download=False)))


def test_arrays_compressed_by_nobody_knows_what_are_one_line(tmp_path):
    for name in ("purchase100.npz", "mine.npz"):
        (tmp_path / name).write_bytes(_unknown_compression())
    place = Place(tmp_path, tmp_path / "cache", download=False)
    assert "purchase100.npz" in _one_line(lambda: Purchase100().load(place))
    assert "mine.npz" in _one_line(lambda: File(file=str(tmp_path / "mine.npz")).load(place))
