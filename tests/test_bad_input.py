"""What a user may give by mistake: each gets a sentence that helps, before any long work."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from mistakes import SMALL, Damage, both, check_refusal, cut, line, lines, nothing, pipe, remove, write

SET, GENRES = "data/multitask_dataset", "data/fma_genre_spectrograms"
CLASSES = f"{GENRES}/train_labels.txt"
LABELS, CLIP = f"{SET}/train_labels.txt", f"{SET}/train/1003.fused.full.npy"
HUGE = b"\x93NUMPY\1\0\x48\0{'descr': '<f8', 'fortran_order': False, 'shape': (140, 1099511627776)}\n"

Case = tuple[Damage, tuple[str, ...]]


def train(damage: Damage = nothing, *flags: str) -> Case:
    return damage, ("train.py", "small.toml", *flags)


def pretrain(damage: Damage) -> Case:
    return damage, ("pretrain.py", "small.toml", "--task", "genre")


def embedded(text: str | None) -> Case:
    damage = nothing if text is None else write("ear.csv", text)
    return train(damage, "--classical.kind", "ridge", "--data.embeddings", "ear.csv")


def extract(damage: Damage = nothing, table: str = "c.csv") -> Case:
    return damage, ("extract.py", table, "--out", "x")


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


CASES: dict[str, Case] = {  # docs/FAULTS.md has what each says
    # the root
    "root-missing": train(nothing, "--data.root", "dta"),
    "root-too-low": train(nothing, "--data.root", f"{SET}/train"),
    "root-elsewhere": train(lambda: Path("empty").mkdir(), "--data.root", "empty"),
    "root-is-a-file": train(nothing, "--data.root", "small.toml"),
    # files and labels that do not meet
    "ids-without-files": train(
        remove(*(f"{SET}/train/{number}.fused.full.npy" for number in range(1000, 1007)))
    ),
    "files-without-labels": train(lines(LABELS, lambda old: old[:-7])),
    "embeddings-missing": embedded(None),
    "embeddings-of-other-clips": embedded("id,0\n" + "".join(f"{n},1\n" for n in range(1007, 1100))),
    "embeddings-not-numbers": embedded("id,0\n" + "".join(f"{n},a\n" for n in range(1000, 1100))),
    "embeddings-without-ids": embedded("a,0\n1000,1\n"),
    "labels-missing": train(remove(LABELS)),
    "labels-empty": train(write(LABELS, "")),
    "labels-header-alone": train(lines(LABELS, lambda old: old[:1])),
    "labels-in-utf-16": train(lambda: Path(LABELS).write_text(Path(LABELS).read_text(), "utf-16-le")),
    "labels-not-text": train(write(LABELS, b"\x89PNG\r\n")),
    "labels-a-pipe": train(pipe(LABELS)),
    # arrays
    "array-truncated": train(cut(CLIP, 500)),
    "array-empty": train(write(CLIP, b"")),
    "array-of-text": train(write(CLIP, "not an array")),
    "array-of-terabytes": train(write(CLIP, HUGE)),
    "array-is-a-folder": train(both(remove(CLIP), lambda: Path(CLIP).mkdir())),
    "array-is-a-pipe": train(pipe(CLIP)),
    "array-pickled": train(array(np.array([{}], dtype=object))),
    "array-one-row-short": train(array(np.zeros((139, 60)))),
    "array-turned": train(array(np.zeros((60, 140)))),
    "array-flat": train(array(np.zeros(140))),
    "array-without-frames": train(array(np.zeros((140, 0)))),
    "array-nan": train(with_value(np.nan)),
    "array-infinite": train(with_value(np.inf)),
    "array-complex": train(array(np.zeros((140, 60), np.complex64))),
    # labels
    "label-above-range": train(line(LABELS, 3, "1001,0.5,1.5,0.5")),
    "label-not-a-number": train(line(LABELS, 4, "1002,high,0.5,0.5")),
    "label-nan": train(line(LABELS, 4, "1002,nan,0.5,0.5")),
    "label-left-out": train(line(LABELS, 5, "1003,0.1,,0.5")),
    "every-bad-label": train(both(line(LABELS, 3, "1001,0.5,1.5,x"), line(LABELS, 9, "1007,-1,0.5,0.5"))),
    "label-line-short": train(line(LABELS, 6, "1004,0.1,0.2")),
    "label-decimal-commas": train(line(LABELS, 6, "1004,0,1,0,2,0,3")),
    "label-id-twice": train(line(LABELS, 6, "1000,0.1,0.2,0.3")),
    "label-without-id": train(line(LABELS, 6, "song,0.1,0.2,0.3")),
    "target-named-twice": train(line(LABELS, 1, "Id,valence,energy,energy")),
    "target-named-mean": train(line(LABELS, 1, "Id,valence,mean,energy")),
    "target-misspelt": train(nothing, "--data.targets", "valense"),
    "target-constant": train(same_danceability(1)),
    "target-constant-in-a-fold": train(same_danceability(3)),
    # genres
    "genre-unknown": pretrain(line(CLASSES, 3, "2.fused.full.npy.gz\tPolka")),
    "genre-left-out": pretrain(line(CLASSES, 3, "2.fused.full.npy.gz")),
    "genre-of-one-clip": train(line(CLASSES, 3, "2.fused.full.npy.gz\tJazz"), "--task", "genre"),
    "class-named-id": train(
        lines(CLASSES, lambda old: [old[0], *(row.replace("Blues", "Id") for row in old[1:])]),
        *("--task", "genre", "--data.genres", "{}"),
    ),
    "genre-test-labels-missing": pretrain(remove(f"{GENRES}/test_labels.txt")),
    # folds
    "more-folds-than-clips": train(nothing, "--folds.n", "90"),
    "groups-missing": train(nothing, "--folds.groups", "g.csv"),
    "groups-a-device": train(nothing, "--folds.groups", "/dev/null"),
    "groups-incomplete": train(write("g.csv", "Id,group\n1000,a\n"), "--folds.groups", "g.csv"),
    "one-group": train(
        write("g.csv", "Id,group\n" + "".join(f"{n},a\n" for n in range(1000, 1040))),
        *("--folds.groups", "g.csv"),
    ),
    # settings
    "key-misspelt": train(write("small.toml", "[optim]\nlearning_rat = 1")),
    "flag-misspelt": train(nothing, "--train.epoch", "1"),
    "choice-misspelt": train(nothing, "--model.kind", "cnov"),
    "value-of-another-kind": train(nothing, "--train.epochs", "many"),
    "jobs-none": train(nothing, "--jobs", "0"),
    "jobs-with-a-tracker": train(nothing, "--jobs", "2", "--tracker", "tensorboard"),
    "file-not-toml": train(write("small.toml", "name = ")),
    "file-missing": (nothing, ("train.py", "smal.toml")),
    "file-is-a-folder": (nothing, ("train.py", "data")),
    "file-is-a-pipe": train(pipe("small.toml")),
    "file-not-text": train(write("small.toml", b"\xff\xfe\x00")),
    # a state
    "state-damaged": train(
        both(
            lambda: Path("runs/small/seed0/fold0").mkdir(parents=True),
            write("runs/small/seed0/fold0/state.pt", "half a state"),
        )
    ),
    # what later commands read
    "run-missing": (nothing, ("submit.py", "runs/none")),
    "run-is-a-file": (nothing, ("submit.py", "small.toml")),
    "blend-of-nothing": (nothing, ("ensemble.py",)),
    "audio-missing": (nothing, ("predict.py", "song.mp3", "--model", "m.safetensors")),
    "clips-missing": extract(nothing, "clips.csv"),
    "clips-a-pipe": extract(pipe("c.csv")),
    "clips-column-misspelt": extract(write("c.csv", "path,lable\na.wav,rock\n")),
    "clips-id-uncertain": (
        write("c.csv", "nr,valence\n2,0.5\n1,0.25\n"),
        ("extract.py", "c.csv", "--audio", "data", "--out", "x"),
    ),
    "clips-of-one-id": extract(write("c.csv", "id,path\n1,a.wav\n1,b.wav\n")),
    "clip-missing": extract(write("c.csv", "path\na.wav\n")),
    "clips-of-splits": extract(write(f"{SET}/train/a.mp3", ""), SET),
    "folder-without-audio": extract(nothing, SET),
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
    Path("small.toml").write_text(SMALL)
    return run_script


@pytest.mark.parametrize("name", CASES)
def test_a_mistake_gets_a_sentence_that_helps_before_any_training(name, call):
    damage, command = CASES[name]
    damage()
    check_refusal(name, call, command)
    assert not list(Path().rglob("metrics.csv"))
    assert not list(Path().rglob("*.safetensors"))


@pytest.mark.parametrize("root", ["data", ".", "data/multitask_dataset"])
def test_without_a_mistake_the_same_command_trains_from_one_level_higher_or_lower_too(call, root):
    assert call("train.py", "small.toml", "--data.root", root, "--only-fold", "2")[0] == 0
    assert len(list(Path("runs/small/seed0/fold2").glob("model.safetensors"))) == 1
