"""The form of the submission: that of the attached competition's sample, where there is one."""

from pathlib import Path

import numpy as np
import pandas as pd

from music_emotion.evaluation.submission import default_sample, read_sample, submission_table
from music_emotion.files import InputError

SAMPLES = "sample_submission*.csv"


def find_form(
    inputs: Path, competition: str, set_folder: Path, targets: tuple[str, ...], ids: np.ndarray
) -> tuple[pd.DataFrame, str]:
    """Read the form before any work, and check that these clips fit it.

    The sample is looked for where the competition is mounted, and in the folders above the emotion
    set, but not in other datasets.

    Parameters
    ----------
    inputs : Path
        Where Kaggle mounts data.
    competition : str
        Slug of the attached competition, or "none".
    set_folder : Path
        Of the emotion set that is predicted.
    targets : tuple of str
        That are predicted.
    ids : np.ndarray [shape=(n,)], integer
        Of the test clips.

    Returns
    -------
    form : pd.DataFrame
        As by `read_sample`.
    sample : str
        The file it was read from, below `inputs`; "none" for the form of the competition's editions.

    Raises
    ------
    InputError
        When the sample asks for other targets or clips, or there are several that differ.
    """
    places = [folder for folder in set_folder.parents if inputs in folder.parents]
    if competition != "none":
        places += [inputs / "competitions" / competition, inputs / competition]
    samples = sorted({path for place in places for path in place.glob(SAMPLES)})
    if not samples:
        return default_sample(targets, ids.tolist()), "none"
    if len({path.read_bytes() for path in samples}) > 1:
        raise InputError(
            f"Several sample submissions are attached: {', '.join(map(str, samples))}. Keep one."
        )
    form = read_sample(samples[0], targets)
    nothing = pd.DataFrame(0.0, pd.Index(ids, name="Id"), list(targets))
    submission_table(nothing, form)
    return form, str(samples[0].relative_to(inputs))
