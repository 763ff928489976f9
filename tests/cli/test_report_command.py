"""``advkit report``: one file, whole or not at all."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from command_line import Run
from stores import Made, cell_of

from advkit.results.asked import Asked
from advkit.results.cell import Stage
from advkit.results.grid import load_grid
from advkit.results.report import report_page, waiting_page
from advkit.results.store import Study

ROOT = Path(__file__).parents[2]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    args = ["--models=2", "--defenses=1", "--attacks=2", "--radii=2", "--examples=20", "--pictures=2"]
    subprocess.run([sys.executable, ROOT / "scripts" / "made_up_store.py", tmp_path / "store", *args], check=True)
    return tmp_path / "store"


def test_the_page_stands_in_the_store_or_where_it_is_asked_for(run: Run, store: Path, tmp_path: Path):
    answer = run("report", store)
    assert (answer.code, answer.out, answer.err) == (0, f"{store / 'report.html'}\n", "")
    assert (store / "report.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    elsewhere = tmp_path / "new" / "folder" / "page.html"
    assert run("report", store, "--out", elsewhere).code == 0
    assert elsewhere.stat().st_size > 50_000


def test_a_report_in_the_store_disturbs_nothing(run: Run, store: Path):
    run("report", store)
    first = (store / "report.html").read_text(encoding="utf-8")
    run("report", store)
    assert len((store / "report.html").read_text(encoding="utf-8")) == len(first)


def test_what_cannot_be_read_or_written_is_refused(refused: Callable[..., str], store: Path, tmp_path: Path):
    assert "holds no results" in refused("report", tmp_path / "none")
    assert not (tmp_path / "none").exists()
    (tmp_path / "file").write_text("")
    assert "cannot be written" in refused("report", store, "--out", tmp_path / "file" / "page.html")
    assert "is a directory" in refused("report", store, "--out", tmp_path)


def _checker() -> list[str]:
    """The Nu checker or html-validate, as they are there."""
    jar, java = os.environ.get("ADVKIT_VNU"), shutil.which("java")
    if jar and java:
        return [java, "-jar", jar, "--errors-only"]
    if vnu := shutil.which("vnu"):
        return [vnu, "--errors-only"]
    if validate := os.environ.get("ADVKIT_HTML_VALIDATE") or shutil.which("html-validate"):
        return [validate]
    pytest.skip(
        "no checker: put vnu or html-validate on PATH, or name one by ADVKIT_VNU (its jar) or ADVKIT_HTML_VALIDATE"
    )


def test_pages_of_every_kind_are_valid_html(run: Run, store: Path, tmp_path: Path):
    checker = _checker()
    (tmp_path / ".htmlvalidate.json").write_text('{"root": true, "extends": ["html-validate:recommended"]}')
    pages = {name: tmp_path / f"{name}.html" for name in ("plain", "odd", "stages", "waiting", "served")}
    assert run("report", store, "--out", pages["plain"]).code == 0
    odd = "<b>\"odd\" & 'name'</b>"
    made = Made(tmp_path / "odd store")
    made.put(cell_of(model=odd), [1] * 8, controlled=odd)
    made.put(cell_of(odd, model=odd, settings=odd), [1] * 3 + [0] * 5, [1] * 8, weights=odd, data=odd, git=odd)
    assert run("report", made.store.folder, "--out", pages["odd"]).code == 0
    stages = Made(tmp_path / "stages")
    chain = replace(cell_of("pgd"), attack="chain", stages=(Stage("one", ("1",)), Stage("two", ("2",))))
    cell = stages.put(chain, [1] * 3 + [0] * 5, [1] * 8, wanted=9, command="advkit sweep --out 'a b'")
    clean = stages.put(cell_of(), [1] * 8)
    stages.store.add_asked(clean, [Asked("P3", "Answers are logits", "fail", "They sum to one.", "Take the logits.")])
    stages.store.write_study(Study("advkit sweep", {cell.key: 9}, {"study": "[study]\n"}))
    assert run("report", stages.store.folder, "--out", pages["stages"]).code == 0
    pages["waiting"].write_text(waiting_page(tmp_path, odd))
    pages["served"].write_text(report_page(load_grid(stages.store.folder), version="0" * 16))
    done = subprocess.run([*checker, *pages.values()], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
