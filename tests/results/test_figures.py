"""Figures of a sweep hold the numbers of its store, say what they are of, and are the same files for the same store."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from PIL import Image
from stores import Made as Stored
from stores import cell_of, moved, staged

from advkit.errors import InputError, UnknownName
from advkit.results.cell import Cell, Facts, Stage
from advkit.results.figures import KINDS, build, choose, draw, draw_all
from advkit.results.figures._paper import apart
from advkit.results.figures._points import Box
from advkit.results.figures.classes import per_class
from advkit.results.figures.distances import smallest
from advkit.results.grid import Grid, load_grid
from advkit.results.statistics import share
from advkit.results.store import Record, Store

OWN = ["classes", "curves", "distances", "size", "tradeoff"]  # that need no transfer
N = 12


def facts(falls: Sequence[float], radii: Sequence[float], wrong: int = 2, classes: int = 3) -> Facts:
    """Examples that fall at and above these radii; the last few are wrong without attack."""
    n = len(falls)
    labels = np.arange(n) % classes
    clean = np.where(np.arange(n) < n - wrong, labels, (labels + 1) % classes)
    if not radii:
        none = np.zeros((0, 0, n))
        return Facts(np.arange(n), labels, clean, none > 0, none > 0, none, none, none, none, none, none > 0)
    shape = (1, len(radii), n)
    attacked = np.broadcast_to(clean == labels, shape)
    success = attacked & (np.asarray(radii)[None, :, None] >= np.asarray(falls))
    steps = np.where(attacked, 3, 0)
    prediction = np.where(success, (labels + 1) % classes, clean)
    distance = np.where(success, np.asarray(falls), 0.0)
    return Facts(
        np.arange(n), labels, clean, attacked, success, prediction, distance, steps, steps, steps, attacked,
        np.ones(shape[:2]),
    )  # fmt: skip


class Made:
    """A store to which cells are added."""

    def __init__(self, folder: Path) -> None:
        self.store = Store(folder).create()

    def add(
        self,
        model: str = "net",
        attack: str = "pgd",
        radii: Sequence[str] = ("2/255", "8/255"),
        falls: Sequence[float] | None = None,
        norm: str = "linf",
        defense: str = "none",
        about: dict[str, object] | None = None,
        classes: int = 3,
    ) -> None:
        values = [int(eps.split("/")[0]) / 255 for eps in radii]
        found = facts(np.arange(1, N + 1) / 255 if falls is None else falls, values, classes=classes)
        stages = (Stage(attack, tuple(radii), True),)
        cell = Cell(model, model, "d", attack=attack, stages=stages, norm=norm, radii=tuple(radii), defense=defense)
        known = {"data": "signs", "classes": ["a", "b", "c"], "parameters": 1000, "multiply_adds": 5000}
        self.store.add(Record(cell, {**known, **(about or {})}))
        self.store.write(cell, (0, len(found)), found)

    @property
    def grid(self) -> Grid:
        return load_grid(self.store.folder)


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return Made(tmp_path / "store")


def axes_of(figure: Figure) -> list[Axes]:
    return [axes for axes in figure.axes if axes.get_visible()]


def texts(figure: Figure) -> str:
    from matplotlib.text import Text

    return "\n".join(text.get_text() for text in figure.findobj(Text))


def test_curves_begin_at_the_clean_accuracy_and_hold_every_radius(made: Made) -> None:
    made.add()
    (axes,) = axes_of(build(made.grid, "curves"))
    (line,) = axes.get_lines()
    counts = [10, 8, 2]  # of 12: two are wrong anyway, two fall up to 2/255, eight up to 8/255
    np.testing.assert_allclose(line.get_xdata(), [0, 2 / 255, 8 / 255])
    np.testing.assert_allclose(line.get_ydata(), [100 * count / N for count in counts])
    (band,) = (found for found in axes.collections if isinstance(found, PolyCollection))
    corners = band.get_paths()[0].vertices
    for x, count in zip(line.get_xdata(), counts, strict=True):
        y = corners[np.isclose(corners[:, 0], x), 1]
        np.testing.assert_allclose([y.min(), y.max()], 100 * np.array(share(count, N)[1:]))
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["0", "2/255", "8/255"]


def test_curves_of_one_model_name_the_attacks_and_their_worst_case(made: Made) -> None:
    made.add(attack="pgd", falls=[1 / 255] * 6 + [1.0] * 6)
    made.add(attack="noise", falls=[1.0] * 6 + [1 / 255] * 6)
    (axes,) = axes_of(build(made.grid, "curves"))
    ends = sorted(float(line.get_ydata()[-1]) for line in axes.get_lines())
    np.testing.assert_allclose(ends, [0, 100 * 4 / N, 100 * 6 / N], atol=1e-9)
    said = texts(axes.figure.figure)
    assert all(name in said for name in ("pgd", "noise", "worst case", "n = 12 examples", "Wilson"))


def test_one_attack_or_fewer_radii_are_drawn_where_they_are_asked_for(made: Made) -> None:
    made.add(attack="pgd")
    made.add(attack="noise", falls=[1.0] * N)
    (axes,) = axes_of(build(made.grid, "curves", attack="noise", eps="2/255"))
    (line,) = axes.get_lines()
    np.testing.assert_allclose(line.get_xdata(), [0, 2 / 255])
    np.testing.assert_allclose(line.get_ydata(), [100 * 10 / N] * 2)


def test_a_tradeoff_has_a_point_with_both_intervals(made: Made) -> None:
    made.add()
    (axes,) = axes_of(build(made.grid, "tradeoff"))
    (bars,) = axes.containers
    (x,), (y,) = bars.lines[0].get_data()
    np.testing.assert_allclose((x, y), (100 * 10 / N, 100 * 2 / N))
    horizontal, vertical = (found.get_segments()[0] for found in bars.lines[2])
    np.testing.assert_allclose(horizontal[:, 0], 100 * np.array(share(10, N)[1:]))
    np.testing.assert_allclose(vertical[:, 1], 100 * np.array(share(2, N)[1:]))
    assert "8/255" in axes.get_ylabel(), "the largest radius"
    (lower,) = axes_of(build(made.grid, "tradeoff", eps="2/255"))
    np.testing.assert_allclose(lower.containers[0].lines[0].get_ydata(orig=False), [100 * 8 / N])


def test_the_radius_is_one_that_all_have(made: Made) -> None:
    made.add("one", radii=("2/255", "8/255"))
    made.add("two", radii=("2/255", "4/255"))
    (axes,) = axes_of(build(made.grid, "tradeoff"))
    assert "2/255" in axes.get_ylabel()
    made.add("three", radii=("1/255",))
    with pytest.raises(InputError, match="no radius is common to all of one, three, two"):
        build(made.grid, "tradeoff")
    with pytest.raises(InputError, match=r"nothing was measured at eps 16/255; there is 1/255, 2/255"):
        build(made.grid, "tradeoff", eps="16/255")
    with pytest.warns(UserWarning, match="left out, for nothing was measured at eps 8/255: three, two"):
        (axes,) = axes_of(build(made.grid, "tradeoff", eps="8/255"))
    assert len(axes.containers) == 1


@pytest.mark.parametrize(
    ("norm", "unit"),
    [("linf", "L∞, values from 0 to 1"), ("l0", "L0, pixels"), ("area", "share of the pixels"), ("veil", "opacity")],
)
def test_an_axis_says_in_what_its_radius_is_measured(made: Made, norm: str, unit: str) -> None:
    made.add(norm=norm)
    for kind in ("curves", "distances"):
        assert unit in axes_of(build(made.grid, kind))[0].get_xlabel()


def test_one_size_has_ticks_on_both_sides(made: Made) -> None:
    made.add(about={"parameters": 1000, "multiply_adds": 40_552_640})
    (axes,) = axes_of(build(made.grid, "size"))
    ticks = [float(tick) for tick in axes.get_xticks()]
    assert min(ticks) < 40_552_640 < max(ticks)


def test_a_way_to_train_is_a_name_by_itself(tmp_path: Path) -> None:
    made = Stored(tmp_path)
    for defense, weights in (("none", "standard"), ("pgd-at", "robust")):
        made.put(cell_of("pgd", defense=defense, model_hash=weights), [1, 0], [1, 1], weights=weights)
    assert sorted(choose(load_grid(tmp_path)).names.values()) == ["net", "net + pgd-at"]


def test_the_small_print_names_the_attacks_and_not_whom_they_were_made_on(tmp_path: Path) -> None:
    moved(tmp_path / "all")
    defended = texts(
        build(load_grid(tmp_path / "all"), "curves", where=("model=cid", "surrogate!=ann", "surrogate!=bob"))
    )
    assert "attack: pgd;" in " ".join(defended.split()), "oblivious or not"
    moved_only = texts(build(load_grid(tmp_path / "all"), "curves", where=("surrogate=ann",)))
    assert "attack: pgd via ann;" in " ".join(moved_only.split())
    matrix = " ".join(texts(build(load_grid(tmp_path / "all"), "transfer", where=("defense=none",))).split())
    assert "attack: pgd; outlined" in matrix


def test_a_stage_alone_is_drawn_under_its_own_name(tmp_path: Path) -> None:
    grid = load_grid(staged(tmp_path))
    figure = build(grid, "curves", where=("attack=first",))
    assert "attack: both: first" in " ".join(texts(figure).split())
    np.testing.assert_allclose(axes_of(figure)[0].get_lines()[0].get_ydata(), [100, 75])
    for attack, stands in (("first", 75), ("both", 50)):
        (axes,) = axes_of(build(grid, "curves", attack=attack))
        assert axes.get_lines()[0].get_ydata()[-1] == stands


@pytest.mark.parametrize("most", [14, 22, 26, 40])
def test_names_that_are_cut_stay_different(most: int) -> None:
    ends = [f"Wang2023Better_WRN-70-16_{k}" for k in range(5)]
    middles = [f"Wang2023Better_{k}_with-extra-data-and-ema{d}" for k in range(5) for d in ("", " + jpeg:75")]
    hopeless = [f"{'a' * 30}{k}{'b' * 30}{k % 2}" for k in range(12)]
    for names in (ends, middles, hopeless, [f"{'x' * 60}{k}{'y' * 60}{'z' * k}" for k in range(3)]):
        shown = apart([*names, names[0]], most)
        assert len(set(shown)) == len(names)
        assert shown[0] == shown[-1]
        assert max(map(len, shown)) <= most


def test_long_names_of_rows_can_be_told_apart(made: Made) -> None:
    for k in range(3):
        made.add(f"Wang2023Better_WRN-70-16_with-extra-data-{k}")
    (axes, _) = axes_of(build(made.grid, "classes"))
    names = [tick.get_text() for tick in axes.get_yticklabels()]
    assert [name[-1] for name in names] == ["0", "1", "2"]
    assert axes_of(build(made.grid, "tradeoff"))


def test_few_points_with_very_long_names_have_numbers(made: Made) -> None:
    for k in range(6):
        made.add(f"Wang2023Better_WRN-70-16_with-extra-data-{k}")
    for kind in ("tradeoff", "size"):
        figure = build(made.grid, kind)
        assert re.search(r"6: Wang2023.*-data-5", texts(figure)), "cut where it stays different"
        assert {"1", "6"} <= {text.get_text() for text in axes_of(figure)[0].texts}


def test_names_tell_apart_what_is_not_the_same(made: Made) -> None:
    for weights, data in (("a", "x"), ("b", "x"), ("b", "y")):
        stage = Stage("pgd", ("8/255",), True)
        cell = Cell("net", weights * 8, data * 8, attack="pgd", stages=(stage,), norm="linf", radii=("8/255",))
        made.store.add(Record(cell, {"data": "signs", "weights": f"{weights}.pt"}))
        made.store.write(cell, (0, N), facts([1.0] * N, [8 / 255]))
    names = choose(made.grid).names.values()
    assert sorted(names) == ["net (a.pt)", "net (b.pt) bbbbbb xxxxxx", "net (b.pt) bbbbbb yyyyyy"]


def test_the_area_of_a_bubble_is_the_number_of_parameters(made: Made) -> None:
    made.add("small", about={"parameters": 1000, "multiply_adds": 10**6})
    made.add("large", about={"parameters": 4000, "multiply_adds": 10**8})
    (axes,) = axes_of(build(made.grid, "size"))
    bubbles = {float(c.get_offsets()[0][0]): float(c.get_sizes()[0]) for c in axes.collections if len(c.get_offsets())
               and hasattr(c, "get_sizes")}  # fmt: skip
    assert bubbles[1e8] == pytest.approx(4 * bubbles[1e6])
    assert axes.get_xscale() == "log"


def test_models_of_unknown_size_are_left_out_with_a_note(made: Made) -> None:
    made.add("known")
    made.add("unknown", about={"parameters": None})
    with pytest.warns(UserWarning, match="left out for unknown parameters or multiply-adds: unknown"):
        build(made.grid, "size")
    with pytest.raises(InputError, match="do not say how many parameters"):
        build(made.grid, "size", where=("model=unknown",))


def test_the_heat_map_holds_the_accuracy_of_each_class(made: Made) -> None:
    made.add()
    axes, _ = axes_of(build(made.grid, "classes", eps="2/255"))
    (image,) = axes.get_images()
    # Of four examples each: a loses one to the attack, b one to it and one was wrong before, c one was wrong before.
    np.testing.assert_allclose(image.get_array(), [[75, 50, 75]])
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["a", "b", "c"]


def test_a_class_without_examples_is_no_number(made: Made) -> None:
    made.add()
    values, counts = per_class(made.grid.lines[:1], np.array([0, 7]))
    assert counts.tolist() == [[4, 0]]
    assert np.isnan(values[0, 1])


def test_distances_are_the_smallest_of_all_attacks_and_radii(made: Made) -> None:
    made.add(attack="pgd", falls=[5 / 255] * N)
    made.add(attack="noise", falls=[1 / 255] * 4 + [1.0] * 8)
    np.testing.assert_allclose(smallest(made.grid.lines), [1 / 255] * 4 + [5 / 255] * 6)
    (axes,) = axes_of(build(made.grid, "distances"))
    (line,) = axes.get_lines()
    np.testing.assert_allclose(line.get_xdata()[:3], [0, 1 / 255, 5 / 255])
    np.testing.assert_allclose(line.get_ydata(), [0, 40, 100, 100])
    (one,) = axes_of(build(made.grid, "distances", attack="noise"))
    np.testing.assert_allclose(one.get_lines()[0].get_ydata(), [0, 40, 40])


def test_the_matrix_of_transfer_has_the_attack_itself_on_its_diagonal(made: Made) -> None:
    for model, falls in (("one", 1), ("two", 6)):
        made.add(model, falls=[falls / 255] * N)
        other = {"one": "two", "two": "one"}[model]
        weak = [2 / 255] * falls + [1.0] * (N - falls)
        made.add(model, attack=f"transfer:{other}", falls=weak, about={"surrogate": other})
    axes, _ = axes_of(build(made.grid, "transfer"))
    (image,) = axes.get_images()
    np.testing.assert_allclose(image.get_array(), [[0, 100 * 9 / N], [100 * 4 / N, 0]])
    assert len(axes.patches) == 2, "the diagonal is outlined"
    assert "attacked directly" in texts(axes.figure.figure)


def test_without_transfer_it_is_said_how_to_get_it(made: Made) -> None:
    made.add()
    with pytest.raises(InputError, match="advkit sweep --transfer"):
        build(made.grid, "transfer")


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_the_same_store_gives_the_same_bytes(made: Made, tmp_path: Path, suffix: str) -> None:
    made.add("one")
    made.add("two", attack="noise", falls=[4 / 255] * N)
    for kind in OWN:
        for name in "ab":
            draw(made.grid, kind, tmp_path / f"{name}{suffix}", dpi=80)
        assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes(), kind


def test_files_have_the_size_asked_for_text_and_fonts(made: Made, tmp_path: Path) -> None:
    made.add("résumé & <b> $x^2$ _n")
    draw(made.grid, "curves", tmp_path / "f.png", width=4, dpi=100)
    with Image.open(tmp_path / "f.png") as picture:
        assert picture.width == 400
    draw(made.grid, "curves", tmp_path / "f.svg")
    svg = (tmp_path / "f.svg").read_text(encoding="utf-8")
    assert "résumé &amp; &lt;b&gt; $x^2$ _n</text>" in svg
    assert "8/255</text>" in svg
    assert "<dc:date>" not in svg
    draw(made.grid, "curves", tmp_path / "f.pdf")
    pdf = (tmp_path / "f.pdf").read_bytes()
    assert b"/Type0" in pdf, "TrueType, as journals ask for"
    assert b"/Type3" not in pdf
    assert b"CreationDate" not in pdf
    assert not list(tmp_path.glob(".*.part"))


def test_names_are_neither_mathematics_nor_markup(made: Made, tmp_path: Path) -> None:
    names = [r"$\frac{1$", "<b>_x^</b>", "a\nb\x00 " + 50 * "long "]
    made.add(names[0], about={"classes": names})
    made.add("_net", about={"classes": names})
    made.add("_net", attack="transfer", about={"classes": names, "surrogate": names[0]})
    for kind in KINDS.names():
        draw(made.grid, kind, tmp_path / f"{kind}.svg")
        assert r"$\frac{1$" in (tmp_path / f"{kind}.svg").read_text(encoding="utf-8")
    assert "a b long long long" in (tmp_path / "classes.svg").read_text(encoding="utf-8")
    assert "_net" in (tmp_path / "curves.svg").read_text(encoding="utf-8")


def test_letters_that_the_font_lacks_are_told_once(made: Made, tmp_path: Path) -> None:
    made.add("模型")
    with pytest.warns(UserWarning, match=r"f\.png: some letters of the names are not in matplotlib's font") as said:
        draw(made.grid, "curves", tmp_path / "f.png", dpi=50)
    assert len(said) == 1


def test_one_model_at_one_radius_is_enough(made: Made, tmp_path: Path) -> None:
    made.add(radii=("8/255",))
    done = draw_all(made.grid, tmp_path / "out", dpi=50)
    assert [name for name, found in done.items() if isinstance(found, Path)] == OWN


def test_examples_that_never_fall_or_are_never_right_are_drawn(made: Made, tmp_path: Path) -> None:
    made.add(falls=[1.0] * N)
    assert len(draw_all(made.grid, tmp_path / "out", dpi=50)) == 6


def test_thirty_models_have_panels_and_numbers(made: Made) -> None:
    for number in range(30):
        made.add(f"net-{number}", falls=[(number + 1) / 255] * N)
    panels = axes_of(build(made.grid, "curves"))
    assert [axes.get_title() for axes in panels] == [f"net-{number}" for number in range(30)]
    assert all(len(axes.get_lines()) == 30 for axes in panels), "its own, before all others"
    figure = build(made.grid, "tradeoff")
    assert "30: net-29" in texts(figure)
    assert len(axes_of(figure)[0].containers) == 30
    assert axes_of(build(made.grid, "classes"))[0].get_images()[0].get_array().shape == (30, 3)
    assert build(made.grid, "distances").get_figwidth() == pytest.approx(6.9)


def test_very_many_classes_are_shown_in_blocks_then_only_the_hardest(made: Made) -> None:
    made.add(falls=list(np.arange(1, 201) / 255), classes=50, about={"classes": [f"class {k}" for k in range(50)]})
    figure = build(made.grid, "classes", width=3.4)
    shown = [axes for axes in axes_of(figure) if axes.get_images()]
    assert len(shown) > 1
    assert sum(axes.get_images()[0].get_array().shape[1] for axes in shown) == 50
    made.add(
        "many", falls=list(np.arange(1, 201) / 255), classes=100, about={"classes": [f"class {k}" for k in range(100)]}
    )
    said = " ".join(texts(build(made.grid, "classes", where=("model=many",))).split())
    assert "the 60 of 100 classes with the lowest mean" in said


def test_made_up_and_unfinished_results_are_marked(made: Made, tmp_path: Path) -> None:
    made.add(about={"made_up": True})
    for kind in OWN:
        said = texts(build(made.grid, kind))
        assert "MADE-UP RESULTS" in " ".join(said.split())
        assert "made up" in said
    other = Made(tmp_path / "other")
    other.add()
    from advkit.results.store import Study

    other.store.write_study(Study("", {record.cell.key: 100 for record in other.store.records()}))
    said = texts(build(other.grid, "curves"))
    assert "net †" in said
    assert "† not all examples are done yet" in " ".join(said.split())
    assert "made up" not in said


def test_two_norms_are_two_figures(made: Made, tmp_path: Path) -> None:
    made.add(norm="linf")
    made.add(norm="l2")
    with pytest.raises(InputError, match=r"a figure is of one norm, .*choose one by --filter norm="):
        build(made.grid, "curves")
    assert build(made.grid, "curves", where=("norm=l2",))
    done = draw_all(made.grid, tmp_path / "out", dpi=50)
    assert {"curves-linf", "curves-l2"} <= set(done)


def test_what_cannot_be_drawn_is_refused_in_a_sentence(made: Made) -> None:
    with pytest.raises(InputError, match="no attacked examples"):
        build(made.grid, "curves")
    made.add()
    with pytest.raises(UnknownName, match="Did you mean 'curves'"):
        build(made.grid, "curvs")
    with pytest.raises(UnknownName, match="Did you mean 'pgd'"):
        build(made.grid, "curves", attack="pdg")
    with pytest.raises(InputError, match="write a fraction"):
        build(made.grid, "curves", eps="eight")
    with pytest.raises(InputError, match="inches"):
        build(made.grid, "curves", width=0.1)


def test_the_users_own_settings_of_matplotlib_neither_matter_nor_change(made: Made, tmp_path: Path) -> None:
    import matplotlib as mpl

    made.add()
    draw(made.grid, "curves", tmp_path / "a.svg")
    with mpl.rc_context({"font.size": 30, "axes.grid": False, "svg.fonttype": "path"}):
        draw(made.grid, "curves", tmp_path / "b.svg")
        assert mpl.rcParams["font.size"] == 30
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_every_kind_says_what_it_is_and_none_needs_torch_or_pyplot() -> None:
    assert KINDS.names() == sorted([*OWN, "transfer"])
    assert all(re.fullmatch(r"[A-Z].*\.", entry.summary) for entry in KINDS.entries())
    code = (
        "import sys; from advkit.results.figures import KINDS; import advkit.results.grid; KINDS.names(); "
        "import matplotlib.figure; print('torch' in sys.modules, 'matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_boxes_share_an_area() -> None:
    assert Box(0, 0, 2, 2).shared(Box(1, 1, 3, 3)) == 1
    assert Box(0, 0, 1, 1).shared(Box(1, 0, 2, 1)) == 0
