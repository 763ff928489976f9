"""Every backbone of the registry keeps the same promises."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from advkit.backbones import load_model, save_model
from advkit.catalog import BACKBONES
from advkit.errors import InputError, ModelError, UnknownName

NAMES = BACKBONES.names()


def parameters(name: str) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in BACKBONES.create(name, classes=10).parameters())


def representatives() -> list[str]:
    """Every family by its usual member, every other backbone by itself; a new file is picked up here."""
    families = {entry.module for entry in BACKBONES.entries() if "small" in entry.facts}
    alone = [entry.name for entry in BACKBONES.entries() if entry.module not in families]
    usual = {entry.facts["small"] for entry in BACKBONES.entries() if "small" in entry.facts}
    lighter = {"wide_resnet28_10": "wide_resnet16_4", "vgg16_bn": "vgg11"}
    return sorted({*alone, *(lighter.get(name, name) for name in usual), "resnet18", "mobilenet_v3_small"})


REPRESENTATIVES = representatives()


@pytest.mark.parametrize("name", NAMES)
def test_every_backbone_takes_digits_of_28_pixels(name: str) -> None:
    with torch.device("meta"):  # shapes only: some of them have hundreds of millions of parameters
        net = BACKBONES.create(name, classes=2, channels=1, size=28).eval()
        assert net(torch.zeros(3, 1, 28, 28)).shape == (3, 2)


@pytest.mark.parametrize(("channels", "size"), [(1, 28), (3, 64), (1, 96)])
@pytest.mark.parametrize("name", REPRESENTATIVES)
def test_every_picture_size_gives_finite_logits_and_a_gradient(name: str, channels: int, size: int) -> None:
    x = torch.rand(2, channels, size, size, generator=torch.Generator().manual_seed(0)).requires_grad_()
    logits = load_model(name, weights="random", classes=2, channels=channels, size=size)(x)
    (grad,) = torch.autograd.grad(logits[:, 0].sum(), x)
    assert logits.isfinite().all()
    assert grad.isfinite().all()
    assert (grad.flatten(1).abs().amax(1) > 0).all()


@pytest.mark.parametrize("name", REPRESENTATIVES)
def test_a_picture_is_judged_alone(name: str) -> None:
    """Finite logits, a gradient for every picture, neither depending on what else is in the batch."""
    x = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1)).requires_grad_()
    model = load_model(name, weights="random", classes=10, channels=3, size=32)
    logits = model(x)
    (grad,) = torch.autograd.grad(logits[:, 0].sum(), x)
    assert logits.shape == (3, 10)
    assert logits.isfinite().all()
    assert (grad.flatten(1).abs().amax(1) > 0).all()
    alone = model(x[1:2])[0]
    assert (alone - logits[1]).abs().max() <= 1e-4 * logits.abs().max()
    assert not any(module.training for module in model.modules())


@pytest.mark.parametrize("name", REPRESENTATIVES)
def test_random_weights_come_from_the_seed_alone(name: str) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = load_model(name, weights="random", classes=3, seed=1).fingerprint()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    assert load_model(name, weights="random", classes=3, seed=1).fingerprint() == first
    assert load_model(name, weights="random", classes=3, seed=2).fingerprint() != first


@pytest.mark.parametrize("name", REPRESENTATIVES)
def test_what_is_saved_is_what_is_loaded(name: str, tmp_path: Path) -> None:
    model = load_model(name, weights="random", classes=2, normalize="cifar10")
    path = save_model(tmp_path / "m.safetensors", model, backbone=name, classes=["cat", "dog"], channels=3, size=32)
    again = load_model(str(path))
    assert again.fingerprint() == model.fingerprint()
    assert (again.name, again.classes, again.weights) == (name, ("cat", "dog"), "file m.safetensors")
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(again(x), model(x))
    assert [file.name for file in tmp_path.iterdir()] == ["m.safetensors"]


@pytest.mark.parametrize("name", REPRESENTATIVES)
def test_no_layer_overwrites_its_input(name: str) -> None:
    net = load_model(name, weights="random", classes=2)
    assert not [layer for layer in net.modules() if getattr(layer, "inplace", False)]


def test_training_mode_gives_a_tensor_too() -> None:
    for name in ("googlenet", "inception_v3"):
        logits = load_model(name, weights="random", classes=4).train()(torch.rand(2, 3, 64, 64))
        assert logits.shape == (2, 4)


@pytest.mark.parametrize("name", NAMES)
def test_every_backbone_says_what_it_is_and_where_it_was_published(name: str) -> None:
    entry = BACKBONES[name]
    assert entry.summary.endswith(".")
    assert entry.facts["paper"]


@pytest.mark.parametrize(("size", "member"), [(28, "resnet20"), (95, "resnet20"), (96, "resnet18")])
def test_a_family_name_stands_for_the_member_that_suits_the_pictures(size: int, member: str) -> None:
    assert load_model("resnet", weights="random", classes=2, size=size).name == member


def test_from_96_pixels_the_layouts_are_torchvisions_own() -> None:
    from torchvision import models

    for name in ("resnet18", "vgg11_bn", "densenet121", "mobilenet_v2", "efficientnet_b0", "convnext_tiny", "alexnet"):
        with torch.device("meta"):
            ours = BACKBONES.create(name, classes=1000, size=224).state_dict()
            theirs = models.get_model(name, weights=None).state_dict()
        assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items()}


def test_the_small_resnets_are_those_of_section_4_2() -> None:
    # Table 6 of He et al. 2016, in millions
    for depth, millions in ((20, 0.27), (32, 0.46), (44, 0.66), (56, 0.85), (110, 1.7)):
        assert parameters(f"resnet{depth}") / 1e6 == pytest.approx(millions, abs=0.05)


def test_the_wide_resnets_have_the_published_sizes() -> None:
    # Table 4 of Zagoruyko and Komodakis 2016, in millions
    for name, millions in (("40_4", 8.9), ("16_8", 11.0), ("28_10", 36.5)):
        assert parameters(f"wide_resnet{name}") / 1e6 == pytest.approx(millions, abs=0.1)


@pytest.mark.parametrize("pooling", ["max", "average", "min", "none"])
@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("kernel", ["2", "3", "5"])
def test_every_part_of_the_cnn_can_be_set(pooling: str, padding: str, kernel: str) -> None:
    texts = {"widths": "8,16", "dense": "20,10", "batch_norm": "yes", "activation": "gelu", "pool_every": "2"}
    net = load_model(
        "cnn",
        weights="random",
        classes=5,
        size=28,
        channels=1,
        pooling=pooling,
        padding=padding,
        kernel=kernel,
        **texts,
    )
    assert net(torch.rand(2, 1, 28, 28)).shape == (2, 5)
    assert (torch.nn.ZeroPad2d in {type(m) for m in net.modules()}) == (kernel == "2" and padding == "same")


def test_a_min_pool_gives_the_smallest_value_of_each_window() -> None:
    from advkit.backbones.cnn import MinPool2d

    assert MinPool2d(2)(torch.tensor([[[[3.0, 1.0], [2.0, 4.0]]]])).item() == 1.0


def test_the_mlp_has_the_widths_it_is_given() -> None:
    net = load_model("mlp", weights="random", classes=3, size=4, channels=1, widths="7,5").net
    assert [m.out_features for m in net.modules() if isinstance(m, torch.nn.Linear)] == [7, 5, 3]
    bare = load_model("mlp", weights="random", classes=3, size=4, channels=1, widths="none").net
    assert [m.out_features for m in bare.modules() if isinstance(m, torch.nn.Linear)] == [3]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"widths": "8,x"}, "cnn: widths is '8,x'; give whole numbers of at least 1, such as 64,128."),
        ({"widths": "8,0"}, "cnn: widths is '8,0'; give whole numbers of at least 1, such as 64,128."),
        ({"stride": 0}, "cnn: stride is 0; give a whole number of at least 1."),
        (
            {"widths": "4,4,4,4,4,4"},
            (
                "cnn: pictures of 32 pixels have shrunk to nothing after block 6; "
                "give fewer widths, a smaller kernel or stride, padding=same, or a larger pool_every."
            ),
        ),
    ],
)
def test_a_cnn_that_cannot_be_built_says_why(settings: dict[str, object], sentence: str) -> None:
    with pytest.raises(ModelError) as caught:
        load_model("cnn", weights="random", classes=2, **settings)
    assert str(caught.value) == sentence


def test_a_misspelt_name_or_setting_names_the_nearest() -> None:
    with pytest.raises(UnknownName, match=r"'lenett' is not the name of a backbone\. Did you mean 'lenet'\?"):
        load_model("lenett", weights="random", classes=2)
    with pytest.raises(InputError, match=r"cnn has no setting 'pool'\. Did you mean"):
        load_model("cnn", weights="random", classes=2, pool="max")
    with pytest.raises(InputError, match="cnn: pooling is 'mac'; Did you mean 'max'"):
        load_model("cnn", weights="random", classes=2, pooling="mac")


@pytest.mark.parametrize(
    ("name", "classes", "count"),
    [
        ("lisa-cnn", 17, 725_841),
        ("lisa-cnn", 16, 725_328),
        ("lisa-cnn", 43, 739_179),
        ("gtsrb-cnn", 43, 16_571_223),
    ],
)
def test_the_networks_of_rp2_have_as_many_parameters_as_the_authors_have(name: str, classes: int, count: int) -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in BACKBONES.create(name, classes=classes).parameters()) == count


@pytest.mark.parametrize(("name", "least"), [("lisa-cnn", 28), ("gtsrb-cnn", 8)])
def test_a_picture_too_small_for_the_networks_of_rp2_is_refused(name: str, least: int) -> None:
    with torch.device("meta"):
        BACKBONES.create(name, classes=2, size=least)
        with pytest.raises(ModelError, match=f"give at least {least}"):
            BACKBONES.create(name, classes=2, size=least - 1)


@pytest.mark.parametrize("seed", range(5))
def test_every_colour_reaches_the_dense_layers_of_gtsrb_cnn(seed: int) -> None:
    model = load_model("gtsrb-cnn", weights="random", classes=4, channels=3, size=8, seed=seed)
    x = torch.rand(8, 3, 8, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    (grad,) = torch.autograd.grad(model(x)[:, 0].sum(), x)
    assert (grad.abs().amax((0, 2, 3)) > 0).all()
