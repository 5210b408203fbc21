from pathlib import Path
from typing import Any

import pytest

from music_emotion.config import (
    Experiment,
    build_experiment,
    differing_keys,
    experiment_to_dict,
    read_differences,
)
from music_emotion.files import InputError

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
ABLATIONS = sorted((EXPERIMENTS / "ablations").glob("*.toml"))
FILES = [*sorted(EXPERIMENTS.glob("*.toml")), *ABLATIONS]
# A backbone needs the kind that reads it, and a trunk that rests has to be there.
NEEDED_TOO = {"model.backbone": {"model.kind"}, "train.frozen_epochs": {"model.trunk"}}


def test_there_are_experiment_files():
    assert len(FILES) >= 10


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_experiment_file_reads_and_is_named_after_its_file(path):
    assert build_experiment(read_differences(path), str(path)).name == path.stem


@pytest.mark.parametrize("path", ABLATIONS, ids=lambda path: path.stem)
def test_an_ablation_changes_one_key_of_the_default_at_the_common_budget(path):
    default = _resolved(EXPERIMENTS / "ablations" / "ablation-default.toml")
    changed = set(differing_keys(_resolved(path), default)) - {"name"}
    for key, needed in NEEDED_TOO.items():
        changed -= needed if key in changed else set()
    assert len(changed) == (path.stem != "ablation-default")


def test_the_default_of_the_ablations_is_the_default_but_for_its_budget_and_what_they_added():
    default = _resolved(EXPERIMENTS / "ablations" / "ablation-default.toml")
    bench = _resolved(EXPERIMENTS / "bench-multitask.toml")
    assert set(differing_keys(default, bench)) == {"name", "train.epochs", "augment.equaliser"}


def _resolved(path: Path) -> dict[str, Any]:
    return experiment_to_dict(build_experiment(read_differences(path), str(path)))


def test_a_resolved_experiment_reads_back_as_itself():
    experiment = build_experiment({"name": "x", "model": {"widths": [4, 8]}, "data": {"genres": {}}}, "here")
    assert build_experiment(experiment_to_dict(experiment), "there") == experiment


def test_differing_keys_are_dotted():
    one = experiment_to_dict(Experiment())
    other = experiment_to_dict(build_experiment({"seeds": [1], "optim": {"learning_rate": 1e-4}}, "here"))
    assert differing_keys(one, other) == ["optim.learning_rate", "seeds"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[optim]\nlearning_rat = 1", r"unknown key 'optim.learning_rat'; did you mean 'learning_rate'\?"),
        ("modle = 1", r"unknown key 'modle'; did you mean 'model'\?"),
        ("[model]\nkind = 'cnov'", r"model.kind is 'cnov'; .*did you mean 'conv'\?"),
        ("[train]\nepochs = 0", "train.epochs is 0; input should be greater than or equal to 1"),
        ("[train]\nepochs = 'many'", "train.epochs is 'many'"),
        ("[optim]\nlearning_rate = nan", "optim.learning_rate is nan"),
        ("seeds = []", "seeds is empty"),
        ("seeds = [1, 1]", "holds a seed twice"),
        ("name = 'a/b'", "names a folder"),
        ("[train]\npatience = 3", "train.patience stops early, but train.select 'last'"),
        ("[train]\nfrozen_epochs = 3", "Give model.trunk or model.weights"),
        ("[model]\nreadout = 'flatten'\n[excerpt]\nframes = 0", "'flatten' fixes the input length"),
        ("[loss]\nsquared = 0\npairwise = 1", r"know no scale.*small weight, such as 0\.1"),
        ("[loss]\nsoft_rank = -1", "loss.soft_rank is -1; input should be greater than or equal to 0"),
        ("[loss]\nrank_normal = true\nstandardise = false", r"loss.standardise is false\. Give"),
        ("[augment]\nmixup_bandwidth = -1", "augment.mixup_bandwidth is -1"),
        ("[data]\nnormalise = 'none'", "knows no mean"),
        (
            "[data]\nnormalise = 'none'\n[augment]\nfrequency_masks = 0\ntime_masks = 0",
            "augment.equaliser counts in deviations .* augment.equaliser to 0",
        ),
        ("[augment]\nequaliser = -1", "augment.equaliser is -1; input should be greater than or equal to 0"),
        ("[pseudo]\nteacher = ['a']", r"unknown key 'pseudo.teacher'; did you mean 'teachers'\?"),
        ("[pseudo]\nclips = []", r"pseudo.clips is \[\]\. Give 'test', 'genre' or both"),
        ("[pseudo]\nclips = ['test', 'test']", "pseudo.clips is .* each once"),
        ("task = 'genre'\n[pseudo]\nteachers = ['a']", "pseudo.teachers give targets .* task 'emotion'"),
        ("[folds]\nsplit = 'holdout'\n[pseudo]\nteachers = ['a']", "pseudo.teachers .* folds.split 'folds'"),
        (
            "[data]\nstatistics = 'a'\n[classical]\nkind = 'svr'\n[pseudo]\nteachers = ['a']",
            "pseudo.teachers give targets to the layout's .* no data.statistics",
        ),
        (
            "[classical]\nkind = 'svr'\n[pseudo]\nteachers = ['a']",
            "'svr' is fitted again .* can be a teacher",
        ),
        ("[model]\nchannels = []", "give one to three"),
        ("[classical]\nkind = 'rigde'", r"classical.kind is 'rigde'; .*did you mean 'ridge'\?"),
        ("[classical]\nkind = 'svr'\nc = 0", "classical.c is 0; input should be greater than 0"),
        ("task = 'genre'\n[classical]\nkind = 'ridge'", "'ridge' is not for the task 'genre'"),
        (
            "[data]\nrate = 'beat'\n[classical]\nkind = 'svr'",
            "'svr' sums up full-rate arrays.*data.rate 'full'",
        ),
        ("[model]\ntrunk = 'a'\n[classical]\nkind = 'svr'", "'svr' has no use for model.trunk"),
        ("[model]\nweights = 'a'\n[classical]\nkind = 'svr'", "no use for model.trunk and model.weights"),
        ("name = ", "is not valid TOML"),
    ],
)
def test_a_wrong_file_gets_a_sentence_that_names_it(tmp_path, text, sentence):
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=sentence) as error:
        read_differences(path)
    assert "wrong.toml" in str(error.value) or "Experiment '" in str(error.value)


def test_genre_needs_no_squared_error():
    differences = {"task": "genre", "loss": {"squared": 0}}
    assert build_experiment(differences, "here").loss.squared == 0


def test_a_missing_file_gets_a_sentence(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read_differences(tmp_path / "none.toml")
