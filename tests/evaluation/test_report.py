"""The report: its numbers against ones computed otherwise, and what it makes of damaged files."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import rankdata, spearmanr, zscore

from music_emotion.config import Experiment, build_experiment, experiment_to_dict
from music_emotion.evaluation.blend_runs import blend_runs
from music_emotion.evaluation.report import read_report
from music_emotion.evaluation.report_tables import make_page
from music_emotion.evaluation.scores import score_run, score_split
from music_emotion.files import InputError, read_json, read_predictions, write_json, write_predictions

GENRES = ["Blues", "Folk", "Jazz"]
MACHINE = {"commit": "0123456789ab", "device": "cpu", "processes": 1, "precision": "bf16"}
TITLE = "`data/own`: valence and energy, 60 clips"
BOTH = ["valence", "energy"]


@pytest.fixture
def write(leave, truth, noisy):
    """Leave a run of this much noise: `write("one", 0.3, {"train": {"epochs": 3}})`."""

    def write_run(name, noise, settings=None, only=range(5), known=truth) -> None:
        seeds = (settings or {}).get("seeds", [0])
        place = leave(name, known, {k: noisy(noise, k + 1)[list(known)] for k in seeds}, settings, only)
        write_json(place / "environment.json", MACHINE)

    return write_run


def open_run(place: Path, settings: dict) -> Experiment:
    experiment = build_experiment({"data": {"root": "data/own"}, **settings, "name": place.name}, "test")
    write_json(place / "experiment.json", experiment_to_dict(experiment))
    return experiment


@pytest.fixture
def page(runs, tmp_path):
    """The page of all runs: `page(headline=["valence"])`."""

    def make(experiments=Path("none"), **arguments) -> str:
        report = read_report(runs, tmp_path / "submissions")
        return make_page(report, "music-emotion report", experiments, **arguments)

    return make


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


def test_the_truth_is_kept_beside_the_predictions_to_the_bit(write, runs, truth, folds):
    write("one", 0.3, {"seeds": [0, 3]})
    write("two", 0.4, {"train": {"epochs": 3}})
    blend_runs([runs / "one", runs / "two"], runs / "both", "z-score", 0.5)
    for name in ("one", "both"):
        assert read_predictions(runs / name / "truth.csv").equals(truth)
        assert read_predictions(runs / name / "oof.csv").index.equals(truth.index)
    write("part", 0.3, only=[2])
    assert read_predictions(runs / "part" / "truth.csv").equals(truth.loc[folds == 2])
    known = write_genre_run(runs, "genres")
    held = pd.read_csv(runs / "genres" / "truth.csv")
    assert held["Id"].tolist() == pd.read_csv(runs / "genres" / "oof.csv")["Id"].tolist()
    assert held["Genre"].tolist() == [GENRES[number] for number in known]


def test_scores_intervals_and_pairs_are_those_computed_by_hand(write, page, truth, noisy):
    write("usual", 0.4, {"seeds": [0]})
    write("better", 0.1, {"seeds": [1], "train": {"epochs": 3}})
    write("alike", 0.4, {"seeds": [5], "train": {"epochs": 4}})
    rows = tables(page())[TITLE]
    means = [float(each["mean"].split()[0]) for each in rows]
    assert means == sorted(means, reverse=True)
    assert rows[0]["run"] == "`better`"
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


def test_the_headline_is_the_mean_of_the_named_targets_and_another_default_can_be_named(
    write, page, truth, noisy
):
    write("usual", 0.4)
    write("other", 0.3, {"seeds": [2], "train": {"epochs": 3}})
    cells = row(tables(page(headline=["valence"]))[TITLE], "other")
    drawn, others = (resampled(truth, table, ["valence"]) for table in (noisy(0.3, 3), noisy(0.4, 1)))
    assert cells["mean of valence"] == cells["valence"] != cells["mean"]
    assert bounds(drawn - others) in cells["difference to `usual`"]
    assert row(tables(page(default="other"))[TITLE], "other")["difference to `other`"] == "the default"
    with pytest.raises(InputError, match=r"no run with out-of-fold scores: 'othre'; did you mean 'other'\?"):
        page(default="othre")
    with pytest.raises(InputError, match=r"target 'valenec' of --headline; did you mean 'valence'\?"):
        page(headline=["valenec"])


def test_several_seeds_are_scored_by_their_mean_and_have_a_deviation(write, page, runs, truth, noisy):
    write("usual", 0.4)
    write("three", 0.3, {"seeds": [0, 1, 2], "train": {"epochs": 3}})
    rows = tables(page(headline=["energy"]))[TITLE]
    cells, scores = row(rows, "three"), read_json(runs / "three" / "scores.json")
    pooled = (noisy(0.3, 1) + noisy(0.3, 2) + noisy(0.3, 3)) / 3
    assert (cells["folds"], cells["seeds"]) == ("5", "3")
    assert cells["mean"].startswith(f"{correlation(truth, pooled, BOTH):.3f}")
    seeds = [scores["per_seed"][seed]["energy"] for seed in "012"]
    by_fold = np.array([each["scores"]["energy"] for each in scores["per_fold"]["scores"]]).reshape(3, 5)
    assert cells["± seeds"] == f"{np.std(seeds, ddof=1):.3f}, n = 3"
    assert cells["± folds"] == f"{np.sqrt(by_fold.var(axis=1, ddof=1).mean()):.3f}, n = 5"
    assert row(rows, "usual")["± seeds"] == "unknown, n = 1"


def test_runs_of_fewer_clips_or_targets_are_compared_over_theirs(write, page, truth, noisy, folds):
    write("usual", 0.4)
    write("first", 0.1, {"train": {"epochs": 3}, "seeds": [4]}, only=[0])
    data = {"root": "data/own", "targets": ["energy"]}
    write("single", 0.1, {"data": data, "seeds": [6]}, known=truth[["energy"]])
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


def test_ablations_are_compared_with_the_run_they_vary(write, page, runs, truth, noisy):
    short_one = {"train": {"epochs": 3}}
    write("usual", 0.4)
    write("base", 0.3, short_one | {"seeds": [0]})
    write("ablation-a", 0.1, short_one | {"loss": {"pearson": 0}})
    write("ablation-b", 0.5, short_one | {"model": {"kind": "timm", "backbone": "resnet18"}})
    write("far", 0.2, {"train": {"epochs": 4, "ema": None}, "loss": {"pearson": 0}})
    write("estimator", 0.2, short_one | {"classical": {"kind": "ridge"}})
    write("part", 0.1, short_one | {"loss": {"squared": 2}}, only=[0])
    blend_runs([runs / "base", runs / "usual"], runs / "bases", "z-score", 0.5)
    text = page(headline=["valence"], ablations=["base"])
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
    for wrong in ("bass", "bases"):
        sentence = rf"scores and settings, as blends have none: '{wrong}'; did you mean 'base'\?"
        with pytest.raises(InputError, match=sentence):
            page(ablations=[wrong])


def test_the_same_ids_in_another_set_are_other_clips(write, page, truth):
    write("usual", 0.4)
    turned = truth.iloc[::-1].set_index(truth.index)
    write("foreign", 0.2, {"data": {"root": "data/other"}}, known=turned)
    write("relabelled", 0.2, {"train": {"epochs": 3}}, known=turned + 1)
    other = "`data/other`: valence and energy, 60 clips"
    assert list(tables(page()))[:3] == [other, TITLE, f"{TITLE} (other labels, 2)"]


def test_costs_are_added_up_over_folds_and_seeds(write, page, runs):
    write("usual", 0.4, {"seeds": [0, 1]})
    cells = row(tables(page())["Cost"], "usual")
    assert cells == {
        **{"run": "`usual`", "folds": "10", "minutes": "15.0", "per fold": "1.5", "weights": "1,234,567"},
        **{"memory": "1.54 GB", "GPU memory": "–", "device": "cpu", "threads": "2", "processes": "1"},
        **{"precision": "bf16", "commit": "0123456789ab"},
    }
    for path in runs.rglob("cost.json"):  # earlier versions kept the seconds of every epoch alone
        path.with_name("metrics.csv").write_text("epoch,seconds\n1,3.0\n2,6.0\n")
        path.unlink()
    cells = row(tables(page())["Cost"], "usual")
    assert (cells["minutes"], cells["per fold"], cells["weights"]) == ("1.5", "0.15", "–")
    assert (cells["device"], cells["precision"], cells["threads"]) == ("cpu", "bf16", "–")


def test_a_blend_stands_among_its_members_with_its_weights(write, page, runs):
    write("usual", 0.4)
    write("other", 0.1, {"seeds": [3], "train": {"epochs": 3}})
    blend_runs([runs / "usual", runs / "other"], runs / "both", "z-score", 0.5)
    found = tables(page())
    cells, held = row(found[TITLE], "both"), read_json(runs / "both" / "scores.json")["pooled"]["mean"]
    assert cells["mean"] == f"{held['value']:.3f} [{held['low']:.3f}, {held['high']:.3f}]"
    assert cells["what"] == "blend of `usual`, `other`"
    assert cells["difference to `usual`"].startswith("**+")
    weights = read_json(runs / "both" / "blend.json")["weights"]["other"]
    (member,) = [each for each in found["Blends"] if each["member"] == "`other`"]
    assert {name: member[f"weight of {name}"] for name in BOTH} == {k: f"{v:.3f}" for k, v in weights.items()}


def write_genre_run(runs, name, select="last", part="valid") -> np.ndarray:
    rng = np.random.default_rng(0)
    known, ids = rng.integers(0, 3, 40), pd.Index(range(1, 41), name="Id")
    guessed = pd.DataFrame(np.eye(3)[known] + rng.random((40, 3)), ids, GENRES)
    experiment = open_run(runs / name, {"task": "genre", "train": {"select": select}})
    write_predictions(runs / name / "seed0/fold0/valid.csv", guessed)
    truth = pd.DataFrame(np.eye(3)[known], ids, GENRES)
    if part == "valid":
        score_run(runs / name, experiment, truth)
    else:
        write_predictions(runs / name / "seed0/fold0/test.csv", guessed)
        score_split(runs / name, truth)
    return known


def test_genre_runs_have_their_measures(page, runs):
    write_genre_run(runs, "genres", select="best-score")
    write_genre_run(runs, "pretrain", part="test")
    rows = tables(page())["`data/own`: genres"]
    held, cells = read_json(runs / "genres" / "scores.json")["pooled"], row(rows, "genres")
    for name, title in {"accuracy": "accuracy", "macro_f1": "macro F1", "weighted_f1": "weighted F1"}.items():
        score = held[name]
        assert cells[title] == f"{score['value']:.3f} [{score['low']:.3f}, {score['high']:.3f}]"
    assert cells["run"] == "`genres` *(selected on validation)*"
    assert (cells["clips"], cells["classes"], cells["folds"]) == ("40, out of fold", "3", "1 of 5")
    assert cells["± seeds"] == "unknown, n = 1"
    cells = row(rows, "pretrain")
    assert (cells["clips"], cells["folds"]) == ("40, test split", "1")


def test_repeats_have_mean_deviation_and_range(page, runs):
    open_run(runs / "split", {"folds": {"split": "holdout"}, "seeds": [0, 1]})
    score = {"value": 0.5, "sd": 0.1234, "low": 0.4, "high": 0.6}
    one = {"value": 0.25, "sd": None, "low": 0.25, "high": 0.25}
    repeated = {"test": {"energy": score, "mean": score}, "last": {"energy": one, "mean": one}}
    repeats = [{"seed": 0, "n_test": 9}, {"seed": 1, "n_test": 11}]
    write_json(runs / "split" / "scores.json", {"repeats": repeats, "repeated": repeated})
    first, last = tables(page())["`data/own`: energy, repeated splits"]
    assert (first["energy"], last["energy"]) == ("0.500 ± 0.123 [0.400, 0.600]", "0.250 [0.250, 0.250]")
    assert (first["seeds"], first["clips"]) == ("2", "9 to 11, test split")
    assert last["run"] == "`split`, last epoch"


def other_value(scores: dict) -> None:
    scores["pooled"]["valence"]["value"] = 0.01


def no_score_of_a_seed(scores: dict) -> None:
    del scores["per_seed"]["0"]["energy"]


DAMAGES = {  # by name: the file, what becomes of it, and a part of the sentence
    "not JSON": (
        "scores.json",
        b'{"pooled"',
        r"broken/scores\.json is not valid JSON .* Delete it to write it",
    ),
    "no value": (
        "scores.json",
        b'{"pooled": {"energy": {"low": 0}}}',
        r"pooled\.energy\.value is missing; field required\.",
    ),
    "empty": ("scores.json", b"{}", "holds no scores"),
    "other scores": ("scores.json", other_value, r"holds other scores than oof\.csv and truth\.csv give"),
    "no score of a seed": ("scores.json", no_score_of_a_seed, "holds no 'energy' of a single seed or fold"),
    "unfinished": ("scores.json", None, "broken is not finished: .* 5 trained folds"),
    "a folder": ("scores.json", Path.mkdir, "is a folder"),
    "no predictions": ("oof.csv", None, r"broken/oof\.csv does not exist"),
    "half a table": ("oof.csv", b"Id,valence\n1,", r"oof\.csv"),
    "no truth": ("truth.csv", None, r"broken/truth\.csv does not exist"),
    "binary": ("truth.csv", b"\xff\xfe\x00", r"truth\.csv"),
    "other truth": ("truth.csv", b"Id,valence,energy\n1,.5,.5\n", r"are not of the same clips and columns"),
    "an unknown setting": (
        "experiment.json",
        b'{"trian": {}}',
        r"unknown key 'trian'; did you mean 'train'\?",
    ),
    "another cost": (
        "seed0/fold1/cost.json",
        b'{"seconds": "x"}',
        r"/cost\.json: seconds is 'x'; input should be a valid number",
    ),
}


def damage(path: Path, change) -> None:
    content = path.read_bytes()
    path.unlink()
    if isinstance(change, bytes):
        path.write_bytes(change)
    elif change is Path.mkdir:
        path.mkdir()
    elif change is not None:
        scores = json.loads(content)
        change(scores)
        write_json(path, scores)


@pytest.mark.parametrize("name", DAMAGES)
def test_what_is_damaged_is_listed_with_a_sentence(write, page, runs, tmp_path, name):
    write("usual", 0.4)
    whole = page()
    write("broken", 0.3)
    file, change, sentence = DAMAGES[name]
    damage(runs / "broken" / file, change)
    text = page()
    assert re.search(sentence, text.split("## Without numbers")[1])
    assert text.split("\n\n## Without numbers")[0] == whole.rstrip("\n")  # and all others as before
    assert str(tmp_path) not in text


def test_a_diverged_run_is_listed_with_its_reason(write, page, runs):
    write("usual", 0.4)
    problem = {"problem": f"{runs}/nan: the loss is nan in epoch 3.", "experiments": []}
    write_json(runs / "nan" / "diverged.json", problem)
    assert "- `nan`: Its training diverged. nan: the loss is nan in epoch 3." in page()


def test_submissions_say_date_runs_commit_and_leaderboard(write, page, runs, tmp_path):
    write("usual", 0.4)
    scores, folder = read_json(runs / "usual" / "scores.json")["pooled"], tmp_path / "submissions"
    for name, leaderboard in (("a-2026-02-03", 0.6125), ("b-2026-01-02", None)):
        card = {"runs": ["runs/usual"], "commit": "abc", "out_of_fold": scores, "leaderboard": leaderboard}
        write_json(folder / f"{name}.json", card | {"file": f"{name}.csv", "sha256": "", "rows": 3})
    (folder / "damaged.json").write_text('{"file": 1}')
    text = page()
    first, second = tables(text)["Submissions"]
    assert (first["date"], first["leaderboard"]) == ("2026-01-02", "–")
    assert (second["date"], second["leaderboard"], second["commit"]) == ("2026-02-03", "0.6125", "abc")
    assert second["runs"] == "`usual`"
    assert second["mean"].startswith(f"{scores['mean']['value']:.3f} [")
    assert "- `damaged.json`: damaged.json: file is 1; input should be a valid string. " in text


def test_a_run_is_called_by_its_files_comment_or_by_its_settings(write, page, tmp_path):
    write("usual", 0.4)
    write("own", 0.4, {"train": {"epochs": 3}, "model": {"widths": [8, 16]}})
    write("named", 0.4, {"train": {"epochs": 7}})
    write("changed", 0.4, {"train": {"epochs": 9}})
    for name in ("named", "changed"):
        path = tmp_path / "experiments" / f"{name}.toml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f'# One | two,\n# three.\nname = "{name}"\n# not this\n[train]\nepochs = 7\n')
    (tmp_path / "experiments" / "own.toml").write_text('name = "own"\n[train]\nepochs = 3\n')  # no comment
    rows = tables(page(tmp_path / "experiments"))[TITLE]
    assert {row["run"]: row["what"] for row in rows} == {
        "`own`": "`model.widths [8, 16]`, `train.epochs 3`",
        "`named`": "One \\| two, three.",
        "`changed`": "One \\| two, three. Here with `train.epochs 9`.",
        "`usual`": "the default",
    }


def test_the_same_files_give_the_same_page_wherever_they_are(write, page, runs, tmp_path):
    write("usual", 0.4)
    write("other", 0.3, {"train": {"epochs": 3}})
    write_json(runs / "half" / "experiment.json", {})
    before = page()
    assert page() == before
    moved = shutil.copytree(runs, tmp_path / "elsewhere" / "folder")
    assert make_page(read_report(moved, tmp_path / "none"), "music-emotion report", Path("none")) == before


def test_without_runs_there_is_a_sentence(tmp_path):
    with pytest.raises(InputError, match=r"The folder of runs .* does not exist\. Give another --runs\."):
        read_report(tmp_path / "runs", tmp_path)
    (tmp_path / "runs").mkdir()
    with pytest.raises(InputError, match="holds no runs"):
        read_report(tmp_path / "runs", tmp_path)
