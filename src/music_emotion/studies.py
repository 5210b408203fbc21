"""Studies: every row of a study's table is a run in ``runs/<study>/<row>`` and a trial of Optuna's.

The trials are in ``runs/<study>/journal.log``.
"""

import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from filelock import FileLock, Timeout

from music_emotion import files
from music_emotion.config import Experiment, experiment_to_dict
from music_emotion.experiment_files import experiment_toml
from music_emotion.files import Diverged, InputError
from music_emotion.plots import draw_scores
from music_emotion.runs import read_experiment, seconds_of
from music_emotion.study_file import Row, Study
from music_emotion.training.folds import run_experiment, run_pretraining

if TYPE_CHECKING:
    import optuna

BEST = "best.toml"  # in runs/<study>
_DIVERGED = "diverged.json"  # in runs/<study>/<row>
_POLL_SECONDS = 1.0


def run_study(study: Study, runs: Path, accelerator: Accelerator) -> pd.DataFrame:
    """Train every row that is not finished, and write ``runs/<study>/table.csv`` after each.

    Processes that are started with the same study and folder share its rows, on other machines, too. The
    processes of one launcher train each row together.

    Parameters
    ----------
    study : Study
    runs : Path
        Folder of all runs.
    accelerator : Accelerator
        Device, processes, precision.

    Returns
    -------
    pd.DataFrame
        One row per setting, in the order of the file: its name and settings, the score (mean Spearman
        correlation of the targets, or macro F1 of genres) with its 95 % interval (of repeated holdouts the
        smallest and largest), every other score, the deviation over repeats, and minutes of training. Of a
        search one row per trial, the best first, with its number and `searched`, by which the best is
        chosen. A row whose training diverged has no score, but a `problem`, and is not trained again before
        its directory is deleted. Empty in all processes but the main one.

    Raises
    ------
    InputError
        When the folder's trials are of another search, or a row was trained with other settings or clips.
    """
    folder = runs / study.file.name
    shared = _SharedStudy(study, folder) if accelerator.is_main_process else None
    is_told = False
    while True:
        taken: tuple[Row, FileLock] | str = shared.take() if shared else "wait"
        (step,) = broadcast_object_list([taken if isinstance(taken, str) else taken[0]])
        if step == "done":
            return shared.write_results() if shared else pd.DataFrame()
        if step == "wait":  # all processes wait here, since the launcher's own waiting has an end
            if not is_told:
                accelerator.print("waiting for rows that other processes train ...", flush=True)
            is_told = True
            time.sleep(_POLL_SECONDS)
            continue
        with nullcontext() if isinstance(taken, str) else taken[1]:
            _train(step, folder, accelerator)
            if shared:
                shared.finish(step)


def _train(row: Row, folder: Path, accelerator: Accelerator) -> None:
    """Train what is not trained yet of a row, and score it, or note that it diverged."""
    place, experiment = folder / row.name, row.experiment
    try:
        if row.is_trunk:
            run_pretraining(experiment, accelerator, place)
        else:
            if row.trunk is not None:
                fold = folder / row.trunk.name / f"seed{row.trunk.experiment.seeds[0]}" / "fold0"
                trunk = str(fold / "model.safetensors")
                experiment = _with_trunk(experiment, trunk)
            run_experiment(experiment, accelerator, place)
        if accelerator.is_main_process:
            draw_scores(place)
    except Diverged as error:  # in all processes, since their mean loss is
        accelerator.free_memory()
        if accelerator.is_main_process:
            noted = {"problem": str(error.args[0]), "experiment": experiment_to_dict(row.experiment)}
            files.write_json(place / _DIVERGED, noted)
        accelerator.wait_for_everyone()
    except InputError as error:
        raise InputError(str(error).replace("another --name", "--runs another folder")) from None


def _with_trunk(experiment: Experiment, trunk: str | None) -> Experiment:
    return experiment.model_copy(update={"model": experiment.model.model_copy(update={"trunk": trunk})})


class _SharedStudy:
    """The trials of a study, which all processes that see its folder do together.

    A trial is RUNNING from its proposal until its row is trained. One lock guards the journal, and nobody
    holds it while training. Every row has a lock of its own, which the operating system takes from a process
    that dies. So a RUNNING trial whose row nobody holds goes on, in the same directory, with whoever sees it.
    Several trials may have the same row, which is trained once.
    """

    def __init__(self, study: Study, folder: Path):
        self.study, self.search, self.folder = study, study.file.search, folder
        self.lines: dict[str, dict[str, Any]] = {}  # of finished rows, by their names
        folder.mkdir(parents=True, exist_ok=True)
        self.lock = FileLock(folder / "study.lock")
        with self._alone():
            self.trials = self._open()

    def take(self) -> "tuple[Row, FileLock] | Literal['wait', 'done']":
        """A row to train, with its lock; the first is one whose process has died."""
        with self._alone():
            self._tell()
            for _, row in self._asked():
                if claim := self._claim(row):
                    return claim
            while proposed := self._ask():
                self._tell()
                if claim := self._claim(proposed):
                    return claim
            return "done" if all(self._line(row) for _, row in self._asked()) else "wait"

    def finish(self, row: Row) -> None:
        """Tell Optuna the score of a trained row, and write and print the results so far."""
        problem = problem_of(row, self.folder)
        if row.is_trunk:
            print(f"{row.name}: {problem or 'trained'}", flush=True)
            return
        table, line = self.write_results(), self._line(row)
        n_rows = self.search.trials if self.search else len(self.study.rows)
        reached = f"{line['score']:.3f} [{line['low']:.3f}, {line['high']:.3f}]"
        if self.search:
            reached = f"{searched_score(row, self.folder):.3f}, best {table['searched'].max():.3f}"
        print(f"{len(table)} of {n_rows}: {row.name}: {problem or reached}", flush=True)

    def write_results(self) -> pd.DataFrame:
        """Write the table, and of a search the best experiment; gives the table."""
        with self._alone():
            self._tell()
            lines = [line for row in self.study.rows.values() if (line := self._line(row))]
            if self.search:
                lines = [
                    {"trial": trial.number, **line, "searched": trial.value}
                    for trial, row in self._asked()
                    if (line := self._line(row))
                ]
            table = _table_of(lines)
            if self.search:
                table = table.astype({"searched": float})
                table = table.sort_values("searched", ascending=False, kind="stable", ignore_index=True)
                if table["searched"].notna().any():
                    best = read_experiment(self.folder / table["row"][0])
                    text = experiment_toml(best.model_copy(update={"name": f"{self.study.file.name}-best"}))
                    files.write_text(self.folder / BEST, f"# The best of {len(table)} trials.\n{text}\n")
            files.write_table(self.folder / "table.csv", table)
        return table

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the study's lock, and cut off the half line of a process that died while it wrote."""
        with self.lock:
            journal = self.folder / "journal.log"
            written = journal.read_bytes() if journal.exists() else b""
            if written and not written.endswith(b"\n"):  # Optuna can't read past it
                with journal.open("rb+") as file:
                    file.truncate(written.rfind(b"\n") + 1)
            yield

    def _open(self) -> "optuna.Study":
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        # our lock is held already; Optuna's own would outlive a process that dies
        backend = JournalFileBackend(str(self.folder / "journal.log"), self.lock)  # type: ignore[arg-type]
        name, storage = self.study.file.name, JournalStorage(backend)
        trials = optuna.create_study(
            storage=storage, study_name=name, direction="maximize", load_if_exists=True
        )
        held = self.study.differences, self.study.file.fixed, self.study.pretrain
        # what trials must share to be compared; rows of a grid are compared with their directories
        described = json.dumps([*held, list(self.search.space.items())]) if self.search else "grid"
        if trials.user_attrs.get("searched", described) != described:
            raise InputError(
                f"{self.folder} holds the trials of another search: experiment, space or flags have changed "
                f"since. Give the study another name, or delete that directory."
            )
        trials.set_user_attr("searched", described)
        return trials

    def _asked(self) -> "list[tuple[optuna.trial.FrozenTrial, Row]]":
        """Every trial that knows its row, but not those of rows that a grid has no more."""
        trials = self.trials.get_trials(deepcopy=False)
        named = [(trial, trial.user_attrs["row"]) for trial in trials if "row" in trial.user_attrs]
        if self.search:
            return [
                (trial, self.study.rows.get(name) or self.study.proposed(trial.params))
                for trial, name in named
            ]
        return [(trial, self.study.rows[name]) for trial, name in named if name in self.study.rows]

    def _ask(self) -> Row | None:
        """A new trial's row; None when there are enough."""
        from optuna.samplers import TPESampler

        asked = self._asked()
        left = self.study.rows.keys() - {row.name for _, row in asked}
        if len(asked) >= self.search.trials if self.search else not left:
            return None
        if self.search:
            # by its number, since the sampler of a process that starts again would begin again, too
            number = len(self.trials.get_trials(deepcopy=False))
            seed = np.random.SeedSequence([self.search.seed, number]).generate_state(1)[0]
            self.trials.sampler = TPESampler(seed=int(seed))
        trial = self.trials.ask(self.study.distributions)
        if self.search:
            row = self.study.proposed(trial.params)
        else:
            row = next(each for each in self.study.rows.values() if each.name in left)
        trial.set_user_attr("row", row.name)
        return row

    def _claim(self, row: Row) -> tuple[Row, FileLock] | None:
        """The row, or first its trunk, with its lock; None where it is finished or another process has it."""
        if self._line(row):
            return None
        step = row.trunk if row.trunk is not None and not _is_finished(row.trunk, self.folder) else row
        (self.folder / step.name).mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / step.name / "row.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return None
        return step, lock

    def _tell(self) -> None:
        """Finish the running trials whose rows are finished, and those that never knew their row."""
        from optuna.trial import TrialState

        for trial in self.trials.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if "row" not in trial.user_attrs:  # their process has died before
                self.trials.tell(trial.number, state=TrialState.FAIL)
        for trial, row in self._asked():
            if trial.state == TrialState.RUNNING and self._line(row):
                score = searched_score(row, self.folder)
                if math.isnan(score):
                    self.trials.tell(trial.number, state=TrialState.PRUNED)
                else:
                    self.trials.tell(trial.number, score)

    def _line(self, row: Row) -> dict[str, Any]:
        """The line of a row; empty while it is not finished."""
        if row.name not in self.lines and _is_finished(row, self.folder):
            self.lines[row.name] = _row_line(row, self.folder)
        return self.lines.get(row.name, {})


def problem_of(row: Row, folder: Path) -> str:
    """Where and in which epoch the training of the row, or of its trunk, diverged; else empty."""
    path = folder / row.name / _DIVERGED
    if path.exists():
        noted = files.read_json(path)  # about this row, if it was trained by the same experiment
        if noted["experiment"] == experiment_to_dict(row.experiment):
            return str(noted["problem"])
    return problem_of(row.trunk, folder) if row.trunk is not None else ""


def _is_finished(row: Row, folder: Path) -> bool:
    """Whether the row is on disk, scored or diverged, and was trained with its present settings."""
    if problem_of(row, folder):
        return True
    if not (folder / row.name / "scores.json").exists():
        return False
    held = read_experiment(folder / row.name)  # with the path of its trunk, which a row doesn't know
    return _with_trunk(held, row.experiment.model.trunk) == row.experiment


def _metric(experiment: Experiment) -> str:
    return "macro_f1" if experiment.task == "genre" else "mean"


def _row_line(row: Row, folder: Path) -> dict[str, Any]:
    """The line of a finished row: name, settings, score with interval and deviation, minutes."""
    place, metric, problem = folder / row.name, _metric(row.experiment), problem_of(row, folder)
    line = {
        "row": row.name,
        **row.settings,
        "score": math.nan,
        "low": math.nan,
        "high": math.nan,
        "n": 0,
        "repeats": 0,
    }
    if not problem:
        scores = files.read_json(place / "scores.json")
        if row.experiment.has_repeats:
            tested, repeats = scores["repeated"]["test"], scores["repeats"]
            n, deviation = repeats[0]["n_test"], tested[metric]["sd"]
        else:
            tested, repeats = scores["pooled"], scores["per_seed"]
            n, deviation = tested[metric]["n"], scores["spread"]["over_seeds"][metric]
        line |= {
            "score": tested[metric]["value"],
            "low": tested[metric]["low"],
            "high": tested[metric]["high"],
        }
        line |= {"n": n, "repeats": len(repeats), "deviation": math.nan if deviation is None else deviation}
        if row.experiment.has_repeats:
            line["valid"] = searched_score(row, folder)
        line |= {name: each["value"] for name, each in tested.items()}
    line["minutes"] = sum(seconds_of(fold) or 0.0 for fold in place.glob("seed*/fold*")) / 60
    return line | ({"problem": problem} if problem else {})


def _table_of(lines: list[dict[str, Any]]) -> pd.DataFrame:
    """A table of lines, whose last column is `problem` where one of them has a problem."""
    table = pd.DataFrame(lines)
    if "problem" not in table:
        return table
    columns = [key for key in max(lines, key=len) if key != "problem"]  # a diverged row has fewer
    return table[[*columns, "problem"]].fillna({"problem": ""})


def searched_score(row: Row, folder: Path) -> float:
    """What a search makes as large as it can; NaN where the training diverged.

    Of repeated holdouts it is the mean score of the validation clips, so that the test clips don't choose.
    The test clips of one repeat validate another, however, so the best row's test score is a little too good
    as well. Folds have no third part: their out-of-fold score chooses, so the best row's own is too good.
    """
    if problem_of(row, folder):
        return math.nan
    scores = files.read_json(folder / row.name / "scores.json")
    chosen = scores["repeated"]["valid"] if row.experiment.has_repeats else scores["pooled"]
    return float(chosen[_metric(row.experiment)]["value"])
