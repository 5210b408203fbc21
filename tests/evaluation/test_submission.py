import hashlib

import numpy as np
import pandas as pd
import pytest

from music_emotion.evaluation.submission import (
    check_submission,
    default_sample,
    read_sample,
    write_submission,
)
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


@pytest.mark.parametrize("suffix", ["", ".fused.full.npy", ".fused.full.npy.gz"])
def test_a_sample_decides_header_ids_columns_and_order(path, read, suffix):
    rows = "".join(f"{clip_id}{suffix},0,0,0\n" for clip_id in ("007", 1004, 123212738))
    write_submission(path, PREDICTIONS, read("Id,energy,danceability,valence\n" + rows), {})
    table = pd.read_csv(path, dtype={"Id": str})
    assert table.columns.tolist() == ["Id", "energy", "danceability", "valence"]
    assert table["Id"].tolist() == [f"007{suffix}", f"1004{suffix}", f"123212738{suffix}"]
    assert table["valence"].tolist() == [0.2, 1 / 3, 0.153]
    sample = read(f"Id\n7{suffix}\n1004{suffix}\n")  # a file of ids alone takes the run's targets
    assert (sample.index.tolist(), list(sample)) == ([7, 1004], ["Id", *TARGETS])


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


def test_what_can_not_be_submitted_leaves_no_file(path):
    with pytest.raises(InputError, match=r"2 have no prediction \(55, 66\); 1 predictions .* \(123212738\)"):
        write_submission(path, PREDICTIONS, default_sample(TARGETS, [7, 1004, 55, 66]), {})
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


def test_every_broken_rule_of_a_written_file_is_found(path):
    write_submission(path, PREDICTIONS, DEFAULT, {})
    text = path.read_text()
    for old, new, sentence in (
        ("energy", "arousal", "the header is"),
        ("1004.fused.full.npy.gz,0.3333333333333333,-0.5,0.123456789\n", "", "has 2 rows; expected 3"),
        ("7.fused", "8.fused", "1 ids are missing or out of order: 7.fused"),
        ("0.961", "nan", "1 rows hold values that are not finite: 123212738"),
        ("0.961", "high", "not finite"),
    ):
        assert old in text
        path.write_text(text.replace(old, new))
        with pytest.raises(InputError, match=sentence):
            check_submission(path, DEFAULT)
