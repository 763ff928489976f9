"""The tables of certificates: certified accuracy over the radius, and what stands beside it."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from advkit.results.certificates import Certification, equivalents
from advkit.results.table import Table

__all__ = ["certificate_table", "long_certificate_table", "radius_text"]

_NORMS = {"l2": "L2", "l1": "L1", "linf": "Linf", "patch": "patch"}


def certificate_table(found: Certification, radii: Sequence[float]) -> Table:
    """Certified accuracy at each radius, with the balls of other norms that are inside."""
    others = list(equivalents(found.norm, 1, found.values))
    heads = (
        f"side of the {_NORMS[found.norm]}" if found.norm == "patch" else f"radius {_NORMS[found.norm]}",
        *(f"inside: {_NORMS[other]}" for other in others),
        "certified accuracy %",
        "examples",
    )
    rows = []
    for radius in radii:
        inside = equivalents(found.norm, radius, found.values)
        rows.append(
            (
                radius_text(radius, found.norm),
                *(radius_text(inside[other], other) for other in others),
                found.accuracy_at(radius).percent,
                str(int(found.certified_at(radius).sum())),
            )
        )
    return Table(heads, tuple(rows), "r" * len(heads), title=_title(found), caption=_caption(found))


def long_certificate_table(found: Sequence[tuple[Certification, Sequence[float]]]) -> Table:
    """One number per cell and what it is of in every row: for programs, and to be put below those of other runs."""
    heads = (
        "model", "weights", "defense", "data", "n", "by", "settings", "norm", "seed", "radius", "accuracy", "low", "high",
        "abstained", "average_radius", "forwards", "seconds",
    )  # fmt: skip
    rows = []
    for each, radii in found:
        of = (
            each.model,
            each.weights,
            each.defense,
            each.data,
            len(each),
            each.by,
            each.settings,
            each.norm,
            each.seed,
        )
        beside = ("", "") if each.asked else (each.abstained.value, each.average_radius)
        spent = (int(each.facts.forwards.sum()), each.facts.seconds)
        rows += [tuple(map(str, (*of, radius, *each.accuracy_at(radius), *beside, *spent))) for radius in radii]
    return Table(heads, tuple(rows), "l" * 9 + "r" * 8)


def radius_text(radius: float, norm: str) -> str:
    """As it is usually written: of Linf in 255ths, of a patch in pixels."""
    if norm == "patch":
        return f"{radius:g} px"
    if norm == "linf" and radius:
        levels = radius * 255
        near = Fraction(levels).limit_denominator(2)
        return f"{levels:.2f}/255" if abs(near - levels) > 1e-6 else f"{float(near):g}/255"
    return f"{radius:.4g}"


def _title(found: Certification) -> str:
    defended = "" if found.defense == "none" else f" with {found.defense}"
    part = "" if found.complete else f" of {found.samples}"
    return (
        f"{found.model} (weights {found.weights}){defended} on {found.data}, n = {len(found)}{part}, certified by "
        f"{found.settings}, seed {found.seed}"
    )


def _caption(found: Certification) -> str:
    said = "certified: the prediction is right and nothing within the radius changes it; with its 95 % Wilson interval."
    if found.asked:
        said += " Only these radii were asked for: draws ended once they were decided."
    else:
        said += (
            f" Abstained, which counts as wrong: {found.abstained.percent} %. Average certified radius "
            f"{found.average_radius:.4g}."
        )
    return f"{said} {int(found.facts.forwards.sum()):,} passes in {found.facts.seconds:.1f} s."
