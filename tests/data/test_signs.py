from __future__ import annotations

import numpy as np
import pytest
import torch

from advkit.data._faces import face
from advkit.data.load import load_data
from advkit.data.signs import Signs
from advkit.errors import DataError, InputError


def test_a_picture_does_not_depend_on_what_else_is_drawn() -> None:
    alone = Signs(count=500).pictures([17])
    among_others = Signs(count=100).pictures([3, 17, 99, 17])
    assert torch.equal(alone[0], among_others[1])
    assert torch.equal(alone[0], among_others[3])


def test_drawing_neither_reads_nor_moves_the_global_random_state() -> None:
    torch.manual_seed(1)
    np.random.seed(1)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    first = Signs(count=40).pictures(range(3))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])
    torch.manual_seed(2)
    assert torch.equal(first, Signs(count=40).pictures(range(3)))


def test_pictures_do_not_depend_on_the_number_of_threads() -> None:
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = Signs(size=64).pictures(range(4))
        torch.set_num_threads(2)
        assert torch.equal(one, Signs(size=64).pictures(range(4)))
    finally:
        torch.set_num_threads(threads)


def test_seeds_splits_and_indices_give_different_pictures() -> None:
    drawn = [
        Signs(count=40).pictures([0]),
        Signs(count=40).pictures([35]),
        Signs("train", count=40).pictures([0]),
        Signs(count=40, seed=1).pictures([0]),
    ]
    for i, first in enumerate(drawn):
        for second in drawn[:i]:
            assert (first - second).abs().mean() > 0.02


@pytest.mark.parametrize("size", [16, 33, 100])
def test_pictures_have_the_size_that_was_asked_for(size: int) -> None:
    signs = Signs(size=size, count=5)
    x = signs.pictures([4, 0])
    assert x.shape == (2, 3, size, size)
    assert signs.shape == (3, size, size)
    assert x.dtype == torch.float32
    assert x.is_contiguous()
    assert x.min() >= 0
    assert x.max() <= 1


def test_an_example_shows_the_same_scene_at_every_size() -> None:
    small, large = Signs(size=32, count=8), Signs(size=128, count=8)
    assert torch.equal(small.labels, large.labels)
    assert torch.allclose(small.corners(5) * 4, large.corners(5))
    shrunk = torch.nn.functional.avg_pool2d(large.pictures(range(8)), 4)
    assert (shrunk - small.pictures(range(8))).abs().mean() < 0.04


def test_every_prefix_is_balanced_within_one_example_per_class() -> None:
    labels = Signs(count=1000).labels
    for length in (35, 36, 100, 999):
        counts = torch.bincount(labels[:length], minlength=35)
        assert counts.max() - counts.min() <= 1


def test_labels_of_a_longer_set_begin_with_those_of_a_shorter_one() -> None:
    assert torch.equal(Signs(count=1000).labels[:50], Signs(count=50).labels)


def test_the_order_of_classes_differs_from_cycle_to_cycle() -> None:
    first, second = Signs(count=70).labels.view(2, 35)
    assert not torch.equal(first, second)


def test_the_mask_covers_the_part_of_the_quadrilateral_that_the_sign_fills() -> None:
    signs = Signs(size=64, count=70)
    square = signs.classes.index("pedestrian crossing")
    for index in range(70):
        mask, (x, y) = signs.mask(index), signs.corners(index).T
        rows, columns = (mask > 0.5).nonzero().T
        assert mask.shape == (64, 64)
        assert columns.min() >= x.min().floor() - 1
        assert columns.max() <= x.max().ceil()
        assert rows.min() >= y.min().floor() - 1
        assert rows.max() <= y.max().ceil()
        area = 0.5 * abs((x * y.roll(-1) - x.roll(-1) * y).sum())
        if int(signs.labels[index]) == square and x.min() > 0 and y.min() > 0 and x.max() < 64 and y.max() < 64:
            assert mask.sum() == pytest.approx(float(area) * 0.98, rel=0.04)


def test_corners_are_the_homography_of_the_unit_square() -> None:
    signs = Signs(count=10)
    top_left, _, bottom_right, _ = signs.corners(7)
    h = signs.homography(7)
    assert torch.allclose(h[:2, 2] / h[2, 2], top_left)
    assert torch.allclose(h[:2].sum(1) / h[2].sum(), bottom_right)
    assert (bottom_right > top_left).all()


def test_faces_are_opaque_in_the_middle_and_clear_at_the_corners() -> None:
    signs = Signs(count=1)
    for label, name in enumerate(signs.classes):
        face = signs.face(label, 64)
        assert face.shape == (4, 64, 64)
        assert face.min() >= 0
        assert face.max() <= 1
        assert face[3, 32, 32] == 1, name
        assert face[3, 0, 0] == 0, name


def test_no_two_faces_look_alike() -> None:
    signs = Signs(count=1)
    faces = torch.stack([signs.face(label, 48) for label in range(len(signs.classes))]).flatten(1)
    distances = torch.cdist(faces, faces) + 1e9 * torch.eye(len(faces))
    assert distances.min() > 4


def test_the_stop_sign_is_red_with_white_letters() -> None:
    stop = Signs(count=1).face(0, 128)
    red, green, blue = stop[:3, 25, 64]
    assert red > 0.6
    assert max(green, blue) < 0.2
    assert stop[:3, 46:82, 20:108].min(0).values.max() > 0.9


def test_a_face_is_the_picture_of_the_sign() -> None:
    # Light, wear and blur differ from picture to picture, so the face must fit best on the whole, not each time.
    signs = Signs(size=48, count=35)
    found = 0
    faces = torch.stack([signs.face(label, 48) for label in range(35)])
    u = (torch.arange(48, dtype=torch.float64) + 0.5) / 48
    square = torch.stack([u.expand(48, 48), u[:, None].expand(48, 48), torch.ones(48, 48, dtype=torch.float64)])
    for index in range(35):
        x, y, w = (signs.homography(index) @ square.flatten(1)).view(3, 48, 48)
        at = torch.stack([x / w, y / w], -1) / 24 - 1
        seen = torch.nn.functional.grid_sample(signs.pictures([index]), at[None].float(), align_corners=False)[0]
        scores = [_similarity(seen, face) for face in faces]
        found += int(np.argmax(scores)) == int(signs.labels[index])
    assert found >= 22


def _similarity(seen: torch.Tensor, face: torch.Tensor) -> float:
    cover = face[3] > 0.5
    a, b = seen[:, cover].flatten(), face[:3, cover].flatten()
    return float(torch.corrcoef(torch.stack([a, b]))[0, 1]) + 0.1 * float(cover.float().mean())


def test_the_fingerprint_depends_on_every_setting_and_on_nothing_else() -> None:
    prints = [
        Signs().fingerprint(),
        Signs("train", count=1000).fingerprint(),
        Signs(size=33).fingerprint(),
        Signs(count=999).fingerprint(),
        Signs(seed=1).fingerprint(),
    ]
    assert len(set(prints)) == 5
    drawn = Signs(count=1000)
    drawn.pictures([0])
    assert drawn.fingerprint() == prints[0]


def test_the_default_counts_are_as_documented() -> None:
    assert len(Signs()) == 1000
    assert len(Signs("train")) == 20000


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"size": 15}, "signs: size is 15; give a width from 16 to 512 pixels."),
        ({"size": 513}, "signs: size is 513; give a width from 16 to 512 pixels."),
        ({"count": 0}, "signs: count is 0; give at least 1."),
        ({"seed": -1}, "signs: seed is -1; give a whole number from 0 to 2**64 - 1."),
    ],
)
def test_bad_settings_are_refused_with_a_sentence(settings: dict[str, object], sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        load_data("signs", **settings)
    assert str(caught.value) == sentence
    assert isinstance(caught.value, ValueError)


def test_what_lies_outside_the_set_is_refused() -> None:
    signs = Signs(count=3)
    with pytest.raises(IndexError, match="3 examples, 0 to 2"):
        signs.pictures([3])
    with pytest.raises(DataError, match="no class 35"):
        signs.face(35, 32)
    with pytest.raises(DataError, match="face of size 0"):
        signs.face(0, 0)
    with pytest.raises(DataError, match="allowed are 'train' and 'test'"):
        Signs("tset")  # type: ignore[arg-type]


def test_the_pictures_of_this_version_have_not_changed() -> None:
    # Where this fails on purpose, raise _VERSION in advkit/data/signs.py too: stored results are found by it.
    means = Signs().pictures(range(6)).mean((1, 2, 3))
    assert means.tolist() == pytest.approx([0.7838, 0.4951, 0.3369, 0.3644, 0.622, 0.4788], abs=2e-4)


def test_the_background_is_what_is_seen_around_the_sign_and_not_the_sign() -> None:
    signs = Signs(count=70, size=64)
    background = torch.stack([signs.background(i, 64) for i in range(70)])
    assert background.shape == (70, 3, 64, 64)
    assert bool(((background >= 0) & (background <= 1)).all())
    assert torch.equal(background[5], Signs(count=7, size=16).background(5, 64))
    # Away from the sign the picture follows it, whatever the daylight; on the sign it does not.
    masks = torch.stack([signs.mask(i) for i in range(70)])
    pictures = signs.pictures(range(70))

    def alike(where: torch.Tensor) -> float:
        values = [
            torch.corrcoef(torch.stack([pictures[i].mean(0)[where[i]], background[i].mean(0)[where[i]]]))[0, 1]
            for i in range(70)
        ]
        return float(torch.stack(values).nanmean())

    assert alike(masks == 0) > 0.6
    assert alike(masks > 0.5) < 0.3


def test_a_background_of_no_size_is_refused() -> None:
    with pytest.raises(DataError, match="background"):
        Signs(count=1).background(0, 0)


@pytest.mark.parametrize(
    ("name", "share"),
    [("stop", 0.9084), ("no entry", 0.98), ("yield", 0.98), ("priority road", 0.7164), ("us speed limit 35", 0.74)],
)
def test_a_sign_is_as_wide_as_traffic_rules_measure_it(name, share):
    # Across flats, the diameter, the side of a triangle, the side of a diamond, the width of a plate.
    signs = Signs(count=1)
    assert signs.filled(signs.classes.index(name)) == pytest.approx(share, abs=1e-4)


def test_every_sign_is_drawn_in_its_square():
    signs = Signs(count=1)
    assert all(0.5 < signs.filled(label) < 1 for label in range(len(signs.classes)))


def test_a_sign_is_drawn_once_for_all_pictures_of_it():
    assert face("stop", 64) is face("stop", 64)
