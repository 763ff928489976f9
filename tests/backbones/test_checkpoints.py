"""Checkpoints as training scripts write them: which tensors are read, which normalisation, and what is said of it."""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from advkit.backbones import load_model
from advkit.data import TensorData
from advkit.errors import AdvkitError, InputError, ModelError

State = dict[str, Tensor]
MEAN, STD = (0.3, 0.4, 0.5), (0.2, 0.25, 0.3)
NORM = {"mean": torch.tensor(MEAN), "std": torch.tensor(STD)}


def drawn(seed: int) -> State:
    return dict(load_model("lenet", weights="random", classes=4, seed=seed).net.state_dict())


RIGHT, OTHER = drawn(1), drawn(2)


def under(prefix: str, state: State) -> State:
    return {prefix + key: value for key, value in state.items()}


def loaded(folder: Path, content: object, key: str = "", **options: Any) -> Any:
    torch.save(content, folder / "w.pt")
    return load_model("lenet", weights=f"{folder / 'w.pt'}{key}", **options)


def message(folder: Path, content: object, key: str = "", **options: Any) -> str:
    with pytest.raises(ModelError) as caught:
        loaded(folder, content, key, **options)
    return str(caught.value)


def is_right(model: Any) -> bool:
    return all(torch.equal(value, RIGHT[key]) for key, value in model.net.state_dict().items())


@pytest.mark.parametrize(
    "content",
    [
        under("1.", RIGHT),
        {"state_dict": {**under("model.", RIGHT), "criterion.weight": torch.ones(4)}},
        {"state_dict": under("encoder.", RIGHT)},
        {**under("module.", RIGHT), "n_averaged": torch.tensor(3)},
        {"model": {**under("module.model.", RIGHT), **under("module.attacker.model.", RIGHT)}},
        {"epoch": torch.tensor(3), "state_dict": RIGHT, "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}}},
        {"state": {"step": 3, "weights": RIGHT}},
        {"state_dict": RIGHT, "args": argparse.Namespace(lr=0.1), "best": np.float64(0.9), "seen": np.int64(3)},
    ],
)
@pytest.mark.parametrize("named", [True, False])
def test_a_networks_own_tensors_are_found_wherever_all_of_them_stand(
    content: object, named: bool, tmp_path: Path
) -> None:
    classes = [f"class {i}" for i in range(4)] if named else None
    data = TensorData(torch.rand(4, 3, 32, 32), torch.arange(4), classes=classes)
    model = loaded(tmp_path, content, data=data)
    assert is_right(model)
    assert (model.num_classes, model.weights) == (4, "file w.pt")


@pytest.mark.parametrize(
    ("content", "label"),
    [
        ({"state_dict": OTHER, "state_dict_ema": RIGHT}, "file w.pt:state_dict_ema"),
        ({"state_dict": OTHER, "ema": {"decay": 0.99, "model": RIGHT}}, "file w.pt:ema.model"),
        ({"ema_state_dict": RIGHT}, "file w.pt"),
        ({"model_ema": RIGHT, "epoch": 1}, "file w.pt"),
        ({"state_dict": {**under("model.", OTHER), **under("ema_model.", RIGHT)}}, "file w.pt:ema_model"),
        ({"ema": {"decay": 0.99}, "model": RIGHT}, "file w.pt"),
    ],
)
def test_averaged_weights_are_read_where_there_are_any_and_the_label_says_so(
    content: object, label: str, tmp_path: Path
) -> None:
    model = loaded(tmp_path, content, classes=4)
    assert is_right(model)
    assert model.weights == label


@pytest.mark.parametrize(
    ("content", "key"),
    [
        ({"state_dict": RIGHT, "state_dict_ema": OTHER}, "state_dict"),
        ({"generator": RIGHT, "teacher": OTHER}, "generator"),
        ({"state_dict": {**under("student.", RIGHT), **under("teacher.", OTHER)}}, "student"),
        ({"state_dict": {**under("model.", RIGHT), **under("ema_model.", OTHER)}}, "model"),
    ],
)
def test_a_key_behind_the_file_chooses_the_weights(content: object, key: str, tmp_path: Path) -> None:
    model = loaded(tmp_path, content, f":{key}", classes=4)
    assert is_right(model)
    assert model.weights == f"file w.pt:{key}"
    net = nn.Sequential(*load_model("lenet", weights="random", classes=4).net)
    assert is_right(load_model(net, weights=f"{tmp_path / 'w.pt'}:{key}"))


def test_where_nothing_decides_the_sentence_names_what_there_is(tmp_path: Path) -> None:
    assert message(tmp_path, {"generator": RIGHT, "teacher": OTHER}, classes=4) == (
        "w.pt holds several sets of weights, generator, teacher; say which, as FILE:generator."
    )
    both = {**under("student.", RIGHT), **under("teacher.", OTHER)}
    assert message(tmp_path, both, classes=4) == (
        "w.pt holds 2 networks of these names, under student, teacher; say which, as FILE:student."
    )
    assert message(tmp_path, both, ":pupil", classes=4) == (
        "w.pt holds no 'pupil'; names in it begin with: student, teacher."
    )


@pytest.mark.parametrize(
    "beside",
    [
        {**under("0.", NORM), **under("1.", RIGHT)},
        {**NORM, **RIGHT},
        {**under("normalize.", NORM), **under("net.", RIGHT)},
        {
            **under("model.", RIGHT),
            "normalizer.new_mean": NORM["mean"].view(3, 1, 1),
            "normalizer.new_std": NORM["std"],
        },
        {**under("model.", RIGHT), "pixel_mean": 255 * NORM["mean"], "pixel_std": 255 * NORM["std"]},
        {**under("model.", RIGHT), "norm.mu": NORM["mean"].view(1, 3, 1, 1), "norm.sigma": NORM["std"]},
    ],
)
def test_a_normalisation_that_stands_beside_the_weights_is_used_and_told(beside: State, tmp_path: Path) -> None:
    model = loaded(tmp_path, beside, classes=4)
    assert is_right(model)
    assert model.mean.flatten().tolist() == pytest.approx(MEAN)
    assert model.std.flatten().tolist() == pytest.approx(STD)
    assert model.weights == "file w.pt, with its mean and std"
    assert is_right(loaded(tmp_path, beside, classes=4, mean=MEAN, std=STD))
    assert message(tmp_path, beside, classes=4, normalize="imagenet").startswith(
        "the checkpoint holds a normalisation of its own (mean 0.3,0.4,0.5, std 0.2,0.25,0.3), and mean 0.485,0.456,0.406"
    )


def test_normalisations_that_differ_are_not_chosen_from(tmp_path: Path) -> None:
    twice = {**under("model.", RIGHT), **under("a.", NORM), "b.mean": torch.zeros(3), "b.std": torch.ones(3)}
    assert message(tmp_path, twice, classes=4).startswith(
        "w.pt holds several normalisations (a.mean, b.mean) that differ"
    )


def test_a_network_with_its_normalisation_among_its_own_tensors_keeps_it(tmp_path: Path) -> None:
    class Inside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mean", torch.zeros(3))
            self.register_buffer("std", torch.ones(3))
            self.fc = nn.Linear(3, 2)

    net, saved = Inside(), Inside()
    torch.save({**saved.state_dict(), "mean": NORM["mean"]}, tmp_path / "w.pt")
    model = load_model(net, weights=tmp_path / "w.pt")
    assert not len(model.mean)
    assert torch.equal(net.mean, NORM["mean"])


def test_tensors_of_another_network_are_named(tmp_path: Path) -> None:
    sentence = message(tmp_path, {"model.fc.weight": torch.ones(2, 2), "model.fc.bias": torch.ones(2)}, channels=3)
    assert sentence.startswith(
        "w.pt does not fit lenet: 10 tensors are missing (first '0.weight'), 2 tensors are not known"
    )
    unnamed = TensorData(torch.rand(2, 3, 32, 32), torch.arange(2))
    assert "does not fit lenet" in message(tmp_path, {"fc.weight": torch.ones(2, 2)}, data=unnamed)


def expanded(state: State) -> State:
    return {k: v[:1].clone().expand(v.shape) if k == "0.weight" else v for k, v in state.items()}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda s: {**s, "0.bias": s["0.bias"].to_sparse()}, "w.pt: the tensor '0.bias' is sparse; save it dense"),
        (lambda s: {**s, "0.bias": s["0.bias"].to("meta")}, "w.pt: the tensor '0.bias' lies on the meta device"),
        (
            lambda s: {**s, "0.bias": torch.ones(1).expand(10**12)},
            "w.pt does not fit lenet: '0.bias' has shape (1000000000000,) instead of (6,)",
        ),
        (
            lambda s: {**s, "0.bias": torch.tensor([torch.nan]).expand(6)},
            "w.pt: the tensor '0.bias' holds NaN or infinity",
        ),
        (lambda s: {**s, "0.bias": s["0.bias"].to(torch.complex64)}, "'0.bias' is torch.complex64."),
    ],
)
def test_tensors_that_are_no_plain_numbers_are_a_sentence(
    change: Callable[[State], State], sentence: str, tmp_path: Path
) -> None:
    assert sentence in message(tmp_path, change(RIGHT), classes=4)


def test_expanded_weights_are_read(tmp_path: Path) -> None:
    model = loaded(tmp_path, expanded(RIGHT), classes=4)
    assert torch.equal(model.net.state_dict()["0.weight"], expanded(RIGHT)["0.weight"])


def test_a_setting_that_a_backbone_lacks_is_blamed_before_the_weights() -> None:
    with pytest.raises(InputError, match="lenet has no setting 'depht'"):
        load_model("lenet", depht=3, classes=4)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # of torch.jit
@pytest.mark.parametrize("suffix", [".pt", ".ts"])
def test_a_damaged_archive_is_read_or_refused_in_a_sentence(tmp_path: Path, suffix: str) -> None:
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten(), torch.nn.Linear(16, 3))
    path = tmp_path / f"w{suffix}"
    if suffix == ".ts":
        torch.jit.save(torch.jit.script(net), str(path))  # type: ignore[no-untyped-call]
    else:
        torch.save(net.state_dict(), path)
    whole, draws = path.read_bytes(), random.Random(0)
    for _ in range(150):
        damaged = bytearray(whole)
        damaged[draws.randrange(len(whole))] ^= 1 << draws.randrange(8)
        damaged[-1 - draws.randrange(400)] ^= 1 << draws.randrange(8)
        path.write_bytes(damaged)
        with suppress(AdvkitError):
            load_model(str(path))
