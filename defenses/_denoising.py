"""What the objectives that train a denoiser share."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from advkit.attacks.pgd import PGD
from advkit.core.defense import Objective
from advkit.core.modes import borrowed
from advkit.core.rng import Rng, identify
from advkit.core.threat import Ball
from advkit.core.types import expand
from advkit.errors import InputError

__all__ = ["Denoising", "perturbed"]


@dataclass(frozen=True)
class Denoising(Objective):
    """An objective for networks that give pictures. Labels are not asked; a classifier may guide, and is left as it was."""

    guide: nn.Module | None = field(default=None, init=False, repr=False, compare=False)

    by_agreement: ClassVar[bool] = False
    """Whether it is after the answers of the guide, rather than after the picture."""

    @property
    def needs_guide(self) -> bool:
        """Whether a classifier has to be named by ``guided``."""
        return False

    def guided(self, guide: nn.Module) -> Self:
        """The same objective with a trained classifier, pictures to logits, to ask."""
        own = replace(self)
        object.__setattr__(own, "guide", guide)
        return own

    def of_guide(self, x: Tensor) -> Tensor:
        """The guide's logits (B, K), in eval mode; the gradient passes to x."""
        with borrowed(self.asked) as guide:
            logits: Tensor = guide(x)
            return logits

    @property
    def asked(self) -> nn.Module:
        """The guide. Raises InputError where there is none."""
        if self.guide is None:
            raise InputError(f"{type(self).__name__} asks a trained classifier: name it by guided(model).")
        return self.guide

    def spoiled(self, shown: Tensor, x: Tensor) -> Tensor:
        """What ``examples`` made of the pictures x, as pictures in [0, 1] plus noise."""
        return shown

    def restored(self, model: nn.Module, shown: Tensor, x: Tensor) -> Tensor:
        """What the model makes of them, as pictures, not clipped."""
        return self.cleaned(model, shown, x)

    def cleaned(self, model: nn.Module, shown: Tensor, x: Tensor) -> Tensor:
        """What the model makes of the pictures shown, checked to be like x."""
        answer: Tensor = model(shown)
        if answer.shape != x.shape:
            raise InputError(
                f"{type(self).__name__} trains a network that answers with pictures {tuple(x.shape)}, and this one "
                f"answers {tuple(answer.shape)}; denoisers are trained by advkit train-denoiser."
            )
        return answer.to(x.dtype)


def perturbed(objective: Denoising, x: Tensor, threat: Ball, steps: int, step_size: float, seed: int) -> Tensor:
    """A point between each picture and what PGD makes of it against the guide's own answer.

    Anywhere between: so that a denoiser learns weak perturbations as well, and to leave clean pictures alone.
    """
    with torch.no_grad():
        answered = objective.of_guide(x).argmax(1)
    attack = PGD(threat, steps=steps, step_size=step_size)
    x_adv = attack(objective.asked, x, answered, seed=seed, keep="last", batch_size=len(x))
    share = Rng.of(seed, identify(x)).fold("share").uniform(dtype=x.dtype)
    return x + expand(share, x) * (x_adv - x)
