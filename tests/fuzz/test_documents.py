"""Experiments, studies and the JSON of runs, whole and damaged."""

import json
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import pytest
from damaged import altered, damaged, only_sentences, several
from hypothesis import example, given
from hypothesis import strategies as st

from music_emotion.config import DataSection, Experiment, OptimSection, build_experiment, experiment_to_dict
from music_emotion.evaluation.blend import Recipe, read_recipe
from music_emotion.evaluation.report import read_run
from music_emotion.experiment_files import experiment_toml, read_differences
from music_emotion.files import InputError
from music_emotion.runs import read_experiment
from music_emotion.study_file import read_study

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


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("documents")
    (place / "small.toml").write_bytes(EXPERIMENT)
    (place / "run").mkdir()
    for name in ("oof.csv", "truth.csv"):
        (place / "run" / name).write_text("Id,valence\n1,0.5\n2,0.25\n")
    return place


def read_any_study(path):
    try:
        return read_study(path)
    except InputError as error:
        if "small.toml" in str(error) or "does not exist" in str(error):
            return None  # it names the experiment, which a damaged study may name wrongly
        raise


def read_scores(path):
    return read_run(path.parent, "run")


READERS = {  # a valid document, what reads it, and content that once was a problem
    "damaged.toml": (
        *(EXPERIMENT, read_differences, b"task = 0x" + b"f" * 6000, b"seeds = [" + b"9" * 5000 + b"]"),
        *(b"seeds = " + b"[" * 3000, b'name = "a\\u0000b"', b'name = "' + b"a" * 300 + b'"'),
        b"seeds = [4294967296]",
    ),
    "experiment.json": (
        *(json.dumps(experiment_to_dict(Experiment())).encode(), lambda path: read_experiment(path.parent)),
        *(b"-1", b"[" * 100_000),
    ),
    "study.toml": (
        *(STUDY, read_any_study, b"a" * 140_000 + b" = 1", STUDY.replace(b"small.toml", b"9" * 5000)),
        STUDY.replace(b'"grid"', b'"../grid"'),
    ),
    "run/scores.json": (json.dumps(SCORES).encode(), read_scores),
}


@pytest.mark.parametrize("name", READERS)
@several
@given(st.data())
def test_a_damaged_document_is_read_or_refused_in_a_sentence(folder, name, data):
    valid, read, *_ = READERS[name]
    only_sentences(read, folder / name, data.draw(damaged(valid)))


@pytest.mark.parametrize("name", READERS)
def test_content_that_was_a_problem_once(folder, name):
    for content in READERS[name][2:]:
        only_sentences(READERS[name][1], folder / name, content)


@several
@given(altered(SCORES))
def test_scores_of_other_values(folder, scores):
    only_sentences(read_scores, folder / "run" / "scores.json", json.dumps(scores).encode())


@several
@given(altered(experiment_to_dict(Experiment())))
def test_an_experiment_of_other_values(document):
    """However it is refused, and when it is taken, it can be written and read again."""
    if not isinstance(document, dict):
        return
    try:
        experiment = build_experiment(document, "here")
    except InputError as error:
        said = str(error)
        assert said[-1] in ".?"
        assert len(said) < 5000
        return
    held = json.loads(json.dumps(experiment_to_dict(experiment)))
    assert build_experiment(held, "there") == experiment


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


@several
@example(json.dumps(asdict(RECIPE) | {"weights": {"a": {"valence": 1}}}).encode())
@example(json.dumps(asdict(RECIPE) | {"target_mean": {}}).encode())
@example(json.dumps(asdict(RECIPE)).encode())
@given(damaged(json.dumps(asdict(RECIPE)).encode()) | altered(asdict(RECIPE)).map(json.dumps).map(str.encode))
def test_a_damaged_recipe(folder, content):
    recipe = only_sentences(lambda path: read_recipe(path.parent), folder / "blend.json", content)
    if content == json.dumps(asdict(RECIPE)).encode():
        assert recipe == RECIPE
    if recipe is None:
        return
    table = pd.DataFrame({"valence": [0.1, 0.2], "energy": [0.3, 0.1]}, pd.Index([1, 2], name="Id"))
    blended = recipe.predict({name: [table] for name in recipe.weights})
    assert list(blended.columns) == list(recipe.targets)
