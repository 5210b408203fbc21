"""Commands that draw clips, classes, learning curves, activations and confusion matrices."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, get_args

import numpy as np
import pandas as pd
from cyclopts import Parameter
from matplotlib.figure import Figure

from music_emotion import files, plots
from music_emotion.audio.decode import read_clip
from music_emotion.audio.features import beat_frames, fused_features
from music_emotion.audio.settings import FeatureSettings
from music_emotion.commands import ExperimentFlags, FeatureFlags, experiment_of
from music_emotion.config import Experiment, Rate
from music_emotion.datasets.labels import map_genres, read_genres, read_targets
from music_emotion.datasets.layout import Split, Task, find_set, read_settings, split_files
from music_emotion.datasets.store import read_frames
from music_emotion.failures import collecting, raise_collected
from music_emotion.files import InputError, file_name, first_five, nearest, read_json, regular_file, shortened
from music_emotion.listen.model import EmotionModel
from music_emotion.listen.songs import overview_of
from music_emotion.listen.why import explain
from music_emotion.models.layer_outputs import activations as layer_activations
from music_emotion.models.network import load_model
from music_emotion.runs import read_experiment


def features(
    clips: list[str],
    *,
    root: Annotated[Path, Parameter(name="--data.root")] = Path("data"),
    task: Task = "emotion",
    split: Split = "train",
    features: FeatureFlags = FeatureSettings(),  # noqa: B008 (frozen)
    out: Path = Path("pictures"),
) -> None:
    """Draw mel and chroma of clips, full-rate beside beat-synchronous where there are such arrays.

    Parameters
    ----------
    clips
        Ids of clips in the competition's layout, or audio files.
    root
        Folder that holds the layout.
    task
        Emotion or genre set.
    split
        Training or test split.
    features
        How audio files become features. Arrays keep the settings they were extracted with.
    out
        Folder for the pictures.
    """
    failures = dict[str, str]()
    for called in clips:
        with collecting(failures, called):
            clip = read_clip_arrays(called, root, task, split, features)
            print(f"{clip.title}: {save_picture(plots.features_figure(clip), out, 'features', [clip.name])}")
    raise_collected(failures, len(clips), "drawn")


def classes(
    file: Path,
    *,
    experiment: ExperimentFlags = Experiment(),  # noqa: B008 (frozen)
    out: Path = Path("pictures"),
) -> None:
    """Draw how many clips every genre has, before and after an experiment's mapping to classes.

    Parameters
    ----------
    file
        Name of a built-in genre experiment, such as pretrain, or path of an experiment file.
    experiment
        Settings in place of the file's.
    out
        Folder for the picture.
    """
    experiment = experiment_of(file, experiment)
    if experiment.task != "genre":
        raise InputError(f"{file} has the task '{experiment.task}'; classes need 'genre'.")
    folder = find_set(Path(experiment.data.root), "genre", experiment.data.rate)
    tables = []
    for split in get_args(Split):
        if (folder / split).is_dir() and (path := split_files(folder, split).label_file):
            raw = read_genres(path)
            mapped = map_genres(raw, experiment.data.genres, f"the {split} split")
            tables.append(pd.DataFrame({"split": split, "genre": raw, "class": mapped}))
    if not tables:
        raise InputError(f"{folder} has no label files, train_labels.txt or test_labels.txt.")
    figure = plots.classes_figure(experiment.name, pd.concat(tables))
    print(f"classes: {save_picture(figure, out, 'classes', [experiment.name])}")


def curves(runs: list[Path], *, out: Path = Path("pictures")) -> None:
    """Draw losses, score and learning rate of runs over epochs, every fold and their mean.

    Parameters
    ----------
    runs
        Folders of runs of networks, finished or not.
    out
        Folder for the picture.
    """
    metrics = {run.resolve().name: read_metrics(run) for run in runs}
    print(f"learning curves: {save_picture(plots.curves_figure(metrics), out, 'curves', list(metrics))}")


def activations(
    model: Path,
    clip: str,
    *,
    root: Annotated[Path | None, Parameter(name="--data.root")] = None,
    split: Split = "train",
    features: FeatureFlags = FeatureSettings(),  # noqa: B008 (frozen)
    out: Path = Path("pictures"),
) -> None:
    """Draw the activations of a network's first layers for the middle of a clip.

    Parameters
    ----------
    model
        model.safetensors of a fold.
    clip
        Id of a clip in the set of the network's task, or an audio file.
    root
        Folder that holds the layout; by default the one the network was trained on.
    split
        Training or test split.
    features
        How an audio file becomes features; give the settings the network was trained with.
    out
        Folder for the picture.
    """
    network = load_model(model)
    experiment = network.card.experiment
    arrays = read_clip_arrays(clip, root or Path(experiment.data.root), experiment.task, split, features)
    kept = layer_activations(network, arrays.at_rate(experiment.data.rate))
    in_run = model.parent.name.startswith("fold") and model.parent.parent.name.startswith("seed")
    name = "-".join(model.absolute().parts[-4:-1]) if in_run else model.stem
    figure = plots.activations_figure(name, arrays, kept, experiment.data)
    print(f"activations: {save_picture(figure, out, 'activations', [name, arrays.name])}")


def confusion(runs: list[Path], *, out: Path = Path("pictures")) -> None:
    """Draw the confusion matrices of genre runs side by side.

    Parameters
    ----------
    runs
        Folders of finished genre runs.
    out
        Folder for the picture.
    """
    figure = plots.confusion_figure([saved_confusion(run) for run in runs])
    names = [run.resolve().name for run in runs]
    print(f"confusion matrices: {save_picture(figure, out, 'confusion', names)}")


def why(song: Path, *, model: tuple[Path, ...] = (), out: Path = Path("pictures")) -> None:
    """Draw which seconds and bands of a song raise or lower each target, and write the numbers as CSV.

    Parameters
    ----------
    song
        An audio file.
    model
        Folders of runs, or model files, as for predict. By default the model in the package.
    out
        Folder for the picture and the table.
    """
    loaded = EmotionModel.from_pretrained(*model)
    heard, timeline = loaded.listen(song, None)
    effects = explain(heard, loaded.ensembles)
    table = out / file_name(f"why-{song.stem}", ".csv")
    files.write_table(table, effects)
    predicted = {str(name): timeline.whole_targets[str(name)] for name in effects.columns[4:]}
    figure = plots.why_figure(song.name, predicted, effects, overview_of(heard, with_beats=False))
    print(f"{song.name}: {save_picture(figure, out, 'why', [song.stem])} and {table}")


def save_picture(figure: Figure, folder: Path, kind: str, names: Sequence[str]) -> Path:
    """Save a picture under its kind and the first three names in it, such as ``curves-slow-fast.png``."""
    more = [f"and-{len(names) - 3}-more"] if len(names) > 3 else []
    return plots.save_figure(folder / file_name("-".join([kind, *names[:3], *more]), ".png"), figure)


@dataclass(frozen=True)
class ClipArrays:
    """One clip at both rates.

    Attributes
    ----------
    name : str
        For file names, such as ``emotion-train-1004``.
    title : str
        For people, with the clip's labels where they are known.
    full : np.ndarray [shape=(140, n_frames)]
        Mel in dB above chroma from 0 to 1.
    beat_synchronous : np.ndarray [shape=(140, n_spans)] or None
        The same, one column per span between beats; None where the clip's set has none.
    settings : FeatureSettings
        Settings of the extraction of both.
    span_edges_seconds : np.ndarray [shape=(n_spans + 1,)] or None
        Borders of the spans; None for clips without audio.
    """

    name: str
    title: str
    full: np.ndarray
    beat_synchronous: np.ndarray | None
    settings: FeatureSettings
    span_edges_seconds: np.ndarray | None = None

    @property
    def frame_seconds(self) -> float:
        """Seconds from one full-rate frame to the next."""
        return self.settings.hop_length / self.settings.sample_rate_hz

    def at_rate(self, rate: Rate) -> np.ndarray:
        """The array at the given rate; an `InputError` where there is none."""
        array = self.full if rate == "full" else self.beat_synchronous
        if array is None:
            raise InputError(f"{self.title} has no beat-synchronous array. Extract its set with --beats.")
        return array


def read_clip_arrays(
    clip: str, root: Path, task: Task, split: Split, settings: FeatureSettings
) -> ClipArrays:
    """Read a clip from a set by its id, or from an audio file.

    Parameters
    ----------
    clip : str
        An id (digits only), or the path of an audio file.
    root : Path
        Root folder of the competition's layout; used for ids only.
    task, split
        Set and split of an id.
    settings : FeatureSettings
        Used for audio only; a set's own settings are in its `settings.json`.

    Raises
    ------
    InputError
        For an id that is not in the split, or a file that is not audio.
    """
    if clip.isascii() and clip.isdigit():
        clip_id, folder = int(clip), find_set(root, task)
        full, beat = _array(clip_id, folder, split), None
        with suppress(InputError):  # this set is optional
            beat = _array(clip_id, find_set(root, task, "beat"), split)
        title = f"clip {clip_id} of {folder.name}/{split}{_labels(clip_id, folder, split, task)}"
        return ClipArrays(f"{task}-{split}-{clip_id}", title, full, beat, read_settings(folder))
    path = Path(clip)
    if path.name.endswith((".npy", ".npy.gz")):
        raise InputError(f"{path} is an array, not audio. Give its id, and its folder with --data.root.")
    regular_file(path, "The audio file", "Correct its path, or give a clip's id.")
    waveform = read_clip(path, settings)
    with files.compiling():
        full, beat = fused_features(waveform, settings)
    edges = np.unique([0, *beat_frames(waveform, settings), full.shape[1]])  # as librosa's `sync` cuts
    seconds = edges * settings.hop_length / settings.sample_rate_hz
    return ClipArrays(path.stem, path.name, full, beat, settings, seconds)


def _array(clip_id: int, folder: Path, split: Split) -> np.ndarray:
    arrays = split_files(folder, split).arrays
    if clip_id not in arrays:
        other: Split = "train" if split == "test" else "test"
        near = sorted(sorted(arrays, key=lambda known: abs(known - clip_id))[:5])
        remedy = f"Ids near it: {first_five(near)}."
        if (folder / other).is_dir() and clip_id in split_files(folder, other).arrays:
            remedy = f"It is in the other split: --split {other}."
        raise InputError(f"{folder / split} has no clip {clip_id}. {remedy}")
    return np.asarray(read_frames(arrays[clip_id]).T, np.float32)


def _labels(clip_id: int, folder: Path, split: Split, task: Task) -> str:
    """Format the labels of a clip; empty if there are none."""
    path = folder / f"{split}_labels.txt"
    if not path.exists():
        return ""
    if task == "genre":
        genre = read_genres(path).get(clip_id)
        return f": {genre}" if genre else ""
    targets = read_targets(path, allowed=(-np.inf, np.inf))
    if clip_id not in targets.index:
        return ""
    return ": " + ", ".join(f"{name} {value:.2f}" for name, value in targets.loc[clip_id].items())


def read_metrics(directory: Path) -> dict[str, pd.DataFrame]:
    """Read `metrics.csv` of every seed and fold of a run, finished or not.

    Returns
    -------
    dict of str to pd.DataFrame
        ``seed0/fold1`` to its table: one row per epoch, which is its index; NaN where an epoch was
        not validated.

    Raises
    ------
    InputError
        When the run does not exist, has no metrics, or a table is none of metrics.
    """
    _check_run(directory)
    tables = {}
    for path in sorted(directory.glob("seed*/fold*/metrics.csv")):
        try:
            table = pd.read_csv(path, index_col="epoch").astype(float)
        except ValueError as error:
            raise InputError(f"{path} is not a table of metrics: {error}.") from None
        # before the first validation, two columns are missing
        tables[path.parent.relative_to(directory).as_posix()] = table.reindex(
            columns=table.columns.union(["valid_loss", "score"])
        )
    if not tables:
        raise InputError(
            f"{directory} has no metrics (seed*/fold*/metrics.csv). Only trained networks have learning "
            f"curves: estimators on statistics and blends have none."
        )
    return tables


def saved_confusion(directory: Path) -> tuple[str, pd.DataFrame]:
    """Read a finished genre run's confusion matrix, with a title that states its scores.

    Raises
    ------
    InputError
        When the run does not exist, is not a genre run or is not finished.
    """
    _check_run(directory)
    task = read_experiment(directory).task
    if task != "genre":
        raise InputError(f"{directory} has the task '{task}'; a confusion matrix needs a run of genres.")
    remedy = "Finish the run first, with the command that began it."
    counts = plots.read_confusion(regular_file(directory / "confusion.csv", remedy=remedy))
    clips = "out-of-fold" if (directory / "oof.csv").exists() else "test"
    pooled = read_json(directory / "scores.json")["pooled"]
    title = f"{shortened(directory.resolve().name, 40)}: {counts.to_numpy().sum()} {clips} clips"
    for key, words in (("accuracy", "accuracy"), ("macro_f1", "macro F1")):
        title += "\n{} {value:.2f} [{low:.2f}, {high:.2f}]".format(words, **pooled[key])
    return title, counts


def _check_run(directory: Path) -> None:
    if not directory.is_dir():
        runs = directory.parent
        names = [path.name for path in runs.iterdir() if path.is_dir()] if runs.is_dir() else []
        hint = nearest(directory.name, names) if names else "train it first."
        raise InputError(f"There is no run {directory}; {hint}")
