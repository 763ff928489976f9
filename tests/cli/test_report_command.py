"""``advkit report``: one file, whole or not at all."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import Run

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


def test_the_page_is_valid_html(run: Run, store: Path, tmp_path: Path):
    checker = os.environ.get("ADVKIT_HTML_VALIDATE") or shutil.which("html-validate")
    if not checker:
        pytest.skip("no html-validate: put it on PATH or name it by ADVKIT_HTML_VALIDATE")
    run("report", store)
    (tmp_path / ".htmlvalidate.json").write_text('{"root": true, "extends": ["html-validate:recommended"]}')
    page = shutil.copy(store / "report.html", tmp_path / "page.html")
    done = subprocess.run([checker, page], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
