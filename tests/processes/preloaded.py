"""What takes seconds to import or compile; the server that forks the tests' processes does it once."""

import gc
from importlib import import_module

from music_emotion.audio.features import compile_ahead
from music_emotion.audio.settings import FeatureSettings
from music_emotion.cli import COMMANDS

for command in ("extract", "pretrain", "train", "blend", "submit", "study", "kaggle package"):
    module, _ = COMMANDS[command][0].split(":")
    import_module(f"music_emotion.{module}")
compile_ahead(FeatureSettings())
gc.freeze()  # garbage collection in each process then leaves these modules alone
