"""Digits and letters of the signs, as strokes of our own: no font is needed, so a sign looks the same everywhere."""

from __future__ import annotations

from advkit.data._shapes import Join, Points, Stroke, arc, bend

__all__ = ["text"]

# Middle lines in a box of height 1 whose top left corner is the origin.
_SIX: tuple[Points, ...] = (
    arc(0.28, 0.69, 0.28, 0.31, 0, 360),
    bend((0.0, 0.69), (0.0, 0.14), (0.46, 0.0)),
)
_GLYPHS: dict[str, tuple[Points, ...]] = {
    "0": (arc(0.28, 0.28, 0.28, 0.28, 180, 360) + arc(0.28, 0.72, 0.28, 0.28, 0, 180) + ((0.0, 0.28),),),
    "1": (((0.0, 0.2), (0.24, 0.0), (0.24, 1.0)),),
    "2": ((*arc(0.28, 0.28, 0.28, 0.28, 190, 395), (0.0, 1.0), (0.56, 1.0)),),
    "3": (arc(0.26, 0.25, 0.26, 0.25, 200, 450), arc(0.26, 0.74, 0.3, 0.26, 270, 520)),
    "4": (((0.42, 1.0), (0.42, 0.0), (0.0, 0.7), (0.58, 0.7)),),
    "5": (((0.52, 0.0), (0.08, 0.0), (0.04, 0.47)), arc(0.26, 0.68, 0.3, 0.32, 222, 515)),
    "6": _SIX,
    "7": (((0.0, 0.0), (0.56, 0.0), (0.18, 1.0)),),
    "8": (arc(0.28, 0.24, 0.24, 0.24, 0, 360), arc(0.28, 0.73, 0.28, 0.27, 0, 360)),
    "9": tuple(tuple((0.56 - x, 1.0 - y) for x, y in line) for line in _SIX),
    "A": (((0.0, 1.0), (0.3, 0.0), (0.6, 1.0)), ((0.1, 0.66), (0.5, 0.66))),
    "D": (((0.0, 1.0), (0.0, 0.0), *arc(0.2, 0.5, 0.32, 0.5, 270, 450), (0.0, 1.0)),),
    "E": (((0.46, 0.0), (0.0, 0.0), (0.0, 1.0), (0.46, 1.0)), ((0.0, 0.49), (0.38, 0.49))),
    "I": (((0.0, 0.0), (0.0, 1.0)),),
    "L": (((0.0, 0.0), (0.0, 1.0), (0.46, 1.0)),),
    "M": (((0.0, 1.0), (0.0, 0.0), (0.34, 0.8), (0.68, 0.0), (0.68, 1.0)),),
    "N": (((0.0, 1.0), (0.0, 0.0), (0.54, 1.0), (0.54, 0.0)),),
    "O": (arc(0.28, 0.3, 0.28, 0.3, 180, 360) + arc(0.28, 0.7, 0.28, 0.3, 0, 180) + ((0.0, 0.3),),),
    "P": (((0.0, 1.0), (0.0, 0.0), *arc(0.24, 0.28, 0.28, 0.28, 270, 450), (0.0, 0.56)),),
    "R": (
        ((0.0, 1.0), (0.0, 0.0), *arc(0.24, 0.27, 0.28, 0.27, 270, 450), (0.0, 0.54)),
        ((0.26, 0.54), (0.54, 1.0)),
    ),
    "S": (arc(0.26, 0.26, 0.26, 0.26, 335, 90) + arc(0.26, 0.76, 0.27, 0.24, 270, 515),),
    "T": (((0.0, 0.0), (0.56, 0.0)), ((0.28, 0.0), (0.28, 1.0))),
    "W": (((0.0, 0.0), (0.2, 1.0), (0.4, 0.2), (0.6, 1.0), (0.8, 0.0)),),
    "Y": (((0.0, 0.0), (0.28, 0.46), (0.56, 0.0)), ((0.28, 0.46), (0.28, 1.0))),
}
_SPACE = 0.4


def text(words: str, x: float, y: float, width: float, height: float, weight: float) -> Join:
    """``words`` centred on (x, y), as wide and as high as given, in strokes of width ``weight``."""
    line_height, line_width = height - weight, width - weight
    gap = 2.0 * weight / line_height
    spans = [_span(letter) for letter in words]
    stretch = line_width / (line_height * (sum(spans) + gap * (len(words) - 1)))
    left, top = x - line_width / 2, y - line_height / 2
    strokes = []
    for letter, span in zip(words, spans, strict=True):
        for line in _GLYPHS.get(letter, ()):
            points = tuple((left + px * stretch * line_height, top + py * line_height) for px, py in line)
            strokes.append(Stroke(points, weight))
        left += (span + gap) * stretch * line_height
    return Join(tuple(strokes))


def _span(letter: str) -> float:
    return max((x for line in _GLYPHS[letter] for x, _ in line), default=_SPACE) if letter in _GLYPHS else _SPACE
