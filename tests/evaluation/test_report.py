"""The report: its numbers against ones computed otherwise, and what it makes of damaged files."""

import re
import shutil
from functools import partial
from pathlib import Path

import pytest

from music_emotion.config import build_experiment, experiment_to_dict
from music_emotion.evaluation.blend_runs import blend_runs
from music_emotion.evaluation.report import read_report
from music_emotion.evaluation.report_tables import code, make_page, markdown, plain
from music_emotion.files import InputError, read_json, write_json

TITLE = "`data/own`: valence and energy, 60 clips"
BOTH = ["valence", "energy"]


@pytest.fixture(scope="module")
def write_in(leave_in, truth, noisy):
    """Leave a run of this much noise: `write_in(runs, "one", 0.3, {"train": {"epochs": 3}})`."""

    def write_run(runs, name, noise, settings=None, known=truth, **folds) -> None:
        seeds = (settings or {}).get("seeds", [0])
        leave_in(runs, name, known, {k: noisy(noise, k + 1)[list(known)] for k in seeds}, settings, **folds)

    return write_run


@pytest.fixture
def write(runs, write_in):
    """As `write_in`, in a folder of the test's own."""
    return partial(write_in, runs)


def page_of(runs: Path, experiments: Path = Path("none"), **arguments) -> str:
    report = read_report(runs, runs.parent / "submissions")
    return make_page(report, "music-emotion report", experiments, **arguments)


@pytest.fixture(scope="module")
def runs_of_all_kinds(tmp_path_factory, leave_in, write_in, truth, genres):
    """Runs that tests must not change."""
    runs = tmp_path_factory.mktemp("report") / "runs"
    write_in(runs, "usual", 0.4, {"seeds": [0]})
    write_in(runs, "better", 0.1, {"seeds": [1], "train": {"epochs": 3}})
    write_in(runs, "alike", 0.4, {"seeds": [5], "train": {"epochs": 4}})
    write_in(runs, "first", 0.1, {"train": {"epochs": 3}, "seeds": [4]}, only=[0])
    write_in(runs, "thirds", 0.4, {"train": {"epochs": 3}, "folds": {"n": 3}}, only=range(3), n_folds=3)
    data = {"root": "data/own", "targets": ["energy"]}
    write_in(runs, "single", 0.1, {"data": data, "seeds": [6]}, known=truth[["energy"]])
    turned = truth.iloc[::-1].set_index(truth.index)  # the same ids in another set
    write_in(runs, "foreign", 0.2, {"data": {"root": "data/other"}}, known=turned)
    write_in(runs, "relabelled", 0.2, {"train": {"epochs": 3}}, known=turned + 1)
    blend_runs([runs / "usual", runs / "better"], runs / "both", "z-score", 0.5)
    known, guessed = genres()
    leave_in(runs, "genres", known, {0: guessed}, {"task": "genre", "train": {"select": "best-score"}}, [0])
    split = {"data": {"root": "data/own"}, "folds": {"split": "holdout"}, "seeds": [0, 1], "name": "split"}
    write_json(runs / "split" / "experiment.json", experiment_to_dict(build_experiment(split, "test")))
    score = {"value": 0.5, "sd": 0.1234, "low": 0.4, "high": 0.6}
    one = {"value": 0.25, "sd": None, "low": 0.25, "high": 0.25}
    repeated = {"test": {"energy": score, "mean": score}, "last": {"energy": one, "mean": one}}
    repeats = [{"seed": 0, "n_test": 9}, {"seed": 1, "n_test": 11}]
    write_json(runs / "split" / "scores.json", {"repeats": repeats, "repeated": repeated})
    return runs


@pytest.fixture(scope="module")
def page(runs_of_all_kinds):
    """The page of these runs: `page(headline=["valence"])`."""
    return partial(
        make_page, read_report(runs_of_all_kinds, Path("none")), "music-emotion report", Path("none")
    )


def read_rows(text: str) -> list[dict[str, str]]:
    lines = [re.split(r"\s+\| ", line[2:-2].strip()) for line in text.splitlines() if line.startswith("|")]
    return [dict(zip(lines[0], cells, strict=True)) for cells in lines[2:]] if lines else []


def tables(text: str) -> dict[str, list[dict[str, str]]]:
    """The rows of every first table of a page by heading, as they would be read."""
    parts = [part.partition("\n") for part in text.split("\n## ")[1:]]
    return {title: read_rows(rest.partition("\nOther measures")[0]) for title, _, rest in parts}


def row(rows: list[dict[str, str]], name: str) -> dict[str, str]:
    (found,) = [row for row in rows if row["run"].split("`")[1] == name]
    return found


def unsigned(difference: str) -> str:
    return difference.replace("[+", "[").replace(", +", ", ")


def test_scores_intervals_and_pairs_are_those_of_the_resampled_scores(page, truth, noisy, cells):
    rows = tables(page())[TITLE]
    means = [float(each["mean"].split()[0]) for each in rows]
    assert means == sorted(means, reverse=True)
    usual = noisy(0.4, 1)
    for name, table, mark in (("better", noisy(0.1, 2), "**"), ("alike", noisy(0.4, 6), "")):
        shown = row(rows, name)
        mean, of_usual, difference, _ = cells("emotion", truth, (table, usual), BOTH)
        assert (shown["mean"], row(rows, "usual")["mean"]) == (mean, of_usual)
        assert shown["energy"] == cells("emotion", truth, (table, usual), ["energy"])[0]
        assert shown["difference to `usual`"] == f"{mark}{unsigned(difference)}{mark}, n = 60"
    assert row(rows, "usual")["difference to `usual`"] == "the default"


def test_headline_default_and_ablations_can_be_named(page, truth, noisy, cells):
    shown = row(tables(page(headline=["valence"]))[TITLE], "better")
    difference = cells("emotion", truth, (noisy(0.1, 2), noisy(0.4, 1)), ["valence"])[2]
    assert shown["mean of valence"] == shown["valence"] != shown["mean"]
    assert unsigned(difference) in shown["difference to `usual`"]
    assert row(tables(page(default="better"))[TITLE], "better")["difference to `better`"] == "the default"
    varied = tables(page(ablations=["usual"]))["Ablations of `usual`"]  # without those of other folds
    assert {each["run"]: each["setting"] for each in varied} == {
        "`better`": "`seeds [1]`, `train.epochs 3`",
        "`alike`": "`seeds [5]`, `train.epochs 4`",
        "`usual`": "–",
    }
    with pytest.raises(InputError, match="'bettre' has no out-of-fold scores; did you mean 'better'"):
        page(default="bettre")
    with pytest.raises(InputError, match=r"target 'valenec' of --headline; did you mean 'valence'\?"):
        page(headline=["valenec"])
    with pytest.raises(InputError, match=r"'both' has .* as a blend no settings; choose from alike, better"):
        page(ablations=["both"])


def test_runs_of_fewer_clips_or_targets_are_compared_over_theirs(page, truth, noisy, folds, cells):
    found = tables(page(headline=["valence"], default="usual"))
    shown = row(found["`data/own`: valence and energy, 12 clips"], "first")
    pair = noisy(0.1, 5)[folds == 0], noisy(0.4, 1)[folds == 0]
    difference = cells("emotion", truth[folds == 0], pair, ["valence"])[2]
    assert (shown["folds"], shown["seeds"]) == ("1 of 5", "1")
    assert shown["difference to `usual`"] == f"{unsigned(difference)}, n = 12"
    shown = row(found["`data/own`: energy, 60 clips"], "single")
    difference = cells("emotion", truth, (noisy(0.1, 7), noisy(0.4)), ["energy"])[2]
    assert shown["difference to `usual`"].startswith(f"**{unsigned(difference)}**")
    assert not [name for name in shown if name.startswith("mean")]
    other = "`data/other`: valence and energy, 60 clips"  # the same ids in another set are other clips
    titles = [title for title in found if "valence and energy, 60" in title]
    assert titles == [other, TITLE, f"{TITLE} (other labels, 2)"]


def test_genre_runs_and_repeats_have_their_rows(page, runs_of_all_kinds):
    found = tables(page())
    cells = row(found["`data/own`: genres"], "genres")
    scores = read_json(runs_of_all_kinds / "genres" / "scores.json")["pooled"]
    for name, title in {"accuracy": "accuracy", "macro_f1": "macro F1", "weighted_f1": "weighted F1"}.items():
        score = scores[name]
        assert cells[title] == f"{score['value']:.3f} [{score['low']:.3f}, {score['high']:.3f}]"
    assert cells["run"] == "`genres` *(selected on validation)*"
    assert (cells["clips"], cells["classes"], cells["folds"]) == ("12, out of fold", "3", "1 of 5")
    first, last = found["`data/own`: energy, repeated splits"]
    assert (first["energy"], last["energy"]) == ("0.500 ± 0.123 [0.400, 0.600]", "0.250 [0.250, 0.250]")
    assert (first["seeds"], first["clips"]) == ("2", "9 to 11, test split")
    assert last["run"] == "`split`, last epoch"


def test_costs_are_added_up_over_folds_and_seeds_also_of_earlier_versions(write, runs):
    write("usual", 0.4, {"seeds": [0, 1]})
    cells = row(tables(page_of(runs))["Cost"], "usual")
    assert (cells["folds"], cells["minutes"], cells["per fold"]) == ("10", "15.0", "1.5")
    assert (cells["weights"], cells["memory"], cells["GPU memory"]) == ("1,234,567", "1.54 GB", "–")
    for path in runs.rglob("cost.json"):  # earlier versions kept the seconds of every epoch alone
        path.with_name("metrics.csv").write_text("epoch,seconds\n1,3.0\n2,6.0\n")
        path.unlink()
    cells = row(tables(page_of(runs))["Cost"], "usual")
    assert (cells["minutes"], cells["per fold"], cells["weights"]) == ("1.5", "0.15", "–")
    assert (cells["device"], cells["precision"], cells["threads"]) == ("cpu", "bf16", "–")


def other_value(scores: dict) -> None:
    scores["pooled"]["valence"]["value"] = 0.01


def no_score_of_a_seed(scores: dict) -> None:
    del scores["per_seed"]["0"]["energy"]


DAMAGES = (  # a file, its content or what changes it, and a part of the sentence
    ("scores.json", b'{"pooled"', r"is not valid JSON .* Delete it to write it"),
    ("scores.json", b'{"pooled": {"energy": {"low": 0}}}', r"pooled\.energy\.value is missing"),
    ("scores.json", b"{}", "holds no scores"),
    ("scores.json", other_value, "give other scores than scores.json holds"),
    ("scores.json", no_score_of_a_seed, "holds no 'energy' of a single seed or fold"),
    ("scores.json", None, r"is not finished: .* 5 trained folds"),
    ("oof.csv", None, r"oof\.csv does not exist"),
    ("truth.csv", b"\xff\xfe\x00", r"truth\.csv"),
    ("truth.csv", b"Id,valence,energy\n1,.5,.5\n", r"are not of the same clips and columns"),
    ("vote.json", b'{"members": "one"}', r"vote\.json: input should be a valid list"),
    ("experiment.json", b'{"trian": {}}', r"unknown key 'trian'; did you mean 'train'\?"),
    ("seed0/fold1/cost.json", b'{"seconds": "x"}', r"cost\.json: seconds is 'x'; input should be a valid"),
)


def damage(path: Path, change) -> None:
    if change is None:
        path.unlink()
    elif isinstance(change, bytes):
        path.write_bytes(change)
    else:
        change(scores := read_json(path))
        write_json(path, scores)


def test_what_is_damaged_is_listed_with_a_sentence(write, runs, tmp_path):
    write("usual", 0.4)
    whole = page_of(runs)
    write("broken-0", 0.3)
    for number, (file, change, _) in enumerate(DAMAGES):
        if number:
            shutil.copytree(runs / "usual", runs / f"broken-{number}")
        damage(runs / f"broken-{number}" / file, change)
    problem = {"problem": f"{runs}/nan: the loss is nan in epoch 3.", "experiments": []}
    write_json(runs / "nan" / "diverged.json", problem)
    card = {"file": "a-2026-02-03.csv", "runs": ["runs/usual"], "commit": "abc", "leaderboard": 0.6125}
    write_json(tmp_path / "submissions" / "a.json", card | {"out_of_fold": {"mean": {"value": 0.5}}})
    write_json(tmp_path / "submissions" / "damaged.json", {"file": 1})
    others, problems = page_of(runs).split("\n\n## Without numbers")
    others, submissions = others.split("\n\n## Submissions")
    assert others == whole.rstrip("\n")  # as before
    assert "| 2026-02-03 | `a-2026-02-03.csv` | `usual` | abc      | 0.500  | 0.6125        |" in submissions
    assert "- `damaged.json`: damaged.json: file is 1; input should be a valid string. " in problems
    for number, (_, _, sentence) in enumerate(DAMAGES):
        (line,) = re.findall(f"^- `broken-{number}`: .*$", problems, re.MULTILINE)
        assert re.search(sentence, line)
    assert "- `nan`: Its training diverged. nan: the loss is nan in epoch 3." in problems
    assert str(tmp_path) not in problems


def test_a_run_is_called_by_its_files_comment_or_by_its_settings(write, runs, tmp_path):
    write("usual", 0.4)
    write("own", 0.4, {"train": {"epochs": 3}, "model": {"widths": [8, 16]}})
    write("named", 0.4, {"train": {"epochs": 7}})
    write("changed", 0.4, {"train": {"epochs": 9}})
    experiments = tmp_path / "experiments"
    experiments.mkdir()
    for name in ("named", "changed"):
        (experiments / f"{name}.toml").write_text(
            f'# One | two,\n# three.\nname = "{name}"\n# not this\n[train]\nepochs = 7\n'
        )
    (experiments / "own.toml").write_text('name = "own"\n[train]\nepochs = 3\n')  # no comment
    text = page_of(runs, experiments)
    assert {row["run"]: row["what"] for row in tables(text)[TITLE]} == {
        "`own`": "`model.widths [8, 16]`, `train.epochs 3`",
        "`named`": "One \\| two, three.",
        "`changed`": "One \\| two, three. Here with `train.epochs 9`.",
        "`usual`": "the default",
    }
    moved = shutil.copytree(runs, tmp_path / "elsewhere" / "folder")  # the page tells nothing of the place
    assert page_of(moved, experiments) == text


def test_other_measures_have_a_table_and_groups_are_resampled(write, runs, truth, noisy, artists, cells):
    write("usual", 0.4)
    write("grouped", 0.1, {"train": {"epochs": 3}}, groups=artists)
    text = page_of(runs)
    difference = cells("emotion", truth, (noisy(0.1), noisy(0.4)), BOTH, artists)[2]
    assert unsigned(difference) in row(tables(text)[TITLE], "grouped")["difference to `usual`"]
    scores = {name: read_json(runs / name / "scores.json") for name in ("usual", "grouped")}
    rows = read_rows(text.partition("\nOther measures")[2].partition("\n## ")[0])
    assert [(each["run"], each["target"]) for each in rows] == [
        (f"`{name}`", target) for name in ("grouped", "usual") for target in (*BOTH, "mean")
    ]
    for each in rows:
        known = {m: s[each["target"]] for m, s in scores[each["run"].strip("`")]["measures"].items()}
        for title, measure in {"R²": "r2", "Pearson": "pearson", "CCC": "ccc", "RMSE": "rmse"}.items():
            assert each[title] == "{value:.3f} [{low:.3f}, {high:.3f}]".format(**known[measure])
    for name, held in scores.items():
        del held["measures"]  # as of earlier versions
        write_json(runs / name / "scores.json", held)
    assert "Other measures" not in page_of(runs)


def test_marks_of_markdown_in_names_are_text():
    row = {plain("valence_2, <b>$x|_y"): "1", code("a|b"): "2", code("`tick`"): "3"}
    header = "| valence_2, &#60;b&#62;&#36;x&#124;&#95;y   | `a\\|b`   | `` `tick` ``   |"
    assert markdown([row]).splitlines()[0] == header
