"""Trained models for use on songs: the one in the package, or those of one's own runs."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from accelerate import Accelerator
from pydantic.dataclasses import dataclass

from music_emotion import __version__, files
from music_emotion.config import STRICT
from music_emotion.evaluation.conformal import Intervals
from music_emotion.files import InputError
from music_emotion.listen.predict import Sliding, Song, Timeline, predict_song, read_song
from music_emotion.models.network import Network, load_model, read_card, share_trunks

WEIGHTS = Path(__file__).parent.parent / "weights"
_N_QUANTILES = 101
_KNOWN = {"truth.csv": files.read_truth, "oof.csv": files.read_predictions}


@dataclass(frozen=True, config=STRICT)
class Unlike:
    """When a song is unlike the training clips: by its mean distance from them in the trunk's features.

    Attributes
    ----------
    mean, deviation : tuple of float
        Mean and standard deviation of each feature over the training clips.
    threshold : float
        Largest root mean square of a song's standardised features that is not marked.
    """

    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    threshold: float

    def distance(self, features: np.ndarray) -> float:
        """Root mean square of standardised features [shape=(n_features,)]."""
        return float(np.sqrt(np.mean(np.square((features - self.mean) / self.deviation))))


@dataclass(frozen=True, config=STRICT)
class Facts:
    """What is known of a model's predictions, by target.

    Attributes
    ----------
    intervals : dict of str to Intervals
    percentiles : dict of str to tuple of float
        101 quantiles of the out-of-fold predictions of the training clips.
    unlike : Unlike or None
    about : dict
        Scores, coverage and origin, for people.
    """

    intervals: dict[str, Intervals]
    percentiles: dict[str, tuple[float, ...]]
    unlike: Unlike | None = None
    about: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        truth: pd.DataFrame,
        predicted: pd.DataFrame,
        unlike: Unlike | None = None,
        about: dict[str, Any] | None = None,
    ) -> "Facts":
        """Compute them from labels and out-of-fold predictions of the same clips, one column per target."""
        places = np.linspace(0, 1, _N_QUANTILES)
        known = {str(t): truth[t].notna() for t in truth}  # a clip of one of several sets may lack a target
        fitted = {
            t: Intervals.fit(truth[t][there].to_numpy(), predicted[t][there].to_numpy())
            for t, there in known.items()
        }
        intervals = {t: each for t, each in fitted.items() if math.isfinite(max(each.half_widths))}
        percentiles = {str(t): tuple(np.quantile(predicted[t], places).tolist()) for t in truth}
        return cls(intervals, percentiles, unlike, about or {})

    def of_song(self, timeline: Timeline) -> dict[str, Any]:
        """Predictions of a song by name, as `EmotionModel.predict` gives them."""
        row: dict[str, Any] = dict(timeline.whole_targets)
        for name, value in timeline.whole_targets.items():
            if name in self.intervals:
                half, known = self.intervals[name].half_width(np.array([value]))[0], self.percentiles[name]
                least, most = (0, 1) if 0 <= known[0] <= known[-1] <= 1 else (-math.inf, math.inf)
                ends = np.clip([value - half, value + half], min(least, value), max(most, value))
                row |= dict(zip((f"{name}_low", f"{name}_high"), ends.tolist(), strict=True))
                row[f"{name}_percentile"] = round(np.interp(value, known, np.linspace(0, 100, len(known))))
        if self.unlike is not None:
            row["unlike"] = bool(self.unlike.distance(timeline.features) > self.unlike.threshold)
        if timeline.whole_genres:
            row["genre"] = timeline.likeliest_genre
            row |= {f"genre_{name}": value for name, value in timeline.whole_genres.items()}
        return row


class EmotionModel:
    """Predicts how songs feel, and their genre.

    Parameters
    ----------
    networks : sequence of Network
        From `load_model`. Predictions of the same output are averaged.
    facts : Facts

    Examples
    --------
    >>> model = EmotionModel.from_pretrained()  # doctest: +SKIP
    >>> model.predict("song.mp3")["valence"]  # doctest: +SKIP
    0.62
    """

    def __init__(self, networks: Sequence[Network], facts: Facts):
        share_trunks(networks)
        self.facts = facts
        self.networks = [network.to(self.accelerator.device).eval() for network in networks]
        self.with_chroma = any(network.card.experiment.data.rows != "mel" for network in networks)

    @property
    def accelerator(self) -> Accelerator:
        """The device. It is asked for anew, since Accelerate's state may be reset meanwhile."""
        return Accelerator()

    @property
    def targets(self) -> list[str]:
        """Names of the targets; none of a model that knows genres alone."""
        return self._outputs("emotion")

    @property
    def columns(self) -> list[str]:
        """Keys of what `predict` returns."""
        targets, genres = (dict.fromkeys(self._outputs(task), 0.5) for task in ("emotion", "genre"))
        features, none = np.zeros(self.networks[0].trunk.n_features), pd.DataFrame()
        return list(self.facts.of_song(Timeline(0.0, none, none, none, targets, genres, features)))

    def _outputs(self, task: str) -> list[str]:
        cards = [each.card for each in self.networks if each.card.experiment.task == task]
        return list(dict.fromkeys(name for card in cards for name in card.outputs))

    @classmethod
    def from_pretrained(cls, *paths: str | Path) -> "EmotionModel":
        """Load trained models.

        Parameters
        ----------
        paths : str or Path
            Folders of runs, whose folds are averaged, or model files. None loads the model in the package.

        Returns
        -------
        EmotionModel
            With intervals, if they come from the package or from whole runs on the same clips.

        Raises
        ------
        InputError
            When a path holds no model, or the models can't be used together or on audio.
        """
        places = [Path(path) for path in paths] or [WEIGHTS]
        models = [file for place in places for file in model_files(place)]
        return cls(_compatible(models), _facts(places))

    def predict(self, path: str | Path) -> dict[str, Any]:
        """Predict an audio file.

        Parameters
        ----------
        path : str or Path
            Any file that `read_waveform` reads.

        Returns
        -------
        dict
            Each target by its name. With intervals: `<target>_low` and `<target>_high`, between which the
            truth lies for four songs in five that are like the training clips, and `<target>_percentile`
            among the predictions of these clips. `unlike`: whether the song is unlike them, so that nothing
            is promised. `genre` and the probability `genre_<name>` of each class.

        Raises
        ------
        InputError
            When the file can't be read, or is too quiet.
        """
        return self.facts.of_song(self.listen(path, None)[1])

    def timeline(
        self, path: str | Path, window_seconds: float = 10.0, hop_seconds: float = 2.0
    ) -> pd.DataFrame:
        """Predict an audio file over time.

        Parameters
        ----------
        path : str or Path
        window_seconds, hop_seconds : float
            Length of the windows, and time from the start of one to the next.

        Returns
        -------
        pd.DataFrame
            `start_seconds`, `end_seconds`, the targets, and `genre_<name>`, one row per window.

        Raises
        ------
        InputError
            When the file can't be read.
        """
        _, heard = self.listen(path, Sliding(window_seconds, hop_seconds))
        return pd.concat([heard.times, heard.targets, heard.genres.add_prefix("genre_")], axis=1)

    def listen(self, path: str | Path, sliding: Sliding | None) -> tuple[Song, Timeline]:
        """Read an audio file, and predict it as a whole and, with `sliding`, over time.

        Raises
        ------
        InputError
            When the file can't be read, or is too quiet.
        """
        song = read_song(Path(path), self.networks[0].card.features, self.with_chroma)
        heard = predict_song(song, self.networks, sliding, self.accelerator)
        whole = [*heard.whole_targets.values(), *heard.whole_genres.values()]
        if np.isnan(whole).any():
            raise InputError(f"{path} is too quiet throughout to be predicted. Replace it.")
        return song, heard

    @property
    def precision(self) -> str:
        """Precision of the networks: "no", which is single, on a CPU."""
        return "no" if self.accelerator.device.type == "cpu" else self.accelerator.mixed_precision


def model_files(place: Path) -> list[Path]:
    """Model files of a run, or the file itself.

    Raises
    ------
    InputError
        When there is none.
    """
    if not place.is_dir():
        return [files.regular_file(place, "The model file", "Train it first, or correct the path.")]
    found = sorted(place.glob("*.safetensors")) or sorted(place.glob("seed*/fold*/model.safetensors"))
    if not found:
        raise InputError(
            f"{place} holds no model (seed*/fold*/model.safetensors). Name the folder of a finished run of a "
            f"network, such as runs/multitask, or a model file. Estimators such as gp leave no model."
        )
    return found


def _facts(places: Sequence[Path]) -> Facts:
    """Facts of the package's model, or of the mean of runs on the same clips; none of anything else."""
    if (path := places[0] / "facts.json").exists():
        return files.checked(Facts, files.read_object(path), path, "Install music-emotion again.")
    emotion = [each for each in places if read_card(model_files(each)[0]).experiment.task == "emotion"]
    if not emotion or not all((each / name).exists() for each in emotion for name in _KNOWN):
        return Facts({}, {})
    tables = [[read(each / name) for name, read in _KNOWN.items()] for each in emotion]
    if any(not table.index.equals(tables[0][0].index) for pair in tables for table in pair):
        return Facts({}, {})
    truth, predicted = (pd.concat(each).groupby(level="Id").mean() for each in zip(*tables, strict=True))
    return Facts.of(truth, predicted[list(truth)])


def _compatible(paths: Sequence[Path]) -> list[Network]:
    """Load models. Raise `InputError` for models that are unusable or incompatible with each other."""
    loaded = {path: load_model(path) for path in paths}
    for path, network in loaded.items():
        data = network.card.experiment.data
        for name, usable in (("rate", "full"), ("windows", None), ("statistics", None)):
            if (value := getattr(data, name)) != usable:
                raise InputError(
                    f"{path} was trained with data.{name} '{value}', which can't be made of audio here. "
                    f"Give a model that was trained on full-rate arrays."
                )
    genre = {n.card.outputs: path for path, n in loaded.items() if n.card.experiment.task == "genre"}
    if len(genre) > 1:
        known = "; ".join(f"{path} knows {', '.join(names)}" for names, path in genre.items())
        raise InputError(f"Models of different genres can't be averaged: {known}. Give one kind.")
    kinds = {network.card.features: path for path, network in loaded.items()}
    if len(kinds) > 1:
        known = "; ".join(f"{path} has {kind!r}" for kind, path in kinds.items())
        raise InputError(f"Models of different features can't be used at once: {known}. Give one kind.")
    return list(loaded.values())


def name_of(places: Sequence[Path]) -> str:
    """Name of a model for tables: that of the package, or those of runs and files."""
    return " + ".join(place.name for place in places) or f"music-emotion {__version__}"


def stamp(places: Sequence[Path]) -> str:
    """SHA-256 of all model files and facts, which tells whether a prediction is up to date."""
    models = [file for place in places or [WEIGHTS] for file in model_files(place)]
    facts = [place / name for place in places or [WEIGHTS] for name in ("facts.json", *_KNOWN)]
    digests = [files.sha256(file) for file in [*models, *filter(Path.exists, facts)]]
    return hashlib.sha256(" ".join(digests).encode()).hexdigest()
