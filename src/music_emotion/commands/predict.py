"""Audio files to genre probabilities and targets, for the whole of each and over time."""

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from music_emotion.datasets.clip_table import audio_below
from music_emotion.files import InputError
from music_emotion.listen.hearing import HearingProcess
from music_emotion.listen.timeline import Sliding, Timeline, predict_file
from music_emotion.listen.timeline_files import (
    free_place,
    is_written,
    readable,
    stamp,
    with_ending,
    write_timeline,
)

if TYPE_CHECKING:
    from accelerate import Accelerator

    from music_emotion.audio.features import FeatureSettings
    from music_emotion.config import Task
    from music_emotion.listen.sound_overview import Overview
    from music_emotion.models.build import Network

_WORTH_A_PROCESS_BYTES = 500_000  # half a minute of mp3: below, a second process would come too late


@dataclass(frozen=True)
class Job:
    """A file to predict.

    Attributes
    ----------
    path : Path
        The audio file.
    place : Path
        Where its results go, without their endings.
    origin : dict
        What the card says of the file and of how it was predicted.
    """

    path: Path
    place: Path
    origin: dict[str, Any]


def predict(
    *paths: Path,
    emotion: tuple[Path, ...] = (),
    genre: tuple[Path, ...] = (),
    out: Path = Path("predictions"),
    window: float = 10.0,
    hop: float = 2.0,
    picture: bool = True,
) -> None:
    """Predict audio files, and write <name>.csv, .json and .png for each, unless they are there already.

    Audio becomes features as it did for the clips that the models were trained on.

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
    """
    sliding = Sliding(window, hop)
    if not paths:
        raise InputError("There is nothing to predict. Name audio files, or folders of audio.")
    if not (emotion or genre):
        raise InputError("No model is given. Name model.safetensors of runs with --emotion, --genre or both.")
    files, failures = find_audio(paths)
    n_asked = len(files) + len(failures)
    recipe = {
        "models": {"emotion": list(map(stamp, emotion)), "genre": list(map(stamp, genre))},
        "settings": {"window_seconds": window, "hop_seconds": hop},
    }
    jobs, unplaced = find_jobs(files, out, recipe, picture)
    failures += unplaced
    if jobs:
        failures += predict_jobs(jobs, emotion, genre, sliding, picture)
    if failures:
        reasons = "\n".join(failures)
        raise InputError(f"{len(failures)} of {n_asked} could not be predicted, the others are:\n{reasons}")


def find_jobs(
    files: Sequence[Path], out: Path, recipe: dict[str, Any], picture: bool
) -> tuple[list[Job], list[str]]:
    """Files whose results are not there, of this very file by this very recipe; and why some can't be."""
    jobs, failures, taken = [], [], set[str]()
    for path in files:
        origin = stamp(path) | recipe
        try:
            place = free_place(out, path, taken)
        except InputError as error:
            failures.append(str(error))
            continue
        if is_written(place, origin, ("csv", "png") if picture else ("csv",)):
            print(f"{readable(place)}.csv is there already.")
        else:
            jobs.append(Job(path, place, origin))
    return jobs, failures


def predict_jobs(
    jobs: Sequence[Job], emotion: Sequence[Path], genre: Sequence[Path], sliding: Sliding, picture: bool
) -> list[str]:
    """Predict files one after the other; returns why some could not be."""
    failures = []
    # started before anything imports PyTorch, so that both import at once
    with HearingProcess() if is_worth_a_process([job.path for job in jobs]) else nullcontext() as process:
        accelerator, networks = prepare(emotion, genre)
        features = common_features([*emotion, *genre], networks)
        # in Accelerate's words; on a CPU it is always single
        precision = "no" if accelerator.device.type == "cpu" else accelerator.mixed_precision
        made = {"features": asdict(features), "precision": precision}
        for job in tqdm(jobs, desc="predict", unit="file", disable=len(jobs) < 2):
            try:
                overview = make_overview(features) if picture else None
                timeline = predict_file(job.path, networks, sliding, features, accelerator, overview, process)
            except InputError as error:
                failures.append(str(error))
                continue
            with_ending(job.place, "json").unlink(missing_ok=True)  # until all is new, nothing is finished
            draw(job.place, job.path, timeline, overview)
            write_timeline(job.place, timeline, job.origin | made)
            tqdm.write(f"{readable(job.place)}.csv: {in_words(timeline)}")
    return failures


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
        from music_emotion.training.accelerator import make_accelerator

        accelerator = make_accelerator()
        if accelerator.num_processes > 1:
            raise InputError("music-emotion predict is one process. Start it without accelerate launch.")
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
    foreign = [name for name in ("windows", "statistics") if getattr(data, name) is not None]
    if foreign:
        raise InputError(
            f"{path} was trained on data.{foreign[0]} '{getattr(data, foreign[0])}', which can't be made of "
            f"audio here. Give a model that was trained on the competition's arrays, or on ones like them."
        )


def common_features(paths: Sequence[Path], networks: Sequence["Network"]) -> "FeatureSettings":
    """How audio became features for all models alike."""
    kinds = {network.card.features: path for path, network in zip(paths, networks, strict=True)}
    if len(kinds) > 1:
        known = "; ".join(
            f"{path} at {kind.sample_rate_hz} Hz with n_fft {kind.n_fft} and hop_length {kind.hop_length}"
            for kind, path in kinds.items()
        )
        raise InputError(
            f"Models of differently extracted clips can't be used at once: {known}. Give one kind."
        )
    return next(iter(kinds))


def make_overview(features: "FeatureSettings") -> "Overview":
    """What gathers the picture's sound; imported here, since matplotlib takes half a second."""
    from music_emotion.listen.sound_overview import Overview

    return Overview(features)


def draw(place: Path, path: Path, timeline: Timeline, overview: "Overview | None") -> None:
    """Draw the picture, or remove an earlier one, which may be of other models."""
    picture = with_ending(place, "png")
    if not overview:
        picture.unlink(missing_ok=True)
        return
    from music_emotion.plots.timeline_picture import draw_timeline

    draw_timeline(picture, readable(Path(path.name)), timeline, overview)


def in_words(timeline: Timeline) -> str:
    """One line about a file."""
    parts = [f"{timeline.seconds:.1f} s in {len(timeline.times)} windows"]
    if genre := timeline.likeliest_genre:
        parts.append(f"{genre} {timeline.whole_genres[genre]:.2f}")
    return ", ".join([*parts, *(f"{name} {value:.2f}" for name, value in timeline.whole_targets.items())])
