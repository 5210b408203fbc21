"""The bundle: what is in it, that it is the same again, and every rule it is held to."""

import hashlib
import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest

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
from music_emotion.kaggle.blend import add_blend
from music_emotion.kaggle.bundle import check_dataset, write_bundle
from music_emotion.kaggle.metadata import Names, check_metadata, dataset_metadata, kernel_metadata
from music_emotion.kaggle.plan import Plan, add_plan, read_plan

PROJECT = Path(__file__).parents[2]
NAMES = Names(
    "somebody", "music-emotion-both", "music-emotion-both-inference", "some-lab-2022", ("a/b-data",)
)


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
    """A wheel that takes no time."""
    monkeypatch.setattr(bundle, "_build_wheel", lambda _, folder: (folder / "m-1.whl").write_bytes(b"wheel"))


@pytest.mark.usefixtures("fast")
def test_the_dataset_is_flat_and_the_manifest_tells_of_every_file(blended, tmp_path):
    found = write_bundle(partial(add_blend, blended), tmp_path / "build", NAMES, PROJECT)
    dataset = tmp_path / "build" / "dataset"
    manifest = read_json(dataset / "manifest.json")
    models = [f"one-seed{seed}-fold{fold}.safetensors" for seed in (0, 1) for fold in (0, 1)]
    assert manifest["models"] == {"one": models, "two": [f"two-seed3-fold{n}.safetensors" for n in (0, 1)]}
    assert set(manifest["files"]) == {*models, *manifest["models"]["two"], "m-1.whl"}
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
    found = write_bundle(partial(add_blend, blended), tmp_path / "build", NAMES, PROJECT)
    kernel = tmp_path / "build" / "kernel"
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
    first = write_bundle(partial(add_blend, blended), tmp_path / "build", NAMES, PROJECT)
    assert write_bundle(partial(add_blend, blended), tmp_path / "build", NAMES, PROJECT) == first
    (tmp_path / "runs/one/seed0/fold0/model.safetensors").write_bytes(b"trained longer")
    assert write_bundle(partial(add_blend, blended), tmp_path / "build", NAMES, PROJECT) != first
    assert sorted(path.name for path in (tmp_path / "build").iterdir()) == ["dataset", "kernel"]


def test_the_wheel_holds_the_package_alone_and_is_the_same_again(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        bundle._build_wheel(PROJECT, tmp_path / name)
    (one,), (two,) = (list((tmp_path / name).iterdir()) for name in ("one", "two"))
    assert one.name == two.name
    assert one.name.endswith("-py3-none-any.whl")
    assert one.read_bytes() == two.read_bytes()
    with ZipFile(one) as wheel:
        rooms = {Path(name).parts[0] for name in wheel.namelist()}
        assert "music_emotion/kaggle/kernel.py" in wheel.namelist()
    assert rooms == {"music_emotion", one.name.removesuffix("-py3-none-any.whl") + ".dist-info"}


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
    write_bundle(partial(add_blend, blended), tmp_path / "build", NAMES, PROJECT)
    dataset = tmp_path / "build" / "dataset"
    manifest = read_json(dataset / "manifest.json")
    assert list(manifest["models"]) == ["two"]
    assert build_experiment(manifest["refits"]["one"]["experiment"], "manifest") == experiment
    folds = dataset / manifest["refits"]["one"]["folds"]
    assert folds.read_text().split() == ["Id,0,1", "1,0,0", "2,1,0", "3,0,1", "4,1,1"]
    (run / "seed1" / "fold0" / "valid.csv").unlink()
    with pytest.raises(InputError, match=r"one/seed1/fold0/valid\.csv does not exist.*lacks a fold"):
        write_bundle(partial(add_blend, blended), tmp_path / "build", NAMES, PROJECT)


@pytest.mark.usefixtures("fast")
def test_a_plan_has_no_weights_and_its_kernel_the_output_to_go_on_from(tmp_path):
    plan = Plan("kaggle", 8.0, (Experiment(),), resume="somebody/some-kernel")
    names = replace(NAMES, resume="somebody/some-kernel")
    write_bundle(partial(add_plan, plan), tmp_path / "build", names, PROJECT)
    dataset, kernel = tmp_path / "build" / "dataset", tmp_path / "build" / "kernel"
    named = {"dataset-metadata.json", "m-1.whl", "manifest.json"}
    assert {path.name for path in dataset.iterdir()} == named
    assert read_plan(read_json(dataset / "manifest.json")["plan"]) == plan
    assert read_json(kernel / "kernel-metadata.json")["kernel_sources"] == ["somebody/some-kernel"]


@pytest.mark.usefixtures("fast")
def test_what_is_missing_gets_a_sentence(blended, tmp_path):
    with pytest.raises(InputError, match=r"runs/none is not a folder"):
        write_bundle(partial(add_blend, tmp_path / "runs" / "none"), tmp_path / "build", NAMES, PROJECT)
    with pytest.raises(InputError, match=r"runs/one is not a blend\. Name one that"):
        write_bundle(partial(add_blend, tmp_path / "runs" / "one"), tmp_path / "build", NAMES, PROJECT)
    (tmp_path / "runs" / "one" / "oof.csv").touch()
    with pytest.raises(InputError, match=r"runs/one is not a blend.*music-emotion blend .*runs/one"):
        write_bundle(partial(add_blend, tmp_path / "runs" / "one"), tmp_path / "build", NAMES, PROJECT)
    (tmp_path / "runs/two/seed3/fold1/model.safetensors").unlink()
    with pytest.raises(InputError, match=r"two/seed3/fold1/model\.safetensors does not exist.*lacks a fold"):
        write_bundle(partial(add_blend, blended), tmp_path / "build", NAMES, PROJECT)
    retrained = tmp_path / "runs/one/seed0/fold0/test.csv"
    retrained.write_text(retrained.read_text().replace("0.5", "0.05"))
    with pytest.raises(InputError, match=r"The runs of .*both have changed since it was made\. Blend"):
        write_bundle(partial(add_blend, blended), tmp_path / "build", NAMES, PROJECT)
    recipe = json.loads((blended / "blend.json").read_text())
    del recipe["target_mean"]
    write_json(blended / "blend.json", recipe)
    with pytest.raises(InputError, match=r"blend\.json does not hold a whole recipe .*target_mean"):
        write_bundle(partial(add_blend, blended), tmp_path / "build", NAMES, PROJECT)
    assert not (tmp_path / "build").exists()


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"dataset": "short"}, "dataset slug 'short' is not 6 to 50"),
        ({"dataset": "a" * 51}, "6 to 50"),
        ({"dataset": "Capital-Letters"}, "a-z, 0-9 and single hyphens"),
        ({"dataset": "two--hyphens"}, "single hyphens"),
        ({"kernel": "under_score"}, "kernel slug 'under_score'"),
        ({"kernel": "music-emotion-both"}, "both called 'music-emotion-both'"),
        ({"owner": "some body"}, "'some body' is not the name of a Kaggle user"),
        ({"owner": ""}, "is not the name of a Kaggle user"),
        ({"competition": "https://x"}, "not the slug of a competition"),
        ({"sources": ("nobody",)}, "'nobody' is not owner/slug"),
        ({"resume": "nobody"}, "'nobody' is not owner/slug of a kernel"),
        (
            {"resume": "somebody/music-emotion-kernel"},
            "its own output.*--kernel, such as music-emotion-kernel-2",
        ),
    ],
)
def test_names_that_kaggle_refuses_get_a_sentence(fields, sentence):
    right = {"owner": "somebody", "dataset": "music-emotion-both", "kernel": "music-emotion-kernel"}
    with pytest.raises(InputError, match=sentence):
        Names(**{**right, **fields})


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
    right = dataset_metadata(NAMES, PROJECT), kernel_metadata(NAMES, PROJECT)
    check_metadata(*right)
    with pytest.raises(InputError, match=sentence):
        check_metadata(right[0] | dataset, right[1] | kernel)


@pytest.mark.parametrize("key", ["is_private", "enable_internet", "enable_gpu", "code_file", "title"])
def test_metadata_that_must_be_said_is_missed(key):
    kernel = kernel_metadata(NAMES, PROJECT)
    del kernel[key]
    with pytest.raises(InputError, match=rf"kernel-metadata\.json: {key} is missing"):
        check_metadata(dataset_metadata(NAMES, PROJECT), kernel)


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
    with pytest.raises(InputError, match="is a folder; the CLI leaves folders out"):
        check_dataset(tmp_path)
    (tmp_path / "inner").rmdir()
    for number in range(51):
        (tmp_path / f"{number}.txt").write_text("x")
    with pytest.raises(InputError, match="holds 51 files"):
        check_dataset(tmp_path)
