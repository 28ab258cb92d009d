"""What the documentation shows is run."""

import re
import textwrap
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)


def blocks(name):
    return BLOCK.findall((ROOT / name).read_text("utf-8"))


@pytest.mark.parametrize("k", range(2))
def test_readme_code_runs(k, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    exec(compile(blocks("README.md")[k], f"README block {k}", "exec"), {"__name__": "readme"})


def test_the_training_loop_of_the_readme_is_under_15_lines():
    assert len(blocks("README.md")[1].strip().splitlines()) < 15


PREAMBLE = """
from dataclasses import dataclass
from typing import ClassVar
from torch import Tensor
from torch.nn.functional import cross_entropy
from hampkit import signals
from hampkit.attacks import Attack, Evidence
from hampkit.defenses import Defense, Models
from hampkit.training import MeanLoss, Trainer
from hampkit.types import Task
"""


def test_the_defense_and_the_attack_of_contributing_work(task, short):
    from hampkit.training import Trainer

    names: dict = {"__name__": "contributing"}
    exec(PREAMBLE, names)
    for block in blocks("CONTRIBUTING.md"):
        exec(textwrap.dedent(block), names)
    defense, attack = names["ConfidencePenalty"](beta=0.2), names["Hinge"]()
    stacked, alone = (defense.fit(task, Trainer(short, width=w)).stack for w in (8, 1))
    for key, value in stacked.params.items():
        assert torch.allclose(value, alone.params[key], rtol=1e-4, atol=1e-5), key
    logits = torch.randn(50, 1, 4, dtype=torch.float64)
    assert attack(names["Evidence"](task.pool.x[:50], task.pool.y[:50], logits)).shape == (50,)


def test_recipes_and_version_are_described():
    import hampkit

    assert f"({hampkit.__version__})" in (ROOT / "CHANGELOG.md").read_text()
    assert "make run" in (ROOT / "README.md").read_text()
