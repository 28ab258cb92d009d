"""A folder with a classifier of texts, as transformers saves it, as a foreign model (extra ``hf``).

Nothing is downloaded, weights are read from safetensors only, and code in the folder is never run. Texts become numbers of tokens
here, at the border: these are the inputs that attacks see.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hampkit.errors import UserError, one_line
from hampkit.targets.base import Given
from hampkit.targets.model import Foreign, given_of_answers
from hampkit.targets.model_inputs import Rows
from hampkit.targets.records import names

PREFIX = "hf:"
TOKENIZERS = (
    "tokenizer.json", "vocab.txt", "vocab.json", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "spm.model",
)  # fmt: skip
BATCH = 64  # texts that are asked for at once
LONGEST = 100_000  # tokens; a tokenizer without a limit has a larger one


@dataclass(frozen=True)
class TextModel:
    """A classifier with its tokenizer."""

    folder: Path
    tokenizer: Any
    model: Any

    @property
    def classes(self) -> tuple[str, ...]:
        """(C,) the names of the classes, in the order of the answers."""
        labels = self.model.config.id2label
        return tuple(str(labels[c]) for c in range(len(labels)))


def given_of_texts(found: TextModel, rows: Rows, foreign: Foreign) -> Given:
    """The model's answers about texts; rows: with texts (P,) as inputs.

    Raises: `UserError` for a model that cannot answer.
    """
    tokens, notes = tokenised(found, rows.inputs)
    ids = tokens["input_ids"]
    answers = text_answers(found, tokens)
    classes = found.classes if set(names(rows.labels)) <= set(found.classes) else ()
    rows = replace(rows, x=ids, notes=(*rows.notes, *notes))
    return given_of_answers(foreign, rows, answers, classes, "hf")


def load_text_model(folder: str, device: torch.device) -> TextModel:
    """The model and the tokenizer of a folder.

    Raises: `UserError` for anything but a folder with a whole classifier of texts in safetensors.
    """
    path = Path(folder).expanduser()
    if not path.is_dir():
        raise UserError(
            f"model {PREFIX}{folder} is no folder; give one with config.json, a tokenizer and model.safetensors: nothing is"
            " downloaded"
        )
    if not (path / "config.json").is_file():
        raise UserError(f"{path} has no config.json; give a folder as save_pretrained of transformers writes it")
    if not any(path.glob("*.safetensors")):
        raise UserError(
            f"{path} has no .safetensors file, and other files of weights are not read: loading them can run any code in them;"
            " save the model with save_pretrained, which writes safetensors"
        )
    if not any((path / name).is_file() for name in TOKENIZERS):  # transformers would make one without words
        raise UserError(
            f"{path} has no tokenizer ({', '.join(TOKENIZERS[:3])}, …); save it with the model: save_pretrained"
        )
    try:
        import transformers  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise UserError(f"{PREFIX}{folder} needs transformers; install it: pip install 'hampkit[hf]'") from None
    with _quiet(transformers):
        return _loaded(path, transformers, device)


def _loaded(path: Path, transformers: Any, device: torch.device) -> TextModel:
    local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    classifier = transformers.AutoModelForSequenceClassification
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(str(path), **local)
        model, info = classifier.from_pretrained(str(path), use_safetensors=True, output_loading_info=True, **local)
    except Exception as error:  # transformers raises many
        raise UserError(
            f"cannot read {path}: {one_line(error, named=True)}; it must be a whole classifier of texts of transformers, without"
            " code of its own"
        ) from None
    if missing := sorted(info["missing_keys"]):
        raise UserError(
            f"{path} lacks the weights {missing[0]} and {len(missing) - 1} more, so that its answers would be random; give the"
            " classifier, not the model that it was made of"
        )
    if model.config.problem_type == "multi_label_classification":
        raise UserError(f"{path} gives several labels to one text; an audit needs a classifier with one label")
    if tokenizer.pad_token is None:
        raise UserError(f"the tokenizer of {path} has no padding token; set tokenizer.pad_token and save it")
    return TextModel(path, tokenizer, model.to(device).eval())


def tokenised(found: TextModel, texts: Sequence[str]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The tokens of P texts: ``input_ids`` (P, L) int64, padded, and what else the model takes; and what was done, in words.

    Raises: `UserError` for a tokenizer that fails.
    """
    limits = (found.tokenizer.model_max_length, getattr(found.model.config, "max_position_embeddings", None) or LONGEST)
    longest = int(min(*limits, LONGEST))
    try:
        given = found.tokenizer(
            list(texts),
            padding=True,
            truncation=True,
            max_length=longest,
            return_tensors="pt",
            return_attention_mask=True,
        )
        tokens = {name: value.long() for name, value in given.items()}
    except Exception as error:  # the tokenizer is the user's: it may raise anything
        raise UserError(f"the tokenizer of {found.folder} fails: {one_line(error, named=True)}; mend it") from None
    length = tokens["input_ids"].shape[1]
    notes = [f"each text is given as {length:,} numbers of tokens, padded; attacks see these numbers"]
    if cut := int((tokens["attention_mask"].sum(1) == longest).sum()):
        notes.append(f"{cut:,} texts fill the model's {longest:,} tokens and may have been cut")
    return tokens, tuple(notes)


def text_answers(found: TextModel, tokens: dict[str, Tensor]) -> np.ndarray:
    """The logits (P, C) float64 of the model.

    Raises: `UserError` if it cannot answer.
    """
    parts, device = [], found.model.device
    try:
        with torch.no_grad():
            for start in range(0, len(tokens["input_ids"]), BATCH):
                part = {name: value[start : start + BATCH].to(device) for name, value in tokens.items()}
                parts.append(found.model(**part).logits.double().cpu().numpy())
    except Exception as error:  # the model is the user's: it may raise anything
        raise UserError(
            f"the model in {found.folder} cannot answer: {one_line(error, named=True)}; does the tokenizer belong to it?"
        ) from None
    return np.concatenate(parts)


@contextlib.contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Without progress bars and messages of transformers, which print to standard error; they are as before afterwards."""
    log = transformers.utils.logging
    level, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(level)
        if bars:
            log.enable_progress_bar()
