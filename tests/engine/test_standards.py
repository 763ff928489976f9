"""A model that was trained on standardised input and is evaluated without: told, and only where it is so."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import advkit
from advkit.attacks import FGSM
from advkit.backbones import Classifier, load_model
from advkit.backbones.classifier import NORMALISATIONS
from advkit.core.threat import Linf
from advkit.data import TensorData
from advkit.engine.protocol import Finding, examine
from advkit.engine.standards import expected_standard
from advkit.engine.sweep import sweep
from advkit.results.doubt import Doubt
from advkit.results.verdicts import verdicts

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
    found = expected_standard(model, source, correct, 64, options.get("budget", 1000.0))
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
        assert expected_standard(model, source, correct, 64, budget) is None
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


def test_a_model_that_is_merely_weak_is_asked_about_four_images_in_each_standard() -> None:
    torch.manual_seed(0)

    class Weak(Nearest):
        """Another nearest prototype."""

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).roll(3, 1)

    model = Weak("imagenet")
    correct = torch.zeros(64, dtype=torch.bool)
    assert expected_standard(model, data(), correct, 64) is None
    assert model.asked <= 4 * 6


def test_no_more_images_than_a_batch_are_asked_about_at_a_time() -> None:
    sizes: list[int] = []

    class Seen(Nearest):
        def forward(self, x: Tensor) -> Tensor:
            sizes.append(len(x))
            return super().forward(x)

    assert expected_standard(Seen("imagenet"), data(), torch.zeros(64, dtype=torch.bool), 5) is not None
    assert max(sizes) == 5


def test_a_standard_whose_values_are_beyond_the_model_leaves_the_others() -> None:
    class Breaks(Nearest):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).masked_fill(x.flatten(1).amax(1, keepdim=True) > 20, torch.nan)

    found = expected_standard(Breaks("imagenet"), data(), torch.zeros(64, dtype=torch.bool), 64)
    assert found is not None
    assert found.name in NORMALISATIONS


def test_a_sweep_keeps_the_finding_and_shows_it_under_its_table(tmp_path: Path) -> None:
    models = {
        "raw": Nearest("0:0.00392157"),
        "told": load_model(Nearest("imagenet"), data=data(), normalize="imagenet"),
    }
    result = sweep(models, data(), FGSM(Linf(0.01)), 0.01, out=tmp_path, samples=40)
    found = {line.cell.model: [each for each in asked if each.code == "P2"] for line, asked in result.grid.asked}
    assert [each.level for each in found["raw"]] == ["fail"]
    assert found["raw"][0].advice.startswith("Give the normalisation")
    assert found["told"] == []
    assert any("trained on such input" in each.sentence for each in verdicts(result.grid))


def test_a_check_fails_p2_with_what_to_do_and_not_where_the_units_are_known() -> None:
    def p2(model: nn.Module) -> Finding:
        found = examine(model, data(), samples=40, steps=2, queries=3)
        return next(each for each in found.findings if each.code == "P2")

    raw = p2(Nearest("imagenet"))
    assert (raw.level, "trained on such input" in raw.evidence) == ("fail", True)
    assert "--normalize" in raw.advice
    assert p2(load_model(Nearest("imagenet"), data=data(), normalize="imagenet")).level == "pass"


def test_an_evaluation_shows_the_finding_with_what_to_do() -> None:
    result = advkit.evaluate(Nearest("0:0.00392157"), data(), "fgsm")
    found = [doubt for doubt in result.doubts if "trained on such input" in doubt.sentence]
    assert found == [
        Doubt("P2", found[0].sentence, "Give the normalisation that it was trained with (such as --normalize 0:0.00392157), "
              "and run again.")
    ]  # fmt: skip
    model = load_model(Nearest("0:0.00392157"), data=data(), mean=[0.0], std=[1 / 255])
    assert not [d for d in advkit.evaluate(model, data(), "fgsm").doubts if d.code == "P2"]
