"""MLflow: one run for each sweep, with settings, metrics, the study and the table."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from advkit.catalog import TRACKERS
from advkit.engine.tracking import Tracker, curve, settings_told
from advkit.errors import MissingExtra

_LONGEST = 500  # characters of a parameter that every version of MLflow takes


@TRACKERS.register("mlflow")
@dataclass
class MLflow(Tracker):
    """Logs a run to MLflow: http://HOST:5000, sqlite:///FILE.db ... (by default, where MLFLOW_TRACKING_URI says)."""

    uri: str = field(default="", repr=False)  # it may hold a password
    experiment: str = "advkit"

    _client: Any = field(default=None, init=False, repr=False, compare=False)
    _state: str = field(default="FINISHED", init=False, repr=False, compare=False)
    _run: str = field(default="", init=False, repr=False, compare=False)
    _lines: list[Mapping[str, Any]] = field(default_factory=list, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        try:
            import mlflow  # noqa: F401
        except ImportError:
            raise MissingExtra("mlflow", "mlflow", "Telling MLflow") from None

    def start(self, study: Mapping[str, Any]) -> None:
        """Open a run. The client is our own: the caller's active run and tracking URI stay as they are."""
        from mlflow import MlflowClient

        self._client = MlflowClient(tracking_uri=self.uri or None)
        known = self._client.get_experiment_by_name(self.experiment)
        number = known.experiment_id if known else self._client.create_experiment(self.experiment)
        self._run = self._client.create_run(number).info.run_id
        for key, value in settings_told(study).items():
            self._client.log_param(self._run, _allowed(key), value[:_LONGEST])
        if "study" in study:
            self._client.log_text(self._run, str(study["study"]), "study.toml")

    def line(self, line: Mapping[str, Any]) -> None:
        """Log accuracy and success of a line as metrics named by model, defense, attack and radius."""
        self._lines.append(line)
        at = "" if line["eps"] is None else f"/{line['eps'].replace('/', '-')}"
        self._client.log_metric(self._run, _allowed(f"accuracy/{curve(line)}{at}"), line["accuracy"])
        if line["eps"] is not None:
            self._client.log_metric(self._run, _allowed(f"success/{curve(line)}{at}"), line["success"])

    def epoch(self, number: int, values: Mapping[str, float]) -> None:
        """Log the numbers of an epoch as metrics with steps."""
        for name, value in values.items():
            self._client.log_metric(self._run, _allowed(f"training/{name}"), value, step=number)

    def interrupted(self) -> None:
        """Note it, for the run's state."""
        self._state = "KILLED"

    def close(self) -> None:
        """Log the table, and end the run."""
        self._client.log_text(self._run, json.dumps(self._lines, indent=1), "lines.json")
        self._client.set_terminated(self._run, self._state)


def _allowed(name: str) -> str:
    """A name in the characters that MLflow takes."""
    return re.sub(r"[^\w\-. /]", "_", name, flags=re.ASCII)[:250]
