"""Running an attack of another library: it asks a model that counts, and what it gives back is measured, then judged."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from contextlib import redirect_stdout
from statistics import median
from typing import NamedTuple

import torch
from torch import Tensor, nn

from advkit.core.external import External
from advkit.core.goal import Goal
from advkit.core.modes import borrowed, is_training, reseeded
from advkit.core.rng import Rng, identify
from advkit.core.types import expand
from advkit.engine.passes import Passes
from advkit.errors import AdvkitError, InputError

__all__ = ["Given", "companies", "company", "fell_short", "found_beyond", "given_back", "left_behind"]

_COMPANY = {"cpu": 50, "cuda": 500}  # of small pictures; of large ones a fifth, for what the graph of a pass holds
_SMALL = 3 * 64 * 64  # values of a picture
_ROUNDING = 1e-6  # of the radius, and of the range of a pixel: farther outside than this is no rounding


def company(values: int, device: torch.device) -> int:
    """How many neighbours in the data are handed over together, pictures of so many values.

    It is fixed, for another library's attack may draw for a whole batch, or stop when all of it is done: what an example
    becomes must not depend on the batch size, nor on how a sweep is cut into shards.
    """
    most = _COMPANY.get(device.type, _COMPANY["cpu"])
    return most if values <= _SMALL else most // 5


def companies(place: Tensor, size: int) -> list[Tensor]:
    """Rows of examples at ascending places in their data, (N,), that are handed over together."""
    _, counts = torch.unique_consecutive(place // size, return_counts=True)
    return list(torch.split(torch.arange(len(place)), counts.tolist()))


class Given(NamedTuple):
    """What another library's attack made of B examples: points inside the ball, and what it took, (B,) each."""

    x_adv: Tensor
    found: Tensor  # what it gave
    outside: Tensor  # it gave a point outside the ball or the box, or none: the clean picture stands for it
    distance: Tensor  # of what it gave, float64; NaN where that is no number
    forwards: Tensor
    backwards: Tensor


def given_back(attack: External, passes: Passes, x: Tensor, goal: Goal, seed: int) -> Given:
    """Let the attack make something of pictures x (B, ...).

    What lies outside the ball by no more than rounding is projected; what lies farther outside is not mended.
    """
    counting = _Counting(passes)
    keys = Rng.of(seed, identify(x)).keys
    with (
        borrowed(counting, mode="train"),
        reseeded(int(keys.sum()) & 0x7FFFFFFF, x.device),
        torch.enable_grad(),
        warnings.catch_warnings(),
        redirect_stdout(sys.stderr),
    ):
        warnings.simplefilter("ignore")  # other libraries' remarks on their own dependencies
        try:
            everyone = torch.arange(len(x), device=x.device)  # a copy of the goal: who it is handed to may write to it
            found: object = attack.perturb(counting, x.clone(), goal.take(everyone))
        except AdvkitError:
            raise
        except ModuleNotFoundError as error:
            package = error.name or str(error)
            raise InputError(f"{attack.name} needs the package {package!r}: pip install {package}.") from error
        except Exception as error:
            if counting.broke is error:  # the model's own, and not the library's
                raise
            raise InputError(
                f"{attack.name} failed inside its own library: {type(error).__name__}: "
                f"{str(error).rstrip('.')}. Other settings or another attack may serve."
            ) from error
    if not isinstance(found, Tensor) or found.shape != x.shape:
        told = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise InputError(
            f"{attack.name} gave back {told} for pictures of shape {tuple(x.shape)}; only attacks that change each picture "
            "within its shape can be run."
        )
    found = found.detach().to(x)
    distance = attack.threat.distance(found, x)
    flat = found.flatten(1).double()
    room = _ROUNDING * (1 + min(float(attack.threat.eps), 1e6))
    near = (distance <= attack.threat.eps + room) & ((flat >= -_ROUNDING) & (flat <= 1 + _ROUNDING)).all(1)
    safe = torch.where(expand(near, x), found, x)
    point = torch.where(expand(attack.threat.contains(safe, x), x), safe, attack.threat.project(safe, x))
    return Given(point, found, ~near, distance, *counting.shares(len(x)))


def found_beyond(given: Given, passes: Passes, goal: Goal) -> Tensor:
    """(B,) float64: the distance of an adversarial picture that was found outside the ball; infinite where there is none."""
    distance = torch.full_like(given.distance, torch.inf)
    where = (given.outside & given.distance.isfinite()).nonzero().squeeze(1)
    if len(where):
        adversarial = goal.take(where).reached(passes.judge(given.found[where].clamp(0, 1)))
        distance[where[adversarial]] = given.distance[where[adversarial]]
    return distance


def fell_short(attack: External, distances: Sequence[float]) -> None:
    """Tell how far an attack came that looks for the nearest picture and found none in the ball: ``distances`` beyond it."""
    if distances:
        warnings.warn(
            f"{attack.name} found no adversarial picture within {attack.threat.label}; of the {len(distances):,} that it found "
            f"beyond, the nearest lies at {min(distances):.4g}, the median at {median(distances):.4g}.",
            stacklevel=2,
        )


def left_behind(attack: External, outside: int, farthest: float, total: int) -> None:
    """Tell of an attack that did not keep to its radius. One that looks for the nearest picture never promised to."""
    if outside and not attack.minimal:
        far = farthest > attack.threat.eps * (1 + _ROUNDING) + _ROUNDING
        place = f"{attack.threat.label}, going as far as {farthest:.4g}," if far else "[0, 1]"
        warnings.warn(
            f"{attack.name} left {place} in {outside:,} of {total:,} examples; they count as not beaten, so its row says less "
            "than it could.",
            stacklevel=2,
        )


class _Counting(nn.Module):
    """The model in the form that steers searches; counts the rows that it is asked about, forwards and backwards."""

    def __init__(self, passes: Passes) -> None:
        super().__init__()
        self.model, self._ask = passes.model, passes.logits
        self.training = is_training(passes.model)
        self.forwards = self.backwards = 0
        self.broke: Exception | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, K)."""
        self.forwards += len(x)
        if torch.is_grad_enabled() and x.requires_grad:
            x = x.view_as(x)
            x.register_hook(self._came_back)  # type: ignore[no-untyped-call]
        try:
            return self._ask(x)
        except Exception as error:
            self.broke = error
            raise

    def _came_back(self, grad: Tensor) -> Tensor:
        self.backwards += len(grad)
        return grad.contiguous()  # other libraries take it for granted, and a form of the model may have another order

    def shares(self, count: int) -> tuple[Tensor, Tensor]:
        """The passes of each of ``count`` examples: who asked for them is not known, so they are spread evenly."""
        place = torch.arange(count)
        forwards, backwards = (total // count + (place < total % count) for total in (self.forwards, self.backwards))
        return forwards, backwards
