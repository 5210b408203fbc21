"""The plugin of beets, in beets itself, on a small library."""

import os
from pathlib import Path

import mutagen
import pytest
from audio_files import noise, written

from music_emotion import EmotionModel

pytestmark = pytest.mark.usefixtures("own_accelerate")
CONFIG = "library: {0}/library.db\ndirectory: {0}/music\nplugins: [music_emotion]\nimport: {{copy: no}}\n"


@pytest.fixture
def beet(tmp_path, monkeypatch, capsys):
    """Run beets on a library of its own; gives the lines that it printed, and its log."""
    (tmp_path / "config.yaml").write_text(CONFIG.format(tmp_path))
    for name, value in {"BEETSDIR": str(tmp_path), "NO_COLOR": "1"}.items():
        monkeypatch.setenv(name, value)

    def run(*arguments: str) -> tuple[list[str], str]:
        from beets.ui import main  # reads the variables

        capsys.readouterr()
        main([*arguments])
        printed = capsys.readouterr()
        return printed.out.splitlines(), printed.err

    return run


def song(path: Path, loudness: float = 1) -> Path:
    path.parent.mkdir(exist_ok=True)
    file = mutagen.File(written(path, loudness * noise(2)), easy=True)
    if file.tags is None:
        file.add_tags()
    file["title"] = path.stem
    file.save()
    return path


def test_a_library_gets_fields_that_its_files_keep(beet, tmp_path):
    songs = [song(tmp_path / f"music/{name}") for name in ("a.mp3", "b.flac", "c.m4a")]
    model, expected, shown = EmotionModel.from_pretrained(), [], ("ls", "-f", "$title $valence $energy")
    for path in songs:
        found = model.predict(path)
        expected.append(f"{path.stem} {found['valence']:.3f} {found['energy']:.3f}")
    quiet = song(tmp_path / "music/d.flac", 0)
    log = beet("import", "-A", "-q", str(tmp_path / "music"))[1]
    assert f"{quiet}: the clip from 0 s on is silent." in log
    assert beet(*shown, "title::[abc]")[0] == expected
    assert not any("VALENCE" in str(mutagen.File(path).tags).upper() for path in songs)
    beet("write")
    for path, line in zip(songs, expected, strict=True):
        tags = {str(key).upper(): value for key, value in mutagen.File(path).tags.items()}
        (text,) = next(value for key, value in tags.items() if key.endswith("VALENCE"))
        assert (text.decode() if isinstance(text, bytes) else text) == line.split()[1]
    for path in (*songs, quiet):
        os.utime(path, (2e9, 2e9))
    beet("update")
    assert beet(*shown, "title::[abc]")[0] == expected
    assert len(beet("ls", "valence:..2")[0]) == 3  # a song without a prediction is in no range
    assert beet("write")[0] == []
    log = beet("emotion")[1]
    assert (str(quiet) in log, str(songs[0]) in log, "song/s" in log) == (True, False, False)
    song(quiet)
    assert "4/4" in beet("emotion", "-f")[1]
    assert mutagen.File(quiet)["valence"] == beet("ls", "-f", "$valence", "title:d")[0]
