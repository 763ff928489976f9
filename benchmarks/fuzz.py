"""Give odd inputs to every command and to the Python facade, and count how they end.

    python benchmarks/fuzz.py
    python benchmarks/fuzz.py --inputs 60 --seed 3 --only numbers --only weights
    python benchmarks/fuzz.py --inputs 0 --list

Inputs are kinds of odd values times places where advkit takes one, drawn with a seed from a catalogue (benchmarks/fuzzing/),
and inputs whose right value is known. Each says what is wanted: a result, one sentence, or either. Each is tried in a process
of its own, with limits of time and memory. Exit code 1 where any ended otherwise than is wanted.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from fuzzing.case import ENDINGS, FINE, Case
from fuzzing.catalogue import KINDS, catalogue
from fuzzing.run import Tried, load, sentence_of, try_all
from fuzzing.stock import made


def chosen(cases: Sequence[Case], count: int, seed: int) -> list[Case]:
    """So many of the inputs, spread evenly over kinds and commands; the same for the same seed. All of them for 0."""
    groups: dict[tuple[str, str], list[Case]] = defaultdict(list)
    for case in cases:
        groups[case.kind, case.command].append(case)
    chance = random.Random(seed)
    for group in groups.values():
        chance.shuffle(group)
    order = [*groups.values()]
    chance.shuffle(order)
    dealt = [group[turn] for turn in range(max(map(len, order), default=0)) for group in order if turn < len(group)]
    return dealt[: count or len(dealt)]


def report(tried: Sequence[Tried], seconds: float, seed: int) -> None:
    """What was not fine, then the tables."""
    for each in tried:
        if each.ending not in FINE:
            print(sentence_of(each))
    rows: dict[str, Counter[str]] = defaultdict(Counter)
    for each in tried:
        rows[each.case.command][each.ending] += 1
    shown = [ending for ending in ENDINGS if any(row[ending] for row in rows.values())]
    print(f"\n{'':32}" + "".join(f"{name:>10}" for name in shown))
    for name, row in sorted(rows.items()):
        print(f"{name[:32]:32}" + "".join(f"{row[ending] or '-':>10}" for ending in shown))
    total = Counter(each.ending for each in tried)
    print(f"{'all':32}" + "".join(f"{total[ending]:>10}" for ending in shown) + "\n")
    for ending in shown:
        print(f"{ending:10} {total[ending]:5}  {ENDINGS[ending]}")
    times = [each.seconds for each in tried if each.refused]
    if times:
        print(f"refusals: median {statistics.median(times):.2f} s, longest {max(times):.2f} s after imports")
    bad = sum(count for ending, count in total.items() if ending not in FINE)
    print(
        f"seed {seed}, {len(tried)} inputs, {seconds:.0f} s: {f'{bad} are not as wanted' if bad else 'all as wanted'}"
    )


def as_json(tried: Sequence[Tried]) -> list[dict[str, object]]:
    """One object for each input."""
    return [
        {
            "kind": each.case.kind,
            "place": each.case.place,
            "given": each.case.given,
            "wanted": each.case.wanted.what,
            "ending": each.ending,
            "told": each.told,
            "seconds": round(each.seconds, 3),
        }
        for each in tried
    ]


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description="Give odd inputs to advkit; see the top of the file.")
    parser.add_argument("--inputs", type=int, default=1200, help="how many; 0 for all of the catalogue")
    parser.add_argument("--each", type=int, help="so many of each kind, instead of --inputs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", action="append", choices=KINDS, help="a kind of input; repeatable")
    parser.add_argument("--place", default="", help="only places that hold this text")
    parser.add_argument("--workers", type=int, default=max(1, min(4, (os.cpu_count() or 2) // 2)))
    parser.add_argument("--json", type=Path, help="write every input and its ending here")
    parser.add_argument("--list", action="store_true", help="print the inputs and try none")
    given = parser.parse_args()
    load()
    cases = [case for case in catalogue(given.seed, given.only or KINDS) if given.place in case.place]
    if given.each:
        kinds = [[case for case in cases if case.kind == kind] for kind in KINDS]
        cases = [case for of_kind in kinds for case in chosen(of_kind, given.each, given.seed)]
    else:
        cases = chosen(cases, given.inputs, given.seed)
    if given.list:
        for case in cases:
            print(f"{case.kind:10} {case.wanted.what:8} {case.place}: {case.given}")
        return
    began, tried = time.monotonic(), list[Tried]()
    with tempfile.TemporaryDirectory() as folder:
        stock = Path(folder) / "stock"
        made({name for case in cases for name in case.needs}, Path(folder), stock)
        for each in try_all(cases, Path(folder) / "tried", stock, given.workers):
            tried.append(each)
            if sys.stderr.isatty():
                print(f"\r{len(tried)} of {len(cases)}", end="", file=sys.stderr, flush=True)
    if given.json:
        given.json.write_text(json.dumps(as_json(tried), indent=1))
    report(tried, time.monotonic() - began, given.seed)
    sys.exit(int(any(each.ending not in FINE for each in tried)))


if __name__ == "__main__":
    main()
