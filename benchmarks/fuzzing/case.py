"""An input, what is wanted of it, and how it ended."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

__all__ = ["ENDINGS", "FINE", "Answer", "Box", "Case", "Ending", "Wanted", "judged"]

Ending = Literal[
    "result", "sentence", "silence", "unclear", "refused", "wrong", "traceback", "hang", "killed", "ran code"
]
FINE: tuple[Ending, ...] = ("result", "sentence")
ENDINGS: dict[Ending, str] = {
    "result": "a result, where one is allowed; of a known value, that value",
    "sentence": "one sentence, where the input may be refused",
    "silence": "accepted, though it must be refused",
    "unclear": "refused, and not in one clear sentence with exit code 2",
    "refused": "refused, though there is a right result",
    "wrong": "another result than the right one",
    "traceback": "a traceback",
    "hang": "no end within the limit of time",
    "killed": "ended by a signal, such as out of memory",
    "ran code": "what a file named was run",
}
_LONGEST = 1500  # characters of a sentence
_FINDING = ("verify", "results check")  # commands whose exit code 1 says that something is not as it should be
PLANTED = "pwned"
"""The file that planted code writes into its working folder."""


class Answer(NamedTuple):
    """What came of an input; ``value`` only of Python, ``error`` the exception that got through."""

    code: int | None = None
    out: str = ""
    err: str = ""
    value: object = None
    error: BaseException | None = None
    trace: str = ""


@dataclass(frozen=True)
class Wanted:
    """What is wanted: ``refused``, ``result``, ``either`` of these, or ``noticed``: an exit code above 0 or a note.

    ``holds`` says what is wrong about a result, or nothing; ``says`` are parts that a sentence must have.
    """

    what: Literal["refused", "result", "either", "noticed"]
    holds: Callable[[Answer], str | None] | None = None
    says: tuple[str, ...] = ()


@dataclass(frozen=True)
class Box:
    """The folder of one input, and the files that many inputs begin from (see stock.py)."""

    at: Path
    stock: Path

    def copy(self, name: str) -> Path:
        """A folder or file of the stock, copied so that it may be spoilt."""
        source, target = self.stock / name, self.at / name
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
        return target

    def write(self, name: str, content: str | bytes) -> Path:
        """A file with this content."""
        path = self.at / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content)
        return path

    def device(self, name: str) -> Path:
        """A device such as zero or full. One of our own where we are root, who could rename another file over the true one."""
        numbers = {"null": (1, 3), "zero": (1, 5), "full": (1, 7)}
        if os.geteuid() != 0:
            return Path("/dev") / name
        path = self.at / name
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(*numbers[name]))
        return path


@dataclass(frozen=True)
class Case:
    """An input: the words of a command line, or a call of Python; both are built in the process that tries them."""

    kind: str
    place: str  # a command with its option, or a function with its argument
    given: str
    wanted: Wanted
    words: Callable[[Box], Sequence[object]] | None = None
    call: Callable[[Box], Callable[[], object]] | None = None
    needs: tuple[str, ...] = ()  # of the stock
    alone: bool = False  # in a process of its own, not a fork: what concerns the process itself
    stdout: str = ""  # where standard output goes instead: closed, full, ascii
    raises: str = ""  # a script of one's own is to end in the traceback of an AdvkitError that says this

    @property
    def command(self) -> str:
        """The command or function, for the table."""
        return self.place.partition(" --")[0]


def _sentence(text: str) -> str | None:
    """What is wrong with a sentence, or nothing."""
    if not text.strip():
        return "an empty sentence"
    if "\n" in text.strip():
        return "more than one line"
    if len(text) > _LONGEST:
        return f"a sentence of {len(text):,} characters"
    if not text.rstrip().endswith((".", "?", "help.", ")", "!")):
        return "no full stop"
    return None


def judged(case: Case, answer: Answer, planted: bool) -> tuple[Ending, str]:
    """How it ended, and what there is to say about it."""
    if planted:
        return "ran code", f"{PLANTED} was written"
    refusal, bad = _refusal(case, answer)
    if bad is not None:
        return bad, refusal
    wanted = case.wanted
    if refusal:
        if wanted.what == "result":
            return "refused", refusal
        lacking = [part for part in wanted.says if part not in refusal]
        return ("unclear", f"lacks {lacking}: {refusal}") if lacking else ("sentence", refusal)
    if wanted.what == "refused":
        return "silence", (answer.out or answer.err or repr(answer.value)).strip()[-300:]
    if wanted.what == "noticed" and not ("Note:" in answer.err or "not covered" in answer.out + answer.err):
        return "silence", (answer.out or answer.err).strip()[-300:]
    told = wanted.holds(answer) if wanted.holds else None
    return ("wrong", told) if told else ("result", "")


def _uncaught(case: Case, err: str) -> tuple[str, Ending | None]:
    """The same for a traceback that Python printed: of a script, which does not catch what advkit raises, it may be right."""
    name, _, said = err.rstrip().splitlines()[-1].partition(": ")
    once = err.count("Traceback (most recent call last)") == 1
    if case.raises and once and name.startswith("advkit.errors.") and case.raises in said:
        return said, None
    return err[-1500:], "traceback"


def _refusal(case: Case, answer: Answer) -> tuple[str, Ending | None]:
    """The sentence of a refusal, or nothing; and the ending where it is none of the good ones."""
    from advkit.errors import AdvkitError, ThreatViolation

    error = answer.error
    if error is not None:
        if not isinstance(error, AdvkitError) or isinstance(error, ThreatViolation):
            return answer.trace, "traceback"
        wrong = _sentence(str(error))
        return (f"{wrong}: {error}"[:600], "unclear") if wrong else (str(error), None)
    if "Traceback (most recent call last)" in answer.err:
        return _uncaught(case, answer.err)
    if not answer.code:
        return "", None
    lines = [line for line in answer.err.splitlines() if line.startswith("Error: ")]
    if case.command in _FINDING and answer.code == 1 and not lines:
        return answer.out.strip().splitlines()[-1][:600] if answer.out.strip() else answer.err[-300:], None
    if len(lines) != 1:
        return f"exit code {answer.code}, {len(lines)} lines of error: {answer.err[-600:]}", "unclear"
    wrong = _sentence(lines[0])
    if wrong is None and not answer.err.rstrip().endswith(lines[0].rstrip()):
        wrong = "not the last line"
    return (f"{wrong}: {lines[0]}"[:600], "unclear") if wrong else (lines[0].removeprefix("Error: "), None)
