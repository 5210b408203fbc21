"""The table that stages exchange."""

import os

import numpy as np
import pandas as pd
import pytest

from music_emotion.files import (
    InputError,
    check_predictions,
    prediction_table,
    read_predictions,
    write_predictions,
)

VALUES = np.random.default_rng(0).random((4, 2))


def table_of(ids: list[int], values: np.ndarray = VALUES) -> pd.DataFrame:
    return prediction_table(np.array(ids), values, ("valence", "Hip-Hop"))


def test_a_table_is_sorted_by_id_and_keeps_each_clips_values():
    table = table_of([30, 10, 40, 20])
    assert list(table.index) == [10, 20, 30, 40]
    assert table.index.name == "Id"
    np.testing.assert_array_equal(table.loc[30], VALUES[0])
    np.testing.assert_array_equal(table["Hip-Hop"], VALUES[[1, 3, 0, 2], 1])


def test_a_written_table_reads_back_exactly(tmp_path):
    table = table_of([30, 10, 40, 20])
    write_predictions(tmp_path / "runs" / "valid.csv", table)
    pd.testing.assert_frame_equal(
        read_predictions(tmp_path / "runs" / "valid.csv"), table, rtol=1e-15, atol=0
    )
    assert (tmp_path / "runs" / "valid.csv").read_text().startswith("Id,valence,Hip-Hop\n10,")


def test_repeated_ids_are_refused_and_named():
    with pytest.raises(InputError, match=r"oof: 1 ids occur more than once: 20\."):
        check_predictions(table_of([20, 10, 20, 20]), "oof")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused_and_their_clips_named(value):
    values = VALUES.copy()
    values[2, 1] = value
    with pytest.raises(InputError, match=r"oof: 1 clips have predictions that are not finite numbers: 40\."):
        check_predictions(table_of([30, 10, 40, 20], values), "oof")


def test_a_refused_table_is_not_written(tmp_path):
    with pytest.raises(InputError, match=r"valid\.csv: 1 ids occur more than once"):
        write_predictions(tmp_path / "valid.csv", table_of([1, 1, 2, 3]))
    assert os.listdir(tmp_path) == []


def test_a_missing_table_gets_a_sentence(tmp_path):
    with pytest.raises(InputError, match=r"test\.csv does not exist"):
        read_predictions(tmp_path / "test.csv")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("id,valence\n1,0.5\n", "has the columns 'id', 'valence'; expected 'Id'"),
        ("Id,valence\n1,0.5\n1,0.6\n", "1 ids occur more than once: 1"),
        ("Id,valence\n1,0.5\n2,\n", "1 clips have predictions that are not finite numbers: 2"),
        ("", r"test\.csv is empty"),
        ("Id,valence\n1,loud\n", r"test\.csv is not a table of predictions"),
        ("Id,valence\n1.npy,0.5\n", r"test\.csv is not a table of predictions"),
    ],
)
def test_a_wrong_table_gets_a_sentence(tmp_path, text, sentence):
    (tmp_path / "test.csv").write_text(text)
    with pytest.raises(InputError, match=sentence):
        read_predictions(tmp_path / "test.csv")
