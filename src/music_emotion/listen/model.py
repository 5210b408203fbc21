"""Trained models for use on songs: the one in the package, or those of one's own runs."""

import hashlib
import math
import shutil
from collections.abc import Sequence
from dataclasses import field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import TypeAdapter
from pydantic.dataclasses import dataclass

from music_emotion import __version__, files
from music_emotion.config import STRICT
from music_emotion.evaluation.conformal import Intervals
from music_emotion.files import InputError
from music_emotion.listen.hub import located, push
from music_emotion.listen.predict import Ensemble, Sliding, Song, Timeline, predict_song, read_song
from music_emotion.models.card import read_card

WEIGHTS = Path(__file__).parent.parent / "weights"
_N_QUANTILES = 101
Engine = Literal["torch", "onnx"]
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
    ensembles : sequence of Ensemble
        Networks in PyTorch or ONNX. Predictions of the same output are averaged.
    facts : Facts
    files : sequence of Path
        The model files they come from.

    Examples
    --------
    >>> model = EmotionModel.from_pretrained()  # doctest: +SKIP
    >>> model.predict("song.mp3")["valence"]  # doctest: +SKIP
    0.62
    """

    def __init__(self, ensembles: Sequence[Ensemble], facts: Facts, files: Sequence[Path] = ()):
        self.ensembles, self.facts, self.files = ensembles, facts, files
        self.cards = [card for ensemble in ensembles for card in ensemble.cards]
        self.with_chroma = any(card.experiment.data.rows != "mel" for card in self.cards)

    @property
    def targets(self) -> list[str]:
        """Names of the targets; none of a model that knows genres alone."""
        return self._outputs("emotion")

    @property
    def columns(self) -> list[str]:
        """Keys of what `predict` returns."""
        targets, genres = (dict.fromkeys(self._outputs(task), 0.5) for task in ("emotion", "genre"))
        features, none = np.zeros(self.ensembles[0].n_features), pd.DataFrame()
        return list(self.facts.of_song(Timeline(0.0, none, none, none, targets, genres, features)))

    def _outputs(self, task: str) -> list[str]:
        cards = [card for card in self.cards if card.experiment.task == task]
        return list(dict.fromkeys(name for card in cards for name in card.outputs))

    @classmethod
    def from_pretrained(cls, *paths: str | Path | None, engine: Engine | None = None) -> "EmotionModel":
        """Load trained models.

        Parameters
        ----------
        paths : str or Path
            Folders of runs, whose folds are averaged, model files, or models on the Hugging Face Hub as
            "owner/name" (see `located`). None, or no path, is the model in the package.
        engine : {"torch", "onnx"}, optional
            ONNX Runtime is faster on a CPU and starts sooner; a model is exported into the user's cache at
            its first use. By default the model in the package uses it, where the extra onnx is installed and
            the cache can be written.

        Returns
        -------
        EmotionModel
            With intervals, if they come from the package or from whole runs on the same clips.

        Raises
        ------
        InputError
            When a path holds no model, or the models can't be used together or on audio, or in this engine.
        """
        places = [located(path or WEIGHTS) for path in paths] or [WEIGHTS]
        models = [file for place in places for file in model_files(place)]
        check_compatible(models)
        ensembles: Sequence[Ensemble] = ()
        if (engine or default_engine(places)) == "onnx":
            from music_emotion.listen.onnx_ensemble import onnx_ensembles

            try:
                ensembles = onnx_ensembles(models, stamp(places))
            except OSError:  # the cache can't be written, as in some containers
                if engine:
                    raise
        if not ensembles:
            from music_emotion.listen.torch_ensemble import load_ensembles  # imports torch

            ensembles = load_ensembles(models)
        return cls(ensembles, _facts(places), models)

    def push_to_hub(self, repo: str, licence: str, data: str = "", private: bool = True) -> str:
        """Push the model to the Hugging Face Hub, with a card of its scores. Log in first: `hf auth login`.

        Parameters
        ----------
        repo : str
            "owner/name"; its model files and card are replaced.
        licence : str
            Identifier of the weights' licence, such as "cc-by-nc-4.0" or "other".
        data : str
            What the model has learnt from, for the card.
        private : bool
            Whether a new repository is private.

        Returns
        -------
        str
            Address of the model.

        Raises
        ------
        InputError
            When the Hub can't be reached, or refuses.
        """
        cards = [read_card(file) for file in self.files]
        facts = TypeAdapter(Facts).dump_python(self.facts, mode="json")
        return push(repo, self.files, cards, facts, licence, data, private)

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
        song = read_song(Path(path), self.cards[0].features, self.with_chroma)
        heard = predict_song(song, self.ensembles, sliding)
        whole = [*heard.whole_targets.values(), *heard.whole_genres.values()]
        if np.isnan(whole).any():
            raise InputError(f"{path} is too quiet throughout to be predicted. Replace it.")
        return song, heard


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
    """Facts of one packed model, or of the mean of runs on the same clips; none of anything else."""
    emotion = [each for each in places if read_card(model_files(each)[0]).experiment.task == "emotion"]
    # with its own features first, which tell what is unlike
    if emotion in ([], [*places[:1]]) and (path := places[0] / "facts.json").exists():
        remedy = "Install music-emotion, pack the model or download it again."
        return files.checked(Facts, files.read_object(path), path, remedy)
    if not emotion or not all((each / name).exists() for each in emotion for name in _KNOWN):
        return Facts({}, {})
    tables = [[read(each / name) for name, read in _KNOWN.items()] for each in emotion]
    if any(not table.index.equals(tables[0][0].index) for pair in tables for table in pair):
        return Facts({}, {})
    truth, predicted = (pd.concat(each).groupby(level="Id").mean() for each in zip(*tables, strict=True))
    return Facts.of(truth, predicted[list(truth)])


def check_compatible(paths: Sequence[Path]) -> None:
    """Refuse models that are unusable for audio or incompatible with each other.

    Raises
    ------
    InputError
        The message names them.
    """
    cards = {path: read_card(path) for path in paths}
    for path, card in cards.items():
        for name, usable in (("rate", "full"), ("windows", None), ("statistics", None)):
            if (value := getattr(card.experiment.data, name)) != usable:
                raise InputError(
                    f"{path} was trained with data.{name} '{value}', which can't be made of audio here. "
                    f"Give a model that was trained on full-rate arrays."
                )
    genre = {card.outputs: path for path, card in cards.items() if card.experiment.task == "genre"}
    if len(genre) > 1:
        known = "; ".join(f"{path} knows {', '.join(names)}" for names, path in genre.items())
        raise InputError(f"Models of different genres can't be averaged: {known}. Give one kind.")
    kinds = {card.features: path for path, card in cards.items()}
    if len(kinds) > 1:
        known = "; ".join(f"{path} has {kind!r}" for kind, path in kinds.items())
        raise InputError(f"Models of different features can't be used at once: {known}. Give one kind.")


def default_engine(places: Sequence[Path]) -> Engine:
    """ONNX Runtime for the model in the package where it can be exported, on a CPU; PyTorch otherwise."""
    installed = all(map(find_spec, ("onnxruntime", "onnxscript")))
    return "onnx" if installed and [*places] == [WEIGHTS] and not shutil.which("nvidia-smi") else "torch"


def name_of(places: Sequence[Path]) -> str:
    """Name of a model for tables: that of the package, or those of runs and files."""
    return " + ".join(place.name for place in places) or f"music-emotion {__version__}"


def stamp(places: Sequence[Path]) -> str:
    """SHA-256 of all model files and facts, which tells whether a prediction is up to date."""
    models = [file for place in places or [WEIGHTS] for file in model_files(place)]
    facts = [place / name for place in places or [WEIGHTS] for name in ("facts.json", *_KNOWN)]
    digests = [files.sha256(file) for file in [*models, *filter(Path.exists, facts)]]
    return hashlib.sha256(" ".join(digests).encode()).hexdigest()
