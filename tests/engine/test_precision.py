"""A faster form steers only where it answers as the caller's model does; its name says which form did."""

from __future__ import annotations

import pytest
import torch
from helpers import conv_net, linear, pictures
from torch import Tensor, nn

from advkit.core.modes import borrowed
from advkit.engine.precision import Precision, checked_precision, choose_precision
from advkit.errors import InputError

X = pictures(8, dtype=torch.float32)


def choose(model: nn.Module, name: str = "auto") -> Precision:
    with borrowed(model):
        return choose_precision(checked_precision(name), model, X)


@pytest.mark.parametrize("model", [conv_net(norm=True, dtype=torch.float32), linear(dtype=torch.float32)])
def test_a_folded_copy_answers_the_same(model: nn.Module) -> None:
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for name in ("auto", "folded"):
        chosen = choose(model, name)
        assert chosen.name == "float32, folded"
        torch.testing.assert_close(chosen.working(X), model(X), rtol=1e-4, atol=1e-4)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_the_callers_own_model_is_what_float32_means() -> None:
    model = conv_net(norm=True, dtype=torch.float32)
    assert choose(model, "float32") == Precision("float32", model)


def test_other_precisions_are_left_alone() -> None:
    for dtype in (torch.float64, torch.bfloat16):
        model = conv_net(dtype=dtype)
        assert choose(model, "mixed").working is model


class Noisy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = conv_net(dtype=torch.float32)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) + 5 * torch.randn(len(x), 5)


class Branching(Noisy):
    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) if float(x.mean()) > 0.3 else self.inner(1 - x)


class Alternating(Noisy):
    """Answers otherwise at each call: what a trace freezes is wrong at the next."""

    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.inner(x) * (-1) ** self.calls


@pytest.mark.parametrize("kind", [Noisy, Branching, Alternating])
def test_a_model_that_cannot_be_copied_faithfully_steers_itself(kind: type[nn.Module]) -> None:
    model = kind()
    chosen = choose(model, "mixed")
    assert chosen.name == "float32"
    assert chosen.working is model


def test_mixed_steers_the_first_half_in_16_bits() -> None:
    model = conv_net(norm=True, dtype=torch.float32)
    chosen = choose(model, "mixed")
    assert chosen.name == "bfloat16, then float32, folded"
    assert chosen.early is not None
    assert chosen.early(X).dtype == torch.float32
    torch.testing.assert_close(chosen.early(X), model(X), rtol=0.1, atol=0.1)
    early = chosen.is_early(torch.arange(6), 6)
    assert early is not None
    assert early.tolist() == [True] * 3 + [False] * 3
    assert Precision.own(model).is_early(torch.arange(6), 6) is None


def test_verdicts_under_mixed_are_the_callers_models() -> None:
    from advkit.attacks import PGD
    from advkit.core import Linf
    from advkit.engine.evaluate import evaluate
    from advkit.engine.stages import Observer

    model = conv_net(norm=True, dtype=torch.float32)
    y = model(X).argmax(1)
    checked = []

    def finished(name: str, part: object) -> None:
        assert torch.equal(model(part.x_adv).argmax(1), part.prediction)  # type: ignore[attr-defined]
        assert torch.equal(part.prediction != y[part.example], part.success)  # type: ignore[attr-defined]
        checked.extend(part.example.tolist())  # type: ignore[attr-defined]

    attack = PGD(Linf(0.1), steps=4)
    result = evaluate(model, (X, y), attack, precision="mixed", observer=Observer(finished=finished))
    assert sorted(checked) == list(range(8))
    assert "bfloat16" in result.precision


def test_a_precision_that_is_none_is_refused() -> None:
    with pytest.raises(InputError, match="Did you mean 'mixed'"):
        checked_precision("mixd")
