"""Audio to the competition's layout: full-rate and beat-synchronous arrays, and label files."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from command_line import Share, run
from music_emotion.audio.spectrogram import FeatureSettings
from music_emotion.datasets.clips import read_clips, task_of
from music_emotion.datasets.extract import extract_clips
from music_emotion.datasets.layout import Split, Task
from music_emotion.datasets.parallel import Workers
from music_emotion.datasets.windows import Windows
from music_emotion.files import InputError


def extract(
    clips: Path,
    *,
    out: Path,
    split: Split = "train",
    task: Task | None = None,
    audio: Path | None = None,
    window: float = 0.0,
    hop: float = 0.0,
    features: Annotated[FeatureSettings, Parameter(name="*")] = FeatureSettings(),  # noqa: B008 (frozen)
    jobs: int = -1,
    scheduler: str = "none",
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
        Cut every clip into windows of so many seconds, each of which becomes a clip; 0 keeps
        clips whole.
    hop
        Seconds from one window's start to the next one's; 0 for a window.
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
    print(extract_clips(table, out, task, split, features, windows, workers, max_failed))
    print(f"The layout is in {out}.")


if __name__ == "__main__":
    run(extract)
