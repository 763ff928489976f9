"""The contract of attacks, held against every registered one; and against mutants, which must not pass."""

from __future__ import annotations

from dataclasses import dataclass, fields

import pytest
import torch
from attack_checks import CHECKS, FEW, check_batching, check_gain, check_result, check_seed, check_side_effects
from helpers import linear, pictures, trained
from torch import Tensor

from advkit.catalog import ATTACKS
from advkit.core import L0, L1, L2, Area, Ascent, Attack, Ball, Ensemble, Goal, Linf, Point, Rng, Shade, Targeted, Veil
from advkit.core.fitted import Fitted
from advkit.data import TensorData
from advkit.engine.fitting import fit
from advkit.errors import AdvkitError, InputError, ThreatViolation

BALLS: list[Ball] = [Linf(0.05), L2(0.5), L1(5), L0(6), Area(0.2), Shade(0.57), Veil(0.5)]
STEPS, QUERIES = 4, 32
SMALL, WHOLE = Linf(0.05), Linf(1.0)


def cases(*, fitted: bool = False) -> list:
    made = []
    for entry in ATTACKS.entries():
        default = entry.create()
        if isinstance(default, Ensemble) or isinstance(default, Fitted) is not fitted:
            continue
        few = {"steps": STEPS} if "steps" in entry.settings and default.steps > STEPS else {}
        if "queries" in entry.settings:
            few = {"queries": QUERIES} | ({"population": 8} if getattr(default, "population", None) else {})
            few |= {"samples": 4} if "samples" in entry.settings else {}
        balls = [ball for ball in BALLS if isinstance(ball, default.balls)]
        assert balls, f"{entry.name} works in no ball"
        made += [pytest.param(entry.create(threat=b, **few), id=f"{entry.name}-{b.norm}") for b in balls]
    return made


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
@pytest.mark.parametrize("attack", cases())
def test_every_attack_keeps_the_contract(attack, check):
    check(attack)


@pytest.mark.parametrize("check", [each for name, each in CHECKS.items() if name not in ("gain", "exception")])
@pytest.mark.parametrize("attack", cases(fitted=True))
def test_what_was_fitted_is_an_attack_that_keeps_the_contract(attack, check):
    # One thing serves one goal, so its own tests speak of the gain; and the model is asked once, so it cannot fail later.
    model, x, y = trained()
    check(fit(attack, model, TensorData(x[FEW:].float(), y[FEW:])))


@pytest.mark.parametrize("attack", cases(fitted=True))
def test_what_is_one_for_many_pictures_is_not_run_before_it_is_fitted(attack):
    model, x, y = trained()
    with pytest.raises(InputError, match=r"fitted before it is shown: advkit\.engine\.fitting\.fit"):
        attack(model, x, y)


@pytest.mark.parametrize("attack", [*cases(), *cases(fitted=True)])
def test_every_attack_is_a_value(attack):
    again = type(attack)(**{f.name: getattr(attack, f.name) for f in fields(attack) if f.init})
    assert again == attack
    assert hash(again) == hash(attack)
    assert attack.tells in ("gradient", "scores", "decisions")


@dataclass(frozen=True)
class Lazy(Attack):
    """Does nothing."""

    threat: Ball = SMALL
    steps: int = 3

    def step(self, state: Point, at: Ascent, x: Tensor, goal: Goal, rng: Rng) -> Point:
        return Point(x)


@dataclass(frozen=True)
class Wild(Lazy):
    """Takes twice its budget."""

    def step(self, state: Point, at: Ascent, x: Tensor, goal: Goal, rng: Rng) -> Point:
        return Point((x + 2 * self.threat.eps * at.grad.sign()).clamp(0, 1))


@dataclass(frozen=True)
class Unboxed(Lazy):
    """Stays in its ball and leaves the box."""

    def step(self, state: Point, at: Ascent, x: Tensor, goal: Goal, rng: Rng) -> Point:
        return Point(x + 0.04 * at.grad.sign())


@dataclass(frozen=True)
class Nan(Lazy):
    """Divides by a gradient of zero."""

    def step(self, state: Point, at: Ascent, x: Tensor, goal: Goal, rng: Rng) -> Point:
        return Point(x * (at.grad * 0 / 0))


@dataclass(frozen=True)
class Sociable(Lazy):
    """Lets the batch have a say in each example's step."""

    def step(self, state: Point, at: Ascent, x: Tensor, goal: Goal, rng: Rng) -> Point:
        return Point(self.threat.project(x + self.threat.eps * (at.grad / at.grad.abs().max()), x))


@dataclass(frozen=True)
class Global(Lazy):
    """Draws from torch's global generator."""

    def step(self, state: Point, at: Ascent, x: Tensor, goal: Goal, rng: Rng) -> Point:
        return Point(self.threat.project(x + 0.1 * torch.randn_like(x), x))


@dataclass(frozen=True)
class Deaf(Lazy):
    """Draws the same whatever the seed."""

    def step(self, state: Point, at: Ascent, x: Tensor, goal: Goal, rng: Rng) -> Point:
        return Point(self.threat.random_point(x, Rng.of(0, torch.arange(len(x)))))


@dataclass(frozen=True)
class Backwards(Lazy):
    """Has the sign the wrong way round."""

    def step(self, state: Point, at: Ascent, x: Tensor, goal: Goal, rng: Rng) -> Point:
        return Point(self.threat.project(x - self.threat.eps * at.grad.sign(), x))


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_an_honest_attack_of_a_few_lines_passes(check):
    @dataclass(frozen=True)
    class Honest(Lazy):
        def step(self, state: Point, at: Ascent, x: Tensor, goal: Goal, rng: Rng) -> Point:
            return Point(self.threat.project(x + self.threat.eps * at.grad.sign(), x))

    check(Honest())


@pytest.mark.parametrize(
    ("mutant", "check", "error"),
    [
        (Lazy(), check_gain, AssertionError),
        (Backwards(), check_gain, AssertionError),
        (Wild(), check_result, ThreatViolation),
        (Unboxed(), check_result, ThreatViolation),
        (Nan(), check_result, AdvkitError),
        (Sociable(), check_batching, AssertionError),
        (Deaf(), check_batching, AssertionError),
        (Deaf(), check_seed, AssertionError),
        (Global(), check_seed, AssertionError),
        (Global(), check_side_effects, AssertionError),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
def test_an_attack_that_breaks_the_contract_is_rejected(mutant, check, error):
    with pytest.raises(error):
        check(mutant)


def test_a_point_outside_the_ball_is_named_with_attack_example_and_distance():
    model, x, y = trained()
    with pytest.raises(
        ThreatViolation, match=r"^Wild\(threat=Linf\(eps=0.05\), steps=3\) returned a point at distance 0"
    ):
        Wild()(model, x, y)
    with pytest.raises(ThreatViolation, match=r"outside Linf 0.05 or \[0, 1\]"):
        Unboxed()(model, x, y)


@dataclass(frozen=True)
class Regretful(Attack):
    """Stands on a success after its second step, and walks away from it."""

    threat: Ball = WHOLE
    steps: int = 5

    def step(self, state: Point, at: Ascent, x: Tensor, goal: Goal, rng: Rng) -> Point:
        closer = self.threat.project(x + 0.5 * at.grad.sign(), x)
        return Point(torch.where((state.query == x).flatten(1).all(1)[:, None, None, None], closer, x))


def test_a_success_on_the_way_is_not_lost_by_walking_away_from_it():
    # The walk is x, success, x, success, x, success: with 4 steps it ends at x.
    model, x = linear(3), pictures(6, margin=0.4)
    y = model(x).argmax(1)
    attack = Regretful(steps=4)
    assert bool((model(attack(model, x, y, keep="last")).argmax(1) == y).all())
    for keep in ("first", "best"):
        assert bool((model(attack(model, x, y, keep=keep)).argmax(1) != y).all())


def test_the_best_iterate_has_the_highest_loss_of_all_that_were_seen():
    model, x, y = trained()
    attack = ATTACKS.create("pgd", threat=Linf(0.05), steps=6, step_size=0.9)
    kept = {keep: attack(model, x, y, keep=keep) for keep in ("best", "last")}
    margin = {keep: _margin(model, points, y) for keep, points in kept.items()}
    assert bool((margin["best"] > 0).sum() >= (margin["last"] > 0).sum())
    held = margin["best"] <= 0
    assert bool((margin["last"][held] <= 0).all())


def _margin(model, x, y):
    logits = model(x)
    own = logits.gather(1, y[:, None]).squeeze(1)
    return logits.scatter(1, y[:, None], -torch.inf).amax(1) - own


def test_a_target_is_reached_and_not_merely_any_other_class():
    model, x, y = trained()
    target = (y + 2) % 4
    x_adv = ATTACKS.create("pgd", threat=Linf(0.2), steps=20)(model, x, Targeted(target))
    assert float((model(x_adv).argmax(1) == target).double().mean()) > 0.95
