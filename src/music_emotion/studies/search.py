"""A search: Optuna proposes the rows of a study, and learns from their scores."""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from accelerate import Accelerator
from filelock import FileLock

from music_emotion.experiment_files import experiment_toml
from music_emotion.files import InputError, write_table, write_text
from music_emotion.runs import read_experiment
from music_emotion.studies.search_space import Search, Space
from music_emotion.studies.shared_rows import Claim, claim_row, claimed_rows, run_row
from music_emotion.studies.study_row import Row, Varied, problem_of, row_line, searched_score, table_of

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

BEST = "best.toml"  # in runs/<study>


def run_search(
    folder: Path, varied: Varied, search: Search, space: Space, accelerator: Accelerator
) -> pd.DataFrame:
    """Train what Optuna proposes until all trials are done, in this process and in others.

    Parameters
    ----------
    folder : Path
        ``runs/<study>``, which holds the trials (`journal.log`), the table and the best experiment.
    varied : Varied
        Makes rows.
    search : Search
    space : Space
        Of the search.
    accelerator : Accelerator
        Device, processes, precision. Only its main process talks to Optuna.

    Returns
    -------
    pd.DataFrame
        One row per trial, the best first: the columns of a grid's table, the trial's number and
        `searched`, by which the best is chosen, and which is NaN of a row that diverged. Empty in all
        processes but the main one.

    Raises
    ------
    InputError
        When Optuna is missing, or the folder's trials are of another search.
    """
    if not accelerator.is_main_process:
        for row in claimed_rows(lambda: "wait", lambda _: None, accelerator):
            run_row(row, folder, accelerator)
        return pd.DataFrame()
    shared = SharedSearch(folder, varied, search, space)
    for row in claimed_rows(shared.take, shared.finish, accelerator):
        run_row(row, folder, accelerator)
    return shared.write_results()  # again, since a process may have died between telling and writing


class SharedSearch:
    """The trials of a search, which all processes that see its folder do together.

    A trial is RUNNING from its proposal until its row is trained. All that is written is written
    under one lock over the whole search, which no process holds while it trains; the row it trains
    has a lock of its own, taken together with the proposal. A RUNNING trial whose row nobody holds
    is therefore one whose process has died: whoever sees it goes on with the same trial in the same
    directory. Several trials may have the same row, which is trained once.

    Parameters
    ----------
    folder : Path
    varied : Varied
    search : Search
    space : Space

    Raises
    ------
    InputError
        When Optuna is missing, or the folder's trials are of another search.
    """

    def __init__(self, folder: Path, varied: Varied, search: Search, space: Space):
        self.folder, self.varied, self.search, self.space = folder, varied, search, space
        self.optuna = _import_optuna()
        self.rows: dict[int, Row] = {}  # by the number of the trial
        self.lines: dict[str, dict[str, Any]] = {}  # by the name of the row
        folder.mkdir(parents=True, exist_ok=True)
        self.lock = FileLock(folder / "search.lock")
        with self._alone():
            self.study = self._open()

    def take(self) -> Claim | Literal["wait", "done"]:
        """Go on with a trial whose process has died, or ask for a new one."""
        with self._alone():
            self._forget_half_asked()
            for trial in self._trials("RUNNING"):
                if claim := claim_row(self._row(trial), self.folder):
                    return claim
            while len(self._trials("RUNNING", "COMPLETE", "PRUNED")) < self.search.trials:
                row = self._ask()
                if self._tell_known(row):
                    continue
                if claim := claim_row(row, self.folder):  # else another process trains just this
                    return claim
            return "wait" if self._trials("RUNNING") else "done"

    def finish(self, row: Row) -> None:
        """Tell Optuna the score of a trained row, and write the results so far."""
        score = searched_score(row, self.folder)
        with self._alone():
            self._tell(row, score)
        table = self.write_results()
        n_done = f"{len(table)} of {self.search.trials}"
        reached = problem_of(row, self.folder) or f"{score:.3f}, best {table['searched'].max():.3f}"
        print(f"{n_done}: {row.name}: {reached}", flush=True)

    def write_results(self) -> pd.DataFrame:
        """Write the table and the best experiment; gives the table."""
        with self._alone():
            table = self._table()
            write_table(self.folder / "table.csv", table)
            if table["searched"].notna().any():
                best = read_experiment(self.folder / table["row"][0])
                text = experiment_toml(best.model_copy(update={"name": f"{self.folder.name}-best"}))
                write_text(self.folder / BEST, f"# The best of {len(table)} trials.\n{text}\n")
        return table

    def _table(self) -> pd.DataFrame:
        lines = []
        for trial in self._trials("COMPLETE", "PRUNED"):
            row = self._row(trial)
            if row.name not in self.lines:
                self.lines[row.name] = row_line(row, self.folder)
            score = math.nan if trial.value is None else trial.value
            lines.append({"trial": trial.number, **self.lines[row.name], "searched": score})
        return table_of(lines).sort_values("searched", ascending=False, kind="stable", ignore_index=True)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the search's lock, and clean up after a process that died while it wrote."""
        with self.lock:
            journal = self.folder / "journal.log"
            journal.with_name("journal.log.lock").unlink(missing_ok=True)  # Optuna's own would last 30 s
            if journal.exists():
                _cut_half_line(journal)
            yield

    def _open(self) -> "optuna.Study":
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

        self.optuna.logging.set_verbosity(self.optuna.logging.WARNING)
        journal = str(self.folder / "journal.log")
        storage = JournalStorage(JournalFileBackend(journal, JournalFileOpenLock(journal)))
        study = self.optuna.create_study(
            study_name=self.folder.name, storage=storage, direction="maximize", load_if_exists=True
        )
        searched = self._description()
        if study.user_attrs.get("searched", searched) != searched:
            raise InputError(
                f"{self.folder} holds the trials of another search: experiment, space or flags have changed "
                f"since. Give the study another name, or delete that directory."
            )
        study.set_user_attr("searched", searched)
        return study

    def _description(self) -> str:
        """What trials must share to be compared; their number and the seed may change."""
        varied = self.varied
        axes = {key: axis if isinstance(axis, list) else vars(axis) for key, axis in self.space.axes.items()}
        return json.dumps([varied.differences, varied.common, varied.pretrain, list(axes.items())])

    def _trials(self, *states: str) -> "list[FrozenTrial]":
        kinds = tuple(self.optuna.trial.TrialState[state] for state in states)
        return self.study.get_trials(deepcopy=False, states=kinds)

    def _row(self, trial: "FrozenTrial | optuna.Trial") -> Row:
        if trial.number not in self.rows:
            self.rows[trial.number] = self.varied.row(self.space.settings(trial.params))
        return self.rows[trial.number]

    def _ask(self) -> Row:
        # By its number, since the sampler of a process that starts again would begin again, too.
        own_seed = np.random.SeedSequence([self.search.seed, len(self.study.get_trials(deepcopy=False))])
        self.study.sampler = self.optuna.samplers.TPESampler(seed=int(own_seed.generate_state(1)[0]))
        return self._row(self.study.ask(self.space.distributions()))

    def _forget_half_asked(self) -> None:
        """Give up trials whose process has died before it knew all of their settings."""
        for trial in self._trials("RUNNING"):
            if trial.params.keys() != self.space.axes.keys():
                self.study.tell(trial.number, state=self.optuna.trial.TrialState.FAIL)

    def _tell(self, row: Row, score: float) -> None:
        """Finish all trials of a row; a score that is no number counts as worse than any."""
        for trial in self._trials("RUNNING"):
            if self._row(trial).name != row.name:
                continue
            if math.isnan(score):
                self.study.tell(trial.number, state=self.optuna.trial.TrialState.PRUNED)
            else:
                self.study.tell(trial.number, score)

    def _tell_known(self, row: Row) -> bool:
        """Finish a trial whose row an earlier one has trained."""
        for trial in self._trials("COMPLETE", "PRUNED"):
            if self._row(trial).name == row.name:
                self._tell(row, math.nan if trial.value is None else trial.value)
                return True
        return False


def _import_optuna() -> ModuleType:
    try:
        return import_module("optuna")
    except ImportError as error:
        raise InputError(
            f"A [search] needs Optuna, which can't be imported ({error}). "
            f"Give a [[grid]], or: pip install 'music-emotion[study]'."
        ) from None


def _cut_half_line(journal: Path) -> None:
    """Remove what a full disk or a power cut left of the last line, which Optuna can't read past."""
    with journal.open("rb+") as file:
        written = file.read()
        if not written.endswith(b"\n"):
            file.truncate(written.rfind(b"\n") + 1)
