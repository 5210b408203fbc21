"""Files appear whole or not at all."""

import errno
import os
import stat
from pathlib import Path

import pandas as pd
import pytest

from music_emotion.files import (
    InputError,
    atomic_path,
    first_five,
    nearest,
    read_json,
    remove_unfinished,
    together,
    write_json,
    write_table,
    write_text,
)


def test_a_file_appears_under_its_name_when_the_block_ends(tmp_path):
    path = tmp_path / "new" / "folder" / "table.csv"
    with atomic_path(path) as temporary:
        temporary.write_text("whole")
        assert not path.exists()
        assert temporary.parent == path.parent
        assert temporary.suffix == ".csv"
    assert path.read_text() == "whole"
    assert os.listdir(path.parent) == ["table.csv"]


def test_a_failing_block_leaves_the_old_file_and_no_temporary(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("old")

    def write_half() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("ne")
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        write_half()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["table.csv"]


def test_an_interrupted_block_leaves_no_temporary(tmp_path):
    def interrupt() -> None:
        with atomic_path(tmp_path / "table.csv"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupt()
    assert os.listdir(tmp_path) == []


def test_files_are_as_readable_as_the_umask_allows(tmp_path):
    previous = os.umask(0o027)
    try:
        write_text(tmp_path / "a.txt", "a")
        assert os.umask(0o027) == 0o027  # and the umask itself is left alone
    finally:
        os.umask(previous)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o640


def test_json_reads_back_and_is_written_for_people(tmp_path):
    value = {"name": "Motörhead", "list": [1, 2.5, None], "nested": {"true": True}}
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == value
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert "Motörhead" in text
    assert len(text.splitlines()) > 5


def test_a_value_that_is_not_json_leaves_the_old_file(tmp_path):
    write_json(tmp_path / "a.json", 1)
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {1, 2})
    assert read_json(tmp_path / "a.json") == 1


def test_a_missing_json_file_gets_a_sentence(tmp_path):
    with pytest.raises(InputError, match=r"a\.json does not exist\. Run the stage that writes it first\."):
        read_json(tmp_path / "a.json")


@pytest.mark.parametrize("content", [b'{"half": ', b"", b"\xff\xfe\x00"])
def test_a_broken_json_file_gets_a_sentence(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.json is not valid JSON .* Delete it"):
        read_json(tmp_path / "a.json")


def test_tables_are_written_without_their_index(tmp_path):
    table = pd.DataFrame({"Id": [3, 1], "value": [0.1, 1 / 3]}, index=[7, 8])
    write_table(tmp_path / "a.csv", table)
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "a.csv"), table.reset_index(drop=True))


def test_messages_name_five_of_many():
    assert first_five(range(5)) == "0, 1, 2, 3, 4"
    assert first_five(range(6)) == "0, 1, 2, 3, 4, ..."
    assert first_five([]) == ""


def test_messages_suggest_the_nearest_word_or_list_all():
    assert nearest("valenc", ["energy", "valence"]) == "did you mean 'valence'?"
    assert nearest("xyz", ["energy", "valence"]) == "choose from energy, valence."


def texts(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def put(folder: Path, *names: str, full_at: str = "") -> None:
    """Write files together, as far as a disk has room."""
    with together(folder, "scores.json") as fresh:
        for name in names:
            if name == full_at:
                raise OSError(errno.ENOSPC, "full", str(fresh / name))
            (fresh / name).write_text("new")


@pytest.fixture
def scored(tmp_path) -> Path:
    for name in ("oof.csv", "scores.json"):
        (tmp_path / name).write_text("old")
    return tmp_path


def test_files_take_their_places_together_or_not_at_all(scored):
    with pytest.raises(OSError, match="full") as caught:
        put(scored, "oof.csv", "scores.json", full_at="scores.json")
    assert caught.value.filename == str(scored / "scores.json")
    assert texts(scored) == {"oof.csv": "old", "scores.json": "old"}
    put(scored, "scores.json", "oof.csv", "more.csv")
    assert texts(scored) == {"oof.csv": "new", "scores.json": "new", "more.csv": "new"}


def test_a_kill_while_files_take_their_places_leaves_nothing_that_speaks_of_others(scored, monkeypatch):
    replace, calls = os.replace, []

    def killed_at_the_second(source, target):
        calls.append(target)
        if len(calls) == 2:
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", killed_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        put(scored, "scores.json", "oof.csv")
    assert texts(scored) == {"oof.csv": "new"}


def test_unfinished_folders_are_removed_too(tmp_path):
    (tmp_path / "run" / ".writing-abc-scores.json").mkdir(parents=True)
    (tmp_path / "run" / ".writing-abc-scores.json" / ".writing-def-oof.csv").write_text("half")
    remove_unfinished(tmp_path)
    assert list((tmp_path / "run").iterdir()) == []


def test_of_a_file_only_its_own_unfinished_ones_beside_it_are_removed(tmp_path):
    own, others = tmp_path / ".writing-abc-table.csv", tmp_path / ".writing-abc-other.csv"
    below = tmp_path / "data" / ".writing-abc-table.csv"
    below.parent.mkdir()
    for path in (own, others, below):
        path.write_text("half")
    remove_unfinished(tmp_path / "table.csv")
    assert [path.exists() for path in (own, others, below)] == [False, True, True]
