"""Single pictures on the command line, and the figure."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from advkit.cli._shared import ModelChoice
from advkit.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from advkit.backbones import Classifier
    from advkit.core import Attack, Ensemble
    from advkit.data import Data
    from advkit.engine.examples import Finished
    from advkit.results.outcome import Evaluation

__all__ = ["Gallery", "check_target", "for_photos", "narrowed", "picture_and_model"]

_PANELS = 6
_PHOTO = 224  # pixels: what networks for photos are trained on
_PHOTO_MODEL = "torchvision:googlenet"  # that of Goodfellow et al.'s panda


def picture_and_model(
    paths: tuple[Path, ...], label: str | None, size: int | None, choice: ModelChoice
) -> tuple[Classifier, Data]:
    """The model first, since it knows the size of its pictures and the names of its classes."""
    from advkit.data.picture import Picture
    from advkit.engine.targets import class_number

    given = click.get_current_context().get_parameter_source
    choice = for_photos(choice)
    for option in ("data", "data_settings", "skip_bad", "class_order", "exclude"):
        if given(option) not in (ParameterSource.DEFAULT, None):
            flag = {"data_settings": "data-set"}.get(option, option.replace("_", "-"))
            raise InputError(f"--{flag} says which data to attack, and so does --image; give one of them.")
    for path in paths:  # what cannot be read need not wait for a download
        Picture(str(path), size=_PHOTO).pictures([0])
    net = choice.build(None)
    own = net.metadata.get("size")
    number = None
    if label is not None:
        names = net.classes or ()
        number = class_number(label, names, net.num_classes or len(names), rules=False)
    return net, Picture([str(path) for path in paths], size=size or (int(own) if own else _PHOTO), label=number)


def for_photos(choice: ModelChoice) -> ModelChoice:
    """The model that is meant where pictures are given: one for photos, unless another is named."""
    default = click.get_current_context().get_parameter_source("model") == ParameterSource.DEFAULT
    return replace(choice, model=_PHOTO_MODEL) if default else choice


def narrowed(data: Data, exclude: tuple[str, ...]) -> Data:
    """The data without the classes left out."""
    from advkit.engine.targets import class_number

    numbers = [class_number(name, data.classes, len(data.classes), rules=False) for name in exclude]
    return data.without(numbers) if exclude else data


def check_target(aim: str | None, net: Classifier, data: Data) -> None:
    """Refuse a target that is neither a rule nor a class, before anything is computed."""
    from advkit.engine.targets import RULES, class_number

    names = data.classes if data.named else net.classes or ()
    if aim is not None and aim not in RULES:
        class_number(aim, names, net.num_classes or len(names))


class Gallery:
    """Keeps the adversarial pictures of the first few examples, as the last attack on each left them."""

    def __init__(self) -> None:
        self._kept: dict[int, Tensor] = {}

    def add(self, finished: Finished) -> None:
        """Look at what was finished."""
        for index, x_adv in zip(finished.example.tolist(), finished.x_adv.cpu(), strict=True):
            self._kept[index] = x_adv
        self._kept = dict(sorted(self._kept.items())[:_PANELS])

    def draw(
        self, path: Path, net: Classifier, result: Evaluation, chosen: list[Attack | Ensemble], data: Data
    ) -> None:
        """Draw what was kept."""
        import torch

        from advkit.core import Targeted, Untargeted
        from advkit.core.attack import Ensemble
        from advkit.engine.panels import panels
        from advkit.engine.passes import device_of
        from advkit.results.figure import draw

        if not self._kept:
            raise InputError(
                "there is nothing to draw: the model gets every picture wrong before any attack. "
                "The table stands, and no figure was written."
            )
        attack = chosen[-1]
        indices, device = list(self._kept), device_of(net)
        x, x_adv = data.pictures(indices).to(device), torch.stack(list(self._kept.values())).to(device)
        aims = result.labels if result.targets is None else result.targets
        goal = (Untargeted if result.targets is None else Targeted)(aims[indices].to(device))
        last = attack.stages[-1][1] if isinstance(attack, Ensemble) else attack
        draw(panels(net, last, x, x_adv, goal, result.classes), path)
