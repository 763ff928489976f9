"""One physical sticker by Robust Physical Perturbations (Eykholt et al. 2018, arXiv:1707.08945)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from advkit.core.goal import Goal, Targeted, Untargeted
from advkit.core.losses import CrossEntropy
from advkit.core.modes import borrowed
from advkit.core.rng import Rng
from advkit.engine.design.masks import salient
from advkit.engine.design.stage import Mode, Seen, Stage
from advkit.engine.passes import Passes, batch_for, device_of
from advkit.engine.precision import Precision
from advkit.errors import InputError, UnknownName
from advkit.registry import Checked
from advkit.scene.cells import Cells, Free, FromPalette, Paint, annealed
from advkit.scene.printing import Palette, PrintModel, nps, printed, total_variation

__all__ = ["COLOURS", "PRESETS", "Found", "Recipe", "auto_mask", "optimise", "passes_of"]

COLOURS = ("palette", "free", "black-white")
_CHECKS = 8  # times that the settled sticker is looked at on the way
_CHECK_VIEWS = 48
_NORM_RASTER = 32  # pixels along the side in which lam is given: that of the authors' photographs
_AUTO_STEPS = 100
_AUTO_L1 = 0.01
_TINY = 1e-12


@dataclass(frozen=True)
class Recipe(Checked):
    """How a sticker is searched: settings of RP2's objective, its colours and its printer.

    Minimised is the mean over ``views`` ways to look of the cross-entropy towards the target (or its negative, away from the
    class), plus ``lam`` times the norm of the change (of a raster of 32 pixels), plus ``nps_weight`` times the
    non-printability score, plus ``tv_weight`` times the total variation. ``palette`` colours are the likeliest of a softmax
    over the palette per cell, whose temperature falls from 1 to 0.3. None takes what suits the colours.
    """

    colours: Literal["palette", "free", "black-white"] = "palette"
    palette: Palette = field(default_factory=lambda: Palette.of("ink"))
    print_model: PrintModel = "snap"
    steps: int = 400
    views: int = 16
    lr: float = 0.1
    lam: float = 0.02
    norm: Literal["l2", "l1"] = "l2"
    nps_weight: float | None = None
    nps_form: Literal["min", "product"] = "min"
    tv_weight: float | None = None
    cell_mm: float = 30.0
    mode: Mode = "replace"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.colours not in COLOURS:
            raise UnknownName("choice of colours", self.colours, COLOURS)
        for name, least in (("steps", 1), ("views", 1)):
            if getattr(self, name) < least:
                raise InputError(f"{name} is {getattr(self, name)}; give {least} or more.")
        for name in ("lam", "nps_weight", "tv_weight", "cell_mm"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise InputError(f"{name} is {value}; give 0 or more.")
        if not self.lr > 0:
            raise InputError(f"lr is {self.lr}; give a learning rate above 0.")
        if self.norm not in ("l2", "l1"):
            raise UnknownName("norm", self.norm, ("l2", "l1"))
        if self.mode == "add" and (self.colours != "free" or self.print_model != "none"):
            raise InputError(
                "colours that are added to the sign's are free and cannot be printed: colours free, print none."
            )

    def paint(self, size: int, square_mm: float) -> Paint:
        """What the colours are made of on a raster of ``size`` pixels, which are spread over a square of this width."""
        cells = Cells.at_least(self.cell_mm, square_mm, size)
        if self.colours == "free":
            return Free(cells, "none" if self.mode == "add" else "sigmoid")
        return FromPalette(cells, self.palette if self.colours == "palette" else Palette.of("black-white"))

    @property
    def weights(self) -> tuple[float, float]:
        """Of the non-printability score and of the total variation: 5 and 0.1 for free colours, 0 for a palette."""
        usual = (5.0, 0.1) if self.colours == "free" else (0.0, 0.0)
        nps_weight = usual[0] if self.nps_weight is None else self.nps_weight
        return nps_weight, usual[1] if self.tv_weight is None else self.tv_weight

    @property
    def in_the_loop(self) -> PrintModel:
        """The print model of the search: colours of the palette itself need not be snapped to it."""
        return "none" if self.print_model == "snap" and self.colours != "free" else self.print_model


PRESETS: dict[str, Recipe] = {
    # the paper's equation 3: replaced, L2, NPS (in its min form: the product form has no gradient), no print model
    "rp2-paper": Recipe("free", print_model="none", steps=300, tv_weight=0.0, cell_mm=0.0),
    # the authors' code: added to the sign and cut, NPS off in every released run
    "rp2-code": Recipe("free", print_model="none", steps=300, nps_weight=0.0, tv_weight=0.0, cell_mm=0.0, mode="add"),
}


class Found(NamedTuple):
    """The best colours (3, n, n) seen on the way, after how many steps, and whether the search was stopped by hand."""

    colours: Tensor
    steps: int
    interrupted: bool


def passes_of(model: nn.Module, picture: Tensor, labels: Tensor) -> Passes:
    """Passes of a borrowed model in its own precision, for pictures like (C, H, W)."""
    return Passes(model, Precision.own(model), batch_for(model, picture), labels=labels)


def optimise(
    model: nn.Module,
    stage: Stage,
    mask: Tensor,
    label: int,
    target: int | None,
    recipe: Recipe,
    *,
    sign_mm: float = 750.0,
    progress: Callable[[int, int], None] | None = None,
) -> Found:
    """Search one sticker in ``mask`` (n, n) for all that ``stage`` shows. The model is borrowed: it stays as it was.

    An interruption (Ctrl-C) ends the search with what was found so far.
    """
    if target == label:
        raise InputError("the target is the sign's own class; choose another one.")
    goal: Goal = Untargeted(torch.tensor([label])) if target is None else Targeted(torch.tensor([target]))
    device = device_of(model)
    stage, mask = stage.to(device), mask.to(device)
    with borrowed(model):
        passes = passes_of(model, stage.show(None, mask, "replace", _first(stage))[0], _labels(label, target))
        return _Search(passes, stage, mask, goal.to(mask.device), recipe, sign_mm).go(progress)


def _first(stage: Stage) -> Seen:
    return stage.draw(Rng.of(0, torch.zeros(1, dtype=torch.long)), 1).take(slice(0, 1))


def _labels(label: int, target: int | None) -> Tensor:
    return torch.tensor([label] if target is None else [label, target])


class _Search:
    """The loop: draw ways to look, ask, step; now and then look at the sticker as it would be."""

    def __init__(self, passes: Passes, stage: Stage, mask: Tensor, goal: Goal, recipe: Recipe, sign_mm: float) -> None:
        self.passes, self.stage, self.mask, self.goal, self.recipe = passes, stage, mask, goal, recipe
        self.streams = Rng.of(recipe.seed, torch.zeros(1, dtype=torch.long, device=mask.device)).fold("sticker")
        self.paint = recipe.paint(len(mask), sign_mm / stage.filled)
        self.check = stage.draw(self.streams.fold("check"), _CHECK_VIEWS)
        self.best: Tensor | None = None
        self.best_rank = (-1.0, -float("inf"))

    def go(self, progress: Callable[[int, int], None] | None) -> Found:
        theta = self.paint.start(self.streams).to(self.mask).requires_grad_()
        adam = torch.optim.Adam([theta], lr=self.recipe.lr)
        steps, done, interrupted = self.recipe.steps, 0, False
        try:
            for step in range(steps):
                theta.grad = self.gradient(theta, annealed(step / max(1, steps - 1)), self.streams.fold(step))
                adam.step()
                done = step + 1
                if done % max(1, steps // _CHECKS) == 0 or done == steps:
                    self.look(theta)
                if progress is not None:
                    progress(done, steps)
        except KeyboardInterrupt:
            interrupted = True
            self.look(theta)
        colours = self.paint.settled(theta) if self.best is None else self.best
        return Found(colours.cpu(), done, interrupted)

    def gradient(self, theta: Tensor, temperature: float, rng: Rng) -> Tensor:
        """Of the objective: the expectation by the engine's passes, the rest here."""
        colours = self.paint.colours(theta, temperature)[None]
        made = printed(colours, self.mask, self.recipe.in_the_loop, self.recipe.palette, rng)
        seen = self.stage.draw(rng, self.recipe.views)
        at = self.passes.gradient(
            made.detach(),
            self.goal,
            CrossEntropy(),
            lambda points, _: self.stage.show(points, self.mask, self.recipe.mode, seen),
            views=len(seen.place),
        )
        # ascended: the model's loss; descended: what is asked of the sticker itself
        (grad,) = torch.autograd.grad(
            (self._demands(colours), made), theta, (self.mask.new_ones(()), -at.grad), allow_unused=True
        )
        return grad

    def _demands(self, colours: Tensor) -> Tensor:
        nps_weight, tv_weight = self.recipe.weights
        change = colours if self.recipe.mode == "add" else colours - self.stage.under
        inside = change[:, :, self.mask > 0]
        scale = _NORM_RASTER / len(self.mask)
        # inside the root a trifle: its slope at no change is infinite
        l2 = (inside.square().sum() + _TINY).sqrt() * scale
        total = self.recipe.lam * (l2 if self.recipe.norm == "l2" else inside.abs().sum() * scale**2)
        if nps_weight:
            total = total + nps_weight * nps(colours, self.recipe.palette, self.mask, self.recipe.nps_form).sum()
        if tv_weight:
            total = total + tv_weight * total_variation(colours, self.mask).sum()
        return total

    @torch.no_grad()
    def look(self, theta: Tensor) -> None:
        """Keep the settled colours where they do better than any before, as printed."""
        colours = self.paint.settled(theta)
        made = printed(colours[None], self.mask, self.recipe.in_the_loop, self.recipe.palette, self.streams)
        logits = self.passes.judge(self.stage.show(made, self.mask, self.recipe.mode, self.check))
        goal = self.goal.take(torch.zeros_like(self.check.place))
        rank = (float(goal.reached(logits).float().mean()), float(CrossEntropy()(logits, goal).mean()))
        if rank > self.best_rank:
            self.best, self.best_rank = colours, rank


def auto_mask(
    model: nn.Module,
    stage: Stage,
    label: int,
    target: int | None,
    recipe: Recipe,
    area: float,
    *,
    pieces: int = 3,
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Where a sparse change (L1) of the whole sign concentrates: RP2's first phase, with rectangles placed by the machine.

    Raises KeyboardInterrupt where it is interrupted.
    """
    if not 0 < area <= 1:
        raise InputError(f"area is {100 * area:g} %; give a share of the sign above 0 and up to 100 %.")
    whole = (stage.cover > 0.5).to(stage.cover)
    sparse = replace(
        recipe, colours="free", print_model="none", norm="l1", lam=_AUTO_L1, steps=_AUTO_STEPS, nps_weight=0.0,
        tv_weight=0.0, lr=0.1, cell_mm=0.0, mode="add",
    )  # fmt: skip
    found = optimise(model, stage, whole, label, target, sparse, progress=progress)
    if found.interrupted:  # a mask of half a search is none, and there is nothing yet to keep
        raise KeyboardInterrupt
    change = ((stage.under + found.colours).clamp(0, 1) - stage.under).abs().amax(0) * whole
    width = max(1, len(change) // 16) | 1
    return salient(F.avg_pool2d(change[None, None], width, 1, width // 2)[0, 0], stage.cover, area, pieces)
