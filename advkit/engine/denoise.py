"""Train a denoiser, measure what it does to pictures and to a classifier's answers, and write it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from advkit.backbones import Classifier
from advkit.catalog import DEFENSES
from advkit.core.defense import Objective, Wrapper
from advkit.core.modes import borrowed
from advkit.data import Data
from advkit.defenses._denoisers import Denoiser, build_denoiser
from advkit.defenses._denoising import Denoising
from advkit.defenses._weights import read_denoiser, save_denoiser
from advkit.engine.defend import defend
from advkit.engine.evaluate import accuracy
from advkit.engine.passes import automatic_batch
from advkit.engine.training import Epoch, Recipe, Scores, Training, Validate, train
from advkit.errors import InputError, ModelError
from advkit.hashes import sha256_of_file
from advkit.results.statistics import Share, share

__all__ = ["RECIPE", "Restored", "Trained", "train_denoiser"]

RECIPE = Recipe(epochs=10, batch_size=64, learning_rate=2e-3, optimizer="adamw", weight_decay=1e-4, ema=0.999)
"""AdamW under one cycle, and the running mean of the weights: the squared error ends lower than by SGD."""

_WATCHED = 256  # held-out examples that decide which epoch is the best
_SEED = 1_000_003  # of the noise that is measured on: none of a step's


@dataclass(frozen=True)
class Restored:
    """What a denoiser does on held-out pictures; shares are the guide's, where there is one."""

    psnr_spoiled: float  # dB, mean over pictures, of what the objective shows
    psnr_restored: float  # dB
    clean: Share | None = None  # accuracy without noise
    clean_behind: Share | None = None  # and behind the denoiser
    spoiled: Share | None = None  # accuracy on what the objective shows; None for one that shows no pictures
    spoiled_behind: Share | None = None

    def __str__(self) -> str:
        text = f"PSNR {self.psnr_spoiled:.2f} -> {self.psnr_restored:.2f} dB"
        for name, bare, behind in (
            ("clean", self.clean, self.clean_behind),
            ("spoiled", self.spoiled, self.spoiled_behind),
        ):
            if bare is not None and behind is not None:
                text += f"; accuracy on {name} pictures {bare.percent} -> {behind.percent} %"
        return text


@dataclass(frozen=True)
class Trained:
    """A denoiser that was trained and written."""

    path: Path
    wrapper: Wrapper  # with these weights
    restored: Restored
    training: Training = field(repr=False)
    net: Denoiser = field(repr=False)


def train_denoiser(
    data: Data,
    objective: Objective,
    out: str | Path,
    *,
    denoiser: str = "unet",
    settings: Mapping[str, object] | None = None,
    recipe: Recipe = RECIPE,
    guide: nn.Module | None = None,
    held_out: Data | None = None,
    start: str | Path | None = None,
    device: torch.device | str = "cpu",
    on_epoch: Callable[[Epoch], object] | None = None,
    on_step: Callable[[int, int, float], object] | None = None,
    folder: Path | None = None,
    fresh: bool = False,
) -> Trained:
    """Train a denoiser of a kind (dncnn, unet, diffusion) with ``settings`` (width, depth), and write it to ``out``.

    ``guide`` is the classifier that some objectives ask, and that is measured behind the denoiser; it is left as it was.
    ``held_out`` decides which epoch is the best, and is measured on; without it, the last tenth of ``data`` (at most 512
    examples) is held out. ``start`` is a denoiser to go on from, whose kind and settings then hold. ``folder`` is where
    a checkpoint is kept, from which the same training goes on unless ``fresh``. Raises InputError where the pieces do not
    fit, AdvkitError where the loss stops being a number, WriteError.
    """
    out = Path(out)
    if out.suffix != ".safetensors":
        raise InputError(f"denoisers are written as .safetensors, and {out} does not end so.")
    aim = _bound(objective, guide)
    if held_out is None:
        data, held_out = _parted(data)
    if held_out.shape[0] != data.shape[0]:
        raise InputError(
            f"{data.name} has pictures of {data.shape[0]} channels and the held-out ones of {held_out.shape[0]}."
        )
    torch_device = torch.device(device)
    net = _network(denoiser, settings or {}, data.shape[0], start, recipe.seed).to(torch_device)
    if (net.kind == "diffusion") != (DEFENSES.name_of(aim) == "noise-prediction"):
        raise InputError(
            f"{DEFENSES.name_of(aim)} does not train a denoiser of the kind {net.kind}: noise-prediction is for "
            "diffusion, and denoise, stability and logit-guided are for dncnn and unet."
        )
    training = train(
        net,
        data,
        aim,
        recipe,
        on_epoch,
        validate=_watch(aim, held_out.head(_WATCHED), torch_device),
        folder=folder,
        fresh=fresh,
        on_step=on_step,
        identity={
            "denoiser": f"{net.kind} {net.settings}",
            "guide": None if guide is None else _classifier(guide).fingerprint(),
            "start": "" if start is None else sha256_of_file(start),
        },
    )
    facts = {
        "data": data.name,
        "objective": repr(aim),
        "recipe": f"{aim!r} {recipe!r} on {len(data)} examples of {data.name}" + (f", from {start}" if start else ""),
    }
    facts |= {"guide": guide.name} if isinstance(guide, Classifier) and aim.needs_guide else {}
    facts |= {key: repr(value) for key in ("latest", "sigma") if (value := getattr(aim, key, None)) is not None}
    save_denoiser(out, net, facts)
    wrapper = _wrapper(net, aim, out)
    restored = _measured(aim, net, wrapper, held_out, torch_device)
    measured = f"{restored} on {len(held_out)} held-out examples"
    save_denoiser(out, net, {**facts, "measured": measured})
    return Trained(out, wrapper, restored, training, net)


def _classifier(guide: nn.Module) -> Classifier:
    return guide if isinstance(guide, Classifier) else Classifier(guide, name=type(guide).__name__)


def _bound(objective: Objective, guide: nn.Module | None) -> Denoising:
    """The objective with its guide. Raises InputError for one that trains classifiers, or that lacks its guide."""
    if not isinstance(objective, Denoising):
        raise InputError(
            f"{DEFENSES.name_of(objective)} trains classifiers; a denoiser is trained by denoise, stability, "
            "logit-guided or noise-prediction."
        )
    if objective.needs_guide and guide is None and objective.guide is None:
        raise InputError(f"{DEFENSES.name_of(objective)} asks a trained classifier; name one by --model and --weights.")
    return objective if guide is None else objective.guided(guide)


def _parted(data: Data) -> tuple[Data, Data]:
    """All but the last tenth, and that, at most 512 examples."""
    from advkit.data.base import Subset

    kept = min(512, len(data) // 10)
    if kept < 1:
        raise InputError(f"{data.name} has {len(data)} examples; a tenth is held out, so give 10 or more.")
    return Subset(data, range(len(data) - kept)), Subset(data, range(len(data) - kept, len(data)))


def _network(kind: str, settings: Mapping[str, object], channels: int, start: str | Path | None, seed: int) -> Denoiser:
    if start is None:
        if "channels" in settings:
            raise InputError(f"the channels of a denoiser are those of the pictures, {channels}; leave them out.")
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # the CPU's alone, on which networks are made
            return build_denoiser(kind, {"channels": channels, **settings})
    net, _ = read_denoiser(start)
    if net.kind != kind or any(net.settings.get(key) != value for key, value in settings.items()):
        raise ModelError(f"{start} holds a denoiser of the kind {net.kind} with {net.settings}; ask for the same.")
    if net.settings["channels"] != channels:
        raise ModelError(f"{start} is for pictures of {net.settings['channels']} channels; these have {channels}.")
    return net.requires_grad_(True)


def _watch(aim: Denoising, data: Data, device: torch.device) -> Validate:
    """Measures on the same spoiled pictures after every epoch: PSNR, and how often the guide answers as on clean ones."""
    shown: list[tuple[Tensor, Tensor]] = []

    def measure(model: nn.Module) -> Scores:
        if not shown:  # a classifier's adversarial pictures are made once
            shown.extend(
                (x, aim.examples(model, x, x.new_zeros(len(x)).long(), _SEED)) for x, _ in _batches(data, device)
            )
        ratios, agreed = [], 0
        with borrowed(model), torch.no_grad():
            for x, spoiled in shown:
                restored = aim.restored(model, spoiled, x).clamp(0, 1)
                ratios.append(_psnr(restored, x))
                if aim.guide is not None:
                    agreed += int((aim.of_guide(restored).argmax(1) == aim.of_guide(x).argmax(1)).sum())
        scores = {"psnr": float(torch.cat(ratios).mean())}
        if aim.guide is not None:
            scores["agreement"] = agreed / len(data)
        return {"agreement": scores.pop("agreement"), **scores} if aim.by_agreement else scores

    return measure


def _wrapper(net: Denoiser, aim: Denoising, path: Path) -> Wrapper:
    """The defense that stands in front of a model with these weights."""
    name = net.kind if net.kind != "unet" else "hgd" if DEFENSES.name_of(aim) == "logit-guided" else "dae"
    made = DEFENSES.create(name, weights=str(path))
    if not isinstance(made, Wrapper):
        raise TypeError(f"{name} is no wrapper")
    latest = getattr(aim, "latest", 1.0)
    return replace(made, t=latest) if getattr(made, "t", 0.0) > latest else made  # type: ignore[type-var]


def _measured(aim: Denoising, net: Denoiser, wrapper: Wrapper, data: Data, device: torch.device) -> Restored:
    before, after, bare, behind = [], [], 0, 0
    pictures_shown = net.kind != "diffusion"
    with borrowed(net), torch.no_grad():
        for x, y in _batches(data, device):
            shown = aim.examples(net, x, y, _SEED)
            spoiled = aim.spoiled(shown, x)
            before.append(_psnr(spoiled, x))
            after.append(_psnr(aim.restored(net, shown, x).clamp(0, 1), x))
            if aim.guide is not None and pictures_shown:
                bare += int((aim.of_guide(spoiled).argmax(1) == y).sum())
                behind += int((aim.of_guide(wrapper(spoiled)).argmax(1) == y).sum())
    found = Restored(float(torch.cat(before).mean()), float(torch.cat(after).mean()))
    if aim.guide is None or bool((data.labels < 0).any()):
        return found
    found = replace(found, clean=accuracy(aim.guide, data), clean_behind=accuracy(defend(aim.guide, [wrapper]), data))
    count = len(data)
    return replace(found, spoiled=share(bare, count), spoiled_behind=share(behind, count)) if pictures_shown else found


def _batches(data: Data, device: torch.device) -> list[tuple[Tensor, Tensor]]:
    size = automatic_batch(data.pictures([0]).numel(), device)
    parts = torch.split(torch.arange(len(data)), size)
    return [(data.pictures(part.tolist()).to(device), data.labels[part].to(device)) for part in parts]


def _psnr(x: Tensor, reference: Tensor) -> Tensor:
    """Peak signal-to-noise ratio (B,) in dB, of pictures in [0, 1]."""
    error = F.mse_loss(x, reference, reduction="none").flatten(1).mean(1).clamp_min(1e-12)
    return -10 / math.log(10) * error.log()
