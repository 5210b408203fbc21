"""Clips to a table of statistics with names and units, from audio or from the competition's arrays."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from command_line import Share, run
from extract import read_clips_or_windows
from music_emotion.data.clip_statistics import array_statistics, summarise_clips
from music_emotion.data.extract import read_settings
from music_emotion.data.layout import Split, Task, find_set, split_files
from music_emotion.data.parallel import Workers
from music_emotion.data.store import open_store
from music_emotion.errors import InputError
from music_emotion.files import write_table
from music_emotion.sections import DataSection
from music_emotion.sound.spectrogram import FeatureSettings


def summarise(
    clips: Path | None = None,
    *,
    out: Path,
    audio: Path | None = None,
    window: float = 0.0,
    hop: float = 0.0,
    features: Annotated[FeatureSettings, Parameter(name="*")] = FeatureSettings(),  # noqa: B008 (frozen)
    jobs: int = -1,
    scheduler: str = "none",
    max_failed: Share = 0.01,
    arrays: Path | None = None,
    task: Task = "emotion",
    split: Split = "train",
) -> None:
    """Sum up every clip in named numbers.

    Parameters
    ----------
    clips
        Table or folder of audio, as for extract.py.
    out
        CSV to write: one row per clip.
    audio
        Folder of <id>.<ending> files for a table without paths.
    window, hop
        Cut every clip into windows of so many seconds, one every hop seconds (a window by
        default); each becomes a clip. 0 keeps clips whole.
    features
        How audio becomes features.
    jobs
        Worker processes; -1 for one per core.
    scheduler
        Address of a Dask scheduler, tcp://..., whose workers then do the work.
    max_failed
        Share of clips that may fail.
    arrays
        Instead of audio, a root that holds the competition's layout. What can't be had from
        arrays, such as zero crossings or absolute loudness, is then left out.
    task, split
        Which arrays.
    """
    if (clips is None) == (arrays is None):
        raise InputError("Give either clips (a table or folder of audio) or --arrays ROOT.")
    if arrays is not None:
        n_clips = _summarise_arrays(arrays, task, split, out)
        print(f"{n_clips} clips: {out}")
    elif clips is not None:
        table = read_clips_or_windows(clips, audio, window, hop)
        print(summarise_clips(table, out, features, Workers(jobs, scheduler), max_failed))
        print(f"The statistics are in {out}.")


def _summarise_arrays(root: Path, task: Task, split: Split, out: Path) -> int:
    folder = find_set(root, task)
    store = open_store(split_files(folder, split), Path(DataSection().stores))
    table = array_statistics(store, store.index.index.to_numpy(), read_settings(folder))
    write_table(out, table.reset_index())
    return len(table)


if __name__ == "__main__":
    run(summarise)
