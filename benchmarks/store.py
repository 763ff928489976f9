"""How long a large store takes: to table, as JSON, against a baseline, to list, and to see what is missing.

python benchmarks/store.py [--cells 10000] [--examples 1000]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
MISSING = """
import sys
from pathlib import Path
from advkit.results.store import Store
store = Store(Path(sys.argv[1]))
wanted = store.study().samples
assert not any(store.missing(record.cell, wanted[record.cell.key]) for record in store.records())
"""


def main() -> None:
    """Make the store, time each command as a process of its own, print the seconds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=10_000)
    parser.add_argument("--examples", type=int, default=1000)
    given = parser.parse_args()
    attacks = max(1, given.cells // (25 * 4 * 4))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        sizes = ["--models", "25", "--defenses", "4", "--attacks", str(attacks), "--radii", "4"]
        made = [*sizes, "--examples", str(given.examples), "--pictures", "0", "--apart"]
        script = [sys.executable, str(ROOT / "scripts" / "made_up_store.py"), folder]
        advkit = [sys.executable, "-m", "advkit"]
        commands = {
            "make the store": [*script, *made],
            "advkit table": [*advkit, "table", folder],
            "advkit table --format json": [*advkit, "table", folder, "--format", "json"],
            "advkit table --baseline defense=none": [*advkit, "table", folder, "--baseline", "defense=none"],
            "advkit results list": [*advkit, "results", "list", folder],
            "what is missing (resume)": [sys.executable, "-c", MISSING, folder],
        }
        print(f"{25 * 4 * (attacks * 4 + 1):,} cells of {given.examples:,} examples", flush=True)
        for name, command in commands.items():
            begin = time.perf_counter()
            subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, env=environment)
            print(f"{name:40} {time.perf_counter() - begin:6.2f} s", flush=True)


if __name__ == "__main__":
    main()
