"""The code of a defense, an attack or a network is part of a run's identity: an edited one gives no old numbers."""

import sys
from pathlib import Path

import pytest

import hampkit
from hampkit import UserError
from hampkit.code_hash import _hash_of, code_of
from hampkit.config.recipe import load_recipe

OPTIONS = {"rows": 300, "features": 16, "classes": 3, "epochs": 1, "net": "mlp-small"}
ATTACK = """
from dataclasses import dataclass
from hampkit import signals
from hampkit.attacks.base import Attack

@dataclass(frozen=True)
class Mine(Attack):
    '''Loss.'''
    name = "mine-for-test"
    paper = "https://example.org"
    reference = "Nobody"
    def score(self, evidence):
        return 1 * signals.scaled_logit(evidence.logits[:, 0], evidence.y)
"""
SIGNAL = """
from dataclasses import dataclass
from hampkit.attacks.base import SignalAttack

@dataclass(frozen=True)
class Mine(SignalAttack):
    '''Loss.'''
    name = "mine-for-test"
    paper = "https://example.org"
    reference = "Nobody"
    def score_signals(self, target, background, shadows):
        return 1 * target[:, 0]
"""
DEFENSE = """
from dataclasses import dataclass
from hampkit.defenses.base import Defense, Models
from hampkit.training import MeanLoss
from torch.nn.functional import cross_entropy

@dataclass(frozen=True)
class Mine(Defense):
    '''Cross-entropy.'''
    name = "mine-for-test"
    paper = "https://example.org"
    def fit(self, task, trainer):
        return Models(trainer.fit(task, MeanLoss(lambda z, b: 1.0 * cross_entropy(z, b.y, reduction="none"))))
"""


@pytest.fixture
def edited(plugin):
    """Lay a file into a package, in place of the one of that name, as a new process would find it."""

    def lay(package, text):
        sys.modules.pop(f"hampkit.{package}.mine_for_test", None)
        plugin(package, "mine_for_test", text)

    return lay


def test_comments_docstrings_and_layout_do_not_count_and_code_does():
    text = 'import os\n\n\ndef f(x):\n    """Says."""\n    return x + 1  # one\n'
    assert _hash_of(text) == _hash_of("import os  # why\ndef f(x):\n    return (x + 1)")
    assert _hash_of(text) != _hash_of(text.replace("1", "2"))
    assert _hash_of("def f(x, /): return f'{x!r:>3}'") == "4645c68b", "no version of Python may change it"


@pytest.mark.parametrize(("text", "found"), [(ATTACK, "target"), (SIGNAL, "leave-one-out")])
def test_an_edited_attack_is_made_again_and_an_edited_comment_is_not(edited, tmp_path, text, found):
    shadows = 4 if text is SIGNAL else 0

    def aucs(text):
        edited("attacks", text)
        attacks = ["mine-for-test"]
        results = hampkit.run(
            "toy/undefended", options=OPTIONS, attacks=attacks, runs_dir=tmp_path, shadows=shadows, workers=1
        )
        steps = {str(p) for p in tmp_path.rglob("mine-for-test-*") if ".partial" not in str(p)}
        return [r.auc.value for m in results.models for r in m.of(found)], steps

    first, steps = aucs(text)
    assert aucs(text + "# a comment\n") == (first, steps)
    turned, more = aucs(text.replace("1 *", "-1 *"))
    assert turned == pytest.approx([1 - auc for auc in first])
    assert len(more) == 2 * len(steps)
    assert len({p.name for p in tmp_path.glob("toy-*")}) == 1, "the model is the same"


def test_an_edited_defense_is_another_run_and_the_old_one_is_not_attacked_with_it(edited, tmp_path):
    def train(text):
        edited("defenses", text)
        return hampkit.train("toy/mine-for-test", options=OPTIONS, runs_dir=tmp_path).folder

    old = train(DEFENSE)
    assert train(DEFENSE + "# a comment\n") == old
    assert hampkit.attack(old, "loss").models
    new = train(DEFENSE.replace("1.0 *", "0.5 *"))
    assert new != old
    with pytest.raises(UserError, match=r"source of defense mine-for-test has changed since .* was trained"):
        hampkit.attack(old, "loss")


def test_shadow_models_of_other_code_are_refused(edited, tmp_path):
    edited("defenses", DEFENSE)
    lender = hampkit.shadow("toy/mine-for-test", 4, options=OPTIONS, workers=1, runs_dir=tmp_path)
    edited("defenses", DEFENSE.replace("1.0 *", "0.5 *"))
    with pytest.raises(UserError, match=r"trained differently.*code\.defense is"):
        hampkit.run("toy/mine-for-test", options=OPTIONS, shadows_from=lender, runs_dir=tmp_path)


def test_an_edited_network_of_ones_own_is_another_run(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))

    def folder(text):
        sys.modules.pop("codednets_for_test", None)
        Path(tmp_path / "codednets_for_test.py").write_text(text)
        return load_recipe("toy/hamp", {"net": "codednets_for_test:net"}).folder()

    text = "from torch import nn\n\ndef net(): return nn.Linear(16, 3)\n"
    first = folder(text)
    assert folder(text + "# a comment\n") == first
    assert folder(text.replace("nn.Linear(16, 3)", "nn.Sequential(nn.Linear(16, 3))")) != first


def test_what_has_no_source_is_left_out():
    assert code_of(len) == ""
    assert code_of(type("Made", (), {"__module__": "no_such_module"})) == ""
    assert load_recipe("toy/hamp").code().keys() == {"defense"}
