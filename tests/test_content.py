"""Documents and files by what they contain, and any exception as one line."""

import hashlib

import numpy as np
import pytest

from hampkit.config.content import file_hash
from hampkit.errors import one_line
from hampkit.text import dotted, flatten


def test_a_flat_document_keeps_the_order_and_drops_empty_sections():
    document = {"net": "mlp", "train": {"lr": 0.1, "steps": [1, 2]}, "judge": {}, "attacks": {"neural": {"epochs": 3}}}
    addresses = [("net",), ("train", "lr"), ("train", "steps"), ("attacks", "neural", "epochs")]
    assert list(flatten(document)) == addresses
    assert list(flatten(document).values()) == ["mlp", 0.1, [1, 2], 3]
    assert list(dotted(document)) == ["net", "train.lr", "train.steps", "attacks.neural.epochs"]


@pytest.mark.parametrize("algorithm", ["md5", "sha256"])
@pytest.mark.parametrize("size", [0, 1, (1 << 20) + 7])
def test_a_file_has_the_hash_of_its_bytes(tmp_path, algorithm, size):
    content = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    (tmp_path / "some.bin").write_bytes(content)
    assert file_hash(tmp_path / "some.bin", algorithm) == hashlib.new(algorithm, content).hexdigest()


@pytest.mark.parametrize(
    ("error", "text", "named"),
    [
        (
            ValueError("two\nlines\tand a \x1b[1mcolour"),
            "two lines and a [1mcolour",
            "ValueError: two lines and a [1mcolour",
        ),
        (OSError(28, "No space left", "/a/b"), "No space left", "OSError: No space left"),
        (OSError("no number"), "no number", "OSError: no number"),
        (EOFError(), "EOFError", "EOFError"),
        (SystemExit(3), "3", "SystemExit: 3"),
    ],
)
def test_any_exception_is_one_line(error, text, named):
    assert one_line(error) == text
    assert one_line(error, named=True) == named


def test_a_long_exception_is_cut_between_words():
    assert len(one_line(ValueError("many words " * 50))) <= 160
    assert one_line(ValueError("many words " * 50), 12) == "many words …"


def test_numpys_advice_to_unpickle_is_never_given(tmp_path):
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object))
    (tmp_path / "some.txt").write_text("x,y\n1,2\n")
    for name, text in (("objects.npy", "it holds Python objects"), ("some.txt", "it is not a .npy or .npz file")):
        with pytest.raises(ValueError, match="pickle") as caught:
            np.load(tmp_path / name, allow_pickle=False)
        assert one_line(caught.value) == text
