"""A web app that predicts songs on the machine it runs on."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from music_emotion.failures import collecting
from music_emotion.files import InputError, printable
from music_emotion.listen.model import EmotionModel
from music_emotion.listen.predict import Sliding

if TYPE_CHECKING:
    import gradio

LARGEST_UPLOAD = "200mb"
_DELETION = (60, 600)  # every minute, files that are older than ten minutes
_COLUMNS = ["target", "value", "low", "high", "percentile"]


def build_app(model: EmotionModel) -> "gradio.Blocks":
    """Build the app: a song goes in, its numbers and curves over time come out.

    Parameters
    ----------
    model : EmotionModel

    Returns
    -------
    gradio.Blocks
        Its `launch` starts it. Songs are deleted ten minutes after their upload.

    Raises
    ------
    InputError
        When Gradio is not installed.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # which importing it reads
    try:
        import gradio
    except ImportError:
        raise InputError("Gradio is not installed. Try pip install music-emotion[app].") from None

    def hear(song: str | None) -> tuple[Any, ...]:
        """Sentence, table, curves and genres of a song; a sentence alone if it can't be predicted."""
        failures = dict[str, str]()
        if song is not None:
            name = printable(Path(song).name)
            with collecting(failures, song):
                row, heard = model.predict(song), model.listen(song, Sliding())[1]
                words = {True: " It is unlike the training clips, so the numbers may mean nothing."}
                ends = ("", "_low", "_high", "_percentile")
                rounded = {key: round(of, 2) if isinstance(of, float) else of for key, of in row.items()}
                table = [[of, *(rounded.get(f"{of}{end}") for end in ends)] for of in heard.targets]
                curves = heard.targets.assign(seconds=heard.times.mean(axis=1))
                curves = curves.melt("seconds", var_name="target").dropna()
                said = f"{name}: {heard.seconds:.1f} seconds.{words.get(row.get('unlike'), '')}"
                return said, table, curves, heard.whole_genres or None
        print(*failures.values(), end="", file=sys.stderr)
        return "".join(failures).replace(str(song), name if song else ""), None, None, None

    has_genres = "genre" in model.columns
    with gradio.Blocks(title="music-emotion", analytics_enabled=False, delete_cache=_DELETION) as app:
        gradio.Markdown(
            "# How a song feels\nThe song goes to the machine that runs this app, and no further."
        )
        song = gradio.Audio(label="Song", type="filepath", editable=False, buttons=[])
        said = gradio.Textbox(label="Result", interactive=False)
        table = gradio.Dataframe(headers=_COLUMNS, label="With 80 % intervals", wrap=True)
        curves = gradio.LinePlot(x="seconds", y="value", color="target", label="Over time")
        genres = gradio.Label(label="Genre", visible=has_genres)
        song.change(hear, song, [said, table, curves, genres], api_visibility="private")
    return app
