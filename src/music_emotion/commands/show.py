"""Pictures of clips, classes, learning curves, activations and confusion matrices."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import pandas as pd
from cyclopts import Parameter

from music_emotion.audio.features import FeatureSettings
from music_emotion.commands import ExperimentFlags, FeatureFlags
from music_emotion.commands.clip_arrays import read_clip_arrays
from music_emotion.config import Experiment
from music_emotion.datasets.labels import map_genres, read_genres
from music_emotion.datasets.layout import Split, Task, find_set, split_files
from music_emotion.files import InputError, nearest, read_json
from music_emotion.models.layer_outputs import activations as layer_activations
from music_emotion.models.network import load_model
from music_emotion.plots import (
    activations_figure,
    classes_figure,
    confusion_figure,
    curves_figure,
    features_figure,
    save_figure,
)

Root = Annotated[Path, Parameter(name="--data.root")]
OwnRoot = Annotated[Path | None, Parameter(name="--data.root")]


def features(
    clips: list[str],
    *,
    root: Root = Path("data"),
    task: Task = "emotion",
    split: Split = "train",
    features: FeatureFlags = FeatureSettings(),  # noqa: B008 (frozen)
    out: Path = Path("pictures"),
) -> None:
    """Draw mel and chroma of clips, full-rate beside beat-synchronous.

    Parameters
    ----------
    clips
        Ids of clips in the competition's layout, or audio files.
    root
        Holds the layout.
    task
        Which of its sets.
    split
        Which of its clips.
    features
        How audio files become features; arrays are as they are.
    out
        Folder for the pictures.
    """
    for called in clips:
        clip = read_clip_arrays(called, root, task, split, features)
        path = save_figure(picture_path(out, "features", [clip.name]), features_figure(clip))
        print(f"{clip.title}: {path}")


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
        A genre experiment: experiments/pretrain.toml.
    experiment
        Flags that change single settings of it.
    out
        Folder for the picture.
    """
    if experiment.task != "genre":
        raise InputError(f"{file} has the task '{experiment.task}'; classes need 'genre'.")
    folder = find_set(Path(experiment.data.root), "genre", experiment.data.rate)
    splits: tuple[Split, ...] = ("train", "test")
    labels = {split: split_files(folder, split).label_file for split in splits if (folder / split).is_dir()}
    genres = {str(split): read_genres(path) for split, path in labels.items() if path}
    if not genres:
        raise InputError(f"{folder} has no label files, train_labels.txt or test_labels.txt.")
    mapping = experiment.data.genres
    classes = {split: map_genres(raw, mapping, f"the {split} split") for split, raw in genres.items()}
    known = {str(genre) for raw in genres.values() for genre in raw}
    mapped = {genre: target for genre in known if (target := mapping.get(genre, genre)) is not None}
    figure = classes_figure(experiment.name, genres, classes, mapped)
    print(f"classes: {save_figure(picture_path(out, 'classes', [experiment.name]), figure)}")


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
    path = picture_path(out, "curves", list(metrics))
    print(f"learning curves: {save_figure(path, curves_figure(metrics))}")


def activations(
    model: Path,
    clip: str,
    *,
    root: OwnRoot = None,
    split: Split = "train",
    features: FeatureFlags = FeatureSettings(),  # noqa: B008 (frozen)
    out: Path = Path("pictures"),
) -> None:
    """Draw what the first layers of a network make of the middle of a clip.

    Parameters
    ----------
    model
        model.safetensors of a fold.
    clip
        Id of a clip in the set that the network's task names, or an audio file.
    root
        Holds the layout; where the network was trained, if not given.
    split
        Which of its clips.
    features
        How an audio file becomes features: as those the network was trained on.
    out
        Folder for the picture.
    """
    network = load_model(model)
    experiment = network.card.experiment
    arrays = read_clip_arrays(clip, root or Path(experiment.data.root), experiment.task, split, features)
    kept = layer_activations(network, arrays.at_rate(experiment.data.rate))
    name = model_name(model)
    figure = activations_figure(name, arrays, kept, experiment.data)
    print(f"activations: {save_figure(picture_path(out, 'activations', [name, arrays.name]), figure)}")


def confusion(runs: list[Path], *, out: Path = Path("pictures")) -> None:
    """Draw the confusion matrices of genre runs side by side.

    Parameters
    ----------
    runs
        Folders of finished genre runs.
    out
        Folder for the picture.
    """
    figure = confusion_figure([saved_confusion(run) for run in runs])
    path = picture_path(out, "confusion", [run.resolve().name for run in runs])
    print(f"confusion matrices: {save_figure(path, figure)}")


def picture_path(folder: Path, kind: str, names: Sequence[str]) -> Path:
    """Name a picture by its kind and by the first three names in it.

    Examples
    --------
    >>> picture_path(Path("pictures"), "curves", ["slow", "fast"]).name
    'curves-slow-fast.png'
    """
    more = [f"and-{len(names) - 3}-more"] if len(names) > 3 else []
    return folder / ("-".join([kind, *names[:3], *more]) + ".png")


def model_name(path: Path) -> str:
    """Call a model by its run, seed and fold, or by its file where it lies elsewhere."""
    in_run = path.parent.name.startswith("fold") and path.parent.parent.name.startswith("seed")
    return "-".join(path.absolute().parts[-4:-1]) if in_run else path.stem


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
        When the run does not exist, has no metrics, or a table lacks a column.
    """
    _check_run(directory)
    paths = sorted(directory.glob("seed*/fold*/metrics.csv"))
    if not paths:
        raise InputError(
            f"{directory} has no metrics (seed*/fold*/metrics.csv). Only trained networks have learning "
            f"curves: estimators on statistics and blends have none."
        )
    tables = {}
    for path in paths:
        try:
            table = pd.read_csv(path).astype(float)
        except ValueError as error:
            raise InputError(f"{path} is not a table of metrics: {error}.") from None
        if missing := sorted({"epoch", "train_loss", "learning_rate"} - set(table)):
            raise InputError(f"{path} has no column {' or '.join(missing)}, so it holds no metrics.")
        # a training that has not been validated yet lacks two columns
        columns = table.columns.union(["valid_loss", "score"])
        tables[path.parent.relative_to(directory).as_posix()] = table.reindex(columns=columns).set_index(
            "epoch"
        )
    return tables


def saved_confusion(directory: Path) -> tuple[str, pd.DataFrame]:
    """Read a finished genre run's scores, in words, and its confusion matrix.

    Raises
    ------
    InputError
        When the run does not exist, is not a genre run or is not finished.
    """
    _check_run(directory)
    task = read_json(directory / "experiment.json").get("task")
    if task != "genre":
        raise InputError(f"{directory} has the task '{task}'; a confusion matrix needs a run of genres.")
    path = directory / "confusion.csv"
    if not path.exists():
        raise InputError(f"{path} does not exist. Finish the run first, with the command that began it.")
    counts = pd.read_csv(path, index_col="truth")
    clips = "out-of-fold" if (directory / "oof.csv").exists() else "test"
    pooled = read_json(directory / "scores.json")["pooled"]
    scores = [
        f"{words} {pooled[key]['value']:.2f} [{pooled[key]['low']:.2f}, {pooled[key]['high']:.2f}]"
        for key, words in (("accuracy", "accuracy"), ("macro_f1", "macro F1"))
    ]
    heading = f"{directory.resolve().name}: {counts.to_numpy().sum()} {clips} clips"
    return "\n".join([heading, *scores]), counts


def _check_run(directory: Path) -> None:
    if not directory.is_dir():
        runs = directory.parent
        names = [path.name for path in runs.iterdir() if path.is_dir()] if runs.is_dir() else []
        hint = nearest(directory.name, names) if names else "train it first."
        raise InputError(f"There is no run {directory}; {hint}")
