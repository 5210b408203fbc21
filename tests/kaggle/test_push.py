"""What a push decides by itself: which bundles go, which outputs count, what the CLI's words mean."""

import base64
import json
import sys
from pathlib import Path

import pytest
from conftest import KEY, N_ROWS, Pusher, infer

from music_emotion.files import InputError
from music_emotion.kaggle import kaggle_cli
from music_emotion.kaggle.kaggle_cli import Cli, CliFailure
from music_emotion.kaggle.kaggle_secrets import Scrubber
from music_emotion.kaggle.push_files import RunFailed, check_output, read_bundle
from music_emotion.kaggle.push_steps import Steps
from music_emotion.kaggle.push_waits import Push, Waits


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}), encoding="utf-8")


def test_a_bundle_as_packaged_is_read(build):
    bundle = read_bundle(build)
    assert bundle.sizes["fold1.safetensors"] == 700
    assert len(bundle.sizes) == 4  # the manifest goes too
    assert (bundle.dataset, bundle.kernel) == ("tester/feels-weights", "tester/feels-kernel")


def test_an_edited_kernel_is_told_from_the_one_before(build):
    before = read_bundle(build).kernel_hash
    script = build / "kernel" / "infer.py"
    script.write_text(script.read_text() + "print()")
    assert read_bundle(build).kernel_hash != before


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda d, _: (d / "fold0.safetensors").unlink(), "fold0.safetensors is missing"),
        (lambda d, _: (d / "fold0.safetensors").write_bytes(b"x"), "has 1 bytes, its manifest says 7"),
        (
            lambda d, _: (d / "fold0.safetensors").write_bytes(b"WEIGHTS"),
            r"changed after packaging \(sha256\)",
        ),
        (lambda d, _: (d / "more").mkdir(), "does not list: more. Remove it"),
        (lambda d, _: (d / "manifest.json").unlink(), "is not a packaged bundle. Name build/<name>"),
        (lambda d, _: (d / "manifest.json").write_text("[]"), "manifest.json is no JSON object"),
        (lambda d, _: edit(d / "manifest.json", bundle="x"), "lists no bundle and files"),
        (lambda d, _: edit(d / "manifest.json", files={"../x": {}}), "lists no bundle and files"),
        (
            lambda d, _: edit(d / "dataset-metadata.json", id="slug"),
            "id is 'slug'; string should match",
        ),
        (lambda _, k: edit(k / "kernel-metadata.json", id="a/b/c"), "kernel-metadata.json: id is 'a/b/c'"),
        (
            lambda _, k: edit(k / "kernel-metadata.json", dataset_sources=[]),
            "does not hold tester/feels-weights",
        ),
        (
            lambda _, k: edit(k / "kernel-metadata.json", model_sources=["x"]),
            r"model_sources is \['x'\]",
        ),
        (lambda _, k: (k / "infer.py").unlink(), "code_file infer.py does not exist"),
        (lambda _, k: (k / "infer.py").write_text("print()"), "infer.py was made for another bundle"),
    ],
)
def test_a_bundle_that_is_not_as_packaged_is_refused(build, spoil, sentence):
    spoil(build / "dataset", build / "kernel")
    with pytest.raises(InputError, match=sentence):
        read_bundle(build)


@pytest.fixture
def output(tmp_path) -> Path:
    for name, data in infer({"manifest.json": b'{"bundle": "b0b0"}'}).items():
        (tmp_path / name).write_bytes(data)
    return tmp_path


def test_an_output_counts_its_rows(output):
    assert check_output(output, "b0b0") == N_ROWS


@pytest.mark.parametrize(
    ("name", "text", "sentence", "again"),
    [
        ("run.json", None, "has no run.json", True),
        ("submission.csv", None, "has no submission.csv", True),
        ("run.json", '{"bundle": "0ld"}', "is of bundle 0ld, not of b0b0", True),
        ("run.json", '{"bundle": "b0b0", "rows": 5}', "no end marker", True),
        ("run.json", '{"bundle": "b0b0", "rows": 6, "finished": true}', "has 5 rows, run.json says 6", False),
        ("run.json", "<html>", "run.json is an HTML page", False),
        ("run.json", "Bad gateway", "is not JSON but begins with 'Bad gateway'", False),
        ("submission.csv", "\n<!DOCTYPE html>", "submission.csv is an HTML page", False),
        ("submission.csv", "", "has the header ''", False),
        ("submission.csv", "1,0.5\n2,0.5\n", "has the header '1,0.5', not an id and targets", False),
        ("submission.csv", "Id,x\n1,0.5\n2,nan\n", "row 3 is '2,nan', not an id and finite numbers", False),
        ("submission.csv", "Id,x\n1\n", "row 2 is '1'", False),
        ("submission.csv", "Id,x\n1,0.5\n1,0.5\n", "holds an id twice", False),
    ],
)
def test_an_output_that_is_no_submission_is_refused(output, name, text, sentence, again):
    (output / name).unlink()
    if text is not None:
        (output / name).write_text(text)
    with pytest.raises(InputError, match=sentence) as error:
        check_output(output, "b0b0")
    assert isinstance(error.value, RunFailed) == again


def test_the_ids_of_an_edition_are_ids(output):
    (output / "submission.csv").write_text(
        "Id.fused.full.npy.gz,x\n" + "".join(f"{n}.gz,1\n" for n in range(5))
    )
    assert check_output(output, "b0b0") == 5


def test_steps_outlive_the_process_but_not_another_bundle(tmp_path):
    steps = Steps(tmp_path / "push.json", "one")
    steps.note("uploaded", base=3)
    steps.note("ready", version=4)
    steps.forget("ready", "pushed")
    again = Steps(tmp_path / "push.json", "one")
    assert (again.get("uploaded") or {})["base"] == 3
    assert again.get("ready") is None
    assert Steps(tmp_path / "push.json", "two").get("uploaded") is None


@pytest.mark.parametrize("text", ["half of it {", "[]", '{"bundle": "one"}'])
def test_a_damaged_record_of_steps_is_to_be_deleted(tmp_path, text):
    (tmp_path / "push.json").write_text(text)
    with pytest.raises(InputError, match=r"push.json .*Delete it"):
        Steps(tmp_path / "push.json", "one")


@pytest.mark.parametrize(("name", "value"), [("poll_seconds", -1.0), ("upload_minutes", 0.0)])
def test_a_time_that_is_none_is_refused(name, value):
    with pytest.raises(InputError, match=f"--{name.replace('_', '-')} is {value:g}. Give a positive number"):
        Waits(**{name: value})


def test_secrets_of_every_place_are_blanked(tmp_path):
    (tmp_path / ".kaggle").mkdir()
    (tmp_path / ".kaggle" / "kaggle.json").write_text('{"username": "tester", "key": "key-in-a-file"}')
    (tmp_path / ".kaggle" / "access_token").write_text("token-in-a-file\n")
    (tmp_path / ".kaggle" / "credentials.json").write_text('{"refresh_token": "token-of-a-login"}')
    (tmp_path / "token").write_text("token-at-a-path")
    environment = {"HOME": str(tmp_path), "KAGGLE_API_TOKEN": str(tmp_path / "token"), "KAGGLE_KEY": KEY}
    scrub = Scrubber(environment)
    basic = base64.b64encode(b"tester:key-in-a-file").decode()
    for secret in ("key-in-a-file", "token-in-a-file", "token-of-a-login", "token-at-a-path", KEY, basic):
        assert scrub(f"It is {secret}!") == "It is ***!"
    assert scrub("Authorization: Basic eHg6eXk=\nnext") == "Authorization: ***\nnext"
    assert scrub("{'Authorization': 'Bearer abc'}").count("abc") == 0
    assert scrub("url: https://x.y/z?X-Signature=abc (Caused") == "url: https://x.y/z?*** (Caused"
    assert scrub("Is tester here?") == "Is tester here?"


@pytest.fixture
def speak(tmp_path, monkeypatch):
    """Stand in for the CLI with a program that says something and ends with 0."""

    python = sys.executable

    def prepare(words: str, status: int = 0) -> Cli:
        program = tmp_path / "speak"
        program.write_text(f"#!{python}\nprint('''{words}''')\nraise SystemExit({status})\n")
        program.chmod(0o755)
        monkeypatch.setattr(kaggle_cli.sys, "executable", str(program))
        return Cli(tmp_path, {"HOME": str(tmp_path)}, print, 60)

    return prepare


@pytest.mark.parametrize(
    ("words", "sentence", "kind"),
    [
        (
            "Kernel push error: Maximum batch GPU session count of 2 reached.",
            "Stop one on kaggle.com",
            "final",
        ),
        ("Kernel push error: Notebook not found", "Take id_no out of kernel-metadata.json", "final"),
        (
            "Kernel push error: Something new",
            "Kaggle refused it. The CLI said: Kernel push error: Some",
            "final",
        ),
        (
            "Dataset creation error: You are not allowed to create a dataset as this owner.",
            "Correct the",
            "final",
        ),
        ("Failed to resolve the necessary information", "does not exist, so it can have no version", "final"),
        ("User cancelled operation", "the CLI was interrupted. The same command goes on", "final"),
        ("Could not find competition - please verify", "Correct --competition", "final"),
        ("No module named kaggle", r"pip install 'music-emotion\[kaggle\]'", "final"),
        ("error: unrecognized arguments: --format", "too old for the command.*--upgrade", "final"),
        ("No module named kaggle.__main__; 'kaggle' is a package", "too old for the command", "final"),
        ("403 Client Error: Forbidden for url: x", r"does not allow it \(403\)", "absent"),
        ("503 Server Error: Service Unavailable for url: x", r"error of its own \(500\)", "passing"),
        ("All is well, perhaps", "did not say that it succeeded.*All is well, perhaps", "final"),
        ("", "it said nothing at all", "final"),
    ],
)
def test_the_clis_words_are_judged_though_it_ends_with_0(speak, words, sentence, kind):
    with pytest.raises(CliFailure, match=rf"kaggle kernels push \(tester/x\).*{sentence}") as error:
        speak(words).call(["kernels", "push"], "successfully pushed", "tester/x")
    assert error.value.kind == kind


@pytest.mark.parametrize(
    "lie",
    [
        "The following are not valid kernel sources and could not be added",
        "Upload unsuccessful: fold0.safetensors",
        "Could not submit to competition",
        "User cancelled operation",
    ],
)
def test_a_text_of_success_does_not_outweigh_a_failure(speak, lie):
    assert speak("Kernel version 3 successfully pushed").call(["a"], "successfully", "x")
    with pytest.raises(CliFailure):
        speak(f"{lie}\nKernel version 3 successfully pushed").call(["a"], "successfully", "x")


def test_every_file_must_be_said_to_have_arrived(build, tmp_path, monkeypatch):
    program = tmp_path / "skips"
    said = "Upload successful: fold0.safetensors (7B)\\nDataset version is being created"
    program.write_text(
        f"#!{sys.executable}\nimport sys\nready = {{'status': 'ready', 'current_version_number': 1}}\n"
        f"print(str(ready).replace(chr(39), chr(34)) if 'status' in sys.argv else '{said}')\n"
    )
    program.chmod(0o755)
    monkeypatch.setattr(kaggle_cli.sys, "executable", str(program))
    with pytest.raises(CliFailure, match=r"made without fold1.safetensors, manifest.json, music_emotion"):
        Pusher(build, {"HOME": str(tmp_path)}).upload()


def test_an_exit_status_outweighs_a_text_of_success(speak):
    with pytest.raises(CliFailure, match="did not say that it succeeded"):
        speak("successfully pushed", status=1).call(["a"], "successfully", "x")


def test_a_trouble_that_passes_is_waited_for_only_so_long(build, tmp_path):
    bundle = read_bundle(build)
    said: list[str] = []
    cli = Cli(build, {"HOME": str(tmp_path)}, said.append, 60)
    waits = Waits(grace_minutes=0.001, poll_seconds=0.01)
    push = Push(bundle, Steps(build / "push.json", bundle.hash), waits, cli, build)

    def look() -> None:
        raise CliFailure("the network is gone.", "passing")

    with pytest.raises(CliFailure, match="network is gone"):
        push.poll(look, minutes=1)
    assert said == ["the network is gone. Trying again."]
