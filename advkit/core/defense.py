"""What a defense is: an objective to train with, a modifier of one, a wrapper in front of a model, a certifier (and a
detector, see advkit.core.detector).

All are frozen values. Pictures are (B, C, H, W) in [0, 1]; randomness is keyed by the picture, never by the batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple, Self

import torch
from torch import Tensor, nn

from advkit.core.rng import Rng, identify
from advkit.errors import InputError
from advkit.registry import Checked

__all__ = [
    "Backward",
    "Certificate",
    "Certifier",
    "Modifier",
    "Objective",
    "RandomWrapper",
    "StraightThrough",
    "Wrapper",
    "hard",
    "instead",
]

Backward = Literal["exact", "straight-through", "surrogate"]
"""How the gradient passes a wrapper: its own, as if it were not there (BPDA, Athalye et al. 2018), or that of a smooth
function that stands for it."""


class Objective(Checked, ABC):
    """What training minimises: a frozen value with two halves, the pictures to be shown and the loss on them.

    The engine's loop calls ``examples`` first, outside of any gradient, then ``loss`` inside ``disturbed``, and takes the
    gradient with respect to the weights. Calling the value does both, for those who write their own loop.
    """

    replays: int = 1
    """How many times in a row each batch is met, with a step of the optimiser each time (free adversarial training)."""

    wants_gradient: ClassVar[bool] = False
    """The gradient of the loss with respect to the pictures shown is wanted too, for ``remember``."""

    def examples(self, model: nn.Module, x: Tensor, y: Tensor, seed: int, memory: Tensor | None = None) -> Tensor:
        """What the loss is taken on besides x: adversarial, noisy or cut pictures, of any shape; here x itself.

        ``y`` (B,) are class numbers; ``seed`` is new in every step; ``memory`` is what ``remember`` gave last, if of B rows.
        The model may be called, and is left as it was.
        """
        return x

    @abstractmethod
    def loss(self, model: nn.Module, x: Tensor, shown: Tensor, y: Tensor) -> Tensor:
        """The scalar loss, a mean over the batch. ``y`` are class numbers (B,), or probabilities (B, K) where labels are
        smoothed or mixed; F.cross_entropy takes both, ``hard`` makes numbers of them."""

    def disturbed(self, model: nn.Module, x: Tensor, shown: Tensor, y: Tensor) -> AbstractContextManager[None]:
        """Holds while the loss and its gradient are taken; weights that it moves are moved back at its end (AWP)."""
        return nullcontext()

    def remember(self, x: Tensor, shown: Tensor, grad: Tensor) -> Tensor | None:
        """What the next batch's ``examples`` is given as memory; ``grad`` is like ``shown``. Asked if ``wants_gradient``."""
        return None

    def at(self, done: float) -> Self:
        """The objective as it is when this share of the training is done, from 0 to 1: ramps and warm-ups."""
        return self

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, seed: int) -> Tensor:
        """The scalar loss of a batch x (B, C, H, W), y (B,); ``seed`` is new in every step of the training."""
        shown = self.examples(model, x, y, seed)
        with self.disturbed(model, x, shown, y):
            return self.loss(model, x, shown, y)


def hard(y: Tensor) -> Tensor:
    """Class numbers (B,) of labels that may be probabilities (B, K)."""
    return y.argmax(1) if y.ndim == 2 else y


class Modifier(Checked, ABC):
    """What changes another objective: a frozen value (``trades+awp`` is the modifier awp on the objective trades)."""

    @abstractmethod
    def __call__(self, objective: Objective) -> Objective:
        """The objective, changed."""


class Wrapper(Checked, ABC):
    """What stands in front of a model when it is used: a frozen value that maps pictures to pictures."""

    backward: ClassVar[Backward] = "exact"

    @abstractmethod
    def __call__(self, x: Tensor) -> Tensor:
        """Pictures (B, C, H, W) in [0, 1] as the model is to see them; each by itself, whatever else is in the batch."""

    def surrogate(self, x: Tensor) -> Tensor:
        """The smooth function whose gradient stands for this one's where ``backward`` is "surrogate"."""
        raise NotImplementedError(f"{type(self).__name__} declares a surrogate and has none")


@dataclass(frozen=True)
class RandomWrapper(Wrapper):
    """A wrapper that draws. The model behind it answers with the mean of its probabilities over several draws.

    ``draws`` are averaged for an answer, and ``eot`` for the gradient that an attack is told (0: as many): expectation over
    transformation (Athalye et al. 2018). The draws of an attack and those of a verdict are different ones.
    """

    draws: int = 8
    eot: int = 0

    @abstractmethod
    def drawn(self, x: Tensor, rng: Rng) -> Tensor:
        """One draw for each picture, from ``rng``'s streams (B,); pictures as from ``__call__``."""

    def drawn_surrogate(self, x: Tensor, rng: Rng) -> Tensor:
        """As ``surrogate``, under the same draw."""
        raise NotImplementedError(f"{type(self).__name__} declares a surrogate and has none")

    def __call__(self, x: Tensor) -> Tensor:
        """One draw, keyed by the picture."""
        return self.drawn(x, Rng.of(0, identify(x)))


class StraightThrough(nn.Module):
    """A step of a network that has no gradient of use, to the bit, with another's gradient (BPDA, Athalye et al. 2018).

    ``nn.Sequential(StraightThrough(rounding), net)`` can be attacked and trained through. The gradient is that of
    ``surrogate``, a smooth function that stands for ``step``; without one it passes as if the step were not there. What
    stands in front of a whole model may be a ``Wrapper`` with a ``backward`` of its own instead.
    """

    def __init__(self, step: Callable[[Tensor], Tensor], surrogate: Callable[[Tensor], Tensor] | None = None) -> None:
        super().__init__()
        self.step, self.surrogate = step, surrogate  # modules among them are registered

    def forward(self, x: Tensor) -> Tensor:
        """The step's answer. Raises InputError where the gradient's shape does not fit it."""
        with torch.no_grad():
            value = self.step(x)
        if not (torch.is_grad_enabled() and x.requires_grad):
            return value
        smooth = x if self.surrogate is None else self.surrogate(x)
        if smooth.shape != value.shape:
            raise InputError(
                f"StraightThrough: the step makes {tuple(value.shape)} of {tuple(x.shape)}, and what stands for it "
                f"{tuple(smooth.shape)}; give a surrogate whose answers have the step's shape."
            )
        return instead(smooth, value)


def instead(smooth: Tensor, value: Tensor) -> Tensor:
    """``value``, to the bit, with the gradient of ``smooth``, a tensor of the same shape."""
    return _Instead.apply(smooth, value)  # type: ignore[no-any-return]


class _Instead(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, smooth: Tensor, value: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx: object, grad: Tensor) -> tuple[Tensor, None]:
        return grad, None


class Certificate(NamedTuple):
    """What is known for certain of B examples."""

    prediction: Tensor  # (B,) int64; -1 where it abstains
    radius: Tensor  # (B,) float64: no change smaller than this changes the prediction; 0 where nothing is known
    forwards: Tensor  # (B,) int64: passes that it took


class Certifier(Checked, ABC):
    """What proves of a prediction that nothing within a radius changes it: a frozen value."""

    norm: ClassVar[str] = "l2"
    """In what the radius is measured: l2, l1, linf, or ``patch`` (side in pixels of a square anywhere in the picture)."""

    radii: tuple[float, ...] = ()
    """Where not empty, only whether the radius reaches each of these is asked, and work may end once that is sure."""

    @abstractmethod
    def certify(self, model: nn.Module, x: Tensor, rng: Rng, batch_size: int) -> Certificate:
        """Certificates for x (B, C, H, W). ``model`` is borrowed, in eval mode; at most ``batch_size`` rows are asked at once.

        ``rng`` has a stream for each example: the same certificate alone and in any batch.
        """

    def predict(self, model: nn.Module, x: Tensor, rng: Rng, batch_size: int) -> Tensor:
        """(B,) what the defended model answers, -1 where it abstains; the certificate is about this answer."""
        with torch.no_grad():
            return self.certify(model, x, rng, batch_size).prediction

    def searched(self, model: nn.Module) -> nn.Module:
        """What an attack on the defended model asks: pictures to logits, with a gradient. Here the model itself."""
        return model

    def sharpened(self, alpha: float, draws: int) -> Self:
        """The same, but its ``predict`` errs with a probability of ``alpha`` at most, and draws so often.

        One that proves and does not test is never wrong, and stays as it is.
        """
        return self
