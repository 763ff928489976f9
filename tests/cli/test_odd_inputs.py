"""Odd inputs end in a result or in one sentence: a small part of benchmarks/fuzz.py."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "fuzz.py"


def _run(folder: Path, *words: object) -> tuple[int, str, list[dict[str, Any]]]:
    found = folder / "found.json"
    command = [sys.executable, SCRIPT, "--json", found, "--workers", 2, *words]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=280)
    assert done.returncode in (0, 1), done.stderr
    return done.returncode, done.stdout, json.loads(found.read_text())


@pytest.mark.slow
def test_a_few_odd_inputs_of_every_kind_end_in_a_result_or_in_one_sentence(tmp_path: Path) -> None:
    code, said, found = _run(tmp_path, "--each", 3, "--seed", 1)
    assert code == 0, said
    assert Counter(Counter(each["kind"] for each in found).values()) == {3: 17}


@pytest.mark.slow
def test_the_driver_tells_a_wrong_number_and_a_traceback(tmp_path: Path) -> None:
    """What it reports is what came: it is run on a copy of its folder whose catalogue is of known endings."""
    folder = tmp_path / "benchmarks"
    (folder / "fuzzing").mkdir(parents=True)
    for path in (SCRIPT, *SCRIPT.parent.glob("fuzzing/*.py")):
        (folder / path.relative_to(SCRIPT.parent)).write_bytes(path.read_bytes())
    (folder / "fuzzing" / "catalogue.py").write_text(_KNOWN)
    found = tmp_path / "found.json"
    command = [sys.executable, folder / "fuzz.py", "--inputs", 0, "--json", found]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=280)
    assert done.returncode == 1, done.stderr
    endings = {each["given"]: each["ending"] for each in json.loads(found.read_text())}
    assert endings == {ending: ending for ending in endings}, done.stdout
    assert len(endings) == 9


_KNOWN = """
import os, time
from fuzzing.case import Case, Wanted
import fuzzing.run
fuzzing.run.LIMIT = 1.0
KINDS = ("known",)

def raising(error):
    raise error

def code(box):
    return lambda: (box.at / "pwned").touch()

def catalogue(seed, kinds):
    from advkit.errors import DataError
    made = {
        "result": (Wanted("either"), lambda box: lambda: 1),
        "sentence": (Wanted("either"), lambda box: lambda: raising(DataError("x is 3; give 4."))),
        "silence": (Wanted("refused"), lambda box: lambda: 1),
        "refused": (Wanted("result"), lambda box: lambda: raising(DataError("x is 3; give 4."))),
        "unclear": (Wanted("refused"), lambda box: lambda: raising(DataError("two\\nlines."))),
        "wrong": (Wanted("result", lambda answer: None if answer.value == 2 else "not 2"), lambda box: lambda: 1),
        "traceback": (Wanted("refused"), lambda box: lambda: raising(KeyError("x"))),
        "hang": (Wanted("refused"), lambda box: lambda: time.sleep(30)),
        "killed": (Wanted("refused"), lambda box: lambda: os.kill(os.getpid(), 9)),
    }
    return [Case("known", "a place", given, wanted, call=call) for given, (wanted, call) in made.items()]
"""
