"""The command that serves the app, apart from those that import librosa."""

import os
import socket
import threading
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

from cyclopts import Parameter, validators

from music_emotion.files import InputError, telling_what_is_kept

Port = Annotated[int, Parameter(validator=validators.Number(gte=1, lte=65535))]


def app(*, model: tuple[Path, ...] = (), port: Port = 7860) -> None:
    """Serve a page on this machine: drop or record a song, see its numbers. Needs the extra app.

    Parameters
    ----------
    model
        Folders of runs, or model files, as for predict. By default the model in the package.
    port
        The page is at http://127.0.0.1:<port>, for this machine alone.
    """
    from music_emotion.listen.app import LARGEST_UPLOAD, build_app
    from music_emotion.listen.model import EmotionModel

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
