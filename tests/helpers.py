"""Tiny seeded networks and pictures. Everything is drawn from own generators; nothing global is touched."""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from advkit.core.defense import Objective

SHAPE = (3, 8, 8)


def pictures(count: int, shape: tuple[int, ...] = SHAPE, *, seed: int = 0, dtype=torch.float64, margin: float = 0.0):
    """Random pictures in [margin, 1 - margin]."""
    generator = torch.Generator().manual_seed(seed)
    return margin + (1 - 2 * margin) * torch.rand(count, *shape, generator=generator, dtype=dtype)


def seeded(model: nn.Module, seed: int = 0, dtype=torch.float64) -> nn.Module:
    """Weights and statistics drawn from a seed, at a size where predictions differ between pictures; eval mode."""
    generator = torch.Generator().manual_seed(seed)
    model = model.to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            fan_in = max(1, parameter[0].numel())
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=dtype) * (2 / fan_in) ** 0.5)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                size = module.running_mean.shape
                module.running_mean.copy_(0.2 * torch.randn(size, generator=generator, dtype=dtype))
                module.running_var.copy_(0.5 + torch.rand(size, generator=generator, dtype=dtype))
                module.weight.copy_(0.5 + torch.rand(size, generator=generator, dtype=dtype))
    return model.eval()


def linear(classes: int = 3, shape: tuple[int, ...] = SHAPE, *, seed: int = 0, dtype=torch.float64) -> nn.Sequential:
    size = functools.reduce(int.__mul__, shape, 1)
    return seeded(nn.Sequential(nn.Flatten(), nn.Linear(size, classes)), seed, dtype)


def conv_net(classes: int = 5, *, norm: bool = False, dropout: float = 0.0, seed: int = 0, dtype=torch.float64):
    """Two smooth convolutional layers, with BatchNorm or dropout where asked for."""
    layers: list[nn.Module] = [nn.Conv2d(3, 6, 3, padding=1)]
    layers += [nn.BatchNorm2d(6)] if norm else []
    layers += [nn.Softplus(), nn.Conv2d(6, 6, 3, stride=2)]
    layers += [nn.BatchNorm2d(6)] if norm else []
    layers += [nn.Softplus()]
    layers += [nn.Dropout(dropout)] if dropout else []
    return seeded(nn.Sequential(*layers, nn.Flatten(), nn.Linear(54, classes)), seed, dtype)


class Quantiser(nn.Module):
    """Rounds pictures to a few levels, with a zero gradient: a masked network."""

    def __init__(self, inner: nn.Module, levels: int = 8) -> None:
        super().__init__()
        self.inner, self.levels = inner, levels

    def forward(self, x: Tensor) -> Tensor:
        return self.inner((x * self.levels).round() / self.levels)


class Detached(nn.Module):
    """Answers without a gradient."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x).detach()


class Spy(nn.Module):
    """Counts the rows asked with and without a gradient, and remembers whether it was in training mode."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.forwards = self.backwards = self.calls = self.largest = 0
        self.modes: set[bool] = set()

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.forwards += len(x)
        self.largest = max(self.largest, len(x))
        self.modes.add(self.inner.training)
        if x.requires_grad:
            x.register_hook(lambda grad: setattr(self, "backwards", self.backwards + len(grad)))
        return self.inner(x)


class Recorder(nn.Module):
    """Remembers every picture it was asked about."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.asked: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.asked.append(x.detach().clone())
        return self.inner(x)


class FailsAt(nn.Module):
    """Raises on call number ``call``, counted from 1."""

    def __init__(self, inner: nn.Module, call: int) -> None:
        super().__init__()
        self.inner, self.call, self.calls = inner, call, 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        if self.calls == self.call:
            raise ValueError(f"no answer to call {self.call}")
        return self.inner(x)


def trained() -> tuple[nn.Module, Tensor, Tensor]:
    """A float64 CNN that tells four noisy patterns apart (above 95 %), with 32 test pictures: do not change it."""
    model, x, y = _trained()
    model.zero_grad(set_to_none=True)  # other libraries leave gradients behind
    return model, x, y


@functools.lru_cache(maxsize=1)
def _trained() -> tuple[nn.Module, Tensor, Tensor]:
    return taught(conv_net(4, norm=True), SHAPE, seed=1, batches=80, count=32)


def taught(
    model: nn.Module, shape: tuple[int, ...], *, seed: int, batches: int, count: int
) -> tuple[nn.Module, Tensor, Tensor]:
    """A float64 model once it tells four noisy patterns apart (above 95 %), with test pictures."""
    generator = torch.Generator().manual_seed(seed)
    patterns = torch.rand(4, *shape, generator=generator, dtype=torch.float64)

    def draw(count: int) -> tuple[Tensor, Tensor]:
        labels = torch.randint(4, (count,), generator=generator)
        noise = 0.1 * torch.randn(count, *shape, generator=generator, dtype=torch.float64)
        return (0.3 + 0.4 * patterns[labels] + noise).clamp(0, 1), labels

    model.train()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(batches):
        x, y = draw(64)
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    model.zero_grad(set_to_none=True)
    model.eval()
    x, y = draw(count)
    assert (model(x).argmax(1) == y).double().mean() > 0.95
    return model, x, y


class Replays(Objective):
    """Meets each batch twice, and adds what it remembers of the last one."""

    replays = 2
    wants_gradient = True

    def examples(self, model: nn.Module, x: Tensor, y: Tensor, seed: int, memory: Tensor | None = None) -> Tensor:
        return x if memory is None else (x + memory).clamp(0, 1)

    def loss(self, model: nn.Module, x: Tensor, shown: Tensor, y: Tensor) -> Tensor:
        return nn.functional.cross_entropy(model(shown), y)

    def remember(self, x: Tensor, shown: Tensor, grad: Tensor) -> Tensor:
        return 0.05 * grad.sign()
