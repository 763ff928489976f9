"""Started twice by test_training_ranks: trains as one of two processes, and leaves what came of it in a file."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import torch
from helpers import Replays, conv_net, trained
from safetensors.torch import save_file
from torch import Tensor, nn

from advkit.core import Linf
from advkit.core.defense import Objective
from advkit.data import TensorData
from advkit.defenses.ibp import IBPTraining
from advkit.defenses.pgd_at import PGDTraining
from advkit.defenses.standard import Standard
from advkit.engine.training import ALONE, CHECKPOINT, Ranks, Recipe, joined, train


class Smooth(Objective):
    """Asks for a gradient of a gradient, through BatchNorm."""

    def loss(self, model: nn.Module, x: Tensor, shown: Tensor, y: Tensor) -> Tensor:
        at = shown.clone().requires_grad_(True)
        loss = nn.functional.cross_entropy(model(at), y, reduction="sum") / 8
        (grad,) = torch.autograd.grad(loss, at, create_graph=True)
        return nn.functional.cross_entropy(model(shown), y) + grad.square().flatten(1).sum(1).mean()


SHORT = Recipe(epochs=10, batch_size=8, learning_rate=0.05, shift=1, bfloat16=False, validation=5)
CASES: dict[str, tuple[Objective, dict[str, object]]] = {
    "standard": (Standard(), {"augment": "crop:1+flip+cutmix", "ema": 0.9}),
    "pgd-at": (PGDTraining(Linf(0.05), steps=2), {"clip_norm": 0.5, "accumulate": 1}),
    "replays": (Replays(), {"epochs": 5}),
    "adamw": (Standard(), {"optimizer": "adamw", "learning_rate": 0.003, "label_smoothing": 0.1}),
    "double": (Smooth(), {"epochs": 2}),
    "ibp": (IBPTraining(Linf(0.01), warmup=0.0), {"epochs": 5}),
}


class Stop(Exception):
    pass


def outcome(name: str, ranks: Ranks, batch_size: int, folder: Path | None = None, until: int = 0) -> dict[str, Tensor]:
    objective, changes = CASES[name]
    recipe = replace(SHORT, batch_size=batch_size, **changes)
    _, x, y = trained()
    data = TensorData(torch.cat([x, x.flip(2)]).float(), torch.cat([y, y]))
    net = conv_net(4, norm=True, dtype=torch.float32)

    def on_step(step: int, total: int, loss: float) -> None:
        if step == until:
            raise Stop

    try:
        training = train(net, data, objective, recipe, ranks=ranks, folder=folder, checkpoint_every=0, on_step=on_step)
    except Stop:
        return {}
    scores = [[*epoch.scores.values()] for epoch in training.history]
    return {
        "losses": torch.tensor(training.losses, dtype=torch.float64),
        "scores": torch.tensor(scores, dtype=torch.float64),
        **{f"weights/{key}": value.clone() for key, value in net.state_dict().items()},
    }


if __name__ == "__main__":
    out = Path(sys.argv[1])
    with joined("cpu") as ranks:
        assert ranks != ALONE
        found = {f"{name}/{key}": value for name in CASES for key, value in outcome(name, ranks, 8).items()}
        outcome("replays", ranks, 8, out / "kept", until=11)
        assert (out / "kept" / CHECKPOINT).exists()
        again = outcome("replays", ranks, 8, out / "kept")
        found |= {f"resumed/{key}": value for key, value in again.items()}
    save_file(found, out / f"{ranks.rank}.safetensors")
