from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from advkit.core.types import Tree, expand, join, rows, tree_map


class Nest(NamedTuple):
    a: Tensor
    b: Tree


TREE = Nest(torch.arange(4), (None, torch.arange(8).reshape(4, 2), Nest(torch.ones(4), None)))


def test_a_tree_is_mapped_leaf_by_leaf_and_keeps_its_form():
    doubled = tree_map(lambda t: 2 * t, TREE)
    assert isinstance(doubled, Nest)
    assert isinstance(doubled.b[2], Nest)
    assert doubled.b[0] is None
    assert doubled.a.tolist() == [0, 2, 4, 6]
    with pytest.raises(ValueError, match="zip"):
        tree_map(torch.add, (TREE.a,), (TREE.a, TREE.a))


def test_rows_taken_apart_and_joined_are_the_tree_again():
    top, bottom = rows(TREE, torch.tensor([0, 1])), rows(TREE, torch.tensor([False, False, True, True]))
    assert top.b[1].tolist() == [[0, 1], [2, 3]]
    again = join(top, bottom)
    assert torch.equal(again.a, TREE.a)
    assert torch.equal(again.b[1], TREE.b[1])
    assert again.b[2].b is None


def test_values_per_example_are_shaped_to_their_pictures():
    assert expand(torch.ones(4), torch.ones(4, 3, 2, 2)).shape == (4, 1, 1, 1)
    assert expand(torch.ones(4), torch.ones(4)).shape == (4,)
