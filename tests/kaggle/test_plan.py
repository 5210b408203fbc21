"""The plan of a training: what is in it, in which order, which files travel, and what is refused."""

import tomllib
from pathlib import Path

import pytest

from music_emotion.config import build_experiment, experiment_to_dict
from music_emotion.files import InputError, write_json
from music_emotion.kaggle.plan import add_plan, plan_training, read_plan

TRUNK = "runs/genres/seed0/fold0/model.safetensors"


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A working folder with a file for each experiment."""
    monkeypatch.chdir(tmp_path)
    texts = {
        "transfer": f'[model]\ntrunk = "{TRUNK}"\n[folds]\ngroups = "tables/groups.csv"',
        "genres": 'task = "genre"',
        "plain": '[data]\nroot = "/somewhere/else"',
        "ridge": '[classical]\nkind = "ridge"',
        "repeats": '[folds]\nsplit = "holdout"\n[classical]\nkind = "ridge"',
        "table": '[data]\nstatistics = "s.csv"\n[classical]\nkind = "ridge"',
        "taught": '[pseudo]\nteachers = ["runs/plain"]',
        "grouped": '[data]\nroot = "set"\n[folds]\ngroups = "set"',
        "valence": '[data]\ntargets = ["valence"]',
        "energy": '[data]\ntargets = ["energy"]',
        "pretrained": '[model]\nkind = "timm"\nweights = "resnet18.safetensors"',
    }
    for name, text in texts.items():
        Path(f"{name}.toml").write_text(f'name = "{name}"\n{text}\n')
    Path("tables").mkdir()
    Path("tables/groups.csv").write_text("Id,group\n1,a\n")
    Path("dataset").mkdir()
    return tmp_path


def plan(*names: str, name: str = "kaggle", hours: float = 8.0, resume: str | None = None):
    return plan_training([Path(each) for each in names], name, hours, resume)


def placed(*names: str):
    """The experiments of a plan by their names, as the kernel reads them."""
    manifest = add_plan(plan(*names), Path("dataset"))
    return {experiment.name: experiment for experiment in read_plan(manifest["plan"]).experiments}


@pytest.mark.usefixtures("folder")
def test_what_takes_seconds_comes_first_and_genres_before_what_starts_from_them():
    ordered = plan("plain.toml", "transfer.toml", "genres.toml", "ridge.toml")
    assert [e.name for e in ordered.experiments] == ["ridge", "genres", "plain", "transfer"]
    assert [e.name for e in ordered.emotion] == ["ridge", "plain", "transfer"]


@pytest.mark.usefixtures("folder")
def test_built_in_experiments_are_named_without_a_file():
    assert [e.name for e in plan("multitask", "ridge.toml").experiments] == ["ridge", "multitask"]


@pytest.mark.usefixtures("folder")
def test_the_files_that_experiments_name_travel_with_them():
    experiments = placed("transfer.toml", "genres.toml")
    assert experiments["transfer"].folds.groups == "transfer-groups.csv"
    assert Path("dataset/transfer-groups.csv").read_text() == "Id,group\n1,a\n"
    assert experiments["transfer"].model.trunk == TRUNK  # it is trained there
    Path("resnet18.safetensors").write_bytes(b"weights")
    assert placed("pretrained.toml")["pretrained"].model.weights == "pretrained-weights.safetensors"
    assert Path("dataset/pretrained-weights.safetensors").read_bytes() == b"weights"


@pytest.mark.usefixtures("folder")
def test_groups_of_the_set_travel_too():
    Path("set/multitask_dataset").mkdir(parents=True)
    Path("set/multitask_dataset/groups-train.csv").write_text("Id,group\n2,b\n")
    assert placed("grouped.toml")["grouped"].folds.groups == "grouped-groups.csv"
    assert Path("dataset/grouped-groups.csv").read_text() == "Id,group\n2,b\n"


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("name", "cause"), [("repeats", "folds.split 'holdout'"), ("table", "data.statistics")]
)
def test_what_needs_more_than_the_competition_has_is_refused(name, cause):
    with pytest.raises(InputError, match=f"Experiment '{name}': {cause} is not for Kaggle"):
        plan(f"{name}.toml")


@pytest.mark.usefixtures("folder")
def test_a_second_round_is_refused_since_its_teachers_are_not_there():
    with pytest.raises(InputError, match=r"'taught': pseudo.teachers are runs that Kaggle does not have"):
        plan("plain.toml", "taught.toml")


@pytest.mark.usefixtures("folder")
def test_a_trunk_that_is_there_travels_when_its_experiment_does_not():
    with pytest.raises(InputError, match=rf"model.trunk {TRUNK} does not exist\. Name its genre experiment"):
        placed("transfer.toml")
    Path(TRUNK).parent.mkdir(parents=True)
    Path(TRUNK).write_bytes(b"trunk")
    assert placed("transfer.toml")["transfer"].model.trunk == "transfer-trunk.safetensors"
    assert Path("dataset/transfer-trunk.safetensors").read_bytes() == b"trunk"


@pytest.mark.usefixtures("folder")
def test_an_experiment_is_the_same_wherever_its_data_was():
    experiment = placed("plain.toml")["plain"]
    assert (experiment.data.root, experiment.data.stores) == ("data", "stores")


@pytest.mark.usefixtures("folder")
def test_a_plan_is_known_by_its_experiments_and_not_by_its_hours():
    assert plan("plain.toml", hours=1).hash == plan("plain.toml", hours=9, resume="a/some-kernel").hash
    assert plan("plain.toml").hash != plan("ridge.toml").hash


@pytest.mark.usefixtures("folder")
def test_a_blend_is_trained_again_with_the_genres_it_started_from():
    for name in ("transfer", "genres", "ridge"):
        text = Path(f"{name}.toml").read_text()
        experiment = build_experiment(tomllib.loads(text), name)
        write_json(Path("runs", name, "experiment.json"), experiment_to_dict(experiment))
    recipe = {
        "members": ["runs/transfer", "runs/ridge"],
        "method": "rank",
        "shrinkage": 0.25,
        "weights": {"transfer": {"valence": 0.5}, "ridge": {"valence": 0.5}},
        "target_mean": {"valence": 0.5},
        "target_deviation": {"valence": 0.2},
    }
    write_json(Path("runs/both/blend.json"), recipe)
    ours = plan("runs/both")
    assert [e.name for e in ours.experiments] == ["ridge", "genres", "transfer"]
    assert (ours.method, ours.shrinkage) == ("rank", 0.25)
    assert read_plan(add_plan(ours, Path("dataset"))["plan"]).shrinkage == 0.25
    with pytest.raises(InputError, match="Name either one blend or experiment files"):
        plan("runs/both", "plain.toml")


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("trunk", "spoil"),
    [
        ("trunk.safetensors", "nothing"),  # of no run
        ("runs/renamed/seed0/fold0/model.safetensors", "renamed"),
        ("runs/genres/seed0/fold0/model.safetensors", "cross-validated"),
        ("runs/genres/seed0/fold1/model.safetensors", "cross-validated"),
        ("runs/plain/seed0/fold0/model.safetensors", "emotion"),
    ],
)
def test_a_trunk_that_pretraining_does_not_make_again_travels_itself(trunk, spoil):
    path = Path(trunk)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"trunk")
    differences = {"name": "transfer", "model": {"trunk": trunk}}
    write_json(Path("runs/transfer/experiment.json"), differences)
    if len(path.parts) > 1:
        started = {"name": "genres", "task": "genre"} if spoil != "emotion" else {"name": "plain"}
        write_json(path.parents[2] / "experiment.json", started)
    if spoil == "cross-validated":
        (path.parents[2] / "oof.csv").write_text("Id\n")
    recipe = {
        "members": ["runs/transfer"],
        "method": "z-score",
        "shrinkage": 0.5,
        "weights": {"transfer": {"valence": 1.0}},
        "target_mean": {"valence": 0.5},
        "target_deviation": {"valence": 0.2},
    }
    write_json(Path("runs/both/blend.json"), recipe)
    ours = plan("runs/both")
    assert [e.name for e in ours.experiments] == ["transfer"]
    add_plan(ours, Path("dataset"))
    assert Path("dataset/transfer-trunk.safetensors").read_bytes() == b"trunk"


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("names", "changes", "sentence"),
    [
        (["genres.toml"], {}, "No experiment predicts emotion"),
        (["plain.toml", "plain.toml"], {}, "Two things are called plain"),
        (["plain.toml"], {"name": "plain"}, "Two things are called plain.*another --name"),
        (["energy.toml", "valence.toml"], {}, "different data.targets"),
        (["plain.toml"], {"hours": 12.5}, "--hours is 12.5; give more than 0 and at most 11.5"),
        (["plain.toml"], {"hours": -1.0}, "--hours is -1"),
        (["missing.toml"], {}, "missing.toml does not exist"),
        (["runs/missing"], {}, "runs/missing is not a folder"),
    ],
)
def test_a_plan_that_can_not_be_is_refused(names, changes, sentence):
    with pytest.raises(InputError, match=sentence):
        plan(*names, **changes)
