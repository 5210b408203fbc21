"""Tables, experiments, studies and the JSON of runs, damaged: read right, or refused in a sentence."""

import json
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from damaged import altered, damaged, only_sentences, several
from hypothesis import assume, given
from hypothesis import strategies as st

from music_emotion.config import DataSection, Experiment, OptimSection, build_experiment, experiment_to_dict
from music_emotion.datasets.clip_table import read_clips
from music_emotion.datasets.labels import read_genres, read_groups, read_targets
from music_emotion.evaluation.blend import Recipe, read_recipe
from music_emotion.evaluation.report import read_run
from music_emotion.evaluation.submission import read_sample, submission_table, write_submission
from music_emotion.experiment_files import experiment_toml, read_differences
from music_emotion.files import InputError, read_predictions, write_predictions
from music_emotion.runs import read_experiment
from music_emotion.study_file import read_study

TARGETS = b"Id,valence,energy\n1004,0.578,0.973\n1005,0.5,0.25\n1006,0,1\n"
GENRES = (
    b"Id\tGenre\n1042.fused.full.npy.gz\tBlues\n7.fused.full.npy.gz\tTrip-Hop\n8.full.fused.npy.gz\tRock\n"
)
GROUPS = b"Id,artist,group\n1,a,x\n2,b,y\n3,b,y\n"
PREDICTIONS = b"Id,valence,energy\n1,0.25,0.5\n2,-1.5,1e-3\n30,0.1,0.9\n"
SAMPLE = b"Id,valence,energy\n1.fused.full.npy,0,0\n2.fused.full.npy,0,0\n30.fused.full.npy,0,0\n"
CLIPS = b"id,path,start_seconds,end_seconds,group,mood\n1,a.wav,0,0.5,x,0.25\n2,a.wav,0.5,1.0,y,0.5\n"
EXPERIMENT = (Path(__file__).parents[2] / "experiments" / "one-second-cnn.toml").read_bytes()
STUDY = b"""name = "grid"
base = "small.toml"
[fixed]
"train.epochs" = 2
[[grid]]
"optim.learning_rate" = [1e-3, 3e-3]
"model.widths" = [[16, 32], [8, 8]]
"""
RECIPE = Recipe(
    ["runs/a", "runs/b"],
    "z-score",
    0.5,
    {"a": {"valence": 0.5, "energy": 1.0}, "b": {"valence": 0.5, "energy": 0.0}},
    {"valence": 0.5, "energy": 0.4},
    {"valence": 0.2, "energy": 0.1},
)
SCORE = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 40}
SCORES = {
    "pooled": {"valence": SCORE, "mean": SCORE},
    "per_seed": {"0": {"valence": SCORE}},
    "folds": {"0": {"0": {"valence": 0.5}}},
    "selected_on_validation": False,
}

ids = st.integers(0, 2**63 - 1)
names = st.text(
    st.characters(exclude_categories=["C", "Z"], exclude_characters=',";'), min_size=1, max_size=8
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Has audio of one second, an experiment and a run beside the damaged files."""
    from scipy.io import wavfile

    place = tmp_path_factory.mktemp("files")
    wavfile.write(place / "a.wav", 8000, np.zeros(8000, np.int16))
    (place / "small.toml").write_bytes(EXPERIMENT)
    (place / "run").mkdir()
    for name in ("oof.csv", "truth.csv"):
        (place / "run" / name).write_text("Id,valence\n1,0.5\n2,0.25\n")
    return place


def check_table(table):
    assert table.index.dtype == np.int64
    assert table.index.is_unique
    if isinstance(table, pd.Series):
        assert all(isinstance(name, str) and name for name in table)
    else:
        assert table.columns.is_unique
        assert np.isfinite(table.to_numpy()).all()


def check_targets(table):
    check_table(table)
    assert table.size >= 1
    assert ((table >= 0) & (table <= 1)).all(axis=None)
    assert table.index.min() >= 0


def check_sample(sample):
    predictions = pd.DataFrame(0.5, sample.index, ["energy", "valence"])
    assert len(submission_table(predictions, sample)) == len(sample)


def check_clips(clips):
    assert clips["id"].is_unique
    assert (clips["id"] >= 0).all()
    assert clips["path"].map(lambda path: path.endswith("a.wav")).all()


def check_recipe(recipe):
    table = pd.DataFrame({"valence": [0.1, 0.2], "energy": [0.3, 0.1]}, pd.Index([1, 2], name="Id"))
    blended = recipe.predict({name: [table] for name in recipe.weights})
    assert list(blended.columns) == list(recipe.targets)


def check_experiment(experiment):
    assert build_experiment(json.loads(json.dumps(experiment_to_dict(experiment))), "there") == experiment


def read_any_study(path):
    try:
        return read_study(path)
    except InputError as error:
        if "small.toml" in str(error) or "does not exist" in str(error):
            return None  # it names the experiment, which a damaged study may name wrongly
        raise


READERS = {  # a valid file, what reads it, what then holds, and content that once was a problem
    "train_labels.txt": (
        *(TARGETS, read_targets, check_targets),
        *(b"9223372036854775808,0.5,0.5,0.5\n", b"9" * 5000 + b",0.5,0.5,0.5\n", b"Id\n1\n"),
        *(b"Id,valence\n1," + b"a" * 140_000, b"Id,valence,valence\n1,0.5,0.5\n"),
        *(b"Id," + b"[" * 3000 + b"\n1,x\n", b'Id,valence\n1,"0.5\n2,0.5\n'),
    ),
    "energy.txt": (TARGETS, partial(read_targets, targets=("energy",)), check_targets),
    "genres.txt": (GENRES, read_genres, check_table),
    "groups.csv": (GROUPS, read_groups, check_table),
    "oof.csv": (
        *(PREDICTIONS, read_predictions, check_table, b"Id,valence\n99999999999999999999,0.5\n"),
        *(b"Id,valence,valence\n1,0.5,0.5\n", b"Id\n1\n"),
    ),
    "sample_submission.csv": (
        *(SAMPLE, partial(read_sample, targets=("energy", "valence")), check_sample),
        *(b"valence,valence,energy\n1,0,0\n", b"Id\n" + b"9" * 5000, "Id\n\u0663\n".encode()),
        b"\xef\xbb\xbf\xef\xbb\xbfId,valence,energy\n1,0,0\n",
    ),
    "clips.csv": (CLIPS, read_clips, check_clips),
    "damaged.toml": (
        *(EXPERIMENT, read_differences, len, b"task = 0x" + b"f" * 6000, b"seeds = [" + b"9" * 5000 + b"]"),
        *(b"seeds = " + b"[" * 3000, b'name = "a\\u0000b"', b'name = "' + b"a" * 300 + b'"'),
        b"seeds = [4294967296]",
    ),
    "experiment.json": (
        *(json.dumps(experiment_to_dict(Experiment())).encode(), lambda path: read_experiment(path.parent)),
        *(check_experiment, b"-1", b"[" * 100_000),
    ),
    "study.toml": (
        *(STUDY, read_any_study, str, b"a" * 140_000 + b" = 1", STUDY.replace(b"small.toml", b"9" * 5000)),
        STUDY.replace(b'"grid"', b'"../grid"'),
    ),
    "run/scores.json": (json.dumps(SCORES).encode(), lambda path: read_run(path.parent, "run"), str),
    "blend.json": (
        *(json.dumps(asdict(RECIPE)).encode(), lambda path: read_recipe(path.parent), check_recipe),
        json.dumps(asdict(RECIPE) | {"weights": {"a": {"valence": 1}}}).encode(),
        json.dumps(asdict(RECIPE) | {"target_mean": {}}).encode(),
    ),
}


def check_reader(folder, name, content):
    _, read, check, *_ = READERS[name]
    held = only_sentences(read, folder / name, content)
    if held is not None:
        check(held)


@pytest.mark.parametrize("name", READERS)
@several
@given(st.data())
def test_a_damaged_file_is_read_right_or_refused_in_a_sentence(folder, name, data):
    contents = damaged(READERS[name][0])
    if name.endswith("json"):
        contents |= altered(json.loads(READERS[name][0])).map(json.dumps).map(str.encode)
    check_reader(folder, name, data.draw(contents))


@pytest.mark.parametrize("name", READERS)
def test_content_that_was_a_problem_once(folder, name):
    for content in READERS[name][3:]:
        check_reader(folder, name, content)


def test_a_recipe_is_read_as_it_was_written(folder):
    (folder / "blend.json").write_text(json.dumps(asdict(RECIPE)))
    assert read_recipe(folder) == RECIPE


def test_predictions_of_longer_rows_than_the_header_are_refused(folder):
    """Pandas would take the first cell for an index, and every number for its neighbour's."""
    (folder / "oof.csv").write_text("Id,valence\n1,2,0.5\n2,3,0.5\n")
    with pytest.raises(InputError, match="has the columns 'Id', 'valence', None; expected"):
        read_predictions(folder / "oof.csv")


@st.composite
def tables(draw):
    rows = draw(st.dictionaries(ids, st.none(), min_size=1, max_size=6))
    columns = draw(st.lists(names.map("t".__add__) | st.just("NA"), min_size=1, max_size=4, unique=True))
    cells = st.lists(st.floats(0, 1), min_size=len(columns), max_size=len(columns))
    return pd.DataFrame([draw(cells) for _ in rows], pd.Index(list(rows), name="Id", dtype=np.int64), columns)


@several
@given(tables(), st.sampled_from(",\t "), st.sampled_from(["\n", "\r\n"]), st.sampled_from(["", "\ufeff"]))
def test_valid_targets_are_read_as_they_were_written(folder, table, separator, ending, mark):
    rows = [["Id", *table.columns]] + [[str(row[0]), *map(repr, row[1:])] for row in table.itertuples()]
    text = mark + "".join(separator.join(row) + ending for row in rows)
    (folder / "train_labels.txt").write_bytes(text.encode())
    pd.testing.assert_frame_equal(read_targets(folder / "train_labels.txt"), table)


@several
@given(
    st.dictionaries(ids, names, min_size=1),
    st.sampled_from(["", ".fused.full.npy.gz", ".beatsync.fused.npy"]),
)
def test_valid_genres_are_read_as_they_were_written(folder, genre_of, ending):
    lines = ["Id\tGenre", *(f"{number}{ending}\t{genre}" for number, genre in genre_of.items())]
    (folder / "train_labels.txt").write_text("\n".join(lines), encoding="utf-8")
    assert read_genres(folder / "train_labels.txt").to_dict() == genre_of


@several
@given(tables(), st.floats(allow_nan=False, allow_infinity=False))
def test_predictions_are_read_to_the_last_bit(folder, table, factor):
    table = (table * factor).clip(-1e300, 1e300)
    write_predictions(folder / "test.csv", table)
    pd.testing.assert_frame_equal(read_predictions(folder / "test.csv"), table, check_exact=True)


@several
@given(
    tables(),
    st.randoms(use_true_random=False),
    st.sampled_from(["", ".npy", ".fused.full.npy.gz"]),
    st.booleans(),
)
def test_a_submission_is_as_its_sample(folder, table, order, ending, is_quoted):
    predicted, columns = list(table.index), list(table.columns)
    assume("id" not in columns)
    order.shuffle(predicted)
    order.shuffle(columns)
    sample = pd.DataFrame(0.0, [f"{number}{ending}" for number in predicted], columns).rename_axis("id")
    sample.to_csv(folder / "sample.csv", quoting=int(is_quoted))
    asked = read_sample(folder / "sample.csv", tuple(table.columns))
    write_submission(folder / "made.csv", table, asked, {}, overwrite=True)
    written = pd.read_csv(folder / "made.csv", dtype={"id": str}).set_index("id")
    assert written.index.tolist() == sample.index.tolist()
    np.testing.assert_array_equal(written.to_numpy(), table.loc[predicted, columns].to_numpy())


@several
@given(tables(), st.lists(names, min_size=6, max_size=6))
def test_valid_clips_are_read_as_they_were_written(folder, table, groups):
    table = table.rename(columns={name: f"target {number}" for number, name in enumerate(table.columns)})
    rows = table.reset_index().rename(columns={"Id": "id"}).assign(path="a.wav")
    rows = rows.assign(id=rows["id"] % 2**52).drop_duplicates("id", ignore_index=True)
    rows["start_seconds"] = np.arange(len(rows)) / 8
    rows["group"] = groups[: len(rows)]
    rows.to_csv(folder / "clips.csv", index=False)
    clips = read_clips(folder / "clips.csv")
    pd.testing.assert_frame_equal(
        clips.drop(columns="path"), rows[clips.columns.drop("path")], check_dtype=False
    )


@several
@given(
    st.text(st.characters(exclude_categories=["C"], exclude_characters="/"), min_size=1, max_size=20),
    st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=3, unique=True),
    st.floats(1e-6, 1, exclude_min=True),
    st.dictionaries(
        st.text(st.characters(exclude_categories=["C"])), st.text(st.characters(exclude_categories=["C"]))
    ),
)
def test_an_experiment_file_is_read_as_it_was_written(folder, name, seeds, rate, genres):
    data, optim = DataSection(genres=genres), OptimSection(learning_rate=rate)
    experiment = Experiment(name=f"x{name}", task="genre", seeds=tuple(seeds), data=data, optim=optim)
    (folder / "written.toml").write_text(experiment_toml(experiment), encoding="utf-8")
    assert build_experiment(read_differences(folder / "written.toml"), "here") == experiment
