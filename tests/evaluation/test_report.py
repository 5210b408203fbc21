"""The report: its numbers against ones computed otherwise, and what it makes of damaged files."""

import json
import re
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import rankdata, spearmanr, zscore

from music_emotion.config import build_experiment, experiment_to_dict
from music_emotion.evaluation.blend_runs import blend_runs
from music_emotion.evaluation.report import read_report
from music_emotion.evaluation.report_tables import make_page
from music_emotion.evaluation.scores import score_run
from music_emotion.files import InputError, read_json, write_json, write_predictions

GENRES = ["Blues", "Folk", "Jazz"]
TITLE = "`data/own`: valence and energy, 60 clips"
BOTH = ["valence", "energy"]


@pytest.fixture(scope="module")
def write_in(leave_in, truth, noisy):
    """Leave a run of this much noise: `write_in(runs, "one", 0.3, {"train": {"epochs": 3}})`."""

    def write_run(runs, name, noise, settings=None, only=range(5), known=truth) -> None:
        seeds = (settings or {}).get("seeds", [0])
        leave_in(runs, name, known, {k: noisy(noise, k + 1)[list(known)] for k in seeds}, settings, only)

    return write_run


@pytest.fixture
def write(runs, write_in):
    """As `write_in`, in a folder of the test's own."""
    return partial(write_in, runs)


def page_of(runs: Path, experiments: Path = Path("none"), **arguments) -> str:
    report = read_report(runs, runs.parent / "submissions")
    return make_page(report, "music-emotion report", experiments, **arguments)


def write_genre_run(runs: Path, name: str, select: str = "last", part: str = "valid") -> None:
    rng = np.random.default_rng(0)
    known, ids = rng.integers(0, 3, 40), pd.Index(range(1, 41), name="Id")
    truth = pd.DataFrame(np.eye(3)[known], ids, GENRES)
    settings = {"data": {"root": "data/own"}, "task": "genre", "train": {"select": select}, "name": name}
    experiment = build_experiment(settings, "test")
    write_json(runs / name / "experiment.json", experiment_to_dict(experiment))
    write_predictions(runs / name / f"seed0/fold0/{part}.csv", truth + rng.random((40, 3)))
    score_run(runs / name, experiment, truth, part)


@pytest.fixture(scope="module")
def runs_of_all_kinds(tmp_path_factory, write_in, truth):
    """Runs that tests must not change."""
    runs = tmp_path_factory.mktemp("report") / "runs"
    write_in(runs, "usual", 0.4, {"seeds": [0]})
    write_in(runs, "better", 0.1, {"seeds": [1], "train": {"epochs": 3}})
    write_in(runs, "alike", 0.4, {"seeds": [5], "train": {"epochs": 4}})
    write_in(runs, "three", 0.3, {"seeds": [0, 1, 2], "train": {"epochs": 5}})
    write_in(runs, "first", 0.1, {"train": {"epochs": 3}, "seeds": [4]}, only=[0])
    data = {"root": "data/own", "targets": ["energy"]}
    write_in(runs, "single", 0.1, {"data": data, "seeds": [6]}, known=truth[["energy"]])
    turned = truth.iloc[::-1].set_index(truth.index)  # the same ids in another set
    write_in(runs, "foreign", 0.2, {"data": {"root": "data/other"}}, known=turned)
    write_in(runs, "relabelled", 0.2, {"train": {"epochs": 3}}, known=turned + 1)
    blend_runs([runs / "usual", runs / "better"], runs / "both", "z-score", 0.5)
    write_genre_run(runs, "genres", select="best-score")
    write_genre_run(runs, "pretrain", part="test")
    settings = {"name": "split", "data": {"root": "data/own"}, "folds": {"split": "holdout"}, "seeds": [0, 1]}
    write_json(runs / "split" / "experiment.json", experiment_to_dict(build_experiment(settings, "test")))
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


def tables(text: str) -> dict[str, list[dict[str, str]]]:
    """The rows of every table of a page by heading, as they would be read."""
    found = {}
    for part in text.split("\n## ")[1:]:
        title, _, rest = part.partition("\n")
        lines = [
            re.split(r"\s+\| ", line[2:-2].strip()) for line in rest.splitlines() if line.startswith("|")
        ]
        found[title] = [dict(zip(lines[0], cells, strict=True)) for cells in lines[2:]] if lines else []
    return found


def row(rows: list[dict[str, str]], name: str) -> dict[str, str]:
    (found,) = [row for row in rows if row["run"].split("`")[1] == name]
    return found


def resampled(truth, table, targets) -> np.ndarray:
    """Mean correlation in 2000 resamples, as one minus half the squared distance of standardised ranks."""
    drawn = np.random.default_rng(0).integers(0, len(truth), (2000, len(truth)))
    ranks = [zscore(rankdata(each[targets].to_numpy()[drawn], axis=1), axis=1) for each in (truth, table)]
    return (1 - ((ranks[0] - ranks[1]) ** 2).mean(axis=1) / 2).mean(axis=1)


def bounds(drawn: np.ndarray) -> str:
    low, high = np.quantile(drawn, [0.025, 0.975])
    return f"[{low:.3f}, {high:.3f}]"


def correlation(truth, table, targets) -> float:
    return float(np.mean([spearmanr(truth[name], table.loc[truth.index, name])[0] for name in targets]))


def test_scores_intervals_and_pairs_are_those_computed_by_hand(page, truth, noisy):
    rows = tables(page())[TITLE]
    means = [float(each["mean"].split()[0]) for each in rows]
    assert means == sorted(means, reverse=True)
    usual, usual_mean = resampled(truth, noisy(0.4, 1), BOTH), correlation(truth, noisy(0.4, 1), BOTH)
    for name, table in {"usual": noisy(0.4, 1), "better": noisy(0.1, 2), "alike": noisy(0.4, 6)}.items():
        cells, drawn, mean = row(rows, name), resampled(truth, table, BOTH), correlation(truth, table, BOTH)
        energy = correlation(truth, table, ["energy"])
        assert cells["mean"] == f"{mean:.3f} {bounds(drawn)}"
        assert cells["energy"] == f"{energy:.3f} {bounds(resampled(truth, table, ['energy']))}"
        if name != "usual":
            low, high = np.quantile(drawn - usual, [0.025, 0.975])
            mark = "**" * bool(low > 0 or high < 0)
            difference = f"{mark}{mean - usual_mean:+.3f} {bounds(drawn - usual)}{mark}, n = 60"
            assert cells["difference to `usual`"] == difference
    assert row(rows, "usual")["difference to `usual`"] == "the default"
    assert "**+" in row(rows, "better")["difference to `usual`"]
    assert "**" not in row(rows, "alike")["difference to `usual`"]


def test_the_headline_is_the_mean_of_the_named_targets_and_another_default_can_be_named(page, truth, noisy):
    cells = row(tables(page(headline=["valence"]))[TITLE], "better")
    drawn, others = (resampled(truth, table, ["valence"]) for table in (noisy(0.1, 2), noisy(0.4, 1)))
    assert cells["mean of valence"] == cells["valence"] != cells["mean"]
    assert bounds(drawn - others) in cells["difference to `usual`"]
    assert row(tables(page(default="better"))[TITLE], "better")["difference to `better`"] == "the default"
    with pytest.raises(InputError, match="'bettre' has no out-of-fold scores; did you mean 'better'"):
        page(default="bettre")
    with pytest.raises(InputError, match=r"target 'valenec' of --headline; did you mean 'valence'\?"):
        page(headline=["valenec"])


def test_several_seeds_are_scored_by_their_mean_and_have_a_deviation(page, runs_of_all_kinds, truth, noisy):
    rows = tables(page(headline=["energy"]))[TITLE]
    cells, spread = row(rows, "three"), read_json(runs_of_all_kinds / "three" / "scores.json")["spread"]
    pooled = (noisy(0.3, 1) + noisy(0.3, 2) + noisy(0.3, 3)) / 3
    assert (cells["folds"], cells["seeds"]) == ("5", "3")
    assert cells["mean"].startswith(f"{correlation(truth, pooled, BOTH):.3f}")
    assert cells["± seeds"] == f"{spread['over_seeds']['energy']:.3f}, n = 3"
    assert cells["± folds"] == f"{spread['over_folds']['energy']:.3f}, n = 5"
    assert row(rows, "usual")["± seeds"] == "unknown, n = 1"


def test_runs_of_fewer_clips_or_targets_are_compared_over_theirs(page, truth, noisy, folds):
    found = tables(page(headline=["valence"], default="usual"))
    cells = row(found["`data/own`: valence and energy, 12 clips"], "first")
    inside = truth.loc[folds == 0]
    gain = correlation(inside, noisy(0.1, 5), ["valence"]) - correlation(inside, noisy(0.4, 1), ["valence"])
    assert (cells["folds"], cells["seeds"]) == ("1 of 5", "1")
    assert f"{gain:+.3f} [" in cells["difference to `usual`"]
    assert cells["difference to `usual`"].endswith("n = 12")
    cells = row(found["`data/own`: energy, 60 clips"], "single")
    gain = correlation(truth, noisy(0.1, 7), ["energy"]) - correlation(truth, noisy(0.4), ["energy"])
    assert cells["difference to `usual`"].startswith(f"**{gain:+.3f} [")
    assert not [name for name in cells if name.startswith("mean")]
    other = "`data/other`: valence and energy, 60 clips"  # the same ids in another set are other clips
    titles = [title for title in found if "valence and energy, 60" in title]
    assert titles == [other, TITLE, f"{TITLE} (other labels, 2)"]


def test_blends_genre_runs_and_repeats_have_their_rows(page, runs_of_all_kinds):
    found = tables(page())

    def held(name: str, score: str) -> str:
        score = read_json(runs_of_all_kinds / name / "scores.json")["pooled"][score]
        return f"{score['value']:.3f} [{score['low']:.3f}, {score['high']:.3f}]"

    cells = row(found[TITLE], "both")
    assert (cells["mean"], cells["what"]) == (held("both", "mean"), "blend of `usual`, `better`")
    assert cells["difference to `usual`"].startswith("**+")
    weights = read_json(runs_of_all_kinds / "both" / "blend.json")["weights"]["better"]
    (member,) = [each for each in found["Blends"] if each["member"] == "`better`"]
    assert {name: member[f"weight of {name}"] for name in BOTH} == {k: f"{v:.3f}" for k, v in weights.items()}
    rows = found["`data/own`: genres"]
    cells = row(rows, "genres")
    for name, title in {"accuracy": "accuracy", "macro_f1": "macro F1", "weighted_f1": "weighted F1"}.items():
        assert cells[title] == held("genres", name)
    assert cells["run"] == "`genres` *(selected on validation)*"
    assert (cells["clips"], cells["classes"], cells["folds"]) == ("40, out of fold", "3", "1 of 5")
    assert cells["± seeds"] == "unknown, n = 1"
    cells = row(rows, "pretrain")
    assert (cells["clips"], cells["folds"]) == ("40, test split", "1")
    first, last = found["`data/own`: energy, repeated splits"]
    assert (first["energy"], last["energy"]) == ("0.500 ± 0.123 [0.400, 0.600]", "0.250 [0.250, 0.250]")
    assert (first["seeds"], first["clips"]) == ("2", "9 to 11, test split")
    assert last["run"] == "`split`, last epoch"


def test_ablations_are_compared_with_the_run_they_vary(write, runs, truth, noisy):
    short_one = {"train": {"epochs": 3}}
    write("usual", 0.4)
    write("base", 0.3, short_one | {"seeds": [0]})
    write("ablation-a", 0.1, short_one | {"loss": {"pearson": 0}})
    write("ablation-b", 0.5, short_one | {"model": {"kind": "timm", "backbone": "resnet18"}})
    write("far", 0.2, {"train": {"epochs": 4, "ema": None}, "loss": {"pearson": 0}})
    write("estimator", 0.2, short_one | {"classical": {"kind": "ridge"}})
    write("part", 0.1, short_one | {"loss": {"squared": 2}}, only=[0])
    blend_runs([runs / "base", runs / "usual"], runs / "bases", "z-score", 0.5)
    text = page_of(runs, headline=["valence"], ablations=["base"])
    rows = tables(text)["Ablations of `base`"]
    assert {each["run"]: each["setting"] for each in rows} == {
        "`usual`": "`train.epochs 60`",
        "`base`": "–",
        "`ablation-a`": "`loss.pearson 0.0`",
        "`ablation-b`": "`model.kind timm`, `model.backbone resnet18`",
    }
    assert row(rows, "base")["difference to `base`"] == "the default"
    drawn, others = (resampled(truth, noisy(noise, 1), ["valence"]) for noise in (0.5, 0.3))
    assert bounds(drawn - others) in row(rows, "ablation-b")["difference to `base`"]
    assert "3 passes over the training clips, 5 folds, seeds 0" in text
    with pytest.raises(InputError, match=r"'bases' has no .* settings; did you mean 'base'\?"):
        page_of(runs, ablations=["bases"])


def test_costs_are_added_up_over_folds_and_seeds(write, runs):
    write("usual", 0.4, {"seeds": [0, 1]})
    cells = row(tables(page_of(runs))["Cost"], "usual")
    assert cells == {
        **{"run": "`usual`", "folds": "10", "minutes": "15.0", "per fold": "1.5", "weights": "1,234,567"},
        **{"memory": "1.54 GB", "GPU memory": "–", "device": "cpu", "threads": "2", "processes": "1"},
        **{"precision": "bf16", "commit": "0123456789ab"},
    }
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


DAMAGES = (  # a file, what becomes of it, and a part of the sentence
    ("scores.json", b'{"pooled"', r"is not valid JSON .* Delete it to write it"),
    ("scores.json", b'{"pooled": {"energy": {"low": 0}}}', r"pooled\.energy\.value is missing"),
    ("scores.json", b"{}", "holds no scores"),
    ("scores.json", other_value, "give other scores than scores.json holds"),
    ("scores.json", no_score_of_a_seed, "holds no 'energy' of a single seed or fold"),
    ("scores.json", None, r"is not finished: .* 5 trained folds"),
    ("scores.json", Path.mkdir, "is a folder"),
    ("oof.csv", None, r"oof\.csv does not exist"),
    ("oof.csv", b"Id,valence\n1,", r"oof\.csv"),
    ("truth.csv", None, r"truth\.csv does not exist"),
    ("truth.csv", b"\xff\xfe\x00", r"truth\.csv"),
    ("truth.csv", b"Id,valence,energy\n1,.5,.5\n", r"are not of the same clips and columns"),
    ("vote.json", b'{"members": "one"}', r"vote\.json: input should be a valid list"),
    ("experiment.json", b'{"trian": {}}', r"unknown key 'trian'; did you mean 'train'\?"),
    ("seed0/fold1/cost.json", b'{"seconds": "x"}', r"cost\.json: seconds is 'x'; input should be a valid"),
)


def damage(path: Path, change) -> None:
    content = path.read_bytes() if path.exists() else b""
    path.unlink(missing_ok=True)
    if isinstance(change, bytes):
        path.write_bytes(change)
    elif change is Path.mkdir:
        path.mkdir()
    elif change is not None:
        scores = json.loads(content)
        change(scores)
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
    others, problems = page_of(runs).split("\n\n## Without numbers")
    assert others == whole.rstrip("\n")  # as before
    for number, (_, _, sentence) in enumerate(DAMAGES):
        (line,) = re.findall(f"^- `broken-{number}`: .*$", problems, re.MULTILINE)
        assert re.search(sentence, line)
    assert "- `nan`: Its training diverged. nan: the loss is nan in epoch 3." in problems
    assert str(tmp_path) not in problems


def test_submissions_say_date_runs_commit_and_leaderboard(write, runs, tmp_path):
    write("usual", 0.4)
    scores, folder = read_json(runs / "usual" / "scores.json")["pooled"], tmp_path / "submissions"
    for name, leaderboard in (("a-2026-02-03", 0.6125), ("b-2026-01-02", None)):
        card = {"runs": ["runs/usual"], "commit": "abc", "out_of_fold": scores, "leaderboard": leaderboard}
        write_json(folder / f"{name}.json", card | {"file": f"{name}.csv", "sha256": "", "rows": 3})
    (folder / "damaged.json").write_text('{"file": 1}')
    text = page_of(runs)
    first, second = tables(text)["Submissions"]
    assert (first["date"], first["leaderboard"]) == ("2026-01-02", "–")
    assert (second["date"], second["leaderboard"], second["commit"]) == ("2026-02-03", "0.6125", "abc")
    assert second["runs"] == "`usual`"
    assert second["mean"].startswith(f"{scores['mean']['value']:.3f} [")
    assert "- `damaged.json`: damaged.json: file is 1; input should be a valid string. " in text


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
