"""A library becomes one table: titles of real tags, resuming, several processes, and a cluster."""

import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mutagen
import numpy as np
import pandas as pd
import pytest
import soundfile
from audio_files import noise, written
from dask_cluster import PATIENCE_SECONDS, dask_scheduler, is_busy, wait_until, worker
from distributed import Client
from mutagen.id3 import TIT2, TPE1
from small_networks import small_network, small_run

from music_emotion.datasets.parallel import Workers
from music_emotion.files import InputError, read_json
from music_emotion.listen.library import predict_library
from music_emotion.listen.model import EmotionModel
from music_emotion.models.network import save_model

pytestmark = pytest.mark.usefixtures("own_accelerate")
TAGS = {  # of the file with each ending: title, artist, and how tables tell them
    "flac": (['The "first", twice'], ["Ab, C", "D"], 'The "first", twice', "Ab, C, D"),
    "m4a": (["NA"], ["Sigur Rós"], "NA", "Sigur Rós"),
    "mp3": (["1999"], ["Prince"], "1999", "Prince"),
    "ogg": (["two\nlines\x1b[31m"], ["0"], r"two lines\x1b[31m", "0"),
    "opus": (None, None, "song 4", ""),
    "wav": (["007"], ["=1+1"], "007", "=1+1"),
}
HERE = Workers(1)
INTERRUPTED = """
import signal, sys
from music_emotion.cli import main
signal.signal(signal.SIGINT, signal.default_int_handler)  # what is started in the background ignores it
main("predict")
"""


def tag(path: Path, title: list[str] | None, artist: list[str] | None) -> None:
    file = mutagen.File(path, easy=True)
    assert file is not None
    if file.tags is None:
        file.add_tags()
    if path.suffix == ".wav":
        file.tags.add(TIT2(text=title))
        file.tags.add(TPE1(text=artist))
    elif title:
        file["title"], file["artist"] = title, artist
    file.save()


@pytest.fixture(scope="module")
def music(tmp_path_factory) -> Path:
    """Songs with tags, which tests must not change."""
    folder = tmp_path_factory.mktemp("music")
    for number, (ending, (title, artist, *_)) in enumerate(TAGS.items()):
        loudness = np.linspace(0, 1 + number, 22050, dtype=np.float32) / 10
        path = written(folder / f"song {number}.{ending}", noise(1) * loudness)
        tag(path, title, artist)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return small_run(tmp_path_factory.mktemp("run"), small_network(), small_network(seed=1))


@pytest.fixture
def predict(tmp_path, run, capsys):
    """Predict songs in this process; gives the table, the failures, and the counts that are printed."""

    def call(*songs: Path, models: tuple[Path, ...] = (run,)) -> tuple[pd.DataFrame, dict[str, str], str]:
        failures = dict[str, str]()
        capsys.readouterr()
        table = predict_library(songs, models, tmp_path / "out", HERE, failures)
        return table, failures, capsys.readouterr().out.splitlines()[-1].partition(" All")[0]

    return call


def test_tables_hold_titles_as_text_and_what_the_model_predicts(predict, music, run, tmp_path):
    table, failures, counts = predict(music)
    assert (failures, counts) == ({}, "6 clips: 6 done, 0 already there, 0 failed.")
    model, told = EmotionModel.from_pretrained(run), read_json(tmp_path / "out/predictions.json")
    assert table.columns.tolist() == ["path", "title", "artist", *model.columns]
    as_text = pd.read_csv(tmp_path / "out/predictions.csv", dtype=str, keep_default_na=False)
    assert as_text.columns.tolist() == [*table.columns, "model", "model_sha256"]
    assert set(as_text["model"]) == {told["model"]["name"]} == {run.name}
    assert set(as_text["model_sha256"]) == {told["model"]["sha256"]}
    for titles in (table, as_text, pd.DataFrame(told["songs"])):
        assert titles[["title", "artist"]].to_numpy().tolist() == [[*row[2:]] for row in TAGS.values()]
    for row, song in zip(table.to_dict("records"), told["songs"], strict=True):
        assert row == song
        found = {name: song[name] for name in model.columns}
        assert found == pytest.approx(model.predict(song["path"]), rel=1e-5)
    numbers = pd.read_csv(tmp_path / "out/predictions.csv")
    pd.testing.assert_frame_equal(numbers[model.columns], table[model.columns])


def test_a_wrong_path_leaves_the_tables_of_other_songs(predict, music, tmp_path):
    predict(music)
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    with pytest.raises(InputError, match=r"nowhere\.mp3 does not exist\. Correct its path"):
        predict(tmp_path / "nowhere.mp3")
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def test_a_second_run_reads_no_song_again_and_writes_the_same(predict, music, tmp_path, monkeypatch):
    songs = shutil.copytree(music, tmp_path / "songs")
    shutil.copy(songs / "song 5.wav", os.fsdecode(bytes(songs) + b"/caf\xe9.wav"))  # a name of other letters
    predict(songs)
    files = [tmp_path / "out" / name for name in ("predictions.csv", "predictions.json")]
    made = [file.read_bytes() for file in files]
    assert rb"songs/caf\udce9.wav" in made[0]
    with monkeypatch.context() as patch:
        patch.setattr("music_emotion.listen.model.read_song", None)
        patch.setattr("music_emotion.listen.library.mutagen", None)
        assert predict(songs)[2] == "7 clips: 0 done, 7 already there, 0 failed."
    assert made == [file.read_bytes() for file in files]
    tag(songs / "song 2.mp3", ["2000"], ["Prince"])
    table, _, counts = predict(songs)
    assert counts == "7 clips: 1 done, 6 already there, 0 failed."
    assert table["title"].tolist()[3] == "2000"


def test_another_model_predicts_all_again_and_may_have_other_columns(predict, music, run, tmp_path):
    song, other = music / "song 2.mp3", shutil.copytree(run, tmp_path / "run")
    network = small_network(seed=2)
    save_model(other / "seed0/fold1/model.safetensors", network, network.state_dict())
    (changed,) = other.glob("seed0/fold0/*")
    first = predict(song)[0]
    cases = ((other,), "energy_percentile"), ((changed,), "energy"), ((run,), "energy_percentile")
    for models, last in cases:
        table, _, counts = predict(song, models=models)
        assert counts == "1 clips: 1 done, 0 already there, 0 failed."
        assert table.columns[-1] == last
        assert (table["valence"][0] == first["valence"][0]) == (models == (run,))
    network = small_network(seed=3)
    save_model(changed, network, network.state_dict())
    assert predict(song, models=(other,))[0]["valence"][0] != first["valence"][0]


def test_a_damaged_song_leaves_the_others_and_processes_change_nothing(run_script, music, run, tmp_path):
    songs, tables = shutil.copytree(music, tmp_path / "songs"), []
    (songs / "cut.flac").write_bytes((songs / "song 0.flac").read_bytes()[:9000])
    with (songs / "song 2.mp3").open("r+b") as file:  # an unknown kind of tags; the sound is whole
        file.seek(3)
        file.write(b"\x09")
    jobs = {"here": ["--jobs", "1"], "processes": ["--jobs", "2"], "threads": [], "after-a-kill": []}
    (tmp_path / "after-a-kill").mkdir()
    (tmp_path / "after-a-kill/record.csv.part").write_text("id,path,by")
    for name, flags in jobs.items():
        out = tmp_path / name
        status, said, errors = run_script(
            "predict.py", str(songs), "--model", str(run), "--out", str(out), *flags
        )
        assert status == 2
        assert "7 clips: 6 done, 0 already there, 1 failed." in said
        assert f"error: 1 of 7 could not be predicted:\n{songs}/cut.flac: " in errors
        assert "Traceback" not in errors
        tables.append((out / "predictions.csv").read_bytes())
        told = read_json(out / "predictions.json")["songs"]
        assert [type(song["valence_percentile"]) for song in told] == 6 * [int]
        assert told[2]["title"] == "song 2"
    assert tables == 4 * tables[:1]


def test_a_cluster_that_loses_a_worker_gives_the_local_result(predict, run, tmp_path):
    songs, out, failures = tmp_path / "songs", tmp_path / "cluster", dict[str, str]()
    songs.mkdir()
    for number in range(24):
        soundfile.write(songs / f"{number:02}.wav", (number + 1) / 24 * noise(1), 22050)
    (tmp_path / "dask").mkdir()
    with (
        dask_scheduler(tmp_path / "dask") as scheduler,
        worker(scheduler, tmp_path / "one") as victim,
        worker(scheduler, tmp_path / "two") as survivor,
        ThreadPoolExecutor(1) as thread,
        Client(scheduler) as client,
    ):
        client.wait_for_workers(2, timeout=PATIENCE_SECONDS)
        workers, part = Workers(scheduler=scheduler), out / "record.csv.part"
        done = thread.submit(predict_library, [songs], [run], out, workers, failures)
        wait_until(lambda: part.exists() and part.read_bytes().count(b"\n") > 4, survivor)
        wait_until(is_busy(client, "one"), survivor)
        victim.kill()
        table = done.result(timeout=PATIENCE_SECONDS)
    assert failures == {}
    pd.testing.assert_frame_equal(table, predict(songs)[0])


def test_songs_of_another_command_stay_known(tmp_path, capsys):
    small_run(tmp_path / "run", small_network())
    places = [tmp_path / "one", tmp_path / "two"]
    for place in places:
        place.mkdir()
        written(place / "song.wav", noise(2))
    for place, said in [(0, "1 done, 0"), (1, "1 done, 0"), (0, "0 done, 1"), (1, "0 done, 1")]:
        table = predict_library([places[place]], [tmp_path / "run"], tmp_path / "out", HERE, {})
        assert f"1 clips: {said} already there" in capsys.readouterr().out
        assert table["path"].tolist() == [str(places[place] / "song.wav")]
        assert len(pd.read_csv(tmp_path / "out/predictions.csv")) == 1


@pytest.mark.parametrize("engine", ["torch", "onnx"])
def test_ctrl_c_ends_with_its_status_while_songs_are_predicted(tmp_path, engine):
    for number in range(60):
        os.link(written(tmp_path / "song.wav", noise(20)), tmp_path / f"{number}.wav")
    command = [sys.executable, "-c", INTERRUPTED, str(tmp_path), "--out", str(tmp_path / "out")]
    with subprocess.Popen([*command, "--engine", engine], stderr=subprocess.PIPE, text=True) as process:
        wait_until(lambda: (tmp_path / "out/record.csv.part").exists())
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 130, said
    assert "interrupted: " in said.splitlines()[-1]
