"""Published and measured numbers on real pictures and real weights (skipped where there are none)."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from advkit import Classifier, Data, Linf, evaluate, load_data, load_model
from advkit.attacks import FGSM, PGD, Noise, standard
from advkit.core import Rng
from advkit.core.rng import identify
from advkit.defenses.crown import Crown
from advkit.results.statistics import share

pytestmark = [
    pytest.mark.real,
    pytest.mark.slow,
    # the loaders beside the real weights leave their files to the garbage collector
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]


def cifar(folder: Path, depth: int, count: int) -> tuple[Classifier, Data]:
    data = load_data(folder / "cifar10_test_1000.npz", samples=count)
    weights = folder / "weights" / f"cifar10_resnet{depth}.safetensors"
    return load_model(f"resnet{depth}", weights=weights, normalize="imagenet", data=data), data


@pytest.mark.parametrize("depth", [20, 32, 56])
def test_pgd_at_8_of_255_leaves_nothing_of_a_standard_cifar_network(depth: int, real_data: Path) -> None:
    model, data = cifar(real_data, depth, 100)
    result = evaluate(model, data, [Noise(Linf("8/255")), PGD(Linf("8/255"), steps=20)])
    noise, pgd = result.rows()
    assert pgd.accuracy.value == 0
    assert noise.accuracy.value > 0.5, "the control is far weaker"


@pytest.mark.parity
def test_at_1_of_255_the_accuracy_is_that_of_foolbox_and_of_torchattacks(real_data: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # their own deprecations
        import foolbox

        torchattacks = pytest.importorskip("torchattacks")
    model, data = cifar(real_data, 20, 200)
    x, y = data.tensors()
    ours = evaluate(model, data, PGD(Linf("1/255"), steps=20, step_size=0.1)).rows()[0].accuracy
    wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
    theirs = {
        "foolbox": foolbox.attacks.LinfPGD(steps=20, rel_stepsize=0.1)(wrapped, x, y, epsilons=1 / 255)[1],
        "torchattacks": torchattacks.PGD(model, eps=1 / 255, alpha=0.1 / 255, steps=20)(x, y),
    }
    with torch.no_grad():
        right = model(x).argmax(1) == y
        for peer, x_adv in theirs.items():
            found = share(int((right & (model(x_adv).argmax(1) == y)).sum()), len(y))
            assert ours.low <= found.value <= ours.high, peer
            assert ours.value <= found.value + 0.01, f"{peer} is stronger"


def test_on_robust_mnist_fgsm_is_far_weaker_than_pgd_and_restarts_are_stronger(real_data: Path) -> None:
    data = load_data(real_data / "mnist_test_5000.npz", samples=1000)
    model = load_model(f"{real_data}/model_defs.py:load:mnist_adv_cnna", data=data)
    pgd = PGD(Linf("0.3"), steps=40, step_size=0.067)
    attacks = {"fgsm": FGSM(Linf("0.3")), "pgd": pgd, "restarts": replace(pgd, restarts=3)}
    fgsm, once, often = (row.accuracy.value for row in evaluate(model, data, attacks).rows())
    assert fgsm > once + 0.02
    assert once > often
    assert abs(once - 0.765) < 0.01, "what torchattacks leaves, with the same pictures, steps and step size"


def test_the_published_autoattack_number_is_a_floor_that_pgd_comes_near(real_data: Path) -> None:
    """TRADES at 0.3: AutoAttack leaves 92.81 % of 10,000 and 91.0 % of the first 200."""
    data = load_data(real_data / "mnist_test_5000.npz", samples=200)
    model = load_model(f"{real_data}/model_defs.py:load:mnist_trades", data=data)
    found = evaluate(model, data, PGD(Linf("0.3"), steps=40)).rows()[0].accuracy.value
    assert 0.91 <= found <= 0.97


def test_imagenet_photos_fall_to_one_step_often_and_to_ten_always(real_data: Path) -> None:
    data = load_data(real_data / "imagenet_sample", size=224, samples=24)
    weights = real_data / "weights" / "imagenet_mobilenet_v2.safetensors"
    model = load_model("torchvision:mobilenet_v2", weights=weights, data=data)
    threat = Linf("4/255")
    fgsm, pgd = evaluate(model, data, [FGSM(threat), PGD(threat, steps=10)]).rows()
    assert pgd.accuracy.value == 0
    assert 0 < fgsm.success <= 1


@pytest.mark.parametrize(("name", "stand"), [("cifar10_adv_resnet2b", 36), ("cifar10_adv_cnna_2", 30)])
def test_standard_leaves_what_the_chain_of_torchattacks_leaves(name: str, stand: int, real_data: Path) -> None:
    """Of the first 60 pictures at 2/255: APGD, APGDT, FAB and Square of torchattacks (benchmarks/autoattack.py)."""
    data = load_data(real_data / "cifar10_test_1000.npz", samples=60)
    model = load_model(f"{real_data}/model_defs.py:load:{name}", data=data)
    found = evaluate(model, data, standard(Linf("2/255")))
    assert int(found.stands("2/255").sum()) <= stand
    assert int(found.stands("2/255").sum()) >= stand - 1, "below the reference: is a point outside the ball?"


def test_no_attack_goes_below_what_is_certified(real_data: Path) -> None:
    data = load_data(real_data / "mnist_test_5000.npz", samples=12)
    model = load_model(f"{real_data}/model_defs.py:load:mnist_provable_01", data=data)
    x, y = data.tensors()
    rng = Rng.of(0, identify(x))
    certified = torch.tensor(
        [
            bool(Crown(eps=0.1).certify(model, x[i : i + 1], rng.take(slice(i, i + 1)), 1).radius >= 0.1)
            for i in range(len(x))
        ]
    )
    stands = evaluate(model, data, standard(Linf("0.1"))).stands("0.1")
    assert int(certified.sum()) >= 8
    assert bool((stands | ~certified | (model(x).argmax(1) != y)).all())
