"""The bundle: what is in it, that it is the same again, and every rule it is held to."""

import hashlib
import json
from pathlib import Path

import pytest

from music_emotion.delivery import bundle
from music_emotion.delivery.bundle import Names, check_dataset, write_bundle
from music_emotion.errors import InputError
from music_emotion.files import read_json, write_json

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
    found = write_bundle(blended, tmp_path / "build", NAMES, PROJECT)
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
    found = write_bundle(blended, tmp_path / "build", NAMES, PROJECT)
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
    compile(script, "inference.py", "exec")


@pytest.mark.usefixtures("fast")
def test_the_same_blend_is_the_same_bundle_and_another_is_not(blended, tmp_path):
    first = write_bundle(blended, tmp_path / "build", NAMES, PROJECT)
    assert write_bundle(blended, tmp_path / "build", NAMES, PROJECT) == first
    (tmp_path / "runs/one/seed0/fold0/model.safetensors").write_bytes(b"trained longer")
    assert write_bundle(blended, tmp_path / "build", NAMES, PROJECT) != first
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
def test_what_is_missing_gets_a_sentence(blended, tmp_path):
    with pytest.raises(InputError, match=r"runs/one is not a blend.*ensemble\.py .*runs/one"):
        write_bundle(tmp_path / "runs" / "one", tmp_path / "build", NAMES, PROJECT)
    (tmp_path / "runs/two/seed3/fold1/model.safetensors").unlink()
    with pytest.raises(InputError, match=r"two/seed3/fold1/model\.safetensors does not exist.*lacks a fold"):
        write_bundle(blended, tmp_path / "build", NAMES, PROJECT)
    recipe = json.loads((blended / "blend.json").read_text())
    del recipe["target_mean"]
    write_json(blended / "blend.json", recipe)
    with pytest.raises(InputError, match=r"blend\.json does not hold a whole recipe .*target_mean"):
        write_bundle(blended, tmp_path / "build", NAMES, PROJECT)
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
