"""Emotify: 400 clips of four genres, rated by listeners on the GEMS emotions they felt."""

import pandas as pd

from music_emotion.datasets.public_sets import PublicSet, Source

# Ids 1 to 100 are classical, and so on; sorted folders would give three of four clips another's labels.
_GENRES = ("classical", "rock", "electronic", "pop")
_EMOTIONS = (
    *("amazement", "solemnity", "tenderness", "nostalgia", "calmness"),
    *("power", "joyful_activation", "tension", "sadness"),
)


def _read(source: Source) -> pd.DataFrame:
    rows = source.table("data.csv")
    ids = rows["track id"].astype(int).rename("id")
    source.say(
        f"{len(rows)} ratings of {ids.nunique()} tracks; a target is the share of listeners who felt it."
    )
    clips = rows[list(_EMOTIONS)].astype(float).groupby(ids).mean()
    genres = rows["genre"].groupby(ids).first()
    place = (clips.index - 1) % 100 + 1
    return clips.assign(audio=genres + "/" + place.astype(str))


SET = PublicSet(
    title="Emotify",
    read=_read,
    about="400 clips of 60 s; shares of listeners who felt each of nine emotions",
    licence="no licence text; for research, with citation",
    citation="Aljanaki, Wiering and Veltkamp, 2016, Studying emotion induced by music through a "
    "crowdsourcing game, Information Processing & Management 52(1)",
    url="http://www2.projects.science.uu.nl/memotion/emotifydata/",
)
