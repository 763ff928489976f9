"""Inputs whose right value is known, and what concerns the process: standard output, scripts without a guard."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from fuzzing.case import Answer, Box, Case, Wanted
from fuzzing.stock import NET, QUICK

__all__ = ["process", "right"]


def _value(check: Callable[[Any], object], want: object) -> Callable[[Answer], str | None]:
    def holds(answer: Answer) -> str | None:
        found = check(json.loads(answer.out) if answer.value is None else answer.value)
        return None if found == want else f"{found!r}, not {want!r}"

    return holds


_LINEAR = """import torch
from torch import nn
class Half(nn.Module):
    def forward(self, x):
        z = x.flatten(1).mean(1)
        return torch.stack([z * 0 + 0.5, z], 1)
def net():
    return Half()
"""


def _halves(box: Box, *levels: int) -> object:
    """Flat grey pictures: class 1 above 127.5, class 0 below."""
    import numpy as np

    path = box.at / "flat.npz"
    x = np.stack([np.full((8, 8, 3), level, np.uint8) for level in levels])
    np.savez(path, x=x, y=np.array([int(level > 127) for level in levels]))
    return path


_LEVELS = (100, 120, 124, 126, 129, 131, 135, 155)  # on either side of 127.5: 27.5, 7.5, 3.5, 1.5 grey levels away


def _table(*more: object) -> Callable[[Box], list[object]]:
    def words(box: Box) -> list[object]:
        box.write("half.py", _LINEAR)
        return [
            "attack",
            "--quiet",
            "--model",
            "half.py:net",
            "--data",
            _halves(box, *_LEVELS),
            "--format",
            "json",
            *more,
        ]

    return words


def right() -> Iterator[Case]:
    """Robust accuracies that follow from a picture's distance to a boundary that is known."""
    robust = {"1/255": 1.0, "2/255": 0.75, "4/255": 0.5, "8/255": 0.25, "28/255": 0.0}
    for attack in (
        "fgsm",
        "pgd",
        "apgd",
        "mi-fgsm",
        "ni-fgsm",
        "worst-case",
        "fmn",
        "fab",
        "deepfool",
        "standard",
        "bim",
        "rs-fgsm",
    ):
        for eps, share in robust.items():
            if (attack, eps) == ("rs-fgsm", "28/255"):
                continue  # a random start and one step of 1.25 eps, clipped: it need not reach the boundary
            holds = _value(lambda found: found["worst"][-1]["accuracy"], share)
            yield Case(
                "right",
                f"attack --attack {attack}",
                f"eps {eps}",
                Wanted("result", holds),
                _table("--attack", attack, "--eps", eps),
            )
    for text, value in {
        "8/255": 0.25, "8px": 0.25, "0.03137254901960784": 0.25, " 8/255 ": 0.25, "16/510": 0.25, "3.1372549019607843%": 0.25, "0.0157": 0.5,
    }.items():  # fmt: skip
        holds = _value(lambda found: found["worst"][-1]["accuracy"], value)
        yield Case(
            "right", "attack --eps", repr(text), Wanted("result", holds), _table("--attack", "fgsm", "--eps", text)
        )
    for samples, count in {"1": 1, "8": 8, "100": 8}.items():
        holds = _value(lambda found: found["n"], count)
        yield Case(
            "right",
            "attack --samples",
            samples,
            Wanted("result", holds),
            _table("--attack", "fgsm", "--samples", samples),
        )
    clean = _value(lambda found: found["clean"]["accuracy"], 1.0)
    for more in (
        ("--device", "cpu"),
        ("--seed", "9223372036854775807"),
        ("--batch-size", "3"),
        ("--precision", "float32"),
        ("--eps", "0,8/255"),
    ):
        yield Case("right", f"attack {more[0]}", more[1], Wanted("result", clean), _table("--attack", "fgsm", *more))
    for command in ("certify", "check", "detect"):
        small = {"certify": ("--n", 50, "--n0", 10), "check": ("--queries", 5), "detect": ("--squeezer", "bits:5")}[
            command
        ]

        def words(box: Box, command: str = command, small: tuple[object, ...] = small) -> list[object]:
            box.write("half.py", _LINEAR)
            return [command, "--quiet", "--model", "half.py:net", "--data", _halves(box, *_LEVELS * 5), *small]

        yield Case("right", command, "two classes of grey", Wanted("result"), words)
    yield from _read_back()


def _read_back() -> Iterator[Case]:
    """What was stored, unspoilt, by every reader of it."""
    for stock, commands in {
        "store": (("table",), ("results", "check"), ("results", "list"), ("verify", "--quiet"), ("report",)),
        "saved": (("verify", "--quiet"), ("show", "--only", "confusion", "--quiet")),
        "sticker": (("drive", *NET, "--poses", "10@0", "--draws", "1"), ("print",)),
    }.items():
        for words in commands:

            def build(box: Box, words: tuple[str, ...] = words, stock: str = stock) -> list[object]:
                count = 2 if words[0] == "results" else 1
                return [*words[:count], box.copy(stock), *words[count:]]

            yield Case(
                "right",
                " ".join(words[: 2 if words[0] == "results" else 1]),
                f"{stock}, unspoilt",
                Wanted("result"),
                build,
                needs=(stock,),
            )


_SCRIPT = """import advkit
from advkit.executors.processes import Processes
advkit.sweep("lenet", "signs", "fgsm", ["8/255"], samples=2, out="new", executor=Processes(2))
"""


def process() -> Iterator[Case]:
    """Standard output that is closed, full or ASCII, and a script that starts workers without a guard."""
    for where in ("closed", "full", "ascii"):
        for words in (
            ("attack", *QUICK, "--attack", "fgsm", "--save", "kept"), ("list", "attacks"), ("list", "backbones", "--only", "lenet"), ("table", "{stock}/store"),
            ("results", "list", "{stock}/store"), ("sweep", *QUICK, "--attack", "fgsm", "--out", "kept"), ("--help",), ("attack", "--help"), ("--version",),
            ("certify", *QUICK, "--n", "10", "--n0", "5"), ("train", "--help"), ("list", "attacks", "--format", "json"),
        ):  # fmt: skip

            def build(box: Box, words: tuple[object, ...] = words) -> list[object]:
                return [str(word).format(stock=box.stock) for word in words]

            wanted = Wanted("result" if where == "ascii" else "either")
            name = " ".join(map(str, words[: 2 if words[0] == "results" else 1]))
            needs = ("store",) if "{stock}/store" in words else ()
            yield Case(
                "process",
                name,
                f"{' '.join(map(str, words))}, standard output {where}",
                wanted,
                build,
                needs=needs,
                alone=True,
                stdout=where,
            )

    def script(box: Box) -> list[object]:
        return [box.write("unguarded.py", _SCRIPT)]

    yield Case(
        "process",
        "advkit.sweep",
        "workers from a script without a guard",
        Wanted("either"),
        script,
        alone=True,
        raises="starts worker processes",
    )
    for keys in ("steps=2", "steps=2,seed=1"):
        yield Case(
            "process",
            "attack",
            f"a true process, --set {keys}",
            Wanted("either"),
            lambda _, keys=keys: ["attack", *QUICK, "--attack", "pgd", "--set", keys],
            alone=True,
        )
