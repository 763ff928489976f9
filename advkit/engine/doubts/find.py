"""All checks on an evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import nn

from advkit.data import Data
from advkit.engine.doubts import asked, found
from advkit.engine.doubts.look import Check, Look, Met
from advkit.engine.memory import asked_in_part, memory_is_full
from advkit.engine.protocol import answers, gradients
from advkit.engine.protocol.case import Case
from advkit.engine.protocol.finding import REPAIR
from advkit.errors import PassError, first_line
from advkit.results.doubt import Doubt
from advkit.results.outcome import Evaluation

__all__ = ["Doubts", "find_doubts"]

_PICTURES = 64  # at most, of which the model is asked
_FEWEST = 8
_PASSES = 11  # that the questions take of each picture
_PRICE = 0.015  # of the passes of attacks on the model itself: what the questions may take

_CHECKS: tuple[Check, ...] = (
    found.above_chance,
    found.class_order,
    asked.standardised,
    asked.asked("P3", answers.scores),
    asked.asked("P3", answers.evaluation_mode),
    asked.asked("P3", answers.alone_and_in_company),
    found.iterative_beats_single_step,
    found.larger_radius_beats_more,
    found.unbounded_reaches_all,
    found.converged,
    found.white_box_beats_more,
    found.losses_agree,
    asked.another_loss,
    asked.alive,
    asked.slopes,
    asked.asked("P11", gradients.unwatched),
    asked.steady,
    found.no_luck,
    found.knowing_beats_more,
    found.search_beats_its_controls,
)


@dataclass(frozen=True)
class Doubts:
    """What was found, and how many checks applied."""

    found: tuple[Doubt, ...]
    checks: int


def find_doubts(
    result: Evaluation,
    met: Sequence[Met],
    net: nn.Module,
    data: Data,
    *,
    batch_size: int,
    first: bool = True,
    told: bool = False,
) -> Doubts:
    """Every check on an evaluation that is over, ``net`` being borrowed and in eval mode.

    ``first`` says that runs ended at the first success; ``told`` that gradients and verdicts are means over draws.
    """
    look = Look(result, tuple(met), data, None, first, told)
    count = min(len(data), _PICTURES, max(_FEWEST, int(_PRICE * look.passes / _PASSES)))
    if met:
        try:
            x, y = data.pictures(range(count)), result.labels[:count]
            look = replace(look, case=Case(net, x, y, met[0].attack.threat, batch_size=batch_size, seed=result.seed))
        except PassError:  # it draws, and drew no number this time
            pass
    made = [each for check in _CHECKS if (each := _made(check, look)) is not None]
    return Doubts(tuple(doubt for each in made for doubt in each), len(made))


def _made(check: Check, look: Look) -> list[Doubt] | None:
    """What a check finds. A model that fails here must not cost the evaluation, which is over."""
    case = look.case

    def asked(size: int) -> list[Doubt] | None:
        if case is not None:
            case.batch_size = size
        return check(look)

    try:
        return asked_in_part(asked, 1 if case is None else case.batch_size)
    except PassError:
        return None  # it answered with NaN this time: it draws, which another check tells
    except (RuntimeError, ValueError, MemoryError) as error:
        if memory_is_full(error):
            return None
        return [Doubt("P3", f"The model fails when it is asked apart from an attack: {first_line(error)}.", REPAIR)]
