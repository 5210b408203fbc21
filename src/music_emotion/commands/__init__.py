"""What each subcommand of `music-emotion` does, and the flags they share."""

from typing import Annotated

from cyclopts import Parameter, validators

from music_emotion.audio.features import FeatureSettings
from music_emotion.config import Experiment

Share = Annotated[float, Parameter(validator=validators.Number(gte=0, lte=1))]
ExperimentFlags = Annotated[Experiment, Parameter(name="*")]
FeatureFlags = Annotated[FeatureSettings, Parameter(name="*")]
