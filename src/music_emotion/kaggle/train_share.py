"""One device's share of an experiment's folds."""

import sys
from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration

from music_emotion.config import Experiment
from music_emotion.datasets.clip_set import ClipSet
from music_emotion.datasets.splits import Fold, folds_of_pretraining, folds_of_run
from music_emotion.files import read_json
from music_emotion.kaggle.devices import precision
from music_emotion.kaggle.plan import read_plan
from music_emotion.training.folds import load_sets, train_folds
from music_emotion.training.leaks import check_leaks

PLAN, RUNS = Path("plan.json"), Path("runs")  # in the folder that a training is started in


def main(arguments: list[str]) -> None:
    """Train every n-th fold of an experiment until the deadline.

    Parameters
    ----------
    arguments : list of str
        The experiment's name, the number of the share, how many shares there are, and the deadline
        in seconds since 1970, UTC.
    """
    name, share, n_shares, deadline = arguments
    experiment = next(e for e in read_plan(read_json(PLAN)).experiments if e.name == name)
    accelerator = Accelerator(
        mixed_precision=precision(), dataloader_config=DataLoaderConfiguration(split_batches=True)
    )
    clips, test = load_sets(experiment, accelerator)
    folds = planned_folds(experiment, clips, test)
    if int(share) == 0:  # one look is enough
        check_leaks(experiment, folds, test, accelerator, RUNS / name)
    own = folds[int(share) :: int(n_shares)]
    train_folds(experiment, own, test, accelerator, RUNS / name, float(deadline))


def planned_folds(experiment: Experiment, clips: ClipSet, test: ClipSet) -> list[Fold]:
    """Of emotion, the folds of every seed; of genres, what makes a trunk."""
    if experiment.task == "genre":
        return folds_of_pretraining(experiment, clips, test)
    return folds_of_run(experiment, clips)


if __name__ == "__main__":
    main(sys.argv[1:])
