"""DEAM: 1,802 songs of MediaEval 2013 to 2015 with valence and arousal, static and twice a second."""

import csv
from collections.abc import Iterator

import numpy as np
import pandas as pd

from music_emotion.datasets.public.emomusic import artist_groups, curves, labels
from music_emotion.datasets.public_sets import PublicSet, Source
from music_emotion.files import numbers

_STATIC = (
    "static_annotations_averaged_songs_1_2000.csv",
    "static_annotations_averaged_songs_2000_2058.csv",
)
# Places of id and artist. Titles after them have commas without quotes, which shift what follows.
_ARTISTS = {"metadata_2013.csv": [0, 2], "metadata_2014.csv": [0, 1], "metadata_2015.csv": [0, 3]}
_EXCHANGED = {"arousal": "valence", "valence": "arousal"}


def _read(source: Source) -> pd.DataFrame:
    tables = [source.table(_STATIC[0])]
    if source.find(_STATIC[1]):
        tables.append(source.table(_STATIC[1]))
    else:
        source.say(f"{_STATIC[1]} is missing, and with it the labels of songs 2001 to 2058.")
    table = pd.concat(tables)
    published = (
        table[["arousal_mean", "valence_mean"]].set_axis(["arousal", "valence"], axis=1).apply(numbers)
    )
    published = published.set_index(table["song_id"].astype(int).rename("id"))
    source.curves = curves(source, arousal="arousal.csv", valence="valence.csv")
    _compare(source, published)
    first = published.index <= 1000
    clips = pd.concat([published[~first], published[first].rename(columns=_EXCHANGED)])
    if source.as_published:
        clips = published
    said = "kept as published" if source.as_published else "corrected, and --as-published keeps it"
    source.say(f"Arousal and valence of the {first.sum()} songs up to id 1000 were exchanged: {said}.")
    clips["audio"] = source.keys(clips.index, "MEMD_audio")
    clips["group"] = artist_groups(_artists(source).reindex(clips.index))
    if source.variant == "by-year":
        clips["split"] = np.where(clips.index <= 1000, "train", "test")
    return clips


def _compare(source: Source, published: pd.DataFrame) -> None:
    """Say how the published labels correlate with others of the same songs, and warn of a surprise."""
    for name, other in _references(source):
        both = published.merge(other, left_index=True, right_index=True, suffixes=("", "_there"))
        for first, part in both.groupby(both.index <= 1000):
            if len(part) < 10:
                continue
            r = part.corr().to_numpy()[:2, 2:]  # a row per published column, a column per other label
            source.say(
                f"Songs {'up to 1000' if first else 'from 1001'}, published labels against {name} "
                f"(n = {len(part)}): r of arousal with arousal {r[0, 0]:.3f}, valence with valence "
                f"{r[1, 1]:.3f}, arousal with valence {r[0, 1]:.3f}, valence with arousal {r[1, 0]:.3f}."
            )
            if (r[0, 1] + r[1, 0] > r[0, 0] + r[1, 1]) != first and not source.as_published:
                source.say(
                    f"warning: That contradicts {'the correction' if first else 'these labels'}. Find out "
                    f"whether someone changed the tables. --as-published reads them as they are."
                )


def _references(source: Source) -> Iterator[tuple[str, pd.DataFrame]]:
    """DEAM's own labels over time, and emoMusic's if its folder is in DEAM's or beside it."""
    if source.curves is not None:
        yield "the means over time", source.curves.groupby("id")[["arousal", "valence"]].mean()
    file, beside = "static_annotations.csv", source.folder.resolve().parent
    for path in (source.find(file), *beside.glob(f"*/{file}"), *beside.glob(f"*/*/{file}")):
        if path and "mean_arousal" in path.read_text(encoding="utf-8", errors="replace"):  # not PMEmo's
            yield f"emoMusic's ({path})", labels(Source(path.parent))
            return


def _artists(source: Source) -> pd.Series:
    parts = [pd.DataFrame({"id": [], "artist": []}, dtype=str)]
    for name, places in _ARTISTS.items():
        if source.find(name) is None:
            source.say(f"{name} is missing: its songs have no artist, and are a group each.")
            continue
        quoting = csv.QUOTE_MINIMAL if name == "metadata_2013.csv" else csv.QUOTE_NONE
        rows = source.table(name, usecols=places, index_col=False, quoting=quoting, encoding_errors="replace")
        parts.append(rows.set_axis(["id", "artist"], axis=1))
    rows = pd.concat(parts)
    return rows.set_index(numbers(rows["id"]))["artist"].groupby(level=0).first()


SET = PublicSet(
    title="DEAM",
    read=_read,
    about="1,802 songs, most of 45 s; arousal and valence, also over time",
    licence="songs under Creative Commons licences; annotations for research",
    citation="Aljanaki, Yang and Soleymani, 2017, Developing a benchmark for emotional analysis of music, "
    "PLoS ONE 12(3)",
    url="https://cvml.unige.ch/databases/DEAM/",
    scales={"arousal": (1, 9), "valence": (1, 9)},
    variants=("unsplit", "by-year"),
    corrects=True,
)
