"""The plugin of beets, in beets itself, on a small library."""

import os

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


def test_a_library_gets_fields_that_its_files_keep(beet, tmp_path):
    (tmp_path / "music").mkdir()
    songs = [written(tmp_path / f"music/{name}", noise(2)) for name in ("a.mp3", "b.flac", "c.m4a")]
    model, expected, shown = (
        EmotionModel.from_pretrained(),
        [],
        ("ls", "-f", "$path $valence $energy", "path+"),
    )
    for path in songs:
        found = model.predict(path)
        expected.append(f"{path} {found['valence']:.3f} {found['energy']:.3f}")
    quiet = written(tmp_path / "music/d.flac", 0 * noise(2))
    log = beet("import", "-A", "-q", str(tmp_path / "music"))[1]
    assert f"{quiet}: the clip from 0 s on is silent." in log
    assert beet(*shown)[0][:3] == expected
    assert not any("VALENCE" in str(mutagen.File(path).tags).upper() for path in songs)
    beet("write")
    for path, line in zip(songs, expected, strict=True):
        (text,) = next(of for key, of in mutagen.File(path).tags.items() if key.upper().endswith("VALENCE"))
        assert (text.decode() if isinstance(text, bytes) else text) == line.split()[-2]
    for path in (*songs, quiet):
        os.utime(path, (2e9, 2e9))
    beet("update")
    assert beet(*shown)[0][:3] == expected
    assert len(beet("ls", "valence:..2")[0]) == 3  # a song without a prediction is in no range
    assert beet("write")[0] == []
    log = beet("emotion")[1]
    assert (str(quiet) in log, str(songs[0]) in log, "song/s" in log) == (True, False, False)
    written(quiet, noise(2))
    assert "4/4" in beet("emotion", "-f")[1]
    assert mutagen.File(quiet)["valence"] == beet("ls", "-f", "$valence", f"path:{quiet}")[0]
