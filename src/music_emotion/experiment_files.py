"""Find experiment files by name, read them together with their base experiments, and write them."""

import difflib
import json
import os
from pathlib import Path
from typing import Any

from music_emotion.config import Experiment, build_experiment
from music_emotion.files import InputError, package_data, read_toml, shortened


def find_experiment(name: str | Path, beside: Path = Path()) -> Path:
    """Find the file of an experiment or a study.

    Parameters
    ----------
    name : str or Path
        Path of a file, absolute or relative to `beside`; or the name of a built-in experiment, such as
        "multitask".
    beside : Path, optional
        Folder that a relative path starts from; by default the working directory.

    Raises
    ------
    InputError
        When neither exists. The message suggests a built-in experiment with a similar name.
    """
    if os.path.exists(beside / name):  # Path.exists raises for some names
        return beside / name
    known = {path.stem: path for path in sorted(package_data("experiments").rglob("*.toml"))}
    if str(name) in known:
        return known[str(name)]
    close = difflib.get_close_matches(Path(name).stem, known, n=1)
    hint = f"did you mean '{close[0]}'?" if close else "built in are multitask, transfer, gp and others."
    raise InputError(
        f"The experiment {shortened(str(name), 300)} does not exist, as a file or by name; {hint}"
    )


def read_differences(name: str | Path) -> dict[str, Any]:
    """Read an experiment file and its base experiments, as differences from the defaults.

    Parameters
    ----------
    name : str or Path
        As for `find_experiment`. ``base = "NAME"`` in the file starts from another experiment, given
        by name or by its path relative to the file.

    Raises
    ------
    InputError
        When a file is missing or a setting is wrong. The message names the file, the key or value, and
        the most similar valid name.
    """
    path = find_experiment(name)
    differences = _read_with_base(path, ())
    build_experiment(differences, str(path))
    return differences


def _read_with_base(path: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    if path.resolve() in above:
        raise InputError(f"{path} is based on itself. Remove base from one of {', '.join(map(str, above))}.")
    own = read_toml(path)
    base = own.pop("base", None)
    if base is None:
        return own
    if not isinstance(base, str):
        raise InputError(f"{path}: base is {shortened(repr(base))}; name an experiment or a file.")
    return lay_over(_read_with_base(find_experiment(base, path.parent), (*above, path.resolve())), own)


def lay_over(base: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """Merge settings over those of a base, section by section.

    Parameters
    ----------
    base, own : dict
        Nested like `Experiment`; `own` takes precedence.

    Returns
    -------
    dict
        The merged settings. The inputs are unchanged.
    """
    merged = dict(base)
    for key, value in own.items():
        section = merged.get(key)
        merged[key] = section | value if isinstance(section, dict) and isinstance(value, dict) else value
    return merged


def dotted(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings by dotted key, such as "train.epochs", from settings that are nested like `Experiment`."""
    found = dict[str, Any]()
    for section, held in settings.items():
        of_section = held.items() if isinstance(held, dict) else [("", held)]
        found |= {f"{section}.{key}".removesuffix("."): value for key, value in of_section}
    return found


def experiment_toml(experiment: Experiment) -> str:
    """Write an experiment as TOML, for `read_differences` to read back.

    Parameters
    ----------
    experiment : Experiment

    Returns
    -------
    str
        TOML, without the defaults.

    Examples
    --------
    >>> print(experiment_toml(Experiment(name="short", seeds=(0, 1))))
    name = "short"
    seeds = [0, 1]
    """
    held = {"name": experiment.name} | experiment.model_dump(mode="json", exclude_defaults=True)
    return "\n".join(f"{key} = {to_toml(value)}" for key, value in dotted(held).items())


def to_toml(value: Any) -> str:
    """Write a value as TOML; None becomes `false`, which switches a setting off."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{to_toml(key)} = {to_toml(own)}" for key, own in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(to_toml, value)) + "]"
    return json.dumps(False if value is None else value, ensure_ascii=False)
