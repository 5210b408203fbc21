"""Label files of every edition, and sentences for what is wrong in them."""

from pathlib import Path

import pytest

from music_emotion.config import DataSection
from music_emotion.datasets.labels import map_genres, read_genres, read_groups, read_targets
from music_emotion.files import InputError

MAPPING = DataSection().genres


def written(path: Path, *lines: str, encoding: str = "utf-8", newline: str = "\n") -> Path:
    path.write_bytes((newline.join(lines) + newline).encode(encoding))
    return path


@pytest.mark.parametrize("separator", [",", "\t", " ", "   "])
@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize("name", ["{}", "{}.fused.full.npy.gz", "{}.fused.full.npy", "{}.full.fused.npy.gz"])
def test_targets_are_read_in_every_spelling(tmp_path, separator, header, name):
    lines = [["Id", "valence", "energy", "danceability"]] if header else []
    lines += [[name.format(1004), "0.578", "0.973", "0.873"], [name.format(3), "0", "1.0", "5e-1"]]
    table = read_targets(written(tmp_path / "train_labels.txt", *(separator.join(line) for line in lines)))
    assert list(table.columns) == ["valence", "energy", "danceability"]
    assert table.index.name == "Id"
    assert list(table.index) == [1004, 3]
    assert table.to_numpy().tolist() == [[0.578, 0.973, 0.873], [0, 1, 0.5]]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_line_ends_blank_ends_and_byte_order_marks_do_not_matter(tmp_path, encoding, newline):
    lines = ("Id, valence ,energy,danceability", "7 , 0.1,0.2, 0.3 ", "", " ")
    path = written(tmp_path / "train_labels.txt", *lines, encoding=encoding, newline=newline)
    table = read_targets(path)
    assert list(table.columns) == ["valence", "energy", "danceability"]
    assert table.loc[7].tolist() == [0.1, 0.2, 0.3]


@pytest.mark.parametrize(
    ("header", "row", "names"),
    [
        ("Id,arousal", "5,0.25", ["arousal"]),
        ("Id,arousal,valence", "5,0.25,0.5", ["arousal", "valence"]),
        ("Id,a,b,c,d,e", "5,0.1,0.2,0.3,0.4,0.5", ["a", "b", "c", "d", "e"]),
    ],
)
def test_targets_may_be_others_fewer_or_more(tmp_path, header, row, names):
    table = read_targets(written(tmp_path / "train_labels.txt", header, row))
    assert list(table.columns) == names
    assert table.loc[5].tolist() == [float(cell) for cell in row.split(",")[1:]]


def test_only_the_wanted_targets_are_kept_and_checked_in_the_order_asked(tmp_path):
    path = written(tmp_path / "train_labels.txt", "Id,valence,energy,tempo", "5,0.1,0.2,128.0")
    table = read_targets(path, ["energy", "valence"])
    assert list(table.columns) == ["energy", "valence"]
    assert table.loc[5].tolist() == [0.2, 0.1]


def test_an_unknown_target_is_refused_with_a_suggestion(tmp_path):
    path = written(tmp_path / "train_labels.txt", "Id,valence,energy", "5,0.1,0.2")
    with pytest.raises(InputError, match=r"has no target 'valense'; did you mean 'valence'\?"):
        read_targets(path, ["valense"])


def test_bad_cells_are_all_named_with_their_lines(tmp_path):
    path = written(
        tmp_path / "train_labels.txt",
        "Id,valence,energy,danceability",
        "1,0.5,0.5,0.5",
        "2,1.7,0.5,high",
        "3,0.5",
        "4,nan,-0.1,",
    )
    with pytest.raises(InputError) as error:
        read_targets(path)
    message = str(error.value)
    assert "train_labels.txt" in message
    assert "line 3: valence is 1.7; expected 0 to 1" in message
    assert "line 3: danceability is high; expected a number" in message
    assert "line 4 has 2 fields, expected 4" in message
    assert "line 5: valence is nan; expected 0 to 1" in message
    assert "line 5: energy is -0.1; expected 0 to 1" in message
    assert "line 5: danceability is empty; expected a number" in message
    assert "line 2" not in message


def test_lines_are_counted_from_the_first_without_a_header(tmp_path):
    with pytest.raises(InputError, match="line 2: valence is 2; expected 0 to 1"):
        read_targets(written(tmp_path / "train_labels.txt", "1,0.5,0.5,0.5", "2,2,0.5,0.5"))


def test_a_blank_line_between_rows_is_named(tmp_path):
    with pytest.raises(InputError, match="line 3"):
        read_targets(written(tmp_path / "train_labels.txt", "Id,valence", "1,0.5", "", "2,0.5"))


def test_thousands_of_bad_cells_stay_a_readable_message(tmp_path):
    path = written(tmp_path / "train_labels.txt", "Id,valence", *(f"{clip},7" for clip in range(3000)))
    with pytest.raises(InputError, match=r"3000 cells can't be used: line 2: .*; \.\.\.\. Correct") as error:
        read_targets(path)
    assert len(str(error.value)) < 1000


def test_another_range_is_the_experiments_choice(tmp_path):
    path = written(tmp_path / "train_labels.txt", "Id,valence", "1,-3", "2,9")
    assert read_targets(path, allowed=(-3, 9))["valence"].tolist() == [-3, 9]
    with pytest.raises(InputError, match="line 3: valence is 9; expected -3 to 8"):
        read_targets(path, allowed=(-3, 8))


def test_repeated_ids_are_refused_and_named(tmp_path):
    path = written(tmp_path / "train_labels.txt", "Id,valence", "7,0.1", "8,0.1", "7.npy,0.2")
    with pytest.raises(InputError, match=r"1 ids occur more than once: 7\."):
        read_targets(path)


def test_a_row_without_an_id_is_named(tmp_path):
    path = written(tmp_path / "train_labels.txt", "Id,valence", "1,0.5", "track,0.5")
    with pytest.raises(InputError, match=r"line 3: 'track 0\.5' does not start with an id"):
        read_targets(path)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("", "is empty"), ("\n \n", "is empty"), ("Id,valence\n", "has a header but no rows")],
)
def test_a_file_without_rows_gets_a_sentence(tmp_path, text, sentence):
    (tmp_path / "train_labels.txt").write_text(text)
    with pytest.raises(InputError, match=sentence):
        read_targets(tmp_path / "train_labels.txt")


@pytest.mark.parametrize("separator", ["\t", ",", " "])
@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize(
    "name",
    [
        "{}.fused.full.npy.gz",
        "{}.full.fused.npy.gz",
        "{}.beatsync.fused.npy.gz",
        "{}.fused.full.npy",
        "{}",
    ],
)
def test_genres_are_read_in_every_spelling(tmp_path, separator, header, name):
    rows = [(name.format(1042), "Blues"), (name.format(6), "Psych-Rock"), (name.format(12), "Hip-Hop")]
    lines = [separator.join(row) for row in ([("Id", "Genre")] if header else []) + rows]
    genres = map_genres(read_genres(written(tmp_path / "train_labels.txt", *lines)), MAPPING, "here")
    assert genres.to_dict() == {1042: "Blues", 6: "Rock", 12: "Hip-Hop"}
    assert genres.index.name == "Id"


def test_the_courses_mapping_makes_ten_classes_of_twenty_and_drops_five(tmp_path):
    rows = [f"{number}.fused.full.npy.gz\t{name}" for number, name in enumerate(MAPPING)]
    path = written(tmp_path / "train_labels.txt", "Id\tGenre", *rows)
    genres = map_genres(read_genres(path), MAPPING, "here")
    assert len(MAPPING) == 20
    assert len(genres) == 15
    assert sorted(set(genres)) == sorted(
        ["Blues", "Classical", "Electronic", "Folk", "Hip-Hop", "Jazz", "Metal", "Pop", "Rock", "Trip-Hop"]
    )
    assert set(map_genres(read_genres(path), {}, "here")) == set(MAPPING)


def test_a_genre_of_two_words_survives_tabs_and_commas(tmp_path):
    for separator in ("\t", ","):
        path = written(tmp_path / "train_labels.txt", f"Id{separator}Genre", f"1{separator}Old Time Radio")
        assert read_genres(path).to_dict() == {1: "Old Time Radio"}


def test_a_genre_the_mapping_does_not_know_is_named(tmp_path):
    path = written(tmp_path / "train_labels.txt", "Id\tGenre", "1\tBlues", "2\tPolka", "3\tBlus")
    with pytest.raises(InputError, match=r"the genres Blus, Polka are not in data\.genres"):
        map_genres(read_genres(path), MAPPING, str(path))


@pytest.mark.parametrize("row", ["2", "2\t", "2\t "])
def test_a_line_without_a_genre_is_named(tmp_path, row):
    path = written(tmp_path / "train_labels.txt", "Id\tGenre", "1\tBlues", row)
    with pytest.raises(InputError, match="line 3: there is no genre after the id"):
        map_genres(read_genres(path), MAPPING, str(path))


def test_repeated_ids_in_a_genre_file_are_refused(tmp_path):
    path = written(tmp_path / "train_labels.txt", "Id\tGenre", "1.npy\tBlues", "1.npy.gz\tJazz")
    with pytest.raises(InputError, match="1 ids occur more than once: 1"):
        map_genres(read_genres(path), MAPPING, str(path))


def test_groups_are_read_by_id(tmp_path):
    path = written(tmp_path / "groups.csv", "Id,group", "3,The Artist", "1,17")
    assert read_groups(path).to_dict() == {3: "The Artist", 1: "17"}


def test_a_missing_group_file_gets_a_sentence(tmp_path):
    with pytest.raises(InputError, match=r"groups\.csv does not exist. Correct folds\.groups"):
        read_groups(tmp_path / "groups.csv")


@pytest.mark.parametrize("row", ["2", "2,"])
def test_a_clip_without_a_group_is_named(tmp_path, row):
    with pytest.raises(InputError, match="line 3: there is no group after the id"):
        read_groups(written(tmp_path / "groups.csv", "Id,group", "1,a", row))
