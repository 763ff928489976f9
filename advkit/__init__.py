"""advkit: adversarial robustness research toolkit.

Importing it imports nothing else: every public name is fetched from its module when it is first used.
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from advkit.backbones import Classifier, load_model
    from advkit.core import L0, L1, L2, Eps, Linf, Targeted, Untargeted
    from advkit.core.defense import StraightThrough
    from advkit.data import Data, TensorData, load_data
    from advkit.engine.evaluate import evaluate
    from advkit.engine.sweep import sweep
    from advkit.errors import AdvkitError, InputError, PassError, ThreatViolation
    from advkit.results.outcome import Evaluation

    __version__: str

__all__ = [
    "L0",
    "L1",
    "L2",
    "AdvkitError",
    "Classifier",
    "Data",
    "Eps",
    "Evaluation",
    "InputError",
    "Linf",
    "PassError",
    "StraightThrough",
    "Targeted",
    "TensorData",
    "ThreatViolation",
    "Untargeted",
    "__version__",
    "evaluate",
    "load_data",
    "load_model",
    "sweep",
]

_NAMES = {
    "advkit.backbones": ("Classifier", "load_model"),
    "advkit.core": ("L0", "L1", "L2", "Eps", "Linf", "Targeted", "Untargeted"),
    "advkit.core.defense": ("StraightThrough",),
    "advkit.data": ("Data", "TensorData", "load_data"),
    "advkit.engine.evaluate": ("evaluate",),
    "advkit.engine.sweep": ("sweep",),
    "advkit.errors": ("AdvkitError", "InputError", "PassError", "ThreatViolation"),
    "advkit.results.outcome": ("Evaluation",),
}

# attacks/ and defenses/ lie beside this folder in a checkout and inside it once installed. Python started in the root of a
# checkout finds this folder first, whatever is installed, and must find the other two through it.
if (_checkout := Path(__file__).parent.parent).joinpath("attacks", "pgd.py").is_file():
    __path__.append(str(_checkout))

if not TYPE_CHECKING:  # a type checker would take it as leave to use any name at all

    def __getattr__(name: str) -> object:
        """Fetch a public name once; from then on it is an ordinary attribute."""
        if name == "__version__":
            from importlib.metadata import version

            value = version("advkit")
        else:
            home = next((module for module, names in _NAMES.items() if name in names), None)
            if home is None:
                raise AttributeError(f"module 'advkit' has no attribute {name!r}")
            value = getattr(import_module(home), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
