"""What is in the checkout is in the wheel: the traps of mapping attacks/ and defenses/ into the package."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SETUPTOOLS = PROJECT["tool"]["setuptools"]


def _python(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)


def test_every_package_folder_is_listed():
    inside = {".".join(file.parent.relative_to(ROOT).parts) for file in (ROOT / "advkit").rglob("__init__.py")}
    beside = {f"advkit.{name}" for name in ("attacks", "defenses") if (ROOT / name / "__init__.py").is_file()}
    assert sorted(SETUPTOOLS["packages"]) == sorted(inside | beside)


def test_every_folder_with_code_is_a_package():
    folders = {file.parent for top in ("advkit", "attacks", "defenses") for file in (ROOT / top).rglob("*.py")}
    assert not [folder for folder in folders if not (folder / "__init__.py").is_file()]


def test_the_two_folders_are_mapped_into_the_package():
    assert SETUPTOOLS["package-dir"] == {"advkit": "advkit", "advkit.attacks": "attacks", "advkit.defenses": "defenses"}


def test_every_file_that_is_not_code_is_package_data():
    base = ROOT / "advkit"
    files = {p for p in base.rglob("*") if p.is_file() and p.suffix not in (".py", ".pyc") and ".part" not in p.name}
    listed = {path for pattern in SETUPTOOLS["package-data"]["advkit"] for path in base.glob(pattern)}
    assert files <= listed
    assert base / "py.typed" in listed


def test_embedded_weights_are_shipped_and_small():
    weights = list((ROOT / "advkit" / "weights").glob("*.safetensors"))
    assert weights
    assert not [path.name for path in weights if path.stat().st_size > 1.5e6]


def test_the_version_is_the_project_files():
    import advkit

    assert advkit.__version__ == PROJECT["project"]["version"]


def test_the_changelog_speaks_of_this_version():
    assert f"## [{PROJECT['project']['version']}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("package", ["advkit.attacks", "advkit.defenses"])
def test_a_checkout_finds_its_own_two_folders(package: str):
    """Python started in the root of a checkout finds advkit/ there, whatever is installed."""
    code = f"import advkit, {package} as p, pathlib; print(pathlib.Path(p.__file__).parent)"
    found = _python(code, ROOT)
    assert found.stdout.strip() == str(ROOT / package.rpartition(".")[2]), found.stderr


def test_a_second_copy_of_an_attack_is_refused_with_both_names():
    done = _python("import attacks.pgd", ROOT)
    assert done.returncode == 1
    assert "'pgd' is registered twice, by advkit.attacks.pgd and by attacks.pgd" in done.stderr
    assert "Import it as advkit.attacks.pgd" in done.stderr
