"""The simplest rival: the one clip statistic that ranks the clips best."""

from music_emotion.audio.features import FeatureSettings
from music_emotion.datasets.clip_set import ClipSet
from music_emotion.datasets.statistics_table import array_statistics
from music_emotion.evaluation.metrics import spearman


def best_single_statistic(clips: ClipSet, settings: FeatureSettings) -> dict[str, tuple[str, float]]:
    """For every target, the statistic with the largest absolute Spearman correlation.

    It is chosen on the clips it is scored on, which favours it.

    Returns
    -------
    dict of str to (str, float)
        Target to the statistic's name and absolute correlation.
    """
    statistics = array_statistics(clips.store, clips.ids, settings)
    best = {}
    for target, values in clips.truth.items():
        scores = {
            name: abs(spearman(values.to_numpy(), column.to_numpy())) for name, column in statistics.items()
        }
        name = max(scores, key=scores.__getitem__)
        best[str(target)] = (str(name), scores[name])
    return best
