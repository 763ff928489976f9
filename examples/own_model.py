"""Attack a network of your own. advkit needs a module that takes pictures in [0, 1] and answers logits (B, K).

From the command line the same network is ``--model examples/own_model.py:network``.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

import advkit


class Network(nn.Module):
    """A small network; its normalisation is its own first step, so that eps is in units of the picture."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 16, 5, stride=2), nn.ReLU(), nn.Conv2d(16, 32, 5, stride=2), nn.ReLU()
        )
        self.head = nn.Linear(32, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, K)."""
        return self.head(self.features((x - 0.5) / 0.25).mean((2, 3)))


def network() -> nn.Module:
    """The network, trained for a few seconds on signs."""
    torch.manual_seed(0)
    x, y = advkit.load_data("signs", split="train", samples=700).tensors()
    model = Network(classes=35)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for step in range(200):
        part = torch.arange(64 * step, 64 * (step + 1)) % len(x)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[part]), y[part]).backward()
        optimizer.step()
    return model.eval()


if __name__ == "__main__":
    result = advkit.evaluate(network(), advkit.load_data("signs", samples=70), "worst-case")
    print(f"accuracy without attack {result.clean_accuracy.percent} %")
    for eps, accuracy in result.worst():
        print(f"in the worst case at {eps}: {accuracy.percent} %")
