"""Predict audio files and folders of audio, and write a table, a summary and a picture for each file."""

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import chain, count
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from music_emotion.audio.settings import SILENCE_DB
from music_emotion.config import N_MELS
from music_emotion.datasets.audio_folder import audio_below
from music_emotion.failures import collecting, drawing
from music_emotion.files import (
    InputError,
    compiling,
    file_name,
    printable,
    read_object,
    write_json,
    write_table,
)
from music_emotion.listen.hub import located
from music_emotion.listen.model import EmotionModel, Engine, name_of, stamp
from music_emotion.listen.predict import Sliding, Song, Timeline

_MOST_COLUMNS = 1500  # of the spectrogram in the picture
_LONGEST_WITH_BEATS_SECONDS = 600.0  # in longer songs, beat marks would overlap
_QUIETEST_ONSET_DB = -40.0  # quieter levels fluctuate in lossy files
_TICKS_HZ = (256, 1024, 4096)


@dataclass(frozen=True)
class Overview:
    """Spectrogram and beats of a song, for its picture.

    Attributes
    ----------
    seconds : float
        Length of the song, to the precision of a frame.
    spectrogram : np.ndarray [shape=(128, n_columns)]
        Mel spectrogram in dB relative to its maximum, averaged to at most 1,500 columns.
    beats : np.ndarray [shape=(n_beats,)]
        Times of the beats in seconds; empty for songs longer than ten minutes.
    ticks : dict of int to float
        Frequency in Hz to position among the mel rows.
    """

    seconds: float
    spectrogram: np.ndarray
    beats: np.ndarray
    ticks: dict[int, float]


def predict_songs(
    songs: Sequence[Path],
    models: Sequence[Path],
    out: Path,
    sliding: Sliding,
    draw: Callable[[Path, str, Timeline, Overview], None] | None,
    failures: dict[str, str],
    engine: Engine | None = None,
) -> None:
    """Predict audio files over time, and write `<name>.csv`, `.json` and then `.png` for each.

    Files with up-to-date results are skipped, also if their picture could not be drawn.

    Parameters
    ----------
    songs : sequence of Path
        Audio files.
    models : sequence of Path
        As for `EmotionModel.from_pretrained`.
    out : Path
        Output folder.
    sliding : Sliding
        Length and hop of the windows.
    draw : callable or None
        Draws the picture, like `plots.draw_timeline`. None draws no pictures.
    failures : dict of str to str
        Gets the reasons why files could not be predicted, as in `collecting`.
    engine : {"torch", "onnx"}, optional
        As for `EmotionModel.from_pretrained`.

    Raises
    ------
    InputError
        When models are unusable or incompatible with each other.
    OSError
        When results can't be written, for example on a full disk.
    """
    models, called = [located(path) for path in models], name_of(models)
    stamps = {"name": called, "sha256": stamp(models)}
    unfinished, taken = [], set[str]()
    for path in songs:
        with collecting(failures, path):
            origin = _stamp(path) | {"model": stamps, "settings": asdict(sliding)}
            name = _free_name(out, path, taken)
            files = {ending: out / f"{name}.{ending}" for ending in ("json", "csv", "png")}
            card = read_object(files["json"]) if files["json"].exists() and files["csv"].exists() else {}
            is_drawn = not draw or files["png"].exists() or card.get("picture") == "failed"
            if card.items() >= origin.items() and is_drawn:
                print(f"{_readable(files['csv'])} is there already.")
            else:
                unfinished.append((path, files, origin))
    if not unfinished:
        return
    model = EmotionModel.from_pretrained(*models, engine=engine)
    for path, files, origin in tqdm(unfinished, "predict", unit="file", disable=len(unfinished) < 2):
        with collecting(failures, path):
            song, timeline = model.listen(path, sliding)
            files["json"].unlink(missing_ok=True)  # without it, the results are unfinished
            files["png"].unlink(missing_ok=True)
            how = {"features": asdict(song.settings), "precision": model.ensembles[0].precision}
            _write_timeline(files, timeline, origin | how)
            if draw:
                with drawing(files["png"]):
                    draw(files["png"], _readable(Path(path.name)), timeline, overview_of(song))
                if not files["png"].exists():  # so that the next run does not try again
                    write_json(files["json"], read_object(files["json"]) | {"picture": "failed"})


def find_audio(paths: Sequence[Path], failures: dict[str, str]) -> list[Path]:
    """List all audio files, without duplicates of the same real path."""
    if not paths:
        raise InputError("There is nothing to predict. Name audio files, or folders of audio.")
    files: dict[Path, Path] = {}
    for path in paths:
        with collecting(failures, path):
            for file in [path / name for name in audio_below(path)] if os.path.isdir(path) else [path]:
                files.setdefault(_real(file), file)
    return list(files.values())


def _stamp(path: Path) -> dict[str, Any]:
    """Absolute path, size and modification time of a file, which identify its version."""
    status = path.stat()
    return {"file": _readable(_real(path)), "bytes": status.st_size, "mtime_ns": status.st_mtime_ns}


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))  # Path.resolve raises an error for a link to itself


def _readable(path: Path) -> str:
    """A path as text that can be printed and stored: bytes that are not UTF-8 are escaped, as in `\\xe9`."""
    return printable(os.fsencode(path).decode("utf-8", "backslashreplace"))


def _free_name(folder: Path, path: Path, taken: set[str]) -> str:
    """Choose a name for a file's results: `<name>`, `<folder>-<name>`, or the latter with a number.

    Long names are shortened. Names of other files are excluded, both of this run (`taken`, in lower case) and
    of earlier runs (by their JSON file).
    """
    own, longer = _readable(_real(path)), f"{_real(path).parent.name}-{path.stem}"

    def is_free(name: str) -> bool:
        card = folder / f"{name}.json"
        return name.casefold() not in taken and (not card.exists() or read_object(card).get("file") == own)

    names = chain([path.stem, longer], (f"{longer}-{number}" for number in count(2)))
    name = next(filter(is_free, map(file_name, names)))
    taken.add(name.casefold())
    return name


def overview_of(song: Song, with_beats: bool = True) -> Overview:
    """Reduce the spectrogram of a song, and track its beats.

    Beats are tracked on the onset strength of the full mix. The features use the percussive part instead, but
    extracting it would take longer than everything else.
    """
    import librosa  # not needed without pictures

    settings, decibels, n_frames = song.settings, song.rows[:, :N_MELS], len(song.rows)
    rate: dict[str, Any] = {"sr": settings.sample_rate_hz, "hop_length": settings.hop_length}
    seconds = n_frames * settings.hop_length / settings.sample_rate_hz
    columns = np.arange(n_frames) * min(n_frames, _MOST_COLUMNS) // n_frames
    starts = np.flatnonzero(np.diff(columns, prepend=-1))
    mean = (np.add.reduceat(decibels, starts, axis=0) / np.bincount(columns)[:, None]).T
    beats = np.empty(0)
    if with_beats and seconds <= _LONGEST_WITH_BEATS_SECONDS:
        audible = np.maximum(decibels, _QUIETEST_ONSET_DB).T
        onsets = librosa.onset.onset_strength(S=audible, n_fft=settings.n_fft, **rate)
        with compiling():
            beats = librosa.beat.beat_track(onset_envelope=onsets, units="time", **rate)[1]
    centres_hz = librosa.mel_frequencies(N_MELS + 2, fmax=settings.sample_rate_hz / 2)[1:-1]
    shown = [frequency for frequency in _TICKS_HZ if frequency < centres_hz[-1]]
    ticks = dict(zip(shown, np.interp(shown, centres_hz, np.arange(N_MELS) + 0.5).tolist(), strict=True))
    return Overview(seconds, np.maximum(mean - mean.max(), SILENCE_DB), beats, ticks)


def _write_timeline(files: dict[str, Path], timeline: Timeline, origin: dict[str, Any]) -> None:
    """Write the table and then the JSON file, and print a summary."""
    genres = timeline.genres.add_prefix("genre_")
    write_table(files["csv"], pd.concat([timeline.times, timeline.targets, genres], axis=1).round(6))
    card = {
        "seconds": round(timeline.seconds, 6),
        "targets": {name: round(value, 6) for name, value in timeline.whole_targets.items()},
        "genres": {name: round(value, 6) for name, value in timeline.whole_genres.items()},
        "genre": timeline.likeliest_genre,
    }
    write_json(files["json"], origin | card)
    words = [f"{timeline.seconds:.1f} s in {len(timeline.times)} windows"]
    if genre := timeline.likeliest_genre:
        words.append(f"{genre} {timeline.whole_genres[genre]:.2f}")
    words += [f"{name} {value:.2f}" for name, value in timeline.whole_targets.items()]
    tqdm.write(f"{_readable(files['csv'])}: {', '.join(words)}")
