"""A network with its normalisation inside: what every attack, defense and table is given."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from advkit.documents import parse_json
from advkit.errors import ModelError, nearest

__all__ = ["NORMALISATIONS", "Classifier", "normalisation"]

NORMALISATIONS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)),
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    "gtsrb": ((0.3337, 0.3064, 0.3171), (0.2672, 0.2564, 0.2629)),
    "mnist": ((0.1307,), (0.3081,)),
    "none": ((), ()),
}


class Classifier(nn.Module):
    """Pictures in [0, 1] -> logits (B, K), by ``net`` on ``(x - mean) / std``.

    ``weights`` says in words where the weights came from, ``classes`` holds the names of the classes where known.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        net: nn.Module,
        *,
        name: str,
        weights: str = "caller's",
        classes: Sequence[str] | None = None,
        num_classes: int | None = None,
        mean: Sequence[float] = (),
        std: Sequence[float] = (),
        metadata: Mapping[str, str] | None = None,
        writes: bool = False,
    ) -> None:
        """``writes`` says that ``net`` changes its input in place: it is then handed a copy."""
        super().__init__()
        self.writes = writes
        self.net = net
        self.name = name
        self.weights = weights
        self.classes = None if classes is None else tuple(classes)
        self.num_classes = num_classes if classes is None else len(classes)
        self.metadata = dict(metadata or {})
        self.register_buffer("mean", torch.empty(0))
        self.register_buffer("std", torch.empty(0))
        self.normalise(mean, std)

    def normalise(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Set the normalisation that ``net`` is shown, by channel."""
        self.mean = torch.tensor(mean, dtype=torch.float32, device=self.mean.device).view(-1, 1, 1)
        self.std = torch.tensor(std, dtype=torch.float32, device=self.std.device).view(-1, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, K) of pictures in [0, 1]."""
        # no mean means none: subtracting 0 and dividing by 1 would cost two passes over the pictures
        shown = (x - self.mean) / self.std if len(self.mean) else x.clone() if self.writes else x
        logits: Tensor = self.net(shown)
        return logits

    def fingerprint(self) -> str:
        """SHA-256 of every name, type, shape and byte of the state, and of what else decides the answers.

        That is the settings of a registered backbone, and the file of a format that may keep weights as constants.
        """
        digest = hashlib.sha256()
        for key in ("backbone", "settings", "sha256"):
            digest.update(f"{key}={self.metadata.get(key, '')};".encode())
        for name, tensor in sorted(self.state_dict().items()):
            if not isinstance(tensor, Tensor):
                digest.update(f"{name}={tensor!r};".encode())
                continue
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def extra_repr(self) -> str:
        """Name and origin of the weights."""
        return f"{self.name!r}, weights={self.weights!r}"


def normalisation(
    mean: str | Sequence[float] | None, std: str | Sequence[float] | None, channels: int | None
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Read mean and std: numbers per channel, a text of numbers, or a name such as imagenet; nothing is identity."""
    if isinstance(mean, str) and std is None and mean in NORMALISATIONS:
        std = mean
    means, stds = _numbers("mean", mean, 0), _numbers("std", std, 1)
    count = max(len(means), len(stds))
    if channels is not None and count > 1:
        count = channels
    means, stds = _spread(means or (0.0,), count), _spread(stds or (1.0,), count)
    if len(means) != len(stds) or (channels is not None and len(means) not in (0, 1, channels)):
        raise ModelError(
            f"the normalisation has {len(means)} means and {len(stds)} standard deviations, the pictures have "
            f"{'an unknown number of' if channels is None else channels} channels; give one number per channel."
        )
    if not all(map(math.isfinite, means)):
        raise ModelError(f"mean is {', '.join(map(str, means))}; every mean must be a finite number.")
    if any(not value > 0 or value == float("inf") for value in stds):
        raise ModelError(f"std is {', '.join(map(str, stds))}; every standard deviation must be above 0.")
    return means, stds


def _spread(values: tuple[float, ...], count: int) -> tuple[float, ...]:
    if count == 0:
        return ()
    return values * count if len(values) == 1 else values


def _numbers(what: str, value: str | Sequence[float] | None, place: int) -> tuple[float, ...]:
    if value is None:
        return ()
    if isinstance(value, str) and value in NORMALISATIONS:
        return NORMALISATIONS[value][place]
    try:
        parts = parse_json(f"[{value}]", what) if isinstance(value, str) else value
        return tuple(float(part) for part in parts)
    except (ValueError, TypeError):
        raise ModelError(
            f"{what} is {value!r};{nearest(str(value), NORMALISATIONS)} give one number per channel, such as "
            f"0.5,0.5,0.5, or one of: {', '.join(NORMALISATIONS)}."
        ) from None
