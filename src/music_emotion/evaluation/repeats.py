"""Runs whose every seed trains, validates and tests on clips of its own: mean and deviation of scores."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import log_loss

from music_emotion.config import Experiment, Task
from music_emotion.datasets.splits import Fold
from music_emotion.evaluation.genre_report import class_scores, write_report
from music_emotion.evaluation.scores import target_scores
from music_emotion.files import read_predictions, write_json

_PARTS = {"test": "test clips", "last": "test clips, last epoch", "valid": "validation clips"}
_LEAST_PROBABLE = 1e-7
_FILES = {"test": "test.csv", "last": "test-last.csv", "valid": "valid.csv"}


def score_repeats(directory: Path, experiment: Experiment, folds: Sequence[Fold]) -> str:
    """Write `scores.json` of a run of repeats, and of genres reports over all its test predictions.

    Parameters
    ----------
    directory : Path
        ``runs/<name>``.
    experiment : Experiment
        What the run was.
    folds : sequence of Fold
        With test clips of their own; all are predicted.

    Returns
    -------
    str
        The scores in a few lines.
    """
    repeats = [_score_fold(directory / fold.folder, experiment.task, fold) for fold in folds]
    scores: dict[str, Any] = {
        "repeats": repeats,
        "repeated": {
            part: _over_repeats([repeat[part] for repeat in repeats]) for part in _FILES if part in repeats[0]
        },
        "selected_on_validation": False,  # the clips that are scored have chosen nothing
    }
    if experiment.task == "genre":
        for part, mark in {"test": "", "last": "-last"}.items():
            if part in repeats[0]:
                _write_report(directory, folds, part, mark)
    write_json(directory / "scores.json", scores)
    return repeats_summary(directory.name, scores)


def repeats_summary(name: str, scores: dict[str, Any]) -> str:
    """Scores in a few lines: mean over the repeats, deviation, smallest and largest."""
    n_repeats = len(scores["repeats"])
    sizes = sorted({repeat["n_test"] for repeat in scores["repeats"]})
    size = f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
    lines = [f"{name} ({n_repeats} repeats, {size} test clips each; mean, deviation, range):"]
    for part, title in _PARTS.items():
        if part not in scores["repeated"]:
            continue
        lines.append(f"  {title}")
        for metric, score in scores["repeated"][part].items():
            deviation = "" if score["sd"] is None else f" ± {score['sd']:.3f}"
            lines.append(
                f"    {metric:<14} {score['value']:.3f}{deviation}  [{score['low']:.3f}, {score['high']:.3f}]"
            )
    return "\n".join(lines)


def _score_fold(place: Path, task: Task, fold: Fold) -> dict[str, Any]:
    test = _test(fold)
    parts = {"valid": fold.valid, "test": test, "last": test}
    scores = {
        part: _scores(task, clips.truth, read_predictions(place / _FILES[part]))
        for part, clips in parts.items()
        if (place / _FILES[part]).exists()
    }
    sizes = {"n_train": len(fold.training), "n_valid": len(fold.valid), "n_test": len(test)}
    return {"seed": fold.seed, **sizes, **scores}


def _test(fold: Fold) -> Any:
    if fold.test is None:
        raise ValueError("a fold of a run of repeats has test clips of its own")
    return fold.test


def _scores(task: Task, truth: pd.DataFrame, predictions: pd.DataFrame) -> dict[str, float]:
    if task == "emotion":
        return target_scores(truth, predictions[list(truth)])
    known = truth.loc[predictions.index].to_numpy().argmax(axis=1)
    likely = np.clip(predictions[list(truth)].to_numpy(), _LEAST_PROBABLE, 1)  # of a class never trained on
    loss = log_loss(known, likely / likely.sum(axis=1, keepdims=True), labels=range(truth.shape[1]))
    return class_scores(truth, predictions) | {"loss": float(loss)}


def _over_repeats(scores: list[dict[str, float]]) -> dict[str, dict[str, float | None]]:
    table = pd.DataFrame(scores)
    return {
        str(metric): {
            "value": float(values.mean()),
            "sd": float(values.std()) if len(values) > 1 else None,
            "low": float(values.min()),
            "high": float(values.max()),
        }
        for metric, values in table.items()
    }


def _write_report(directory: Path, folds: Sequence[Fold], part: str, mark: str) -> None:
    """Report over the test clips of all folds, each as often as it is tested."""
    known, predicted = [], []
    for fold in folds:
        truth = _test(fold).truth
        predictions = read_predictions(directory / fold.folder / _FILES[part]).loc[truth.index, list(truth)]
        known.append(truth.to_numpy().argmax(axis=1))
        predicted.append(predictions.to_numpy().argmax(axis=1))
    outputs = list(folds[0].training.outputs)
    write_report(np.concatenate(known), np.concatenate(predicted), outputs, directory, mark)
