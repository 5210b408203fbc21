"""Files appear whole or not at all."""

import errno
import fcntl
import importlib
import os
import shutil
import stat
import tempfile
from contextlib import nullcontext
from pathlib import Path

import pytest

import music_emotion
from music_emotion import failures, files
from music_emotion.files import InputError, read_json


def test_a_file_appears_whole_and_as_readable_as_the_umask_allows(tmp_path):
    path = tmp_path / "new" / "folder" / "table.csv"
    previous = os.umask(0o027)
    try:
        with files.atomic_path(path) as temporary:
            temporary.write_text("whole")
            assert not path.exists()
            assert (temporary.parent, temporary.suffix) == (path.parent, ".csv")
        assert os.umask(0o027) == 0o027  # and the umask itself is left alone
    finally:
        os.umask(previous)
    assert path.read_text() == "whole"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert os.listdir(path.parent) == ["table.csv"]


@pytest.mark.parametrize("error", [OSError("the disk is full"), KeyboardInterrupt()])
def test_a_failing_block_leaves_the_old_file_and_no_temporary(tmp_path, error):
    path = tmp_path / "table.csv"
    path.write_text("old")

    def write_half() -> None:
        with files.atomic_path(path) as temporary:
            temporary.write_text("ne")
            raise error

    with pytest.raises(type(error)):
        write_half()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["table.csv"]


def test_json_reads_back_and_is_written_for_people(tmp_path):
    value = {"name": "Motörhead\udce9", "list": [1, 2.5, None], "nested": {"true": True}}
    path = tmp_path / "a.json"
    files.write_json(path, value)
    with pytest.raises(TypeError):
        files.write_json(path, {1, 2})
    assert read_json(path) == value
    text = path.read_text(encoding="utf-8")
    assert "Motörhead" in text
    assert len(text.splitlines()) > 5


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffId , name\r\n7 , Blues\r\n8 , Hip Hop\r\n\r\n,\r\n",
        "Id;name;;\r7;Blues;;\r8;Hip Hop;;\r;;;",
        *(",Id,name\n0,7,Blues\n1,8,Hip Hop\n", '"","Id","name"\n"1","7","Blues"\n"2","8","Hip Hop"'),
        "Unnamed: 0\tId\tname\n0\t7\tBlues\n1\t8\tHip Hop\n",
    ],
)
def test_a_table_is_read_as_a_spreadsheet_reads_it(tmp_path, text):
    for encoding in ("utf-8", "utf-16"):
        (tmp_path / "a.csv").write_bytes(text.encode(encoding))
        cells = files.read_cells(tmp_path / "a.csv")
        assert cells.to_numpy().tolist() == [["Id", "name"], ["7", "Blues"], ["8", "Hip Hop"]]


def test_a_quoted_cell_may_have_separators_and_line_breaks(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('"a;b",Id\n"x, ""y""\nz",1\n\nit\'s 5" long,2\n')
    cells = files.read_cells(path)
    assert cells.to_numpy().tolist() == [["a;b", "Id"], ['x, "y"\nz', "1"], ["it's 5\" long", "2"]]
    assert cells.index.tolist() == [1, 2, 5]
    path.write_text('Id,name\n1,a\n2,"b\n3,c\n')
    with pytest.raises(InputError, match="line 3 can't be split into cells"):
        files.read_cells(path)


@pytest.mark.parametrize("content", [b'{"half": ', b"", b"\xff\xfe\x00"])
def test_a_broken_or_missing_json_file_gets_a_sentence(tmp_path, content):
    with pytest.raises(InputError, match=r"a\.json does not exist\. Run the command that writes it first\."):
        read_json(tmp_path / "a.json")
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.json is not valid JSON .* Delete it"):
        read_json(tmp_path / "a.json")
    with pytest.raises(InputError, match=r"a\.json/b does not exist"):
        read_json(tmp_path / "a.json" / "b")


def test_messages_name_five_of_many_and_the_nearest_word():
    said = [files.first_five(range(n)) for n in (0, 5, 6)]
    assert said == ["", "0, 1, 2, 3, 4", "0, 1, 2, 3, 4, ..."]
    assert files.nearest("valenc", ["energy", "valence"]) == "did you mean 'valence'?"
    assert files.nearest("xyz", ["energy", "valence"]) == "choose from energy, valence."


def texts(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def put(folder: Path, *names: str, full_at: str = "") -> None:
    """Write files together, as far as a disk has room."""
    with files.together(folder, "scores.json") as fresh:
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


@pytest.mark.parametrize("error", [errno.EPERM, errno.EBUSY, errno.EXDEV, errno.ENOTSUP])
def test_what_a_disk_does_not_rename_is_copied(scored, monkeypatch, error):
    def refuse(source, target):
        raise OSError(error, "not renamed", source, None, target)

    def full(source, target):
        moved.append(target.name)
        target.write_bytes(source.read_bytes()[:1])
        raise OSError(errno.ENOSPC, "full")

    moved: list[str] = []
    monkeypatch.setattr(os, "replace", refuse)
    put(scored, "scores.json", "oof.csv", "more.csv")
    assert texts(scored) == {"oof.csv": "new", "scores.json": "new", "more.csv": "new"}
    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(OSError, match="full") as caught:
        put(scored, "scores.json", "oof.csv")
    assert caught.value.filename == str(scored / "oof.csv")
    assert moved == ["oof.csv"]  # what describes it is the last
    assert texts(scored) == {"more.csv": "new"}


def held(path: Path) -> None:
    with files.alone_at(path, "wait"):
        pass


@pytest.mark.parametrize("error", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EIO, errno.EPERM])
def test_a_disk_without_locks_gives_one_warning_and_the_work_goes_on(tmp_path, monkeypatch, capsys, error):
    def refuse(*_):
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(files, "_WITHOUT_LOCKS", [])
    monkeypatch.setattr(fcntl, "flock", refuse)
    for name in ("a", "b"):
        held(tmp_path / "runs" / name)
    with files.in_turn(tmp_path / "store", "packs"):
        pass
    assert capsys.readouterr().out == (
        f"warning: The folder {tmp_path / 'runs'} does not support locks ({os.strerror(error)}), so two "
        f"commands at once could overwrite each other's files there. Start one at a time.\n"
    )


def test_a_lock_that_another_user_made_can_be_held_and_is_free_after_it(tmp_path, monkeypatch):
    held(tmp_path / "a")
    monkeypatch.setattr(os, "access", lambda *_: False)
    with files.alone_at(tmp_path / "a", "wait"), pytest.raises(InputError, match="Another process is at"):
        held(tmp_path / "a")
    held(tmp_path / "a")


def test_where_package_and_home_are_read_only_numba_caches_in_a_temporary_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", "")
    monkeypatch.delenv("NUMBA_CACHE_DIR")
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    importlib.reload(music_emotion)
    assert Path(os.environ["NUMBA_CACHE_DIR"]).parent == tmp_path


def test_unfinished_files_are_removed_below_a_folder_or_beside_their_own_file(tmp_path):
    begin = f".writing-{12 * 'a'}-"
    own, other = tmp_path / f"{begin}table[1].csv", tmp_path / f"{begin}my-table[1].csv"
    below = tmp_path / "run" / f"{begin}scores.json"
    below.mkdir(parents=True)
    for path in (own, other, below / ".writing-def-table.csv"):
        path.write_text("half")
    files.remove_unfinished(tmp_path / "table[1].csv")
    assert [path.exists() for path in (own, other, below)] == [False, True, True]
    files.remove_unfinished(tmp_path)
    assert os.listdir(tmp_path) == ["run"]
    assert os.listdir(tmp_path / "run") == []


@pytest.mark.parametrize("name", [f"{245 * 'a'}.npy", f"{123 * 'ф'}.npy", f"a.{251 * 'b'}"])
def test_a_name_as_long_as_the_disk_allows_is_written_locked_and_cleaned(tmp_path, name):
    path = tmp_path / name
    with files.alone_at(path, "wait"):
        with files.atomic_path(path) as temporary:
            temporary.write_text("whole")
        temporary.write_text("of a killed process")
        files.remove_unfinished(path)
    assert not temporary.exists()
    assert path.read_text() == "whole"
    assert temporary.suffix == path.suffix or len(path.suffix) > 100


def test_a_text_becomes_the_name_of_a_file_of_its_own():
    short = [files.file_name(text, ".png") for text in ("Müller – 歌", "a.b")]
    assert short == ["Müller – 歌.png", "a.b.png"]
    texts = ["R/B", "R_B", "R\nB", "é" * 200, "é" * 201, "\udcff" * 200, "a" * 236, "a" * 237]
    names = [files.file_name(text, ".png") for text in texts]
    assert len(set(names)) == len(texts)
    for name in names:
        assert len(name.encode()) <= 240
        assert name.endswith(".png")
        assert "/" not in name
    assert names[6] == f"{'a' * 236}.png"


@pytest.mark.parametrize(
    ("file", "ends"), [("fonts/gone.ttf", False), ("out/.writing-1-a.png", True), ("out/a.png", True)]
)
def test_a_disk_that_takes_no_picture_is_an_error_and_a_missing_font_a_warning(file, ends, capsys):
    error = OSError(errno.ENOENT, "No such file or directory", file)
    with pytest.raises(FileNotFoundError) if ends else nullcontext(), failures.drawing(Path("out/a.png")):
        raise error
    said = f"warning: the picture out/a.png failed (FileNotFoundError: {error}). Its numbers are written.\n"
    assert capsys.readouterr().err == ("" if ends else said)
