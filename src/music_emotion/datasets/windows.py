"""Spans of recordings: read and checked against the recordings' lengths, and cut into windows."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from music_emotion.audio.decode import TOLERANCE_SECONDS, recording_seconds
from music_emotion.datasets.clip_table import Faults, numbers
from music_emotion.files import InputError, first_five


def read_spans(cells: pd.DataFrame, paths: pd.Series, faults: Faults) -> pd.DataFrame:
    """Read the spans of a table of clips.

    Parameters
    ----------
    cells : pd.DataFrame
        As `read_cells` gives them.
    paths : pd.Series
        Recordings, indexed as the cells. Those that can't be opened are not checked against.
    faults : Faults
        Gets spans that are not numbers, not in order or not within their recording.

    Returns
    -------
    pd.DataFrame
        `start_seconds` and `end_seconds`, as far as `cells` has them; nan where a cell is empty.
    """
    given = [column for column in ("start_seconds", "end_seconds") if column in cells]
    spans = pd.DataFrame({column: numbers(cells[column]) for column in given}, index=cells.index)
    for column in given:
        wrong = cells[column][spans[column].isna() & (cells[column].str.strip() != "")]
        faults.add("time{s} {are} not a number", wrong.map(lambda text, c=column: f"{c}: '{text}'"))
    start, end = _start(spans), _end(spans)
    faults.add("start{s} {are} negative", start[start < 0].map("{:g} s".format))
    backwards = (start >= 0) & (end <= start)
    faults.add("end{s} {are} not after the start", _pairs(start, "to", end, backwards))
    lengths = _lengths(paths.where((start >= 0) & ~backwards & ((start > 0) | end.notna())))
    late = start >= lengths
    faults.add("start{s} {are} not before the recording's end", _pairs(start, "of", lengths, late))
    long = ~late & (end > lengths + TOLERANCE_SECONDS)
    faults.add("end{s} {are} after the recording's end", _pairs(end, "of", lengths, long))
    return spans


@dataclass(frozen=True)
class Windows:
    """How clips are cut.

    Attributes
    ----------
    window_seconds : float
        Length of a window; 0 keeps clips whole.
    hop_seconds : float
        From one window's start to the next one's; 0 is a window.

    Raises
    ------
    InputError
        When a length is negative or not finite, or there is a hop without a window.
    """

    window_seconds: float = 0.0
    hop_seconds: float = 0.0

    def __post_init__(self) -> None:
        for flag, seconds in (("--window", self.window_seconds), ("--hop", self.hop_seconds)):
            if not 0 <= seconds < np.inf:
                raise InputError(f"{flag} is {seconds} s; it must be a positive number.")
        if self.hop_seconds and not self.window_seconds:
            raise InputError("--hop is given without --window. Say how long a window is.")


def cut_windows(clips: pd.DataFrame, windows: Windows) -> pd.DataFrame:
    """Cut clips into windows, each of which is a clip of its own.

    What is left of a clip after its last whole window is dropped.

    Parameters
    ----------
    clips : pd.DataFrame
        As `read_clips` gives it.
    windows : Windows

    Returns
    -------
    pd.DataFrame
        `id` (from 1 in order), `path`, `start_seconds`, `end_seconds`, `clip` (the id of the clip
        that the window is cut from), `label` and targets as there are, and `group`: as there is, else
        the clip. A recording that is shorter than a window or can't be opened keeps one row, so that
        reading it fails with a reason. Without windows, the table as it was.

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
    if not windows.window_seconds:
        return clips
    window_seconds, hop_seconds = windows.window_seconds, windows.hop_seconds or windows.window_seconds
    start, end = _start(clips), _end(clips)
    _check_lengths(clips["id"], end - start, window_seconds)
    length = end.fillna(_lengths(clips["path"].where(end.isna()))) - start
    # the millionth makes up for rounding: 0.3 / 0.1 is a little less than 3
    counts = (np.floor((length - window_seconds) / hop_seconds + 1e-6) + 1).clip(lower=1).fillna(1)
    counts = counts.astype(int).to_numpy()
    cut = clips.loc[clips.index.repeat(counts)].reset_index(drop=True)
    within = np.arange(len(cut)) - np.repeat(np.cumsum(counts) - counts, counts)
    first = np.round(start.to_numpy().repeat(counts) + within * hop_seconds, 6)
    front = pd.DataFrame({"id": np.arange(1, len(cut) + 1), "path": cut["path"], "start_seconds": first})
    front = front.assign(end_seconds=np.round(first + window_seconds, 6), clip=cut["id"])
    rest = cut.drop(columns=front.columns, errors="ignore")
    return pd.concat([front, rest if "group" in rest else rest.assign(group=cut["id"])], axis=1)


def _check_lengths(ids: pd.Series, lengths: pd.Series, window_seconds: float) -> None:
    """Refuse short spans, whose windows would go on into the rest of the recording."""
    short = lengths < window_seconds - TOLERANCE_SECONDS
    if short.any():
        named = [
            f"{clip_id} ({length:g} s)" for clip_id, length in zip(ids[short], lengths[short], strict=True)
        ]
        raise InputError(
            f"The spans of {len(named)} clips are shorter than a window of {window_seconds:g} s: "
            f"{first_five(named)}. Remove these clips, or lower --window."
        )


def _pairs(first: pd.Series, word: str, second: pd.Series, which: pd.Series) -> pd.Series:
    pairs = zip(first[which], second[which], strict=True)
    return pd.Series([f"{a:g} s {word} {b:g} s" for a, b in pairs], first.index[which], dtype=object)


def _start(clips: pd.DataFrame) -> pd.Series:
    starts = clips["start_seconds"] if "start_seconds" in clips else pd.Series(0.0, clips.index)
    return starts.fillna(0.0)


def _end(clips: pd.DataFrame) -> pd.Series:
    return clips["end_seconds"] if "end_seconds" in clips else pd.Series(np.nan, clips.index)


def _lengths(paths: pd.Series) -> pd.Series:
    """Seconds of recordings, each opened once; nan where there is none or it can't be opened."""
    lengths: dict[str, float] = {}
    for path in tqdm(paths.dropna().unique(), desc="read lengths", unit="recording", delay=2):
        try:
            lengths[path] = recording_seconds(Path(path))
        except InputError:  # extraction records it, with the reason
            lengths[path] = np.nan
    return paths.map(lengths).astype(float)
