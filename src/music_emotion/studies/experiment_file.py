"""An experiment as a file of its differences from the defaults."""

import json
from typing import Any

from music_emotion.config import Experiment, experiment_to_dict


def experiment_toml(experiment: Experiment) -> str:
    """An experiment file, whose name and settings `read_differences` reads back.

    Parameters
    ----------
    experiment : Experiment

    Returns
    -------
    str
        TOML, without what is as the defaults are.

    Examples
    --------
    >>> print(experiment_toml(Experiment(name="short", seeds=(0, 1))))
    name = "short"
    seeds = [0, 1]
    """
    held, usual = experiment_to_dict(experiment), experiment_to_dict(Experiment())
    lines, sections = [f"name = {_toml(experiment.name)}"], []
    for key, value in held.items():
        if not isinstance(value, dict):
            lines += [f"{key} = {_toml(value)}"] if key != "name" and value != usual[key] else []
        elif different := {name: own for name, own in value.items() if own != usual[key][name]}:
            sections += ["", f"[{key}]", *(f"{name} = {_toml(own)}" for name, own in different.items())]
    return "\n".join(lines + sections)


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_toml(key)} = {_toml(own)}" for key, own in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False)  # numbers, truth values and strings are TOML's, too
