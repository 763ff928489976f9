"""The report as text: what it says, what it leaves out, and that nothing of the store becomes markup."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from stores import Made, cell_of

from advkit.errors import InputError
from advkit.results.cell import Facts
from advkit.results.grid import load_grid
from advkit.results.report import report_page, write_report
from advkit.results.store import Record, Store, Study
from advkit.results.verdicts import FAIL, PASS, WARN, Verdict, verdicts

ROOT = Path(__file__).parents[2]
ODD = "<script>alert(\"no\")</script> & 'co'"


def made_up(folder: Path, **counts: int) -> Path:
    args = [f"--{name}={count}" for name, count in counts.items()]
    subprocess.run([sys.executable, ROOT / "scripts" / "made_up_store.py", folder, *args], check=True)
    return folder


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_up(tmp_path_factory.mktemp("report") / "store", models=2, defenses=2, attacks=2, radii=3, pictures=3)


@pytest.fixture(scope="module")
def page(store: Path) -> str:
    return report_page(load_grid(store))


def data_of(page: str) -> dict:
    (found,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    return json.loads(found)


class Reader(HTMLParser):
    """Every tag with its attributes, every text, and the tags that are not closed as they were opened."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "img", "input", "line", "rect", "circle"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)


def test_the_page_is_whole_and_loads_nothing(page: str):
    reader = Reader(page)
    assert not reader.wrong
    assert not reader.open
    for tag, attributes in reader.tags:
        assert "style" not in attributes, tag
        assert not [name for name in attributes if name.startswith("on")], tag
        for name in ("src", "href", "action", "data", "poster"):
            assert (attributes.get(name) or "#").startswith(("#", "data:")), (tag, attributes)
    assert {tag for tag, _ in reader.tags}.isdisjoint({"iframe", "object", "embed", "form", "base", "b-odd"})
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in page


def test_the_policy_names_the_pages_own_style_and_script(page: str):
    (policy,) = (a["content"] for tag, a in Reader(page).tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "unsafe" not in policy
    assert "connect-src" not in policy
    for tag, directive in (("style", "style-src"), ("script", "script-src")):
        (text,) = re.findall(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}'" in policy


def test_every_line_is_there_once_in_the_table_and_once_for_the_script(page: str, store: Path):
    grid = load_grid(store)
    lines = len(grid.lines) + len(grid.clean) + len(grid.worst)
    (body,) = re.findall(r'<tbody id="rows">(.*?)</tbody>', page, re.DOTALL)
    assert body.count("<tr ") == lines == len(data_of(page)["rows"])
    assert body.count('class="worst"') == len(grid.worst)
    assert body.count('class="clean"') == len(grid.clean)
    for line in grid.lines:
        assert f"{100 * line.accuracy.low:.1f}–{100 * line.accuracy.high:.1f}" in body


def test_the_summary_names_the_most_and_the_least_robust(page: str, store: Path):
    grid = load_grid(store)
    last = [line for line in grid.worst if line.eps == "3/255"]
    (most, least) = (pick(last, key=lambda line: line.accuracy.value) for pick in (max, min))
    (summary,) = re.findall(r'<section id="summary".*?(?=<section id="curves")', page, re.DOTALL)
    headline = re.sub(r"<[^>]+>", " ", summary)
    for line in (most, least):
        assert f"{100 * line.accuracy.value:.1f} %" in headline
        assert line.model in headline
    assert "Made-up numbers" in page
    assert "n = 100" in headline


def test_the_commands_and_the_environment_are_there(page: str, store: Path):
    text = re.sub(r"<[^>]+>", "", page)
    assert "python scripts/made_up_store.py (made up)" in text
    assert f"advkit table {store}" in text
    assert f"advkit report {store}" in text
    assert "git checkout 0000000" in text
    for said in ("torch", "2.15", "fgsm(Linf(1/255))"):
        assert said in text


def test_names_from_the_store_never_become_markup(tmp_path: Path):
    folder = made_up(tmp_path / "odd", models=1, defenses=1, attacks=1, radii=2, pictures=2)
    old = Store(folder)
    odd = Store(tmp_path / ODD.replace("/", "-")).create()
    for record in old.records():
        cell = replace(record.cell, model=ODD, attack=ODD, defense=ODD)
        cell = replace(cell, stages=tuple(replace(stage, name=ODD, attacks=(ODD, ODD)) for stage in cell.stages))
        odd.add(Record(cell, {**record.about, "classes": [ODD] * 7, "weights": ODD, "data": ODD, "machine": ODD}))
        facts = old.facts(record.cell)
        assert facts is not None
        pictures = [replace(picture, stage=ODD) for picture in old.pictures(record.cell)]
        odd.write(cell, (0, len(facts)), facts, pictures)
    odd.write_study(Study(ODD, {}, {ODD: ODD}))
    page = report_page(load_grid(odd.folder))
    assert page.count("<script") == 2
    assert page.count("</script") == 2
    assert "<b>odd" not in page
    assert not Reader(page).wrong
    assert data_of(page)["names"]["model"] == [ODD]


def test_two_hundred_lines_with_a_hundred_examples_weigh_less_than_three_megabytes(tmp_path: Path):
    folder = made_up(tmp_path / "s", models=4, defenses=3, attacks=4, radii=3, examples=50, pictures=8)
    path = tmp_path / "deep" / "page.html"
    write_report(folder, path)
    page = path.read_text(encoding="utf-8")
    assert len(data_of(page)["rows"]) >= 192
    assert page.count("data-example=") >= 100
    assert path.stat().st_size < 3e6
    assert [file.name for file in path.parent.iterdir()] == ["page.html"]


def test_a_page_that_holds_a_part_says_what_it_leaves_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import advkit.results.report as report
    from advkit.results.report import gallery

    folder = made_up(tmp_path / "s", models=3, defenses=1, attacks=2, radii=3, examples=20, pictures=4)
    monkeypatch.setattr(report, "_MOST_ROWS", 20)
    monkeypatch.setattr(report, "_ROWS_WITHOUT_SCRIPT", 10)
    monkeypatch.setattr(gallery, "_MOST_EXAMPLES", 5)
    page = report_page(load_grid(folder))
    assert len(data_of(page)["rows"]) == 20
    assert "10 more lines are left out of this page" in page
    assert "The first 10 of 30 lines" in page
    assert page.count("data-example=") == 5
    assert "more stay in the store" in page


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_pictures_of_any_channels_and_size_are_shown(tmp_path: Path, channels: int):
    folder = made_up(tmp_path / "s", models=1, defenses=1, attacks=1, radii=2, pictures=1)
    store = Store(folder)
    record = next(record for record in store.records() if record.cell.stages)
    picture = store.pictures(record.cell)[0]
    x = np.random.default_rng(0).integers(0, 256, (channels, 300, 200), dtype=np.uint8)
    facts = store.facts(record.cell)
    assert facts is not None
    store.write(record.cell, (0, len(facts)), facts, [replace(picture, x=x, x_adv=255 - x)])
    assert 'width="200" height="300"' in report_page(load_grid(folder))


def test_an_empty_store_waits_and_no_store_is_refused(tmp_path: Path):
    Store(tmp_path / "empty").create()
    page = report_page(load_grid(tmp_path / "empty"))
    assert "Waiting for results" in page
    assert not Reader(page).wrong
    with pytest.raises(InputError, match="holds no results"):
        write_report(tmp_path / "none", tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


# ------------------------------------------------------------------ verdicts


def judged(folder: Path) -> dict[str, Verdict]:
    return {verdict.name: verdict for verdict in verdicts(load_grid(folder))}


def rewrite(folder: Path, attack: str, change: Callable[[Facts], Facts]) -> None:
    """Write the facts of one attack anew."""
    store = Store(folder)
    for record in store.records():
        if record.cell.attack == attack:
            facts = store.facts(record.cell)
            assert facts is not None
            store.write(record.cell, (0, len(facts)), change(facts))


def spared(facts: Facts, radius: int, count: int) -> Facts:
    """The same facts, where ``count`` examples more stand at a radius, of those that fell."""
    fell = np.flatnonzero(facts.success[0, radius])[:count]
    success, prediction = facts.success.copy(), facts.prediction.copy()
    success[0, radius, fell] = False
    prediction[0, radius, fell] = facts.labels[fell]
    return replace(facts, success=success, prediction=prediction)


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    return made_up(tmp_path / "sound", models=1, defenses=1, attacks=2, radii=8, examples=500, pictures=0)


def test_sound_results_pass(sound: Path):
    found = judged(sound)
    assert {verdict.level for verdict in found.values()} == {PASS}, found
    assert len(found) == 11
    assert all(verdict.sentence.endswith(".") for verdict in found.values())


@pytest.mark.parametrize(("count", "level"), [(3, PASS), (60, FAIL)])
def test_accuracy_that_rises_with_the_radius_is_seen(sound: Path, count: int, level: str):
    before = next(line for line in load_grid(sound).lines if line.attack == "pgd" and line.eps == "7/255")
    rewrite(sound, "pgd", lambda facts: standing(facts, 7, int(before.stands.sum()) + count))
    found = judged(sound)["Accuracy never rises with the radius"]
    assert found.level == level, found
    assert f"pgd at 8/255 on made-up-1 leaves {count} examples of 500 more standing" in found.sentence


def standing(facts: Facts, radius: int, count: int) -> Facts:
    """The same facts, where the first ``count`` examples that are right stand at a radius and no others."""
    right = np.flatnonzero(facts.correct)
    success, prediction = facts.success.copy(), facts.prediction.copy()
    success[0, radius] = False
    success[0, radius, right[count:]] = True
    prediction[0, radius] = facts.labels
    prediction[0, radius, right[count:]] = (facts.labels[right[count:]] + 1) % 7
    return replace(facts, success=success, prediction=prediction)


def test_an_attack_that_does_nothing_is_seen(sound: Path):
    for radius in range(8):
        rewrite(sound, "fgsm", lambda facts, radius=radius: spared(facts, radius, 500))
    found = judged(sound)["Every attack beats something at its largest radius"]
    assert found.level == WARN
    assert "fgsm at 8/255" in found.sentence


def test_a_worst_case_better_than_an_attack_is_seen(sound: Path):
    grid = load_grid(sound)
    grid.__dict__["worst"] = tuple(replace(line, stands=line.clean) for line in grid.worst)
    found = {verdict.name: verdict for verdict in verdicts(grid)}
    assert found["The worst case is no better than any attack"].level == FAIL


def test_what_is_missing_or_made_by_other_code_is_seen(sound: Path):
    store = Store(sound)
    study = store.study()
    assert study is not None
    record = next(record for record in store.records() if record.cell.attack == "pgd")
    waiting = replace(record.cell, attack="fgsm")
    store.add(Record(waiting, record.about))
    store.write_study(replace(study, samples={**study.samples, waiting.key: 500}))
    facts = store.facts(record.cell)
    assert facts is not None
    other = replace(record.cell, code="other", seed=1)
    store.add(Record(other, record.about))
    store.write(other, (0, 100), facts.take(np.arange(100)))
    found = judged(sound)
    assert found["Every cell is complete"].level == WARN
    assert "1 cell of 5 lack" in found["Every cell is complete"].sentence
    assert "75 % of the sweep's examples are done" in found["Every cell is complete"].sentence
    assert found["One version of the code made all numbers"].level == WARN
    assert found["Models are compared on the same examples"].level == WARN
    assert found["There are enough examples"].level == WARN


def test_a_model_no_better_than_chance_is_seen(sound: Path):
    store = Store(sound)
    record = next(record for record in store.records() if not record.cell.stages)
    facts = store.facts(record.cell)
    assert facts is not None
    store.write(record.cell, (0, len(facts)), replace(facts, clean=facts.labels * 0 + 6))
    assert judged(sound)["Without attack, models do better than chance"].level == FAIL


def with_pictures(folder: Path, side: int, count: int) -> Path:
    """A store with large pictures full of noise, which no PNG makes small."""
    made_up(folder, models=1, defenses=1, attacks=1, radii=2, pictures=count)
    store = Store(folder)
    record = next(record for record in store.records() if record.cell.stages)
    facts = store.facts(record.cell)
    assert facts is not None
    rng = np.random.default_rng(0)
    pictures = [
        replace(
            picture,
            x=rng.integers(0, 256, (3, side, side), dtype=np.uint8),
            x_adv=rng.integers(0, 256, (3, side, side), dtype=np.uint8),
        )
        for picture in store.pictures(record.cell)
    ]
    store.write(record.cell, (0, len(facts)), facts, pictures)
    return folder


def test_pictures_of_any_size_leave_the_page_small(tmp_path: Path):
    page = report_page(load_grid(with_pictures(tmp_path / "s", 1200, 3)))
    assert len(page) < 3e6
    assert page.count("data-example=") >= 1
    assert 'width="1200" height="1200"' in page
    (example, *_) = data_of(page)["examples"].values()
    assert example[-1] == 4


def test_small_pictures_are_shown_to_the_level(tmp_path: Path):
    page = report_page(load_grid(with_pictures(tmp_path / "s", 64, 1)))
    (example,) = data_of(page)["examples"].values()
    assert example[-1] == 1
    store = Store(tmp_path / "s")
    (picture,) = (p for record in store.records() for p in store.pictures(record.cell))
    (uri,) = data_of(page)["clean"]
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))
    assert (shown == picture.x.transpose(1, 2, 0)).all()


def test_a_name_cannot_turn_the_numbers_beside_it(tmp_path: Path):
    """After a right-to-left override, 83.0 would be read as 0.38."""
    odd = "net\u202e\u2067\x07\\u0007\u2028"
    made = Made(tmp_path / "s")
    made.put(cell_of("pgd", model=odd), [1, 0, 0], [1, 1, 1])
    page = report_page(load_grid(tmp_path / "s"))
    shown = "net\ufffd\ufffd\ufffd\\u0007\u2028"
    assert not set(page) & set("\u202e\u2067\x07")
    assert shown in page
    assert data_of(page)["names"]["model"] == [shown]
