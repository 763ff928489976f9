"""Kill a training with SIGKILL at random moments, start it again each time, and compare the weights with undisturbed ones.

    python benchmarks/kill_training.py [--kills 20] [--seed 0] [--processes 1] [--out FOLDER] [-- advkit train OPTIONS]

Each session runs on one CPU thread. One kill in five is drawn evenly over the start (the import of torch, the drawing of the
pictures), the others over what follows the session's first checkpoint, so that they are spread over all of the training, its
measurements and its writing. Weights and history must be the same to the bit; exit code 1 where they are not.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from safetensors.torch import load_file

USUAL = (
    "--model lenet --data signs --samples 400 --defense pgd-at --eps 4/255 --set steps=2 --epochs 10 --batch-size 32 "
    "--learning-rate 0.02 --validation 64 --ema 0.9 --augment shift+flip+mixup --label-smoothing 0.1 --float32"
)


def main() -> int:
    """The exit code: 0 where the weights are the same."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument("--kills", type=int, default=20)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--processes", type=int, default=1)
    arguments.add_argument("--out", type=Path)
    arguments.add_argument("options", nargs="*", help="of advkit train; after --")
    given = arguments.parse_args()
    out = given.out or Path(tempfile.mkdtemp(prefix="kill-training-"))
    options = given.options or USUAL.split()

    before, whole = undisturbed(options, out / "whole.safetensors", given.processes)
    print(f"undisturbed: {whole:.1f} s, of which {before:.1f} s before the first checkpoint", flush=True)

    rng, kills, rounds, same = random.Random(given.seed), 0, 0, True
    while kills < given.kills:
        killed = out / f"killed{rounds}.safetensors"
        starting = rng.random() < 0.2
        moment = rng.uniform(0, before if starting else 2 * (whole - before) / given.kills)
        started = start(options, killed, given.processes)
        over = (not starting and progress(started, killed)) or wait(started, moment)
        for process in started:
            process.send_signal(signal.SIGKILL)
            process.wait()
        if over:  # it came to its end before the moment: compare, and go on killing another one
            same &= all(process.returncode == 0 for process in started) and alike(out, killed)
            print(f"round {rounds + 1} ended: {'the same' if same else 'NOT THE SAME'}", flush=True)
            rounds += 1
            continue
        kills += 1
        print(
            f"kill {kills}, {moment:.1f} s after {'the start' if starting else 'a checkpoint'}: "
            f"{epochs(killed.with_suffix('.training'))} epochs done",
            flush=True,
        )
    last = out / f"killed{rounds}.safetensors"
    same &= all(process.wait() == 0 for process in start(options, last, given.processes)) and alike(out, last)
    print("the weights, best and last, and the history are the same to the bit" if same else "THEY DIFFER")
    return 0 if same else 1


def undisturbed(options: list[str], out: Path, processes: int) -> tuple[float, float]:
    """Seconds to the first checkpoint, and in all."""
    begun, first = time.monotonic(), 0.0
    started = start(options, out, processes)
    while any(process.poll() is None for process in started):
        time.sleep(0.02)
        if not first and (out.with_suffix(".training") / "checkpoint.safetensors").exists():
            first = time.monotonic() - begun
    assert all(process.returncode == 0 for process in started)
    return first, time.monotonic() - begun


def progress(started: list[subprocess.Popen[bytes]], out: Path) -> bool:
    """Wait for this session's first checkpoint; whether it was over before."""
    path = out.with_suffix(".training") / "checkpoint.safetensors"
    before = path.stat().st_mtime_ns if path.exists() else 0
    while any(process.poll() is None for process in started):
        if path.exists() and path.stat().st_mtime_ns != before:
            return False
        time.sleep(0.01)
    return True


def wait(started: list[subprocess.Popen[bytes]], seconds: float) -> bool:
    """Whether all were over before the time was."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and any(process.poll() is None for process in started):
        time.sleep(0.01)
    return all(process.poll() is not None for process in started)


def alike(out: Path, other: Path) -> bool:
    """Whether a training ended as the undisturbed one did."""
    whole, folder = out / "whole.training", other.with_suffix(".training")
    return (
        equal(out / "whole.safetensors", other)
        and equal(whole / "last.safetensors", folder / "last.safetensors")
        and without_time(whole) == without_time(folder)
    )


def start(options: list[str], out: Path, processes: int) -> list[subprocess.Popen[bytes]]:
    """The processes of a training, each on one thread; a checkpoint after every step or second makes many moments matter."""
    command = [
        sys.executable,
        "-m",
        "advkit",
        "train",
        *options,
        "--checkpoint-every",
        "0.2",
        "--out",
        str(out),
        "--quiet",
    ]
    own = os.environ | {"OMP_NUM_THREADS": "1"}
    if processes == 1:
        return [subprocess.Popen(command, env=own)]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        own |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": str(processes)}
    places = [{"RANK": str(n), "LOCAL_RANK": str(n), "LOCAL_WORLD_SIZE": str(processes)} for n in range(processes)]
    return [subprocess.Popen([*command, "--device", "cpu"], env=own | place) for place in places]


def equal(first: Path, second: Path) -> bool:
    """Whether two files hold the same tensors."""
    one, other = load_file(first), load_file(second)
    return one.keys() == other.keys() and all(one[name].equal(other[name]) for name in one)


def epochs(folder: Path) -> int:
    """How many the history has."""
    path = folder / "history.json"
    return len(json.loads(path.read_text())) if path.exists() else 0


def without_time(folder: Path) -> list[dict[str, object]]:
    """The history without what the clock says."""
    return [{**epoch, "seconds": 0} for epoch in json.loads((folder / "history.json").read_text())]


if __name__ == "__main__":
    sys.exit(main())
