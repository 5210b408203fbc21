"""FMA: tracks of the Free Music Archive by genre, and Echonest's estimates for some of them."""

import pandas as pd

from music_emotion.datasets.public_sets import PublicSet, Source
from music_emotion.files import first_five

_SUBSETS = ("small", "medium", "large")  # each holds those before it
_TARGETS = ("valence", "energy", "danceability")
# Their trimmed audio is empty or cut off, since a wrong length was known when it was cut.
_BROKEN = {
    *(1486, 5574, 65753, 80391, 98558, 98559, 98560, 98565, 98566, 98567, 98568, 98569, 98571, 99134),
    *(105247, 108924, 108925, 126981, 127336, 133297, 143992),
}


def _read(source: Source) -> pd.DataFrame:
    tracks = _table(source, "tracks.csv", "set_subset", "set_split", "artist_id", "track_genre_top")
    genres = tracks["track_genre_top"]
    clips = pd.DataFrame({"group": "artist-" + tracks["artist_id"], "label": genres.where(genres != "")})
    clips["split"] = tracks["set_split"].replace("training", "train")
    if source.variant == "echonest":
        values = _table(source, "echonest.csv", *(f"audio_features_{target}" for target in _TARGETS))
        values = values.rename(columns=lambda name: name.removeprefix("audio_features_")).astype(float)
        clips = clips.drop(columns="label").join(values, how="inner")
        source.say("Targets are Echonest's estimates for whole songs, not ratings by listeners.")
    else:
        chosen = _SUBSETS[: _SUBSETS.index(source.variant) + 1]
        clips = clips[tracks["set_subset"].isin(chosen)]
    whole, audio = source.audio("fma_full"), source.audio()
    for subset in reversed(_SUBSETS):  # rather than the whole songs
        audio |= source.audio(f"fma_{subset}")
    keys = pd.Series([f"{track // 1000:03d}/{track}" for track in clips.index], clips.index)
    broken = clips.index.isin(list(_BROKEN))
    names = keys.map(audio).mask(broken, keys.map(whole))
    if n := int(names.isin(set(whole.values())).sum()):
        source.say(f"{n} clips are the whole songs of fma_full; the other sets have the middle 30 s.")
    lost = broken & names.isna()
    if lost.any():
        source.say(
            f"{lost.sum()} tracks are left out, since their audio is known to be broken except in fma_full: "
            f"{first_five(clips.index[lost])}."
        )
    return clips.assign(audio=names.fillna(keys))[~lost]


def _table(source: Source, name: str, *columns: str) -> pd.DataFrame:
    """Columns of a table by track, named by block and column, as in copies with a single head line."""
    head = source.table(name, header=None, nrows=4)
    last = int((head["0"] == "track_id").argmax())
    names = head.loc[last] if last < 2 else head.loc[last - 2] + "_" + head.loc[last - 1]
    names["0"] = "track_id"
    kept = ["track_id", *columns]
    cells = source.table(name, header=None, skiprows=last + 1, names=[*names], usecols=kept)
    return cells[kept].astype({"track_id": int}).set_index("track_id")


SET = PublicSet(
    title="FMA",
    read=_read,
    about="8,000, 25,000 or 106,574 clips of 30 s with genres; echonest: 13,129 with valence, energy and "
    "danceability",
    licence="metadata CC BY 4.0; each track has its own licence, see track,license in tracks.csv",
    citation="Defferrard, Benzi, Vandergheynst and Bresson, 2017, FMA: a dataset for music analysis, ISMIR",
    url="https://github.com/mdeff/fma",
    variants=(*_SUBSETS, "echonest"),
)
