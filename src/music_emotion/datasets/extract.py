"""Extract features of audio files into the competition's layout or into a table of statistics."""

import io
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from music_emotion import files
from music_emotion.audio.decode import read_clip
from music_emotion.audio.features import compile_ahead, full_features, fused_features
from music_emotion.audio.settings import FeatureSettings
from music_emotion.audio.statistics import audio_statistics, fused_statistics
from music_emotion.config import Rate, Task
from music_emotion.datasets.clip_table import Windows, cut_windows, target_columns
from music_emotion.datasets.layout import CARD, SPLIT_FILE, Split, array_name, leading_id, set_name
from music_emotion.datasets.parallel import Item, Outcome, Workers, items_of, work_through
from music_emotion.files import InputError, first_five

_ORIGIN = ["id", "path", "start_seconds", "end_seconds", "clip"]


def extract_clips(
    clips: pd.DataFrame,
    root: Path,
    task: Task,
    split: Split | None = None,
    settings: FeatureSettings | None = None,
    windows: Windows | None = None,
    beats: bool = False,
    workers: Workers | None = None,
    max_failed: float = 0.01,
    card: Path | None = None,
) -> Outcome:
    """Extract the arrays of clips into the competition's layout.

    A repeated run extracts only clips that are missing or failed, or whose audio or span has changed.

    Parameters
    ----------
    clips : pd.DataFrame
        Clip table from `read_clips`.
    root : Path
        Output folder for ``<set>/<split>/<id>.fused.full.npy``, label files, `settings.json`,
        `ids-<split>.csv`, the record `extract-<split>.csv` and, if clips have groups, `groups-<split>.csv`.
        If clips have splits, also `splits.csv`; the split "validation" is then part of the folder `train`.
    task : {"emotion", "genre"}
    split : {"train", "test"}, optional
        For clips without a column `split`; by default "train".
    settings : FeatureSettings, optional
        Feature settings. The defaults match the competition's arrays.
    windows : Windows, optional
        Cut every clip into windows. Each window becomes a clip.
    beats : bool
        Also write the beat-synchronous set. If the split already has one, it is always kept up to date.
        Adding it later extracts all clips again.
    workers : Workers, optional
        One process per core by default.
    max_failed : float
        Largest accepted share of failed clips, 0 to 1.
    card : Path, optional
        Description of the set, from `card_of` its table. If it exists, it is copied to `dataset.json` in the
        set's folder.

    Returns
    -------
    Outcome

    Raises
    ------
    InputError
        When `root` holds arrays that this function did not write, arrays with other settings, or arrays of
        clips that are not in the table. When too many clips fail, or another process writes to the set. When
        a split is given beside the column `split`.
    """
    settings, windows = settings or FeatureSettings(), windows or Windows()
    clips = cut_windows(clips, windows)
    parts: dict[Split, pd.DataFrame] = {split or "train": clips}
    if "split" in clips:
        if split is not None:
            raise InputError(f"The table has a column 'split'. Remove it, or leave out --split {split}.")
        is_test = clips["split"] == "test"
        parts = {"train": clips[~is_test], "test": clips[is_test]}
    root = root.resolve()  # workers on other machines have another working directory
    folders: dict[Rate, Path] = {rate: root / set_name(task, rate) for rate in ("full", "beat")}
    if not (beats or any((folders["beat"] / name).exists() for name in parts)):
        del folders["beat"]
    with files.alone_at(folders["full"], "give another --out"):
        for folder in folders.values():
            for name, part in parts.items():
                _check_folder(folder, name, set(part["id"]), asdict(settings) | asdict(windows))
            files.remove_unfinished(folder)
        if card is not None and card.exists():
            files.write_json(folders["full"] / CARD, files.read_object(card))
        outcomes = []
        for name, part in parts.items():
            if not len(part):
                continue
            splits = [folder / name for folder in folders.values()]
            outcome = work_through(
                items_of(part, settings),
                partial(_extract_one, settings, splits),
                folders["full"] / f"extract-{name}.csv",
                ("seconds",),
                workers or Workers(),
                partial(compile_ahead, settings),
                max_failed,
                partial(_array_paths, splits),
            )
            outcomes.append(outcome)
            failed = (outcome.record["reason"] != "").to_numpy()
            for clip_id in part["id"][failed]:
                for path in _array_paths(splits, clip_id):  # may be of an earlier version of the recording
                    path.unlink(missing_ok=True)
            for folder in folders.values():
                _write_tables(folder, task, name, part, failed)
        for folder in folders.values():
            (folder / SPLIT_FILE).unlink(missing_ok=True)  # may come from an earlier table
            if "split" in clips:
                files.write_table(folder / SPLIT_FILE, clips[["id", "split"]].rename(columns={"id": "Id"}))
    counts = (sum(getattr(each, name) for each in outcomes) for name in ("n_done", "n_kept", "n_failed"))
    return Outcome(pd.concat([each.record for each in outcomes], ignore_index=True), *counts)


def _array_paths(splits: Sequence[Path], clip_id: int) -> list[Path]:
    return [split / array_name(clip_id) for split in splits]


def _check_folder(folder: Path, split: Split, ids: set[int], asked: dict[str, Any]) -> None:
    """Raise `InputError` if a set has another origin, other settings, or clips that are not in the table.

    The last check also prevents test clips from being extracted into the training split. A set without arrays
    accepts any settings.
    """
    found = {
        name: {n for path in (folder / name).glob("[!.]*.npy*") if (n := leading_id(path.name)) is not None}
        for name in ("train", "test")
    }
    path = folder / "settings.json"
    if not path.exists() and found[split]:
        theirs = f"{folder / split} holds arrays, but {folder} has no {path.name}: others made them."
        raise InputError(f"{theirs} Give another --out.")
    held = files.read_object(path) if path.exists() and any(found.values()) else {}
    differing = [name for name in held if (held[name] or None) != asked.get(name)]
    if differing:
        said, wanted = ({name: values.get(name) for name in differing} for values in (held, asked))
        raise InputError(f"{path} says {said}, but this run asks for {wanted}. Give another --out.")
    strangers = sorted(found[split] - ids)
    if strangers:
        problem = f"{folder / split} holds arrays of {len(strangers)} clips that are not in the table"
        remedy = "Check --split, give another --out, or remove these arrays, of both rates."
        raise InputError(f"{problem}: {first_five(strangers)}. {remedy}")
    files.write_json(path, asked)


def _extract_one(settings: FeatureSettings, splits: Sequence[Path], item: Item) -> dict[str, Any]:
    waveform = read_clip(Path(item.path), settings, item.start_seconds, item.end_seconds)
    paths = _array_paths(splits, item.id)
    arrays = fused_features(waveform, settings) if len(paths) > 1 else [full_features(waveform, settings)]
    for path, array in zip(paths, arrays, strict=True):
        whole = io.BytesIO()  # np.save to a path hides why writing failed
        np.save(whole, array)
        with files.atomic_path(path) as temporary:
            temporary.write_bytes(whole.getbuffer())
    return {}


def _write_tables(folder: Path, task: Task, split: Split, clips: pd.DataFrame, failed: np.ndarray) -> None:
    files.write_table(folder / f"ids-{split}.csv", clips[clips.columns.intersection(_ORIGIN)])
    labels, groups = folder / f"{split}_labels.txt", folder / f"groups-{split}.csv"
    for path in (labels, groups):  # may come from an earlier table
        path.unlink(missing_ok=True)
    good, targets = clips[~failed].rename(columns={"id": "Id"}), target_columns(clips)
    if task == "genre" and "label" in good:
        # the spelling of file names in the competition's tables
        full_rate = {"train": "fused.full", "test": "full.fused"}[split]
        spelling = full_rate if folder.name == set_name(task, "full") else "beatsync.fused"
        names = good["Id"].map(f"{{}}.{spelling}.npy.gz".format)
        files.write_table(labels, pd.DataFrame({"Id": names, "Genre": good["label"]}), separator="\t")
    elif task == "emotion" and targets:
        files.write_table(labels, good[["Id", *targets]])
    if "group" in good:
        files.write_table(groups, good[["Id", "group"]])


def summarise_clips(
    clips: pd.DataFrame,
    out: Path,
    settings: FeatureSettings,
    windows: Windows | None = None,
    workers: Workers | None = None,
    max_failed: float = 0.01,
) -> Outcome:
    """Compute the named statistics of clips from their audio, and write them as a table.

    The statistics are those of `fused_statistics` and `audio_statistics`. A repeated run processes only clips
    that are missing or failed, or whose audio or span has changed.

    Parameters
    ----------
    clips : pd.DataFrame
        Clip table from `read_clips`.
    out : Path
        CSV with one row per clip: `SOURCE_COLUMNS`, the statistics, and `reason` (why the clip failed, or
        empty).
    settings : FeatureSettings
    windows : Windows, optional
        Cut every clip into windows. Each window becomes a clip.
    workers : Workers, optional
        One process per core by default.
    max_failed : float
        Largest accepted share of failed clips, 0 to 1.

    Returns
    -------
    Outcome

    Raises
    ------
    InputError
        When `out` is another kind of table, another process writes it, or too many clips fail.
    """
    out = out.resolve()
    with files.alone_at(out, "give another --out"):
        files.remove_unfinished(out)
        return work_through(
            items_of(cut_windows(clips, windows or Windows()), settings),
            partial(_summarise_one, settings),
            out,
            _names(settings),
            workers or Workers(),
            partial(_names, settings),
            max_failed,
        )


def _of_waveform(waveform: np.ndarray, settings: FeatureSettings) -> dict[str, float]:
    fused, rate = full_features(waveform, settings), settings.sample_rate_hz
    of_array = fused_statistics(fused, settings.hop_length / rate, sample_rate_hz=rate)
    return {**of_array, **audio_statistics(waveform, fused, settings)}


def _summarise_one(settings: FeatureSettings, item: Item) -> dict[str, Any]:
    waveform = read_clip(Path(item.path), settings, item.start_seconds, item.end_seconds)
    return _of_waveform(waveform, settings)


@cache
def _names(settings: FeatureSettings) -> tuple[str, ...]:
    """Names of the statistics, in the order of the columns."""
    noise = np.random.default_rng(0).standard_normal(settings.sample_rate_hz).astype(np.float32)
    with files.compiling():
        return tuple(_of_waveform(noise, settings))
