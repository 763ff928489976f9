"""What verifying a folder comes to: what was found right, with counts, what differs first, and what nobody can tell."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from advkit.documents import parse_json
from advkit.errors import DataError
from advkit.results.facts import Saved
from advkit.results.outcome import Outcome

__all__ = [
    "Difference",
    "Differs",
    "Report",
    "check_attacked",
    "check_figures",
    "check_files",
    "check_places",
    "shards_of",
]

_SAID = frozenset({"doubts", "checks"})  # sentences, which no fact of an example says again
_ROUNDING = 1e-9  # relative, of sums that another machine adds up in another order


@dataclass(frozen=True)
class Difference:
    """The first thing that is not as it is stored: in which file, of which example, which fact, and what was found."""

    file: str
    fact: str
    stored: object
    found: object
    example: int | None = None

    def __str__(self) -> str:
        of = "" if self.example is None else f", example {self.example}"
        return f"{self.file}{of}: {self.fact} is stored as {_said(self.stored)}, found is {_said(self.found)}."

    def to_json(self) -> dict[str, object]:
        """The stable form."""
        return {
            "file": self.file,
            "example": self.example,
            "fact": self.fact,
            "stored": self.stored,
            "found": self.found,
            "sentence": str(self),
        }


class Differs(Exception):
    """Carries a difference to whoever reports it."""

    def __init__(self, difference: Difference) -> None:
        super().__init__(str(difference))
        self.difference = difference


@dataclass
class Report:
    """Lines of what is right, each with its count; the first difference, or what cannot be read; what cannot be told."""

    folder: Path
    verified: list[tuple[str, int, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    difference: Difference | None = None
    unreadable: str = ""
    asked: int = 0  # answers that a model gave again
    unasked: int = 0  # models that could not be asked

    def right(self, what: str, count: int, said: str) -> None:
        """Remember that so many are as they are stored."""
        self.verified.append((what, count, said))

    def note(self, text: str) -> None:
        """Remember what cannot be verified."""
        self.notes.append(text)

    def doubt(self, text: str) -> None:
        """Remember what is no difference, and not beyond doubt either."""
        self.doubts.append(text)

    @property
    def differs(self) -> bool:
        """Whether something is not as it is stored."""
        return self.difference is not None or bool(self.unreadable)

    @property
    def holds(self) -> bool:
        """Whether a model was asked, and nothing differs."""
        return self.asked > 0 and not self.differs

    @property
    def sentence(self) -> str:
        """What does not hold, or why it is not known; empty where all does."""
        if self.difference is not None:
            return f"Differs: {self.difference}"
        if self.unreadable:
            return f"Differs: {self.unreadable}"
        return "" if self.asked else f"Not verified: no model could be asked about {self.folder}; the doubts say why."

    def lines(self) -> list[str]:
        """The report as text."""
        wide = max((len(what) for what, _, _ in self.verified), default=0)
        return [
            *(f"right  {what:{wide}}  {count:>7,}  {said}" for what, count, said in self.verified),
            *(f"doubt  {text}" for text in self.doubts),
            *(f"note   {text}" for text in self.notes),
        ]

    def to_json(self) -> dict[str, object]:
        """The stable form."""
        return {
            "folder": str(self.folder),
            "holds": self.holds,
            "verified": [{"what": what, "count": count, "said": said} for what, count, said in self.verified],
            "difference": None if self.difference is None else self.difference.to_json(),
            "unreadable": self.unreadable or None,
            "answers_asked_again": self.asked,
            "models_not_asked": self.unasked,
            "doubts": self.doubts,
            "not_verified": self.notes,
        }


def shards_of(folder: Path, wanted: Tensor) -> list[tuple[Path, Tensor, Tensor]]:
    """Every shard of an attack's examples: its file, places (B,) and pictures. Raises DataError where one is not whole.

    Together they must hold the examples ``wanted`` (N,) bool, each once.
    """
    found = []
    seen = torch.zeros_like(wanted)
    for path in sorted(folder.glob("examples-*.safetensors")):
        try:
            shard = load(path.read_bytes())
            index, x_adv = shard["index"], shard["x_adv"]
        except (OSError, SafetensorError, ValueError) as error:
            raise DataError(f"{path} cannot be read ({error}): it was cut off or changed.") from None
        except KeyError as error:
            raise DataError(f"{path} lacks {error}; it is none of advkit's.") from None
        if index.dtype != torch.long or index.ndim != 1 or len(index) != len(x_adv) or x_adv.ndim < 2:
            raise DataError(
                f"{path} holds {tuple(x_adv.shape)} pictures at {tuple(index.shape)} places; it was changed."
            )
        outside = (index < 0) | (index >= len(wanted))
        again = torch.zeros_like(outside)
        again[~outside] = seen[index[~outside]] | ~wanted[index[~outside]]
        if bool((outside | again).any()) or len(set(index.tolist())) != len(index):
            raise DataError(f"{path} holds examples that were not attacked, or holds them twice; it was changed.")
        seen[index] = True
        found.append((path, index, x_adv))
    lacking = (wanted & ~seen).nonzero().squeeze(1)
    if len(lacking):
        raise DataError(
            f"{folder} lacks {len(lacking):,} of {int(wanted.sum()):,} adversarial pictures, the first of example "
            f"{int(lacking[0])}: a file examples-*.safetensors is missing."
        )
    return found


def check_attacked(saved: Saved, outcome: Outcome) -> int:
    """An attack meets what was right without it, or what the one that it follows left standing."""
    result = saved.result
    met = result.correct
    if outcome.follows:
        met = result.outcome(outcome.follows, outcome.threat).stands(result.labels)
    compare(str(saved.path), f"{outcome.name} at {outcome.threat.eps.exact}, attacked", outcome.attacked, met)
    return len(met)


def compare(file: str, fact: str, stored: Tensor, found: Tensor, index: Tensor | None = None) -> None:
    """Raise Differs at the first example where two columns (B,) are not alike, numbers up to the rounding of a sum."""
    if stored.is_floating_point():
        alike = (stored - found).abs() <= _ROUNDING * stored.abs().clamp_min(1)
        alike |= stored == found  # of infinities the difference is none
    else:
        alike = stored == found
    if not bool(alike.all()):
        row = int((~alike).nonzero()[0])
        place = row if index is None else int(index[row])
        raise Differs(Difference(file, fact, stored[row].item(), found[row].item(), place))


def check_figures(saved: Saved) -> int:
    """Count every figure of the table again from the stored facts; says how many there are."""
    counted = saved.result.to_json()
    count = 0
    for key, found in counted.items():
        if key in _SAID:
            continue
        count += _check(str(saved.path), key, saved.found.get(key), parse_json(json.dumps(found), key))
    return count


def _check(file: str, name: str, stored: object, found: object) -> int:
    if isinstance(found, Mapping) and isinstance(stored, Mapping):
        return sum(_check(file, f"{name}.{key}", stored.get(key), value) for key, value in found.items())
    if isinstance(found, list) and isinstance(stored, list) and len(found) == len(stored):
        titles = [_title(each, place) for place, each in enumerate(found)]
        pairs = zip(titles, stored, found, strict=True)
        return sum(_check(file, f"{name}[{title}]", one, other) for title, one, other in pairs)
    alike = stored == found
    if isinstance(found, float) and isinstance(stored, int | float):
        alike = abs(found - stored) <= _ROUNDING * max(1.0, abs(stored))
    if not alike:
        raise Differs(Difference(file, name, stored, found))
    return 1


def _title(row: object, place: int) -> str:
    """``pgd at 8/255`` for a row of the table."""
    if isinstance(row, Mapping) and "attack" in row:
        return f"{row['attack']} at {row['eps']}"
    return str(row["eps"]) if isinstance(row, Mapping) and "eps" in row else str(place)


def check_files(saved: Saved) -> int:
    """Every file is, byte for byte, the one that was written; says how many there are. Raises DataError where not."""
    return len(saved.whole().found["files"])


def check_places(path: Path, names: Sequence[str], wanted: Tensor) -> None:
    """Every example that was attacked has a file, and no other."""
    for i, name in enumerate(names):
        if bool(name) != bool(wanted[i]) or Path(name).name != name:
            raise Differs(Difference(str(path), "file of the picture", name, "one" if wanted[i] else "none", i))


def _said(value: object) -> str:
    return repr(value) if isinstance(value, float | str) else str(value)
