"""The comparison on CIFAR-10's files: 2,000 made-up images, the small DenseNet, every defense that can train it."""

import json
import math

import numpy as np
import pytest

from hampkit.data import cifar
from hampkit.data.cifar import Cifar10
from hampkit.workflows import target_jobs

SIZES = (2500, 500)  # training and test images in the files, of which 2,000 are taken
OPTIONS = [
    "data.rows=2000", "train_size=400", "net=densenet-small", "train.epochs=2", "distill.epochs=1", "submodels=3", "left_out=1",
    "synthetic=100", "defense.options=[epochs=1, width=8]", "surrogate_epochs=5", "attack_steps=4", "warmup_passes=1",
    "neural.epochs=2", "train.retries=0",
]  # fmt: skip


def write_files(folder):
    """The binary files, smaller: every class has a pattern of its own under noise."""
    rng = np.random.default_rng(0)
    pattern = rng.integers(60, 196, (10, 3072))
    labels = rng.integers(0, 10, sum(SIZES))
    images = np.clip(pattern[labels] + rng.normal(0, 40, (len(labels), 3072)), 0, 255)
    records = np.column_stack([labels, images]).astype(np.uint8)
    form = Cifar10.forms[0]
    place = folder / form.folder
    place.mkdir(parents=True)
    for name, part in zip((*form.train, form.test), np.split(records, [500, 1000, 1500, 2000, 2500]), strict=True):
        (place / name).write_bytes(part.tobytes())
    (place / form.names).write_text("".join(f"thing_{c}\n" for c in range(10)))


@pytest.mark.slow
def test_all_defenses_that_can_train_a_densenet_are_compared(cli, tmp_path, monkeypatch):
    monkeypatch.setattr(cifar, "TRAIN", SIZES[0])
    monkeypatch.setattr(cifar, "TEST", SIZES[1])
    monkeypatch.setattr(target_jobs, "ALONE", math.inf)  # another process would look for files of the real size
    write_files(tmp_path / "data")
    code, out, err = cli("compare", "cifar10", *OPTIONS, "--data-dir", tmp_path / "data")
    assert code == 0, err
    found = json.loads((tmp_path / "runs" / "compare.json").read_text())
    assert "batch norm" in found["left_out"]["dp-sgd"]
    names = {entry["defense"] for entry in found["entries"]}
    assert names >= {
        "undefended",
        "hamp",
        "advreg",
        "memguard",
        "selena",
        "dmp",
        "label-smoothing",
        "early-stopping",
        "mixup",
    }
    for entry in found["entries"]:
        assert 0 <= entry["leak"]["auc"]["low"] <= entry["leak"]["auc"]["value"] <= entry["leak"]["auc"]["high"] <= 1
        assert entry["leak"]["members"] > 50
        assert entry["defense"] in out
        assert entry["recipe"] == f"cifar10/{entry['defense']}"
    page = (tmp_path / "runs" / "compare.html").read_text()
    assert all(name in page for name in names)
