"""All checks on one model."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import nn

from advkit.core.threat import L1, L2, Ball, Linf
from advkit.data import Data
from advkit.engine.checks import check_channels, check_labels, check_weights
from advkit.engine.passes import batch_for, device_of
from advkit.engine.protocol import answers, gradients, others, strength
from advkit.engine.protocol.case import Case, lend
from advkit.engine.protocol.finding import FAIL, UNKNOWN, Answer, Finding
from advkit.errors import InputError, PassError
from advkit.results.table import Table

__all__ = ["CHECKS", "Check", "Examination", "examine"]


@dataclass(frozen=True)
class Check:
    """One check: its code in the protocol, what is true of an honest model, and the function that finds out."""

    code: str
    name: str
    ask: Callable[[Case], Answer]

    def __call__(self, case: Case) -> Finding:
        """The finding; unknown where the model does not answer to the end."""
        try:
            level, sentence, advice = self.ask(case)
        except PassError as error:
            level, sentence, advice = UNKNOWN, str(error), "Repair the model's answers."
        return Finding(self.name, level, sentence, self.code, advice)


CHECKS: tuple[Check, ...] = (
    Check("P3", "Answers are logits", answers.scores),
    Check("P3", "The model is in eval mode", answers.evaluation_mode),
    Check("P3", "A picture's answer is its own", answers.alone_and_in_company),
    Check("P12", "The same picture gets the same answer", answers.repeatable),
    Check("P11", "There is a gradient", gradients.available),
    Check("P11", "The gradient is the model's own", gradients.own),
    Check("P4", "Many steps beat what one step beats", strength.iterative_beats_single_step),
    Check("P10", "Losses agree", strength.losses_agree),
    Check("P5", "A larger radius beats more", strength.larger_radius_beats_more),
    Check("P6", "Without bounds everything falls", strength.unbounded_reaches_all),
    Check("P7", "More steps find little more", strength.steps_suffice),
    Check("P8", "More restarts find little more", strength.restarts_suffice),
    Check("P9", "Noise finds nothing more", others.noise_finds_nothing_more),
    Check("P9", "A search by scores finds nothing more", others.random_search_finds_nothing_more),
    Check("P14", "Transfer finds nothing more", others.oblivious_finds_nothing_more),
)


@dataclass(frozen=True)
class Examination:
    """What was found of a model: ``n`` pictures, of which it got ``correct`` right and kept ``robust`` under attack."""

    findings: tuple[Finding, ...]
    n: int
    correct: int
    robust: int

    @property
    def failed(self) -> tuple[Finding, ...]:
        """The findings that show masking."""
        return tuple(finding for finding in self.findings if finding.level == FAIL)

    @property
    def masks(self) -> bool:
        """Whether any check failed."""
        return bool(self.failed)

    @property
    def sentence(self) -> str:
        """The verdict on the whole, in one line."""
        if self.masks:
            return f"masks its gradients: yes ({', '.join(dict.fromkeys(f.code for f in self.failed))})"
        made = sum(finding.level != UNKNOWN for finding in self.findings)
        return f"no sign of gradient masking in {made} checks of {len(self.findings)}"

    def to_json(self) -> dict[str, object]:
        """All of it, by name."""
        return {
            "masks": self.masks,
            "sentence": self.sentence,
            "n": self.n,
            "correct": self.correct,
            "robust": self.robust,
            "checks": [finding.to_json() for finding in self.findings],
        }

    def table(self) -> Table:
        """A row for each check; what to do stands below the evidence of those that did not pass."""
        rows = tuple(
            (f.code, f.level, f.name, f"{f.sentence}{f' {f.advice}' if f.advice else ''}") for f in self.findings
        )
        bold = frozenset((row, 1) for row, f in enumerate(self.findings) if f.level == FAIL)
        return Table(("", "verdict", "check", "evidence, and what to do"), rows, align="llll", bold=bold)


def examine(
    model: nn.Module,
    data: Data,
    ball: Ball | None = None,
    *,
    samples: int | None = 100,
    seed: int = 0,
    steps: int = 20,
    queries: int = 150,
    batch_size: int | None = None,
    progress: Callable[[str, int, int], None] = lambda name, done, total: None,
) -> Examination:
    """Run every check on a model, or a defended one (``advkit.engine.defend.defend``), and the first ``samples`` of data.

    ``ball`` is Linf, L2 or L1 (default Linf 8/255); ``steps`` those of PGD, ``queries`` those of the random search. The model
    comes back as it was, torch's generator too. Raises InputError for a ball or data that cannot be used.
    """
    ball = Linf(8 / 255) if ball is None else ball
    if not isinstance(ball, Linf | L2 | L1):
        raise InputError(f"the checks work in linf, l2 and l1, not in {ball.norm}: they compare gradient attacks.")
    part = data.head(samples)
    x, y = part.tensors()
    check_weights(model)
    findings: list[Finding] = []
    device = device_of(model)
    with ExitStack() as stack:
        training = lend(stack, model)
        # A model that draws from torch's generator must neither change it nor make this unrepeatable.
        stack.enter_context(torch.random.fork_rng([device] if device.type == "cuda" else []))
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":  # this device alone: the state of others would not be put back
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        try:
            case = Case(
                model,
                x,
                y,
                ball,
                batch_size=batch_size or batch_for(model, x[0]),
                seed=seed,
                steps=steps,
                queries=queries,
                training=training,
            )
        except RuntimeError:
            check_channels(model, part)
            raise
        check_labels(part, case.logits.shape[1])
        if not case.total:
            raise InputError(
                f"the model gets none of {len(y)} pictures of {part.name} right, so nothing can be attacked; "
                "check that weights, normalisation and data belong together."
            )
        for number, check in enumerate(CHECKS):
            progress(check.name, number, len(CHECKS))
            findings.append(check(case))
        return Examination(tuple(findings), len(y), case.total, int(case.standing.sum()))
