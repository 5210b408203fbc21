"""Audio files to the competition's layout: many clips in parallel, and again only what is missing."""

import io
import time
from dataclasses import asdict
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
from tqdm import tqdm

from music_emotion.data.clips import target_columns
from music_emotion.data.layout import Split, array_name, set_name
from music_emotion.errors import InputError, first_five
from music_emotion.files import atomic_path, read_json, write_json, write_table, write_text
from music_emotion.sections import Rate, Task
from music_emotion.sound.beats import compile_ahead, fused_features
from music_emotion.sound.spectrogram import FeatureSettings
from music_emotion.sound.waveform import read_waveform

_RATES: tuple[Rate, ...] = ("full", "beat")
# How each edition's genre tables spell the file of a clip, faults included (see README, data).
_GENRE_NAMES: dict[tuple[Rate, Split], str] = {
    ("full", "train"): "{}.fused.full.npy.gz",
    ("full", "test"): "{}.full.fused.npy.gz",
    ("beat", "train"): "{}.beatsync.fused.npy.gz",
    ("beat", "test"): "{}.beatsync.fused.npy.gz",
}


def extract_clips(
    clips: pd.DataFrame,
    root: Path,
    task: Task,
    split: Split,
    settings: FeatureSettings | None = None,
    n_jobs: int = -1,
    max_failed: float = 0.01,
) -> pd.DataFrame:
    """Extract full-rate and beat-synchronous arrays of clips into the competition's layout.

    Parameters
    ----------
    clips : pd.DataFrame
        As `read_clips` gives it.
    root : Path
        Gets ``<set>/<split>/<id>.fused.full.npy`` for both sets of the task, label files,
        `settings.json`, `ids-<split>.csv`, the record `extract-<split>.csv` and, where clips have
        groups, `groups-<split>.csv`.
    task : {"emotion", "genre"}
    split : {"train", "test"}
    settings : FeatureSettings, optional
        The course's own by default.
    n_jobs : int
        Worker processes, as joblib counts them.
    max_failed : float
        Share of clips, 0 to 1, that may fail before the run does.

    Returns
    -------
    pd.DataFrame
        The record: `id`, `path`, `seconds` of work (0 when it was there), `reason` it failed.

    Raises
    ------
    InputError
        When `root` holds features of other settings, or too many clips fail.
    """
    settings = settings or FeatureSettings()
    folders = {rate: root / set_name(task, rate) for rate in _RATES}
    for folder in folders.values():
        _check_settings(folder, settings)
    jobs = [
        joblib.delayed(_extract_one)(Path(path), _span(row), _outputs(folders, split, clip_id), settings)
        for path, clip_id, row in zip(clips["path"], clips["id"], clips.itertuples(), strict=True)
    ]
    if not all(path.exists() for clip_id in clips["id"] for path in _outputs(folders, split, clip_id)):
        tqdm.write("preparing librosa: half a minute the first time, a second after that")
        compile_ahead(settings)
    parallel = joblib.Parallel(n_jobs=n_jobs, return_as="generator")
    results = list(tqdm(parallel(jobs), total=len(jobs), desc=f"extract {task} {split}", unit="clip"))
    record = clips[["id", "path"]].assign(
        seconds=[round(seconds, 3) for seconds, _ in results], reason=[reason for _, reason in results]
    )
    good = clips[(record["reason"] == "").to_numpy()]
    for rate, folder in folders.items():
        write_table(folder / f"extract-{split}.csv", record)
        write_table(folder / f"ids-{split}.csv", clips[["id", "path"]])
        _write_labels(folder, task, rate, split, good)
        if "group" in clips:
            write_table(folder / f"groups-{split}.csv", good[["id", "group"]].rename(columns={"id": "Id"}))
    _check_failures(record, folders["full"] / f"extract-{split}.csv", max_failed)
    return record


def _check_settings(folder: Path, settings: FeatureSettings) -> None:
    path = folder / "settings.json"
    if not path.exists():
        write_json(path, asdict(settings))
    elif read_json(path) != asdict(settings):
        raise InputError(
            f"{path} says the features there were made with {read_json(path)}, but this run asks "
            f"for {asdict(settings)}. Give another output folder."
        )


def _span(row) -> tuple[float, float | None]:  # noqa: ANN001 (a named tuple of the table's columns)
    start, end = getattr(row, "start_seconds", 0.0), getattr(row, "end_seconds", None)
    return (0.0 if pd.isna(start) else start), (None if pd.isna(end) else end)


def _outputs(folders: dict[Rate, Path], split: Split, clip_id: int) -> list[Path]:
    return [folders[rate] / split / array_name(clip_id) for rate in _RATES]


def _extract_one(
    audio: Path, span: tuple[float, float | None], outputs: list[Path], settings: FeatureSettings
) -> tuple[float, str]:
    """Extract one clip; return the seconds it took and why it failed, if it did."""
    if all(path.exists() for path in outputs):
        return 0.0, ""
    started = time.perf_counter()
    try:
        waveform = read_waveform(audio, settings.sample_rate_hz, *span)
        _check_waveform(waveform, audio, settings)
    except InputError as error:
        return time.perf_counter() - started, str(error)
    for path, array in zip(outputs, fused_features(waveform, settings), strict=True):
        whole = io.BytesIO()  # NumPy's own writing hides why a disk refused it
        np.save(whole, array)
        with atomic_path(path) as temporary:
            temporary.write_bytes(whole.getbuffer())
    return time.perf_counter() - started, ""


def _check_waveform(waveform: np.ndarray, audio: Path, settings: FeatureSettings) -> None:
    if len(waveform) < settings.n_fft:
        raise InputError(
            f"{audio}: the clip has {len(waveform)} samples at {settings.sample_rate_hz} Hz; "
            f"at least {settings.n_fft} are needed."
        )
    if not np.isfinite(waveform).all():
        raise InputError(f"{audio}: the audio holds values that are not finite numbers.")
    if not waveform.any():
        raise InputError(f"{audio}: the clip is silent.")


def _write_labels(folder: Path, task: Task, rate: Rate, split: Split, clips: pd.DataFrame) -> None:
    path = folder / f"{split}_labels.txt"
    if task == "genre" and "label" in clips:
        name = _GENRE_NAMES[rate, split]
        rows = [f"{name.format(row.id)}\t{row.label}" for row in clips.itertuples()]
        write_text(path, "\n".join(["Id\tGenre", *rows]) + "\n")
    elif task == "emotion" and target_columns(clips):
        table = clips[["id", *target_columns(clips)]].rename(columns={"id": "Id"})
        write_table(path, table)


def _check_failures(record: pd.DataFrame, path: Path, max_failed: float) -> None:
    failed = record[record["reason"] != ""]
    if len(failed) > max_failed * len(record):
        raise InputError(
            f"{len(failed)} of {len(record)} clips failed, more than the share {max_failed} allowed: "
            f"{first_five(failed['reason'])} See {path}; mend or remove them, or raise --max-failed."
        )
