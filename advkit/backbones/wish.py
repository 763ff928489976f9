"""What the caller of load_model asks for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from advkit.paths import expanded

__all__ = ["MODEL_FILES", "Wish", "drawn"]

MODEL_FILES = (".safetensors", ".pt", ".pth", ".ts", ".torchscript", ".onnx")


@dataclass(frozen=True)
class Wish:
    """What the caller asks for, as far as it is known."""

    classes: int | None
    channels: int | None
    size: int | None
    weights: str
    seed: int
    data: str | None
    settings: Mapping[str, object]
    names: tuple[str, ...] | None = None  # of the data's classes, where they have names
    sides: tuple[int, int] | None = None  # height and width of the data's images

    @property
    def weight_file(self) -> Path | None:
        """The file that ``weights`` names, if it names one."""
        return self._place[0]

    @property
    def weight_key(self) -> str:
        """What chooses among the sets of weights in that file: KEY of FILE:KEY."""
        return self._place[1]

    @property
    def _place(self) -> tuple[Path | None, str]:
        whole = expanded(self.weights)
        head, _, key = self.weights.rpartition(":")
        path = expanded(head)
        if key and not whole.is_file() and (path.suffix in MODEL_FILES or (head != "embedded" and path.is_file())):
            return path, key
        return (whole if whole.suffix in MODEL_FILES or len(whole.parts) > 1 or whole.is_file() else None), ""


@contextmanager
def drawn(seed: int) -> Iterator[None]:
    """Random numbers of torch's CPU generator from ``seed``; the caller's stream goes on as if nothing was drawn."""
    state = torch.get_rng_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(state)
