"""The binarization test: a search that misses what is planted cannot be trusted (Zimmermann et al. 2022, arXiv:2206.13991).

For each picture a linear head is fitted to the model's features that tells one point on the ball's surface from the clean
picture and many points inside. That point is an adversarial example of the head, so each head has one for certain, and an
attack that fails to find any has failed, whatever the defense.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from advkit.attacks.noise import Noise
from advkit.core.attack import Attack
from advkit.core.goal import Untargeted
from advkit.core.losses import CrossEntropy
from advkit.core.rng import Rng, identify
from advkit.engine.examples import Finished, Source
from advkit.engine.passes import Passes
from advkit.engine.precision import Precision
from advkit.engine.protocol.bridges import ANSWER, Bridged, Place
from advkit.engine.protocol.case import Case
from advkit.engine.protocol.finding import FAIL, PASS, UNKNOWN, Answer, Remedy, of, percent
from advkit.engine.protocol.forms import Smoothed, bridges_of
from advkit.engine.run import Run
from advkit.errors import ModelError

__all__ = ["finds_what_is_planted", "planted_through_bridges"]

_EXAMPLES = 16
_INSIDE = 64  # points of the ball for each picture, within this share of the radius:
_WITHIN = 0.9
_NEAR = 0.9  # of the way from the highest score inside to the planted one lies the threshold
_RIDGE = 1e-3
_ENOUGH = 0.95
_CONTROL = 0.5  # of the heads may fall to random points; of more it is no test
_LEAST = 4  # heads

_Map = Callable[[Tensor], Tensor]


class _Head(nn.Module):
    """Logits (B, 2) of a linear head on features of the model: second class where the score passes the threshold."""

    def __init__(self, model: nn.Module, features: _Map, weight: Tensor, low: Tensor, high: Tensor) -> None:
        super().__init__()
        self.model, self.features = model, features
        self.weight, self.low, self.high = weight, low, high

    def forward(self, x: Tensor) -> Tensor:
        threshold = self.low + _NEAR * (self.high - self.low)
        score = (self.features(x).flatten(1).to(self.weight) @ self.weight - threshold) / (self.high - self.low)
        return torch.stack([-score, score], 1)


def finds_what_is_planted(case: Case) -> Answer:
    """PGD, as the other checks use it, against heads that have an adversarial example for certain."""
    if case.unsteady:
        return Answer(UNKNOWN, "The answers differ from call to call, so nothing can be planted in them.")
    heads = _heads(case)
    if len(heads) < _LEAST:
        return Answer(UNKNOWN, f"An example could be planted for {of(len(heads), _count(case))} pictures only.")
    control = sum(_falls(case, head, head, at, Noise(case.ball, steps=case.steps)) for at, head in heads)
    if control > _CONTROL * len(heads):
        return Answer(UNKNOWN, f"Random points beat {of(control, len(heads))} planted heads, so it is no test here.")
    found = sum(_falls(case, head, head, at, case.plain(CrossEntropy())) for at, head in heads)
    said = (
        f"PGD finds an adversarial example in {of(found, len(heads))} heads that have one, random points in {control}"
    )
    if found >= _ENOUGH * len(heads):
        return Answer(PASS, f"{said}.")
    advice = "The attack is too weak for this model: make it fit until it passes, and count nothing before."
    return Answer(FAIL, f"{said}.", advice)


def planted_through_bridges(case: Case) -> Remedy:
    """The same heads, attacked through the gradients that BPDA gives, and by the mean gradient around each point."""
    heads = _heads(case)
    bridges, hidden = bridges_of(case)
    through = Bridged(case.model, case.own.precision.working, bridges, hidden=hidden, shown=_features(case))
    ways = (case.plain(CrossEntropy()), Smoothed(case.ball, steps=case.steps))
    found = 0
    for at, head in heads:
        steered = _Head(case.model, through, head.weight, head.low, head.high)
        found += any(_falls(case, head, steered, at, attack) for attack in ways)
    share = found / len(heads)
    return Remedy(f"Run: with BPDA and smoothed gradients it finds {of(found, len(heads))} ({percent(share)}).", share)


def _heads(case: Case) -> list[tuple[int, _Head]]:
    """Heads for the first pictures in which a point can be planted, each with the number of its picture."""
    return case.once("heads", lambda: list(_fitted(case)))


def _count(case: Case) -> int:
    return min(_EXAMPLES, case.total)


def _fitted(case: Case) -> Iterator[tuple[int, _Head]]:
    ask = Bridged(case.model, case.own.precision.working, shown=_features(case))
    for at in case.correct.nonzero().squeeze(1)[:_EXAMPLES].tolist():
        x = case.x[at : at + 1]
        rng = Rng.of(case.seed, identify(x)).fold("planted")
        many = x.expand(_INSIDE, *x.shape[1:])
        draws = Rng(rng.keys.expand(_INSIDE)).fold(torch.arange(_INSIDE))
        inside = many + _WITHIN * (case.ball.random_point(many, draws) - many)
        way = case.ball.steepest(rng.fold("surface").normal(*x.shape[1:], dtype=x.dtype), x)
        surface = case.ball.project(x + case.ball.reach(x) * way, x)
        points = case.typed(torch.cat([x, inside, surface]))
        case.forwards += len(points)
        with torch.no_grad():
            features = torch.cat([ask(part) for part in torch.split(points, case.batch_size)]).flatten(1).double()
        rest, planted = features[:-1] - features[:-1].mean(0), features[-1] - features[:-1].mean(0)
        # (S + ridge)^-1 planted for the scatter S of the points inside, of which there are fewer than features.
        ridge = _RIDGE * rest.square().mean() + torch.finfo(torch.float64).tiny
        small = rest @ rest.T / len(rest) + ridge * torch.eye(len(rest)).to(rest)
        weight = (planted - rest.T @ torch.linalg.solve(small, rest @ planted) / len(rest)) / ridge
        scores = features @ weight
        low, high = scores[:-1].amax(), scores[-1]
        if bool(weight.isfinite().all()) and bool(high - low > 1e-6 * (low - scores.amin())):
            yield at, _Head(case.model, ask, weight, low, high)


def _features(case: Case) -> Place:
    """Where the features are: the input of the last linear layer, or the answer itself where there is none."""

    def find() -> Place:
        linear = {name for name, module in case.model.named_modules() if isinstance(module, nn.Linear)}
        met: list[Place] = []

        def visit(place: Place, value: Tensor) -> None:
            if place.module in linear and place.end == "in" and value.ndim == 2 and len(value) == 1:
                met.append(place)

        with torch.no_grad():
            Bridged(case.model, case.own.precision.working).walk(case.typed(case.x[:1]), visit)
        # Asked many times over, as by a defense that draws, the last time is not all of the answer.
        return met[-1] if met and met[-1].call == 0 else ANSWER

    return case.once("features", find)


def _falls(case: Case, head: _Head, steered: _Head, at: int, attack: Attack) -> bool:
    """Whether an attack steered by one form of a head turns the head itself."""
    found: list[bool] = []
    passes = Passes(head, Precision("planted", steered), case.batch_size)
    source = Source(lambda indices: case.x[at : at + 1], Untargeted(torch.zeros(1, dtype=torch.long)))
    run = Run(attack, passes, source, seed=case.seed)

    def collect(finished: Finished) -> None:
        found.extend(finished.success.tolist())

    try:
        run.go(collect)
    except ModelError:  # no gradient, nothing found
        return False
    case.forwards, case.backwards = case.forwards + int(run.forwards.sum()), case.backwards + int(run.backwards.sum())
    return any(found)
