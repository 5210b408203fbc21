"""What a search may set: the `[search]` table of a study file."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations_with_replacement, product
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Discriminator, Field, Tag
from pydantic.dataclasses import dataclass as checked

from music_emotion.config import STRICT, Count, Experiment, Positive
from music_emotion.files import InputError, first_five
from music_emotion.studies.study_row import Row, Settings, word

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

_DIGITS = 4  # that are kept of a number, so that a row's name says it exactly


@checked(frozen=True, config=STRICT)
class Range:
    """Numbers between two others, both among them; `log` is as dense at the small ones."""

    low: int | float
    high: int | float
    log: bool = False

    def __post_init__(self) -> None:
        if self.low >= self.high:
            raise ValueError(f"low, {self.low}, has to be less than high, {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"log needs a low above 0, but low is {self.low}")


def _kind(value: Any) -> str:
    return "range" if isinstance(value, dict | Range) else "choices"


_Choices = Annotated[list[Any], Field(min_length=1)]
_Setting = Annotated[
    Annotated[_Choices, Tag("choices")] | Annotated[Range, Tag("range")], Discriminator(_kind)
]


@checked(frozen=True, config=STRICT)
class Search:
    """What a search tries.

    Attributes
    ----------
    trials : int
        How many settings, over all processes and starts together.
    space : dict
        Dotted key to a list of values or to a range.
    seed : int
        A trial depends on it, on its number and on the results before it alone.
    """

    trials: Positive
    space: Annotated[dict[str, _Setting], Field(min_length=1)]
    seed: Count = 0


@dataclass(frozen=True)
class Space:
    """The settings a search chooses from, all of which an experiment can have.

    Attributes
    ----------
    axes : dict
        Dotted key to its values.
    integers : frozenset of str
        Keys of ranges that hold whole numbers.
    """

    axes: Mapping[str, list[Any] | Range]
    integers: frozenset[str]

    def distributions(self) -> dict[str, "BaseDistribution"]:
        """As Optuna has them; choices by their words, since it knows no lists."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        result: dict[str, BaseDistribution] = {}
        for key, axis in self.axes.items():
            if isinstance(axis, list):
                result[key] = CategoricalDistribution([word(key, value) for value in axis])
            elif key in self.integers:
                result[key] = IntDistribution(int(axis.low), int(axis.high), log=axis.log)
            else:
                result[key] = FloatDistribution(axis.low, axis.high, log=axis.log)
        return result

    def settings(self, params: Mapping[str, Any]) -> Settings:
        """What an experiment takes, from what Optuna proposes."""
        return {key: self._value(key, axis, params[key]) for key, axis in self.axes.items()}

    def _value(self, key: str, axis: list[Any] | Range, param: Any) -> Any:
        if isinstance(axis, list):
            return next(value for value in axis if word(key, value) == param)
        if key in self.integers:
            return int(param)
        return min(max(float(f"{param:.{_DIGITS}g}"), float(axis.low)), float(axis.high))


def check_space(search: Search, make_row: Callable[[Settings], Row], place: str) -> Space:
    """Build experiments with all choices and the ends of all ranges, each pair of settings together.

    More than two settings seldom exclude each other, and all combinations would be too many.

    Parameters
    ----------
    search : Search
    make_row : callable
        Builds an experiment with settings.
    place : str
        Where the search is, for messages.

    Raises
    ------
    InputError
        When an experiment can't have one of them, a range is given for what has no numbers between,
        or choices can't be told apart.
    """
    axes = search.space
    first = {key: _ends(axis)[0] for key, axis in axes.items()}
    for one, other in combinations_with_replacement(axes, 2):
        for values in product(_ends(axes[one]), _ends(axes[other])):
            row = make_row(first | dict(zip((one, other), values, strict=True)))
    integers = set()
    for key, axis in axes.items():
        held = _setting_of(row.experiment, key)
        if isinstance(axis, list):
            _check_choices(key, axis, place)
        elif isinstance(held, bool) or not isinstance(held, int | float):
            raise InputError(f"{place}: search.space {key} is a range, but no number. Give a list.")
        elif isinstance(held, int):
            _check_whole(key, axis, place)
            integers.add(key)
    return Space(axes, frozenset(integers))


def _ends(axis: list[Any] | Range) -> list[Any]:
    return axis if isinstance(axis, list) else [axis.low, axis.high]


def _setting_of(experiment: Experiment, dotted: str) -> Any:
    held: Any = experiment
    for part in dotted.split("."):
        held = getattr(held, part)
    return held


def _check_choices(key: str, choices: list[Any], place: str) -> None:
    words = [word(key, value) for value in choices]
    if twice := sorted({each for each in words if words.count(each) > 1}):
        raise InputError(f"{place}: search.space {key} holds {first_five(twice)} twice. Leave one out.")


def _check_whole(key: str, axis: Range, place: str) -> None:
    if not (isinstance(axis.low, int) and isinstance(axis.high, int)):
        raise InputError(
            f"{place}: search.space {key} takes whole numbers, but goes from {axis.low} to {axis.high}. "
            f"Give both without a point."
        )
