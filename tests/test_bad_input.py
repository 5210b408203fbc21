"""What a user may give by mistake: each gets a sentence that helps, before any long work."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from mistakes import Damage, both, cut, line, lines, nothing, remove, write

SET, GENRES = "data/multitask_dataset", "data/fma_genre_spectrograms"
CLASSES = f"{GENRES}/train_labels.txt"
LABELS, CLIP = f"{SET}/train_labels.txt", f"{SET}/train/1003.fused.full.npy"
TOML = """
name = "small"
excerpt.frames = 32
model.widths = [8, 16]
train.epochs = 1
train.batch_size = 8
folds.n = 3
"""
BROKEN = "1 of 40 arrays .*1003.fused.full.npy is not a whole array"
HUGE = b"\x93NUMPY\1\0\x48\0{'descr': '<f8', 'fortran_order': False, 'shape': (140, 1099511627776)}\n"

Case = tuple[Damage, tuple[str, ...], str]


def train(sentence: str, damage: Damage = nothing, *flags: str) -> Case:
    return damage, ("train.py", "small.toml", *flags), sentence


def pretrain(sentence: str, damage: Damage) -> Case:
    return damage, ("pretrain.py", "small.toml", "--task", "genre"), sentence


def extract(sentence: str, damage: Damage = nothing, table: str = "c.csv") -> Case:
    return damage, ("extract.py", table, "--out", "x"), sentence


def array(values: np.ndarray) -> Damage:
    return lambda: np.save(CLIP, values)


def with_value(value: float) -> Damage:
    def damage() -> None:
        values = np.load(CLIP)
        values[5, 7] = value
        np.save(CLIP, values)

    return damage


def same_danceability(first: int) -> Damage:
    """One value of the last target from a line on."""
    return lines(LABELS, lambda old: [*old[:first], *(row.rsplit(",", 1)[0] + ",0.5" for row in old[first:])])


CASES: dict[str, Case] = {
    # the root
    "root-missing": train("data root dta is not a folder", nothing, "--data.root", "dta"),
    "root-too-low": train(
        "lies inside the set multitask_dataset. Give --data.root .*/data instead",
        *(nothing, "--data.root", f"{SET}/train"),
    ),
    "root-elsewhere": train(
        r"No folder multitask_dataset at .* empty \(it holds: no folders\)",
        *(lambda: Path("empty").mkdir(), "--data.root", "empty"),
    ),
    "root-is-a-file": train("small.toml is not a folder", nothing, "--data.root", "small.toml"),
    # files and labels that do not meet
    "ids-without-files": train(
        r"7 ids have no array \(1000, 1001, 1002, 1003, 1004, \.\.\.\) .* --data.allow-bad-share 0.175",
        remove(*(f"{SET}/train/{number}.fused.full.npy" for number in range(1000, 1007))),
    ),
    "files-without-labels": train(
        r"7 arrays have no label \(1033, 1034, 1035, 1036, 1037, \.\.\.\)",
        lines(LABELS, lambda old: old[:-7]),
    ),
    "labels-missing": train("has no train_labels.txt. Check that it was unpacked whole", remove(LABELS)),
    "labels-empty": train("train_labels.txt is empty", write(LABELS, "")),
    "labels-header-alone": train("has a header but no rows", lines(LABELS, lambda old: old[:1])),
    "labels-in-utf-16": train(
        "train_labels.txt is not a text file in UTF-8: line 1 holds the byte 0xff. Save it as UTF-8",
        lambda: Path(LABELS).write_text(Path(LABELS).read_text(), "utf-16"),
    ),
    "labels-not-text": train("not a text file in UTF-8", write(LABELS, b"\xff\xfe\x00\x01")),
    # arrays
    "array-truncated": train(f"{BROKEN} .Failed to read all data", cut(CLIP, 500)),
    "array-empty": train(f"{BROKEN} .it does not begin as an array does", write(CLIP, b"")),
    "array-of-text": train(f"{BROKEN} .it does not begin as an array does", write(CLIP, "not an array")),
    "array-of-terabytes": train(BROKEN, write(CLIP, HUGE)),
    "array-is-a-folder": train(
        r"1 ids have no array \(1003\)", both(remove(CLIP), lambda: Path(CLIP).mkdir())
    ),
    "array-pickled": train(f"{BROKEN} .Object arrays", array(np.array([{}], dtype=object))),
    "array-one-row-short": train(r"1003.*139", array(np.zeros((139, 60)))),
    "array-turned": train(r"1003.*60, 140", array(np.zeros((60, 140)))),
    "array-flat": train(r"1003.*shape \(140,\)", array(np.zeros(140))),
    "array-without-frames": train(r"1003.*shape \(140, 0\)", array(np.zeros((140, 0)))),
    "array-nan": train("1003.* not finite", with_value(np.nan)),
    "array-infinite": train("1003.* not finite", with_value(np.inf)),
    "array-complex": train(
        "1003.* holds complex64, expected real numbers", array(np.zeros((140, 60), np.complex64))
    ),
    # labels
    "label-above-range": train("line 3: energy is 1.5; expected 0 to 1", line(LABELS, 3, "1001,0.5,1.5,0.5")),
    "label-not-a-number": train(
        "line 4: valence is high; expected a number", line(LABELS, 4, "1002,high,0.5,0.5")
    ),
    "label-nan": train("line 4: valence is nan", line(LABELS, 4, "1002,nan,0.5,0.5")),
    "label-left-out": train("line 5: energy is empty", line(LABELS, 5, "1003,0.1,,0.5")),
    "every-bad-label": train(
        "3 cells .* line 3: energy .* line 3: danceability .* line 9: valence",
        both(line(LABELS, 3, "1001,0.5,1.5,x"), line(LABELS, 9, "1007,-1,0.5,0.5")),
    ),
    "label-line-short": train("line 6 has 3 fields, expected 4", line(LABELS, 6, "1004,0.1,0.2")),
    "label-id-twice": train("1 ids occur more than once: 1000", line(LABELS, 6, "1000,0.1,0.2,0.3")),
    "label-without-id": train(
        "line 6: 'song .* does not start with an id", line(LABELS, 6, "song,0.1,0.2,0.3")
    ),
    "target-named-twice": train(
        "'energy', 'energy' after the id; expected the targets' names, each once",
        line(LABELS, 1, "Id,valence,energy,energy"),
    ),
    "target-misspelt": train("did you mean 'valence'", nothing, "--data.targets", "valense"),
    "target-constant": train(
        "training labels of danceability are all the same, so there is no order to learn. Check",
        same_danceability(1),
    ),
    "target-constant-in-a-fold": train(
        "danceability is the same for all 1. clips that seed0/fold. is scored on, so they have no order",
        same_danceability(3),
    ),
    # genres
    "genre-unknown": pretrain("Polka", line(CLASSES, 3, "2.fused.full.npy.gz\tPolka")),
    "genre-left-out": pretrain("line 3: there is no genre", line(CLASSES, 3, "2.fused.full.npy.gz")),
    "genre-of-one-clip": train(
        r"1 classes have one clip only.*Jazz \(clip 2\).* data.genres",
        *(line(CLASSES, 3, "2.fused.full.npy.gz\tJazz"), "--task", "genre"),
    ),
    "genre-test-labels-missing": pretrain("no genre test_labels.txt", remove(f"{GENRES}/test_labels.txt")),
    # folds
    "more-folds-than-clips": train("40 clips for 90 folds", nothing, "--folds.n", "90"),
    "groups-missing": train("group file g.csv does not exist", nothing, "--folds.groups", "g.csv"),
    "groups-incomplete": train(
        "39 clips have no group .* Add", write("g.csv", "Id,group\n1000,a\n"), "--folds.groups", "g.csv"
    ),
    "one-group": train(
        "There are 1 groups for 3 folds. Lower --folds.n",
        write("g.csv", "Id,group\n" + "".join(f"{n},a\n" for n in range(1000, 1040))),
        *("--folds.groups", "g.csv"),
    ),
    # settings
    "key-misspelt": train("did you mean 'learning_rate'", write("small.toml", "[optim]\nlearning_rat = 1")),
    "flag-misspelt": train("--train.epochs", nothing, "--train.epoch", "1"),
    "choice-misspelt": train("model.kind is 'cnov'.* 'conv'", nothing, "--model.kind", "cnov"),
    "value-of-another-kind": train("train.epochs", nothing, "--train.epochs", "many"),
    "file-not-toml": train("small.toml is not valid TOML", write("small.toml", "name = ")),
    "file-missing": (nothing, ("train.py", "smal.toml"), "smal.toml does not exist"),
    "file-is-a-folder": (nothing, ("train.py", "data"), "data is a folder. Put a file in its place"),
    "file-not-text": train("small.toml is not valid TOML", write("small.toml", b"\xff\xfe\x00")),
    # a state
    "state-damaged": train(
        "state.pt is damaged .* Delete it",
        both(
            lambda: Path("runs/small/seed0/fold0").mkdir(parents=True),
            write("runs/small/seed0/fold0/state.pt", "half a state"),
        ),
    ),
    # what later commands read
    "run-missing": (nothing, ("submit.py", "runs/none"), "runs/none/test.csv does not exist"),
    "run-is-a-file": (nothing, ("submit.py", "small.toml"), "small.toml"),
    "blend-of-nothing": (nothing, ("ensemble.py",), "nothing to blend"),
    "audio-missing": (nothing, ("predict.py", "song.mp3", "--emotion", "m.safetensors"), "m.safetensors"),
    "clips-missing": extract("clips.csv does not exist", nothing, "clips.csv"),
    "clips-column-misspelt": extract(
        "lable.*did you mean 'label'", write("c.csv", "path,lable\na.wav,rock\n")
    ),
    "clips-of-one-id": extract("An id is used before: line 3", write("c.csv", "id,path\n1,a.wav\n1,b.wav\n")),
    "clip-missing": extract("line 2.*a.wav", write("c.csv", "path\na.wav\n")),
}


@pytest.fixture
def call(competition, tmp_path, monkeypatch, run_script):
    """Call a script in a folder of its own, with blanks and letters beyond ASCII in its name.

    The arrays are links, but for the one that cases change.
    """
    folder = tmp_path / "Müsik und Gefühl"
    folder.mkdir()
    monkeypatch.chdir(folder)
    changed = (CLIP, LABELS, CLASSES, f"{GENRES}/test_labels.txt")
    for name in ("multitask_dataset", "fma_genre_spectrograms"):
        for source in (competition / name).rglob("*.*"):
            target = Path("data", source.relative_to(competition))
            target.parent.mkdir(parents=True, exist_ok=True)
            if str(target) in changed:
                shutil.copyfile(source, target)
            else:
                target.symlink_to(source)
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
    assert call("train.py", "small.toml", "--data.root", root, "--only-fold", "2")[0] == 0
    assert len(list(Path("runs/small/seed0/fold2").glob("model.safetensors"))) == 1
