"""The simplest rival: the one clip statistic that ranks the clips best."""

import pandas as pd

from music_emotion.data.clip_set import ClipSet
from music_emotion.sound.spectrogram import FeatureSettings
from music_emotion.sound.summary import fused_statistics
from music_emotion.training.metrics import spearman


def clip_statistics(clips: ClipSet, settings: FeatureSettings) -> pd.DataFrame:
    """Statistics of every clip, from its full-rate array.

    Returns
    -------
    pd.DataFrame
        One column per statistic, indexed by `Id`.
    """
    frame_seconds = settings.hop_length / settings.sample_rate_hz
    rows = []
    for start, length in clips.store.index.loc[clips.ids].to_numpy():
        frames = clips.store.frames[start : start + length].astype("float32")
        rows.append(fused_statistics(frames.T, frame_seconds))
    return pd.DataFrame(rows, pd.Index(clips.ids, name="Id"))


def best_single_statistic(clips: ClipSet, settings: FeatureSettings) -> dict[str, tuple[str, float]]:
    """For every target, the statistic with the largest absolute Spearman correlation.

    It is chosen on the clips it is scored on, which favours it.

    Returns
    -------
    dict of str to (str, float)
        Target to the statistic's name and absolute correlation.
    """
    statistics = clip_statistics(clips, settings)
    best = {}
    for target, values in clips.truth.items():
        scores = {
            name: abs(spearman(values.to_numpy(), column.to_numpy())) for name, column in statistics.items()
        }
        name = max(scores, key=scores.__getitem__)
        best[str(target)] = (str(name), scores[name])
    return best
