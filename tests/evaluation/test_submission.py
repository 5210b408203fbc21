import hashlib

import numpy as np
import pandas as pd
import pytest

from music_emotion.evaluation.submission import default_sample, read_sample, write_submission
from music_emotion.files import InputError, read_json, write_json

TARGETS = ("valence", "energy", "danceability")
IDS = [123212738, 7, 1004]
DEFAULT = default_sample(TARGETS, IDS)
PREDICTIONS = pd.DataFrame(
    [[0.153, 0.961, 0.013], [0.2, 0.1, 1.2], [1 / 3, -0.5, 0.123456789]], pd.Index(IDS, name="Id"), TARGETS
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "blend-2026-01-02.csv"


@pytest.fixture
def read(tmp_path):
    """Read a sample of some text."""

    def read_text(text):
        (tmp_path / "sample.csv").write_text(text)
        return read_sample(tmp_path / "sample.csv", TARGETS)

    return read_text


def test_without_a_sample_the_columns_are_those_of_the_editions_and_the_card_has_the_hash(path):
    write_submission(path, PREDICTIONS, DEFAULT, {"runs": ["a"], "leaderboard": None})
    lines = path.read_text().splitlines()
    assert lines[:2] == [
        "Id.fused.full.npy.gz,valence,energy,danceability",
        "123212738.fused.full.npy.gz,0.153,0.961,0.013",
    ]
    assert len(lines) == 4
    card = read_json(path.with_suffix(".json"))
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    assert (card["sha256"], card["rows"], card["runs"]) == (sha256, 3, ["a"])
    assert card["targets"] == list(TARGETS)


def test_a_sample_keeps_the_spelling_of_ids_and_of_ids_alone_takes_the_runs_targets(path, read):
    write_submission(path, PREDICTIONS, read("Id\n007.npy\n1004.npy\n123212738.npy\n"), {})
    for text in (
        "Id, valence, energy, danceability\n7, 0, 0, 0\n",
        "Id;valence;energy;danceability;\n7;0;0;0;\n",
    ):
        assert read(text).columns.tolist() == ["Id", *TARGETS]
    table = pd.read_csv(path)
    assert table.columns.tolist() == ["Id", *TARGETS]
    assert table["Id"].tolist() == ["007.npy", "1004.npy", "123212738.npy"]
    assert table["valence"].tolist() == [0.2, 1 / 3, 0.153]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("Id,valence,energy,danceability\n", "has no rows"),
        ("Id\n7\n8.npy\n", "line 3: '8.npy' is not an integer id"),
        ("Id\n7.npy\n8\n", "line 3: '8' is not an integer id followed by '.npy'"),
        ("Id\n\n7\n12abc\n", "line 4: '12abc' is not an integer id"),
        ("valence\n7\n", "line 1: 'valence' can't name the ids"),
        ("Id\n7\n07\n", "1 ids occur more than once: 7"),
    ],
)
def test_a_sample_that_makes_no_sense_is_refused(read, text, sentence):
    with pytest.raises(InputError, match=sentence):
        read(text)


def test_predictions_that_are_not_finite_leave_no_file(path):
    with pytest.raises(InputError, match="not finite"):
        write_submission(path, PREDICTIONS.replace(0.1, np.nan), DEFAULT, {})
    assert not path.parent.exists() or list(path.parent.iterdir()) == []


def test_another_submission_is_not_overwritten_unasked_and_the_same_keeps_its_leaderboard_score(path):
    card = path.with_suffix(".json")
    write_submission(path, PREDICTIONS, DEFAULT, {"leaderboard": None})
    write_json(card, read_json(card) | {"leaderboard": 0.7})
    write_submission(path, PREDICTIONS, DEFAULT, {"leaderboard": None})
    assert read_json(card)["leaderboard"] == 0.7
    with pytest.raises(InputError, match="is another submission"):
        write_submission(path, PREDICTIONS + 1, DEFAULT, {})
    write_submission(path, PREDICTIONS + 1, DEFAULT, {"leaderboard": None}, overwrite=True)
    assert pd.read_csv(path)["valence"].iloc[0] == pytest.approx(1.153)
    assert read_json(card)["leaderboard"] is None


def test_what_is_written_is_read_back(path, monkeypatch):
    write = pd.DataFrame.to_csv
    for old, new in (("energy", "arousal"), ("7.fused", "8.fused"), ("0.961", "0.96"), ("1.2\n", "nan\n")):

        def damaged(table, place=None, *, old=old, new=new, **how):
            text = write(table, **how)
            assert old in text
            place.write_text(text.replace(old, new))

        monkeypatch.setattr(pd.DataFrame, "to_csv", damaged)
        with pytest.raises(InputError, match=r"2026-01-02\.csv is not as it was written"):
            write_submission(path, PREDICTIONS, DEFAULT, {})
        assert not path.exists()
