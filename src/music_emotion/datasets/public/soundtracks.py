"""Soundtracks: excerpts of film music, with mean ratings of the emotion that listeners heard."""

import pandas as pd

from music_emotion.datasets.public_sets import PublicSet, Source
from music_emotion.files import numbers

_SIZES = {"set1": 360, "set2": 110}
_RATINGS = (
    *("valence", "energy", "tension", "anger", "fear"),
    *("happy", "sad", "tender", "beauty", "liking"),
)
# The set's tables write these albums in two ways.
_SPELT = {
    "The Portait of a Lady": "The Portrait of a Lady",
    "Crouching Tiger jne.": "Crouching Tiger",
    "Grizzle Man": "Grizzly Man",
}
# Excerpts of set 2 of one album, track and time; 84 and 88 are two of one track.
_TWINS = ((10, 95), (19, 67), (22, 75), (24, 72), (32, 86), (34, 82), (49, 101), (84, 88))


def _read(source: Source) -> pd.DataFrame:
    found = [name for name in _SIZES if source.find(f"mean_ratings_{name}.csv")]
    name = source.variant if source.variant != "found" else [*found, "set1"][0]
    rows = source.table(f"mean_ratings_{name}.csv").rename(columns=str.casefold)
    rows.index = pd.Index(rows["number"].astype(int), name="id")
    source.say(f"{len(rows)} excerpts of {name}; ratings from 1 to 9.")
    if others := [each for each in found if each != name]:
        source.say(f"The ratings of {others[0]} are there too: --variant {others[0]} reads them.")
    if name == "set2":
        twice = ", ".join(f"{a:03} = {b:03}" for a, b in _TWINS[:-1])
        source.say(f"Seven excerpts occur twice, with two ratings, by the set's list: {twice}.")
    clips = rows[[column for column in _RATINGS if column in rows]].apply(numbers)
    return clips.assign(group=_albums(source, name, rows), audio=_audio(source, name, rows.index))


def _albums(source: Source, name: str, rows: pd.DataFrame) -> pd.Series:
    """Albums from the ratings or the list of tracks; without both, only what is known to belong together."""
    if "soundtrack" in rows:
        return rows["soundtrack"].replace(_SPELT)
    if source.find(f"{name}_tracklist.csv"):
        tracks = source.table(f"{name}_tracklist.csv")
        albums = tracks.set_index(tracks["Nro"].astype(int))["Album name"].replace(_SPELT)
        if name == "set2":
            albums[17] = "The Fifth Element"  # the set's read-me corrects the list
        return albums.reindex(rows.index)
    source.say(f"Albums are unknown without {name}_tracklist.csv, so there are no groups by album.")
    pairs = {each: f"{a} and {b}" for a, b in _TWINS for each in (a, b)}
    return rows.index.to_series().map(pairs if name == "set2" else {})


def _audio(source: Source, name: str, ids: pd.Index) -> pd.Series:
    """Files below a folder of the set, whose numbers both sets have; any files where there is no such."""
    below = {each: source.audio(f"{each[:3]}[ _-]?{each[3]}.*|soundtrack{n}.*") for each, n in _SIZES.items()}
    files = below[name] if any(below.values()) else source.audio()
    return pd.Series([files.get(str(number), f"{name}/{number:03}") for number in ids], ids)


SET = PublicSet(
    title="Soundtracks",
    read=_read,
    about="360 (set 1) or 110 (set 2) excerpts of film music of 15 s; valence, energy, tension and five "
    "emotions, in set 2 also beauty and liking",
    licence="CC BY 4.0 as deposited; excerpts of commercial film music, for research",
    citation="Eerola and Vuoskoski, 2011, A comparison of the discrete and dimensional models of emotion in "
    "music, Psychology of Music 39(1)",
    url="https://osf.io/p6vkg",
    scales=dict.fromkeys(_RATINGS, (1.0, 9.0)),
    variants=("found", "set1", "set2"),
)
