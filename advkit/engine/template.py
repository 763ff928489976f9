"""The study file that ``advkit init`` writes: runs as it is, and shows every key with a word on it. No torch."""

from __future__ import annotations

from collections.abc import Sequence

from advkit.engine.toml import toml_value

__all__ = ["study_template"]

_MODELS = (("standard", "resnet", "standard"), ("robust", "resnet", "adversarial"), ("lenet", "lenet", None))
_ATTACKS = {
    "l0": ("salt", "salt-greedy", "sigma-zero"),
    "area": ("noise", "tape", "dots"),
    "shade": ("noise", "shadow"),
    "veil": ("noise", "light", "rain"),
}
_USUAL_ATTACKS = ("fgsm", "pgd", "standard")
_RADII = {
    "linf": ("2/255", "4/255", "8/255"),
    "l2": ("0.25", "0.5", "1.0"),
    "l1": ("3", "6", "12"),
    "l0": ("1", "5", "10"),
    "area": ("0.01", "0.02", "0.05"),
    "shade": ("0.2", "0.4", "0.57"),
    "veil": ("0.25", "0.5", "0.75"),
}


def study_template(
    *,
    models: Sequence[str] = (),
    attacks: Sequence[str] = (),
    eps: Sequence[str] = (),
    norm: str = "linf",
    data: str = "signs",
    defenses: Sequence[str] = (),
) -> str:
    """The text of the file; what is not given are the networks and pictures that advkit ships."""
    tables = [_model(*model) for model in _MODELS] if not models else [_model(None, model, None) for model in models]
    head = _HEAD.format(
        data=toml_value(data),
        norm=toml_value(norm.lower()),
        eps=toml_value(tuple(eps) or _RADII.get(norm.lower(), _RADII["linf"])),
        defenses=toml_value(tuple(defenses) or ("none",)),
    )
    return "\n".join(
        [head, *tables, _MODEL_KEYS, *map(_attack, attacks or _ATTACKS.get(norm.lower(), _USUAL_ATTACKS)), _ATTACK_KEYS]
    )


def _model(name: str | None, model: str, weights: str | None) -> str:
    rows = [("name", name), ("model", model), ("weights", weights)]
    return "\n".join(["[[model]]", *(f"{key} = {toml_value(value)}" for key, value in rows if value is not None), ""])


def _attack(name: str) -> str:
    return f"[[attack]]\nattack = {toml_value(name)}\n"


_HEAD = """\
# A study for advkit: every model behind every defense under every attack at every radius.
#
#   advkit sweep THIS_FILE --dry-run    what would be computed, and how long it may take
#   advkit sweep THIS_FILE              compute it; what is finished is kept, so interrupt it and go on as you like
#
# Keys with a # before them may be left out. Relative paths are relative to this file.

[study]
data = {data}                # a data set (advkit list datasets), a folder with one folder per class, or an .npz file
samples = 50                  # the first so many examples, or "all"
# exclude = [0]               # leave out the examples of these classes, by name or number
norm = {norm}                 # how the size of a perturbation is measured: linf, l2, l1, l0, area, shade, veil
eps = {eps}   # the radii: "8/255", "8px" for 8 of 255 grey levels, "0.031"
defenses = {defenses}           # in front of each model: "none", "jpeg:75", or a chain "jpeg:75+bits:4"
# target = "next"             # aim at a class: next, random, least-likely, or the name or number of a class
seed = 0                      # of everything random
# independent = false         # true: attack at every radius afresh, instead of one search for the smallest
# transfer = false            # true: also show each model what was made on each other model
# against = "both"            # of a defense: adaptive (attacks on it), oblivious (replays of attacks on the bare model), both
# precision = "auto"          # what steers the search: auto, float32, folded, mixed; verdicts are always the model's own
# shard = 128                 # examples of a task: what is computed again where a worker is lost
# batch_size = 64             # examples of a pass; by default, what fits
# device = "cpu"              # or cuda, cuda:1 ...; by default, a GPU where there is one
# pictures = 16               # keep the adversarial pictures of the first so many examples, for the report

# [data]                      # settings of the data set (advkit list datasets --settings)
# size = 32
"""

_MODEL_KEYS = """\
# More keys of a model, and another:
# [[model]]
# model = "resnet"            # a backbone (advkit list backbones), torchvision:NAME, timm:NAME, FILE.py:FACTORY, a file
# name = "noisy"              # what tables call it
# weights = "random"          # auto, random, embedded ones (standard, adversarial), or a file
# normalize = "none"          # inside the model: imagenet, cifar10, none, or MEAN:STD such as "0.5,0.5,0.5:0.2,0.2,0.2"
#                             # FILE.py:FACTORY, as code in defenses, needs advkit sweep ... --trust-code FILE.py:FACTORY
# seed = 1                    # of random weights; by default, that of the study
# settings = {}               # of the backbone or factory, such as { width = 64 }

# Attacks made on another model, and shown to each of the above once:
# [[surrogate]]
# model = "cnn"               # and every other key of a model
"""

_ATTACK_KEYS = """\
# Every other key of an attack is a setting of it (advkit list attacks --settings):
# [[attack]]
# attack = "pgd"
# label = "pgd, 5 restarts"   # what tables call it
# steps = 20
# step_size = 0.1             # as a fraction of eps
# restarts = 5                # the worst of them counts
# loss = "margin"             # what is ascended (advkit list losses)
"""
