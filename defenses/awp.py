"""Adversarial weight perturbation: a flatter loss around the weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Self

import torch
import torch.distributed as dist
from torch import Tensor, nn

from advkit.catalog import DEFENSES
from advkit.core.defense import Modifier, Objective
from advkit.defenses._settings import above, share

_TINY = 1e-20  # of the paper's code


@DEFENSES.register("awp", paper="arXiv:2004.05884")
@dataclass(frozen=True)
class AWP(Modifier):
    """The loss at the worst weights nearby, each layer moved by ``gamma`` of its length (Wu et al. 2020)."""

    gamma: float = 0.01  # 0.005 on TRADES
    warmup: float = 0.0  # share of the training before it sets in

    def __post_init__(self) -> None:
        above("awp", gamma=self.gamma)
        share("awp", warmup=self.warmup)

    def __call__(self, objective: Objective) -> Objective:
        """The objective, its loss taken at perturbed weights."""
        return Perturbed(objective, self)


@dataclass(frozen=True)
class Perturbed(Objective):
    """An objective under AWP; everything but the weights that its loss is taken at is the objective's own."""

    objective: Objective
    awp: AWP
    active: bool = True

    @property
    def replays(self) -> int:  # type: ignore[override]
        """The objective's."""
        return self.objective.replays

    @property
    def wants_gradient(self) -> bool:  # type: ignore[override]
        """The objective's."""
        return self.objective.wants_gradient

    def __getattr__(self, name: str) -> object:
        # Only what is not found here comes here. A copy is asked for names before it has any fields.
        if name.startswith("__") or name == "objective":
            raise AttributeError(name)
        return getattr(self.objective, name)

    def examples(self, model: nn.Module, x: Tensor, y: Tensor, seed: int, memory: Tensor | None = None) -> Tensor:
        """The objective's."""
        return self.objective.examples(model, x, y, seed, memory)

    def loss(self, model: nn.Module, x: Tensor, shown: Tensor, y: Tensor) -> Tensor:
        """The objective's, at the weights as they are."""
        return self.objective.loss(model, x, shown, y)

    def remember(self, x: Tensor, shown: Tensor, grad: Tensor) -> Tensor | None:
        """The objective's."""
        return self.objective.remember(x, shown, grad)

    def at(self, done: float) -> Self:
        """The objective as it is then, perturbed once the warm-up is over."""
        return replace(self, objective=self.objective.at(done), active=done >= self.awp.warmup)

    @contextmanager
    def disturbed(self, model: nn.Module, x: Tensor, shown: Tensor, y: Tensor) -> Iterator[None]:
        """Holds with w + gamma ||w|| g / ||g|| in the place of each weight w of more than one axis.

        g is the gradient of the objective's loss, averaged over processes. The parameters themselves are never written:
        their sums with the perturbation, which hand the gradient on to them, stand in their places meanwhile.
        """
        with self.objective.disturbed(model, x, shown, y):
            if not self.active:
                yield
                return
            moved = self._moved(model, x, shown, y)
            with _in_place_of(model, moved):
                yield

    def _moved(self, model: nn.Module, x: Tensor, shown: Tensor, y: Tensor) -> dict[nn.Parameter, Tensor]:
        """The perturbed value of each weight that is."""
        weights = [
            parameter
            for name, parameter in model.named_parameters()
            if parameter.requires_grad and parameter.ndim > 1 and "weight" in name
        ]
        moved = {}
        for weight, grad in zip(weights, self._ascent(model, weights, x, shown, y), strict=True):
            with torch.no_grad():
                change = self.awp.gamma * (weight.norm() / (grad.norm() + _TINY) * grad)
            with torch.enable_grad():
                moved[weight] = weight + change
        return moved

    def _ascent(
        self, model: nn.Module, weights: list[nn.Parameter], x: Tensor, shown: Tensor, y: Tensor
    ) -> list[Tensor]:
        """The gradient of the objective's loss. Statistics that a pass moves, and random numbers, are as before it."""
        kept = [(buffer, buffer.clone()) for buffer in model.buffers()]
        devices = {weight.device for weight in weights if weight.device.type != "cpu"}
        kind = next((device.type for device in devices), "cuda")
        # The same dropout here as in the loss itself, and none of the caller's random numbers used up.
        with torch.random.fork_rng(sorted(d.index or 0 for d in devices), device_type=kind), torch.enable_grad():
            try:
                loss = self.objective.loss(model, x, shown, y)
                grads: Sequence[Tensor | None] = torch.autograd.grad(loss, weights, allow_unused=True)
            finally:
                with torch.no_grad():
                    for buffer, content in kept:
                        buffer.copy_(content)
        found = [torch.zeros_like(w) if g is None else g for w, g in zip(weights, grads, strict=True)]
        if dist.is_available() and dist.is_initialized():
            for grad in found:
                dist.all_reduce(grad)  # the sum does for the mean: its length is divided away
        return found


@contextmanager
def _in_place_of(model: nn.Module, moved: Mapping[nn.Parameter, Tensor]) -> Iterator[None]:
    """Other tensors where the modules look for their parameters, which are back in any case at the end."""
    places = [
        (module._parameters, name, parameter)
        for module in model.modules()
        for name, parameter in module._parameters.items()
        if parameter is not None and parameter in moved
    ]
    try:
        for parameters, name, parameter in places:
            parameters[name] = moved[parameter]  # type: ignore[assignment]
        yield
    finally:
        for parameters, name, parameter in places:
            parameters[name] = parameter
