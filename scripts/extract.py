"""Audio to the competition's layout: full-rate and beat-synchronous arrays, and label files."""

from pathlib import Path

from command_line import run
from music_emotion.data.clips import read_clips, task_of
from music_emotion.data.extract import extract_clips
from music_emotion.data.layout import Split, Task
from music_emotion.errors import InputError


def extract(
    clips: Path,
    *,
    out: Path,
    split: Split = "train",
    task: Task | None = None,
    audio: Path | None = None,
    jobs: int = -1,
    max_failed: float = 0.01,
) -> None:
    """Extract the clips of a table.

    Parameters
    ----------
    clips
        CSV with a column `path` (relative to it), or `id` together with --audio. A column
        `label` makes a genre set, target columns make an emotion set.
    out
        Root of the layout to write into.
    split
        Which split the clips are.
    task
        Needed only when the table has neither labels nor targets.
    audio
        Folder of <id>.<ending> files for a table without paths.
    jobs
        Worker processes; -1 for one per core.
    max_failed
        Share of clips that may fail.
    """
    table = read_clips(clips, audio)
    task = task or task_of(table)
    if task is None:
        raise InputError(f"{clips} has neither a label nor targets. Say --task emotion or --task genre.")
    record = extract_clips(table, out, task, split, n_jobs=jobs, max_failed=max_failed)
    failed = int((record["reason"] != "").sum())
    fresh = int((record["seconds"] > 0).sum()) - failed
    kept = len(record) - fresh - failed
    print(f"{len(record)} clips: {fresh} extracted, {kept} already there, {failed} failed.")
    print(f"The layout is in {out}.")


if __name__ == "__main__":
    run(extract)
