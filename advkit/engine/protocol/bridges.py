"""Gradients through what has none: straight-through bridges that are found by looking (BPDA, Athalye et al. 2018).

One pass shows the model's tensors at both ends of every module. The first of them from which no gradient comes back to the
picture is bridged: it keeps its value, and takes the gradient of the last tensor before it that fits and has one. So it goes
on until the answer has a gradient. Bridges are hooks that live as long as one pass; the caller's model is never changed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from advkit.core.rng import Rng, identify

__all__ = ["ANSWER", "PICTURE", "Bridge", "Bridged", "Place", "find_bridges", "find_jumps"]

_NOTHING = 1e-30  # a gradient below is what underflow left of one
_ALIVE = 0.5  # of the pictures must get a gradient from a tensor
_MOST = 64  # bridges
_REACH, _SHORTER = 0.1, 10.0  # how far a tensor is moved to look for jumps, of its spread; and so many times less
_DRAWS, _ROUNDING = 4, 100.0  # moves, each so many roundings at least
_JUMP = 1.5  # a change that is smooth falls by 2 orders of magnitude in the square, one by jumps by 1


class Place(NamedTuple):
    """One end of one call of a module, by its name and the number of the call."""

    module: str
    call: int
    end: Literal["in", "out"]


PICTURE, ANSWER = Place("", 0, "in"), Place("", 0, "out")


class Bridge(NamedTuple):
    """The tensor at ``target`` takes the gradient of the one at ``source``."""

    source: Place
    target: Place


Visit = Callable[[Place, Tensor], None]


class Bridged:
    """A form of a model that answers the same to the bit, with gradients that cross bridges.

    ``hidden`` shows the model pictures that ask for no gradient, with the gradient mode off: from the first bridge on it is
    on again, so that a model that looks whether it is being attacked sees nothing.
    """

    def __init__(
        self,
        model: nn.Module,
        ask: Callable[[Tensor], Tensor],
        bridges: Sequence[Bridge] = (),
        *,
        hidden: bool = False,
        shown: Place = ANSWER,
    ) -> None:
        """``ask`` calls the model, or what stands around it; ``shown`` is the place whose tensor is the answer."""
        self.model, self.ask, self.hidden, self.shown = model, ask, hidden, shown
        self.bridges = tuple(bridges)
        self._to = {bridge.target: bridge.source for bridge in self.bridges}

    def __call__(self, x: Tensor) -> Tensor:
        """(B, K) logits, or the tensor at the place that is shown."""
        found: dict[Place, Tensor] = {}

        def keep(place: Place, value: Tensor) -> None:
            if place == self.shown:
                found[place] = value

        answer = self.walk(x, keep, every=False)
        return answer if self.shown == ANSWER else found[self.shown]

    def walk(self, x: Tensor, visit: Visit, *, every: bool = True) -> Tensor:
        """One pass; ``visit`` is told the tensors in the order in which they appear, of every module or of those in use."""
        wanted = None if every else {p.module for bridge in self.bridges for p in bridge} | {self.shown.module}
        grad = torch.is_grad_enabled()
        seen: dict[Place, Tensor] = {}

        def pass_by(place: Place, value: Tensor) -> Tensor:
            source = seen.get(self._to[place]) if place in self._to else None
            if source is not None:
                if grad:
                    torch.set_grad_enabled(True)
                fitting = _fit(source, value)
                if fitting is not None:
                    value = _Across.apply(fitting, value.detach())
            seen[place] = value
            visit(place, value)
            return value

        pass_by(PICTURE, x)
        with self._hooked(wanted, pass_by):
            try:
                if self.hidden:
                    torch.set_grad_enabled(False)
                answer = self.ask(x.detach() if self.hidden else x)
            finally:
                torch.set_grad_enabled(grad)
        return pass_by(ANSWER, answer)

    @contextmanager
    def _hooked(self, wanted: set[str] | None, pass_by: Callable[[Place, Tensor], Tensor]) -> Iterator[None]:
        """Hooks on the modules ``wanted`` (all where None), taken away at the end, also after an exception."""
        calls: dict[str, int] = {}

        def entering(name: str) -> Callable[[nn.Module, tuple[object, ...]], tuple[object, ...] | None]:
            def hook(module: nn.Module, args: tuple[object, ...]) -> tuple[object, ...] | None:
                if not args or not _is_of_pictures(args[0]):
                    return None
                assert isinstance(args[0], Tensor)
                return (pass_by(Place(name, calls.get(name, 0), "in"), args[0]), *args[1:])

            return hook

        def leaving(name: str) -> Callable[[nn.Module, tuple[object, ...], object], object]:
            def hook(module: nn.Module, args: tuple[object, ...], out: object) -> object:
                call = calls[name] = calls.get(name, 0) + 1
                return pass_by(Place(name, call - 1, "out"), out) if _is_of_pictures(out) else None  # type: ignore[arg-type]

            return hook

        with ExitStack() as stack:
            for name, module in self.model.named_modules():
                if not name or isinstance(module, torch.jit.ScriptModule) or not (wanted is None or name in wanted):
                    continue
                for handle in (
                    module.register_forward_pre_hook(entering(name)),
                    module.register_forward_hook(leaving(name)),
                ):
                    stack.callback(handle.remove)
            yield


def find_bridges(model: nn.Module, ask: Callable[[Tensor], Tensor], x: Tensor, *, hidden: bool = False) -> list[Bridge]:
    """The bridges that it takes for a gradient to come from the answer to the pictures x (B, ...); empty where none helps.

    Of a ``hidden`` walk only modules without children are bridged: those that hold others may look for gradients.
    """
    leaves = {name for name, module in model.named_modules() if not any(module.children())}
    bridges: list[Bridge] = []
    alive: dict[Place, bool] = {PICTURE: True}
    for _ in range(_MOST):
        points = x.detach().clone().requires_grad_()
        seen: dict[Place, Tensor] = {}
        Bridged(model, ask, bridges, hidden=hidden).walk(points, seen.__setitem__)
        seen[PICTURE] = points
        if _is_alive(seen[ANSWER], points):
            return bridges
        added = None
        places = list(seen)
        for number, place in enumerate(places):
            if alive.get(place) is None:
                alive[place] = _is_alive(seen[place], points)
            if alive[place] or (hidden and place != ANSWER and place.module not in leaves):
                continue
            before = [
                other for other in places[:number] if alive.get(other) and _fit(seen[other], seen[place]) is not None
            ]
            same = [other for other in before if seen[other].shape == seen[place].shape]
            if before:
                added = Bridge((same or before)[-1], place)
                break
        if added is None:
            return []
        bridges.append(added)
        # What lies behind the bridge is looked at again.
        alive = {place: state for place, state in alive.items() if state}
    return []


def find_jumps(model: nn.Module, ask: Callable[[Tensor], Tensor], x: Tensor) -> list[Bridge]:
    """Bridges over the user's own modules without children that jump, rounding or choosing winners, whatever their gradient."""
    own = {
        name: module
        for name, module in model.named_modules()
        if name and not any(module.children()) and not type(module).__module__.startswith("torch.nn.")
    }
    first: dict[str, Tensor] = {}
    ends: dict[tuple[str, int], list[torch.Size]] = {}

    def visit(place: Place, value: Tensor) -> None:
        if place.module in own:
            ends.setdefault(place[:2], []).append(value.shape)
            if place.end == "in":
                first.setdefault(place.module, value.detach().clone())

    with torch.no_grad():
        Bridged(model, ask).walk(x, visit)
        jumping = {name for name, value in first.items() if _jumps(own[name], value)}
    return [
        Bridge(Place(name, call, "in"), Place(name, call, "out"))
        for (name, call), shapes in ends.items()
        if name in jumping and len(shapes) == 2 and shapes[0] == shapes[1]
    ]


def _jumps(module: nn.Module, value: Tensor) -> bool:
    """Whether a module's answer changes by jumps: ten times less of a move then changes it less than it should."""
    reach, rng = _REACH * float(value.std()), Rng.of(0, identify(value)).fold("jumps")
    if not reach / _SHORTER > _ROUNDING * torch.finfo(value.dtype).eps * float(value.abs().amax()):
        return False  # rounding of the moved values would look like jumps
    far = near = 0.0
    try:
        here = module(value)
        for draw in range(_DRAWS):
            normal = rng.fold(draw).normal(*value.shape[1:], dtype=value.dtype)
            far += float((module(value + reach * normal) - here).double().square().sum())
            near += float((module(value + reach / _SHORTER * normal) - here).double().square().sum())
    except (TypeError, RuntimeError):
        return False  # it takes more than the one tensor that was seen
    return far > 0 and (near == 0 or math.log10(far / near) < _JUMP)


def _is_alive(value: Tensor, x: Tensor) -> bool:
    """Whether a gradient comes from a tensor to enough of the pictures."""
    if not value.requires_grad:
        return False
    if value is x:
        return True
    signs = Rng.of(1, identify(x)).fold("signs").uniform(*value.shape[1:], dtype=torch.float64) - 0.5
    (grad,) = torch.autograd.grad((value * signs.to(value.dtype)).sum(), x, retain_graph=True, allow_unused=True)
    if grad is None:
        return False
    flat = grad.flatten(1)
    good = flat.isfinite().all(1) & (flat.abs().amax(1) > _NOTHING)
    return bool(good.double().mean() >= _ALIVE)


def _is_of_pictures(value: object) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point() and value.ndim > 1


def _fit(source: Tensor, like: Tensor) -> Tensor | None:
    """The source in the shape of another tensor: itself, reshaped, or brought to another size; None where it cannot be."""
    if source.shape == like.shape:
        return source
    if len(source) != len(like):
        return None
    if source.ndim == like.ndim == 4 and source.shape[1] == like.shape[1]:
        return F.interpolate(source, size=like.shape[2:], mode="bilinear", align_corners=False)
    return source.reshape(like.shape) if source.numel() == like.numel() else None


class _Across(torch.autograd.Function):
    """The second argument's value, to the bit, with the first one's gradient."""

    @staticmethod
    def forward(ctx: object, source: Tensor, value: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx: object, grad: Tensor) -> tuple[Tensor, None]:
        return grad, None
