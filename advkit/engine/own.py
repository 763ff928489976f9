"""A defense from the user's own file: a module that maps pictures to pictures, put in front of a model."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, get_args

import torch
from torch import Tensor, nn

from advkit.backbones import Classifier
from advkit.backbones.checkpoint import EMBEDDED
from advkit.backbones.usercode import made_by_code
from advkit.catalog import DEFENSES
from advkit.core.defense import Backward, RandomWrapper, Wrapper
from advkit.core.rng import Rng
from advkit.errors import InputError
from advkit.hashes import sha256, sha256_of_file
from advkit.paths import check_path, expanded
from advkit.trust import Trust

__all__ = ["OwnRandomWrapper", "OwnWrapper", "contents", "defense_hash", "defined_by", "own_wrapper"]


@dataclass(frozen=True)
class OwnWrapper(Wrapper):
    """A module (B, C, H, W) -> (B, C, H, W) from ``text``, such as ``my.py:Denoise``."""

    text: str
    module: nn.Module = field(repr=False)

    def __call__(self, x: Tensor) -> Tensor:
        """The module's answer."""
        return _pictures(self.module.to(x.device)(x), x, self.text)


@dataclass(frozen=True)
class OwnRandomWrapper(RandomWrapper):
    """The same for a module that draws from torch's generator (it says ``random = True``)."""

    text: str = ""
    module: nn.Module = field(default_factory=nn.Identity, repr=False)

    def drawn(self, x: Tensor, rng: Rng) -> Tensor:
        """Picture by picture, each under a seed of its own, so that none depends on its batch."""
        module = self.module.to(x.device)
        devices = [x.device] if x.is_cuda else []
        with torch.random.fork_rng(devices):
            parts = []
            for picture, key in zip(torch.split(x, 1), rng.keys.tolist(), strict=True):
                # torch.manual_seed would seed every other device too, whose state is not put back.
                torch.default_generator.manual_seed(key & 0x7FFFFFFFFFFFFFFF)
                if x.is_cuda:
                    with torch.cuda.device(x.device):
                        torch.cuda.manual_seed(key & 0x7FFFFFFFFFFFFFFF)
                parts.append(module(picture))
        return _pictures(torch.cat(parts), x, self.text)


class _StraightThrough(OwnWrapper):
    backward: ClassVar[Backward] = "straight-through"


class _RandomStraightThrough(OwnRandomWrapper):
    backward: ClassVar[Backward] = "straight-through"


def own_wrapper(text: str, trust: Trust) -> Wrapper | None:
    """The wrapper that ``file.py:Name[:ARG...]`` or ``package.module:Name`` names; None where the text is none of these.

    ``Name`` is a torch.nn.Module, a class or a function that makes one, or an advkit Wrapper. A module may say
    ``backward = "straight-through"`` where it has no useful gradient, and ``random = True`` where it draws. Raises Untrusted
    for a text that the caller did not write himself.
    """
    if text:
        check_path("the defense", text)
    head = text.partition(":")[0]
    if ".py:" not in text and ("." not in head or ":" not in text):
        return None
    made = made_by_code(text, {}, trust)
    if isinstance(made, Wrapper):
        return made
    if not isinstance(made, nn.Module):
        raise InputError(
            f"{text} is a {type(made).__name__}; a defense is a torch.nn.Module that maps pictures to pictures, or an "
            "advkit Wrapper."
        )
    backward = getattr(made, "backward", "exact")
    if backward not in get_args(Backward)[:2]:
        raise InputError(f'{text} says backward = {backward!r}; allowed: "exact", "straight-through".')
    made.eval()
    for parameter in made.parameters():
        parameter.requires_grad_(False)
    if getattr(made, "random", False):
        kind: Any = OwnRandomWrapper if backward == "exact" else _RandomStraightThrough
    else:
        kind = OwnWrapper if backward == "exact" else _StraightThrough
    wrapper: Wrapper = kind(text=text, module=made)
    return wrapper


def defined_by(wrapper: Wrapper) -> type:
    """The class whose file decides what the wrapper does."""
    module = getattr(wrapper, "module", None)
    return type(module) if isinstance(module, nn.Module) and inspect.getsourcefile(type(module)) else type(wrapper)


def contents(wrapper: Wrapper) -> list[str]:
    """A wrapper's settings, and hashes of the weights that they name: a file, a module, or what ships with advkit."""
    found = [repr(wrapper)]
    for value in vars(wrapper).values():
        if isinstance(value, nn.Module):
            found.append(Classifier(value, name="").fingerprint())
        elif value == "auto":
            found += map(sha256_of_file, sorted(EMBEDDED.glob(f"*{DEFENSES.name_of(wrapper)}-*.safetensors")))
        elif isinstance(value, str) and expanded(value).is_file():
            found.append(sha256_of_file(expanded(value)))
    return found


def defense_hash(wrappers: Sequence[Wrapper]) -> str:
    """A hash of the weights that wrappers hold; empty where they hold none."""
    found = [contents(wrapper) for wrapper in wrappers]
    return sha256(repr(found))[:16] if any(len(each) > 1 for each in found) else ""


def _pictures(cleaned: object, x: Tensor, text: str) -> Tensor:
    if not isinstance(cleaned, Tensor) or cleaned.shape[:1] != x.shape[:1] or cleaned.ndim != x.ndim:
        given = tuple(cleaned.shape) if isinstance(cleaned, Tensor) else type(cleaned).__name__
        raise InputError(
            f"{text} answered {given} for pictures of {tuple(x.shape)}; it must return one picture for each, (B, C, H, W)."
        )
    return cleaned
