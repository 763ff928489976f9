"""Radii certified by CROWN: above those of boxes, below what is found by trying."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from helpers import conv_net, linear, pictures, seeded, trained
from torch import Tensor, nn

from advkit.attacks.pgd import PGD
from advkit.backbones.cnn import MinPool2d
from advkit.backbones.resnet import SmallResNet
from advkit.core import Linf
from advkit.core.defense import Certificate, Certifier
from advkit.core.rng import Rng, identify
from advkit.defenses._backward import crown_margins
from advkit.defenses._bounds import cut_box, interval_margins
from advkit.defenses._reading import read_network
from advkit.defenses.crown import Crown
from advkit.defenses.interval import Interval
from advkit.engine.defend import build_certifier
from advkit.errors import InputError


class Joined(nn.Module):
    """Two branches, subtracted and concatenated."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 4, 1)
        self.last = nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        a, b = F.relu(self.first(x)), F.relu(self.second(x))
        c = torch.cat([F.max_pool2d(a - b, 2), F.avg_pool2d(F.relu(a + b - 1), 2)], 1)
        return self.last(F.adaptive_avg_pool2d(c, 2).flatten(1))


def stack(*layers: nn.Module) -> nn.Module:
    size = nn.Sequential(*layers, nn.Flatten())(torch.zeros(1, 3, 8, 8)).shape[1]
    return seeded(nn.Sequential(*layers, nn.Flatten(), nn.Linear(size, 5)))


MODELS = {
    "relu": stack(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 6, 3, 2), nn.BatchNorm2d(6), nn.ReLU()),
    "leaky": stack(nn.Conv2d(3, 6, 3, 2), nn.LeakyReLU(0.1), nn.Conv2d(6, 6, 3), nn.LeakyReLU(0.3)),
    "max-pooling": stack(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 6, 3), nn.ReLU()),
    "overlapping": stack(nn.Conv2d(3, 6, 3), nn.MaxPool2d(3, 1, 1), nn.ReLU(), MinPool2d(2), nn.Conv2d(6, 4, 2)),
    "softplus": conv_net(norm=True),
    "joined": seeded(Joined()),
    "resnet": seeded(SmallResNet(8, 5)),
}
EVERY = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
EPS = 0.01


def certify(certifier: Certifier, model: nn.Module, x: Tensor) -> Certificate:
    return certifier.certify(model, x, Rng.of(0, identify(x)), 64)


@EVERY
@pytest.mark.parametrize("every_neuron", [True, False])
def test_margins_lie_between_those_of_boxes_and_those_found(model: nn.Module, every_neuron: bool) -> None:
    x = pictures(2)
    with torch.no_grad():
        y = model(x).argmax(1)
        network, box = read_network(model, x), cut_box(x, EPS)
        found = crown_margins(network, box, y, every_neuron)
        boxes = interval_margins(network, box, y)
        assert bool((found >= boxes - 1e-12).all())
        points = [(x + EPS * (2 * pictures(2, seed=seed) - 1).sign()).clamp(0, 1) for seed in range(300)]
        points += [(x + EPS * (2 * pictures(2, seed=seed) - 1)).clamp(0, 1) for seed in range(50)]
    points += [PGD(Linf(EPS), steps=20)(model, x, y, seed=seed, keep="last") for seed in range(3)]
    with torch.no_grad():
        for point in points:
            logits = model(point)
            assert bool((logits.gather(1, y[:, None]) - logits >= found - 1e-9).all())
    if model is not MODELS["softplus"]:
        others = torch.nn.functional.one_hot(y, 5) == 0
        assert float((found - boxes)[others].mean()) > 0.01, "no better than boxes"


def test_bounding_every_neuron_is_tighter_than_bounding_them_by_boxes() -> None:
    model, x = MODELS["relu"], pictures(6)
    with torch.no_grad():
        y = model(x).argmax(1)
        network, box = read_network(model, x), cut_box(x, 0.1)
        every, last = (crown_margins(network, box, y, way) for way in (True, False))
    assert float((every - last).mean()) > 0.01


def test_one_hidden_layer_is_bounded_as_by_hand() -> None:
    # y0 - y1 = relu(a) - relu(b), a = p - q in [-1, 1], b = p + q - 0.5 in [-0.5, 1.5], p and q in [0, 1].
    net = nn.Sequential(nn.Flatten(), nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2, bias=False)).double()
    with torch.no_grad():
        net[1].weight.copy_(torch.tensor([[1.0, -1.0], [1.0, 1.0]]))
        net[1].bias.copy_(torch.tensor([0.0, -0.5]))
        net[3].weight.copy_(torch.eye(2))
        x = torch.full((1, 1, 1, 2), 0.5, dtype=torch.float64)
        network, y = read_network(net, x), torch.tensor([0])
        # relu(a) >= 0 (slope 0, since u = -l); relu(b) <= (b + 0.5) * 1.5 / 2 = 0.75 (p + q) <= 1.5
        found = crown_margins(network, cut_box(x, 0.5), y)
        torch.testing.assert_close(found, torch.tensor([[0.0, -1.5]], dtype=torch.float64), rtol=0, atol=1e-12)
        # In [0.2, 0.8]^2: a in [-0.6, 0.6], b in [-0.1, 1.1]; relu(b) <= 1.1 / 1.2 (b + 0.1), at most 1.1
        found = crown_margins(network, cut_box(x, 0.3), y)
        torch.testing.assert_close(found[0, 1], torch.tensor(-1.1, dtype=torch.float64), rtol=0, atol=1e-12)
        # The other way round: relu(b) >= b (slope 1, since 1.1 > 0.1); relu(a) <= (a + 0.6) / 2: b - a / 2 - 0.3 at (0.2, 0.2)
        found = crown_margins(network, cut_box(x, 0.3), torch.tensor([1]))
        least = min(p + q - 0.5 - (p - q) / 2 - 0.3 for p, q in itertools.product((0.2, 0.8), repeat=2))
        torch.testing.assert_close(found[0, 0], torch.tensor(least, dtype=torch.float64), rtol=0, atol=1e-12)


def test_on_a_linear_model_the_radius_is_the_closed_form() -> None:
    model, x = linear(), pictures(6, margin=0.2)
    weight, logits = model[1].weight.detach(), model(x).detach()
    y = logits.argmax(1)
    gap = (logits.gather(1, y[:, None]) - logits) / (weight[y][:, None] - weight).abs().sum(2)
    expected = gap.scatter(1, y[:, None], torch.inf).amin(1)
    found = certify(Crown(halvings=40), model, x)
    torch.testing.assert_close(found.radius, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("neurons", ["crown", "interval"])
def test_radii_are_at_least_those_of_boxes_and_no_attack_succeeds_inside(neurons: str) -> None:
    model, x = MODELS["relu"], pictures(6)
    boxes = certify(Interval(), model, x)
    found = certify(Crown(neurons=neurons), model, x)  # type: ignore[arg-type]
    assert torch.equal(found.prediction, boxes.prediction)
    assert bool((found.radius >= boxes.radius * (1 - 2**-19)).all())
    assert float((found.radius / boxes.radius).mean()) > 1.2
    for i in range(len(x)):
        one, y = x[i : i + 1], found.prediction[i : i + 1]
        x_adv = PGD(Linf(float(found.radius[i])), steps=20)(model, one, y, seed=i, keep="last")
        assert torch.equal(model(x_adv).argmax(1), y)


def test_a_given_radius_is_certified_as_the_largest_says() -> None:
    model, x = MODELS["relu"], pictures(6)
    largest = certify(Crown(), model, x).radius
    eps = float(largest.median())
    found = certify(Crown(eps=eps), model, x).radius
    sure = largest >= eps * 1.02
    assert bool((found[sure] == eps).all())
    assert bool((found[largest < eps * 0.97] == 0).all())


def test_the_same_certificate_alone_and_in_any_batch() -> None:
    model, x = MODELS["max-pooling"], pictures(4)
    together = certify(Crown(), model, x)
    for i in range(4):
        assert all(
            torch.equal(a, b[i : i + 1]) for a, b in zip(certify(Crown(), model, x[i : i + 1]), together, strict=True)
        )


def test_the_answers_are_those_of_the_network() -> None:
    model, x = conv_net(), pictures(7)
    found = Crown().predict(model, x, Rng.of(0, identify(x)), 3)
    assert torch.equal(found, model(x).argmax(1))
    assert torch.equal(found, certify(Crown(), model, x).prediction)


def test_a_constant_answer_holds_everywhere_and_a_tie_nowhere() -> None:
    model, x = linear(), pictures(2)
    with torch.no_grad():
        model[1].weight.zero_()  # type: ignore[operator, union-attr]
        assert certify(Crown(), model, x).radius.tolist() == [1.0, 1.0]
        model[1].bias.zero_()  # type: ignore[operator, union-attr]
    assert certify(Crown(), model, x).radius.tolist() == [0.0, 0.0]


def test_smooth_activations_are_certified_too() -> None:
    model, x, _ = trained()
    assert bool((certify(Crown(halvings=3), model, x[:1]).radius > 0).all())


def test_it_is_found_by_name() -> None:
    assert build_certifier("crown:eps=2/255,neurons=interval") == Crown(eps=2 / 255, neurons="interval")
    with pytest.raises(InputError, match=r"crown: eps is -1.0; give a number from 0"):
        build_certifier("crown:eps=-1")
