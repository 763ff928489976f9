"""Models and labels as Python callers give them: what works, and what gets one sentence."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from helpers import Detached, conv_net, linear, pictures
from torch import Tensor, nn

import advkit
from advkit.attacks import FGSM, PGD
from advkit.catalog import ATTACKS
from advkit.core.answers import checked_scores, without_masks
from advkit.engine.certify import certify
from advkit.engine.detect import build_detector, detect
from advkit.engine.nearest import nearest
from advkit.engine.protocol import examine
from advkit.errors import AdvkitError, DataError, ModelError

X = pictures(6, dtype=torch.float32)
FEW = PGD(advkit.Linf("8/255"), steps=2)


def net(classes: int = 5) -> nn.Module:
    return conv_net(classes, dtype=torch.float32)


def right(model: Callable[[Tensor], Tensor]) -> Tensor:
    with torch.no_grad():
        return model(X.clone()).argmax(1)


def robust(model: Any, y: Tensor, attack: Any = FEW) -> float:
    return advkit.evaluate(model, (X, y), attack, doubts=False).worst()[0][1].value


class Answering(nn.Module):
    """A network whose scores are passed through a function."""

    def __init__(self, inner: nn.Module, then: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.inner, self.then = inner, then

    def forward(self, x: Tensor) -> Any:
        return self.then(self.inner(x))


ONE_SCORE = "answers one score per picture, .* give two, one for each class"


@pytest.mark.parametrize("then", [lambda z: z[:, :1], lambda z: z[:, 0]], ids=["(B, 1)", "(B,)"])
@pytest.mark.parametrize("label", [0, 1])
def test_a_model_of_one_score_is_refused_everywhere_and_told_what_to_give(
    then: Callable[[Tensor], Tensor], label: int
) -> None:
    model, y = Answering(net(), then), torch.full((6,), label)
    data = advkit.TensorData(X, y)
    many = advkit.TensorData(X.repeat(8, 1, 1, 1), y.repeat(8))
    for call in (
        lambda: advkit.evaluate(model, data, FEW),
        lambda: advkit.evaluate(model, data, "standard"),
        lambda: FEW(model, X, y),
        lambda: nearest(FEW, model, X, y),
        lambda: certify(model, data),
        lambda: examine(model, data),
        lambda: detect(model, many, build_detector("feature-squeezing")),
        lambda: advkit.load_model(model, data=data),
    ):
        with pytest.raises(ModelError, match=ONE_SCORE):
            call()


def test_two_scores_made_of_one_are_attacked() -> None:
    model = Answering(net(), lambda z: torch.cat([torch.zeros_like(z[:, :1]), z[:, :1]], 1))
    assert robust(model, right(model)) <= 1


@pytest.mark.parametrize(
    ("then", "sentence"),
    [
        (lambda z: z.argmax(1)[:, None].expand(-1, 3), "answers with int64 scores"),
        (lambda z: z.to(torch.complex64), "answers with complex64 scores"),
        (lambda z: (z, z), "answered tuple for 6 pictures"),
        (lambda z: z[:3], r"answered \(3, 5\) for 6 pictures"),
    ],
)
def test_answers_that_are_no_scores_say_what_they_are(then: Callable[[Tensor], Any], sentence: str) -> None:
    model = Answering(net(), then)
    for call in (lambda: advkit.evaluate(model, (X, torch.zeros(6).long()), FEW), lambda: FEW(model, X, [0] * 6)):
        with pytest.raises(ModelError, match=sentence):
            call()


@pytest.mark.parametrize("name", ["pgd", "apgd-t", "square", "deepfool", "fab", "cw"])
def test_classes_that_are_masked_by_minus_infinity_change_nothing(name: str) -> None:
    """The same verdicts as from a network that has only the other classes; the masked ones are the last."""
    ball = advkit.L2(0.3) if name == "cw" else advkit.Linf("8/255")
    attack = ATTACKS.create(name, threat=ball, **({"queries": 30} if name == "square" else {"steps": 10}))
    inner = net(5)
    few = Answering(inner, lambda z: z[:, :4])
    masked = Answering(inner, lambda z: torch.cat([z[:, :4], torch.full_like(z[:, 4:], -torch.inf)], 1))
    y = right(few)
    whole = advkit.evaluate(masked, (X, y), attack)
    assert whole.clean_accuracy.value == 1
    assert not [d for d in whole.doubts if d.code == "P3"]
    assert whole.worst()[0][1].value == robust(few, y, attack)
    assert FEW(masked, X, y).isfinite().all()


def test_masked_classes_stay_below_all_others_and_give_no_gradient() -> None:
    scores = torch.tensor([[1.0, -torch.inf, -300.0], [-torch.inf, -torch.inf, -torch.inf]], requires_grad=True)
    seen = without_masks(scores)
    assert seen[0].tolist() == [1.0, -400.0, -300.0]
    assert not bool(seen[1].isfinite().any()), "nothing is left to choose from"
    (grad,) = torch.autograd.grad(seen[0].log_softmax(0).sum(), scores)
    assert bool(grad.isfinite().all())
    assert grad[0, 1] == 0


class Apart(nn.Module):
    """Its answer has a gradient, which does not lead to the image."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x.detach()).detach() * torch.ones(1, requires_grad=True)


def quantised(inner: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.ao.quantization.quantize_dynamic(nn.Sequential(inner), {nn.Linear}, dtype=torch.qint8)


@pytest.mark.filterwarnings("ignore:quantized")
@pytest.mark.parametrize("make", [Apart, Detached, quantised])
def test_an_answer_that_does_not_lead_to_the_image_is_one_sentence(make: Callable[[nn.Module], nn.Module]) -> None:
    try:
        model = make(net())
    except RuntimeError:
        pytest.skip("this torch has no engine for quantised layers")
    y = right(model)
    for attack in (FEW, "standard"):
        with pytest.raises(ModelError, match="answers without a gradient"):
            advkit.evaluate(model, (X, y), attack)
    assert advkit.evaluate(model, (X, y), "noise").clean_accuracy.value == 1


class Inplace(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x.sub_(0.5).div_(0.25))


class Outplace(Inplace):
    def forward(self, x: Tensor) -> Tensor:
        return self.inner((x - 0.5) / 0.25)


@pytest.mark.parametrize("attack", [FEW, "noise", "apgd"])
def test_a_model_that_normalises_in_place_gets_the_numbers_of_one_that_does_not(attack: Any) -> None:
    inner = net()
    one, other = Inplace(inner), Outplace(inner)
    y = right(other)
    with_doubts = advkit.evaluate(one, (X, y), attack)
    assert with_doubts.worst()[0][1].value == robust(other, y, attack)
    assert (with_doubts.model, with_doubts.weights) == ("Inplace", "caller's")
    assert torch.equal(FEW(one, X, y), FEW(other, X, y))
    assert not [d for d in with_doubts.doubts if "fails when it is asked" in d.sentence]


def test_a_loaded_model_that_normalises_in_place_leaves_the_pictures_alone() -> None:
    x = X.clone()
    model = advkit.load_model(Inplace(net()), data=advkit.TensorData(x, torch.zeros(6).long()))
    points = x.clone().requires_grad_()
    (grad,) = torch.autograd.grad(model(points).sum(), points)
    assert bool((grad != 0).any())
    assert torch.equal(x, X)


def test_frozen_torchscript_is_attacked_like_the_network_it_was_made_of() -> None:
    inner = net()
    y = right(inner)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        frozen = torch.jit.freeze(torch.jit.script(inner))
    assert advkit.evaluate(frozen, (X, y), FEW).worst()[0][1].value == robust(inner, y)
    assert FEW(frozen, X, y).shape == X.shape


class Around:
    """A callable that is no module."""

    def __init__(self, inner: nn.Module) -> None:
        self.inner = inner

    def __call__(self, x: Tensor) -> Tensor:
        return self.inner(x)

    def scores(self, x: Tensor) -> Tensor:
        return self.inner(x)


def test_functions_and_callables_are_models() -> None:
    inner = net()
    y = right(inner)
    expected, made = robust(inner, y), FEW(inner, X, y)
    for model in (lambda x: inner(x), Around(inner), Around(inner).scores, inner.forward):
        inner.train()
        assert robust(model, y) == expected
        assert inner.training, "it comes back as it was"
        assert torch.equal(FEW(model, X, y), made)
        assert all(p.requires_grad for p in inner.parameters())
    assert advkit.load_model(lambda x: inner(x), data=advkit.TensorData(X, y)).num_classes == 5


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (None, "the model is None; give a torch.nn.Module"),
        (7, "the model is of type int"),
        (nn.Linear, r"the model is the class Linear; give an instance of it, Linear\(...\)"),
        ({"weight": torch.ones(2)}, "a state dict holds weights and no network"),
    ],
)
def test_what_is_no_model_is_told_what_to_give(given: Any, sentence: str) -> None:
    y = torch.zeros(6).long()
    for call in (
        lambda: advkit.load_model(given),
        lambda: advkit.evaluate(given, (X, y), FEW),
        lambda: FEW(given, X, y),
    ):
        with pytest.raises(ModelError, match=sentence):
            call()


def test_labels_are_a_tensor_an_array_or_a_list() -> None:
    inner = net()
    y = right(inner)
    made = FEW(inner, X, y)
    for labels in (y.tolist(), y.numpy(), y.numpy().astype(np.uint8), y.int(), list(y)):
        assert torch.equal(FEW(inner, X, labels), made)
        assert nearest(FEW, inner, X, labels).distance.shape == (6,)


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        (None, "the labels are None; give one class index for each picture"),
        (["a"] * 6, "the labels are a list that holds other than whole numbers"),
        ([0.5] * 6, "labels are torch.float32"),
        ([0, 1], r"shape \(2,\) for 6 pictures"),
        (3, r"shape \(\) for 6 pictures"),
    ],
)
def test_labels_that_are_none_say_so(labels: Any, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        FEW(net(), X, labels)


def test_one_image_is_told_to_come_as_a_batch() -> None:
    with pytest.raises(DataError, match=r"if that is one picture \(C, H, W\), give a batch of one: x\[None\]"):
        FEW(net(), X[0], [0])


def test_a_wrong_number_of_channels_names_both() -> None:
    with pytest.raises(ModelError, match="takes pictures with 3 channels and these have 1"):
        FEW(net(), X[:, :1], [0] * 6)


def test_a_target_may_be_the_number_of_a_class() -> None:
    inner = net()
    y = torch.full((6,), 2)
    assert advkit.evaluate(inner, (X, y), FEW, target=3).goal == "3"


@pytest.mark.parametrize("size", [1, 4])
def test_a_batch_of_a_fixed_size_is_named(size: int) -> None:
    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = linear(dtype=torch.float32)

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x.reshape(size, 3, 8, 8))

    with pytest.raises(ModelError, match=f"takes exactly {size} picture.* its batch size is fixed"):
        FEW(Fixed(), X, [0] * 6)
    if size == 1:
        assert advkit.evaluate(Fixed(), (X, torch.zeros(6).long()), FEW, batch_size=1).outcomes


def test_lazy_layers_and_weights_without_numbers_are_named() -> None:
    y = torch.zeros(6).long()
    for model, sentence in (
        (nn.Sequential(nn.Flatten(), nn.LazyLinear(3)), "has lazy layers that have no weights yet"),
        (linear(dtype=torch.float32).to("meta"), "lies on the meta device"),
    ):
        for call in (
            lambda model=model: advkit.evaluate(model, (X, y), FEW),
            lambda model=model: FEW(model, X, y),
            lambda model=model: advkit.load_model(model, data=advkit.TensorData(X, y)),
        ):
            with pytest.raises(ModelError, match=sentence):
                call()


def test_other_sizes_are_named_with_the_reason() -> None:
    with pytest.raises(ModelError, match=r"Sequential cannot take pictures of 3 x 9 x 9 \(RuntimeError: "):
        FGSM(advkit.Linf("8/255"))(linear(dtype=torch.float32), pictures(2, (3, 9, 9), dtype=torch.float32), [0, 0])


def test_an_error_of_advkits_own_inside_the_model_is_kept() -> None:
    class Strict(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise AdvkitError("my own sentence")

    with pytest.raises(AdvkitError, match="my own sentence"):
        FEW(Strict(), X, [0] * 6)


def test_scores_that_are_fine_come_back_as_they_are() -> None:
    scores = torch.rand(2, 3)
    assert checked_scores(scores, 2, "net") is scores


class Widens(nn.Module):
    """Answers with more scores from the second call on."""

    def __init__(self, later: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.net, self.later, self.calls = net(), later, 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        scores: Tensor = self.net(x)
        return scores if self.calls == 1 else self.later(scores)


@pytest.mark.parametrize(
    ("later", "said"),
    [
        (lambda scores: torch.cat([scores, scores], 1), r"scores per picture, and with \d+ before"),
        (lambda scores: scores[:, :1], "answers one score per picture"),
        (lambda scores: scores.to_sparse(), r"sparse scores; let it return a dense tensor"),
    ],
)
def test_every_answer_is_looked_at_not_only_the_first(later: Callable[[Tensor], Tensor], said: str) -> None:
    with pytest.raises(ModelError, match=said):
        FEW(Widens(later), X, right(net()))


def test_a_model_of_sparse_scores_is_refused_before_any_form_of_it_is_tried() -> None:
    class Sparse(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net()

        def forward(self, x: Tensor) -> Tensor:
            scores: Tensor = self.net(x)
            return scores.to_sparse()

    with pytest.raises(ModelError, match="sparse scores; let it return a dense tensor"):
        advkit.evaluate(Sparse(), (X, right(net())), FEW, doubts=False)
