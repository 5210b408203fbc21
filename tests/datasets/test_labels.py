"""Label files of every edition, and sentences for what is wrong in them."""

import re
from pathlib import Path

import pandas as pd
import pytest

from music_emotion.config import DataSection
from music_emotion.datasets.labels import map_genres, read_genres, read_groups, read_targets
from music_emotion.files import InputError

MAPPING = DataSection().genres


@pytest.fixture
def written(tmp_path):
    """Write the lines of a label file: `written("Id,valence", "1,0.5")`."""

    def write(*lines: str, encoding: str = "utf-8", newline: str = "\n") -> Path:
        path = tmp_path / "train_labels.txt"
        path.write_bytes("".join(line + newline for line in lines).encode(encoding))
        return path

    return write


@pytest.mark.parametrize("separator", [",", "\t", " ", "   "])
@pytest.mark.parametrize("header", [True, False])
def test_targets_and_genres_are_read_in_every_spelling(written, separator, header):
    for name in ("{}", "{}.fused.full.npy", "{}.full.fused.npy.gz", "{}.beatsync.fused.npy.gz"):
        lines = [["Id", "valence", "energy", "danceability"]] if header else []
        lines += [[name.format(1004), "0.578", "0.973", "0.873"], [name.format(3), "0", "1.0", "5e-1"]]
        table = read_targets(written(*(separator.join(line) for line in lines)))
        assert list(table.columns) == ["valence", "energy", "danceability"]
        assert table.index.name == "Id"
        assert list(table.index) == [1004, 3]
        assert table.to_numpy().tolist() == [[0.578, 0.973, 0.873], [0, 1, 0.5]]
        lines = [["Id", "Genre"]] if header else []
        lines += [[name.format(1042), "Blues"], [name.format(6), "Psych-Rock"], [name.format(12), "Hip-Hop"]]
        genres = read_genres(written(*(separator.join(line) for line in lines)))
        assert map_genres(genres, MAPPING, "here").to_dict() == {1042: "Blues", 6: "Rock", 12: "Hip-Hop"}
        assert genres.index.name == "Id"


def test_only_the_wanted_targets_are_kept_and_checked_in_the_order_asked(written):
    path = written("Id, valence ,energy,tempo", "", "5 , 0.1,0.2, 128.0 ", " ")
    table = read_targets(path, ["energy", "valence"])
    assert list(table.columns) == ["energy", "valence"]
    assert table.loc[5].tolist() == [0.2, 0.1]


def test_ids_are_found_in_their_column_and_numbers_that_are_no_ids_are_refused(written):
    for lines in (
        *(("valence;ID", "0,25;2.0", "0,5;0007"), ("x,valence,Id.fused.npy", "1,.25,2.npy", "0,.5,7.npy")),
        (",Id,valence", "0,2,.25", "1,7,.5"),
    ):
        assert read_targets(written(*lines), ["valence"])["valence"].to_dict() == {2: 0.25, 7: 0.5}
    genres = written(",title,Id,Genre", "4,a,2,1", "9,b,7,NA")
    assert read_genres(genres).to_dict() == {2: "1", 7: "NA"}
    for first in ("1e3", "1.5", "1E+03", "4 .5"):
        with pytest.raises(InputError, match=f"line 2: '{re.escape(first)} 0.5' does not start with an id"):
            read_targets(written("nr,valence", f"{first},0.5"))
    with pytest.raises(InputError, match="tempo is 1,234; expected a number with a decimal point"):
        read_targets(written("Id;tempo", "1;1,234"))
    with pytest.raises(InputError, match=r"has 3 columns\. Call the one of the group 'group'"):
        read_groups(written("Id,artist,album", "3,a,x"))


def test_another_range_is_the_experiments_choice_and_thousands_of_bad_cells_stay_a_readable_message(written):
    path = written("Id,valence", "1,-3", "2,9", "3")
    with pytest.raises(InputError, match="line 3: valence is 9; expected -3 to 8; line 4 has 1 fields"):
        read_targets(path, allowed=(-3, 8))
    path = written(*(f"{clip},7,0.5,0.5" for clip in range(3000)))
    with pytest.raises(InputError, match=r"3000 cells can't be used: line 1: .{,900}; \.\.\.\. Correct"):
        read_targets(path)


def test_the_courses_mapping_makes_ten_classes_of_twenty_and_drops_five(written):
    rows = [f"{number}.fused.full.npy.gz\t{name}" for number, name in enumerate(MAPPING)]
    raw = read_genres(written("Id\tGenre", *rows))
    genres = map_genres(raw, MAPPING, "here")
    assert len(MAPPING) == 20
    assert len(genres) == 15
    classes = "Blues Classical Electronic Folk Hip-Hop Jazz Metal Pop Rock Trip-Hop"
    assert " ".join(sorted(set(genres))) == classes
    assert set(map_genres(raw, {}, "here")) == set(MAPPING)


def test_the_default_mapping_keeps_the_classes_of_a_set_with_none_of_the_competitions(written, capsys):
    raw = read_genres(written("Id\tGenre", "1\tQ1", "2\tQ4"))
    assert map_genres(raw, MAPPING, "here").to_dict() == {1: "Q1", 2: "Q4"}
    assert "here: no genre is one of the competition's" in capsys.readouterr().out
    for genres, mapping in ((raw, {"Q2": "Q2"}), (pd.concat([raw, pd.Series(["Jazz"], [3])]), MAPPING)):
        with pytest.raises(InputError, match=r"here: the genres Q1, Q4 are not in data\.genres"):
            map_genres(genres, mapping, "here")


def test_an_accent_is_the_same_text_however_it_was_typed(written):
    composed, decomposed = "caf\xe9", "cafe\u0301"
    raw = read_genres(written("Id\tGenre", f"1\t{composed}", f"2\t{decomposed}"))
    for mapping in ({}, {composed: decomposed}, {decomposed: composed}):
        assert map_genres(raw, mapping, "here").tolist() == [composed] * 2
    assert set(read_groups(written("Id,group", f"1,{composed}", f"2,{decomposed}"))) == {composed}


def test_a_genre_of_two_words_survives_and_a_line_without_one_is_named(written):
    for separator in "\t,":
        path = written(f"Id{separator}Genre", f"1{separator}Old Time Radio")
        assert read_genres(path).to_dict() == {1: "Old Time Radio"}
    for row in ("2", "2\t", "2\t "):
        with pytest.raises(InputError, match="line 3: there is no genre after the id"):
            read_genres(written("Id\tGenre", "1\tBlues", row))


def test_groups_are_read_by_id_from_their_column(written):
    assert read_groups(written("Id,group", "3,The Artist", "1,17")).to_dict() == {3: "The Artist", 1: "17"}
    assert read_groups(written("Id,artist,group", "3,a,x", "1,b,y")).to_dict() == {3: "x", 1: "y"}
    with pytest.raises(InputError, match="line 2: there is no group after the id"):
        read_groups(written("Id,group", "2,"))
