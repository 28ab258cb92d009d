"""Pickles, archives and arrays that were made to hurt, or that are damaged in uncommon ways: one line, at once."""

import pickle
import time

import numpy as np
import pytest

from hampkit.data.safe_pickle import NotPlain, read_plain


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


def test_real_sizes_load_quickly():
    images = np.zeros((10_000, 3072), np.uint8)
    labels, files = [7] * 10_000, [f"{i}.png" for i in range(10_000)]
    for protocol in (2, 4):
        content = pickle.dumps({"data": images, "labels": labels, "filenames": files}, protocol)
        start = time.perf_counter()
        found = read_plain(content)
        assert time.perf_counter() - start < 5
        assert np.array_equal(found["data"], images)
        assert (found["labels"], found["filenames"]) == (labels, files)
