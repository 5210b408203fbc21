"""What a user may give by mistake: each gets a sentence that helps, before any long work."""

import re
from pathlib import Path

import numpy as np
import pytest
from mistakes import Damage, both, cut, line, lines, nothing, remove, write

SET, GENRES = "data/multitask_dataset", "data/fma_genre_spectrograms"
CLASSES = f"{GENRES}/train_labels.txt"
LABELS, CLIP = f"{SET}/train_labels.txt", f"{SET}/train/1003.fused.full.npy"
TOML = """
name = "small"
[excerpt]
frames = 32
[model]
widths = [8, 16]
[train]
epochs = 1
batch_size = 8
[folds]
n = 3
"""
TRAIN, PRETRAIN = ("train.py", "small.toml"), ("pretrain.py", "small.toml", "--task", "genre")

BROKEN = "1 of 40 arrays .*1003.fused.full.npy is not a whole array"
HUGE = b"\x93NUMPY\1\0\x48\0{'descr': '<f8', 'fortran_order': False, 'shape': (140, 1099511627776)}\n"


def array(values: np.ndarray, path: str = CLIP) -> Damage:
    return lambda: np.save(path, values)


def with_value(value: float) -> Damage:
    def damage() -> None:
        values = np.load(CLIP)
        values[5, 7] = value
        np.save(CLIP, values)

    return damage


def clips(first: int, last: int) -> list[str]:
    return [f"{SET}/train/{number}.fused.full.npy" for number in range(first, last + 1)]


CASES: dict[str, tuple[Damage, tuple[str, ...], str]] = {
    # the root
    "root-missing": (nothing, (*TRAIN, "--data.root", "dta"), "data root dta is not a folder"),
    "root-too-low": (
        nothing,
        (*TRAIN, "--data.root", f"{SET}/train"),
        "lies inside the set multitask_dataset. Give --data.root .*/data instead",
    ),
    "root-elsewhere": (
        lambda: Path("empty").mkdir(),
        (*TRAIN, "--data.root", "empty"),
        r"No folder multitask_dataset at .* empty \(it holds: no folders\)",
    ),
    "root-is-a-file": (nothing, (*TRAIN, "--data.root", "small.toml"), "small.toml is not a folder"),
    # files and labels that do not meet
    "ids-without-files": (
        remove(*clips(1000, 1006)),
        TRAIN,
        r"7 ids have no array \(1000, 1001, 1002, 1003, 1004, \.\.\.\) .* --data.allow-bad-share 0.175",
    ),
    "files-without-labels": (
        lines(LABELS, lambda old: old[:-7]),
        TRAIN,
        r"7 arrays have no label \(1033, 1034, 1035, 1036, 1037, \.\.\.\)",
    ),
    "labels-missing": (remove(LABELS), TRAIN, "has no train_labels.txt. Check that it was unpacked whole"),
    "labels-empty": (write(LABELS, ""), TRAIN, "train_labels.txt is empty"),
    "labels-header-alone": (lines(LABELS, lambda old: old[:1]), TRAIN, "has a header but no rows"),
    "labels-in-utf-16": (
        lambda: Path(LABELS).write_text(Path(LABELS).read_text(), "utf-16"),
        TRAIN,
        "train_labels.txt is not a text file in UTF-8: line 1 holds the byte 0xff. Save it as UTF-8",
    ),
    "labels-not-text": (write(LABELS, b"\xff\xfe\x00\x01"), TRAIN, "not a text file in UTF-8"),
    # arrays
    "array-truncated": (cut(CLIP, 500), TRAIN, f"{BROKEN} .Failed to read all data"),
    "array-empty": (write(CLIP, b""), TRAIN, f"{BROKEN} .it does not begin as an array does"),
    "array-of-text": (write(CLIP, "not an array"), TRAIN, f"{BROKEN} .it does not begin as an array does"),
    "array-of-terabytes": (write(CLIP, HUGE), TRAIN, BROKEN),
    "array-is-a-folder": (
        both(remove(CLIP), lambda: Path(CLIP).mkdir()),
        TRAIN,
        r"1 ids have no array \(1003\)",
    ),
    "array-pickled": (array(np.array([{}], dtype=object)), TRAIN, f"{BROKEN} .Object arrays"),
    "array-one-row-short": (array(np.zeros((139, 60))), TRAIN, r"1003.*139"),
    "array-turned": (array(np.zeros((60, 140))), TRAIN, r"1003.*60, 140"),
    "array-flat": (array(np.zeros(140)), TRAIN, r"1003.*shape \(140,\)"),
    "array-without-frames": (array(np.zeros((140, 0))), TRAIN, r"1003.*shape \(140, 0\)"),
    "array-nan": (with_value(np.nan), TRAIN, "1003.*(NaN|nan|not finite)"),
    "array-infinite": (with_value(np.inf), TRAIN, "1003.*(inf|not finite)"),
    "array-complex": (
        array(np.zeros((140, 60), np.complex64)),
        TRAIN,
        "1003.* holds complex64, expected real numbers",
    ),
    # labels
    "label-above-range": (
        line(LABELS, 3, "1001,0.5,1.5,0.5"),
        TRAIN,
        "line 3: energy is 1.5; expected 0 to 1",
    ),
    "label-not-a-number": (
        line(LABELS, 4, "1002,high,0.5,0.5"),
        TRAIN,
        "line 4: valence is high; expected a number",
    ),
    "label-nan": (line(LABELS, 4, "1002,nan,0.5,0.5"), TRAIN, "line 4: valence is nan"),
    "label-left-out": (line(LABELS, 5, "1003,0.1,,0.5"), TRAIN, "line 5: energy is empty"),
    "every-bad-label": (
        both(line(LABELS, 3, "1001,0.5,1.5,x"), line(LABELS, 9, "1007,-1,0.5,0.5")),
        TRAIN,
        "3 cells .* line 3: energy .* line 3: danceability .* line 9: valence",
    ),
    "label-line-short": (line(LABELS, 6, "1004,0.1,0.2"), TRAIN, "line 6 has 3 fields, expected 4"),
    "label-id-twice": (line(LABELS, 6, "1000,0.1,0.2,0.3"), TRAIN, "1 ids occur more than once: 1000"),
    "label-without-id": (
        line(LABELS, 6, "song,0.1,0.2,0.3"),
        TRAIN,
        "line 6: 'song .* does not start with an id",
    ),
    "target-named-twice": (
        line(LABELS, 1, "Id,valence,energy,energy"),
        TRAIN,
        "'energy', 'energy' after the id; expected the targets' names, each once",
    ),
    "target-misspelt": (nothing, (*TRAIN, "--data.targets", "valense"), "did you mean 'valence'"),
    "target-constant": (
        lines(LABELS, lambda old: [old[0], *(row.rsplit(",", 1)[0] + ",0.5" for row in old[1:])]),
        TRAIN,
        "training labels of danceability are all the same, so there is no order to learn. Check",
    ),
    "target-constant-in-a-fold": (
        lines(LABELS, lambda old: [*old[:3], *(row.rsplit(",", 1)[0] + ",0.5" for row in old[3:])]),
        TRAIN,
        "danceability is the same for all 1. clips that seed0/fold. is scored on, so they have no order",
    ),
    # genres
    "genre-unknown": (line(CLASSES, 3, "2.fused.full.npy.gz\tPolka"), PRETRAIN, "Polka"),
    "genre-left-out": (
        line(CLASSES, 3, "2.fused.full.npy.gz"),
        PRETRAIN,
        "line 3: there is no genre",
    ),
    "genre-of-one-clip": (
        line(CLASSES, 3, "2.fused.full.npy.gz\tJazz"),
        (*TRAIN, "--task", "genre"),
        r"1 classes have one clip only.*Jazz \(clip 2\).* data.genres",
    ),
    "genre-test-labels-missing": (remove(f"{GENRES}/test_labels.txt"), PRETRAIN, "no genre test_labels.txt"),
    # folds
    "more-folds-than-clips": (nothing, (*TRAIN, "--folds.n", "90"), "40 clips for 90 folds"),
    "groups-missing": (nothing, (*TRAIN, "--folds.groups", "g.csv"), "group file g.csv does not exist"),
    "groups-incomplete": (
        write("g.csv", "Id,group\n1000,a\n"),
        (*TRAIN, "--folds.groups", "g.csv"),
        "39 clips have no group .* Add",
    ),
    "one-group": (
        write("g.csv", "Id,group\n" + "".join(f"{n},a\n" for n in range(1000, 1040))),
        (*TRAIN, "--folds.groups", "g.csv"),
        "There are 1 groups for 3 folds. Lower --folds.n",
    ),
    # settings
    "key-misspelt": (write("small.toml", "[optim]\nlearning_rat = 1"), TRAIN, "did you mean 'learning_rate'"),
    "flag-misspelt": (nothing, (*TRAIN, "--train.epoch", "1"), "--train.epochs"),
    "choice-misspelt": (nothing, (*TRAIN, "--model.kind", "cnov"), "model.kind is 'cnov'.* 'conv'"),
    "value-of-another-kind": (nothing, (*TRAIN, "--train.epochs", "many"), "train.epochs"),
    "file-not-toml": (write("small.toml", "name = "), TRAIN, "small.toml is not valid TOML"),
    "file-missing": (nothing, ("train.py", "smal.toml"), "smal.toml does not exist"),
    "file-is-a-folder": (nothing, ("train.py", "data"), "data is a folder. Put a file in its place"),
    "file-not-text": (write("small.toml", b"\xff\xfe\x00"), TRAIN, "small.toml is not valid TOML"),
    # a state
    "state-damaged": (
        both(
            lambda: Path("runs/small/seed0/fold0").mkdir(parents=True),
            write("runs/small/seed0/fold0/state.pt", "half a state"),
        ),
        TRAIN,
        "state.pt is damaged .* Delete it",
    ),
    # what later stages read
    "run-missing": (
        nothing,
        ("submit.py", "runs/none"),
        "runs/none/test.csv does not exist",
    ),
    "run-is-a-file": (nothing, ("submit.py", "small.toml"), "small.toml"),
    "blend-of-nothing": (nothing, ("ensemble.py",), "nothing to blend"),
    "audio-missing": (
        nothing,
        ("predict.py", "song.mp3", "--emotion", "m.safetensors"),
        "song.mp3|m.safetensors",
    ),
    "clips-missing": (nothing, ("extract.py", "clips.csv", "--out", "x"), "clips.csv does not exist"),
    "clips-column-misspelt": (
        write("c.csv", "path,lable\na.wav,rock\n"),
        ("extract.py", "c.csv", "--out", "x"),
        "lable.*did you mean 'label'",
    ),
    "clips-of-one-id": (
        write("c.csv", "id,path\n1,a.wav\n1,b.wav\n"),
        ("extract.py", "c.csv", "--out", "x"),
        "id",
    ),
    "clip-missing": (write("c.csv", "path\na.wav\n"), ("extract.py", "c.csv", "--out", "x"), "line 2.*a.wav"),
}


@pytest.fixture
def call(competition, tmp_path, monkeypatch, run_script):
    """Call a script in a folder of its own, with blanks and letters beyond ASCII in its name."""
    folder = tmp_path / "Müsik und Gefühl"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name in ("multitask_dataset", "fma_genre_spectrograms"):
        for source in sorted((competition / name).rglob("*.*")):
            target = folder / "data" / source.relative_to(competition)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
    Path("small.toml").write_text(TOML)
    return run_script


@pytest.mark.parametrize("name", CASES)
def test_a_mistake_gets_a_sentence_that_helps_before_any_training(name, call):
    damage, command, sentence = CASES[name]
    damage()
    status, _, errors = call(*command)
    said = " ".join(errors.split())
    assert status in (1, 2), said
    assert "Traceback" not in said
    assert re.search(sentence, said[said.index("error: ") :]), said
    assert not list(Path().rglob("metrics.csv"))
    assert not list(Path().rglob("*.safetensors"))


@pytest.mark.parametrize("root", ["data", ".", "data/multitask_dataset"])
def test_without_a_mistake_the_same_command_trains_from_one_level_higher_or_lower_too(call, root):
    assert call(*TRAIN, "--data.root", root)[0] == 0
    assert len(list(Path("runs/small").rglob("model.safetensors"))) == 3
