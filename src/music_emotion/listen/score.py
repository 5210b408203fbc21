"""Score models on sets that they have not learnt from, and their time lines on labels over time."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import root_mean_squared_error
from tqdm import tqdm

from music_emotion.config import DataSection, Experiment
from music_emotion.datasets.clip_set import ClipSet, join, load_clip_set
from music_emotion.datasets.clip_table import read_clips, target_columns
from music_emotion.datasets.extract import extract_clips
from music_emotion.datasets.labels import read_groups
from music_emotion.datasets.layout import card_of, find_set, read_scales, read_settings
from music_emotion.datasets.parallel import Workers
from music_emotion.datasets.splits import Fold
from music_emotion.evaluation.intervals import resampled_measures, resampled_scores, resamples, with_interval
from music_emotion.evaluation.metrics import MEASURES, concordance
from music_emotion.evaluation.scores import read_run_groups
from music_emotion.failures import collecting
from music_emotion.files import (
    InputError,
    first_five,
    read_predictions,
    read_truth,
    regular_file,
)
from music_emotion.listen.model import WEIGHTS, EmotionModel, check_compatible, model_files
from music_emotion.models.card import read_card
from music_emotion.models.network import load_model
from music_emotion.training.accelerator import make_accelerator
from music_emotion.training.leaks import find_leaks
from music_emotion.training.predict import predict_clips

SHIPPED = Path("package")  # stands for the model in the package
OF_CURVES = {"curve_rmse": "RMSE over time", "curve_ccc": "CCC over time"}
TITLES = {"spearman": "Spearman"} | MEASURES | OF_CURVES
_STEP_SECONDS = 0.5  # of labels over time
_COLUMNS = ["model", "set", "target", "by", "measure", "value", "low", "high", "n"]


def score_sets(
    models: Sequence[Path],
    sets: Sequence[Path],
    names: Mapping[str, str],
    workers: Workers | None = None,
) -> tuple[pd.DataFrame, list[str]]:
    """Score models on the labelled clips of sets.

    A set that a run has learnt from is scored by the run's own out-of-fold or test predictions, any other
    set by all its labelled clips. Recordings that a run has learnt from are left out, if its training clips
    are there.

    Parameters
    ----------
    models : sequence of Path
        Runs of emotion networks, whose folds are averaged, or model files; `SHIPPED` for the model in the
        package.
    sets : sequence of Path
        Tables of clips, as for `read_clips`, which are extracted to ``<table>-arrays`` beside them; or
        folders that `extract_clips` wrote.
    names : mapping of str to str
        Targets of the sets to those of the models that predict them, such as "arousal" to "energy". Other
        targets are paired by name.
    workers : Workers, optional
        For the extraction; one process per core by default.

    Returns
    -------
    table : pd.DataFrame
        One row per model, set, target and measure (Spearman's correlation, and `resampled_measures`), with
        95 % intervals; `by` is the model's target.
    notes : list of str
        Sentences on what was left out.

    Raises
    ------
    InputError
        When a model or a set can't be read, or they don't fit each other.
    """
    rows, notes = list[dict[str, Any]](), list[str]()
    for place in sets:
        root = place if place.is_dir() else place.with_name(f"{place.stem}-arrays")
        if root != place:
            table = read_clips(place)
            if not target_columns(table):
                raise InputError(f"{place} has no targets to score on. Name a table with ratings.")
            card = card_of(place)  # clips that can't be read are named and left out
            print(extract_clips(table, root, "emotion", workers=workers, max_failed=1.0, card=card))
        clips, groups = _labelled(root)
        scales = read_scales(find_set(root, "emotion"))
        for model in models:
            truth, predicted, of_clips, said = _predicted(model, root, clips, groups)
            notes += [f"{model.name} on {place}: {said}"] if said else []
            pairs = {str(t): ours for t in truth if (ours := names.get(str(t), str(t))) in predicted}
            if not pairs:
                notes.append(_unpaired(model, predicted, place, truth))
                continue
            known, guessed = truth[[*pairs]], predicted[[*pairs.values()]].set_axis([*pairs], axis=1)
            found = {"spearman": resampled_scores("emotion", known, guessed, of_clips).intervals()}
            own = {name: scale for name, scale in scales.items() if name in pairs}
            found |= resampled_measures(known, guessed, of_clips, own)
            rows += [
                {"model": model.name, "set": str(place), "target": t, "by": by, "measure": m, **each[t]}
                for m, each in found.items()
                for t, by in pairs.items()
                if t in each
            ]
    return pd.DataFrame(rows, columns=_COLUMNS), notes


def _unpaired(model: Path, ours: Iterable[object], place: Path, theirs: Iterable[object]) -> str:
    ours, theirs = (", ".join(map(str, names)) for names in (ours, theirs))
    return f"{model.name} predicts {ours}; {place} has {theirs}. Pair them with --map."


def _labelled(root: Path) -> tuple[ClipSet, pd.Series | None]:
    """All labelled clips of a set, with their groups, if all have one."""
    data, folder = DataSection(root=str(root)), find_set(root, "emotion")
    sets, groups = [load_clip_set(data, "emotion", "train")], []
    if (folder / "test_labels.txt").exists():
        sets.append(load_clip_set(data, "emotion", "test", sets[0].outputs))
    clips = join(sets)
    for split, each in zip(("train", "test"), sets, strict=False):
        path = folder / f"groups-{split}.csv"
        known = read_groups(path) if path.exists() else pd.Series(dtype=str)
        groups.append(known.reindex(each.ids))
    of_clips = pd.concat(groups).set_axis(clips.ids)
    return clips, None if of_clips.isna().any() else of_clips


def _predicted(
    model: Path, root: Path, clips: ClipSet, groups: pd.Series | None
) -> tuple[pd.DataFrame, pd.DataFrame, pd.Series | None, str]:
    """Truth, predictions and groups of clips that a model has not learnt from, and what to say of them."""
    files = model_files(WEIGHTS if model == SHIPPED else model)
    files = [file for file in files if read_card(file).experiment.task == "emotion"]
    if not files:
        raise InputError(f"{model} predicts genres alone. Name a model of targets.")
    learnt = read_card(files[0]).experiment
    if model != SHIPPED and root.resolve() in [
        Path(each).resolve() for each in (learnt.data.root, *learnt.data.more)
    ]:
        return *_held_out(model, learnt), "the run's own out-of-fold or test predictions."
    check_compatible(files)
    arrays, ours = read_settings(find_set(root, "emotion")), read_card(files[0]).features
    if arrays != ours:
        differ = f"{root} has arrays of {arrays!r}, but {model} learnt from {ours!r}"
        raise InputError(f"{differ}. Extract the set with the same settings.")
    said = ""
    try:
        theirs = load_clip_set(learnt.data, "emotion", "train")
    except (InputError, OSError):
        said = "its training clips are not here, so recordings that both share are not left out."
    else:
        both = join([ClipSet.unlabelled(theirs.store), ClipSet.unlabelled(clips.store)])
        assert both.origin is not None
        is_theirs = both.origin.loc[both.ids, "set"].to_numpy() == 0
        fold = Fold(0, 0, both.select(is_theirs), both.select(is_theirs[:0]))
        pairs = find_leaks([fold], both.select(~is_theirs))[0]
        if len(shared := both.origin.loc[pairs["duplicate"], "id"].unique()):
            said = f"{len(shared)} clips of recordings that it knows are left out: {first_five(shared)}."
            clips = clips.select(~np.isin(clips.ids, shared))
    tables = [predict_clips(load_model(file), clips, make_accelerator()) for file in files]
    return clips.truth, pd.concat(tables).groupby(level="Id").mean(), groups, said


def _held_out(run: Path, experiment: Experiment) -> tuple[pd.DataFrame, pd.DataFrame, pd.Series | None]:
    """Truth, predictions and groups of the clips that the folds of a run have held out."""
    known = run / ("truth-test.csv" if experiment.has_repeats else "truth.csv")
    if not experiment.has_repeats:
        return read_truth(known), read_predictions(run / "oof.csv"), read_run_groups(known)
    tables = [read_predictions(path) for path in sorted(run.glob("seed*/fold0/test.csv"))]
    predicted = pd.concat(tables).groupby(level="Id").mean()
    return read_truth(known).loc[predicted.index], predicted, read_run_groups(known)


def score_curves(
    models: Sequence[Path], tables: Sequence[Path], names: Mapping[str, str], window_seconds: float = 6.0
) -> tuple[pd.DataFrame, list[str]]:
    """Score the time lines of models on labels over time, song by song.

    A label is compared with the prediction of the window around it. Songs are read whole.

    Parameters
    ----------
    models, names
        As for `score_sets`.
    tables : sequence of Path
        Tables of clips, with labels over time in ``<table>-curves.csv`` as `write_dataset` writes them.
    window_seconds : float
        Length of the windows.

    Returns
    -------
    table : pd.DataFrame
        As from `score_sets`: means over songs of the root mean squared error and of Lin's concordance, with
        95 % intervals from resampled songs, and the number of songs.
    notes : list of str
        Songs that could not be read.

    Raises
    ------
    InputError
        When a model or a table can't be read.
    """
    rows, notes = list[dict[str, Any]](), list[str]()
    heard_by = {
        model: EmotionModel.from_pretrained(*([] if model == SHIPPED else [model])) for model in models
    }
    for table in tables:
        path = regular_file(table.with_name(f"{table.stem}-curves.csv"), "The table of labels over time")
        curves, clips = pd.read_csv(path), read_clips(table).set_index("id")
        for model, heard in heard_by.items():
            pairs = {t: by for t in curves.columns[2:] if (by := names.get(t, t)) in heard.targets}
            if not pairs:
                notes.append(_unpaired(model, heard.targets, table, curves.columns[2:]))
                continue
            songs, failures = list[dict[str, Any]](), dict[str, str]()
            for clip_id, part in tqdm(curves.groupby("id"), "time lines", unit="song"):
                song = str(clips["path"].get(clip_id))
                with collecting(failures, song):
                    line = heard.timeline(song, window_seconds, _STEP_SECONDS)
                    centres = (line["start_seconds"] + line["end_seconds"]) / 2
                    for target, by in pairs.items():
                        known = part[target].to_numpy()
                        guessed = np.interp(part["seconds"] + _STEP_SECONDS / 2, centres, line[by])
                        rmse, ccc = root_mean_squared_error(known, guessed), concordance(known, guessed)
                        songs.append({"target": target, "curve_rmse": rmse, "curve_ccc": ccc})
            notes += failures
            for name, each in pd.DataFrame(songs, columns=["target", *OF_CURVES]).groupby("target"):
                for measure in OF_CURVES:
                    values = each[measure].to_numpy()
                    drawn = np.concatenate([values[chosen].mean(axis=1) for chosen in resamples(len(values))])
                    score = with_interval(float(values.mean()), drawn, len(values))
                    of = {"model": model.name, "set": str(table), "target": name, "by": pairs[str(name)]}
                    rows.append(of | {"measure": measure} | score)
    return pd.DataFrame(rows, columns=_COLUMNS), notes
