"""Models whose robustness is not there: one network behind ten ways to look robust, and a net that misleads cross-entropy."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from helpers import pictures
from safetensors.torch import load_file
from torch import Tensor, nn

from advkit.attacks import APGD, PGD
from advkit.core import Linf
from advkit.core.losses import Margin, TargetedMargin
from advkit.data import Data, TensorData

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


def as_it_is(x: Tensor) -> Tensor:
    return x


def resized_and_padded(x: Tensor) -> Tensor:
    """One size and one place for the whole call (Xie et al. 2018)."""
    size = int(torch.randint(6, 9, ()))
    left, top = (int(torch.randint(0, 9 - size, ())) for _ in range(2))
    small = F.interpolate(x, size=(size, size), mode="bilinear", align_corners=False)
    return F.pad(small, (left, 8 - size - left, top, 8 - size - top), value=0.5)


class Recipe(NamedTuple):
    """How one of the networks is trained."""

    activation: Callable[[], nn.Module] = nn.ReLU
    dropout: float = 0.0
    temperature: float = 1.0
    before: Callable[[Tensor], Tensor] = as_it_is


RECIPES = {
    "plain": Recipe(),
    "winners": Recipe(activation=KWinners),
    "resized": Recipe(before=resized_and_padded),
    "distilled": Recipe(temperature=100.0),
    "dropout": Recipe(dropout=0.3),
}
KEPT = Path(__file__).parent / "weights" / "masked.safetensors"
"""Those of training seed 0, by ``python benchmarks/masked.py --keep``: other processors' arithmetic ends elsewhere."""


def untrained(recipe: Recipe, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(100 * seed + 3)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        recipe.activation(),
        nn.Conv2d(8, 8, 3, stride=2, padding=1),
        nn.BatchNorm2d(8),
        recipe.activation(),
        nn.Flatten(),
        nn.Dropout(recipe.dropout),
        nn.Linear(128, CLASSES),
    )


@cache
def train(name: str, seed: int) -> nn.Sequential:
    """A network that is trained here and now."""
    recipe = RECIPES[name]
    with torch.random.fork_rng([]):
        net = untrained(recipe, seed).train()
        generator = torch.Generator().manual_seed(100 * seed + 2)
        optimizer = torch.optim.Adam(net.parameters(), lr=0.01 * recipe.temperature**0.5)
        for _ in range(120):
            x, y = draw(48, generator)
            optimizer.zero_grad()
            F.cross_entropy(net(recipe.before(x)) / recipe.temperature, y).backward()
            optimizer.step()
    net.zero_grad(set_to_none=True)
    return net.eval()


@cache
def _kept() -> dict[str, Tensor]:
    return load_file(KEPT)


def trained(name: str = "plain", seed: int | None = None) -> nn.Sequential:
    """A network of its own for each caller: with the weights that are kept, or trained under a seed."""
    if seed is not None:
        return copy.deepcopy(train(name, seed))
    with torch.random.fork_rng([]):
        net = untrained(RECIPES[name])
    start = f"{name}."
    net.load_state_dict({key.removeprefix(start): value for key, value in _kept().items() if key.startswith(start)})
    return net.eval()


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


def left_in_training(seed: int | None = None) -> nn.Module:
    """Dropout and one BatchNorm that eval() does not reach."""
    net = trained("dropout", seed)
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


Make = Callable[..., nn.Module]


def kept(net: nn.Module, source: Data, ball: Linf) -> float:
    """Accuracy of a network in the worst case of PGD on the margin and APGD towards its rivals, 60 steps each."""
    x, y = source.tensors()
    stands = net(x).argmax(1) == y
    for attack in (
        PGD(ball, steps=60, loss=Margin()),
        APGD(ball, steps=60, loss=TargetedMargin(), targets=min(9, int(y.max()))),
    ):
        stands = stands & (net(attack(net, x, y, keep="first")).argmax(1) == y)
    return float(stands.double().mean())


def sixteen_levels(x: Tensor) -> Tensor:
    return (16 * x).round() / 16


def kept_on_levels(net: nn.Module, source: Data, ball: Linf) -> float:
    """Accuracy on pictures of sixteen levels, in the worst case of a search among the levels that the ball reaches.

    Every value has one or two of them, so the search needs no gradient across the rounding: from the corners that the
    network's own gradient points to and from random ones, the best single change, and where none helps the best of some.
    """
    x, y = source.tensors()
    low, high = (sixteen_levels((x + side * float(ball.eps)).clamp(0, 1)) for side in (-1, 1))
    assert bool((high - low <= 1.001 / 16).all())
    stands = net(sixteen_levels(x)).argmax(1) == y
    for row in stands.nonzero().squeeze(1).tolist():
        stands[row] = not _turns(net, low[row], high[row], int(y[row]))
    return float(stands.double().mean())


def _turns(net: nn.Module, low: Tensor, high: Tensor, label: int) -> bool:
    """Whether a picture of low or high values is found that is not of its class."""
    generator = torch.Generator().manual_seed(0)
    free = (high > low).flatten().nonzero().squeeze(1)

    def above(bits: Tensor) -> Tensor:
        """How far the best other class is above the label, for rows of choices among the free values."""
        points = low.flatten().repeat(len(bits), 1)
        points[:, free] = torch.where(bits, high.flatten()[free], points[:, free])
        logits = net(points.reshape(-1, *low.shape))
        return logits.scatter(1, torch.full((len(bits), 1), label), -torch.inf).amax(1) - logits[:, label]

    def nearby(bits: Tensor, count: int, changes: int) -> Tensor:
        found = bits.repeat(count, 1)
        for _ in range(changes):
            found[torch.arange(count), torch.randint(len(free), (count,), generator=generator)] ^= True
        return found

    for start in [*(other for other in range(CLASSES) if other != label), None, None, None]:
        bits = torch.rand(len(free), generator=generator) < 0.5
        for _ in range(0 if start is None else 10):
            point = torch.where(bits, high.flatten()[free], low.flatten()[free])
            picture = low.flatten().index_put((free,), point).reshape(1, *low.shape).requires_grad_()
            logits = net(picture)
            (grad,) = torch.autograd.grad(logits[0, start] - logits[0, label], picture)
            bits = grad.flatten()[free] > 0
        with torch.no_grad():
            best, tries = float(above(bits[None])), 0
            while best < 0 and tries < 4:
                single = bits ^ torch.eye(len(free), dtype=torch.bool)
                rows = torch.cat([single, *(nearby(bits, 128, changes) for changes in (2, 3, 4) if tries)])
                values = above(rows)
                if float(values.max()) > best:
                    best, bits, tries = float(values.max()), rows[values.argmax()], 0
                else:
                    tries += 1
        if best >= 0:
            return True
    return False


class Masked(NamedTuple):
    """How to look robust; ``make`` and ``bare`` take the seed of training, None for the weights that are kept."""

    make: Make
    codes: set[str]  # of checks that must fail
    bare: Make  # the network without what masks it, whose robustness is known
    room: float = 1.5 / COUNT  # an example at the edge of the ball
    kept: Callable[[nn.Module, Data, Linf], float] = kept  # what the bare network keeps


def plain(seed: int | None = None) -> nn.Sequential:
    return trained("plain", seed)


MASKED: dict[str, Masked] = {
    # Rounding changes what the network sees: among the levels it keeps more than on all pictures of the ball.
    "an input quantiser": Masked(
        lambda s=None: Around(plain(s), before=sixteen_levels),
        {"P11", "P6", "P15", "P16"},
        plain,
        kept=kept_on_levels,
    ),
    "logits times 1000": Masked(lambda s=None: Around(plain(s), behind=lambda z: 1000 * z), {"P10", "P11"}, plain),
    "a softmax at the end": Masked(lambda s=None: nn.Sequential(plain(s), nn.Softmax(1)).eval(), {"P3"}, plain),
    "winners that take all": Masked(
        lambda s=None: trained("winners", s), {"P11"}, lambda s=None: trained("winners", s), 0.12
    ),
    "random resizing and padding": Masked(
        lambda s=None: Around(trained("resized", s), before=resized_and_padded),
        {"P12"},
        lambda s=None: trained("resized", s),
        0.12,
    ),
    "additive noise": Masked(
        lambda s=None: Around(plain(s), before=lambda x: x + 0.02 * torch.randn_like(x)), {"P12"}, plain, 0.12
    ),
    "distillation": Masked(
        lambda s=None: trained("distilled", s),
        {"P10", "P11"},
        lambda s=None: Around(trained("distilled", s), behind=cooled),
    ),
    "a model left in training mode": Masked(left_in_training, {"P3", "P12"}, lambda s=None: trained("dropout", s)),
    "probabilities of a sure net": Masked(
        lambda s=None: Around(plain(s), behind=lambda z: (20 * z).softmax(1)), {"P3", "P11"}, plain
    ),
    "a model that detects gradients": Masked(lambda s=None: Watching(plain(s)), {"P11", "P6"}, plain),
    "a model that is silent about gradients": Masked(lambda s=None: Silent(plain(s)), {"P11", "P16"}, plain),
}


class Misleading(NamedTuple):
    net: nn.Module
    data: TensorData


@cache
def misleading(seed: int = 0) -> Misleading:
    """An undefended CNN and 80 of 256 pictures, most of which cross-entropy leaves standing, at 4/255."""
    generator = torch.Generator().manual_seed(100 * seed + 1)
    with torch.random.fork_rng([]):
        torch.manual_seed(100 * seed + 1)
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
