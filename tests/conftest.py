from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

# Before torch is loaded, as the command line does: spinning threads take the processor from the ones they wait for.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

for _name in ("COLUMNS", "LINES", "FORCE_COLOR", "NO_COLOR"):  # what is printed must not hang on the caller's terminal
    os.environ.pop(_name, None)

# What nohup, or a shell that runs the tests in the background, has told to be ignored, processes that the tests start would
# ignore too, and they are sent these signals. What has a handler here is at its default there.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
    signal.signal(signal.SIGHUP, lambda *_: None)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real pictures: ADVKIT_DATA, else ../shared/data; the test is skipped where there is none."""
    folder = Path(os.environ.get("ADVKIT_DATA") or Path(__file__).parents[2] / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no real pictures at {folder}: name their folder by ADVKIT_DATA")
    return folder
