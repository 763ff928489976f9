"""A standard output that is full, closed or of few characters costs no result, and ends in one sentence."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from stores import Made, cell_of

ATTACK = ("attack", "--model", "lenet", "--samples", "4", "--attack", "fgsm", "--quiet")


def _run(words: tuple[str, ...], shell: str = "", **environment: str) -> subprocess.CompletedProcess[bytes]:
    """A command line with its standard output as a shell says."""
    line = " ".join([sys.executable, "-m", "advkit", *words, shell])
    return subprocess.run(["bash", "-c", line], capture_output=True, env={**os.environ, **environment}, timeout=120)


def _told(done: subprocess.CompletedProcess[bytes], why: str) -> None:
    said = done.stderr.decode().splitlines()
    assert len(said) == 1, said
    assert said[0].startswith("Error: standard output cannot be written (")
    assert why in said[0]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a system without /dev/full")
def test_a_full_output_costs_no_result(tmp_path: Path):
    done = _run((*ATTACK, "--save", str(tmp_path / "run")), "> /dev/full")
    assert done.returncode == 1
    _told(done, "No space left")
    assert (tmp_path / "run" / "evaluation.json").exists()


@pytest.mark.parametrize(
    ("shell", "why"), [(">&-", "it is closed"), ("| true; exit ${PIPESTATUS[0]}", "who reads it has left")]
)
def test_a_closed_output_is_told_in_one_sentence(shell: str, why: str):
    done = _run(("attack", "--help"), shell)
    if b"Error" in done.stderr:  # a pipe may take what is short before its reader has left
        _told(done, why)
        assert done.returncode == 1
    else:
        assert shell != ">&-"


def test_an_output_of_few_characters_shows_the_table():
    done = _run(ATTACK, PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert done.stdout.isascii()
    assert b"clean" in done.stdout


@pytest.mark.parametrize("words", [("table",), ("table", "--format", "csv"), ("results", "list"), ("results", "show")])
def test_what_a_store_says_steers_no_terminal(tmp_path: Path, words: tuple[str, ...]):
    made, cell = Made(tmp_path / "store"), cell_of("pgd", model="n\x1b[2Je\r\x9bt\x1b[8m")
    made.put(cell, [1, 0], model=cell.model)
    key = (cell.key,) if words[-1] == "show" else ()
    done = _run((*words, str(tmp_path / "store"), *key))
    said = done.stdout.decode()
    assert done.returncode == 0, done.stderr
    assert "n\\x1b[2Je\\r\\x9bt\\x1b[8m" in said
    assert said.replace("\n", "").isprintable()
