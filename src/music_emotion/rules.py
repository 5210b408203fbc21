"""Which settings of an experiment exclude each other."""

import re
from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING

from music_emotion.errors import InputError, shortened
from music_emotion.sections import N_ROWS_OF

if TYPE_CHECKING:
    from music_emotion.experiment import Experiment

TREES = ("boosting", "xgboost", "lightgbm")
_GENRE_KINDS, _EMOTION_KINDS = ("svm", *TREES), ("gp", "ridge", "svr", *TREES)

Rules = Iterator[tuple[bool, str]]  # whether a rule is broken, and the sentence that then helps


def check_experiment(experiment: "Experiment", place: str) -> None:
    """Refuse settings that exclude each other.

    Parameters
    ----------
    experiment : Experiment
    place : str
        Where its settings come from, for messages.

    Raises
    ------
    InputError
        Naming both settings and what to change.
    """
    groups = (_names, _data, _folds, _network, _loss, _training, _estimator, _second_round)
    for broken, sentence in chain.from_iterable(rules(experiment) for rules in groups):
        if broken:
            raise InputError(f"{place}: experiment '{shortened(experiment.name)}': {sentence}")


def names_folder(name: str) -> bool:
    """Whether a name can be that of a folder which is seen, on any file system."""
    is_plain = not re.search(r"[\x00-\x1f\x7f/]", name) and not name.startswith(".")
    return is_plain and 0 < len(name.encode(errors="replace")) <= 200


def _of_layout(experiment: "Experiment") -> bool:
    return experiment.data.windows == experiment.data.statistics == "none"


def _starts_pretrained(experiment: "Experiment") -> bool:
    return experiment.model.trunk != "none" or experiment.model.weights != "none"


def _names(experiment: "Experiment") -> Rules:
    yield (
        not names_folder(experiment.name),
        f"name is {shortened(experiment.name)!r}; it names a folder, so give letters, digits and dashes.",
    )
    yield not experiment.seeds, "seeds is empty. Give at least one, such as [0]."
    yield len(set(experiment.seeds)) < len(experiment.seeds), "seeds holds a seed twice."


def _data(experiment: "Experiment") -> Rules:
    data, augment = experiment.data, experiment.augment
    yield (
        bool(augment.frequency_masks or augment.time_masks) and data.normalise == "none",
        "augment masks put the mean in place of a band, but data.normalise 'none' knows no mean. "
        "Set augment.frequency_masks and augment.time_masks to 0, or data.normalise to 'band'.",
    )
    yield (
        augment.equaliser > 0 and data.normalise == "none",
        "augment.equaliser counts in deviations of a row, but data.normalise 'none' knows none. "
        "Set augment.equaliser to 0, or data.normalise to 'band'.",
    )
    yield (
        data.windows == "none" != data.statistics
        and experiment.model.kind != "mlp"
        and not experiment.is_classical,
        f"data.statistics gives one vector for a clip, of which model.kind '{experiment.model.kind}' makes "
        f"nothing. Give 'mlp' with excerpt.frames 1, or a classical.kind.",
    )
    yield (
        data.windows != "none" and experiment.task != "genre",
        "data.windows holds labels.npy, which are genres. Give the task 'genre'.",
    )


def _folds(experiment: "Experiment") -> Rules:
    yield (
        experiment.folds.valid_share + experiment.folds.test_share >= 1,
        "folds.valid_share and folds.test_share leave nothing to train on. Lower them.",
    )


def _network(experiment: "Experiment") -> Rules:
    model, whole = experiment.model, experiment.excerpt.frames == 0
    yield (
        model.kind == "conv" and model.readout == "flatten" and whole,
        "model.readout 'flatten' fixes the input length, but excerpt.frames is 0 (whole clips). "
        "Give excerpt.frames, such as 1293, or the readout 'mean-max' or 'attention'.",
    )
    yield (
        model.kind in {"conv", "mlp"} and not model.widths,
        f"model.kind '{model.kind}' has no layers, since model.widths is empty. Give at least one.",
    )
    n_rows, fewest = N_ROWS_OF[experiment.data.rows], model.smallest_input[0]
    yield (
        model.kind == "conv" and not experiment.is_classical and _of_layout(experiment) and n_rows < fewest,
        f"the network pools at least {fewest} rows, but data.rows '{experiment.data.rows}' has {n_rows}. "
        f"Give fewer model.widths, or a smaller model.pool_size or model.stem_pool.",
    )
    yield (
        model.kind == "mlp" and whole,
        "model.kind 'mlp' fixes the input length, but excerpt.frames is 0 (whole clips). Give "
        "excerpt.frames; statistics have 1.",
    )
    yield (
        not model.channels or len(set(model.channels)) < len(model.channels),
        f"model.channels is {model.channels}; give one to three different ones.",
    )


def _loss(experiment: "Experiment") -> Rules:
    loss, is_emotion = experiment.loss, experiment.task == "emotion"
    yield (
        is_emotion and loss.squared == 0,
        "loss.squared is 0, but the other losses know no scale, so folds could not be pooled in the "
        "targets' units. Give loss.squared a small weight, such as 0.1.",
    )
    yield (
        loss.rank_normal and not loss.standardise,
        "loss.rank_normal puts normal scores in place of standardised targets, but loss.standardise is "
        "false. Give loss.standardise true, or loss.rank_normal false.",
    )
    yield (
        loss.genre > 0 and (not is_emotion or experiment.is_classical or not _of_layout(experiment)),
        "loss.genre gives an emotion network a second head, which learns from the genre set's arrays. "
        "Set it to 0, or give the task 'emotion', and 'none' for classical.kind, data.windows and "
        "data.statistics.",
    )
    yield (
        loss.genre > 0 and experiment.excerpt.frames == 0,
        "loss.genre puts excerpts of two sets into one batch, but excerpt.frames is 0 (whole clips). "
        "Give excerpt.frames, such as 256, or loss.genre 0.",
    )


def _training(experiment: "Experiment") -> Rules:
    train = experiment.train
    yield (
        train.patience > 0 and train.select == "last",
        "train.patience stops early, but train.select 'last' keeps the last epoch. "
        "Give train.select 'best-score' or 'best-loss', or train.patience 0.",
    )
    yield (
        train.frozen_epochs > 0 and not _starts_pretrained(experiment),
        "train.frozen_epochs freezes a trunk of random weights. Give model.trunk or model.weights.",
    )
    yield (
        train.keep_last and train.select == "last",
        "train.keep_last tests the last epoch beside the best, but train.select 'last' selects none. "
        "Give train.select 'best-score' or 'best-loss'.",
    )
    yield (
        train.keep_last and not experiment.has_repeats,
        "train.keep_last compares two epochs on test clips with labels, which folds lack. Give "
        "folds.split 'holdout'.",
    )


def _estimator(experiment: "Experiment") -> Rules:
    if not experiment.is_classical:
        return
    kind = experiment.classical.kind
    fitting = _GENRE_KINDS if experiment.task == "genre" else _EMOTION_KINDS
    yield (
        kind not in fitting,
        f"classical.kind '{kind}' is not for the task '{experiment.task}'. Give {', '.join(fitting)}.",
    )
    yield (
        kind == "boosting" and experiment.classical.clip_share < 1,
        "classical.kind 'boosting' fits its trees to all clips, but classical.clip_share is below 1. "
        "Give 1, or the kind 'lightgbm' or 'xgboost'.",
    )
    yield (
        experiment.data.rate == "beat",
        f"classical.kind '{kind}' sums up full-rate arrays, whose frames are equally long. "
        f"Give data.rate 'full'.",
    )
    yield (
        _starts_pretrained(experiment),
        f"classical.kind '{kind}' has no use for model.trunk and model.weights. Leave them 'none'.",
    )


def _second_round(experiment: "Experiment") -> Rules:
    pseudo = experiment.pseudo
    yield (
        not pseudo.clips or len(set(pseudo.clips)) < len(pseudo.clips),
        f"pseudo.clips is {list(pseudo.clips)}. Give 'test', 'genre' or both, each once.",
    )
    if not pseudo.teachers:
        return
    yield (
        experiment.task != "emotion" or experiment.has_repeats or not _of_layout(experiment),
        "pseudo.teachers give targets to the layout's unlabelled arrays, fold by fold. Give the task "
        "'emotion', folds.split 'folds' and no data.statistics or data.windows, or no teachers.",
    )
    yield (
        experiment.is_classical,
        f"classical.kind '{experiment.classical.kind}' is fitted again wherever it predicts, also without "
        f"pseudo.teachers. Give a network, or no teachers; an estimator can be a teacher.",
    )
