"""What there is, by name. Looking a name up imports the package that holds it; importing this module imports nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from advkit.registry import Registry

if TYPE_CHECKING:
    from torch import nn

    from advkit.core.attack import Attack, Ensemble
    from advkit.core.defense import Certifier, Modifier, Objective, Wrapper
    from advkit.core.detector import Detector
    from advkit.core.directions import Direction
    from advkit.core.losses import Loss
    from advkit.data.base import Data
    from advkit.engine.tasks import Executor
    from advkit.engine.tracking import Tracker

ATTACKS: Registry[Attack | Ensemble] = Registry(
    "attack",
    "advkit.attacks",
    makes="Attack",
    group="advkit.attacks",
    bridges={name: f"advkit.attacks._bridge_{name}" for name in ("foolbox", "torchattacks", "art")},
)
BACKBONES: Registry[nn.Module] = Registry("backbone", "advkit.backbones", group="advkit.backbones")
DATASETS: Registry[Data] = Registry("data set", "advkit.data", makes="Data", group="advkit.datasets")
DEFENSES: Registry[Objective | Modifier | Wrapper | Certifier | Detector] = Registry(
    "defense", "advkit.defenses", group="advkit.defenses"
)
DIRECTIONS: Registry[Direction] = Registry("direction", "advkit.core.directions", makes="Direction", chain="Chain")
EXECUTORS: Registry[Executor] = Registry("executor", "advkit.executors", group="advkit.executors")
LOSSES: Registry[Loss] = Registry("loss", "advkit.core.losses", makes="Loss")
TRACKERS: Registry[Tracker] = Registry("tracker", "advkit.trackers", group="advkit.trackers")
