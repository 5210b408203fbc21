"""The page of a library: made by the command, read and used in a real browser, without network."""

import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from audio_files import noise, written
from command_line import call
from mutagen.flac import FLAC
from playwright.sync_api import Page, sync_playwright
from small_networks import small_network, small_run

from music_emotion.datasets.synthesis import draw_music, synthesise
from music_emotion.files import sha256
from music_emotion.listen import page as module
from music_emotion.listen.model import EmotionModel
from music_emotion.listen.page import write_page
from music_emotion.models.network import save_model

pytestmark = [pytest.mark.usefixtures("own_accelerate"), pytest.mark.needs("chromium")]
HOSTILE = "</script><script>alert(1)</script>\"'&<!--\u2028"
FLAGS = "--no-sandbox --no-first-run --disable-gpu --disable-quic --disable-sync --disable-component-update"


def music(seconds: float) -> np.ndarray:
    return synthesise(draw_music("Rock", np.random.default_rng(3)), seconds, 22050, np.random.default_rng(3))


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A page beside a folder of songs, made by the command with the model in the package."""
    folder = tmp_path_factory.mktemp("library")
    songs = folder / "mine: #1 & 100%3F é"
    songs.mkdir()
    for name, sound, n_silent in (("a b", music(12), 0), ("c#?", noise(11), 0), ("d", music(12), 60 * 22050)):
        written(songs / f"{name}.flac", np.pad(sound, (0, n_silent)))
    tags = FLAC(songs / "c#?.flac")
    tags["title"], tags["artist"] = HOSTILE, "Sigur Rós"
    tags.save()
    page, out = folder / "site/all.html", folder / "out"
    assert call("predict.py", songs, "--page", page, "--out", out, "--jobs", 1) == 0
    return page


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as started:
        yield started.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS.split())


@pytest.fixture
def opened(browser):
    """Open a page: `opened(path, width=375)`. Fails on errors, dialogs and requests other than for files."""
    told: list[str] = []

    def load(path: Path, width: int = 1280) -> Page:
        page = browser.new_page(viewport={"width": width, "height": 800})
        page.set_default_timeout(120_000)  # other tests may keep the cores busy
        for event in ("console", "pageerror", "dialog"):
            page.on(event, lambda what: told.append(str(what)))
        page.on("request", lambda asked: asked.url.startswith("file:") or told.append(asked.url))
        page.goto(path.as_uri())
        page.wait_for_selector(".tabulator-row")
        return page

    yield load
    assert told == []


def titles(page: Page) -> list[str]:
    return [text.strip() for text in page.locator(".tabulator-cell[tabulator-field=title]").all_inner_texts()]


def test_a_click_on_a_point_tells_plays_and_draws_the_song(made, opened):
    page, model = opened(made), EmotionModel.from_pretrained()
    table = pd.read_csv(made.parents[1] / "out/predictions.csv")
    for row in table.itertuples():
        x, y = page.evaluate("at => plane.convertToPixel({gridIndex: 0}, at)", [row.valence, row.energy])
        page.locator("#plane").hover(position={"x": x, "y": y})
        page.wait_for_function("title => byId('plane').innerText.includes(title)", arg=row.title[:3])
        page.locator("#plane").click(position={"x": x, "y": y})
        assert page.locator("h2").text_content() == row.unlike * "▲ " + row.title
        ends = f"energy {row.energy:.2f} ({row.energy_low:.2f} to {row.energy_high:.2f}, percentile"
        assert ends in page.locator("#values").inner_text()
        page.evaluate("audio.load()")
        page.wait_for_function("() => audio.duration")
        timeline = model.timeline(row.path, 10, 1)
        assert page.evaluate("audio.duration") == pytest.approx(timeline["end_seconds"].iloc[-1], abs=0.1)
        for series in page.evaluate("line.getOption().series.map(({name, data}) => [name, data])"):
            seconds, values = np.array(series[1], float).T
            np.testing.assert_allclose(seconds, (timeline["start_seconds"] + timeline["end_seconds"]) / 2)
            np.testing.assert_allclose(values, timeline[series[0]], atol=0.002)  # NaN where NaN is expected
    assert np.isnan(values).any()
    assert set(table["unlike"]) == {False, True}


def test_the_table_sorts_filters_and_is_used_with_a_keyboard(made, opened):
    page, table = opened(made), pd.read_csv(made.parents[1] / "out/predictions.csv")
    page.locator("[tabulator-field=t1].tabulator-col").click()
    ranked = table.sort_values("energy", ascending=False)
    assert [title.removeprefix("▲ ") for title in titles(page)] == ranked["title"].tolist()
    page.get_by_label("energy, least").fill(str(ranked["energy"].iloc[1] - 1e-4))
    assert page.locator("#count").inner_text() == "2 of 3 songs"
    page.locator("#words").fill("SIGUR ros")
    assert titles(page) == [f"▲ {HOSTILE}".replace("\u2028", "").strip()]
    page.locator("#kind").select_option("like")
    assert page.locator("#count").inner_text() == "0 of 3 songs"
    page.evaluate("byId('filters').reset(); filter()")
    page.locator(".tabulator-col[tabulator-field=title]").focus()
    for key in ("Enter", *6 * ["Tab"], "ArrowDown", "ArrowDown", "Enter"):
        page.keyboard.press(key)
    second = titles(page)[1]
    page.wait_for_function("title => document.querySelector('h2').textContent.trim() === title", arg=second)
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.locator("#plane").focus()
    for key in ("ArrowRight", "ArrowLeft", "Enter"):
        page.keyboard.press(key)
    assert page.evaluate("cursor === chosen && chosen.title") in table["title"].tolist()


def test_other_models_have_their_own_axes_or_the_table_alone_also_on_a_phone(made, opened, tmp_path):
    songs = pd.read_csv(made.parents[1] / "out/predictions.csv", keep_default_na=False)
    assert opened(made, 375).evaluate("document.documentElement.scrollWidth") == 375
    numbers, curves = songs.filter(regex="^(valence|energy|dance)"), pd.Series(3 * ["9" + 3 * " 1 9 AP//"])
    scaled = songs.assign(**(8 * numbers + 1))
    write_page(tmp_path / "nine.html", scaled, curves, EmotionModel.from_pretrained(), "nine")
    low, high = opened(tmp_path / "nine.html").evaluate("targets[0].range")
    assert 1 <= low < scaled["valence"].min() < scaled["valence"].max() < high <= 9
    genres = small_network(("Folk", "Jazz"))
    save_model(tmp_path / "genre.safetensors", genres, genres.state_dict())
    flags = ["--model", tmp_path / "genre.safetensors", "--out", tmp_path, "--jobs", 1]
    assert call("predict.py", songs["path"][0], "--page", tmp_path / "a.html", *flags) == 0
    page = opened(tmp_path / "a.html", 375)
    page.locator(".tabulator-row").click()
    assert page.locator("#plane, #line").count() == 0
    assert page.locator("[tabulator-field=genre].tabulator-cell").inner_text() in ("Folk", "Jazz")


def test_time_lines_stay_in_the_record_and_a_page_changes_no_number(run_script, tmp_path, monkeypatch):
    run, song, out = small_run(tmp_path / "run", small_network()), tmp_path / "a.wav", tmp_path / "out"
    written(song, music(40) * np.linspace(0, 1, 40 * 22050))
    page, flags = tmp_path / "all.html", ("--model", run, "--out", out, "--jobs", 1)

    def predict(*more: str | Path) -> tuple[str, str, str]:
        _, said, errors = run_script("predict.py", song, *flags, *more)
        return "".join(re.findall("[0-9] done", said)), sha256(out / "predictions.csv"), errors

    _, numbers, _ = predict()
    assert predict("--page", page)[:2] == ("1 done", numbers)
    made = page.read_bytes()
    page.unlink()
    assert predict("--page", page)[:2] == ("0 done", numbers)
    assert page.read_bytes() == made
    assert predict()[:2] == ("0 done", numbers)
    assert f"error: --page {tmp_path} is a folder. Name a file, such as" in predict("--page", tmp_path)[2]
    monkeypatch.setattr(module, "FILES", tmp_path / "none")
    done, left, errors = predict("--page", page)
    assert (done, left, page.exists()) == ("0 done", numbers, False)
    assert f"warning: the page {page} failed (FileNotFoundError: " in errors


def test_vendored_files_are_those_that_are_recorded():
    recorded = (module.FILES / "VENDORED.txt").read_text()
    for name, digest in re.findall(r"(\S+\.min\.\w+) .* ([0-9a-f]{64})", recorded):
        assert sha256(module.FILES / name) == digest
