"""What is derived from certificates: certified accuracy, curves, tables and figures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from advkit.errors import InputError
from advkit.results.certificate_table import certificate_table, long_certificate_table, radius_text
from advkit.results.certificates import Certificates, Certification, equivalents
from advkit.results.figures.certified import certified, draw_certified
from advkit.results.statistics import share
from advkit.results.table import RENDERERS


def facts(radius: list[float], prediction: list[int] | None = None, label: list[int] | None = None) -> Certificates:
    n = len(radius)
    of = (np.zeros(n, int) if given is None else np.asarray(given) for given in (label, prediction))
    return Certificates(np.arange(n), *of, np.asarray(radius, float), np.full(n, 110), 2.0)


def certification(found: Certificates, **changed: object) -> Certification:
    made = Certification(
        model="net", weights="w", defense="none", data="signs", by="smoothing", settings="Smoothing(sigma=0.25, n=100)",
        norm="l2", seed=0, values=3072, facts=found, samples=len(found),
    )  # fmt: skip
    return replace(made, **changed)  # type: ignore[arg-type]


MIXED = certification(facts([0.5, 0.2, 0.0, 0.5, 0.3], prediction=[0, 0, -1, 1, 0]))


def test_certified_is_right_and_at_least_that_far() -> None:
    assert MIXED.certified_at(0).tolist() == [True, True, False, False, True]
    assert MIXED.certified_at(0.3).tolist() == [True, False, False, False, True]
    assert MIXED.accuracy_at(0.3) == share(2, 5)
    assert MIXED.accuracy_at(0.5000001).value == 0
    assert MIXED.average_radius == pytest.approx((0.5 + 0.2 + 0.3) / 5)
    assert MIXED.abstained == share(1, 5)


def test_a_radius_may_be_a_text_and_what_is_none_is_refused() -> None:
    assert MIXED.accuracy_at("3/10") == share(2, 5)
    for radius in (None, "abc", -1, float("nan"), []):
        with pytest.raises(InputError, match="eps is"):
            MIXED.certified_at(radius)  # type: ignore[arg-type]


def test_to_abstain_is_to_be_wrong_even_of_what_has_no_label() -> None:
    found = certification(facts([0.0, 0.3], prediction=[-1, 0], label=[-1, 0]))
    assert found.correct.tolist() == [False, True]


def test_the_curve_falls_at_each_radius_that_was_certified() -> None:
    radii, reached = MIXED.steps()
    assert radii.tolist() == [0, 0.2, 0.3, 0.5]
    assert reached.tolist() == [3, 3, 2, 1]
    assert [int(MIXED.certified_at(float(radius)).sum()) for radius in radii] == reached.tolist()


def test_a_ball_inside_touches_the_ball_around_it() -> None:
    rng = np.random.default_rng(0)
    size, lengths = 12, {"l1": 1, "l2": 2, "linf": np.inf}
    for norm in lengths:
        for other, radius in equivalents(norm, 0.7, size).items():
            corners = [np.eye(size)[0], np.ones(size), *rng.standard_normal((200, size))]
            scaled = [radius * corner / np.linalg.norm(corner, lengths[other]) for corner in corners]
            assert max(np.linalg.norm(point, lengths[norm]) for point in scaled) == pytest.approx(0.7)
    assert equivalents("l2", 0.5, 3072) == {"l1": 0.5, "linf": pytest.approx(0.5 / 3072**0.5)}
    assert equivalents("patch", 3, 3072) == {}


@pytest.mark.parametrize("largest", [0.0, 1e-4, 0.06, 0.25, 0.9, 1.0, 3.8, 40.0])
@pytest.mark.parametrize("norm", ["l2", "linf", "patch"])
def test_usual_radii_begin_at_0_are_few_and_round(largest: float, norm: str) -> None:
    largest = min(largest, 1.0) if norm == "linf" else round(largest) if norm == "patch" else largest
    radii = certification(facts([largest, 0.0]), norm=norm).usual_radii()
    assert radii[0] == 0
    assert list(radii) == sorted(set(radii))
    assert radii[-1] <= largest * (1 + 1e-9)
    assert len(radii) <= (largest + 1 if norm == "patch" else 12)
    if norm != "patch" and largest:
        assert radii[-1] > 0.8 * largest or len(radii) > 4
    assert certification(facts([8.3 / 255]), norm="linf").usual_radii() == tuple(level / 255 for level in range(9))


def test_parts_are_joined_each_example_once_in_order() -> None:
    one, two = facts([0.1, 0.2, 0.3]), facts([0.4, 0.5])
    later = replace(two, index=np.array([2, 5]))
    joined = Certificates.joined([later, one])
    assert joined.index.tolist() == [0, 1, 2, 5]
    assert joined.seconds == 4.0
    assert len(Certificates.joined([])) == 0


@pytest.mark.parametrize(
    ("radius", "norm", "text"),
    [
        (0.25, "l2", "0.25"),
        (0, "linf", "0"),
        (8 / 255, "linf", "8/255"),
        (0.5 / 255, "linf", "0.5/255"),
        (0.0123, "linf", "3.14/255"),
        (5, "patch", "5 px"),
    ],
)
def test_radii_are_written_as_usual(radius: float, norm: str, text: str) -> None:
    assert radius_text(radius, norm) == text


def test_the_table_says_what_it_is_of() -> None:
    table = certificate_table(MIXED, (0, 0.3))
    assert [row[0] for row in table.rows] == ["0", "0.3"]
    assert table.rows[1][3:] == (share(2, 5).percent, "2")
    for fact in ("net", "signs", "n = 5", "sigma=0.25", "seed 0"):
        assert fact in table.title
    assert share(1, 5).percent in table.caption
    assert all(RENDERERS[form](table) for form in RENDERERS)
    asked = certificate_table(replace(MIXED, asked=(0.3,), samples=9, defense="jpeg:75"), (0.3,))
    assert "Only these radii" in asked.caption
    assert "verage" not in asked.caption
    assert "n = 5 of 9" in asked.title
    assert "with jpeg:75" in asked.title


def test_the_long_table_has_one_number_per_cell() -> None:
    table = long_certificate_table([(MIXED, (0, 0.3)), (replace(MIXED, asked=(0.3,)), (0.3,))])
    rows = [dict(zip(table.heads, row, strict=True)) for row in table.rows]
    assert [float(row["radius"]) for row in rows] == [0, 0.3, 0.3]
    assert [float(row["accuracy"]) for row in rows] == [0.6, 0.4, 0.4]
    assert rows[0]["abstained"] == "0.2"
    assert rows[2]["abstained"] == rows[2]["average_radius"] == ""
    assert {len(row) for row in table.rows} == {len(table.heads)}


def test_the_curve_in_the_figure_is_certified_accuracy() -> None:
    axes = certified([MIXED]).axes[0]
    x, y = axes.lines[0].get_xdata(), axes.lines[0].get_ydata()
    assert axes.lines[0].get_drawstyle() == "steps-pre"
    for radius in (0.01, 0.2, 0.25, 0.3, 0.4, 0.5):
        # of steps-pre, the value at x holds from the x before, without it
        assert y[np.searchsorted(x, radius)] == pytest.approx(100 * MIXED.accuracy_at(radius).value)
    assert y[-1] == 0


def test_curves_are_named_by_what_differs() -> None:
    other = replace(MIXED, settings="Smoothing(sigma=0.5, n=100)", defense="dncnn")
    figure = certified([MIXED, other])
    texts = {
        text.get_text() for legend in figure.findobj() if hasattr(legend, "get_texts") for text in legend.get_texts()
    }
    assert texts == {"none, sigma=0.25", "dncnn, sigma=0.5"}


def test_where_radii_were_asked_for_there_is_a_mark_at_each() -> None:
    axes = certified([replace(MIXED, asked=(0.2, 0.3))]).axes[0]
    assert axes.lines[0].get_xdata().tolist() == [0.2, 0.3]
    assert axes.lines[0].get_ydata().tolist() == pytest.approx([60, 40])


def test_the_same_certificates_give_the_same_file(tmp_path: Path) -> None:
    for suffix in (".png", ".svg", ".pdf"):
        files = [tmp_path / f"{number}{suffix}" for number in range(2)]
        for file in files:
            draw_certified([MIXED], file, dpi=60)
        assert files[0].read_bytes() == files[1].read_bytes()


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(InputError, match="one norm"):
        certified([MIXED, replace(MIXED, norm="l1")])
    with pytest.raises(InputError, match="no example"):
        certified([certification(Certificates.joined([]))])
    with pytest.raises(InputError, match="at most"):
        certified([MIXED] * 9)
