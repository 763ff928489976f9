"""A model that draws, judged again and again: one verdict on it is one draw."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from advkit.data import Data
from advkit.engine.defend import Defended
from advkit.engine.examples import Finished
from advkit.engine.passes import Passes
from advkit.engine.precision import Precision

__all__ = ["Repeats"]

Told = Callable[[str, Finished], None]


class Repeats:
    """Judges pictures ``times`` times by the caller's own model, each time with draws of their own.

    These are other draws than those by which an attack was steered and its successes were counted, so that what was chosen
    for its luck is not counted with it. A declared ``RandomWrapper`` answers each time with the mean over its ``draws``.
    """

    def __init__(self, model: nn.Module, times: int, batch_size: int, labels: Tensor) -> None:
        """``labels`` (N,) are those of the data."""
        self.times, self.labels = times, labels
        models = [_another(model, number) for number in range(times)]
        self._passes = [Passes(each, Precision.own(each), batch_size) for each in models]
        self._right: dict[str, Tensor] = {}

    def clean(self, data: Data) -> Tensor:
        """(times, N) bool: right without attack."""
        places = torch.split(torch.arange(len(data)), self._passes[0].batch_size)
        return torch.cat([self.right(data.pictures(part.tolist()), self.labels[part]) for part in places], 1)

    def right(self, x: Tensor, labels: Tensor) -> Tensor:
        """(times, B) bool: whether the answer to a picture is its label."""
        return torch.stack([passes.judge(x.to(passes.device)).argmax(1).cpu() == labels for passes in self._passes])

    def listening(self, told: Told) -> Told:
        """What gets each attack's examples, by its title, judges them, and passes them on; ``told`` got them before."""

        def finished(title: str, part: Finished) -> None:
            where = part.example.cpu()
            everyone = self._right.setdefault(title, torch.zeros(self.times, len(self.labels), dtype=torch.bool))
            everyone[:, where] = self.right(part.x_adv, self.labels[where])
            told(title, part)

        return finished

    def of(self, title: str) -> Tensor:
        """(times, N) bool: right on the adversarial pictures of an attack; nothing is known of those that it did not meet."""
        return self._right.pop(title, torch.zeros(self.times, len(self.labels), dtype=torch.bool))


def _another(model: nn.Module, number: int) -> nn.Module:
    """The same model with other draws; one that draws from the global generators has them without being asked."""
    if isinstance(model, Defended) and model.draws:
        return Defended(model.model, model.wrappers, f"repeat {number}")
    return model
