"""What takes scripts seconds: imports, and the loading of what numba has compiled."""

import music_emotion.delivery.plan
import music_emotion.results.blend_runs
import music_emotion.results.vote
import music_emotion.results.whole_run  # noqa: F401
from music_emotion.sound.beats import compile_ahead
from music_emotion.sound.spectrogram import FeatureSettings

compile_ahead(FeatureSettings())
