"""Defended models: texts for defenses, chains from left to right, and attacks that reach what hides its gradient."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from helpers import Quantiser, conv_net, pictures, trained
from torch import Tensor, nn

from advkit.attacks import BIM, PGD
from advkit.core import Linf, Margin
from advkit.core.defense import Backward, RandomWrapper, Wrapper
from advkit.core.rng import Rng
from advkit.data import TensorData
from advkit.defenses.bits import Bits
from advkit.defenses.jpeg import Jpeg
from advkit.engine.defend import Defended, build_defense, defend
from advkit.engine.specs import AttackSpec, DataSpec, ModelSpec
from advkit.engine.sweep import Sweep, make_plan, run_plan
from advkit.errors import AdvkitError, InputError, UnknownName


@dataclass(frozen=True)
class Scale(Wrapper):
    """Dims; a chain of it with rounding depends on the order."""

    by: float = 0.37

    backward: ClassVar[Backward] = "exact"

    def __call__(self, x: Tensor) -> Tensor:
        return self.by * x


# ---------------------------------------------------------------------- texts


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("none", ()),
        ("jpeg", (Jpeg(),)),
        ("jpeg:60", (Jpeg(60),)),
        ("jpeg:quality=60", (Jpeg(60),)),
        ("bits:3+jpeg:75", (Bits(3), Jpeg(75))),
        ("jpeg:75+bits:3", (Jpeg(75), Bits(3))),
    ],
)
def test_a_text_is_a_chain_of_wrappers_from_left_to_right(text: str, made: tuple[Wrapper, ...]) -> None:
    assert build_defense(text) == made


@pytest.mark.parametrize(
    ("text", "error", "parts"),
    [
        ("jpge", UnknownName, ("'jpge'", "Did you mean 'jpeg'?")),
        ("bits:3+jpge:75", UnknownName, ("'jpge'", "Did you mean 'jpeg'?")),
        ("bits:3,nearest,4", InputError, ("more settings than bits takes",)),
        ("jpeg:quality=75,quality=60", InputError, ("says quality twice",)),
        ("jpeg:qualty=75", AdvkitError, ("qualty", "quality")),
        ("bits:four", AdvkitError, ("depth", "four")),
        ("none:3", UnknownName, ("'none'",)),
        ("none+jpeg", InputError, ("chains none with another", "write jpeg")),
        ("none+none", InputError, ("none stands alone", "write none")),
        ("", UnknownName, ("''",)),
        ("jpeg+", UnknownName, ("''",)),
        ("pgd-at", InputError, ("pgd-at is a way to train", "advkit train --defense pgd-at", "give the weights")),
        ("jpeg+standard", InputError, ("standard is a way to train",)),
    ],
)
def test_a_text_that_means_nothing_is_refused_by_one_sentence(
    text: str, error: type[Exception], parts: tuple[str, ...]
) -> None:
    with pytest.raises(error) as caught:
        build_defense(text)
    said = str(caught.value)
    assert all(part in said for part in parts), said
    assert "\n" not in said
    assert said.endswith(".")


# ---------------------------------------------------------------------- chains


def test_no_defense_is_the_model_itself() -> None:
    model = conv_net()
    assert defend(model, build_defense("none")) is model


def test_a_chain_runs_from_left_to_right() -> None:
    model, x = conv_net(), pictures(4)
    one, other = (defend(model, chain)(x) for chain in ([Bits(2), Scale()], [Scale(), Bits(2)]))
    assert torch.equal(one, model(Scale()(Bits(2)(x))))
    assert torch.equal(other, model(Bits(2)(Scale()(x))))
    assert not torch.equal(one, other)


def test_the_gradient_of_a_chain_is_that_of_its_exact_parts() -> None:
    model, x = conv_net(), pictures(4)
    points = x.clone().requires_grad_()
    (found,) = torch.autograd.grad(defend(model, [Scale(), Bits(2), Scale(0.5)])(points)[:, 1].sum(), points)
    seen = (0.5 * Bits(2)(0.37 * x)).requires_grad_()
    (inner,) = torch.autograd.grad(model(seen)[:, 1].sum(), seen)
    torch.testing.assert_close(found, 0.37 * 0.5 * inner, rtol=0, atol=1e-14)


def test_a_defended_model_is_a_module_that_holds_the_model() -> None:
    model = conv_net(norm=True)
    defended = defend(model, [Bits(4)])
    assert isinstance(defended, Defended)
    assert {id(p) for p in defended.parameters()} == {id(p) for p in model.parameters()}
    defended.train()
    assert model.training
    before = torch.random.get_rng_state()
    defended(pictures(2))
    assert torch.equal(torch.random.get_rng_state(), before)


# ---------------------------------------------------------------------- attacks through defenses


LEVELS = 15  # of Bits(4) and of Quantiser alike


def test_the_quantiser_and_bits_answer_alike() -> None:
    model, x, _ = trained()
    torch.testing.assert_close(defend(model, [Bits(4)])(x), Quantiser(model, LEVELS)(x), rtol=0, atol=1e-12)


def test_an_attack_through_the_declared_gradient_beats_what_a_zero_gradient_hides() -> None:
    model, x, y = trained()
    defended, masked = defend(model, [Bits(4)]), Quantiser(model, LEVELS)
    attack = PGD(Linf(0.06), steps=10, loss=Margin())
    adaptive, blind = (int((m(attack(m, x, y)).argmax(1) != y).sum()) for m in (defended, masked))
    assert adaptive >= blind + len(x) // 3, (adaptive, blind)
    assert adaptive > len(x) // 2


def test_a_sweep_attacks_the_model_behind_its_defense(tmp_path: Path) -> None:
    model, x, y = trained()
    net = copy.deepcopy(model).float()
    wanted = Sweep(
        models=(ModelSpec("net", made=net),),
        attacks=(AttackSpec("bim", (("steps", 3),)),),
        radii=("0.03",),
        data=DataSpec("patterns", made=TensorData(x.float(), y, name="patterns")),
        defenses=("none", "bits:2", "bits:2+jpeg:90"),
        samples=None,
    )
    found = run_plan(make_plan(wanted), tmp_path).grid.lines
    lines = {line.defense: line for line in found if line.attack == "bim"}
    replayed = {line.defense: line for line in found if line.attack == "bim (oblivious)"}
    assert list(replayed) == ["bits:2", "bits:2+jpeg:90"]
    assert list(lines) == ["none", "bits:2", "bits:2+jpeg:90"]
    for defense, line in lines.items():
        defended = defend(net, build_defense(defense))
        assert line.clean.tolist() == (defended(x.float()).argmax(1) == y).tolist()
        x_adv = BIM(Linf(0.03), steps=3)(defended, x.float(), y)
        found = (defended(x_adv).argmax(1) == y) & torch.as_tensor(line.clean)
        assert line.stands.tolist() == found.tolist()
        if defense != "none":
            oblivious = BIM(Linf(0.03), steps=3)(net, x.float(), y)
            stands = (defended(oblivious).argmax(1) == y) & torch.as_tensor(line.clean)
            assert replayed[defense].stands.tolist() == stands.tolist()
    assert len({line.accuracy.value for line in lines.values()}) > 1, "an easy case shows nothing"


@dataclass(frozen=True)
class Shaken(RandomWrapper):
    """Adds noise of each picture's own."""

    def drawn(self, x: Tensor, rng: Rng) -> Tensor:
        return x + rng.normal(*x.shape[1:], dtype=x.dtype)


def test_the_mean_over_draws_is_the_same_to_the_bit_wherever_in_a_batch_a_picture_stands():
    """The processor's exponential rounds otherwise at the end of a row of numbers, and a search would feel it."""
    x = torch.randn(33, 1, 2, 5, generator=torch.Generator().manual_seed(0))
    net = defend(nn.Flatten(), [Shaken(draws=5)])

    def told(points: Tensor) -> tuple[Tensor, Tensor]:
        points = points.clone().requires_grad_()
        logits = net(4 * points)
        (grad,) = torch.autograd.grad(logits[:, :3].sum(), points)
        return logits.detach(), grad

    logits, grads = told(x)
    for begin in range(len(x)):
        for count in (1, 3, 8):
            few, slopes = told(x[begin : begin + count])
            assert torch.equal(few, logits[begin : begin + count])
            assert torch.equal(slopes, grads[begin : begin + count])
    assert logits.dtype == torch.float32
