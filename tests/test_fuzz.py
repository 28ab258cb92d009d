"""A short round of `tests.fuzz`: every loader, run folders and recipes with random damage. Longer: ``python -m tests.fuzz``."""

import pytest
from tests.fuzz.driver import fuzz, tried
from tests.fuzz.targets import TARGETS


@pytest.mark.parametrize("target", TARGETS)
def test_random_inputs_end_well_or_in_one_line(target, tmp_path):
    done, failures = fuzz(tmp_path, [target], first=0, inputs=6 if target == "run_folder" else 25)
    assert done
    assert not failures, "\n\n".join(failures)


def test_a_failure_is_found(tmp_path, monkeypatch):
    for fault, text in ((ZeroDivisionError("x"), "ZeroDivisionError"), (TimeoutError("y"), "TimeoutError")):

        def broken(folder, rng, fault=fault):
            raise fault

        monkeypatch.setitem(TARGETS, "broken", broken)
        assert text in tried(tmp_path, "broken", 0)
