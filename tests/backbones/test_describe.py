"""The numbers of a description against those of papers and of torch itself."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from advkit.backbones import describe, load_model
from advkit.errors import ModelError


def published(name: str) -> nn.Module:
    from torchvision import models

    options = {"init_weights": False, "aux_logits": False} if name in ("googlenet", "inception_v3") else {}
    net: nn.Module = models.get_model(name, weights=None, **options)
    return net


def test_a_5x5_convolution_from_3_to_200_channels_has_15200_parameters() -> None:
    (layer,) = describe(nn.Conv2d(3, 200, 5), 3, 32, 32).layers
    assert layer.parameters == 15_200
    assert layer.output == (200, 28, 28)
    assert layer.multiply_adds == 200 * 28 * 28 * 75
    assert layer.receptive_field == 5


@pytest.mark.parametrize("side", [7, 8, 15, 28, 32])
@pytest.mark.parametrize("kernel", [1, 2, 3, 5])
@pytest.mark.parametrize(("stride", "padding", "dilation"), [(1, 0, 1), (2, 1, 1), (3, 2, 1), (1, 1, 2), (2, 3, 3)])
def test_output_sizes_follow_the_formula(side: int, kernel: int, stride: int, padding: int, dilation: int) -> None:
    spanned = dilation * (kernel - 1) + 1
    if spanned > side + 2 * padding:
        pytest.skip("the window is wider than the picture")
    (layer,) = describe(nn.Conv2d(1, 4, kernel, stride, padding, dilation), 1, side, side).layers
    expected = (side + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
    assert layer.output == (4, expected, expected)
    assert layer.receptive_field == spanned


# multiply-adds as published with torchvision's weights; receptive fields from Araujo, Norris and Sim, 2019
@pytest.mark.parametrize(
    ("name", "billions", "parameters", "field"),
    [
        ("alexnet", 0.71, 61_100_840, 195),
        ("vgg16", 15.47, 138_357_544, 212),
        ("resnet18", 1.81, 11_689_512, 435),
        ("resnet50", 4.09, 25_557_032, None),
        ("densenet121", 2.83, 7_978_856, 2071),
        ("inception_v3", None, 23_834_568, 1311),
        ("mobilenet_v2", 0.30, 3_504_872, None),
    ],
)
def test_published_networks_have_their_published_numbers(
    name: str, billions: float | None, parameters: int, field: int | None
) -> None:
    with torch.device("meta"):
        net = published(name)
        described = describe(net, 3, 224, 224)
    assert described.parameters == parameters
    assert sum(layer.parameters for layer in described.layers) == parameters
    if billions is not None:
        assert described.multiply_adds / 1e9 == pytest.approx(billions, abs=0.006)
    if field is not None:
        assert described.receptive_field == field


def test_resnet20_sees_81_pixels_and_costs_41_million_multiply_adds() -> None:
    described = describe(load_model("resnet20", weights="random", classes=10), 3, 32, 32)
    # 3, then 6 convolutions of +2, then 1 of +2 and 5 of +4, then 1 of +4 and 5 of +8
    assert described.receptive_field == 3 + 6 * 2 + 2 + 5 * 4 + 4 + 5 * 8
    assert described.multiply_adds == 40_551_040
    assert described.parameters == 269_722


def test_the_receptive_field_is_where_the_gradient_arrives() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.MaxPool2d(2), nn.Conv2d(2, 2, 3, 2, dilation=2), nn.AvgPool2d(3, 1))
    for parameter in net.parameters():
        nn.init.ones_(parameter)
    x = torch.rand(1, 1, 64, 64, requires_grad=True)
    out = net(x)
    touched = torch.zeros(64, 64, dtype=torch.bool)
    for _ in range(20):  # a max pool sends the gradient to one pixel of its window: try several pictures
        x = torch.rand(1, 1, 64, 64, requires_grad=True)
        (grad,) = torch.autograd.grad(net(x)[0, 0, 3, 3], x)
        touched |= grad[0, 0] != 0
    rows = touched.any(1).nonzero().flatten()
    assert describe(net, 1, 64, 64).receptive_field == int(rows[-1] - rows[0]) + 1
    assert out.ndim == 4


def test_branches_count_with_the_longest() -> None:
    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.narrow, self.wide, self.after = nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 7, padding=3), nn.Conv2d(2, 1, 3)

        def forward(self, x: Tensor) -> Tensor:
            after: Tensor = self.after(torch.cat([self.narrow(x), F.relu(self.wide(x))], 1))
            return after

    assert [layer.receptive_field for layer in describe(Branches(), 1, 16, 16).layers] == [1, 7, 9]


def test_a_tall_and_a_wide_kernel_see_a_square_no_larger_than_either() -> None:
    assert describe(nn.Sequential(nn.Conv2d(1, 1, (1, 7)), nn.Conv2d(1, 1, (7, 1))), 1, 16, 16).receptive_field == 7


def test_activation_memory_is_that_of_the_layers_outputs() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2 * 6 * 6, 5))
    assert describe(net, 1, 8, 8).activation_bytes == 4 * (72 + 72 + 5)


def test_the_model_is_left_as_it_was() -> None:
    model = load_model("resnet20", weights="random", classes=10).train()
    model.net.get_submodule("layer1").eval()
    modes = [module.training for module in model.modules()]
    before = model.fingerprint()
    describe(model, 3, 32, 32)
    assert model.fingerprint() == before
    assert [module.training for module in model.modules()] == modes
    assert not any(module._forward_hooks for module in model.modules())


def test_a_layer_called_twice_is_listed_twice_and_counted_once() -> None:
    layer = nn.Linear(4, 4)
    described = describe(nn.Sequential(nn.Flatten(), layer, layer), 1, 2, 2)
    assert described.parameters == 20
    assert sum(each.parameters for each in described.layers) == 20
    assert described.multiply_adds == 2 * 16


class Silent(nn.Module):
    """Raises an error without a word."""

    def forward(self, x: Tensor) -> Tensor:
        raise RuntimeError


def test_an_error_without_words_is_told_by_its_type() -> None:
    with pytest.raises(ModelError, match=r"^Silent cannot take a picture of 1 x 8 x 8 \(RuntimeError\); give"):
        describe(Silent(), 1, 8, 8)


def test_a_picture_that_does_not_fit_is_refused_in_a_sentence() -> None:
    with pytest.raises(ModelError, match=r"^Conv2d cannot take a picture of 1 x 8 x 8 \(.*\); give the channels"):
        describe(nn.Conv2d(3, 2, 3), 1, 8, 8)


class _Stuck(nn.BatchNorm2d):
    def train(self, mode: bool = True) -> _Stuck:
        return super().train(True)


def test_statistics_that_eval_does_not_freeze_are_as_they_were() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), _Stuck(4)).eval()
    before = {name: buffer.clone() for name, buffer in net.named_buffers()}
    describe(net, 3, 8, 8)
    assert all(torch.equal(buffer, before[name]) for name, buffer in net.named_buffers())
