import json
import os
import re
import resource
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from damaged import only_sentences
from safetensors.torch import load_file, save_file

from music_emotion.files import InputError
from music_emotion.models.ear import FILES, WHEEL, load_ear

REFERENCE = json.loads(Path(__file__).with_name("ear_reference.json").read_text())  # of TensorFlow 2.15


@pytest.mark.parametrize("case", REFERENCE)
def test_the_networks_give_what_tensorflow_gives(ear, case):
    music, kind, n_frames = re.fullmatch(r"(\w+)_(\w+) T=(\d+)", case).groups()
    t, f = np.meshgrid(np.arange(int(n_frames)), np.arange(96), indexing="ij")
    bands = 2 + 1.2 * np.sin(t / 7) * np.cos(f / 11) + 0.8 * np.sin(t * f / 97)
    network = load_ear(ear / f"{kind}-{music.lower()}.safetensors")
    with torch.no_grad():
        outputs = network(torch.tensor(bands[None], dtype=torch.float32))._asdict()
    for key, expected in REFERENCE[case].items():
        name, what = re.fullmatch("(tags|penultimate|mean_pool|max_pool)_(first|at|sum).*", key).groups()
        values = outputs[name][0].double().numpy()
        if what == "sum":
            np.testing.assert_allclose(values.sum(), expected, rtol=1e-5)
        else:
            place = [100, 300, 561, 640, 752] if what == "at" else slice(len(expected))
            np.testing.assert_allclose(values[place], expected, rtol=0, atol=1e-4)


def other_pip(folder, monkeypatch, code):
    folder.mkdir()
    (folder / "pip.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(folder))


def test_a_second_command_finds_the_files_and_mends_a_damaged_one(
    ear, ear_wheel, tmp_path, monkeypatch, run_script
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    other_pip(tmp_path / "pip", monkeypatch, "raise SystemExit('no network')")
    with pytest.raises(
        InputError, match=r"musicnn-msd.safetensors does not exist\. Give .* music-emotion ear, "
    ):
        load_ear()
    cached = tmp_path / "music-emotion/ear"
    shutil.copytree(ear, cached)
    status, said, _ = run_script("ear.py")
    assert status == 0
    assert "there already" in said
    assert "Cite Pons and Serra 2019" in said
    assert "ISC. Copyright (c) Music Technology Group, Universitat Pompeu Fabra 2019." in said
    assert load_ear().tag_names[:3] == ("rock", "pop", "alternative")
    assert load_ear(cached / "vgg-mtt.safetensors").tag_names[-1] == "choral"
    whole = (cached / FILES[0]).read_bytes()
    (cached / FILES[0]).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(
        InputError, match=r"not a file of the pretrained ear \(.*not those of its card.*\)\. Give"
    ):
        load_ear()
    status, said, errors = run_script("ear.py")
    assert (status, "no network" in errors, "there already" in said) == (2, True, False)
    assert run_script("ear.py", "--wheel", ear_wheel)[0] == 0
    assert {path.name: path.read_bytes() for path in cached.iterdir()} == {
        path.name: path.read_bytes() for path in ear.iterdir()
    }


def test_a_file_of_something_else_is_no_ear(ear, tmp_path):
    weights = load_file(ear / FILES[0])
    for metadata in ({}, *({"music_emotion_ear": card} for card in ("{", "[1]", "{}", "[" * 10_000))):
        save_file(weights, tmp_path / "other", metadata)
        assert only_sentences(load_ear, tmp_path / "other", (tmp_path / "other").read_bytes()) is None, (
            metadata
        )


AGAIN = r"\. Download it again from the Python Package Index, and give it with --wheel\."
BY_HAND = r"\. Connect to the network, or download that file elsewhere and give it with --wheel\."
OTHER = rf" is another file than {WHEEL}, or is cut off or damaged \(its SHA-256 is \w{{12}}..., not f38a.*\)"
WRITE = (
    f"import pathlib, sys; pathlib.Path(sys.argv[sys.argv.index('--dest') + 1], '{WHEEL}').write_text('x')"
)
NO_PIP = "raise SystemExit('python: No module named pip')"
FAULTS = {
    "no network": (None, "", rf"pip can't download {WHEEL} \(ERROR: No matching distribution .*\){BY_HAND}"),
    "no pip": (NO_PIP, "", rf"pip can't download {WHEEL} \(python: No module named pip\){BY_HAND}"),
    "other file": (WRITE, "", rf"\S+{OTHER}{AGAIN}"),
    "cut off": ("", "--wheel cut.whl", rf"cut.whl{OTHER}{AGAIN}"),
    "missing": ("", "--wheel a.whl", rf"The wheel a.whl does not exist{AGAIN}"),
    "full": (
        "",
        "--wheel whole.whl",
        r"File too large \(out/musicnn-msd.safetensors\)\. Free some space, .*",
    ),
    "in the way": ("", "--wheel whole.whl --out=cut.whl", r"File exists \(cut.whl\)\. Free some space, .*"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_a_sentence_and_leaves_no_file(fault, request, tmp_path, monkeypatch, run_script):
    code, flags, expected = FAULTS[fault]
    monkeypatch.chdir(tmp_path)
    if code is None:
        for name, value in (
            ("INDEX_URL", "http://127.0.0.1:9"),
            ("RETRIES", "0"),
            ("CONFIG_FILE", os.devnull),
        ):
            monkeypatch.setenv(f"PIP_{name}", value)
    else:
        other_pip(tmp_path / "pip", monkeypatch, code)
    Path("cut.whl").write_bytes(b"PK")
    if "whole.whl" in flags:
        Path("whole.whl").symlink_to(request.getfixturevalue("ear_wheel"))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000 if fault == "full" else soft, hard))
    try:
        status, _, errors = run_script(
            "ear.py", *(flags if "--out" in flags else f"--out=out {flags}").split()
        )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert status == 2
    assert re.fullmatch(f"error: {expected}", errors.strip()), errors
    assert not list(Path("out").rglob("*"))
    assert Path("cut.whl").read_bytes() == b"PK"
