"""What errors of others say, in one line."""

from __future__ import annotations

import pytest

from advkit.errors import first_line


@pytest.mark.parametrize(
    ("error", "plain", "typed"),
    [
        (ValueError("too long.\nAt line 3"), "too long", "ValueError: too long"),
        (RuntimeError("\n  Error:\nmore"), "Error:", "RuntimeError: Error:"),
        (KeyError(), "KeyError", "KeyError"),
        (OSError("  \n"), "OSError", "OSError"),
    ],
)
def test_the_first_line_says_it_or_the_type_does(error: Exception, plain: str, typed: str) -> None:
    assert first_line(error) == plain
    assert first_line(error, typed=True) == typed
