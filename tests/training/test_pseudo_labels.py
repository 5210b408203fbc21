"""The second round: what its folds learn from, who has made it, and who may not."""

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mistakes import lines, remove, replace

from music_emotion.config import Experiment, experiment_to_dict
from music_emotion.datasets.clip_set import ClipSet
from music_emotion.datasets.splits import Fold, folds_of_run
from music_emotion.files import InputError, read_predictions, write_json
from music_emotion.training.accelerator import make_accelerator
from music_emotion.training.folds import load_sets, run_experiment, train_folds
from music_emotion.training.pseudo_labels import PSEUDO_LABELS, with_pseudo_labels

FOLD, VALID = Path("seed0", "fold0"), "runs/net/seed0/fold0/valid.csv"
TINY = {"folds": {"n": 2}, "excerpt": {"per_clip": 1}, "train": {"epochs": 1}}
RIDGE = {"classical": {"kind": "ridge", "alpha": 10.0}}
FOLDER_OF = {"test": "multitask_dataset/test"} | {
    f"genre-{split}": f"fma_genre_spectrograms/{split}" for split in ("train", "test")
}


@pytest.fixture(scope="module")
def build(small) -> Callable[..., Experiment]:
    """Build a tiny experiment: `build("student", pseudo={"teachers": [...]})`."""
    return lambda name, **sections: small(**{**TINY, "name": name, **sections})


@pytest.fixture(scope="module")
def sets(build) -> tuple[ClipSet, ClipSet]:
    return load_sets(build("any"), make_accelerator())


@pytest.fixture(scope="module")
def finished(build, sets, tmp_path_factory) -> Path:
    """Runs of a first round: a network, and ridge regression without and with embeddings."""
    runs = tmp_path_factory.mktemp("first") / "runs"
    for experiment in (build("net"), build("ridge", **RIDGE)):
        folds, test = folds_of_run(experiment, sets[0]), sets[1]
        assert train_folds(experiment, folds, test, make_accelerator(), runs / experiment.name)
    write_embeddings(runs, sets[0].truth["valence"])
    ear = build("ear", data={"embeddings": ("runs/{task}-{split}.csv",)}, **RIDGE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(runs.parent)
        run_experiment(ear, make_accelerator(), Path("runs/ear"))
    return runs


@pytest.fixture
def runs(finished, tmp_path) -> Path:
    """A copy that may be damaged."""
    return Path(shutil.copytree(finished, tmp_path / "runs"))


def student_of(build, runs: Path, *teachers: str, **pseudo) -> Experiment:
    return build("student", pseudo={"teachers": [str(runs / name) for name in teachers], **pseudo})


def taught(student: Experiment, clips: ClipSet, runs: Path, name: str = "student") -> list[Fold]:
    folds = folds_of_run(student, clips)
    return with_pseudo_labels(student, clips, folds, make_accelerator(), runs / name)


def files_in(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_fold_learns_from_its_own_clips_and_every_unlabelled_one(build, sets, runs, competition):
    clips, _ = sets
    student = student_of(build, runs, "net", "ridge", labelled_repeats=3)
    plain = folds_of_run(student, clips)
    for fold, before in zip(taught(student, clips, runs), plain, strict=True):
        assert (fold.seed, fold.number) == (before.seed, before.number)
        assert fold.valid.ids.tolist() == before.valid.ids.tolist()
        training, n_labelled = fold.training, 3 * len(before.training)
        assert training.ids[:n_labelled].tolist() == np.repeat(before.training.ids, 3).tolist()
        repeated = np.repeat(before.training.values, 3, axis=0)
        np.testing.assert_array_equal(training.values[:n_labelled], repeated)
        made = pd.read_csv(runs / "student" / fold.folder / PSEUDO_LABELS)
        # the mean of what the teachers' same fold predicts
        tables = [read_predictions(runs / name / fold.folder / "test.csv") for name in ("net", "ridge")]
        of_test = made[made["set"] == "test"].set_index("Id")[list(clips.outputs)]
        pd.testing.assert_frame_equal(of_test, (sum(tables) / 2).clip(0, 1), atol=1e-5, rtol=0)
        assert made[list(clips.outputs)].equals(made[list(clips.outputs)].clip(0, 1))
        assert Counter(made["set"]) == {"test": 8, "genre-train": 32, "genre-test": 12}
        others = training.ids[n_labelled:]
        assert len(set(others)) == len(others) == 52
        assert not set(others) & set(clips.ids)  # the test clips' own ids are those of training clips
        np.testing.assert_array_equal(training.values[n_labelled:], made[list(clips.outputs)].astype("f4"))
        assert training.has_labels
        places = training.store.index.loc[others].to_numpy()
        for (start, length), clip_id, name in zip(places, made["Id"], made["set"], strict=True):
            array = np.load(competition / FOLDER_OF[name] / f"{clip_id}.fused.full.npy")
            frames = training.store.frames[start : start + length]
            np.testing.assert_array_equal(frames, array.T.astype(np.float16))


def write_embeddings(folder: Path, valence: pd.Series) -> None:
    """Tables of all sets: 200 columns, each a clip's own number with noise; of labelled clips the valence."""
    rng = np.random.default_rng(0)
    numbers = {"emotion-train": valence}
    for name, first, n in (("emotion-test", 1000, 8), ("genre-train", 1, 32), ("genre-test", 5001, 12)):
        numbers[name] = pd.Series(rng.random(n), range(first, first + n))
    for name, number in numbers.items():
        near = {f"near:{n}": number + rng.normal(0, 0.1, len(number)) for n in range(200)}
        table = pd.DataFrame(near).rename_axis("id").sample(frac=1, random_state=0)
        table[sorted(table, reverse="test" in name)].to_csv(folder / f"{name}.csv")


def test_an_estimator_that_reads_embeddings_teaches_a_network(build, sets, runs, monkeypatch):
    monkeypatch.chdir(runs.parent)
    student = student_of(build, runs, "ear")
    run_experiment(student, make_accelerator(), runs / "student")
    for fold in folds_of_run(student, sets[0]):
        assert (runs / "student" / fold.folder / "model.safetensors").exists()
        made = pd.read_csv(runs / "student" / fold.folder / PSEUDO_LABELS).set_index(["set", "Id"])
        told = read_predictions(runs / "ear" / fold.folder / "test.csv").clip(0, 1)
        pd.testing.assert_frame_equal(made.loc["test"], told, atol=1e-5, rtol=0)
        for name, n in (("test", 8), ("genre-train", 32), ("genre-test", 12)):
            table = pd.read_csv(
                runs / ("emotion-test.csv" if name == "test" else f"{name}.csv"), index_col="id"
            )
            assert len(made.loc[name]) == n
            assert made.loc[name, "valence"].corr(table.mean(axis=1)) > 0.4
    for fold in taught(student_of(build, runs, "ridge", "ear"), sets[0], runs, name="mixed"):
        assert fold.training.has_labels


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (remove("runs/genre-test.csv"), r"table runs/genre-test\.csv does not exist"),
        (
            lines("runs/genre-train.csv", lambda rows: rows[:-1]),
            r"genre-train\.csv: 1 of 32 clips have no row",
        ),
        (
            replace("runs/genre-test.csv", "near:7,", "far:7,"),
            r"test\.csv: 12 of 12 clips have no row with all",
        ),
        (
            replace("runs/ear/experiment.json", "{task}", "emotion"),
            r"no embeddings of .* runs/emotion-{split}\.csv",
        ),
    ],
)
def test_a_teacher_without_embeddings_of_every_clip_is_refused(
    build, sets, runs, monkeypatch, damage, sentence
):
    monkeypatch.chdir(runs.parent)
    damage()
    with pytest.raises(InputError, match=sentence):
        taught(student_of(build, runs, "ear"), sets[0], runs)
    assert not (runs / "student" / FOLD).exists()


def swap_folds() -> None:
    for one, other in (("fold0", "aside"), ("fold1", "fold0"), ("aside", "fold1")):
        Path("runs/net/seed0", one).rename(Path("runs/net/seed0", other))


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lines(VALID, lambda rows: rows[:1] + rows[2:]), "fold: 1 of the 20 clips .* not among its 19"),
        (replace(VALID, "energy", "tempo"), "predicts valence, tempo, danceability, but this run val"),
        (swap_folds, "net/seed0/fold0/valid.csv is of another fold: 20 of the 20 clips"),
        (remove("runs/net/seed0/fold0/model.safetensors"), "model file .*model.safetensors does not exist"),
        (remove("runs/net/experiment.json"), "net/experiment.json does not exist"),
        (remove(VALID), "teacher's file .*net/seed0/fold0/valid.csv does not exist.*seed 0"),
        ({"task": "genre"}, "The teacher .*net has the task 'genre'"),
        ({"folds": {"split": "holdout"}}, r"is of repeats\. Name a run of folds in pseudo.teachers"),
        ({"train": {"select": "best-loss"}}, r"its epoch .* \(train.select 'best-loss'\)\. Name"),
        ({"data": {"rate": "beat"}}, "does not read arrays of data.rate 'full'"),
        ({"data": {"statistics": "s.csv"}, **RIDGE}, "does not read arrays of data.rate 'full'"),
    ],
)
def test_a_run_that_can_not_teach_is_refused(build, sets, runs, monkeypatch, damage, sentence):
    monkeypatch.chdir(runs.parent)
    if callable(damage):
        damage()
    else:
        write_json(runs / "net" / "experiment.json", experiment_to_dict(build("net", **damage)))
    with pytest.raises(InputError, match=sentence):
        taught(student_of(build, runs, "ridge", "net"), sets[0], runs)
    assert not (runs / "student" / FOLD).exists()


def test_a_training_goes_on_with_the_pseudo_labels_that_are_there(build, sets, runs):
    student = student_of(build, runs, "ridge")
    (first, _) = taught(student, sets[0], runs)
    path = runs / "student" / FOLD / PSEUDO_LABELS
    table = pd.read_csv(path).assign(energy=0.125)
    table.to_csv(path, index=False)
    (again, _) = taught(student, sets[0], runs)
    n_labelled = len(first.training) - len(table)
    assert (again.training.values[n_labelled:, 1] == 0.125).all()
    np.testing.assert_array_equal(again.training.values[:, 0], first.training.values[:, 0])
    for damaged in (table.iloc[1:], table.assign(Id=table["Id"] + 1), table.assign(energy=np.nan)):
        damaged.to_csv(path, index=False)
        with pytest.raises(InputError, match=rf"{path} is not of the unlabelled clips there are now"):
            taught(student, sets[0], runs)
    for text in ("Id,set\n1,test\n", "", 'Id,"'):
        path.write_text(text)
        with pytest.raises(InputError, match=rf"{path} is not a table of pseudo-labels .*Delete it"):
            taught(student, sets[0], runs)


def test_a_student_is_scored_on_labelled_clips_and_leaves_its_teachers_alone(build, sets, runs):
    clips, test = sets
    student = student_of(build, runs, "net", "ridge")
    before = files_in(runs / "net") | files_in(runs / "ridge")
    directory = runs / "student"
    run_experiment(student, make_accelerator(), directory, only_fold=1)
    assert not (directory / FOLD).exists()
    scores = run_experiment(student, make_accelerator(), directory)
    assert files_in(runs / "net") | files_in(runs / "ridge") == before
    assert read_predictions(directory / "oof.csv").index.tolist() == clips.ids.tolist()
    assert read_predictions(directory / "test.csv").index.tolist() == test.ids.tolist()
    # 20 labelled and 52 other clips in batches of 8
    assert pd.read_csv(directory / FOLD / "metrics.csv")["updates"].tolist() == [9]
    with pytest.raises(InputError, match="holds another experiment"):
        taught(student, clips, runs, name="ridge")
    assert not list((runs / "ridge").rglob(PSEUDO_LABELS))
    shutil.rmtree(runs / "net")  # whoever has learnt needs no teacher
    assert run_experiment(student, make_accelerator(), directory) == scores
