"""Compare extraction with plain librosa calls, and the ear with plain PyTorch: differences, and speed."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import joblib
import librosa
import numpy as np
import pandas as pd
from joblib.externals.loky import get_reusable_executor
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from music_emotion.audio import ear_input, features
from music_emotion.audio.decode import read_waveform
from music_emotion.bench.training import peak_mb
from music_emotion.datasets.clip_table import read_clips
from music_emotion.datasets.synthesis import write_demo
from music_emotion.models.ear import load_ear
from music_emotion.models.musicnn import embedding

SETTINGS = features.FeatureSettings()
RATE_HZ = SETTINGS.sample_rate_hz
TOLERANCES = {"mel_db": 1e-3, "chroma": 1e-4, "beat_mel_db": 1e-3, "beat_chroma": 1e-4}

Rows = tuple[np.ndarray, np.ndarray]
T = TypeVar("T")


def _ordinary_full(audio: Path) -> tuple[np.ndarray, Rows]:
    """Waveform, and mel power and chroma from plain librosa calls."""
    waveform = librosa.load(audio, sr=RATE_HZ)[0]
    mel = librosa.feature.melspectrogram(y=waveform, sr=RATE_HZ, n_fft=2048, hop_length=512, n_mels=128)
    return waveform, (mel, librosa.feature.chroma_cqt(y=waveform, sr=RATE_HZ, hop_length=512))


def _ordinary_beat(audio: Path) -> tuple[Rows, np.ndarray, np.ndarray]:
    """Mel power and chroma, beat frames, and the beat-synchronous array, computed as in the course."""
    waveform, rows = _ordinary_full(audio)
    percussive = librosa.effects.percussive(waveform)
    frames = librosa.beat.beat_track(y=percussive, sr=RATE_HZ)[1]
    borders = [0, *frames.tolist()]  # librosa fails without beats
    return rows, frames, features.fuse(*(librosa.util.sync(p, borders, aggregate=np.median) for p in rows))


_WAYS: dict[str, Callable[[Path], object]] = {
    "ordinary full": _ordinary_full,
    "our full": lambda audio: features.full_features(read_waveform(audio, RATE_HZ), SETTINGS),
    "ordinary beat": _ordinary_beat,
    "our beat": lambda audio: features.fused_features(read_waveform(audio, RATE_HZ), SETTINGS),
}


def compare(audio: Path) -> dict[str, float]:
    """Largest differences between this project's arrays of a file and librosa's."""
    rows, frames, beat = _ordinary_beat(audio)
    waveform = read_waveform(audio, RATE_HZ)
    our_full, our_beat = features.fused_features(waveform, SETTINGS)
    same_beats = np.array_equal(frames, features.beat_frames(waveform, SETTINGS))
    full_apart = np.abs(our_full - features.fuse(*rows))
    beat_apart = np.abs(our_beat - beat) if same_beats else np.full((140, 1), np.inf)
    largest = [part.max() for apart in (full_apart, beat_apart) for part in (apart[:128], apart[128:])]
    return dict(zip(TOLERANCES, largest, strict=True)) | {"same_beats": same_beats}


def report_equality(paths: list[Path], jobs: int) -> None:
    """Print how many clips differ from plain librosa calls, and by how much."""
    work = joblib.Parallel(n_jobs=jobs, return_as="generator")(
        joblib.delayed(compare)(path) for path in paths
    )
    table = pd.DataFrame(tqdm(work, total=len(paths), desc="compare", unit="clip"), index=paths)
    same = table["same_beats"]
    print(f"{len(table)} clips beside librosa's ordinary calls:")
    print(f"  identical beat frames: {same.sum()} of {len(table)} ({100 * same.mean():.2f} %)")
    for column, tolerance in TOLERANCES.items():
        beyond = table[column][table[column] > tolerance]
        print(
            f"  {column}: largest difference {table[column].max():.2e}, median of the clips' largest "
            f"{table[column].median():.2e}; {len(beyond)} clips above {tolerance:g}"
        )
        for path, value in beyond.nlargest(5).items():
            print(f"    {path}: {value:.2e}")


def extract(audio: Path | None = None, *, clips: int = 20, rounds: int = 3, jobs: int = -1) -> None:
    """Compare extraction with plain librosa calls: differences, and speed on one core.

    Parameters
    ----------
    audio
        A folder of audio, or a table of clips; without one, synthesised music of 30 s. All its
        files are compared, on all cores; some are then timed on one thread.
    clips
        Number of files to time, evenly spaced.
    rounds
        Timings per file; both ways take turns.
    jobs
        Worker processes of the comparison; the timing uses one.
    """
    with TemporaryDirectory() as folder:
        paths = audio_paths(audio, clips, Path(folder))
        features.compile_ahead(SETTINGS)
        report_equality(paths, jobs)
        with threadpool_limits(1):
            _report_speed(evenly(paths, clips), rounds)


def audio_paths(source: Path | None, n: int, folder: Path) -> list[Path]:
    """Audio files of a folder or table; without one, n clips of 30 s, synthesised into another folder."""
    if source is None:
        write_demo(folder, (n, 1, 1, 1), seconds=30.0, seed=0)
    table = read_clips(source or folder / "emotion_train.csv")
    return [Path(path) for path in table["path"].drop_duplicates()]


def evenly(paths: list[Path], n: int) -> list[Path]:
    """At most n of the paths, evenly spaced."""
    return [paths[i] for i in np.linspace(0, len(paths) - 1, min(n, len(paths))).astype(int)]


def in_turns(ways: Mapping[str, Callable[[T], object]], turns: Sequence[T]) -> pd.DataFrame:
    """Seconds of every way in every turn."""
    rows: list[dict[str, float]] = []
    for turn in tqdm(turns, desc="time", leave=False):
        rows.append(seconds := {})
        for name, way in ways.items():
            started = time.perf_counter()
            way(turn)
            seconds[name] = time.perf_counter() - started
    return pd.DataFrame(rows)


def _report_speed(paths: list[Path], rounds: int) -> None:
    in_turns(_WAYS, paths[:1])  # compile numba's functions
    seconds = in_turns(_WAYS, paths * rounds)
    print(f"\n{len(paths)} clips, {rounds} rounds, both ways in turns in one process on one thread:")
    for way in _WAYS:
        print(f"  {way:<14} {1 / seconds[way].median():6.2f} clips per second")
    for way in ("ordinary beat", "our beat"):
        # a separate process, like the extraction's workers; it ends before the next begins
        with get_reusable_executor(max_workers=1) as executor:
            peak = max(executor.map(partial(_peak_mb, way), paths))
        print(f"  {way:<14} {peak:6.0f} MB at most in a worker process")
    for rate, label in (("full", "full_rate_ratio"), ("beat", "beat_sync_ratio")):
        _report_ratio(label, seconds[f"ordinary {rate}"] / seconds[f"our {rate}"])


def _peak_mb(way: str, path: Path) -> float:
    _WAYS[way](path)
    return peak_mb(os.getpid())


def _report_ratio(label: str, ratios: pd.Series) -> None:
    print(f"{label} {ratios.median():.3f} {ratios.min():.3f} {ratios.max():.3f} {len(ratios)}")


def ear(
    weights: Path | None = None,
    *,
    clips: Path | None = None,
    files: int = 10,
    hop: int = 187,
    rounds: int = 5,
) -> None:
    """Compare the ear's inference with plain PyTorch in single precision, on one thread.

    Parameters
    ----------
    weights
        A file that `music-emotion ear` wrote; by default MusiCNN of the Million Song Dataset.
    clips
        A folder of audio, or a table of clips; without one, synthesised music of 30 s.
    files
        Number of clips to time, evenly spaced.
    hop
        Frames from one window to the next.
    rounds
        Timings per clip; both ways take turns.
    """
    network = load_ear(weights)
    with TemporaryDirectory() as folder, threadpool_limits(1):
        paths = evenly(audio_paths(clips, files, Path(folder)), files)
        waveforms = {path: read_waveform(path, ear_input.RATE_HZ) for path in paths}
        bands = {path: ear_input.ear_bands(waveform) for path, waveform in waveforms.items()}
        ways: dict[str, Callable[[Path], Any]] = {
            "decode": lambda path: read_waveform(path, ear_input.RATE_HZ),
            "mel": lambda path: ear_input.ear_bands(waveforms[path]),
            "plain": lambda path: embedding(network, bands[path], hop, plain=True),
            "fast": lambda path: embedding(network, bands[path], hop),
        }
        found = [(ways["plain"](path), ways["fast"](path)) for path in paths]
        table = in_turns(ways, paths * rounds)
    print(f"\n{len(paths)} clips, {rounds} rounds, both ways in turns on one thread, the network alone:")
    for step in ways:
        seconds = 1000 * table[step]
        print(f"  {step:<7} {seconds.median():6.1f} ms per clip ({seconds.min():.1f} to {seconds.max():.1f})")
    for name in found[0][0]:
        pairs = [(plain[name], fast[name]) for plain, fast in found]
        apart = max(np.abs(fast - plain).max() / np.abs(plain).max() for plain, fast in pairs)
        print(f"  {name}: fast differs from plain by {apart:.1e} of the largest value, or less")
    _report_ratio("ear_ratio", table["fast"] / table["plain"])
