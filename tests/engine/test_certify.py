"""Certifying a data set: what is kept, what is done again, and attacks inside the certificates."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pytest
import torch
from helpers import SHAPE, FailsAt, conv_net, pictures
from torch import Tensor, nn

from advkit.core.defense import Certificate, Certifier, Wrapper
from advkit.core.rng import Rng, identify
from advkit.data import TensorData
from advkit.defenses._smoothing import Probabilities
from advkit.defenses.smoothing import Smoothing
from advkit.defenses.smoothing_l1 import SmoothingL1
from advkit.engine import certify as engine
from advkit.engine.certify import Inside, attack_inside, certify, read_attack
from advkit.engine.defend import Defense, build_defense
from advkit.errors import DataError, InputError, ModelError, UnknownName
from advkit.results.certificates import Certificates, Certification

QUICK = Smoothing(0.25, n0=20, n=200)


class Plane(nn.Module):
    """Class 1 where the mean value is above a half: linear, with the same weight for every value."""

    def score(self, x: Tensor) -> Tensor:
        return x.flatten(1).double().sum(1) - 0.5 * math.prod(x.shape[1:])

    def forward(self, x: Tensor) -> Tensor:
        score = self.score(x)
        return torch.stack([-score, score], 1)


@dataclass(frozen=True)
class Exact(Certifier):
    """Distances of ``Plane`` to its boundary, times a factor that ought to be 1."""

    factor: float = 1.0

    def certify(self, model: nn.Module, x: Tensor, rng: Rng, batch_size: int) -> Certificate:
        score = Plane().score(x).double()
        return Certificate((score > 0).long(), self.factor * self.radius(score.abs(), x), torch.ones(len(x)).long())

    def radius(self, score: Tensor, x: Tensor) -> Tensor:
        """Linf: every value moves by as much."""
        return score / x[0].numel()


@dataclass(frozen=True)
class ExactLinf(Exact):
    norm: ClassVar[str] = "linf"


@dataclass(frozen=True)
class ExactL1(Exact):
    norm: ClassVar[str] = "l1"

    def radius(self, score: Tensor, x: Tensor) -> Tensor:
        return score


@dataclass(frozen=True)
class ExactPatch(Exact):
    """The largest side at which all that a square can add is too little."""

    norm: ClassVar[str] = "patch"

    def radius(self, score: Tensor, x: Tensor) -> Tensor:
        return (score / x.shape[1]).sqrt().floor().clamp_max(8 / self.factor)


class Doubled(Smoothing):
    """A mutant: it claims twice the radius."""

    def radius_at(self, p: npt.ArrayLike) -> Probabilities:
        return 2 * super().radius_at(p)


def planes(count: int, spread: float = 0.04) -> TensorData:
    """Grey pictures with noise, some way on either side of the boundary; labelled as ``Plane`` sees them."""
    x = pictures(count, dtype=torch.float32, margin=0.25)
    shift = torch.linspace(-spread, spread, count)
    x = (x - x.flatten(1).mean(1)[:, None, None, None] + 0.5 + shift[:, None, None, None]).clamp(0, 1)
    return TensorData(x, (Plane().score(x) > 0).long(), name="planes", classes=("dark", "bright"))


def same(first: Certificates, second: Certificates) -> bool:
    return all(
        np.array_equal(getattr(first, name), getattr(second, name))
        for name in ("index", "label", "prediction", "radius", "forwards")
    )


# ---------------------------------------------------------------------- the loop


def test_every_example_has_the_certificate_that_it_has_alone() -> None:
    model, data = conv_net(dtype=torch.float32), TensorData(pictures(9, dtype=torch.float32), torch.arange(9) % 5)
    by = replace(QUICK, sigma=1.5)
    found = certify(model, data, by, seed=3)
    assert len(set(found.facts.radius.tolist())) > 2
    for place in range(9):
        x = data.pictures([place])
        alone = by.certify(model, x, Rng.of(3, identify(x)).fold("certify"), 64)
        facts = found.facts
        assert (facts.index[place], facts.label[place]) == (place, place % 5)
        assert facts.prediction[place] == int(alone.prediction)
        assert facts.radius[place] == float(alone.radius)
        assert facts.forwards[place] == int(alone.forwards)


def test_what_is_told_of_grows_to_the_whole() -> None:
    told: list[int] = []
    bars: list[tuple[int, int]] = []
    found = certify(
        Plane(), planes(9), QUICK, part=lambda so_far: told.append(len(so_far)), progress=lambda *at: bars.append(at)
    )
    assert told == [1, 3, 7, 9]
    assert bars == [(0, 9), (1, 9), (3, 9), (7, 9), (9, 9)]
    assert found.complete


def test_slow_examples_are_done_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_SECONDS", 0.0)
    told: list[int] = []
    certify(Plane(), planes(4), QUICK, part=lambda so_far: told.append(len(so_far)))
    assert told == [1, 2, 3, 4]


def test_a_wrapper_stands_between_noise_and_model() -> None:
    data = planes(4)
    bare, behind = (certify(Plane(), data, QUICK, defense=text) for text in ("none", "bits:1"))
    assert behind.defense == "bits:1"
    assert not same(bare.facts, behind.facts)

    class Levels(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return Plane()(build_defense("bits:1")[0](x))

    assert same(certify(Levels(), data, QUICK).facts, behind.facts)


def test_where_memory_runs_out_passes_are_halved() -> None:
    class Small(Plane):
        def forward(self, x: Tensor) -> Tensor:
            if len(x) > 40:
                raise torch.OutOfMemoryError("full")
            return super().forward(x)

    data = planes(3)
    assert same(certify(Small(), data, QUICK).facts, certify(Plane(), data, QUICK, batch_size=40).facts)


def test_an_unknown_label_is_taken_from_the_prediction() -> None:
    data = planes(4)
    data.labels = torch.full((4,), -1)
    found = certify(Plane(), data, QUICK)
    assert found.correct.tolist() == (found.facts.prediction >= 0).tolist()


def test_misfits_are_refused_by_a_sentence() -> None:
    with pytest.raises(ModelError, match="channels"):
        certify(conv_net(dtype=torch.float32), TensorData(pictures(2, (1, 8, 8)), torch.zeros(2).long()), QUICK)
    with pytest.raises(DataError, match="give at least 1"):
        certify(Plane(), planes(2), QUICK, samples=0)
    with pytest.raises(InputError, match="proves nothing"):
        certify(Plane(), planes(2), "jpeg")


# ---------------------------------------------------------------------- kept and resumed


def test_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    data, whole, model = planes(12), certify(Plane(), planes(12), QUICK), Counted()
    assert len(certify(model, data, QUICK, folder=tmp_path, samples=5)) == 5
    first, model.rows = model.rows, 0
    assert same(certify(model, data, QUICK, folder=tmp_path, samples=12).facts, whole.facts)
    assert 0 < model.rows < 2 * first
    model.rows = 0
    fewer = certify(model, data, QUICK, folder=tmp_path, samples=7)
    assert fewer.facts.index.tolist() == list(range(7))
    assert fewer.complete
    assert model.rows == 0


class Counted(Plane):
    def __init__(self) -> None:
        super().__init__()
        self.rows = 0

    def forward(self, x: Tensor) -> Tensor:
        self.rows += len(x)
        return super().forward(x)


def test_an_interrupted_run_goes_on_where_it_was(tmp_path: Path) -> None:
    data = planes(12)
    model = Counted()
    certify(model, data, QUICK)
    needed = model.rows

    class Interrupted(Exception):
        pass

    def stop(so_far: Certification) -> None:
        if len(so_far) >= 7:
            raise Interrupted

    model.rows = 0
    with pytest.raises(Interrupted):
        certify(model, data, QUICK, folder=tmp_path, part=stop)
    assert 0 < model.rows < needed
    found = certify(model, data, QUICK, folder=tmp_path)
    assert model.rows <= needed + 4 * 32  # small passes are filled up
    assert same(found.facts, certify(Plane(), data, QUICK).facts)
    model.rows = 0
    assert same(certify(model, data, QUICK, folder=tmp_path).facts, found.facts)
    assert model.rows == 0


def test_a_model_that_fails_leaves_what_was_done(tmp_path: Path) -> None:
    data = planes(6)
    with pytest.raises(ValueError, match="no answer"):
        certify(FailsAt(Plane(), 9), data, replace(QUICK, n=2000), folder=tmp_path)
    (place,) = (path for path in tmp_path.iterdir() if path.is_dir())
    assert [path.name for path in sorted(place.glob("0*.json"))] == ["00000-00001.json", "00001-00003.json"]


@pytest.mark.parametrize("content", ["", "{", '{"index": [0]}', '{"index": [5], "label": [1]}'])
def test_a_file_that_is_not_whole_is_done_again(tmp_path: Path, content: str) -> None:
    data = planes(3)
    found = certify(Counted(), data, QUICK, folder=tmp_path)
    file = next(tmp_path.glob("*/00001-00003.json"))
    file.write_text(content)
    model = Counted()
    for again in (True, False):
        assert same(certify(model, data, QUICK, folder=tmp_path).facts, found.facts)
        assert (model.rows > 0) == again
        model.rows = 0


@pytest.mark.parametrize(
    "changed",
    [
        {"by": replace(QUICK, sigma=0.5)},
        {"by": replace(QUICK, n=300)},
        {"by": replace(QUICK, radii=(0.5,))},
        {"by": SmoothingL1(0.25, n0=20, n=200)},
        {"seed": 1},
        {"defense": "bits:2"},
        {"data": planes(4, 0.05)},
        {"model": conv_net(2, dtype=torch.float32)},
    ],
    ids=str,
)
def test_another_setting_is_kept_apart(tmp_path: Path, changed: dict[str, Any]) -> None:
    given: dict[str, Any] = {"model": Plane(), "data": planes(4), "by": QUICK} | changed
    before = certify(Plane(), planes(4), QUICK, folder=tmp_path)
    found = certify(**given, folder=tmp_path)
    assert same(found.facts, certify(**given).facts)
    assert len([path for path in tmp_path.iterdir() if path.is_dir()]) == 2
    assert same(certify(Plane(), planes(4), QUICK, folder=tmp_path).facts, before.facts)


def test_other_weights_are_kept_apart(tmp_path: Path) -> None:
    for seed in (0, 1):
        certify(conv_net(2, seed=seed, dtype=torch.float32), planes(2), QUICK, folder=tmp_path)
    assert len([path for path in tmp_path.iterdir() if path.is_dir()]) == 2


@dataclass(frozen=True)
class Darker(Wrapper):
    """Reads its only number from a file."""

    weights: str

    def __call__(self, x: Tensor) -> Tensor:
        return x * float(Path(self.weights).read_text())


def test_weights_of_a_defense_that_change_under_their_name_are_kept_apart(tmp_path: Path) -> None:
    file = tmp_path / "darker.txt"
    guard = Defense("darker", "", (Darker(str(file)),))
    found = []
    for factor in ("0.5", "0.999"):
        file.write_text(factor)
        found.append(certify(Plane(), planes(4), QUICK, defense=guard, folder=tmp_path / "kept").facts)
    assert not same(*found)


def test_a_folder_of_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(InputError, match="holds no certificates"):
        certify(Plane(), planes(2), QUICK, folder=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    (tmp_path / "certificates.json").write_text('{"advkit certificates": 99}')
    with pytest.raises(InputError, match="newer advkit"):
        certify(Plane(), planes(2), QUICK, folder=tmp_path)


# ---------------------------------------------------------------------- attacks inside


def checked(by: Certifier, data: TensorData, attack: str = "pgd:steps=5") -> Inside:
    return attack_inside(Plane(), data, certify(Plane(), data, by), by, attacks=[attack])


def test_no_attack_succeeds_inside_a_certified_radius_of_a_linear_model() -> None:
    inside = checked(replace(QUICK, n=1000), planes(16))
    assert inside.violations == ()
    assert inside.examples >= 12
    assert inside.points == 2 * inside.examples


def test_a_certifier_that_claims_twice_the_radius_is_caught() -> None:
    inside = checked(Doubled(0.25, n0=20, n=1000), planes(16))
    assert len({violation.index for violation in inside.violations}) >= 5
    for violation in inside.violations:
        assert violation.attack == "pgd"  # a random direction hardly moves along the one that counts
        assert violation.answer != violation.prediction
        distance = abs(float(Plane().score(planes(16).pictures([violation.index])))) / math.prod(SHAPE) ** 0.5
        assert violation.radius > distance


@pytest.mark.parametrize("kind", [ExactLinf, ExactL1, ExactPatch])
def test_certifiers_of_other_norms_are_attacked_in_theirs(kind: type[Exact]) -> None:
    data = planes(8, {ExactLinf: 0.02, ExactL1: 0.004, ExactPatch: 0.2}[kind])
    sound = checked(kind(), data)
    assert sound.violations == ()
    assert sound.examples >= 6
    unsound = checked(kind(factor=3.0 if kind is ExactPatch else 1.2), data)
    assert len({violation.index for violation in unsound.violations}) >= sound.examples - 2


def test_nothing_certified_is_nothing_attacked() -> None:
    assert checked(ExactLinf(factor=0.0), planes(3)) == Inside(0, 0, ())


def test_attacks_are_read_with_their_settings() -> None:
    assert read_attack("pgd:steps=3,step-size=0.5").settings == (("steps", "3"), ("step_size", "0.5"))
    with pytest.raises(UnknownName, match="Did you mean 'pgd'"):
        read_attack("pdg")
    with pytest.raises(InputError, match="pgd:KEY=VALUE"):
        read_attack("pgd:3")


def test_the_model_comes_back_as_it_was() -> None:
    model, data = conv_net(2, norm=True, dtype=torch.float32).train(), planes(2)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    attack_inside(model, data, certify(model, data, QUICK), QUICK, attacks=["pgd:steps=1"])
    assert model.training
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
