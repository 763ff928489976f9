"""Networks from ONNX files: the same answers, tensors in files beside it, and what cannot be taken in one sentence."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from advkit.backbones import load_model
from advkit.errors import ModelError

onnx: Any = pytest.importorskip("onnx")
pytest.importorskip("onnx2torch")

FLOAT = 1
BESIDE = torch.linspace(-1, 1, 3 * 64).view(3, 64)


def graph(nodes: list[Any], tensors: list[Any], opset: int = 13) -> Any:
    """A network from images x (B, 1, 8, 8) to scores y (B, 3)."""
    make = onnx.helper.make_tensor_value_info
    made = onnx.helper.make_graph(
        nodes, "net", [make("x", FLOAT, ["n", 1, 8, 8])], [make("y", FLOAT, ["n", 3])], tensors
    )
    return onnx.helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=8)


def linear(folder: Path, location: str, length: object = 4 * 3 * 64) -> Path:
    """A linear network whose weights lie at ``location``."""
    weights = onnx.TensorProto(name="w", data_type=FLOAT, dims=[3, 64], data_location=onnx.TensorProto.EXTERNAL)
    for key, value in {"location": location, "offset": 0, "length": length}.items():
        weights.external_data.add(key=key, value=str(value))
    make = onnx.helper.make_node
    nodes = [make("Flatten", ["x"], ["f"], axis=1), make("Gemm", ["f", "w"], ["y"], transB=1)]
    path = folder / "net.onnx"
    path.write_bytes(graph(nodes, [weights]).SerializeToString())
    return path


def message(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        load_model(str(path), channels=1, size=8)
    return str(caught.value)


def test_it_answers_as_the_network_it_was_made_from(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3))
    names, make = ["k", "kb", "w", "wb"], onnx.helper.make_node
    nodes = [
        make("Conv", ["x", "k", "kb"], ["c"], kernel_shape=[3, 3]),
        make("Relu", ["c"], ["r"]),
        make("Flatten", ["r"], ["f"], axis=1),
        make("Gemm", ["f", "w", "wb"], ["y"], transB=1),
    ]
    tensors = [
        onnx.numpy_helper.from_array(p.detach().numpy(), name) for p, name in zip(net.parameters(), names, strict=True)
    ]
    (tmp_path / "net.onnx").write_bytes(graph(nodes, tensors).SerializeToString())
    model = load_model(str(tmp_path / "net.onnx"), channels=1, size=8)
    x = torch.rand(5, 1, 8, 8, requires_grad=True)
    assert torch.allclose(model(x), net(x), atol=1e-5)
    assert model.num_classes == 3
    (grad,) = torch.autograd.grad(model(x).sum(), x)
    assert grad.abs().max() > 0


def test_tensors_in_a_file_beside_it_are_its_weights_and_part_of_its_fingerprint(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(BESIDE.numpy().tobytes())
    path, x = linear(tmp_path, "w.bin"), torch.rand(4, 1, 8, 8)
    model = load_model(str(path), channels=1, size=8)
    assert torch.allclose(model(x), x.flatten(1) @ BESIDE.T, atol=1e-5)
    (tmp_path / "w.bin").write_bytes((-BESIDE).numpy().tobytes())
    assert load_model(str(path), channels=1, size=8).metadata["sha256"] != model.metadata["sha256"]


def _link(folder: Path) -> str:
    (folder / "link.bin").symlink_to(folder.parent / "secret")
    return "link.bin"


def _pipe(folder: Path) -> str:
    os.mkfifo(folder / "pipe")
    return "pipe"


PLANTED: dict[str, Callable[[Path], str]] = {
    "above its folder": lambda folder: "../secret",
    "by its whole path": lambda folder: str(folder.parent / "secret"),
    "a link": _link,
    "a pipe": _pipe,
    "missing": lambda folder: "gone.bin",
    "empty": lambda folder: "",
    "with NUL": lambda folder: "w.bin\0",
}


@pytest.mark.parametrize("place", PLANTED)
def test_tensors_outside_its_folder_are_refused_before_anything_is_read(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(BESIDE.numpy().tobytes())
    (folder / "w.bin").write_bytes(BESIDE.numpy().tobytes())
    location = PLANTED[place](folder)
    path = linear(folder, location)
    monkeypatch.setattr(onnx, "load_external_data_for_model", lambda *_: pytest.fail("something was read"))
    assert message(path).startswith(
        f"net.onnx keeps the tensor 'w' in {location!r}, which is no file in its own folder"
    )


@pytest.mark.parametrize("length", [4800, 10**18, -5, "x"])
def test_a_file_beside_it_of_another_length_is_a_sentence(length: object, tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(BESIDE.numpy().tobytes())
    assert message(linear(tmp_path, "w.bin", length)).startswith("net.onnx and the files beside it ")


@pytest.mark.parametrize("content", [b"", b"\x08\xff\xff not a network", b"\x7fELF" * 100])
def test_what_is_no_onnx_file_is_a_sentence(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(content)
    assert message(tmp_path / "net.onnx").endswith("export it again.")


def test_operators_that_are_too_new_are_named_with_their_opset(tmp_path: Path) -> None:
    axes = onnx.helper.make_tensor("axes", 7, [2], [2, 3])
    nodes = [onnx.helper.make_node("ReduceMean", ["x", "axes"], ["y"], keepdims=0)]
    (tmp_path / "net.onnx").write_bytes(graph(nodes, [axes], opset=20).SerializeToString())
    said = message(tmp_path / "net.onnx")
    assert said.startswith("net.onnx, of opset 20, cannot be turned into torch layers (")
    assert "opset_version=13, dynamo=False" in said


class Small(nn.Module):
    """A network that torch's newer exporter writes in operators which are too new."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(1, 4, 3, stride=2), nn.Linear(4 * 9, 3)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.last(self.first(x).relu().view(x.size(0), -1))
        return scores


def test_the_way_out_that_the_sentence_names_works(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    net, path, x = Small().eval(), tmp_path / "net.onnx", torch.rand(5, 1, 8, 8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(net, (x[:2],), path, dynamo=True)
        refusal = message(path)
        assert "opset_version=13, dynamo=False, input_names=['x'], dynamic_axes={'x': {0: 'n'}})" in refusal
        torch.onnx.export(
            net, (x[:2],), str(path), opset_version=13, dynamo=False, input_names=["x"], dynamic_axes={"x": {0: "n"}}
        )
    assert torch.allclose(load_model(str(path), channels=1, size=8)(x), net(x), atol=1e-5)
