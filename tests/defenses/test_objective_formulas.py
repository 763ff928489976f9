"""Training objectives against the formulas of their papers, written a second time in numpy and plain loops, in float64."""

from __future__ import annotations

import copy
import itertools
import math

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from helpers import conv_net, linear, pictures
from torch import Tensor, nn

from advkit.core import L2, Linf
from advkit.core.defense import Objective
from advkit.core.goal import Diverge
from advkit.core.losses import KL
from advkit.core.rng import Rng, identify
from advkit.defenses.alp import AdversarialLogitPairing
from advkit.defenses.augmix import AugMix
from advkit.defenses.awp import AWP
from advkit.defenses.clp import CleanLogitPairing
from advkit.defenses.corruption import CorruptionTraining
from advkit.defenses.cutout import Cutout
from advkit.defenses.fast_at import FastTraining
from advkit.defenses.free_at import FreeTraining
from advkit.defenses.gaussian import GaussianTraining
from advkit.defenses.gradalign import GradAlign
from advkit.defenses.mart import Mart
from advkit.defenses.n_fgsm import NoiseFGSM
from advkit.defenses.roa import OcclusionTraining
from advkit.defenses.smoothadv import SmoothAdv
from advkit.defenses.standard import Standard
from advkit.defenses.trades import Trades

EPS = 0.05
X = pictures(6, margin=0.25)  # no step of the attacks below meets the box
Y = torch.tensor([0, 1, 2, 2, 1, 0])
NETS = pytest.mark.parametrize("net", [lambda: conv_net(3), lambda: linear(3)], ids=["conv", "linear"])


def softmax(z: np.ndarray) -> np.ndarray:
    """Rows of logits, one by one."""
    rows = []
    for row in z:
        powers = [math.exp(value - max(row)) for value in row]
        rows.append([power / sum(powers) for power in powers])
    return np.array(rows)


def kl(p: np.ndarray, q: np.ndarray) -> float:
    """Of two distributions: sum of p log(p / q)."""
    return sum(a * (math.log(a) - math.log(b)) for a, b in zip(p, q, strict=True))


def entropy(p: np.ndarray, y: Tensor) -> float:
    """Mean cross-entropy of rows of probabilities."""
    return -sum(math.log(row[label]) for row, label in zip(p, y.tolist(), strict=True)) / len(p)


def answers(model: nn.Module, x: Tensor) -> np.ndarray:
    with torch.no_grad():
        return model(x).numpy()


def value(loss: Tensor) -> float:
    return float(loss.detach())


@NETS
@pytest.mark.parametrize("beta", [1.0, 6.0])
def test_trades_is_the_papers_loss_on_the_papers_pictures(net, beta: float) -> None:
    model, objective = net(), Trades(Linf(EPS), beta=beta, steps=4)
    x_adv = (X + 0.001 * Rng.of(3, identify(X)).fold("start").normal(3, 8, 8, dtype=X.dtype)).detach()
    target = torch.tensor(softmax(answers(model, X)))
    for _ in range(4):
        x_adv.requires_grad_()
        divergence = (target * (target.log() - model(x_adv).log_softmax(1))).sum()
        (grad,) = torch.autograd.grad(divergence, x_adv)
        x_adv = x_adv.detach() + EPS / 4 * grad.sign()
        x_adv = torch.minimum(torch.maximum(x_adv, X - EPS), X + EPS).clamp(0, 1)
    shown = objective.examples(model, X, Y, 3)
    torch.testing.assert_close(shown, x_adv, rtol=0, atol=1e-12)
    clean, moved = softmax(answers(model, X)), softmax(answers(model, x_adv))
    expected = entropy(clean, Y) + beta * sum(kl(p, q) for p, q in zip(clean, moved, strict=True)) / len(X)
    assert value(objective.loss(model, X, shown, Y)) == pytest.approx(expected, abs=1e-9)
    assert value(objective(model, X, Y, 3)) == pytest.approx(expected, abs=1e-9)


def test_the_gradient_of_trades_goes_through_both_answers() -> None:
    """On logits directly, by central differences of the formula."""

    class Table(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.logits = nn.Parameter(pictures(8, (3,), seed=4) * 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.logits[x[:, 0].long()]

    table, y = Table(), torch.tensor([0, 1, 2, 0])
    places = torch.arange(8.0, dtype=torch.float64)[:, None]
    (grad,) = torch.autograd.grad(Trades(beta=6).loss(table, places[:4], places[4:], y), table.logits)

    def formula(z: np.ndarray) -> float:
        p, q = softmax(z[:4]), softmax(z[4:])
        return entropy(p, y) + 6 * sum(kl(a, b) for a, b in zip(p, q, strict=True)) / 4

    base = table.logits.detach().numpy()
    for place in np.ndindex(8, 3):
        step = np.zeros((8, 3))
        step[place] = 1e-5
        slope = (formula(base + step) - formula(base - step)) / 2e-5
        assert float(grad[place]) == pytest.approx(slope, abs=1e-8)


@NETS
def test_the_divergence_of_trades_has_no_gradient_at_the_picture_itself(net) -> None:
    model = net()
    goal, points = Diverge.of(model(X).detach()), X.clone().requires_grad_()
    (at_home,) = torch.autograd.grad(KL()(model(points), goal).sum(), points)
    nearby = (X + 0.001 * Rng.of(0, identify(X)).normal(3, 8, 8, dtype=X.dtype)).requires_grad_()
    (away,) = torch.autograd.grad(KL()(model(nearby), goal).sum(), nearby)
    assert float(at_home.abs().max()) < 1e-14
    assert float(away.abs().max()) > 1e-6


@NETS
@pytest.mark.parametrize("beta", [1.0, 5.0])
def test_mart_is_the_papers_loss(net, beta: float) -> None:
    model, objective = net(), Mart(Linf(EPS), beta=beta, steps=3)
    shown = objective.examples(model, X, Y, 1)
    clean, moved = softmax(answers(model, X)), softmax(answers(model, shown))
    total = 0.0
    for p, q, label in zip(clean, moved, Y.tolist(), strict=True):
        others = [q[k] for k in range(3) if k != label]
        total += -math.log(q[label]) - math.log(1.0001 - max(others)) + beta * kl(p, q) * (1 - p[label])
    assert value(objective.loss(model, X, shown, Y)) == pytest.approx(total / len(X), abs=1e-9)


def test_mart_stays_a_number_where_a_wrong_class_is_certain() -> None:
    model = linear(3)
    for bits in (torch.float64, torch.float32, torch.bfloat16):
        sure = nn.Sequential(model, _Times(1e4, bits))
        for y in (Y, F.one_hot(Y, 3).double()):
            loss = Mart().loss(sure, X, X, y)
            assert bool(loss.isfinite())
            assert all(bool(g.isfinite().all()) for g in torch.autograd.grad(loss, list(sure.parameters())))


class _Times(nn.Module):
    def __init__(self, factor: float, dtype: torch.dtype) -> None:
        super().__init__()
        self.factor, self.dtype = factor, dtype

    def forward(self, logits: Tensor) -> Tensor:
        return (logits * self.factor).to(self.dtype)


# AWP -----------------------------------------------------------------------------------------------------------------


def test_awp_on_a_linear_model_is_the_papers_step() -> None:
    """All in numpy: the gradient by hand, the perturbed weights, the loss there, its gradient, and the step from w."""
    model, gamma, rate = linear(3), 0.2, 0.1
    w, b = (parameter.detach().numpy().copy() for parameter in model.parameters())
    rows = X.flatten(1).numpy()

    def slope(weights: np.ndarray) -> np.ndarray:
        errors = softmax(rows @ weights.T + b) - np.eye(3)[Y]
        return errors.T @ rows / len(rows)

    up = slope(w)
    there = w + gamma * np.sqrt((w**2).sum()) / np.sqrt((up**2).sum()) * up
    objective = AWP(gamma=gamma)(Standard())
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    with objective.disturbed(model, X, X, Y):
        assert np.abs(model[1].weight.detach().numpy() - there).max() < 1e-12
        loss = objective.loss(model, X, X, Y)
        loss.backward()
    assert value(loss) == pytest.approx(entropy(softmax(rows @ there.T + b), Y), abs=1e-9)
    assert np.abs(model[1].weight.grad.numpy() - slope(there)).max() < 1e-9
    assert np.array_equal(model[1].weight.detach().numpy(), w)
    optimizer.step()
    assert np.abs(model[1].weight.detach().numpy() - (w - rate * slope(there))).max() < 1e-9


@pytest.mark.parametrize("inner", [Standard(), Trades(Linf(EPS), steps=2), Mart(Linf(EPS), steps=2)], ids=repr)
def test_awp_on_a_network_is_the_loss_of_a_copy_whose_weights_were_moved(inner: Objective) -> None:
    model, gamma = conv_net(3, norm=True).train(), 0.1
    objective = AWP(gamma=gamma)(inner)
    shown = objective.examples(model, X, Y, 1)
    copied, moved, whole = (copy.deepcopy(model) for _ in range(3))
    inner.loss(copied, X, shown, Y).backward()
    with torch.no_grad():
        for there, here in zip(moved.parameters(), copied.parameters(), strict=True):
            if here.ndim > 1:
                there += gamma * here.norm() / (here.grad.norm() + 1e-20) * here.grad
    expected = inner.loss(moved, X, shown, Y)
    expected.backward()
    with objective.disturbed(model, X, shown, Y):
        loss = objective.loss(model, X, shown, Y)
        loss.backward()
    assert value(loss) == pytest.approx(value(expected), abs=1e-9)
    for ours, theirs in zip(model.parameters(), moved.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=0, atol=1e-9)
    for ours, theirs in zip(model.buffers(), moved.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
    # The value called as a whole, its gradient taken afterwards, is the same.
    objective(whole, X, Y, 1).backward()
    for ours, theirs in zip(whole.parameters(), moved.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=0, atol=1e-9)


def test_awp_climbs_the_mean_over_processes(monkeypatch) -> None:
    """Two processes with half a batch each move the weights as one with the whole batch does."""
    model, objective = conv_net(3), AWP(gamma=0.1)(Standard())
    weights = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    elsewhere = iter(torch.autograd.grad(F.cross_entropy(model(X[3:]), Y[3:]), weights))
    with objective.disturbed(model, X, X, Y):
        together = [parameter.detach().clone() for parameter in model.parameters()]
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "all_reduce", lambda grad: grad.add_(next(elsewhere)))
    with objective.disturbed(model, X[:3], X[:3], Y[:3]):
        for ours, expected in zip(model.parameters(), together, strict=True):
            torch.testing.assert_close(ours.detach(), expected, rtol=0, atol=1e-12)


# Free adversarial training ---------------------------------------------------------------------------------------------


def test_free_training_on_a_linear_model_is_the_papers_algorithm() -> None:
    """Weights and perturbation after each replay of two batches, by hand in numpy; the perturbation is carried on."""
    model, rate, replays = linear(3), 0.05, 4
    objective = FreeTraining(Linf(EPS), replays=replays)
    batches = [(X, Y), (pictures(6, margin=0.25, seed=9), Y.flip(0))]
    w, b = (parameter.detach().numpy().copy() for parameter in model.parameters())
    delta, memory = np.zeros((6, 192)), None
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    for x, y in batches:
        rows, answer = x.flatten(1).numpy(), np.eye(3)[y]
        for _ in range(replays):
            errors = (softmax((rows + delta) @ w.T + b) - answer) / 6
            loss = entropy(softmax((rows + delta) @ w.T + b), y)
            up = errors @ w
            w, b = w - rate * errors.T @ (rows + delta), b - rate * errors.sum(0)
            delta = np.clip(delta + EPS * np.sign(up), -EPS, EPS)

            found, memory = _replay(objective, model, optimizer, x, y, memory)
            assert found == pytest.approx(loss, abs=1e-9)
            assert np.abs(model[1].weight.detach().numpy() - w).max() < 1e-9
            assert np.abs(model[1].bias.detach().numpy() - b).max() < 1e-9
            assert np.abs(memory.flatten(1).numpy() - delta).max() < 1e-9


def test_free_training_on_a_network_is_the_papers_algorithm() -> None:
    model = conv_net(3, norm=True).train()
    other, rate = copy.deepcopy(model), 0.05
    objective, memory = FreeTraining(Linf(EPS), replays=3, step_size=0.6), None
    optimizer, delta = torch.optim.SGD(model.parameters(), lr=rate), torch.zeros_like(X)
    for _ in range(3):
        delta.requires_grad_()
        loss = F.cross_entropy(other(X + delta), Y)
        *grads, up = torch.autograd.grad(loss, [*other.parameters(), delta])
        with torch.no_grad():
            for parameter, grad in zip(other.parameters(), grads, strict=True):
                parameter -= rate * grad
        delta = (delta.detach() + 0.6 * EPS * up.sign()).clamp(-EPS, EPS)
        found, memory = _replay(objective, model, optimizer, X, Y, memory)
        assert found == pytest.approx(value(loss), abs=1e-9)
        torch.testing.assert_close(memory, delta, rtol=0, atol=1e-9)
        for ours, theirs in zip(model.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-9)


def _replay(
    objective: Objective,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    x: Tensor,
    y: Tensor,
    memory: Tensor | None,
) -> tuple[float, Tensor]:
    """One step as the training loop takes it."""
    shown = objective.examples(model, x, y, 0, memory).detach().clone().requires_grad_()
    optimizer.zero_grad()
    loss = objective.loss(model, x, shown, y)
    loss.backward()
    optimizer.step()
    remembered = objective.remember(x, shown.detach(), shown.grad)
    assert remembered is not None
    return value(loss), remembered


def test_a_perturbation_of_another_shape_is_forgotten() -> None:
    model, objective = conv_net(3), FreeTraining()
    assert torch.equal(objective.examples(model, X, Y, 0, memory=X[:3]), X)
    assert not torch.equal(objective.examples(model, X, Y, 0, memory=0.01 * X), X)


# The others --------------------------------------------------------------------------------------------------------------


@NETS
def test_single_steps_are_the_papers_pictures(net) -> None:
    """Fast: clip(U + 1.25 eps sign g(x + U), eps); noise: N + eps sign g(x + N), not clipped; g by plain autograd."""
    model = net()

    def stepped(first: Tensor, length: float) -> Tensor:
        points = first.clone().requires_grad_()
        (grad,) = torch.autograd.grad(F.cross_entropy(model(points), Y), points)
        return first - X + length * grad.sign()

    draws = Rng.of(5, identify(X))
    first = X + EPS * (2 * draws.fold("start").uniform(3, 8, 8, dtype=X.dtype) - 1)
    expected = X + stepped(first, 1.25 * EPS).clamp(-EPS, EPS)
    torch.testing.assert_close(FastTraining(Linf(EPS)).examples(model, X, Y, 5), expected, rtol=0, atol=1e-12)
    first = X + 2 * EPS * (2 * draws.fold("noise").uniform(3, 8, 8, dtype=X.dtype) - 1)
    expected = X + stepped(first, EPS)
    torch.testing.assert_close(NoiseFGSM(Linf(EPS)).examples(model, X, Y, 5), expected, rtol=0, atol=1e-12)


def test_gradalign_on_a_linear_model_is_the_papers_regulariser() -> None:
    model, objective = linear(3), GradAlign(Linf(EPS), weight=0.7)
    w, b = (parameter.detach().numpy() for parameter in model.parameters())
    shown = objective.examples(model, X, Y, 2)

    def gradients(x: Tensor) -> np.ndarray:
        return (softmax(x.flatten(1).numpy() @ w.T + b) - np.eye(3)[Y]) @ w

    cosines = [
        sum(g * h) / math.sqrt(sum(g * g) * sum(h * h))
        for g, h in zip(gradients(X), gradients(shown[:, 1]), strict=True)
    ]
    expected = entropy(softmax(answers(model, shown[:, 0])), Y) + 0.7 * (1 - sum(cosines) / len(X))
    assert value(objective.loss(model, X, shown, Y)) == pytest.approx(expected, abs=1e-9)
    assert min(cosines) < 1 - 1e-6
    torch.testing.assert_close(shown[:, 0], X + EPS * torch.tensor(np.sign(gradients(X))).reshape(X.shape))


def test_gradalign_differentiates_the_gradients() -> None:
    """The gradient of the whole loss, by central differences along random directions in the weights."""
    model, objective = conv_net(3), GradAlign(Linf(0.2), weight=5)
    shown = objective.examples(model, X, Y, 2)
    weights = list(model.parameters())
    grads = torch.autograd.grad(objective.loss(model, X, shown, Y), weights)
    without = torch.autograd.grad(F.cross_entropy(model(shown[:, 0]), Y), weights)
    for seed in range(3):
        way = [pictures(1, tuple(p.shape), seed=seed)[0] - 0.5 for p in weights]
        slopes = []
        for step in (1e-5, -2e-5):
            with torch.no_grad():
                for parameter, change in zip(weights, way, strict=True):
                    parameter += step * change
            slopes.append(value(objective.loss(model, X, shown, Y)))
        with torch.no_grad():
            for parameter, change in zip(weights, way, strict=True):
                parameter += 1e-5 * change
        found, plain = (sum(float((g * v).sum()) for g, v in zip(gs, way, strict=True)) for gs in (grads, without))
        assert found == pytest.approx((slopes[0] - slopes[1]) / 2e-5, rel=1e-5, abs=1e-7)
        assert abs(found - plain) > 1e-3


def test_gradalign_aligns_gradients_however_small_in_float32() -> None:
    """A confident model's gradients are of 1e-15, and their squares nothing; the cosine is that of the large ones."""

    class Bent(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen = (x.flatten(1) * weights).sin().sum(1) / 10
            return torch.stack([seen + self.lead, -seen], 1)

    weights, y = (10 * pictures(1, (192,), seed=3)).float(), torch.zeros(6, dtype=torch.long)
    shown, losses = torch.stack([X, X + 0.1], 1).float(), []
    for lead in (5, 35):
        model = Bent()
        model.lead = lead
        clean = F.cross_entropy(model(shown[:, 0]), y)
        losses.append(value(GradAlign(weight=1).loss(model, X.float(), shown, y)) - value(clean))
    assert losses[0] > 0.05
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


def test_gradalign_has_a_gradient_where_there_is_none_to_align() -> None:
    model = linear(3)
    with torch.no_grad():
        model[1].weight.zero_()
    loss = GradAlign()(model, X, Y, 0)
    assert all(bool(g.isfinite().all()) for g in torch.autograd.grad(loss, list(model.parameters())))


def test_logit_pairing_is_the_papers_loss() -> None:
    model, objective = conv_net(3), AdversarialLogitPairing(Linf(EPS), weight=0.3, steps=2)
    shown = objective.examples(model, X, Y, 1)
    z, z_adv = answers(model, X), answers(model, shown)
    pairs = sum((z[i, k] - z_adv[i, k]) ** 2 for i in range(6) for k in range(3)) / 18
    expected = (entropy(softmax(z), Y) + entropy(softmax(z_adv), Y)) / 2 + 0.3 * pairs
    assert value(objective.loss(model, X, shown, Y)) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("count", [6, 5, 1])
def test_clean_logit_pairing_sets_halves_of_the_batch_against_each_other(count: int) -> None:
    model, objective, y = conv_net(3), CleanLogitPairing(weight=0.3, sigma=0.1), Y[:count]
    shown = objective.examples(model, X[:count], y, 1)
    z, half = answers(model, shown), count // 2
    pairs = [(z[i, k] - z[i + half, k]) ** 2 for i in range(half) for k in range(3)]
    expected = entropy(softmax(z), y) + (0.3 * sum(pairs) / len(pairs) if pairs else 0)
    assert value(objective.loss(model, X[:count], shown, y)) == pytest.approx(expected, abs=1e-9)


def test_augmix_is_the_papers_loss() -> None:
    model, objective = conv_net(3), AugMix(weight=12)
    shown = objective.examples(model, X, Y, 1)
    views = [softmax(answers(model, x)) for x in (X, shown[:, 0], shown[:, 1])]
    mean = sum(views) / 3
    divergence = sum(kl(view[i], mean[i]) for view in views for i in range(6)) / 18
    expected = entropy(views[0], Y) + 12 * divergence
    assert value(objective.loss(model, X, shown, Y)) == pytest.approx(expected, abs=1e-9)
    assert divergence > 1e-5


def test_smoothadv_attacks_the_mean_over_its_own_copies() -> None:
    model, objective = conv_net(3), SmoothAdv(L2(0.5), sigma=0.12, copies=3, steps=4)
    noise = 0.12 * Rng.of(3, identify(X)).fold("noise").normal(3, 3, 8, 8, dtype=X.dtype)
    x_adv = X
    for _ in range(4):
        x_adv = x_adv.detach().requires_grad_()
        chance = sum(model(x_adv + noise[:, i]).softmax(1)[range(6), Y] for i in range(3)) / 3
        (grad,) = torch.autograd.grad(-chance.log().sum(), x_adv)
        for i in range(6):
            change = x_adv[i].detach() + 0.25 * grad[i] / grad[i].norm() - X[i]
            change = change * min(1.0, 0.5 / float(change.norm()))
            x_adv = torch.cat([x_adv[:i].detach(), (X[i] + change)[None], x_adv[i + 1 :].detach()])
    shown = objective.examples(model, X, Y, 3)
    torch.testing.assert_close(shown, x_adv[:, None] + noise, rtol=0, atol=1e-9)
    mean = sum(entropy(softmax(answers(model, shown[:, i])), Y) for i in range(3)) / 3
    assert value(objective.loss(model, X, shown, Y)) == pytest.approx(mean, abs=1e-9)


def test_gaussian_noise_has_its_size_and_is_not_clipped() -> None:
    shown = GaussianTraining(0.5).examples(conv_net(3), pictures(200), torch.zeros(200, dtype=torch.long), 0)
    noise = shown - pictures(200)
    assert float(noise.mean()) == pytest.approx(0, abs=0.01)
    assert float(noise.std()) == pytest.approx(0.5, rel=0.01)
    assert float(shown.min()) < -0.5
    assert float(shown.max()) > 1.5


# Rectangles --------------------------------------------------------------------------------------------------------------


def _boxes(changed: Tensor) -> list[tuple[int, int, int, int]]:
    """(top, left, height, width) of the smallest box around what changed in each picture, (B, H, W)."""
    boxes = []
    for picture in changed:
        rows, columns = picture.any(1).nonzero().flatten(), picture.any(0).nonzero().flatten()
        top, left = int(rows[0]), int(columns[0])
        boxes.append((top, left, int(rows[-1]) - top + 1, int(columns[-1]) - left + 1))
    return boxes


@pytest.mark.parametrize("place", ["gradient", "random"])
def test_an_occlusion_changes_one_rectangle_of_its_size_and_hurts(place) -> None:
    model, x, y = conv_net(), pictures(12), torch.arange(12) % 5
    objective = OcclusionTraining(side=3, width=2, place=place, steps=6)
    shown = objective.examples(model, x, y, 0)
    boxes = _boxes((shown != x).any(1))
    assert all(height == 3 and width == 2 for _, _, height, width in boxes)
    assert len(set(boxes)) > 3
    assert bool(((shown >= 0) & (shown <= 1)).all())
    worse = F.cross_entropy(model(shown), y, reduction="none") - F.cross_entropy(model(x), y, reduction="none")
    assert float((worse > 0).double().mean()) > (0.9 if place == "gradient" else 0.7)


def test_a_share_of_the_side_makes_pixels() -> None:
    model, x = conv_net(), pictures(6)
    boxes = _boxes((OcclusionTraining(side=0.25, steps=2).examples(model, x, Y, 0) != x).any(1))
    assert all(box[2:] == (2, 2) for box in boxes)


@pytest.mark.parametrize("corner", [(0, 0), (0, 5), (5, 0), (5, 5), (2, 5)], ids=str)
def test_the_search_finds_a_place_in_the_last_row_and_column(corner: tuple[int, int]) -> None:
    """Of a model that looks at nothing but one 3 x 3 window, all (8 - 3 + 1)^2 places being open."""

    class Window(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            top, left = corner
            seen = x[:, :, top : top + 3, left : left + 3].flatten(1).sum(1)
            return torch.stack([seen, -seen], 1)

    x = 0.6 + 0.4 * pictures(4)  # grey takes most away where it covers the whole window
    shown = OcclusionTraining(side=3, steps=3).examples(Window(), x, torch.zeros(4, dtype=torch.long), 0)
    assert [box[:2] for box in _boxes((shown != x).any(1))] == [corner] * 4


def test_random_places_are_all_places() -> None:
    x = pictures(400, (3, 6, 5))
    y = torch.zeros(400, dtype=torch.long)
    model = linear(3, (3, 6, 5))
    shown = OcclusionTraining(side=3, place="random", steps=1).examples(model, x, y, 0)
    places = [box[:2] for box in _boxes((shown != x).any(1))]
    assert set(places) == {(top, left) for top in range(4) for left in range(3)}
    counts = [places.count(place) for place in set(places)]
    assert min(counts) > 15
    assert max(counts) < 55


def test_the_rectangle_is_the_best_of_the_tried() -> None:
    model, x = conv_net(), pictures(6)
    y = Y
    grey = OcclusionTraining(side=3, candidates=36, steps=1, step_size=1e-9).examples(model, x, y, 0)
    for i in range(6):
        losses = {}
        for top in range(6):
            for left in range(6):
                tried = x[i : i + 1].clone()
                tried[:, :, top : top + 3, left : left + 3] = 0.5
                losses[top, left] = value(F.cross_entropy(model(tried), y[i : i + 1]))
        assert _boxes((grey[i : i + 1] != x[i : i + 1]).any(1))[0][:2] == max(losses, key=lambda at: losses[at])


def test_more_steps_never_leave_a_lower_loss() -> None:
    """On a loss of many hills, where a long step leaves a maximum as often as it finds one; the best is kept."""

    class Hills(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen = (30 * x).sin().flatten(1).sum(1)
            return torch.stack([seen, -seen], 1)

    x, y, losses = pictures(8), torch.zeros(8, dtype=torch.long), []
    for steps in range(1, 6):
        shown = OcclusionTraining(side=3, steps=steps, step_size=0.07).examples(Hills(), x, y, 0)
        losses.append(F.cross_entropy(Hills()(shown), y, reduction="none"))
    assert all(bool((more >= fewer - 1e-12).all()) for fewer, more in itertools.pairwise(losses))


@pytest.mark.parametrize("value", [0.5, None])
def test_cutout_covers_whole_squares_anywhere_with_one_colour(value: float | None) -> None:
    x = pictures(300)
    shown = Cutout(holes=1, side=3, value=value).examples(conv_net(), x, torch.zeros(300, dtype=torch.long), 0)
    changed = (shown != x).any(1)
    boxes = _boxes(changed)
    assert {box[:2] for box in boxes} == {(top, left) for top in range(6) for left in range(6)}
    assert all(box[2:] == (3, 3) for box in boxes)
    assert changed.sum((1, 2)).tolist() == [9] * 300
    fill = x.mean((2, 3)) if value is None else torch.full((300, 3), 0.5, dtype=x.dtype)
    for i, (top, left, _, _) in enumerate(boxes):
        torch.testing.assert_close(shown[i, :, top, left], fill[i])


def test_cutouts_holes_are_as_many_and_as_large_as_they_are_said_to_be() -> None:
    x = pictures(100, (3, 32, 32))
    y = torch.zeros(100, dtype=torch.long)
    covered = (Cutout().examples(conv_net(), x, y, 0) != x).any(1).sum((1, 2))
    assert int(covered.max()) == 200  # two holes of 10 pixels, apart
    assert int(covered.min()) >= 100


# Corruptions ---------------------------------------------------------------------------------------------------------------


def test_corruptions_grow_with_the_severity_and_are_of_many_kinds() -> None:
    x = F.interpolate(pictures(240, (3, 4, 4)), (16, 16), mode="bicubic").clamp(0, 1)
    y = torch.zeros(240, dtype=torch.long)
    mild, strong = (CorruptionTraining(severity).examples(conv_net(), x, y, 0) for severity in (1, 5))
    assert float((strong - x).abs().mean()) > 1.5 * float((mild - x).abs().mean())
    assert float((strong != x).flatten(1).any(1).double().mean()) > 0.95
    residue = strong - x
    smooth = F.avg_pool2d(residue, 3, 1).square().flatten(1).mean(1) / residue.square().flatten(1).mean(1).clamp_min(
        1e-9
    )
    assert 0.2 < float((smooth < 0.2).double().mean()) < 0.6, (
        "noise, which a mean of nine pixels removes, and other kinds"
    )


def test_views_of_augmix_differ_from_the_picture_and_each_other_more_at_a_higher_severity() -> None:
    x = F.interpolate(pictures(60, (3, 4, 4)), (16, 16), mode="bicubic").clamp(0, 1)
    y = torch.zeros(60, dtype=torch.long)
    mild, strong = (AugMix(severity=severity).examples(conv_net(), x, y, 0) for severity in (0.5, 8))
    assert mild.shape == (60, 2, 3, 16, 16)
    for views in (mild, strong):
        assert float((views[:, 0] - views[:, 1]).abs().mean()) > 0.005
    assert float((strong - x[:, None]).abs().mean()) > 1.2 * float((mild - x[:, None]).abs().mean())
