"""Compare the pretrained ear's inference with plain PyTorch: differences, and speed on one thread."""

import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from music_emotion.audio.decode import read_waveform
from music_emotion.audio.ear_input import RATE_HZ, ear_bands
from music_emotion.bench.extraction import audio_paths, evenly
from music_emotion.models.ear import load_ear
from music_emotion.models.musicnn import MusiCNN, Vgg, embedding

_STEPS = ("decode", "mel", "plain", "fast")


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
        _measure(network, paths[0], hop)  # the first call prepares librosa and PyTorch
        turns = tqdm(paths * rounds, desc="time", unit="clip")
        table = pd.DataFrame([_measure(network, path, hop) for path in turns])
    print(f"\n{len(paths)} clips, {rounds} rounds, both ways in turns on one thread, the network alone:")
    for step in _STEPS:
        seconds = 1000 * table[step]
        print(f"  {step:<7} {seconds.median():6.1f} ms per clip ({seconds.min():.1f} to {seconds.max():.1f})")
    for name in table.columns[len(_STEPS) :]:
        print(f"  {name}: fast differs from plain by {table[name].max():.1e} of the largest value, or less")
    ratios = table["fast"] / table["plain"]
    print(f"ear_ratio {ratios.median():.3f} {ratios.min():.3f} {ratios.max():.3f} {len(ratios)}")


def _measure(network: MusiCNN | Vgg, path: Path, hop: int) -> dict[str, float]:
    """Seconds of each step, and the largest relative difference of each part of the embedding."""
    times = [time.perf_counter()]
    waveform = read_waveform(path, RATE_HZ)
    times.append(time.perf_counter())
    bands = ear_bands(waveform)
    times.append(time.perf_counter())
    plain = embedding(network, bands, hop, plain=True)
    times.append(time.perf_counter())
    fast = embedding(network, bands, hop)
    times.append(time.perf_counter())
    apart = {name: np.abs(fast[name] - plain[name]).max() / np.abs(plain[name]).max() for name in plain}
    return dict(zip(_STEPS, np.diff(times), strict=True)) | apart
