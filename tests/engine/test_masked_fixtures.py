"""Ten ways to look robust: each is caught by the checks it offends, and its corrected number is that of the bare network."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
import torch
from fixtures_masked import BALL, COUNT, MASKED, Around, Silent, data, kept, misleading, sixteen_levels, trained
from helpers import FailsAt
from torch import Tensor, nn

from advkit.core import Linf
from advkit.data import Data, TensorData
from advkit.engine.protocol import CHECKS, FAIL, PASS, UNKNOWN, WARN, Examination, Finding, examine
from advkit.engine.protocol.bridges import PICTURE, Bridge, Bridged, Place, find_bridges, find_jumps
from advkit.engine.protocol.case import Case
from advkit.engine.protocol.gradients import available, own
from advkit.engine.protocol.record import broader_threats

_EDGE = 1.5 / COUNT  # an example at the edge of the ball


@cache
def examined(what: str) -> Examination:
    return examine(MASKED[what].make(), data(), BALL, samples=None, steps=12, queries=30)


@cache
def strong(what: str) -> float:
    """Accuracy of the bare network in the worst case of long searches."""
    return MASKED[what].kept(MASKED[what].bare(), data(), BALL)


def found(result: Examination, part: str) -> Finding:
    (finding,) = (f for f in result.findings if part in f.name)
    return finding


@pytest.mark.parametrize("what", MASKED)
def test_what_looks_robust_is_caught_and_its_corrected_number_is_that_of_the_bare_network(what: str) -> None:
    result = examined(what)
    assert result.masks
    assert MASKED[what].codes <= {f.code for f in result.failed}, [(f.code, f.sentence) for f in result.failed]
    assert 0 < strong(what) < 0.7  # there is something to find, and not everything falls
    assert result.corrected.value <= strong(what) + MASKED[what].room
    assert result.corrected.value <= result.plain.value + (_EDGE if result.corrected.repeats > 1 else 0)
    acted = [f.remedy for f in result.failed if f.remedy is not None]
    assert acted
    assert all(0 <= remedy.number <= 1 and remedy.sentence.startswith("Run") for remedy in acted)


@pytest.mark.parametrize(
    "what",
    [
        "an input quantiser",
        "logits times 1000",
        "distillation",
        "a model that detects gradients",
        "a model left in training mode",
    ],
)
def test_a_plain_attack_overstates_it_by_far(what: str) -> None:
    result = examined(what)
    assert result.plain.value > result.corrected.value + 0.25


def test_an_honest_network_raises_no_doubt_and_its_number_stays() -> None:
    result = examine(trained(), data(), BALL, samples=None, steps=12, queries=30)
    assert not result.failed, [(f.code, f.sentence) for f in result.failed]
    assert abs(result.corrected.value - kept(trained(), data(), BALL)) <= _EDGE
    assert all(f.remedy is None for f in result.findings if f.level == PASS)


def test_cross_entropy_misled_by_an_undefended_network_is_corrected() -> None:
    net, source = misleading()
    ball = Linf(4 / 255)
    result = examine(net, source, ball, samples=None, steps=12, queries=30)
    assert result.plain.value > 0.9
    assert {f.code for f in result.failed} == {"P10"}
    remedy = found(result, "Losses agree").remedy
    assert remedy is not None
    assert remedy.number == pytest.approx(result.corrected.value)
    assert result.corrected.value <= kept(net, source, ball) + 0.015


def test_the_corrected_number_is_the_models_own_answer_at_pictures_inside_the_ball() -> None:
    result = examined("an input quantiser")
    x, y = data().tensors()
    assert bool(BALL.contains(result.worst, x).all())
    right = MASKED["an input quantiser"].make()(result.worst).argmax(1) == y
    assert result.corrected.value == pytest.approx(float(right.double().mean()))
    assert result.robust == int(right.sum())
    assert sum(run.more for run in result.runs) == result.correct - result.robust


def test_what_draws_is_measured_over_repeats_with_an_interval() -> None:
    at = examined("additive noise").corrected
    assert at.repeats == 50
    assert at.low < at.value < at.high
    assert "mean of 50 evaluations" in examined("additive noise").numbers


def test_the_indicators_of_failure_stand_beside_the_codes() -> None:
    codes = {check.indicator for check in CHECKS if check.indicator}
    assert codes == {"I1", "I2", "I3", "I4", "I5", "I6"}
    assert {check.code for check in CHECKS} == {f"P{number}" for number in range(1, 21)}
    assert found(examined("an input quantiser"), "There is a gradient").codes == "P11 I1"


def test_planted_examples_are_found_through_bridges_and_not_without() -> None:
    finding = found(examined("an input quantiser"), "planted")
    assert (finding.level, finding.code) == (FAIL, "P16")
    assert finding.remedy is not None
    assert finding.remedy.number >= 0.95


def test_eval_mode_that_was_forced_ends_with_the_examination() -> None:
    model = MASKED["a model left in training mode"].make()
    flags = [module.training for module in model.modules()]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    drawn = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index, union-attr]
    result = examine(model, data(), BALL, samples=8, steps=3, queries=5)
    assert [module.training for module in model.modules()] == flags
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), drawn[0])
    assert (np.random.get_state()[1] == drawn[1]).all()  # type: ignore[index]
    assert "with every module in eval mode" in str(found(result, "eval mode").remedy)


# ---------------------------------------------------------------------- bridges


def by_numpy(x: Tensor) -> Tensor:
    return torch.from_numpy(np.round(16 * x.detach().numpy()) / 16)


class Unrecorded(nn.Module):
    """Everything without a gradient."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.eval()

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        return self.net(sixteen_levels(x)).softmax(1)


CUT: dict[str, Callable[[], nn.Module]] = {
    "rounding": lambda: Around(trained(), before=sixteen_levels),
    "numpy": lambda: Around(trained(), before=by_numpy),
    "a detached answer": lambda: Around(trained(), behind=lambda z: z.detach()),
    "no_grad around everything": lambda: Unrecorded(trained()),
    "a gradient that is no number": lambda: Around(trained(), before=lambda x: x + 0 * (x - x.detach()).sqrt()),
    "a model that is silent": lambda: Silent(trained()),
}


class Shy(nn.Module):
    """Wrong at some pictures, to the bit, and nowhere else."""

    def __init__(self, net: nn.Module, known: Tensor) -> None:
        super().__init__()
        self.net, self.known = net, known
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.net(x)
        met = (x[:, None] == self.known).flatten(2).all(2).any(1)
        return torch.where(met[:, None], logits.flip(1), logits)


def lent(model: nn.Module) -> nn.Module:
    return model.requires_grad_(False)


@pytest.mark.parametrize("what", CUT)
def test_bridges_keep_the_answer_to_the_bit_and_give_a_gradient(what: str) -> None:
    model = lent(CUT[what]())
    x = data().tensors()[0][:4]
    bridges = find_bridges(model, model, x)
    assert bridges
    points = x.clone().requires_grad_()
    answer = Bridged(model, model, bridges)(points)
    (grad,) = torch.autograd.grad(answer[:, 0].sum(), points)
    with torch.no_grad():
        assert torch.equal(answer, model(x))
    assert bool(grad.isfinite().all())
    assert bool((grad.flatten(1).abs().amax(1) > 0).all())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_an_honest_network_needs_no_bridge() -> None:
    net = lent(trained())
    x = data().tensors()[0][:4]
    assert find_bridges(net, net, x) == []
    assert find_jumps(net, net, x) == []


def test_a_model_that_looks_for_gradients_is_asked_without_showing_any() -> None:
    model = lent(MASKED["a model that detects gradients"].make())
    x = data().tensors()[0][:4]
    (bridge,) = find_bridges(model, model, x, hidden=True)
    assert bridge.source == PICTURE
    points = x.clone().requires_grad_()
    answer = Bridged(model, model, [bridge], hidden=True)(points)
    with torch.no_grad():
        assert torch.equal(answer, model(x))
    net = model.get_submodule("net")
    (grad,) = torch.autograd.grad(answer[:, 0].sum(), points)
    (own,) = torch.autograd.grad(net(points)[:, 0].sum(), points)
    assert torch.allclose(grad, own, atol=1e-6)


def test_modules_that_choose_winners_are_known_by_their_jumps() -> None:
    net = lent(MASKED["winners that take all"].make())
    bridges = find_jumps(net, net, data().tensors()[0][:8])
    assert [bridge.target.module for bridge in bridges] == ["2", "5"]


def test_hooks_and_modes_are_taken_back_when_the_model_fails() -> None:
    model = lent(Around(FailsAt(trained(), 2)))
    x = data().tensors()[0][:2].requires_grad_()
    bridged = Bridged(model, model, [Bridge(PICTURE, Place("net.inner.0", 0, "in"))], hidden=True)
    bridged(x)
    assert torch.is_grad_enabled()
    with pytest.raises(ValueError, match="no answer to call 2"):
        bridged(x)
    assert torch.is_grad_enabled()
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


# ---------------------------------------------------------------------- what makes a number one that others can check


def quick(ball: Linf = BALL, source: Data | None = None, **settings: object) -> Examination:
    return examine(trained(), source or data(), ball, **{"samples": 8, "steps": 3, "queries": 5, **settings})  # type: ignore[arg-type]


def test_a_claim_that_is_not_met_and_a_rounded_radius_are_warned_of() -> None:
    x, y = data().tensors()
    wrong = TensorData(x, torch.where(torch.arange(len(y)) % 2 == 0, y, (y + 1) % 4), name="half wrong")
    result = quick(Linf(0.0157), wrong, samples=24, expected=0.95)
    assert found(result, "Clean accuracy").level == WARN
    assert "95.0 % is claimed" in found(result, "Clean accuracy").sentence
    assert found(result, "Threat model").level == WARN
    assert "4/255" in found(result, "Threat model").advice
    assert not result.masks


def test_broader_threats_are_looked_at_where_asked_for() -> None:
    assert found(quick(), "Beyond").level == "unknown"
    finding = found(quick(broader=True), "Beyond")
    assert finding.level in (PASS, WARN)
    assert "turns to 30 degrees" in finding.sentence
    assert "noise of sigma" in finding.sentence


def test_the_worst_case_beyond_the_ball_is_not_above_the_clean_accuracy() -> None:
    x, y = data().tensors()
    case = Case(lent(Shy(trained(), x[::2])), x, y, BALL, batch_size=32, broader=True)
    sentence = broader_threats(case).sentence
    clean, *broader = (float(each) for each in re.findall(r"([0-9.]+) %", sentence)[::-1])
    assert clean == pytest.approx(100 * case.total / COUNT, abs=0.1)
    assert max(broader) <= clean


SATURATED: dict[str, Callable[[Tensor], Tensor]] = {
    "sure": lambda z: (3 * z).softmax(1),
    "surer": lambda z: (20 * z).softmax(1),
    "scaled": lambda z: 10 * (5 * z).softmax(1),
    "logarithm": lambda z: (100 * z).log_softmax(1),
}


@pytest.mark.parametrize("what", SATURATED)
def test_a_saturated_softmax_is_not_called_a_stand_in(what: str) -> None:
    x, y = data().tensors()
    case = Case(lent(Around(trained(), behind=SATURATED[what])), x, y, BALL, batch_size=32)
    assert own(case).level in (PASS, UNKNOWN), own(case)
    half = Around(trained(), lambda x: 0.3 * x + 0.7 * x.detach(), SATURATED[what])
    assert own(Case(lent(half), x, y, BALL, batch_size=32)).level == (UNKNOWN if what == "scaled" else FAIL)


def test_a_zero_gradient_behind_a_softmax_is_called_its_saturation() -> None:
    x, y = data().tensors()
    answer = available(Case(lent(MASKED["probabilities of a sure net"].make()), x, y, BALL, batch_size=32))
    assert answer.level == FAIL
    assert "the softmax at the end is saturated" in answer.sentence
    assert "logits" in answer.advice


def test_budget_interval_and_hashes_are_recorded() -> None:
    one = quick(samples=32)
    assert found(one, "Budget").level in (PASS, WARN)
    assert "8-bit files" in found(one, "Budget").sentence
    assert "n = 32" in found(one, "Interval").sentence
    hashes = one.settings["hashes"]
    assert isinstance(hashes, dict)
    assert f"model {hashes['model']}" in found(one, "Same seed").sentence
    other = examine(MASKED["distillation"].make(), data(), BALL, samples=8, steps=2, queries=3)
    assert other.settings["hashes"] != hashes
    assert one.to_json()["plain"] == one.plain._asdict()
    assert one.to_json()["corrected"] == one.corrected._asdict()
