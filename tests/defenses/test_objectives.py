"""The contract of what training minimises, held against every registered objective that trains a classifier."""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from helpers import FailsAt, Spy, conv_net, pictures
from torch import nn

from advkit.attacks.pgd import PGD
from advkit.catalog import DEFENSES
from advkit.core import L1, L2, Linf
from advkit.core.defense import Objective
from advkit.defenses.awp import AWP
from advkit.defenses.fast_at import FastTraining
from advkit.defenses.free_at import FreeTraining
from advkit.defenses.gradalign import GradAlign
from advkit.defenses.mart import Mart
from advkit.defenses.n_fgsm import NoiseFGSM
from advkit.defenses.pgd_at import PGDTraining
from advkit.defenses.smoothadv import SmoothAdv
from advkit.defenses.standard import Standard
from advkit.defenses.trades import Trades
from advkit.engine.defend import build_objective
from advkit.errors import InputError

X = pictures(6, dtype=torch.float32)
Y = torch.tensor([0, 1, 2, 3, 4, 0])

OF_PICTURES = {"denoise", "logit-guided", "noise-prediction", "stability"}  # objectives of denoisers, tested elsewhere
WITHOUT_DRAWS = {"standard", "free-at", "ibp", "roa"}
UNBOUNDED = {"gaussian", "smoothadv"}  # their noise is not clipped, as that of the certifier
ASKING = {"pgd-at", "trades", "mart", "fast-at", "n-fgsm", "gradalign", "alp", "roa", "smoothadv"}
OBJECTIVES = [
    entry
    for entry in DEFENSES.entries()
    if issubclass(entry.factory, Objective) and entry.name not in OF_PICTURES
]  # fmt: skip
EVERY = pytest.mark.parametrize("entry", OBJECTIVES, ids=lambda entry: entry.name)
IN_A_BALL = [PGDTraining, Trades, Mart, FastTraining, NoiseFGSM, GradAlign, FreeTraining, SmoothAdv]


@dataclasses.dataclass
class Kept:
    """What a borrower must give back: flags, weights, statistics, gradients, random state."""

    model: nn.Module

    def __post_init__(self) -> None:
        self.flags = [module.training for module in self.model.modules()]
        self.state = copy.deepcopy(self.model.state_dict())
        self.parameters = list(self.model.parameters())
        self.random = torch.get_rng_state()

    def check(self) -> None:
        assert [module.training for module in self.model.modules()] == self.flags
        assert all(torch.equal(value, self.state[key]) for key, value in self.model.state_dict().items())
        assert all(a is b for a, b in zip(self.model.parameters(), self.parameters, strict=True))
        assert all(p.requires_grad and p.grad is None for p in self.parameters)
        assert torch.equal(torch.get_rng_state(), self.random)


@EVERY
def test_every_objective_gives_a_scalar_with_a_gradient_and_the_same_one_again(entry) -> None:
    objective = entry.create()
    assert dataclasses.is_dataclass(objective)
    with pytest.raises(dataclasses.FrozenInstanceError):
        objective.anything = 1
    # A pass in train mode moves BatchNorm's statistics, so each loss has a model of its own.
    models = [conv_net(norm=True, dtype=torch.float32).train() for _ in range(3)]
    first, again, other = (objective(model, X, Y, seed) for model, seed in zip(models, (0, 0, 1), strict=True))
    model = models[0]
    assert first.shape == ()
    assert torch.equal(first, again)
    assert all(module.training for module in model.modules())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    first.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert torch.equal(first, other) == (entry.name in WITHOUT_DRAWS)


@EVERY
def test_examples_leave_the_model_the_pictures_and_the_random_state_as_they_were(entry) -> None:
    model = conv_net(norm=True, dtype=torch.float32).train()
    model[1].eval()  # frozen by the caller
    kept, x, y = Kept(model), X.clone(), Y.clone()
    shown = entry.create().examples(model, x, y, 3)
    kept.check()
    assert not shown.requires_grad
    assert bool(shown.isfinite().all())
    assert torch.equal(x, X)
    assert torch.equal(y, Y)
    assert entry.name in {"standard", "ibp", "free-at"} or not torch.equal(shown, x), (
        "it shows the pictures as they are"
    )


@EVERY
def test_a_loss_in_eval_mode_changes_nothing_but_what_it_returns(entry) -> None:
    model = conv_net(norm=True, dtype=torch.float32)
    objective = entry.create()
    shown = objective.examples(model, X, Y, 3)
    kept, before = Kept(model), shown.clone()
    first, again = (objective.loss(model, X, shown, Y) for _ in range(2))
    kept.check()
    assert torch.equal(first, again)
    assert torch.equal(shown, before)


@EVERY
def test_a_picture_gets_the_same_example_alone_and_in_any_batch(entry) -> None:
    model, x, objective = conv_net(norm=True), pictures(6), entry.create()
    together = objective.examples(model, x, Y, 5)
    alone = torch.cat([objective.examples(model, x[i : i + 1], Y[i : i + 1], 5) for i in range(6)])
    turned = objective.examples(model, x.flip(0), Y.flip(0), 5).flip(0)
    torch.testing.assert_close(alone, together, rtol=0, atol=1e-9)
    torch.testing.assert_close(turned, together, rtol=0, atol=1e-9)


@EVERY
def test_examples_are_pictures(entry) -> None:
    shown = entry.create().examples(conv_net(dtype=torch.float32), X, Y, 1)
    inside = bool(((shown >= 0) & (shown <= 1)).all())
    assert inside != (entry.name in UNBOUNDED)
    assert shown.dtype == X.dtype


@EVERY
def test_labels_may_be_probabilities(entry) -> None:
    """One-hot ones give the loss of the class numbers; smoothed ones another, with a gradient."""
    model, objective, x = conv_net(), entry.create(), pictures(6)
    shown = objective.examples(model, x, Y, 2)
    whole = objective.loss(model, x, shown, Y)
    one_hot = F.one_hot(Y, 5).double()
    torch.testing.assert_close(objective.loss(model, x, shown, one_hot), whole, rtol=1e-12, atol=1e-12)
    smoothed = objective.loss(model, x, shown, 0.9 * one_hot + 0.02)
    assert abs(float((smoothed - whole).detach())) > 1e-6
    assert all(bool(g.isfinite().all()) for g in torch.autograd.grad(smoothed, list(model.parameters())))


@EVERY
def test_sixteen_bits_give_about_the_same_loss(entry) -> None:
    model, objective = conv_net(norm=True, dtype=torch.float32), entry.create()
    shown = objective.examples(model, X, Y, 2)
    loss = objective.loss(model, X, shown, Y).detach()
    with torch.autocast("cpu", torch.bfloat16):
        close = objective.loss(model, X, shown, Y)
        assert bool(objective.examples(model, X, Y, 2).isfinite().all())
    torch.testing.assert_close(close.detach().float(), loss, rtol=0.05, atol=0.02)
    assert all(bool(g.isfinite().all()) for g in torch.autograd.grad(close, list(model.parameters())))


@pytest.mark.parametrize("threat", [Linf(0.05), L2(0.5), L1(3)], ids=str)
@pytest.mark.parametrize("kind", IN_A_BALL)
def test_what_is_shown_is_in_the_ball_and_costs_the_model_more_than_the_pictures(kind, threat) -> None:
    model, x = conv_net(), pictures(6)
    objective = kind(threat)
    shown = objective.examples(model, x, Y, 1, memory=0.3 * torch.ones_like(x))
    views = shown.unbind(1) if shown.ndim == 5 else (shown,)
    if kind is not SmoothAdv:
        assert all(bool(threat.contains(view, x).all()) for view in views) != (kind is NoiseFGSM)
    if kind not in (FreeTraining, Trades, SmoothAdv):
        assert F.cross_entropy(model(views[0]), Y) > F.cross_entropy(model(x), Y)


def test_noise_fgsm_goes_no_farther_than_the_noise_and_the_step() -> None:
    model, x, eps = conv_net(), pictures(64), 0.05
    y = torch.arange(64) % 5
    shown = NoiseFGSM(Linf(eps)).examples(model, x, y, 0)
    assert 2.5 * eps < float((shown - x).abs().max()) <= 3 * eps + 1e-12
    assert float(((shown - x).abs() > eps).double().mean()) > 0.3


def test_standard_is_cross_entropy() -> None:
    model = conv_net(dtype=torch.float32)
    assert torch.equal(Standard()(model, X, Y, 0), F.cross_entropy(model(X), Y))


@pytest.mark.parametrize("threat", [Linf(0.05), L2(0.5)])
def test_adversarial_training_sees_what_pgd_leaves(threat: Linf | L2) -> None:
    model = conv_net(dtype=torch.float32)
    objective = PGDTraining(threat, steps=3)
    x_adv = PGD(threat, steps=3, step_size=0.25)(model, X, Y, seed=7, keep="last")
    assert torch.equal(objective(model, X, Y, 7), F.cross_entropy(model(x_adv), Y))
    assert objective(model, X, Y, 7) > Standard()(model, X, Y, 7)
    assert torch.equal(Mart(threat, steps=3).examples(model, X, Y, 7), x_adv)


def test_the_attack_of_adversarial_training_takes_its_steps_in_eval_mode() -> None:
    spy = Spy(conv_net(norm=True, dtype=torch.float32).train())
    spy.train()
    PGDTraining(steps=3)(spy, X, Y, 0)
    assert spy.modes == {False, True}
    assert spy.backwards == 3 * len(X)


@pytest.mark.parametrize("objective", [FastTraining(), FastTraining(start="zero"), NoiseFGSM(), GradAlign()], ids=repr)
def test_a_single_step_costs_one_pass_and_one_gradient(objective: Objective) -> None:
    spy = Spy(conv_net(dtype=torch.float32))
    shown = objective.examples(spy, X, Y, 0)
    assert (spy.forwards, spy.backwards) == (6, 6)
    objective.loss(spy, X, shown, Y)
    assert spy.forwards == (24 if isinstance(objective, GradAlign) else 12)


@EVERY
def test_only_attacks_ask_the_model_before_the_loss(entry) -> None:
    spy = Spy(conv_net(norm=True, dtype=torch.float32).train())
    spy.train()
    entry.create().examples(spy, X, Y, 0)
    assert (spy.calls > 0) == (entry.name in ASKING)
    assert spy.modes <= {False}, "an attack in training mode moves BatchNorm's statistics"


def test_fgsm_from_zero_is_the_attack_of_that_name() -> None:
    model, x = conv_net(), pictures(6)
    shown = FastTraining(Linf(0.05), start="zero").examples(model, x, Y, 0)
    points = x.clone().requires_grad_()
    (grad,) = torch.autograd.grad(F.cross_entropy(model(points), Y), points)
    torch.testing.assert_close(shown, (x + 0.05 * grad.sign()).clamp(0, 1), rtol=0, atol=1e-15)
    random = FastTraining(Linf(0.05)).examples(model, x, Y, 0)
    assert not torch.allclose(random, shown, atol=1e-3)
    assert float((random - x).abs().max()) <= 0.05


@pytest.mark.parametrize("text", ["standard", "trades", "mart", "free-at", "gradalign", "augmix", "pgd-at"])
def test_awp_changes_the_weights_that_the_loss_is_taken_at_and_nothing_else(text: str) -> None:
    inner, outer = build_objective(text), build_objective(f"{text}+awp")
    model, plain = (conv_net(norm=True, dtype=torch.float32).train() for _ in range(2))
    assert repr(inner) in repr(outer)
    assert "AWP(gamma=0.01" in repr(outer)
    assert (outer.replays, outer.wants_gradient) == (inner.replays, inner.wants_gradient)
    assert getattr(outer, "threat", None) == getattr(inner, "threat", None)
    shown = outer.examples(model, X, Y, 4)
    assert torch.equal(shown, inner.examples(plain, X, Y, 4))
    kept = Kept(model)
    with outer.disturbed(model, X, shown, Y):
        moved = {name: value.detach().clone() for name, value in model.named_parameters()}
    kept.check()
    for name, weight in model.named_parameters():
        change = float((moved[name] - weight).detach().norm() / weight.detach().norm())
        assert change == (pytest.approx(0.01, rel=1e-4) if weight.ndim > 1 else 0)
    with outer.disturbed(model, X, shown, Y):
        loss = outer.loss(model, X, shown, Y)
    # Statistics have moved once, by the pass of the loss.
    inner.loss(plain, X, shown, Y)
    moves = {"trades": 2, "mart": 2, "gradalign": 3}.get(text, 1)
    assert int(model[1].num_batches_tracked) == moves == int(plain[1].num_batches_tracked)
    assert float(loss.detach()) > float(inner.loss(plain, X, shown, Y).detach())
    loss.backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())


def test_awp_puts_the_weights_back_to_the_bit_also_after_an_exception() -> None:
    model = FailsAt(conv_net(dtype=torch.float32), call=2)  # the first pass is that of the perturbation
    kept, objective = Kept(model), AWP()(Standard())
    with pytest.raises(ValueError, match="call 2"):
        objective(model, X, Y, 0)
    kept.check()
    model.calls = 1
    with pytest.raises(ValueError, match="call 2"):
        objective(model, X, Y, 0)
    kept.check()


def test_awp_leaves_frozen_weights_where_they_are() -> None:
    model = conv_net(dtype=torch.float32)
    model[0].weight.requires_grad_(False)
    objective = AWP()(Standard())
    with objective.disturbed(model, X, X, Y):
        assert torch.equal(model[0].weight, conv_net(dtype=torch.float32)[0].weight)
        assert not torch.equal(model[2].weight, conv_net(dtype=torch.float32)[2].weight)


def test_awp_meets_the_same_dropout_as_the_loss_and_uses_none_up() -> None:
    model = conv_net(dropout=0.5, dtype=torch.float32).train()
    objective, changed = Standard(), AWP(gamma=1e-12)(Standard())
    with torch.random.fork_rng():
        torch.manual_seed(1)
        plain = objective(model, X, Y, 0)
        after = torch.get_rng_state()
        torch.manual_seed(1)
        torch.testing.assert_close(changed(model, X, Y, 0), plain)
        assert torch.equal(torch.get_rng_state(), after)


def test_awp_works_under_autocast() -> None:
    """Autocast keeps copies of the weights: a loss at the copies of the unmoved ones would be no loss at moved ones."""
    objective, model = AWP(gamma=0.3)(Standard()), conv_net(dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        plain = Standard().loss(model, X, X, Y)
        with objective.disturbed(model, X, X, Y):
            loss = objective.loss(model, X, X, Y)
            loss.backward()
            there = copy.deepcopy({name: value.detach() for name, value in model.named_parameters()})
    moved = conv_net(dtype=torch.float32)
    moved.load_state_dict(there)
    with torch.autocast("cpu", torch.bfloat16):
        expected = Standard().loss(moved, X, X, Y)
    expected.backward()
    assert torch.equal(loss.detach(), expected.detach())
    assert float(loss.detach()) > float(plain.detach()) + 0.05
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(model.parameters(), moved.parameters(), strict=True))


def test_awp_sets_in_when_its_warm_up_is_over() -> None:
    objective = AWP(warmup=0.25)(SmoothAdv(warmup=0.5))
    model = conv_net(dtype=torch.float32)
    shown = objective.examples(model, X, Y, 0)
    values = []
    for done in (0.0, 0.2, 0.25, 1.0):
        at = objective.at(done)
        with at.disturbed(model, X, shown, Y):
            values.append(float(at.loss(model, X, shown, Y).detach()))
    assert values[0] == values[1] < values[2] == values[3]
    assert float(objective.at(0.25).threat.eps) == pytest.approx(32 / 255)  # type: ignore[attr-defined]
    assert objective.at(1.0) == objective


def test_a_value_under_awp_can_be_copied_and_compared() -> None:
    objective = build_objective("trades:beta=3+awp:gamma=0.005")
    assert copy.deepcopy(objective) == objective == build_objective("trades:beta=3+awp:gamma=0.005")
    assert objective != build_objective("trades:beta=3+awp:gamma=0.004")
    assert hash(objective) == hash(copy.copy(objective))
    with pytest.raises(AttributeError):
        _ = objective.nothing  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("pgd-at:steps=0", "pgd-at: steps is 0; give 1 or more."),
        ("trades:beta=0", "trades: beta is 0.0; give a number above 0."),
        ("mart:step_size=-1", "mart: step_size is -1.0; give a number above 0."),
        ("free-at:replays=0", "free-at: replays is 0; give 1 or more."),
        ("standard+awp:gamma=0", "awp: gamma is 0.0; give a number above 0."),
        ("standard+awp:warmup=1", "awp: warmup is 1.0; give a share of the training from 0 to below 1."),
        ("fast-at:start=one", "fast-at: start is 'one'; allowed: random, zero."),
        ("cutout:value=2", "cutout: value is 2.0; give a grey level in [0, 1], or none for the mean colour."),
        ("corruption:6", "corruption: severity is 6; give the largest one drawn, from 1 to 5."),
        ("augmix:severity=11", "augmix: severity is 11.0; give a number above 0, up to 10."),
        ("roa:candidates=0", "roa: candidates is 0; give 1 or more."),
        ("smoothadv:copies=0", "smoothadv: copies is 0; give 1 or more."),
    ],
)
def test_settings_out_of_range_are_refused_by_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        build_objective(text)
    assert str(caught.value) == sentence


@pytest.mark.parametrize("kind", IN_A_BALL)
def test_a_ball_without_gradient_steps_is_refused(kind) -> None:
    from advkit.core import L0

    with pytest.raises(InputError, match="works in Linf, L2, L1, not in L0"):
        replace(kind(), threat=L0(3))


def test_noise_wider_than_the_box_is_refused() -> None:
    with pytest.raises(InputError, match="more than the whole range of a pixel"):
        NoiseFGSM(Linf(0.6))
