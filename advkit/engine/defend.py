"""A model behind a defense: one more model, with a declared backward, so that attacks on it are adaptive without knowing."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from advkit.catalog import DEFENSES
from advkit.core.defense import Certifier, Modifier, Objective, RandomWrapper, Wrapper, instead
from advkit.core.detector import Detector
from advkit.core.rng import Rng, identify
from advkit.engine.own import own_wrapper
from advkit.errors import InputError
from advkit.trust import NOTHING, Trust

__all__ = [
    "Against",
    "Defended",
    "Defense",
    "build_certifier",
    "build_defense",
    "build_objective",
    "defend",
    "read_defense",
]


_Map = Callable[[Tensor], Tensor]

Against = Literal["both", "adaptive", "oblivious"]
"""Attacks on the defended model itself, what was made on the model without its defense and is replayed, or both."""


class Defended(nn.Module):
    """``model`` on what the wrappers, one after the other, make of the pictures.

    Where a wrapper draws, the answer is the logarithm of the mean probabilities over its draws. ``searching`` gives the form
    that an attack asks: other draws, and as many as the wrapper's ``eot`` says.
    """

    def __init__(self, model: nn.Module, wrappers: Sequence[Wrapper], purpose: str = "verdict") -> None:
        super().__init__()
        self.model, self.wrappers, self.purpose = model, tuple(wrappers), purpose
        drawing = [wrapper for wrapper in self.wrappers if isinstance(wrapper, RandomWrapper)]
        asked = [(w.eot or w.draws) if purpose == "search" else w.draws for w in drawing]
        self.draws = max(asked, default=0)

    def searching(self, model: _Map | None = None) -> _Map:
        """What an attack asks; ``model`` is another form of the same network, if there is one."""
        form = Defended(self.model, self.wrappers, "search")
        asked: _Map = self.model if model is None else model
        return lambda x: form.answer(asked, x)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, K)."""
        return self.answer(self.model, x)

    def answer(self, model: _Map, x: Tensor) -> Tensor:
        """Logits (B, K) of a form of the network behind the wrappers."""
        if not self.draws:
            return model(self.cleaned(x))
        rng = Rng.of(0, identify(x)).fold(self.purpose)
        each = [model(self.cleaned(x, rng.fold(draw))) for draw in range(self.draws)]
        # In float64: where an element lies in a batch decides which exponential the processor takes, and so the last bit.
        shares = torch.stack(each).double().log_softmax(2)
        return (shares.logsumexp(0) - math.log(len(each))).to(each[0].dtype)

    def cleaned(self, x: Tensor, rng: Rng | None = None) -> Tensor:
        """What the network sees, under one draw."""
        for place, wrapper in enumerate(self.wrappers):
            value, smooth = wrapper.__call__, wrapper.surrogate
            if isinstance(wrapper, RandomWrapper):
                draw = Rng.of(0, identify(x)) if rng is None else rng.fold(place)
                value, smooth = partial(wrapper.drawn, rng=draw), partial(wrapper.drawn_surrogate, rng=draw)
            x = _through(wrapper, x, value, smooth)
        return x


def defend(model: nn.Module, wrappers: Sequence[Wrapper]) -> nn.Module:
    """The model behind its defenses; itself where there are none."""
    return Defended(model, wrappers) if wrappers else model


@dataclass(frozen=True)
class Defense:
    """A defense as it is written: how the weights were trained, by name (empty: as given), and what stands in front."""

    text: str
    trained: str
    wrappers: tuple[Wrapper, ...]

    def in_front(self) -> tuple[Wrapper, ...]:
        """The wrappers of a defense that has nothing else. Raises InputError for one that is a way to train."""
        if self.trained:
            raise InputError(
                f"{self.trained} is a way to train, not one to defend a trained model: train with it (advkit train --defense "
                f"{self.trained}) and give the weights."
            )
        return self.wrappers


def read_defense(text: str, trust: Trust = NOTHING) -> Defense:
    """``none``, ``jpeg:75``, ``bits:4+median:3``, ``pgd-at``, ``trades+jpeg``, ``file.py:Name``; from left to right.

    ``trust`` is what the caller wrote himself: code is imported for nothing else. Raises InputError for a name that is none,
    or a certifier's, and Untrusted for code.
    """
    trained: list[str] = []
    wrappers: list[Wrapper] = []
    parts = text.split("+")
    if "none" in parts and parts != ["none"]:
        others = "+".join(part for part in parts if part != "none")
        raise InputError(f"the defense {text} chains none with another; none stands alone: write {others or 'none'}.")
    for part in parts if text != "none" else ():
        own = own_wrapper(part, trust)
        made = DEFENSES.build(part) if own is None else own
        name = part.partition(":")[0]
        if isinstance(made, Wrapper):
            wrappers.append(made)
        elif isinstance(made, Certifier):
            raise InputError(f"{name} certifies a model and does not change what it sees: advkit certify --by {name}.")
        elif isinstance(made, Detector):
            raise InputError(
                f"{name} detects attacks and does not change what a model sees: advkit detect --by {name}."
            )
        elif part != name:
            raise InputError(
                f"{part} is a way to train, and its settings belong to the training: advkit train --defense {name}; "
                f"then --defense {name} takes the weights that ship with advkit, and --weights any others."
            )
        else:
            trained.append(name)
    return Defense(text, "+".join(trained), tuple(wrappers))


def build_defense(text: str) -> tuple[Wrapper, ...]:
    """The wrappers of a defense that has nothing else, as the caller writes it. Raises InputError for a way to train."""
    return read_defense(text, Trust.of(text)).in_front()


def build_objective(text: str, /, **settings: object) -> Objective:
    """An objective by name, with settings, and its modifiers: ``trades:beta=6+awp:gamma=0.005``.

    ``settings`` join those of the objective itself. Raises InputError for anything that is not a way to train.
    """
    first, *others = text.split("+")
    objective = DEFENSES.build(first, **settings)
    if isinstance(objective, Modifier):
        name = first.partition(":")[0]
        raise InputError(f"{name} changes another way to train; name that first: pgd-at+{name}.")
    if not isinstance(objective, Objective):
        name = first.partition(":")[0]
        raise InputError(f"{name} stands in front of a model that is trained already; train with one of another kind.")
    for other in others:
        modifier = DEFENSES.build(other)
        if not isinstance(modifier, Modifier):
            raise InputError(
                f"{other} does not change another way to train; after a + comes one that does, such as awp."
            )
        objective = modifier(objective)
    return objective


def build_certifier(text: str) -> Certifier:
    """A certifier by name and settings: ``smoothing:sigma=0.25``. Raises InputError for anything else."""
    made = DEFENSES.build(text)
    if not isinstance(made, Certifier):
        name = text.partition(":")[0]
        raise InputError(f"{name} proves nothing; advkit list defenses shows the certifiers, such as smoothing.")
    return made


def _through(wrapper: Wrapper, x: Tensor, value: _Map, smooth: _Map) -> Tensor:
    """``value`` of x, with the gradient that the wrapper declares; ``smooth`` is its surrogate under the same draw."""
    if wrapper.backward == "exact":
        return value(x)
    with torch.no_grad():
        cleaned = value(x)
    if wrapper.backward == "straight-through":
        if cleaned.shape != x.shape:
            raise InputError(
                f"{wrapper!r} makes pictures of {tuple(cleaned.shape)} from {tuple(x.shape)}; a gradient that passes straight "
                "through needs pictures of the same size."
            )
        return instead(x, cleaned)
    if not (torch.is_grad_enabled() and x.requires_grad):
        return cleaned
    return instead(smooth(x), cleaned)
