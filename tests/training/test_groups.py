"""Runs of clips with groups: scores know groups and scales, and no reader takes groups for a target."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from command_line import call

from music_emotion.evaluation.blend_runs import blend_runs
from music_emotion.evaluation.compare import compare_runs
from music_emotion.evaluation.report import read_report
from music_emotion.evaluation.report_tables import make_page
from music_emotion.evaluation.scores import read_run_groups
from music_emotion.files import InputError, read_json, read_predictions, read_truth, write_json
from music_emotion.listen.model import EmotionModel
from music_emotion.listen.pack import pack
from music_emotion.plots import draw_scores
from music_emotion.training.accelerator import make_accelerator
from music_emotion.training.folds import run_experiment

pytestmark = pytest.mark.usefixtures("exact")
TARGETS = ["valence", "energy", "danceability"]


def test_groups_and_scales_reach_all_readers(small, make_emotion, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_emotion(Path("data"), n_train=24, n_test=6)
    folder, number = Path("data", "multitask_dataset"), np.arange(24)
    names = [f'Simon, "{k}" & G' if k % 2 else f"{k}" for k in number // 2]
    pd.DataFrame({"Id": 1000 + number, "group": names}).to_csv(folder / "groups-train.csv", index=False)
    write_json(folder / "dataset.json", {"name": "own", "scales": {"valence": [1, 9], "other": [0, 5]}})
    common = {"data": {"root": "data"}, "folds": {"n": 2, "groups": "set"}, "train": {"epochs": 1}}
    one, two, both = (Path("runs", name) for name in ("one", "two", "both"))
    said = run_experiment(small(**common), make_accelerator(), one)
    assert said.startswith("one (out-of-fold, intervals over 12 groups):")
    assert "RMSE, own scale" in said
    run_experiment(small(**common, classical={"kind": "ridge", "alpha": 10.0}), make_accelerator(), two)
    blend_runs([one, two], both, "z-score", 0.5)
    for run in (one, two, both):
        assert pd.read_csv(run / "truth.csv").columns.tolist() == ["Id", *TARGETS, "group"]
        assert read_run_groups(run / "truth.csv").to_dict() == dict(zip(1000 + number, names, strict=True))
        for table in (read_truth(run / "truth.csv"), read_predictions(run / "oof.csv")):
            assert list(table) == TARGETS
        scores = read_json(run / "scores.json")
        assert (scores["groups"], scores["n"]) == (12, 24)
        own, plain = (scores["measures"][name]["valence"] for name in ("rmse_own_scale", "rmse"))
        assert own["high"] == pytest.approx(8 * plain["high"])
        assert list(scores["measures"]["r2"]) == [*TARGETS, "mean"]
        draw_scores(run)
        assert (run / "oof.png").exists()
    assert "groups resampled, n=24:" in compare_runs(one, both)
    report = read_report(Path("runs"), Path("submissions"))
    assert not report.problems
    assert "## `data`: valence, energy and danceability, 24 clips" in make_page(
        report, "report", Path("none")
    )
    assert call("submit.py", "runs/both", "--day", "2026-01-02") == 0
    assert pd.read_csv("submissions/both-2026-01-02.csv").columns.tolist()[1:] == TARGETS
    pack(one, Path("packed"))
    for place in (one, Path("packed")):
        assert list(EmotionModel.from_pretrained(place).facts.intervals) == TARGETS
    write_json(folder / "dataset.json", {"scales": {"valence": [1]}})
    with pytest.raises(
        InputError, match=r"dataset\.json: .* Delete it, or write it again with music-emotion"
    ):
        run_experiment(small(**common), make_accelerator(), one)


def test_groups_that_are_not_used_are_told(small, make_emotion, tmp_path, capsys):
    root = tmp_path / "data"
    make_emotion(root, n_train=24, n_test=6)
    groups = pd.DataFrame({"Id": 1000 + np.arange(24), "group": np.arange(24) // 2})
    groups.to_csv(root / "multitask_dataset/groups-train.csv", index=False)
    told = "groups-train.csv is not used, so a group may be in two folds. Add --folds.groups set."
    for name, of_set in (("one", None), ("two", "set")):
        experiment = small(folds={"n": 2, "groups": of_set}, data={"root": str(root)}, train={"epochs": 1})
        run_experiment(experiment, make_accelerator(), tmp_path / name)
        assert (told in capsys.readouterr().out) == (name == "one")
