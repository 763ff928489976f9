"""Trackers: told of every line once, allowed to fail, and what each service is given."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from helpers import linear

from advkit.attacks import FGSM
from advkit.catalog import TRACKERS
from advkit.data import TensorData
from advkit.engine.specs import AttackSpec, DataSpec, ModelSpec
from advkit.engine.sweep import Plan, Spectator, Sweep, make_plan, run_plan
from advkit.engine.tracking import Tracker, build_tracker, curve
from advkit.errors import InputError, MissingExtra, UnknownName

STUDY = {"command": "advkit sweep study.toml", "study": '[study]\neps = "8/255"\n', "note": None}


def a_line(attack: str, eps: str | None, accuracy: float, **changed: Any) -> dict[str, Any]:
    line = {"model": "net/a", "weights": "w", "defense": "jpeg:75", "data": "signs", "n": 10, "norm": "linf"}
    line |= {
        "goal": "untargeted",
        "seed": 0,
        "attack": attack,
        "eps": eps,
        "accuracy": accuracy,
        "low": 0.0,
        "high": 1.0,
    }
    line |= {"success": 0.5, "median_distance": None, "forwards": 1, "backwards": 1, "seconds": 0.1, "clean": 0.9}
    return {**line, "complete": True, **changed}


LINES = [a_line("none", None, 0.9), a_line("pgd", "2/255", 0.8), a_line("pgd", "8/255", 0.3)]


def told(tracker: Tracker) -> None:
    """Tell a tracker of a whole sweep."""
    tracker.start(STUDY)
    for line in LINES:
        tracker.line(line)
    tracker.close()


# ------------------------------------------------------------------ the interface


class Recorder(Tracker):
    """Remembers what it is told; fails at the call of a name."""

    def __init__(self, fails: str = "") -> None:
        self.calls: list[tuple[str, Any]] = []
        self.fails = fails

    def _note(self, name: str, value: Any = None) -> None:
        self.calls.append((name, value))
        if name == self.fails:
            raise ConnectionError("the service is down")

    def start(self, study: Mapping[str, Any]) -> None:
        self._note("start", dict(study))

    def line(self, line: Mapping[str, Any]) -> None:
        self._note("line", (line["attack"], line["eps"]))

    def interrupted(self) -> None:
        self._note("interrupted")

    def close(self) -> None:
        self._note("close")


@pytest.fixture
def plan() -> Plan:
    """One model, one attack, two radii, four examples."""
    x = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    net = linear(3, dtype=torch.float32)
    data = TensorData(x, net(x).argmax(1))
    return make_plan(
        Sweep(
            models=(ModelSpec("tiny", made=net),),
            attacks=(AttackSpec("fgsm", made=FGSM()),),
            radii=("2/255", "8/255"),
            data=DataSpec("drawn", made=data),
            independent=True,
            command="advkit sweep",
            about={"study": "[study]"},
        )
    )


def test_a_tracker_is_told_of_the_study_of_every_line_and_of_the_end(plan: Plan, tmp_path: Path):
    recorder = Recorder()
    run_plan(plan, tmp_path, trackers=[recorder])
    assert recorder.calls[0] == ("start", {"command": "advkit sweep", "study": "[study]"})
    lines = [("line", ("none", None)), ("line", ("fgsm", "2/255")), ("line", ("fgsm", "8/255"))]
    assert recorder.calls[1:] == [*lines, ("close", None)]


def test_a_sweep_that_was_finished_before_is_told_again(plan: Plan, tmp_path: Path):
    first, second = Recorder(), Recorder()
    run_plan(plan, tmp_path, trackers=[first])
    run_plan(plan, tmp_path, trackers=[second])
    assert second.calls == first.calls


@pytest.mark.parametrize("fails", ["start", "line", "close"])
def test_a_tracker_that_fails_costs_nothing_and_is_reported_once(plan: Plan, tmp_path: Path, fails: str):
    broken, whole = Recorder(fails), Recorder()
    with pytest.warns(UserWarning, match="Recorder is told no more, since it failed: the service is down") as noted:
        result = run_plan(plan, tmp_path, trackers=[broken, whole])
    assert len(noted) == 1
    assert [name for name, _ in broken.calls].count(fails) == 1
    assert len(whole.calls) == 5
    assert len(result.grid.lines) == 2


def test_a_tracker_is_told_of_an_interruption_before_the_end(plan: Plan, tmp_path: Path):
    def stop(report: object) -> None:
        raise KeyboardInterrupt

    tracker = Recorder()
    with pytest.raises(KeyboardInterrupt):
        run_plan(plan, tmp_path, trackers=[tracker], spectator=Spectator(report=stop))
    assert [name for name, _ in tracker.calls] == ["start", "interrupted", "close"]
    run_plan(plan, tmp_path, trackers=[tracker])
    assert [name for name, _ in tracker.calls][3:] == ["start", *["line"] * 3, "close"]


@pytest.mark.parametrize("name", TRACKERS.names())
def test_a_service_that_is_not_installed_names_its_extra(name: str, monkeypatch: pytest.MonkeyPatch):
    for module in ("torch.utils.tensorboard", "mlflow", "wandb"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtra, match=rf"pip install 'advkit\[{name}\]'"):
        build_tracker(name)


def test_a_tracker_is_built_from_a_text():
    with pytest.raises(UnknownName, match="Did you mean 'tensorboard'"):
        build_tracker("tensorbord:runs")
    pytest.importorskip("tensorboard")
    assert build_tracker("tensorboard:runs/a") == build_tracker("tensorboard:folder=runs/a")
    with pytest.raises(InputError, match="has more settings than tensorboard takes"):
        build_tracker("tensorboard:a,b")


def test_a_curve_is_named_by_model_defense_and_attack():
    assert curve(LINES[1]) == "net-a/jpeg:75/pgd"


# ------------------------------------------------------------------ TensorBoard


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_gets_a_curve_for_each_attack_and_the_table(tmp_path: Path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    tracker = build_tracker(f"tensorboard:{tmp_path}")
    tracker.start(STUDY)
    for line in (*LINES, a_line("deep", "inf", 0.0), a_line("l2", "0.5", 0.5, norm="l2")):
        tracker.line(line)
    tracker.close()
    read = EventAccumulator(str(tmp_path)).Reload()
    points = {tag: [(e.step, round(e.value, 4)) for e in read.Scalars(tag)] for tag in read.Tags()["scalars"]}
    assert points == {
        "accuracy/net-a/jpeg:75/none": [(0, 0.9)],
        "accuracy/net-a/jpeg:75/pgd": [(0, 0.9), (2, 0.8), (8, 0.3)],
        "success/net-a/jpeg:75/pgd": [(2, 0.5), (8, 0.5)],
        "accuracy/net-a/jpeg:75/l2": [(0, 0.9), (500, 0.5)],
        "success/net-a/jpeg:75/l2": [(500, 0.5)],
    }
    texts = {
        tag.partition("/")[0]: read.Tensors(tag)[0].tensor_proto.string_val[0].decode()
        for tag in read.Tags()["tensors"]
    }
    assert texts["command"] == STUDY["command"]
    assert 'eps = "8/255"' in texts["study"]
    assert len(texts["table"].splitlines()) == 2 + 5
    assert "| net/a | jpeg:75 | signs | pgd | linf | 8/255 | 0.3000 |" in texts["table"]


# ------------------------------------------------------------------ services that are told through their real packages


@pytest.mark.filterwarnings("ignore")
def test_mlflow_gets_one_run_with_settings_metrics_study_and_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    uri = str(tmp_path / "mlruns")
    for _ in range(2):
        told(build_tracker(f"mlflow:{uri},experiment=mine"))
    client = mlflow.MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("mine")
    runs = client.search_runs([experiment.experiment_id])
    assert len(runs) == 2
    assert runs[0].info.status == "FINISHED"
    assert runs[0].data.params == {"command": STUDY["command"]}
    assert runs[0].data.metrics["accuracy/net-a/jpeg_75/pgd/8-255"] == 0.3
    assert {file.path for file in client.list_artifacts(runs[0].info.run_id)} == {"study.toml", "lines.json"}


@pytest.mark.filterwarnings("ignore")
def test_wandb_works_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.chdir(tmp_path)
    told(build_tracker("wandb:mine"))
    assert list(tmp_path.glob("wandb/offline-run-*/*.wandb"))


# ------------------------------------------------------------------ the same through fakes, which only record calls


class FakeService:
    """Records every call of every name, of itself and of what its calls return; no service stands behind it."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def call(*args: Any, **settings: Any) -> Any:
            self.calls.append((name, args, settings))
            return self.answers.get(name, self)

        return call

    answers: dict[str, Any] = {}  # noqa: RUF012

    def of(self, name: str) -> list[tuple[Any, ...]]:
        """The arguments of the calls of a name."""
        return [args for called, args, _ in self.calls if called == name]


def test_what_mlflow_is_told(monkeypatch: pytest.MonkeyPatch):
    service = FakeService()
    service.answers = {
        "get_experiment_by_name": None,
        "create_experiment": "7",
        "create_run": SimpleNamespace(info=SimpleNamespace(run_id="r")),
    }
    fake: Any = ModuleType("mlflow")
    fake.MlflowClient = lambda tracking_uri: service
    monkeypatch.setitem(sys.modules, "mlflow", fake)
    told(build_tracker("mlflow:http://host:5000"))
    assert service.of("create_run") == [("7",)]
    assert service.of("log_param") == [("r", "command", STUDY["command"])]
    assert service.of("log_metric") == [
        ("r", "accuracy/net-a/jpeg_75/none", 0.9),
        ("r", "accuracy/net-a/jpeg_75/pgd/2-255", 0.8),
        ("r", "success/net-a/jpeg_75/pgd/2-255", 0.5),
        ("r", "accuracy/net-a/jpeg_75/pgd/8-255", 0.3),
        ("r", "success/net-a/jpeg_75/pgd/8-255", 0.5),
    ]
    study, table = service.of("log_text")
    assert study == ("r", STUDY["study"], "study.toml")
    assert (json.loads(table[1]), table[2]) == (LINES, "lines.json")
    assert service.of("set_terminated") == [("r", "FINISHED")]
    tracker = build_tracker("mlflow:http://host:5000")
    tracker.start(STUDY)
    tracker.interrupted()
    tracker.close()
    assert service.of("set_terminated")[-1] == ("r", "KILLED")


def test_what_wandb_is_told(monkeypatch: pytest.MonkeyPatch):
    service = FakeService()
    fake: Any = ModuleType("wandb")
    fake.init = service.init
    fake.Table = lambda columns, data: (columns, data)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    told(build_tracker("wandb:mine,entity=us"))
    (begun,) = [settings for name, _, settings in service.calls if name == "init"]
    assert (begun["project"], begun["entity"], begun["config"]) == ("mine", "us", STUDY)
    *points, (last,) = service.of("log")
    assert points[2] == ({"eps": pytest.approx(8 / 255), "accuracy/net-a/jpeg:75/pgd": 0.3},)
    assert last == {"lines": (list(LINES[0]), [list(line.values()) for line in LINES])}
    assert service.calls[-1] == ("finish", (), {"exit_code": 0})
    tracker = build_tracker("wandb:mine")
    tracker.start(STUDY)
    tracker.interrupted()
    tracker.close()
    assert service.calls[-1] == ("finish", (), {"exit_code": 1})
