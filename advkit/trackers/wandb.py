"""Weights & Biases: a run for each sweep, with a table of its lines."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from typing import Any

from advkit.catalog import TRACKERS
from advkit.core.units import Eps
from advkit.engine.tracking import Tracker, curve
from advkit.errors import MissingExtra


@TRACKERS.register("wandb")
@dataclass
class Wandb(Tracker):
    """Logs a run to Weights & Biases; WANDB_MODE=offline keeps it on this disk, to be synchronised later."""

    project: str = "advkit"
    entity: str | None = None

    _code: int = field(default=0, init=False, repr=False, compare=False)
    _run: Any = field(default=None, init=False, repr=False, compare=False)
    _lines: list[Mapping[str, Any]] = field(default_factory=list, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        try:
            import wandb  # noqa: F401
        except ImportError:
            raise MissingExtra("wandb", "wandb", "Telling Weights & Biases") from None

    def start(self, study: Mapping[str, Any]) -> None:
        """Open a run; the mode is what the environment says."""
        import wandb

        with redirect_stdout(sys.stderr):  # standard output is for the table
            self._run = wandb.init(project=self.project, entity=self.entity, config=dict(study), job_type="sweep")
            self._run.define_metric("eps", hidden=True)
            self._run.define_metric("accuracy/*", step_metric="eps")

    def line(self, line: Mapping[str, Any]) -> None:
        """Add a point to a curve over the radius."""
        self._lines.append(line)
        eps = 0.0 if line["eps"] is None else float(Eps(line["eps"]))
        self._run.log({"eps": eps, f"accuracy/{curve(line)}": line["accuracy"]})

    def epoch(self, number: int, values: Mapping[str, float]) -> None:
        """Log the numbers of an epoch."""
        self._run.log({"epoch": number, **{f"training/{name}": value for name, value in values.items()}})

    def interrupted(self) -> None:
        """Note it, for the run's state."""
        self._code = 1

    def close(self) -> None:
        """Log the table, and end the run."""
        import wandb

        with redirect_stdout(sys.stderr):
            if self._lines:
                columns = list(self._lines[0])
                rows = [[line[column] for column in columns] for line in self._lines]
                self._run.log({"lines": wandb.Table(columns=columns, data=rows)})
            self._run.finish(exit_code=self._code)
