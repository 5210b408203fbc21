"""emoMusic: 744 clips of MediaEval 2013 with valence and arousal, static and twice a second."""

import hashlib
import re

import numpy as np
import pandas as pd

from music_emotion.datasets.clip_table import recording_lengths
from music_emotion.datasets.public_sets import PublicSet, Source
from music_emotion.files import numbers


def labels(source: Source) -> pd.DataFrame:
    """Static arousal and valence from 1 to 9, by song id. Copies of the table have two sets of names."""
    names = {"arousal_mean": "mean_arousal", "valence_mean": "mean_valence"}
    table = source.table("static_annotations.csv").rename(columns=names)
    values = table[["mean_arousal", "mean_valence"]].set_axis(["arousal", "valence"], axis=1).apply(numbers)
    return values.set_index(table["song_id"].astype(int).rename("id"))


def curves(source: Source, **files: str) -> pd.DataFrame | None:
    """Labels for `Source.curves`, from one table per target with a column per time and values of -1 to 1."""
    if any(source.find(file) is None for file in files.values()):
        return None
    columns = {}
    for target, file in files.items():
        wide = source.table(file).set_index("song_id").filter(like="sample_")
        wide.columns = wide.columns.str.extract("([0-9]+)", expand=False).astype(float) / 1000
        long = wide.melt(var_name="seconds", ignore_index=False).set_index("seconds", append=True)["value"]
        columns[target] = (pd.to_numeric(long, errors="coerce") + 1) / 2
    rows = pd.DataFrame(columns).dropna(how="all").rename_axis(["id", "seconds"]).reset_index()
    return rows.astype({"id": int})


def artist_groups(artists: pd.Series) -> pd.Series:
    """Artists up to a dash, since titles follow some."""
    return artists.astype(object).str.split().str.join(" ").str.replace("(?<=.) ?-.*", "", regex=True)


def _is_held_out(artist: str) -> bool:
    """The rule of jukemir (Castellon et al., 2021): a fifth of the artists, by their letters, validates."""
    letters = " ".join(re.sub(r"[^a-z\s]", "", artist.lower(), flags=re.ASCII).split())
    return int(hashlib.sha1(letters.encode()).hexdigest(), 16) % 10 >= 8


def _read(source: Source) -> pd.DataFrame:
    clips = labels(source)
    clips["audio"] = source.keys(clips.index, "clips_45seconds")
    source.curves = curves(source, arousal="arousal_cont_average.csv", valence="valence_cont_average.csv")
    if source.find("songs_info.csv") is None:
        source.say(
            "songs_info.csv is missing, and with it the artists, the split and the place in full songs."
        )
        return clips
    info = source.table("songs_info.csv")
    info = info.set_index(info["song_id"].astype(int)).reindex(clips.index, fill_value="")
    clips["group"] = artist_groups(info["Artist"])
    if source.variant == "hash":
        evaluated, held_out = info["Mediaeval 2013 set"] == "evaluation", info["Artist"].map(_is_held_out)
        clips["split"] = np.select([evaluated, held_out], ["test", "validation"], "train")
    paths = clips["audio"].map(source.audio()).map(lambda name: str(source.folder / name), na_action="ignore")
    is_full = recording_lengths(paths) > 50
    if n := int(is_full.sum()):
        time = info["start of the segment (min.sec)"].str.extract("^([0-9]+)[.]?([0-9]*)$")
        # 2.1 is 2:10: a table lost the zeros at the ends of numbers
        start = time[0].astype(float) * 60 + time[1].str.ljust(2, "0").astype(float)
        clips["start_seconds"], clips["end_seconds"] = start.where(is_full), start.where(is_full) + 45
        source.say(
            f"{n} recordings are longer than clips; the 45 seconds that were rated are taken from them."
        )
    return clips


SET = PublicSet(
    title="emoMusic",
    read=_read,
    about="744 clips of 45 s; arousal and valence, also over time",
    licence="songs under Creative Commons licences; annotations for research",
    citation="Soleymani, Caro, Schmidt, Sha and Yang, 2013, 1000 songs for emotional analysis of music, "
    "Proc. ACM International Workshop on Crowdsourcing for Multimedia",
    url="https://cvml.unige.ch/databases/emoMusic/",
    scales={"arousal": (1, 9), "valence": (1, 9)},
    variants=("hash", "unsplit"),
)
