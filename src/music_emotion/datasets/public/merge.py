"""MERGE: 3,554 samples of songs in four quadrants of valence and arousal, from mood words."""

import pandas as pd

from music_emotion.datasets.public.quadrants import QUADRANTS
from music_emotion.datasets.public_sets import SPLITS, PublicSet, Source
from music_emotion.files import numbers

_PARTS = ("audio_complete", "audio_balanced", "bimodal_complete", "bimodal_balanced")


def _table(source: Source, *names: str) -> pd.DataFrame:
    """A table by the ids of its audio, which the parts with lyrics call by another name."""
    table = source.table(*names)
    return table.set_index("Audio_Song" if "Audio_Song" in table else "Song").rename_axis("Song")


def _read(source: Source) -> pd.DataFrame:
    kind, _, shares = source.variant.partition("-")
    found = [part for part in _PARTS if source.find(f"merge_{part}_metadata.csv")]
    songs = _table(source, *(f"merge_{part}_metadata.csv" for part in found or _PARTS))
    part, *others = found
    source.say(f"{len(songs)} songs of the part '{part.replace('_', ' ')}', split {shares}.")
    if others:
        also = ", ".join(others).replace("_", " ")
        source.say(f"There too, and not read: {also}. Give the folder of one part to read it.")
    splits = [
        pd.Series(split, _table(source, f"tvt_{shares}_{name}_{part}.csv").index)
        for split, name in zip(SPLITS, ("train", "validate", "test"), strict=True)
    ]
    clips = pd.DataFrame({"group": songs["Artist"], "split": pd.concat(splits).reindex(songs.index)})
    if kind == "quadrants":
        return clips.assign(label=songs["Quadrant"].where(songs["Quadrant"].isin(QUADRANTS)))
    values = _table(source, f"merge_{part}_av_values.csv").reindex(songs.index, fill_value="")
    return clips.assign(arousal=numbers(values["Arousal"]), valence=numbers(values["Valence"]))


SET = PublicSet(
    title="MERGE",
    read=_read,
    about="3,554 samples of 30 s (balanced: 3,232; with lyrics: 2,216 or 2,000); quadrants, and arousal and "
    "valence from mood words",
    licence="CC BY-NC 4.0",
    citation="Louro et al., 2024, MERGE: A bimodal audio-lyrics dataset for static music emotion "
    "recognition, arXiv:2407.06060",
    url="https://zenodo.org/records/13939205",
    variants=("quadrants-70-15-15", "quadrants-40-30-30", "values-70-15-15", "values-40-30-30"),
)
