"""The bundle: what is in it, that it is the same again, and every rule it is held to."""

import hashlib
import json
import shutil
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest

from music_emotion import files
from music_emotion.config import (
    ClassicalSection,
    Experiment,
    FoldSection,
    build_experiment,
    experiment_to_dict,
)
from music_emotion.evaluation.blend import read_recipe
from music_emotion.evaluation.scores import every_fold
from music_emotion.files import InputError, prediction_table, read_json, write_json, write_predictions
from music_emotion.kaggle import bundle
from music_emotion.kaggle.bundle import PACKAGE, check_dataset, package, write_package
from music_emotion.kaggle.metadata import check_metadata, make_metadata
from music_emotion.kaggle.plan import read_plan

PROJECT = Path(__file__).parents[2]
NAMES = {
    "owner": "somebody",
    "dataset": "music-emotion-both",
    "kernel": "music-emotion-both-inference",
    "competition": "some-lab-2022",
    "sources": ("a/b-data",),
    "resume": None,
}


def pack(tmp_path: Path, *what: Path, **more: object) -> str:
    """Package below build/, and return the bundle's hash."""
    given = {"owner": "somebody", "competition": "some-lab-2022", "sources": ["a/b-data"], "name": "both"}
    said = package(what, out=tmp_path / "build", **{**given, **more})
    found = read_json(tmp_path / "build/both/dataset/manifest.json")["bundle"]
    assert f"bundle {found[:12]}" in said
    return found


@pytest.fixture
def blended(tmp_path) -> Path:
    """A blend of two runs whose models are a few bytes."""
    for name, seeds in (("one", [0, 1]), ("two", [3])):
        run = tmp_path / "runs" / name
        write_json(run / "experiment.json", {"name": name, "seeds": seeds, "folds": {"n": 2}})
        for seed in seeds:
            for fold in range(2):
                model = run / f"seed{seed}" / f"fold{fold}" / "model.safetensors"
                model.parent.mkdir(parents=True)
                model.write_bytes(f"{name} {seed} {fold}".encode())
                table = prediction_table(np.arange(3), np.array([[0.1], [0.5], [0.2]]), ("valence",))
                write_predictions(model.with_name("test.csv"), table)
    recipe = {
        "members": [str(tmp_path / "runs" / name) for name in ("one", "two")],
        "method": "z-score",
        "shrinkage": 0.5,
        "weights": {"one": {"valence": 0.25}, "two": {"valence": 0.75}},
        "target_mean": {"valence": 0.5},
        "target_deviation": {"valence": 0.2},
    }
    blended = tmp_path / "runs" / "both"
    write_json(blended / "blend.json", recipe)
    tables = {name: every_fold(tmp_path / "runs" / name, "test") for name in ("one", "two")}
    write_predictions(blended / "test.csv", read_recipe(blended).predict(tables))
    return blended


@pytest.fixture
def fast(monkeypatch):
    """A package that takes no time."""
    monkeypatch.setattr(bundle, "write_package", lambda path: path.write_bytes(b"package"))


@pytest.mark.usefixtures("fast")
def test_the_dataset_is_flat_and_the_manifest_tells_of_every_file(blended, tmp_path):
    found = pack(tmp_path, blended)
    dataset = tmp_path / "build" / "both" / "dataset"
    manifest = read_json(dataset / "manifest.json")
    models = [f"one-seed{seed}-fold{fold}.safetensors" for seed in (0, 1) for fold in (0, 1)]
    assert manifest["models"] == {"one": models, "two": [f"two-seed3-fold{n}.safetensors" for n in (0, 1)]}
    assert set(manifest["files"]) == {*models, *manifest["models"]["two"], PACKAGE}
    named = {*manifest["files"], "manifest.json", "dataset-metadata.json"}
    assert {path.name for path in dataset.iterdir()} == named
    for name, facts in manifest["files"].items():
        content = (dataset / name).read_bytes()
        assert facts == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    assert manifest["bundle"] == found
    assert manifest["recipe"] == read_json(blended / "blend.json")
    assert manifest["competition"] == "some-lab-2022"
    assert read_json(dataset / "dataset-metadata.json") == {
        "title": "music emotion both",
        "id": "somebody/music-emotion-both",
        "licenses": [{"name": "other"}],
    }


@pytest.mark.usefixtures("fast")
def test_the_kernel_is_offline_private_and_on_a_gpu_that_works(blended, tmp_path):
    found = pack(tmp_path, blended)
    kernel = tmp_path / "build" / "both" / "kernel"
    metadata = read_json(kernel / "kernel-metadata.json")
    assert metadata["id"] == "somebody/music-emotion-both-inference"
    assert metadata["title"].replace(" ", "-") == "music-emotion-both-inference"
    assert metadata["enable_internet"] is False
    assert metadata["is_private"] is True
    assert (metadata["enable_gpu"], metadata["machine_shape"]) == (True, "NvidiaTeslaT4")
    assert metadata["dataset_sources"] == ["somebody/music-emotion-both", "a/b-data"]
    assert metadata["competition_sources"] == ["some-lab-2022"]
    script = (kernel / metadata["code_file"]).read_text()
    assert f'BUNDLE = "{found}"' in script
    compile(script, "kernel.py", "exec")


@pytest.mark.usefixtures("fast")
def test_the_same_blend_is_the_same_bundle_and_another_is_not(blended, tmp_path):
    first = pack(tmp_path, blended)
    assert pack(tmp_path, blended) == first
    (tmp_path / "runs/one/seed0/fold0/model.safetensors").write_bytes(b"trained longer")
    assert pack(tmp_path, blended) != first
    assert sorted(path.name for path in (tmp_path / "build" / "both").iterdir()) == ["dataset", "kernel"]


def test_the_package_is_the_same_from_a_checkout_as_from_a_wheel(tmp_path, monkeypatch):
    site = tmp_path / "site"
    for source, place in (
        ("src/music_emotion", "."),
        ("experiments", "experiments"),
        ("kaggle", "kaggle/templates"),
    ):
        shutil.copytree(PROJECT / source, site / "music_emotion" / place, dirs_exist_ok=True)
    write_package(tmp_path / "checkout.whl")
    for module in (bundle, files):
        place = site / Path(str(module.__file__)).relative_to(PROJECT / "src")
        monkeypatch.setattr(module, "__file__", str(place))
    write_package(tmp_path / "wheel.whl")
    assert (tmp_path / "wheel.whl").read_bytes() == (tmp_path / "checkout.whl").read_bytes()
    with ZipFile(tmp_path / "checkout.whl") as archive:
        names = archive.namelist()
    templates = ["kernel.py", "kernel-metadata.json", "dataset-metadata.json"]
    assert {f"music_emotion/kaggle/templates/{name}" for name in templates} < set(names)
    assert {"music_emotion/kaggle/kernel.py", "music_emotion/experiments/multitask.toml"} < set(names)
    assert not [name for name in names if "__pycache__" in name or not name.startswith("music_emotion/")]


@pytest.mark.usefixtures("fast")
def test_a_classical_member_travels_as_the_folds_it_is_fitted_to_again(blended, tmp_path):
    run = tmp_path / "runs" / "one"
    experiment = Experiment(name="one", seeds=(0, 1), classical=ClassicalSection(kind="ridge"))
    experiment = experiment.model_copy(update={"folds": FoldSection(n=2)})
    write_json(run / "experiment.json", experiment_to_dict(experiment))
    for seed in (0, 1):
        for fold in (0, 1):
            ids = [1 + fold, 3 + fold] if seed == 0 else [1 + 2 * fold, 2 + 2 * fold]
            table = prediction_table(np.array(ids), np.zeros((2, 1)), ("valence",))
            write_predictions(run / f"seed{seed}" / f"fold{fold}" / "valid.csv", table)
    pack(tmp_path, blended)
    dataset = tmp_path / "build" / "both" / "dataset"
    manifest = read_json(dataset / "manifest.json")
    assert list(manifest["models"]) == ["two"]
    assert build_experiment(manifest["refits"]["one"]["experiment"], "manifest") == experiment
    folds = dataset / manifest["refits"]["one"]["folds"]
    assert folds.read_text().split() == ["Id,0,1", "1,0,0", "2,1,0", "3,0,1", "4,1,1"]
    (run / "seed1" / "fold0" / "valid.csv").unlink()
    with pytest.raises(InputError, match=r"one/seed1/fold0/valid\.csv does not exist.*lacks a fold"):
        pack(tmp_path, blended)


@pytest.mark.usefixtures("fast")
def test_a_plan_has_no_weights_and_its_kernel_the_output_to_go_on_from(tmp_path):
    (tmp_path / "plain.toml").write_text('name = "plain"\n')
    pack(tmp_path, tmp_path / "plain.toml", hours=8.0, resume="somebody/some-kernel")
    build = tmp_path / "build" / "both"
    named = {"dataset-metadata.json", PACKAGE, "manifest.json"}
    assert {path.name for path in (build / "dataset").iterdir()} == named
    plan = read_plan(read_json(build / "dataset" / "manifest.json")["plan"])
    assert (plan.name, plan.hours, plan.resume) == ("both", 8.0, "somebody/some-kernel")
    metadata = read_json(build / "kernel" / "kernel-metadata.json")
    assert metadata["kernel_sources"] == ["somebody/some-kernel"]
    assert metadata["id"] == "somebody/music-emotion-both-run"


@pytest.mark.parametrize(
    ("what", "more", "sentence"),
    [
        ([], {}, "nothing to package. Name a blend"),
        (["a", "b"], {}, "Several runs are packaged as a blend of them"),
        (["a.toml"], {}, "a.toml is an experiment. To train it on Kaggle, give --hours"),
        (["a"], {"resume": "a/kernel"}, "--resume goes on with a training. Give --hours"),
        (["a"], {"competition": None, "sources": ()}, "find no data. Give --competition, or --sources"),
        (["a"], {"name": "a/b"}, "name 'a/b' is not of letters"),
    ],
)
def test_what_can_not_be_packaged_gets_a_sentence(tmp_path, what, more, sentence):
    with pytest.raises(InputError, match=sentence):
        pack(tmp_path, *map(Path, what), **more)


@pytest.mark.usefixtures("fast")
def test_what_is_missing_gets_a_sentence(blended, tmp_path):
    with pytest.raises(InputError, match=r"runs/none is not a folder"):
        pack(tmp_path, tmp_path / "runs" / "none")
    with pytest.raises(InputError, match=r"runs/one is not a blend\. Name one that"):
        pack(tmp_path, tmp_path / "runs" / "one")
    (tmp_path / "runs" / "one" / "oof.csv").touch()
    with pytest.raises(InputError, match=r"runs/one is not a blend.*music-emotion blend .*runs/one"):
        pack(tmp_path, tmp_path / "runs" / "one")
    (tmp_path / "runs/two/seed3/fold1/model.safetensors").unlink()
    with pytest.raises(InputError, match=r"two/seed3/fold1/model\.safetensors does not exist.*lacks a fold"):
        pack(tmp_path, blended)
    retrained = tmp_path / "runs/one/seed0/fold0/test.csv"
    retrained.write_text(retrained.read_text().replace("0.5", "0.05"))
    with pytest.raises(InputError, match=r"The runs of .*both have changed since it was made\. Blend"):
        pack(tmp_path, blended)
    recipe = json.loads((blended / "blend.json").read_text())
    del recipe["target_mean"]
    write_json(blended / "blend.json", recipe)
    with pytest.raises(InputError, match=r"blend\.json: .*target_mean"):
        pack(tmp_path, blended)
    assert not (tmp_path / "build" / "both").exists()


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        (
            {"dataset": "short"},
            "slug of somebody/short is not 6 to 50 characters long. Correct --owner, --dataset",
        ),
        ({"dataset": "a" * 51}, "title is .*at most 50"),
        ({"dataset": "Capital-Letters"}, "id is 'somebody/Capital-Letters'"),
        ({"dataset": "two--hyphens"}, "id is 'somebody/two--hyphens'"),
        ({"kernel": "under_score"}, "kernel-metadata.json: id is 'somebody/under_score'"),
        ({"kernel": "music-emotion-both"}, "both called somebody/music-emotion-both"),
        ({"owner": "some body"}, "id is 'some body/"),
        ({"owner": ""}, "id is '/music-emotion-both'"),
        ({"competition": "https://x"}, r"competition_sources.0 is 'https://x'"),
        ({"sources": ("nobody",)}, r"dataset_sources.1 is 'nobody'"),
        ({"resume": "nobody"}, r"kernel_sources.0 is 'nobody'"),
        (
            {"resume": "somebody/music-emotion-both-inference"},
            "the kernel itself, whose output each push replaces",
        ),
    ],
)
def test_names_that_kaggle_refuses_get_a_sentence(fields, sentence):
    with pytest.raises(InputError, match=sentence):
        make_metadata(**{**NAMES, **fields})


@pytest.mark.parametrize(
    ("dataset", "kernel", "sentence"),
    [
        ({"licenses": []}, {}, r"licenses is \[\]; list should have at least 1"),
        ({"licenses": [{"name": "a"}, {"name": "b"}]}, {}, "at most 1"),
        ({"subtitle": "short"}, {}, "subtitle is 'short'; string should have at least 20"),
        (
            {"title": "another title"},
            {},
            "another slug of the title 'another title' than",
        ),
        ({"id_no": 5}, {}, "id_no is 5"),
        ({}, {"title": "x" * 51}, "at most 50 characters"),
        ({}, {"enable_internet": True}, "enable_internet is True; input should be False"),
        ({}, {"enable_internet": None}, "enable_internet is None"),
        ({}, {"machine_shape": "NvidiaTeslaP100"}, "machine_shape is 'NvidiaTeslaP100'"),
        ({}, {"machine_shape": ""}, "give machine_shape"),
        ({}, {"is_private": "yes"}, "is_private is 'yes'; input should be a valid boolean"),
        ({}, {"id_no": 5}, "id_no is 5"),
        ({}, {"language": "klingon"}, "language is 'klingon'; input should be 'python'"),
        ({}, {"dataset_sources": ["somebody/music-emotion-both"] * 2}, "dataset_sources names one twice"),
        ({}, {"dataset_sources": ["a/b-data"]}, "does not hold somebody/music-emotion-both"),
        ({}, {"dataset_sources": ["somebody/music-emotion-both/3"]}, r"dataset_sources\.0 is"),
        ({}, {"kernel_sources": ["somebody/music-emotion-both-inference"]}, "holds the kernel itself"),
        ({}, {"model_sources": ["a/b/c/d/1"]}, "model_sources is"),
        ({}, {"id": "somebody/music-emotion-both", "title": "music emotion both"}, "both called"),
    ],
)
def test_metadata_that_kaggle_refuses_or_changes_gets_a_sentence(dataset, kernel, sentence):
    right = make_metadata(**NAMES)
    with pytest.raises(InputError, match=sentence):
        check_metadata(right[0] | dataset, right[1] | kernel)


@pytest.mark.parametrize("key", ["is_private", "enable_internet", "enable_gpu", "code_file", "title"])
def test_metadata_that_must_be_said_is_missed(key):
    about, kernel = make_metadata(**NAMES)
    del kernel[key]
    with pytest.raises(InputError, match=rf"kernel-metadata\.json: {key} is missing"):
        check_metadata(about, kernel)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        (".env", b"x", "is hidden"),
        ("empty.csv", b"", "is empty"),
        ("model.pt", b"x", "would be unpacked"),
        ("arrays.npz", b"x", "would be unpacked"),
        ("code.ZIP", b"x", "would be unpacked"),
        ("code.tgz", b"x", "would be unpacked"),
        ("at@sign.txt", b"x", "a character that Kaggle refuses"),
        ("ümlaut.txt", b"x", "a character that Kaggle refuses"),
    ],
)
def test_files_that_kaggle_would_lose_or_change_are_refused(tmp_path, name, content, sentence):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=sentence):
        check_dataset(tmp_path)


def test_folders_and_too_many_files_are_refused(tmp_path):
    (tmp_path / "inner").mkdir()
    with pytest.raises(InputError, match="is a folder; Kaggle's package leaves folders out"):
        check_dataset(tmp_path)
    (tmp_path / "inner").rmdir()
    for number in range(51):
        (tmp_path / f"{number}.txt").write_text("x")
    with pytest.raises(InputError, match="holds 51 files"):
        check_dataset(tmp_path)
