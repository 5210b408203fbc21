"""Extraction beside librosa's ordinary calls: equal, and how much faster on one core."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import joblib
import librosa
import numpy as np
import pandas as pd
from joblib.externals.loky import get_reusable_executor
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from music_emotion.audio.decode import read_waveform
from music_emotion.audio.features import (
    FeatureSettings,
    beat_frames,
    compile_ahead,
    full_features,
    fuse,
    fused_features,
)
from music_emotion.bench.processes import own_peak_mb
from music_emotion.datasets.clip_table import read_clips
from music_emotion.datasets.synthesis import write_demo

SETTINGS = FeatureSettings()
MEL_TOLERANCE_DB, CHROMA_TOLERANCE = 1e-3, 1e-4


def ordinary_full(audio: Path) -> tuple[np.ndarray, np.ndarray]:
    """Mel power and chroma of a file by librosa's own calls."""
    return _ordinary_rows(_ordinary_waveform(audio))


def ordinary_beat_synchronous(audio: Path) -> np.ndarray:
    """The beat-synchronous array of a file as the course made it, decoding once."""
    waveform = _ordinary_waveform(audio)
    return _between_beats(_ordinary_rows(waveform), _ordinary_beats(waveform))


def _ordinary_waveform(audio: Path) -> np.ndarray:
    return librosa.load(audio, sr=SETTINGS.sample_rate_hz)[0]


def _ordinary_rows(waveform: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rate_hz = SETTINGS.sample_rate_hz
    mel = librosa.feature.melspectrogram(y=waveform, sr=rate_hz, n_fft=2048, hop_length=512, n_mels=128)
    return mel, librosa.feature.chroma_cqt(y=waveform, sr=rate_hz, hop_length=512)


def _ordinary_beats(waveform: np.ndarray) -> np.ndarray:
    percussive = librosa.effects.percussive(waveform)
    return librosa.beat.beat_track(y=percussive, sr=SETTINGS.sample_rate_hz)[1]


def _between_beats(rows: tuple[np.ndarray, np.ndarray], frames: np.ndarray) -> np.ndarray:
    borders = [0, *frames.tolist()]  # librosa makes nothing of no beats
    return fuse(*(librosa.util.sync(part, borders, aggregate=np.median) for part in rows))


def compare(audio: Path) -> dict[str, float]:
    """How far this project's arrays of a file are from librosa's."""
    ordinary = _ordinary_waveform(audio)
    rows, frames = _ordinary_rows(ordinary), _ordinary_beats(ordinary)
    beat = _between_beats(rows, frames)
    waveform = read_waveform(audio, SETTINGS.sample_rate_hz)
    our_full, our_beat = fused_features(waveform, SETTINGS)
    same_beats = np.array_equal(frames, beat_frames(waveform, SETTINGS))
    differences = np.abs(our_full - fuse(*rows))
    beat_differences = np.abs(our_beat - beat) if same_beats else np.full((140, 1), np.inf)
    return {
        "mel_db": differences[:128].max(),
        "chroma": differences[128:].max(),
        "other_beats": not same_beats,
        "beat_mel_db": beat_differences[:128].max(),
        "beat_chroma": beat_differences[128:].max(),
    }


def report_equality(paths: list[Path], jobs: int) -> None:
    """Print how many clips differ from librosa's ordinary calls, and by how much."""
    parallel = joblib.Parallel(n_jobs=jobs, return_as="generator")
    work = parallel(joblib.delayed(compare)(path) for path in paths)
    table = pd.DataFrame(tqdm(work, total=len(paths), desc="compare", unit="clip"), index=paths)
    same = len(table) - int(table["other_beats"].sum())
    print(f"{len(table)} clips beside librosa's ordinary calls:")
    print(f"  identical beat frames: {same} of {len(table)} ({100 * same / len(table):.2f} %)")
    for column, tolerance in {
        "mel_db": MEL_TOLERANCE_DB,
        "chroma": CHROMA_TOLERANCE,
        "beat_mel_db": MEL_TOLERANCE_DB,
        "beat_chroma": CHROMA_TOLERANCE,
    }.items():
        values = table[column]
        beyond = int((values > tolerance).sum())
        print(
            f"  {column}: largest difference {values.max():.2e}, median of the clips' largest "
            f"{values.median():.2e}; {beyond} clips above {tolerance:g}"
        )
        for path, value in values[values > tolerance].nlargest(5).items():
            print(f"    {path}: {value:.2e}")


def extract(audio: Path | None = None, *, clips: int = 20, rounds: int = 3, jobs: int = -1) -> None:
    """Extraction beside librosa's ordinary calls: equal, and how much faster on one core.

    Parameters
    ----------
    audio
        A folder of audio, or a table of clips; without one, synthesised music of 30 s. All its
        files are compared, on all cores; a part is then timed on one thread.
    clips
        How many of them are timed, evenly spaced.
    rounds
        How often each is timed; both ways take turns.
    jobs
        Processes that compare; the timing has one.
    """
    with TemporaryDirectory() as folder:
        if audio is None:
            write_demo(Path(folder), (clips, 1, 1, 1), seconds=30.0, seed=0)
        table = read_clips(audio or Path(folder) / "emotion_train.csv")
        paths = [Path(path) for path in table["path"].drop_duplicates()]
        compile_ahead(SETTINGS)
        report_equality(paths, jobs)
        chosen = [paths[i] for i in np.linspace(0, len(paths) - 1, min(clips, len(paths))).astype(int)]
        with threadpool_limits(1):
            _report_speed(chosen, rounds)


def _our_full(audio: Path) -> None:
    full_features(read_waveform(audio, SETTINGS.sample_rate_hz), SETTINGS)


def _our_beat_synchronous(audio: Path) -> None:
    fused_features(read_waveform(audio, SETTINGS.sample_rate_hz), SETTINGS)


def _report_speed(paths: list[Path], rounds: int) -> None:
    ways: dict[str, Callable[[Path], object]] = {
        "ordinary full": ordinary_full,
        "our full": _our_full,
        "ordinary beat": ordinary_beat_synchronous,
        "our beat": _our_beat_synchronous,
    }
    for way in ways.values():  # compiles
        way(paths[0])
    turns = tqdm(paths * rounds, desc="time", unit="clip")
    seconds = pd.DataFrame([{name: _seconds(way, path) for name, way in ways.items()} for path in turns])
    print(f"\n{len(paths)} clips, {rounds} rounds, both ways in turns in one process on one thread:")
    for name in ways:
        print(f"  {name:<14} {1 / seconds[name].median():6.2f} clips per second")
    for name in ("ordinary beat", "our beat"):
        print(f"  {name:<14} {_worker_peak_mb(ways[name], paths):6.0f} MB at most in a worker process")
    for rate, label in (("full", "full_rate_ratio"), ("beat", "beat_sync_ratio")):
        ratios = seconds[f"ordinary {rate}"] / seconds[f"our {rate}"]
        print(f"{label} {ratios.median():.2f} {ratios.min():.2f} {ratios.max():.2f} {len(ratios)}")


def _seconds(way: Callable[[Path], object], path: Path) -> float:
    started = time.perf_counter()
    way(path)
    return time.perf_counter() - started


def _worker_peak_mb(way: Callable[[Path], object], paths: list[Path]) -> float:
    """Largest resident size of a process that does nothing else, as the extraction's workers."""
    executor = get_reusable_executor(max_workers=1)
    peaks = list(executor.map(partial(_work_and_peak_mb, way), paths))
    executor.shutdown(wait=True)  # so that the next way gets a fresh process
    return max(peaks)


def _work_and_peak_mb(way: Callable[[Path], object], path: Path) -> float:
    way(path)
    return own_peak_mb()
