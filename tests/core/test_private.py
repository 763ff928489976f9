"""What is kept and printed names no password, no home, no host, and no formula."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from advkit.engine.provenance import worked_here
from advkit.engine.recipe import lasting
from advkit.private import kept_path, kept_words, redacted, safe_cell


@pytest.fixture(autouse=True)
def _at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("ADVKIT_RECORD", raising=False)


def test_passwords_of_addresses_are_left_out():
    assert redacted("mlflow:http://me:s3cret@host:5000/x") == "mlflow:http://***@host:5000/x"
    assert redacted("no connection to https://token@host/a@b") == "no connection to https://***@host/a@b"
    assert redacted("a.py:net@standard and me@host") == "a.py:net@standard and me@host"


def test_a_path_at_home_is_kept_from_there_and_found_again(tmp_path: Path):
    file = tmp_path / "nets" / "my.py"
    file.parent.mkdir()
    file.touch()
    assert lasting(f"{file}:net") == "~/nets/my.py:net"
    assert Path(lasting(str(file))).expanduser() == file
    assert kept_path("/elsewhere/x.npz") == "/elsewhere/x.npz"
    assert kept_path(f"{tmp_path}-other/x") == f"{tmp_path}-other/x"
    assert kept_words(f"--data={tmp_path}/x.npz") == "--data=~/x.npz"


def test_who_asks_for_paths_and_hosts_gets_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert "node" not in worked_here("cpu")
    monkeypatch.setenv("ADVKIT_RECORD", "host,paths")
    assert worked_here("cpu")["node"] == os.uname().nodename
    assert kept_path(tmp_path / "x") == str(tmp_path / "x")


@pytest.mark.parametrize("value", ["=1+1", "@SUM(A1)", "+cmd|' /C calc'!A0", "-1+cmd|' /C calc'!A0", "\t=1", "-a"])
def test_a_text_is_no_formula(value: str):
    assert safe_cell(value) == f"'{value}"
    assert str(safe_cell(value)).removeprefix("'") == value


@pytest.mark.parametrize(
    "value", ["pgd", "", "-", "-12.5", "+3.0 [-1.0, 7.0]", "-1e-3", -1.5, None, 3, True, "50.0 % +/- 1"]
)
def test_numbers_and_plain_texts_stay_as_they_are(value: object):
    assert safe_cell(value) is value
