"""Every mistake with data is one line that names the value, the place and the remedy."""

from __future__ import annotations

import hashlib
import io
import socket
import tarfile
import threading
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hampkit.data import Place, network
from hampkit.data import location as location_module
from hampkit.data.embedded import Digits
from hampkit.data.fetch import PublicFile, fetch, find, read_member
from hampkit.data.location import Location30
from hampkit.data.table import File
from hampkit.data.toy import Toy
from hampkit.errors import UserError

SHA = "927203f85a868f8ee17a0ded1dc61699efe602167beabe34fbf45b4b1de94b33"
REMEDY = "or remove it"


def refused(call: Callable[[], object], *parts: str) -> str:
    """The message of the UserError that ``call`` raises: one line, with all these parts."""
    with pytest.raises(UserError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 600, message
    for part in parts:
        assert part in message, message
    return message


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """The user's folder is tmp_path; no network."""
    return Place(tmp_path, tmp_path / "cache", download=False)


# --- places, toy ---------------------------------------------------------------------------------------------------


def test_a_data_folder_that_is_none(tmp_path, monkeypatch):
    refused(lambda: Place.default(tmp_path / "nope"), "--data-dir", "nope", "create it")
    monkeypatch.setenv("HAMPKIT_DATA", str(tmp_path / "gone"))
    refused(Place.default, "$HAMPKIT_DATA", "gone", "create it")


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"rows": 5}, ("data.rows=5", "at least 44")),
        ({"features": 0}, ("data.features=0", "at least 1")),
        ({"classes": 1}, ("data.classes=1", "at least 2")),
        ({"rows": 100, "classes": 51}, ("data.classes=51", "at most", "50")),
        ({"flip": 0.7}, ("data.flip=0.7", "[0, 0.5]")),
        ({"flip": float("nan")}, ("data.flip=nan", "[0, 0.5]")),
        ({"seed": -1}, ("data.seed=-1", "[0, 2^63)")),
    ],
)
def test_toy_options(options, parts):
    refused(lambda: Toy(**options), "toy", *parts)


# --- Location30 and files in general -------------------------------------------------------------------------------

ROW = b'"3",' + b",".join([b"0", b"1"] * 223)


def tar_with(*members: tuple[tarfile.TarInfo, bytes], mode: str = "w:gz") -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as tar:  # pyright: ignore
        for info, content in members:
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def put(place: Place, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    """``content`` as the archive, and its checksum as the expected one, so that the checks behind it are reached."""
    assert place.data_dir is not None
    (place.data_dir / "dataset_location.tgz").write_bytes(content)
    checksum = "sha256:" + hashlib.sha256(content).hexdigest()
    monkeypatch.setattr(location_module, "ARCHIVE", replace(location_module.ARCHIVE, checksum=checksum))


def test_no_file_and_no_network_says_what_to_put_where(tmp_path, place):
    message = refused(lambda: Location30().load(place), "dataset_location.tgz", f"sha256 {SHA}", str(tmp_path))
    assert "from https://github.com/privacytrustlab/datasets/raw/master/dataset_location.tgz" in message
    no_folder = Place(None, tmp_path / "cache", download=False)
    refused(lambda: Location30().load(no_folder), "put dataset_location.tgz", str(tmp_path / "cache"), "--data-dir")


def test_a_failed_download_says_what_to_put_where(tmp_path, monkeypatch):
    unreachable = replace(location_module.ARCHIVE, url="http://127.0.0.1:9/dataset_location.tgz")
    monkeypatch.setattr(location_module, "ARCHIVE", unreachable)
    online = Place(tmp_path, tmp_path / "cache")
    refused(lambda: Location30().load(online), "download failed", "ConnectionError", SHA, f"into {tmp_path}")


def test_a_download_without_a_network_does_not_wait_for_an_answer(tmp_path, monkeypatch):
    """Neither a name nor a connection that is never answered holds a command up: the fake answers only when the test is over."""
    over = threading.Event()

    def never(address, timeout=None):
        assert timeout == network.PATIENCE
        over.wait()
        raise OSError("over")

    monkeypatch.setattr(network, "PATIENCE", 0.05)
    monkeypatch.setattr(socket, "create_connection", never)
    unreachable = replace(location_module.ARCHIVE, url="https://example.org/dataset_location.tgz")
    monkeypatch.setattr(location_module, "ARCHIVE", unreachable)
    try:
        refused(
            lambda: Location30().load(Place(tmp_path, tmp_path / "cache")), "no connection to example.org within", SHA
        )
    finally:
        over.set()


@pytest.mark.parametrize(
    ("proxy", "server"),
    [("", ("example.org", 443)), ("http://gate:3128", ("gate", 3128)), ("gate:3128", ("gate", 3128))],
)
def test_behind_a_proxy_the_proxy_is_asked(monkeypatch, proxy, server):
    asked = []
    monkeypatch.setattr(urllib.request, "getproxies", lambda: {"https": proxy} if proxy else {})
    monkeypatch.setattr(urllib.request, "proxy_bypass", lambda host: False)
    monkeypatch.setattr(socket, "create_connection", lambda address, timeout: asked.append(address) or socket.socket())
    network.check_reachable("https://example.org/file")
    assert asked == [server]


def test_a_cache_that_cannot_be_written(tmp_path):
    (tmp_path / "cache").write_text("a file, not a folder")
    online = Place(None, tmp_path / "cache")
    refused(lambda: Location30().load(online), "dataset_location.tgz", SHA, str(tmp_path / "cache"))


def test_a_download_with_another_content(tmp_path, monkeypatch):
    import pooch

    def serve(self, url, output_file, pooch, check_only=False):
        Path(output_file).write_bytes(b"<html>not found</html>")

    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", serve)
    file = PublicFile("a.bin", "sha256:" + "0" * 64, "https://example.org/a.bin")
    online = Place(None, tmp_path / "cache")
    refused(lambda: fetch(online, file), "download failed", "put a.bin (sha256 000", "https://example.org/a.bin")
    assert not (tmp_path / "cache" / "a.bin").exists()


def test_wrong_checksum_names_expected_and_found(tmp_path, place):
    (tmp_path / "dataset_location.tgz").write_bytes(b"something else")
    found = hashlib.sha256(b"something else").hexdigest()
    refused(lambda: Location30().load(place), str(tmp_path / "dataset_location.tgz"), SHA, found, "https://", REMEDY)
    (tmp_path / "dataset_location.tgz").unlink()
    (tmp_path / "location").mkdir()
    (tmp_path / "location" / "bangkok").write_bytes(ROW)
    refused(lambda: Location30().load(place), "bangkok", location_module.UNPACKED.checksum[7:], REMEDY)


@pytest.mark.parametrize("folder", [".", "cache"])
def test_a_file_that_may_not_be_read(tmp_path, place, monkeypatch, folder):
    def deny(self: Path, *args: object) -> None:  # chmod would not stop root
        raise PermissionError(13, "Permission denied", str(self))

    (tmp_path / folder).mkdir(exist_ok=True)
    (tmp_path / folder / "dataset_location.tgz").write_bytes(b"x")
    monkeypatch.setattr(Path, "open", deny)
    refused(lambda: Location30().load(place), "dataset_location.tgz", "Permission denied", "make it readable")


def test_find_without_a_folder_finds_nothing(tmp_path):
    assert find(Place(None, tmp_path), [location_module.ARCHIVE]) is None


def test_truncated_archives(place, monkeypatch):
    noise = np.random.default_rng(0).bytes(200_000)  # does not compress, so that cutting cuts the member
    whole = tar_with((tarfile.TarInfo("bangkok"), noise))
    for keep in (10, 1000, len(whole) // 2, len(whole) - 1000):
        put(place, monkeypatch, whole[:keep])
        refused(lambda: Location30().load(place), "dataset_location.tgz", "damaged", "fetch it again")
    plain = tar_with((tarfile.TarInfo("bangkok"), noise), mode="w")
    put(place, monkeypatch, plain[:100_000])
    refused(lambda: Location30().load(place), "dataset_location.tgz", "damaged", "fetch it again")


def test_no_archive_at_all(place, monkeypatch):
    put(place, monkeypatch, b"<html>rate limit</html>")
    refused(lambda: Location30().load(place), "dataset_location.tgz", "damaged or not an archive", "fetch it again")


@pytest.mark.parametrize("name", ["../bangkok", "/tmp/bangkok", "a/../../bangkok", "..\\bangkok", "C:\\bangkok"])
def test_members_that_escape(place, monkeypatch, tmp_path, name):
    put(place, monkeypatch, tar_with((tarfile.TarInfo("bangkok"), ROW), (tarfile.TarInfo(name), b"evil")))
    refused(lambda: Location30().load(place), "dataset_location.tgz", "unsafe", repr(name), REMEDY)
    assert not (tmp_path.parent / "bangkok").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_members_that_are_links_or_devices(place, monkeypatch, kind):
    link = tarfile.TarInfo("bangkok")
    link.type, link.linkname = kind, "/etc/passwd"
    put(place, monkeypatch, tar_with((link, b"")))
    refused(lambda: Location30().load(place), "dataset_location.tgz", "unsafe", "'bangkok'", REMEDY)


def test_archive_without_the_member_or_with_a_folder_or_a_bomb(place, monkeypatch, tmp_path):
    put(place, monkeypatch, tar_with((tarfile.TarInfo("readme"), b"hello")))
    refused(lambda: Location30().load(place), "dataset_location.tgz", "no file 'bangkok'", REMEDY)
    folder = tarfile.TarInfo("bangkok")
    folder.type = tarfile.DIRTYPE
    put(place, monkeypatch, tar_with((folder, b"")))
    refused(lambda: Location30().load(place), "dataset_location.tgz", "'bangkok'", "is not a file", REMEDY)
    (tmp_path / "bomb.tgz").write_bytes(tar_with((tarfile.TarInfo("big"), bytes(100_000))))
    refused(lambda: read_member(tmp_path / "bomb.tgz", "big", limit=99_999), "bomb.tgz", "'big'", "99999 bytes", REMEDY)


@pytest.mark.parametrize(
    ("lines", "parts"),
    [
        ([ROW] * 5009, ("5009 lines", "expected 5010 lines")),
        ([], ("0 lines", "expected 5010 lines")),
        ([ROW] * 5009 + [ROW.replace(b'"3"', b'"31"')], ("label '31'", "line 5010", "1 to 30")),
        ([ROW.replace(b'"3"', b'"0"')] + [ROW] * 5009, ("label '0'", "line 1", "1 to 30")),
        ([ROW.replace(b'"3"', b"\xff")] + [ROW] * 5009, ("label", "line 1", "1 to 30")),
        ([ROW] * 6 + [ROW[:-2]] + [ROW] * 5003, ("445 features", "line 7", "446")),
        ([ROW] * 6 + [ROW + b",0"] + [ROW] * 5003, ("447 features", "line 7", "446")),
        ([ROW] * 6 + [ROW[:-1] + b"2"] + [ROW] * 5003, ("feature other than 0 and 1", "line 7")),
        ([ROW] * 6 + [ROW[:-1] + b"x"] + [ROW] * 5003, ("feature other than 0 and 1", "line 7")),
        ([ROW] * 6 + [ROW[:-2] + b";1"] + [ROW] * 5003, ("line 7", "commas")),
    ],
)
def test_archive_of_wrong_content(place, monkeypatch, lines, parts):
    put(place, monkeypatch, tar_with((tarfile.TarInfo("bangkok"), b"\n".join(lines))))
    refused(lambda: Location30().load(place), "dataset_location.tgz", "not Location30", *parts, REMEDY)


# --- the user's own tables -----------------------------------------------------------------------------------------


def rows(n: int = 50, **columns: Callable[[int], object]) -> str:
    """A .csv text with the columns a (numbers), y (labels) and these."""
    table = {"a": lambda i: i, **columns}
    table.setdefault("y", lambda i: i % 2)
    lines = [",".join(table)] + [",".join(str(f(i)) for f in table.values()) for i in range(n)]
    return "\n".join(lines) + "\n"


NULL = ("'b'", "no value in data row 7 of 50;", "missing=drop", "missing=median", "drop=b")
CSV_ERRORS = {
    "no label": (rows(), {"label": ""}, ("needs the name of its label column", "--label", "'a', 'y'")),
    "wrong label": (rows(target=lambda i: i), {"label": "tagret"}, ("no column 'tagret'", "mean 'target'?", "'a'")),
    "unlike label": (rows(), {"label": "zebra"}, ("no column 'zebra' (label)", "columns: 'a', 'y'")),
    "wrong drop": (rows(color=lambda i: "r"), {"drop": ("colour",)}, ("data.drop", "'colour'", "mean 'color'?")),
    "dropped label": (rows(), {"drop": ("y",)}, ("'y'", "data.drop=['y']", "take it out")),
    "nothing left": (rows(), {"drop": ("a",)}, ("no features", "data.drop=['a']", "keep at least one")),
    "twice": ("a,a,y\n1,2,0\n", {}, ("same name", "'a'", "rename", "header line")),
    "empty": ("", {}, ("cannot read", "t.csv", "Empty", "complete .csv")),
    "only a header": ("a,y\n", {}, ("t.csv", "header but no rows", "at least 44")),
    "few rows": (rows(43), {}, ("t.csv", "43 rows", "at least 44")),
    "ragged": (
        rows() + "1,2,3\n",
        {},
        ("data row 51 of", "t.csv has 3 values, and the first line has 2: '1,2,3'", "correct that row"),
    ),
    "null": (
        rows(b=lambda i: "" if i == 6 else i),
        {},
        ("'b'", "no value in data row 7 of 50;", "missing=drop", "missing=median", "drop=b"),
    ),
    "null text": (
        rows(b=lambda i: "" if i == 6 else "t"),
        {},
        ("'b'", "no value in data row 7 of 50;", "missing=drop", "missing=median", "drop=b"),
    ),
    "no values": (rows(b=lambda i: ""), {}, ("'b'", "no value in any row", "drop=b")),
    "null label": (
        rows(y=lambda i: "" if i == 2 else i % 2),
        {},
        ("label column 'y'", "data row 3", "missing=drop", "--label"),
    ),
    "infinite": (rows(b=lambda i: "inf" if i == 4 else 0.5), {}, ("'b'", "inf in data row 5", "drop=b")),
    "too large": (rows(b=lambda i: "1e300" if i == 4 else 0.5), {}, ("'b'", "1e+300 in data row 5", "float32")),
    "many words": (
        rows(250, b=lambda i: f"n{i}"),
        {},
        ("'b'", "250 distinct", "100", "'n0'", "drop=b", "--group b"),
    ),
    "dates": (
        rows(b=lambda i: f"2024-01-{i % 28 + 1:02}"),
        {},
        ("column 'b'", "neither numbers nor categories (type date32", "drop=b"),
    ),
    "date label": (rows(y=lambda i: f"2024-01-0{i % 3 + 1}"), {}, ("label column 'y'", "type date32", "--label")),
    "fractions": (rows(y=lambda i: i % 5 / 2), {}, ("column 'y'", "0.5 in data row 2", "regression target", "--label")),
    "one class": (rows(y=lambda i: 7), {}, ("column 'y'", "one class only, '7'", "--label")),
    "many labels": (rows(y=lambda i: i // 1), {}, ("column 'y'", "50 distinct values in 50 rows", "--label")),
    "many names": (rows(y=lambda i: f"id{i}"), {}, ("column 'y'", "50 distinct values in 50 rows", "--label")),
}


@pytest.mark.parametrize("case", CSV_ERRORS)
def test_csv(case, tmp_path, place):
    text, options, parts = CSV_ERRORS[case]
    (tmp_path / "t.csv").write_text(text)
    source = File(**({"file": str(tmp_path / "t.csv"), "label": "y"} | options))
    refused(lambda: source.load(place), str(tmp_path / "t.csv"), *parts)


def test_exactly_half_of_the_rows_distinct_is_accepted(tmp_path, place):
    (tmp_path / "t.csv").write_text(rows(y=lambda i: i // 2))
    assert File(file=str(tmp_path / "t.csv"), label="y").load(place).num_classes == 25


def test_a_table_with_many_columns_is_not_listed_whole(tmp_path, place):
    (tmp_path / "t.csv").write_text(rows(**{f"col{i}": lambda i: i for i in range(2000)}))
    refused(lambda: File(file=str(tmp_path / "t.csv"), label="zzz").load(place), "'zzz'", "(2,002 in all)")


def test_text_that_is_not_utf8(tmp_path, place):
    (tmp_path / "t.csv").write_bytes(rows(b=lambda i: "t").encode() + b"1,\xff\xfe,0\n")
    refused(
        lambda: File(file=str(tmp_path / "t.csv"), label="y").load(place),
        "not in UTF-8, in column 'b';",
        "save the file in UTF-8",
    )
    (tmp_path / "t.csv").write_bytes(rows().encode("utf-16"))
    refused(lambda: File(file=str(tmp_path / "t.csv"), label="y").load(place), "t.csv", "save it in UTF-8")


def test_line_breaks_in_names_do_not_break_the_line(tmp_path, place):
    (tmp_path / "t.csv").write_text('"a\nb",y\n' + "1,0\n" * 50)
    refused(lambda: File(file=str(tmp_path / "t.csv"), label="z").load(place), r"'a\nb'", "'z'")


@pytest.mark.parametrize(
    ("file", "parts"),
    [
        ("", ("needs a file", "--data FILE")),
        ("missing.csv", ("no file", "missing.csv", "check the path")),
        ("folder", ("folder", "is a folder", "'.csv'")),
        ("table.xlsx", ("table.xlsx", "'.xlsx'", "save it as .csv")),
        ("noending", ("noending", "''", "save it as .csv")),
    ],
)
def test_file_names(tmp_path, place, monkeypatch, file, parts):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "table.xlsx").write_bytes(b"PK")
    refused(lambda: File(file=file, label="y").load(place), *parts)


def test_parquet(tmp_path, place):
    import pyarrow as pa
    import pyarrow.parquet

    path = tmp_path / "t.parquet"

    def load() -> object:
        return File(file=str(path), label="y").load(place)

    y = [i % 2 for i in range(50)]
    path.write_bytes(b"PAR1 broken")
    refused(load, "cannot read", "t.parquet", "complete .parquet")
    path.write_bytes(b"")
    refused(load, "cannot read", "t.parquet", "complete .parquet")
    pyarrow.parquet.write_table(pa.table({"b": [[1]] * 50, "y": y}), path)
    refused(load, "column 'b'", "neither numbers nor categories (type list", "drop=b")
    pyarrow.parquet.write_table(pa.table({"b": pa.array([0.5] * 49 + [float("nan")]), "y": y}), path)
    refused(load, "column 'b'", "no value in data row 50 of 50", "drop=b")
    pyarrow.parquet.write_table(pa.table([[1] * 50, [2] * 50, y], names=["b", "b", "y"]), path)
    refused(load, "t.parquet", "same name", "'b'", "rename")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    refused(load, "cannot read", "t.parquet")


X, Y = np.zeros((50, 2)), np.arange(50) % 2
HOLE = np.zeros((50, 2))
HOLE[3, 1] = np.nan

NPZ_ERRORS = {
    "no x": ({"data": X, "y": Y}, {}, ("no array 'x' or 'features' or 'X'", "'data', 'y'")),
    "no y": ({"x": X, "target": Y}, {}, ("no array 'y' or 'labels' or 'label'", "'target'")),
    "wrong label": ({"x": X, "target": Y}, {"label": "tagret"}, ("no array 'tagret'", "did you mean 'target'?")),
    "drop": ({"x": X, "y": Y}, {"drop": ("c",)}, ("data.drop=['c']", "arrays", "change the array 'x'")),
    "flat x": ({"x": Y, "y": Y}, {}, ("array 'x'", "(50,)", "(rows, features")),
    "text x": ({"x": X.astype(str), "y": Y}, {}, ("array 'x'", "<U", "give numbers")),
    "complex x": ({"x": X + 0j, "y": Y}, {}, ("array 'x'", "complex128", "give numbers")),
    "other length": ({"x": X, "y": Y[:49]}, {}, ("array 'y'", "(49,)", "shape (50,)")),
    "two hot y": ({"x": X, "y": np.ones((50, 2))}, {}, ("array 'y'", "(50, 2)", "shape (50,)")),
    "nan": ({"x": HOLE, "y": Y}, {}, ("array 'x'", "nan in data row 4 (1 of 50", "missing=drop", "missing=median")),
    "nan label": ({"x": X, "y": np.where(Y == 1, np.nan, 0)}, {}, ("array 'y'", "nan in data row 2", "--label")),
    "empty": ({"x": X[:0], "y": Y[:0]}, {}, ("array 'x'", "empty", "(0, 2)", "44 rows")),
    "few": ({"x": X[:30], "y": Y[:30]}, {}, ("30 rows", "at least 44")),
    "objects": (
        {"x": X.astype(object), "y": Y},
        {},
        ("cannot read", "it holds Python objects", "no arrays of objects"),
    ),
}


@pytest.mark.parametrize("case", NPZ_ERRORS)
def test_npz(case, tmp_path, place):
    arrays, options, parts = NPZ_ERRORS[case]
    np.savez(tmp_path / "t.npz", **arrays)
    source = File(**({"file": str(tmp_path / "t.npz")} | options))
    refused(lambda: source.load(place), str(tmp_path / "t.npz"), *parts)


def test_npz_that_is_none(tmp_path, place):
    path = tmp_path / "t.npz"
    np.savez(path, x=X, y=Y)
    whole = path.read_bytes()
    buffer = io.BytesIO()
    np.save(buffer, X)
    for content in (b"", b"hello", whole[:300], whole[:-10], buffer.getvalue()):
        path.write_bytes(content)
        refused(lambda: File(file=str(path)).load(place), "cannot read", str(path), "numpy.savez")


def test_sources_that_need_no_file_need_no_place(tmp_path):
    empty = Place(tmp_path / "nothing", tmp_path / "nothing", download=False)
    assert len(Digits().load(empty)) == 1797
    assert len(Toy().load(empty)) == 2000
    assert not (tmp_path / "nothing").exists()


def test_a_long_message_of_somebody_else_is_cut_between_words():
    from hampkit.errors import shortened

    for most in range(20, 60):
        short = shortened("Max retries exceeded with url:\n/data (Caused by a name that nobody resolves)", most)
        assert len(short) <= most
        assert short.endswith(" …")
        assert "Max retries exceeded with url: /data (Caused by a name that nobody resolves) ".startswith(short[:-1])
    assert shortened("two\n words") == "two words"
    assert len(shortened("x" * 500)) == 160


def test_a_failed_download_is_told_in_whole_words(tmp_path, monkeypatch):
    import pooch

    def fail(*_, **__):
        raise ConnectionError("word " * 100)

    monkeypatch.setattr(pooch, "retrieve", fail)
    monkeypatch.setattr("hampkit.data.fetch.check_reachable", lambda url: None)
    refused(lambda: Location30().load(Place(None, tmp_path)), "ConnectionError: word word", "word …; put")
