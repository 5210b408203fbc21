"""Audio files to genre probabilities and targets, for the whole of each and over time."""

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from tqdm import tqdm

from command_line import make_accelerator, run
from music_emotion.data.audio_files import audio_below
from music_emotion.errors import InputError
from music_emotion.results.hearing import HearingProcess
from music_emotion.results.timeline import Sliding, Timeline, predict_file
from music_emotion.results.timeline_files import free_place, readable, write_timeline
from music_emotion.sound.spectrogram import FeatureSettings, row_slice

if TYPE_CHECKING:
    from accelerate import Accelerator

    from music_emotion.models.build import Network
    from music_emotion.results.sound_overview import Overview
    from music_emotion.sections import Task

_WORTH_A_PROCESS_BYTES = 500_000  # half a minute of mp3: below, a second process would come too late


def predict(
    *paths: Path,
    emotion: tuple[Path, ...] = (),
    genre: tuple[Path, ...] = (),
    out: Path = Path("predictions"),
    window: float = 10.0,
    hop: float = 2.0,
    picture: bool = True,
    features: Annotated[FeatureSettings, Parameter(name="*")] = FeatureSettings(),  # noqa: B008 (frozen)
) -> None:
    """Predict audio files, and write <name>.csv, .json and .png for each.

    Parameters
    ----------
    paths
        Audio files, and folders of audio.
    emotion
        Models of emotion runs: runs/<name>/seed<s>/fold<k>/model.safetensors. Several are averaged.
    genre
        Models of genre runs, of the same classes. Several are averaged.
    out
        Folder for the results.
    window
        Length of the windows over time, in seconds.
    hop
        Seconds from one window's start to the next one's.
    picture
        Draw genres and targets above the spectrogram and the beats.
    features
        How audio becomes features: as for the clips that the models were trained on.
    """
    sliding = Sliding(window, hop)
    if not paths:
        raise InputError("There is nothing to predict. Name audio files, or folders of audio.")
    if not (emotion or genre):
        raise InputError("No model is given. Name model.safetensors of runs with --emotion, --genre or both.")
    files, failures = find_audio(paths)
    n_asked, taken = len(files) + len(failures), set[str]()
    # started before anything imports PyTorch, so that both import at once
    with HearingProcess() if is_worth_a_process(files) else nullcontext() as process:
        accelerator, networks = prepare(emotion, genre)
        recipe = {
            "models": {"emotion": list(map(str, emotion)), "genre": list(map(str, genre))},
            "settings": {"window_seconds": window, "hop_seconds": hop, "features": asdict(features)},
            # in Accelerate's words; on a CPU it is always single
            "precision": "no" if accelerator.device.type == "cpu" else accelerator.mixed_precision,
        }
        for path in tqdm(files, desc="predict", unit="file", disable=len(files) < 2):
            try:
                overview = make_overview(features) if picture else None
                timeline = predict_file(path, networks, sliding, features, accelerator, overview, process)
                place = free_place(out, path, taken)
            except InputError as error:
                failures.append(str(error))
                continue
            draw(place, path, timeline, overview)
            write_timeline(place, path, timeline, recipe)
            tqdm.write(f"{readable(place)}.csv: {in_words(timeline)}")
    if failures:
        reasons = "\n".join(failures)
        raise InputError(f"{len(failures)} of {n_asked} could not be predicted, the others are:\n{reasons}")


def find_audio(paths: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """Every audio file once; and of folders, why they hold none."""
    files: dict[Path, Path] = {}
    failures = []
    for path in paths:
        try:
            found = [path / name for name in audio_below(path)] if path.is_dir() else [path]
        except InputError as error:
            failures.append(str(error))
            continue
        for file in found:
            files.setdefault(file.resolve(), file)
    return list(files.values()), failures


def is_worth_a_process(files: Sequence[Path]) -> bool:
    """Whether there is enough to decode that a second process pays."""
    return sum(path.stat().st_size for path in files if path.is_file()) > _WORTH_A_PROCESS_BYTES


def prepare(emotion: Sequence[Path], genre: Sequence[Path]) -> tuple["Accelerator", list["Network"]]:
    """Import PyTorch, and load models on its device."""
    with uncollected():
        accelerator = make_accelerator()
        if accelerator.num_processes > 1:
            raise InputError("predict.py is one process. Start it with python, not with accelerate launch.")
        networks = load_networks(emotion, "emotion") + load_networks(genre, "genre")
        return accelerator, [network.to(accelerator.device) for network in networks]


@contextmanager
def uncollected() -> Iterator[None]:
    """Imports leave hardly any garbage, and looking for it takes half a second."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def load_networks(paths: Sequence[Path], task: "Task") -> list["Network"]:
    """Load models of a task, and refuse those that can't be used here, or not together."""
    from music_emotion.models.build import load_model

    networks = [load_model(path) for path in paths]
    for path, network in zip(paths, networks, strict=True):
        check_network(path, network, task)
    lists = {network.card.outputs: path for path, network in zip(paths, networks, strict=True)}
    if task == "genre" and len(lists) > 1:
        known = "; ".join(f"{path} knows {', '.join(names)}" for names, path in lists.items())
        raise InputError(f"Models of different genres can't be averaged: {known}. Give one kind.")
    return networks


def check_network(path: Path, network: "Network", task: "Task") -> None:
    """Refuse a network of the other task, or of other arrays than audio gives."""
    data, own_task = network.card.experiment.data, network.card.experiment.task
    if own_task != task:
        raise InputError(f"{path} is a model of the task {own_task}. Give it as --{own_task}.")
    if data.rate != "full":
        raise InputError(
            f"{path} reads beat-synchronous arrays, in which seconds are lost. Give a model that was "
            f"trained with data.rate 'full'."
        )
    rows = row_slice(data.rows)
    if len(network.card.row_mean) != rows.stop - rows.start:
        raise InputError(
            f"{path} reads frames of {len(network.card.row_mean)} rows, but audio gives "
            f"{rows.stop - rows.start}. Give a model that was trained on the competition's arrays."
        )


def make_overview(features: FeatureSettings) -> "Overview":
    """What gathers the picture's sound; imported here, since matplotlib takes half a second."""
    from music_emotion.results.sound_overview import Overview

    return Overview(features)


def draw(place: Path, path: Path, timeline: Timeline, overview: "Overview | None") -> None:
    """Draw the picture, or remove an earlier one, which may be of other models."""
    picture = place.with_name(f"{place.name}.png")
    if not overview:
        picture.unlink(missing_ok=True)
        return
    from music_emotion.results.timeline_picture import draw_timeline

    draw_timeline(picture, readable(Path(path.name)), timeline, overview)


def in_words(timeline: Timeline) -> str:
    """One line about a file."""
    parts = [f"{timeline.seconds:.1f} s in {len(timeline.times)} windows"]
    if genre := timeline.likeliest_genre:
        parts.append(f"{genre} {timeline.whole_genres[genre]:.2f}")
    return ", ".join([*parts, *(f"{name} {value:.2f}" for name, value in timeline.whole_targets.items())])


if __name__ == "__main__":
    run(predict)
