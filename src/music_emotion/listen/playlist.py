"""Playlists of the songs whose predictions meet a condition."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import mutagen
import pandas as pd

from music_emotion.failures import collecting
from music_emotion.files import InputError, printable, write_text
from music_emotion.listen.model import EmotionModel, Engine

_NOT_NUMBERS = {"path": "", "title": "", "artist": "", "genre": "", "unlike": False}


def check_playlist(
    path: Path | None, where: str | None, models: Sequence[Path], engine: Engine | None = None
) -> None:
    """Refuse a wrong condition or name of a playlist, before songs are predicted.

    Parameters
    ----------
    path : Path or None
        The playlist to write, if any.
    where : str or None
        Condition for its songs, as in `DataFrame.query`. Backticks enclose a column whose name is no
        identifier.
    models, engine
        As for `EmotionModel.from_pretrained`.

    Raises
    ------
    InputError
        When the condition can't be read, names other columns or is for no playlist, and when the name does
        not end as that of a playlist.
    """
    if path and path.suffix.lower() not in {".m3u8", ".m3u"}:
        raise InputError(f"--playlist {path} would not be a playlist. Give a name that ends in .m3u8.")
    if where is None:
        return
    if path is None:
        raise InputError("--where is for a playlist. Say which to write, such as --playlist happy.m3u8.")
    columns = ["path", "title", "artist", *EmotionModel.from_pretrained(*models, engine=engine).columns]
    others = {name: value for name, value in _NOT_NUMBERS.items() if name in columns}
    _meeting(pd.DataFrame([dict.fromkeys(columns, 0.5) | others]), where)


def _meeting(table: pd.DataFrame, where: str) -> pd.DataFrame:
    """The songs that meet a condition."""
    try:
        meets = table.eval(where.strip(), engine="python")
    except Exception as error:  # pandas raises errors of many kinds
        reason = f"can't be applied ({error}). The columns are {', '.join(map(str, table))}."
    else:
        if isinstance(meets, pd.Series) and meets.dtype == bool:
            return table[meets]
        reason = "is no condition on the songs."
    raise InputError(f"--where {where!r} {reason} Compare columns with numbers or texts: valence > .6")


def write_playlist(path: Path, table: pd.DataFrame, where: str | None, failures: dict[str, str]) -> int:
    """Write an extended M3U playlist in UTF-8, sorted by path.

    Parameters
    ----------
    path : Path
        The playlist. Songs below its folder have relative paths, others absolute ones.
    table : pd.DataFrame
        From `predict_library`.
    where : str or None
        Condition that `check_playlist` accepts; None takes all songs.
    failures : dict of str to str
        Gets the reasons why songs could not be listed, as in `collecting`.

    Returns
    -------
    int
        Number of songs.
    """
    if where:
        table = _meeting(table, where)
    lines, folder = ["#EXTM3U"], path.absolute().parent
    songs = table.sort_values("path")[["path", "title", "artist"]]
    for song, title, artist in songs.itertuples(index=False):
        with collecting(failures, song):
            entry = str(Path(song).relative_to(folder)) if Path(song).is_relative_to(folder) else song
            entry = f"./{entry}" if entry.startswith(("#", " ")) else entry
            if printable(entry) != entry or "\n" in entry:
                raise InputError(f"{song!r}: a playlist can't hold this name. Rename the file.")
            seconds, who = -1, " - ".join(filter(None, (artist, title)))
            with suppress(Exception):  # of a format without a length
                seconds = round(mutagen.File(song).info.length)
            lines += [f"#EXTINF:{seconds},{who}", entry]
    write_text(path, "\n".join(lines) + "\n")
    return len(lines) // 2
