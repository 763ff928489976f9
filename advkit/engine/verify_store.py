"""Verify the store of a sweep: what its facts say of each other, and what its models say today."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from advkit.core import BALLS
from advkit.core.modes import borrowed
from advkit.data import Data
from advkit.documents import MISFIT
from advkit.engine.defend import defend, read_defense
from advkit.engine.passes import Passes, batch_for
from advkit.engine.precision import Precision
from advkit.engine.specs import DataSpec, ModelSpec, settings_of
from advkit.errors import AdvkitError, DataError
from advkit.results.cell import Cell, Facts, Picture
from advkit.results.levels import level_distance, levels_of, pictures_of
from advkit.results.store import Record, Store
from advkit.results.verify import Difference, Differs, Report
from advkit.results.verify_store import check_cell, check_kept, check_whole
from advkit.trust import NOTHING, Trust

__all__ = ["verify_store"]

_TIE = 1e-4  # of the largest score: what the order of a sum may move an answer

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class _Filled:
    """A cell with what is done of it."""

    record: Record
    facts: Facts
    pictures: Sequence[Picture]

    @property
    def cell(self) -> Cell:
        return self.record.cell


def verify_store(
    folder: Path,
    *,
    device: str = "cpu",
    data: str | None = None,
    trust: Trust = NOTHING,
    progress: Progress = lambda done, total: None,
) -> Report:
    """What holds of the store of a sweep, up to the first thing that does not.

    Every answer without attack is asked for again, and every kept picture is measured again. Of the adversarial pictures
    that are not kept nobody can ask again; their facts are held against each other. Of code only what ``trust`` holds is
    imported; a model that needs other code is not asked.
    """
    report, store = Report(folder), Store(folder).check()
    try:
        whole = check_whole(store)
        report.right("shards", whole.whole, "with the checksums that they were written with")
        if whole.uncovered:
            report.note(
                f"{whole.uncovered:,} of these shards are of before there were checksums over whole files: not covered."
            )
        cells = _filled(store)
        of = {each.cell.key: each.facts for each in cells}
        for each in cells:
            check_cell(store, each.record, each.facts, of.get(each.cell.clean.key))
            for picture in each.pictures:
                check_kept(store, each.cell, each.facts, picture)
        examples = sum(len(each.facts) * max(1, len(each.cell.stages) * len(each.cell.radii)) for each in cells)
        report.right("cells", len(cells), f"{examples:,} outcomes of examples that follow from each other")
        _ask(cells, store, report, device, data, trust, progress)
    except Differs as found:
        report.difference = found.difference
    except DataError as error:
        report.unreadable = str(error)
    report.note("Figures are never stored: advkit table counts them from these facts.")
    report.note(
        "Of adversarial pictures that were not kept (advkit sweep --pictures), answers and distances are as stored."
    )
    return report


def _filled(store: Store) -> list[_Filled]:
    found = []
    for record in store.records():
        facts = store.facts(record.cell)
        if facts is not None:
            found.append(_Filled(record, facts, store.pictures(record.cell)))
    return found


def _ask(
    cells: Sequence[_Filled],
    store: Store,
    report: Report,
    device: str,
    name: str | None,
    trust: Trust,
    progress: Progress,
) -> None:
    """Every model about its answers without attack, and about the pictures that beat it."""
    models: dict[tuple[str, ...], list[_Filled]] = {}
    for each in cells:
        models.setdefault(each.cell.setting, []).append(each)
    sources: dict[str, Data] = {}
    for number, own in enumerate(models.values()):
        cell, about = own[0].cell, own[0].record.about
        title = f"{cell.model}{'' if cell.defense == 'none' else f' behind {cell.defense}'}"
        try:
            if cell.data_hash not in sources:
                sources[cell.data_hash] = _data(about, name, cell)
            data = sources[cell.data_hash]
            net = _model(about, cell, data, device, trust)
        except AdvkitError as error:
            report.unasked += 1
            report.doubt(f"{title} is not asked: {error}")
            continue
        with borrowed(net):
            passes = Passes(net, Precision.own(net), batch_for(net, data.pictures([0])[0]))
            for each in own:
                _measure(each, store, data)
            asked = _answers([each for each in own if not each.cell.stages] or own[:1], store, passes, data, report)
            report.asked += asked
            report.right(title, asked, "answers without attack")
            kept = [(each, picture) for each in own for picture in each.pictures]
            if kept:
                still = _still_beaten(kept, passes)
                targets = any(each.cell.goal != "untargeted" for each, _ in kept)
                said = "other answers than the label" if targets else "successes"
                report.right(title, len(kept), f"kept pictures inside their radius; {still:,} are {said} in 8 bits too")
        progress(number + 1, len(models))


def _data(about: Any, name: str | None, cell: Cell) -> Data:
    try:
        source = about.get("data source", {"name": about.get("data", ""), "exclude": ()})
        spec = DataSpec(name or source["name"], settings_of(about.get("data settings", {})), tuple(source["exclude"]))
    except MISFIT as error:
        raise DataError(f"its cell.json does not say which pictures it was attacked on ({error}).") from None
    data = spec.build()
    if data.fingerprint() != cell.data_hash:
        raise DataError(f"{data.name} is not what it was: the hash of its pictures is another.")
    return data


def _model(about: Any, cell: Cell, data: Data, device: str, trust: Trust) -> nn.Module:
    guard = read_defense(cell.defense, trust)
    try:
        settings = dict(about["model settings"])
        model, weights, normalize = (settings.pop(key) for key in ("model", "weights", "normalize"))
        spec = ModelSpec(
            model, weights, normalize, settings_of(settings), about.get("model seed", cell.seed), cell.model
        )
    except MISFIT as error:
        raise DataError(f"its cell.json does not say how it was loaded ({error} is missing or wrong).") from None
    net = replace(spec, trust=trust).build(data, device)
    if net.fingerprint() != cell.model_hash:
        raise DataError(f"the weights of {cell.model} are not what they were: their hash is another.")
    return defend(net, guard.wrappers)


def _answers(cells: Sequence[_Filled], store: Store, passes: Passes, data: Data, report: Report) -> int:
    """The answers without attack of the cells; says how many there are."""
    ties = count = 0
    for each in cells:
        for rows in torch.split(torch.arange(len(each.facts)), passes.batch_size):
            index = torch.tensor(each.facts.index)[rows]
            logits = passes.judge(data.pictures(index.tolist()).to(passes.device)).double().cpu()
            found, stored = logits.argmax(1), torch.tensor(each.facts.clean)[rows]
            place = torch.arange(len(rows))
            gap = logits[place, found] - logits[place, stored.clamp(0, logits.shape[1] - 1)]
            tie = (found != stored) & (gap <= _TIE * logits.abs().amax(1))
            ties += int(tie.sum())
            wrong = ((found != stored) & ~tie).nonzero()
            if len(wrong):
                row = int(wrong[0])
                file = str(store.beside(each.cell, "."))
                raise Differs(
                    Difference(file, "answer without attack", int(stored[row]), int(found[row]), int(index[row]))
                )
            count += len(rows)
    if ties:
        report.doubt(f"{ties:,} answers without attack are otherwise at a tie of two classes.")
    return count


def _measure(each: _Filled, store: Store, data: Data) -> None:
    """Labels are the data's, and kept pictures lie in their balls about the clean pictures, in 8 bits."""
    index = np.asarray(each.facts.index)
    stored, found = np.asarray(each.facts.labels), data.labels.numpy()[index]
    wrong = np.flatnonzero((stored != found) & (found >= 0))
    if len(wrong):
        i, file = int(wrong[0]), str(store.beside(each.cell, "."))
        raise Differs(Difference(file, "label", int(stored[i]), int(found[i]), int(index[i])))
    for picture in each.pictures:
        file = str(store.beside(each.cell, "pictures"))
        clean, x = levels_of(data.pictures([picture.index])), torch.tensor(picture.x)[None]
        if not torch.equal(clean, x):
            raise Differs(Difference(file, "clean picture", "another one", f"that of {data.name}", picture.index))
        threat = BALLS[each.cell.norm](picture.eps)
        distance = float(level_distance(torch.tensor(picture.x_adv)[None], clean, threat)[0])
        if distance > threat.eps:
            raise Differs(Difference(file, "distance", f"at most {threat.label}", distance, picture.index))


def _still_beaten(kept: Sequence[tuple[_Filled, Picture]], passes: Passes) -> int:
    """How many kept pictures are, in their 8 bits, not what they are labelled."""
    still = 0
    for begin in range(0, len(kept), passes.batch_size):
        part = [picture for _, picture in kept[begin : begin + passes.batch_size]]
        x_adv = torch.from_numpy(np.stack([picture.x_adv for picture in part]))
        seen = passes.judge(pictures_of(x_adv).to(passes.device)).argmax(1).cpu()
        still += int((seen != torch.tensor([picture.label for picture in part])).sum())
    return still
