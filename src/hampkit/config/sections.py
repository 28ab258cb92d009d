"""The sections of a recipe that no defense, attack or data set owns: who is a member, how to train, how to judge."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Literal

from hampkit.errors import UserError

MOST_SHADOWS = 10_000  # more is a slip of the finger: the masks alone would fill the memory
MOST_VIEWS = 18  # with and without mirroring: an image and its eight shifts
LARGEST_BATCH = 2**24  # rows; batches are padded to their size, and nobody has the memory for more

MOST_THREADS = 256  # more is a slip of the finger


@dataclass(frozen=True)
class SplitConfig:
    """Who is a member. One table, shared by every component."""

    train_size: int = 0  # T: int(0.9 T) rows are members; 0 takes the largest that fits the layout
    layout: str = (
        ""  # default, with-reference, digits, purchase100, texas100, location30 or cifar; empty: as the data set says
    )
    seed: int = -1  # of the permutation of the rows; -1 takes the recipe's seed
    permutation: str = ""  # a .npy file with a permutation of the rows, instead of a drawn one

    def __post_init__(self) -> None:
        if not -1 <= self.seed < 2**63:
            raise UserError(f"split.seed={self.seed} must lie in [0, 2^63), or be -1 to take the recipe's seed")


@dataclass(frozen=True)
class TrainConfig:
    """How a network is fitted: optimiser, schedule, checkpoint choice. The defaults are for data of one's own."""

    epochs: int = 100  # how often the members are gone through, times passes_per_epoch
    batch_size: int = 64  # rows
    optimizer: Literal["adam", "sgd"] = "adam"  # how weights are updated
    lr: float = 1e-3  # learning rate
    momentum: float = 0.0  # SGD only
    weight_decay: float = 0.0  # added to the gradient, as torch.optim does
    schedule: Literal["constant", "steps", "cosine"] = "constant"  # how the learning rate falls
    milestones: tuple[int, ...] = ()  # epochs (from 0) at whose start the learning rate is multiplied by `decay`
    decay: float = 0.1  # factor of the learning rate at each milestone
    shuffle: bool = True  # False: the same consecutive batches every epoch, as published
    restart_optimizer: bool = False  # True: momentum starts from zero every epoch, as published for HAMP
    passes_per_epoch: int = 1  # over the members, between two looks at the validation accuracy
    select: Literal["best", "last"] = "best"  # best: the epoch with the highest validation accuracy
    min_delta: float = 0.0  # gain in accuracy (a fraction) that a new best must exceed; published for CIFAR HAMP: 0.01
    standardize: bool = False  # scale features by mean and deviation of each model's own members
    retries: int = 3  # how often a diverged model is trained again with another seed
    precision: Literal["float32", "bfloat16"] = (
        "float32"  # of matrix products in training; weights and update stay float32
    )
    stop_after: int = 0  # stop early after so many epochs, the schedule being that of all; 0: go through all
    patience: int = 0  # stop once the validation accuracy has not risen for so many epochs; 0: never
    sampling: Literal["shuffle", "poisson"] = (
        "shuffle"  # poisson: every row enters a batch by its own chance, as DP-SGD's accounting takes for granted
    )
    augment: tuple[Literal["flip", "shift"], ...] = ()  # of images, drawn anew for every batch
    threads: int = 0  # that torch computes with on a CPU, also in answers and attacks; 0: 1 for tables, 2 for images

    def __post_init__(self) -> None:
        lowest = {"epochs": 1, "batch_size": 1, "passes_per_epoch": 1, "retries": 0, "stop_after": 0, "patience": 0}
        for name, low in lowest.items():
            _at_least(f"train.{name}", getattr(self, name), low)
        if not 0 <= self.threads <= MOST_THREADS:
            raise UserError(
                f"train.threads={self.threads} must lie between 1 and {MOST_THREADS}, or be 0 for the usual number"
            )
        if self.batch_size > LARGEST_BATCH:
            raise UserError(
                f"train.batch_size={self.batch_size} must be at most {LARGEST_BATCH}; the number of members is enough"
            )
        for name in ("lr", "decay"):
            if not getattr(self, name) > 0:
                raise UserError(f"train.{name}={getattr(self, name)} must be above 0")
        if not 0 <= self.momentum < 1:
            raise UserError(f"train.momentum={self.momentum} must lie in [0, 1)")
        if self.weight_decay < 0 or self.min_delta < 0:
            raise UserError(
                f"train.weight_decay={self.weight_decay} and train.min_delta={self.min_delta} must not be negative"
            )
        if self.patience and self.select == "last":
            raise UserError(
                f"train.patience={self.patience} watches the validation accuracy and needs train.select=best"
            )
        if self.milestones and self.schedule != "steps":
            raise UserError(f"train.milestones={list(self.milestones)} needs train.schedule=steps, not {self.schedule}")


@dataclass(frozen=True)
class TrainOverrides:
    """What another training of the same recipe does differently, such as a student's; none: as in ``train``."""

    epochs: int | None = None  # as in train
    batch_size: int | None = None  # as in train
    optimizer: Literal["adam", "sgd"] | None = None  # as in train
    lr: float | None = None  # as in train
    momentum: float | None = None  # as in train
    weight_decay: float | None = None  # as in train
    schedule: Literal["constant", "steps", "cosine"] | None = None  # as in train
    milestones: tuple[int, ...] | None = None  # as in train
    decay: float | None = None  # as in train
    shuffle: bool | None = None  # as in train
    restart_optimizer: bool | None = None  # as in train
    passes_per_epoch: int | None = None  # as in train
    select: Literal["best", "last"] | None = None  # as in train
    min_delta: float | None = None  # as in train

    def of(self, train: TrainConfig) -> TrainConfig:
        """The whole of it. Errors: `UserError`."""
        try:
            return replace(train, **{f.name: v for f in fields(self) if (v := getattr(self, f.name)) is not None})
        except UserError as error:  # it is this section that must be mended
            raise UserError(str(error).replace("train.", "defense.distill.")) from None


@dataclass(frozen=True)
class JudgeConfig:
    """How scores become numbers."""

    known_train: float = 0.45  # share of members and of non-members whose membership the adversary knows, for fitting
    known_val: float = 0.05  # the same, for choosing
    candidates: Literal["held-out", "all"] = "held-out"  # all: the known ones too, as published for threshold attacks
    strict: bool = False  # True: false-positive rate strictly below the target FPR, as published
    copies: Literal["leave-out", "keep"] = (
        "leave-out"  # of rows with the same features one is judged, a member if one is; keep: all, as published
    )

    def __post_init__(self) -> None:
        if not (0 < self.known_train < 1 and 0 < self.known_val < 1 and self.known_train + self.known_val < 1):
            raise UserError(
                f"judge.known_train={self.known_train} and judge.known_val={self.known_val} must be above 0"
                " and add up to less than 1"
            )


@dataclass(frozen=True)
class ShadowConfig:
    """Shadow models: the same recipe trained again on other halves of members and non-members."""

    models: int = 0  # an even number from 4 on; 0: none
    scheme: Literal["paired", "published"] = "paired"  # paired: 2i+1 gets what 2i did not; published: sizes differ
    seed: int = 0  # of the masks: equal for all defenses, so that their shadow models see the same examples
    keep_models: bool = False  # keep weights too, not only what the attacks need
    views: int = 1  # queries per example: itself, and of images mirror image and shifts, up to 18

    def __post_init__(self) -> None:
        if self.models and (not 4 <= self.models <= MOST_SHADOWS or self.models % 2):
            raise UserError(
                f"shadows.models={self.models} must be an even number from 4 to {MOST_SHADOWS}: each example is in half of them"
            )
        if not 0 <= self.seed < 2**63:
            raise UserError(f"shadows.seed={self.seed} must lie in [0, 2^63)")
        if not 1 <= self.views <= MOST_VIEWS:
            raise UserError(f"shadows.views={self.views} must lie between 1 and {MOST_VIEWS}")


def _at_least(name: str, value: float, low: float) -> None:
    if value < low:
        raise UserError(f"{name}={value} must be at least {low}")
