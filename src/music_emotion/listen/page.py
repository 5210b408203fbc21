"""One HTML page of a library: songs in a plane, their time lines and a table; without server or network."""

import json
import os
import re
from base64 import b64encode
from datetime import date
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pandas as pd

from music_emotion.files import write_text
from music_emotion.listen.model import EmotionModel
from music_emotion.listen.predict import Timeline

FILES = Path(__file__).parent.parent / "page"
_GAP = 255  # code of a window without prediction; the others are 0 to 254


def packed_curves(timeline: Timeline) -> str:
    """Pack the targets over time into text, in 8 bits per value.

    Parameters
    ----------
    timeline : Timeline

    Returns
    -------
    str
        Words: the length of the song in seconds and, for each target, its least and largest value and
        base64 of one byte per window. 0 to 254 are evenly spaced from least to largest; 255 is NaN.
    """
    words = [f"{timeline.seconds:.2f}"]
    for values in timeline.targets.to_numpy().T:
        known = values[np.isfinite(values)]
        low, high = (known.min(), known.max()) if len(known) else (0.0, 0.0)
        codes = (values - low) / ((high - low) or 1.0) * (_GAP - 1)
        encoded = np.nan_to_num(codes, nan=_GAP).round().astype(np.uint8)
        words += [f"{low:.6g}", f"{high:.6g}", b64encode(encoded.tobytes()).decode()]
    return " ".join(words)


def write_page(path: Path, songs: pd.DataFrame, curves: pd.Series, model: EmotionModel, name: str) -> None:
    """Write a page that shows a library in any browser.

    Parameters
    ----------
    path : Path
        The HTML file. Its links to songs are relative to its folder.
    songs : pd.DataFrame
        From `predict_library`.
    curves : pd.Series of str
        From `packed_curves`, one per song.
    model : EmotionModel
        The model that predicted them; gives targets and scores.
    name : str
        Name of the model.
    """
    shown = ["title", "artist", "genre", "unlike"]
    shown += [f"{target}{end}" for target in model.targets for end in ("", "_low", "_high", "_percentile")]
    columns = songs[[column for column in shown if column in songs]].round(4).astype(object)
    columns = columns.assign(
        curves=curves, href=[_link(song, path.absolute().parent) for song in songs["path"]]
    )
    about = model.facts.about
    facts = {
        "model": name,
        "made": date.today().isoformat(),
        "targets": model.targets,
        "scores": {
            target: score
            for target, score in about.get("scores", {}).get("emotion", {}).items()
            if target in model.targets
        },
        "clips": about.get("clips"),
        "columns": list(columns),
        "songs": columns.to_numpy().tolist(),
    }
    # ASCII without "<" cannot end the element it stands in, whatever titles hold
    parts = {"facts": json.dumps(facts, separators=(",", ":")).replace("<", "\\u003c")}
    for file in FILES.glob("*.min.*"):
        parts[file.name] = re.sub(r"/[/*]# sourceMappingURL=\S+( \*/)?", "", file.read_text(encoding="utf-8"))
    page = (FILES / "page.html").read_text(encoding="utf-8")
    write_text(path, re.sub(r"\{\{([\w.]+)\}\}", lambda match: parts[match[1]], page))


def _link(song: str, folder: Path) -> str:
    """URL of a song relative to the page, or absolute on another drive."""
    try:
        return quote(os.fsencode(os.path.relpath(song, folder)).replace(os.fsencode(os.sep), b"/"))
    except ValueError:
        return Path(song).as_uri()
