"""4Q: 900 samples of songs in four quadrants of valence and arousal, from mood tags."""

import pandas as pd

from music_emotion.datasets.public_sets import PublicSet, Source

QUADRANTS = ("Q1", "Q2", "Q3", "Q4")


def _read(source: Source) -> pd.DataFrame:
    quadrant = source.table("panda_dataset_taffc_annotations.csv").set_index("Song")["Quadrant"]
    quadrant = quadrant.where(quadrant.isin(QUADRANTS))
    songs = source.table("panda_dataset_taffc_metadata.csv").set_index("Song")
    artist = songs["Artist"].str.replace(";", ",").reindex(quadrant.index)  # commas were written as ;
    found = quadrant.value_counts().reindex(QUADRANTS, fill_value=0)
    source.say(f"{', '.join(f'{n} {q}' for q, n in found.items())}; quadrants come from mood tags.")
    if n := int(artist.fillna("").eq("").sum()):
        source.say(f"{n} clips have no artist; each is a group of its own.")
    if source.variant == "quadrants":
        return pd.DataFrame({"label": quadrant, "group": artist})
    high = {"arousal": quadrant.isin(["Q1", "Q2"]), "valence": quadrant.isin(["Q1", "Q4"])}
    return pd.DataFrame(high).astype(float).where(quadrant.notna()).assign(group=artist)


SET = PublicSet(
    title="4Q Audio Emotion",
    read=_read,
    about="900 samples of 30 s; quadrants of arousal and valence from AllMusic's mood tags",
    licence="samples of commercial songs; for research",
    citation="Panda, Malheiro and Paiva, 2018, Novel audio features for music emotion recognition, "
    "IEEE Transactions on Affective Computing 11(4)",
    url="http://mir.dei.uc.pt/downloads.html",
    variants=("quadrants", "binary"),
)
