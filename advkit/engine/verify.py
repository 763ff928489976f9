"""Verify what was saved: load model and pictures again, ask again, measure again, count again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from advkit.core.goal import Goal
from advkit.core.modes import borrowed
from advkit.engine.passes import Passes, batch_for
from advkit.engine.precision import Precision
from advkit.engine.recipe import Bench, Recipe, picture_hashes
from advkit.engine.reload import goal_of
from advkit.engine.specs import DataSpec
from advkit.errors import AdvkitError, DataError, InputError, Untrusted
from advkit.results.facts import Saved, read_facts_of
from advkit.results.files import CLEAN, read_png, title_of, to_8_bits
from advkit.results.levels import level_distance, levels_of, pictures_of
from advkit.results.outcome import Outcome
from advkit.results.statistics import share
from advkit.results.verify import (
    Difference,
    Differs,
    Report,
    check_attacked,
    check_figures,
    check_files,
    check_places,
    compare,
    shards_of,
)
from advkit.trust import NOTHING, Trust

__all__ = ["verify"]

_TIE = 1e-4  # of the largest score: what the order of a sum may move an answer

Progress = Callable[[int, int], None]


def verify(
    folder: Path,
    *,
    device: str = "cpu",
    model: str | None = None,
    weights: str | None = None,
    data: str | None = None,
    trust: Trust = NOTHING,
    progress: Progress = lambda done, total: None,
) -> Report:
    """What holds of a folder of ``advkit attack --save``, up to the first thing that does not.

    Model, weights and data are loaded as it is stored that they were, or what is given in their place; they must be the same
    by their hashes. Of code, only ``model`` and what ``trust`` holds is imported. Raises InputError where the folder is none,
    or where model or data cannot be loaded.
    """
    report = Report(folder)
    try:
        saved = read_facts_of(folder)
        recipe = moved(recipe_in(saved), model, weights, data)
        bench = loaded(recipe, device, trust | Trust.of(*filter(None, [model])))
        with borrowed(bench.model), borrowed(bench.bare):
            _Verifier(saved, recipe, bench, report, progress).go()
    except Differs as found:
        report.difference = found.difference
    except DataError as error:
        report.unreadable = str(error)
    return report


def recipe_in(saved: Saved) -> Recipe:
    """How it was run. Raises DataError where that is not said."""
    try:
        return Recipe.from_json(saved.run)
    except (ArithmeticError, AttributeError, KeyError, TypeError) as error:
        raise DataError(f"{saved.path} does not say how it was run ({error} is missing or wrong).") from None


def moved(recipe: Recipe, model: str | None, weights: str | None, data: str | None) -> Recipe:
    """The same with model, weights or data from another place."""
    spec, pictures = recipe.model, recipe.data
    if model is not None or weights is not None:
        spec = replace(spec, model=model or spec.model, weights=weights or spec.weights)
    if data is not None and isinstance(pictures, DataSpec):
        pictures = replace(pictures, name=data)
    elif data is not None:
        raise InputError("the pictures were given by --image, and are verified where they were; leave --data out.")
    return replace(recipe, model=spec, data=pictures)


def loaded(recipe: Recipe, device: str, trust: Trust = NOTHING) -> Bench:
    """Model and data; of code only what the caller wrote himself."""
    try:
        return recipe.build(device, trust)
    except Untrusted:
        raise
    except AdvkitError as error:
        raise InputError(
            f"{error} Model and data are loaded as it is stored that they were; where they have moved, say where they are "
            "with --model, --weights and --data."
        ) from None


class _Verifier:
    def __init__(self, saved: Saved, recipe: Recipe, bench: Bench, report: Report, progress: Progress) -> None:
        self.saved, self.recipe, self.bench, self.report = saved, recipe, bench, report
        self.result, self.data, self.file = saved.result, bench.data, str(saved.path)
        size = batch_for(bench.model, self.data.pictures([0])[0])
        self.passes = Passes(bench.model, Precision.own(bench.model), size)
        self.progress, self.done, self.ties = progress, 0, 0
        self.draws = False
        self.total = len(self.result) + sum(int(each.attacked.sum()) for each in self.result.outcomes)

    def go(self) -> None:
        self._inputs()
        self._without_attack()
        goal, what = (
            goal_of(self.result),
            "budget and distance" if self.draws else "budget, distance, answer and success",
        )
        for outcome in self.result.outcomes:
            title = title_of(outcome)
            check_attacked(self.saved, outcome)
            count = int(outcome.attacked.sum())
            self._pictures(outcome, goal)
            self.report.right(title, count, f"adversarial pictures: {what}")
            if outcome.reloaded is not None:
                self._files(outcome, goal)
                self.report.right(title, count, f"files in 8 bits: {what}")
        self.report.right("figures", check_figures(self.saved), "counted again from these facts")
        self.report.right("files", check_files(self.saved), "byte for byte as they were written")
        if not self.saved.covered:
            self.report.note(f"{self.file} is an older advkit's, without a checksum of itself: it is not covered.")
        if self.ties:
            self.report.doubt(
                f"{self.ties:,} answer{'s differ' if self.ties > 1 else ' differs'} from the stored one at a tie of two "
                f"classes, nearer than {_TIE:g} of the largest score: within the rounding of another processor."
            )
        self.report.note("Passes, steps and seconds are what was counted then; only their sums are verified.")
        if self.result.surrogate is not None:
            self.report.note("The surrogate is not asked again: what was made on it is verified on the model itself.")
        if any(outcome.controls for outcome in self.result.outcomes):
            self.report.note("Controls have no pictures, so that of them only the counts are verified.")

    def _inputs(self) -> None:
        """Model and pictures are those of then."""
        if len(self.data) != len(self.result):
            raise Differs(Difference(self.file, "examples", len(self.result), len(self.data)))
        hashes = picture_hashes(self.data)
        for i, (stored, found) in enumerate(zip(self.recipe.hashes, hashes, strict=False)):
            if stored != found:
                raise Differs(Difference(self.file, f"hash of the clean picture of {self.data.name}", stored, found, i))
        if len(self.recipe.hashes) != len(hashes):
            raise Differs(Difference(self.file, "hashes of clean pictures", len(self.recipe.hashes), len(hashes)))
        known = self.data.labels >= 0
        compare(self.file, "label", self.result.labels[known], self.data.labels[known], known.nonzero().squeeze(1))
        self.report.right("data", len(self.data), f"pictures and labels of {self.data.name}")
        found_hash = self.bench.net.fingerprint()
        if found_hash != self.recipe.model_hash:
            raise Differs(
                Difference(self.file, f"hash of the weights of {self.result.model}", self.recipe.model_hash, found_hash)
            )
        weights = sum(parameter.numel() for parameter in self.bench.net.parameters())
        self.report.right("model", weights, f"weights of {self.result.model}, {self.result.weights}")

    def _without_attack(self) -> None:
        """The answers without attack, with and without the defense."""
        bare = Passes(self.bench.bare, Precision.own(self.bench.bare), self.passes.batch_size)
        right = 0
        for part in torch.split(torch.arange(len(self.data)), self.passes.batch_size):
            x = self.data.pictures(part.tolist()).to(self.passes.device)
            logits = self.passes.judge(x)
            again = self.passes.judge(x)
            if not self.draws and not torch.allclose(again, logits, rtol=1e-3, atol=1e-3):
                self.draws = True
                self.report.doubt(
                    f"{self.result.model} answers otherwise when it is asked again: it draws at random, and what it answered "
                    "is not verified."
                )
            self._answers(self.file, "answer without attack", self.result.clean[part], logits, part)
            if self.result.undefended is not None:
                right += int((bare.judge(x).argmax(1).cpu() == self.result.labels[part]).sum())
            self._advance(len(part))
        self.report.asked += len(self.data)
        if not self.draws:
            self.report.right("clean", len(self.data), "answers without attack")
        if self.result.undefended is not None:
            found, stored = share(right, len(self.data)), self.result.undefended
            if found.value != stored.value and not self.draws:
                raise Differs(Difference(self.file, "accuracy without the defense", stored.value, found.value))
            self.report.right("undefended", len(self.data), "answers without attack and without the defense")

    def _pictures(self, outcome: Outcome, goal: Goal) -> None:
        """The exact adversarial pictures of an attack."""
        for path, places, pictures in shards_of(self.saved.of(outcome), outcome.attacked):
            for index, x_adv in zip(
                torch.split(places, self.passes.batch_size), torch.split(pictures, self.passes.batch_size), strict=True
            ):
                x = self.data.pictures(index.tolist())
                if x.shape != x_adv.shape:
                    raise DataError(
                        f"{path} holds pictures of {tuple(x_adv.shape[1:])}, and the data of {tuple(x.shape[1:])}."
                    )
                self._inside(str(path), outcome, index, outcome.threat.distance(x_adv, x), outcome.distance)
                box = (x_adv.flatten(1) >= 0) & (x_adv.flatten(1) <= 1)
                compare(str(path), "being in [0, 1]", torch.ones(len(index), dtype=torch.bool), box.all(1), index)
                logits = self.passes.judge(x_adv.to(self.passes.device))
                self._answers(str(path), "answer", outcome.prediction[index], logits, index)
                reached = self._reached(goal, index, outcome.prediction, logits.shape[1])
                compare(self.file, f"{title_of(outcome)}, success", outcome.success[index], reached, index)
                if self.saved.found["as"] != "png":
                    self._drawn(outcome, index, x_adv, x)
                self._advance(len(index))

    def _drawn(self, outcome: Outcome, index: Tensor, x_adv: Tensor, x: Tensor) -> None:
        """The pictures for the eye are the successes, rounded towards the clean pictures."""
        if x.shape[1] not in (1, 3):
            return
        for row in outcome.success[index].nonzero().squeeze(1).tolist():
            i = int(index[row])
            found = sorted(self.saved.of(outcome).glob(f"{i:05d}-*.png"))
            if len(found) != 1:
                raise DataError(
                    f"{self.saved.of(outcome)} has {len(found) or 'no'} pictures of example {i}; it must have one."
                )
            self._same(found[0], i, read_png(found[0]), to_8_bits(x_adv[row], x[row]))

    def _files(self, outcome: Outcome, goal: Goal) -> None:
        """The pictures in 8 bits of an attack."""
        files = outcome.reloaded
        assert files is not None
        check_places(self.saved.path, files.files, outcome.attacked)
        for index in torch.split(outcome.attacked.nonzero().squeeze(1), self.passes.batch_size):
            clean = levels_of(self.data.pictures(index.tolist()))
            paths = [self.saved.of(outcome) / files.files[i] for i in index.tolist()]
            levels = []
            for row, (i, path) in enumerate(zip(index.tolist(), paths, strict=True)):
                beside = sorted((self.saved.folder / CLEAN).glob(f"{i:05d}-*.png"))
                if len(beside) != 1:
                    raise DataError(f"{self.saved.folder / CLEAN} has {len(beside) or 'no'} pictures of example {i}.")
                self._same(beside[0], i, read_png(beside[0]), clean[row])
                levels.append(read_png(path))
                if levels[-1].shape != clean[row].shape:
                    raise DataError(
                        f"{path} is a picture of {tuple(levels[-1].shape)}, the clean one of {tuple(clean[row].shape)}."
                    )
            read = torch.stack(levels)
            found = level_distance(read, clean, outcome.threat)
            logits = self.passes.judge(pictures_of(read).to(self.passes.device))
            reached = self._reached(goal, index, files.prediction, logits.shape[1])
            for row, path in enumerate(paths):
                one = index[row : row + 1]
                self._inside(str(path), outcome, one, found[row : row + 1], files.distance)
                self._answers(str(path), "answer", files.prediction[one], logits[row : row + 1], one)
            compare(self.file, f"{title_of(outcome)}, success of the files", files.success[index], reached, index)
            compare(self.file, f"{title_of(outcome)}, over", files.over[index], found > outcome.threat.eps, index)

    def _inside(self, file: str, outcome: Outcome, index: Tensor, found: Tensor, stored: Tensor) -> None:
        """In the ball, at the distance that is stored; both in float64."""
        over = (found > outcome.threat.eps).nonzero()
        if len(over):
            row = int(over[0])
            most = f"at most {outcome.threat.label}"
            raise Differs(Difference(file, "distance", most, float(found[row]), int(index[row])))
        compare(file, "distance", stored[index], found, index)

    def _answers(self, file: str, fact: str, stored: Tensor, logits: Tensor, index: Tensor) -> None:
        """The model says what it is stored that it said; at a tie of two classes either, and at random anything."""
        if self.draws:
            return
        found = logits.argmax(1).cpu()
        unknown = (stored < 0) | (stored >= logits.shape[1])
        compare(file, f"{fact}, as a class", stored, torch.where(unknown, found, stored), index)
        rows = torch.arange(len(found))
        scores = logits.double().cpu()
        gap = scores[rows, found] - scores[rows, stored]
        tie = (found != stored) & (gap <= _TIE * scores.abs().amax(1).clamp_min(1e-6))
        self.ties += int(tie.sum())
        wrong = ((found != stored) & ~tie).nonzero()
        if len(wrong):
            row = int(wrong[0])
            was, now = (self.result.name_of(int(label[row])) for label in (stored, found))
            raise Differs(Difference(file, fact, was, now, int(index[row])))

    def _reached(self, goal: Goal, index: Tensor, prediction: Tensor, classes: int) -> Tensor:
        """Whether the stored answers reach the goal."""
        return goal.take(index).reached(torch.nn.functional.one_hot(prediction[index], classes).float())

    def _same(self, path: Path, i: int, found: Tensor, expected: Tensor) -> None:
        if found.shape != expected.shape or not torch.equal(found, expected):
            if found.shape == expected.shape:
                place = tuple((found != expected).nonzero()[0].tolist())
                raise Differs(
                    Difference(str(path), f"grey level at {place}", int(found[place]), int(expected[place]), i)
                )
            raise DataError(f"{path} is a picture of {tuple(found.shape)}, and not of {tuple(expected.shape)}.")

    def _advance(self, count: int) -> None:
        self.done += count
        self.progress(min(self.done, self.total), self.total)
