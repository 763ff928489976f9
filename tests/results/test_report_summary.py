"""What the report says in words, and what its table and matrices compare."""

from __future__ import annotations

import html
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from stores import Made, cell_of, facts_of

from advkit.results.cell import Cell, Stage, oblivious, via
from advkit.results.grid import load_grid
from advkit.results.report import report_page
from advkit.results.report.facts import commands, data_sets, environment, models, study_file
from advkit.results.report.summary import attacks_of, findings, headlines, matrices
from advkit.results.report.view import row_columns, rows
from advkit.results.store import Record, Study
from advkit.results.verdicts import Verdict

TWENTY = [1] * 20


def left(standing: int, of: int = 20) -> list[int]:
    return [1] * standing + [0] * (of - standing)


def said(folder: Path, *checks: Verdict) -> str:
    return "\n".join(findings(rows(load_grid(folder)), checks))


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """Two models under two attacks at two radii."""
    made = Made(tmp_path)
    for model, standing in (("big", (18, 12)), ("small", (9, 2))):
        made.put(cell_of(model=model), TWENTY if model == "small" else left(19))
        for attack, more in (("fgsm", 1), ("pgd", 0)):
            for eps, stands in zip(("4/255", "8/255"), standing, strict=True):
                right = TWENTY if model == "small" else left(19)
                made.put(cell_of(attack, eps, model=model), left(stands + more), right)
    return made


def test_the_ranking_is_said_with_its_price_and_its_certainty(made: Made):
    folder = made.store.folder
    (headline,) = headlines(rows(load_grid(folder)))
    assert (headline.eps, headline.most.who, headline.least.who) == ("8/255", "big", "small")
    assert headline.lead == "50.0 [+30.0, +70.0] points ahead of small, McNemar p = 0.002"
    text = said(folder)
    assert "big is the most robust at 8/255: right on 60.0 [38.7, 78.1] % in the worst case, and on 95.0 %" in text
    assert "small is the least, with 10.0 %. Without attack small leads, with 100.0 %." in text
    assert "luck" not in text
    assert "More than half of the right answers are gone by 4/255 for small; big keeps at least half at 8/255" in text
    assert (
        "pgd decides: alone it comes to the worst case at every radius; fgsm alone would overstate accuracy by up to 5.0"
        in text
    )


def test_a_lead_that_may_be_luck_is_no_lead(tmp_path: Path):
    made = Made(tmp_path)
    for model, standing in (("one", 6), ("two", 5)):
        made.put(cell_of(model=model), TWENTY)
        made.put(cell_of("pgd", model=model), left(standing), TWENTY)
    (headline,) = headlines(rows(load_grid(tmp_path)))
    assert headline.lead.endswith("McNemar p = 1: not settled")
    assert "Its lead over two may be luck." in said(tmp_path)


def test_who_shares_the_first_place_is_named_beside_it(tmp_path: Path):
    made = Made(tmp_path)
    for model, standing in (("one", (9, 5)), ("two", (12, 5)), ("three", (9, 4))):
        for eps, stands in zip(("4/255", "8/255"), standing, strict=True):
            made.put(cell_of("pgd", eps, model=model), left(stands), TWENTY)
    found = rows(load_grid(tmp_path))
    (headline,) = headlines(found)
    assert headline.most.who == "two", "which has more at the other radius"
    assert [name for name, _ in matrices(found, [])[0].lines] == ["two", "one", "three"]
    text = said(tmp_path)
    assert "two and one are level as the most robust at 8/255: right on 25.0 [11.2, 46.9] % in the worst case" in text
    assert "luck" not in text


def test_who_shares_the_last_place_is_named_beside_it(made: Made):
    for eps, stands in (("4/255", 4), ("8/255", 2)):
        for attack in ("fgsm", "pgd"):
            made.put(cell_of(attack, eps, model="third"), left(stands), TWENTY)
    folder = made.store.folder
    assert "; small and third are the least, with 10.0 %" in said(folder)
    assert '<span class="who">small and third</span>' in report_page(load_grid(folder))


def test_who_has_met_fewer_attacks_is_not_called_the_most_robust(made: Made):
    """While a sweep runs, the worst case over one attack is no rival of that over two."""
    made.put(cell_of(model="young"), TWENTY)
    made.put(cell_of("fgsm", model="young"), left(20), TWENTY)
    found = rows(load_grid(made.store.folder))
    (headline,) = headlines(found)
    assert (headline.most.who, headline.left_out) == ("big", 1)
    (matrix,) = matrices(found, [])
    cells = {name: dict(zip(("clean", *matrix.radii), line, strict=True)) for name, line in matrix.lines}
    assert cells["young"]["8/255"].narrow
    assert not cells["young"]["8/255"].best
    assert cells["big"]["8/255"].best
    assert "†" in report_page(load_grid(made.store.folder))
    worst = {row.who: row.best for row in found if row.kind == "worst" and row.texts["eps"] == "8/255"}
    assert worst == {"big": True, "small": False, "young": False}


def test_what_is_equal_everywhere_is_best_nowhere(tmp_path: Path):
    made = Made(tmp_path)
    for model in ("one", "two"):
        made.put(cell_of(model=model), TWENTY)
        made.put(cell_of("pgd", model=model), left(0), TWENTY)
    (matrix,) = matrices(rows(load_grid(tmp_path)), [])
    assert not [cell for _, cells in matrix.lines for cell in cells if cell.best]
    assert "No setting stands out at 8/255: all are right on 0.0 %" in said(tmp_path)


def test_a_defense_is_judged_with_and_without_the_attackers_knowledge(tmp_path: Path):
    made = Made(tmp_path)
    made.put(cell_of(), TWENTY)
    made.put(cell_of("pgd"), left(4), TWENTY)
    made.put(cell_of(defense="jpeg:75"), TWENTY)
    made.put(cell_of("pgd", defense="jpeg:75"), left(5), TWENTY)
    made.put(cell_of(oblivious("pgd"), defense="jpeg:75", surrogate="net"), left(15), TWENTY)
    assert (
        "Behind jpeg:75 net keeps 75.0 % under attacks that do not know it and 25.0 % under those that do at 8/255; without"
        " it 20.0 %." in said(tmp_path)
    )
    assert attacks_of(rows(load_grid(tmp_path))) == ("pgd",)


def test_pictures_of_other_models_alone_are_called_an_upper_bound(tmp_path: Path):
    made = Made(tmp_path)
    made.put(cell_of(), TWENTY)
    made.put(cell_of(via("pgd", "other"), surrogate="other"), left(18), TWENTY)
    assert "net met only what was made on other: an upper bound of robustness." in said(tmp_path)
    assert attacks_of(rows(load_grid(tmp_path))) == ("pgd",)


def test_checks_that_fail_are_named(made: Made):
    text = said(made.store.folder, Verdict("Sound", "pass", "."), Verdict("Broken", "fail", "."))
    assert "One check fails: Broken." in text
    assert "Sound" not in text


def chain(settings: str = "") -> Cell:
    stages = tuple(Stage(name, (f"{name}(Linf(8/255){settings})",)) for name in ("apgd", "square"))
    return replace(cell_of("pgd"), attack="chain", stages=stages)


def test_stages_are_one_attack_and_are_called_by_it(tmp_path: Path):
    made = Made(tmp_path)
    made.put(cell_of(), TWENTY)
    made.put(chain(), left(5), TWENTY)
    found = rows(load_grid(tmp_path))
    assert [row.texts["attack"] for row in found] == ["none", "chain: apgd", "chain: + square", "worst case"]
    assert attacks_of(found) == ("chain",)
    page = report_page(load_grid(tmp_path))
    assert "net under 1 attack" in page
    assert "Worst case over chain:" in page


def test_one_attack_with_two_settings_is_told_apart(tmp_path: Path):
    """Their curves would else be one, made of the points of both."""
    made = Made(tmp_path)
    made.put(cell_of("pgd", settings=", steps=5"), left(9), TWENTY)
    made.put(cell_of("pgd", settings=", steps=50"), left(5), TWENTY)
    made.put(chain(), left(5), TWENTY)
    made.put(chain(", steps=3"), left(8), TWENTY)
    texts = [row.texts["attack"] for row in rows(load_grid(tmp_path)) if row.kind == "attack"]
    assert texts == ["pgd #1", "pgd #2", "chain #1: apgd", "chain #1: + square", "chain #2: apgd", "chain #2: + square"]


def test_controls_have_a_column_where_there_are_some(tmp_path: Path, made: Made):
    assert "controls" not in dict(row_columns(rows(load_grid(made.store.folder))))
    folder = tmp_path / "tape"
    tape = Made(folder)
    cell = cell_of("tape", "0.05", norm="area")
    tape.put(cell, left(4), TWENTY)
    facts = replace(
        facts_of(cell, left(4), TWENTY),
        controls={"random": np.array([left(5)], bool), "grey": np.array([left(2)], bool)},
    )
    tape.store.write(cell, (0, 20), facts)
    grid = load_grid(folder)
    assert dict(row_columns(rows(grid)))["controls"] == "Controls, %"
    page = report_page(grid)
    assert "random 25.0" in page
    assert "grey 10.0" in page
    assert (
        "the control of tape that comes nearest to it (random) beats 25.0 % of what was right, the search 80.0 %"
        in said(folder)
    )


def test_the_page_says_what_the_table_says(made: Made):
    """Every line of the stable form, number by number."""
    grid = load_grid(made.store.folder)
    page = report_page(grid)
    (found,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    data = json.loads(found)
    texts = list(data["names"])
    shown = {}
    for packed in data["rows"]:
        names = {name: data["names"][name][packed[2 + i]] for i, name in enumerate(texts)}
        standing, n, wanted, low, high, success, _, distance, passes, seconds, _ = packed[2 + len(texts) :]
        shown[names["model"], names["attack"], names["eps"]] = (
            standing / n,
            n,
            wanted,
            low,
            high,
            success,
            distance,
            passes,
            seconds,
        )
    lines = [*grid.lines, *grid.clean, *grid.worst]
    assert len(shown) == len(lines)
    for line in lines:
        told = line.to_json()
        accuracy, n, wanted, low, high, success, distance, passes, _ = shown[line.model, line.attack, line.eps or ""]
        assert (accuracy, n, wanted) == (told["accuracy"], told["n"], line.wanted)
        assert (low, high) == pytest.approx((told["low"], told["high"]), abs=1e-6)
        assert passes == told["forwards"] + told["backwards"]
        if line.attack not in ("none", "worst case"):
            assert success == pytest.approx(told["success"], abs=1e-6)
            assert distance == (told["median_distance"] and pytest.approx(told["median_distance"], rel=1e-3))


# ------------------------------------------------------------------ how it came about


ABOUT = {
    "git": "abc123, changed",
    "advkit": "0.1.0",
    "command": "advkit sweep --model net --out first",
    "attack": "pgd",
}


def test_the_commands_name_the_code_every_sweep_and_the_study(tmp_path: Path):
    made = Made(tmp_path / "a store")
    made.put(cell_of("pgd"), left(5), TWENTY, **ABOUT)
    made.store.write_study(Study("advkit sweep study.toml", made.samples, {"study": "[study]\nseed = 0\n"}))
    grid = load_grid(made.store.folder)
    found = {command.title: command for command in commands(grid)}
    assert found["The code"].text == "git checkout abc123"
    assert "no commit holds" in found["The code"].note
    assert found["An earlier sweep"].text == ABOUT["command"]
    assert found["The sweep"].text == "advkit sweep study.toml"
    assert found["The table"].text == f"advkit table '{tmp_path}/a store'"
    assert study_file(grid) == "[study]\nseed = 0\n"
    page = report_page(grid)
    assert "<code>[study]\nseed = 0\n</code>" in page
    assert not {"command", "study", "attack"} & {fact.name for fact in environment(grid)}


def test_what_is_typed_is_in_the_page_to_the_letter(tmp_path: Path):
    """A command is broken between words only on the screen: what is copied is what was typed."""
    command = "advkit sweep --model 'a  b' --out '<x> & y' --eps 1/255,2/255"
    made = Made(tmp_path)
    made.put(cell_of("pgd"), left(5), TWENTY)
    made.store.write_study(Study(command, made.samples))
    page = report_page(load_grid(tmp_path))
    typed = [
        html.unescape(re.sub(r"<[^>]+>", "", found)) for found in re.findall(r"<pre [^>]*>(.*?)</pre>", page, re.DOTALL)
    ]
    assert command in typed


def test_models_and_data_stand_with_their_hashes(tmp_path: Path):
    made = Made(tmp_path)
    about = {
        "parameters": 1234567,
        "multiply_adds": 7,
        "model settings": {"model": "net", "weights": "auto", "width": 2},
    }
    made.put(cell_of("pgd"), left(5), TWENTY, **about)
    made.store.add(Record(cell_of("pgd", model="old"), {}))  # as of long ago, when little was noted
    grid = load_grid(tmp_path)
    first, second = models(grid)
    assert (first.name, first.weights, first.digest, first.parameters, first.settings) == (
        "net",
        "here",
        "hash of net",
        1234567,
        "width 2",
    )
    assert (second.parameters, second.settings) == (None, "")
    assert data_sets(grid) == [("signs", "d" * 8, "")]
    assert "1,234,567" in report_page(grid)
