"""Every byte of a stored result is covered: what is flipped, removed or misplaced is told, and what a kill leaves is not."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from stores import Made, aged, cell_of, facts_of, rewritten, unsealed
from test_outcome import evaluation, outcome

from advkit.attacks import UAP
from advkit.core import Linf
from advkit.core.fitted import Applied
from advkit.engine.fitting import save_fitted
from advkit.errors import DataError, InputError, StoreError
from advkit.results.asked import Asked
from advkit.results.cell import Cell, Picture
from advkit.results.certificate_store import CertificateStore
from advkit.results.certificates import KINDS, Certificates
from advkit.results.check import check_folder
from advkit.results.check_store import mend
from advkit.results.export import export
from advkit.results.facts import read_facts_of
from advkit.results.files import Saver
from advkit.results.grid import load_grid
from advkit.results.merge import merge
from advkit.results.reading import Reading
from advkit.results.report import report_page
from advkit.results.store import Record, Store, Study
from advkit.scene.sticker import Sticker
from advkit.seal import holds_tensors, sealed_tensors

FLIPS = 200
RIGHT = [1] * 6 + [0] * 2
ASKED = [Asked("P3", "logits", "fail", "It answers probabilities.", "Leave the softmax out.")]


def pictures_of(cell: Cell, begin: int) -> list[Picture]:
    x = np.arange(3 * 8 * 8, dtype=np.uint8).reshape(3, 8, 8)
    return [Picture(begin + i, 0, 2, cell.stages[0].name, cell.radii[0], 0.01, x + i, x + 2 * i) for i in range(2)]


def filled(folder: Path) -> Path:
    """A finished store: without attack, one attack at two radii, one that was fitted; two shards each, with pictures."""
    made = Made(folder)
    clean, attacked = cell_of(), [cell_of("pgd", "4/255"), cell_of("pgd"), cell_of("uap")]
    for cell in (clean, *attacked):
        made.store.add(Record(cell, {"weights": "here", "classes": ["a", "b", "c"]}))
        if cell is clean:
            made.store.add_asked(cell, ASKED)
        if cell.attack == "uap":
            applied = Applied(Linf("8/255"), UAP(Linf("8/255")), torch.full((1, 3, 4, 4), 0.01))
            save_fitted(applied, made.store.beside(cell, "fitted-0-0.safetensors"), first=True)
        for begin in (0, 8):
            facts = facts_of(cell, [1, 0] * 4 if cell.stages else RIGHT, RIGHT, begin)
            shown = pictures_of(cell, begin) if cell.stages else []
            made.store.write(cell, (begin, begin + 8), facts, shown, {"node": "here", "torch": "2.6"})
        made.samples[cell.key] = 16
    made.put(cell_of(model="other"), RIGHT)
    made.store.finish(made.samples)
    return folder


def saved(folder: Path) -> Path:
    """A run of ``attack --save --as png`` in small: examples of two attacks, and PNG files."""
    saver = Saver(folder, lambda indices: torch.full((len(indices), 3, 4, 4), 0.5))
    for name in ("a@8/255", "b@8/255"):
        saver.add(name, torch.arange(5), torch.rand(5, 3, 4, 4, generator=torch.Generator().manual_seed(0)))
    saver.close(evaluation(outcome("a", [1, 1, 0, 1, 0]), outcome("b", [1, 0, 0, 1, 0])), {"model": "lenet"})
    return folder


def certified(folder: Path) -> Path:
    store = CertificateStore(folder, {"model": "lenet", "sigma": 0.25}).create()
    for begin in (0, 3):
        columns = {name: np.arange(begin, begin + 3).astype(kind) for name, kind in KINDS.items()}
        store.write(Certificates(**columns, seconds=1.5))
    store.finish()
    return folder


def stuck(folder: Path) -> Path:
    Sticker(torch.rand(4, 8, 8, generator=torch.Generator().manual_seed(0)), facts={"target": "yield"}).save(folder)
    return folder


KINDS_OF = pytest.mark.parametrize("make", [filled, saved, certified, stuck])


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


@KINDS_OF
def test_what_was_written_holds(make: Callable[[Path], Path], tmp_path: Path) -> None:
    found = check_folder(make(tmp_path / "made"))
    assert (found.broken, found.notes, found.uncovered) == ([], [], 0)
    assert found.whole


@KINDS_OF
def test_every_flip_of_one_bit_is_noticed(make: Callable[[Path], Path], tmp_path: Path) -> None:
    """Every file is met, and so many places at random in all of their bytes."""
    paths = files_of(make(tmp_path / "made"))
    chance = random.Random(7)
    sizes = [path.stat().st_size for path in paths]
    places = [(path, chance.randrange(size)) for path, size in zip(paths, sizes, strict=True)]
    places += [(path, chance.randrange(path.stat().st_size)) for path in chance.choices(paths, sizes, k=FLIPS)]
    for path, place in places:
        content = path.read_bytes()
        changed = bytearray(content)
        changed[place] ^= 1 << chance.randrange(8)
        path.write_bytes(changed)
        assert check_folder(tmp_path / "made").broken, f"byte {place} of {path} in {len(content)}"
        path.write_bytes(content)
    assert not check_folder(tmp_path / "made").broken


@KINDS_OF
def test_every_file_that_is_gone_is_missed(make: Callable[[Path], Path], tmp_path: Path) -> None:
    folder = make(tmp_path / "made")
    for path in files_of(folder):
        content = path.read_bytes()
        path.unlink()
        try:
            found = check_folder(folder)
            said = [str(each) for each in found.broken] + found.notes
        except InputError as error:  # what tells which kind of folder it is
            said = [str(error)]
        assert any(path.name in each or str(path.parent) in each for each in said), (path, said)
        path.write_bytes(content)


@KINDS_OF
@pytest.mark.parametrize("kept", ["both", "the checksum"])
def test_a_document_that_another_program_wrote_anew_is_told(
    make: Callable[[Path], Path], tmp_path: Path, kept: str
) -> None:
    """It keeps the words of the seal, and not its form: it is no file of before there were seals."""
    folder = make(tmp_path / "made")
    for path in (path for path in files_of(folder) if path.suffix == ".json"):
        content = path.read_bytes()
        found = json.loads(content)
        if kept == "both":
            found["sealed"] = True
        else:
            del found["sealed"]
        path.write_text(json.dumps(found))
        try:
            told = check_folder(folder).broken
        except InputError:
            told = [path]
        assert told, path
        path.write_bytes(content)


@pytest.mark.parametrize("harm", ["flip", "gone"])
def test_nothing_is_shown_of_a_store_that_does_not_hold(tmp_path: Path, harm: str) -> None:
    """All that tables and reports read: not one byte of it is read without being checked."""
    folder, chance = filled(tmp_path / "store"), random.Random(3)
    whole = report_page(load_grid(folder), version="")
    for path in files_of(folder):
        content = path.read_bytes()
        if harm == "gone":
            path.unlink()
        else:
            changed = bytearray(content)
            changed[chance.randrange(len(content))] ^= 4
            path.write_bytes(changed)
        with pytest.raises(InputError, match=r"run the sweep again|the same sweep makes it anew|holds no results"):
            report_page(load_grid(folder), version="")
        path.write_bytes(content)
    assert len(report_page(load_grid(folder), version="")) == len(whole)


def test_commands_refuse_a_shard_that_is_cut_off_and_name_the_cell(tmp_path: Path) -> None:
    folder = filled(tmp_path / "store")
    grid, reading = load_grid(folder), Reading(folder)
    cell = next(line.cell for line in grid.lines if line.cell.attack == "pgd")
    path = folder / "cells" / cell.key / "00008-00016.safetensors"
    path.write_bytes(path.read_bytes()[:-3])
    for read in (
        lambda: load_grid(folder),
        lambda: export(grid, tmp_path / "rows.csv", examples=True),
        lambda: reading.spans(cell),
        lambda: reading.pictures(cell),
    ):
        with pytest.raises(StoreError, match=rf"{path.name} is damaged.* \(cell {cell.key[:8]}, pgd on net\)"):
            read()
    assert Store(folder).missing(cell, 16) == [(8, 16)], "a sweep makes it again"


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (cell_of("pgd", "4/255"), cell_of("pgd")),  # of another radius
        (cell_of(), cell_of(model="other")),  # of another model
        (cell_of("uap"), cell_of("pgd")),  # of another attack
    ],
)
def test_a_shard_of_another_cell_is_told(tmp_path: Path, source: Cell, target: Cell) -> None:
    folder = filled(tmp_path / "store")
    there = folder / "cells" / target.key / "00000-00008.safetensors"
    shutil.copy(folder / "cells" / source.key / there.name, there)
    (first, *_) = check_folder(folder).broken
    assert (first.path, first.kind) == (there, "foreign")
    with pytest.raises(StoreError, match="is that of another cell"):
        load_grid(folder)


def test_shards_of_other_examples_and_whole_cells_in_another_place_are_told(tmp_path: Path) -> None:
    folder = filled(tmp_path / "store")
    cells = folder / "cells"
    one, other = cell_of("pgd").key, cell_of("pgd", "4/255").key
    shutil.copy(cells / one / "00000-00008.safetensors", cells / one / "00008-00016.safetensors")
    with pytest.raises(StoreError, match="other examples"):
        load_grid(folder)
    shutil.rmtree(cells / one)
    shutil.copytree(cells / other, cells / one)
    assert {each.kind for each in check_folder(folder).broken} >= {"foreign"}
    with pytest.raises(StoreError, match="is that of another cell"):
        load_grid(folder)


def test_pictures_and_answers_of_another_cell_are_told(tmp_path: Path) -> None:
    folder = filled(tmp_path / "store")
    cells = folder / "cells"
    name = "pictures-00000-00008.safetensors"
    shutil.copy(cells / cell_of("uap").key / name, cells / cell_of("pgd").key / name)
    (broken,) = check_folder(folder).broken
    assert (broken.path.name, broken.kind) == (name, "altered")
    with pytest.raises(StoreError, match="pictures-"):
        report_page(load_grid(folder), version="")


def test_the_same_content_is_the_same_file() -> None:
    from safetensors.numpy import load, save

    facts = dict.fromkeys("hgfedcba", "é\n")
    contents = {sealed_tensors(save, {"x": np.arange(5), "y": np.ones((2, 3))}, facts) for _ in range(20)}
    (content,) = contents
    assert load(content)["y"].tolist() == [[1.0] * 3] * 2
    assert holds_tensors(content)


def test_strange_files_are_named(tmp_path: Path) -> None:
    folder = filled(tmp_path / "store")
    place = folder / "cells" / cell_of("pgd").key
    for name in ("00016-00024.safetensors", "notes.txt"):
        (place / name).write_bytes((place / "00000-00008.safetensors").read_bytes())
    assert {(each.path.name, each.kind) for each in check_folder(folder).broken} == {
        ("00016-00024.safetensors", "foreign"),
        ("notes.txt", "foreign"),
    }
    run = saved(tmp_path / "run")
    (run / "a@8-255" / "examples-0001.safetensors").write_bytes(b"")
    (broken,) = check_folder(run).broken
    assert (broken.path.name, broken.kind) == ("examples-0001.safetensors", "foreign")


def test_a_shard_of_before_that_is_put_into_a_finished_cell_is_told(tmp_path: Path) -> None:
    folder, old = filled(tmp_path / "store"), aged(filled(tmp_path / "old"))
    there = folder / "cells" / cell_of("pgd").key / "00000-00008.safetensors"
    shutil.copy(old / "cells" / cell_of("pgd", "4/255").key / there.name, there)
    (first, *_) = check_folder(folder).broken
    assert (first.path, first.kind) == (there, "altered")
    with pytest.raises(StoreError, match="is an older advkit's"):
        load_grid(folder)


def test_a_run_whose_pictures_are_elsewhere_is_refused(tmp_path: Path) -> None:
    folder = saved(tmp_path / "run")
    rewritten(folder / "evaluation.json", lambda found: found["outcomes"][0].update(folder="../elsewhere"))
    with pytest.raises(DataError, match="pictures outside of"):
        read_facts_of(folder)


def test_somebody_who_seals_again_is_told_by_the_files_that_name_it(tmp_path: Path) -> None:
    """The seal of one file is no secret; the shard that was written with it knows another one."""
    folder = filled(tmp_path / "store")
    path = folder / "cells" / cell_of().key / "asked.json"
    rewritten(path, lambda found: found["asked"][0].update(verdict="pass"))
    with pytest.raises(StoreError, match=r"asked.json was changed"):
        load_grid(folder)


def test_a_sweep_makes_ready_what_does_not_hold_and_no_more(tmp_path: Path) -> None:
    folder = filled(tmp_path / "store")
    store = Store(folder)
    records = store.records()
    one, two = cell_of("pgd"), cell_of()
    pictures = folder / "cells" / one.key / "pictures-00000-00008.safetensors"
    pictures.write_bytes(pictures.read_bytes()[:-1])
    store.beside(two, "asked.json").unlink()
    (folder / "cells" / cell_of("uap").key / "cell.json").write_text("{")
    mend(store, records, 16)
    assert {
        cell.key: store.missing(cell, 16) for cell in (record.cell for record in records[:]) if store.missing(cell, 16)
    } == {
        one.key: [(0, 8)],
        two.key: [(0, 8)],
        cell_of(model="other").key: [(8, 16)],
    }
    assert not check_folder(folder).broken, "what is to be made anew is unfinished, and not damaged"
    assert len(load_grid(folder).lines) == 3


@pytest.mark.parametrize("files", range(8))
def test_a_writer_that_is_killed_leaves_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: int) -> None:
    """After any number of files of a cell that a finished store gets in addition."""
    folder = filled(tmp_path / "store")
    store, cell = Store(folder), cell_of("new")
    left = [files]

    def dies(put: Callable[..., object]) -> Callable[..., object]:
        def written(*args: object, **more: object) -> object:
            if left[0] == 0:
                raise KeyboardInterrupt
            left[0] -= 1
            return put(*args, **more)

        return written

    from advkit.results import store as module

    monkeypatch.setattr(module, "put_whole", dies(module.put_whole))
    study = store.study()
    assert study is not None
    wanted = {**study.samples, cell.key: 16}

    def work() -> None:
        store.add(Record(cell))
        store.write_study(Study("advkit sweep", wanted))
        mend(store, [Record(cell)], 16)
        for begin in (0, 8):
            store.write(cell, (begin, begin + 8), facts_of(cell, RIGHT, first=begin), pictures_of(cell, begin))
        store.finish(wanted)

    with suppress(KeyboardInterrupt):
        work()
    assert left == [0], "cell, study, two shards with their pictures and the manifest are seven files"
    assert not check_folder(folder).broken
    assert load_grid(folder).lines


def test_removing_cells_that_the_study_names_leaves_a_store_that_holds(tmp_path: Path) -> None:
    store = Store(filled(tmp_path / "store"))
    store.remove(cell_of("pgd"))
    assert not check_folder(store.folder).broken
    assert len(load_grid(store.folder).lines) == 2


def test_a_merge_keeps_checksums_and_leaves_out_what_does_not_hold(tmp_path: Path) -> None:
    source = filled(tmp_path / "source")
    pictures = source / "cells" / cell_of("pgd").key / "pictures-00008-00016.safetensors"
    pictures.write_bytes(pictures.read_bytes()[::-1])
    into = Store(tmp_path / "into")
    report = merge(into, [Store(source)])
    assert [each.path for each in report.left] == [pictures]
    found = check_folder(into.folder)
    assert (found.broken, found.uncovered) == ([], 0)
    assert len(into.manifest().parts) == 4, "what is complete is entered"
    (source / "cells" / cell_of("uap").key / "fitted-0-0.json").unlink()
    assert len(merge(Store(tmp_path / "more"), [Store(source)]).left) == 3


def test_a_store_of_before_is_read_and_said_not_to_be_covered(tmp_path: Path) -> None:
    folder = filled(tmp_path / "store")
    before = load_grid(folder)
    aged(folder)
    after = load_grid(folder)
    assert [line.to_json() for line in after.lines] == [line.to_json() for line in before.lines]
    assert after.doubts == before.doubts
    assert (before.uncovered, after.uncovered) == (0, 5)
    found = check_folder(folder)
    assert (found.broken, found.uncovered) == ([], found.whole)
    assert any("not covered" in line for line in found.lines())
    assert len(Reading(folder).pictures(cell_of("pgd"))) == 4
    store = Store(folder).create()
    store.finish(dict.fromkeys((record.cell.key for record in store.records()), 8))
    assert not store.manifest().parts, "nobody knows what became of old shards"
    assert load_grid(folder).uncovered == 5
    merge(Store(tmp_path / "into"), [store])
    assert load_grid(tmp_path / "into").uncovered == 5


def test_a_saved_run_of_before_is_read_and_said_not_to_be_covered(tmp_path: Path) -> None:
    import json

    folder = saved(tmp_path / "run")
    assert read_facts_of(folder).covered
    path = folder / "evaluation.json"
    path.write_text(json.dumps(unsealed(path), indent=1))
    assert not read_facts_of(folder).covered
    found = check_folder(folder)
    assert (found.broken, found.uncovered) == ([], 1)


def test_a_saved_run_that_was_changed_is_not_shown(tmp_path: Path) -> None:
    folder = saved(tmp_path / "run")
    path = folder / "evaluation.json"
    path.write_bytes(path.read_bytes().replace(b"\n ", b"\n  ", 1))
    with pytest.raises(DataError, match=r"evaluation.json is damaged"):
        read_facts_of(folder)
    saved(folder)
    png = min((folder / "a@8-255").glob("*.png"))
    png.write_bytes(png.read_bytes() + b"\n")
    with pytest.raises(DataError, match=rf"{png.name} was changed"):
        read_facts_of(folder).whole()


def test_names_that_lead_out_of_the_folder_are_not_followed(tmp_path: Path) -> None:
    folder = saved(tmp_path / "run")
    rewritten(folder / "evaluation.json", lambda found: found["files"].update({"../secret": "0" * 64}))
    (tmp_path / "secret").touch()
    (broken,) = check_folder(folder).broken
    assert broken.kind == "foreign"


@pytest.mark.parametrize("up", ["../../../secret", "absolute"])
def test_a_manifest_that_names_files_elsewhere_removes_none(tmp_path: Path, up: str) -> None:
    folder, secret = filled(tmp_path / "store"), tmp_path / "secret"
    secret.touch()
    named = up if up.startswith(".") else str(secret)
    rewritten(folder / "manifest.json", lambda found: found["parts"][cell_of("pgd").key].update({named: "0" * 64}))
    records = Store(folder).records()
    with pytest.raises(StoreError, match="outside of its folder"):
        mend(Store(folder), records, 16)
    assert check_folder(folder).broken
    store = Store(folder).create()  # as a sweep does, which makes a new manifest
    mend(store, records, 16)
    assert secret.exists()


def test_nothing_is_written_through_links(tmp_path: Path) -> None:
    folder, secret = filled(tmp_path / "store"), tmp_path / "secret"
    secret.write_text("kept")
    (folder / ".writer").symlink_to(secret)
    with Store(folder).lock():
        assert (folder / ".writer").read_text().startswith("process")
    assert secret.read_text() == "kept"
    (tmp_path / "elsewhere").mkdir()
    (folder / "cells" / "linked").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="leads elsewhere"):
        Store(folder).create()


def test_certificates_that_do_not_hold_are_made_anew(tmp_path: Path) -> None:
    folder = certified(tmp_path)
    store = CertificateStore(folder, {"model": "lenet", "sigma": 0.25}).create()
    path = store.place / "00003-00006.json"
    path.write_bytes(path.read_bytes().replace(b"1.5", b"1.4"))
    assert store.missing(6) == [(3, 6)]
    store.begin(6)
    assert not path.exists()
    assert not check_folder(folder).broken


def test_certificates_of_before_are_not_said_to_be_unfinished(tmp_path: Path) -> None:
    folder = certified(tmp_path)
    for path in folder.rglob("*.json"):
        found = json.loads(path.read_text())
        bare = {key: value for key, value in found.items() if key not in ("sealed", "sha256")}
        path.write_text(json.dumps(bare.get("setting", bare)))
    for path in folder.rglob("manifest.json"):
        path.unlink()
    found = check_folder(folder)
    assert (found.broken, found.notes, found.uncovered) == ([], [], found.whole)


def test_a_folder_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing that advkit wrote"):
        check_folder(tmp_path)
