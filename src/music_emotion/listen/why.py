"""Which seconds and which bands of a song raise or lower its prediction, by occlusion.

References
----------
Zeiler and Fergus (2014), Visualizing and understanding convolutional networks, section 2.1: a patch of the
input is hidden, and the change of the prediction is the patch's effect.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from tqdm import tqdm

from music_emotion.config import N_MELS
from music_emotion.files import InputError
from music_emotion.listen.predict import (
    AT_ONCE,
    SILENT_DB,
    Ensemble,
    Song,
    excerpts_at,
    peaks_around,
    places_in_file,
)

_MOST_SPANS = 60  # of one second; longer songs have as many, longer ones
_BANDS = np.arange(0, N_MELS + 1, 8)  # borders among the mel rows
_WHERE = ["start_seconds", "end_seconds", "low_hz", "high_hz"]


def explain(song: Song, ensembles: Sequence[Ensemble]) -> pd.DataFrame:
    """Measure the effect of every patch of a song on its prediction.

    A patch is a second (of songs above a minute, a sixtieth) in eight mel rows, a second in all rows, or
    eight rows in the whole song. To hide it, what is louder there than the median of its row over the song
    becomes as loud as the median. Its effect is the prediction of the song minus that with the patch hidden,
    from the excerpts and with the maxima of `EmotionModel.predict`. What is quieter than the median has no
    effect.

    Parameters
    ----------
    song : Song
        With chroma rows if a network needs them; chroma is never hidden.
    ensembles : sequence of Ensemble
        As for `predict_song`. Networks that predict genres or read no mel rows are left out.

    Returns
    -------
    pd.DataFrame
        `start_seconds`, `end_seconds`, `low_hz`, `high_hz`, and the effect on each target in its units. First
        the seconds by bands, second by second, then the seconds, then the bands.

    Raises
    ------
    InputError
        When no network predicts targets from mel rows.
    """
    import librosa  # not needed by predict

    used = [
        each for each in ensembles if each.cards[0].experiment.data.rows != "chroma" and _targets(each).any()
    ]
    if not used:
        raise InputError("No model predicts targets from mel rows. Give one that does with --model.")
    n_frames, rate_hz = len(song.rows), song.settings.sample_rate_hz
    n_spans = max(1, min(_MOST_SPANS, round(song.seconds)))
    spans = np.unique(np.rint(np.linspace(0, n_frames, n_spans + 1)).astype(int))
    times, rows = (np.stack([of[:-1], of[1:]], axis=1) for of in (spans, _BANDS))
    everywhere, all_rows = np.array([[0, n_frames]]), np.array([[0, N_MELS]])
    pairs = [(times, rows), (times, all_rows), (everywhere, rows)]
    patches = np.array([[*span, *band] for of_time, of_rows in pairs for span in of_time for band in of_rows])
    hidden = song.rows.copy()
    hidden[:, :N_MELS] = np.minimum(hidden[:, :N_MELS], np.median(hidden[:, :N_MELS], axis=0))
    effects: dict[str, list[np.ndarray]] = {}
    for ensemble in used:
        names = np.array([name for card in ensemble.cards for name in card.outputs])[_targets(ensemble)]
        columns = _effects(song, replace(song, rows=hidden), ensemble, patches).T
        for name, column in zip(names.tolist(), columns, strict=True):
            effects.setdefault(name, []).append(column)
    borders_hz = librosa.mel_frequencies(2 * N_MELS + 3, fmax=rate_hz / 2)[1::2]
    seconds = np.minimum(patches[:, :2] * song.settings.hop_length / rate_hz, song.seconds)
    where = np.concatenate([seconds, borders_hz[patches[:, 2:]]], axis=1).round(3)
    means = {name: np.mean(of_networks, axis=0) for name, of_networks in effects.items()}
    return pd.DataFrame(where, columns=_WHERE).assign(**means)


def _targets(ensemble: Ensemble) -> np.ndarray:
    """Which outputs of an ensemble are targets [shape=(n_outputs,)], boolean."""
    return np.array([card.experiment.task == "emotion" for card in ensemble.cards for _ in card.outputs])


def _effects(song: Song, hidden: Song, ensemble: Ensemble, patches: np.ndarray) -> np.ndarray:
    """Effect of each patch (first and last frame, first and last row) [shape=(n_patches, n_targets)]."""
    card, targets = ensemble.cards[0], _targets(ensemble)
    places = places_in_file(song, card)
    places, n_equal = np.unique(places, axis=0, return_counts=True)  # in a short song, all are
    peaks = peaks_around(song, card, places)
    places, peaks, n_equal = (of[peaks > SILENT_DB] for of in (places, peaks, n_equal))
    whole, quiet = (excerpts_at(each, card, places, peaks) for each in (song, hidden))
    effects = np.zeros((len(patches), targets.sum()))

    def predict(batch: np.ndarray, length: int) -> np.ndarray:
        outputs = ensemble.outputs(batch, np.full(len(batch), length))
        return outputs[:, ensemble.n_features :][:, targets]

    excerpts = zip(places, n_equal / n_equal.sum(), whole, quiet, strict=True)
    for (start, length), weight, loud, low in tqdm(excerpts, "hide", len(places), leave=False):
        reached = np.flatnonzero((patches[:, 0] < start + length) & (patches[:, 1] > start))
        intact = predict(loud[None], length)
        for chosen in np.split(reached, range(AT_ONCE, len(reached), AT_ONCE)):
            batch = np.tile(loud, (len(chosen), 1, 1))
            for frames, (first, last, lowest, highest) in zip(batch, patches[chosen], strict=True):
                part = slice(lowest, highest), slice(max(0, first - start), last - start)
                frames[part] = low[part]
            effects[chosen] += weight * (intact - predict(batch, length))
    return effects
