"""CIFAR-10 and CIFAR-100 in every form that people have, and every way in which such a file can be wrong."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import struct
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from hampkit.config.schema import build
from hampkit.data import Place, cifar
from hampkit.data.cifar import Cifar10, Cifar100
from hampkit.data.safe_pickle import NotPlain, read_plain
from hampkit.errors import UserError
from hampkit.workflows.prepare import _normalize

TRAIN, TEST = 50, 20
SOURCES = {"cifar10": Cifar10, "cifar100": Cifar100}
FORMS = [(name, form) for name in SOURCES for form in ("binary", "python")]
RNG = np.random.default_rng(3)
IMAGES = RNG.integers(0, 256, (TRAIN + TEST, 3072), dtype=np.uint8)
LABELS = {name: RNG.integers(0, cls.classes, TRAIN + TEST) for name, cls in SOURCES.items()}
NAMES = {name: [f"thing_{c}" for c in range(cls.classes)] for name, cls in SOURCES.items()}


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setattr(cifar, "TRAIN", TRAIN)
    monkeypatch.setattr(cifar, "TEST", TEST)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    (tmp_path / "user").mkdir()
    return Place(tmp_path / "user", tmp_path / "cache", download=False)


def python2(value) -> bytes:
    """A pickle as Python 2 and NumPy 1 wrote it, byte for byte as in the published files."""
    return b"\x80\x02" + _python2(value) + b"."


def _python2(value) -> bytes:
    if isinstance(value, np.ndarray):
        shape = b"".join(b"J" + struct.pack("<i", n) for n in value.shape) + b"\x86"
        dtype = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        start = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        return start + b"(K\x01" + shape + dtype + b"\x89" + _python2(value.tobytes()) + b"tb"
    if isinstance(value, dict):
        return b"}(" + b"".join(_python2(k) + _python2(v) for k, v in value.items()) + b"u"
    if isinstance(value, list):
        return b"](" + b"".join(map(_python2, value)) + b"e"
    content = value.encode() if isinstance(value, str) else value
    return (
        b"J" + struct.pack("<i", value) if isinstance(value, int) else b"T" + struct.pack("<i", len(content)) + content
    )


def modern(value) -> bytes:
    """The same from this Python and NumPy."""
    return pickle.dumps(value, protocol=2)


def files(name: str, form: str, images=IMAGES, labels=None, dump=python2, names=None) -> dict[str, bytes]:
    """The files of one form by name."""
    labels = LABELS[name] if labels is None else labels
    names = NAMES[name] if names is None else names
    parts = cifar_form(name, form)
    step = TRAIN // len(parts.train)
    cuts = {file: slice(i * step, (i + 1) * step) for i, file in enumerate(parts.train)} | {
        parts.test: slice(TRAIN, TRAIN + TEST)
    }
    if form == "binary":
        coarse = [] if name == "cifar10" else [np.full(len(labels), 255)]
        records = np.column_stack([*coarse, labels, images]).astype(np.uint8)
        return {file: records[cut].tobytes() for file, cut in cuts.items()} | {
            parts.names: "\n".join([*names, ""]).encode()
        }
    kind = "labels" if name == "cifar10" else "fine_labels"
    extra = {"batch_label": "some batch", "filenames": ["a.png"], "coarse_labels": [200]}
    content = {
        file: dump(extra | {kind: [int(value) for value in labels[cut]], "data": images[cut]})
        for file, cut in cuts.items()
    }
    return content | {parts.names: dump({kind.replace("labels", "label_names"): names, "num_vis": 3072})}


def cifar_form(name: str, form: str):
    return SOURCES[name].forms[form == "python"]


def tgz(folder: str, content: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz", compresslevel=1) as tar:
        for name, value in content.items():
            info = tarfile.TarInfo(f"{folder}/{name}")
            info.size = len(value)
            tar.addfile(info, io.BytesIO(value))
    return stream.getvalue()


def lay(place: Place, name: str, form: str, content: dict[str, bytes], sub: str = ".") -> Path:
    """The files unpacked below the user's folder."""
    folder = place.data_dir / sub / cifar_form(name, form).folder
    folder.mkdir(parents=True, exist_ok=True)
    for file, value in content.items():
        (folder / file).write_bytes(value)
    return folder


def put_archive(place: Place, name: str, form: str, content: bytes, monkeypatch) -> Path:
    """The archive in the user's folder, and its checksum in the place of the real one."""
    right = cifar_form(name, form)
    archive = replace(right.archive, checksum="md5:" + hashlib.md5(content).hexdigest())
    forms = tuple(replace(f, archive=archive) if f == right else f for f in SOURCES[name].forms)
    monkeypatch.setattr(SOURCES[name], "forms", forms)
    (place.data_dir / archive.name).write_bytes(content)
    return place.data_dir / archive.name


def refused(name: str, place: Place, *parts: str) -> str:
    with pytest.raises(UserError) as caught:
        SOURCES[name]().load(place)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 600, message
    for part in parts:
        assert part in message, message
    return message


def check(name: str, data, names: bool = True) -> None:
    assert data.x.dtype == torch.uint8
    assert np.array_equal(data.x.numpy(), IMAGES.reshape(-1, 3, 32, 32)), "training images first, then test images"
    assert data.y.dtype == torch.int64
    assert np.array_equal(data.y.numpy(), LABELS[name])
    assert data.num_classes == SOURCES[name].classes
    assert list(data.classes) == (NAMES[name] if names else [str(c) for c in range(data.num_classes)])


# --- right files ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sub", [".", "cifar", "own"])
@pytest.mark.parametrize(("name", "form"), FORMS)
def test_unpacked_folders(name, form, sub, place):
    sub = name if sub == "own" else sub
    folder = lay(place, name, form, files(name, form), sub)
    data, lines = SOURCES[name]().examine(place)
    check(name, data)
    assert lines[0] == f"folder {folder}"
    assert "none of its files has a published checksum" in lines[1]
    inside = Place(folder, place.cache, download=False)
    assert SOURCES[name]().load(inside).sha256 == data.sha256, "the folder itself may be named too"
    assert not place.cache.exists()


@pytest.mark.parametrize(("name", "form"), FORMS)
def test_archives(name, form, place, monkeypatch):
    content = files(name, form)
    path = put_archive(place, name, form, tgz(cifar_form(name, form).folder, content), monkeypatch)
    data, lines = SOURCES[name]().examine(place)
    check(name, data)
    assert lines[0] == f"file {path}"
    assert lines[1].lower() == f"layout {form} archive"
    assert lines[2] == f"checksum md5 {hashlib.md5(path.read_bytes()).hexdigest()}, as published"
    del content[cifar_form(name, form).names]
    put_archive(place, name, form, tgz(cifar_form(name, form).folder, content), monkeypatch)
    check(name, SOURCES[name]().load(place), names=False)


@pytest.mark.parametrize("name", SOURCES)
def test_the_binary_version_is_downloaded(name, place, monkeypatch):
    import pooch

    content = tgz(cifar_form(name, "binary").folder, files(name, "binary"))
    put_archive(place, name, "binary", content, monkeypatch).unlink()
    asked = []

    def serve(self, url, output_file, pooch, check_only=False):
        asked.append(url)
        Path(output_file).write_bytes(content)

    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", serve)
    monkeypatch.setattr("hampkit.data.fetch.check_reachable", lambda url: None)
    for _ in range(2):
        data, lines = SOURCES[name]().examine(replace(place, download=True))
        check(name, data)
        assert lines[0] == f"file {place.cache / cifar_form(name, 'binary').archive.name}"
    assert asked == [cifar_form(name, "binary").archive.url]


@pytest.mark.parametrize("name", SOURCES)
def test_all_forms_have_the_same_content_and_fingerprint(name, tmp_path):
    hashes = set()
    for form, dump in (("binary", python2), ("python", python2), ("python", modern)):
        place = Place(tmp_path / f"{form}{dump.__name__}", tmp_path, download=False)
        lay(place, name, form, files(name, form, dump=dump))
        hashes.add(SOURCES[name]().load(place).sha256)
    assert len(hashes) == 1


def test_the_pickles_of_these_tests_are_what_an_ordinary_reader_expects():
    batch = pickle.loads(files("cifar100", "python")["train"], encoding="bytes")
    assert np.array_equal(batch[b"data"], IMAGES[:TRAIN])
    assert batch[b"fine_labels"] == LABELS["cifar100"][:TRAIN].tolist()


def test_a_network_sees_the_published_normalisation(place):
    lay(place, "cifar10", "binary", files("cifar10", "binary", images=np.full_like(IMAGES, 255)))
    data = Cifar10().load(place)
    seen = _normalize(data, False)(data.x[:1].float())[0, :, 5, 5]
    assert torch.allclose(seen, torch.tensor([(1 - m) / s for m, s in zip(cifar.MEAN, cifar.STD, strict=True)]))
    assert (cifar.MEAN, cifar.STD) == ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
    assert torch.equal(data.domain.snap(data.x[:1]).byte(), data.x[:1])
    drawn = data.domain.sample(40, torch.Generator().manual_seed(0))
    assert (float(drawn.min()), float(drawn.max())) == (0, 255)


def test_some_rows_only(place):
    lay(place, "cifar10", "binary", files("cifar10", "binary"))
    whole, part = Cifar10().load(place), build(Cifar10, {"rows": 45, "seed": 4}, "data").load(place)
    assert len(part) == 45
    where = [whole.x.flatten(1).tolist().index(row) for row in part.x.flatten(1).tolist()]
    assert where == sorted(where)
    assert torch.equal(whole.y[where], part.y)
    assert part.sha256 == Cifar10(rows=45, seed=4).load(place).sha256
    assert part.sha256 != Cifar10(rows=45, seed=5).load(place).sha256
    assert Cifar10(rows=TRAIN + TEST).load(place).sha256 == whole.sha256


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"rows": 43}, ("data.rows=43", "0 (all) or 44 to 70")),
        ({"rows": 71}, ("data.rows=71", "44 to 70")),
        ({"rows": -1}, ("data.rows=-1",)),
        ({"seed": -1}, ("data.seed=-1", "[0, 2^63)")),
        ({"rows": 2.5}, ("data.rows=2.5", "whole number")),
    ],
)
@pytest.mark.parametrize("name", SOURCES)
def test_options(name, options, parts):
    with pytest.raises(UserError) as caught:
        build(SOURCES[name], options, "data")
    assert all(part in str(caught.value) for part in parts), caught.value


def test_the_command_says_what_was_found(cli, tmp_path):
    folder = lay(Place(tmp_path, tmp_path), "cifar100", "python", files("cifar100", "python"))
    code, out, _ = cli("data", "check", "cifar100", "--data-dir", tmp_path)
    assert code == 0
    for part in (f"folder {folder}", "layout Python", "rows 70, shape of a row (3, 32, 32), uint8", "classes 100"):
        assert part in out, out


# --- wrong files ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SOURCES)
def test_nothing_there_and_no_network(name, place):
    archive = SOURCES[name].forms[0].archive
    assert archive.url == f"https://www.cs.toronto.edu/~kriz/{archive.name}"
    refused(name, place, f"no file {archive.name}", "downloads nothing", archive.checksum[4:], archive.url)


@pytest.mark.parametrize(("name", "form"), FORMS)
def test_an_archive_with_another_checksum_or_cut(name, form, place, monkeypatch):
    archive = cifar_form(name, form).archive
    whole = tgz(cifar_form(name, form).folder, files(name, form))
    (place.data_dir / archive.name).write_bytes(whole)
    refused(name, place, archive.name, archive.checksum[4:], hashlib.md5(whole).hexdigest(), "or remove it")
    for keep in (0, 100, len(whole) // 2):
        put_archive(place, name, form, whole[:keep], monkeypatch)
        refused(name, place, archive.name, "or remove it")


@pytest.mark.parametrize(("name", "form"), FORMS)
def test_a_file_is_missing_cut_or_too_long(name, form, place):
    right = files(name, form)
    parts = cifar_form(name, form)
    for file in (parts.train[-1], parts.test):
        folder = lay(place, name, form, right)
        for content in (right[file][:-1], right[file][: len(right[file]) // 2], b""):
            (folder / file).write_bytes(content)
            refused(name, place, str(folder / file), "is not the expected file", "expected", "or remove it")
        (folder / file).unlink()
        refused(name, place, f"holds no file {file}", parts.archive.url)
    if form == "binary":
        lay(place, name, form, right | {parts.test: right[parts.test] + b"\0"})
        refused(name, place, parts.test, "bytes", f"{TEST} records of")


@pytest.mark.parametrize(("name", "form"), FORMS)
def test_labels_that_are_no_class(name, form, place):
    classes = SOURCES[name].classes
    for value in (classes, 255) if form == "binary" else (classes, -1, 2**31 - 1):
        labels = LABELS[name].copy()
        labels[TRAIN + 3] = value
        lay(place, name, form, files(name, form, labels=labels))
        refused(name, place, "test", f"label {value} in record 4", f"0 to {classes - 1}", "or remove it")


@pytest.mark.parametrize(("name", "form"), FORMS)
def test_names_of_classes_that_are_none(name, form, place):
    for names in (NAMES[name][1:], [*NAMES[name][1:], "thing_1"]):
        lay(place, name, form, files(name, form, names=names))
        refused(name, place, cifar_form(name, form).names, "names of classes", f"{SOURCES[name].classes} different")


BATCH = {"data": IMAGES[TRAIN:], "labels": LABELS["cifar10"][TRAIN:].tolist()}
PICKLES = {
    "one image less": (python2(BATCH | {"data": IMAGES[TRAIN:-1]}), ("(19, 3072)", "(20, 3072)")),
    "one label less": (python2(BATCH | {"labels": BATCH["labels"][1:]}), ("19 labels", "expected 20")),
    "other width": (python2(BATCH | {"data": IMAGES[TRAIN:, 1:]}), ("(20, 3071)", "(20, 3072)")),
    "no images": (python2({"labels": BATCH["labels"]}), ("no array 'data'",)),
    "no labels": (python2({"data": BATCH["data"]}), ("no list of whole numbers 'labels'",)),
    "labels as texts": (modern(BATCH | {"labels": ["1"] * TEST}), ("no list of whole numbers 'labels'",)),
    "huge label": (modern(BATCH | {"labels": [2**70] * TEST}), ("a very large whole number",)),
    "fractions": (modern(BATCH | {"labels": [0.5] * TEST}), ("no list of whole numbers 'labels'",)),
    "float images": (modern(BATCH | {"data": IMAGES[TRAIN:].astype(float)}), ("array of type 'f8'",)),
    "objects": (modern(BATCH | {"data": IMAGES[TRAIN:].astype(object)}), ("array of type 'O8'",)),
    "column-major": (modern(BATCH | {"data": np.asfortranarray(IMAGES[TRAIN:])}), ("array of type",)),
    "a list": (modern([1, 2]), ("holds a list, not a dictionary",)),
    "text": (b"hello", ("pickle exhausted",)),
}


@pytest.mark.parametrize("case", PICKLES)
def test_pickles_of_wrong_content(case, place):
    content, parts = PICKLES[case]
    lay(place, "cifar10", "python", files("cifar10", "python") | {"test_batch": content})
    refused("cifar10", place, "test_batch", *parts, "cifar-10-python.tar.gz", "or remove it")


class Evil:
    def __init__(self, *call) -> None:
        self.call = call

    def __reduce__(self):
        return self.call


def hostile(target: str) -> dict[str, bytes]:
    make = f"open({target!r}, 'w').close()"
    array = b"cnumpy.core.multiarray\n_reconstruct\n"
    return {
        "system": pickle.dumps(Evil(os.system, (f"touch {target}",)), protocol=2),
        "eval": pickle.dumps({"data": Evil(eval, (make,))}, protocol=4),
        "open": pickle.dumps({"labels": [Evil(open, (target, "w"))]}, protocol=0),
        "getattr": pickle.dumps(Evil(getattr, ("text", "upper")), protocol=2),
        "instance": b"(S'touch " + target.encode() + b"'\nios\nsystem\n.",
        "scalar": pickle.dumps({"data": np.float64(1)}, protocol=2),
        "frombuffer": pickle.dumps({"data": IMAGES}, protocol=5),
        "dotted": b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93.",
        "hidden": b"\x80\x02}U\x01a" + array + b"(U\x0bnot a class)cos\nsystem\nU\x04true\x85RsR.",
        "attribute": b"}U\x01a" + array + b"N}X\x04\x00\x00\x00nameU\x01xs\x86bs.",
        "codec": b"}U\x01ac_codecs\nencode\nX\x01\x00\x00\x00aX\x04\x00\x00\x00zlib\x86Rs.",
        "persistent": b"Pname\n.",
        "registered": b"\x82\x01.",
    }


@pytest.mark.parametrize("case", hostile(""))
def test_hostile_pickles_are_refused_and_never_run(case, place, tmp_path):
    target = tmp_path / "ran"
    content = hostile(str(target))[case]
    with pytest.raises(NotPlain):
        read_plain(content)
    for file in ("data_batch_2", "batches.meta"):
        lay(place, "cifar10", "python", files("cifar10", "python") | {file: content})
        refused("cifar10", place, file, "nothing of it was run", "or remove it")
    assert not target.exists()
    if case in ("system", "eval", "open", "instance"):
        pickle.loads(content)
        assert target.exists(), "an ordinary reader runs it, so the test could have failed"
