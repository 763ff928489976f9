"""TensorBoard: curves of accuracy over the radius, and the table."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from advkit.catalog import TRACKERS
from advkit.core.units import Eps
from advkit.engine.tracking import Tracker, curve, settings_told
from advkit.errors import MissingExtra

_COLUMNS = ("model", "defense", "data", "attack", "norm", "eps", "accuracy", "low", "high", "success", "n")


@TRACKERS.register("tensorboard")
@dataclass
class TensorBoard(Tracker):
    """Writes event files of TensorBoard into a folder.

    A curve ``accuracy/model/defense/attack`` has a step for each radius: in Linf in 1/255, else in thousandths; step 0 is
    the accuracy without attack.
    """

    folder: str = "runs"

    _writer: Any = field(default=None, init=False, repr=False, compare=False)
    _lines: list[Mapping[str, Any]] = field(default_factory=list, init=False, repr=False, compare=False)
    _begun: set[str] = field(default_factory=set, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        try:
            import torch.utils.tensorboard  # noqa: F401
        except ImportError:
            raise MissingExtra("tensorboard", "tensorboard", "Telling TensorBoard") from None

    def start(self, study: Mapping[str, Any]) -> None:
        """Open a file, and write down what is asked for."""
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(self.folder)
        self._writer.add_custom_scalars({"accuracy": {"all curves": ["Multiline", ["accuracy/.*"]]}})
        for key, value in settings_told(study).items():
            self._writer.add_text(key, value)
        if "study" in study:
            self._writer.add_text("study", "\n".join(f"    {row}" for row in str(study["study"]).splitlines()))
        self._writer.flush()

    def line(self, line: Mapping[str, Any]) -> None:
        """Add a point to a curve."""
        self._lines.append(line)
        step = _step(line)
        if step is None:
            return
        name = curve(line)
        if name not in self._begun and step > 0:
            self._writer.add_scalar(f"accuracy/{name}", line["clean"], 0)
        self._begun.add(name)
        self._writer.add_scalar(f"accuracy/{name}", line["accuracy"], step)
        if line["eps"] is not None:
            self._writer.add_scalar(f"success/{name}", line["success"], step)
        self._writer.flush()

    def epoch(self, number: int, values: Mapping[str, float]) -> None:
        """Add a point to each curve ``training/NAME``."""
        for name, value in values.items():
            self._writer.add_scalar(f"training/{name}", value, number)
        self._writer.flush()

    def close(self) -> None:
        """Write the table, and close the file."""
        if self._lines:
            self._writer.add_text("table", _markdown(self._lines))
        self._writer.close()


def _step(line: Mapping[str, Any]) -> int | None:
    """The radius as a whole number; None where it is infinite."""
    if line["eps"] is None:
        return 0
    radius = float(Eps(line["eps"])) * (255 if line["norm"] == "linf" else 1000)
    return round(radius) if math.isfinite(radius) else None


def _markdown(lines: list[Mapping[str, Any]]) -> str:
    rows = [[_cell(line[column]) for column in _COLUMNS] for line in lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in (_COLUMNS, ["---"] * len(_COLUMNS), *rows))


def _cell(value: object) -> str:
    return "" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value).replace("|", "\\|")
