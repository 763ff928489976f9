"""Every way to name a model, and the sentence for every way to name it wrongly."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from advkit.backbones import Classifier, describe, load_model, save_model
from advkit.data.base import TensorData
from advkit.errors import MissingExtra, ModelError, UnknownName

USERS_FILE = """
import torch
from neighbour import WIDTH

class Net(torch.nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.dense = torch.nn.Linear(WIDTH, int(classes))

    def forward(self, x):
        return self.dense(x.flatten(1)[:, :WIDTH])

def build(classes="4"):
    return Net(classes)

def broken():
    return {}["no such key"]

def number():
    return 3

ready = Net(3)
"""


@pytest.fixture
def users_file(tmp_path: Path) -> Path:
    (tmp_path / "neighbour.py").write_text("WIDTH = 6\n")
    (tmp_path / "nets.py").write_text(USERS_FILE)
    yield tmp_path / "nets.py"
    sys.modules.pop("neighbour", None)


def pictures(classes: int, channels: int = 3, size: int = 32) -> TensorData:
    x = torch.rand(classes, channels, size, size, generator=torch.Generator().manual_seed(0))
    return TensorData(x, torch.arange(classes), name="drawings", classes=[f"class {i}" for i in range(classes)])


def message(*arguments: Any, **options: Any) -> str:
    with pytest.raises(ModelError) as caught:
        load_model(*arguments, **options)
    return str(caught.value)


def test_data_fills_in_classes_channels_size_and_names() -> None:
    model = load_model("resnet", weights="random", data=pictures(4, 1, 28), seed=3)
    assert (model.name, model.weights, model.num_classes) == ("resnet20", "random (seed 3)", 4)
    assert model.classes == ("class 0", "class 1", "class 2", "class 3")
    assert model(torch.rand(2, 1, 28, 28)).shape == (2, 4)
    assert not model.training


def test_normalisation_is_inside() -> None:
    x = torch.rand(2, 3, 32, 32)
    bare = load_model("lenet", weights="random", classes=2, channels=3, size=32)
    for options in (
        {"normalize": "imagenet"},
        {"mean": "imagenet"},
        {"mean": "imagenet", "std": "imagenet"},
        {"mean": "0.485,0.456,0.406", "std": [0.229, 0.224, 0.225]},
    ):
        model = load_model("lenet", weights="random", classes=2, channels=3, size=32, **options)
        scaled = (x - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor([0.229, 0.224, 0.225]).view(
            3, 1, 1
        )
        assert torch.equal(model(x), bare(scaled))
        assert model.fingerprint() != bare.fingerprint()
    half = load_model("lenet", weights="random", classes=2, channels=3, size=32, mean=[0.5], std=[0.5])
    assert torch.allclose(half(x), bare(2 * x - 1), atol=1e-6)
    same = load_model("lenet", weights="random", classes=2, channels=3, size=32, normalize="none")
    assert same.fingerprint() == bare.fingerprint()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"normalize": "imagenet", "mean": [0.5]},
            "normalize='imagenet' was given together with mean or std; give one or the other.",
        ),
        (
            {"normalize": "imagenett"},
            ("mean is 'imagenett'; Did you mean 'imagenet'? give one number per channel, such as 0.5,0.5,0.5, "
            "or one of: imagenet, cifar10, cifar100, gtsrb, mnist, none."),
        ),
        (
            {"mean": [0.5, 0.5]},
            ("the normalisation has 2 means and 3 standard deviations, the pictures have 3 channels; "
            "give one number per channel."),
        ),
        ({"mean": [0.5], "std": [0.0]}, "std is 0.0; every standard deviation must be above 0."),
        ({"mean": [float("nan")]}, "mean is nan; every mean must be a finite number."),
        ({"classes": 1}, "lenet: classes is 1; say how many classes there are, at least 2, or give data."),
        ({"classes": None}, "lenet: classes is None; say how many classes there are, at least 2, or give data."),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(options: dict[str, Any], sentence: str) -> None:
    assert message("lenet", weights="random", **({"classes": 2, "channels": 3, "size": 32} | options)) == sentence


def test_data_and_numbers_that_disagree_are_refused() -> None:
    assert message("lenet", data=pictures(4), classes=5) == (
        "classes=5 was given, drawings has 4; leave it out where data is given."
    )
    wide = TensorData(torch.rand(2, 3, 16, 32), torch.arange(2), name="wide")
    assert message("lenet", data=wide) == (
        "the pictures of wide are 16 x 32 and lenet is built for square ones: resize them (size, --size), "
        "or give a network of your own."
    )


def test_a_module_is_taken_as_it_is_and_measured_on_the_data() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16, 5)).train()
    model = load_model(net, data=pictures(5, size=4))
    assert (model.name, model.weights, model.num_classes) == ("Sequential", "caller's", 5)
    assert model.net is net
    assert model.classes == tuple(f"class {i}" for i in range(5))
    assert load_model(net).num_classes is None
    assert load_model(model) is model


@pytest.mark.parametrize(
    ("net", "sentence"),
    [
        (
            nn.Sequential(nn.Flatten(), nn.Linear(48, 7)),
            "Sequential has 7 classes, 5 are asked for; give weights made for this data, or weights='random'.",
        ),
        (
            nn.Sequential(nn.Flatten(), nn.Linear(40, 5)),
            "Sequential cannot take pictures of 3 x 4 x 4 (RuntimeError: ",
        ),
        (nn.Identity(), "Identity answered (1, 3, 4, 4) for 1 pictures; it must return one row of scores per picture"),
    ],
)
def test_a_module_that_does_not_fit_the_data_says_why(net: nn.Module, sentence: str) -> None:
    assert message(net, data=pictures(5, size=4)).startswith(sentence)


def test_images_that_are_not_square_are_the_networks_own_matter() -> None:
    wide = TensorData(torch.rand(4, 3, 20, 44), torch.arange(4), name="wide")
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 5))
    assert load_model(net, data=wide).num_classes == 5
    assert message(nn.Sequential(nn.Flatten(), nn.Linear(48, 5)), data=wide).startswith(
        "Sequential cannot take pictures of 3 x 20 x 44 (RuntimeError: "
    )


def test_a_file_of_torch_export_says_how_to_bring_it(tmp_path: Path) -> None:
    (tmp_path / "net.pt2").write_bytes(b"PK")
    assert "torch.export.load(FILE).module(), and give that as FILE.py:net" in message(str(tmp_path / "net.pt2"))


def test_a_module_takes_neither_settings_nor_named_weights() -> None:
    assert message(nn.Identity(), depth=3) == "a module has no setting 'depth': it is built already."
    assert message(nn.Identity(), weights="adversarial") == (
        "Identity comes with its own weights; 'adversarial' is not the path of a file."
    )
    model = Classifier(nn.Identity(), name="mine")
    assert message(model, mean=[0.5]) == (
        "mine is a Classifier with its normalisation inside; give its .net to change that."
    )


def test_a_users_file_gives_its_model(users_file: Path) -> None:
    path = list(sys.path)
    model = load_model(f"{users_file}:build:9", channels=1, size=4)
    assert (model.weights, model.num_classes) == ("caller's", 9)
    assert load_model(f"{users_file}:build", channels=1, size=4).num_classes == 4
    assert load_model(f"{users_file}:ready", channels=1, size=4).num_classes == 3
    assert sys.path == path


def test_a_users_file_can_be_filled_from_a_weight_file(users_file: Path, tmp_path: Path) -> None:
    torch.save({"dense.weight": torch.ones(4, 6), "dense.bias": torch.zeros(4)}, tmp_path / "ones.pt")
    model = load_model(f"{users_file}:build", weights=tmp_path / "ones.pt")
    assert model.weights == "file ones.pt"
    assert torch.equal(model(torch.ones(1, 1, 4, 4)), torch.full((1, 4), 6.0))


def test_an_untrained_model_from_code_is_drawn_from_the_seed(users_file: Path) -> None:
    state = torch.get_rng_state()
    prints = [load_model(f"{users_file}:build", seed=seed).fingerprint() for seed in (1, 1, 2)]
    assert prints[0] == prints[1] != prints[2]
    assert torch.equal(torch.get_rng_state(), state)


def test_an_error_inside_the_users_file_is_the_users_own(users_file: Path) -> None:
    with pytest.raises(KeyError, match="no such key") as caught:
        load_model(f"{users_file}:broken")
    assert any(str(users_file) == str(entry.path) for entry in caught.traceback)


def test_mistakes_in_naming_code_are_sentences(users_file: Path) -> None:
    assert message(f"{users_file}:biuld") == (
        f"{users_file} defines no 'biuld'; Did you mean 'build'? name a function there that returns a torch.nn.Module."
    )
    assert message(f"{users_file}:number") == f"{users_file}:number returned a int; it must return a torch.nn.Module."
    assert message(str(users_file)) == f"{users_file} names no function; write {users_file}:factory."
    assert message("nowhere/nets.py:build") == "there is no file nowhere/nets.py; write path/to/file.py:factory."
    assert message("no_such_package.nets:build") == (
        "there is no module 'no_such_package.nets' (from 'no_such_package.nets:build'); "
        "write package.module:factory or path/to/file.py:factory."
    )
    assert message("no/such/file.onnx") == "there is no model file no/such/file.onnx."


def test_a_function_of_an_installed_package_gives_its_model() -> None:
    assert load_model("torch.nn:Identity").name == "torch.nn:Identity"


def test_torchvision_models_come_with_imagenets_normalisation() -> None:
    model = load_model("torchvision:squeezenet1_1", weights="random", classes=7, seed=2)
    assert (model.weights, model.num_classes) == ("random (seed 2)", 7)
    assert model.mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])
    assert model(torch.rand(1, 3, 64, 64)).shape == (1, 7)


def test_a_file_says_how_many_classes_a_torchvision_model_has(tmp_path: Path) -> None:
    saved = load_model("torchvision:squeezenet1_1", weights="random", classes=7)
    torch.save(saved.net.state_dict(), tmp_path / "seven.pt")
    model = load_model("torchvision:squeezenet1_1", weights=tmp_path / "seven.pt")
    assert (model.num_classes, model.weights) == (7, "file seven.pt")
    assert model.fingerprint() == saved.fingerprint()


def test_pictures_too_small_for_a_torchvision_model_are_refused_at_once() -> None:
    assert message("torchvision:vit_b_32", weights="random", data=pictures(3)).startswith(
        "torchvision:vit_b_32 cannot take pictures of 3 x 32 x 32 (AssertionError: "
    )


def test_torchvision_weights_bring_their_class_names(monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision import models

    states = {}

    def published(self: Any, **options: object) -> dict[str, Tensor]:
        assert options["check_hash"]
        return states.setdefault(
            self.name, models.get_model("googlenet", weights=None, init_weights=False).state_dict()
        )

    monkeypatch.setattr(models.GoogLeNet_Weights, "get_state_dict", published)
    model = load_model("torchvision:googlenet")
    assert (model.weights, model.num_classes) == ("torchvision IMAGENET1K_V1", 1000)
    assert model.classes is not None
    assert model.classes[388] == "giant panda"
    assert model.train()(torch.rand(2, 3, 64, 64)).shape == (2, 1000)
    assert message("torchvision:googlenet", classes=43) == (
        "torchvision:googlenet with IMAGENET1K_V1 has 1000 classes, 43 are asked for; "
        "give weights made for this data, or weights='random'. Of data with only some of its classes, "
        "name all of the model's, in their order, in the folder's class_names.json."
    )


def test_without_a_network_the_sentence_says_where_the_file_goes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", refuse)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    assert message("torchvision:resnet18") == (
        "the weights of torchvision:resnet18 could not be fetched (no route to host). Without a network, put the file "
        f"resnet18-f37072fd.pth into {tmp_path}/checkpoints, or give weights=FILE."
    )


def test_mistakes_in_naming_torchvisions_models_are_sentences() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'resnet50'"):
        load_model("torchvision:resnet5O")
    assert message("torchvision:resnet18", weights="imagenet1k_v9") == (
        "torchvision:resnet18 has no weights 'imagenet1k_v9'; "
        "known: auto, random, IMAGENET1K_V1, or the path of a file."
    )
    assert message("torchvision:resnet18", channels=1).startswith(
        "torchvision:resnet18 takes pictures of 3 channels, these have 1;"
    )
    assert message("torchvision:resnet18", depth=3) == (
        "torchvision:resnet18 has no setting 'depth': it is used as published."
    )


def test_timm_models_come_with_their_own_normalisation() -> None:
    pytest.importorskip("timm")
    model = load_model("timm:resnet10t", weights="random", classes=6)
    assert (model.weights, model.num_classes) == ("random (seed 0)", 6)
    assert len(model.mean) == 3
    assert model(torch.rand(1, 3, 64, 64)).shape == (1, 6)
    assert message("timm:resnet1Ot").startswith("timm has no model 'resnet1Ot'; Did you mean ")


def test_timm_without_a_network_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    timm = pytest.importorskip("timm")

    def refuse(_: nn.Module) -> None:
        raise LookupError("offline")

    monkeypatch.setattr(timm.models, "load_pretrained", refuse)
    assert message("timm:resnet10t") == (
        "the weights of timm:resnet10t could not be fetched (offline). "
        "Without a network, bring the file from a machine that has one and give weights=FILE."
    )


def test_a_file_of_a_hub_is_loaded_into_the_backbone_it_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    saved = load_model("lenet", weights="random", classes=2, channels=1, size=28)
    facts = {"backbone": "lenet", "classes": ["a", "b"], "channels": 1, "size": 28}
    path = save_model(tmp_path / "net.safetensors", saved, **facts)
    asked = []

    def fetch(repo_id: str, filename: str) -> str:
        asked.append((repo_id, filename))
        return str(path)

    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(hf_hub_download=fetch))
    for spec in ("hf:someone/nets:net.safetensors", "hf:someone/nets:net.safetensors@lenet"):
        model = load_model(spec)
        assert model.weights == spec
        assert model.fingerprint() == saved.fingerprint()
    assert asked == [("someone/nets", "net.safetensors")] * 2
    for spec in ("hf:nets:net.safetensors", "hf:someone/nets", "hf:someone/nets:pickle.bin"):
        assert message(spec) == (
            f"{spec} cannot be read; write hf:user/repo:file.safetensors, "
            "with @backbone behind it where the file does not name its own."
        )


@pytest.mark.parametrize(
    ("package", "spec", "sentence"),
    [
        ("timm", "timm:resnet18", "The model timm:resnet18 needs the package 'timm': pip install 'advkit[timm]'."),
        (
            "huggingface_hub",
            "hf:a/b:c.safetensors",
            "The model hf:a/b:c.safetensors needs the package 'huggingface_hub': pip install 'advkit[hf]'.",
        ),
        (
            "onnx",
            "{folder}/net.onnx",
            "The ONNX model net.onnx needs the package 'onnx': pip install 'advkit[onnx]'.",
        ),
    ],
)
def test_a_missing_extra_is_named(
    package: str, spec: str, sentence: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "net.onnx").write_bytes(b"")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtra) as caught:
        load_model(spec.format(folder=tmp_path))
    assert str(caught.value) == sentence


@pytest.mark.parametrize("suffix", [".ts", ".torchscript", ".pt"])
def test_torchscript_answers_as_the_network_it_was_made_from(suffix: str, tmp_path: Path) -> None:
    model = load_model("resnet20", weights="random", classes=4)
    x = torch.rand(2, 3, 32, 32, requires_grad=True)
    path = tmp_path / f"net{suffix}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(model, x.detach()).save(str(path))
    again = load_model(str(path), channels=3, size=32)
    assert (again.weights, again.num_classes) == (f"file net{suffix}", 4)
    assert torch.allclose(again(x), model(x), atol=1e-5)
    (grad,) = torch.autograd.grad(again(x).sum(), x)
    assert grad.abs().max() > 0
    assert len(again.fingerprint()) == 64


def test_frozen_torchscript_with_other_weights_has_another_fingerprint(tmp_path: Path) -> None:
    prints = set()
    for seed in (0, 1):
        net = load_model("lenet", weights="random", classes=2, seed=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.jit.freeze(torch.jit.trace(net, torch.rand(1, 3, 32, 32))).save(str(tmp_path / f"{seed}.ts"))
        model = load_model(str(tmp_path / f"{seed}.ts"))
        prints.add(model.fingerprint())
    assert len(prints) == 2
    with pytest.raises(ModelError) as caught:
        describe(model, 3, 32, 32)
    assert str(caught.value) == (
        "the layers of a TorchScript model cannot be watched; describe the network it was made from."
    )


def test_a_damaged_torchscript_file_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "net.ts").write_bytes(b"\x08\xff\xff not a network")
    assert message(str(tmp_path / "net.ts")).startswith("net.ts is not a readable TorchScript file (")


def test_a_fingerprint_tells_weights_and_settings_apart() -> None:
    options: dict[str, Any] = {"weights": "random", "classes": 2, "channels": 1, "size": 28}
    model = load_model("lenet", **options)
    before = model.fingerprint()
    assert load_model("lenet", activation="tanh", **options).fingerprint() != before
    with torch.no_grad():
        next(model.parameters()).view(-1)[0] += 1e-6
    assert model.fingerprint() != before


def test_a_module_stays_on_its_device_unless_one_is_named() -> None:
    net = nn.Linear(2, 2).to("meta")
    assert load_model(net).mean.device.type == "meta"
    assert load_model(nn.Linear(2, 2), device="meta").net.weight.device.type == "meta"


def test_importing_the_package_imports_neither_torchvision_nor_timm() -> None:
    import subprocess

    code = "import sys, advkit.backbones; sys.exit(any(m in sys.modules for m in ('torchvision', 'timm', 'onnx')))"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


@pytest.mark.parametrize(
    "wrong", [{"size": "abc"}, {"size": 0}, {"size": "-1"}, {"size": 10**6}, {"channels": 2.5}, {"classes": "x"}]
)
def test_a_number_of_the_network_is_a_whole_one(wrong: dict[str, object]) -> None:
    with pytest.raises(ModelError, match=r"give (a whole number|1 to 8,192)"):
        load_model("lenet", weights="random", **{"classes": 3, **wrong})


def test_a_number_of_the_network_may_be_a_text() -> None:
    assert load_model("lenet", weights="random", classes="3", size="48", channels="1").num_classes == 3
