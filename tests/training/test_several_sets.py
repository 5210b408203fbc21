"""One training on several sets: paired names, scales, targets that a set lacks, leaks across sets."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from command_line import call
from scipy.stats import spearmanr

from music_emotion.audio.settings import FeatureSettings
from music_emotion.datasets.clip_set import load_clip_set
from music_emotion.datasets.splits import folds_of_run, groups_of
from music_emotion.files import InputError, read_json, read_predictions, read_truth
from music_emotion.listen.model import EmotionModel
from music_emotion.training.accelerator import make_accelerator
from music_emotion.training.folds import load_sets, make_network, run_experiment
from music_emotion.training.leaks import find_leaks

SET = "multitask_dataset"


@pytest.fixture
def other(competition, tmp_path) -> Path:
    """The arrays of 24 other clips, ids as in the competition, with arousal and tension for targets."""
    folder = tmp_path / "other" / SET
    (folder / "train").mkdir(parents=True)
    known = pd.read_csv(competition / SET / "train_labels.txt", index_col="Id")
    for clip_id in known.index[:24]:
        array = np.load(competition / SET / "train" / f"{clip_id}.fused.full.npy")
        noise = np.random.default_rng(clip_id).normal(0, 12, array.shape)
        noise[128:] = 0
        np.save(
            folder / "train" / f"{clip_id}.fused.full.npy", (array + noise).clip(-80, 1).astype(np.float32)
        )
    own = known[:24].assign(arousal=known["energy"] ** 3, tension=1 - known["valence"])
    own[["arousal", "tension"]].to_csv(folder / "train_labels.txt")
    return tmp_path / "other"


def test_two_sets_are_trained_and_each_target_scored_over_the_clips_that_have_it(
    small, competition, other, tmp_path, capsys
):
    data = {"more": [str(other)], "map": {"arousal": "energy"}}
    experiment = small(data={"root": str(competition), "stores": str(tmp_path / "stores"), **data})
    directory = tmp_path / "run"
    said = run_experiment(experiment, make_accelerator(), directory)
    assert f"{other}: 24 clips, ids 2000 to 2023, of arousal as energy, tension." in capsys.readouterr().out
    truth, oof = (
        read_truth(directory / "truth.csv"),
        read_predictions(directory / "oof.csv"),
    )
    assert truth.notna().sum().to_dict() == {"valence": 40, "energy": 64, "danceability": 40, "tension": 24}
    assert len(oof) == 64
    pooled = read_json(directory / "scores.json")["pooled"]
    for name, known in truth.items():
        known = known.dropna()
        assert pooled[name]["n"] == len(known)
        assert pooled[name]["value"] == pytest.approx(spearmanr(known, oof.loc[known.index, name]).statistic)
        assert pooled[name]["low"] <= pooled[name]["value"] <= pooled[name]["high"]
    sets = pd.read_csv(directory / "sets.csv", index_col="Id")
    assert sets.loc[2003].tolist() == [str(other), 1003]
    with pytest.raises(InputError, match="not finite"):
        read_predictions(directory / "truth.csv")
    alone = spearmanr(truth.loc[2000:, "tension"], oof.loc[2000:, "tension"]).statistic
    assert f"of {other}: energy" in said
    assert f"tension {alone:.3f}" in said
    capsys.readouterr()
    assert call("pack.py", directory, "--out", tmp_path / "packed") == 0
    assert "nan" not in capsys.readouterr().out
    facts = EmotionModel.from_pretrained(tmp_path / "packed").facts
    assert {row["target"]: row["n"] for row in facts.about["coverage"] if row["third"] == "overall"} == {
        **{"valence": 40, "energy": 64, "danceability": 40, "tension": 24}
    }
    assert set(facts.intervals) == set(truth)


def test_a_target_is_brought_to_the_scale_of_the_first_set(small, competition, other):
    data = small(data={"more": [str(other)], "map": {"arousal": "energy"}}).data
    clips = load_clip_set(data, "emotion", "train")
    assert clips.outputs == ("valence", "energy", "danceability", "tension")
    first, second = clips.values[:40, 1], clips.values[40:, 1]
    own = pd.read_csv(other / SET / "train_labels.txt")["arousal"].to_numpy()
    np.testing.assert_array_equal(
        first, pd.read_csv(competition / SET / "train_labels.txt")["energy"].astype("f4")
    )
    assert (second.mean(), second.std()) == (pytest.approx(first.mean()), pytest.approx(first.std()))
    assert np.corrcoef(second, own)[0, 1] == pytest.approx(1)
    assert np.isnan(clips.values[40:, [0, 2]]).all()
    assert np.isnan(clips.values[:40, 3]).all()


def test_the_statistics_of_a_single_set_are_those_of_before(small):
    experiment = small()
    clips, _ = load_sets(experiment, make_accelerator())
    card = make_network(experiment, clips, 0).card
    assert card.target_mean == tuple(clips.values.mean(axis=0).tolist())
    assert card.target_deviation == tuple(clips.values.std(axis=0).tolist())
    several = clips.values.copy()
    several[5:, 1] = np.nan
    card = make_network(experiment, type(clips)(clips.ids, clips.store, clips.outputs, several), 0).card
    assert card.target_mean[1] == pytest.approx(clips.values[:5, 1].mean())
    assert card.target_mean[0] == pytest.approx(clips.values[:, 0].mean())


def test_one_recording_in_two_sets_is_told_and_groups_belong_to_their_set(
    small, competition, other, tmp_path
):
    for name, ids in (("own", range(1000, 1040)), ("other", range(1000, 1024))):
        folder = tmp_path / name / SET
        folder.mkdir(parents=True, exist_ok=True)
        if name == "own":
            for each in ("train", "train_labels.txt"):
                (folder / each).symlink_to(competition / SET / each)
        groups = pd.DataFrame({"Id": ids, "group": [f"band {k // 2}" for k in ids]})
        groups.to_csv(folder / "groups-train.csv", index=False)
    copied = other / SET / "train" / "1011.fused.full.npy"
    copied.unlink()
    copied.symlink_to(competition / SET / "train" / "1030.fused.full.npy")
    data = {"root": str(tmp_path / "own"), "more": [str(other)], "map": {"arousal": "energy"}}
    experiment = small(seeds=[0, 1, 2, 3], data=data, folds={"n": 3, "groups": "set"})
    clips, test = load_sets(experiment, make_accelerator())
    groups = groups_of(experiment, clips)
    assert (groups[0], groups[40]) == (f"{tmp_path / 'own'}: band 500", f"{other}: band 500")
    folds = folds_of_run(experiment, clips)
    for fold in folds:
        ids = (set(fold.training.ids // 2), set(fold.valid.ids // 2))  # joined ids of a pair have one half
        assert not ids[0] & ids[1]
    assert any((1030 in fold.valid.ids) != (2011 in fold.valid.ids) for fold in folds)
    pairs, _ = find_leaks(folds, test)
    found = pairs.loc[pairs["similarity"] > 0.99, ["Id", "duplicate", "where"]]
    assert found.to_numpy().tolist() == [[1030, 2011, "fold border"]]


def test_with_a_published_split_other_sets_are_trained_on_alone(small, competition, other, tmp_path):
    folder = tmp_path / "own" / SET
    (folder / "test").mkdir(parents=True)
    for each in ("train", "train_labels.txt"):
        (folder / each).symlink_to(competition / SET / each)
    (folder / "test" / "9000.fused.full.npy").symlink_to(competition / SET / "test" / "1000.fused.full.npy")
    (folder / "test" / "9001.fused.full.npy").symlink_to(competition / SET / "test" / "1001.fused.full.npy")
    (folder / "test_labels.txt").write_text("Id,valence,energy,danceability\n9000,0,0,1\n9001,1,1,0\n")
    parts = ["validation"] * 8 + ["train"] * 32 + ["test"] * 2
    pd.DataFrame({"Id": [*range(1000, 1040), 9000, 9001], "split": parts}).to_csv(
        folder / "splits.csv", index=False
    )
    data = {"root": str(tmp_path / "own"), "more": [str(other)], "map": {"arousal": "energy"}}
    experiment = small(data=data, folds={"split": "published"})
    run_experiment(experiment, make_accelerator(), tmp_path / "run")
    scores = read_json(tmp_path / "run" / "scores.json")
    (repeat,) = scores["repeats"]
    assert (repeat["n_train"], repeat["n_valid"], repeat["n_test"]) == (56, 8, 2)
    assert set(repeat["test"]) == set(repeat["valid"]) == {"valence", "energy", "danceability", "mean"}


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ({"map": {"arousl": "energy"}}, r"data\.map: no set has arousl; did you mean 'arousal'"),
        (
            {"map": {"arousal": "tension"}},
            r"data\.map gives two targets of .*other one name: tension, tension",
        ),
        ({"targets": ["energy", "tensoin"]}, r"data\.targets: no set has tensoin; did you mean 'tension'"),
        ({"targets": ["energy"]}, r"other has no target of energy\. Leave it out of data\.more"),
    ],
)
def test_sets_that_do_not_fit_get_a_sentence(small, other, data, sentence):
    with pytest.raises(InputError, match=sentence):
        load_clip_set(small(data={"more": [str(other)], **data}).data, "emotion", "train")


def test_arrays_of_other_settings_are_refused(small, other):
    (other / SET / "settings.json").write_text(json.dumps(asdict(FeatureSettings(hop_length=256))))
    with pytest.raises(InputError, match=r"other has arrays of .*'hop_length': 256.* same settings"):
        load_clip_set(small(data={"more": [str(other)]}).data, "emotion", "train")
