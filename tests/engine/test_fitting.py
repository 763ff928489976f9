"""Fitting one thing for many pictures: on which pictures, with which gradient, and what comes of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from helpers import conv_net, linear, pictures, trained
from torch import Tensor

from advkit import evaluate
from advkit.attacks import Patch
from advkit.core import Area, Ball, Linf, Loss, Margin, Rng
from advkit.core.fitted import Applied, Fit, Fitted
from advkit.data import TensorData, load_data
from advkit.engine.fitting import fit, load_fitted, save_fitted, training_pictures
from advkit.engine.stages import Observer
from advkit.engine.sweep import sweep
from advkit.errors import DataError, InputError

BALL, LOSS = Linf(0.1), Margin()


@dataclass(frozen=True)
class Universal(Fitted):
    """A universal perturbation: the smallest of fitted attacks."""

    threat: Ball = BALL
    steps: int = 5
    pace: float = 0.05
    fitted_on: str = "auto"
    loss: Loss = LOSS

    def begin(self, x: Tensor, rng: Rng) -> Fit:
        return Fit(torch.zeros_like(x[0]), ())

    def worn(self, thing: Tensor, x: Tensor, rng: Rng) -> Tensor:
        return self.threat.project(x + thing, x) if not thing.requires_grad else (x + thing).clamp(0, 1)

    def improved(self, at: Fit, grad: Tensor) -> Fit:
        return Fit((at.thing + self.pace * grad.sign()).clamp(-self.threat.eps, self.threat.eps), ())


GRADIENTS: list[Tensor] = []


@dataclass(frozen=True)
class Watching(Universal):
    """Stays where it is, and notes the gradients."""

    batch: int = 32

    def improved(self, at: Fit, grad: Tensor) -> Fit:
        GRADIENTS.append(grad)
        return at


def data(count: int = 32) -> TensorData:
    x, y = trained()[1:]
    return TensorData(x[:count].float(), y[:count], name="patterns")


def test_a_gradient_is_of_its_own_step_alone():
    GRADIENTS.clear()
    fit(Watching(steps=4), trained()[0], data())
    assert len(GRADIENTS) == 4
    assert float(GRADIENTS[0].abs().max()) > 0
    for later in GRADIENTS[1:]:
        torch.testing.assert_close(later, GRADIENTS[0])


def test_on_a_linear_model_a_universal_perturbation_becomes_the_sign_of_the_weights():
    model, x = linear(2, seed=3), pictures(80, margin=0.2)
    y = model(x).argmax(1)
    label = int(y.mode().values)
    x, y = x[y == label], y[y == label]
    slope = (model[1].weight[1 - label] - model[1].weight[label]).detach().reshape(3, 8, 8)
    found = fit(Universal(), model, TensorData(x.float(), y))
    torch.testing.assert_close(found.thing, 0.1 * slope.sign().to(found.thing))
    assert bool(Linf(0.1).contains(found(model, x, y), x).all())


def test_every_picture_is_looked_at_before_one_is_again():
    seen: list[Tensor] = []

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = trained()[0]

        def forward(self, x: Tensor) -> Tensor:
            if x.requires_grad:
                seen.append(x.detach())
            return self.inner(x)

    fit(replace(Watching(steps=4), batch=8), Model(), data())
    assert len(torch.cat(seen).unique(dim=0)) >= 30


def test_the_same_seed_gives_the_same_thing_and_the_model_comes_back_as_it_was():
    model, patch = conv_net(4, norm=True, dropout=0.3).train(), Patch(Area(0.2), steps=3)
    x = data().tensors()[0]
    some = TensorData(x, model.eval()(x.double()).argmax(1))
    model.train()
    before = ([m.training for m in model.modules()], [b.clone() for b in model.buffers()], torch.random.get_rng_state())
    first, again, other = (fit(patch, model, some, seed=seed) for seed in (1, 1, 2))
    assert [m.training for m in model.modules()] == before[0]
    assert all(map(torch.equal, model.buffers(), before[1]))
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert torch.equal(torch.random.get_rng_state(), before[2])
    assert first == again
    assert torch.equal(first.thing, again.thing)
    assert first.digest in repr(first)
    assert first != other


def test_a_saved_thing_is_the_same_attack(tmp_path):
    found = fit(Patch(Area("20%"), steps=2, shape="square", loss=Margin(), restarts=3), trained()[0], data())
    save_fitted(found, tmp_path / "patch.safetensors")
    again = load_fitted(tmp_path / "patch.safetensors")
    assert again == found
    assert torch.equal(again.thing, found.thing)
    assert (tmp_path / "patch.json").is_file()
    (tmp_path / "other.safetensors").write_bytes(b"no")
    for name in ("other.safetensors", "none.safetensors"):
        with pytest.raises(InputError, match="holds nothing that advkit fitted"):
            load_fitted(tmp_path / name)
    with pytest.raises(InputError, match=r"give a name that ends in .safetensors"):
        save_fitted(found, tmp_path / "patch.pt")


def test_pictures_that_are_scored_are_not_fitted_on(tmp_path):
    own = TensorData(
        torch.arange(40.0).div(40).reshape(40, 1, 1, 1).expand(-1, 3, 8, 8), torch.zeros(40, dtype=torch.long)
    )
    values = training_pictures(Patch(), own.head(12), 0).tensors()[0][:, 0, 0, 0]
    assert sorted((values * 40).round().int().tolist()) == list(range(20, 40))
    assert torch.equal(training_pictures(Patch(), own.head(20), 0).tensors()[0][:, 0, 0, 0], values)
    assert not torch.equal(training_pictures(Patch(), own.head(20), 1).tensors()[0][:, 0, 0, 0], values)
    for scored in (own.head(21), own):
        with pytest.raises(
            DataError, match=r"the second half of its 40 pictures is for the fit, and \d+ are to be scored"
        ):
            training_pictures(Patch(), scored, 0)
    signs = training_pictures(Patch(), load_data("signs", size=16).head(30), 0)
    assert (signs.data.split, signs.data.size) == ("train", 16)
    with pytest.raises(InputError, match=r"has pictures of \(3, 32, 32\) and tensors of \(3, 8, 8\)"):
        training_pictures(Patch(fitted_on="signs"), own, 0)


def test_a_fit_needs_pictures_that_the_model_gets_right():
    x, y = data().tensors()
    with pytest.raises(DataError, match="fitted on pictures that the model gets right, and of 32 of tensors there are"):
        fit(Patch(), trained()[0], (x, (y + 1) % 4))


def test_what_was_fitted_before_is_shown_as_it_is(tmp_path):
    path = tmp_path / "patch.safetensors"
    found = fit(Patch(Area(0.3), steps=2), trained()[0], data())
    save_fitted(found, path)
    outcome = evaluate(trained()[0], data(), Patch(Area(0.2), fitted_on=str(path))).outcomes[0]
    assert outcome.attack == repr(replace(found, threat=Area(0.2)))
    with pytest.raises(InputError, match=r"was fitted by patch, not by Universal; name that attack"):
        evaluate(trained()[0], data(), Universal(fitted_on=str(path)))


def test_the_scored_pictures_by_another_name_are_refused(tmp_path):
    x, y = data().tensors()
    np.savez(tmp_path / "own.npz", x=x.numpy(), y=y.numpy())
    with pytest.raises(InputError, match=r"own.npz are the pictures that it is scored on; name others, or leave"):
        training_pictures(Patch(fitted_on=str(tmp_path / "own.npz")), load_data(tmp_path / "own.npz").head(5), 0)


def test_evaluate_fits_names_what_it_made_and_shows_it_to_other_pictures():
    model = trained()[0]
    stages: list[str] = []

    class Quiet:
        def __enter__(self) -> None: ...
        def __exit__(self, *_: object) -> None: ...

    def stage(name: str) -> Quiet:
        stages.append(name)
        return Quiet()

    patch = Patch(Area(0.2), steps=15)
    result = evaluate(model, data().head(12), patch, observer=Observer(stage=stage))
    assert stages == ["clean", "patch@0.2, fit", "patch@0.2"]
    found = fit(patch, model, training_pictures(patch, data().head(12), 0))
    outcome = result.outcomes[0]
    assert outcome.attack == repr(found)
    assert isinstance(found, Applied)
    assert int(outcome.attacked.sum()) == int((result.labels == result.clean).sum())


def test_behind_a_defense_it_is_fitted_on_the_bare_model_and_on_the_defended_one():
    model, patch = trained()[0], Patch(Area(0.2), steps=5)
    found = evaluate(model, data().head(12), patch, defense="median:3")
    names = [outcome.name for outcome in found.outcomes]
    assert names == ["patch (oblivious)", "patch"]
    bare = fit(patch, model, training_pictures(patch, data().head(12), 0))
    assert found.outcomes[0].attack == repr(bare)
    assert found.outcomes[1].attack != repr(bare)


def test_a_sweep_fits_once_for_a_cell_and_finds_what_evaluate_finds(tmp_path):
    patch, model = Patch(Area(0.2), steps=5), trained()[0].float()
    try:
        result = sweep({"net": model}, data().head(12), "patch", "0.2", norm="area", out=tmp_path / "s", samples=None)
        with pytest.raises(DataError, match="the second half of its 32 pictures"):
            sweep({"net": model}, data(), "patch", "0.2", norm="area", out=tmp_path / "t", samples=None)
    finally:
        model.double()
    assert not result.failed
    files = list((tmp_path / "s").rglob("fitted-*.safetensors"))
    assert len(files) == 1
    assert load_fitted(files[0]).by.threat == Area(0.2)
    assert patch.threat == Area(0.2)
