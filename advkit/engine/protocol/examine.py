"""All checks on one model, what was run because of their doubts, and the number that is left."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor, nn

from advkit.core.losses import CrossEntropy
from advkit.core.threat import L1, L2, Ball, Linf
from advkit.data import Data
from advkit.engine.checks import check_labels, check_weights
from advkit.engine.memory import asked_in_part
from advkit.engine.passes import batch_for, device_of
from advkit.engine.protocol import answers, binary, gradients, others, record, remedies, strength, trace
from advkit.engine.protocol.case import Case, lend
from advkit.engine.protocol.finding import FAIL, REPAIR, UNKNOWN, WARN, Answer, Finding, Remedy
from advkit.engine.protocol.ledger import Entry
from advkit.engine.protocol.record import Corrected
from advkit.engine.provenance import circumstances, code_version
from advkit.engine.standards import expected_standard
from advkit.errors import InputError, PassError
from advkit.results.statistics import Share, share
from advkit.results.table import Table

__all__ = ["CHECKS", "Check", "Examination", "examine"]

_ROOTS = ("P3", "P12", "P11", "P10", "P7", "P8")
_ABOUT_GRADIENTS = frozenset(f"P{number}" for number in range(3, 17))
"""The codes whose failure says that a gradient, or an attack that follows it, cannot be trusted."""


@dataclass(frozen=True)
class Check:
    """One check: its code in the protocol, what is true of an honest model, and the function that finds out.

    ``remedy`` is run where it does not pass; ``last`` checks look at what is left when all is done. ``indicator`` is the code
    of Pintor et al. 2022.
    """

    code: str
    name: str
    ask: Callable[[Case], Answer]
    remedy: Callable[[Case], Remedy] | None = None
    indicator: str = ""
    last: bool = False

    def __call__(self, case: Case) -> Finding:
        """The finding; unknown where the model does not answer to the end."""

        def asked(size: int) -> Answer:
            case.batch_size = size
            return self.ask(case)

        try:
            level, sentence, advice = asked_in_part(asked, case.batch_size)
        except PassError as error:
            level, sentence, advice = UNKNOWN, str(error), REPAIR
        return Finding(self.name, level, sentence, code=self.code, advice=advice, indicator=self.indicator)

    def act(self, finding: Finding, case: Case) -> Finding:
        """The finding with what came of its remedy, where there is a doubt and one can be run."""
        if self.remedy is None or finding.level not in (FAIL, WARN):
            return finding
        try:
            return replace(finding, remedy=self.remedy(case))
        except PassError as error:
            return replace(finding, advice=f"{finding.advice} No remedy could be run: {error}")


CHECKS: tuple[Check, ...] = (
    Check("P1", "Threat model stated", record.stated),
    Check("P2", "Clean accuracy above chance", record.clean_accuracy),
    Check("P3", "Inputs and weights sane", record.sane),
    Check("P3", "Answers are logits", answers.scores, remedies.adapt),
    Check("P3", "In eval mode", answers.evaluation_mode, remedies.in_eval_mode),
    Check("P3", "Answers ignore the batch", answers.alone_and_in_company),
    Check("P4", "Many steps beat one", strength.iterative_beats_single_step, remedies.smooth),
    Check("P5", "A larger radius beats more", strength.larger_radius_beats_more, remedies.smooth),
    Check("P6", "All falls where all is grey", strength.unbounded_reaches_all, remedies.adapt),
    Check("P7", "More steps add little", strength.steps_suffice, remedies.more_steps),
    Check("P7", "Loss has levelled off", trace.levelled_off, remedies.more_steps, "I4"),
    Check("P8", "More starts add little", strength.restarts_suffice, remedies.restarts),
    Check("P9", "Noise finds nothing more", others.noise_finds_nothing_more, remedies.smooth),
    Check("P9", "Scores find nothing more", others.random_search_finds_nothing_more, remedies.smooth),
    Check("P10", "Losses agree", strength.losses_agree, remedies.losses),
    Check("P11", "There is a gradient", gradients.available, remedies.adapt, "I1"),
    Check("P11", "The gradient is its own", gradients.own, remedies.adapt),
    Check("P11", "Same answer under attack", gradients.unwatched, remedies.adapt),
    Check("P12", "Same answer each time", answers.repeatable, remedies.adapt),
    Check("P12", "Near points, near losses", answers.smooth_nearby, remedies.smooth, "I2"),
    Check("P13", "No success is lost", trace.no_success_is_lost, None, "I3"),
    Check("P14", "Transfer finds nothing more", others.oblivious_finds_nothing_more, remedies.transferred, "I5"),
    Check("P15", "All falls in the box", strength.unconstrained_succeeds, remedies.adapt, "I6"),
    Check("P16", "What is planted is found", binary.finds_what_is_planted, binary.planted_through_bridges),
    Check("P17", "Budget holds", record.budget_holds, last=True),
    Check("P18", "Interval is narrow", record.interval_is_narrow, last=True),
    Check("P19", "Beyond the ball", record.broader_threats, last=True),
    Check("P20", "Same seed, same result", record.same_seed_same_result, last=True),
)


@dataclass(frozen=True)
class Examination:
    """What was found of a model: ``n`` pictures, of which it got ``correct`` right and kept ``robust`` under all attacks.

    ``plain`` is the accuracy that PGD on cross-entropy leaves, ``corrected`` that at the worst picture of each example over
    ``runs``, as the model itself answers there.
    """

    findings: tuple[Finding, ...]
    n: int
    correct: int
    robust: int
    plain: Share
    corrected: Corrected
    runs: tuple[Entry, ...]
    forwards: int
    backwards: int
    settings: dict[str, object]
    worst: Tensor = field(compare=False, repr=False)
    """(N, ...) the worst picture of each example; the clean one where nothing else was found."""

    @property
    def failed(self) -> tuple[Finding, ...]:
        """The findings that show that a number cannot stand as it is."""
        return tuple(finding for finding in self.findings if finding.level == FAIL)

    @property
    def masks(self) -> bool:
        """Whether a check of the gradients, or of attacks that follow them, failed."""
        return any(finding.code in _ABOUT_GRADIENTS for finding in self.failed)

    @property
    def sentence(self) -> str:
        """The verdict on the whole, in one line."""
        codes = list(dict.fromkeys(f.code for f in self.failed))
        about = [code for code in codes if code in _ABOUT_GRADIENTS]
        others_ = [code for code in codes if code not in _ABOUT_GRADIENTS]
        besides = f"; other checks fail ({', '.join(others_)})" if others_ else ""
        if about:
            return f"masks its gradients: yes ({', '.join(about)}){besides}"
        made = sum(finding.level != UNKNOWN for finding in self.findings)
        return f"no sign of gradient masking in {made} checks of {len(self.findings)}{besides}"

    @property
    def numbers(self) -> str:
        """The accuracy as first measured, and the corrected one."""
        drawn = f"mean of {self.corrected.repeats} evaluations at the " if self.corrected.repeats > 1 else ""
        return (
            f"accuracy {self.plain.percent} % under the plain attack, corrected {self.corrected.percent} %\n"
            f"{drawn}worst case of {len(self.runs)} runs, confirmed by the model itself; {self.forwards:,} forward and"
            f" {self.backwards:,} backward passes"
        )

    def to_json(self) -> dict[str, object]:
        """All of it, by name."""
        return {
            "masks": self.masks,
            "sentence": self.sentence,
            "n": self.n,
            "correct": self.correct,
            "robust": self.robust,
            "plain": self.plain._asdict(),
            "corrected": self.corrected._asdict(),
            "checks": [finding.to_json() for finding in self.findings],
            "runs": [run.to_json() for run in self.runs],
            "forwards": self.forwards,
            "backwards": self.backwards,
            "settings": self.settings,
        }

    def table(self) -> Table:
        """A row for each check; what to do, and what came of doing it, stand behind the evidence of those that did not pass."""
        rows = tuple((f.codes, f.level, f.name, f.evidence) for f in self.findings)
        bold = frozenset((row, 1) for row, f in enumerate(self.findings) if f.level == FAIL)
        return Table(
            ("", "verdict", "check", "evidence, what to do, and what came of it"), rows, align="llll", bold=bold
        )


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
    expected: float | None = None,
    broader: bool = False,
    progress: Callable[[str, int, int], None] = lambda name, done, total: None,
) -> Examination:
    """Run every check on a model, or a defended one (``advkit.engine.defend.defend``), and the first ``samples`` of data.

    Where a check raises a doubt, what it calls for is run too: BPDA, expectation over draws, other losses, more steps, more
    starts, a search by scores. ``ball`` is Linf, L2 or L1 (default Linf 8/255); ``steps`` those of PGD, ``queries`` those of
    the search by scores; ``expected`` is the clean accuracy (0 to 1) that is claimed; ``broader`` looks outside the ball as
    well. The model comes back as it was, the generators of torch, numpy and Python too. Raises InputError for a ball or data
    that cannot be used.
    """
    ball = Linf(8 / 255) if ball is None else ball
    if not isinstance(ball, Linf | L2 | L1):
        raise InputError(f"the checks work in linf, l2 and l1, not in {ball.norm}: they compare gradient attacks.")
    part = data.head(samples)
    x, y = part.tensors()
    check_weights(model)
    with ExitStack() as stack:
        training = lend(stack, model)
        stack.enter_context(_chance_of_its_own(seed, device_of(model)))
        size = batch_size or batch_for(model, x[0])
        case = Case(
            model,
            x,
            y,
            ball,
            batch_size=size,
            seed=seed,
            steps=steps,
            queries=queries,
            training=training,
            data=part,
            expected=expected,
            broader=broader,
        )
        check_labels(part, case.logits.shape[1])
        if not case.total:
            found = None if case.unsteady else expected_standard(model, part, case.correct, size)
            raise InputError(
                f"the model gets none of {len(y)} pictures of {part.name} right, so nothing can be attacked; "
                "check that weights, normalisation and data belong together."
                + (f" {found.sentence} {found.advice}" if found else "")
            )
        plain = _plain(case)
        findings: dict[Check, Finding] = {}
        work = 2 * len(CHECKS)
        for check in CHECKS:
            progress(check.name, len(findings), work)
            if not check.last:
                findings[check] = check(case)
        acting = case.settled() if case.leftovers else case
        for number, check in enumerate(sorted(CHECKS, key=_root_first), start=len(CHECKS)):
            progress(check.name, number, work)
            if check.last and not any(each.last for each in findings):
                _close(acting, any(finding.level == FAIL for finding in findings.values()))
            findings[check] = check(acting) if check.last else check.act(findings[check], acting)
        return Examination(
            findings=tuple(findings[check] for check in CHECKS),
            n=len(y),
            correct=acting.total,
            robust=int(acting.left.sum()),
            plain=plain,
            corrected=acting.once("corrected", lambda: record.corrected(acting)),
            runs=tuple(acting.ledger.runs),
            forwards=acting.forwards,
            backwards=acting.backwards,
            settings={
                "threat": repr(ball),
                "steps": steps,
                "queries": queries,
                "seed": seed,
                "batch_size": size,
                "data": part.name,
                "hashes": record.hashes(acting),
                "code": code_version(),
                "circumstances": circumstances(),
            },
            worst=acting.ledger.worst,
        )


def _root_first(check: Check) -> tuple[bool, int]:
    """What makes others fail is repaired before them: answers, then gradients, then losses."""
    return check.last, _ROOTS.index(check.code) if check.code in _ROOTS else len(_ROOTS)


def _close(case: Case, doubted: bool) -> None:
    """The last search. A model that fails now, as checks will have told, keeps what was found before."""
    with suppress(PassError):
        remedies.close(case, doubted)


def _plain(case: Case) -> Share:
    """What PGD on cross-entropy leaves; of a model that draws, in the mean over evaluations of what the attack returns."""
    beaten = case.beaten(case.plain(CrossEntropy()))
    if not case.unsteady:
        return share(int((case.correct & ~beaten).sum()), len(case.y))
    at = record.corrected(case)
    return Share(at.value, at.low, at.high)


@contextmanager
def _chance_of_its_own(seed: int, device: torch.device) -> Iterator[None]:
    """A model that draws from a global generator must neither change it for the caller nor make this unrepeatable."""
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":  # this device alone: the state of others would not be put back
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
