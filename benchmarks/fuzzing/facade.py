"""The Python facade: models of every kind, data and labels, settings of attacks, and every public function given nonsense."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

from fuzzing.case import Box, Case, Wanted

__all__ = ["facade", "models", "publics", "tuned"]

_REFUSED, _EITHER, _DONE = Wanted("refused"), Wanted("either"), Wanted("result")


def _thunk(make: Callable[[], object]) -> Callable[[Box], Callable[[], object]]:
    return lambda box: make


def _net() -> Any:
    import torch
    from torch import nn

    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 5)).eval()


def _x(count: int = 6) -> Any:
    import torch

    return torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(1))


_LATE = "raises from the third call"


def _models() -> dict[str, tuple[Callable[[], Any], Wanted]]:
    """Callables on pictures; each is given to evaluate by itself."""
    import torch
    from torch import nn

    def module(forward: Callable[[Any, Any], Any], **parts: Any) -> Callable[[], Any]:
        def make() -> Any:
            net = _net()

            class Odd(nn.Module):
                def __init__(self) -> None:
                    super().__init__()
                    self.net = net
                    self.calls = 0

                def forward(self, x: Any) -> Any:
                    self.calls += 1
                    return forward(self, x)

            return Odd().eval()

        return make

    def raises(s: Any, x: Any) -> Any:
        raise KeyError("in the model")

    def changing(s: Any, x: Any) -> Any:
        torch.manual_seed(7)
        return s.net(x)

    def inplace(s: Any, x: Any) -> Any:
        return s.net(x.sub_(0.5).div_(0.25))

    def masked(s: Any, x: Any) -> Any:
        return torch.cat([s.net(x), torch.full((len(x), 1), float("-inf"))], 1)

    def fixed(s: Any, x: Any) -> Any:
        if len(x) != 6:
            raise RuntimeError("batch must be 6")
        return s.net(x)

    def lazy() -> Any:
        return nn.Sequential(nn.Flatten(), nn.LazyLinear(5)).eval()

    def quantised() -> Any:
        return torch.ao.quantization.quantize_dynamic(_net(), {nn.Linear}, dtype=torch.qint8)

    def meta() -> Any:
        return _net().to("meta")

    return {
        "a network": (_net, _DONE),
        "script": (lambda: torch.jit.script(_net()), _DONE),
        "frozen script": (lambda: torch.jit.freeze(torch.jit.script(_net())), _DONE),
        "a function": (lambda: (lambda net: lambda x: net(x))(_net()), _EITHER),
        "one output": (module(lambda s, x: s.net(x)[:, :1]), _REFUSED),
        "one output, flat": (module(lambda s, x: s.net(x)[:, 0]), _REFUSED),
        "no output": (module(lambda s, x: s.net(x)[:, :0]), _REFUSED),
        "whole numbers": (module(lambda s, x: s.net(x).long()), _REFUSED),
        "bools": (module(lambda s, x: s.net(x) > 0), _REFUSED),
        "complex": (module(lambda s, x: s.net(x).to(torch.complex64)), _REFUSED),
        "NaN": (module(lambda s, x: s.net(x) * float("nan")), _REFUSED),
        "inf": (module(lambda s, x: s.net(x) / 0), _REFUSED),
        "NaN from the third call": (module(lambda s, x: s.net(x) * (float("nan") if s.calls > 2 else 1)), _REFUSED),
        "-inf of a masked class": (module(masked), _DONE),
        "None": (module(lambda s, x: None), _REFUSED),
        "a tuple": (module(lambda s, x: (s.net(x), x)), _REFUSED),
        "a dict": (module(lambda s, x: {"logits": s.net(x)}), _REFUSED),
        "a list": (module(lambda s, x: s.net(x).tolist()), _REFUSED),
        "numpy": (module(lambda s, x: s.net(x).detach().numpy()), _REFUSED),
        "half the batch": (module(lambda s, x: s.net(x)[::2]), _REFUSED),
        "twice the batch": (module(lambda s, x: torch.cat([s.net(x)] * 2)), _REFUSED),
        "one row": (module(lambda s, x: s.net(x).mean(0, True)), _REFUSED),
        "four axes": (module(lambda s, x: s.net(x)[:, :, None, None]), _REFUSED),
        "another width each call": (module(lambda s, x: torch.cat([s.net(x)] * (1 + s.calls % 2), 1)), _REFUSED),
        "in-place": (module(inplace), _EITHER),
        "raises": (module(raises), _REFUSED),
        _LATE: (module(lambda s, x: raises(s, x) if s.calls > 2 else s.net(x)), _REFUSED),
        "lazy": (lazy, _EITHER),
        "fixed batch": (module(fixed), _EITHER),
        "no gradient": (module(lambda s, x: s.net(x).detach()), _REFUSED),
        "no gradient to the picture": (module(lambda s, x: s.net(x.detach()).detach() * torch.ones(5, requires_grad=True)), _REFUSED),
        "under no_grad": (module(lambda s, x: torch.no_grad()(s.net)(x)), _REFUSED),
        "in inference mode": (module(lambda s, x: torch.inference_mode()(s.net)(x)), _REFUSED),
        "quantised": (quantised, _REFUSED),
        "changes the generator": (module(changing), _EITHER),
        "half answers": (module(lambda s, x: s.net(x).half()), _EITHER),
        "bfloat16 answers": (module(lambda s, x: s.net(x).bfloat16()), _EITHER),
        "double answers": (module(lambda s, x: s.net(x).double()), _DONE),
        "a half network": (lambda: _net().half(), _EITHER),
        "on meta": (meta, _REFUSED),
        "constant": (module(lambda s, x: s.net(x) * 0), _EITHER),
        "huge scores": (module(lambda s, x: s.net(x) * 1e30), _EITHER),
        "sparse scores": (module(lambda s, x: s.net(x).to_sparse()), _REFUSED),
        "a subclass of tensor": (module(lambda s, x: s.net(x).as_subclass(torch.nn.Parameter)), _EITHER),
        "in training mode": (lambda: _net().train(), _EITHER),
        "a class": (lambda: torch.nn.Linear, _REFUSED),
        "None as model": (lambda: None, _REFUSED),
        "an int": (lambda: 3, _REFUSED),
        "a state dict": (lambda: _net().state_dict(), _REFUSED),
        "a path": (lambda: __import__("pathlib").Path("nothing.pt"), _REFUSED),
        "bytes": (lambda: b"lenet", _REFUSED),
        "a list of models": (lambda: [_net()], _REFUSED),
        "an optimizer": (lambda: torch.optim.SGD(_net().parameters(), 0.1), _REFUSED),
        "an empty text": (lambda: "", _REFUSED),
        "an identity": (lambda: nn.Identity(), _REFUSED),
        "a module without forward": (lambda: nn.Module(), _REFUSED),
    }  # fmt: skip


def models() -> Iterator[Case]:
    """Models of every kind: evaluate, an attack's call, load_model, with attacks by gradient and by scores."""
    for given, (make, wanted) in _models().items():
        for attack in ("fgsm", "noise", "ddn"):

            def run(make: Callable[[], Any] = make, attack: str = attack, given: str = given) -> object:
                import torch

                import advkit

                model, x = make(), _x()
                with torch.no_grad():
                    y = _net()(x).argmax(1)
                before = torch.random.get_rng_state()
                try:
                    return _own_error(lambda: advkit.evaluate(model, (x, y), attack), given)
                finally:
                    if given != "changes the generator" and not torch.equal(before, torch.random.get_rng_state()):
                        raise AssertionError("the global generator was changed")

            if given in _ONLY_GRADIENT:  # attacked all the same, as a doubt under the table says
                told = _EITHER if attack == "noise" else Wanted("either", _doubted)
                yield Case("models", f"advkit.evaluate --({attack})", given, told, call=_thunk(run))
            else:
                loose = _EITHER if given == _LATE else wanted
                yield Case("models", f"advkit.evaluate --({attack})", given, loose, call=_thunk(run))

        def attacked(make: Callable[[], Any] = make, given: str = given) -> object:
            import torch

            from advkit import Linf
            from advkit.attacks import PGD

            with torch.no_grad():
                y = _net()(_x()).argmax(1)
            return _own_error(lambda: PGD(Linf("8/255"), steps=2)(make(), _x(), y), given)

        loose = _EITHER if given in ("one output, flat", "an identity", _LATE) else wanted
        yield Case("models", "PGD(...)(model, x, y)", given, loose, call=_thunk(attacked))

        def loaded(make: Callable[[], Any] = make) -> object:
            import advkit

            return advkit.load_model(
                make(),
                data=(_x(), [0, 1, 2, 3, 4, 0])
                and advkit.TensorData(_x(), __import__("torch").arange(6) % 5, name="x"),
            )

        yield Case(
            "models", "advkit.load_model(model)", given, _DONE if wanted is _DONE else _EITHER, call=_thunk(loaded)
        )


def _own_error(call: Callable[[], object], given: str) -> object:
    """What a call returns. Of a model that raises late the exception comes through to Python as it is, and never gets lost."""
    if given != _LATE:
        return call()
    try:
        call()
    except KeyError:
        return None
    raise AssertionError("the model's exception was swallowed")


def _doubted(answer: Any) -> str | None:
    return None if answer.value.doubts else "a result without a doubt"


_ONLY_GRADIENT = {
    "no gradient",
    "no gradient to the picture",
    "under no_grad",
    "in inference mode",
    "quantised",
}


def _data() -> dict[str, tuple[Callable[[], Any], Wanted]]:
    import numpy as np
    import torch

    x, y = _x(), torch.arange(6) % 5

    return {
        "tensors": (lambda: (x, y), _DONE),
        "labels None": (lambda: (x, None), _REFUSED),
        "labels as a list": (lambda: (x, y.tolist()), _EITHER),
        "labels as numpy": (lambda: (x, y.numpy()), _EITHER),
        "both numpy": (lambda: (x.numpy(), y.numpy()), _EITHER),
        "a list of two": (lambda: [x, y], _EITHER),
        "labels float": (lambda: (x, y.float()), _REFUSED),
        "labels complex": (lambda: (x, y.to(torch.complex64)), _REFUSED),
        "labels bool": (lambda: (x, y > 2), _REFUSED),
        "labels int32": (lambda: (x, y.int()), _DONE),
        "labels uint8": (lambda: (x, y.byte()), _DONE),
        "labels one-hot": (lambda: (x, torch.eye(5)[y]), _REFUSED),
        "labels (N, 1)": (lambda: (x, y[:, None]), _REFUSED),
        "labels too few": (lambda: (x, y[:5]), _REFUSED),
        "labels out of range": (lambda: (x, y + 5), _REFUSED),
        "labels 2^62": (lambda: (x, y + 2**62), _REFUSED),
        "labels 3e7": (lambda: (x, y + 30_000_000), _REFUSED),
        "a single label": (lambda: (x[:1], torch.tensor(0)), _REFUSED),
        "no examples": (lambda: (x[:0], y[:0]), _REFUSED),
        "three axes": (lambda: (x[0], y[:1]), _REFUSED),
        "five axes": (lambda: (x[None], y), _REFUSED),
        "pixels to 255": (lambda: (x * 255, y), _REFUSED),
        "pixels uint8": (lambda: ((x * 255).byte(), y), _EITHER),
        "pixels NaN": (lambda: (x * float("nan"), y), _REFUSED),
        "pixels inf": (lambda: (x / 0, y), _REFUSED),
        "pixels double": (lambda: (x.double(), y), _EITHER),
        "pixels half": (lambda: (x.half(), y), _EITHER),
        "pixels complex": (lambda: (x.to(torch.complex64), y), _REFUSED),
        "pixels that need a gradient": (lambda: (x.clone().requires_grad_(), y), _EITHER),
        "pixels not contiguous": (lambda: (x.permute(0, 1, 3, 2), y), _DONE),
        "pixels sparse": (lambda: (x.to_sparse(), y), _REFUSED),
        "on meta": (lambda: (x.to("meta"), y), _REFUSED),
        "1 channel": (lambda: (x[:, :1], y), _REFUSED),
        "another size": (lambda: (x[:, :, :4], y), _REFUSED),
        "a dict": (lambda: {"x": x, "y": y}, _REFUSED),
        "None": (lambda: None, _REFUSED),
        "an int": (lambda: 5, _REFUSED),
        "a tensor alone": (lambda: x, _REFUSED),
        "three of them": (lambda: (x, y, y), _REFUSED),
        "a generator": (lambda: ((a, b) for a, b in zip(x, y, strict=True)), _REFUSED),
        "a TensorDataset": (lambda: torch.utils.data.TensorDataset(x, y), _EITHER),
        "a DataLoader": (lambda: torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), 2), _EITHER),
        "objects": (lambda: (np.array([None] * 6), y), _REFUSED),
        "an unknown name": (lambda: "nothing at all", _REFUSED),
        "NUL in a name": (lambda: "a\0b", _REFUSED),
        "bytes": (lambda: b"signs", _REFUSED),
    }  # fmt: skip


_FORMS: dict[str, object] = {"None": None, "an int": 3, "a text": "abc", "a float": 1.5, "NaN": float("nan"), "inf": float("inf"), "True": True, "a list": [],
                             "a dict": {}, "bytes": b"x", "-1": -1, "10^30": 10**30, "an object": object(), "NUL": "\0"}  # fmt: skip
_KEYWORDS = (
    "attacks",
    "samples",
    "batch_size",
    "seed",
    "target",
    "keep",
    "precision",
    "defense",
    "bare",
    "against",
    "surrogate",
    "eot",
    "repeats",
    "observer",
)
_FINE = {
    ("samples", "None"), ("samples", "an int"), ("samples", "10^30"), ("batch_size", "None"), ("batch_size", "an int"), ("batch_size", "10^30"), ("seed", "an int"), ("target", "None"),
    ("target", "an int"), ("bare", "None"), ("surrogate", "None"), ("observer", "None"), ("eot", "an int"), ("repeats", "an int"),
    ("defense", "a list"), ("seed", "True"),
}  # fmt: skip


def facade() -> Iterator[Case]:
    """Data and labels for evaluate and for an attack's call, and each argument of evaluate given nonsense."""
    for given, (make, wanted) in _data().items():

        def run(make: Callable[[], Any] = make) -> object:
            import advkit

            return advkit.evaluate(_net(), make(), "fgsm", doubts=False)

        yield Case("facade", "advkit.evaluate(data)", given, wanted, call=_thunk(run))

        def direct(make: Callable[[], Any] = make) -> object:
            from advkit import Linf
            from advkit.attacks import PGD

            pair = make()
            x, y = pair if isinstance(pair, tuple) and len(pair) == 2 else (pair, None)
            return PGD(Linf("8/255"), steps=2)(_net(), x, y)

        alone = _EITHER if wanted is _DONE or given == "labels too few" else wanted
        yield Case(
            "facade", "PGD(...)(model, x, y)", given, alone if given != "tensors" else _DONE, call=_thunk(direct)
        )
    for keyword in _KEYWORDS:
        for given, value in _FORMS.items():

            def called(keyword: str = keyword, value: object = value) -> object:
                import torch

                import advkit

                return advkit.evaluate(_net(), (_x(), torch.arange(6) % 5), **{"attacks": "fgsm", keyword: value})

            fine = (keyword, given) in _FINE
            yield Case(
                "facade", f"advkit.evaluate({keyword})", given, _EITHER if fine else _REFUSED, call=_thunk(called)
            )
    yield from _results()


def _results() -> Iterator[Case]:
    """Questions to an evaluation."""

    def result() -> Any:
        import torch

        import advkit

        return advkit.evaluate(_net(), (_x(), torch.arange(6) % 5), "fgsm", doubts=False)

    asked: dict[str, tuple[Callable[[Any], object], Wanted]] = {
        "stands of a radius that was not asked": (lambda r: r.stands("1/255"), _REFUSED),
        "stands(None)": (lambda r: r.stands(None), _EITHER),
        "stands of nonsense": (lambda r: r.stands("abc"), _REFUSED),
        "stands(-1)": (lambda r: r.stands(-1), _REFUSED),
        "stands(inf)": (lambda r: r.stands(float("inf")), _REFUSED),
        "stands([])": (lambda r: r.stands([]), _REFUSED),
        "stands": (lambda r: r.stands("8/255"), _DONE),
        "stands(8 / 255)": (lambda r: r.stands(8 / 255), _DONE),
        "outcome(fgsm, None)": (lambda r: r.outcome("fgsm", None), _EITHER),
        "outcome of an attack that was not made": (lambda r: r.outcome("pgd", "8/255"), _REFUSED),
        "outcome(None, None)": (lambda r: r.outcome(None, None), _REFUSED),
        "outcome(3, 8/255)": (lambda r: r.outcome(3, "8/255"), _REFUSED),
        "outcome of another radius": (lambda r: r.outcome("fgsm", "1/255"), _REFUSED),
        "to_json": (lambda r: r.to_json(), _DONE),
    }
    for given, (ask, wanted) in asked.items():
        yield Case("facade", "Evaluation", given, wanted, call=_thunk(lambda ask=ask: ask(result())))


def tuned() -> Iterator[Case]:
    """Each setting of each attack and ball given a value of another type."""
    import advkit
    from advkit import attacks

    balls = (advkit.Linf, advkit.L2, advkit.L1, advkit.L0)
    for ball in balls:
        for given, value in _FORMS.items():
            fine = (given == "an int" and ball is not advkit.Linf) or (
                given == "a float" and ball in (advkit.L2, advkit.L1)
            )
            fine = fine or (given == "10^30" and ball is not advkit.Linf)
            fine = fine or given == "inf"  # no bound: the smallest change is searched for
            yield Case(
                "tuned",
                f"advkit.{ball.__name__}",
                given,
                _EITHER if fine else _REFUSED,
                call=_thunk(lambda ball=ball, value=value: ball(value)),
            )
    for name in sorted(attacks.__all__):
        made = getattr(attacks, name)
        if not (isinstance(made, type) and dataclasses.is_dataclass(made)):
            continue
        for field in dataclasses.fields(made):
            if not field.init:
                continue
            for given, value in _FORMS.items():
                number = isinstance(field.default, (int, float)) and not isinstance(field.default, bool)
                strict = number and given in ("a text", "NaN", "bytes", "a dict", "a list", "an object", "NUL", "inf")

                def construct(made: Any = made, field: str = field.name, value: object = value) -> object:
                    threat = next((f for f in dataclasses.fields(made) if f.name == "threat"), None)
                    base = (
                        {}
                        if threat is None or threat.default is not dataclasses.MISSING
                        else {"threat": advkit.Linf("8/255")}
                    )
                    return made(**{**base, field: value})

                yield Case(
                    "tuned",
                    f"advkit.attacks.{name}",
                    f"{field.name} = {given}",
                    _REFUSED if strict else _EITHER,
                    call=_thunk(construct),
                )


_PUBLIC = ("advkit", "advkit.attacks", "advkit.core", "advkit.backbones", "advkit.data")  # fmt: skip
_ERRORS = {"AdvkitError", "InputError", "PassError", "ThreatViolation", "Rng"}


def publics() -> Iterator[Case]:
    """Every public function and class given None, a number, a text, and the like, as its first argument."""
    import importlib
    import inspect

    for home in _PUBLIC:
        module = importlib.import_module(home)
        for name in getattr(module, "__all__", ()):
            made = getattr(module, name)
            if (
                not callable(made)
                or name in _ERRORS
                or (isinstance(made, type) and getattr(made, "_is_protocol", False))
            ):
                continue
            if inspect.isabstract(made):
                continue
            try:
                found = inspect.signature(made).parameters.values()
            except (TypeError, ValueError):
                continue
            if any(each.kind is each.KEYWORD_ONLY and each.default is each.empty for each in found):
                continue
            wanted = [each for each in found if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
            required = [p for p in wanted if p.default is p.empty]
            for given, value in _FORMS.items():

                def called(made: Any = made, value: object = value, count: int = max(1, len(required))) -> object:
                    return made(*[value] * count)

                if wanted:
                    yield Case("publics", f"{home}.{name}", f"{given} for each argument", _EITHER, call=_thunk(called))
