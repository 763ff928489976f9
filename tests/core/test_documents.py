"""JSON and TOML from anywhere: the value, or one sentence."""

from __future__ import annotations

import ast
import json
import math
import os
import socket
import time
from pathlib import Path

import pytest

from advkit.documents import (
    DEEPEST,
    LARGEST_TOML,
    DocumentError,
    DocumentMissing,
    parse_json,
    parse_toml,
    read_content,
    read_json,
    read_toml,
)
from advkit.errors import AdvkitError

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "it is empty"),
        (b" \n", "it is empty"),
        (b'{"a": [1, 2', "it is cut off at line 1, column 12"),
        (b'{"a": "no end', "it is cut off at line 1"),
        (b'{"a": }', "it is not JSON: Expecting value at line 1, column 7"),
        (b"[" * 100_000, "it is nested deeper than 64 levels"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "it is nested deeper than 64 levels"),
        (b"[" * 80 + b"]" * 80, "it is nested deeper than 64 levels"),
        (b'{"a": ' + b"9" * 10_000 + b"}", "it holds a whole number of more than 64 bits"),
        (b'{"a": [1, 9223372036854775808]}', "it holds a whole number of more than 64 bits"),
        (b'{"a": "\xff"}', "it is not a text in UTF-8 (byte 7)"),
        ('{"a": 1}'.encode("utf-16"), "it is not a text in UTF-8 (byte 0)"),
        (b'{"a": "\\ud800"}', "it holds half a character"),
        (b'{"a": {"b": 1, "c": 2, "b": 3}}', "it says 'b' twice in one object"),
    ],
)  # fmt: skip
def test_a_document_that_cannot_be_used_is_refused_in_one_sentence(content: bytes, said: str, tmp_path: Path):
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(DocumentError) as refused:
        read_json(path)
    assert str(refused.value).startswith(f"{path} cannot be read: {said}"), str(refused.value)
    assert "\n" not in str(refused.value)
    assert str(refused.value).endswith(".")
    assert isinstance(refused.value, AdvkitError)
    assert isinstance(refused.value, ValueError)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a = ", "it is not TOML: Invalid value"),
        ("a = " + "[" * 100_000, "it is nested deeper than 64 levels"),
        ("a = " + "[" * 80 + "]" * 80, "it is nested deeper than 64 levels"),
        ("a = " + "{b=" * 5000 + "1" + "}" * 5000, "it is nested deeper than 64 levels"),
        ("a = " + "9" * 10_000, "it holds a whole number of more than 64 bits"),
        (".".join("a" * 100_000) + " = 1", "it has a key of over 64 parts"),
        (" . ".join(['"a b"'] * 50_000) + " = 1", "it has a key of over 64 parts"),
        ("a = 1\na = 2", "it is not TOML: Cannot overwrite a value"),
        ("a = 2026-13-99", "it is not TOML"),
        ("#" + "x" * LARGEST_TOML, "it has over 1 MiB"),
    ],
)  # fmt: skip
def test_a_table_that_cannot_be_used_is_refused_at_once(text: str, said: str, tmp_path: Path):
    path = tmp_path / "x.toml"
    path.write_text(text)
    begun = time.monotonic()
    with pytest.raises(DocumentError) as refused:
        read_toml(path)
    assert str(refused.value).startswith(f"{path} cannot be read: {said}"), str(refused.value)[:300]
    assert time.monotonic() - begun < 5


def test_what_is_no_regular_file_is_refused_and_never_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.chdir(tmp_path)  # the path of a socket may have about 100 characters
    with socket.socket(socket.AF_UNIX) as one:
        one.bind("socket")
        for path in ("/dev/zero", "/dev/null", tmp_path / "pipe", Path("socket"), tmp_path):
            with pytest.raises(DocumentError, match="cannot be read") as refused:
                read_json(path)
            assert not isinstance(refused.value, DocumentMissing)


@pytest.mark.parametrize("name", ["none.json", "file/none.json"])
def test_a_missing_file_is_told_apart(name: str, tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(FileNotFoundError) as refused:
        read_json(tmp_path / name)
    assert isinstance(refused.value, DocumentError)


@pytest.mark.parametrize("name", ["a\0b", "x" * 5000, "x/" * 3000])
def test_a_name_that_no_file_can_have_is_refused(name: str):
    with pytest.raises(DocumentError, match="cannot be read"):
        read_json(name)


def test_no_more_than_the_limit_is_read(tmp_path: Path):
    path = tmp_path / "big"
    with path.open("wb") as file:
        file.truncate(2**40)  # a sparse file of 1 TiB
    with pytest.raises(DocumentError, match="over 256 MiB"):
        read_json(path)
    path.write_bytes(b"12345")
    assert read_content(path, 5) == b"12345"
    with pytest.raises(DocumentError):
        read_content(path, 4)


def test_what_advkit_writes_is_read_as_it_was():
    found = {"a": [1.5, None, True, 2**63 - 1, -(2**63), "ü\U0001f600"], "deep": _nested(DEEPEST - 2)}
    assert parse_json(json.dumps(found), "it") == found
    assert math.isnan(parse_json(json.dumps([float("nan")]), "it")[0])
    assert parse_json(b"\xef\xbb\xbf[1]", "it") == [1]
    assert parse_toml("a.b = 1\r\nc = 'x.y.z'\r\n", "it") == {"a": {"b": 1}, "c": "x.y.z"}


def _nested(levels: int) -> list[object]:
    found: list[object] = []
    for _ in range(levels - 1):
        found = [found]
    return found


def test_nobody_else_parses_json_or_toml():
    wrong = []
    for folder in ("advkit", "attacks", "defenses"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                told = ast.unparse(node) if isinstance(node, ast.Attribute | ast.Import | ast.ImportFrom) else ""
                if told in ("json.load", "json.loads", "json.JSONDecoder", "import tomllib") or "from json" in told:
                    wrong.append(f"{path.relative_to(ROOT)}: {told}")
    assert all(each.startswith("advkit/documents.py") for each in wrong), wrong


def test_the_same_tensors_and_facts_give_the_same_file_byte_for_byte(tmp_path: Path):
    import torch

    from advkit.backbones import save_model
    from advkit.engine.training.checkpoint import read_checkpoint, save_tensors

    torch.manual_seed(0)
    net = torch.nn.Linear(4, 3)
    extra = {f"fact {number}": f"ü{number}" for number in range(12)}
    for name in ("a", "b"):
        save_model(
            tmp_path / f"{name}.safetensors",
            net,
            backbone="lenet",
            classes=["x", "y", "z"],
            channels=1,
            size=2,
            extra=extra,
        )
        save_tensors(tmp_path / f"{name}.check", {"net/w": net.weight}, {"advkit": json.dumps({"format": 1}), **extra})
    for ending in ("safetensors", "check"):
        assert (tmp_path / f"a.{ending}").read_bytes() == (tmp_path / f"b.{ending}").read_bytes()
    saved = read_checkpoint(tmp_path / "a.check")
    assert saved is not None
    assert torch.equal(saved.groups["net"]["w"], net.weight)
