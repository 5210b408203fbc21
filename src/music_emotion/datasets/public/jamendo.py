"""MTG-Jamendo, mood and theme: full tracks with tags, in five published splits."""

import pandas as pd

from music_emotion.datasets.public_sets import SPLITS, PublicSet, Source
from music_emotion.files import first_five

_CLIP_SECONDS = 30


def _read(source: Source) -> pd.DataFrame:
    name = f"{source.variant}/autotagging_moodtheme-{{}}.tsv"
    parts = [_table(source, name.format(split)).assign(split=split) for split in SPLITS]
    rows = pd.concat(parts)
    tags = rows.filter(like="tag ").fillna("").agg("|".join, axis=1).str.get_dummies("|")
    tags = tags.rename(columns=lambda tag: tag.removeprefix("mood/theme---")).astype(float)
    if source.find("autotagging_moodtheme.tsv"):
        others = _table(source, "autotagging_moodtheme.tsv").index.difference(rows.index)
        source.say(
            f"{len(others)} tracks are left out, since {source.variant} has only tracks with the "
            f"{len(tags.columns)} more frequent tags: {first_five(others)}."
        )
    seconds = rows["seconds"].astype(float)
    start = ((seconds - _CLIP_SECONDS) / 2).where(seconds > _CLIP_SECONDS + 1)  # lengths are rounded
    source.say(f"Clips are the middle {_CLIP_SECONDS} s; {start.isna().sum()} shorter tracks are whole.")
    front = rows[["split"]].assign(
        group=rows["artist"],
        audio=rows["path"].str.removesuffix(".mp3"),
        start_seconds=start.round(2),
        end_seconds=(start + _CLIP_SECONDS).round(2),
    )
    return front.join(tags)


def _table(source: Source, name: str) -> pd.DataFrame:
    """Tracks by number. Each tag has a cell of its own, so rows differ in length."""
    columns = [
        "track",
        "artist",
        "album",
        "path",
        "seconds",
        *(f"tag {n}" for n in range(60)),
    ]  # as many as any row may have
    rows = source.table(name, separator="\t", header=None, skiprows=1, names=columns)
    return rows.set_index(rows["track"].str.removeprefix("track_").astype(int))


SET = PublicSet(
    title="MTG-Jamendo mood/theme",
    read=_read,
    about="17,982 tracks with 56 tags, of which the middle 30 s are taken",
    licence="metadata CC BY-NC-SA 4.0; each track has its own Creative Commons licence",
    citation="Bogdanov, Won, Tovstogan, Porter and Serra, 2019, The MTG-Jamendo dataset for automatic music "
    "tagging, ML4MD workshop, ICML",
    url="https://github.com/MTG/mtg-jamendo-dataset",
    variants=tuple(f"split-{n}" for n in range(5)),
)
