"""From audio to arrays of the competition's layout, or to tables of statistics."""

from pathlib import Path

from music_emotion.audio.features import FeatureSettings
from music_emotion.commands import FeatureFlags, Share
from music_emotion.config import DataSection
from music_emotion.datasets.clip_table import Windows, read_clips, task_of
from music_emotion.datasets.extract import extract_clips, read_settings, summarise_clips
from music_emotion.datasets.layout import Split, Task, find_set, split_files
from music_emotion.datasets.parallel import Workers
from music_emotion.datasets.statistics_table import array_statistics
from music_emotion.datasets.store import open_store
from music_emotion.files import InputError, write_table


def extract(
    clips: Path,
    *,
    out: Path,
    split: Split = "train",
    task: Task | None = None,
    audio: Path | None = None,
    window: float | None = None,
    hop: float | None = None,
    beats: bool = False,
    features: FeatureFlags = FeatureSettings(),  # noqa: B008 (frozen)
    jobs: int = -1,
    scheduler: str | None = None,
    max_failed: Share = 0.01,
) -> None:
    """Extract the clips of a table or of a folder.

    Parameters
    ----------
    clips
        CSV with a column `path` (relative to it), or `id` together with --audio. A column
        `label` makes a genre set, target columns make an emotion set. Or a folder of audio with
        one sub-folder per class.
    out
        Root of the layout to write into.
    split
        Which split the clips are.
    task
        Needed only when the table has neither labels nor targets.
    audio
        Folder of <id>.<ending> files for a table without paths.
    window
        Cut every clip into windows of so many seconds, each of which becomes a clip.
    hop
        Seconds from one window's start to the next one's; a window by default.
    beats
        Write the beat-synchronous set, too, which takes nearly twice as long.
    features
        How audio becomes features; recorded in settings.json, and one set has one.
    jobs
        Worker processes; -1 for one per core.
    scheduler
        Address of a Dask scheduler, tcp://..., whose workers then do the work; they must see
        audio and output in the same places.
    max_failed
        Share of clips that may fail.
    """
    windows = Windows(window, hop)
    table = read_clips(clips, audio)
    task = task or task_of(table)
    if task is None:
        raise InputError(f"{clips} has neither a label nor targets. Say --task emotion or --task genre.")
    workers = Workers(jobs, scheduler)
    print(extract_clips(table, out, task, split, features, windows, beats, workers, max_failed))
    print(f"The layout is in {out}.")


def statistics_of_audio(
    clips: Path,
    *,
    out: Path,
    audio: Path | None = None,
    window: float | None = None,
    hop: float | None = None,
    features: FeatureFlags = FeatureSettings(),  # noqa: B008 (frozen)
    jobs: int = -1,
    scheduler: str | None = None,
    max_failed: Share = 0.01,
) -> None:
    """Sum up every clip of a table or folder of audio in named numbers.

    Parameters
    ----------
    clips
        Table or folder of audio, as for extract.
    out
        CSV to write: one row per clip with its id, what it was made from and the statistics.
    audio
        Folder of <id>.<ending> files for a table without paths.
    window
        Cut every clip into windows of so many seconds, each of which becomes a clip.
    hop
        Seconds from one window's start to the next one's; a window by default.
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


def statistics_of_arrays(root: Path, *, out: Path, task: Task = "emotion", split: Split = "train") -> None:
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
