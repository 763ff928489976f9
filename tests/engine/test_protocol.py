"""``examine``: what masks its gradients is caught by the check it offends, and honest models pass."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import ClassVar

import pytest
import torch
import torch.nn.functional as F
from helpers import Detached, Quantiser, trained
from torch import Tensor, nn

from advkit.core import L0, L1, L2, Linf
from advkit.core.defense import Backward, RandomWrapper, Wrapper
from advkit.core.rng import Rng
from advkit.data import TensorData
from advkit.defenses.mean import Mean
from advkit.engine.defend import build_defense, defend
from advkit.engine.protocol import CHECKS, FAIL, PASS, UNKNOWN, WARN, Examination, Finding, examine
from advkit.errors import InputError

BALL = Linf(0.06)
LARGE = Linf(0.1)  # where a search by scores finds something


@cache
def net() -> tuple[nn.Module, TensorData]:
    model, x, y = trained()
    return copy.deepcopy(model).float(), TensorData(x.float(), y, name="patterns")


def examined(make: Callable[[nn.Module], nn.Module], ball: Linf | L2 | L1 = BALL, **settings: int) -> Examination:
    model, data = net()
    return examine(make(model), data, ball, **{"steps": 6, "queries": 60, **settings})


def found(result: Examination, part: str) -> Finding:
    (finding,) = (f for f in result.findings if part in f.name)
    return finding


class Before(nn.Module):
    """A function of the pictures in front of a model."""

    def __init__(self, change: Callable[[Tensor], Tensor], inner: nn.Module) -> None:
        super().__init__()
        self.change, self.inner = change, inner

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.inner(self.change(x))
        return answer


class After(Before):
    """A function of the logits behind it."""

    def forward(self, x: Tensor) -> Tensor:
        return self.change(self.inner(x))


class Rounded(torch.autograd.Function):
    """Rounding that says it is none."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return (4 * x).round() / 4

    @staticmethod
    def backward(ctx: object, grad: Tensor) -> Tensor:
        return grad


def half_detached(x: Tensor) -> Tensor:
    return 0.3 * x + 0.7 * x.detach()


def infinite_slope(x: Tensor) -> Tensor:
    return x + (x - x.detach()).abs().sqrt()


MASKED: dict[str, tuple[Callable[[nn.Module], nn.Module], set[str]]] = {
    "an answer without a gradient": (lambda m: Detached(m), {"P11", "P9"}),
    "noise of which nobody is told": (lambda m: Before(lambda x: x + 0.2 * torch.randn_like(x), m), {"P12"}),
    "dropout that is always on": (lambda m: Before(lambda x: F.dropout(x, 0.3), m), {"P12"}),
    "a batch that shares its statistics": (lambda m: Before(lambda x: x - x.mean(0) + 0.5, m), {"P3"}),
    "a gradient that stands in for rounding": (lambda m: Before(Rounded.apply, m), {"P11"}),
    "a gradient of a part": (lambda m: Before(half_detached, m), {"P11"}),
    "a gradient that is no number": (lambda m: Before(infinite_slope, m), {"P11"}),
    "ripples that hide the slope": (lambda m: Before(lambda x: x + 0.02 * torch.sin(2000 * x), m), {"P9"}),
}


@pytest.mark.parametrize("what", MASKED)
def test_what_masks_its_gradient_is_caught_by_the_check_it_offends(what: str) -> None:
    make, codes = MASKED[what]
    result = examined(make, LARGE)
    assert result.masks
    assert {f.code for f in result.failed} >= codes, [(f.code, f.sentence) for f in result.failed]
    assert result.sentence.startswith("masks its gradients: yes (P")
    assert all(code in result.sentence for code in codes)
    for finding in result.findings:
        assert finding.sentence.endswith("."), finding
        assert finding.level in (PASS, WARN, FAIL, UNKNOWN)
        assert finding.level in (PASS, UNKNOWN) or finding.advice.endswith("."), finding


HONEST: dict[str, Callable[[nn.Module], nn.Module]] = {
    "the model itself": lambda m: m,
    "a smooth wrapper": lambda m: defend(m, [Mean()]),
    "its log-probabilities": lambda m: After(lambda z: z.log_softmax(1), m),
    "bits": lambda m: defend(m, build_defense("bits:4")),
    "jpeg": lambda m: defend(m, build_defense("jpeg:90")),
}


@pytest.mark.parametrize("what", HONEST)
def test_an_honest_model_shows_no_sign_of_masking(what: str) -> None:
    result = examined(HONEST[what])
    assert not result.masks, [(f.code, f.sentence) for f in result.failed]
    assert result.sentence.startswith("no sign of gradient masking")
    assert len(result.findings) == len(CHECKS)
    assert sum(f.level == UNKNOWN for f in result.findings) <= 2  # no defense to leave out, nothing broader asked for


@pytest.mark.parametrize("ball", [L2(0.8), L1(8)], ids=repr)
def test_the_checks_work_in_other_norms(ball: L2 | L1) -> None:
    assert not examined(lambda m: m, ball).masks
    assert examined(lambda m: Quantiser(m), ball, queries=5).masks


# ---------------------------------------------------------------------- stand-ins for gradients


def test_a_declared_stand_in_is_handled_where_attacks_through_it_are_no_weaker() -> None:
    finding = found(examined(lambda m: defend(m, build_defense("bits:4"))), "its own")
    assert finding.level == PASS
    assert "bits (straight-through)" in finding.sentence
    assert "BPDA handles it" in finding.sentence


@dataclass(frozen=True)
class Astray(Wrapper):
    """Rounding whose declared surrogate points the wrong way."""

    backward: ClassVar[Backward] = "surrogate"

    def __call__(self, x: Tensor) -> Tensor:
        return (16 * x).round() / 16

    def surrogate(self, x: Tensor) -> Tensor:
        return 1 - x


def test_a_declared_stand_in_that_leads_astray_is_not() -> None:
    result = examined(lambda m: defend(m, [Astray()]))
    finding = found(result, "its own")
    assert finding.level == FAIL
    assert "leads astray" in finding.sentence
    assert found(result, "Transfer").level == FAIL


@dataclass(frozen=True)
class Noisy(RandomWrapper):
    """Declared noise."""

    def drawn(self, x: Tensor, rng: Rng) -> Tensor:
        return (x + 0.05 * rng.normal(*x.shape[1:], dtype=x.dtype)).clamp(0, 1)


def test_declared_noise_has_a_gradient_of_its_own_under_the_same_draw() -> None:
    result = examined(lambda m: defend(m, [Noisy(draws=4)]))
    assert "4 draws" in found(result, "Same answer each").sentence
    assert found(result, "Same answer each").level in (PASS, WARN)
    assert found(result, "its own").level == PASS
    assert not result.masks


def test_a_module_of_the_users_own_that_rounds_is_caught_and_passes_once_it_says_so(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    code = [
        "import torch",
        "",
        "",
        "class Round(torch.nn.Module):",
        "    def __init__(self, levels=15):",
        "        super().__init__()",
        "        self.levels = levels",
        "",
        "    def forward(self, x):",
        "        return torch.round(self.levels * x) / self.levels",
    ]
    file.write_text("\n".join(code) + "\n")
    wrappers = build_defense(f"{file}:Round")
    assert {"P11", "P14"} <= {f.code for f in examined(lambda m: defend(m, wrappers)).failed}
    said = tmp_path / "said.py"
    said.write_text("\n".join([*code, "", "", "class Said(Round):", '    backward = "straight-through"']) + "\n")
    assert not examined(lambda m: defend(m, build_defense(f"{said}:Said"))).masks


# ---------------------------------------------------------------------- what is said, and what is left alone


def test_a_model_in_training_mode_is_warned_of_and_comes_back_as_it_was() -> None:
    model, data = net()
    model = copy.deepcopy(model).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    drawn = torch.random.get_rng_state()
    finding = found(examine(model, data, BALL, steps=4, queries=10), "eval mode")
    assert finding.level == WARN
    assert "training mode" in finding.sentence
    assert all(module.training for module in model.modules())
    assert all(p.requires_grad for p in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), drawn)


@pytest.mark.parametrize("make", [lambda m: m, MASKED["noise of which nobody is told"][0]], ids=["plain", "random"])
def test_the_same_examination_finds_the_same(make: Callable[[nn.Module], nn.Module]) -> None:
    torch.manual_seed(1)
    one = examined(make, steps=4, queries=10)
    torch.manual_seed(2)
    assert examined(make, steps=4, queries=10) == one


def test_the_counts_are_those_of_the_attacks() -> None:
    from advkit.attacks import FGSM

    model, data = net()
    result = examined(lambda m: m)
    x, y = data.tensors()
    right = model(x).argmax(1) == y
    fgsm = int((model(FGSM(BALL)(model, x, y)).argmax(1) != y)[right].sum())
    assert (result.n, result.correct) == (len(y), int(right.sum()))
    assert f"FGSM beats {fgsm} of {result.correct}" in found(result, "Many steps").sentence
    assert 0 <= result.robust < result.correct


def test_what_cannot_be_checked_is_refused_by_a_sentence() -> None:
    model, data = net()
    with pytest.raises(InputError, match="linf, l2 and l1, not in l0"):
        examine(model, data, L0(3))
    x, _ = data.tensors()
    wrong = TensorData(x, (model(x).argmax(1) + 1) % 4, name="patterns")
    with pytest.raises(InputError, match="none of 32 pictures of patterns right"):
        examine(model, wrong, BALL)


def test_findings_are_values_that_become_json_and_a_table() -> None:
    result = examined(lambda m: Quantiser(m), steps=4, queries=10)
    told = result.to_json()
    assert told["masks"] is True
    assert [check["code"] for check in told["checks"]] == [c.code for c in CHECKS]  # type: ignore[index, attr-defined]
    table = result.table()
    assert len(table.rows) == len(CHECKS)
    assert {row for row, column in table.bold} == {i for i, f in enumerate(result.findings) if f.level == FAIL}
