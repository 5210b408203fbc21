"""PMEmo: choruses of 794 pop songs with valence and arousal, static and twice a second."""

import pandas as pd

from music_emotion.datasets.public_sets import PublicSet, Source
from music_emotion.files import first_five, numbers

_NAMES = {
    **{"musicId": "id", "song_id": "id", "frameTime": "seconds"},
    **dict.fromkeys(["Arousal(mean)", "arousal_mean", "mean_A"], "arousal"),
    **dict.fromkeys(["Valence(mean)", "valence_mean", "mean_V"], "valence"),
}


def _table(source: Source, name: str) -> pd.DataFrame:
    table = source.table(name).rename(columns=_NAMES)
    return table.set_index(table["id"].astype(int))


def _read(source: Source) -> pd.DataFrame:
    is_first = source.find("static_annotations.csv") is None and source.find("A_static.csv") is not None
    names = ["A_static.csv", "V_static.csv"] if is_first else ["static_annotations.csv"]
    rows = pd.concat([_table(source, name) for name in names], axis=1)
    clips = rows[["arousal", "valence"]].apply(numbers)
    if "valence_std" in rows:
        clips = (clips - 1) / 8
        source.say("The labels are Music2Emotion's, from 1 to 9; they are scaled back to 0 to 1.")
    if source.find("dynamic_annotations.csv") is not None:
        over_time = _table(source, "dynamic_annotations.csv")[["id", "seconds", "arousal", "valence"]]
        # 15.5 is the first time and a clip's end the last: the ends of the half seconds
        over_time = over_time.apply(numbers).astype({"id": int}).reset_index(drop=True)
        source.curves = over_time.assign(seconds=over_time["seconds"] - 0.5)
    if source.find("metadata.csv") is None:
        source.say("metadata.csv is missing, and with it the artists.")
    else:
        songs = _table(source, "metadata.csv")
        clips = clips.reindex(clips.index.union(songs.index))
        artists = songs["artist"].str.casefold()
        clips["group"] = artists.reindex(clips.index)
        same = artists.index.to_series().astype(str).groupby([songs["title"].str.casefold(), artists])
        if len(pairs := same.agg("/".join)[same.size() > 1]):
            source.say(
                f"{len(pairs)} songs were annotated under two ids, with different labels. Both stay, in the "
                f"group of their artist: {first_five(pairs)}."
            )
    return clips.assign(audio=source.keys(clips.index, "chorus", "Chorus"))


SET = PublicSet(
    title="PMEmo",
    read=_read,
    about="767 labelled choruses of pop songs; arousal and valence, also over time",
    licence="for research; the audio is commercial music",
    citation="Zhang, Zhang, Li, Yang and Sun, 2018, The PMEmo dataset for music emotion recognition, "
    "Proc. ACM International Conference on Multimedia Retrieval",
    url="https://github.com/HuiZhangDB/PMEmo",
)
