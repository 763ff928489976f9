"""What a network reads on a sign with a sticker, pose by pose and frame by frame. No torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

from advkit.results.statistics import Share, share
from advkit.results.table import Table

__all__ = ["LOOKS", "DriveBy", "DriveTable", "Read", "Subject", "Tally"]

Answers = npt.NDArray[np.int64]

LOOKS = {
    "clean": "no sticker",
    "digital": "digital",
    "printed": "printed",
    "grey": "grey instead",
    "moved": "at random places",
}
"""How a sign may look: with the sticker as designed, as printed, in grey, and with the printed sticker put elsewhere."""

_CONTROLS = ("moved", "grey")
_BANDS_M = (76.3, 60.0, 45.0, 30.0, 20.0, 15.0, 10.0, 5.0, 0.0)


@dataclass(frozen=True)
class Subject:
    """What is read: the true class and the target among ``classes``, and the facts that the numbers hold for."""

    classes: tuple[str, ...]
    label: int
    target: int | None
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The true class by name."""
        return self.class_name(self.label)

    @property
    def aim(self) -> str | None:
        """The target by name."""
        return None if self.target is None else self.class_name(self.target)

    def class_name(self, number: int) -> str:
        """A class by name; by number where it has none."""
        return self.classes[number] if number < len(self.classes) else str(number)

    def to_json(self) -> dict[str, Any]:
        """The facts, with the classes by name."""
        return {"class": self.name, "target": self.aim, **self.facts}


@dataclass(frozen=True)
class Tally:
    """Of ``of`` views whose clean picture is read right: how many are read as the target, and how many wrongly at all.

    The success rate of Eykholt et al. 2018, eq. 4: a view that is misread without a sticker proves nothing.
    """

    of: int
    targeted: int | None
    untargeted: int
    wrong: tuple[tuple[str, int], ...] = ()  # classes read instead, the most frequent first

    @classmethod
    def count(cls, answers: Answers, clean: Answers, subject: Subject) -> Tally:
        """From the classes read with and without the sticker, in the same views."""
        read = answers[clean == subject.label]
        instead = Counter(read[read != subject.label].tolist())
        return cls(
            len(read),
            None if subject.target is None else int((read == subject.target).sum()),
            int((read != subject.label).sum()),
            tuple((subject.class_name(number), times) for number, times in _frequent(instead)),
        )

    def to_json(self) -> dict[str, Any]:
        """Counts and shares with their intervals; a share of no views is null."""
        return {
            "of": self.of,
            "targeted": None if self.targeted is None else _share_json(self.targeted, self.of),
            "untargeted": _share_json(self.untargeted, self.of),
            "wrong": [{"class": name, "count": times} for name, times in self.wrong[:3]],
        }


@dataclass(frozen=True)
class Read:
    """Classes read in ``draws`` views at each of some poses: ``answers`` has (poses, draws) for each look."""

    distances: tuple[float, ...]  # m
    yaws: tuple[float, ...]  # degrees
    pixels: tuple[float, ...]  # of the sensor
    answers: Mapping[str, Answers]

    @property
    def looks(self) -> list[str]:
        """With stickers, in the order of tables."""
        return [look for look in LOOKS if look in self.answers and look != "clean"]

    def tally(self, look: str, subject: Subject, rows: Sequence[int] | slice = slice(None)) -> Tally:
        """The success of a look over some poses."""
        return Tally.count(self.answers[look][rows].ravel(), self.answers["clean"][rows].ravel(), subject)

    def right(self, subject: Subject, rows: Sequence[int] | slice = slice(None)) -> tuple[int, int]:
        """How many views are read right without a sticker, and of how many."""
        clean = self.answers["clean"][rows]
        return int((clean == subject.label).sum()), int(clean.size)


@dataclass(frozen=True)
class DriveTable:
    """A row for each pose, and one for all of them."""

    subject: Subject
    read: Read

    @property
    def never_right(self) -> bool:
        """Whether no clean view at any pose is read right."""
        return self.read.right(self.subject)[0] == 0

    def table(self) -> Table:
        """Success in percent with 95 % intervals."""
        aimed = self.subject.target is not None
        heads, over = ["distance (m)", "yaw (°)", "sign px", "clean right"], ["", "", "", ""]
        for look in self.read.looks:
            kinds = ("targeted", "any wrong") if aimed and look not in _CONTROLS else ("any wrong",)
            heads += kinds
            over += [LOOKS[look]] * len(kinds)
        heads.append("read instead")
        over.append("")
        rows = [self._row(f"{d:.1f}", f"{y:.0f}", f"{px:.1f}", [i]) for i, (d, y, px) in enumerate(self._poses())]
        rows.append(self._row("all", "", "", range(len(rows))))
        return Table(
            tuple(heads),
            tuple(rows),
            align="rrrr" + "r" * (len(heads) - 5) + "l",
            strong=(len(rows) - 1,),
            caption=_caption(self.subject),
            title=_title(self.subject),
            over=tuple(over),
        )

    def long_table(self) -> Table:
        """A row for each pose and look, in plain numbers."""
        heads = (
            *("distance_m", "yaw_deg", "sign_px", "draws", "clean_right", "look"),
            *("targeted", "targeted_low", "targeted_high", "untargeted", "untargeted_low", "untargeted_high"),
            "wrong_class",
        )
        rows = []
        for i, (distance, yaw, pixels) in enumerate(self._poses()):
            right, draws = self.read.right(self.subject, [i])
            for look in self.read.looks:
                tally = self.read.tally(look, self.subject, [i])
                row = [f"{distance:.4f}", f"{yaw:g}", f"{pixels:.2f}", str(draws), str(right), look]
                for count in (tally.targeted, tally.untargeted):
                    found = None if count is None or not tally.of else share(count, tally.of)
                    row += ["", "", ""] if found is None else [f"{value:.4f}" for value in found]
                rows.append((*row, tally.wrong[0][0] if tally.wrong else ""))
        return Table(heads, tuple(rows), align="rrrrrl" + "r" * 6 + "l")

    def to_json(self) -> dict[str, Any]:
        """All numbers, by name."""
        rows = [
            {"distance_m": distance, "yaw_deg": yaw, "sign_px": pixels, **self._numbers([i])}
            for i, (distance, yaw, pixels) in enumerate(self._poses())
        ]
        return {**self.subject.to_json(), "rows": rows, "all": self._numbers(range(len(rows)))}

    def _poses(self) -> list[tuple[float, float, float]]:
        return list(zip(self.read.distances, self.read.yaws, self.read.pixels, strict=True))

    def _numbers(self, rows: Sequence[int]) -> dict[str, Any]:
        right, views = self.read.right(self.subject, rows)
        found = {look: self.read.tally(look, self.subject, rows).to_json() for look in self.read.looks}
        controls = [_control(name, found[name]) for name in _CONTROLS if name in found]
        shown = {look: numbers for look, numbers in found.items() if look not in _CONTROLS}
        return {
            "clean": {"n": views, **_share_json(right, views)},
            **shown,
            "control": controls[0],
            "controls": controls,
        }

    def _row(self, distance: str, yaw: str, pixels: str, rows: Sequence[int]) -> tuple[str, ...]:
        right, views = self.read.right(self.subject, rows)
        cells = [distance, yaw, pixels, f"{right} of {views}"]
        wrong: tuple[tuple[str, int], ...] = ()
        for look in self.read.looks:
            tally = self.read.tally(look, self.subject, rows)
            aimed = tally.targeted is not None and look not in _CONTROLS
            counts = [tally.targeted or 0, tally.untargeted] if aimed else [tally.untargeted]
            cells += [_cell(count, tally.of) for count in counts]
            if look == ("printed" if "printed" in self.read.answers else "digital"):
                wrong = tally.wrong
        return (*cells, f"{wrong[0][0]} ({wrong[0][1]})" if wrong else "-")


@dataclass(frozen=True)
class DriveBy:
    """Drives towards and past a sign: ``read`` has a row for each frame, from far to near, and a column for each drive."""

    subject: Subject
    read: Read

    def longest_runs(self, look: str) -> list[int]:
        """The most frames in a row that are read wrongly, for each drive."""
        return [_longest(drive != self.subject.label) for drive in self.read.answers[look].T]

    def first_right(self, look: str) -> list[float | None]:
        """The distance at which the sign is first read right, for each drive; None where it never is."""
        found = []
        for drive in self.read.answers[look].T:
            is_right = drive == self.subject.label
            found.append(self.read.distances[int(is_right.argmax())] if is_right.any() else None)
        return found

    def table(self) -> Table:
        """A row for each look: what a whole drive comes to."""
        aimed = self.subject.target is not None
        heads = ("sign", *(("read as target",) if aimed else ()), "read wrongly", "frames wrong",
                 "longest wrong run (frames)", "first read right (m)")  # fmt: skip
        rows = []
        for look in ("clean", *self.read.looks):
            answers, tally = self.read.answers[look], self.read.tally(look, self.subject)
            wrong = int((answers != self.subject.label).sum())
            success = [_cell(tally.untargeted, tally.of)] if look != "clean" else ["-"]
            if aimed:
                success.insert(0, _cell(tally.targeted or 0, tally.of) if look != "clean" else "-")
            rows.append(
                (
                    LOOKS[look],
                    *success,
                    f"{wrong} of {answers.size}",
                    _spread(self.longest_runs(look)),
                    _first(self.first_right(look)),
                )
            )
        drives = self.read.answers["clean"].shape[1]
        caption = (
            f"{drives} drive{'s' if drives > 1 else ''} of {len(self.read.distances)} frames; runs and distances: the median "
            f"(range) of the drives. {_caption(self.subject)}"
        )
        return Table(
            heads, tuple(rows), align="l" + "r" * (len(heads) - 1), caption=caption, title=_title(self.subject)
        )

    def bands(self) -> Table:
        """The success per frame within bands of distance."""
        looks = self.read.looks
        rows = []
        distances = np.array(self.read.distances)
        for far, near in pairwise(_BANDS_M):
            inside = np.nonzero((distances <= far) & (distances > near))[0].tolist()
            if not inside:
                continue
            right, views = self.read.right(self.subject, inside)
            cells = [self.read.tally(look, self.subject, inside) for look in looks]
            rows.append(
                (
                    f"{distances[inside].max():.0f} to {distances[inside].min():.0f}",
                    f"{np.array(self.read.pixels)[inside].min():.0f} to {np.array(self.read.pixels)[inside].max():.0f}",
                    f"{right} of {views}",
                    *(_cell(tally.untargeted, tally.of) for tally in cells),
                )
            )
        heads = ("distance (m)", "sign px", "clean right", *(f"{LOOKS[look]}: any wrong" for look in looks))
        return Table(heads, tuple(rows), align="l" + "r" * (len(heads) - 1))

    def long_table(self) -> Table:
        """A row for each frame and look, in plain numbers."""
        heads = ("distance_m", "yaw_deg", "sign_px", "look", "drives", "clean_right", "targeted", "untargeted")
        rows = []
        for i, distance in enumerate(self.read.distances):
            for look in self.read.looks:
                tally = self.read.tally(look, self.subject, [i])
                drives = self.read.answers["clean"].shape[1]
                targeted = "" if tally.targeted is None else str(tally.targeted)
                pose = (f"{distance:.4f}", f"{self.read.yaws[i]:.3f}", f"{self.read.pixels[i]:.2f}")
                rows.append((*pose, look, str(drives), str(tally.of), targeted, str(tally.untargeted)))
        return Table(heads, tuple(rows), align="rrrlrrrr")

    def to_json(self) -> dict[str, Any]:
        """All numbers, by name, and what was read in each frame."""
        named: dict[str, dict[str, Any]] = {
            look: {
                "longest_wrong_run": self.longest_runs(look),
                "first_right_m": self.first_right(look),
                "wrong": _share_json(
                    int((self.read.answers[look] != self.subject.label).sum()), self.read.answers[look].size
                ),
                "success": None if look == "clean" else self.read.tally(look, self.subject).to_json(),
            }
            for look in ("clean", *self.read.looks)
        }
        frames = [
            {
                "distance_m": distance,
                "yaw_deg": self.read.yaws[i],
                "sign_px": self.read.pixels[i],
                "read": {
                    look: [self.subject.class_name(n) for n in a[i].tolist()] for look, a in self.read.answers.items()
                },
            }
            for i, distance in enumerate(self.read.distances)
        ]
        controls = [_control(name, named[name]["success"]) for name in _CONTROLS if name in named]
        shown = {look: numbers for look, numbers in named.items() if look not in _CONTROLS}
        moved = {look: numbers for look, numbers in named.items() if look in _CONTROLS}
        return {
            **self.subject.to_json(), **shown, "control": controls[0], "controls": controls, "control_drives": moved,
            "frames": frames,
        }  # fmt: skip


def _frequent(counted: Counter[int]) -> list[tuple[int, int]]:
    """The most frequent first; of equals, the lower number."""
    return sorted(counted.items(), key=lambda pair: (-pair[1], pair[0]))


def _share_json(count: int, total: int) -> dict[str, Any]:
    found: Share | tuple[None, None, None] = share(count, total) if total else (None, None, None)
    return {"count": count, **dict(zip(("value", "low", "high"), found, strict=True))}


def _control(name: str, tally: dict[str, Any]) -> dict[str, Any]:
    """As the control of any attack is told: its untargeted success."""
    plain = {"moved": "random", "grey": "grey"}[name]
    untargeted = tally["untargeted"]
    return {
        "name": plain, "success": untargeted["value"], "low": untargeted["low"], "high": untargeted["high"],
        "targeted": tally["targeted"],
    }  # fmt: skip


def _cell(count: int, total: int) -> str:
    """In whole percent with the interval; of no views, nothing can be said."""
    if not total:
        return "-"
    found = share(count, total)
    return f"{100 * found.value:.0f} [{100 * found.low:.0f}, {100 * found.high:.0f}]"


def _longest(wrong: npt.NDArray[np.bool_]) -> int:
    """The length of the longest run of true values."""
    best = run = 0
    for is_wrong in wrong.tolist():
        run = run + 1 if is_wrong else 0
        best = max(best, run)
    return best


def _spread(values: Sequence[int]) -> str:
    middle = f"{median(values):g}"
    return middle if min(values) == max(values) else f"{middle} ({min(values)} to {max(values)})"


def _first(values: Sequence[float | None]) -> str:
    """Distances at which drives first read the sign right."""
    known = [value for value in values if value is not None]
    if not known:
        return "never"
    # A drive that never reads it right is nearer than any distance.
    middle = median([0.0 if value is None else value for value in values])
    text = "never" if middle == 0 else f"{middle:.1f}"
    if min(known) != max(known):
        text += f" ({min(known):.1f} to {max(known):.1f})"
    never = len(values) - len(known)
    return f"{text}, never in {never}" if never else text


def _title(subject: Subject) -> str:
    return f"{subject.name}, to be read as {subject.aim}" if subject.aim else f"{subject.name}, to be misread"


def _caption(subject: Subject) -> str:
    told = subject.facts
    parts = [f"{told[name]}" for name in ("model_text", "sticker_text", "print_text", "views_text") if name in told]
    parts.append(
        "Success in % of the views that are read right without the sticker [95 % Wilson interval]; read instead: of the "
        "printed sign, the most frequent"
    )
    return "; ".join(parts) + "."
