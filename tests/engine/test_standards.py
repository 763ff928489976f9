"""A model that was trained on standardised input and is evaluated without: told, and only where it is so."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import Tensor, nn

import advkit
from advkit.backbones import Classifier, load_model
from advkit.backbones.classifier import NORMALISATIONS
from advkit.data import TensorData
from advkit.engine.standards import expected_standard
from advkit.results.doubt import Doubt

STANDARDS = {name: NORMALISATIONS[name] for name in ("imagenet", "cifar10", "cifar100", "gtsrb")} | {
    "0.5:0.5": ((0.5,), (0.5,)),
    "0:0.00392157": ((0.0,), (1 / 255,)),
}


@cache
def prototypes(count: int = 8) -> Tensor:
    """Grey levels: only what is given in the right units tells them apart."""
    return torch.linspace(0.1, 0.9, count).view(-1, 1, 1, 1).expand(count, 3, 6, 6).contiguous()


@cache
def data(count: int = 64) -> TensorData:
    """Prototypes with a little noise."""
    labels = torch.arange(count) % len(prototypes())
    noise = 0.05 * torch.randn(count, 3, 6, 6, generator=torch.Generator().manual_seed(4))
    return TensorData((prototypes()[labels] + noise).clamp(0, 1), labels)


class Nearest(nn.Module):
    """Answers the nearest prototype, all of them in a standard of its own."""

    def __init__(self, name: str) -> None:
        super().__init__()
        mean, std = (torch.tensor(each).view(-1, 1, 1) for each in STANDARDS[name])
        self.register_buffer("known", ((prototypes() - mean) / std).flatten(1))
        self.asked = 0

    def forward(self, x: Tensor) -> Tensor:
        self.asked += len(x)
        return -torch.cdist(x.flatten(1), self.known)


def told(model: nn.Module, source: TensorData, **options: float) -> str | None:
    correct = model(source.tensors()[0]).argmax(1) == source.labels
    found = expected_standard(model, source, correct, options.get("budget", 1000.0), 64)
    return None if found is None else found.name


@pytest.mark.parametrize("name", list(STANDARDS))
def test_the_standard_that_a_model_was_trained_in_is_named(name: str) -> None:
    model = Nearest(name)
    before = float((model(data().tensors()[0]).argmax(1) == data().labels).double().mean())
    assert before < 0.8, "it would not be worth a word"
    found = told(model, data())
    assert found is not None
    mean, std = NORMALISATIONS[found] if found in NORMALISATIONS else STANDARDS[found]
    mended = load_model(Nearest(name), data=data(), mean=mean, std=std)
    assert float((mended(data().tensors()[0]).argmax(1) == data().labels).double().mean()) > 0.95


def test_who_has_a_normalisation_or_is_right_on_most_is_asked_nothing() -> None:
    odd = Nearest("0:0.00392157")
    wrong = torch.zeros(64, dtype=torch.bool)
    good = wrong.clone()
    good[:60] = True
    known = Classifier(odd, name="mine", mean=(0.5,), std=(0.5,))
    unknown = TensorData(*data().tensors())
    unknown.labels = -torch.ones_like(unknown.labels)
    for model, source, correct, budget in (
        (odd, data(), good, 1e6),
        (known, data(), wrong, 1e6),
        (odd, unknown, wrong, 1e6),
        (odd, data(), wrong, 40.0),
    ):
        assert expected_standard(model, source, correct, budget, 64) is None
    assert odd.asked == 0


def test_a_weak_model_or_one_that_answers_one_class_is_told_nothing() -> None:
    torch.manual_seed(0)
    assert told(nn.Sequential(nn.Flatten(), nn.Linear(108, 8)), data()) is None

    class Bright(nn.Module):
        """Class 1 for what is bright on the whole, class 0 else: one class for each standard."""

        def forward(self, x: Tensor) -> Tensor:
            bright = (x.flatten(1).mean(1) > 0.9).double()
            return torch.stack([1 - bright, bright], 1)

    same = TensorData(data().tensors()[0], torch.ones(64, dtype=torch.long))
    assert told(Bright(), same) is None


def test_an_evaluation_shows_the_finding_with_what_to_do() -> None:
    result = advkit.evaluate(Nearest("0:0.00392157"), data(), "fgsm")
    found = [doubt for doubt in result.doubts if "trained on such input" in doubt.sentence]
    assert found == [
        Doubt("P2", found[0].sentence, "Give the normalisation that it was trained with (such as --normalize 0:0.00392157), "
              "and run again.")
    ]  # fmt: skip
    model = load_model(Nearest("0:0.00392157"), data=data(), mean=[0.0], std=[1 / 255])
    assert not [d for d in advkit.evaluate(model, data(), "fgsm").doubts if d.code == "P2"]
