"""Data and weight files: what is written is read back, a file that was cut or changed ends in one of advkit's own errors."""

from __future__ import annotations

import functools
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save
from torch import Tensor

import advkit
from advkit.backbones.checkpoint import read_weights
from advkit.errors import AdvkitError

LABELS = st.lists(st.integers(0, 9), min_size=1, max_size=6)


@given(
    LABELS,
    st.integers(1, 9),
    st.integers(1, 9),
    st.sampled_from(["uint8", "float32", "float64"]),
    st.sampled_from([1, 3]),
)
def test_arrays_are_read_back(
    tmp_path: Path, labels: list[int], height: int, width: int, kind: str, channels: int
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (len(labels), height, width, channels), dtype=np.uint8)
    x = pixels if kind == "uint8" else (pixels / 255).astype(kind)
    np.savez(tmp_path / "own.npz", x=x, y=np.array(labels))
    try:
        found, y = advkit.load_data(str(tmp_path / "own.npz")).tensors()
    except AdvkitError:  # channels that cannot be told from height and width
        assert height in (1, 3) or width in (1, 3)
        return
    assert y.tolist() == labels
    if {height, width}.isdisjoint({1, 3}):
        assert np.array_equal((found * 255).round().byte().permute(0, 2, 3, 1).numpy(), pixels)


@functools.cache
def _npz() -> bytes:
    out = io.BytesIO()
    np.savez_compressed(out, x=np.full((3, 4, 5, 3), 7, np.uint8), y=np.arange(3), classes=np.array(["a", "b", "c"]))
    return out.getvalue()


def _broken(content: bytes, cut: float, flips: list[tuple[float, int]]) -> bytes:
    spoilt = bytearray(content[: max(1, int(cut * len(content)))])
    for place, value in flips:
        spoilt[int(place * len(spoilt)) % len(spoilt)] = value
    return bytes(spoilt)


CUTS = st.one_of(st.just(1.0), st.floats(0, 1))
FLIPS = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=4)


@given(CUTS, FLIPS)
def test_a_broken_npz_is_read_or_one_of_our_errors(tmp_path: Path, cut: float, flips: list[tuple[float, int]]) -> None:
    (tmp_path / "own.npz").write_bytes(_broken(_npz(), cut, flips))
    try:
        advkit.load_data(str(tmp_path / "own.npz")).tensors()
    except AdvkitError as error:
        assert str(tmp_path / "own.npz") in str(error) or "own" in str(error)


@given(st.lists(st.tuples(st.sampled_from("abcde"), st.integers(0, 255)), min_size=1, max_size=8))
def test_a_folder_of_classes_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, files: list[tuple[str, int]]
) -> None:
    root = tmp_path_factory.mktemp("classes")
    for number, (name, level) in enumerate(files):
        (root / name).mkdir(exist_ok=True)
        Image.new("RGB", (4, 4), (level,) * 3).save(root / name / f"{number}.png")
    data = advkit.load_data(str(root))
    x, y = data.tensors()
    assert list(data.classes) == sorted({name for name, _ in files})
    told = sorted(
        (data.classes[int(label)], int((picture[0, 0, 0] * 255).round())) for picture, label in zip(x, y, strict=True)
    )
    assert told == sorted(files)


@functools.cache
def _state() -> dict[str, Tensor]:
    model = advkit.load_model("lenet", weights="random", data=advkit.load_data("signs", samples=2))
    return {name: value.detach().clone() for name, value in model.net.state_dict().items()}


PREFIXES = st.lists(st.sampled_from(["module.", "model.", "net.", "_orig_mod."]), max_size=2).map("".join)
CONTAINERS = st.lists(st.sampled_from(["state_dict", "model_state_dict", "model", "net", "weights"]), max_size=1)
EXTRAS = st.dictionaries(
    st.sampled_from(["epoch", "best", "optimizer", "args"]),
    st.one_of(st.integers(), st.none(), st.floats()),
    max_size=2,
)


@settings(max_examples=60)
@given(PREFIXES, CONTAINERS, EXTRAS, st.sampled_from([torch.float32, torch.float16, torch.float64]))
def test_weights_behind_prefixes_are_the_same_weights(
    tmp_path: Path, prefix: str, inside: list[str], extras: dict[str, object], dtype: torch.dtype
) -> None:
    content: object = {prefix + name: value.to(dtype) for name, value in _state().items()}
    for name in inside:
        content = {name: content, **extras}
    torch.save(content, tmp_path / "w.pt")
    data = advkit.load_data("signs", samples=2)
    found = advkit.load_model("lenet", weights=str(tmp_path / "w.pt"), data=data).net.state_dict()
    assert all(torch.equal(found[name], value.to(dtype).float()) for name, value in _state().items())


@functools.cache
def _files() -> dict[str, bytes]:
    tensors = {"a.weight": torch.ones(2, 3), "a.bias": torch.zeros(2)}
    out = io.BytesIO()
    torch.save({"state_dict": tensors}, out)
    return {"w.pt": out.getvalue(), "w.safetensors": save(tensors, {"backbone": "lenet", "classes": "[1, 2]"})}


@given(st.sampled_from(["w.pt", "w.safetensors"]), CUTS, FLIPS)
def test_a_broken_weight_file_is_read_or_one_of_our_errors(
    tmp_path: Path, name: str, cut: float, flips: list[tuple[float, int]]
) -> None:
    (tmp_path / name).write_bytes(_broken(_files()[name], cut, flips))
    try:
        read_weights(tmp_path / name)
    except AdvkitError as error:
        assert name in str(error)
