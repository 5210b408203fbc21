"""A clip in families of statistics, each of which sees one side of the music."""

import numpy as np

from music_emotion.audio.moments import whole_frames
from music_emotion.audio.rhythm import rhythm_families
from music_emotion.audio.spectrogram import row_slice
from music_emotion.audio.summary import check_fused
from music_emotion.audio.timbre import timbre_families
from music_emotion.audio.tonality import tonality_families

_SHORTEST_SECONDS = 6.0  # two periods of the slowest modulation that is looked at
_FEWEST_FRAMES = 4  # so that there are thirds of a clip, and steps


def statistic_families(fused: np.ndarray, frame_seconds: float) -> dict[str, np.ndarray]:
    """Describe timbre, rhythm and tonality of a clip, without names for single numbers.

    They are many more than `fused_statistics`, for estimators that weigh whole families: what a
    family describes matters, not which of its numbers. `timbre_families`, `rhythm_families` and
    `tonality_families` say what each is. Changes and rises are those from a frame to the next, so
    clips can only be compared at one frame rate.

    Parameters
    ----------
    fused : np.ndarray [shape=(140, n_frames)]
        Mel rows in dB, -80 to 0, on chroma rows, 0 to 1; at least one frame. A clip shorter than
        6 s, or 4 frames, is repeated until it lasts as long.
    frame_seconds : float
        Time from one frame to the next, in seconds. With the mean span between beats for
        beat-synchronous arrays, what is said of onsets and pulse is rough.

    Returns
    -------
    dict of str to np.ndarray [shape=(n_statistics_of_the_family,)], float64
        The same families in the same order, and of the same sizes, for every clip; all finite.

    Raises
    ------
    InputError
        When the array is not of shape (140, n_frames) with n_frames at least 1, or holds a value
        that is not finite, or `frame_seconds` is not positive.

    Examples
    --------
    >>> families = statistic_families(np.full((140, 300), -30.0), frame_seconds=0.023)
    >>> families["contrast"].shape
    (16,)
    """
    check_fused(fused, {"frame_seconds": frame_seconds})
    # a clip of a store comes transposed, and sums over it would round differently
    fused = np.ascontiguousarray(fused, np.float32)
    fewest = max(_FEWEST_FRAMES, whole_frames(_SHORTEST_SECONDS, frame_seconds))
    whole = np.tile(fused, -(-fewest // fused.shape[1])) if fused.shape[1] < fewest else fused
    mel_db, chroma = whole[row_slice("mel")], whole[row_slice("chroma")]
    families = {
        **timbre_families(mel_db, frame_seconds),
        **rhythm_families(mel_db, frame_seconds),
        **tonality_families(chroma, frame_seconds),
    }
    return {name: np.asarray(values, np.float64).ravel() for name, values in families.items()}
