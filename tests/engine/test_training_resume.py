"""A training that is broken off goes on to the same weights, to the bit."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers import Replays, conv_net, trained
from torch import nn

from advkit.core import Linf
from advkit.core.defense import Objective
from advkit.data import TensorData
from advkit.defenses.pgd_at import PGDTraining
from advkit.defenses.standard import Standard
from advkit.engine.training import CHECKPOINT, Recipe, Training, train

SHORT = Recipe(epochs=3, batch_size=8, learning_rate=0.05, shift=1, bfloat16=False, validation=8)


@pytest.fixture
def data() -> TensorData:
    _, x, y = trained()
    return TensorData(x.float(), y)


class Killed(Exception):
    pass


def run(
    data: TensorData, objective: Objective, recipe: Recipe, folder: Path | None, until: int = 0
) -> tuple[nn.Module, Training]:
    net = conv_net(4, norm=True, dropout=0.3, dtype=torch.float32)

    def on_step(step: int, total: int, loss: float) -> None:
        if step == until:
            raise Killed

    torch.rand(until + 1)  # what the caller draws has no say
    return net, train(net, data, objective, recipe, folder=folder, checkpoint_every=0.0, on_step=on_step)


@pytest.mark.parametrize(
    ("objective", "change"),
    [
        (Standard(), {"augment": "crop:1+flip+randaugment+cutmix+mixup", "label_smoothing": 0.1}),
        (Standard(), {"optimizer": "adamw", "learning_rate": 0.01, "ema": 0.9, "schedule": "cosine", "warmup": 1}),
        (PGDTraining(Linf(0.05), steps=2), {"accumulate": 2, "clip_norm": 0.5}),
        (Replays(), {"schedule": "piecewise", "milestones": "1,2"}),
    ],
)
def test_a_training_broken_off_anywhere_ends_at_the_same_weights_to_the_bit(
    data: TensorData, tmp_path: Path, objective: Objective, change: dict[str, object]
) -> None:
    recipe = replace(SHORT, **change)
    whole, of_whole = run(data, objective, recipe, None)
    for until in (2, 5, 7):
        with pytest.raises(Killed):
            run(data, objective, recipe, tmp_path, until)
    parts, of_parts = run(data, objective, recipe, tmp_path)
    assert of_parts.resumed >= 6
    assert of_parts.losses == of_whole.losses
    assert [e.scores for e in of_parts.history] == [e.scores for e in of_whole.history]
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, parts.state_dict()[name]), name
    for name, tensor in of_whole.last.items():
        assert torch.equal(tensor, of_parts.last[name]), name


def test_ctrl_c_is_answered_between_two_steps_by_a_checkpoint(data: TensorData, tmp_path: Path) -> None:
    whole, _ = run(data, Standard(), SHORT, None)
    net = conv_net(4, norm=True, dropout=0.3, dtype=torch.float32)

    def press(step: int, total: int, loss: float) -> None:
        if step == 4:
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(net, data, Standard(), SHORT, folder=tmp_path, on_step=press)
    assert signal.getsignal(signal.SIGINT) is before
    assert [path.name for path in tmp_path.iterdir()] == [CHECKPOINT]
    parts, training = run(data, Standard(), SHORT, tmp_path)
    assert training.resumed == 5
    assert all(torch.equal(tensor, parts.state_dict()[name]) for name, tensor in whole.state_dict().items())
