"""Files that are never half written: whatever happens, what was there is there, and no leftovers."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from advkit.atomic import put_first, put_whole, write_whole
from advkit.errors import WriteError


def fails(path: Path) -> None:
    path.write_bytes(b"half")
    raise OSError(28, "No space left on device")


def test_a_write_that_fails_leaves_what_was_there_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file"
    put_whole(path, b"before")
    with pytest.raises(WriteError, match=r"cannot be written \(No space left on device\)"):
        write_whole(path, fails)
    assert path.read_bytes() == b"before"
    assert [each.name for each in path.parent.iterdir()] == ["file"]


@pytest.mark.parametrize("write", [put_whole, put_first])
def test_a_file_in_the_place_of_a_folder_is_a_sentence(tmp_path: Path, write: Callable[[Path, bytes], object]) -> None:
    (tmp_path / "taken").write_bytes(b"")
    with pytest.raises(WriteError, match="cannot be written"):
        write(tmp_path / "taken" / "file", b"")


def test_processes_of_the_same_number_on_two_machines_do_not_share_a_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getpid", lambda: 7)
    beside: list[Path] = []
    write_whole(tmp_path / "a", lambda path: (beside.append(path), path.write_bytes(b"1")))
    write_whole(tmp_path / "a", lambda path: (beside.append(path), path.write_bytes(b"2")))
    assert beside[0] != beside[1]
    assert all(path.name.startswith(".a.") and path.name.endswith(".part") for path in beside)


def test_of_several_who_put_a_file_first_one_wins_and_all_see_the_same(tmp_path: Path) -> None:
    path, won = tmp_path / "new" / "file", []
    barrier = threading.Barrier(8)

    def put(number: int) -> None:
        barrier.wait()
        if put_first(path, bytes([number]) * 1000):
            won.append(number)

    threads = [threading.Thread(target=put, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert path.read_bytes() == bytes(won) * 1000
    assert len(list(path.parent.iterdir())) == 1
    assert not put_first(path, b"later")


def test_a_file_system_without_links_still_lets_the_first_win(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    assert put_first(tmp_path / "file", b"first")
    assert not put_first(tmp_path / "file", b"second")
    assert (tmp_path / "file").read_bytes() == b"first"


def test_the_content_then_the_name_then_the_new_folders_names_are_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut may lose a name that was not waited for, and with it a shard that was said to be done."""
    told: list[str] = []
    true_sync, true_rename = os.fsync, os.replace

    def fsync(number: int) -> None:
        place = Path(os.readlink(f"/proc/self/fd/{number}"))
        told.append(f"folder {place.name}" if stat.S_ISDIR(os.fstat(number).st_mode) else "content")
        true_sync(number)

    def replace(source: Path, target: Path) -> None:
        told.append("rename")
        true_rename(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    put_whole(tmp_path / "cells" / "key" / "file", b"")
    assert told == ["content", "rename", "folder key", "folder cells", f"folder {tmp_path.name}"]
