"""Blend runs by their out-of-fold predictions."""

from pathlib import Path

from command_line import make_accelerator, run
from music_emotion.evaluation.blend_runs import Method, blend_runs
from music_emotion.evaluation.vote import vote
from music_emotion.runs import read_experiment


def ensemble(
    *members: Path,
    name: str = "blend",
    method: Method = "z-score",
    shrinkage: float = 0.5,
    choose: bool = False,
    runs: Path = Path("runs"),
) -> None:
    """Blend emotion runs, with weights chosen and scored by nested cross-validation; let genre runs vote.

    Parameters
    ----------
    members
        Directories of finished runs on the same clips, such as runs/multitask.
    name
        The blend is written to runs/<name>.
    method
        Scale on which folds, seeds and emotion runs are averaged: z-score or rank. Genre runs
        average their probabilities.
    shrinkage
        Of emotion runs: 0 takes the fitted weights, 1 equal ones.
    choose
        Of emotion runs: leave out those that do not raise the score; members.csv says what each gave.
    runs
        Folder of all runs.
    """
    if members and read_experiment(members[0]).task == "genre":
        print(vote(list(members), runs / name, make_accelerator()))
    else:
        print(blend_runs(list(members), runs / name, method, shrinkage, choose))


if __name__ == "__main__":
    run(ensemble)
