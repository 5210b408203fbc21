"""The command that predicts songs. It starts without what only extraction and training need."""

import os
from pathlib import Path

from music_emotion.datasets.parallel import Workers
from music_emotion.failures import raise_collected
from music_emotion.files import InputError
from music_emotion.listen.library import predict_library
from music_emotion.listen.predict import Sliding


def predict(
    *paths: Path,
    model: tuple[Path, ...] = (),
    out: Path = Path("predictions"),
    timeline: bool = False,
    window: float = 10.0,
    hop: float = 2.0,
    picture: bool = True,
    jobs: int = -1,
    scheduler: str | None = None,
) -> None:
    """Predict audio files, and write predictions.csv and predictions.json. A repeated command goes on.

    Parameters
    ----------
    paths
        Audio files, and folders of audio.
    model
        Folders of runs, such as runs/multitask, whose folds are averaged, or model files; several are
        averaged, and genre runs add genres. By default the model in the package.
    out
        Folder for the results.
    timeline
        Also write timelines/<name>.csv, .json and .png of each file: predictions over time.
    window
        Length of the windows over time, in seconds.
    hop
        Seconds from the start of one window to the next.
    picture
        Draw genres and targets over time, above the spectrogram and the beats.
    jobs
        Worker processes; 1 for the command itself alone. By default one per core, or 1 for few songs.
    scheduler
        Address of a Dask scheduler, tcp://..., whose workers then do the work. Songs, model and output must
        have the same paths on all of them.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise InputError("Prediction is one process. Start it as music-emotion predict, without a launcher.")
    sliding, failures = Sliding(window, hop), dict[str, str]()
    table = predict_library(paths, model, out, Workers(jobs, scheduler), failures)
    n_asked = len(table) + len(failures)
    if timeline:
        from music_emotion.listen.songs import predict_songs
        from music_emotion.plots import draw_timeline

        draw = draw_timeline if picture else None
        songs = [Path(song) for song in table["path"]]
        predict_songs(songs, model, out / "timelines", sliding, draw, failures)
    raise_collected(failures, n_asked, "predicted")
