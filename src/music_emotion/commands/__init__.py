"""The subcommands of `music-emotion`, and the flags that several of them share."""

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter, validators
from pydantic import WrapValidator

from music_emotion.audio.settings import FeatureSettings
from music_emotion.config import Experiment, build_experiment
from music_emotion.experiment_files import lay_over, read_differences


def _unchecked(given: dict[str, Any], _validate: Any) -> Experiment:
    return Experiment.model_construct(**given)  # not validated: alone, flags may contradict the defaults


Share = Annotated[float, Parameter(validator=validators.Number(gte=0, lte=1))]
FeatureFlags = Annotated[FeatureSettings, Parameter(name="*")]
ExperimentFlags = Annotated[Experiment, WrapValidator(_unchecked), Parameter(name="*", negative_none="no-")]


def given_settings(flags: Experiment) -> dict[str, Any]:
    """Settings that the user gave as flags, nested like `Experiment`, without the defaults."""
    return flags.model_dump(exclude_unset=True, warnings=False)


def experiment_of(file: Path, flags: Experiment) -> Experiment:
    """Build the experiment of a file; settings given as flags override the file's."""
    return build_experiment(lay_over(read_differences(file), given_settings(flags)), "command line")
