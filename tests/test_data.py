"""Data sets load as documented: values, types, domains, names and fingerprints."""

from __future__ import annotations

import hashlib
import http.server
import io
import os
import tarfile
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from hampkit.config.schema import build
from hampkit.data import Place, fingerprint
from hampkit.data import location as location_module
from hampkit.data.embedded import Digits
from hampkit.data.fetch import PublicFile, fetch, read_members
from hampkit.data.location import Location30
from hampkit.data.splits import LAYOUTS
from hampkit.data.table import File
from hampkit.data.toy import Toy
from hampkit.registry import DATASETS
from hampkit.rng import torch_rng

REAL = os.environ.get("HAMPKIT_DATA", "")


@pytest.fixture
def nowhere(tmp_path: Path) -> Place:
    return Place(None, tmp_path / "cache", download=False)


@pytest.fixture(scope="module")
def fake_content() -> tuple[bytes, bytes, np.ndarray, np.ndarray]:
    """An archive and its member in the layout of Location30 with random content, labels 1 to 30 and bits."""
    rng = np.random.default_rng(3)
    labels, bits = rng.integers(1, 31, 5010), rng.integers(0, 2, (5010, 446))
    lines = [f'"{label}",' + ",".join(map(str, row)) for label, row in zip(labels, bits.tolist(), strict=True)]
    member = ("\n".join(lines) + "\n").encode()
    return tgz({"bangkok": member}), member, labels, bits


@pytest.fixture
def fake_location(fake_content, monkeypatch: pytest.MonkeyPatch) -> tuple[bytes, bytes, np.ndarray, np.ndarray]:
    """The fake content, with its checksums in the place of the real ones."""
    archive, member, labels, bits = fake_content
    for name, content in (("ARCHIVE", archive), ("UNPACKED", member)):
        checksum = "sha256:" + hashlib.sha256(content).hexdigest()
        monkeypatch.setattr(location_module, name, replace(getattr(location_module, name), checksum=checksum))
    return archive, member, labels, bits


def tgz(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz", compresslevel=1) as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def write_csv(path: Path, header: str, rows: list[str]) -> Path:
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


# --- registry, places, fingerprints --------------------------------------------------------------------------------


def test_all_sources_are_registered_and_describe_themselves():
    classes = DATASETS.classes()
    assert {"digits", "toy", "location30", "file"} <= set(classes)
    for name, cls in classes.items():
        assert cls.name == name
        assert len(cls.about.splitlines()) == 1
        assert cls.layout in LAYOUTS
        assert cls() == build(cls, {}, "data")


def test_place_reads_the_environment_unless_a_folder_is_given(tmp_path, monkeypatch):
    a, b = tmp_path / "a", tmp_path / "b"
    a.mkdir()
    b.mkdir()
    monkeypatch.setenv("HAMPKIT_DATA", str(a))
    assert Place.default().data_dir == a
    assert Place.default(b).data_dir == b
    monkeypatch.delenv("HAMPKIT_DATA")
    assert Place.default().data_dir is None
    assert Place.default().cache.name == "hampkit"


def test_fingerprint_depends_on_values_types_and_shape():
    x, y = torch.arange(12, dtype=torch.uint8).reshape(3, 4), torch.tensor([0, 1, 1])
    same = fingerprint(x.clone(), y.clone())
    others = [fingerprint(a, b) for a, b in ((x + 1, y), (x, 1 - y), (x.float(), y), (x.reshape(3, 2, 2), y))]
    assert fingerprint(x, y) == same
    assert len({same, *others}) == 5
    assert len(same) == 64
    assert fingerprint(x.T.contiguous().T, y) == same, "the layout in memory must not count"


# --- embedded and toy ----------------------------------------------------------------------------------------------


def test_digits(nowhere):
    data = Digits().load(nowhere)
    assert data.x.shape == (1797, 64)
    assert data.x.dtype == torch.uint8
    assert (int(data.x.min()), int(data.x.max())) == (0, 16)
    assert data.y[:10].tolist() == list(range(10))
    assert data.num_classes == 10
    assert data.mean == (0.0,)
    assert data.std == (16.0,)
    assert float(data.domain.high.max()) == 16.0
    assert Digits().load(nowhere).sha256 == data.sha256


def test_toy_is_noisy_copies_of_one_prototype_per_class(nowhere):
    data = Toy(rows=1000, features=200, classes=7, flip=0.1).load(nowhere)
    assert data.x.dtype == torch.uint8
    assert set(data.x.unique().tolist()) == {0, 1}
    counts = torch.bincount(data.y)
    assert len(counts) == 7
    assert int(counts.max() - counts.min()) <= 1
    for c in range(7):
        rows = data.x[data.y == c].float()
        prototype = rows.mean(0).round()
        # 140 rows × 200 bits flipped with probability 0.1: standard error 0.0018
        assert abs(float((rows != prototype).float().mean()) - 0.1) < 0.01


def test_toy_without_flips_has_one_pattern_per_class_and_shuffled_labels(nowhere):
    data = Toy(rows=100, features=64, classes=4, flip=0.0).load(nowhere)
    assert len(data.x.unique(dim=0)) == 4
    assert data.y[:8].tolist() != [0, 1, 2, 3, 0, 1, 2, 3]


def test_toy_repeats_by_seed(nowhere):
    assert Toy(seed=1).load(nowhere).sha256 == Toy(seed=1).load(nowhere).sha256
    assert Toy(seed=1).load(nowhere).sha256 != Toy(seed=2).load(nowhere).sha256


def test_toy_draws_in_pieces(nowhere, monkeypatch):
    whole = Toy(rows=500, features=32).load(nowhere)
    monkeypatch.setattr("hampkit.data.toy._CHUNK", 32 * 50)
    pieces = Toy(rows=500, features=32).load(nowhere)
    assert torch.equal(whole.x, pieces.x)


# --- Location30 ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", [".", "location30", "location"])
@pytest.mark.parametrize("kind", ["archive", "unpacked"])
def test_location_is_found_in_the_users_folder(tmp_path, fake_location, folder, kind):
    archive, member, labels, bits = fake_location
    (tmp_path / folder).mkdir(exist_ok=True)
    name, content = ("dataset_location.tgz", archive) if kind == "archive" else ("bangkok", member)
    (tmp_path / folder / name).write_bytes(content)
    data, lines = Location30().examine(Place(tmp_path, tmp_path / "cache", download=False))
    said = f"checksum sha256 {hashlib.sha256(content).hexdigest()}, as published"
    assert lines == [f"file {tmp_path / folder / name}", said]
    assert data.x.dtype == torch.uint8
    assert data.y.dtype == torch.int64
    assert np.array_equal(data.x.numpy(), bits)
    assert np.array_equal(data.y.numpy(), labels - 1)
    assert data.num_classes == 30
    assert data.classes[0] == "1"
    assert data.domain.low.shape == (446,)
    assert sorted(p.name for p in (tmp_path / folder).iterdir() if p.is_file()) == [name], "nothing is unpacked"


@pytest.fixture
def server(tmp_path: Path):
    """A web server for the folder tmp_path/web; yields its address and the paths that were asked for."""
    (tmp_path / "web").mkdir()
    asked: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            asked.append(self.path)

    web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(tmp_path / "web")))
    threading.Thread(target=web.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{web.server_address[1]}", asked
    web.shutdown()
    web.server_close()


def test_location_is_downloaded_once_and_kept(tmp_path, fake_location, server, monkeypatch, capsys):
    archive, _, labels, _ = fake_location
    url, asked = server
    (tmp_path / "web" / "dataset_location.tgz").write_bytes(archive)
    monkeypatch.setattr(location_module, "ARCHIVE", replace(location_module.ARCHIVE, url=f"{url}/dataset_location.tgz"))
    place = Place(None, tmp_path / "cache")
    first, second = Location30().load(place), Location30().load(place)
    assert np.array_equal(first.y.numpy(), labels - 1)
    assert first.sha256 == second.sha256
    assert len(asked) == 1
    assert (tmp_path / "cache" / "dataset_location.tgz").read_bytes() == archive
    assert Location30().load(Place(None, tmp_path / "cache", download=False)).sha256 == first.sha256
    assert capsys.readouterr() == ("", ""), "a library is silent"


def test_a_broken_file_in_the_cache_is_downloaded_again_and_progress_is_shown(tmp_path, server):
    class Bar:
        total = 0
        done = 0

        def update(self, n: int) -> None:
            self.done += n

        def reset(self) -> None:
            self.done = 0

        def close(self) -> None:
            pass

    url, asked = server
    (tmp_path / "web" / "some.bin").write_bytes(b"x" * 5000)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "some.bin").write_bytes(b"x" * 4000)
    file = PublicFile("some.bin", "md5:" + hashlib.md5(b"x" * 5000).hexdigest(), f"{url}/some.bin")
    bar = Bar()
    path = fetch(Place(None, tmp_path / "cache", progress=bar), file)
    assert path.read_bytes() == b"x" * 5000
    assert asked == ["/some.bin"]
    assert (bar.total, bar.done) == (5000, 5000)


def test_several_members_are_read_in_one_pass(tmp_path):
    (tmp_path / "a.tgz").write_bytes(tgz({"./one": b"1", "in/two": b"2", "three": b"3"}))
    assert read_members(tmp_path / "a.tgz", ["one", "in/two"]) == {"one": b"1", "in/two": b"2"}


@pytest.mark.skipif(not REAL, reason="needs $HAMPKIT_DATA with dataset_location.tgz")
def test_location_as_published(tmp_path):
    data = Location30().load(Place(Path(REAL), tmp_path, download=False))
    assert data.x.shape == (5010, 446)
    assert data.y[0] == 12  # the first line begins with "13"
    assert data.x[0, :6].tolist() == [0, 1, 0, 1, 0, 0]
    assert set(data.x.unique().tolist()) == {0, 1}
    counts = torch.bincount(data.y)
    assert len(counts) == 30
    assert (int(counts[4]), int(counts[15])) == (97, 110)  # counted with cut | sort | uniq -c
    assert data.sha256 == "43c36c993db4267ad33b237653b92801c16c5f6a79fa7efbfadf67c3393afc2d"


# --- tables --------------------------------------------------------------------------------------------------------

COLORS = ["red", "green", "blue"]


def mixed_rows(n: int = 60) -> list[str]:
    flag = ["true", "false"]
    return [f"{i},{i / 4},{flag[i % 2]},{COLORS[i % 3]},{'yes' if i % 5 else 'no'}" for i in range(n)]


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    return write_csv(tmp_path / "my table-1.csv", "age,income,member,color,target", mixed_rows())


def check_mixed(data) -> None:
    assert data.x.dtype == torch.float32
    assert data.x.shape == (60, 6)
    assert data.x[5].tolist() == [5.0, 1.25, 0.0, 1.0, 0.0, 0.0]  # blue, green, red: row 5 is blue
    assert data.classes == ("no", "yes")
    assert data.y[:6].tolist() == [0, 1, 1, 1, 1, 0]
    assert data.domain.groups == ((3, 6),)
    assert data.domain.low.tolist() == [0] * 6
    assert data.domain.high.tolist() == [59, 14.75, 1, 1, 1, 1]
    assert data.domain.step.tolist() == [1, 0, 1, 1, 1, 1]


def test_csv_with_numbers_flags_and_categories(mixed, nowhere):
    data = File(file=str(mixed), label="target").load(nowhere)
    check_mixed(data)
    assert data.name == "my_table_1"
    drawn = data.domain.sample(50, torch_rng(0))
    assert torch.equal(drawn[:, 3:6].sum(1), torch.ones(50))
    assert torch.equal(drawn[:, 0], drawn[:, 0].round())


def test_parquet_gives_what_csv_gives(mixed, nowhere, tmp_path):
    import pyarrow.csv
    import pyarrow.parquet

    table = pyarrow.csv.read_csv(mixed)
    # Dictionary columns are what pandas writes for its categories.
    table = table.set_column(3, "color", table.column("color").dictionary_encode())
    (tmp_path / "age=3").mkdir()  # a folder like this must not become a column
    pyarrow.parquet.write_table(table, tmp_path / "age=3" / "t.parquet")
    data = File(file=str(tmp_path / "age=3" / "t.parquet"), label="target").load(nowhere)
    check_mixed(data)
    assert data.sha256 == File(file=str(mixed), label="target").load(nowhere).sha256


def test_parquet_with_decimals_and_half_floats(nowhere, tmp_path):
    from decimal import Decimal

    import pyarrow as pa
    import pyarrow.parquet

    columns = {
        "price": pa.array([Decimal(i) / 4 for i in range(48)], pa.decimal128(8, 2)),
        "half": pa.array(np.arange(48, dtype=np.float16) / 2),
        "y": pa.array([i % 2 == 0 for i in range(48)]),
    }
    pyarrow.parquet.write_table(pa.table(columns), tmp_path / "t.parquet")
    data = File(file=str(tmp_path / "t.parquet"), label="y").load(nowhere)
    assert data.x[3].tolist() == [0.75, 1.5]
    assert data.classes == ("false", "true")
    assert data.y[:2].tolist() == [1, 0]


def test_dropped_columns_are_no_features(mixed, nowhere):
    data = File(file=str(mixed), label="target", drop=("income", "color")).load(nowhere)
    assert data.x.dtype == torch.uint8, "what is left are small whole numbers"
    assert data.shape == (2,)
    assert data.domain.groups == ()
    assert data.domain.step.tolist() == [1, 1]


def test_a_constant_column_and_a_single_category_are_fine(nowhere, tmp_path):
    path = write_csv(tmp_path / "c.csv", "a,k,t,y", [f"{i % 7}.5,3,same,{i % 3}" for i in range(50)])
    data = File(file=str(path), label="y").load(nowhere)
    assert data.x[0].tolist() == [0.5, 3, 1]
    assert data.domain.sample(4, torch_rng(0))[:, 1:].tolist() == [[3, 1]] * 4


def test_a_late_fraction_changes_the_whole_column(nowhere, tmp_path):
    # pyarrow guesses types block by block (1 MiB): the guess must be corrected, not fail.
    path = write_csv(tmp_path / "late.csv", "a,pad,y", [f"1,{'p' * 40},{i % 2}" for i in range(40000)] + ["2.5,p,0"])
    data = File(file=str(path), label="y", drop=("pad",)).load(nowhere)
    assert data.x[-1].item() == 2.5
    assert len(data) == 40001


@pytest.mark.parametrize(
    ("values", "classes", "first"),
    [
        ([3, -1, 7], ("-1", "3", "7"), [1, 0, 2]),
        ([2.0, 1.0, 10.0], ("1", "2", "10"), [1, 0, 2]),
        (["b", "ä", "a"], ("a", "b", "ä"), [1, 2, 0]),
    ],
)
def test_labels_are_numbered_in_sorted_order(nowhere, tmp_path, values, classes, first):
    path = write_csv(tmp_path / "l.csv", "a,y", [f"{i},{values[i % 3]}" for i in range(48)])
    data = File(file=str(path), label="y").load(nowhere)
    assert data.classes == classes
    assert data.num_classes == 3
    assert data.y[:3].tolist() == first
    assert data.y.dtype == torch.int64


@pytest.mark.parametrize(("x_name", "y_name", "label"), [("x", "y", ""), ("features", "labels", ""), ("X", "t", "t")])
def test_npz_names(nowhere, tmp_path, x_name, y_name, label):
    x = np.arange(48 * 3).reshape(48, 3) * 2
    np.savez(tmp_path / "a.npz", **{x_name: x, y_name: np.arange(48) % 4})
    data = File(file=str(tmp_path / "a.npz"), label=label).load(nowhere)
    assert np.array_equal(data.x.numpy(), x)
    assert data.num_classes == 4
    assert data.domain.high.tolist() == [282, 284, 286]
    assert data.domain.step.tolist() == [1, 1, 1]


def test_npz_images_have_one_domain_for_all_pixels(nowhere, tmp_path):
    x = np.zeros((50, 3, 4, 4), np.uint8)
    x[7, 1, 2, 2] = 255
    np.savez_compressed(tmp_path / "i.npz", x=x, y=np.array([b"cat", b"dog"] * 25))
    data = File(file=str(tmp_path / "i.npz")).load(nowhere)
    assert data.x.dtype == torch.uint8
    assert data.shape == (3, 4, 4)
    assert data.classes == ("cat", "dog")
    assert data.domain.high.shape == (3, 4, 4)
    assert data.domain.high.unique().tolist() == [255]
    np.savez(tmp_path / "f.npz", x=x / 255, y=np.arange(50) % 2)
    floats = File(file=str(tmp_path / "f.npz")).load(nowhere)
    assert floats.x[7, 1, 2, 2] == 1
    assert floats.sha256 != data.sha256


def test_titles_are_safe_in_folder_names(tmp_path):
    assert File(file="/data/2024 näive-réport.v2.csv").title == "2024_n_ive_r_port.v2"
    assert File(file="a.csv", title="../up/x y").title == ".._up_x_y"
    assert len(File(file="a" * 300 + ".csv").title) == 60
    assert File().title == ""
    assert build(File, {"file": "t.csv", "drop": ["id"]}, "data").drop == ("id",)
