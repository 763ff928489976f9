"""Kill sweeps with SIGKILL at random moments and go on, until the results are complete: nothing lost, nothing twice.

    python benchmarks/torture.py --kills 100 --study rich
    python benchmarks/torture.py --kills 0 --faults 200

Each attempt is a fresh process that runs one small sweep into one store. It is killed as a whole after a random time, in the
middle of writing a file, just before or just after a rename, or it loses a worker, or it has workers and is killed itself; or
the disk is full from some file on, or nobody hears what it says.
After every kill the store must be readable, and the shards that were finished must be the same files to the end. A store that
is complete must say, byte for byte, what a sweep says that nobody disturbed; then the next store begins.

``--faults`` flips bits in turn over every file and every region of its bytes, takes files away and puts others in their places,
in a store and in a saved run: advkit results check, and advkit verify, must notice each.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # where the tests' stand-ins are

import psutil
from company import Crowd

from advkit import atomic
from advkit.attacks import APGD, FMN, UAP, Square
from advkit.core import ProbabilityMargin
from advkit.core.attack import Ensemble
from advkit.engine.fitting import load_fitted
from advkit.engine.specs import AttackSpec, ModelSpec
from advkit.engine.sweep import Sweep, make_plan, run_plan
from advkit.engine.tasks import Executor, InProcess
from advkit.executors.processes import Processes
from advkit.results.check_store import check_store
from advkit.results.grid import load_grid
from advkit.results.pivot import pivoted
from advkit.results.pivot_table import number_table, pivot_table
from advkit.results.shard import read_shard
from advkit.results.table import comma_separated, markdown

PLAIN = Sweep(
    models=(ModelSpec("lenet"),),
    attacks=(AttackSpec("fgsm"), AttackSpec("pgd", (("steps", 5),)), AttackSpec("worst-case", (("steps", 4),))),
    radii=("1/255", "4/255", "8/255"),
    defenses=("none", "bits:4"),
    samples=48,
    shard=8,
    batch_size=16,
    keep_pictures=4,
)
CHAIN = Ensemble(
    (
        ("pma", APGD(steps=3, loss=ProbabilityMargin())),
        ("square-near", Square(queries=12, resumes=True, patience=5)),
    )
)
RICH = replace(
    PLAIN,
    attacks=(
        AttackSpec("chain", made=CHAIN),  # stages that hand on where they came nearest
        AttackSpec("fmn", made=FMN(steps=4)),  # one run for the nearest pictures serves all radii
        AttackSpec("uap", made=UAP(steps=3, pictures=8, batch=8)),  # fitted once for all shards of a cell
        AttackSpec("crowd", made=Crowd()),  # of another library, given fixed companies
    ),
    # One that draws, one with weights of its own; each attacked, and shown what beat the bare model.
    defenses=("none", "resize-pad:draws=2", "dncnn"),
    radii=("2/255", "8/255"),
    samples=16,
)
VIA = replace(RICH, models=(ModelSpec("lenet"), ModelSpec("cnn")), defenses=("none",), transfer=True)
STUDIES = {"plain": (PLAIN,), "rich": (RICH, VIA)}
"""Sweeps of which each store gets all, one after the other: the defended ones, then those on surrogates."""

_LOADING = 60.0  # seconds: a worker that is still loading torch looks for its driver when it has
KINDS = ("driver", "driver", "rename", "save", "worker", "driver with workers", "disk full", "output closed")
Shards = dict[Path, tuple[int, int]]
Study = tuple[Sweep, ...]


def begin(out: Path, study: Study, executor: Executor, fault: Callable[[], None] = lambda: None) -> int:
    """A sweep in a process of its own. Forked, because loading torch takes longer than the sweep."""
    pid = os.fork()
    if pid:
        return pid
    os.setsid()
    warnings.simplefilter("ignore")  # that a worker was lost
    code = 1
    try:
        fault()
        failed = [report for wanted in study for report in run_plan(make_plan(wanted), out, executor=executor).failed]
        code = int(bool(failed))
        for report in failed:
            print(f"{report.task.title}: {report.error}", file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def end_of(pid: int) -> int:
    """Wait for a process: its exit code, negative where it was killed."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def die() -> None:
    """kill -9 oneself."""
    os.kill(os.getpid(), signal.SIGKILL)


def dying_at_rename(chance: random.Random, files: int) -> Callable[[], None]:
    """A fault: die just before or just after some rename; ``files`` are in a whole store."""
    number, after = chance.randrange(1, files), chance.random() < 0.5

    def fault() -> None:
        count = iter(range(1, 1_000_000))

        def dying(true: Callable[[object, object], None]) -> Callable[[object, object], None]:
            def rename(source: object, target: object) -> None:
                now = next(count) == number
                if now and not after:
                    die()
                true(source, target)
                if now:
                    die()

            return rename

        os.replace, os.link = dying(os.replace), dying(os.link)  # type: ignore[assignment]

    return fault


def dying_at_save(chance: random.Random, files: int) -> Callable[[], None]:
    """A fault: die with a part of some file written."""
    number, share = chance.randrange(1, files), chance.random()

    def fault() -> None:
        true, count = atomic._written, iter(range(1, 1_000_000))

        def written(path: Path, content: bytes) -> None:
            if next(count) == number:
                path.write_bytes(content[: int(share * len(content))])
                die()
            true(path, content)

        atomic._written = written

    return fault


def full_at_save(chance: random.Random, files: int) -> Callable[[], None]:
    """A fault: from some file on the disk is full."""
    number = chance.randrange(1, files)

    def fault() -> None:
        true, count = atomic._written, iter(range(1, 1_000_000))

        def written(path: Path, content: bytes) -> None:
            if next(count) >= number:
                path.write_bytes(content[: len(content) // 2])
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            true(path, content)

        atomic._written = written
        silenced()  # that tasks failed is known

    return fault


def silenced() -> None:
    """A fault: standard output and standard error go to a pipe that nobody reads."""
    reads, writes = os.pipe()
    os.close(reads)
    os.dup2(writes, 1)
    os.dup2(writes, 2)


def attempt(out: Path, study: Study, kind: str, chance: random.Random, usual: dict[str, float]) -> tuple[int, bool]:
    """One sweep, disturbed: how many processes were killed, and whether it came to its end."""
    if kind in ("rename", "save"):
        fault = (dying_at_rename if kind == "rename" else dying_at_save)(chance, int(usual["files"]))
        code = end_of(begin(out, study, InProcess(), fault))
        assert code in (0, -signal.SIGKILL), f"the sweep ended with {code}"
        return int(code != 0), code == 0
    if kind in ("disk full", "output closed"):
        code = end_of(
            begin(
                out, study, InProcess(), full_at_save(chance, int(usual["files"])) if kind == "disk full" else silenced
            )
        )
        assert code == 0 or (kind == "disk full" and code == 1), f"the sweep ended with {code}"
        return 1, code == 0
    crowd = kind != "driver"
    pid = begin(out, study, Processes(2) if crowd else InProcess())
    killed, family = 0, set[psutil.Process]()
    until = time.monotonic() + chance.uniform(0, usual["workers" if crowd else "alone"])
    while time.monotonic() < until or kind == "worker":
        if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            break
        children = workers_of(pid)
        family.update(children)
        if kind == "worker" and time.monotonic() >= until:
            if children and killed < 2:  # a task may lose no more
                chance.choice(children).kill()
                killed += 1
            until = time.monotonic() + chance.uniform(0, 3)
        time.sleep(0.01)
    if kind != "worker":
        os.kill(pid, signal.SIGKILL)
        killed += 1
    code = end_of(pid)
    assert code in ((0,) if kind == "worker" else (0, -signal.SIGKILL)), f"the sweep ended with {code}"
    _, alive = psutil.wait_procs(family, timeout=_LOADING)
    assert not alive, f"{alive} outlived their driver"
    return killed if code or kind == "worker" else 0, code == 0


def workers_of(pid: int) -> list[psutil.Process]:
    """The worker processes of a driver that are alive."""
    found = []
    for child in psutil.Process(pid).children():
        with suppress(psutil.Error):  # it has just ended
            if "spawn_main" in " ".join(child.cmdline()):
                found.append(child)
    return found


def shards(out: Path) -> Shards:
    """Every shard there is, with what tells a file from one written anew. Each must be whole."""
    found = {}
    for path in out.glob("cells/*/*.safetensors"):
        if path.name.startswith("fitted"):
            load_fitted(path)
            found[path] = (path.stat().st_ino, path.stat().st_mtime_ns)
        elif not path.name.startswith("pictures"):
            read_shard(path)  # raises Broken where it is there and not whole
            found[path] = (path.stat().st_ino, path.stat().st_mtime_ns)
    return found


def said(out: Path) -> bytes:
    """All that a store says but how long it took: JSON, CSV, Markdown, and what was fitted."""
    grid = load_grid(out, of_study=False)  # all cells, not those of the last sweep only
    told = grid.to_json()
    assert told.pop("not_covered") == 0
    for lines in told.values():
        for line in lines:
            line.pop("seconds", None)
    pivot = pivoted(grid)
    tables = [comma_separated(number_table(pivot)), markdown(pivot_table(pivot, grid))]
    fitted = [path.read_bytes() for path in sorted(out.glob("cells/*/fitted-*"))]
    return b"\n".join([json.dumps(told).encode(), *(table.encode() for table in tables), *fitted])


def torture(study: Study, kills: int, seed: int, folder: Path) -> Counter[str]:
    """Kill so many times; what was done, counted."""
    chance = random.Random(seed)
    usual = {}
    for name, executor in (("alone", InProcess()), ("workers", Processes(2))):
        began = time.monotonic()
        assert end_of(begin(folder / name, study, executor)) == 0
        usual[name] = time.monotonic() - began
    usual["files"] = sum(path.is_file() for path in (folder / "alone").rglob("*"))
    expected = said(folder / "alone")
    assert said(folder / "workers") == expected
    count: Counter[str] = Counter()
    out, finished = folder / "0", Shards()
    while count["kills"] < kills or finished:
        kind = chance.choice(KINDS) if count["kills"] < kills else "none"
        if kind == "none":
            killed, complete = 0, end_of(begin(out, study, InProcess())) == 0
            assert complete
        else:
            killed, complete = attempt(out, study, kind, chance, usual)
        count["kills"] += killed
        count[f"kills: {kind}"] += killed
        count["attempts"] += 1
        now = shards(out)
        assert now.items() >= finished.items(), f"finished shards were computed again: {finished.keys() - now.keys()}"
        if (out / "store.json").exists():
            load_grid(out)
            found = check_store(out)
            assert not found.broken, f"a kill is no damage: {[str(broken) for broken in found.broken]}"
            assert not complete or not found.notes, f"a complete store is in its manifest: {found.notes}"
        finished = now
        if complete:
            assert said(out) == expected, f"{out} says something else than a sweep that nobody disturbed"
            assert not list(out.glob("cells/*/.*.part")), "something half written was left"
            count["stores completed"] += 1
            count["shards"] += len(finished)
            out, finished = folder / str(count["stores completed"]), Shards()
        print(f"\r{count['kills']} kills", end="" if sys.stderr.isatty() else "\n", file=sys.stderr, flush=True)
    return count


def find_faults(count: int, seed: int, folder: Path) -> Counter[str]:
    """So many flipped bits, lost and foreign files in a store and in a saved run; how many of them were noticed."""
    from fuzzing.run import load, sentence_of, try_all
    from fuzzing.stock import made
    from fuzzing.stored import faults

    load()
    made(("store", "saved"), folder, folder / "stock")
    found: Counter[str] = Counter()
    for stock, words in (
        ("store", ("results", "check", "{}")),
        ("saved", ("results", "check", "{}")),
        ("saved", ("verify", "{}", "--quiet")),
    ):
        for how in ("flip", "lost", "foreign"):
            cases = [
                *faults(
                    random.Random(f"{seed} {stock} {how}"), stock, words, (how,), count if how == "flip" else count // 5
                )
            ]
            name = f"{how}, {stock}, {' '.join(words[:-1]) if words[-1] == '{}' else words[0]}"
            for tried in try_all(cases, folder / name, folder / "stock", os.cpu_count() or 1):
                found[f"{name}: faults"] += 1
                found[f"{name}: noticed"] += tried.ending == "sentence"
                if tried.ending != "sentence":
                    print(sentence_of(tried))
    return found


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description="Kill sweeps at random moments; see the top of the file.")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--study", choices=STUDIES, default="plain", help="rich: everything that an attack may be")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--faults", type=int, default=0, help="flips in a store and in a saved run; a fifth lost, a fifth foreign"
    )
    given = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        found = find_faults(given.faults, given.seed, Path(folder) / "faults") if given.faults else Counter[str]()
        count = torture(STUDIES[given.study], given.kills, given.seed, Path(folder)) if given.kills else Counter[str]()
    for name, value in (*sorted(count.items()), *sorted(found.items())):
        print(f"{name:40} {value}")
    seconds = f"seed {given.seed}, {time.monotonic() - began:.0f} s"
    if given.faults:
        missed = sum(found[name] for name in found if name.endswith("faults")) - sum(
            found[name] for name in found if name.endswith("noticed")
        )
        print(f"{seconds}: {f'{missed} faults were not noticed' if missed else 'every fault was noticed'}")
    if given.kills:
        print(f"{seconds}: every store complete, byte for byte the same, nothing twice")
    sys.exit(int(bool(given.faults and missed)))


if __name__ == "__main__":
    main()
