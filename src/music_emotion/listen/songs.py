"""Predict audio files and folders: finished results stay, and files that fail are listed at the end."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from tqdm import tqdm

from music_emotion.config import Task
from music_emotion.datasets.clip_table import audio_below
from music_emotion.files import InputError
from music_emotion.listen.overview import Overview, overview_of
from music_emotion.listen.predict import Sliding, Timeline, predict_song, read_song
from music_emotion.listen.results import (
    free_place,
    is_written,
    readable,
    stamp,
    with_ending,
    write_timeline,
)
from music_emotion.models.network import Network, load_model

_Draw = Callable[[Path, str, Timeline, Overview], None]


def predict_songs(
    paths: Sequence[Path],
    models: dict[Task, Sequence[Path]],
    out: Path,
    sliding: Sliding,
    accelerator: Accelerator,
    draw: _Draw | None = None,
) -> None:
    """Predict audio files, and write `<name>.csv`, `.json` and `.png` for each that lacks them.

    Parameters
    ----------
    paths : sequence of Path
        Audio files, and folders of audio.
    models : dict of {"emotion", "genre"} to sequence of Path
        `model.safetensors` of runs. Those of a task are averaged.
    out : Path
        Folder for the results.
    sliding : Sliding
        Windows over time.
    accelerator : Accelerator
        One process.
    draw : callable, optional
        Draws the picture, like `plots.draw_timeline`. Without it there is none.

    Raises
    ------
    InputError
        Before anything is written, when nothing is asked or the models can't be used, or not together. At
        the end, when files could not be predicted; it lists them with the reasons.
    """
    if not paths:
        raise InputError("There is nothing to predict. Name audio files, or folders of audio.")
    if not any(models.values()):
        raise InputError("No model is given. Name model.safetensors of runs with --emotion, --genre or both.")
    failures: list[str] = []
    files = _find_audio(paths, failures)
    n_asked = len(files) + len(failures)
    recipe = {
        "models": {task: list(map(stamp, of_task)) for task, of_task in models.items()},
        "settings": {"window_seconds": sliding.window_seconds, "hop_seconds": sliding.hop_seconds},
    }
    unfinished, taken = [], set[str]()
    for path in files:
        origin = stamp(path) | recipe
        with _collecting(failures):
            place = free_place(out, path, taken)
            if is_written(place, origin, ("csv", "png") if draw else ("csv",)):
                print(f"{readable(place)}.csv is there already.")
            else:
                unfinished.append((path, place, origin))
    networks = [network.to(accelerator.device) for network in _load_networks(models)] if unfinished else []
    for path, place, origin in tqdm(unfinished, "predict", unit="file", disable=len(unfinished) < 2):
        with _collecting(failures):
            _predict_one(path, place, origin, networks, sliding, accelerator, draw)
    if failures:
        reasons = "\n".join(failures)
        raise InputError(f"{len(failures)} of {n_asked} could not be predicted, the others are:\n{reasons}")


@contextmanager
def _collecting(failures: list[str]) -> Iterator[None]:
    """Go on after an error, and keep its sentence."""
    try:
        yield
    except InputError as error:
        failures.append(str(error))


def _find_audio(paths: Sequence[Path], failures: list[str]) -> list[Path]:
    """Every audio file once, by its real path."""
    files: dict[Path, Path] = {}
    for path in paths:
        with _collecting(failures):
            for file in [path / name for name in audio_below(path)] if path.is_dir() else [path]:
                files.setdefault(file.resolve(), file)
    return list(files.values())


def _predict_one(
    path: Path,
    place: Path,
    origin: dict[str, Any],
    networks: Sequence[Network],
    sliding: Sliding,
    accelerator: Accelerator,
    draw: _Draw | None,
) -> None:
    features = networks[0].card.features
    song = read_song(path, features, any(n.card.experiment.data.rows != "mel" for n in networks))
    timeline = predict_song(song, networks, sliding, accelerator)
    with_ending(place, "json").unlink(missing_ok=True)  # until all is new, nothing is finished
    if draw:
        draw(with_ending(place, "png"), readable(Path(path.name)), timeline, overview_of(song))
    else:  # an earlier one may be of other models
        with_ending(place, "png").unlink(missing_ok=True)
    # in Accelerate's words; on a CPU it is always single
    precision = "no" if accelerator.device.type == "cpu" else accelerator.mixed_precision
    write_timeline(place, timeline, origin | {"features": asdict(features), "precision": precision})
    words = [f"{timeline.seconds:.1f} s in {len(timeline.times)} windows"]
    if genre := timeline.likeliest_genre:
        words.append(f"{genre} {timeline.whole_genres[genre]:.2f}")
    words += [f"{name} {value:.2f}" for name, value in timeline.whole_targets.items()]
    tqdm.write(f"{readable(place)}.csv: {', '.join(words)}")


def _load_networks(models: dict[Task, Sequence[Path]]) -> list[Network]:
    """Load models, and refuse those that can't be used here, or not together."""
    loaded = [(path, task, load_model(path)) for task, paths in models.items() for path in paths]
    for path, task, network in loaded:
        _check_network(path, network, task)
    classes = {network.card.outputs: path for path, task, network in loaded if task == "genre"}
    if len(classes) > 1:
        known = "; ".join(f"{path} knows {', '.join(names)}" for names, path in classes.items())
        raise InputError(f"Models of different genres can't be averaged: {known}. Give one kind.")
    kinds = {network.card.features: path for path, _, network in loaded}
    if len(kinds) > 1:
        known = "; ".join(
            f"{path} at {kind.sample_rate_hz} Hz with n_fft {kind.n_fft} and hop_length {kind.hop_length}"
            for kind, path in kinds.items()
        )
        raise InputError(
            f"Models of differently extracted clips can't be used at once: {known}. Give one kind."
        )
    return [network for _, _, network in loaded]


def _check_network(path: Path, network: Network, task: Task) -> None:
    """Refuse a network of the other task, or of other arrays than audio gives."""
    data, own_task = network.card.experiment.data, network.card.experiment.task
    if own_task != task:
        raise InputError(f"{path} is a model of the task {own_task}. Give it as --{own_task}.")
    if data.rate != "full":
        raise InputError(
            f"{path} reads beat-synchronous arrays, in which seconds are lost. Give a model that was "
            f"trained with data.rate 'full'."
        )
    for name in ("windows", "statistics"):
        if (value := getattr(data, name)) is not None:
            raise InputError(
                f"{path} was trained on data.{name} '{value}', which can't be made of audio here. Give a "
                f"model that was trained on the competition's arrays, or on ones like them."
            )
