"""Blend runs by their out-of-fold predictions."""

from pathlib import Path

from command_line import run
from music_emotion.results.blend_runs import Method, blend_runs


def ensemble(
    *members: Path,
    name: str = "blend",
    method: Method = "z-score",
    shrinkage: float = 0.5,
    runs: Path = Path("runs"),
) -> None:
    """Blend runs; weights are chosen, and scored, by nested cross-validation.

    Parameters
    ----------
    members
        Directories of finished runs on the same clips, such as runs/multitask.
    name
        The blend is written to runs/<name>.
    method
        Scale on which folds, seeds and runs are averaged: z-score or rank.
    shrinkage
        0 takes the fitted weights, 1 equal ones.
    runs
        Folder of all runs.
    """
    print(blend_runs(list(members), runs / name, method, shrinkage))


if __name__ == "__main__":
    run(ensemble)
