"""Synthesise music with known labels, to run the whole pipeline without the competition's data."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile
from tqdm import tqdm

from music_emotion.files import atomic_path, write_table

SAMPLE_RATE_HZ = 22050
_LEVELS = ("brightness", "density", "drums", "bass", "regularity", "loudness")
_STYLES = {  # means of each genre: share in minor, tempo in bpm, then the levels in the order above
    "Rock": (0.45, 120, 0.50, 0.40, 0.65, 0.35, 0.60, 0.75),
    "Folk": (0.40, 106, 0.60, 0.60, 0.30, 0.35, 0.60, 0.35),
    "Electronic": (0.55, 120, 0.65, 0.55, 0.50, 0.45, 0.75, 0.40),
    "Hip-Hop": (0.55, 96, 0.35, 0.40, 0.65, 0.70, 0.35, 0.50),
    "Classical": (0.50, 110, 0.40, 0.65, 0.30, 0.50, 0.40, 0.30),
}
GENRES = tuple(_STYLES)
_TEMPO_SPREAD_BPM, _LEVEL_SPREAD = 20.0, 0.21  # as large as the differences of the means, so genres overlap
_TONICS = (0, 2, 7)  # C, D, G; 200 clips are too few to learn all twelve keys
_MAJOR, _MINOR = np.array([0, 2, 4, 5, 7, 9, 11]), np.array([0, 2, 3, 5, 7, 8, 10])
_DEGREES = (0, 0, 0, 3, 3, 4, 4, 5)  # of eight chords, in any order
SPLITS = ("emotion_train", "emotion_test", "genre_train", "genre_test")
_TARGETS = ["valence", "energy", "danceability"]
_BEAT, _CHORD = 4, 8  # lengths in steps, which are sixteenth notes
_PERIOD_SAMPLES = 8192  # a power of two


@dataclass(frozen=True)
class Music:
    """Parameters of a synthetic clip. From `brightness` on, they range from 0 to 1.

    Attributes
    ----------
    tonic : int
        Pitch class of the key, 0 for C.
    minor : bool
        Natural minor rather than major.
    tempo_bpm : float
        Beats per minute.
    brightness, density : float
        Strength of upper partials and cymbals; number and shortness of notes.
    drums, bass : float
        Levels relative to the chords.
    regularity : float
        Share of drum hits on a four-on-the-floor pattern.
    loudness : float
        0 is clean and dynamic, 1 is compressed, distorted and near full scale.
    """

    tonic: int
    minor: bool
    tempo_bpm: float
    brightness: float
    density: float
    drums: float
    bass: float
    regularity: float
    loudness: float


def draw_music(genre: str, rng: np.random.Generator) -> Music:
    """Draw the parameters of a clip from the distribution of a genre.

    Parameters
    ----------
    genre : str
        One of `GENRES`.
    rng : np.random.Generator

    Returns
    -------
    Music
    """
    minor, mean_bpm, *means = _STYLES[genre]
    tonic = int(rng.choice(_TONICS))
    tempo_bpm = float(np.clip(rng.normal(mean_bpm, _TEMPO_SPREAD_BPM), 65, 180))
    levels = np.clip(rng.normal(means, _LEVEL_SPREAD), 0, 1).tolist()
    return Music(tonic, bool(rng.random() < minor), tempo_bpm, *levels)


def draw_targets(music: Music, rng: np.random.Generator) -> dict[str, float]:
    """Compute the targets of a clip from its parameters, with noise like that of a listener.

    Fast, bright music in major with many short notes is happy. Fast, dense, loud music with drums is
    energetic (Juslin and Laukka, 2004, review such cues). A strong, steady beat near 115 bpm is danceable.

    Parameters
    ----------
    music : Music
    rng : np.random.Generator

    Returns
    -------
    dict of str to float
        `valence`, `energy` and `danceability`, each in 0 to 1.
    """
    mode = -1.0 if music.minor else 1.0
    speed = (music.tempo_bpm - 110) / 25
    groove = 1.3 - abs(music.tempo_bpm - 115) / 15
    # every term has a similar variance, so that none explains a target alone
    bright, dense, drums, bass, regular, loud = ((getattr(music, name) - 0.5) / 0.25 for name in _LEVELS)
    scores = {
        "valence": 0.5 * mode + 0.5 * speed + 0.4 * bright + 0.5 * dense,
        "energy": 0.6 * speed + 0.6 * dense + 0.5 * drums + 0.5 * loud,
        "danceability": 0.6 * groove + 0.7 * regular + 0.5 * bass + 0.4 * drums,
    }
    return {name: float(1 / (1 + np.exp(-score - rng.normal(0, 0.45)))) for name, score in scores.items()}


def synthesise(music: Music, seconds: float, sample_rate_hz: int, rng: np.random.Generator) -> np.ndarray:
    """Synthesise a clip: chords, a melody, a bass and drums.

    Parameters
    ----------
    music : Music
        From `draw_music`.
    seconds : float
        Length of the clip.
    sample_rate_hz : int
    rng : np.random.Generator

    Returns
    -------
    np.ndarray [shape=(n_samples,)], float32
        Waveform, -1 to 1. The same state of `rng` gives the same waveform.
    """
    grid = _Grid(np.arange(round(seconds * sample_rate_hz)) / sample_rate_hz, 60 / music.tempo_bpm / _BEAT)
    swell = 1 - 0.6 * (1 - music.loudness) * (0.5 + 0.5 * np.cos(2 * np.pi * grid.times / 5))
    drive = 10 ** (1.2 * music.loudness - 0.4)
    notes = np.tanh(drive * swell * _play_notes(music, grid, rng)) / np.tanh(drive)
    mix = notes + swell * _play_drums(music, grid, rng)
    return ((0.25 + 0.7 * music.loudness) * mix / np.abs(mix).max()).astype(np.float32)


class _Grid:
    """Maps samples of a clip to a grid of sixteenth notes (steps)."""

    def __init__(self, times: np.ndarray, step_seconds: float) -> None:
        self.times, self.step_seconds = times, step_seconds
        self.step_of_sample = (times / step_seconds).astype(np.int64)
        self.steps = np.arange(self.step_of_sample[-1] + 1)

    def last_hit(self, hits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Step of the last hit and seconds since then, for every sample."""
        last = np.maximum.accumulate(np.where(hits > 0, self.steps, 0))[self.step_of_sample]
        return last, (self.times - last * self.step_seconds).astype(np.float32)

    def strike(self, hits: np.ndarray, decay_seconds: float) -> np.ndarray:
        """Envelope of an instrument. `hits` is the velocity at each step, 0 to 1."""
        last, since = self.last_hit(hits)
        return hits.astype(np.float32)[last] * np.exp(-since / decay_seconds) * (1 - np.exp(-since / 0.003))

    def tone(self, midi: np.ndarray, hits: np.ndarray, period: np.ndarray) -> np.ndarray:
        """Wavetable oscillator. `midi` is the pitch at each step; a tone keeps the pitch of the last hit."""
        hertz = 440 * 2 ** ((midi - 69) / 12)
        turns = np.cumsum(hertz[self.last_hit(hits)[0]] * self.times[1])
        return period[(turns * _PERIOD_SAMPLES).astype(np.int64) & (_PERIOD_SAMPLES - 1)]


def _play_notes(music: Music, grid: _Grid, rng: np.random.Generator) -> np.ndarray:
    steps, n_steps, period = grid.steps, len(grid.steps), _period(music.brightness)
    # few progressions would make clips that pass for one recording
    degrees = rng.permutation(_DEGREES)[steps // _CHORD % len(_DEGREES)][:, None] + [0, 2, 4]
    triad = 48 + music.tonic + (_MINOR if music.minor else _MAJOR)[degrees % 7] + 12 * (degrees // 7)
    chance = music.density + np.where(steps % _BEAT == 0, 0.5, np.where(steps % 2 == 0, 0.1, -0.4))
    struck = (rng.random(n_steps) < chance) | (steps % _CHORD == 0)
    sung = rng.random(n_steps) < chance
    octave = 12 * (1 + (rng.random(n_steps) < music.brightness))
    melody = triad[steps, rng.integers(0, 3, n_steps)] + octave
    decay_seconds = 0.15 + 1.2 * (1 - music.density)
    chords = sum(grid.tone(note, struck, period) for note in triad.T) * grid.strike(struck, decay_seconds)
    lead = grid.tone(melody, sung, period) * grid.strike(sung, decay_seconds / 2)
    on_beat = steps % _BEAT == 0
    bass = grid.tone(triad[:, 0] - 12, on_beat, period) * grid.strike(on_beat, 0.3)
    return 0.25 * chords + 0.3 * lead + 0.9 * music.bass * bass


def _period(brightness: float) -> np.ndarray:
    """One period of a tone. The amplitude of a partial is a power of its number."""
    partials = np.arange(1, 17)
    angle = 2 * np.pi * np.arange(_PERIOD_SAMPLES) / _PERIOD_SAMPLES
    period = partials ** (2.6 * brightness - 3.4) @ np.sin(np.outer(partials, angle))
    return (period / np.abs(period).max()).astype(np.float32)


def _play_drums(music: Music, grid: _Grid, rng: np.random.Generator) -> np.ndarray:
    kicks = _loosen(grid.steps % _BEAT == 0, music.regularity, rng)
    snares = _loosen(grid.steps % _CHORD == _BEAT, music.regularity, rng)
    hats = _loosen(grid.steps % 2 == 0, music.regularity, rng)
    since = grid.last_hit(kicks)[1]
    kick = np.sin(2 * np.pi * (50 * since + 4 * (1 - np.exp(-since / 0.025)))) * grid.strike(kicks, 0.12)
    noise = rng.uniform(-1, 1, len(since)).astype(np.float32)
    snare, hat = noise * grid.strike(snares, 0.08), np.diff(noise, prepend=0) * grid.strike(hats, 0.03)
    return 1.3 * music.drums * (kick + 0.5 * snare + (0.1 + 0.4 * music.brightness) * hat)


def _loosen(pattern: np.ndarray, regularity: float, rng: np.random.Generator) -> np.ndarray:
    """Drop some hits of a pattern and add weaker hits elsewhere. Return velocities."""
    chance = 0.6 * (1 - regularity)
    kept = pattern & (rng.random(len(pattern)) > chance)
    return np.where(kept, 1.0, 0.7 * (rng.random(len(pattern)) < chance * pattern.mean()))


def write_demo(
    folder: Path, sizes: Sequence[int], seconds: float, seed: int, shuffle_labels: bool = False
) -> None:
    """Write synthetic audio, and clip tables for the extraction. Existing audio files are kept.

    Parameters
    ----------
    folder : Path
        Output folder for the tables `emotion_train.csv`, `emotion_test.csv`, `emotion_test_truth.csv`
        (targets of the test clips), `genre_train.csv` and `genre_test.csv`, and for the audio
        ``audio-<seed>-<seconds>s/<split>/<number>.flac`` (16 bits, 22,050 Hz).
    sizes : sequence of int
        Number of clips in each of `SPLITS`. Genres alternate in every split.
    seconds : float
        Length of every clip.
    seed : int
        Random seed, 0 or more.
    shuffle_labels : bool
        Permute the targets of `emotion_train`. If scores stay high, there is a leak.
    """
    tables = {}
    for split, size in zip(SPLITS, sizes, strict=True):
        rows = []
        for number in tqdm(range(1, size + 1), desc=f"play {split}", unit="clip"):
            rng = np.random.default_rng([seed, SPLITS.index(split), number])
            path = f"audio-{seed}-{seconds:g}s/{split}/{number}.flac"
            genre = GENRES[number % len(GENRES)]
            music = draw_music(genre, rng)
            rows.append({"id": number, "path": path, "label": genre, **draw_targets(music, rng)})
            if not (folder / path).exists():
                with atomic_path(folder / path) as temporary:
                    waveform = synthesise(music, seconds, SAMPLE_RATE_HZ, rng)
                    soundfile.write(temporary, waveform, SAMPLE_RATE_HZ)
        tables[split] = pd.DataFrame(rows, columns=["id", "path", "label", *_TARGETS])
    train, test = tables["emotion_train"], tables["emotion_test"]
    test["id"] += len(train)  # ids are unique within a task
    if shuffle_labels:
        train[_TARGETS] = np.random.default_rng(seed).permutation(train[_TARGETS].to_numpy())
    tables["emotion_test_truth"] = test[["id", *_TARGETS]]
    tables["emotion_test"] = test[["id", "path"]]
    for name, table in tables.items():
        unknown = _TARGETS if name.startswith("genre") else ["label"]
        write_table(folder / f"{name}.csv", table.drop(columns=unknown, errors="ignore"))
