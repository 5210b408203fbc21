"""What takes seconds to import or compile; the server that forks the tests' processes does it once."""

import gc

from music_emotion.audio.features import FeatureSettings, compile_ahead
from music_emotion.commands import evaluation, extraction, kaggle, training  # noqa: F401
from music_emotion.datasets import extract  # noqa: F401

compile_ahead(FeatureSettings())
gc.freeze()  # garbage collection in each process then leaves these modules alone
