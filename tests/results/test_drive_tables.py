"""What is counted on drives, from classes read: facts that can be worked out by hand."""

import json

import numpy as np
import pytest

from advkit.results.drive import DriveBy, DriveTable, Read, Subject, Tally
from advkit.results.table import RENDERERS

STOP, YIELD, OTHER = 0, 1, 2
SUBJECT = Subject(("stop", "yield", "other"), STOP, YIELD, {"model": "tiny"})


def read(**answers: list[list[int]]) -> Read:
    rows = len(answers["clean"])
    looks = {look: np.array(found) for look, found in answers.items()}
    return Read(tuple(10.0 * (rows - i) for i in range(rows)), (0.0,) * rows, (75.0,) * rows, looks)


POSES = read(
    clean=[[0, 0, 0, 1], [2, 2, 1, 1]],
    digital=[[1, 1, 2, 1], [1, 1, 1, 1]],
    printed=[[1, 0, 0, 1], [1, 1, 1, 1]],
    grey=[[0, 0, 2, 1], [2, 2, 2, 2]],
    moved=[[0, 0, 0, 0], [0, 0, 0, 0]],
)


def test_only_views_that_are_right_without_the_sticker_count():
    tally = POSES.tally("digital", SUBJECT, [0])
    assert tally == Tally(of=3, targeted=2, untargeted=3, wrong=(("yield", 2), ("other", 1)))
    assert POSES.tally("digital", SUBJECT, [1]) == Tally(0, 0, 0)
    assert POSES.tally("digital", SUBJECT).of == 3
    assert POSES.right(SUBJECT, [0]) == (3, 4)


def test_without_a_target_there_is_only_wrong():
    tally = POSES.tally("digital", Subject(SUBJECT.classes, STOP, None), [0])
    assert tally.targeted is None
    assert tally.untargeted == 3


def test_the_table_prints_its_denominators_and_leaves_open_what_no_view_can_tell():
    table = DriveTable(SUBJECT, POSES).table()
    assert table.rows[0][3] == "3 of 4"
    assert table.rows[0][4].startswith("67 [")
    assert table.rows[1][3] == "0 of 4"
    assert set(table.rows[1][4:]) == {"-"}
    assert table.rows[2][0] == "all"
    assert table.rows[0][-1] == "yield (1)"
    for render in RENDERERS.values():
        assert "yield" in render(table)


def test_json_has_counts_intervals_and_the_control_of_every_row():
    found = json.loads(json.dumps(DriveTable(SUBJECT, POSES).to_json()))
    assert found["class"] == "stop"
    assert found["target"] == "yield"
    first, second = found["rows"]
    assert first["clean"] == {"n": 4, "count": 3, **{k: first["clean"][k] for k in ("value", "low", "high")}}
    assert first["digital"]["targeted"]["value"] == pytest.approx(2 / 3)
    assert first["digital"]["untargeted"]["low"] < 1 == first["digital"]["untargeted"]["high"]
    assert first["control"]["name"] == "random"
    assert first["control"]["success"] == 0
    assert [control["name"] for control in first["controls"]] == ["random", "grey"]
    assert first["controls"][1]["success"] == pytest.approx(1 / 3)
    assert second["digital"]["targeted"]["value"] is None
    assert found["all"]["digital"]["of"] == 3


def test_the_long_table_has_a_row_for_each_pose_and_look():
    table = DriveTable(SUBJECT, POSES).long_table()
    assert len(table.rows) == 2 * 4
    assert all(len(row) == len(table.heads) for row in table.rows)


DRIVES = DriveBy(
    SUBJECT,
    read(
        clean=[[2, 0], [0, 0], [0, 0], [0, 0], [0, 0]],
        digital=[[1, 1], [1, 0], [1, 1], [0, 1], [1, 1]],
        printed=[[1, 1], [1, 1], [1, 1], [1, 1], [1, 1]],
        grey=[[0, 0]] * 5,
        moved=[[0, 0]] * 5,
    ),
)


def test_runs_are_the_longest_in_a_row():
    assert DRIVES.longest_runs("digital") == [3, 3]
    assert DRIVES.longest_runs("clean") == [1, 0]
    assert DRIVES.longest_runs("printed") == [5, 5]


def test_the_sign_is_first_read_right_at_the_farthest_frame_that_is_right():
    assert DRIVES.first_right("clean") == [40.0, 50.0]
    assert DRIVES.first_right("digital") == [20.0, 40.0]
    assert DRIVES.first_right("printed") == [None, None]


def test_a_drive_is_told_in_numbers_and_in_tables():
    table = DRIVES.table()
    looks = {row[0]: row for row in table.rows}
    assert looks["printed"][-1] == "never"
    assert looks["digital"][-1] == "30.0 (20.0 to 40.0)"
    assert looks["digital"][-2] == "3"
    assert looks["clean" if "clean" in looks else "no sticker"][1] == "-"
    assert DRIVES.bands().rows[0][0] == "50 to 50"
    assert sum(int(row[2].split()[-1]) for row in DRIVES.bands().rows) == 10
    found = json.loads(json.dumps(DRIVES.to_json()))
    assert found["digital"]["longest_wrong_run"] == [3, 3]
    assert found["printed"]["first_right_m"] == [None, None]
    assert found["digital"]["success"]["of"] == 9
    assert len(found["frames"]) == 5
    assert found["frames"][0]["read"]["clean"] == ["other", "stop"]
    assert found["control"]["name"] == "random"
    assert len(DRIVES.long_table().rows) == 5 * 4


def test_one_of_two_drives_that_never_reads_it_right_is_said():
    drives = DriveBy(SUBJECT, read(clean=[[0, 0]], digital=[[0, 1]], grey=[[0, 0]], moved=[[0, 0]]))
    row = next(row for row in drives.table().rows if row[0] == "digital")
    assert row[-1].endswith("never in 1")
