"""Which lines and cells are meant by KEY=VALUE and KEY!=VALUE."""

from __future__ import annotations

from pathlib import Path

import pytest
from stores import Made, cell_of, moved, small, staged

from advkit.errors import InputError
from advkit.results.filters import filtered, narrowed
from advkit.results.grid import load_grid
from advkit.results.store import Store


def _left(folder: Path, *texts: str) -> list[tuple[str, str, str]]:
    return [(line.model, line.defense, line.attack) for line in filtered(load_grid(folder), texts).lines]


def test_what_is_not_meant_is_left_out(tmp_path: Path) -> None:
    small(tmp_path)
    assert _left(tmp_path, "attack!=pgd") == [("net", "none", "fgsm"), ("net", "jpeg", "fgsm")]
    assert _left(tmp_path, "defense!=n*", "attack=pgd") == [("net", "jpeg", "pgd")]
    grid = filtered(load_grid(tmp_path), ["defense!=none"])
    assert [line.defense for line in grid.clean] == ["jpeg"]
    assert len(filtered(load_grid(tmp_path), ["attack!=pgd"]).clean) == 2, "without attack there is none to be left out"


def test_a_whole_attack_is_left_out_or_one_stage_of_it(tmp_path: Path) -> None:
    staged(tmp_path)
    assert _left(tmp_path, "attack!=second") == [("net", "none", "first")]
    with pytest.raises(InputError, match="no result matches all of --filter attack!=both"):
        _left(tmp_path, "attack!=both")


def test_what_was_made_on_another_model_can_be_told(tmp_path: Path) -> None:
    moved(tmp_path)
    assert {attack for *_, attack in _left(tmp_path, "surrogate=itself")} == {"pgd"}
    assert _left(tmp_path, "surrogate=undefended") == [("cid", "jpeg", "pgd (oblivious)")]
    assert _left(tmp_path, "surrogate=bob") == [("ann", "none", "pgd via bob"), ("cid", "none", "pgd via bob")]
    assert len(_left(tmp_path, "surrogate!=itself", "surrogate!=undefended")) == 6


def test_of_cells_those_are_left_out_of_which_nothing_would_remain(tmp_path: Path) -> None:
    made = Made(tmp_path)
    wide = made.put(cell_of("pgd", radii=("4/255", "8/255"), stages=cell_of("pgd").stages), [1], [1])
    made.put(cell_of("fgsm"), [1], [1])
    records = Store(tmp_path).records()
    assert [record.cell for record in narrowed(records, ["eps!=8/255"])] == [wide]
    assert [record.cell.attack for record in narrowed(records, ["attack!=pgd"])] == ["fgsm"]


def test_what_matches_nothing_is_named_with_its_sign(tmp_path: Path) -> None:
    small(tmp_path)
    with pytest.raises(InputError, match=r"--filter attack!=pdg matches no result. Did you mean 'pgd'"):
        _left(tmp_path, "attack!=pdg")
