"""The plainest controls: a model that memorises labels which nothing explains, and membership that is shuffled."""

import csv

import numpy as np
import pytest

import hampkit


@pytest.fixture
def noise(tmp_path):
    """A table of 2,400 rows of 40 normal numbers and labels drawn at random."""

    def write(seed, classes):
        rng = np.random.default_rng(seed)
        x, path = rng.normal(size=(2400, 40)).round(4), tmp_path / f"noise-{seed}-{classes}.csv"
        labels = [f"c{k}" for k in rng.integers(0, classes, 2400)]
        with path.open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow([*(f"f{i}" for i in range(40)), "label"])
            table.writerows([*row, label] for row, label in zip(x.tolist(), labels, strict=True))
        return path

    return write


CASES = [(0, 60), *(pytest.param(*case, marks=pytest.mark.slow) for case in ((0, 20), (1, 20), (1, 60)))]


@pytest.mark.parametrize(("seed", "classes"), CASES)
def test_a_model_that_memorises_gives_its_members_away(noise, seed, classes):
    options = {"epochs": 80, "select": "last", "neural.epochs": 20}
    results = hampkit.run("undefended", data=noise(seed, classes), label="label", options=options)
    (model,) = results.models
    loss = next(a for a in model.attacks if a.attack == "loss")
    assert loss.auc.value > 0.95
    assert loss.auc.low > 0.9
    assert model.strongest().auc.value > 0.95
    assert "membership can be inferred" in results.verdict["text"]
    assert model.accuracy["train"] > 0.95
    assert not model.off_null, "the same attack on shuffled membership finds nothing"
