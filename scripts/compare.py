"""Compare two runs in pairs, from their text files alone."""

from pathlib import Path

from command_line import run
from music_emotion.evaluation.compare import compare_runs
from music_emotion.evaluation.compare_text import comparison_text


def compare(one: Path, other: Path, *, headline: tuple[str, ...] = (), common: bool = False) -> None:
    """Say how far two runs or blends lie apart, with 95 % intervals over the same resamples of the clips.

    Needs no data, stores or weights.

    Parameters
    ----------
    one, other
        Directories of runs on the same clips, such as runs/multitask.
    headline
        Targets whose mean decides; all without it. Of genres macro F1 decides.
    common
        Compare also unfinished runs and those of other clips, on the clips that both have predicted.
    """
    print(comparison_text(compare_runs(one, other, headline, common)))


if __name__ == "__main__":
    run(compare)
