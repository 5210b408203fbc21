"""The table that stages exchange."""

import os

import numpy as np
import pandas as pd
import pytest

from music_emotion.files import InputError, prediction_table, read_predictions, write_predictions

VALUES = np.random.default_rng(0).random((4, 2))


def table_of(ids: list[int], values: np.ndarray = VALUES) -> pd.DataFrame:
    return prediction_table(np.array(ids), values, ("valence", "Hip-Hop"))


def test_a_table_is_sorted_by_id_and_reads_back_exactly(tmp_path):
    table, path = table_of([30, 10, 40, 20]), tmp_path / "runs" / "valid.csv"
    assert list(table.index) == [10, 20, 30, 40]
    np.testing.assert_array_equal(table.loc[30], VALUES[0])
    np.testing.assert_array_equal(table["Hip-Hop"], VALUES[[1, 3, 0, 2], 1])
    write_predictions(path, table)
    pd.testing.assert_frame_equal(read_predictions(path), table, rtol=1e-15, atol=0)
    assert path.read_text().startswith("Id,valence,Hip-Hop\n10,")


def test_a_table_of_repeated_ids_or_values_that_are_not_finite_is_not_written(tmp_path):
    infinite = VALUES.copy()
    infinite[2, 1] = np.inf
    for table, sentence in (
        (table_of([20, 10, 20, 20]), r"valid\.csv: 1 ids occur more than once: 20\."),
        (table_of([30, 10, 40, 20], infinite), r"1 clips have predictions that are not finite numbers: 40\."),
    ):
        with pytest.raises(InputError, match=sentence):
            write_predictions(tmp_path / "valid.csv", table)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (None, "does not exist"),
        ("id,valence\n1,0.5\n", "has the columns 'id', 'valence'; expected 'Id'"),
        ("Id,valence\n1,0.5\n1,0.6\n", "1 ids occur more than once: 1"),
        ("Id,valence\n1,0.5\n2,\n", "1 clips have predictions that are not finite numbers: 2"),
        ("", "is empty"),
        ("Id,valence\n1,loud\n", "is not a table of predictions"),
        ("Id,valence\n1.npy,0.5\n", "is not a table of predictions"),
    ],
)
def test_a_wrong_table_gets_a_sentence(tmp_path, text, sentence):
    if text is not None:
        (tmp_path / "test.csv").write_text(text)
    with pytest.raises(InputError, match=rf"test\.csv:? {sentence}"):
        read_predictions(tmp_path / "test.csv")
