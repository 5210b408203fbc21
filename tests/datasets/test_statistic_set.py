"""Tables of statistics in place of arrays, with the layout's labels."""

import numpy as np
import pandas as pd
import pytest

from music_emotion.config import DataSection
from music_emotion.datasets.clip_set import load_clip_set, load_test_set, read_statistics
from music_emotion.datasets.clip_statistics import Statistics, families_of
from music_emotion.files import InputError


@pytest.fixture
def table(tmp_path):
    """Statistics of the genre set's training clips, as summarise.py writes them, in another order."""
    ids = np.arange(32, 0, -1)
    rng = np.random.default_rng(0)
    origin = dict.fromkeys(("path", "bytes", "modified_ns", "start_seconds", "end_seconds", "settings"), 1)
    frame = pd.DataFrame({"id": ids, **origin, "mfcc0_mean_db": ids * 1.0, "mfcc1_mean_db": ids + 0.5})
    frame = frame.assign(centroid_hz=rng.random(32) * 1000, reason=np.nan)
    frame.to_csv(tmp_path / "statistics-train.csv", index=False)
    return tmp_path / "statistics-train.csv"


def section(competition, path, **settings) -> DataSection:
    return DataSection(root=str(competition), statistics=str(path), **settings)


def test_rows_follow_their_ids_and_labels(competition, table):
    clips = load_clip_set(section(competition, table, columns=("mfcc*_mean_db",)), "genre", "train")
    assert len(clips) == 24  # Soundtrack is left out by the course's mapping
    statistics = Statistics(section(competition, table), "genre").of(clips)
    assert statistics.index.tolist() == clips.ids.tolist()
    np.testing.assert_array_equal(statistics.to_numpy(), np.stack([clips.ids, clips.ids + 0.5], axis=1))
    assert families_of(statistics) == ("", "")
    assert list(read_statistics(table)) == ["mfcc0_mean_db", "mfcc1_mean_db", "centroid_hz"]
    genres = {1: "Folk", 2: "Rock", 4: "Blues"}
    for clip_id, genre in genres.items():
        row = clips.values[clips.ids == clip_id][0]
        assert clips.outputs[row.argmax()] == genre


def test_another_split_has_another_table_or_none(competition, table):
    data = section(competition, str(table).replace("train", "{split}"))
    clips = load_clip_set(data, "genre", "train")
    assert len(load_test_set(data, "genre", clips)) == 0
    frame = pd.read_csv(table).iloc[:12].assign(id=np.arange(5001, 5013))
    frame.to_csv(table.with_name("statistics-test.csv"), index=False)
    test = load_test_set(data, "genre", clips)
    assert test.outputs == clips.outputs
    assert len(test) == 9


def test_clips_that_failed_are_left_out_as_far_as_allowed(competition, table):
    frame = pd.read_csv(table).astype({"reason": object})
    frame.loc[0, ["mfcc0_mean_db", "reason"]] = [np.nan, "too short"]
    frame.to_csv(table, index=False)
    assert 32 not in read_statistics(table).index
    with pytest.raises(InputError, match=r"1 ids have no array \(32\)"):
        load_clip_set(section(competition, table), "genre", "train")
    assert len(load_clip_set(section(competition, table, allow_bad_share=0.1), "genre", "train")) == 23


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda path: path.unlink(), r"does not exist\. Make it with music-emotion statistics"),
        (lambda path: path.write_bytes(b"\xff\xfe\x00"), "is not a table of statistics"),
        (lambda path: path.write_text("a,b\n1,2\n"), "has no column 'id' with one row for each clip"),
        (lambda path: path.write_text("id,b\n1,2\n1,3\n"), "has no column 'id' with one row for each clip"),
        (lambda path: path.write_text("id,b\n1,2\n"), r"has no columns like mfcc\*"),
        (lambda path: path.write_text("id,mfcc0\n1,loud\n"), "not finite numbers in mfcc0"),
    ],
)
def test_faults_get_a_sentence(table, change, sentence):
    change(table)
    with pytest.raises(InputError, match=sentence):
        read_statistics(table, ("mfcc*",))
