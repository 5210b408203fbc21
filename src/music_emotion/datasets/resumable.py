"""Work on many clips that goes on where it stopped: only what is missing or stale is done."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from music_emotion.audio.features import FeatureSettings
from music_emotion.datasets.journal import Journal, Source, source_of
from music_emotion.datasets.parallel import Workers, map_clips
from music_emotion.files import InputError, first_five, telling_what_is_kept


@dataclass(frozen=True)
class Item:
    """One clip's work.

    Attributes
    ----------
    clip_id : int
    audio : Path
        Absolute, since workers may start elsewhere.
    source : Source
        What the audio and its span are now.
    outputs : tuple of Path
        Files that the work leaves.
    """

    clip_id: int
    audio: Path
    source: Source
    outputs: tuple[Path, ...] = ()


def items_of(
    clips: pd.DataFrame,
    settings: FeatureSettings,
    outputs: Callable[[int], tuple[Path, ...]] = lambda _: (),
) -> list[Item]:
    """The work that a table of clips means.

    Parameters
    ----------
    clips : pd.DataFrame
        As `read_clips` gives it.
    settings : FeatureSettings
    outputs : callable
        Files that the work on a clip, given its id, leaves.
    """
    spans = clips.reindex(columns=["start_seconds", "end_seconds"]).astype(float)
    starts = spans["start_seconds"].fillna(0.0).tolist()
    ends = [None if math.isnan(end) else end for end in spans["end_seconds"].tolist()]
    audios = [Path(path).absolute() for path in clips["path"].tolist()]
    return [
        Item(clip_id, audio, source_of(audio, start, end, settings), outputs(clip_id))
        for clip_id, audio, start, end in zip(clips["id"].tolist(), audios, starts, ends, strict=True)
    ]


@dataclass(frozen=True)
class Outcome:
    """What a run did.

    Attributes
    ----------
    record : pd.DataFrame
        One row per clip, in the order given: `id`, its source, what was noted, `reason` it failed.
    n_done, n_kept, n_failed : int
        Clips done now, those that were there, and those that can't be done.
    """

    record: pd.DataFrame
    n_done: int
    n_kept: int
    n_failed: int

    def __str__(self) -> str:
        return (
            f"{len(self.record)} clips: {self.n_done} done, {self.n_kept} already there, "
            f"{self.n_failed} failed."
        )


def work_through(
    items: Sequence[Item],
    function: Callable[[Item], dict[str, Any]],
    journal: Journal,
    workers: Workers,
    prepare: Callable[[], object],
    description: str,
) -> Outcome:
    """Do what the journal does not hold, and note each clip as it ends.

    Parameters
    ----------
    items : sequence of Item
    function : callable
        Does one, writes its outputs and returns what to note, `reason` among it: empty, or a
        sentence that says why the clip can't be done.
    journal : Journal
        Clips that failed before are tried again.
    workers : Workers
    prepare, description
        As in `map_clips`.

    Returns
    -------
    Outcome
    """
    missing = [item for item in items if not _is_done(item, journal)]
    ids = [item.clip_id for item in items]
    with journal, telling_what_is_kept(partial(_kept, items, journal)):
        arguments = [(function, item) for item in missing]
        for item, values in map_clips(_call, arguments, workers, prepare, journal.path.parent, description):
            journal.note(item.clip_id, item.source, values)
    lost = [item.clip_id for item in missing if not journal.notes(item.clip_id)]
    if lost:
        raise InputError(f"{len(lost)} clips did not come back: {first_five(lost)}. Give the same command.")
    journal.finish(ids)
    record = journal.table(ids)
    n_failed = int((record["reason"] != "").sum())
    return Outcome(record, len(missing) - n_failed, len(items) - len(missing), n_failed)


def check_failures(outcome: Outcome, place: Path, max_failed: float) -> None:
    """Refuse a result that lacks more than a share of the clips, 0 to 1.

    Raises
    ------
    InputError
        With the first five reasons, and `place`, which holds them all.
    """
    if outcome.n_failed > max_failed * len(outcome.record):
        record = outcome.record[outcome.record["reason"] != ""]
        reasons = "".join(f"\n  clip {row.id}: {row.reason}" for row in record.head().itertuples())
        raise InputError(
            f"{outcome.n_failed} of {len(outcome.record)} clips failed, more than the share {max_failed} "
            f"allowed:{reasons}\nAll reasons are in {place}. Mend or remove such clips, or raise "
            f"--max-failed."
        )


def _kept(items: Sequence[Item], journal: Journal) -> str:
    n_done = sum(_is_done(item, journal) for item in items)
    return f"{journal.path.parent}: {n_done} of {len(items)} clips are done"


def _is_done(item: Item, journal: Journal) -> bool:
    return journal.holds(item.clip_id, item.source) and all(path.exists() for path in item.outputs)


def _call(function: Callable[[Item], dict[str, Any]], item: Item) -> tuple[Item, dict[str, Any]]:
    return item, function(item)
