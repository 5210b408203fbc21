"""Public data sets: the command, what all readers share, and the way from a folder to an epoch."""

import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from public_folders import FOLDERS, emotify, put, quadrants, soundtracks

from music_emotion.datasets.layout import find_set
from music_emotion.datasets.public_sets import NAMES, public_set, write_dataset
from music_emotion.experiment_files import read_differences
from music_emotion.files import InputError, read_json

PAGE = Path(__file__).parents[3] / "docs" / "datasets.md"
# set, variant, and the words after `train` of each row of "From a folder to a model"
ROWS = re.findall(r"^\| `(\w+) [\w-]+ ?([^`]*)` \| `([^`]+)` \|", PAGE.read_text("utf-8"), re.MULTILINE)
SMALL = ("--excerpt.frames", "32", "--model.widths", "4", "--train.epochs", "1", "--folds.n", "2")


@pytest.fixture(scope="module", params=FOLDERS)
def unpacked(request, tmp_path_factory) -> tuple[str, Path]:
    return request.param, FOLDERS[request.param](tmp_path_factory.mktemp(request.param))


def test_the_commands_of_the_docs_turn_a_folder_into_clips_arrays_and_an_epoch(
    unpacked, tmp_path, monkeypatch, run_script
):
    name, folder = unpacked
    monkeypatch.chdir(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    table, root = Path("data", name, "clips.csv"), Path("data", name)

    def run(script: str, *words: object) -> str:
        status, out, errors = run_script(script, *words)
        assert status == 0, errors
        return out

    for variant, trained in [row[1:] for row in ROWS if row[0] == name]:
        said = run("dataset.py", name, folder, *variant.split(), "--out", table)
        assert said.splitlines()[-2:] == [f"{w}: {getattr(public_set(name), a)}" for w, a in _SHOWN]
        clips, described = pd.read_csv(table), read_json(table.with_name("dataset.json"))
        assert described["clips"] == len(clips) > 8
        assert described["notes"]
        assert all(note in said for note in described["notes"])
        assert all(Path(path).is_relative_to(folder) for path in clips["path"])
        run("extract.py", table, "--out", root, "--jobs", "1")
        task = "genre" if "label" in clips else "emotion"
        assert read_json(find_set(root, task) / "dataset.json") == described
        experiment, *flags = trained.split()
        run("train.py", experiment, *flags, *SMALL)
        place = Path("runs", flags[-1] if "--name" in flags else experiment)
        predicted = pd.read_csv(place / "seed0/fold0/valid.csv").columns[1:].tolist()
        asked = read_differences(experiment).get("data", {}).get("targets", described["targets"])
        assert predicted == (sorted(clips["label"].unique()) if task == "genre" else asked)
        assert (place / "scores.json").exists()
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_the_docs_show_the_commands_of_every_set():
    assert [*dict.fromkeys(row[0] for row in ROWS)] == list(NAMES) == list(FOLDERS)


_SHOWN = (("Licence", "licence"), ("Cite", "citation"))


def test_the_same_folder_gives_the_same_files(unpacked, tmp_path):
    name, folder = unpacked
    written = []
    for _ in range(2):
        write_dataset(name, folder, tmp_path / "clips.csv")
        written.append([(tmp_path / file).read_bytes() for file in ("clips.csv", "dataset.json")])
    assert written[0] == written[1]


def test_the_list_shows_what_licence_and_variants_of_each_set(run_script):
    status, out, errors = run_script("dataset.py", "--list")
    assert status == 0, errors
    lines = [line for line in out.splitlines() if line.startswith("|")]
    assert max(map(len, lines)) < 100
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    assert rows[0] == ["name", "what", "variants", "licence"]
    assert [row[0] for row in rows[1:] if row[0]] == list(NAMES)
    known = [public_set(name) for name in NAMES]
    what, variants, licences = (
        re.sub(r"\s", "", "".join(column)) for column in [*zip(*rows[1:], strict=True)][1:]
    )
    assert what == re.sub(r"\s", "", "".join(f"{each.title}:{each.about}" for each in known))
    assert variants == "".join(variant for each in known for variant in each.variants)
    assert licences == re.sub(r"\s", "", "".join(each.licence for each in known))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "Name a set and its folder"),
        (("emotify",), "Name a set and its folder"),
        (("emotifi", "."), "There is no reader of 'emotifi'; did you mean 'emotify'?"),
        (("emotify", "nowhere"), "The folder nowhere does not exist."),
        (("emotify", "."), "holds no data.csv, there or below (it holds: empty, other)."),
        (("emotify", "empty"), "(it holds: nothing)"),
        (
            ("merge", "other"),
            "holds no merge_audio_complete_metadata.csv or merge_audio_balanced_metadata.csv",
        ),
        (("4q", ".", "--variant", "tags"), "has no variant 'tags'; it has quadrants, binary."),
        (("emotify", ".", "--as-published"), "Emotify is read as published anyway."),
        (("emotify", ".", "--out", "empty"), "Give --out a table in it, such as empty/clips.csv."),
    ],
)
def test_a_wrong_command_is_a_sentence_and_writes_nothing(arguments, said, tmp_path, monkeypatch, run_script):
    monkeypatch.chdir(tmp_path)
    put(tmp_path / "other/README.txt", "")
    (tmp_path / "empty").mkdir()
    status, _, errors = run_script("dataset.py", *arguments)
    assert status == 2
    assert said in errors
    assert not list(tmp_path.rglob("*.csv"))


def replace(folder: Path, name: str, old: str, new: str) -> None:
    (path,) = folder.rglob(name)
    text = path.read_bytes().decode()
    assert old in text
    path.write_bytes(text.replace(old, new, 1).encode())


RATINGS = "mean_ratings_set1.csv"
ROW = "003,2.03,2.03,"


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (
            lambda f: replace(f, RATINGS, ROW, "003,9.5,2.03,"),
            "1 values of valence are not 1 to 9, of the cl",
        ),
        (lambda f: replace(f, RATINGS, ROW, "003,0.5,2.03,"), "of the clips 3. Download the labels again."),
        (lambda f: replace(f, RATINGS, "003,", "002,"), "1 ids occur more than once: 2."),
        (
            lambda f: replace(f, RATINGS, "003,", "three,"),
            f"{RATINGS}: a table of Soundtracks is not as",
        ),
        (lambda f: replace(f, RATINGS, "number,", "excerpt,"), "expects: no column 'number'. Download"),
        (lambda f: put(f / RATINGS, "number,é\n", "latin-1"), "can't be read as a table"),
        (lambda f: put(f / RATINGS, ""), "can't be read as a table"),
        (lambda f: put(f / RATINGS, "number,valence\n"), "no labelled clip of Soundtracks has audio there"),
        (lambda f: replace(f, RATINGS, ROW, '003,"2.03,2.03,'), "can't be read as a table"),
        (lambda f: shutil.rmtree(f / "Set1"), "holds no audio"),
        (lambda f: (f / "Set1/Set1").rename(f / "Set2"), "no labelled clip of Soundtracks has audio there"),
    ],
)
def test_a_damaged_set_is_refused_by_name(damage, said, tmp_path):
    folder = soundtracks(tmp_path / "set")
    damage(folder)
    with pytest.raises(InputError) as caught:
        write_dataset("soundtracks", folder, tmp_path / "clips.csv")
    assert said in str(caught.value)
    assert not (tmp_path / "clips.csv").exists()


def test_clips_without_a_label_or_a_file_are_left_out_and_named(tmp_path):
    folder = soundtracks(tmp_path / "set")
    replace(folder, RATINGS, ROW, "003,2.03,,")
    for number in (1, 2, 5, 6, 7, 9):
        (folder / f"Set1/Set1/{number:03}.mp3").unlink()
    said = write_dataset("soundtracks", folder, tmp_path / "clips.csv")
    assert f"{tmp_path / 'clips.csv'}: 5 clips of Soundtracks (no published split); targets: valence" in said
    assert pd.read_csv(tmp_path / "clips.csv")["id"].tolist() == [4, 8, 10, 11, 12]
    notes = read_json(tmp_path / "dataset.json")["notes"]
    missing = "set1/001, set1/002, set1/005, set1/006, set1/007, ..."
    assert [note for note in notes if "left out" in note] == [
        f"6 of 12 clips have no audio file and are left out: {missing}.",
        "1 clips have no label and are left out: 3.",
    ]


def test_ids_that_are_no_numbers_stay_when_audio_is_missing(tmp_path):
    folder = quadrants(tmp_path / "set")
    write_dataset("4q", folder, tmp_path / "clips.csv")
    before = pd.read_csv(tmp_path / "clips.csv", index_col="id")
    next(folder.rglob("MT0000004637.mp3")).unlink()
    write_dataset("4q", folder, tmp_path / "clips.csv")
    assert before.index.tolist() == list(range(1, 13))
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "clips.csv", index_col="id"), before.drop(1))


def test_two_tables_in_one_folder_keep_their_descriptions(tmp_path):
    folder = emotify(tmp_path / "set")
    for variant in ("emotions", "genres"):
        write_dataset("emotify", folder, tmp_path / f"{variant}.csv", variant)
    read = {path.name: read_json(path)["variant"] for path in tmp_path.glob("*.json")}
    assert read == {"emotions-dataset.json": "emotions", "genres-dataset.json": "genres"}


def test_linked_folders_are_read_for_tables_as_for_audio(tmp_path):
    folder = soundtracks(tmp_path / "disk" / "set")
    (folder / "again").symlink_to(folder)
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "linked").symlink_to(folder)
    write_dataset("soundtracks", tmp_path / "here", tmp_path / "clips.csv")
    assert len(pd.read_csv(tmp_path / "clips.csv")) == 12


def test_a_table_of_the_set_is_not_written_over(tmp_path):
    folder = emotify(tmp_path)
    with pytest.raises(InputError, match=r"data\.csv is a table of Emotify. Give --out another name"):
        write_dataset("emotify", folder, tmp_path / "emotifymusic/../data.csv")
    assert (tmp_path / "data.csv").read_text().startswith("track id, genre")


@pytest.mark.parametrize("variant", ["emotions", "genres"])
def test_emotify_joins_ratings_by_genre_and_number(variant, tmp_path):
    folder = emotify(tmp_path / "set")
    write_dataset("emotify", folder, tmp_path / "clips.csv", variant)
    clips = pd.read_csv(tmp_path / "clips.csv", index_col="id")
    described = read_json(tmp_path / "dataset.json")
    assert "51 ratings of 17 tracks." in described["notes"]
    assert "1 of 17 clips have no audio file and are left out: pop/5." in described["notes"]
    for track, name in ((1, "classical/1"), (104, "rock/4"), (201, "electronic/1"), (303, "pop/3")):
        assert clips["path"][track] == f"{folder / 'emotifymusic' / name}.mp3"
    if variant == "genres":
        assert clips["label"].tolist() == ["classical"] * 4 + ["rock"] * 4 + ["electronic"] * 4 + ["pop"] * 4
        return
    even, odd = np.arange(0, 9, 2), np.arange(1, 9, 2)
    felt = clips.drop(columns="path").to_numpy()
    np.testing.assert_allclose(felt[:, even].T, [clips.index % 2 * 2 / 3] * 5)  # two of three people
    np.testing.assert_allclose(felt[:, odd].T, [(1 - clips.index % 2) * 2 / 3] * 4)
    assert clips.columns[1:].tolist() == described["targets"]
    assert described["targets"][0::8] == ["amazement", "sadness"]
