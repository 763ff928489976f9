"""Published weights give their published accuracy."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from advkit.backbones import Classifier, load_model

DATA = Path(os.environ.get("ADVKIT_DATA", Path(__file__).parents[3] / "shared" / "data"))

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not (DATA / "weights").is_dir(), reason="no real weights: name their folder by ADVKIT_DATA"),
]


def pictures(name: str, count: int) -> tuple[Tensor, Tensor]:
    with np.load(DATA / name) as file:
        x, y = torch.from_numpy(file["x"][:count]), torch.from_numpy(file["y"][:count].astype(int))
    x = x.unsqueeze(1) if x.ndim == 3 else x.permute(0, 3, 1, 2)
    return x.contiguous().float() / 255, y


def accuracy(model: Classifier, x: Tensor, y: Tensor) -> float:
    with torch.no_grad():
        predicted = torch.cat([model(part).argmax(1) for part in x.split(250)])
    return 100 * (predicted == y).float().mean().item()


@pytest.mark.parametrize(("name", "published"), [("resnet20", 91.5), ("resnet32", 92.8), ("resnet56", 92.6)])
def test_the_cifar_resnets_are_as_good_as_their_makers_say(name: str, published: float) -> None:
    model = load_model(name, weights=DATA / "weights" / f"cifar10_{name}.safetensors", normalize="imagenet")
    assert model.num_classes == 10
    assert accuracy(model, *pictures("cifar10_test_1000.npz", 1000)) == pytest.approx(published, abs=0.2)


def test_weights_of_another_depth_or_normalisation_do_not_pass() -> None:
    from advkit.errors import ModelError

    file = DATA / "weights" / "cifar10_resnet20.safetensors"
    with pytest.raises(ModelError, match=r"does not fit resnet32: .* tensors are missing"):
        load_model("resnet32", weights=file)
    assert accuracy(load_model("resnet20", weights=file), *pictures("cifar10_test_1000.npz", 500)) < 85


def test_torchvisions_mobilenet_takes_the_weights_of_a_file() -> None:
    from PIL import Image
    from torchvision.transforms import functional as tf

    model = load_model("torchvision:mobilenet_v2", weights=DATA / "weights" / "imagenet_mobilenet_v2.safetensors")
    assert model.weights == "file imagenet_mobilenet_v2.safetensors"
    folder = DATA / "imagenet_sample"
    labels = json.loads((folder / "labels.json").read_text())
    files = sorted(folder.glob("*.JPEG"))[::8]
    right = 0
    for file in files:
        with Image.open(file) as photo:
            x = tf.to_tensor(tf.center_crop(tf.resize(photo.convert("RGB"), 256), [224, 224])).unsqueeze(0)
        with torch.no_grad():
            right += int(model(x).argmax()) == labels[file.name]
    assert right / len(files) > 0.7


def test_a_users_file_brings_real_weights() -> None:
    model = load_model(f"{DATA / 'model_defs.py'}:lisa_cnn", weights=DATA / "weights" / "lisa_cnn.safetensors")
    assert model(torch.rand(1, 3, 32, 32)).shape == (1, 18)


def test_the_authors_lisa_cnn_reads_every_photo_of_a_stop_sign() -> None:
    from advkit.data.stop_signs import StopSigns

    data = StopSigns(DATA / "stop_signs")
    model = load_model("lisa-cnn", weights=DATA / "weights" / "lisa_cnn.safetensors", data=data)
    assert model.classes is not None
    assert model.classes[14] == "stop"
    assert accuracy(model, *data.tensors()) == 100
