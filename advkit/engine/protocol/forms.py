"""The form of a model that an attack needs where the model itself leads it astray: BPDA, logits, their scale, the mean."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from advkit.attacks.pgd import PGD
from advkit.core.rng import Rng
from advkit.engine.protocol.bridges import ANSWER, PICTURE, Bridge, Bridged, Place, find_bridges, find_jumps
from advkit.engine.protocol.case import Case, Form, differ

__all__ = ["Smoothed", "adapted", "bridges_of", "hides", "is_large", "jumps", "logarithm", "masked"]

_FEW = 8
_DRAWS = 16  # of a model that draws: answers behind a gradient
_LARGE, _USUAL = (
    20.0,
    5.0,
)  # between the two highest logits: more leaves nothing of a softmax in float32; and what is usual
_MASKED = 0.5  # of the examples without a gradient
_NOTHING = 1e-30


@dataclass(frozen=True)
class Smoothed(PGD):
    """PGD on the mean gradient around each point: of ``views`` points drawn from the ball of half the radius around it."""

    views: int = 8

    def view(self, query: Tensor, rng: Rng) -> Tensor:
        """A point near the query."""
        at = query.detach()  # the point moves with the query: its gradient is the query's
        return query + (self.threat.random_point(at, rng) - at) / 2


def hides(case: Case) -> bool:
    """Whether the model answers otherwise where a gradient is asked for."""

    def compare() -> bool:
        x = case.x[:_FEW]
        asked = case.own.precision.working(case.typed(x).requires_grad_())
        with torch.no_grad():
            unasked = case.own.precision.working(case.typed(x))
        case.forwards += 2 * len(x)
        return not case.unsteady and bool(differ(asked.detach().cpu(), unasked.cpu()).any())

    return case.once("hides", compare)


def masked(case: Case) -> bool:
    """Whether the gradient is missing, zero or no number for many examples."""
    grad = case.gradients.margin
    if grad is None:
        return True
    good = grad.isfinite().flatten(1).all(1) & (grad.abs().flatten(1).amax(1) > _NOTHING)
    return bool((~good & case.correct).sum() > _MASKED * case.total)


def is_large(case: Case) -> bool:
    """Whether the logits lie so far apart that the cross-entropy fades."""
    return _gap(case) > _LARGE


def jumps(case: Case) -> list[str]:
    """The user's own modules that answer by jumps: ``KWinners at net.2``."""
    names = dict.fromkeys(bridge.target.module for bridge in _over_jumps(case))
    return [f"{type(case.model.get_submodule(name)).__name__} at {name}" for name in names]


def _over_jumps(case: Case) -> list[Bridge]:
    def find() -> list[Bridge]:
        return [] if case.unsteady else find_jumps(case.model, case.own.precision.working, case.typed(case.x[:_FEW]))

    return case.once("jumps", find)


def bridges_of(case: Case) -> tuple[tuple[Bridge, ...], bool]:
    """What carries a gradient past steps that have none or jump, and whether the model must not see that it is asked."""

    def find() -> tuple[tuple[Bridge, ...], bool]:
        ask, x = case.own.precision.working, case.typed(case.x[:_FEW])
        hidden = hides(case)
        found = find_bridges(case.model, ask, x, hidden=hidden) if hidden or masked(case) else []
        if not found and not hidden and (masked(case) or case.once("foreign", lambda: False)):
            hidden = True
            found = find_bridges(case.model, ask, x, hidden=True)
        hidden = hidden and bool(found)
        targets = {bridge.target for bridge in found}
        found += [bridge for bridge in _over_jumps(case) if bridge.target not in targets]
        return tuple(found), hidden

    return case.once("bridges", find)


def adapted(case: Case) -> Form:
    """The model as an attack on it that knows what the checks know would ask it; ``name`` says in what it differs."""
    return case.once("adapted", lambda: _adapt(case))


def _adapt(case: Case) -> Form:
    said: list[str] = []
    ask = case.own.precision.working
    bridges, hidden = bridges_of(case)
    before = _before_softmax(case, bridges, hidden) if case.probabilities else None
    if before is not None:
        bridges = tuple(bridge for bridge in bridges if bridge.target != ANSWER)
    if bridges or before is not None:
        ask = Bridged(case.model, ask, bridges, hidden=hidden, shown=before or ANSWER)
    if bridges:
        said.append(f"BPDA ({_where(bridges)})")
    if before is not None:
        said.append(f"logits of module {before.module} for probabilities")
    elif case.probabilities:
        ask = _then(ask, logarithm)
        said.append("log of the outputs")
    elif is_large(case):
        size = _gap(case) / _USUAL
        ask = _then(ask, lambda logits: logits / size)
        said.append(f"logits / {size:.3g}")
    judge = None
    if case.unsteady:
        ask, judge = _mean(ask), _Mean(case.model, case.probabilities)
        said.append(f"mean of {_DRAWS} draws (EOT)")
    if not said:
        return Form("", case.passes)
    return case.form(" + ".join(said), ask, judge, _DRAWS if judge else 1)


def _before_softmax(case: Case, bridges: tuple[Bridge, ...], hidden: bool) -> Place | None:
    """Where the scores are that the probabilities are made of: the last tensor of their shape with their order."""
    walk = Bridged(case.model, case.own.precision.working, bridges, hidden=hidden)
    seen: dict[Place, Tensor] = {}
    x = case.typed(case.x[: case.batch_size]).requires_grad_()
    answer = walk.walk(x, seen.__setitem__).detach()
    case.forwards += len(x)
    spread = answer.amax(1, keepdim=True)
    for place, value in reversed(seen.items()):
        if place == ANSWER or place.call or value.shape != answer.shape or not value.requires_grad:
            continue
        value = value.detach()
        if bool((value >= 0).all()) and bool(((value.sum(1) - 1).abs() < 1e-3).all()):
            continue
        # Those that underflow has made equal may stand in any order.
        order = answer.gather(1, value.argsort(dim=1))
        if bool((order.diff(dim=1) >= -1e-6 * spread).all()):
            return place
    return None


def _gap(case: Case) -> float:
    """Typically, between the highest logit and the next, of what gets a gradient."""
    top = case.logits.topk(min(2, case.logits.shape[1]), dim=1).values
    return float((top[:, 0] - top[:, -1]).median())


def _where(bridges: tuple[Bridge, ...]) -> str:
    """The step that is bridged first: ``picture to net.0``."""
    source, target = bridges[0]
    start = "the picture" if source == PICTURE else f"module {source.module}"
    end = f"module {target.module}" if target.module else "the answer"
    more = f" and {len(bridges) - 1} more" if len(bridges) > 1 else ""
    return f"over {start}{more}" if start == end else f"from {start} to {end}{more}"


def _then(ask: Callable[[Tensor], Tensor], change: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda x: change(ask(x))


def logarithm(probabilities: Tensor) -> Tensor:
    """Scores from probabilities; finite where one has become zero."""
    return probabilities.clamp_min(torch.finfo(probabilities.dtype).tiny).log()


def _mean(ask: Callable[[Tensor], Tensor], draws: int = _DRAWS) -> Callable[[Tensor], Tensor]:
    """The logarithm of the mean probabilities over draws."""
    return lambda x: torch.stack([ask(x).log_softmax(1) for _ in range(draws)]).logsumexp(0)


class _Mean(nn.Module):
    """The caller's own model, asked several times."""

    def __init__(self, model: nn.Module, probabilities: bool) -> None:
        super().__init__()
        self.model, self.probabilities = model, probabilities

    def forward(self, x: Tensor) -> Tensor:
        return _mean(_then(self.model, logarithm) if self.probabilities else self.model)(x)
