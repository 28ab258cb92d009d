"""Purchase100 and Texas100 in every form that people have, and every way in which such a file can be wrong."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch

from hampkit.data import Place, bit_arrays, bit_text, first_seen, tables100
from hampkit.data.tables100 import Purchase100, Texas100
from hampkit.errors import UserError

N = 20
SOURCES = {"purchase100": Purchase100, "texas100": Texas100}
RNG = np.random.default_rng(7)
DATA = {  # as published: bits, and labels from 1 to 100
    name: (RNG.integers(0, 2, (N, cls.features)), np.r_[1, 100, RNG.integers(1, 101, N - 2)])
    for name, cls in SOURCES.items()
}
MEMBERS = {"purchase100": ("dataset_purchase",), "texas100": ("texas/100/feats", "texas/100/labels")}


def text(rows) -> bytes:
    return "".join(",".join(f"{value:g}" for value in row) + "\n" for row in rows.tolist()).encode()


def texts(name: str, x, y) -> dict[str, bytes]:
    """The members of the archive, as they lie unpacked."""
    parts = [text(np.c_[y, x])] if name == "purchase100" else [text(x), text(y[:, None])]
    return dict(zip(MEMBERS[name], parts, strict=True))


def tgz(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz", compresslevel=1) as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def npy(array) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.asarray(array))
    return stream.getvalue()


def npz(**arrays) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


def files(name: str, form: str, x=None, y=None) -> dict[str, bytes]:
    """The files of one form with their relative paths; x, y: in place of the right values."""
    x = DATA[name][0] if x is None else x
    y = DATA[name][1] if y is None else y
    short = name.removesuffix("100")
    if form == "tgz":
        return {f"dataset_{short}.tgz": tgz(texts(name, x, y))}
    if form == "text":
        return texts(name, x, y)
    if form == "npz":
        return {f"{name}.npz": npz(features=x, labels=np.eye(100, dtype=int)[y.astype(int) - 1])}
    if name == "purchase100":
        return {"purchase.npy": npy(np.c_[y, x])}
    return {"texas100-features.npy": npy(x), "texas100-labels.npy": npy(y)}


def lay(folder: Path, content: dict[str, bytes]) -> None:
    for name, value in content.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(value)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    (tmp_path / "user").mkdir()
    return Place(tmp_path / "user", tmp_path / "cache", download=False)


def refused(name: str, place: Place, *parts: str) -> str:
    with pytest.raises(UserError) as caught:
        SOURCES[name]().load(place)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 700, message
    for part in parts:
        assert part in message, message
    return message


def check(name: str, data) -> None:
    x, y = DATA[name]
    assert data.x.dtype == torch.uint8
    assert data.y.dtype == torch.int64
    assert np.array_equal(data.x.numpy(), x)
    assert np.array_equal(data.y.numpy(), y - 1)


FORMS = [(name, form) for name in SOURCES for form in ("tgz", "npz", "text", "npy")]


@pytest.mark.parametrize("sub", [".", "{}", "{}100"])
@pytest.mark.parametrize(("name", "form"), FORMS)
def test_every_form_is_found_and_read_and_then_kept(name, form, sub, place, monkeypatch):
    content = files(name, form)
    folder = place.data_dir / sub.format(name.removesuffix("100"))
    lay(folder, content)
    source = SOURCES[name]()
    data, lines = source.examine(place)
    check(name, data)
    assert (data.name, data.num_classes, source.layout) == (name, 100, name)
    assert (data.classes[0], data.classes[99]) == ("1", "100")
    said = "\n".join(lines)
    for path, value in content.items():
        assert f"file {folder / path}" in lines
        assert f"sha256 {hashlib.sha256(value).hexdigest()}" in said
    assert said.count("none is published; seen for the first time") == len(content)
    assert f"20 rows, published are {source.published_rows}" in said

    for module, reader in ((bit_text, "_bits"), (bit_arrays, "_bits")):
        monkeypatch.setattr(module, reader, None)  # nothing is parsed a second time
    again, lines = source.examine(place)
    check(name, again)
    assert again.sha256 == data.sha256
    assert "read before" in "\n".join(lines)
    assert "the same as first seen" in "\n".join(lines)
    assert sorted(p for p in place.data_dir.rglob("*") if p.is_file()) == sorted(folder / p for p in content)
    assert not list(place.cache.glob("*.tmp"))


@pytest.mark.parametrize("name", SOURCES)
def test_all_forms_have_the_same_content_and_fingerprint(name, tmp_path):
    hashes = set()
    for form in ("tgz", "npz", "text", "npy"):
        lay(tmp_path / form, files(name, form))
        hashes.add(SOURCES[name]().load(Place(tmp_path / form, tmp_path / "cache", download=False)).sha256)
    assert len(hashes) == 1
    assert len(json.loads((tmp_path / "cache" / first_seen.RECORD).read_text())) == (4 if name[0] == "p" else 6)


@pytest.mark.parametrize("kind", ["u1", "i1", "i8", "f2", "f4", "f8", ">f8", ">i4"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_any_kind_of_number_will_do(kind, order, place):
    x, y = DATA["purchase100"]
    lay(place.data_dir, {"purchase.npy": npy(np.asarray(np.c_[y, x], dtype=kind, order=order))})
    check("purchase100", Purchase100().load(place))


@pytest.mark.parametrize(("name", "form"), FORMS)
def test_reading_in_small_blocks_changes_nothing(name, form, place, monkeypatch):
    monkeypatch.setattr(bit_text, "_BLOCK", 5003)
    monkeypatch.setattr(bit_arrays, "_BLOCK", 100_000)
    lay(place.data_dir, files(name, form))
    check(name, SOURCES[name]().load(place))
    x = DATA[name][0].copy()
    x[N - 2, 3] = 2
    lay(place.data_dir, files(name, form, x=x))
    (place.cache / first_seen.RECORD).unlink()
    assert f"in {'row' if form in ('npz', 'npy') else 'line'} {N - 1}" in refused(name, place)


def test_quotes_and_windows_line_ends_are_no_mistake(place):
    x, y = DATA["texas100"]
    lines = text(x).decode().splitlines()
    feats = "\r\n".join(f'"{line}"' for line in lines) + "\r\n"
    labels = "\n".join(f'"{label}"' for label in y)  # no line break at the end
    lay(place.data_dir / "100", {"feats": feats.encode(), "labels": labels.encode()})
    check("texas100", Texas100().load(place))
    first = text(np.c_[DATA["purchase100"][1], DATA["purchase100"][0]]).decode().splitlines()
    quoted = [f'"{label}",{bits}' for label, _, bits in (line.partition(",") for line in first)]
    lay(place.data_dir, {"dataset_purchase": "\n".join(quoted).encode()})
    check("purchase100", Purchase100().load(place))


# --- wrong content -------------------------------------------------------------------------------------------------


def changed(name: str, what: str, value: float):
    """The right values with one changed, as float64 where it must be."""
    x, y = (a.astype(np.float64) if value != int(value or 0) else a.copy() for a in DATA[name])
    if what == "label":
        y[4] = value
    else:
        x[4, 7] = value
    return x, y


@pytest.mark.parametrize(("name", "form"), FORMS)
@pytest.mark.parametrize("value", [2, -1, 0.5, 255])
def test_features_other_than_0_and_1(name, form, value, place):
    lay(place.data_dir, files(name, form, *changed(name, "feature", value)))
    refused(name, place, "is not", "expected", "or remove it", "5")


@pytest.mark.parametrize(("name", "form"), [f for f in FORMS if f[1] != "npz"])
@pytest.mark.parametrize(("value", "hint"), [(0, "seem to count from 0, add 1"), (101, ""), (-3, ""), (2.5, "")])
def test_labels_outside_1_to_100(name, form, value, hint, place):
    lay(place.data_dir, files(name, form, *changed(name, "label", value)))
    refused(name, place, "is not", f"{value}", "5", "1 to 100", hint, "or remove it")
    assert not (place.cache / first_seen.RECORD).exists(), "what is wrong must not be remembered as right"


@pytest.mark.parametrize("what", ["feature", "label"])
@pytest.mark.parametrize("name", SOURCES)
def test_nan_in_arrays(name, what, place):
    x, y = (a.astype(np.float64) for a in DATA[name])
    (y if what == "label" else x[:, 7])[4] = np.nan
    lay(place.data_dir, files(name, "npy", x, y))
    refused(name, place, "nan", "row 5", "expected", "or remove it")


@pytest.mark.parametrize(("name", "form"), FORMS)
@pytest.mark.parametrize("columns", [-1, 1])
def test_a_column_too_many_or_too_few(name, form, columns, place):
    x, y = DATA[name]
    x = np.c_[x, x[:, 0]] if columns > 0 else x[:, :-1]
    lay(place.data_dir, files(name, form, x, y))
    d = SOURCES[name].features + (name == "purchase100" and form == "npy")  # there, the label is a column
    refused(name, place, "is not", str(d + columns), f"{d}", "or remove it")


HOT = np.eye(100, dtype=int)[DATA["purchase100"][1] - 1]
TWO, NONE, HALF = HOT.copy(), HOT.copy(), HOT / 2
TWO[3, :2], NONE[3] = 1, 0
NPZ = {
    "two ones": ({"labels": TWO}, ("row 4", "'labels'", "ones", "exactly one 1")),
    "no one": ({"labels": NONE}, ("row 4", "has 0 ones")),
    "halves": ({"labels": HALF}, ("0.5 in row 1", "'labels'", "0 or 1")),
    "99 classes": ({"labels": HOT[:, :99]}, ("(20, 99)", "one-hot labels of 100 classes")),
    "101 classes": ({"labels": np.c_[HOT, HOT[:, 0] * 0]}, ("(20, 101)", "one-hot")),
    "numbers": ({"labels": DATA["purchase100"][1] - 1}, ("(20,)", "one-hot labels of 100 classes")),
    "fewer labels": ({"labels": HOT[:19]}, ("20 rows of features and 19 labels",)),
    "other names": ({"x": HOT, "labels": None}, ("no array 'labels'", "x.npy")),
    "texts": ({"labels": HOT.astype(str)}, ("'labels'", "<U", "numbers")),
    "objects": ({"labels": HOT.astype(object)}, ("'labels'", "type object", "numbers")),
    "text features": ({"features": DATA["purchase100"][0].astype("S1")}, ("'features'", "|S1", "numbers")),
    "nothing": ({"features": np.zeros((0, 600)), "labels": HOT[:0]}, ("0 rows", "at least 2")),
    "release 1": ({"features": DATA["purchase100"][0] / 9, "labels": DATA["purchase100"][1]}, ("0.1111", "0 or 1")),
}


@pytest.mark.parametrize("case", NPZ)
def test_npz_of_wrong_content(case, place):
    arrays, parts = NPZ[case]
    arrays = {"features": DATA["purchase100"][0], "labels": HOT} | arrays
    lay(place.data_dir, {"purchase100.npz": npz(**{k: v for k, v in arrays.items() if v is not None})})
    refused("purchase100", place, "purchase100.npz", *parts, "or remove it")


X, Y = DATA["texas100"]
NPY = {
    "objects": ({"texas100-features.npy": npy(X.astype(object))}, ("features.npy", "type object", "numbers")),
    "texts": ({"texas100-labels.npy": npy(Y.astype(str))}, ("labels.npy", "<U", "numbers")),
    "hot": ({"texas100-labels.npy": npy(np.eye(100)[Y - 1])}, ("labels.npy", "(20, 100)", "one label per row")),
    "fewer labels": ({"texas100-labels.npy": npy(Y[:10])}, ("20 rows of features and 10 labels",)),
    "one row": ({"texas100-labels.npy": npy(Y[:1]), "texas100-features.npy": npy(X[:1])}, ("1 rows", "at least 2")),
    "flat": ({"texas100-features.npy": npy(X[0])}, ("(6169,)", "6169 features")),
    "no array": ({"texas100-features.npy": b"0,1,0"}, ("cannot read", "features.npy", "whole file")),
    "header": (
        {"texas100-labels.npy": npy(Y).replace(b": (20", b":((20")},
        ("cannot read", "labels.npy", "whole file"),
    ),
    "empty": ({"texas100-labels.npy": b""}, ("cannot read", "labels.npy", "whole file")),
    "records": ({"texas100-labels.npy": npy(np.zeros(N, [("a", "i4")]))}, ("labels.npy", "numbers")),
}


@pytest.mark.parametrize("case", NPY)
def test_npy_of_wrong_content(case, place):
    content, parts = NPY[case]
    lay(place.data_dir, files("texas100", "npy") | content)
    refused("texas100", place, *parts, "or remove it")


@pytest.mark.parametrize(("name", "form"), FORMS)
def test_a_file_that_ends_early(name, form, place):
    for path, content in files(name, form).items():
        lay(place.data_dir, files(name, form))
        for keep in {keep for keep in (0, 5, 70, 200, len(content) // 3 + 7, len(content) - 3) if keep < len(content)}:
            (place.data_dir / path).write_bytes(content[:keep])
            early = form == "npy" and keep > 200
            refused(name, place, str(place.data_dir), "ends early" if early else "", "remove it")


def test_a_text_without_line_breaks_does_not_fill_the_memory(place, monkeypatch):
    monkeypatch.setattr(bit_text, "_BLOCK", 1 << 13)
    lay(place.data_dir, {"dataset_purchase": b"1" * 10**6})
    assert "over 8192 bytes" in refused("purchase100", place, "line 1", "600 single digits")


def test_half_of_a_pair(place):
    content = files("texas100", "npy")
    lay(place.data_dir, {"texas100-features.npy": content["texas100-features.npy"]})
    refused("texas100", place, "texas100-features.npy lies there without", "texas100-labels.npy", "put that beside it")


# --- files without a published checksum ----------------------------------------------------------------------------


def test_another_file_of_the_same_name_is_noticed(place):
    lay(place.data_dir, files("purchase100", "npy"))
    Purchase100().load(place)
    y = DATA["purchase100"][1].copy()
    y[5] = y[5] % 100 + 1
    other = files("purchase100", "npy", y=y)
    lay(place.data_dir, other)
    hashes = [hashlib.sha256(c["purchase.npy"]).hexdigest() for c in (other, files("purchase100", "npy"))]
    record = place.cache / first_seen.RECORD
    refused("purchase100", place, "purchase.npy is not the file first seen", *hashes, str(record), "to accept this one")
    assert json.loads(record.read_text()) == {"purchase100/purchase.npy": hashes[1]}
    record.unlink()
    assert int(Purchase100().load(place).y[5]) == y[5] - 1, "the kept table of the first file must not be taken"
    assert json.loads(record.read_text()) == {"purchase100/purchase.npy": hashes[0]}


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"purchase100/purchase.npy": 3}', b"\xff"])
def test_a_damaged_record_accepts_nothing(content, place):
    lay(place.data_dir, files("purchase100", "npy"))
    lay(place.cache, {first_seen.RECORD: content})
    refused("purchase100", place, "cannot read", first_seen.RECORD, "delete it to accept")


@pytest.mark.parametrize("damage", ["cut", "noise", "empty", "labels", "shape", "type"])
def test_a_damaged_table_in_the_cache_is_made_again(damage, place):
    lay(place.data_dir, files("purchase100", "npy"))
    Purchase100().load(place)
    (kept,) = place.cache.glob("purchase100-*.npz")
    whole = kept.read_bytes()
    packed, labels = np.zeros((N, 75), np.uint8), np.zeros(N, np.uint8)
    wrong = {
        "cut": whole[: len(whole) // 2],
        "noise": whole[:900] + bytes(b ^ 255 for b in whole[900:960]) + whole[960:],
        "empty": b"",
        "labels": npz(packed=packed, labels=labels + 100),
        "shape": npz(packed=packed[:, :74], labels=labels),
        "type": npz(packed=packed.astype(float), labels=labels),
    }
    kept.write_bytes(wrong[damage])
    data, lines = Purchase100().examine(place)
    check("purchase100", data)
    assert "read and kept" in "\n".join(lines)
    assert kept.read_bytes() == whole


def test_a_cache_that_cannot_be_written_is_no_obstacle(tmp_path, place):
    (tmp_path / "file").write_text("no folder")
    lay(place.data_dir, files("purchase100", "tgz"))
    data, lines = Purchase100().examine(Place(place.data_dir, tmp_path / "file", download=False))
    check("purchase100", data)
    assert "not recorded, for" in "\n".join(lines)
    assert "cannot be written" in "\n".join(lines)


def test_a_download_is_remembered(place, monkeypatch):
    import pooch

    asked = []

    def serve(self, url, output_file, pooch, check_only=False):
        asked.append(url)
        Path(output_file).write_bytes(files("texas100", "tgz")["dataset_texas.tgz"])

    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", serve)
    monkeypatch.setattr("hampkit.data.fetch.check_reachable", lambda url: None)
    online = Place(None, place.cache)
    check("texas100", Texas100().load(online))
    check("texas100", Texas100().load(online))
    assert asked == ["https://github.com/privacytrustlab/datasets/raw/master/dataset_texas.tgz"]
    (place.cache / "dataset_texas.tgz").write_bytes(files("texas100", "tgz", y=Y % 100 + 1)["dataset_texas.tgz"])
    refused("texas100", online, "dataset_texas.tgz is not the file first seen")


@pytest.mark.parametrize("name", SOURCES)
def test_nothing_there_and_no_network(name, place):
    archive = SOURCES[name].archive.name
    refused(name, place, f"no file {archive}", "downloads nothing", f"put {archive} from {tables100._URL}", "into")


def test_the_command_says_what_was_found(cli, tmp_path):
    lay(tmp_path, files("purchase100", "npy"))
    code, out, _ = cli("data", "check", "purchase100", "--data-dir", tmp_path)
    assert code == 0
    for part in (
        f"file {tmp_path / 'purchase.npy'}",
        "array with labels in column 0",
        "first time",
        "rows 20",
        "(600,)",
    ):
        assert part in out, out
    assert "the same as first seen" in cli("data", "fetch", "purchase100", "--data-dir", tmp_path)[1]
