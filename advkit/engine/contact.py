"""What the contact sheet of a sticker shows, computed: the sign, the sticker, and what a model reads in each view."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from advkit.core.modes import borrowed
from advkit.engine.design.score import as_printed
from advkit.engine.design.stage import OnSign, Seen, Stage
from advkit.engine.passes import Passes, batch_for
from advkit.engine.photo import verdict
from advkit.engine.precision import Precision
from advkit.results.drive import LOOKS, Read, Subject
from advkit.results.pictures import Frame
from advkit.scene.printing import Palette, PrintModel
from advkit.scene.sticker import Sticker

__all__ = ["contact_frames", "drive_frames", "some"]


def contact_frames(
    model: nn.Module,
    stage: Stage,
    sticker: Sticker,
    seen: Seen,
    label: int,
    target: int | None,
    classes: Sequence[str],
    *,
    print_model: PrintModel = "none",
    palette: Palette | None = None,
) -> list[Frame]:
    """Frames for ``contact_sheet``: the sign, the sticker and both; each look of ``seen`` without it and with it.

    Where a ``print_model`` with its ``palette`` is given, each look with it as printed follows.
    """
    n = len(stage.cover)
    own = sticker.sized(n, n).to(stage.under)
    mask, colours = (own[3] > 0.5).to(own), own[None, :3]
    sign = torch.cat([stage.under, stage.cover[None].to(stage.under)])
    titles = _titles(stage, seen)
    with borrowed(model), torch.no_grad():
        shown = {
            "without the sticker": stage.show(None, mask, "replace", seen),
            "with the sticker": stage.show(colours, mask, sticker.mode, seen),
        }
        if print_model != "none" and palette is not None:
            made = as_printed(stage, mask, colours, sticker, seen, print_model, palette)
            shown[f"with the sticker, printed ({print_model})"] = stage.show(made, mask, "replace", seen)
        passes = Passes(model, Precision.own(model), batch_for(model, next(iter(shown.values()))[0]))
        frames = [
            Frame(sign, "sign"),
            Frame(_alone(sticker), "sticker"),
            Frame(sticker.on(sign), "sticker on the sign"),
        ]
        for group, pictures in shown.items():
            confidence, prediction = torch.softmax(passes.judge(pictures).double(), 1).max(1)
            frames += [
                Frame(
                    picture,
                    title,
                    classes[number] if number < len(classes) else f"class {number}",
                    sure,
                    verdict(number, label, target),
                    group,
                )
                for picture, title, number, sure in zip(
                    pictures, titles, prediction.tolist(), confidence.tolist(), strict=True
                )
            ]
    return frames


def some(seen: Seen, count: int) -> Seen:
    """So many of the looks, evenly apart, the first and the last among them."""
    most = len(seen.place)
    return seen.take(torch.linspace(0, most - 1, min(count, most)).round().long())


def _alone(sticker: Sticker) -> Tensor:
    """A sticker that can be looked at: of colours that are added, grey is no change."""
    if sticker.mode == "replace":
        return sticker.rgba
    return torch.cat([(sticker.rgba[:3] / 2 + 0.5).clamp(0, 1), sticker.rgba[3:]])


def _titles(stage: Stage, seen: Seen) -> list[str]:
    if isinstance(stage, OnSign) and seen.view is not None:
        places = zip(seen.view.distance.tolist(), seen.view.yaw.tolist(), strict=True)
        return [f"{distance:.3g} m, {yaw:.0f}°" for distance, yaw in places]
    return [f"photo {number + 1}" for number in seen.place.tolist()]


def drive_frames(pictures: Sequence[Tensor], read: Read, subject: Subject, look: str, seconds: float) -> list[Frame]:
    """Frames for ``approach``: what the first drive's ``pictures`` show, from far to near, and what is read in them.

    ``seconds`` lie between two frames.
    """
    answers = read.answers[look][:, 0].tolist()
    return [
        Frame(
            picture,
            f"{distance:.1f} m, {number * seconds:.1f} s: {LOOKS[look]}",
            subject.class_name(answer),
            verdict=verdict(answer, subject.label, subject.target),
        )
        for number, (picture, distance, answer) in enumerate(zip(pictures, read.distances, answers, strict=True))
    ]
