"""Shadow: a triangle that is darker, as if something stood in the sun."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from advkit.attacks._parametric import Parametric
from advkit.attacks._renderer import Canvas, Renderer, centres, edge
from advkit.attacks._search import Moves, Optimiser
from advkit.catalog import ATTACKS
from advkit.core.regions import Shade, darkened, lightness
from advkit.core.threat import Ball

_OUTSIDE = 0.5  # of the side: corners of the triangle may lie so far outside
_SPEED = 1.5 / 64  # 1.5 of 32 pixels, of a range twice the side
_SOFT = 1.5  # pixels: what a Gaussian of 3x3 makes of an edge


@dataclass(frozen=True)
class Triangle(Renderer):
    """Darkens the inside of a triangle; with ``disc``, only within the largest circle of the picture."""

    disc: bool = False

    differentiable: ClassVar[bool] = True
    layers: ClassVar[int] = 1

    def moves(self, x: Tensor) -> Moves:
        """Three corners, one piece."""
        same = torch.full((6,), _SPEED, device=x.device)
        return Moves(same, torch.zeros_like(same, dtype=torch.bool), torch.zeros_like(same, dtype=torch.long))

    def canvas(self, x: Tensor, threat: Ball) -> Canvas:
        """The whole picture in the shadow: lightness times 1 - eps; a and b stay, as far as no value rises."""
        light = lightness(x) * (1 - threat.eps)
        if x.shape[1] != 3:
            return (threat.project(darkened(x, light), x),)
        from kornia.color import lab_to_rgb, rgb_to_lab

        lab = rgb_to_lab(x.double())
        shaded = lab_to_rgb(torch.cat([lab[:, :1] * (1 - threat.eps), lab[:, 1:]], 1))
        return (threat.project(torch.minimum(shaded.to(x.dtype), x), x),)

    def render(self, theta: Tensor, x: Tensor, canvas: Canvas, threat: Ball) -> Tensor:
        """Between the clean picture and the dark one."""
        dark = canvas[0][:, None]
        shown = torch.lerp(x[:, None], dark, self._weight(theta, x, _SOFT))
        # Between both, value by value: so no lightness is lower than that of the dark picture, whatever is rounded.
        return torch.minimum(torch.maximum(shown, dark), x[:, None])

    def soft(self, theta: Tensor, x: Tensor, canvas: Canvas, threat: Ball) -> Tensor:
        """The edge is an eighth of the picture wide."""
        return torch.lerp(x[:, None], canvas[0][:, None], self._weight(theta, x, x.shape[-1] / 8))

    def _weight(self, theta: Tensor, x: Tensor, softness: float) -> Tensor:
        """(B, P, 1, H, W), 1 in the shadow."""
        columns, rows = centres(x)
        corners = (1 + 2 * _OUTSIDE) * theta.reshape(*theta.shape[:2], 3, 2) - _OUTSIDE
        corner = corners * torch.tensor([x.shape[-1], x.shape[-2]], dtype=x.dtype, device=x.device)
        along = corner.roll(-1, 2) - corner
        length = along.square().sum(-1).clamp_min(1e-12).sqrt()
        turn = torch.sign(along[:, :, 0, 0] * along[:, :, 1, 1] - along[:, :, 0, 1] * along[:, :, 1, 0])
        normal = turn[..., None, None] * torch.stack([-along[..., 1], along[..., 0]], -1) / length[..., None]
        offset = (normal * corner).sum(-1)
        depth = normal[..., 0, None] * columns + normal[..., 1, None] * rows - offset[..., None]
        weight = edge(depth.amin(2), softness) * (turn != 0)[..., None]
        if self.disc:
            half = min(x.shape[-2:]) / 2
            far = ((columns - x.shape[-1] / 2).square() + (rows - x.shape[-2] / 2).square()).sqrt()
            weight = weight * edge(half - far, _SOFT)
        return weight.reshape(*theta.shape[:2], 1, *x.shape[2:])


@ATTACKS.register("shadow", paper="arXiv:2203.03818")
@dataclass(frozen=True)
class Shadow(Parametric):
    """A triangular shadow placed by a particle swarm (Zhong et al. 2022): L* in it is multiplied by k = 1 - eps.

    ``mask`` says where a shadow may fall: everywhere, or in the picture's largest circle (``disc``), as on a round sign.
    The paper tries five times (``restarts``).
    """

    threat: Ball = Shade(0.57)
    queries: int = 1000
    optimiser: Optimiser = "pso"
    mask: Literal["none", "disc"] = "none"

    balls: ClassVar[tuple[type[Ball], ...]] = (Shade,)

    @property
    def renderer(self) -> Renderer:
        """A triangle."""
        return Triangle(self.mask == "disc")
