"""The sections of a recipe that belong to no defense, attack or data set: the split, training, judging, shadow models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar, get_type_hints

from hampkit.errors import UserError

T = TypeVar("T")

MOST_SHADOWS = 10_000  # more is a typing error: the masks alone would fill the memory
LEAST_CANARIES, MOST_CANARIES = 20, 1_000_000
MOST_VIEWS = 18  # an image and its eight shifts, each also mirrored
LARGEST_BATCH = 2**24  # rows; batches are padded to this size in memory
MOST_THREADS = 256  # more is a typing error


@dataclass(frozen=True)
class SplitConfig:
    """Which rows are members, non-members, validation and reference data, for every defense and attack of a recipe.

    Raises: `UserError` for a seed out of its range.
    """

    train_size: int = 0  # T: int(0.9 T) rows are members; 0: the largest T that fits the layout
    layout: str = ""  # default, with-reference, digits, purchase100, texas100, location30 or cifar; empty: by data set
    seed: int = -1  # of the permutation of the rows; -1: the recipe's seed
    permutation: str = ""  # a .npy file with a permutation of the rows, in place of a drawn one; or a pickled array

    def __post_init__(self) -> None:
        if not -1 <= self.seed < 2**63:
            raise UserError(f"split.seed={self.seed} must lie in [0, 2^63), or be -1 to take the recipe's seed")


@dataclass(frozen=True)
class TrainConfig:
    """How a network is trained: optimiser, schedule, choice of the checkpoint. The defaults are for data of one's own.

    Raises: `UserError` for a value out of its range and for two options that exclude each other.
    """

    # the same in all trainings of a recipe, also in those of students and surrogates
    SHARED: ClassVar[tuple[str, ...]] = ("standardize", "retries", "precision", "threads")

    epochs: int = 100  # number of epochs; each makes passes_per_epoch passes over the members
    batch_size: int = 64  # rows
    optimizer: Literal["adam", "sgd"] = "adam"  # how weights are updated
    lr: float = 1e-3  # learning rate
    momentum: float = 0.0  # SGD only
    weight_decay: float = 0.0  # times the weights is added to the gradient, as in torch.optim
    schedule: Literal["constant", "steps", "cosine"] = "constant"  # how the learning rate falls
    milestones: tuple[int, ...] = ()  # epochs (from 0) at whose start the learning rate is multiplied by `decay`
    decay: float = 0.1  # factor of the learning rate at each milestone
    shuffle: bool = True  # False: the same consecutive batches every epoch, as published
    restart_optimizer: bool = False  # True: momentum starts from zero every epoch, as published for HAMP
    passes_per_epoch: int = 1  # over the members, between two measurements of the validation accuracy
    select: Literal["best", "last"] = "best"  # best: the epoch with the highest validation accuracy
    min_delta: float = 0.0  # gain in accuracy (a fraction) that a new best must exceed; published for CIFAR HAMP: 0.01
    standardize: bool = False  # scale features by mean and deviation of each model's own members
    retries: int = 3  # how often a diverged model is trained again with another seed
    precision: Literal["float32", "bfloat16"] = (
        "float32"  # of matrix products in training; weights and update stay float32
    )
    stop_after: int = 0  # stop after this many epochs, with the schedule of all of them; 0: train all epochs
    patience: int = 0  # stop once the validation accuracy has not risen for this many epochs; 0: never
    sampling: Literal["shuffle", "poisson"] = (
        "shuffle"  # poisson: each row enters each batch independently, as DP-SGD's accounting assumes
    )
    augment: tuple[Literal["flip", "shift"], ...] = ()  # of images, drawn anew for every batch
    threads: int = 0  # that torch computes with on a CPU, also in answers and attacks; 0: 1 for tables, 2 for images

    def __post_init__(self) -> None:
        self._check_counts()
        self._check_rates()
        if self.patience and self.select == "last":
            raise UserError(
                f"train.patience={self.patience} stops by the validation accuracy and needs train.select=best"
            )
        if self.milestones and self.schedule != "steps":
            raise UserError(f"train.milestones={list(self.milestones)} needs train.schedule=steps, not {self.schedule}")

    def with_defaults(self, **options: Any) -> TrainConfig:
        """Another training of the same recipe: these options, what is `SHARED` from here, and defaults for the rest."""
        return TrainConfig(**{name: getattr(self, name) for name in self.SHARED}, **options)

    def _check_counts(self) -> None:
        lowest = {"epochs": 1, "batch_size": 1, "passes_per_epoch": 1, "retries": 0, "stop_after": 0, "patience": 0}
        for name, low in lowest.items():
            if getattr(self, name) < low:
                raise UserError(f"train.{name}={getattr(self, name)} must be at least {low}")
        if not 0 <= self.threads <= MOST_THREADS:
            raise UserError(
                f"train.threads={self.threads} must lie between 1 and {MOST_THREADS}, or be 0 for the usual number"
            )
        if self.batch_size > LARGEST_BATCH:
            raise UserError(
                f"train.batch_size={self.batch_size} must be at most {LARGEST_BATCH}; the number of members is enough"
            )

    def _check_rates(self) -> None:
        for name in ("lr", "decay"):
            if not getattr(self, name) > 0:
                raise UserError(f"train.{name}={getattr(self, name)} must be above 0")
        if not 0 <= self.momentum < 1:
            raise UserError(f"train.momentum={self.momentum} must lie in [0, 1)")
        if self.weight_decay < 0 or self.min_delta < 0:
            raise UserError(
                f"train.weight_decay={self.weight_decay} and train.min_delta={self.min_delta} must not be negative"
            )


def _overrides_of(config: type) -> Callable[[type[T]], type[T]]:
    """Class decorator: a frozen dataclass with every field of ``config`` but the `SHARED` ones, None by default."""

    def decorate(cls: type[T]) -> type[T]:
        hints = get_type_hints(config)
        names = [f.name for f in fields(config) if f.name not in config.SHARED]
        cls.__annotations__ = {name: hints[name] | None for name in names}
        for name in names:
            setattr(cls, name, field(default=None, metadata={"about": f"none: as train.{name}"}))
        return dataclass(frozen=True)(cls)

    return decorate


@_overrides_of(TrainConfig)
class TrainOverrides:
    """The options of `TrainConfig` that another training of the same recipe sets, such as a student's.

    An option that is None is taken from ``train``.
    """

    if TYPE_CHECKING:

        def __init__(self, **options: Any) -> None: ...

    def of(self, train: TrainConfig) -> TrainConfig:
        """``train`` with these options in place of its own.

        Raises: `UserError` that names the option as one of ``defense.distill``.
        """
        try:
            return replace(train, **{name: value for name, value in vars(self).items() if value is not None})
        except UserError as error:
            raise UserError(str(error).replace("train.", "defense.distill.")) from None


@dataclass(frozen=True)
class JudgeConfig:
    """The options of judging: what the adversary knows, which examples are judged, and how rates are read off.

    Raises: `UserError` for shares out of their range.
    """

    known_train: float = 0.45  # share of members and of non-members that are known to the adversary, for fitting
    known_val: float = 0.05  # the same, for choosing a checkpoint
    candidates: Literal["held-out", "all"] = "held-out"  # all: the known rows too, as published for threshold attacks
    strict: bool = False  # True: false-positive rate strictly below the target FPR, as published
    copies: Literal["leave-out", "keep"] = (
        "leave-out"  # one of several rows with equal features is judged, a member if any is; keep: all, as published
    )

    def __post_init__(self) -> None:
        if not (0 < self.known_train < 1 and 0 < self.known_val < 1 and self.known_train + self.known_val < 1):
            raise UserError(
                f"judge.known_train={self.known_train} and judge.known_val={self.known_val} must be above 0"
                " and add up to less than 1"
            )


@dataclass(frozen=True)
class ShadowConfig:
    """Shadow models: the same recipe, trained on random halves of members and non-members.

    Raises: `UserError` for a value out of its range.
    """

    models: int = 0  # an even number of at least 4; 0: none
    scheme: Literal["paired", "published"] = (
        "paired"  # paired: model 2i+1 is trained on the examples that 2i is not; published: sizes differ
    )
    seed: int = 0  # of the masks; the same for all defenses, so that their shadow models see the same examples
    keep_models: Literal["auto", "yes", "no"] = (
        "auto"  # keep the weights, so that a later attack can ask them more; auto: if they take at most keep_gb
    )
    keep_gb: float = 2.0  # GB that the weights of all shadow models may take with keep_models=auto
    views: int = 1  # queries per example; above 1: an image, its mirror image and shifts of both, at most 18

    def __post_init__(self) -> None:
        if self.models and (not 4 <= self.models <= MOST_SHADOWS or self.models % 2):
            raise UserError(
                f"shadows.models={self.models} must be an even number from 4 to {MOST_SHADOWS}: each example is in half of them"
            )
        if not 0 <= self.seed < 2**63:
            raise UserError(f"shadows.seed={self.seed} must lie in [0, 2^63)")
        if not 0 <= self.keep_gb < 1e6:
            raise UserError(f"shadows.keep_gb={self.keep_gb} must be a number of GB, at least 0")
        if not 1 <= self.views <= MOST_VIEWS:
            raise UserError(f"shadows.views={self.views} must lie between 1 and {MOST_VIEWS}")


@dataclass(frozen=True)
class CanaryConfig:
    """Canaries: records that are made to be remembered, each in the training data by a fair coin, on which attacks are judged.

    Raises: `UserError` for a value out of its range.
    """

    count: int = 0  # K; 0: none, attacks are judged on members and non-members of the data set
    kind: Literal["mislabelled", "out-of-support", "near-duplicate", "blank"] = (
        "mislabelled"  # how they are made; blank: images only
    )
    seed: int = 0  # of inputs, labels and coins; the same for all defenses

    def __post_init__(self) -> None:
        if self.count and not LEAST_CANARIES <= self.count <= MOST_CANARIES:
            raise UserError(
                f"canaries.count={self.count} must lie between {LEAST_CANARIES} and {MOST_CANARIES}, or be 0 for none"
            )
        if not 0 <= self.seed < 2**63:
            raise UserError(f"canaries.seed={self.seed} must lie in [0, 2^63)")


# the sections of a recipe that belong to no class of a registry, in the order in which they are listed
SECTIONS = {
    "split": SplitConfig,
    "train": TrainConfig,
    "judge": JudgeConfig,
    "shadows": ShadowConfig,
    "canaries": CanaryConfig,
}
