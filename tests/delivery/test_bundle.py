"""The bundle: what is in it, that it is the same again, and every rule it is held to."""

import hashlib
import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from music_emotion.delivery import bundle
from music_emotion.delivery.blend import add_blend
from music_emotion.delivery.bundle import Names, check_dataset, write_bundle
from music_emotion.delivery.plan import Plan, add_plan, read_plan
from music_emotion.errors import InputError
from music_emotion.experiment import Experiment, build_experiment, experiment_to_dict
from music_emotion.files import read_json, write_json
from music_emotion.predictions import prediction_table, write_predictions
from music_emotion.sections import ClassicalSection, FoldSection

PROJECT = Path(__file__).parents[2]
NAMES = Names(
    "somebody", "music-emotion-both", "music-emotion-both-inference", "some-lab-2022", ("a/b-data",)
)


@pytest.fixture
def blended(tmp_path) -> Path:
    """A blend of two runs whose models are a few bytes."""
    for name, seeds in (("one", [0, 1]), ("two", [3])):
        run = tmp_path / "runs" / name
        write_json(run / "experiment.json", {"seeds": seeds, "folds": {"n": 2}})
        for seed in seeds:
            for fold in range(2):
                model = run / f"seed{seed}" / f"fold{fold}" / "model.safetensors"
                model.parent.mkdir(parents=True)
                model.write_bytes(f"{name} {seed} {fold}".encode())
    recipe = {
        "members": [str(tmp_path / "runs" / name) for name in ("one", "two")],
        "method": "z-score",
        "shrinkage": 0.5,
        "weights": {"one": {"valence": 0.25}, "two": {"valence": 0.75}},
        "target_mean": {"valence": 0.5},
        "target_deviation": {"valence": 0.2},
    }
    write_json(tmp_path / "runs" / "both" / "blend.json", recipe)
    return tmp_path / "runs" / "both"


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


@pytest.mark.usefixtures("fast")
def test_a_classical_member_travels_as_the_folds_it_is_fitted_to_again(blended, tmp_path):
    run = tmp_path / "runs" / "one"
    experiment = Experiment(name="one", seeds=(0, 1), classical=ClassicalSection(kind="ridge"))
    experiment = replace(experiment, folds=FoldSection(n=2))
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
    with pytest.raises(InputError, match=r"runs/none does not exist"):
        write_bundle(partial(add_blend, tmp_path / "runs" / "none"), tmp_path / "build", NAMES, PROJECT)
    with pytest.raises(InputError, match=r"runs/one is not a blend.*ensemble\.py .*runs/one"):
        write_bundle(partial(add_blend, tmp_path / "runs" / "one"), tmp_path / "build", NAMES, PROJECT)
    (tmp_path / "runs/two/seed3/fold1/model.safetensors").unlink()
    with pytest.raises(InputError, match=r"two/seed3/fold1/model\.safetensors does not exist.*lacks a fold"):
        write_bundle(partial(add_blend, blended), tmp_path / "build", NAMES, PROJECT)
    recipe = json.loads((blended / "blend.json").read_text())
    del recipe["target_mean"]
    write_json(blended / "blend.json", recipe)
    with pytest.raises(InputError, match=r"blend\.json does not hold a whole recipe .*target_mean"):
        write_bundle(partial(add_blend, blended), tmp_path / "build", NAMES, PROJECT)
    assert not (tmp_path / "build" / "dataset").exists()


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
    ("name", "content", "sentence"),
    [
        (".env", b"x", "is hidden"),
        ("empty.csv", b"", "is empty"),
        ("model.pt", b"x", "would be unpacked"),
        ("arrays.npz", b"x", "would be unpacked"),
        ("code.zip", b"x", "would be unpacked"),
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
