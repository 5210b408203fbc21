"""The report: its numbers against ones computed otherwise, and what it makes of files that are not whole."""

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
from music_emotion.evaluation.report_cells import minutes, three
from music_emotion.evaluation.report_page import make_page
from music_emotion.evaluation.report_sections import make_ablation, make_sections
from music_emotion.evaluation.scores import score_run, score_split
from music_emotion.files import InputError, read_json, read_predictions, write_json, write_predictions
from music_emotion.runs import Cost, write_cost

GENRES = ["Blues", "Folk", "Jazz"]
MACHINE = {"commit": "0123456789ab", "device": "cpu", "processes": 1, "precision": "bf16"}


@pytest.fixture
def runs(tmp_path) -> Path:
    return tmp_path / "runs"


@pytest.fixture
def write(runs, truth, noisy, folds):
    """Leave what a training leaves and score it: `write("one", 0.3, {"train": {"epochs": 3}})`."""

    def write_run(
        name: str, noise: float, settings: dict | None = None, only: int | None = None
    ) -> Experiment:
        experiment = build_experiment({"data": {"root": "data/own"}, **(settings or {}), "name": name}, name)
        open_folder(runs / name, experiment)
        for seed in experiment.seeds:
            for fold in range(5) if only is None else [only]:
                place = runs / name / f"seed{seed}" / f"fold{fold}"
                predictions = noisy(noise, seed + 1)
                write_predictions(place / "valid.csv", predictions.loc[folds == fold])
                write_predictions(place / "test.csv", predictions.iloc[:10])  # so that it can be blended
                write_cost(place, Cost(90.0, "cpu", 2, 1, 1_540_000_000 + fold, None, "bf16", 100, 1_234_567))
        score_run(runs / name, experiment, truth)
        return experiment

    return write_run


def open_folder(place: Path, experiment: Experiment) -> None:
    write_json(place / "experiment.json", experiment_to_dict(experiment))
    write_json(place / "environment.json", MACHINE)


@pytest.fixture
def blend(runs):
    """Blend runs as the command does."""

    def blend_into(name: str, *members: str) -> None:
        blend_runs([runs / member for member in members], runs / name, "z-score", 0.5)

    return blend_into


@pytest.fixture
def page(runs, tmp_path):
    """The page of all runs: `page(headline=["valence"])`."""

    def make(
        headline=(),
        default=None,
        submissions=tmp_path / "submissions",
        experiments=Path("none"),
        ablations=(),
    ) -> str:
        report = read_report(runs, submissions)
        sections = make_sections(report, headline, default)
        varied = [make_ablation(report, name, headline) for name in ablations]
        return make_page(report, sections, "python scripts/report.py", experiments, default, varied)

    return make


def tables(text: str) -> dict[str, list[dict[str, str]]]:
    """The rows of every table of a page by heading, as they would be read."""
    found = {}
    for part in text.split("\n## ")[1:]:
        title, _, rest = part.partition("\n")
        lines = [line[2:-2].split(" | ") for line in rest.splitlines() if line.startswith("| ")]
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


def short(value: float) -> str:
    text = f"{value:.3f}"
    return text.replace("0.", ".")


def written(value: float, drawn: np.ndarray) -> str:
    low, high = np.quantile(drawn, [0.025, 0.975])
    return f"{short(value)} [{short(low)}, {short(high)}]"


def mean_correlation(truth, table, targets) -> float:
    return float(np.mean([spearmanr(truth[name], table.loc[truth.index, name])[0] for name in targets]))


def test_the_truth_is_kept_beside_the_predictions_to_the_bit(write, runs, truth, blend):
    write("one", 0.3, {"seeds": [0, 3]})
    write("two", 0.4, {"train": {"epochs": 3}}, only=None)
    blend("both", "one", "two")
    for name in ("one", "both"):
        assert read_predictions(runs / name / "truth.csv").equals(truth)
        ids = [pd.read_csv(runs / name / file)["Id"].tolist() for file in ("oof.csv", "truth.csv")]
        assert ids[0] == ids[1]


def test_the_truth_of_a_run_of_one_fold_is_of_its_clips(write, runs, truth, folds):
    write("one", 0.3, only=2)
    assert read_predictions(runs / "one" / "truth.csv").equals(truth.loc[folds == 2])


def test_the_truth_of_genres_is_their_name(runs):
    known = write_genre_run(runs, "genres", "genre")
    held = pd.read_csv(runs / "genres" / "truth.csv")
    assert held["Id"].tolist() == pd.read_csv(runs / "genres" / "oof.csv")["Id"].tolist()
    assert held["Genre"].tolist() == [GENRES[number] for number in known]


def test_scores_intervals_and_pairs_are_those_computed_by_hand(write, page, truth, noisy):
    write("usual", 0.4, {"seeds": [0]})
    write("better", 0.1, {"seeds": [1], "train": {"epochs": 3}})
    write("alike", 0.4, {"seeds": [5], "train": {"epochs": 4}})
    rows = tables(page())["`data/own`: valence and energy, 60 clips"]
    assert [each["run"] for each in rows] == sorted(
        (each["run"] for each in rows), key=lambda name: -float(row(rows, name[1:-1])["mean"].split()[0])
    )
    assert rows[0]["run"] == "`better`"
    usual = resampled(truth, noisy(0.4, 1), ["valence", "energy"])
    for name, table in {"usual": noisy(0.4, 1), "better": noisy(0.1, 2), "alike": noisy(0.4, 6)}.items():
        cells = row(rows, name)
        drawn = resampled(truth, table, ["valence", "energy"])
        value = mean_correlation(truth, table, ["valence", "energy"])
        assert cells["mean"] == written(value, drawn)
        assert cells["energy"] == written(
            mean_correlation(truth, table, ["energy"]), resampled(truth, table, ["energy"])
        )
        if name == "usual":
            assert cells["difference to `usual`"] == "the default"
            continue
        gain = value - mean_correlation(truth, noisy(0.4, 1), ["valence", "energy"])
        expected = written(gain, drawn - usual)
        assert expected in cells["difference to `usual`"].replace("+", "")
        assert cells["difference to `usual`"].endswith("n = 60")
        low, high = np.quantile(drawn - usual, [0.025, 0.975])
        assert ("**" in cells["difference to `usual`"]) == (low > 0 or high < 0)
    assert "**+" in row(rows, "better")["difference to `usual`"]
    assert "**" not in row(rows, "alike")["difference to `usual`"]


def test_the_headline_is_the_mean_of_the_named_targets(write, page, truth, noisy):
    write("usual", 0.4)
    write("other", 0.3, {"seeds": [2], "train": {"epochs": 3}})
    cells = row(tables(page(headline=["valence"]))["`data/own`: valence and energy, 60 clips"], "other")
    drawn, others = (resampled(truth, table, ["valence"]) for table in (noisy(0.3, 3), noisy(0.4, 1)))
    assert cells["mean of valence"] == cells["valence"]
    assert cells["mean of all"] != cells["mean of valence"]
    low, high = np.quantile(drawn - others, [0.025, 0.975])
    assert f"[{short(low)}, {short(high)}]" in cells["difference to `usual`"]


def test_several_seeds_are_scored_by_their_mean(write, page, truth, noisy):
    write("usual", 0.4, {"seeds": [0, 1]})
    cells = row(tables(page())["`data/own`: valence and energy, 60 clips"], "usual")
    assert (cells["folds"], cells["seeds"]) == ("5", "2")
    pooled = (noisy(0.4, 1) + noisy(0.4, 2)) / 2
    assert cells["mean"].startswith(short(mean_correlation(truth, pooled, ["valence", "energy"])))


def test_a_run_of_one_fold_is_compared_over_its_clips(write, page, truth, noisy, folds):
    write("usual", 0.4)
    write("first", 0.1, {"train": {"epochs": 3}, "seeds": [4]}, only=0)
    rows = tables(page())["`data/own`: valence and energy, 12 clips"]
    cells = row(rows, "first")
    assert (cells["folds"], cells["seeds"]) == ("1 of 5", "1")
    inside = truth.loc[folds == 0]
    gain = mean_correlation(inside, noisy(0.1, 5), list(truth))
    gain -= mean_correlation(inside, noisy(0.4, 1), list(truth))
    assert f"+{short(gain)} [" in cells["difference to `usual`"]
    assert cells["difference to `usual`"].endswith("n = 12")


def test_a_run_of_a_single_target_is_compared_in_it(write, page, runs, truth, noisy):
    write("usual", 0.4)
    data = {"root": "data/own", "targets": ["energy"]}
    open_folder(runs / "single", experiment := build_experiment({"name": "single", "data": data}, "test"))
    write_predictions(runs / "single/seed0/fold0/valid.csv", noisy(0.1, 7)[["energy"]])
    score_run(runs / "single", experiment, truth[["energy"]])
    cells = row(tables(page(headline=["valence"]))["`data/own`: energy, 60 clips"], "single")
    gain = mean_correlation(truth, noisy(0.1, 7), ["energy"]) - mean_correlation(
        truth, noisy(0.4), ["energy"]
    )
    assert cells["difference to `usual`"].startswith(f"**+{short(gain)} [")
    assert not [name for name in cells if name.startswith("mean")]


def test_another_default_can_be_named(write, page):
    write("usual", 0.4)
    write("other", 0.3, {"train": {"epochs": 3}})
    rows = tables(page(default="other"))["`data/own`: valence and energy, 60 clips"]
    assert row(rows, "other")["difference to `other`"] == "the default"
    with pytest.raises(InputError, match=r"no run with out-of-fold scores: 'othre'; did you mean 'other'\?"):
        page(default="othre")
    with pytest.raises(InputError, match=r"target 'valenec' of --headline; did you mean 'valence'\?"):
        page(headline=["valenec"])


def test_ablations_are_compared_with_the_run_they_vary(write, blend, page, truth, noisy):
    short_one = {"train": {"epochs": 3}}
    write("usual", 0.4)
    write("base", 0.3, short_one | {"seeds": [0]})
    write("ablation-a", 0.1, short_one | {"loss": {"pearson": 0}})
    write("ablation-b", 0.5, short_one | {"model": {"kind": "timm", "backbone": "resnet10t"}})
    write("far", 0.2, {"train": {"epochs": 4, "ema": None}, "loss": {"pearson": 0}})
    write("estimator", 0.2, short_one | {"classical": {"kind": "ridge"}})
    write("part", 0.1, short_one | {"loss": {"squared": 2}}, only=0)
    text = page(headline=["valence"], ablations=["base"])
    rows = tables(text)["Ablations of `base`"]
    assert {each["run"] for each in rows} == {"`usual`", "`base`", "`ablation-a`", "`ablation-b`"}
    assert row(rows, "base")["difference to `base`"] == "the default"
    assert {each["setting"] for each in rows} == {
        *("–", "`train.epochs 60`", "`loss.pearson 0.0`"),
        "`model.kind timm`, `model.backbone resnet10t`",
    }
    drawn, others = (resampled(truth, noisy(noise, 1), ["valence"]) for noise in (0.5, 0.3))
    low, high = np.quantile(drawn - others, [0.025, 0.975])
    assert f"[{short(low)}, {short(high)}]" in row(rows, "ablation-b")["difference to `base`"]
    assert "Its budget: 3 passes over the training clips, 5 folds, seed 0." in text
    wrong = r"scores and settings, as blends have none: 'bass'; did you mean 'base'\?"
    with pytest.raises(InputError, match=wrong):
        page(ablations=["bass"])
    blend("bases", "base", "usual")
    with pytest.raises(InputError, match=r"as blends have none: 'bases'; did you mean 'base'\?"):
        page(ablations=["bases"])


def test_runs_without_their_truth_borrow_that_of_others_if_it_is_theirs(write, page, runs):
    write("usual", 0.4)
    write("older", 0.3, {"train": {"epochs": 3}})
    write("part", 0.3, {"train": {"epochs": 4}}, only=1)
    before = page()
    for name in ("older", "part"):
        (runs / name / "truth.csv").unlink()
    assert page() == before
    scores = read_json(runs / "older" / "scores.json")  # of other labels
    scores["pooled"]["energy"]["value"] -= 0.1
    write_json(runs / "older" / "scores.json", scores)
    titles = list(tables(page()))[:2]
    assert titles == [
        f"`data/own`: valence and energy, 60 clips{mark}" for mark in ("", " (other labels, 2)")
    ]


def test_runs_whose_truth_nobody_knows_have_scores_and_no_pairs(write, page, runs):
    write("usual", 0.4)
    write("older", 0.3, {"train": {"epochs": 3}})
    for path in (*runs.rglob("truth.csv"), *runs.rglob("cost.json"), *runs.rglob("environment.json")):
        path.unlink()
    text = page(headline=["valence"])
    cells = row(tables(text)["`data/own`: valence and energy, 60 clips"], "older")
    held = read_json(runs / "older" / "scores.json")["pooled"]
    assert cells["mean of valence"] == short(held["valence"]["value"])
    assert cells["mean of all"].startswith(short(held["mean"]["value"]) + " [")
    assert cells["difference to `usual`"] == "–"
    assert set(row(tables(text)["Cost"], "older").values()) == {"`older`", "–", "5"}


def test_the_same_ids_in_another_set_are_other_clips(write, page, runs, truth, noisy):
    write("usual", 0.4)
    experiment = build_experiment({"name": "foreign", "data": {"root": "data/other"}}, "test")
    open_folder(runs / "foreign", experiment)
    write_predictions(runs / "foreign/seed0/fold0/valid.csv", noisy(0.2))
    score_run(runs / "foreign", experiment, truth.iloc[::-1].set_index(truth.index))
    titles = list(tables(page()))
    assert {f"`data/{name}`: valence and energy, 60 clips" for name in ("own", "other")} <= set(titles)


def test_costs_are_added_up_over_folds_and_seeds(write, page, runs):
    write("usual", 0.4, {"seeds": [0, 1]})
    cells = row(tables(page())["Cost"], "usual")
    assert (cells["minutes"], cells["per fold"], cells["folds"]) == ("15.0", "1.5", "10")
    assert (cells["weights"], cells["memory"], cells["GPU memory"]) == ("1,234,567", "1.54 GB", "–")
    assert (cells["threads"], cells["processes"], cells["precision"]) == ("2", "1", "bf16")
    assert cells["commit"] == "0123456789ab"
    for path in runs.rglob("cost.json"):  # earlier versions kept the seconds of every epoch alone
        path.with_name("metrics.csv").write_text("epoch,seconds\n1,30.0\n2,60.0\n")
        path.unlink()
    cells = row(tables(page())["Cost"], "usual")
    assert (cells["minutes"], cells["weights"], cells["threads"]) == ("15.0", "–", "–")
    assert (cells["device"], cells["precision"]) == ("cpu", "bf16")


def test_a_blend_stands_among_its_members_with_its_weights(write, blend, page, runs):
    write("usual", 0.4)
    write("other", 0.1, {"seeds": [3], "train": {"epochs": 3}})
    blend("both", "usual", "other")
    text = page()
    cells = row(tables(text)["`data/own`: valence and energy, 60 clips"], "both")
    held = read_json(runs / "both" / "scores.json")["pooled"]["mean"]
    assert cells["mean"] == f"{short(held['value'])} [{short(held['low'])}, {short(held['high'])}]"
    assert cells["what"] == "blend of `usual`, `other`"
    assert cells["difference to `usual`"].startswith("**+")
    weights = read_json(runs / "both" / "blend.json")["weights"]["other"]
    member = next(each for each in tables(text)["Blends"] if each["member"] == "`other`")
    last = member["weights, chosen on all clips"]
    assert last == f"valence {short(weights['valence'])}, energy {short(weights['energy'])}"


def test_spread_is_that_of_the_headline_over_seeds_and_over_folds(write, page, runs):
    write("usual", 0.4)
    write("three", 0.3, {"seeds": [0, 1, 2], "train": {"epochs": 3}})
    rows = tables(page(headline=["energy"]))["`data/own`: valence and energy, 60 clips"]
    scores = read_json(runs / "three" / "scores.json")
    seeds = [scores["per_seed"][seed]["energy"] for seed in "012"]
    by_fold = np.array([each["scores"]["energy"] for each in scores["per_fold"]["scores"]]).reshape(3, 5)
    within = np.sqrt(by_fold.var(axis=1, ddof=1).mean())
    assert row(rows, "three")["± seeds"] == f"{short(np.std(seeds, ddof=1))}, n = 3"
    assert row(rows, "three")["± folds"] == f"{short(within)}, n = 5"
    assert row(rows, "usual")["± seeds"] == "unknown, n = 1"


def lose_a_seeds_score(place: Path) -> None:
    scores = read_json(place / "scores.json")
    del scores["per_seed"]["0"]["energy"]
    write_json(place / "scores.json", scores)


def write_genre_run(runs, name, task, select="last", part="valid") -> np.ndarray:
    rng = np.random.default_rng(0)
    known = rng.integers(0, 3, 40)
    ids = pd.Index(range(1, 41), name="Id")
    guessed = pd.DataFrame(np.eye(3)[known] + rng.random((40, 3)), ids, GENRES)
    settings = {"task": task, "name": name, "data": {"root": "data/own"}, "train": {"select": select}}
    experiment = build_experiment(settings, "test")
    open_folder(runs / name, experiment)
    write_predictions(runs / name / "seed0/fold0/valid.csv", guessed)
    truth = pd.DataFrame(np.eye(3)[known], ids, GENRES)
    if part == "valid":
        score_run(runs / name, experiment, truth)
    else:
        write_predictions(runs / name / "seed0/fold0/test.csv", guessed)
        score_split(runs / name, truth)
    return known


def test_genre_runs_have_their_measures(page, runs):
    write_genre_run(runs, "genres", "genre", select="best-score")
    write_genre_run(runs, "pretrain", "genre", part="test")
    rows = tables(page())["`data/own`: genres"]
    held = read_json(runs / "genres" / "scores.json")["pooled"]
    cells = row(rows, "genres")
    for name, title in {"accuracy": "accuracy", "macro_f1": "macro F1", "weighted_f1": "weighted F1"}.items():
        expected = f"{short(held[name]['value'])} [{short(held[name]['low'])}, {short(held[name]['high'])}]"
        assert cells[title] == expected
    assert cells["run"] == "`genres` *(selected on validation)*"
    assert (cells["clips"], cells["n"], cells["classes"], cells["folds"]) == (
        "out of fold",
        "40",
        "3",
        "1 of 5",
    )
    assert cells["± seeds of macro F1"] == "unknown, n = 1"
    assert (row(rows, "pretrain")["clips"], row(rows, "pretrain")["folds"]) == ("test split", "1")


def test_repeats_have_mean_deviation_and_range(page, runs):
    experiment = build_experiment({"name": "split", "folds": {"split": "holdout"}, "seeds": [0, 1]}, "test")
    open_folder(runs / "split", experiment)
    score = {"value": 0.5, "sd": 0.1234, "low": 0.4, "high": 0.6}
    one = {"value": 0.25, "sd": None, "low": 0.25, "high": 0.25}
    write_json(
        runs / "split" / "scores.json",
        {
            "repeats": [{"seed": 0, "n_test": 9}, {"seed": 1, "n_test": 11}],
            "repeated": {"test": {"energy": score, "mean": score}, "last": {"energy": one, "mean": one}},
        },
    )
    rows = tables(page())["`data`: energy, repeated splits"]
    assert rows[0]["energy"] == ".500 ± .123 [.400, .600]"
    assert rows[0]["test clips each"] == "9 to 11"
    assert rows[1]["run"] == "`split`, last epoch"
    assert rows[1]["energy"] == ".250 [.250, .250]"


def damage_scores(place: Path) -> None:
    (place / "scores.json").write_text('{"pooled": {"valence"')


def lose_a_value(place: Path) -> None:
    write_json(place / "scores.json", {"pooled": {"valence": {"low": 0.1}}})


def change_a_score(place: Path) -> None:
    scores = read_json(place / "scores.json")
    scores["pooled"]["valence"]["value"] += 0.01
    write_json(place / "scores.json", scores)


def diverge(place: Path) -> None:
    (place / "scores.json").unlink()
    write_json(
        place / "diverged.json", {"problem": f"{place}: the loss is nan in epoch 3.", "experiments": []}
    )


DAMAGES = {
    "not JSON": (damage_scores, r"broken/scores\.json is not valid JSON .* Delete it to write it anew\."),
    "no value": (lose_a_value, r"broken/scores\.json does not hold what it should \(pooled\.valence\.value"),
    "empty": (lambda place: write_json(place / "scores.json", {}), "holds no scores"),
    "other scores": (change_a_score, r"holds other scores than oof\.csv and truth\.csv give"),
    "no score of a seed": (lose_a_seeds_score, "holds no 'energy' of a single seed or fold"),
    "unfinished": (
        lambda place: (place / "scores.json").unlink(),
        "broken is not finished: .* 5 trained folds",
    ),
    "diverged": (diverge, r"Its training diverged\. broken: the loss is nan in epoch 3\."),
    "no predictions": (lambda place: (place / "oof.csv").unlink(), r"broken/oof\.csv does not exist"),
    "half a table": (lambda place: (place / "oof.csv").write_text("Id,valence\n1,"), "oof.csv"),
    "binary": (lambda place: (place / "truth.csv").write_bytes(b"\xff\xfe\x00"), r"truth\.csv"),
    "other truth": (
        lambda place: (place / "truth.csv").write_text("Id,valence,energy\n1,.5,.5\n"),
        r"broken/truth\.csv is not of the clips and targets of oof\.csv",
    ),
    "an unknown setting": (
        lambda place: write_json(place / "experiment.json", {"trian": {}}),
        r"unknown key 'trian'; did you mean 'train'\?",
    ),
    "another cost": (
        lambda place: write_json(place / "seed0/fold1/cost.json", {"seconds": "long"}),
        r"broken/seed0/fold1/cost\.json does not hold what a fold cost",
    ),
    "a folder": (
        lambda place: ((place / "scores.json").unlink(), (place / "scores.json").mkdir()),
        "is a folder",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_damaged_is_listed_with_a_sentence(write, page, runs, tmp_path, damage):
    write("usual", 0.4)
    whole = page()
    write("broken", 0.3)
    change, sentence = DAMAGES[damage]
    change(runs / "broken")
    text = page()
    assert re.search(sentence, text.split("## Without numbers")[1])
    assert text.split("\n\n## Without numbers")[0] == whole.rstrip("\n")  # and all others as before
    assert str(tmp_path) not in text


def test_submissions_say_date_runs_commit_and_leaderboard(write, page, runs, tmp_path):
    write("usual", 0.4)
    scores = read_json(runs / "usual" / "scores.json")["pooled"]
    folder = tmp_path / "submissions"
    for day, leaderboard in (("2026-02-03", 0.6125), ("2026-01-02", None)):
        card = {"runs": ["runs/usual"], "commit": "abc", "out_of_fold": scores, "leaderboard": leaderboard}
        write_json(folder / f"last-{day}.json", card | {"file": f"last-{day}.csv", "sha256": "", "rows": 3})
    (folder / "damaged.json").write_text("[]")
    text = page()
    first, second = tables(text)["Submissions"]
    assert (first["date"], first["leaderboard"]) == ("2026-01-02", "–")
    assert (second["date"], second["leaderboard"], second["commit"]) == ("2026-02-03", "0.6125", "abc")
    assert second["runs"] == "`usual`"
    assert second["mean"].startswith(short(scores["mean"]["value"]))
    assert "- `damaged.json`: damaged.json does not hold what it should" in text


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
    text = page(experiments=tmp_path / "experiments")
    assert "| `own` | `model.widths [8, 16]`, `train.epochs 3` |" in text
    assert "| `named` | One \\| two, three. |" in text
    assert "| `changed` | One \\| two, three. Here with `train.epochs 9`. |" in text
    assert "| `usual` | the default |" in text


def test_the_same_files_give_the_same_page_wherever_they_are(write, page, runs, tmp_path):
    write("usual", 0.4)
    write("other", 0.3, {"train": {"epochs": 3}})
    (runs / "half").mkdir()
    write_json(runs / "half" / "experiment.json", {})
    before = page()
    assert page() == before
    moved = shutil.copytree(runs, tmp_path / "elsewhere" / "folder")
    report = read_report(moved, tmp_path / "none")
    sections = make_sections(report)
    assert make_page(report, sections, "python scripts/report.py", Path("none"), None) == before


def test_without_runs_there_is_a_sentence(tmp_path):
    with pytest.raises(InputError, match=r"The folder of runs .* does not exist\. Give another --runs\."):
        read_report(tmp_path / "runs", tmp_path)
    (tmp_path / "runs").mkdir()
    with pytest.raises(InputError, match="holds no runs"):
        read_report(tmp_path / "runs", tmp_path)


def test_numbers_have_three_decimals_and_no_leading_zero():
    values = [0.5543, -0.0201, 1.0, -1.0, -0.0001, 0.0, 0.9996]
    assert [three(value) for value in values] == [".554", "-.020", "1.000", "-1.000", ".000", ".000", "1.000"]
    assert [three(value, signed=True) for value in (0.02, -0.02, 0)] == ["+.020", "-.020", "+.000"]
    assert [minutes(seconds) for seconds in (4321.0, 60, 1.5, 0.003)] == ["72.0", "1.0", ".025", "5e-05"]
