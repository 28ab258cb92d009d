"""Files that are written as a whole or not at all, and durations in words."""

import os

import pytest

from hampkit.config.files import replacing
from hampkit.text import duration, measured_duration


def test_a_file_appears_with_all_of_its_content(tmp_path):
    with replacing(tmp_path / "a.txt") as stream:
        stream.write(b"new")
        assert not (tmp_path / "a.txt").exists()
    assert (tmp_path / "a.txt").read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_after_an_exception_the_old_file_stays_and_nothing_else(tmp_path):
    (tmp_path / "a.txt").write_text("old")

    def interrupted():
        with replacing(tmp_path / "a.txt") as stream:
            stream.write(b"new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert (tmp_path / "a.txt").read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0 s"), (9.94, "9.9 s"), (119.4, "119 s"), (120, "2 min"), (7169, "119 min"), (7200, "2 h 0 min")],
)
def test_a_duration_has_a_readable_unit(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (59.4, "59.4 s"),
        (59.6, "1 min 0 s"),
        (83.4, "1 min 23 s"),
        (3599, "59 min 59 s"),
        (7300, "2 h 1 min"),
    ],
)
def test_a_measured_duration_keeps_its_seconds(seconds, text):
    assert measured_duration(seconds) == text
