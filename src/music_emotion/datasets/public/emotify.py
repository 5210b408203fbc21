"""Emotify: 400 clips of four genres, rated by listeners on the GEMS emotions they felt."""

import pandas as pd

from music_emotion.datasets.public_sets import PublicSet, Source

_EMOTIONS = (
    *("amazement", "solemnity", "tenderness", "nostalgia", "calmness"),
    *("power", "joyful_activation", "tension", "sadness"),
)


def _read(source: Source) -> pd.DataFrame:
    rows = source.table("data.csv")
    ids = rows["track id"].astype(int).rename("id")
    source.say(f"{len(rows)} ratings of {ids.nunique()} tracks.")
    genres = rows["genre"].groupby(ids).first()
    # ids 1 to 100 are classical, then rock, electronic, pop: not the order of sorted folders
    audio = genres + "/" + ((genres.index - 1) % 100 + 1).astype(str)
    if source.variant == "genres":
        return pd.DataFrame({"label": genres, "audio": audio})
    source.say("A target is the share of a track's listeners who felt it.")
    return rows[list(_EMOTIONS)].astype(float).groupby(ids).mean().assign(audio=audio)


SET = PublicSet(
    title="Emotify",
    read=_read,
    about="400 clips of 60 s; shares of listeners who felt each of nine emotions, or four genres",
    licence="no licence text; for research, with citation",
    citation="Aljanaki, Wiering and Veltkamp, 2016, Studying emotion induced by music through a "
    "crowdsourcing game, Information Processing & Management 52(1)",
    url="http://www2.projects.science.uu.nl/memotion/emotifydata/",
    variants=("emotions", "genres"),
)
