"""How long, how fast and on what pictures a network is trained: one frozen value, and the learning rate of each step."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields

from advkit.engine.training.augment import read_augmentation
from advkit.errors import InputError, UnknownName
from advkit.registry import Checked

__all__ = ["OPTIMIZERS", "SCHEDULES", "Recipe", "learning_rate"]

OPTIMIZERS = ("adamw", "sgd")


@dataclass(frozen=True)
class Recipe(Checked):
    """How long and how fast: by default SGD with Nesterov momentum under a one-cycle learning rate (Smith & Topin 2018).

    Raises InputError for settings that cannot be followed.
    """

    epochs: int = 15
    batch_size: int = 128  # examples per step of one process; two processes take twice as many
    learning_rate: float = 0.1  # the schedule's highest
    weight_decay: float = 5e-4  # of weights; biases and norms have none
    shift: int = 2  # pixels by which the augmentation "shift" moves pictures
    seed: int = 0
    bfloat16: bool = True  # autocast; the weights stay in float32
    optimizer: str = "sgd"
    momentum: float = 0.9  # AdamW: its first beta
    nesterov: bool = True
    schedule: str = "one-cycle"
    milestones: str | Sequence[float] = ()  # epochs at which a piecewise rate falls
    gamma: float = 0.1  # by what it is multiplied there
    warmup: float = 0.0  # epochs in which the rate rises from 0, where the schedule has no rise of its own
    ema: float = 0.0  # decay of the running mean of the weights; 0: none
    label_smoothing: float = 0.0  # the share of a label that goes to all classes alike
    augment: str = "shift"  # a chain such as crop+flip+cutmix, or none
    clip_norm: float = 0.0  # the longest gradient; 0: any
    accumulate: int = 1  # parts in which a batch is taken, for networks that do not fit with a whole one
    validation: int | None = None  # examples held out; None: a tenth of all, 512 at most
    patience: int = 0  # epochs without a better one before the training stops; 0: it never does
    stop_on_alarm: bool = False  # stop at the first sign of catastrophic overfitting

    def __post_init__(self) -> None:
        object.__setattr__(self, "milestones", _milestones(self.milestones))
        for name in ("epochs", "batch_size", "learning_rate", "accumulate", "gamma"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"{name} is {getattr(self, name)}; give a number above 0.")
        if self.batch_size < 2:
            raise InputError(f"batch_size is {self.batch_size}; give 2 or more: BatchNorm has no variance of one.")
        for name in ("shift", "weight_decay", "warmup", "clip_norm", "patience", "seed"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"{name} is {getattr(self, name)}; give 0 or more.")
        for name in ("momentum", "ema", "label_smoothing"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; give 0 or more, below 1.")
        if self.optimizer not in OPTIMIZERS:
            raise UnknownName("optimizer", self.optimizer, OPTIMIZERS)
        if self.schedule not in SCHEDULES:
            raise UnknownName("schedule", self.schedule, SCHEDULES)
        if self.warmup and self.schedule in ("one-cycle", "cyclic"):
            raise InputError(
                f"warmup is {self.warmup}, and the schedule {self.schedule} rises by itself; leave it out."
            )
        if bool(self.milestones) != (self.schedule == "piecewise"):
            raise InputError(
                "the schedule piecewise falls at milestones; give both, such as --schedule piecewise --milestones 100,150."
            )
        if self.validation is not None and self.validation < 0:
            raise InputError(f"validation is {self.validation}; give the number of examples to hold out, 0 for none.")
        read_augmentation(self.augment)

    def settings(self) -> Mapping[str, object]:
        """Every field by name, as JSON holds it."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return values | {"milestones": list(self.milestones)}


def learning_rate(recipe: Recipe, step: int, total: int) -> float:
    """The rate of a step (from 0) of ``total``: a function of these alone, so that a resumed training goes on as it was."""
    warm = recipe.warmup / recipe.epochs * total
    if step < warm:
        return recipe.learning_rate * (step + 1) / (warm + 1)
    return recipe.learning_rate * SCHEDULES[recipe.schedule](recipe, step, total)


def _one_cycle(recipe: Recipe, step: int, total: int) -> float:
    """From 1/25 up to the highest in three tenths of the steps, then down to 1/250,000 of it, on half cosines."""
    top = 0.3 * total - 1
    if step <= top:
        return _anneal(1 / 25, 1.0, step / top)
    return _anneal(1.0, 1 / 250_000, (step - top) / (total - 1 - top))


def _cyclic(recipe: Recipe, step: int, total: int) -> float:
    """Up from 0 to the highest at the middle and down again, on straight lines (Wong et al. 2020)."""
    done = (step + 1) / (total + 1)
    return 1 - abs(2 * done - 1)


def _cosine(recipe: Recipe, step: int, total: int) -> float:
    """From the highest to 0 on half a cosine (Loshchilov & Hutter 2017), after the warm-up."""
    warm = recipe.warmup / recipe.epochs * total
    return _anneal(1.0, 0.0, (step - warm) / max(1.0, total - warm))


def _piecewise(recipe: Recipe, step: int, total: int) -> float:
    """Multiplied by gamma at each milestone."""
    epoch = step * recipe.epochs / total
    return float(recipe.gamma ** sum(epoch >= float(milestone) for milestone in recipe.milestones))


def _constant(recipe: Recipe, step: int, total: int) -> float:
    return 1.0


SCHEDULES: dict[str, Callable[[Recipe, int, int], float]] = {
    "constant": _constant,
    "cosine": _cosine,
    "cyclic": _cyclic,
    "one-cycle": _one_cycle,
    "piecewise": _piecewise,
}


def _anneal(first: float, last: float, done: float) -> float:
    return last + (first - last) * (1 + math.cos(math.pi * done)) / 2


def _milestones(given: str | Sequence[float]) -> tuple[float, ...]:
    try:
        numbers = tuple(float(one) for one in (given.split(",") if isinstance(given, str) and given else given))
    except ValueError:
        numbers = (-1.0,)
    if any(not 0 < number < math.inf for number in numbers) or list(numbers) != sorted(set(numbers)):
        raise InputError(f"milestones are {given!r}; give rising epochs, such as 100,150.")
    return numbers
