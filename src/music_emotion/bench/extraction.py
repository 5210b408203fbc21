"""Extraction beside librosa's ordinary calls: equal, and how much faster on one core."""

import os
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
from music_emotion.bench.memory import peak_mb
from music_emotion.datasets.clip_table import read_clips
from music_emotion.datasets.synthesis import write_demo

SETTINGS = FeatureSettings()
TOLERANCES = {"mel_db": 1e-3, "chroma": 1e-4, "beat_mel_db": 1e-3, "beat_chroma": 1e-4}


def _ordinary_waveform(audio: Path) -> np.ndarray:
    return librosa.load(audio, sr=SETTINGS.sample_rate_hz)[0]


def _ordinary_rows(waveform: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mel power and chroma by librosa's own calls."""
    rate_hz = SETTINGS.sample_rate_hz
    mel = librosa.feature.melspectrogram(y=waveform, sr=rate_hz, n_fft=2048, hop_length=512, n_mels=128)
    return mel, librosa.feature.chroma_cqt(y=waveform, sr=rate_hz, hop_length=512)


def _ordinary(audio: Path) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray, np.ndarray]:
    """Mel power and chroma, frames of beats, and the beat-synchronous array as the course made it."""
    waveform = _ordinary_waveform(audio)
    rows = _ordinary_rows(waveform)
    percussive = librosa.effects.percussive(waveform)
    frames = librosa.beat.beat_track(y=percussive, sr=SETTINGS.sample_rate_hz)[1]
    borders = [0, *frames.tolist()]  # librosa makes nothing of no beats
    return rows, frames, fuse(*(librosa.util.sync(part, borders, aggregate=np.median) for part in rows))


def compare(audio: Path) -> dict[str, float]:
    """How far this project's arrays of a file are from librosa's."""
    rows, frames, beat = _ordinary(audio)
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
    for column, tolerance in TOLERANCES.items():
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


def _report_speed(paths: list[Path], rounds: int) -> None:
    rate_hz = SETTINGS.sample_rate_hz
    ways: dict[str, Callable[[Path], object]] = {
        "ordinary full": lambda audio: _ordinary_rows(_ordinary_waveform(audio)),
        "our full": lambda audio: full_features(read_waveform(audio, rate_hz), SETTINGS),
        "ordinary beat": _ordinary,
        "our beat": lambda audio: fused_features(read_waveform(audio, rate_hz), SETTINGS),
    }
    for way in ways.values():  # compiles
        way(paths[0])
    turns = tqdm(paths * rounds, desc="time", unit="clip")
    seconds = pd.DataFrame([{name: _seconds(way, path) for name, way in ways.items()} for path in turns])
    print(f"\n{len(paths)} clips, {rounds} rounds, both ways in turns in one process on one thread:")
    for name in ways:
        print(f"  {name:<14} {1 / seconds[name].median():6.2f} clips per second")
    for name in ("ordinary beat", "our beat"):
        # a process that does nothing else, as the extraction's workers; it ends before the next begins
        with get_reusable_executor(max_workers=1) as executor:
            peak = max(executor.map(partial(_work_and_peak_mb, ways[name]), paths))
        print(f"  {name:<14} {peak:6.0f} MB at most in a worker process")
    for rate, label in (("full", "full_rate_ratio"), ("beat", "beat_sync_ratio")):
        ratios = seconds[f"ordinary {rate}"] / seconds[f"our {rate}"]
        print(f"{label} {ratios.median():.2f} {ratios.min():.2f} {ratios.max():.2f} {len(ratios)}")


def _seconds(way: Callable[[Path], object], path: Path) -> float:
    started = time.perf_counter()
    way(path)
    return time.perf_counter() - started


def _work_and_peak_mb(way: Callable[[Path], object], path: Path) -> float:
    way(path)
    return peak_mb(os.getpid())
