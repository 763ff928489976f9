"""The signs themselves, flat and frontal: coloured layers on the square [0, 1] x [0, 1], in the manner of real ones."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from advkit.data._lettering import text
from advkit.data._shapes import Both, Disc, Grown, Join, Points, Polygon, Shape, Stroke, arc, bend, placed

__all__ = ["FACES", "face", "filled"]

RED, BLUE, YELLOW = (0.76, 0.09, 0.12), (0.05, 0.29, 0.62), (0.98, 0.76, 0.05)
BLACK, WHITE, GREY, GREEN = (0.07, 0.07, 0.08), (0.95, 0.95, 0.94), (0.55, 0.56, 0.57), (0.1, 0.6, 0.3)

Colour = tuple[float, float, float]
Layers = tuple[tuple[Shape, Colour], ...]

_ROUND = Disc(0.5, 0.5, 0.49)
_WARNING = Polygon(((0.5, 0.12), (0.93, 0.86), (0.07, 0.86)), 0.06)
_YIELD = Polygon(((0.5, 0.88), (0.93, 0.14), (0.07, 0.14)), 0.06)
_DIAMOND = Polygon(((0.5, 0.05), (0.95, 0.5), (0.5, 0.95), (0.05, 0.5)), 0.04)
_SQUARE = Polygon(((0.06, 0.06), (0.94, 0.06), (0.94, 0.94), (0.06, 0.94)), 0.05)


def _ring(*glyphs: tuple[Shape, Colour], ground: Colour = WHITE) -> Layers:
    return (_ROUND, RED), (Disc(0.5, 0.5, 0.385), ground), *glyphs


def _speed(limit: str) -> Layers:
    width, height, weight = (0.5, 0.4, 0.082) if len(limit) == 2 else (0.6, 0.36, 0.072)
    return _ring((text(limit, 0.5, 0.5, width, height, weight), BLACK))


def _blue(*glyphs: Shape) -> Layers:
    return (_ROUND, WHITE), (Disc(0.5, 0.5, 0.465), BLUE), (Join(glyphs), WHITE)


def _warning(*glyphs: tuple[Shape, Colour]) -> Layers:
    return (_WARNING, RED), (Grown(_WARNING, -0.095), WHITE), *glyphs


def _us_warning(outline: Polygon, *glyphs: Shape) -> Layers:
    return (outline, YELLOW), (Grown(outline, -0.025), BLACK), (Grown(outline, -0.05), YELLOW), (Join(glyphs), BLACK)


def _arrow(points: Points, width: float, head: float) -> Shape:
    """A bent shaft with a triangular head where it ends."""
    (ax, ay), (bx, by) = points[-2:]
    turn = float(np.degrees(np.arctan2(by - ay, bx - ax)))
    tip = ((head * 0.95, 0.0), (-head * 0.25, -head * 0.8), (-head * 0.25, head * 0.8))
    return Join((Stroke(points, width), Polygon(placed(tip, bx, by, 1.0, turn))))


def _walker(x: float, y: float, scale: float) -> Shape:
    """A person walking to the left; ``y`` is the middle, ``scale`` the height."""

    def limb(width: float, *points: tuple[float, float]) -> Stroke:
        return Stroke(placed(points, x, y, scale), width * scale)

    return Join(
        (
            Disc(x - 0.02 * scale, y - 0.4 * scale, 0.1 * scale),
            limb(0.2, (0.0, -0.18), (0.02, 0.06)),
            limb(0.12, (0.02, 0.06), (-0.1, 0.26), (-0.24, 0.44)),
            limb(0.12, (0.02, 0.06), (0.13, 0.25), (0.24, 0.44)),
            limb(0.08, (-0.04, -0.22), (-0.18, -0.06), (-0.28, -0.02)),
            limb(0.08, (0.05, -0.22), (0.19, -0.04), (0.27, 0.03)),
        )
    )


def _cyclist(x: float, y: float, s: float) -> tuple[tuple[Shape, Colour], ...]:
    """A rider heading left; wheels are rings."""

    def line(width: float, *points: tuple[float, float]) -> Stroke:
        return Stroke(placed(points, x, y, s), width * s)

    wheels = tuple(Stroke(placed(arc(cx, 0.28, 0.19, 0.19, 0, 360), x, y, s), 0.055 * s) for cx in (-0.3, 0.3))
    frame = (
        line(0.055, (-0.3, 0.28), (-0.2, -0.04), (0.08, -0.02), (0.02, 0.28), (0.3, 0.28), (0.08, -0.02)),
        line(0.055, (0.02, 0.28), (-0.19, 0.02)),
        line(0.055, (-0.2, -0.04), (-0.27, -0.1)),
    )
    rider = (
        Disc(x - 0.12 * s, y - 0.42 * s, 0.09 * s),
        line(0.13, (0.09, -0.1), (-0.03, -0.28)),
        line(0.07, (-0.05, -0.26), (-0.16, -0.14), (-0.27, -0.12)),
        line(0.09, (0.09, -0.08), (-0.08, 0.06), (0.0, 0.28)),
    )
    return ((Join((*wheels, *frame, *rider)), BLACK),)


def _car(x: float, y: float, scale: float) -> Shape:
    """A car from behind."""
    body = ((-0.5, -0.02), (0.5, -0.02), (0.5, 0.3), (-0.5, 0.3))
    roof = ((-0.4, -0.02), (-0.27, -0.33), (0.27, -0.33), (0.4, -0.02), (0.29, -0.02), (0.2, -0.22), (-0.2, -0.22))
    wheel = ((-0.09, 0.28), (0.09, 0.28), (0.09, 0.46), (-0.09, 0.46))
    return Join(
        (
            Polygon(placed(body, x, y, scale), 0.04 * scale),
            Polygon(placed((*roof, (-0.29, -0.02)), x, y, scale), 0.02 * scale),
            Polygon(placed(wheel, x - 0.36 * scale, y, scale)),
            Polygon(placed(wheel, x + 0.36 * scale, y, scale)),
        )
    )


def _lights(x: float, y: float, s: float) -> tuple[tuple[Shape, Colour], ...]:
    box = Polygon(placed(((-0.2, -0.5), (0.2, -0.5), (0.2, 0.5), (-0.2, 0.5)), x, y, s), 0.06 * s)
    colours = ((-0.33, (0.85, 0.08, 0.1)), (0.0, YELLOW), (0.33, GREEN))
    return (box, BLACK), *((Disc(x, y + dy * s, 0.15 * s), colour) for dy, colour in colours)


def _bar(*points: tuple[float, float], width: float, outline: Shape) -> Shape:
    """A band across the sign, cut off at its outline."""
    return Both(Stroke(points, width), outline)


_INNER = Disc(0.5, 0.5, 0.4)
_CURVE: Points = (*((0.56, 0.8), (0.56, 0.66)), *bend((0.56, 0.66), (0.56, 0.54), (0.47, 0.5)), (0.42, 0.475))
_LEFT_TURN: Points = ((0.62, 0.74), (0.62, 0.5), *bend((0.62, 0.5), (0.62, 0.42), (0.54, 0.42)), (0.36, 0.42))
_CROSSBUCK = (((0.2, 0.2), (0.8, 0.8)), ((0.8, 0.2), (0.2, 0.8)))


def _mirrored(points: Points) -> Points:
    return tuple((1 - x, y) for x, y in points)


_OCTAGON = Polygon(placed(arc(0, 0, 0.47, 0.47, 22.5, 337.5)[::3], 0.5, 0.5), 0.02)
_SCHOOL = Polygon(((0.5, 0.06), (0.92, 0.4), (0.92, 0.94), (0.08, 0.94), (0.08, 0.4)), 0.03)
_PLATE = Polygon(((0.16, 0.04), (0.84, 0.04), (0.84, 0.96), (0.16, 0.96)), 0.03)
_ONE_WAY = Polygon(((0.03, 0.27), (0.97, 0.27), (0.97, 0.73), (0.03, 0.73)), 0.02)
_ONE_WAY_ARROW = Polygon(
    ((0.08, 0.38), (0.7, 0.38), (0.7, 0.3), (0.92, 0.5), (0.7, 0.7), (0.7, 0.62), (0.08, 0.62)), 0.005
)

_DIAGONAL = (0.5**0.5, 0.5**0.5)  # across a diamond's flats

FACES: dict[str, Layers] = {
    "stop": (
        (_OCTAGON, WHITE),
        (Grown(_OCTAGON, -0.03), RED),
        (text("STOP", 0.5, 0.5, 0.76, 0.34, 0.062), WHITE),
    ),
    "yield": ((_YIELD, RED), (Grown(_YIELD, -0.11), WHITE)),
    "no entry": ((_ROUND, RED), (Polygon(((0.16, 0.43), (0.84, 0.43), (0.84, 0.57), (0.16, 0.57)), 0.015), WHITE)),
    "no vehicles": _ring(),
    **{f"speed limit {limit}": _speed(limit) for limit in ("30", "50", "60", "70", "80", "100", "120")},
    "end of limits": (
        (_ROUND, GREY),
        (Disc(0.5, 0.5, 0.465), WHITE),
        (
            Join(
                tuple(
                    _bar((0.1 + d, 0.9 + d), (0.9 + d, 0.1 + d), width=0.035, outline=Disc(0.5, 0.5, 0.45))
                    for d in (-0.13, -0.065, 0.0, 0.065, 0.13)
                )
            ),
            BLACK,
        ),
    ),
    "no overtaking": _ring((_car(0.325, 0.5, 0.32), RED), (_car(0.675, 0.5, 0.32), BLACK)),
    "no parking": _ring((_bar((0.2, 0.2), (0.8, 0.8), width=0.1, outline=_INNER), RED), ground=BLUE),
    "no stopping": _ring(
        (_bar((0.2, 0.2), (0.8, 0.8), width=0.1, outline=_INNER), RED),
        (_bar((0.8, 0.2), (0.2, 0.8), width=0.1, outline=_INNER), RED),
        ground=BLUE,
    ),
    "priority road": (
        (_DIAMOND, BLACK),
        (Grown(_DIAMOND, -0.018), WHITE),
        (Grown(_DIAMOND, -0.13), BLACK),
        (Grown(_DIAMOND, -0.145), YELLOW),
    ),
    "turn left ahead": _blue(_arrow(_LEFT_TURN, 0.12, 0.19)),
    "turn right ahead": _blue(_arrow(_mirrored(_LEFT_TURN), 0.12, 0.19)),
    "ahead only": _blue(_arrow(((0.5, 0.8), (0.5, 0.34)), 0.12, 0.2)),
    "keep right": _blue(_arrow(((0.3, 0.3), (0.62, 0.62)), 0.12, 0.2)),
    "roundabout": _blue(
        *(_arrow(placed(arc(0, 0, 0.25, 0.25, turn, turn + 68), 0.5, 0.5), 0.075, 0.14) for turn in (20, 140, 260))
    ),
    "pedestrian crossing": (
        (_SQUARE, WHITE),
        (Grown(_SQUARE, -0.025), BLUE),
        (Polygon(((0.5, 0.14), (0.87, 0.82), (0.13, 0.82))), WHITE),
        (_walker(0.5, 0.575, 0.46), BLACK),
    ),
    "caution": _warning(
        (Polygon(((0.455, 0.36), (0.545, 0.36), (0.52, 0.6), (0.48, 0.6)), 0.012), BLACK),
        (Disc(0.5, 0.7, 0.05), BLACK),
    ),
    "curve left": _warning((_arrow(_CURVE, 0.085, 0.13), BLACK)),
    "curve right": _warning((_arrow(_mirrored(_CURVE), 0.085, 0.13), BLACK)),
    "bumpy road": _warning(
        (
            Both(
                Join(
                    (
                        Polygon(((0.25, 0.69), (0.75, 0.69), (0.75, 0.75), (0.25, 0.75))),
                        Disc(0.39, 0.69, 0.1),
                        Disc(0.61, 0.69, 0.1),
                    )
                ),
                Polygon(((0.2, 0.3), (0.8, 0.3), (0.8, 0.75), (0.2, 0.75))),
            ),
            BLACK,
        )
    ),
    "traffic lights": _warning(*_lights(0.5, 0.58, 0.38)),
    "cyclists": _warning(*_cyclist(0.5, 0.62, 0.46)),
    "crossroads": _warning(
        (Join((Stroke(((0.37, 0.44), (0.63, 0.74)), 0.085), Stroke(((0.63, 0.44), (0.37, 0.74)), 0.085))), BLACK)
    ),
    "us pedestrians": _us_warning(_DIAMOND, _walker(0.5, 0.5, 0.62)),
    "us school": _us_warning(_SCHOOL, _walker(0.34, 0.6, 0.5), _walker(0.66, 0.62, 0.44)),
    "us merge": _us_warning(
        _DIAMOND,
        _arrow(((0.45, 0.8), (0.45, 0.34)), 0.09, 0.15),
        Stroke((*bend((0.68, 0.74), (0.64, 0.58), (0.47, 0.52)),), 0.08),
    ),
    "us railroad crossing": (
        (_ROUND, BLACK),
        (Disc(0.5, 0.5, 0.46), YELLOW),
        *((_bar(*line, width=0.11, outline=Disc(0.5, 0.5, 0.455)), BLACK) for line in _CROSSBUCK),
        (text("R", 0.24, 0.5, 0.17, 0.25, 0.055), BLACK),
        (text("R", 0.76, 0.5, 0.17, 0.25, 0.055), BLACK),
    ),
    "us speed limit 35": (
        (_PLATE, WHITE),
        (Grown(_PLATE, -0.025), BLACK),
        (Grown(_PLATE, -0.05), WHITE),
        (text("SPEED", 0.5, 0.18, 0.5, 0.13, 0.03), BLACK),
        (text("LIMIT", 0.5, 0.35, 0.5, 0.13, 0.03), BLACK),
        (text("35", 0.5, 0.67, 0.52, 0.42, 0.085), BLACK),
    ),
    "us one way": ((_ONE_WAY, BLACK), (_ONE_WAY_ARROW, WHITE), (text("ONE WAY", 0.43, 0.5, 0.58, 0.14, 0.03), BLACK)),
}


def filled(name: str) -> float:
    """The width of the sign ``name`` as a share of the side of its square.

    As traffic rules state it: across the flats of an octagon or a diamond, the diameter of a disc, the side of a triangle, and
    of what stands upright the width.
    """
    outline = FACES[name][0][0]
    if isinstance(outline, Disc):
        return 2 * outline.radius
    if not isinstance(outline, Polygon):
        raise TypeError(f"the outline of {name} is no disc and no polygon")
    across = _DIAGONAL if outline is _DIAMOND else (1.0, 0.0)
    along = [x * across[0] + y * across[1] for x, y in outline.points]
    return max(along) - min(along) + 2 * outline.rounding


@lru_cache(maxsize=256)
def face(name: str, size: int) -> NDArray[np.float32]:
    """The sign ``name``, flat, (size, size, 4): linear light (sRGB squared) times coverage, and coverage."""
    centres = (np.arange(size) + 0.5) / size
    x, y = centres[None, :], centres[:, None]
    picture = np.zeros((size, size, 4))
    for shape, colour in FACES[name]:
        cover = np.clip(0.5 - shape.distance(x, y) * size, 0.0, 1.0)[..., None]
        ink = np.array([*(value * value for value in colour), 1.0])
        picture = picture * (1 - cover) + ink * cover
    return picture.astype(np.float32)
