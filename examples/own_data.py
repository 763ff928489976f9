"""Attack on pictures of your own: tensors, an .npz file, or a folder with one folder per class."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import advkit


def main(folder: Path) -> None:
    """Write a few pictures in every form, and attack each."""
    signs = advkit.load_data("signs", samples=35)
    x, y = signs.tensors()
    levels = (x * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()

    np.savez(folder / "pictures.npz", x=levels, y=y.numpy(), classes=np.array(signs.classes))
    for number, label in enumerate(y.tolist()):
        place = folder / "pictures" / signs.classes[label]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(levels[number]).save(place / f"{number}.png")
    # Folders are numbered by name; class_names.json gives them the order in which the model knows its classes.
    (folder / "pictures" / "class_names.json").write_text(json.dumps(signs.classes))

    model = advkit.load_model("resnet", data=signs)
    for data in (
        advkit.TensorData(x, y, name="tensors", classes=signs.classes),
        advkit.load_data(folder / "pictures.npz"),
        advkit.load_data(folder / "pictures"),
    ):
        result = advkit.evaluate(model, data, "fgsm")
        print(
            f"{data.name}: {result.clean_accuracy.percent} % without attack, {result.worst()[0][1].percent} % under FGSM"
        )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary))
