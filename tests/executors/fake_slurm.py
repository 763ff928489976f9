"""A Slurm of one machine, as far as submitit asks: sbatch, srun, squeue, scontrol and scancel are links to this file.

The folder FAKE_SLURM holds a file ID_INDEX for each job of an array, with its state and the process that does it; a file
``calls`` has every command. Where it holds a file ``refuse``, sbatch says that and takes nothing.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

STATE = Path(os.environ["FAKE_SLURM"])


def put(job: str, state: str, process: int = 0) -> None:
    beside = STATE / f".{job}.{os.getpid()}"
    beside.write_text(f"{state} {process}")
    beside.replace(STATE / job)


def state_of(job: str) -> tuple[str, int]:
    state, process = (STATE / job).read_text().split()
    return state, int(process)


def sbatch(file: str) -> int:
    if (STATE / "refuse").exists():
        print((STATE / "refuse").read_text(), file=sys.stderr)
        return 1
    number = str(100 + len(list(STATE.glob("*.sh"))))
    script = STATE / f"{number}.sh"
    script.write_bytes(Path(file).read_bytes())
    array = re.search(r"--array='?0-(\d+)%(\d+)", script.read_text())
    count, parallel = (int(array[1]) + 1, int(array[2])) if array else (0, 1)
    for job in [f"{number}_{place}" for place in range(count)] or [number]:
        put(job, "PENDING")
    subprocess.Popen(
        [sys.executable, "-S", str(Path(__file__).with_name("fake_slurm.py")), "queue", number, str(count), str(parallel)],
        start_new_session=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    print(f"Submitted batch job {number}")
    return 0


def queue(number: str, count: str, parallel: str) -> int:
    """Start jobs as there is room, and note how they end."""
    waiting = [f"{number}_{place}" for place in range(int(count))] or [number]
    running: dict[str, subprocess.Popen[bytes]] = {}
    while waiting or running:
        while waiting and len(running) < int(parallel):
            job = waiting.pop(0)
            if state_of(job)[0] != "PENDING":
                continue
            known = {
                "SLURM_JOB_ID": job.replace("_", "9"),
                "SLURM_NTASKS": "1",
                "SLURM_PROCID": "0",
                "SLURM_LOCALID": "0",
            }
            known |= {"SLURM_NODEID": "0", "SLURM_JOB_NUM_NODES": "1", "SLURM_JOB_NODELIST": "here"}
            if "_" in job:
                known |= {"SLURM_ARRAY_JOB_ID": number, "SLURM_ARRAY_TASK_ID": job.split("_")[1]}
            running[job] = subprocess.Popen(
                ["bash", str(STATE / f"{number}.sh")], env={**os.environ, **known}, start_new_session=True
            )
            put(job, "RUNNING", running[job].pid)
        for job, process in list(running.items()):
            if process.poll() is not None:
                del running[job]
                if state_of(job)[0] == "RUNNING":
                    put(job, "COMPLETED" if process.returncode == 0 else "FAILED")
        time.sleep(0.05)
    return 0


def srun(*words: str) -> int:
    """The command, with its output where it is wanted."""
    place, streams = 0, {}
    while words[place].startswith("-"):
        if words[place] in ("--output", "--error"):
            streams[words[place]] = words[place + 1]
            place += 1
        place += 1
    job = os.environ.get("SLURM_ARRAY_JOB_ID", os.environ["SLURM_JOB_ID"])
    index = os.environ.get("SLURM_ARRAY_TASK_ID", "")
    for name, number in (("--output", 1), ("--error", 2)):
        path = streams[name].replace("%A", job).replace("%a", index).replace("%j", job).replace("%t", "0")
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    os.execvp(words[place], words[place:])


def squeue(*_: str) -> int:
    """Those that are not over, one a line."""
    for path in STATE.iterdir():
        if re.fullmatch(r"\d+(_\d+)?", path.name) and state_of(path.name)[0] in ("PENDING", "RUNNING"):
            print(path.name)
    return 0


def scontrol(*words: str) -> int:
    print(f"JobId={words[-1]} JobName=advkit JobState={state_of(words[-1])[0]} Reason=None")
    return 0


def sacct(*_: str) -> int:
    print("Slurm accounting storage is disabled", file=sys.stderr)
    return 1


def scancel(*numbers: str) -> int:
    for number in numbers:
        for path in STATE.iterdir():
            if re.fullmatch(rf"{number}(_\d+)?", path.name):
                state, process = state_of(path.name)
                if state in ("PENDING", "RUNNING"):
                    put(path.name, "CANCELLED")
                    if process:
                        os.killpg(process, signal.SIGKILL)
    return 0


KNOWN = {each.__name__: each for each in (sbatch, queue, srun, squeue, scontrol, sacct, scancel)}

if __name__ == "__main__":
    name, words = Path(sys.argv[0]).name, sys.argv[1:]
    if name == "fake_slurm.py":
        name, words = words[0], words[1:]
    with (STATE / "calls").open("a") as calls:
        calls.write(" ".join([name, *words]) + "\n")
    sys.exit(KNOWN[name](*words))
