"""An outside rival in an environment of its own: its predictions, its features, and its speed beside ours."""

import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import soundfile
from threadpoolctl import threadpool_limits

from music_emotion.audio.decode import read_clip, read_waveform
from music_emotion.bench.extraction import audio_paths, evenly, in_turns
from music_emotion.datasets.clip_table import read_clips, target_columns
from music_emotion.datasets.parallel import Item, Workers, items_of, work_through
from music_emotion.evaluation.intervals import resampled_scores
from music_emotion.evaluation.scores import summary
from music_emotion.files import InputError, alone_at, in_turn, remove_unfinished, shortened
from music_emotion.listen.model import EmotionModel

RELEASE = "vibenet==0.1.0"
_CHILD = Path(__file__).with_name("rival_child.py")
_PREDICTED = [
    "acousticness",
    "danceability",
    "energy",
    "instrumentalness",
    "liveness",
    "speechiness",
    "valence",
]
_RATE_HZ, _SONG_SECONDS = 44100, 240
_N_FEATURES = 1280 + 256  # of the backbone, and of the layer before the predictions
_COLUMNS = [f"vibenet-prediction:{name}" for name in _PREDICTED]
_COLUMNS += [f"vibenet-feature:{number}" for number in range(_N_FEATURES)]


def vibenet(
    clips: Path,
    *,
    out: Path,
    audio: Path | None = None,
    environment: Path | None = None,
    max_failed: float = 0.01,
) -> None:
    """Write what the package vibenet predicts for clips, and its features; score it where labels are given.

    vibenet 0.1.0 (GPL 3) is an EfficientNet that learnt Echo Nest's labels of the Free Music Archive. It is
    no dependency: pip installs it into an environment of its own, in which a process reads the audio.

    Parameters
    ----------
    clips
        Table or folder of audio, as for extract. Columns named like a prediction, such as valence, are
        compared with it.
    out
        CSV to write: one row per clip with its id, its source, the predictions and the features.
        data.statistics and data.embeddings read it.
    audio
        Folder of <id>.<ending> files for a table without paths.
    environment
        Folder of the environment, about 600 MB; by default in the user's cache. It is made once.
    max_failed
        Largest share of clips that may fail, 0 to 1.
    """
    table, out = read_clips(clips, audio), out.resolve()
    with alone_at(out, "give another --out"), closing(Rival(environment)) as rival:
        remove_unfinished(out)
        outcome = work_through(
            items_of(table, RELEASE), rival.ask, out, _COLUMNS, Workers(1), rival.start, max_failed
        )
    print(outcome)
    if rated := [name for name in target_columns(table) if name in _PREDICTED]:
        record = outcome.record[outcome.record["reason"] == ""]
        predicted = record[[f"vibenet-prediction:{name}" for name in rated]].set_axis(rated, axis=1)
        predicted.index = record["id"].astype(np.int64)
        scores = resampled_scores("emotion", table.set_index("id")[rated], predicted)
        print(summary(RELEASE, {"pooled": scores.intervals()}, "as it ships"))
    print(f"Predictions and features are in {out}.")


class Rival:
    """The child process in an environment, by default in the user's cache. The first start makes it."""

    def __init__(self, environment: Path | None):
        from platformdirs import user_cache_path

        self.folder = (environment or user_cache_path("music-emotion") / RELEASE).resolve()
        self.scripts = Path(sysconfig.get_path("scripts", "venv", {"base": str(self.folder)}))
        self.process: Any = None  # a Popen

    def start(self) -> None:
        """Install vibenet where it is missing, and wait until it is loaded."""
        packages = sysconfig.get_path("purelib", "venv", {"base": str(self.folder)})
        with in_turn(self.folder, f"installs {RELEASE}"):
            # pip installs what a package needs before the package, and writes this file last
            if not Path(packages, "vibenet-0.1.0.dist-info/RECORD").exists():
                self._install()
        # -I, so that the folder of the script, with names like memory and training, is not imported from
        command, pipe = [str(self.scripts / "python"), "-I", str(_CHILD)], subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, encoding="utf-8")
        if not self.process.stdout.readline():
            status = self.process.wait()
            problem = f"{RELEASE} in {self.folder} can't be loaded: the process ended with status {status}."
            raise InputError(f"{problem} Remove that folder, and it is installed anew.")

    def _install(self) -> None:
        print(f"pip installs {RELEASE} and what it needs (600 MB) into {self.folder} ...", flush=True)
        make = ["venv", "--without-pip", str(self.folder)]
        pip = ["pip", "--disable-pip-version-check", "--no-input", "--python", str(self.folder)]
        for step in (make, [*pip, "install", "--quiet", RELEASE]):
            command = [sys.executable, "-m", *step]
            done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace")
            if done.returncode:
                said = (done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1]
                problem = f"{RELEASE} can't be installed in {self.folder} ({shortened(said, 200)})."
                raise InputError(f"{problem} Connect to the network, or give an --environment that has it.")

    def ask(self, item: Item) -> dict[str, float]:
        """Predict one clip. A process that a clip has ended is started again for the next."""
        if self.process.poll() is not None:
            self.start()
        print(json.dumps([item.path, item.start_seconds, item.end_seconds]), file=self.process.stdin)
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline() or f'"status {self.process.wait()}"')
        if isinstance(answer, str):
            raise InputError(f"{item.path} can't be predicted ({answer}).")
        predicted, features = answer
        row = {f"vibenet-prediction:{name}": value for name, value in predicted.items()}
        row |= {f"vibenet-feature:{number}": value for number, value in enumerate(features)}
        if not np.isfinite(list(row.values())).all():
            raise InputError(f"{item.path} has predictions that are not finite numbers.")
        return row

    def close(self) -> None:
        """End the process."""
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None


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
            in_turns(ways, [0])  # what only the first file needs
            return in_turns(ways, [*range(len(paths))] * rounds)
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
    return in_turns(ways, range(rounds))


_run = partial(subprocess.run, check=True, capture_output=True)


def _tell(seconds: pd.DataFrame) -> None:
    for name, column in seconds.items():
        print(f"  {name:<14} {column.median():7.3f} ({column.min():.3f} to {column.max():.3f})")
    ratios, n = seconds["vibenet"] / seconds["music-emotion"], len(seconds)
    print(f"  times_as_fast  {ratios.median():7.2f} ({ratios.min():.2f} to {ratios.max():.2f}), n = {n}")
