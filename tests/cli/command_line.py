"""What running a command line gives."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

QUICK = ("--samples", "6", "--steps", "3", "--attack", "pgd")


class Answer(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Answer]
