"""Whether a model expects standardised input that nobody gives it: it is asked about a few images in the usual standards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from advkit.backbones.classifier import NORMALISATIONS, Classifier
from advkit.data import Data
from advkit.engine.defend import Defended
from advkit.engine.passes import Passes
from advkit.engine.precision import Precision
from advkit.errors import PassError

__all__ = ["BUDGET", "Expected", "expected_standard", "standard_is_known"]

BUDGET = 150.0
"""Forward passes that suffice for a verdict."""

_GOOD = 0.9  # of the images: who is right so often is asked nothing
_LEAST, _MOST = 8, 24  # images that it gets wrong, and as many that it gets right
_FIRST, _HOPE = 4, 2  # of them are asked first: who is right on fewer in a standard is asked no more about it
_MENDED, _KEPT = 2 / 3, 0.9  # of them: what must be right in another standard
_GAIN = 0.1  # of all images: what the other standard gets right beyond
_OTHERS = {"0.5:0.5": (0.5, 0.5), "0:0.00392157": (0.0, 1 / 255)}
"""As --normalize takes them: values from -1 to 1, and from 0 to 255."""


@dataclass(frozen=True)
class Expected:
    """The standard, as --normalize takes it, in which ``mended`` of ``wrong`` images are right, and ``kept`` of ``right``."""

    name: str
    mended: int
    wrong: int
    kept: int
    right: int

    @property
    def sentence(self) -> str:
        """The evidence."""
        scale = {"0.5:0.5": "values from -1 to 1", "0:0.00392157": "values from 0 to 255"}.get(self.name)
        how = f"as {scale}" if scale else f"normalised as for {self.name}"
        also = f", and so are {self.kept} of {self.right} that it gets right" if self.right else ""
        return (
            f"Of {self.wrong} pictures that it gets wrong {self.mended} are right {how}{also}: the model seems to be trained "
            "on such input, and is given values in [0, 1]."
        )

    @property
    def advice(self) -> str:
        """What to do."""
        return f"Give the normalisation that it was trained with (such as --normalize {self.name}), and run again."


def standard_is_known(model: nn.Module) -> bool:
    """Whether a model has a normalisation that advkit knows of: the caller's, that of its source, or of its weights' file."""
    inner = model.model if isinstance(model, Defended) else model
    if not isinstance(inner, Classifier):
        return False
    return bool(len(inner.mean)) or "mean" in inner.metadata or inner.weights.startswith(("random", "embedded"))


def expected_standard(
    model: nn.Module, data: Data, correct: Tensor, batch_size: int, budget: float = BUDGET
) -> Expected | None:
    """The usual standard in which a borrowed model is right clearly more often than with images as they are, if there is one.

    ``correct`` (N,) says which it gets right as it is. Nothing is asked of a model that is right on most, whose standard is
    known, or for which ``budget`` forward passes do not suffice; few are made for one that is merely weak.
    """
    share = float(correct.double().mean())
    if share > _GOOD or standard_is_known(model) or bool((data.labels < 0).any()):
        return None
    standards = list(_standards(data.shape[0]))
    wrong = _some(~correct, min(_MOST, int((budget - _MOST) / len(standards))))
    right = _some(correct, _MOST)
    if len(wrong) < _LEAST:
        return None
    first = _some(torch.ones(len(wrong), dtype=torch.bool), _FIRST)
    later = torch.ones(len(wrong), dtype=torch.bool)
    later[first] = False
    few, others = wrong[first], wrong[later]
    inner = model.model if isinstance(model, Defended) else model
    passes = Passes(inner, Precision.own(inner), batch_size)

    def judged(x: Tensor) -> Tensor:
        return torch.cat([passes.judge(part.to(passes.device)).argmax(1).cpu() for part in torch.split(x, batch_size)])

    def answers(place: Tensor, mean: Tensor, std: Tensor) -> Tensor:
        x = data.pictures(place.tolist())
        return judged((x - mean.to(x)) / std.to(x))

    def first_answers() -> list[Tensor | None]:
        """In each standard; in few passes, where a small batch takes as long as a large one."""
        x = data.pictures(few.tolist())
        try:
            shown = torch.cat([(x - m.to(x)) / s.to(x) for _, m, s in standards])
            return [*torch.split(judged(shown), len(few))]
        except PassError:  # the values of a standard may be beyond it
            return [_unless_beyond(lambda m=m, s=s: answers(few, m, s)) for _, m, s in standards]  # type: ignore[misc]

    found: list[tuple[int, str, Tensor, Tensor]] = []
    for (name, mean, std), said in zip(standards, first_answers(), strict=True):
        if said is None or int((said == data.labels[few]).sum()) < _HOPE:
            continue
        more = _unless_beyond(lambda m=mean, s=std: answers(others, m, s))  # type: ignore[misc]
        if more is None:
            continue
        said = torch.cat([said, more])
        if len(set(said.tolist())) > 1:  # who answers one class whatever it is shown is right by the order of the data
            found.append((int((said == data.labels[torch.cat([few, others])]).sum()), name, mean, std))
    mended, name, mean, std = max(found, key=lambda each: each[0], default=(0, "", torch.zeros(1), torch.ones(1)))
    if mended < _MENDED * len(wrong):
        return None
    kept = int((answers(right, mean, std) == data.labels[right]).sum()) if len(right) else 0
    after = share * (kept / len(right) if len(right) else 0) + (1 - share) * mended / len(wrong)
    if kept < _KEPT * len(right) or after < share + _GAIN:
        return None
    return Expected(name, mended, len(wrong), kept, len(right))


def _unless_beyond(ask: Callable[[], Tensor]) -> Tensor | None:
    """The answers, or nothing of a model that such values are beyond."""
    try:
        return ask()
    except PassError:
        return None


def _some(which: Tensor, most: int) -> Tensor:
    """Places of at most so many of the images that ``which`` (N,) names, evenly apart."""
    place = which.nonzero().squeeze(1)
    return place if len(place) <= most else place[torch.linspace(0, len(place) - 1, max(0, most)).round().long()]


def _standards(channels: int) -> Iterator[tuple[str, Tensor, Tensor]]:
    """The usual standards for images of so many channels."""
    for name, (mean, std) in NORMALISATIONS.items():
        if len(mean) == channels:
            yield name, torch.tensor(mean).view(-1, 1, 1), torch.tensor(std).view(-1, 1, 1)
    for name, (middle, spread) in _OTHERS.items():
        yield name, torch.tensor(middle), torch.tensor(spread)
