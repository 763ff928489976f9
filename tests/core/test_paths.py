"""What is said of paths, and of other texts of somebody else's."""

from __future__ import annotations

from pathlib import Path

import pytest

from advkit import load_data, load_model
from advkit.errors import InputError
from advkit.paths import check_path, expanded, shown


def test_what_would_steer_a_terminal_is_spelled_out():
    assert shown("a\x1b[2J\r\n\x9b\u202eb\0") == r"a\x1b[2J\r\n\x9b\u202eb\x00"
    assert shown("Zürich/標識") == "Zürich/標識"
    assert shown("a" * 300) == f"{'a' * 200}... (300 letters)"
    assert shown("a" * 300, None) == "a" * 300


def test_a_home_of_nobody_is_a_path_like_any_other():
    assert expanded("~no_such_user/net.pt") == Path("~no_such_user/net.pt")
    for load in (
        lambda: load_model("resnet20", weights="~no_such_user/net.pt"),
        lambda: load_data("~no_such_user/x.npz"),
    ):
        with pytest.raises(InputError, match="no_such_user"):
            load()


@pytest.mark.parametrize("text", ["", " ", "a\0b", "a" * 256, "a/" * 3000])
def test_what_no_file_can_be_called_is_refused(text: str):
    with pytest.raises(InputError) as refused:
        check_path("--out", text)
    assert len(str(refused.value)) < 200
    assert str(refused.value).isprintable()
