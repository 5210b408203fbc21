"""Pictures of clips, classes, learning curves, activations and confusion matrices."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from music_emotion.audio.features import FeatureSettings
from music_emotion.commands import ExperimentFlags, FeatureFlags
from music_emotion.config import Experiment
from music_emotion.datasets.labels import read_genres
from music_emotion.datasets.layout import Split, Task, find_set, split_files
from music_emotion.files import InputError
from music_emotion.models.build import load_model
from music_emotion.models.layer_outputs import activations as layer_activations
from music_emotion.plots.activation_pictures import activations_figure
from music_emotion.plots.class_pictures import classes_figure
from music_emotion.plots.clip_arrays import read_clip_arrays
from music_emotion.plots.feature_pictures import features_figure
from music_emotion.plots.figures import picture_path, save_figure
from music_emotion.plots.run_pictures import curves_figure, model_name, read_metrics, runs_confusion_figure

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
    figure = classes_figure(experiment.name, genres, experiment.data.genres)
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
    metrics = [read_metrics(run) for run in runs]
    path = picture_path(out, "curves", [run.name for run in metrics])
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
    figure = runs_confusion_figure(runs)
    path = picture_path(out, "confusion", [run.resolve().name for run in runs])
    print(f"confusion matrices: {save_figure(path, figure)}")
