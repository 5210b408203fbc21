"""The app in a real browser: a song's numbers, sentences for what can't be predicted, and no other host."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
import soundfile
from audio_files import RATE_HZ, noise
from playwright.sync_api import sync_playwright

from music_emotion import EmotionModel

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
FLAGS += ["--disable-background-networking", "--disable-component-update"]
# Python runs it at its start: addresses that are not of this machine, and modules that are slow to import
WATCH = """
import atexit, sys
def watch(event, values):
    if event in ("socket.connect", "socket.getaddrinfo") and "127.0.0.1" not in str(values):
        print("elsewhere:", event, values, flush=True)
sys.addaudithook(watch)
atexit.register(lambda: print("slow:", {"librosa", "numba", "timm"} & set(sys.modules), flush=True))
"""


def start(folder: Path, port: int) -> subprocess.Popen[str]:
    """The command as a process, whose temporary files are in `folder`."""
    (folder / "sitecustomize.py").write_text(WATCH)
    paths = os.pathsep.join([str(folder), str(Path(__file__).parents[2] / "src")])
    return subprocess.Popen(
        [sys.executable, "-m", "music_emotion", "app", "--port", str(port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": paths, "TMPDIR": str(folder)},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


@pytest.mark.needs("chromium")
def test_a_song_goes_in_and_its_numbers_come_out_and_nothing_leaves_the_machine(tmp_path):
    song, silent, text = (tmp_path / name for name in ("song.wav", "silent.wav", "text.wav"))
    soundfile.write(song, noise(12) * np.linspace(0.1, 1, 12 * RATE_HZ), RATE_HZ)
    soundfile.write(silent, np.zeros(RATE_HZ), RATE_HZ)
    text.write_text("no sound")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process, elsewhere, errors = start(tmp_path, port), [], []
    try:
        assert process.stdout.readline() == f"The page is at http://127.0.0.1:{port}. Ctrl-C ends it.\n"
        listening = psutil.Process(process.pid).net_connections(kind="tcp")
        assert {each.laddr.ip for each in listening if each.status == "LISTEN"} == {"127.0.0.1"}
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
            page = browser.new_page()
            page.set_default_timeout(90_000)  # on a busy machine

            def check(route, request):
                is_here = request.url.startswith((f"http://127.0.0.1:{port}/", "blob:", "data:"))
                if not is_here:
                    elsewhere.append(request.url)
                (route.continue_ if is_here else route.abort)()

            page.route("**/*", check)
            page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
            page.on("pageerror", lambda error: errors.append(str(error)))
            page.goto(f"http://127.0.0.1:{port}/")

            def result_of(file: Path) -> str:
                page.locator("input[type=file]").first.set_input_files(file)
                box = page.get_by_label("Result")
                page.wait_for_function(
                    "([box, name]) => box.value.includes(name)", arg=[box.element_handle(), file.name]
                )
                return box.input_value()

            assert result_of(song).startswith("song.wav: 12.0 seconds.")
            page.locator("canvas, svg.marks").first.wait_for()  # the curves
            table = page.locator(".table-wrap, table").filter(has_text="danceability")
            table.first.wait_for()
            words = table.first.inner_text().split()
            expected = EmotionModel.from_pretrained().predict(song)
            for name in ("valence", "energy", "danceability"):
                ends = [expected[f"{name}{end}"] for end in ("", "_low", "_high", "_percentile")]
                shown = [float(word) for word in words[words.index(name) + 1 :][:4]]
                assert shown == pytest.approx(ends, abs=0.0051)
            assert errors == []
            for file, sentence in ((silent, "is silent"), (text, "the audio can't be decoded")):
                page.get_by_label("Clear").first.click()
                said = result_of(file)
                assert said.startswith(file.name)
                assert sentence in said
                table.first.wait_for(state="hidden")
            browser.close()
        uploads = list(tmp_path.glob("music-emotion-*/**/song.wav"))
        assert len(uploads) == 1
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=30)[0]
    finally:
        process.kill()
    assert process.returncode == 130, said
    assert "the page is closed and the songs are deleted;" in said
    assert "slow: set()" in said
    assert "elsewhere" not in said
    assert not uploads[0].exists()
    assert elsewhere == []


def test_a_missing_extra_and_a_taken_port_get_a_sentence(monkeypatch, run_script):
    monkeypatch.setitem(sys.modules, "gradio", None)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, _, errors = run_script("app.py", "--port", port)
    said = f"error: Port {port} can't be used (Address already in use). Give another --port.\n"
    assert (status, errors) == (2, said)
    status, _, errors = run_script("app.py", "--port", port)
    assert (status, errors) == (2, "error: Gradio is not installed. Try pip install music-emotion[app].\n")
