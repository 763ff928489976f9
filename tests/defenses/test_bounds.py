"""Boxes hold what the network answers inside of them, for every layer that is known; others are refused by name."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from helpers import conv_net, linear, pictures, seeded
from torch import Tensor, nn

from advkit.attacks.pgd import PGD
from advkit.backbones.classifier import Classifier
from advkit.backbones.cnn import MinPool2d
from advkit.backbones.resnet import SmallResNet
from advkit.catalog import BACKBONES
from advkit.core import L2, Linf
from advkit.core.modes import borrowed
from advkit.defenses._bounds import cut_box, interval_margins
from advkit.defenses._reading import batch_statistics, read_network
from advkit.defenses.ibp import IBPTraining
from advkit.errors import InputError, ModelError

EPS = 0.03


class Branches(nn.Module):
    """Sums, differences, concatenation, slices, padding and products, in the ways a forward pass may write them."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1, groups=1)
        self.second = nn.Conv2d(3, 4, 1)
        self.last = nn.Linear(48, 5)
        self.scale = nn.Parameter(torch.tensor([0.7]))

    def forward(self, x: Tensor) -> Tensor:
        a, b = F.relu(self.first(x - 0.5)), torch.tanh(self.second((1 - x) / 0.3))
        c = F.pad((a - b)[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2))
        c = c + torch.cat([F.avg_pool2d(b, 2), -F.max_pool2d(-a, 2)], 1) * self.scale
        d = torch.cat([c, -c], 1)[:, :12].relu()
        return self.last(F.adaptive_avg_pool2d(d, 2).view(d.size(0), -1))


class Constant(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.last = linear()

    def forward(self, x: Tensor) -> Tensor:
        return self.last(x * torch.full((3, 1, 1), 2.0, dtype=x.dtype))


def stack(*layers: nn.Module) -> nn.Module:
    size = nn.Sequential(*layers, nn.Flatten())(torch.zeros(1, 3, 8, 8)).shape[1]
    return seeded(nn.Sequential(*layers, nn.Flatten(), nn.Linear(size, 5)))


MODELS = {
    "linear": linear(),
    "softplus with batch norm": conv_net(norm=True),
    "relu": stack(
        nn.Conv2d(3, 8, 3), nn.ReLU(inplace=True), nn.Conv2d(8, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU()
    ),
    "gelu": stack(nn.Conv2d(3, 4, 3), nn.GELU(), nn.Dropout(0.5), nn.Conv2d(4, 4, 3), nn.SiLU()),
    "hardswish": stack(nn.Conv2d(3, 4, 3), nn.Hardswish(), nn.LeakyReLU(0.2), nn.ELU(), nn.Hardtanh(), nn.Sigmoid()),
    "pools": stack(nn.ZeroPad2d(1), nn.MaxPool2d(3, 2, 1), MinPool2d(2), nn.AvgPool2d(2, ceil_mode=True)),
    "strided": stack(nn.Conv2d(3, 6, 4, 2, 1), nn.ReLU(), nn.Conv2d(6, 6, 3, padding="same", dilation=2), nn.Tanh()),
    "branches": seeded(Branches()),
    "constant": Constant(),
    "resnet": seeded(SmallResNet(8, 5)),
    "normalised": Classifier(conv_net(), name="net", mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4)).double().eval(),
}
EVERY = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)


def inside(x: Tensor, eps: float, seed: int) -> Tensor:
    """Points of the ball: uniform ones and corners."""
    u = 2 * pictures(len(x), x.shape[1:], seed=seed) - 1
    return (x + eps * (u.sign() if seed % 2 else u)).clamp(0, 1)


@EVERY
def test_the_steps_answer_as_the_network_does(model: nn.Module) -> None:
    x = pictures(3)
    torch.testing.assert_close(read_network(model, x).run(x), model(x), rtol=1e-12, atol=1e-12)


@EVERY
def test_boxes_hold_what_random_points_and_attacks_reach(model: nn.Module) -> None:
    x = pictures(4)
    with torch.no_grad():
        y = model(x).argmax(1)
        network = read_network(model, x)
        margins = interval_margins(network, cut_box(x, EPS), y)
        boxes = [cut_box(x, EPS)]
        for step in network.steps:
            boxes.append(step.operation.bound(*(boxes[i] for i in step.inputs)))
        points = [inside(x, EPS, seed) for seed in range(300)]
    points += [PGD(Linf(EPS), steps=20)(model, x, y, seed=seed, keep="last") for seed in range(3)]
    for point in points:
        with torch.no_grad():
            values: list[Tensor] = [point]
            for step in network.steps:
                values.append(step.operation.apply(*(values[i] for i in step.inputs)))
        for value, box in zip(values, boxes, strict=True):
            assert bool(((value >= box.lower - 1e-9) & (value <= box.upper + 1e-9)).all())
        found = values[-1].gather(1, y[:, None]) - values[-1]
        assert bool((found >= margins - 1e-9).all())


@EVERY
def test_a_box_without_width_is_the_point(model: nn.Module) -> None:
    x = pictures(3)
    with torch.no_grad():
        logits = model(x)
        network = read_network(model, x)
        margins = network.margins(network.boxes(cut_box(x, 0.0)), logits.argmax(1))
    torch.testing.assert_close(margins, logits.max(1, keepdim=True).values - logits, rtol=1e-9, atol=1e-9)


def test_one_affine_layer_is_bounded_exactly() -> None:
    model, x = linear(), pictures(6, margin=0.1)
    weight = model[1].weight  # type: ignore[index]
    with torch.no_grad():
        logits = model(x)
        y = logits.argmax(1)
        network = read_network(model, x)
        found = network.margins(network.boxes(cut_box(x, 0.05)), y)
        exact = logits.gather(1, y[:, None]) - logits - 0.05 * (weight[y][:, None] - weight).abs().sum(2)
    torch.testing.assert_close(found, exact, rtol=0, atol=1e-12)


def test_joining_the_last_layer_makes_bounds_tighter() -> None:
    model, x = MODELS["relu"], pictures(4)
    with torch.no_grad():
        y = model(x).argmax(1)
        joined, apart = (
            net.margins(net.boxes(cut_box(x, EPS)), y)
            for net in (read_network(model, x), read_network(nn.Sequential(model, nn.LeakyReLU(1.0)), x))
        )
    assert bool((joined >= apart - 1e-12).all())
    assert float((joined - apart).max()) > 0.01


@pytest.mark.parametrize("name", ["cnn", "lenet", "mlp", "resnet20", "wide_resnet16_4", "vgg11_bn", "resnet18"])
def test_shipped_backbones_are_known(name: str) -> None:
    net = BACKBONES.create(name, classes=5).eval()
    x = pictures(2, (3, 32, 32), dtype=torch.float32)
    with torch.no_grad():
        torch.testing.assert_close(read_network(net, x).run(x), net(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("layer", "named"),
    [
        (nn.LayerNorm((3, 8, 8)), "LayerNorm"),
        (nn.Softmax(1), "Softmax"),
        (nn.GELU("tanh"), "GELU"),
        (nn.PReLU(), "PReLU"),
    ],
)
def test_other_layers_are_refused_by_name(layer: nn.Module, named: str) -> None:
    with pytest.raises(ModelError, match=rf"'0' \({named}\)"):
        read_network(nn.Sequential(layer, nn.Flatten(), nn.Linear(192, 3)), pictures(2, dtype=torch.float32))


class Odd(nn.Module):
    def __init__(self, way: str) -> None:
        super().__init__()
        self.way, self.last = way, nn.Linear(192, 3)

    def forward(self, x: Tensor) -> Tensor:
        if self.way == "asks" and x.sum() > 0:
            return x
        if self.way == "squares":
            x = x * x
        if self.way == "mixes":
            x = x.reshape(-1).reshape(-1, 192)
        if self.way == "picture":
            return x
        return self.last(x.flatten(1))


@pytest.mark.parametrize("way", ["asks", "squares", "mixes", "picture"])
def test_a_forward_pass_that_cannot_be_bounded_is_refused(way: str) -> None:
    with pytest.raises(ModelError, match="Odd"):
        read_network(Odd(way), pictures(2, dtype=torch.float32))


def test_reading_leaves_the_model_as_it_is() -> None:
    constant = Constant()
    names = set(vars(constant))
    read_network(constant, pictures(2))
    assert set(vars(constant)) == names
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.Dropout(), nn.Flatten(), nn.Linear(192, 3)).train()
    kept = copy.deepcopy(model.state_dict())
    read_network(model, pictures(2, dtype=torch.float32))
    assert all(torch.equal(value, kept[key]) for key, value in model.state_dict().items())
    assert model.training


def test_batch_statistics_are_those_batch_norm_takes() -> None:
    model, x = conv_net(norm=True).train(), pictures(8)
    with batch_statistics(model) as statistics:
        logits = model(x)
    torch.testing.assert_close(read_network(model, x, statistics).run(x), logits, rtol=1e-9, atol=1e-9)
    assert not any(module._forward_pre_hooks for module in model.modules())


# ---- training


def test_the_ramp_goes_from_the_plain_loss_to_the_mixture() -> None:
    objective = IBPTraining(Linf(0.1), kappa=0.25, warmup=0.2, ramp=0.5)
    model, x, y = conv_net(norm=False), pictures(6), torch.arange(6) % 5
    plain = F.cross_entropy(model(x), y)
    assert [objective.at(done).reached for done in (0, 0.2, 0.45, 0.7, 1)] == pytest.approx([0, 0, 0.5, 1, 1])
    torch.testing.assert_close(objective.at(0.1)(model, x, y, 0), plain)
    network = read_network(model, x)
    for reached in (0.5, 1.0):
        worst = F.cross_entropy(-network.margins(network.boxes(cut_box(x, 0.1 * reached)), y), y)
        expected = plain + reached * 0.75 * (worst - plain)
        torch.testing.assert_close(objective.at(0.2 + 0.5 * reached)(model, x, y, 0), expected)


@pytest.mark.parametrize("norm", [False, True])
def test_the_worst_case_loss_is_above_that_of_any_attack(norm: bool) -> None:
    model, x, y = conv_net(norm=norm), pictures(6), torch.arange(6) % 5
    objective = IBPTraining(Linf(EPS), kappa=0.0)
    with borrowed(model):
        x_adv = PGD(Linf(EPS), steps=20)(model, x, y, seed=0, keep="last")
        assert float(objective(model, x, y, 0)) >= float(F.cross_entropy(model(x_adv), y))


def test_training_by_interval_bounds_certifies_what_plain_training_does_not() -> None:
    x = pictures(64, (1, 6, 6), dtype=torch.float32)
    y = (x[:, 0, :3].mean((1, 2)) > x[:, 0, 3:].mean((1, 2))).long()
    certified = []
    for kappa in (1.0, 0.5):
        torch_net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(128, 2))
        model = seeded(torch_net, dtype=torch.float32).train()
        objective = IBPTraining(Linf(0.04), kappa=kappa)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
        for step in range(120):
            loss = objective.at(step / 120)(model, x, y, step)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            network = read_network(model, x)
            margins = network.margins(network.boxes(cut_box(x, 0.04)), y)
        certified.append(float((margins.scatter(1, y[:, None], 1.0) > 0).all(1).double().mean()))
    assert certified[1] > certified[0] + 0.5, certified


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"kappa": 1.5}, "ibp: kappa is 1.5; give a number from 0 to 1."),
        ({"threat": L2(0.5)}, "ibp: the threat is L2"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, object], sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        IBPTraining(**settings)  # type: ignore[arg-type]
    assert str(caught.value).startswith(sentence)
