"""A blended run to a checked submission with its card."""

from datetime import date
from pathlib import Path

from command_line import run
from music_emotion.evaluation.blend_runs import check_current
from music_emotion.evaluation.recipe import read_recipe
from music_emotion.evaluation.submission import default_form, read_form, write_submission
from music_emotion.files import InputError, read_object, read_predictions
from music_emotion.runs import commit


def submit(
    blended: Path,
    *,
    sample: Path | None = None,
    name: str | None = None,
    out: Path = Path("submissions"),
    day: str = date.today().isoformat(),
    overwrite: bool = False,
) -> None:
    """Write submissions/<name>-<date>.csv and its card.

    Parameters
    ----------
    blended
        Directory of a blend, or of one run.
    sample
        The competition's sample_submission.csv; decides header, id form and row order.
    name
        Name of the submission; the run's by default.
    out
        Folder of submissions.
    day
        The date in the name.
    overwrite
        Replace a submission of the same name.
    """
    predictions = read_predictions(blended / "test.csv")
    targets = tuple(predictions.columns)
    form = read_form(sample, targets) if sample else default_form(targets, predictions.index.tolist())
    scores = read_object(blended / "scores.json")
    if "classes" in scores:
        raise InputError(f"{blended} is a genre run; submissions hold emotion targets. Name an emotion run.")
    for key in ("pooled", "selected_on_validation"):
        if key not in scores:
            raise InputError(f"{blended / 'scores.json'} has no '{key}'. Run the command that made it again.")
    members = [str(blended)]
    if (blended / "blend.json").exists():
        recipe = read_recipe(blended)
        check_current(blended, recipe)
        members = recipe.members
    card = {
        "runs": members,
        "commit": commit(),
        "out_of_fold": scores["pooled"],
        "selected_on_validation": scores["selected_on_validation"],
        "leaderboard": None,
    }
    path = out / f"{name or blended.name}-{day}.csv"
    write_submission(path, predictions, form, card, overwrite)
    print(f"{path}: {len(predictions)} rows, every rule checked. Its card is {path.with_suffix('.json')}.")


if __name__ == "__main__":
    run(submit)
