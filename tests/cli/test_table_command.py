"""``advkit table``: a sweep's results by rows and columns, in every format, against a baseline."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from command_line import Run
from stores import Made, cell_of, moved, small, staged

from advkit.results.grid import load_grid
from advkit.results.plain import blocks, plain
from advkit.results.table import RENDERERS, Table

ROOT = Path(__file__).parents[2]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return small(tmp_path / "study")


def test_the_table_says_what_it_is_of_and_how_to_read_it(run: Run, store: Path) -> None:
    answer = run("table", store)
    assert answer.code == 0
    assert answer.err == ""
    assert "Accuracy % on signs, n = 10, linf" in answer.out
    assert re.search(r"net +jpeg +80\.0 \[49\.0, 94\.3\] +50\.0 ", answer.out)
    assert "95 % Wilson interval" in answer.out
    assert "Worst case" in answer.out
    assert "\x1b" not in answer.out


def test_without_intervals_there_are_none(run: Run, store: Path) -> None:
    out = run("table", store, "--no-intervals").out
    assert re.search(r"net +none +80\.0 +30\.0 +10\.0 +0\.0\n", out)
    assert "Wilson" not in out


def test_json_is_the_grids_own(run: Run, store: Path) -> None:
    assert run("table", store, "--format", "json").json == json.loads(json.dumps(load_grid(store).to_json()))
    found = run("table", store, "--format", "json", "--filter", "attack=p*", "--filter", "defense=jpeg").json
    assert [(row["attack"], row["defense"]) for row in found["cells"]] == [("pgd", "jpeg")]
    assert [row["accuracy"] for row in found["clean"]] == [0.8]
    assert [row["accuracy"] for row in found["worst"]] == [0.6], "the worst case over the attacks that are left"


def test_csv_has_one_number_in_each_cell(run: Run, store: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(run("table", store, "--format", "csv", "--baseline", "defense=none").out)))
    assert [row["pgd 8/255"] for row in rows] == ["10", "60"]
    assert [row["pgd 8/255 difference"] for row in rows] == ["", "50"]
    assert all(
        float(value) >= 0 for row in rows for key, value in row.items() if key.endswith(" low") and "diff" not in key
    )


def test_long_has_one_line_in_each_row(run: Run, store: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(run("table", store, "--long", "--format", "csv").out)))
    assert [(row["defense"], row["attack"], float(row["accuracy"])) for row in rows if row["attack"] != "none"] == [
        ("none", "fgsm", 0.3), ("none", "pgd", 0.1), ("jpeg", "fgsm", 0.5), ("jpeg", "pgd", 0.6),
        ("none", "worst case", 0.0), ("jpeg", "worst case", 0.3),
    ]  # fmt: skip
    text = run("table", store, "--long").out
    assert "weights here, data signs, n 10" in text


def test_the_best_of_each_column_is_bold(run: Run, store: Path) -> None:
    out = run("table", store, "--format", "markdown", "--no-intervals").out
    assert "| net | jpeg | 80.0 | **50.0** | **60.0** | **30.0** |" in out
    assert "Bold" in out
    assert r"\textbf{60.0}" in run("table", store, "--format", "latex", "--no-intervals").out
    assert "<b>60.0</b>" in run("table", store, "--format", "html", "--no-intervals").out


def test_ties_are_bold_too_where_that_is_asked_for(run: Run, store: Path) -> None:
    out = run("table", store, "--format", "markdown", "--no-intervals", "--ties").out
    assert "| net | none | 80.0 | **30.0** | **10.0** | **0.0** |" in out, "of ten examples nothing can be told"
    assert "cannot be told from it" in out
    assert (
        "**30.0** |" not in run("table", store, "--format", "markdown", "--no-intervals", "--filter", "attack=fgsm").out
    )


def test_latex_puts_attacks_over_their_radii(run: Run, store: Path) -> None:
    out = run("table", store, "--format", "latex").out
    assert r"\multicolumn{1}{c}{pgd}" in out
    assert r"\cmidrule(lr){4-4}" in out
    assert out.count(r"\\") == 2 + 2 * 2, "two lines of heads, and each row's intervals below it"
    assert r"net & jpeg & 80.0 & \textbf{50.0} & \textbf{60.0} & \textbf{30.0} \\" in out
    assert r" &  & \scriptsize {[}49.0, 94.3] & " in out
    assert run("table", store, "--format", "latex", "--no-intervals").out.count(r"\\") == 4


def test_the_difference_to_a_baseline_is_that_of_the_same_examples(run: Run, tmp_path: Path) -> None:
    made = Made(tmp_path)
    made.put(cell_of(), [1] * 50)
    made.put(cell_of(defense="jpeg"), [1] * 50)
    made.put(cell_of("pgd"), [1] * 5 + [0] * 45, [1] * 50)
    made.put(cell_of("pgd", defense="jpeg"), [1] * 5 + [1] * 20 + [0] * 25, [1] * 50)
    found = run("table", tmp_path, "--format", "json", "--baseline", "net/none").json["differences"]
    (row,) = (row for row in found if row["attack"] == "pgd")
    assert (row["value"], row["gained"], row["lost"], row["pairs"]) == (0.4, 20, 0, 50)
    assert row["p"] == pytest.approx(2 / 2**20)
    assert row["p_holm"] == pytest.approx(3 * row["p"], rel=1e-6), "clean, pgd and the worst case are three tests"
    out = run("table", tmp_path, "--baseline", "defense=none").out
    assert "+40.0 *** [" in out
    assert "Holm-adjusted for the 3 tests" in out


def test_a_baseline_that_is_filtered_out_still_counts(run: Run, store: Path) -> None:
    out = run("table", store, "--filter", "defense=jpeg", "--baseline", "defense=none", "--no-intervals").out
    assert re.search(r"net +jpeg +80\.0 \+0\.0 +50\.0 \+20\.0 +60\.0 \+50\.0", out)


def test_attacks_can_be_compared_too(run: Run, store: Path) -> None:
    found = run("table", store, "--baseline", "attack=fgsm", "--format", "json").json["differences"]
    assert {(row["defense"], row["attack"], round(row["value"], 3)) for row in found} == {
        ("none", "pgd", -0.2), ("jpeg", "pgd", 0.1)
    }  # fmt: skip


def test_worst_cases_over_each_others_pictures_are_compared(run: Run, tmp_path: Path) -> None:
    moved(tmp_path)
    found = run("table", tmp_path, "--baseline", "model=ann", "--filter", "defense=none", "--format", "json").json
    worst = {row["model"]: row["value"] for row in found["differences"] if row["attack"] == "worst case"}
    assert worst == {"bob": 0.25, "cid": 0.5}


def test_a_baseline_without_its_like_is_said_to_be_none(run: Run, store: Path) -> None:
    out = run("table", store, "--filter", "attack=pgd", "--filter", "defense=jpeg", "--baseline", "attack=fgsm").out
    assert "No line has its like" not in out
    out = run("table", store, "--filter", "attack=pgd", "--baseline", "attack=pgd").out
    assert "No line has its like in attack=pgd, so that nothing is compared." in " ".join(out.split())
    assert "McNemar" not in out


def test_what_an_attack_was_made_on_can_be_compared(run: Run, tmp_path: Path) -> None:
    moved(tmp_path)
    found = run("table", tmp_path, "--baseline", "surrogate=itself", "--format", "json").json["differences"]
    assert [(row["model"], row["defense"], row["attack"], row["value"]) for row in found if row["model"] != "bob"] == [
        ("ann", "none", "pgd via bob", 0.5),
        ("ann", "none", "pgd via cid", 0.5),
        ("cid", "none", "pgd via ann", 0.0),
        ("cid", "none", "pgd via bob", 0.0),
        ("cid", "jpeg", "pgd (oblivious)", 0.5),
    ]


def test_a_whole_attack_or_a_stage_of_it_is_a_baseline(run: Run, tmp_path: Path) -> None:
    made = Made(staged(tmp_path))
    made.put(cell_of("pgd"), [0, 0, 0, 1], [1] * 4)
    for chosen, value in (("both", -0.25), ("first", -0.5), ("both: first", -0.5)):
        found = run("table", tmp_path, "--baseline", f"attack={chosen}", "--format", "json").json["differences"]
        assert [row["value"] for row in found if row["attack"] == "pgd"] == [value]


def test_a_row_says_what_its_pictures_were_made_on(run: Run, tmp_path: Path) -> None:
    moved(tmp_path)
    cells = run("table", tmp_path, "--format", "json").json["cells"]
    assert {row["attack"]: row.get("surrogate") for row in cells if row["model"] == "ann"} == {
        "pgd": None, "pgd via bob": "bob", "pgd via cid": "cid"
    }  # fmt: skip
    rows = list(csv.DictReader(io.StringIO(run("table", tmp_path, "--long", "--format", "csv").out)))
    assert {row["surrogate"] for row in rows} == {"", "ann", "bob", "cid"}


def test_in_latex_stars_are_raised_and_differences_stand_below(run: Run, tmp_path: Path) -> None:
    made = Made(tmp_path)
    made.put(cell_of("pgd"), [1] * 5 + [0] * 45, [1] * 50)
    made.put(cell_of("pgd", defense="jpeg"), [1] * 25 + [0] * 25, [1] * 50)
    out = run("table", tmp_path, "--baseline", "defense=none", "--format", "latex").out
    assert r"\scriptsize +40.0$^{***}$ [+26.0, +54.0]" in out
    assert r"\addlinespace" in out


def test_the_success_of_attacks_is_shown_on_demand(run: Run, store: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(run("table", store, "--value", "success", "--format", "csv").out)))
    assert [(row["fgsm 8/255"], row["pgd 8/255"]) for row in rows] == [("62.5", "87.5"), ("37.5", "25")]
    assert "clean" not in rows[0], "without attack nothing succeeds"
    assert float(rows[0]["fgsm 8/255 low"]) < 62.5 < float(rows[0]["fgsm 8/255 high"])
    out = run("table", store, "--value", "success", "--format", "markdown", "--no-intervals").out
    assert "| net | jpeg | **37.5** | **25.0** |" in out, "of models the one is best that withstands most"
    assert "Bold: the lowest of its column." in out


def test_an_attack_of_stages_has_the_passes_and_distances_of_all(run: Run, tmp_path: Path) -> None:
    staged(tmp_path)
    passes = run("table", tmp_path, "--value", "passes", "--stages", "--format", "csv").out.splitlines()
    assert passes == ["model,defense,both: first 8/255,both 8/255,worst case 8/255", "net,none,16,32,32"]
    assert "net,none,0.01" in run("table", tmp_path, "--value", "distance", "--format", "csv").out
    (worst,) = run("table", tmp_path, "--format", "json").json["worst"]
    assert (worst["forwards"], worst["backwards"]) == (16, 16)


def test_a_mean_over_seeds_has_its_deviation(run: Run, tmp_path: Path) -> None:
    made = Made(tmp_path)
    made.put(cell_of(), [1] * 4)
    for seed, stands in enumerate(([1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0])):
        made.put(cell_of("pgd", seed=seed), stands, [1] * 4)
    out = run("table", tmp_path, "--mean", "seed").out
    assert re.search(r"net +none +100\.0 +50\.0 ± 25\.0 +50\.0 ± 25\.0\n", out)
    assert "Mean over 3 seeds; behind ± the standard deviation." in out
    (row,) = csv.DictReader(io.StringIO(run("table", tmp_path, "--mean", "seed", "--format", "csv").out))
    assert [row[f"pgd 8/255{part}"] for part in ("", " sd", " count")] == ["50", "25", "3"]
    made.put(cell_of("pgd", defense="jpeg"), [1, 1, 1, 0], [1] * 4)
    assert "**75.0**" in run("table", tmp_path, "--mean", "seed", "--format", "markdown").out


def test_made_up_results_say_so_in_every_table(run: Run, tmp_path: Path) -> None:
    Made(tmp_path).put(cell_of("pgd"), [1, 0], [1, 1], made_up=True)
    for form in ("table", "markdown", "latex", "html"):
        assert "MADE-UP RESULTS" in run("table", tmp_path, "--format", form).out
    assert all(row["made_up"] for row in run("table", tmp_path, "--format", "json").json["cells"])
    assert "made_up" in run("table", tmp_path, "--long", "--format", "csv").out


def test_the_caption_says_what_attacks_were_made_on(run: Run, tmp_path: Path) -> None:
    moved(tmp_path)
    out = " ".join(run("table", tmp_path).out.split())
    assert "Oblivious: made on the model without its defense, and replayed." in out
    assert "Via a model: made on that model, and shown to this one once." in out
    out = " ".join(run("table", tmp_path, "--filter", "surrogate=itself").out.split())
    assert "Oblivious" not in out
    assert "Via" not in out


def test_unfinished_cells_are_marked_and_explained(run: Run, tmp_path: Path) -> None:
    made = Made(tmp_path)
    made.put(cell_of("pgd"), [1, 0], [1, 1], wanted=8)
    out = run("table", tmp_path).out
    assert "50.0† [" in out
    assert "(fewest: 2 of 8)" in " ".join(out.split())


def test_older_code_is_hidden_unless_asked_for(run: Run, tmp_path: Path) -> None:
    made = Made(tmp_path)
    made.put(cell_of("pgd", code="old"), [1, 1], [1, 1], made="2025-01-01T00:00:00Z")
    del made.samples[cell_of("pgd", code="old").key]
    made.put(cell_of("pgd"), [1, 0], [1, 1])
    hidden = run("table", tmp_path, "--no-intervals").out
    assert "1 cell of older code" in hidden
    assert "100.0" not in hidden.replace("100.0   50.0", "")
    shown = run("table", tmp_path, "--no-intervals", "--outdated").out
    assert "old (outdated)" in shown


def test_a_file_is_written_in_the_format_of_its_name(run: Run, store: Path, tmp_path: Path) -> None:
    for name, begin in (
        ("t.md", "Acc"),
        ("t.csv", "model,"),
        ("t.json", "{"),
        ("t.tex", "%"),
        ("t.html", "<!doc"),
        ("t.txt", "Acc"),
    ):
        answer = run("table", store, "--out", tmp_path / name)
        assert (answer.code, answer.out) == (0, "")
        assert (tmp_path / name).read_text(encoding="utf-8").startswith(begin)
    assert sorted(path.suffix for path in tmp_path.glob("*.part")) == []


def test_odd_names_stay_what_they_are(run: Run, tmp_path: Path) -> None:
    odd = '<b>odd & "na|me"</b>_$%*'
    made = Made(tmp_path)
    made.put(cell_of("pgd", model=odd), [1, 0], [1, 1])
    page = run("table", tmp_path, "--format", "html").out
    assert "<b>odd" not in page

    class Cells(HTMLParser):
        found: list[str] = []  # noqa: RUF012

        def handle_data(self, data: str) -> None:
            self.found.append(data)

    Cells().feed(page)
    assert odd in Cells.found
    assert odd in next(csv.reader(io.StringIO(run("table", tmp_path, "--format", "csv").out.partition("\n")[2])))
    line = run("table", tmp_path, "--format", "markdown").out.splitlines()[4]
    assert line.replace("\\|", "").count("|") == 6


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("pdflatex"), reason="pdflatex is not installed")
def test_latex_compiles(run: Run, tmp_path: Path) -> None:
    made = Made(tmp_path / "store")
    for defense in ("none", "50 % & _$#{}~^\\<>|", "[odd]*", "défense ε ≤ 1 × 2 → ∞"):
        for seed in (0, 1):
            more = {"defense": defense, "seed": seed}
            made.put(cell_of("pgd", **more), [1, 0, 1], [1, 1, 1], wanted=4)
            made.put(cell_of("fgsm_fast", "4/255", **more), [0, 0, seed], [1, 1, 1])
    asked: list[tuple[str, ...]] = [
        ("--baseline", "defense=none"),
        ("--mean", "seed", "--value", "success"),
        ("--ties", "--no-intervals", "--rows", "attack,eps", "--columns", "defense"),
        ("--long",),
    ]
    tables = [run("table", tmp_path / "store", "--format", "latex", *args).out for args in asked]
    tables.append(run("table", moved(tmp_path / "moved"), "--format", "latex", "--stages").out)
    tables.append(run("results", "compare", tmp_path / "store", tmp_path / "moved", "--format", "latex").out)
    tables.append(run("results", "list", tmp_path / "store", "--format", "latex").out)
    text = "\n\n".join([r"\documentclass{article}\usepackage{booktabs}\begin{document}", *tables, r"\end{document}"])
    (tmp_path / "t.tex").write_text(text, encoding="utf-8")
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        errors="replace",
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "t.pdf").stat().st_size > 0


WIDE = Table(
    ("model", *"abcdef"),
    (("net", *["53.4\n49.0-57.7"] * 6), ("日本", *["1.0"] * 6)),
    align="l" + "r" * 6,
    over=("", "pgd", "pgd", "pgd", "fgsm", "fgsm", "fgsm"),
    bold=frozenset({(0, 1)}),
)


@pytest.mark.parametrize("width", [24, 40, 60, 80, 200])
def test_parts_fit_the_screen_and_hold_every_column_once(width: int) -> None:
    parts = blocks(WIDE, 1, width)
    assert all(len(line) <= width for part in parts for line in plain(part).splitlines())
    assert [head for part in parts for head in part.heads[1:]] == list("abcdef")
    assert all(part.heads[0] == "model" for part in parts)


def test_columns_of_one_attack_stay_together_where_they_can() -> None:
    assert ["".join(part.heads[1:]) for part in blocks(WIDE, 1, 45)] == ["abc", "def"]


def test_only_the_number_is_bold_and_not_its_interval() -> None:
    assert "\x1b[1m53.4\x1b[0m" in plain(WIDE, bold=True)
    assert plain(WIDE, bold=True).count("\x1b[1m") == 1
    assert "**53.4** 49.0-57.7" in RENDERERS["markdown"](WIDE)


@pytest.mark.parametrize(
    ("args", "parts"),
    [
        (("--filter", "atack=x"), ("'atack'", "'attack'")),
        (("--filter", "attack=pdg"), ("attack=pdg", "'pgd'", "fgsm, none, pgd")),
        (("--filter", "attack"), ("'attack'", "KEY=VALUE")),
        (("--rows", "modl"), ("'modl'", "'model'")),
        (("--rows", "model", "--columns", "attack,model"), ("model", "twice")),
        (("--rows", ""), ("--rows",)),
        (("--sort", "pdg"), ("--sort pdg", "'pgd'")),
        (("--reverse",), ("--sort",)),
        (("--baseline", "nett"), ("nett", "'net'")),
        (("--baseline", "defense=jpg"), ("defense=jpg", "'jpeg'")),
        (("--baseline", "eps=8/255"), ("eps",)),
        (("--baseline", "model=net", "--value", "success"), ("--value", "accuracy")),
        (("--baseline", "model=net", "--mean", "seed"), ("--mean",)),
        (("--ties", "--value", "success"), ("--ties", "--value")),
        (("--value", "sucess"), ("'sucess'", "'success'")),
        (("--mean", "attack"), ("attack", "seed", "weights", "model")),
        (("--mean", "model"), ("--rows",)),
        (("--format", "jsn"), ("'jsn'", "'json'")),
        (("--out", "x.foo"), ("x.foo", ".tex", "--format")),
    ],
)
def test_bad_input_is_refused(refused: object, store: Path, args: tuple[str, ...], parts: tuple[str, ...]) -> None:
    said = refused("table", store, *args)  # type: ignore[operator]
    assert all(part in said for part in parts), said


def test_a_folder_without_results_is_refused(refused: object, tmp_path: Path) -> None:
    assert "holds no results" in refused("table", tmp_path)  # type: ignore[operator]


def test_neither_help_nor_a_table_loads_torch(store: Path) -> None:
    code = (
        "import sys\nfrom advkit.cli import main\n"
        "try: main(sys.argv[1:])\nexcept SystemExit: pass\n"
        "sys.stderr.write(' '.join(sorted({m.partition('.')[0] for m in sys.modules} & {'torch', 'numpy', 'scipy'})))"
    )
    for args, loaded in (
        (["table", "--help"], ""),
        (["results", "list", "--help"], ""),
        (["table", str(store)], "numpy scipy"),
    ):
        done = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, cwd=ROOT, check=True)
        assert done.stderr == loaded


@pytest.mark.slow
def test_a_thousand_cells_take_seconds(tmp_path: Path) -> None:
    script = ["scripts/made_up_store.py", str(tmp_path / "s"), "--apart", "--models", "10", "--defenses", "5", "--attacks", "5",
              "--radii", "4", "--examples", "1000", "--pictures", "0"]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, *script], cwd=ROOT, check=True, capture_output=True, env=environment)
    code = (
        "import sys, time\nfrom advkit.cli import main\n"
        "try: main(sys.argv[1:])\nfinally: sys.stderr.write(str(time.process_time()))"
    )
    command = [sys.executable, "-c", code, "table", str(tmp_path / "s")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 0
    assert float(done.stderr) < 3  # of processor time: 0.7 here
