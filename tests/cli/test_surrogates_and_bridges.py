"""``--surrogate`` and attacks of other libraries on the command line."""

from __future__ import annotations

import subprocess
import sys
import warnings

import pytest
from command_line import Run

SIX = ("--samples", 6, "--format", "json")


def test_attacks_are_made_on_the_surrogate_and_the_row_and_the_json_say_so(run: Run) -> None:
    answer = run("attack", "--model", "lenet", "--surrogate", "resnet", "--attack", "mi-fgsm", "--eps", "16px", *SIX)
    assert answer.code == 0
    (row,) = answer.json["rows"]
    assert (row["attack"], row["surrogate"]) == ("mi-fgsm via resnet20", "resnet20")
    surrogate = answer.json["surrogate"]
    assert list(surrogate) == ["model", "weights", "accuracy", "low", "high"]
    assert (surrogate["model"], surrogate["weights"]) == ("resnet20", "embedded signs-standard")
    assert "made on resnet20, weights embedded signs-standard, and shown to lenet once" in answer.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--surrogate", "resnet"), "the surrogate resnet20 is the very model that is attacked"),
        (("--surrogate", "vgg"), "--surrogate vgg: advkit ships no weights for vgg16_bn"),
        (("--surrogate", "resnt"), "'resnt' is not the name of a backbone. Did you mean 'resnet'?"),
        (
            ("--surrogate", "lenet", "--adaptive", "--defense", "bits:4"),
            "--adaptive and --surrogate each say which model",
        ),
        (("--attack", "torchattack:pgd"), "'torchattack:pgd' is not the name of an attack"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(run: Run, words: tuple[str, ...], said: str) -> None:
    answer = run("attack", *words, *SIX)
    assert answer.code == 2
    assert said in answer.err
    assert "Traceback" not in answer.err


def test_attacks_of_foolbox_stand_in_the_table_beside_our_own(run: Run) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("foolbox")
    answer = run(
        "attack", "--attack", "foolbox:linf-pgd", "--attack", "pgd", "--steps", 5, "--set", "rel_stepsize=0.25", *SIX
    )
    assert answer.code == 0
    theirs, ours = answer.json["rows"]
    assert (theirs["attack"], ours["attack"]) == ("foolbox:linf-pgd", "pgd")
    assert theirs["backwards"] == 6 * 5
    assert theirs["forwards"] == 6 * 6
    assert 0 < theirs["median_distance"] <= 8 / 255 + 1e-9
    wrong = run("attack", "--attack", "foolbox:linf-pgd", "--set", "rel_stepsiz=1", *SIX)
    assert wrong.code == 2
    assert "Did you mean 'rel_stepsize'?" in wrong.err
    listed = run("list", "attacks", "--bridged", "--only", "foolbox:hop", "--format", "json").json["attacks"]
    assert [(row["attack"], row["knows"], row["norms"]) for row in listed] == [
        ("foolbox:hop-skip-jump", "decisions", "L2 Linf")
    ]


def test_looking_attacks_up_by_name_imports_no_other_library() -> None:
    code = (
        "import sys; from advkit.catalog import ATTACKS; ATTACKS.names();"
        "print(sorted({name.partition('.')[0] for name in sys.modules} & {'foolbox', 'torchattacks', 'art', 'eagerpy'}))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout == "[]\n"
