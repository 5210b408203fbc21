"""The documentation site in a browser, at the width of a phone and of a desk; and the licences it lists."""

import os
import subprocess
import sys
import threading
import tomllib
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parents[1]
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built and served on this machine."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"})
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.needs("chromium")
def test_every_page_fits_a_phone_and_a_desk_and_search_finds_words(site):
    folder, address = site
    pages = [path.relative_to(folder).parent.as_posix() for path in folder.glob("**/index.html")]
    assert len(pages) > 12
    elsewhere = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
        for width in (360, 1280):
            page = browser.new_page(viewport={"width": width, "height": 800})
            page.on("request", lambda request: elsewhere.append(request.url))
            for name in pages:
                page.goto(f"{address}/{name}/")
                wide = page.evaluate("document.documentElement.scrollWidth")
                assert wide <= width, f"{name} is {wide} pixels wide on a screen of {width}"
                assert page.locator("h1").count() == 1, name
        page.goto(address)
        page.get_by_placeholder("Search").click()
        page.get_by_placeholder("Search").press_sequentially("conformal")
        page.locator(".md-search-result__item").first.wait_for()
        assert "Predict songs" in page.locator(".md-search-result__list").inner_text()
        browser.close()
    assert all(url.startswith((address, "data:", "blob:")) for url in elsewhere), set(elsewhere)


def test_the_licence_of_every_dependency_is_listed():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    names = {Requirement(line).name for group in groups for line in group} - {"music-emotion"}
    rows = (ROOT / "docs/security.md").read_text().splitlines()
    assert names == {row.split("`")[1] for row in rows if row.startswith("| `")}
