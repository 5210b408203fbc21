"""Tables of embeddings: what the pretrained ear makes of clips of audio, or of the competition's arrays."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic.dataclasses import dataclass

from music_emotion.audio.decode import read_clip
from music_emotion.audio.ear_input import N_BANDS, RATE_HZ, array_bands, ear_bands
from music_emotion.audio.settings import FeatureSettings, silent_rows
from music_emotion.config import STRICT
from music_emotion.datasets.clip_set import SPANS, ClipSet
from music_emotion.datasets.clip_table import Windows, cut_windows
from music_emotion.datasets.layout import Split, read_settings, split_files
from music_emotion.datasets.parallel import Item, Outcome, Workers, items_of, work_through
from music_emotion.datasets.store import Store, read_frames
from music_emotion.files import InputError, alone_at, remove_unfinished, sha256
from music_emotion.models.card import is_model
from music_emotion.models.ear import load_ear
from music_emotion.models.musicnn import WINDOW_FRAMES, MusiCNN, Vgg, embedding
from music_emotion.models.network import Network, clip_features, load_model

_FRAMES_PER_SECOND = 62.5
_ARRAYS, _AUDIO = FeatureSettings(), FeatureSettings(sample_rate_hz=RATE_HZ)


@cache  # once per process
def _load(path: Path) -> MusiCNN | Vgg | Network:
    """Read a file of the pretrained ear, or a model of this package."""
    return load_model(path) if is_model(path) else load_ear(path)


@dataclass(frozen=True, config=STRICT)
class Hearing:
    """How clips become embeddings. As JSON, it is a table's column `settings`.

    Attributes
    ----------
    ears : dict of str to str
        Name of each file of weights, and its SHA-256.
    hop_frames : int
        Frames from one window of 187 frames to the next, 62.5 per second.
    levels_db : tuple of float
        Levels assumed for arrays (see `array_bands`), whose embeddings are averaged. Empty for audio.
    tags : bool
        Whether the probabilities of the tags are a family, too.
    """

    ears: dict[str, str]
    hop_frames: int
    levels_db: tuple[float, ...] = ()
    tags: bool = False

    def __str__(self) -> str:
        return json.dumps(asdict(self))


def make_hearing(
    ears: Sequence[Path], hop_seconds: float, levels_db: tuple[float, ...] = (), tags: bool = False
) -> Hearing:
    """Check the files of weights and the hop, and note the files' SHA-256.

    Raises
    ------
    InputError
        When a file is missing or is not the ear's, two have one name, or the hop is not above 0.
    """
    for ear in ears:
        _load(ear)
    held = {ear.name: sha256(ear) for ear in ears}
    if len(held) < len(ears):
        raise InputError("Two files of --ear have one name, which names their columns. Rename one.")
    if not 0 < hop_seconds < math.inf:
        raise InputError(f"--hop is {hop_seconds:g}. Give a number of seconds above 0.")
    return Hearing(held, max(1, math.ceil(hop_seconds * _FRAMES_PER_SECOND - 0.5)), levels_db, tags)


def hearing_of(table: Path) -> Hearing | None:
    """Read how the ear made a table of arrays; None for any other table."""
    try:
        settings = json.loads(pd.read_csv(table, nrows=1, dtype=str)["settings"][0])
        hearing = Hearing(**settings)
    except (LookupError, TypeError, ValueError):
        return None
    return hearing if hearing.levels_db else None


def embed_clips(
    clips: pd.DataFrame,
    out: Path,
    ears: Sequence[Path],
    hearing: Hearing,
    workers: Workers,
    max_failed: float,
) -> Outcome:
    """Embed clips, and write a table with columns such as ``msd-mean:0``, ``msd-mean:1``, ...

    The families of each ear are those of `embedding`. A repeated run processes only clips that are missing or
    failed, or whose source or settings have changed.

    Parameters
    ----------
    clips : pd.DataFrame
        Clip table from `read_clips` or `array_clips`.
    out : Path
        CSV with one row per clip: `SOURCE_COLUMNS`, the embeddings, and `reason` (why the clip failed, or
        empty).
    ears : sequence of Path
        Files of weights.
    hearing : Hearing
        From `make_hearing`, of the same files. Levels are for arrays, and arrays need one.
    workers : Workers
    max_failed : float
        Largest accepted share of failed clips, 0 to 1.

    Returns
    -------
    Outcome

    Raises
    ------
    InputError
        When `out` is another kind of table, another process writes it, or too many clips fail.
    """
    out, ears = out.resolve(), tuple(ear.resolve() for ear in ears)  # workers may be in another folder
    with alone_at(out, "give another --out"):
        remove_unfinished(out)
        none = [np.zeros((WINDOW_FRAMES, N_BANDS), np.float32)]
        silence = partial(_row, ears, hearing, none, np.tile(silent_rows()[:, None], 300))
        call, columns = partial(_embed_one, ears, hearing), list(silence())
        return work_through(items_of(clips, hearing), call, out, columns, workers, silence, max_failed)


def array_clips(set_folder: Path, split: Split) -> pd.DataFrame:
    """List the full-rate arrays of a split as a clip table: `id` and `path`.

    Raises
    ------
    InputError
        When the split is missing, or the arrays have other settings than the competition's.
    """
    if (settings := read_settings(set_folder)) != FeatureSettings():
        raise InputError(f"{set_folder} has arrays of {settings}, which the ear can't read. Embed its audio.")
    arrays = split_files(set_folder, split).arrays
    return pd.DataFrame({"id": list(arrays), "path": [str(path) for path in arrays.values()]})


def cut_spans(clips: pd.DataFrame, windows: Windows) -> pd.DataFrame:
    """Cut clips, or arrays from `array_clips`, into spans. Span n of clip c has the id 1000 c + n.

    Raises
    ------
    InputError
        As `cut_windows`; also when a clip has more than 1,000 spans.
    """
    if clips["path"].str.contains(r"\.npy(?:\.gz)?$").all():
        frames = np.array([len(read_frames(Path(path))) for path in clips["path"]])
        clips = clips.assign(end_seconds=frames * _ARRAYS.hop_length / _ARRAYS.sample_rate_hz)
    cut = cut_windows(clips, windows)
    number = cut.groupby("clip").cumcount()
    if number.max() >= SPANS:
        raise InputError(f"A clip has more than {SPANS} spans. Raise --span-hop.")
    return cut.assign(id=SPANS * cut["clip"] + number)


def _embed_one(ears: tuple[Path, ...], hearing: Hearing, item: Item) -> dict[str, float]:
    path = Path(item.path)
    if not hearing.levels_db:
        waveform = read_clip(path, _AUDIO, item.start_seconds, item.end_seconds)
        return _row(ears, hearing, [ear_bands(waveform)])
    rate = _ARRAYS.sample_rate_hz / _ARRAYS.hop_length
    first, last = (None if s is None else round(s * rate) for s in (item.start_seconds, item.end_seconds))
    fused = read_frames(path)[first:last].T.astype(np.float32)
    is_ear = any(not isinstance(_load(ear), Network) for ear in ears)
    bands = [array_bands(fused, level) for level in hearing.levels_db] if is_ear else []
    return _row(ears, hearing, bands, fused)


def _row(
    ears: tuple[Path, ...], hearing: Hearing, inputs: Sequence[np.ndarray], fused: np.ndarray | None = None
) -> dict[str, float]:
    """Embed a clip with each ear, averaged over the inputs; a model of this package reads the array."""
    row: dict[str, float] = {}
    for ear in ears:
        network, family = _load(ear), ear.stem.removeprefix("musicnn-")
        if isinstance(network, Network):
            if fused is None:
                raise InputError(f"{ear} reads arrays. Extract the clips, and give embed arrays.")
            clip = ClipSet.unlabelled(Store.in_memory(fused.T, [fused.shape[1]]))
            row |= {
                f"{family}:{n}": value for n, value in enumerate(clip_features(network, clip)[0].tolist())
            }
            continue
        parts = [embedding(network, bands, hearing.hop_frames) for bands in inputs]
        for kind in ("mean", "max", "penultimate", *(["tags"] if hearing.tags else [])):
            values = np.mean([part[kind] for part in parts], axis=0).tolist()
            names = network.tag_names if kind == "tags" else range(len(values))
            row |= {f"{family}-{kind}:{name}": value for name, value in zip(names, values, strict=True)}
    return row
