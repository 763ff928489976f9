"""Weight files: read without running code, refused with the reason, written whole or not at all."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from advkit.backbones import checkpoint, load_model, save_model
from advkit.errors import InputError, ModelError

LENET: dict[str, Any] = {"classes": 10, "channels": 1, "size": 28}


@pytest.fixture
def state() -> dict[str, Tensor]:
    return {k: v.clone() for k, v in load_model("lenet", weights="random", **LENET).net.state_dict().items()}


def message(*arguments: Any, **options: Any) -> str:
    with pytest.raises(ModelError) as caught:
        load_model(*arguments, **options)
    return str(caught.value)


class RunsCode:
    """A pickle of this would create a file where it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.open, (str(self.path), os.O_CREAT | os.O_WRONLY)


@pytest.mark.parametrize("how", ["torch", "pickle"])
@pytest.mark.parametrize("as_spec", [True, False])
def test_a_pickle_that_would_run_code_never_runs(
    how: str, as_spec: bool, state: dict[str, Tensor], tmp_path: Path
) -> None:
    path, made = tmp_path / "evil.pt", tmp_path / "made"
    content = {"state_dict": state, "surprise": RunsCode(made)}
    if how == "torch":
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps({"surprise": RunsCode(made)}, protocol=2))
    sentence = message(str(path)) if as_spec else message("lenet", weights=path, **LENET)
    assert not made.exists()
    assert sentence == (
        "evil.pt holds code (it names posix.open); reading it could run anything, so it was not loaded. "
        "Save the weights alone: torch.save(model.state_dict(), ...), or a .safetensors file."
    )


def test_a_whole_pickled_module_is_refused_by_name(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "whole.pt")
    assert message("lenet", weights=tmp_path / "whole.pt", **LENET).startswith(
        "whole.pt holds code (it names torch.nn.modules.linear.Linear); reading it could run anything"
    )


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: s,
        lambda s: {"state_dict": s, "epoch": 3},
        lambda s: {"model": s},
        lambda s: {"net": {f"module.{k}": v for k, v in s.items()}, "acc": 0.9},
        lambda s: {f"module._orig_mod.{k}": v for k, v in s.items()},
        lambda s: {k: v.half() for k, v in s.items()},
        lambda s: {k: v.bfloat16() for k, v in s.items()},
    ],
)
def test_the_containers_of_training_scripts_are_opened(
    wrap: Callable[[dict[str, Tensor]], object], state: dict[str, Tensor], tmp_path: Path
) -> None:
    rounded = {k: v.bfloat16().half().float() for k, v in state.items()}
    torch.save(wrap(rounded), tmp_path / "net.pth")
    model = load_model("lenet", weights=tmp_path / "net.pth", channels=1, size=28)
    assert (model.weights, model.num_classes) == ("file net.pth", 10)
    for key, tensor in model.net.state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, rounded[key])


def test_a_batch_norm_without_its_count_is_complete(tmp_path: Path) -> None:
    whole = load_model("resnet20", weights="random", classes=3)
    kept = {k: v for k, v in whole.net.state_dict().items() if not k.endswith("num_batches_tracked")}
    torch.save(kept, tmp_path / "r.pt")
    assert load_model("resnet20", weights=tmp_path / "r.pt").fingerprint() == whole.fingerprint()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_none_name_their_tensor(value: float, state: dict[str, Tensor], tmp_path: Path) -> None:
    state["3.bias"][2] = value
    torch.save(state, tmp_path / "n.pt")
    assert message("lenet", weights=tmp_path / "n.pt", **LENET) == (
        "n.pt: the tensor '3.bias' holds NaN or infinity; the file is damaged or diverged."
    )


def changed(**tensors: Tensor | None) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    def change(state: dict[str, Tensor]) -> dict[str, Tensor]:
        merged: dict[str, Tensor | None] = {**state, **{k.strip("_").replace("_", "."): v for k, v in tensors.items()}}
        return {k: v for k, v in merged.items() if v is not None}

    return change


@pytest.mark.parametrize(
    ("change", "asked", "sentence"),
    [
        (
            lambda s: s,
            {"classes": 43},
            (
                "the weights in n.pt have 10 classes, 43 are asked for; "
                "give weights made for this data, or weights='random'."
            ),
        ),
        (lambda s: s, {"channels": 3}, "the weights in n.pt take pictures of 1 channels, 3 are asked for."),
        (
            lambda s: s,
            {"size": 32},
            "",
        ),
        (
            lambda s: s,
            {"size": 40},
            (
                "n.pt does not fit lenet: '7.weight' has shape (120, 400) instead of (120, 784). "
                "Is it the weights of another backbone, of other settings, or of another picture size?"
            ),
        ),
        (
            changed(_0_bias=None),
            {},
            "n.pt does not fit lenet: 1 tensor is missing (first '0.bias'). Is it the weights of another backbone?",
        ),
        (
            changed(conv_weight=torch.zeros(2)),
            {},
            (
                "n.pt does not fit lenet: 1 tensor is not known (first 'conv.weight'). "
                "Is it the weights of another backbone?"
            ),
        ),
        (
            changed(_0_bias=torch.zeros(6, dtype=torch.int8)),
            {},
            "n.pt does not fit lenet: '0.bias' is torch.int8.",
        ),
    ],
)
def test_weights_that_do_not_fit_say_why(
    change: Callable[[dict[str, Tensor]], dict[str, Tensor]],
    asked: dict[str, int],
    sentence: str,
    state: dict[str, Tensor],
    tmp_path: Path,
) -> None:
    torch.save(change(state), tmp_path / "n.pt")
    options = LENET | asked
    if sentence:
        assert message("lenet", weights=tmp_path / "n.pt", **options) == sentence
    else:
        assert load_model("lenet", weights=tmp_path / "n.pt", **options).num_classes == 10


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # of torch.jit
def test_files_that_are_no_weights_say_so(tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(b"not a pickle")
    assert message("lenet", weights=tmp_path / "a.pt", **LENET).startswith(
        "a.pt holds something other than tensors, or is damaged; reading it could run anything, so it was not loaded."
    )
    for name, content in (
        ("b.pt", b""),
        ("c.safetensors", b"12345678{}"),
        ("d.safetensors", b""),
    ):
        (tmp_path / name).write_bytes(content)
        assert message("lenet", weights=tmp_path / name, **LENET).startswith(f"{name} is not a readable ")
    torch.save({"epoch": 3}, tmp_path / "e.pt")
    assert message("lenet", weights=tmp_path / "e.pt", **LENET) == (
        "e.pt holds a dict without tensors; "
        "give a state dict, bare or under one of: state_dict, model_state_dict, model, net, weights."
    )
    torch.jit.save(torch.jit.trace(nn.Flatten(), torch.ones(1, 2)), tmp_path / "g.pt")  # type: ignore[no-untyped-call]
    assert message("lenet", weights=tmp_path / "g.pt", **LENET) == (
        "g.pt is a TorchScript archive, a network with its weights; give it as the model, and leave the weights out."
    )
    missing = tmp_path / "none.safetensors"
    assert message("lenet", weights=missing, **LENET) == (
        f"there is no weight file {missing}; give the path of a .safetensors, .pt or .pth file."
    )
    torch.save({"w": torch.ones(2)}, tmp_path / "f.pt")
    assert message(str(tmp_path / "f.pt")) == (
        "f.pt does not say which network its weights belong to; "
        f"name the backbone and give the file as weights, for example resnet20 with weights={tmp_path / 'f.pt'}."
    )


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    model = load_model("lenet", weights="random", **LENET)
    path = save_model(
        tmp_path / "n.safetensors", model, backbone="lenet", classes=list("0123456789"), channels=1, size=28
    )
    path.write_bytes(path.read_bytes()[:-100])
    assert message(str(path)).startswith("n.safetensors is not a readable .safetensors file (")


def write(folder: Path, name: str, *, seed: int = 0, classes: int = 3, **extra: str) -> Path:
    model = load_model("cnn", weights="random", classes=classes, size=16, seed=seed, widths="4,8", normalize="cifar10")
    return save_model(
        folder / f"{name}.safetensors",
        model,
        backbone="cnn",
        classes=[f"sign {i}" for i in range(classes)],
        channels=3,
        size=16,
        settings={"widths": "4,8"},
        extra=extra,
    )


def test_a_saved_file_builds_its_own_network(tmp_path: Path) -> None:
    path = write(tmp_path, "net", seed=4)
    for model in (load_model(str(path)), load_model("cnn", weights=path)):
        assert model.classes == ("sign 0", "sign 1", "sign 2")
        assert model.mean.flatten().tolist() == pytest.approx([0.4914, 0.4822, 0.4465])
        assert model(torch.rand(1, 3, 16, 16)).shape == (1, 3)
        assert model.metadata["size"] == "16"
    assert message("resnet20", weights=path) == "net.safetensors holds weights of cnn, not of resnet20."
    assert message(str(path), classes=5) == (
        "the model in net.safetensors has 3 classes, 5 are asked for; "
        "give weights made for this data, or weights='random'."
    )
    assert message("cnn", weights=path, channels=1) == (
        "the weights in net.safetensors take pictures of 3 channels, 1 are asked for."
    )
    assert message(str(path), weights="random") == (
        "net.safetensors is a weight file itself; leave out weights=random."
    )


def test_a_saved_classifier_keeps_its_settings(tmp_path: Path) -> None:
    model = load_model("cnn", weights="random", classes=2, size=16, widths="4", activation="gelu")
    path = save_model(tmp_path / "n.safetensors", model, backbone="cnn", classes=["a", "b"], channels=3, size=16)
    assert load_model(str(path)).fingerprint() == model.fingerprint()


def test_a_family_name_finds_the_member_that_a_large_file_was_made_for(tmp_path: Path) -> None:
    model = load_model("resnet", weights="random", classes=2, size=128)
    path = save_model(tmp_path / "n.safetensors", model, backbone="resnet", classes=["a", "b"], channels=3, size=128)
    for again in (load_model(str(path)), load_model("resnet", weights=path)):
        assert again.name == "resnet18"
        assert again.fingerprint() == model.fingerprint()


def test_the_same_classes_in_another_order_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "net")
    data: Any = Signs("signs", 3)
    assert load_model(str(path), data=data).classes == data.classes
    data.classes = ("sign 0", "sign 2", "sign 1")
    assert message(str(path), data=data) == (
        "cnn and signs order the same classes differently: class 1 is 'sign 1' to the model and 'sign 2' in the data; "
        "bring the data's classes into the model's order."
    )


def test_a_failed_save_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, "net")
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(InputError, match=r"cannot be written \(disk full\)"):
        write(tmp_path, "net", seed=1)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_tied_weights_are_saved_and_loaded(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    net[1].weight = net[0].weight
    path = save_model(tmp_path / "t.safetensors", net, backbone="own", classes=list("abcd"), channels=1, size=2)
    other = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    assert load_model(other, weights=path).weights == "file t.safetensors"
    assert torch.equal(other[1].weight, net[0].weight)


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "weights"
    write(folder, "signs_cnn", data="signs", variant="standard", seed=1)
    write(folder, "signs_cnn_adv", data="signs", variant="adversarial", seed=2)
    write(folder, "letters_cnn", data="letters", variant="standard", seed=3, classes=5)
    monkeypatch.setattr(checkpoint, "EMBEDDED", folder)
    return folder


class Signs:
    """Just enough of a data set."""

    named = True

    def __init__(self, name: str, classes: int) -> None:
        self.name, self.classes, self.shape = name, tuple(f"sign {i}" for i in range(classes)), (3, 16, 16)


@pytest.mark.parametrize(
    ("weights", "seed", "label"),
    [
        ("auto", 1, "embedded signs-standard"),
        ("standard", 1, "embedded signs-standard"),
        ("adversarial", 2, "embedded signs-adversarial"),
        ("embedded:signs_cnn_adv", 2, "embedded signs-adversarial"),
    ],
)
def test_shipped_weights_are_found_by_backbone_data_and_variant(
    weights: str, seed: int, label: str, shipped: Path
) -> None:
    data: Any = Signs("signs", 3)
    model = load_model("cnn", weights=weights, data=data)
    drawn = load_model("cnn", weights="random", classes=3, size=16, seed=seed, widths="4,8", normalize="cifar10")
    assert model.weights == label
    assert model.fingerprint() == drawn.fingerprint()
    assert model.classes == ("sign 0", "sign 1", "sign 2")


def test_weights_that_are_not_shipped_say_what_to_do(shipped: Path) -> None:
    data: Any = Signs("faces", 3)
    assert load_model("cnn", data=data).weights == "embedded signs-standard", "the same classes in the same order"
    data.classes = ("eyes", "nose", "mouth")
    assert message("cnn", data=data) == (
        "advkit ships no weights for cnn and the data faces. Give weights=FILE, or weights=random for an untrained "
        "network; shipped for cnn: embedded:letters_cnn, embedded:signs_cnn, embedded:signs_cnn_adv."
    )
    assert message("cnn") == (
        "advkit ships more than one set of weights for cnn. Give weights=FILE, or weights=random for an untrained "
        "network; shipped for cnn: embedded:letters_cnn, embedded:signs_cnn, embedded:signs_cnn_adv."
    )
    assert message("lenet", weights="adverserial", data=data) == (
        "advkit ships no weights 'adverserial' for lenet and the data faces. Give weights=FILE, or weights=random "
        "for an untrained network; shipped for lenet: none."
    )
    signs: Any = Signs("signs", 4)
    assert message("cnn", data=signs) == (
        "the model in signs_cnn.safetensors has 3 classes, 4 are asked for; "
        "give weights made for this data, or weights='random'."
    )


def test_settings_choose_among_the_shipped_weights(shipped: Path) -> None:
    data: Any = Signs("signs", 3)
    assert load_model("cnn", data=data, widths="4,8").weights == "embedded signs-standard"
    assert message("cnn", data=data, widths="4,16").startswith("advkit ships no weights for cnn and the data signs.")
