"""The sweep's own process."""

from advkit.catalog import EXECUTORS
from advkit.engine.tasks import InProcess

EXECUTORS.register("local")(InProcess)
