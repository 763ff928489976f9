"""TorchScript archives are programs: harmless ones load as they are, others are refused before torch reads them."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from advkit.backbones import load_model
from advkit.backbones.torchscript import checked_archive
from advkit.errors import ModelError, Untrusted
from advkit.trust import Trust

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv2d(width, width, 3, padding=1, bias=False) for _ in range(2))
        self.norm, self.relu = nn.BatchNorm2d(width), nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """x and what two convolutions make of it."""
        return self.relu(x + self.second(self.relu(self.norm(self.first(x)))))


class Residual(nn.Module):
    """A ResNet in small, with what a language may hold: loops, branches, options, texts and warnings."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        self.blocks = nn.ModuleList([Block(4), Block(4)])
        self.drop, self.head = nn.Dropout(0.1), nn.Linear(4, 5)
        self.scale = 2

    def features(self, x: Tensor, most: int | None = None) -> Tensor:
        """Before the head."""
        for block in self.blocks:
            x = block(x)
        if most is not None and x.shape[2] > most:
            x = nn.functional.interpolate(x, size=[most, most], mode="bilinear", align_corners=False)
        return x

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        if x.dim() != 4:
            raise ValueError(f"expected 4 dimensions, got {x.dim()}")
        max = self.features(self.stem(x), 6).flatten(2).amax(2)  # noqa: A001 - a network may
        sizes = [max.shape[1] // self.scale for _ in range(2)]
        first, second = torch.split(max, sizes, 1)
        return self.head(self.drop(torch.cat([first, second], dim=1)))


def scripted(net: nn.Module) -> torch.jit.ScriptModule:
    return torch.jit.script(net.eval())


def traced(net: nn.Module) -> torch.jit.ScriptModule:
    return torch.jit.trace(net.eval(), torch.rand(1, 3, 12, 12))


def frozen(net: nn.Module) -> torch.jit.ScriptModule:
    return torch.jit.freeze(scripted(net))


@pytest.mark.parametrize("make", [scripted, traced, frozen, lambda net: torch.jit.freeze(traced(net))])
def test_a_network_of_layers_loads_and_answers_as_before(
    make: Callable[[nn.Module], torch.jit.ScriptModule], tmp_path: Path
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        net = make(Residual())
        net.save(str(tmp_path / "net.ts"))
    found = load_model(str(tmp_path / "net.ts"), channels=3, size=12)
    x = torch.rand(2, 3, 12, 12)
    assert torch.equal(found(x), net(x))


BODIES = {
    "saves": 'torch.save(x, "PWNED")',
    "saves as a method": '(x).save("PWNED")',
    "saves by another name": 'f = torch.save\n    f(x, "PWNED")',
    "saves by another name of a method": 'f = (x).save\n    f("PWNED")',
    "saves by an attribute that is asked for": 'f = getattr(x, "save")\n    f("PWNED")',
    "saves by what is asked for at once": 'getattr(x, "save")("PWNED")',
    "saves under its own namespace": 'ops.aten.save(x, "PWNED")',
    "saves by a method of its own that is an operator's": '(self).save("PWNED")',
    "saves by a name that hides the archive's": '__torch__ = x\n    __torch__.save("PWNED")',
    "saves by a list": '[(x).save][0]("PWNED")',
    "saves by a builtin's name": 'len = getattr(x, "save")\n    len("PWNED")',
    "maps a file": 'torch.from_file("PWNED", True, 4)',
    "writes an image": 'ops.image.write_file("PWNED", x)',
    "prints": 'print("hello")',
    "seeds": "torch.manual_seed(3)",
    "switches gradients": "torch.set_grad_enabled(False)",
    "forks": "fork(torch.relu, x)",
    "strides freely": "torch.as_strided(x, [9], [9])",
    "makes a class in C++": "__torch__.torch.classes.quantized.Conv2dPackedParamsBase.__new__(x)",
    "is no operator at all": "torch.no_such_operator(x)",
}
HEAD = """class Net(Module):
  __parameters__ = []
  __buffers__ = []
  training : bool
  def forward(self: __torch__.Net,
    x: Tensor) -> Tensor:
    BODY
    return torch.flatten(x, 1)
"""
OWN = "  def save(self: __torch__.Net,\n    x: str) -> Tensor:\n    return torch.zeros([1])\n"


class Net(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        """The picture itself."""
        return torch.flatten(x, 1)


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("script") / "net.ts"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(Net()).save(str(path))
    return path


def rewritten(archive: Path, to: Path, change: Callable[[str, bytes], bytes]) -> Path:
    """The archive with its parts changed."""
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(to, "w") as new:
        for info in old.infolist():
            new.writestr(info.filename, change(info.filename.partition("/")[2], old.read(info)))
    return to


def coded(archive: Path, to: Path, source: str) -> Path:
    """The archive with another code."""
    return rewritten(archive, to, lambda name, content: source.encode() if name.endswith(".py") else content)


@pytest.mark.parametrize("what", BODIES)
def test_code_that_is_not_known_to_be_pure_is_refused_and_named(
    archive: Path, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source = HEAD.replace("BODY", BODIES[what]) + (OWN if "of its own" in what else "")
    path = coded(archive, tmp_path / "planted.ts", source)
    with pytest.raises(Untrusted, match="--trust-code"):
        load_model(str(path), channels=3, size=4)
    assert not Path("PWNED").exists()


def test_an_archive_that_writes_while_it_is_loaded_is_refused_unless_it_is_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stateful(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.training_only = 0

        @torch.jit.export
        def __getstate__(self) -> tuple[int, bool]:
            return self.training_only, self.training

        @torch.jit.export
        def __setstate__(self, state: tuple[int, bool]) -> None:
            torch.ops.aten.save(torch.zeros([1]), "PWNED")
            self.training_only, self.training = state[0], state[1]

        def forward(self, x: Tensor) -> Tensor:
            return torch.flatten(x, 1)

    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(Stateful()).save("planted.pt")
    with pytest.raises(Untrusted, match=r"planted\.pt is a program that uses the operator torch\.save"):
        load_model("planted.pt", channels=3, size=4)
    with pytest.raises(Untrusted):
        load_model("planted.pt", channels=3, size=4, trust=Trust.of("planted.pt"))  # named, and not as code
    assert not Path("PWNED").exists()
    assert load_model("planted.pt", channels=3, size=4, trust=Trust.of(code=("planted.pt",))).num_classes == 48
    assert Path("PWNED").exists(), "the file is what it was taken for"


@pytest.mark.parametrize(
    "source",
    [
        "import os\n",
        HEAD.replace("BODY", "exec('1')"),
        HEAD.replace("BODY", "'a text'"),
        HEAD.replace("BODY", "y = [*x]"),
        HEAD.replace("BODY", "y = b'bytes'"),
        HEAD.replace("(Module)", "(Exception)").replace("BODY", "pass"),
        HEAD.replace("BODY", "pass").replace("  def", "  @torch.save\n  def"),
        HEAD.replace("BODY", "pass").replace("training : bool", 'training : bool = torch.relu("PWNED")'),
        HEAD.replace("BODY", "y = lambda: x"),
        HEAD.replace("BODY", "ｔorch = x"),
    ],
)
def test_what_no_archive_of_torch_says_is_refused(archive: Path, source: str, tmp_path: Path) -> None:
    with pytest.raises(Untrusted):
        checked_archive(coded(archive, tmp_path / "net.ts", source))


class Run:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("PWNED",)


@pytest.mark.parametrize("name", ["data.pkl", "constants.pkl"])
def test_pickles_with_other_names_than_torchs_are_refused(archive: Path, name: str, tmp_path: Path) -> None:
    for planted in (pickle.dumps(Run(), 2), pickle.dumps(Run(), 4)):
        path = rewritten(archive, tmp_path / "net.ts", lambda n, old, new=planted: new if n == name else old)
        with pytest.raises(Untrusted):
            checked_archive(path)


def test_torch_is_given_what_was_looked_at_and_nothing_else(archive: Path, tmp_path: Path) -> None:
    def more(name: str, content: bytes) -> bytes:
        return pickle.dumps(Run()) if name.endswith("debug_pkl") else content

    path = rewritten(archive, tmp_path / "net.ts", more)
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("net/bytecode.pkl", pickle.dumps(Run()))
        file.writestr("net/extra/planted.py", "import os")
    with zipfile.ZipFile(checked_archive(path)) as found:
        names = [name.removeprefix("checked/") for name in found.namelist()]
    assert not [name for name in names if "debug" in name or "extra" in name or "bytecode" in name]
    assert {"data.pkl", "constants.pkl"} <= set(names)
    assert [name for name in names if name.startswith("code/")]


def test_an_archive_with_two_parts_of_one_name_is_refused(archive: Path, tmp_path: Path) -> None:
    path = rewritten(archive, tmp_path / "net.ts", lambda name, content: content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with zipfile.ZipFile(path, "a") as file:
            file.writestr(next(n for n in file.namelist() if n.endswith(".py")), HEAD.replace("BODY", BODIES["saves"]))
    with pytest.raises(ModelError, match="twice"):
        checked_archive(path)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin"])
def test_an_archive_is_not_read_as_weights(archive: Path, suffix: str, tmp_path: Path) -> None:
    path = coded(archive, tmp_path / f"net{suffix}", HEAD.replace("BODY", BODIES["saves"]))
    with pytest.raises(ModelError):
        load_model("lenet", weights=str(path), classes=10)
