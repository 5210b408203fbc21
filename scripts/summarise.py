"""Clips to a table of statistics with names and units, from audio or from the competition's arrays."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from command_line import Share, run
from music_emotion.audio.spectrogram import FeatureSettings
from music_emotion.config import DataSection
from music_emotion.datasets.clip_statistics import array_statistics, summarise_clips
from music_emotion.datasets.clips import read_clips
from music_emotion.datasets.extract import read_settings
from music_emotion.datasets.layout import Split, Task, find_set, split_files
from music_emotion.datasets.parallel import Workers
from music_emotion.datasets.store import open_store
from music_emotion.datasets.windows import Windows
from music_emotion.files import write_table


def audio(
    clips: Path,
    *,
    out: Path,
    audio: Path | None = None,
    window: float = 0.0,
    hop: float = 0.0,
    features: Annotated[FeatureSettings, Parameter(name="*")] = FeatureSettings(),  # noqa: B008 (frozen)
    jobs: int = -1,
    scheduler: str = "none",
    max_failed: Share = 0.01,
) -> None:
    """Sum up every clip of a table or folder of audio in named numbers.

    Parameters
    ----------
    clips
        Table or folder of audio, as for extract.py.
    out
        CSV to write: one row per clip with its id, what it was made from and the statistics.
    audio
        Folder of <id>.<ending> files for a table without paths.
    window
        Cut every clip into windows of so many seconds, each of which becomes a clip; 0 keeps
        clips whole.
    hop
        Seconds from one window's start to the next one's; 0 for a window.
    features
        How audio becomes features.
    jobs
        Worker processes; -1 for one per core.
    scheduler
        Address of a Dask scheduler, tcp://..., whose workers then do the work.
    max_failed
        Share of clips that may fail.
    """
    windows, workers = Windows(window, hop), Workers(jobs, scheduler)
    table = read_clips(clips, audio)
    print(summarise_clips(table, out, features, windows, workers, max_failed))
    print(f"The statistics are in {out}.")


def arrays(root: Path, *, out: Path, task: Task = "emotion", split: Split = "train") -> None:
    """Sum up every full-rate array of the competition's layout.

    What can't be had from arrays, such as zero crossings or absolute loudness, is left out.

    Parameters
    ----------
    root
        Holds the layout.
    out
        CSV to write: one row per clip with its id and the statistics. Replaced if it is there.
    task
        Which arrays.
    split
        Which of them.
    """
    folder = find_set(root, task)
    store = open_store(split_files(folder, split), Path(DataSection().stores))
    table = array_statistics(store, store.index.index.to_numpy(), read_settings(folder))
    write_table(out, table.rename_axis("id").reset_index())
    print(f"{len(table)} clips: {out}")


if __name__ == "__main__":
    run(commands=[audio, arrays])
