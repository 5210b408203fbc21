"""Read and check a user's table or folder of clips, and cut clips into windows."""

import difflib
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from music_emotion.audio.decode import TOLERANCE_SECONDS, recording_seconds
from music_emotion.config import Task
from music_emotion.datasets.audio_folder import clips_of_folder, files_by_id
from music_emotion.datasets.layout import SPLITS
from music_emotion.failures import collecting
from music_emotion.files import InputError, first_five, nearest, numbers, read_cells, regular_file

OWN_COLUMNS = ("id", "path", "start_seconds", "end_seconds", "label", "group", "split")
_ALIASES = {"genre": "label", "file": "path"}
# Names of the ids of clips, by their letters in lower case: musicId, Track_ID.
_ID = re.compile("(audio|clip|excerpt|file|item|music|recording|sample|song|sound|track)id")
# Words in the names of unknown columns, and the columns they probably mean.
_MEANT = {
    **{"start": "start_seconds", "begin": "start_seconds", "end": "end_seconds", "stop": "end_seconds"},
    **{"artist": "group", "album": "group", "group": "group", "clip": "id"},
    **{"file": "path", "filename": "path", "path": "path", "class": "label"},
}
_LENGTHS = {"duration": "end_seconds", "length": "end_seconds"}  # only in a table with start_seconds
# Words in the names of columns that number or describe clips, and don't rate them.
_NO_TARGETS = {
    *("#", "id", "ids", "uid", "index", "idx", "unnamed", "no", "nr", "num", "number", "row", "count"),
    *("fold", "split", "year", "date", "time", "key", "mode", "popularity", "std", "sd"),
    *_LENGTHS,
}
_WHOLE = r"[0-9]+(\.0*)?"  # spreadsheets write 7 as 7.0

_nfc = partial(unicodedata.normalize, "NFC")


class _Faults:
    """Collects the faults of a table by kind, with line numbers."""

    def __init__(self) -> None:
        self.places: dict[str, list[str]] = defaultdict(list)

    def add(self, kind: str, line: object, detail: str = "") -> None:
        self.places[kind].append(f"line {line} ({detail})" if detail else f"line {line}")

    def find(self, kind: str, wrong: pd.Series, detail: str = "", *columns: pd.Series) -> None:
        """Add a fault for each line where a mask is true. `detail` is a format string for `columns`."""
        for line, *values in zip(wrong.index[wrong], *(column[wrong] for column in columns), strict=True):
            self.add(kind, line, detail.format(*values))

    def check(self, table: Path) -> None:
        """Raise an `InputError` that lists all faults, if there are any."""
        lines = [
            f"  {kind}: {first_five(places)}" + (f" ({len(places)} in all)" if len(places) > 5 else "")
            for kind, places in self.places.items()
        ]
        if lines:
            n = sum(map(len, self.places.values()))
            faults = "1 fault" if n == 1 else f"{n} faults"
            raise InputError("\n".join([f"{table} has {faults}; nothing was done. Correct it:", *lines]))


def read_clips(source: Path, audio_folder: Path | None = None, targets: Sequence[str] = ()) -> pd.DataFrame:
    """Read a table of clips, or list the clips of a folder, and find their audio files.

    Prints which columns of a table are ids and targets, and which are left out.

    Parameters
    ----------
    source : Path
        A table that `read_cells` can read, or a folder of audio with one sub-folder per class or none. A
        table has a column `path` (relative to the table) or, with `audio_folder`, a column `id`. Optional
        columns are `id` (whole numbers), `start_seconds`, `end_seconds`, `label` (a genre), `group` and
        `split` (train, validation or test). Aliases are `file` for `path`, `genre` for `label`, and names
        like `song_id` or `trackId` for `id`, if one such column holds different whole numbers. Case of column
        names does not matter. Every other numeric column is a target, unless its name says that it numbers or
        describes clips, such as `index`, `year` or `key`.
    audio_folder : Path, optional
        Folder with files ``<id>.<ending>`` for rows without a path.
    targets : sequence of str
        Columns that are targets. All others that are not listed above are then left out.

    Returns
    -------
    pd.DataFrame
        `id` (int64), `path` (absolute) and, if given, `start_seconds` and `end_seconds` (float64, NaN for
        an empty cell), `label`, `group`, `split` and targets (float64). Without given ids, the ids count
        from 1. In a flat folder, ids are the file names if these are distinct whole numbers. If several clips
        come from one recording and the table has no groups, each recording becomes a group.

    Raises
    ------
    InputError
        When a folder has no audio, or has audio both in itself and in sub-folders. When a file is not a
        table. When a table has faults: the message lists all of them by kind, with line numbers. The
        extraction reports recordings that can't be opened.
    """
    is_folder = source.is_dir()
    if is_folder and (audio_folder is not None or targets):
        raise InputError(f"--audio and --targets are for a table, but {source} is a folder. Leave them out.")
    clips = clips_of_folder(source) if is_folder else _clips_of_table(source, audio_folder, targets)
    wrong = [path for path in clips["path"] if re.search("[\t\r\n\ud800-\udfff]", path)]
    if wrong:  # the extraction writes paths into tables
        raise InputError(f"{source}: rename {first_five(map(ascii, wrong))}; tables can't hold such names.")
    return clips


def target_columns(clips: pd.DataFrame) -> list[str]:
    """Names of the target columns of a clip table."""
    return [column for column in clips.columns if column not in (*OWN_COLUMNS, "clip")]


def task_of(clips: pd.DataFrame) -> Task | None:
    """Task of a clip table: "genre" if it has labels, "emotion" if it has targets, otherwise None."""
    if "label" in clips:
        return "genre"
    return "emotion" if target_columns(clips) else None


def _clips_of_table(path: Path, audio_folder: Path | None, targets: Sequence[str]) -> pd.DataFrame:
    faults = _Faults()
    cells, inferred = _read_table(path, audio_folder is not None, targets, faults)
    clips = pd.DataFrame({"id": _ids(cells["id"], faults)}, cells.index)
    clips["path"] = _paths(cells, clips["id"], path.parent, audio_folder, faults)
    for column in cells.columns.difference(["id", "path"], sort=False):
        clips[column] = cells[column]
        if column in ("label", "group"):
            faults.find(f"A {column} is empty", cells[column] == "")
            continue
        if column == "split":
            wrong = ~cells[column].isin(SPLITS)
            faults.find(f"A split is not {', '.join(SPLITS)}", wrong, "'{}'", cells[column])
            continue
        clips[column], kind = numbers(cells[column]), "time" if column in OWN_COLUMNS else "target"
        wrong = clips[column].isna() & ((cells[column] != "") | (kind == "target"))
        doubt = " with a decimal point" if cells[column][wrong].str.contains(",").any() else ""
        faults.find(f"A {kind} is not a number{doubt}", wrong, f"{column}: '{{}}'", cells[column])
    _check_spans(clips, faults)
    spans = pd.concat([clips["path"], *spans_of(clips)], axis=1)
    again = spans.duplicated() & clips["path"].notna()
    names = clips["path"].map(os.path.basename, na_action="ignore")
    faults.find("A row has the audio and the span of an earlier one", again, "{}", names)
    for column in clips.columns.intersection(["label", "group"]):
        # tabs separate the columns of genre label files; a line break may be a quote that does not close
        broken = clips[column].str.contains("[\t\n]")
        faults.find(f"A {column} has a tab or a line break", broken, "{!r}", clips[column])
    faults.check(path)
    print(f"{path}: {len(clips)} clips{inferred}.")
    clips = clips.astype({"id": np.int64, "path": str})
    if "group" not in clips and clips["path"].duplicated().any():
        clips["group"] = pd.factorize(clips["path"])[0] + 1
    own = [column for column in OWN_COLUMNS if column in clips]
    return clips[[*own, *target_columns(clips)]].reset_index(drop=True)


def _read_table(path: Path, by_id: bool, targets: Sequence[str], faults: _Faults) -> tuple[pd.DataFrame, str]:
    """Read the known columns of a table as text, indexed by line number, and say what was inferred."""
    table = read_cells(regular_file(path, "The table of clips", "Correct its path."), ",")
    header, rows = table.iloc[0].dropna(), table.iloc[1:]
    if not len(rows):
        raise InputError(f"{path} has no rows.")
    cells = rows.fillna("")
    longer = (cells.iloc[:, len(header) :] != "").any(axis=1)
    kind = f"A row is longer than the header of {len(header)} columns (cells with commas need quotes)"
    faults.find(kind, longer, "{} cells", rows.notna().sum(axis=1))
    lowered = [written.casefold() for written in header]
    meant = _MEANT | (_LENGTHS if "start_seconds" in lowered else {})
    columns: dict[str, pd.Series] = {}
    ids: dict[str, pd.Series] = {}
    left_out: dict[str, pd.Series] = {}
    for number, (written, low) in enumerate(zip(header, lowered, strict=True)):
        own, column = _ALIASES.get(low, low), cells[number]
        name = own if own in OWN_COLUMNS else written
        words = {word.casefold() for word in re.findall("[A-Z]+(?![a-z])|[A-Z]?[a-z]+|#", name)}
        if not name:
            if number == 0 and column.str.fullmatch("[0-9]+").all():
                left_out["the first column, which has no name"] = column
            elif (column != "").any():
                faults.add("A column has no name", header.name, f"column {number + 1}")
        elif name in columns:
            faults.add("A column is there twice", header.name, written)
        elif name in OWN_COLUMNS or name in targets:
            columns[name] = column
        elif _ID.fullmatch(re.sub("[^a-z]", "", low)):
            ids[name] = column
        elif targets or (words & _NO_TARGETS and not words & meant.keys()):
            left_out[name] = column
        elif doubt := _doubt(name, [own for word, own in meant.items() if word in words], column):
            kind = f"An unknown column, neither {', '.join(OWN_COLUMNS)} nor a numeric target"
            faults.add(kind, header.name, f"'{name}', {doubt}")
        else:
            columns[name] = column
    inferred: list[str] = []
    if "id" not in columns:
        is_needed = by_id and "" in [*columns.get("path", [""])]
        whole = [n for n, c in (ids | left_out).items() if c.is_unique and c.str.fullmatch(_WHOLE).all()]
        likely = [name for name in ids if name in whole] or [*ids] * is_needed
        if len(likely) > 1 or (is_needed and not likely):
            found = f"{path} needs a column 'id' with the numbers of its clips; it has {whole or 'none'}."
            raise InputError(f"{found} Call the right one 'id'.")
        counted = pd.Series(range(1, len(cells) + 1), cells.index).astype(str)
        columns["id"] = ids.pop(likely[0]) if likely else counted
        inferred = ["ids are " + (f"taken from the column '{likely[0]}'" if likely else "counted from 1")]
    known = pd.DataFrame(columns, cells.index)
    taken, others = target_columns(known), ", ".join([*ids, *left_out])
    for name in [name for name in targets if name not in taken]:
        faults.add("A target is not among the columns", header.name, f"'{name}'; {nearest(name, header)}")
    for name in [name for name in taken if name == "mean" or numbers(pd.Series(name)).notna().all()]:
        faults.add("A target can't be called 'mean' or like a number", header.name, f"'{name}'")
    inferred += [f"targets: {', '.join(taken)}"] * bool(taken)
    inferred += ["groups stay in one fold with --folds.groups set"] * ("group" in known)
    inferred += [f"left out: {others} (--targets names those to learn)"] * bool(others)
    return known, "".join(map("; {}".format, inferred))


def _doubt(name: str, meant: list[str], column: pd.Series) -> str:
    """Explain why a column is probably not a target; empty if it may be one."""
    written = column[column != ""]
    is_numeric = len(written) > 0 and numbers(written.str.replace(",", ".")).notna().mean() >= 0.5
    # a numeric column must match closely, since 'pathos' may be a target
    meant = meant + difflib.get_close_matches(name.casefold(), OWN_COLUMNS, 1, 0.85 if is_numeric else 0.6)
    if meant:
        return f"did you mean '{meant[0]}'?"
    return "" if is_numeric else "most of its cells are not numbers (--targets leaves it out)"


def _ids(written: pd.Series, faults: _Faults) -> pd.Series:
    """Ids of the clips; NaN for faulty ones. Large ids keep all digits."""
    wrong = ~written.str.fullmatch(_WHOLE) | (numbers(written) >= 2**63)
    faults.find("An id is not a whole number from 0 up", wrong, "'{}'", written)
    ids = pd.to_numeric(written.where(~wrong).str.partition(".")[0])
    faults.find("An id is used before", ids.duplicated() & ~wrong, "{:.0f}", ids)
    return ids


def _paths(
    cells: pd.DataFrame, ids: pd.Series, folder: Path, audio_folder: Path | None, faults: _Faults
) -> pd.Series:
    """Absolute paths of the clips; NaN for faulty ones."""
    resolved = cache(os.path.realpath)
    same_text = cache(lambda place: {_nfc(path.name): path.name for path in Path(place).glob("*")})

    def respelled(path: str) -> str:
        """The path as it is spelled on disk, where macOS writes accents in another Unicode form."""
        place, name = os.path.split(path)
        if os.path.exists(path) or not name:
            return path
        place = respelled(place)
        return os.path.join(place, same_text(place).get(_nfc(name), name))

    def find(path: str) -> str | float:
        place, name = os.path.split(respelled(os.path.join(folder, path)))
        absolute = os.path.join(resolved(place), name)
        return absolute if os.path.isfile(absolute) else np.nan

    written = cells.get("path", pd.Series("", cells.index))
    paths = written.where(written != "").map(find, na_action="ignore").astype(object)
    faults.find("An audio file does not exist", (written != "") & paths.isna(), "{}", written)
    if audio_folder is not None:
        return paths.fillna(_paths_by_id(ids[written == ""].dropna(), audio_folder, faults))
    if "path" in cells:
        faults.find("A path is empty", written == "")
    else:
        faults.add("A column is missing", 1, "'path'; add it, or give --audio FOLDER")
    return paths


def _paths_by_id(ids: pd.Series, folder: Path, faults: _Faults) -> pd.Series:
    """Find the files ``<id>.<ending>``, with or without leading zeros."""
    if not folder.is_dir():
        raise InputError(f"The audio folder {folder} does not exist.")
    names = files_by_id(folder)
    found = ids.map(names)
    n_found = found.map(len)
    faults.find(f"An id has no audio file in {folder}", n_found == 0, "{:.0f}", ids)
    faults.find(f"An id has several audio files in {folder}", n_found > 1, "{}", found.map(", ".join))
    return found.map(lambda names: str(folder.resolve() / names[0]) if names else np.nan)


def _check_spans(clips: pd.DataFrame, faults: _Faults) -> None:
    """Check that each span ends after its start and lies within its recording, if that can be opened."""
    start, end = spans_of(clips)
    faults.find("A start is negative", start < 0, "{:g} s", start)
    backwards = (start >= 0) & (end <= start)
    faults.find("An end is not after the start", backwards, "{:g} s to {:g} s", start, end)
    lengths = recording_lengths(clips["path"].where((start >= 0) & ~backwards & ((start > 0) | end.notna())))
    late = start >= lengths
    faults.find("A start is not before the recording's end", late, "{:g} s of {:g} s", start, lengths)
    long = ~late & (end > lengths + TOLERANCE_SECONDS)
    faults.find("An end is after the recording's end", long, "{:g} s of {:g} s", end, lengths)


def spans_of(clips: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Starts (default 0) and ends (default NaN, the end of the recording) of clips, in seconds."""
    spans = clips.reindex(columns=["start_seconds", "end_seconds"]).astype(float)
    return spans["start_seconds"].fillna(0.0), spans["end_seconds"]


def recording_lengths(paths: pd.Series) -> pd.Series:
    """Lengths of recordings in seconds; NaN for a missing path or a file that can't be opened."""
    lengths: dict[str, float] = {}
    for path in tqdm(paths.dropna().unique(), desc="read lengths", unit="recording", delay=2):
        with collecting({}, path):  # the extraction reports the error
            lengths[path] = recording_seconds(Path(path))
    return paths.map(lengths).astype(float)


@dataclass(frozen=True)
class Windows:
    """Length and hop of the windows that clips are cut into.

    Attributes
    ----------
    window_seconds : float, optional
        Length of a window. None keeps clips whole.
    hop_seconds : float, optional
        Time from the start of one window to the start of the next. The default is the window length.

    Raises
    ------
    InputError
        When a length is not positive and finite, or there is a hop without a window.
    """

    window_seconds: float | None = None
    hop_seconds: float | None = None

    def __post_init__(self) -> None:
        for flag, seconds in (("--window", self.window_seconds), ("--hop", self.hop_seconds)):
            if seconds is not None and not 0 < seconds < np.inf:
                raise InputError(f"{flag} is {seconds} s; it must be a positive number.")
        if self.hop_seconds and not self.window_seconds:
            raise InputError("--hop is given without --window. Say how long a window is.")


def cut_windows(clips: pd.DataFrame, windows: Windows) -> pd.DataFrame:
    """Cut clips into windows. Each window becomes a clip.

    The remainder after the last whole window of a clip is dropped.

    Parameters
    ----------
    clips : pd.DataFrame
        Clip table from `read_clips`.
    windows : Windows

    Returns
    -------
    pd.DataFrame
        `id` (counted from 1), `path`, `start_seconds`, `end_seconds`, `clip` (id of the original clip),
        `label`, `split` and targets. `group` is the original clip by default. A recording that is shorter
        than a window or can't be opened keeps one row; the extraction reports why it fails. If `windows` has
        no length, the table is returned unchanged.

    Raises
    ------
    InputError
        When a span is shorter than a window.

    Examples
    --------
    >>> clips = pd.DataFrame({"id": [7], "path": ["a.wav"], "start_seconds": [0.0], "end_seconds": [12.0]})
    >>> cut_windows(clips, Windows(5.0, 2.5))["start_seconds"].tolist()
    [0.0, 2.5, 5.0]
    """
    window = windows.window_seconds
    if window is None:
        return clips
    hop = windows.hop_seconds or window
    start, end = spans_of(clips)
    short = end - start < window - TOLERANCE_SECONDS
    if short.any():  # a window would extend past the end of the span
        named = clips["id"][short].combine((end - start)[short], "{:g} ({:g} s)".format)
        shorter = f"The spans of {len(named)} clips are shorter than a window of {window:g} s"
        raise InputError(f"{shorter}: {first_five(named)}. Remove these clips, or lower --window.")
    length = end.fillna(recording_lengths(clips["path"].where(end.isna()))) - start
    # 1e-6 compensates rounding: 0.3 / 0.1 is a little less than 3
    counts = (np.floor((length - window) / hop + 1e-6) + 1).clip(lower=1).fillna(1).astype(int)
    cut = clips.loc[clips.index.repeat(counts)]
    within = cut.groupby(level=0).cumcount().to_numpy()
    cut = cut.reset_index(drop=True)
    first = np.round(start.repeat(counts).to_numpy() + within * hop, 6)
    front = pd.DataFrame({"id": np.arange(1, len(cut) + 1), "path": cut["path"], "start_seconds": first})
    front = front.assign(end_seconds=np.round(first + window, 6), clip=cut["id"])
    rest = cut.drop(columns=front.columns, errors="ignore")
    return pd.concat([front, rest if "group" in rest else rest.assign(group=cut["id"])], axis=1)
