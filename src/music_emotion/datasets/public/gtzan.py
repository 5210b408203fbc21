"""GTZAN: 1,000 clips of ten genres, by default in the split without its known faults."""

import re
from pathlib import Path

import pandas as pd

from music_emotion.audio.decode import recording_seconds
from music_emotion.datasets.public_sets import PublicSet, Source
from music_emotion.files import InputError

_LISTS = {"train": "train", "valid": "validation", "test": "test"}
_BROKEN = "jazz/jazz.00054"  # in the copy on Kaggle, and in the list for training


def _read(source: Source) -> pd.DataFrame:
    found = {key: name for key, name in source.audio().items() if re.fullmatch(r"([a-z]+)/\1\.\d{5}", key)}
    splits = {
        line.removesuffix(".wav"): split
        for part, split in _LISTS.items()
        for line in Path(__file__).with_name("splits").joinpath(f"gtzan-{part}.txt").read_text().split()
    }
    if source.variant == "all":
        clips = pd.DataFrame(index=[*found])
        source.say("Artists and recordings repeat among the clips, so cross-validation is too optimistic.")
    else:
        clips = pd.DataFrame({"split": splits})
        source.say(f"{len(found.keys() - splits.keys())} clips are in no part of the split and are left out.")
    if _BROKEN in found:
        try:
            recording_seconds(source.folder / found[_BROKEN])
            source.say(f"{_BROKEN} can be read here; Kaggle's copy of it is broken.")
        except InputError as error:
            source.say(f"{_BROKEN} is left out, as a known broken file: {error}")
            clips = clips.drop(index=_BROKEN)
    return clips.assign(label=clips.index.str.partition("/").get_level_values(0))


SET = PublicSet(
    title="GTZAN",
    read=_read,
    about="930 clips of 30 s of ten genres in the fault-filtered split; all: 1,000 without a split",
    licence="none stated; the lists of the split are MIT (splits/NOTICE-gtzan.txt)",
    citation="Tzanetakis and Cook, 2002, Musical genre classification of audio signals, IEEE Transactions on "
    "Speech and Audio Processing 10(5); split: Kereliuk, Sturm and Larsen, 2015, Deep learning and music "
    "adversaries, IEEE Transactions on Multimedia 17(11)",
    url="http://marsyas.info/downloads/datasets.html",
    variants=("filtered", "all"),
)
