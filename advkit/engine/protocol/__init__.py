"""Whether a model masks its gradients: checks after Carlini et al. 2019, "On Evaluating Adversarial Robustness", P1 to P20.

A check is a function of a ``Case`` that answers with a ``Finding``; ``examine`` runs those that there are. A new one is a
function in one of the files here, and a line in ``CHECKS``.
"""

from advkit.engine.protocol.case import Case
from advkit.engine.protocol.examine import CHECKS, Examination, examine
from advkit.engine.protocol.finding import FAIL, PASS, UNKNOWN, WARN, Finding

__all__ = ["CHECKS", "FAIL", "PASS", "UNKNOWN", "WARN", "Case", "Examination", "Finding", "examine"]
