"""The masked models of the tests: what plain PGD says of them, what the checks correct it to, and what the bare network keeps.

    python benchmarks/masked.py
    python benchmarks/masked.py --seeds 20 --out FOLDER

Without options: the first table of docs/checks.md, accuracy % with 95 % intervals, of the weights that the tests keep; about a
minute on one core. With ``--seeds``: its second table. Each network is trained anew under so many seeds, and counted is how
often its mask is told and its number corrected to within the room of the tests. What was found is kept in FOLDER, one line for
each model and seed, and not computed again; ``--seconds`` ends a run in time, and the next one goes on. ``--keep`` trains the
networks of seed 0 and writes the weights that the tests use.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import save_file
from torch import nn

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "engine")]

from fixtures_masked import BALL, COUNT, KEPT, MASKED, RECIPES, data, kept, misleading, train, trained  # noqa: E402

from advkit.attacks import PGD  # noqa: E402
from advkit.core import Linf  # noqa: E402
from advkit.data import Data  # noqa: E402
from advkit.engine.evaluate import evaluate  # noqa: E402
from advkit.engine.protocol import examine  # noqa: E402

HONEST, MISLEADING = "the honest network", "an undefended network that misleads cross-entropy"
SHORT = {"steps": 12, "queries": 30}  # as the tests examine them


class Subject(NamedTuple):
    """A model under examination; ``codes`` of checks must fail, and no others where it is honest."""

    model: nn.Module
    bare: nn.Module
    source: Data
    codes: set[str]
    room: float = 1.5 / COUNT
    kept: Callable[[nn.Module, Data, Linf], float] = kept


def _misleading(seed: int | None) -> Subject:
    net, source = misleading(seed or 0)
    return Subject(net, net, source, {"P10"}, 0.015)


def _subjects() -> dict[str, Callable[[int | None], Subject]]:
    made: dict[str, Callable[[int | None], Subject]] = {
        HONEST: lambda s: Subject(trained("plain", s), trained("plain", s), data(), set()),
        MISLEADING: _misleading,
    }
    for name, each in MASKED.items():
        made[name] = lambda s, each=each: Subject(each.make(s), each.bare(s), data(), each.codes, each.room, each.kept)  # type: ignore[misc]
    return made


SUBJECTS = _subjects()


def table() -> None:
    """One line for each model with the weights that are kept."""
    print("| model | checks that fail | plain PGD | corrected | bare network |\n| --- | --- | ---: | ---: | ---: |")
    for name, make in SUBJECTS.items():
        one = make(None)
        found = examine(one.model, one.source, BALL, samples=None)
        codes = ", ".join(dict.fromkeys(finding.code for finding in found.failed)) or "none"
        bare = 100 * one.kept(one.bare, one.source, BALL)
        print(f"| {name} | {codes} | {found.plain.percent} | {found.corrected.percent} | {bare:.1f} |", flush=True)


class Facts(NamedTuple):
    """What was found of a model that was trained under a seed."""

    model: str
    seed: int
    codes: list[str]
    doubts: list[str]  # of an evaluation by PGD on cross-entropy
    plain: float
    corrected: float
    bare: float
    expected: list[str]
    room: float

    @property
    def told(self) -> bool:
        """Whether the checks that it offends fail; of an honest model, whether none does."""
        return set(self.expected) <= set(self.codes) if self.expected else not self.codes

    @property
    def right(self) -> bool:
        """Whether the corrected number is within its room of what the bare network keeps."""
        return self.corrected <= self.bare + self.room


def facts(name: str, seed: int, settings: dict[str, int]) -> Facts:
    """Train and examine."""
    one = SUBJECTS[name](seed)
    found = examine(one.model, one.source, BALL, samples=None, **settings)
    codes = sorted({finding.code for finding in found.failed})
    long = PGD(BALL if name == MISLEADING else Linf("1/255"), steps=80, restarts=6)
    doubts = sorted({doubt.code for doubt in evaluate(one.model, one.source, long).doubts})
    bare = one.kept(one.bare, one.source, BALL)
    expected = sorted(one.codes)
    return Facts(name, seed, codes, doubts, found.plain.value, found.corrected.value, bare, expected, one.room)


def rates(seeds: int, out: Path, only: str, seconds: float, settings: dict[str, int]) -> bool:
    """The rates over training seeds; whether all are there."""
    file, end = out / f"masked-{'-'.join(map(str, settings.values())) or 'default'}.jsonl", time.monotonic() + seconds
    out.mkdir(parents=True, exist_ok=True)
    lines = file.read_text().splitlines() if file.exists() else []
    known = {(each.model, each.seed): each for each in (Facts(**json.loads(line)) for line in lines)}
    for seed in range(seeds):
        for name in SUBJECTS:
            if (name, seed) in known or only not in name:
                continue
            if time.monotonic() > end:
                print(f"{len(known)} are there; run it again to go on")
                return False
            each = known[name, seed] = facts(name, seed, settings)
            with file.open("a") as opened:
                opened.write(json.dumps(each._asdict()) + "\n")
            if not (each.told and each.right):
                print(f"seed {seed}: {each}", file=sys.stderr, flush=True)
    for line in _rows(list(known.values())):
        print(line)
    return True


def _rows(known: list[Facts]) -> Iterator[str]:
    yield "| model | told | corrected | above the bare network, most | by an evaluation |\n| --- | ---: | ---: | ---: | ---: |"
    for name in SUBJECTS:
        each = [one for one in known if one.model == name]
        if not each:
            continue
        told, right = sum(one.told for one in each), sum(one.right for one in each)
        most = 100 * max(one.corrected - one.bare for one in each)
        doubts = sum(not one.doubts if not one.expected else bool(one.doubts) for one in each)
        yield f"| {name} | {told} of {len(each)} | {right} of {len(each)} | {most:+.1f} | {doubts} of {len(each)} |"


def keep() -> None:
    """Write the weights that the tests use."""
    KEPT.parent.mkdir(exist_ok=True)
    weights = {f"{name}.{key}": value for name in RECIPES for key, value in train(name, 0).state_dict().items()}
    save_file({key: weights[key].contiguous() for key in sorted(weights)}, KEPT)
    print(f"wrote {KEPT.relative_to(ROOT)}, {KEPT.stat().st_size:,} bytes")


def main() -> None:
    """A table, or the weights."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, help="train each network under seeds 0 to SEEDS - 1 and print rates")
    parser.add_argument("--out", type=Path, default=Path("masked"), help="where what was found is kept")
    parser.add_argument("--only", default="", help="a part of the names of models")
    parser.add_argument("--short", action="store_true", help="12 steps and 30 queries, as in the tests")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no other model after so long")
    parser.add_argument("--keep", action="store_true", help="write the weights that the tests use")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.keep:
        keep()
    elif given.seeds is None:
        table()
    elif not rates(given.seeds, given.out, given.only, given.seconds, SHORT if given.short else {}):
        sys.exit(3)


if __name__ == "__main__":
    main()
