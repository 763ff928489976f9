"""Asking the model: in rows, in parts that fit, in its own arithmetic, and never quietly wrong."""

from __future__ import annotations

import pytest
import torch
from helpers import Detached, Quantiser, Spy, conv_net, linear, pictures
from torch import Tensor, nn

from advkit.backbones import load_model
from advkit.core import CrossEntropy, Margin, Untargeted
from advkit.core.modes import borrowed
from advkit.data import load_data
from advkit.engine.passes import Passes, automatic_batch, batch_for, chosen_probe, device_of
from advkit.engine.precision import Precision
from advkit.errors import ModelError, PassError


class Small(nn.Module):
    """Runs out of memory above so many rows."""

    def __init__(self, inner: nn.Module, most: int, error: type[Exception] = torch.OutOfMemoryError) -> None:
        super().__init__()
        self.inner, self.most, self.error, self.sizes = inner, most, error, []

    def forward(self, x: Tensor) -> Tensor:
        self.sizes.append(len(x))
        if len(x) > self.most:
            raise self.error("can't allocate memory: you tried to allocate 12 bytes")
        return self.inner(x)


def passes(model: nn.Module, batch_size: int = 64) -> Passes:
    return Passes(model, Precision.own(model), batch_size)


def look(points: Tensor, index: Tensor) -> Tensor:
    return points


X, Y = pictures(10), torch.arange(10) % 5
GOAL = Untargeted(Y)


def test_the_gradient_is_that_of_each_examples_own_loss():
    model = conv_net()
    with borrowed(model):
        at = passes(model).gradient(X, GOAL, CrossEntropy(), look)
        for i in range(10):
            point = X[i : i + 1].clone().requires_grad_()
            loss = nn.functional.cross_entropy(model(point), Y[i : i + 1])
            (grad,) = torch.autograd.grad(loss, point)
            torch.testing.assert_close(at.grad[i], grad[0], rtol=0, atol=1e-12)
            torch.testing.assert_close(at.loss[i], loss.detach(), rtol=0, atol=1e-12)
    assert not any(t.requires_grad for t in at)
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError, MemoryError])
def test_where_memory_runs_out_the_parts_are_halved_and_the_answers_the_same(error):
    inner = conv_net()
    small = Small(inner, 3, error)
    with borrowed(small):
        asked, whole = passes(small, 10), passes(inner, 10)
        mine, theirs = (p.gradient(X, GOAL, Margin(), look) for p in (asked, whole))
        for a, b in zip(mine, theirs, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-12)
        assert asked.batch_size == 2
        small.sizes.clear()
        torch.testing.assert_close(asked.judge(X), whole.judge(X), rtol=0, atol=1e-12)
        torch.testing.assert_close(asked.scores(X, GOAL, Margin()).loss, theirs.loss, rtol=0, atol=1e-12)
    assert small.sizes == [2] * 10, "it must remember what fits"


def test_where_not_even_one_example_fits_the_error_comes_through():
    small = Small(conv_net(), 0)
    with borrowed(small), pytest.raises(torch.OutOfMemoryError):
        passes(small, 4).judge(X)


def test_any_other_error_of_the_model_is_told_in_a_sentence_and_kept_as_its_cause():
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(ModelError, match=r"cannot take pictures of 3 x 8 x 8 .*mat1 and mat2") as caught:
        passes(Broken()).judge(X)
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_an_error_of_the_model_after_its_first_answer_comes_through():
    class Tiring(nn.Module):
        calls = 0

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            if self.calls > 1:
                raise RuntimeError("no more")
            return x.flatten(1)

    asked = passes(Tiring())
    with pytest.raises(RuntimeError, match="no more"):
        asked.judge(torch.cat([X] * 40))


def test_rows_asked_of_two_forms_come_back_in_their_places():
    late, early = linear(5, seed=1), linear(5, seed=2)
    both = Passes(late, Precision("mixed", late, early), 3)
    is_early = torch.tensor([True, False, False, True, True, False, True, False, True, True])
    seen: list[int] = []

    def view(points: Tensor, index: Tensor) -> Tensor:
        seen.extend(index.tolist())
        return points * (1 + expand_(index))

    def expand_(index: Tensor) -> Tensor:
        return index.double().reshape(-1, 1, 1, 1) / 10

    with borrowed(late), borrowed(early):
        at = both.gradient(X, GOAL, Margin(), view, is_early)
        for i in range(10):
            form = early if is_early[i] else late
            expected = form(X[i : i + 1] * (1 + i / 10))
            torch.testing.assert_close(at.logits[i], expected[0].detach(), rtol=0, atol=1e-12)
    assert sorted(seen) == list(range(10))


def test_the_judge_is_the_callers_own_model_whatever_steers():
    own, other = linear(5, seed=1), linear(5, seed=2)
    lying = Passes(own, Precision("liar", other), 4)
    assert torch.allclose(lying.judge(X), own(X))
    assert torch.allclose(lying.scores(X, GOAL, Margin()).logits, other(X))


def test_a_model_is_asked_in_its_own_arithmetic_and_answers_in_the_pictures():
    model = Spy(linear(5, dtype=torch.float32))
    with borrowed(model):
        at = passes(model).gradient(X, GOAL, CrossEntropy(), look)
    assert (at.logits.dtype, at.grad.dtype) == (torch.float64, torch.float64)


def test_a_model_without_a_gradient_is_named_with_what_to_do():
    for model in (Detached(linear(5)), Detached(Quantiser(linear(5)))):
        with borrowed(model), pytest.raises(ModelError, match=r"^Detached answers without a gradient .* such as noise"):
            passes(model).gradient(X, GOAL, CrossEntropy(), look)
        passes(model).scores(X, GOAL, CrossEntropy())


@pytest.mark.parametrize(
    ("answer", "given"),
    [
        (lambda x: x, r"\(10, 3, 8, 8\)"),
        (lambda x: x.flatten(1)[:4], r"\(4, 192\)"),
        (lambda x: (x.flatten(1), None), "tuple"),
    ],
)
def test_an_answer_that_is_not_a_row_per_picture_is_refused(answer, given):
    class Odd(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return answer(x)

    with pytest.raises(ModelError, match=f"^Odd answered {given} for 10 pictures; it must return one row of scores"):
        passes(Odd()).judge(X)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_verdict_that_is_not_a_number_is_no_verdict(value):
    class Odd(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.full((len(x), 3), value)

    with pytest.raises(PassError, match="Odd answered with NaN or infinite scores"):
        passes(Odd()).judge(X)


def test_the_batch_is_a_power_of_two_that_shrinks_with_the_picture():
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert automatic_batch(3 * 32 * 32, cpu) == 128
    assert automatic_batch(3 * 32 * 32, gpu) == 2048
    assert automatic_batch(10**9, cpu) == 4
    assert automatic_batch(1, cpu) == 4096
    assert automatic_batch(0, torch.device("meta")) == 4096


def test_a_model_that_draws_gets_fewer_large_pictures_at_once():
    net = torch.nn.Flatten()
    assert batch_for(net, torch.zeros(3, 32, 32)) == 128
    assert batch_for(net, torch.zeros(3, 224, 224)) == 4
    net.draws = 30  # type: ignore[assignment]
    assert batch_for(net, torch.zeros(3, 32, 32)) == 64
    assert batch_for(net, torch.zeros(3, 224, 224)) == 1


def test_a_model_is_where_its_parameters_are():
    assert device_of(nn.Flatten()) == torch.device("cpu")
    assert device_of(nn.Linear(2, 2, device="meta")) == torch.device("meta")
    assert device_of(nn.BatchNorm1d(2, affine=False, device="meta")) == torch.device("meta")


def test_of_several_probes_the_first_hit_is_chosen_else_the_highest_loss():
    query = torch.arange(12.0).reshape(2, 3, 2)
    at = passes(nn.Flatten()).scores(torch.zeros(1, 2), Untargeted(torch.tensor([0])), Margin())
    at = at._replace(loss=torch.tensor([[1.0, 5.0, 2.0], [1.0, 5.0, 2.0]]))
    hit = torch.tensor([[False, False, False], [True, False, True]])
    point, loss, reached = chosen_probe(at, query, hit)
    assert point.tolist() == [[2, 3], [6, 7]]
    assert loss.tolist() == [5, 1]
    assert reached.tolist() == [False, True]


def test_filled_up_passes_do_not_depend_on_their_company():
    """The kernels for fewer than four rows a thread round otherwise: without filling up, this differs in the last bits."""
    data = load_data("signs", samples=48)
    model = load_model("resnet", data=data)
    x, labels = data.tensors()
    goal = Untargeted(labels)
    with borrowed(model):
        steady = Passes(model, Precision.own(model), 64, least=4 * torch.get_num_threads())
        together = steady.gradient(x, goal, CrossEntropy(), look)
        for count in (1, 2, 3, 5, 17):
            alone = steady.gradient(x[:count], goal.take(slice(count)), CrossEntropy(), look)
            assert torch.equal(alone.logits, together.logits[:count])
            assert torch.equal(alone.grad, together.grad[:count])
            assert torch.equal(alone.loss, together.loss[:count])
            assert torch.equal(steady.judge(x[:count]), steady.judge(x)[:count])


@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_loss_and_gradient_are_the_mean_over_the_views(batch_size):
    net, scales = conv_net(), torch.tensor([0.5, 1.0, 2.0])

    def view(points: Tensor, index: Tensor) -> Tensor:
        return points.repeat_interleave(3, 0) * scales.repeat(len(points))[:, None, None, None]

    with borrowed(net):
        several = passes(net, batch_size).gradient(X, GOAL, Margin(), view, views=3)
        each = [passes(net).gradient(X, GOAL, Margin(), lambda x, index, by=scale: x * by) for scale in scales]
    for name in ("loss", "logits", "grad"):
        expected = torch.stack([getattr(at, name) for at in each]).mean(0)
        torch.testing.assert_close(getattr(several, name), expected, rtol=0, atol=1e-12)
