"""Packaging: what a bundle and a plan hold, that they are the same again, and every rule they are held to."""

import hashlib
import shutil
import tomllib
from dataclasses import asdict
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pandas as pd
import pytest

from music_emotion import files
from music_emotion.config import Experiment, build_experiment
from music_emotion.evaluation.blend import read_recipe
from music_emotion.evaluation.scores import every_fold
from music_emotion.files import InputError, prediction_table, read_json, write_json, write_predictions
from music_emotion.kaggle import bundle
from music_emotion.kaggle.bundle import PACKAGE, check_dataset, package, write_package
from music_emotion.kaggle.metadata import check_metadata, make_metadata
from music_emotion.kaggle.plan import Plan, add_plan, plan_training
from music_emotion.models.ear import FILES, ear_folder
from music_emotion.models.embedding_table import Hearing

PROJECT = Path(__file__).parents[2]
TRUNK = "runs/genres/seed0/fold0/model.safetensors"
GIVEN = {"owner": "somebody", "competition": "some-lab-2022", "sources": ("a/b-data",)}
SLUGS = {"dataset": "music-emotion-both", "kernel": "music-emotion-both-inference"}
NAMES = {**GIVEN, **SLUGS, "resume": None}


def pack(*what: str, **more: object) -> str:
    """Package below build/, and return the bundle's hash."""
    package(*map(Path, what), **{**GIVEN, "name": "both", **more})
    return read_json(Path("build/both/dataset/manifest.json"))["bundle"]


def write_blend(*members: str) -> None:
    """Write the recipe of runs/both."""
    recipe = {
        "members": [f"runs/{name}" for name in members],
        "method": "rank",
        "shrinkage": 0.25,
        "weights": {name: {"valence": 0.5} for name in members},
        "target_mean": {"valence": 0.5},
        "target_deviation": {"valence": 0.2},
    }
    write_json(Path("runs/both/blend.json"), recipe)


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    """A working folder, and a package that takes no time."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(bundle, "write_package", lambda path: path.write_bytes(b"package"))


@pytest.fixture
def blended() -> None:
    """A blend of two runs whose models are a few bytes."""
    for name, seeds in (("one", [0, 1]), ("two", [3])):
        run = Path("runs", name)
        write_json(run / "experiment.json", {"name": name, "seeds": seeds, "folds": {"n": 2}})
        for seed in seeds:
            for fold in range(2):
                model = run / f"seed{seed}" / f"fold{fold}" / "model.safetensors"
                model.parent.mkdir(parents=True)
                model.write_bytes(f"{name} {seed} {fold}".encode())
                table = prediction_table(np.arange(3), np.array([[0.1], [0.5], [0.2]]), ("valence",))
                write_predictions(model.with_name("test.csv"), table)
    write_blend("one", "two")
    tables = {name: every_fold(Path("runs", name), "test") for name in ("one", "two")}
    write_predictions(Path("runs/both/test.csv"), read_recipe(Path("runs/both")).predict(tables))


@pytest.mark.usefixtures("blended")
def test_a_bundle_is_flat_described_private_and_the_same_again(capsys):
    found = pack("runs/both")
    assert f"bundle {found[:12]}, 9 files" in capsys.readouterr().out
    dataset, kernel = Path("build/both/dataset"), Path("build/both/kernel")
    manifest = read_json(dataset / "manifest.json")
    models = [f"one-seed{seed}-fold{fold}.safetensors" for seed in (0, 1) for fold in (0, 1)]
    assert manifest["models"] == {"one": models, "two": [f"two-seed3-fold{n}.safetensors" for n in (0, 1)]}
    assert set(manifest["files"]) == {*models, *manifest["models"]["two"], PACKAGE}
    named = {*manifest["files"], "manifest.json", "dataset-metadata.json"}
    assert {path.name for path in dataset.iterdir()} == named
    assert manifest["recipe"] == read_json(Path("runs/both/blend.json"))
    assert manifest["competition"] == "some-lab-2022"
    assert read_json(dataset / "dataset-metadata.json") == {
        "title": "music emotion both",
        "id": "somebody/music-emotion-both",
        "licenses": [{"name": "other"}],
    }
    metadata = read_json(kernel / "kernel-metadata.json")
    assert metadata["title"] == "music emotion both inference"
    assert metadata["enable_internet"] is False
    assert metadata["is_private"] is True
    assert (metadata["enable_gpu"], metadata["machine_shape"]) == (True, "NvidiaTeslaT4")
    assert metadata["dataset_sources"] == ["somebody/music-emotion-both", "a/b-data"]
    assert metadata["competition_sources"] == ["some-lab-2022"]
    assert f'BUNDLE = "{found}"' in (kernel / metadata["code_file"]).read_text()
    assert pack("runs/both") == found
    Path("runs/one/seed0/fold0/model.safetensors").write_bytes(b"trained longer")
    assert pack("runs/both") != found
    assert sorted(path.name for path in Path("build/both").iterdir()) == ["dataset", "kernel"]
    for path in Path("runs/one").glob("*/*/test.csv"):
        path.write_text("Id,valence\n0,0.5\n1,0.1\n2,0.2\n")
    with pytest.raises(InputError, match=r"The runs of .*both have changed since it was made\. Blend"):
        pack("runs/both")


def test_the_package_is_the_same_from_a_checkout_as_from_a_wheel(tmp_path, monkeypatch):
    site = tmp_path / "site"
    places = {"src/music_emotion": ".", "experiments": "experiments", "kaggle": "kaggle/templates"}
    for source, place in places.items():
        shutil.copytree(PROJECT / source, site / "music_emotion" / place, dirs_exist_ok=True)
    write_package(tmp_path / "checkout.whl")
    for module in (bundle, files):
        place = site / Path(str(module.__file__)).relative_to(PROJECT / "src")
        monkeypatch.setattr(module, "__file__", str(place))
    write_package(tmp_path / "wheel.whl")
    assert (tmp_path / "wheel.whl").read_bytes() == (tmp_path / "checkout.whl").read_bytes()
    with ZipFile(tmp_path / "checkout.whl") as archive:
        names = archive.namelist()
    templates = {f"kaggle/templates/{path.name}" for path in (PROJECT / "kaggle").glob("*.*")}
    needed = {*templates, "kaggle/kernel.py", "experiments/multitask.toml"}
    needed |= {f"datasets/public/splits/gtzan-{part}.txt" for part in ("train", "valid", "test")}
    needed |= {"datasets/public/splits/NOTICE-gtzan.txt"}
    assert {f"music_emotion/{name}" for name in needed} < set(names)
    assert not [name for name in names if "__pycache__" in name or not name.startswith("music_emotion/")]


@pytest.mark.usefixtures("blended")
def test_a_classical_member_travels_as_the_folds_it_is_fitted_to_again():
    run, dataset = Path("runs/one"), Path("build/both/dataset")
    written = {"name": "one", "seeds": [0, 1], "classical": {"kind": "ridge"}, "folds": {"n": 2}}
    write_json(run / "experiment.json", written)
    for seed in (0, 1):
        for fold in (0, 1):
            ids = [1 + fold, 3 + fold] if seed == 0 else [1 + 2 * fold, 2 + 2 * fold]
            table = prediction_table(np.array(ids), np.zeros((2, 1)), ("valence",))
            write_predictions(run / f"seed{seed}" / f"fold{fold}" / "valid.csv", table)
    pack("runs/both")
    manifest = read_json(dataset / "manifest.json")
    assert list(manifest["models"]) == ["two"]
    refitted = build_experiment(manifest["refits"]["one"]["experiment"], "manifest")
    assert refitted == build_experiment(written, "run")
    folds = dataset / manifest["refits"]["one"]["folds"]
    assert folds.read_text().split() == ["Id,0,1", "1,0,0", "2,1,0", "3,0,1", "4,1,1"]
    (run / "seed1" / "fold0" / "valid.csv").unlink()
    with pytest.raises(InputError, match=r"one/seed1/fold0/valid\.csv does not exist.*lacks a fold"):
        pack("runs/both")


@pytest.mark.usefixtures("blended")
def test_tables_travel_or_the_weights_to_make_them_and_what_a_kernel_lacks_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    hearing = Hearing({"ear.safetensors": hashlib.sha256(b"weights").hexdigest()}, 187, (22.0,))
    table = pd.DataFrame({"id": [1], "settings": str(hearing), "a:0": 0.5})
    section = {"statistics": "s-{split}.csv", "embeddings": ["e.csv"]}
    experiment = build_experiment({"name": "one", "data": section, "classical": {"kind": "ridge"}}, "here")
    dataset, contents = tmp_path / "dataset", {"tables": {}, "embed": {}}
    dataset.mkdir()

    def add(given: Experiment) -> None:
        bundle._add_tables(Path("runs/one"), given, dataset, contents)

    lacks = r"runs/one: the table .*csv does not exist\. The kernel needs it"
    for path in ("s-train.csv", "s-test.csv"):
        with pytest.raises(InputError, match=lacks):
            add(experiment)
        contents["tables"].clear()
        table.to_csv(path, index=False)
    weights = ear_folder() / "ear.safetensors"
    for content in (b"others", None):
        with pytest.raises(
            InputError, match=r"s-test\.csv was embedded with ear\.safetensors .* which .* lacks"
        ):
            add(experiment)
        contents["tables"].clear()
        weights.parent.mkdir(parents=True, exist_ok=True)
        weights.write_bytes(content or b"weights")
    with pytest.raises(InputError, match=lacks):
        add(experiment)
    contents["tables"].clear()
    table[["id", "a:0"]].to_csv("e.csv", index=False)
    add(experiment)
    add(experiment)
    assert contents["tables"] == {"s-{split}.csv": "table0-{split}.csv", "e.csv": "table1-{split}.csv"}
    assert contents["embed"] == {"table0-test.csv": asdict(hearing)}
    files = {path.name for path in dataset.iterdir()}
    assert files == {"ear.safetensors", "table0-train.csv", "table1-train.csv", "table1-test.csv"}
    network = build_experiment(
        {"data": {"statistics": "s.csv"}, "model": {"kind": "mlp"}, "excerpt": {"frames": 1}}, "here"
    )
    with pytest.raises(InputError, match=r"runs/one is a network that reads s\.csv\. Blend"):
        add(network)


def test_a_plan_has_no_weights_and_its_kernel_the_output_to_go_on_from():
    Path("plain.toml").write_text('name = "plain"\n')
    pack("plain.toml", hours=8.0, resume="somebody/some-kernel")
    dataset = Path("build/both/dataset")
    assert {path.name for path in dataset.iterdir()} == {"dataset-metadata.json", PACKAGE, "manifest.json"}
    plan = Plan.model_validate(read_json(dataset / "manifest.json")["plan"])
    assert (plan.name, plan.hours, plan.resume) == ("both", 8.0, "somebody/some-kernel")
    metadata = read_json(Path("build/both/kernel/kernel-metadata.json"))
    assert metadata["kernel_sources"] == ["somebody/some-kernel"]
    assert metadata["id"] == "somebody/music-emotion-both-run"


@pytest.mark.parametrize(
    ("dataset", "kernel", "sentence"),
    [
        ({"licenses": []}, {}, r"licenses is \[\]; list should have at least 1"),
        ({"title": "another title"}, {}, "another slug of the title 'another title' than"),
        ({"id_no": 5}, {}, "unknown key 'id_no'"),
        ({}, {"enable_internet": True}, "enable_internet is True; input should be False"),
        ({}, {"enable_internet": None}, r"kernel-metadata\.json: enable_internet is missing"),
        ({}, {"is_private": None}, "is_private is missing"),
        ({}, {"enable_gpu": None}, "enable_gpu is missing"),
        ({}, {"code_file": None}, "code_file is missing"),
        ({}, {"is_private": "yes"}, "is_private is 'yes'; input should be a valid boolean"),
        ({}, {"language": "klingon"}, "language is 'klingon'; input should be 'python'"),
        ({}, {"model_sources": ["a/b/c/d/1"]}, "model_sources is"),
        ({"licenses": [{"name": "a"}, {"name": "b"}]}, {}, "at most 1"),
        ({"subtitle": "short"}, {}, "subtitle is 'short'; string should have at least 20"),
        ({}, {"machine_shape": "NvidiaTeslaP100"}, "machine_shape is 'NvidiaTeslaP100'"),
        ({}, {"machine_shape": ""}, "give machine_shape"),
        ({}, {"dataset_sources": ["somebody/music-emotion-both"] * 2}, "dataset_sources names one twice"),
        ({}, {"dataset_sources": ["a/b-data"]}, "does not hold somebody/music-emotion-both"),
        ({}, {"dataset_sources": ["somebody/music-emotion-both/3"]}, r"dataset_sources\.0 is"),
    ],
)
def test_metadata_that_kaggle_refuses_or_changes_gets_a_sentence(dataset, kernel, sentence):
    about, metadata = make_metadata(**NAMES)
    changed = {key: value for key, value in (metadata | kernel).items() if value is not None}
    with pytest.raises(InputError, match=sentence):
        check_metadata(about | dataset, changed)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("ümlaut.txt", b"x", "a character that Kaggle refuses"),
        ("49.txt", b"x", "holds 51 files"),
    ],
)
def test_files_that_kaggle_does_not_take_are_refused(tmp_path, name, content, sentence):
    for number in range(51 if name == "49.txt" else 1):
        (tmp_path / f"{number}.txt").write_text("x")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=sentence):
        check_dataset(tmp_path)


@pytest.fixture
def experiments() -> None:
    """A file for each of some experiments."""
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
        "tuned": '[model]\nkind = "ear"',
    }
    for name, text in texts.items():
        Path(f"{name}.toml").write_text(f'name = "{name}"\n{text}\n')
    Path("tables").mkdir()
    Path("tables/groups.csv").write_text("Id,group\n1,a\n")
    Path("dataset").mkdir()


def plan(*names: str) -> Plan:
    return plan_training([Path(name) for name in names], "kaggle", 8.0, None)


def placed(*names: str) -> dict[str, Experiment]:
    """The experiments of a plan by their names, as the kernel reads them."""
    manifest = add_plan(plan(*names), Path("dataset"))
    return {experiment.name: experiment for experiment in Plan.model_validate(manifest["plan"]).experiments}


@pytest.mark.usefixtures("experiments")
def test_the_files_that_experiments_name_travel_with_them(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(InputError, match=rf"model.trunk {TRUNK} does not exist\. Name its genre experiment"):
        placed("transfer.toml")
    Path(TRUNK).parent.mkdir(parents=True)
    Path(TRUNK).write_bytes(b"trunk")
    Path("resnet18.safetensors").write_bytes(b"weights")
    ear_folder().mkdir(parents=True)
    (ear_folder() / FILES[0]).write_bytes(b"ear")
    Path("set/multitask_dataset").mkdir(parents=True)
    Path("set/multitask_dataset/groups-train.csv").write_text("Id,group\n2,b\n")
    named = ("plain", "transfer", "pretrained", "tuned", "grouped")
    experiments = placed("multitask", *(f"{name}.toml" for name in named))
    data = experiments["plain"].data
    assert (data.root, data.stores) == ("data", "stores")
    for named, name, content in (
        (experiments["transfer"].folds.groups, "transfer-groups.csv", "Id,group\n1,a\n"),
        (experiments["transfer"].model.trunk, "transfer-trunk.safetensors", "trunk"),
        (experiments["pretrained"].model.weights, "pretrained-weights.safetensors", "weights"),
        (experiments["tuned"].model.weights, "tuned-weights.safetensors", "ear"),
        (experiments["grouped"].folds.groups, "grouped-groups.csv", "Id,group\n2,b\n"),
    ):
        assert named == name
        assert Path("dataset", name).read_text() == content
    assert placed("transfer.toml", "genres.toml")["transfer"].model.trunk == TRUNK  # it is trained there


@pytest.mark.usefixtures("experiments")
def test_a_blend_is_trained_again_with_the_genres_it_started_from_and_what_takes_seconds_first():
    for name in ("transfer", "genres", "ridge"):
        write_json(Path("runs", name, "experiment.json"), tomllib.loads(Path(f"{name}.toml").read_text()))
    write_blend("transfer", "ridge")
    ours = Plan.model_validate(add_plan(plan("runs/both"), Path("dataset"))["plan"])
    assert [e.name for e in ours.experiments] == ["ridge", "genres", "transfer"]
    assert (ours.method, ours.shrinkage) == ("rank", 0.25)
    with pytest.raises(InputError, match="Name either one blend or experiment files"):
        plan("runs/both", "plain.toml")


@pytest.mark.usefixtures("experiments")
@pytest.mark.parametrize(
    ("trunk", "started", "scored"),
    [
        ("trunk.safetensors", None, False),  # of no run
        ("runs/renamed/seed0/fold0/model.safetensors", {"name": "genres", "task": "genre"}, False),
        ("runs/genres/seed0/fold0/model.safetensors", {"name": "genres", "task": "genre"}, True),
        ("runs/genres/seed0/fold1/model.safetensors", {"name": "genres", "task": "genre"}, False),
        ("runs/plain/seed0/fold0/model.safetensors", {"name": "plain"}, False),
    ],
)
def test_a_trunk_that_pretraining_does_not_make_again_travels_itself(trunk, started, scored):
    path = Path(trunk)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"trunk")
    write_json(Path("runs/transfer/experiment.json"), {"name": "transfer", "model": {"trunk": trunk}})
    if started:
        write_json(path.parents[2] / "experiment.json", started)
    if scored:
        (path.parents[2] / "oof.csv").write_text("Id\n")
    write_blend("transfer")
    assert list(placed("runs/both")) == ["transfer"]
    assert Path("dataset/transfer-trunk.safetensors").read_bytes() == b"trunk"


TRAINED = {"hours": 8.0}


@pytest.mark.usefixtures("blended", "experiments")
@pytest.mark.parametrize(
    ("what", "given", "sentence"),
    [
        ([], {}, "nothing to package. Name a blend"),
        (["a", "b"], {}, "Several runs are packaged as a blend of them"),
        (["a.toml"], {}, "a.toml is an experiment. To train it on Kaggle, give --hours"),
        (["a"], {"resume": "a/kernel"}, "--resume continues a training. Give --hours"),
        (["a"], {"competition": None, "sources": ()}, "find no data. Give --competition, or --sources"),
        (["a"], {"name": "a/b"}, "name 'a/b' is not of letters"),
        (["runs/one"], {}, r"runs/one is not a blend\. Name one that"),
        (["a"], {"dataset": "short"}, "somebody/short is not 6 to 50 characters long. Correct --owner"),
        (["a"], {"dataset": "a" * 51}, "title is .*at most 50"),
        (["a"], {"dataset": "two--hyphens"}, "id is 'somebody/two--hyphens'"),
        (["a"], {"dataset": "Capital-Letters"}, "id is 'somebody/Capital-Letters'"),
        (["a"], {"owner": "some body"}, "id is 'some body/"),
        (["a"], {"kernel": "under_score"}, "kernel-metadata.json: id is 'somebody/under_score'"),
        (["a"], {"kernel": "music-emotion-both"}, "both called somebody/music-emotion-both"),
        (["a"], {"competition": "https://x"}, r"competition_sources.0 is 'https://x'"),
        (["a"], {"sources": ("nobody",)}, r"dataset_sources.1 is 'nobody'"),
        (["a"], {"resume": "nobody", **TRAINED}, r"kernel_sources.0 is 'nobody'"),
        (["a"], {"resume": "somebody/music-emotion-both-run", **TRAINED}, "the kernel itself, whose output"),
        (["genres.toml"], TRAINED, "No experiment predicts emotion"),
        (["plain.toml", "plain.toml"], TRAINED, "Two things are called plain"),
        (["plain.toml"], {"name": "plain", **TRAINED}, "Two things are called plain.*another --name"),
        (["energy.toml", "valence.toml"], TRAINED, "different data.targets"),
        (["plain.toml"], {"hours": 12.5}, "--hours is 12.5; give more than 0 and at most 11.5"),
        (["plain.toml"], {"hours": -1.0}, "--hours is -1"),
        (["repeats.toml"], TRAINED, "Experiment 'repeats': folds.split 'holdout' is not for Kaggle"),
        (["table.toml"], TRAINED, "Experiment 'table': data.statistics is not for Kaggle"),
        (["taught.toml"], TRAINED, "'taught': pseudo.teachers is not for Kaggle"),
    ],
)
def test_what_can_not_be_packaged_gets_a_sentence(what, given, sentence):
    with pytest.raises(InputError, match=sentence):
        pack(*what, **given)
    assert not Path("build/both").exists()
