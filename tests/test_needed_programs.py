"""Tests that need a program which may be missing."""

from pathlib import Path

import pytest


@pytest.mark.needs("sh")
@pytest.mark.parametrize(("ci", "end"), [("", pytest.skip.Exception), ("true", pytest.fail.Exception)])
def test_without_its_program_a_test_is_skipped_but_fails_in_continuous_integration(
    request, monkeypatch, ci, end
):
    conftest = request.config.pluginmanager.get_plugin(str(Path(__file__).with_name("conftest.py")))
    conftest.pytest_runtest_setup(request.node)
    monkeypatch.setenv("CI", ci)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(end, match=r"no program sh\. Install the Debian package sh"):
        conftest.pytest_runtest_setup(request.node)
