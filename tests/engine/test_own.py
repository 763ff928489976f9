"""A defense from the user's file is attacked as it declares, and mistakes in it are sentences."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers import conv_net, pictures

from advkit.core.defense import RandomWrapper
from advkit.engine.defend import build_defense, defend
from advkit.engine.own import own_wrapper
from advkit.errors import AdvkitError, InputError
from advkit.trust import NOTHING

FILE = """
import torch
from torch import nn

class Half(nn.Module):
    def __init__(self, share="0.5"):
        super().__init__()
        self.share = nn.Parameter(torch.tensor(float(share)))
    def forward(self, x):
        return x * self.share

class Coarse(nn.Module):
    backward = "straight-through"
    def forward(self, x):
        return (x * 3).round() / 3

class Noisy(nn.Module):
    random = True
    def forward(self, x):
        return (x + 0.1 * torch.randn_like(x)).clamp(0, 1)

class Strange(nn.Module):
    backward = "sideways"
    def forward(self, x):
        return x

class Flat(nn.Module):
    def forward(self, x):
        return x.flatten(1)

number = 3
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(FILE)
    return path


def gradient(wrapper_text: str) -> tuple[torch.Tensor, torch.Tensor]:
    model, x = conv_net(dtype=torch.float32), pictures(3, dtype=torch.float32).requires_grad_()
    logits = defend(model, build_defense(wrapper_text))(x)
    return logits, torch.autograd.grad(logits.sum(), x)[0]


def test_a_module_stands_in_front_of_the_model_with_its_own_gradient(file: Path) -> None:
    model, x = conv_net(dtype=torch.float32), pictures(3, dtype=torch.float32)
    logits, grad = gradient(f"{file}:Half:0.25")
    assert torch.equal(logits, model(x * 0.25))
    points = (x * 0.25).requires_grad_()
    torch.testing.assert_close(grad, 0.25 * torch.autograd.grad(model(points).sum(), points)[0])


def test_what_has_no_gradient_is_passed_as_if_it_were_not_there(file: Path) -> None:
    model, x = conv_net(dtype=torch.float32), pictures(3, dtype=torch.float32)
    logits, grad = gradient(f"{file}:Coarse")
    points = ((x * 3).round() / 3).requires_grad_()
    assert torch.equal(logits, model(points))
    assert torch.equal(grad, torch.autograd.grad(model(points).sum(), points)[0])


def test_what_draws_does_so_by_the_picture_and_leaves_the_generator_alone(file: Path) -> None:
    (wrapper,) = build_defense(f"{file}:Noisy")
    assert isinstance(wrapper, RandomWrapper)
    model, x = defend(conv_net(dtype=torch.float32), [wrapper]), pictures(5, dtype=torch.float32)
    state = torch.get_rng_state()
    together = model(x)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(together, conv_net(dtype=torch.float32)(x))
    torch.testing.assert_close(torch.cat([model(x[i : i + 1]) for i in range(5)]), together)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Strange", 'says backward = \'sideways\'; allowed: "exact", "straight-through".'),
        ("number", "is a int; a defense is a torch.nn.Module that maps pictures to pictures"),
        ("Halv", "defines no 'Halv'; name a function there"),
    ],
)
def test_mistakes_are_sentences(file: Path, name: str, said: str) -> None:
    with pytest.raises(AdvkitError) as caught:
        build_defense(f"{file}:{name}")
    assert said in str(caught.value)


def test_an_answer_of_another_shape_is_refused(file: Path) -> None:
    with pytest.raises(InputError, match="must return one picture for each"):
        build_defense(f"{file}:Flat")[0](pictures(2))


def test_names_of_the_registry_are_not_files() -> None:
    assert own_wrapper("jpeg:75", NOTHING) is None
    assert own_wrapper("bits:depth=4", NOTHING) is None
    assert own_wrapper("tv:0.03", NOTHING) is None
