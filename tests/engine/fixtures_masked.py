"""Models whose robustness is not there: one network behind ten ways to look robust, and a net that misleads cross-entropy."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from helpers import pictures
from torch import Tensor, nn

from advkit.attacks import PGD
from advkit.core import Linf
from advkit.data import TensorData

SHAPE, CLASSES, COUNT = (3, 8, 8), 4, 32
BALL = Linf(4 / 255)


class KWinners(nn.Module):
    """Keeps the highest fifth of the values of each picture and puts the others to zero (Xiao et al. 2020)."""

    def __init__(self, share: float = 0.2) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(1)
        least = flat.topk(max(1, int(self.share * flat.shape[1])), dim=1).values[:, -1:]
        return (flat * (flat >= least)).reshape(x.shape)


class Drawn(NamedTuple):
    x: Tensor
    y: Tensor


def eight_bits(x: Tensor) -> Tensor:
    return (255 * x.clamp(0, 1)).round() / 255


@cache
def patterns() -> Tensor:
    return torch.rand(CLASSES, *SHAPE, generator=torch.Generator().manual_seed(1))


def draw(count: int, generator: torch.Generator) -> Drawn:
    """Noisy patterns of low contrast, so that a few grey levels decide."""
    y = torch.randint(CLASSES, (count,), generator=generator)
    noise = 0.05 * torch.randn(count, *SHAPE, generator=generator)
    return Drawn(eight_bits(0.45 + 0.1 * patterns()[y] + noise), y)


@cache
def data() -> TensorData:
    x, y = draw(48, torch.Generator().manual_seed(7))
    return TensorData(x[:COUNT], y[:COUNT], name="patterns")


def untrained(activation: Callable[[], nn.Module], dropout: float) -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        activation(),
        nn.Conv2d(8, 8, 3, stride=2, padding=1),
        nn.BatchNorm2d(8),
        activation(),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(128, CLASSES),
    )


@cache
def _trained(
    activation: Callable[[], nn.Module], dropout: float, temperature: float, before: Callable[[Tensor], Tensor]
) -> nn.Sequential:
    with torch.random.fork_rng([]):
        net = untrained(activation, dropout).train()
        generator = torch.Generator().manual_seed(2)
        optimizer = torch.optim.Adam(net.parameters(), lr=0.01 * temperature**0.5)
        for _ in range(120):
            x, y = draw(48, generator)
            optimizer.zero_grad()
            F.cross_entropy(net(before(x)) / temperature, y).backward()
            optimizer.step()
    net.zero_grad(set_to_none=True)
    return net.eval()


def as_it_is(x: Tensor) -> Tensor:
    return x


def trained(
    activation: Callable[[], nn.Module] = nn.ReLU,
    dropout: float = 0.0,
    temperature: float = 1.0,
    before: Callable[[Tensor], Tensor] = as_it_is,
) -> nn.Sequential:
    """A network of its own for each caller."""
    return copy.deepcopy(_trained(activation, dropout, temperature, before))


class Around(nn.Module):
    """A network with something before and something behind it."""

    def __init__(
        self,
        net: nn.Module,
        before: Callable[[Tensor], Tensor] = as_it_is,
        behind: Callable[[Tensor], Tensor] = as_it_is,
    ) -> None:
        super().__init__()
        self.net, self.before, self.behind = net, before, behind
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.behind(self.net(self.before(x)))


def resized_and_padded(x: Tensor) -> Tensor:
    """One size and one place for the whole call (Xie et al. 2018)."""
    size = int(torch.randint(6, 9, ()))
    left, top = (int(torch.randint(0, 9 - size, ())) for _ in range(2))
    small = F.interpolate(x, size=(size, size), mode="bilinear", align_corners=False)
    return F.pad(small, (left, 8 - size - left, top, 8 - size - top), value=0.5)


def cooled(logits: Tensor) -> Tensor:
    return logits / 100


class StuckDropout(nn.Dropout):
    """Does not hear of eval()."""

    def train(self, mode: bool = True) -> StuckDropout:
        return super().train(True)


class StuckNorm(nn.BatchNorm2d):
    """Normalises by the batch at hand for ever."""

    def train(self, mode: bool = True) -> StuckNorm:
        return super().train(True)


def left_in_training() -> nn.Module:
    """Dropout and one BatchNorm that eval() does not reach."""
    net = trained(dropout=0.3)
    norm = StuckNorm(8)
    norm.load_state_dict(net[4].state_dict())
    net[4], net[7] = norm, StuckDropout(0.3)
    return net.eval()


class Watching(nn.Module):
    """Answers with noise for a gradient where it is asked for one."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled() and x.requires_grad:
            return self.net(x).flip(1) * 0 + self.net(1 - x.detach())
        return self.net(x)


class Silent(nn.Module):
    """Answers the same where it is asked for a gradient, and gives none."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.detach()) + 0 * x.flatten(1).sum(1, keepdim=True) if x.requires_grad else self.net(x)


class Masked(NamedTuple):
    make: Callable[[], nn.Module]
    codes: set[str]  # of checks that must fail
    bare: Callable[[], nn.Module]  # the network without what masks it, whose robustness is known
    room: float = 1.5 / COUNT  # an example at the edge of the ball


MASKED: dict[str, Masked] = {
    "an input quantiser": Masked(
        lambda: Around(trained(), before=lambda x: (16 * x).round() / 16), {"P11", "P6", "P15", "P16"}, trained
    ),
    "logits times 1000": Masked(lambda: Around(trained(), behind=lambda z: 1000 * z), {"P10", "P11"}, trained),
    "a softmax at the end": Masked(lambda: nn.Sequential(trained(), nn.Softmax(1)).eval(), {"P3"}, trained),
    "winners that take all": Masked(lambda: trained(KWinners), {"P11"}, lambda: trained(KWinners), 0.12),
    "random resizing and padding": Masked(
        lambda: Around(trained(before=resized_and_padded), before=resized_and_padded),
        {"P12"},
        lambda: trained(before=resized_and_padded),
        0.12,
    ),
    "additive noise": Masked(
        lambda: Around(trained(), before=lambda x: x + 0.02 * torch.randn_like(x)), {"P12"}, trained, 0.12
    ),
    "distillation": Masked(
        lambda: trained(temperature=100.0), {"P10", "P11"}, lambda: Around(trained(temperature=100.0), behind=cooled)
    ),
    "a model left in training mode": Masked(left_in_training, {"P3", "P12"}, lambda: trained(dropout=0.3)),
    "probabilities of a sure net": Masked(
        lambda: Around(trained(), behind=lambda z: (20 * z).softmax(1)), {"P3", "P11"}, trained
    ),
    "a model that detects gradients": Masked(lambda: Watching(trained()), {"P11", "P6"}, trained),
    "a model that is silent about gradients": Masked(lambda: Silent(trained()), {"P11", "P16"}, trained),
}


class Misleading(NamedTuple):
    net: nn.Module
    data: TensorData


@cache
def misleading() -> Misleading:
    """An undefended CNN and 80 of 256 pictures, most of which cross-entropy leaves standing, at 4/255."""
    generator = torch.Generator().manual_seed(1)
    with torch.random.fork_rng([]):
        torch.manual_seed(1)
        net = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 16, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(256, 10),
        ).eval()
    x = eight_bits(pictures(256, SHAPE, seed=3, dtype=torch.float32))
    with torch.no_grad():
        features = net[:-1](x)
        weight = torch.randn(10, 256, generator=generator)
        net[-1].weight.copy_(weight)
        net[-1].bias.copy_(-weight @ features.mean(0))
        scale = 0.3 / net(x).std()
        net[-1].weight.mul_(scale)
        net[-1].bias.mul_(scale)
    y = net(x).argmax(1)
    fallen = net(PGD(Linf(4 / 255), steps=40)(net, x, y, keep="first")).argmax(1) != y
    chosen = torch.cat([(~fallen).nonzero().squeeze(1), fallen.nonzero().squeeze(1)[:4]])
    return Misleading(net, TensorData(x[chosen], y[chosen], name="misleading"))
