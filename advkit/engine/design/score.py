"""How often a sticker succeeds, digital and printed, where the clean view is read right (Eykholt et al. 2018, eq. 4)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from advkit.core.modes import borrowed
from advkit.core.rng import Rng
from advkit.engine.design.optimise import passes_of
from advkit.engine.design.stage import Seen, Stage
from advkit.engine.passes import Passes, device_of
from advkit.results.sticker import Score
from advkit.scene.printing import Palette, PrintModel, printed
from advkit.scene.sticker import Sticker

__all__ = ["as_printed", "score"]

_AT_ONCE = 64
_GREY = 0.5


def score(
    model: nn.Module,
    stage: Stage,
    sticker: Sticker,
    seen: Seen,
    label: int,
    target: int | None,
    *,
    title: str,
    print_model: PrintModel,
    palette: Palette,
) -> Score:
    """Look at a sticker in all the ways ``seen``; verdicts are of the caller's own model, which stays as it was.

    Each look is at a print of its own; the clean picture and those with the sticker share view and noise.
    """
    device = device_of(model)
    stage, seen, n = stage.to(device), seen.to(device), len(stage.cover)
    own = sticker.sized(n, n).to(stage.under)
    mask, colours = (own[3] > 0.5).to(own), own[None, :3]
    answers: list[Tensor] = []
    with borrowed(model), torch.no_grad():
        first = stage.show(None, mask, "replace", seen.take(slice(0, 1)))
        labels = torch.tensor([label] if target is None else [label, target])
        passes = passes_of(model, first[0], labels)
        for begin in range(0, len(seen.place), _AT_ONCE):
            part = seen.take(slice(begin, begin + _AT_ONCE))
            answers.append(_answers(passes, stage, mask, colours, sticker, part, print_model, palette))
    clean, digital, made, grey = torch.cat(answers, 1)
    right = clean == label

    def count(predictions: Tensor) -> int:
        reached = predictions != label if target is None else predictions == target
        return int((reached & right).sum())

    mistaken = made[right & (made != label)]
    return Score(
        title=title,
        seen=len(clean),
        right=int(right.sum()),
        digital=count(digital),
        printed=count(made),
        wrong=len(mistaken),
        grey=count(grey),
        commonest=int(mistaken.mode().values) if len(mistaken) else None,
    )


def as_printed(
    stage: Stage,
    mask: Tensor,
    colours: Tensor,
    sticker: Sticker,
    seen: Seen,
    print_model: PrintModel,
    palette: Palette,
) -> Tensor:
    """Colours (1 or V, 3, n, n) that come out of the printer, to replace what is there; each look has a print of its own."""
    # Of colours that are added the sum is printed: nothing can be added to a sign that stands there.
    sheet = (stage.under + colours).clamp(0, 1) if sticker.mode == "add" else colours
    if print_model == "gamut":
        sheet = sheet.expand(len(seen.place), -1, -1, -1)
    return printed(sheet, mask, print_model, palette, Rng(seen.keys))


def _answers(
    passes: Passes,
    stage: Stage,
    mask: Tensor,
    colours: Tensor,
    sticker: Sticker,
    seen: Seen,
    print_model: PrintModel,
    palette: Palette,
) -> Tensor:
    """Predictions (4, V): clean, digital, printed, and in grey."""
    made = as_printed(stage, mask, colours, sticker, seen, print_model, palette)
    grey = torch.full_like(colours, _GREY)
    shown = (
        stage.show(None, mask, "replace", seen),
        stage.show(colours, mask, sticker.mode, seen),
        stage.show(made, mask, "replace", seen),
        stage.show(grey, mask, "replace", seen),
    )
    return torch.stack([passes.judge(pictures).argmax(1) for pictures in shown])
