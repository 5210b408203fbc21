"""What a push decides by itself: which bundles go, which outputs count, what Kaggle's words mean."""

import base64
import json
from pathlib import Path

import pytest
from conftest import KEY, N_ROWS, infer, write_build

from music_emotion.files import InputError
from music_emotion.kaggle import api
from music_emotion.kaggle.api import scrub
from music_emotion.kaggle.push_run import KaggleFailure, Push, RunFailed, Waits, check_output, read_bundle


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
        (lambda d, _: (d / "fold0.safetensors").write_bytes(b"x"), r"changed after packaging \(sha256\)"),
        (lambda d, _: (d / "more").mkdir(), "does not list: more. Remove it"),
        (lambda d, _: (d / "manifest.json").unlink(), "is not a bundle. Name build/<name>"),
        (lambda d, _: (d / "manifest.json").write_text("[]"), "manifest.json holds no JSON object"),
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
        ("run.json", "<html>", "no JSON object but begins '<html>'", False),
        ("run.json", "Bad gateway", "no JSON object but begins 'Bad gateway'", False),
        ("submission.csv", "\n<!DOCTYPE html>", "has the header '<!DOCTYPE html>'", False),
        ("submission.csv", "", "submission.csv is no table", False),
        ("submission.csv", "1,0.5\n2,0.5\n", "has the header '1,0.5', not an id and targets", False),
        ("submission.csv", "Id,x\n1,0.5\n2,nan\n", "row 3 is '2,nan', not an id and finite numbers", False),
        ("submission.csv", "Id,x\n1\n", "row 2 is '1,'", False),
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


@pytest.fixture
def push(build, tmp_path) -> Push:
    environment = {"HOME": str(tmp_path), "KAGGLE_KEY": KEY}
    return Push(read_bundle(build), Waits(grace_minutes=0.001, poll_seconds=0.01), environment, print)


def test_steps_outlive_the_process_but_not_another_bundle(push, build):
    push.note("uploaded", base=3)
    push.note("ready", version=4)
    push.forget("ready", "pushed")
    steps = read_bundle(build).read_steps()
    assert (list(steps), steps["uploaded"]["base"]) == (["uploaded"], 3)
    assert read_bundle(write_build(build, b"others")).read_steps() == {}


@pytest.mark.parametrize("text", ["half of it {", "[]", '{"bundle": "one"}'])
def test_a_damaged_record_of_steps_is_to_be_deleted(build, text):
    (build / "push.json").write_text(text)
    with pytest.raises(InputError, match=r"push.json .*Delete it"):
        read_bundle(build).read_steps()


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
    basic = base64.b64encode(b"tester:key-in-a-file").decode()
    for text, blanked in [
        ("key-in-a-file", "***"),
        ("token-in-a-file", "***"),
        ("token-of-a-login", "***"),
        ("token-at-a-path", "***"),
        (KEY, "***"),
        (basic, "***"),
        ("Authorization: Basic eHg6eXk=\nnext", "Authorization: ***\nnext"),
        ("{'Authorization': 'Bearer abc'}", "{'Authorization': ***"),
        ("url: https://x.y/z?X-Signature=abc (Caused", "url: https://x.y/z?*** (Caused"),
        ("Is tester here?", "Is tester here?"),
    ]:
        assert scrub(text, environment) == blanked


@pytest.mark.parametrize(
    ("words", "sentence", "kind"),
    [
        ("ValueError: Maximum batch GPU session count of 2 reached.", "Stop one on kaggle.com", "final"),
        ("ValueError: Notebook not found", "Take id_no out of kernel-metadata.json", "final"),
        ("ValueError: Something new", "Kaggle refused it.*It said: ValueError: Something new", "final"),
        ("400 You are not allowed to create a dataset as this owner.", "Correct the owner", "final"),
        ("ValueError: Failed to resolve the necessary information", "can have no version", "final"),
        ("SystemExit: 1", "there are no credentials; put a token", "final"),
        ("TypeError: unexpected keyword", r"does not fit. Run: pip install --upgrade", "final"),
        ("403: Forbidden for url: x", r"does not allow it \(403\)", "absent"),
        ("503: Service Unavailable for url: x", r"error of its own \(500\)", "passing"),
        (None, "Kaggle refused it.*ended without an answer", "final"),
    ],
)
def test_what_a_failure_says_becomes_a_sentence_with_a_remedy(
    push, monkeypatch, tmp_path, words, sentence, kind
):
    child = tmp_path / "child.py"
    child.write_text(f"print('half a line' if {words!r} is None else '{json.dumps({'words': words})}')")
    monkeypatch.setattr(api, "__file__", str(child))
    with pytest.raises(KaggleFailure, match=rf"kernel push \(tester/x\): .*{sentence}") as error:
        push.call("kernel push", "tester/x")
    assert error.value.kind == kind


def test_a_trouble_that_passes_is_waited_for_only_so_long(push, capsys):
    def look() -> None:
        raise KaggleFailure("the network is gone.", "passing")

    with pytest.raises(KaggleFailure, match="network is gone"):
        push.poll(look, minutes=1)
    assert capsys.readouterr().out == "the network is gone. Trying again.\n"
