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
        hidden, failures = gradio.update(visible=False), dict[str, str]()
        if song is None:
            return "", hidden, hidden, hidden
        name = printable(Path(song).name)
        with collecting(failures, song):
            heard = model.listen(song, Sliding())[1]
            row = model.facts.of_song(heard)
            rounded = {key: round(of, 2) if isinstance(of, float) else of for key, of in row.items()}
            ends = ("", "_low", "_high", "_percentile")
            numbers = [[of, *(rounded.get(f"{of}{end}") for end in ends)] for of in heard.targets]
            over_time = heard.targets.assign(seconds=heard.times.mean(axis=1))
            over_time = over_time.melt("seconds", var_name="target").dropna()
            said = f"{name}: {heard.seconds:.1f} seconds."
            if row.get("unlike"):
                said += " It is unlike the training clips, so the numbers may mean nothing."
            shown = [gradio.update(value=of, visible=bool(len(of))) for of in (numbers, over_time)]
            return said, *shown, gradio.update(value=heard.whole_genres, visible=bool(heard.whole_genres))
        print(*failures.values(), end="", file=sys.stderr)
        return "".join(failures).replace(song, name), hidden, hidden, hidden

    with gradio.Blocks(title="music-emotion", analytics_enabled=False, delete_cache=_DELETION) as app:
        gradio.Markdown("# How a song feels\nA song goes only to the machine that runs this app.")
        song = gradio.Audio(label="Song", type="filepath", editable=False, buttons=[])
        said = gradio.Textbox(label="Result", interactive=False)
        table = gradio.Dataframe(headers=_COLUMNS, label="With 80 % intervals", visible=False)
        curves = gradio.LinePlot(x="seconds", y="value", color="target", label="Over time", visible=False)
        genres = gradio.Label(label="Genre", visible=False)
        song.change(hear, song, [said, table, curves, genres], api_visibility="private")
    return app
