"""The command `music-emotion predict`."""

from pathlib import Path

from music_emotion.files import InputError


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
    from music_emotion.listen.predict import Sliding
    from music_emotion.listen.songs import predict_songs
    from music_emotion.plots import draw_timeline
    from music_emotion.training.accelerator import make_accelerator

    accelerator = make_accelerator()
    if accelerator.num_processes > 1:
        raise InputError("Prediction is one process. Start it as music-emotion predict, without a launcher.")
    draw = draw_timeline if picture else None
    predict_songs(paths, {"emotion": emotion, "genre": genre}, out, Sliding(window, hop), accelerator, draw)
