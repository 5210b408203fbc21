import hashlib

import numpy as np
import pandas as pd
import pytest

from music_emotion.evaluation.submission import check_submission, default_form, read_form, write_submission
from music_emotion.files import InputError, read_json, write_json

TARGETS = ("valence", "energy", "danceability")
IDS = [123212738, 7, 1004]


@pytest.fixture
def predictions() -> pd.DataFrame:
    values = np.array([[0.153, 0.961, 0.013], [0.2, 0.1, 1.2], [1 / 3, -0.5, 0.123456789]])
    return pd.DataFrame(values, pd.Index(IDS, name="Id"), list(TARGETS))


def test_without_a_sample_the_form_is_that_of_the_editions(tmp_path, predictions):
    path = tmp_path / "blend-2026-01-02.csv"
    write_submission(path, predictions, default_form(TARGETS, IDS), {"leaderboard": None})
    lines = path.read_text().splitlines()
    assert lines[0] == "Id.fused.full.npy.gz,valence,energy,danceability"
    assert lines[1] == "123212738.fused.full.npy.gz,0.153,0.961,0.013"
    assert len(lines) == 4


def test_the_card_holds_the_files_own_hash(tmp_path, predictions):
    path = tmp_path / "blend-2026-01-02.csv"
    write_submission(path, predictions, default_form(TARGETS, IDS), {"runs": ["a"], "leaderboard": None})
    card = read_json(path.with_suffix(".json"))
    assert card["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert card["rows"] == 3
    assert card["runs"] == ["a"]


@pytest.mark.parametrize("suffix", ["", ".fused.full.npy", ".fused.full.npy.gz"])
def test_a_sample_decides_header_id_form_columns_and_order(tmp_path, predictions, suffix):
    sample = tmp_path / "sample_submission.csv"
    rows = "".join(f"{clip_id}{suffix},0,0,0\n" for clip_id in (7, 1004, 123212738))
    sample.write_text("Id,energy,danceability,valence\n" + rows)
    path = tmp_path / "out.csv"
    write_submission(path, predictions, read_form(sample, TARGETS), {})
    table = pd.read_csv(path, dtype={"Id": str})
    assert table.columns.tolist() == ["Id", "energy", "danceability", "valence"]
    assert table["Id"].tolist() == [f"7{suffix}", f"1004{suffix}", f"123212738{suffix}"]
    assert table["valence"].tolist() == [0.2, 1 / 3, 0.153]


def test_a_sample_of_ids_alone_takes_the_runs_targets(tmp_path):
    sample = tmp_path / "ids.csv"
    sample.write_text("Id\n7\n1004\n")
    form = read_form(sample, TARGETS)
    assert form.targets == TARGETS
    assert form.ids == [7, 1004]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("Id,valence,arousal\n7,0,0\n", "asks for valence, arousal, but the run predicts valence, energy"),
        ("Id,valence,energy,danceability\n", "has no rows"),
        ("Id\n7\nseven\n", "line 3: 'seven' is not an integer id"),
        ("Id\n7\n8.npy\n", "line 3: '8.npy' is not an integer id"),
        ("Id\n7.npy\n8\n", "line 3: '8' is not an integer id followed by '.npy'"),
        ("Id\n\n7\n12abc\n", "line 4: '12abc' is not an integer id"),
        ("7,0,0,0\n8,0,0,0\n", "line 1: '7' is an id where the header should be"),
        ("", "has no rows"),
        ("Id\n7\n7\n", "1 ids occur more than once: 7"),
    ],
)
def test_a_sample_that_makes_no_sense_is_refused(tmp_path, text, sentence):
    (tmp_path / "sample.csv").write_text(text)
    with pytest.raises(InputError, match=sentence):
        read_form(tmp_path / "sample.csv", TARGETS)


def test_a_sample_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "sample.csv").write_bytes(b"\x89PNG\r\n\x1a\n\xff")
    with pytest.raises(InputError, match="is not a text file"):
        read_form(tmp_path / "sample.csv", TARGETS)


def test_a_missing_sample_is_refused(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read_form(tmp_path / "none.csv", TARGETS)


def test_other_ids_than_the_predicted_ones_are_counted_and_named(tmp_path, predictions):
    form = default_form(TARGETS, [7, 1004, 55, 66])
    with pytest.raises(
        InputError, match=r"2 have no prediction \(55, 66\) and 1 predictions .* \(123212738\)"
    ):
        write_submission(tmp_path / "x.csv", predictions, form, {})
    assert not (tmp_path / "x.csv").exists()


def test_another_submission_is_not_overwritten_unasked(tmp_path, predictions):
    path, form = tmp_path / "x.csv", default_form(TARGETS, IDS)
    write_submission(path, predictions, form, {})
    write_submission(path, predictions, form, {})  # the same again is no harm
    with pytest.raises(InputError, match="is another submission"):
        write_submission(path, predictions + 1, form, {})
    write_submission(path, predictions + 1, form, {}, overwrite=True)
    assert pd.read_csv(path)["valence"].iloc[0] == pytest.approx(1.153)


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda text: text.replace("energy", "arousal", 1), "the header is"),
        (lambda text: text.rsplit("\n", 2)[0] + "\n", "has 2 rows; expected 3"),
        (lambda text: text.replace("7.fused", "8.fused"), "missing or out of order"),
        (lambda text: text.replace("0.961", "nan"), "not finite"),
        (lambda text: text.replace("0.961", "high"), "not finite"),
    ],
)
def test_every_broken_rule_of_a_written_file_is_found(tmp_path, predictions, damage, sentence):
    path, form = tmp_path / "x.csv", default_form(TARGETS, IDS)
    write_submission(path, predictions, form, {})
    path.write_text(damage(path.read_text()))
    with pytest.raises(InputError, match=sentence):
        check_submission(path, form)


def test_a_sample_keeps_leading_zeros(tmp_path, predictions):
    sample = tmp_path / "sample.csv"
    sample.write_text("Id\n007\n0001004\n123212738\n")
    write_submission(tmp_path / "x.csv", predictions, read_form(sample, TARGETS), {})
    assert [line.split(",")[0] for line in (tmp_path / "x.csv").read_text().splitlines()] == [
        "Id",
        "007",
        "0001004",
        "123212738",
    ]


def test_predictions_that_are_not_finite_leave_no_file(tmp_path, predictions):
    predictions.iloc[1, 1] = np.nan
    with pytest.raises(InputError, match="not finite"):
        write_submission(tmp_path / "x.csv", predictions, default_form(TARGETS, IDS), {})
    assert list(tmp_path.iterdir()) == []


def test_a_leaderboard_score_survives_writing_the_same_again(tmp_path, predictions):
    path, form = tmp_path / "x.csv", default_form(TARGETS, IDS)
    write_submission(path, predictions, form, {"leaderboard": None})
    card = read_json(path.with_suffix(".json"))
    write_json(path.with_suffix(".json"), card | {"leaderboard": 0.7})
    write_submission(path, predictions, form, {"leaderboard": None})
    assert read_json(path.with_suffix(".json"))["leaderboard"] == 0.7
    write_submission(path, predictions + 1, form, {"leaderboard": None}, overwrite=True)
    assert read_json(path.with_suffix(".json"))["leaderboard"] is None
