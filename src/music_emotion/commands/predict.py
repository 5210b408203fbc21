"""The commands that predict songs. They start without what only extraction and training need."""

import os
import socket
import threading
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import pandas as pd
from cyclopts import Parameter, validators

from music_emotion.datasets.parallel import Workers
from music_emotion.failures import raise_collected
from music_emotion.files import InputError, telling_what_is_kept
from music_emotion.listen.library import predict_library
from music_emotion.listen.model import EmotionModel, Engine
from music_emotion.listen.playlist import check_playlist, write_playlist
from music_emotion.listen.predict import Sliding
from music_emotion.listen.songs import find_audio
from music_emotion.listen.tags import update_tags

Port = Annotated[int, Parameter(validator=validators.Number(gte=1, lte=65535))]


def predict(
    *paths: Path,
    model: tuple[Path, ...] = (),
    out: Path = Path("predictions"),
    page: Path | None = None,
    timeline: bool = False,
    window: float = 10.0,
    hop: float = 2.0,
    picture: bool = True,
    playlist: Path | None = None,
    where: str | None = None,
    write_tags: bool = False,
    remove_tags: bool = False,
    engine: Engine | None = None,
    jobs: int = -1,
    scheduler: str | None = None,
) -> None:
    """Predict audio files, and write predictions.csv and predictions.json. A repeated command goes on.

    Parameters
    ----------
    paths
        Audio files, and folders of audio.
    model
        Folders of runs, such as runs/multitask, whose folds are averaged, model files, or models on the
        Hugging Face Hub as owner/name. Several are averaged, and genre runs add genres. By default the model
        in the package.
    out
        Folder for the results.
    page
        Also write this HTML file, which shows all songs and their time lines in a browser.
    timeline
        Also write timelines/<name>.csv, .json and .png of each file: predictions over time.
    window
        Length of the windows over time, in seconds.
    hop
        Seconds from the start of one window to the next.
    picture
        Draw genres and targets over time, above the spectrogram and the beats.
    playlist
        Write an M3U playlist of the songs, such as happy.m3u8.
    where
        Condition for the songs in the playlist, such as "valence > .6 and energy > .5", on columns of
        predictions.csv.
    write_tags
        Also write the targets into the tags of the audio files, such as VALENCE.
    remove_tags
        Remove these tags from the audio files, and predict nothing.
    engine
        torch, or onnx for ONNX Runtime (the extra onnx), which is faster on a CPU. By default the model in
        the package uses onnx, if it is installed and there is no NVIDIA GPU; other models use torch.
    jobs
        Worker processes; 1 for the command itself alone. By default it has one thread per core.
    scheduler
        Address of a Dask scheduler, tcp://..., whose workers then do the work. Songs, model and output must
        have the same paths on all of them.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise InputError("Prediction is one process. Start it as music-emotion predict, without a launcher.")
    sliding, failures, record = Sliding(window, hop), dict[str, str](), out / "record.csv"
    check_playlist(playlist, where, model, engine)
    writes = write_tags or remove_tags
    targets = EmotionModel.from_pretrained(*model, engine=engine).targets if writes else []
    if remove_tags:
        if timeline or write_tags or playlist or page:
            raise InputError("--remove-tags predicts nothing. Give it without other work.")
        found = [str(path.absolute()) for path in find_audio(paths, failures)]
        names = dict.fromkeys(["valence", "energy", "danceability", *targets])
        n_asked = len(found) + len(failures)
        n_changed = update_tags(pd.DataFrame(names, found, dtype=float), record, failures)
        print(f"{n_changed} of {n_asked} files had tags of predictions, which are removed.")
        raise_collected(failures, n_asked, "freed of tags")
        return
    table = predict_library(paths, model, out, Workers(jobs, scheduler), failures, page, engine)
    n_asked = len(table) + len(failures)
    if playlist:
        print(f"{playlist} has {write_playlist(playlist, table, where, failures)} of {len(table)} songs.")
    if write_tags:
        n_changed = update_tags(table.set_index("path")[targets], record, failures)
        print(f"{n_changed} of {len(table)} songs have new tags ({', '.join(targets) or 'no targets'}).")
    if timeline:
        from music_emotion.listen.songs import predict_songs
        from music_emotion.plots import draw_timeline

        draw, songs = draw_timeline if picture else None, [*map(Path, table["path"])]
        predict_songs(songs, model, out / "timelines", sliding, draw, failures, engine)
    raise_collected(failures, n_asked, "predicted or tagged" if write_tags else "predicted")


def export(*model: Path, onnx: Path = Path("model.onnx")) -> None:
    """Write a model as one ONNX file, from the waveform of a clip to its predictions. Needs the extra onnx.

    Parameters
    ----------
    model
        Folders of runs, model files or owner/name, as for predict. By default the model in the package.
    onnx
        File to write.
    """
    from music_emotion.listen.export import export_clip  # imports torch
    from music_emotion.listen.torch_ensemble import TorchEnsemble

    ensembles = EmotionModel.from_pretrained(*model, engine="torch").ensembles
    outputs = export_clip([each for each in ensembles if isinstance(each, TorchEnsemble)], onnx)
    print(f"{onnx} gives {', '.join(outputs)} of a waveform ({onnx.stat().st_size / 1e6:.1f} MB).")


def app(*, model: tuple[Path, ...] = (), port: Port = 7860) -> None:
    """Serve a page on this machine: drop or record a song, see its numbers. Needs the extra app.

    Parameters
    ----------
    model
        Folders of runs, model files or owner/name, as for predict. By default the model in the package.
    port
        The page is at http://127.0.0.1:<port>, for this machine alone.
    """
    from music_emotion.listen.app import LARGEST_UPLOAD, build_app

    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise InputError(f"Port {port} can't be used ({reason}). Give another --port.") from None
    ended = telling_what_is_kept(lambda: "the page is closed and the songs are deleted")
    with ended, TemporaryDirectory(prefix="music-emotion-") as uploads:
        os.environ["GRADIO_TEMP_DIR"] = uploads
        page = build_app(EmotionModel.from_pretrained(*model))
        where: dict[str, Any] = {"server_name": "127.0.0.1", "server_port": port, "share": False}
        how: dict[str, Any] = {"prevent_thread_lock": True, "quiet": True, "footer_links": []}
        page.launch(**where, **how, max_file_size=LARGEST_UPLOAD)
        try:
            print(f"The page is at http://127.0.0.1:{port}. Ctrl-C ends it.", flush=True)
            threading.Event().wait()
        finally:
            page.close(verbose=False)
