"""Commands that start from audio: arrays in the competition's layout, and tables of statistics."""

from dataclasses import dataclass
from pathlib import Path

from cyclopts import Parameter

from music_emotion.audio.settings import FeatureSettings
from music_emotion.commands import FeatureFlags, Share
from music_emotion.config import DataSection
from music_emotion.datasets.clip_table import Windows, read_clips, task_of
from music_emotion.datasets.extract import extract_clips, summarise_clips
from music_emotion.datasets.layout import Split, Task, card_of, find_set, read_settings, split_files
from music_emotion.datasets.parallel import Workers
from music_emotion.datasets.statistics_table import array_statistics
from music_emotion.datasets.store import open_store
from music_emotion.files import InputError, write_table


@Parameter(name="*")
@dataclass(frozen=True)
class AudioFlags:
    """Flags for finding, cutting and reading clips.

    Attributes
    ----------
    audio
        Folder of <id>.<ending> files for a table without paths.
    targets
        Columns of the table that are targets; by default all columns of numbers but those whose
        names say that they number or describe clips, such as year. The output says which were taken.
    window
        Cut every clip into windows of this length in seconds; each window becomes a clip.
    hop
        Seconds from the start of one window to the next; by default the window's length.
    jobs
        Worker processes; -1 for one per core, 1 for the command itself alone.
    scheduler
        Address of a Dask scheduler, tcp://..., whose workers then do the work. Audio and output must
        have the same paths on all of them.
    max_failed
        Largest share of clips that may fail, 0 to 1.
    """

    audio: Path | None = None
    targets: tuple[str, ...] = ()
    window: float | None = None
    hop: float | None = None
    jobs: int = -1
    scheduler: str | None = None
    max_failed: Share = 0.01


def extract(
    clips: Path,
    *,
    out: Path,
    split: Split | None = None,
    task: Task | None = None,
    beats: bool = False,
    features: FeatureFlags = FeatureSettings(),  # noqa: B008 (frozen)
    flags: AudioFlags = AudioFlags(),
) -> None:
    """Extract the clips of a table or of a folder.

    Parameters
    ----------
    clips
        CSV with a column `path` (relative to it), or `id` together with --audio. A column
        `label` makes a genre set, target columns make an emotion set. Or a folder of audio with
        one sub-folder per class.
    out
        Root folder of the layout to write.
    split
        The split the clips belong to, by default train; not for a table with a column `split`
        (train, validation, test), whose parts are all extracted.
    task
        Needed only when the table has neither labels nor targets.
    beats
        Also write the beat-synchronous set, which takes nearly twice as long.
    features
        How audio becomes features. The set records them in settings.json.
    flags
        How clips are found, cut and read.
    """
    windows, workers = Windows(flags.window, flags.hop), Workers(flags.jobs, flags.scheduler)
    table = read_clips(clips, flags.audio, flags.targets)
    task = task or task_of(table)
    if task is None:
        raise InputError(f"{clips} has neither a label nor targets. Say --task emotion or --task genre.")
    card = card_of(clips)
    print(extract_clips(table, out, task, split, features, windows, beats, workers, flags.max_failed, card))
    print(f"The layout is in {out}.")


def statistics_of_audio(
    clips: Path,
    *,
    out: Path,
    features: FeatureFlags = FeatureSettings(),  # noqa: B008 (frozen)
    flags: AudioFlags = AudioFlags(),
) -> None:
    """Write one row of named statistics for every clip of a table or folder of audio.

    Parameters
    ----------
    clips
        Table or folder of audio, as for extract.
    out
        CSV to write: one row per clip with its id, its source and the statistics.
    features
        How audio becomes features.
    flags
        How clips are found, cut and read.
    """
    windows, workers = Windows(flags.window, flags.hop), Workers(flags.jobs, flags.scheduler)
    table = read_clips(clips, flags.audio, flags.targets)
    print(summarise_clips(table, out, features, windows, workers, flags.max_failed))
    print(f"The statistics are in {out}.")


def statistics_of_arrays(root: Path, *, out: Path, task: Task = "emotion", split: Split = "train") -> None:
    """Write one row of named statistics for every full-rate array of the competition's layout.

    Statistics that need the waveform, such as zero crossings or absolute loudness, are left out.

    Parameters
    ----------
    root
        Folder that holds the layout.
    out
        CSV to write: one row per clip with its id and the statistics. An existing file is replaced.
    task
        Emotion or genre set.
    split
        Training or test split.
    """
    folder = find_set(root, task)
    store = open_store(split_files(folder, split), Path(DataSection().stores))
    table = array_statistics(store, store.index.index.to_numpy(), read_settings(folder))
    write_table(out, table.rename_axis("id").reset_index())
    print(f"{len(table)} clips: {out}")
