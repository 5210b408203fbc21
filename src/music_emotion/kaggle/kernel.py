"""The work of the kernel: train the bundle's plan, if it has one, and predict the test clips."""

import multiprocessing
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from tqdm import tqdm

from music_emotion import files
from music_emotion.config import ClassicalSection, Experiment, Rate, build_experiment
from music_emotion.datasets.clip_set import ClipSet, load_clip_set
from music_emotion.datasets.layout import find_set
from music_emotion.datasets.parallel import Workers
from music_emotion.datasets.splits import Fold, folds_of_pretraining, folds_of_run, known_for_scores
from music_emotion.datasets.statistics_table import Statistics
from music_emotion.evaluation import submission
from music_emotion.evaluation.blend import Recipe, blend_members
from music_emotion.evaluation.blend_runs import blend_runs
from music_emotion.evaluation.scores import score_run
from music_emotion.files import InputError, first_five, read_json, read_predictions, write_json
from music_emotion.kaggle.plan import PLACES, Plan, digest
from music_emotion.models.card import read_card
from music_emotion.models.embedding_table import Hearing, array_clips, embed_clips
from music_emotion.models.network import load_model
from music_emotion.plots import draw_scores
from music_emotion.runs import package_versions
from music_emotion.training.accelerator import make_accelerator
from music_emotion.training.checkpoint import STATE, is_whole
from music_emotion.training.classical import predict_folds
from music_emotion.training.folds import load_sets, train_folds
from music_emotion.training.leaks import check_leaks
from music_emotion.training.loop import UNFINISHED
from music_emotion.training.predict import predict_clips, predict_with

RUNS, MARK = Path("runs"), "plan.json"
_RESERVED_SHARE, _MOST_RESERVED_SECONDS = 0.05, 600.0  # of the time limit, reserved for prediction


def run_bundle(folder: Path, inputs: Path, working: Path) -> None:
    """Predict the test clips with a bundle, and write ``submission.csv`` and then ``run.json``.

    A bundle holds a blend, or a plan that is trained first. ``run.json`` exists only after a complete run.

    Parameters
    ----------
    folder : Path
        Holds ``manifest.json`` and the files it lists, which the kernel's script has checked.
    inputs : Path
        Folder where Kaggle mounts data. The competition's folders are searched for below it.
    working : Path
        Output folder for the two files, and for the ``runs/`` of a training.

    Raises
    ------
    InputError
        When the data is missing or wrong, or has other clips than the blend.
    """
    started = time.time()
    for name in ("submission.csv", "run.json"):  # of an earlier run in the same folder
        (working / name).unlink(missing_ok=True)
    manifest = read_json(folder / "manifest.json")
    data = find_data(inputs, manifest["competition"])
    # tensor cores, as on the T4, are fast in half precision; child processes inherit the variable
    halves = torch.cuda.is_available() and torch.cuda.get_device_capability() >= (7, 0)
    precision = os.environ["ACCELERATE_MIXED_PRECISION"] = "fp16" if halves else "no"
    with tempfile.TemporaryDirectory(prefix="music-emotion-") as scratch, chdir(scratch):
        lay_out(folder, manifest, data)
        if "plan" in manifest:
            plan = Plan.model_validate(manifest["plan"])
            section = plan.emotion[0].data
            targets = load_clip_set(section, "emotion", "train").outputs
        else:
            recipe = Recipe(**manifest["recipe"])
            members = [read_card(Path(models[0])).experiment for models in manifest["models"].values()]
            members += [build_experiment(each["experiment"], run) for run, each in manifest["refits"].items()]
            section, targets = members[0].data, recipe.targets
        arrays = section.model_copy(update=PLACES | {"statistics": None, "embeddings": ()})
        ids = load_clip_set(arrays, "emotion", "test", targets).ids
        set_folder = find_set(data, "emotion", section.rate)
        form, sample = find_form(inputs, manifest["competition"], set_folder, targets, ids)
        if "plan" in manifest:
            predictions, facts = train_plan(plan, manifest, inputs, working, started)
        else:
            predictions, facts = predict_blend(recipe, manifest)
    table = submission.submission_table(files.check_predictions(predictions, "the predictions"), form)
    submission.write_form(working / "submission.csv", table)
    gpus = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    common = {
        "bundle": manifest["bundle"],
        "rows": len(form),
        "sha256": files.sha256(working / "submission.csv"),
        "sample": sample,
        "python": platform.python_version(),
        "versions": package_versions(),
        "devices": gpus or [f"CPU, {os.cpu_count()} cores"],
        "precision": precision,
        "seconds": round(time.time() - started, 3),
    }
    write_json(working / "run.json", common | facts)
    print(f"{working / 'submission.csv'}: {len(form)} rows.", flush=True)


def find_data(inputs: Path, competition: str | None) -> Path:
    """Find the folder of the data: the competition's, or else an attached dataset's.

    Raises
    ------
    InputError
        When there is no such folder, or there are several.
    """
    of_competition = [inputs / "competitions" / competition, inputs / competition] if competition else []
    tries: list[tuple[Path, Rate]] = [*((place, "full") for place in of_competition)]
    complaints = []
    for place, rate in [*tries, (inputs, "full"), (inputs, "beat")]:
        try:
            find_set(place, "emotion", rate)
            print(f"The data is in {place}.", flush=True)
            return place
        except InputError as error:
            complaints.append(error)
    raise InputError(
        f"{complaints[-2]} On Kaggle, data is attached by music-emotion kaggle package with --competition "
        f"and --sources."
    )


def lay_out(folder: Path, manifest: Mapping[str, Any], data: Path) -> None:
    """Link data and bundle into the current folder, and embed the test arrays for tables that need it."""
    Path(PLACES["root"]).symlink_to(data)
    for name in manifest["files"]:
        Path(name).symlink_to(folder / name)
    for name, settings in manifest.get("embed", {}).items():
        hearing, clips = Hearing(**settings), array_clips(find_set(data, "emotion"), "test")
        # whoever reads the table judges the clips that fail
        embed_clips(clips, Path(name), [*map(Path, hearing.ears)], hearing, Workers(), max_failed=1.0)


def find_form(
    inputs: Path, competition: str | None, set_folder: Path, targets: tuple[str, ...], ids: np.ndarray
) -> tuple[pd.DataFrame, str]:
    """Read the rows and columns that the leaderboard requires, and check that the test clips match.

    The sample submission is searched for in the competition's data and in the folders above the emotion set.

    Parameters
    ----------
    inputs : Path
        Where Kaggle mounts data.
    competition : str or None
        Slug of the attached competition, if any.
    set_folder : Path
        Folder of the emotion set that is predicted.
    targets : tuple of str
        Names of the predicted targets.
    ids : np.ndarray [shape=(n,)], integer
        Ids of the test clips.

    Returns
    -------
    form : pd.DataFrame
        As `read_sample` returns it.
    sample : str
        Path of the sample submission below `inputs`; "none" if there is none and the default form is used.

    Raises
    ------
    InputError
        When the sample asks for other targets or clips, or several samples differ.
    """
    places = [folder for folder in set_folder.parents if inputs in folder.parents]
    if competition:
        places += [inputs / "competitions" / competition, inputs / competition]
    samples = sorted({path for place in places for path in place.glob("sample_submission*.csv")})
    if not samples:
        return submission.default_sample(targets, ids.tolist()), "none"
    if len({path.read_bytes() for path in samples}) > 1:
        raise InputError(
            f"Several sample submissions are attached: {', '.join(map(str, samples))}. Keep one."
        )
    form = submission.read_sample(samples[0], targets)
    submission.submission_table(pd.DataFrame(0.0, pd.Index(ids, name="Id"), list(targets)), form)
    return form, str(samples[0].relative_to(inputs))


def predict_blend(recipe: Recipe, manifest: Mapping[str, Any]) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Predict the test split with every run of a blend, and blend the predictions by the recipe.

    Reads data and models from the current folder, and writes each model's predictions there.

    Parameters
    ----------
    recipe : Recipe
    manifest : mapping
        The bundle's manifest.

    Returns
    -------
    predictions : pd.DataFrame
        In the units of the targets, indexed by `Id`.
    facts : dict
        Entries of `run.json`.

    Raises
    ------
    InputError
        When the data is missing or wrong, or has other clips than the blend; or when a process failed.
    """
    names = [name for models in manifest["models"].values() for name in models]
    if names:
        run_shares(predict_share, *names)
    tables = _refit(manifest["refits"], manifest["tables"], recipe.targets)
    for run, models in manifest["models"].items():
        tables[run] = [read_predictions(Path(f"{name}.csv")) for name in models]
    return recipe.predict(tables), {"models": len(names), "refits": len(manifest["refits"])}


def predict_share(share: int, n_shares: int, *names: str) -> None:
    """Predict the test split with every n-th model, and write ``<model>.csv``."""
    accelerator = make_accelerator()
    for name in tqdm(names[share::n_shares], desc="predict", unit="model"):
        network = load_model(Path(name)).to(accelerator.device)
        section = network.card.experiment.data.model_copy(update=PLACES)
        clips = load_clip_set(section, "emotion", "test", network.card.outputs)
        files.write_predictions(Path(f"{name}.csv"), predict_clips(network, clips, accelerator))


def _refit(
    refits: Mapping[str, Any], places: Mapping[str, str], targets: tuple[str, ...]
) -> dict[str, list[pd.DataFrame]]:
    """Fit the folds of classical runs to the attached arrays and tables again, and predict the test split."""
    tables, loaded = {}, dict[str, tuple[ClipSet, ClipSet, Statistics]]()
    for run, refit in refits.items():
        experiment = build_experiment(refit["experiment"], run)
        data = experiment.data
        read = {
            "targets": targets,
            "statistics": data.statistics and places[data.statistics],
            "embeddings": tuple(places[table] for table in data.embeddings),
        }
        section = data.model_copy(update=PLACES | read)
        inputs = section.model_dump_json()  # runs that read the same share it
        if inputs not in loaded:
            clips = load_clip_set(section, "emotion", "train")
            test = load_clip_set(section, "emotion", "test", clips.outputs)
            loaded[inputs] = clips, test, Statistics(section, "emotion")
        clips, test, statistics = loaded[inputs]
        path = Path(refit["folds"])
        fold_of = pd.read_csv(path, index_col="Id")  # a column per seed
        missing = fold_of.index.symmetric_difference(pd.Index(clips.ids))
        if len(missing):
            raise InputError(
                f"{len(missing)} training clips are only in the attached data or only in {path.name}: "
                f"{first_five(missing)}. Attach the data that the blend was trained on."
            )
        folds = [
            Fold(int(str(seed)), int(number), clips.select(of != number), clips.select(of == number))
            for seed, of in ((seed, column.to_numpy()) for seed, column in fold_of.loc[clips.ids].items())
            for number in np.unique(of)
        ]
        tables[run] = [fitted.test for fitted in predict_folds(experiment, folds, test, statistics)]
    return tables


def run_shares(work: Callable[..., None], *arguments: Any) -> None:
    """Call ``work(share, n_shares, *arguments)`` in this process, or in one process per GPU of several.

    The shares are independent, so no process waits for another that failed.

    Parameters
    ----------
    work : callable
        A function at module level.
    *arguments
        Passed to every share.

    Raises
    ------
    InputError
        When a process failed, after all have ended.
    """
    n_gpus = torch.cuda.device_count()
    if n_gpus < 2:
        work(0, 1, *arguments)
        return
    context, processes = multiprocessing.get_context("spawn"), []
    for gpu in range(n_gpus):
        os.environ["CUDA_VISIBLE_DEVICES"] = str(gpu)  # inherited by the new process
        processes.append(context.Process(target=work, args=(gpu, n_gpus, *arguments)))
        processes[-1].start()
    del os.environ["CUDA_VISIBLE_DEVICES"]
    for process in processes:
        process.join()
    failed = [gpu for gpu, process in enumerate(processes) if process.exitcode]
    if failed:
        raise InputError(f"The processes of GPUs {failed} failed; their own messages are above.")


def train_plan(
    plan: Plan, manifest: Mapping[str, Any], inputs: Path, working: Path, started: float
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Train a plan within its time limit, and predict the test split.

    The current folder must hold the data and the bundle's files, as `lay_out` links them.

    Parameters
    ----------
    plan : Plan
    manifest : mapping
        The bundle's manifest.
    inputs : Path
        Folder where Kaggle mounts data. The output of an earlier run is searched for below it.
    working : Path
        Output folder for ``runs/``, which a later kernel can resume.
    started : float
        Start of the kernel, as Unix time in seconds.

    Returns
    -------
    predictions, facts
        As from `predict_blend`.

    Raises
    ------
    InputError
        Before any training, when data is missing, or the output to resume is missing or belongs to another
        plan. After it, when there is nothing to submit.
    """
    identity = plan_identity(plan, manifest["files"])
    resumed = take_over(identity, plan.resume, inputs, working / RUNS)
    RUNS.symlink_to(working / RUNS)
    seconds = 3600 * plan.hours
    try:
        deadline = started + seconds - min(_RESERVED_SHARE * seconds, _MOST_RESERVED_SECONDS)
        predictions, progress = train_stages(plan, deadline)
    except InputError as error:
        kept = f"A kernel packaged with --resume continues from {working / RUNS}."
        raise InputError(f"There is nothing to submit: {error} {kept}") from error
    return predictions, {"plan": identity, "resumed": resumed, **progress}


def plan_identity(plan: Plan, files: Mapping[str, Any]) -> str:
    """Hash the experiments and their files; a training resumes only runs with the same hash."""
    named = {name: facts["sha256"] for name, facts in files.items() if not name.endswith(".whl")}
    return digest([plan.model_dump(mode="json")["experiments"], named])


def take_over(identity: str, resume: str | None, inputs: Path, runs: Path) -> bool:
    """Copy the runs of an earlier kernel's output, to resume them.

    Parameters
    ----------
    identity : str
        From `plan_identity`. Only runs of the same plan are copied.
    resume : str or None
        ``owner/slug`` of the earlier kernel, if any.
    inputs : Path
        Folder where Kaggle mounts data.
    runs : Path
        Folder to copy to.

    Returns
    -------
    bool
        Whether there were runs to resume.

    Raises
    ------
    InputError
        When the runs to resume are missing, belong to another plan, or are attached several times.
    """
    mark = runs / MARK
    if mark.exists():  # started again in the same folder
        if read_json(mark)["hash"] != identity:
            raise InputError(f"{runs} is of other experiments. Delete it to train these.")
        return True
    marks = [path for place in ("*", "notebooks/*/*") for path in inputs.glob(f"{place}/{RUNS / MARK}")]
    plans = {path.parent: read_json(path)["hash"] for path in marks}
    equal = [earlier for earlier, found in plans.items() if found == identity]
    if not equal and (plans or resume):
        found = f"attached are others: {first_five(plans)}" if plans else f"nothing of {resume} is attached"
        raise InputError(
            f"There is no training to continue; {found}. Package the same experiments, groups and weights "
            f"with --resume once that kernel has ended, or begin anew without --resume."
        )
    if len(equal) > 1:
        raise InputError(f"Several outputs of this plan are attached: {first_five(equal)}. Attach one.")
    for earlier in equal:
        for path in earlier.rglob("*"):
            if path.name == STATE and not is_whole(path):
                print(f"{path} is damaged, so its fold begins anew.", flush=True)
            elif path.is_file() and path != earlier / MARK:
                copy = runs / path.relative_to(earlier)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, copy)  # not its mode, since inputs are read-only
    write_json(mark, {"hash": identity})  # last, to mark the copy as complete
    return bool(equal)


def train_stages(plan: Plan, deadline: float) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Train the experiments of a plan until the deadline, then predict the test split with the results.

    Reads ``data/`` and writes ``runs/`` in the current folder.

    Parameters
    ----------
    plan : Plan
    deadline : float
        Unix time in seconds.

    Returns
    -------
    predictions : pd.DataFrame
        In the units of the targets, indexed by `Id`.
    progress : dict
        Whether the plan is ``complete``, its finished ``folds`` and any ``failure``. A complete plan has the
        scores ``out_of_fold``. For an incomplete one, ``made_of`` gives the share of each run.

    Raises
    ------
    InputError
        Before any training, when data is missing or wrong.
    """
    accelerator = make_accelerator()
    sets = {each.name: load_sets(each, accelerator) for each in plan.experiments}
    targets = {each.name: ", ".join(sorted(sets[each.name][0].outputs)) for each in plan.emotion}
    if len(set(targets.values())) > 1:
        raise InputError(f"Only experiments of the same targets can be blended; they predict {targets}.")
    folds = {each.name: _folds_of(each, *sets[each.name]) for each in plan.experiments}
    failure = None
    for experiment in plan.experiments:
        clips, test = sets[experiment.name]
        directory = RUNS / experiment.name
        try:
            check_leaks(experiment, folds[experiment.name], test, accelerator, directory)
            if experiment.is_classical:  # uses no GPU, and several shares would compute the same statistics
                train_share(0, 1, experiment, deadline)
            else:
                run_shares(train_share, experiment, deadline)
        except (InputError, OSError, RuntimeError) as error:  # such as a full disk or GPU memory
            failure = f"{experiment.name}: {error}"
            print(f"failed: {failure}", flush=True)
            break
        if _n_done(experiment, folds) < len(folds[experiment.name]):
            break
        if experiment.task == "genre":
            print(score_run(directory, experiment, test.truth, "test"), flush=True)
        else:
            known = known_for_scores(experiment, clips)
            print(score_run(directory, experiment, clips.truth, **known), flush=True)
        draw_scores(directory)
    done = {each.name: _n_done(each, folds) for each in plan.experiments}
    progress: dict[str, Any] = {
        "complete": all(done[name] == len(folds[name]) for name in done),
        "folds": {name: f"{done[name]} of {len(folds[name])}" for name in done},
        "failure": failure,
    }
    if not progress["complete"]:
        predictions, progress["made_of"] = predict_unfinished(plan, sets, accelerator)
        return predictions, progress
    blended, members = RUNS / plan.name, [RUNS / experiment.name for experiment in plan.emotion]
    print(blend_runs(members, blended, plan.method, plan.shrinkage), flush=True)
    progress["out_of_fold"] = read_json(blended / "scores.json")["pooled"]
    return read_predictions(blended / "test.csv"), progress


def _folds_of(experiment: Experiment, clips: ClipSet, test: ClipSet) -> list[Fold]:
    if experiment.task == "genre":
        return folds_of_pretraining(experiment, clips, test)
    return folds_of_run(experiment, clips)


def _n_done(experiment: Experiment, folds: Mapping[str, list[Fold]]) -> int:
    places = [RUNS / experiment.name / fold.folder for fold in folds[experiment.name]]
    return sum((place / "test.csv").exists() for place in places)


def train_share(share: int, n_shares: int, experiment: Experiment, deadline: float) -> None:
    """Train every n-th fold of an experiment until the deadline (Unix time in seconds)."""
    accelerator = make_accelerator()
    clips, test = load_sets(experiment, accelerator)
    folds = _folds_of(experiment, clips, test)[share::n_shares]
    train_folds(experiment, folds, test, accelerator, RUNS / experiment.name, deadline)


def predict_unfinished(
    plan: Plan, sets: Mapping[str, tuple[ClipSet, ClipSet]], accelerator: Accelerator
) -> tuple[pd.DataFrame, dict[str, float]]:
    """Blend the runs of an incomplete plan, weighted by the share of each training that is done.

    A run contributes its finished folds, or else its unfinished ones. Without any, a ridge regression on clip
    statistics predicts, which takes seconds.

    Parameters
    ----------
    plan : Plan
    sets : mapping of str to (ClipSet, ClipSet)
        Name of an experiment to its training and test split.
    accelerator : Accelerator
        Device and precision.

    Returns
    -------
    predictions : pd.DataFrame
        In the units of the targets, indexed by `Id`.
    shares : dict of str to float
        Name of each blended run to the share of its training that is done, 0 to 1.
    """
    tables: dict[str, list[pd.DataFrame]] = {}
    shares: dict[str, float] = {}
    for experiment in plan.emotion:
        name, n_folds = experiment.name, len(experiment.seeds) * experiment.folds.n
        if finished := sorted((RUNS / name).glob("seed*/fold*/test.csv")):
            tables[name] = [read_predictions(path) for path in finished]
            shares[name] = len(finished) / n_folds
        elif unfinished := sorted((RUNS / name).glob(f"seed*/fold*/{UNFINISHED}")):
            tables[name] = [predict_with(path, sets[name][1], accelerator) for path in unfinished]
            epochs = sum(len(pd.read_csv(path.with_name("metrics.csv"))) for path in unfinished)
            shares[name] = epochs / experiment.train.epochs / n_folds
    clips, test = sets[plan.emotion[0].name]
    if not tables:
        ridge = Experiment(name="ridge", classical=ClassicalSection(kind="ridge"))
        statistics = Statistics(plan.emotion[0].data, "emotion")
        (fitted,) = predict_folds(ridge, [Fold(0, 0, clips, clips)], test, statistics)
        tables, shares = {"ridge": [fitted.test]}, {"ridge": 1.0}
    made_of = ", ".join(f"{name} ({shares[name]:.0%} of its training)" for name in tables)
    print(f"The training is not over. The submission is made of {made_of}.", flush=True)
    weights = pd.DataFrame(dict.fromkeys(clips.outputs, shares))
    units = clips.truth.mean(), clips.truth.std(ddof=0)
    return blend_members(tables, plan.method, weights, *units), shares
