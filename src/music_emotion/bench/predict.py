"""Prediction beside the package vibenet: songs per second of one core, and whole processes."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import soundfile
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from music_emotion.audio.decode import read_clip, read_waveform
from music_emotion.bench.extraction import audio_paths, evenly
from music_emotion.bench.rival import RELEASE, Rival
from music_emotion.datasets.parallel import items_of
from music_emotion.listen.model import EmotionModel

_RATE_HZ, _SONG_SECONDS = 44100, 240


def predict(
    audio: Path | None = None,
    *,
    files: int = 20,
    rounds: int = 3,
    songs: int = 100,
    environment: Path | None = None,
) -> None:
    """Compare prediction with the package vibenet, in turns on the same files.

    The files are read as they are and as stereo mp3 at 44.1 kHz: first one by one on one core, past the start
    of both, with decoding alone beside them; then by whole processes on all cores. Last, whole processes
    predict one song of four minutes.

    Parameters
    ----------
    audio
        A folder of audio, or a table of clips; without one, synthesised music of 30 s.
    files
        Number of files that are read one by one, evenly spaced.
    rounds
        Timings of each; both packages take turns.
    songs
        Number of files for whole processes.
    environment
        Folder of vibenet's environment, as for bench vibenet.
    """
    with TemporaryDirectory() as place, closing(Rival(environment)) as rival:
        folder = Path(place)
        paths = evenly(audio_paths(audio, songs, folder), songs)
        kinds = {"as they are": paths, "stereo mp3, 44.1 kHz": [_as_mp3(path, folder) for path in paths]}
        for kind, of_kind in kinds.items():
            print(f"\n{kind}, seconds per file on one core, past the start:")
            _tell(_one_by_one(rival, evenly(of_kind, files), rounds))
            print(f"{kind}, seconds of whole processes for {len(of_kind)} files:")
            _tell(_processes(rival, of_kind, rounds, folder))
        parts = np.concatenate([read_waveform(path) for path in paths])
        song = _write(folder / "song.ogg", np.resize(parts, _SONG_SECONDS * 22050), 22050)
        print("one song of four minutes, seconds of whole processes:")
        _tell(_processes(rival, [song], rounds, folder))


def _as_mp3(path: Path, folder: Path) -> Path:
    """Write a file as stereo mp3 at 44.1 kHz; the right channel is a little later than the left."""
    waveform = read_waveform(path, _RATE_HZ)
    return _write(folder / f"{path.stem}.mp3", np.stack([waveform, np.roll(waveform, 20)], axis=1), _RATE_HZ)


def _write(path: Path, waveform: np.ndarray, rate_hz: int) -> Path:
    with soundfile.SoundFile(path, "w", rate_hz, waveform[0].size) as file:
        for first in range(0, len(waveform), rate_hz):  # libsndfile crashes on long blocks
            file.write(waveform[first : first + rate_hz])
    return path


def _one_by_one(rival: Rival, paths: Sequence[Path], rounds: int) -> pd.DataFrame:
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    model = EmotionModel.from_pretrained()
    items = items_of(pd.DataFrame({"id": range(len(paths)), "path": map(str, paths)}), RELEASE)
    ways: dict[str, Callable[[int], object]] = {
        "decoding": lambda number: read_clip(paths[number], model.cards[0].features),
        "music-emotion": lambda number: model.predict(paths[number]),
        "vibenet": lambda number: rival.ask(items[number]),
    }
    try:
        if cores:
            os.sched_setaffinity(0, {min(cores)})
        rival.close()
        rival.start()  # on this core, too
        with threadpool_limits(1):
            _in_turns(ways, [0])  # what only the first file needs
            return _in_turns(ways, [*range(len(paths))] * rounds)
    finally:
        if cores:
            os.sched_setaffinity(0, cores)


def _processes(rival: Rival, paths: Sequence[Path], rounds: int, folder: Path) -> pd.DataFrame:
    rival.close()
    ours = [sys.executable, "-m", "music_emotion", "predict", *map(str, paths), "--out"]
    theirs = [str(rival.scripts / "vibenet"), *map(str, paths), "--format", "csv", "--quiet"]
    ways: dict[str, Callable[[int], object]] = {
        "music-emotion": lambda turn: _run([*ours, str(folder / f"{len(paths)}-{paths[0].suffix}-{turn}")]),
        "vibenet": lambda _: _run(theirs),
    }
    return _in_turns(ways, range(rounds))


_run = partial(subprocess.run, check=True, capture_output=True)


def _in_turns(ways: dict[str, Callable[[int], object]], turns: Sequence[int]) -> pd.DataFrame:
    """Seconds of every way in every turn."""
    rows: list[dict[str, float]] = []
    for turn in tqdm(turns, leave=False):
        rows.append(seconds := {})
        for name, way in ways.items():
            started = time.perf_counter()
            way(turn)
            seconds[name] = time.perf_counter() - started
    return pd.DataFrame(rows)


def _tell(seconds: pd.DataFrame) -> None:
    for name, column in seconds.items():
        print(f"  {name:<14} {column.median():7.3f} ({column.min():.3f} to {column.max():.3f})")
    ratios, n = seconds["vibenet"] / seconds["music-emotion"], len(seconds)
    print(f"  times_as_fast  {ratios.median():7.2f} ({ratios.min():.2f} to {ratios.max():.2f}), n = {n}")
