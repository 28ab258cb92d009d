"""Unknown keys, options and commands are answered with those that were probably meant, wherever they are given."""

from pathlib import Path

import pytest
import typer

import hampkit
from hampkit.catalog import stored
from hampkit.cli.app import app
from hampkit.cli.options import AUDIT_FLAGS, FLAGS
from hampkit.config.keys import sections_of, similar_keys
from hampkit.config.sections import SECTIONS
from hampkit.errors import UserError

WORDS = {
    "run toy/hamp epoch=3": "unknown key 'epoch' in epoch=3; did you mean 'epochs'? 'epoch' is an option of early-stopping",
    "run toy/hamp epoks=3": "did you mean 'epochs'?",
    "run toy/hamp train.epoch=3": "did you mean 'train.epochs'?",
    "run toy/hamp trian.epochs=3": "did you mean 'train.epochs'?",
    "run toy/hamp neural.epoch=3": "did you mean 'neural.epochs'?",
    "run toy/hamp neurl.epochs=3": "did you mean 'neural.epochs'?",
    "run toy/hamp defense.gama=1": "did you mean 'defense.gamma'?",
    "run toy/selena distil.epoch=3": "did you mean 'defense.distill.epochs'?",
    "run toy/hamp strickt=true": "did you mean 'strict'?",
    "run toy/hamp split=3": "it is a section; its keys are split.layout,",
    "run toy/hamp workers=2": "workers=2 is no option of a recipe or an attack; write --workers 2",
    "compare toy seeds=2": "write --seeds 2",
    "compare toy epoch=3": "",  # an option of early-stopping
    "compare toy epoks=3": "did you mean 'epochs'?",
    "plan toy/hamp --shadows 4 epoch=2": "did you mean 'epochs'?",
    "shadow toy/hamp --models 4 epoch=2": "did you mean 'epochs'?",
    "list recipes toy/hamp epoch=3": "did you mean 'epochs'?",
    "run toy/hamp --shadow 4": "no such option --shadow; did you mean '--shadows' or '--shadows-from'?",
    "shadow toy/hamp --model 4": "no such option --model; did you mean '--models'",
    "compare toy --defense hamp": "did you mean '--defenses'?",
    "run toy/hamp --epochs 3": "options of recipes and attacks are written without dashes: epochs=3",
    "rnu toy/hamp": "no such command 'rnu'; did you mean 'run'?",
    "data chek toy": "no such command 'chek'; did you mean 'check'?",
}
FILES = {
    'data = "toy"\ndefense = "hamp"\n[train]\nepoch = 3\n': "did you mean 'epochs'?",
    'data = "toy"\ndefense = "hamp"\n[trian]\nepochs = 3\n': "did you mean 'train'?",
    'data = "toy"\ndefense = "hamp"\n[attacks.neural]\nepoch = 3\n': "did you mean 'epochs'?",
    'data = "toy"\ndefense = "hamp"\n[attacks.neurl]\nepochs = 3\n': "did you mean 'neural'?",
    'data = "toy"\n[defense]\nname = "hamp"\ngama = 3\n': "did you mean 'gamma'?",
    'data = "toy"\ndefense = "hamp"\nepochs = 3\n': "it belongs into the section [train]",
    'data = "toy"\ndefense = "hamp"\nmodels = 4\n': "it belongs into the section [shadows]",
    'data = "toy"\n[defense]\nname = "selena"\n[defense.distill]\nepoch = 3\n': "did you mean 'epochs'?",
}


@pytest.mark.parametrize("line", [line for line, meant in WORDS.items() if meant])
def test_on_the_command_line(cli, refused, nothing_written, line):
    refused(cli(*line.split()), WORDS[line])
    nothing_written()


@pytest.mark.parametrize("text", FILES)
def test_in_a_recipe_file(cli, refused, text):
    Path("mine.toml").write_text(text)
    refused(cli("run", "mine.toml"), FILES[text])


def test_in_python():
    with pytest.raises(UserError, match="did you mean 'epochs'"):
        hampkit.run("toy/hamp", options={"epoks": 3})
    with pytest.raises(UserError, match="did you mean 'gamma'"):
        hampkit.recipe("toy/hamp", gama=0.3)
    with pytest.raises(TypeError, match=r"run\(\) got an unexpected keyword argument 'shadow'; did you mean 'shadows'"):
        hampkit.run("toy/hamp", shadow=4)  # pyright: ignore[reportCallIssue]
    with pytest.raises(TypeError, match="'worker'; did you mean 'workers'"):
        hampkit.compare("toy", worker=4)  # pyright: ignore[reportCallIssue]


def test_options_of_a_trained_run():
    from hampkit.workflows.recipes import attack_options

    meant_keys = {"neurl.epochs": "'neural.epochs'", "strickt": "'strict'", "judge.strickt": "'judge.strict'"}
    for key, meant in meant_keys.items():
        with pytest.raises(UserError, match=f"did you mean {meant}"):
            attack_options({key: 1})


def test_keys_that_differ_in_many_letters_are_not_offered():
    assert similar_keys("learning_rate", ["train.lr", "train.decay"]) == []
    assert similar_keys("epoch", ["train.epochs", "attacks.neural.epochs"]) == ["epochs"]
    assert similar_keys("sed", ["data.seed", "split.seed"]) == ["data.seed", "split.seed"], "neither alone is a key"
    assert [name for name in SECTIONS if sections_of("seed") and name in sections_of("seed")] == [
        "split",
        "shadows",
        "canaries",
    ]


def test_every_option_of_a_command_is_a_key_or_is_explained():
    """An option that is written as KEY=VALUE either works or is answered with its dashes."""
    found = stored()
    assert found is not None
    keys = {part for g in found.options for key, _ in g.lines for part in key.partition("=")[0].split(".")}
    command: object = typer.main.get_command(app)
    options = {
        opt.lstrip("-").replace("-", "_")
        for sub in command.commands.values()  # pyright: ignore[reportAttributeAccessIssue]
        for param in sub.params
        for opt in param.opts
        if opt.startswith("--")
    }
    assert options - keys - {"help"} <= FLAGS | AUDIT_FLAGS
    assert not {k for k in FLAGS if k in keys} - {"shadows", "canaries"}
