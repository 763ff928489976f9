"""The universal perturbation: in its ball on every picture, and far stronger on new ones than one drawn at random."""

from __future__ import annotations

import pytest
import torch
from helpers import pictures, trained

from advkit.attacks import UAP
from advkit.core import L0, L2, Linf, Untargeted
from advkit.core.fitted import Fit
from advkit.core.losses import ClippedCrossEntropy, CrossEntropy
from advkit.core.rng import Rng
from advkit.data import TensorData
from advkit.engine.evaluate import evaluate
from advkit.engine.fitting import fit, load_fitted, save_fitted
from advkit.errors import InputError

BALLS = [Linf(0.12), L2(1.2)]


@pytest.mark.parametrize("ball", BALLS, ids=str)
def test_on_new_pictures_it_beats_a_random_perturbation_of_the_same_size(ball):
    model, x, y = trained()
    result = evaluate(model, TensorData(x, y), UAP(ball, steps=60, batch=16), samples=16)
    (row,) = result.rows()
    (name, random) = row.controls[0]
    assert name == "random"
    assert row.success > random.high, (row.success, random)
    assert row.success > 0.6
    assert bool((result.outcomes[0].distance <= ball.eps).all())


@pytest.mark.parametrize("ball", BALLS, ids=str)
def test_it_adds_the_same_to_every_picture_with_room(ball):
    model, x, y = trained()
    applied = fit(UAP(ball, steps=5, batch=8), model, (x[16:], y[16:]))
    inner = pictures(4, margin=0.4)
    change = applied(model, inner, torch.zeros(4, dtype=torch.long), keep="last") - inner
    torch.testing.assert_close(change, change[:1].expand_as(change), rtol=0, atol=1e-6)
    assert float(ball.distance(inner + change, inner).min()) > 0.2 * ball.eps


@pytest.mark.parametrize("ball", BALLS, ids=str)
def test_a_step_goes_up_the_gradient_and_never_leaves_the_ball(ball):
    attack = UAP(ball, step_size=0.5)
    grad = pictures(1)[0] - 0.5
    once = attack.improved(Fit(torch.zeros_like(grad), None), grad)
    expected = 0.5 * ball.eps * ball.steepest(grad[None], grad[None])[0]
    torch.testing.assert_close(once.thing, expected, rtol=0, atol=1e-9)
    far = once
    for _ in range(5):
        far = attack.improved(far, grad)
    zero = torch.zeros_like(grad)[None]
    torch.testing.assert_close(ball.distance(far.thing[None], zero), torch.tensor([float(ball.eps)]).double())
    ((_, blank),) = attack.blanks(far.thing)
    torch.testing.assert_close(ball.distance(blank[None], zero), torch.tensor([float(ball.eps)]).double())
    assert abs(float(torch.cosine_similarity(blank.flatten(), far.thing.flatten(), 0))) < 0.3


def test_towards_a_class_it_reaches_that_class():
    model, x, y = trained()
    other = (y != 2).nonzero().squeeze(1)
    data = TensorData(x[other], y[other], classes=tuple("abcd"))
    result = evaluate(model, data, UAP(Linf(0.2), steps=60, batch=16), samples=10, target="c")
    assert result.rows()[0].success > 0.6
    reached = result.outcomes[0].success
    assert bool((result.outcomes[0].prediction[reached] == 2).all())


def test_what_was_fitted_is_kept_in_a_file(tmp_path):
    model, x, y = trained()
    applied = fit(UAP(Linf(0.1), steps=3, batch=8), model, (x.float(), y))
    save_fitted(applied, tmp_path / "uap.safetensors")
    assert load_fitted(tmp_path / "uap.safetensors") == applied


def test_the_clipped_loss_is_flat_above_its_ceiling():
    logits = torch.tensor([[0.0, 1.0], [0.0, 20.0]], dtype=torch.float64).requires_grad_()
    goal = Untargeted(torch.tensor([0, 0]))
    value = ClippedCrossEntropy()(logits, goal)
    assert value[0] == CrossEntropy()(logits, goal)[0]
    assert value[1] == 9
    (grad,) = torch.autograd.grad(value.sum(), logits)
    assert bool((grad[0] != 0).all())
    assert not bool(grad[1].any())


def test_refusals_say_what_is_allowed():
    with pytest.raises(InputError, match=r"^UAP works in Linf, L2, not in L0\.$"):
        UAP(L0(3))
    with pytest.raises(InputError, match=r"^UAP: step_size is 0; give a fraction of eps above 0, for example 0\.05\.$"):
        UAP(step_size=0)
    with pytest.raises(InputError, match=r"^UAP: steps is 0; give 1 or more\.$"):
        UAP(steps=0)


@pytest.mark.parametrize("steps", [1, 2, 5, 20])
def test_few_steps_go_as_far_as_many(steps):
    model, x, y = trained()
    for ball in BALLS:
        applied = fit(UAP(ball, steps=steps, batch=16), model, (x[16:], y[16:]))
        thing = applied.thing[None]
        assert float(ball.distance(thing, torch.zeros_like(thing))) > 0.9 * ball.eps


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("steps", [1, 3, 10])
def test_few_steps_are_no_weaker_than_chance(steps, seed):
    model, x, y = trained()
    scored, labels = x[:16], y[:16]
    for ball in BALLS:
        attack = UAP(ball, steps=steps, batch=16)
        applied = fit(attack, model, (x[16:], y[16:]), seed=seed)
        noise = Rng.of(seed, torch.zeros(1, dtype=torch.long)).normal(*x.shape[1:], dtype=x.dtype)
        chance = attack.applied(ball.eps * ball.steepest(noise, torch.zeros_like(noise))[0])
        lost, by_chance = (
            int((model(each(model, scored, labels, keep="last")).argmax(1) != labels).sum())
            for each in (applied, chance)
        )
        assert lost >= by_chance


def test_as_many_steps_as_usual_are_as_long_as_they_were():
    assert UAP().stride == 0.05
    assert UAP(steps=5, step_size=0.05).stride == 0.05
