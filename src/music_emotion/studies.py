"""Studies: a run in ``runs/<study>/<row>`` for every row of a grid or trial of an Optuna search."""

import json
import math
import time
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import numpy as np
import pandas as pd
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from music_emotion import files
from music_emotion.config import differing_keys, experiment_to_dict
from music_emotion.evaluation.intervals import spread_of
from music_emotion.experiment_files import experiment_toml
from music_emotion.files import Diverged, InputError
from music_emotion.plots import draw_scores
from music_emotion.runs import read_experiment, seconds_of
from music_emotion.study_file import Row, Search, Study
from music_emotion.training.folds import run_experiment

BEST = "best.toml"  # in runs/<study>
_DIVERGED = "diverged.json"  # in runs/<study>/<row>

Claim = tuple[Row | Literal["wait", "done"], AbstractContextManager[Any]]


def run_study(study: Study, accelerator: Accelerator) -> pd.DataFrame:
    """Train every unfinished row, and write ``runs/<study>/table.csv`` after each.

    Processes started with the same study and folder share its rows, even across machines. The processes of
    one launcher train each row together.

    Parameters
    ----------
    study : Study
    accelerator : Accelerator
        Device, processes, precision.

    Returns
    -------
    pd.DataFrame
        One row per combination of settings, in the order of the file; for a search one per trial, best
        first. Empty in all processes but the main one. The columns are:

        - `row` and the settings.
        - `score`: mean Spearman correlation of the targets, or macro F1 of genres.
        - `low`, `high`: the 95 % interval of the score, or the smallest and largest of repeated holdouts.
        - All other scores, `deviation` over repeats, and `minutes` of training.
        - `trial` and `searched`: for a search, its number and the score that is maximised.
        - `problem`: how the training diverged, in place of scores. Delete the row's directory to train it
          again.

    Raises
    ------
    InputError
        When the folder holds trials of another study, or a row was trained with other settings or clips.
    """
    shared = _SharedStudy(study) if accelerator.is_main_process else None
    is_told = False
    while True:
        step, lock = shared.take() if shared else ("wait", nullcontext())
        (step,) = broadcast_object_list([step])
        if step == "done":
            return shared.write_results() if shared else pd.DataFrame()
        if step == "wait":  # every process sleeps, since a collective operation would time out
            if not is_told:
                accelerator.print("waiting for rows that other processes train ...", flush=True)
            is_told = True
            time.sleep(1)
            continue
        with lock:
            _train(step, accelerator)
            if shared:
                shared.finish(step)


def _train(row: Row, accelerator: Accelerator) -> None:
    """Train and score a row or pretrain its trunk; record it if the training diverges."""
    try:
        run_experiment(row.experiment, accelerator, row.place, pretraining=row.is_trunk, draw=draw_scores)
    except Diverged as error:  # raised in all processes, since they share the mean loss
        accelerator.free_memory()
        if accelerator.is_main_process:
            noted = {"problem": str(error.args[0]), "experiment": experiment_to_dict(row.experiment)}
            files.write_json(row.place / _DIVERGED, noted)
        accelerator.wait_for_everyone()
    except InputError as error:
        raise InputError(str(error).replace("another --name", "--runs another folder")) from None


class _SharedStudy:
    """The rows of a study, shared by all processes that see its folder.

    One lock guards ``trials.json`` and the table; it is free during training. Every row has its own lock,
    which the operating system releases when the process dies. So any process can resume an unfinished row
    whose lock is free. Trials with equal settings share a row.
    """

    def __init__(self, study: Study):
        self.study, self.folder, self.search = study, study.folder, study.file.search
        self.lines: dict[str, dict[str, Any]] = {}  # of finished rows, by name
        self.folder.mkdir(parents=True, exist_ok=True)
        shared = [study.differences, study.file.fixed, study.pretrain]  # equal if trials are comparable
        searched = json.dumps([*shared, list(self.search.space.items())]) if self.search else "a grid"
        self.held: dict[str, Any] = {"searched": searched, "trials": []}  # of trials.json

    def take(self) -> Claim:
        """Lock the next row to train, unfinished ones first; or return "wait" or "done"."""
        with files.awaited_lock(self.folder / "study.lock"):
            rows = self._rows()
            for row in rows:
                if claim := self._claim(row):
                    return claim
            while self.search and len(rows) < self.search.trials:
                rows.append(self._propose(self.search))
                if claim := self._claim(rows[-1]):
                    return claim
            return "done" if all(map(self._line, rows)) else "wait", nullcontext()

    def finish(self, row: Row) -> None:
        """Write the results so far, and print the result of a finished row."""
        line = self._line(row)
        if row.is_trunk:
            print(f"{row.name}: {line.get('problem', 'trained')}", flush=True)
            return
        table = self.write_results()
        n_rows = self.search.trials if self.search else len(self.study.rows)
        reached = f"{line['score']:.3f} [{line['low']:.3f}, {line['high']:.3f}]"
        if self.search:
            reached = f"{_searched(line):.3f}, best {table['searched'].max():.3f}"
        print(f"{len(table)} of {n_rows}: {row.name}: {line.get('problem', reached)}", flush=True)

    def write_results(self) -> pd.DataFrame:
        """Write the table, and for a search the best experiment; return the table."""
        with files.awaited_lock(self.folder / "study.lock"):
            lines = []
            for number, row in enumerate(self._rows()):
                if line := self._line(row):
                    trial = {"trial": number, **line, "searched": _searched(line)}
                    lines.append(trial if self.search else line)
            table = pd.DataFrame(lines).fillna({"problem": ""})
            for last in ("minutes", "searched", "problem"):  # the first line may lack scores
                if last in table:
                    table[last] = table.pop(last)
            if self.search:
                table = table.sort_values("searched", ascending=False, kind="stable", ignore_index=True)
                if table["searched"].notna().any():
                    best = read_experiment(self.folder / table["row"][0])
                    text = experiment_toml(best.model_copy(update={"name": f"{self.study.file.name}-best"}))
                    files.write_text(self.folder / BEST, f"# The best of {len(table)} trials.\n{text}\n")
            files.write_table(self.folder / "table.csv", table)
        return table

    def _rows(self) -> list[Row]:
        """All rows of a grid, or the row of each trial of a search so far."""
        path = self.folder / "trials.json"
        held = files.read_object(path) if path.exists() else self.held
        if held["searched"] != self.held["searched"]:
            raise InputError(
                f"{self.folder} holds the trials of another study: experiment, space or flags have changed "
                f"since. Give the study another name, or delete that directory."
            )
        if not path.exists():
            files.write_json(path, held)
        self.held = held
        if not self.search:
            return list(self.study.rows.values())
        return [self.study.proposed(params) for params in held["trials"]]

    def _propose(self, search: Search) -> Row:
        """The row that Optuna proposes next, given the scores so far."""
        import optuna
        from optuna.trial import TrialState, create_trial

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        trials, distributions = self.held["trials"], self.study.distributions
        # one seed per trial; otherwise a restarted process would repeat the first proposals
        seed = np.random.SeedSequence([search.seed, len(trials)]).generate_state(1)[0]
        sampler = optuna.samplers.TPESampler(seed=int(seed))
        known = optuna.create_study(sampler=sampler, direction="maximize")
        for params in trials:
            if line := self._line(self.study.proposed(params)):
                score = _searched(line)
                told: dict[str, Any] = {"value": score}
                if math.isnan(score):
                    told = {"state": TrialState.PRUNED}
                known.add_trial(create_trial(params=params, distributions=distributions, **told))
        trials.append(known.ask(distributions).params)
        files.write_json(self.folder / "trials.json", self.held)
        return self.study.proposed(trials[-1])

    def _claim(self, row: Row) -> Claim | None:
        """Lock a row, or its trunk if that is not trained yet; None if it is finished or locked elsewhere."""
        if self._line(row):
            return None
        step = row.trunk if row.trunk is not None and not self._line(row.trunk) else row
        step.place.mkdir(parents=True, exist_ok=True)
        held = files.lock(step.place / "row.lock")
        return None if held is None else (step, held)

    def _line(self, row: Row) -> dict[str, Any]:
        """The line of a row in the table; empty until the row is finished."""
        if not self.lines.get(row.name):
            self.lines[row.name] = _line_of(row)
        return self.lines[row.name]


def _problem_of(row: Row) -> str:
    """How the training of a row or of its trunk diverged; empty if it did not."""
    path = row.place / _DIVERGED
    if path.exists():
        noted = files.read_object(path)
        if _is_experiment_of(row, noted["experiment"]):
            return str(noted["problem"])
    return _problem_of(row.trunk) if row.trunk is not None else ""


def _is_experiment_of(row: Row, resolved: dict[str, Any]) -> bool:
    """Whether a resolved experiment equals the row's, apart from the path of the row's trunk."""
    differing = differing_keys(resolved, experiment_to_dict(row.experiment))
    return differing == [] or (row.trunk is not None and differing == ["model.trunk"])


def _line_of(row: Row) -> dict[str, Any]:
    """The line of a row: name, settings, score with interval and deviation, minutes.

    Empty unless the row was trained with its current settings and was scored or diverged.
    """
    problem, path = _problem_of(row), row.place / "scores.json"
    is_scored = path.exists() and _is_experiment_of(row, experiment_to_dict(read_experiment(row.place)))
    if not problem and not is_scored:
        return {}
    line = {"row": row.name, **row.settings, **dict.fromkeys(("score", "low", "high"), math.nan)}
    minutes = sum(seconds_of(fold) or 0.0 for fold in row.place.glob("seed*/fold*")) / 60
    if problem:
        return line | {"n": 0, "repeats": 0, "minutes": minutes, "problem": problem}
    scores = files.read_object(path)
    metric = "macro_f1" if row.experiment.task == "genre" else "mean"
    if row.experiment.has_repeats:
        tested, repeats = scores["repeated"]["test"], scores["repeats"]
        n, deviation = repeats[0]["n_test"], tested[metric]["sd"]
        valid = {"valid": scores["repeated"]["valid"][metric]["value"]}
    else:
        tested, repeats, valid = scores["pooled"], scores["per_seed"], {}
        n, deviation = tested[metric]["n"], spread_of(scores, [metric])["seeds"][1]
    line |= {"score": tested[metric]["value"], "low": tested[metric]["low"], "high": tested[metric]["high"]}
    line |= {"n": n, "repeats": len(repeats), "deviation": math.nan if deviation is None else deviation}
    return line | valid | {name: each["value"] for name, each in tested.items()} | {"minutes": minutes}


def _searched(line: dict[str, Any]) -> float:
    """The score that a search maximises; NaN where the training diverged.

    For repeated holdouts it is the mean validation score. Test clips of one repeat are validation clips of
    another, so the best row's test score is still slightly optimistic. For folds it is the out-of-fold
    score, so the best row's score is optimistic.
    """
    return float(line.get("valid", line["score"]))
