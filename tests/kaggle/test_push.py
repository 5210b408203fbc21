"""Kaggle's own package against a stub of its API: what goes well, every failure, and what a push decides."""

import base64
import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
from conftest import DATASET, KERNEL, KEY, N_ROWS, infer, write_build
from kaggle_stub import Dataset, Fault, KaggleStub, Kernel

from music_emotion.files import InputError, package_data, read_json, write_json
from music_emotion.kaggle import api, push_run
from music_emotion.kaggle.api import KaggleFailure, scrub
from music_emotion.kaggle.bundle import notebook_of
from music_emotion.kaggle.push import Wish, planned_commands
from music_emotion.kaggle.push_run import Push, RunFailed, Waits, check_output, read_bundle

FILE, CODE = Wish("music-feels", "first", "file"), Wish("music-feels", "first", "kernel")


def edit(path: Path, **changes: object) -> None:
    write_json(path, read_json(path) | changes)


def test_a_bundle_goes_all_the_way_and_again_does_nothing(pusher, stub, environment, capfd):
    environment["VERBOSE"] = environment["VERBOSE_OUTPUT"] = "1"
    pusher(FILE)
    (files,) = stub.datasets[DATASET].versions
    assert {name: len(data) for name, data in files.items()} == read_bundle(pusher.build).sizes
    assert len(files) == 4  # the manifest goes too
    for name, data in files.items():
        assert data == (pusher.build / "dataset" / name).read_bytes()
    assert stub.bodies["CreateDataset"]["isPrivate"] is True
    assert stub.bodies["SaveKernel"]["machineShape"] == "NvidiaTeslaT4"
    assert not stub.bodies["SaveKernel"].get("enableInternet")
    assert sorted(path.name for path in (pusher.build / "output").iterdir()) == ["run.json", "submission.csv"]
    submission = (pusher.build / "output" / "submission.csv").read_bytes()
    assert submission == infer({})["submission.csv"]
    assert stub.submitted == [submission]
    assert stub.bodies["CreateSubmission"]["competitionName"] == "music-feels"
    said, progress = capfd.readouterr()
    assert said == ""  # whatever Kaggle's package prints
    assert sorted(progress.split()) == sorted([*["sent"] * 5, *files, "submission.csv"])
    assert "Uploading 4 files" in pusher.said
    assert pusher.said.count("kernel tester/feels-kernel: RUNNING") == 1
    assert f"{N_ROWS} rows, made by bundle" in pusher.said
    assert "public score 0.61803" in pusher.said
    assert not (pusher.build / ".uploads").exists()
    assert planned_commands(read_bundle(pusher.build), None) == [f"cd '{pusher.build}'"]
    stub.requests.clear()
    pusher(FILE)
    assert set(stub.requests) == {"ListSubmissions"}


def test_another_bundle_becomes_a_version_and_the_kernel_is_submitted(fetched, stub, environment, tmp_path):
    key_file = tmp_path / "home" / "kaggle.json"
    key_file.write_text(json.dumps({"username": "tester", "key": environment.pop("KAGGLE_KEY")}))
    key_file.chmod(0o644)
    write_build(fetched.build, b"better weights")
    stub.datasets[DATASET].pending = ["BLOBS_RECEIVED"]  # the version before is not ready yet
    fetched(CODE)
    bundle = read_bundle(fetched.build).hash
    assert stub.datasets[DATASET].versions[-1]["fold0.safetensors"] == b"better weights"
    assert stub.bodies["CreateDatasetVersion"]["body"]["versionNotes"] == f"bundle {bundle}"
    assert "CreateDataset" not in stub.requests
    assert read_json(fetched.build / "push.json")["steps"]["ready"]["version"] == 2
    assert read_json(fetched.build / "output" / "run.json")["bundle"] == bundle
    code = stub.bodies["CreateCodeSubmission"]
    assert (code["kernelVersion"], code["fileName"]) == (2, "submission.csv")
    assert stub.submissions[0]["description"] == f"first [kernel {bundle[:12]}]"
    assert fetched.said.count("chmod 600") == 1


def test_a_notebook_is_pushed_as_one(uploaded, stub):
    kernel = uploaded.build / "kernel"
    script = (package_data("kaggle") / "kernel.py").read_text()
    script = script.replace("@bundle@", read_bundle(uploaded.build).hash)
    write_json(kernel / "kernel.ipynb", notebook_of(script, "feels"))
    edit(kernel / "kernel-metadata.json", kernel_type="notebook", code_file="kernel.ipynb")
    uploaded()
    assert stub.bodies["SaveKernel"]["kernelType"] == "notebook"
    cells = json.loads(stub.bodies["SaveKernel"]["text"])["cells"]
    assert "run_bundle" in "".join(cells[3]["source"])


def test_a_training_goes_on_from_another_kernel_and_says_what_is_left(uploaded, stub):
    before = "tester/feels-before"
    edit(uploaded.build / "kernel" / "kernel-metadata.json", kernel_sources=[before])
    uploaded.fails(f"left out a source.*Correct the sources in kernel-.*not valid sources: {before}")
    stub.kernels[before] = Kernel()

    def train(files: dict[str, bytes]) -> dict[str, bytes]:
        left = infer(files)
        progress = {"complete": False, "folds": {"ridge": "5 of 5", "transfer": "2 of 5"}}
        return {**left, "run.json": json.dumps({**json.loads(left["run.json"]), **progress}).encode()}

    stub.make_output = train
    uploaded()
    assert stub.bodies["SaveKernel"]["kernelDataSources"] == [before]
    assert "out of time (folds: ridge 5 of 5, transfer 2 of 5)" in uploaded.said
    assert f"--resume {KERNEL} and another --name" in uploaded.said


def test_a_late_score_is_no_failure_and_nothing_is_submitted_again(fetched, stub):
    stub.score_polls = 10**6
    for _ in range(2):
        fetched(FILE, score_minutes=0)
    assert stub.requests.count("CreateSubmission") == 1
    assert fetched.said.count("no score within 0 minutes. The same command asks again.") == 2


def test_a_stale_complete_and_what_passes_by_itself_are_waited_for(uploaded, stub):
    stub.kernels[KERNEL] = Kernel(1, ["COMPLETE"])
    stub.run_statuses = ["COMPLETE", "ERROR", "RUNNING", "COMPLETE"]
    stub.faults["GetKernelSessionStatus"] = Fault(403, "Permission 'kernels.get' was denied", times=1)
    stub.faults["ListKernelSessionOutput"] = Fault(503, times=1)
    uploaded.note(pushing={"kernel": "earlier", "first": True})
    uploaded(grace_minutes=1)
    assert stub.requests.count("GetKernelSessionStatus") == 6
    assert stub.requests.count("ListKernelSessionOutput") == 2
    assert uploaded.said.count("Trying again.") == 2


def test_a_dataset_without_a_file_is_uploaded_whole_by_the_same_command(pusher, stub):
    stub.faults["PUT fold0.safetensors"] = Fault(500, times=1)
    pusher.fails("a file was not uploaded.*uploads the whole bundle again.*unsuccessful: fold0.safetensors")
    assert "fold0.safetensors" not in stub.datasets.get(DATASET, Dataset([{}])).versions[-1]
    pusher()
    assert set(stub.datasets[DATASET].versions[-1]) == set(read_bundle(pusher.build).sizes)


def test_a_failed_run_is_run_again_by_the_same_command(pushed, stub):
    kernel = stub.kernels[KERNEL]
    kernel.statuses, kernel.output, kernel.failure = ["ERROR"], {}, "It ran out of memory."
    kernel.log = json.dumps([{"stream_name": "stderr", "time": 1, "data": "Killed\n"}])
    pushed.fails(r"failed \(ERROR\). Kaggle says: It ran out of memory. Its log ends: Killed .* again; its")
    assert (pushed.build / "output" / "feels-kernel.log").exists()
    pushed()
    assert kernel.version == 2
    assert f"{N_ROWS} rows" in pushed.said


def test_credentials_are_asked_for_where_there_are_none_or_stale_ones(pusher, stub, environment):
    environment["KAGGLE_API_TOKEN"] = KEY
    stub.faults["GetDatasetStatus"] = Fault(401, "Unauthenticated")
    pusher.fails(r"\(401\): they are expired or revoked. Delete the stale token \(also KAGGLE_API_TOKEN")
    assert stub.requests[-1] == "GetDatasetStatus"
    stub.requests.clear()
    del environment["KAGGLE_KEY"], environment["KAGGLE_API_TOKEN"]
    pusher.fails(r"there are no credentials; put a token .* ~/.kaggle/access_token")
    assert stub.requests == []


def test_a_package_that_is_missing_or_old_is_named(push, monkeypatch):
    def look(versions: dict[str, str], name: str) -> str:
        if name in versions:
            return versions[name]
        raise PackageNotFoundError(name)

    for versions, sentence in (
        ({"six": "1.17"}, r"kaggle is not installed. Run: pip install .*'music-emotion\[kaggle\]'"),
        ({"kaggle": "2.2.5"}, "the package six is not installed"),
        ({"kaggle": "2.2.4", "six": "1.17"}, "the package kaggle is 2.2.4; at least 2.2.5 is needed"),
    ):
        monkeypatch.setattr(api, "version", partial(look, versions))
        with pytest.raises(KaggleFailure, match=sentence):
            push.call("kernel push", "tester/x")


def test_the_commands_of_a_dry_run_are_those_of_kaggles_command_line(build, stub, environment):
    *_, create, _, _, push, status, output, listing, submit, _ = planned_commands(read_bundle(build), FILE)
    for command in (create, push, status, output, listing, submit):
        subprocess.run(f"{sys.executable} -m {command}", shell=True, cwd=build, env=environment, check=True)
        stub.kernels.setdefault(KERNEL, Kernel()).statuses[:] = ["COMPLETE"]
        stub.datasets[DATASET].pending.clear()
    assert set(stub.datasets[DATASET].versions[0]) == set(read_bundle(build).sizes)
    assert stub.submitted[0] == infer({})["submission.csv"]


def reply(method: str, **answer: object) -> Callable[[KaggleStub], None]:
    return lambda stub: stub.replies.update({method: answer})


def fault(name: str, *arguments: object, **settings: object) -> Callable[[KaggleStub], None]:
    return lambda stub: stub.faults.update({name: Fault(*arguments, **settings)})


def state(**values: object) -> Callable[[KaggleStub], None]:
    return lambda stub: vars(stub).update(values)


def run(status: str, **output: str) -> Callable[[KaggleStub], None]:
    """The kernel's run has this status, and this in its run.json."""
    done = {"statuses": [status], "output": {"submission.csv": b"", "run.json": json.dumps(output).encode()}}
    return lambda stub: vars(stub.kernels[KERNEL]).update(done)


def deleted(stub: KaggleStub) -> None:
    stub.datasets[DATASET], stub.ready_status = Dataset([{}]), "DELETED"


CREATE, SAVE, STATUS = "CreateDataset", "SaveKernel", "GetKernelSessionStatus"
SUBMIT, LIST, PUT = "CreateSubmission", "ListSubmissions", "PUT submission.csv"
QUOTA = "Maximum weekly GPU quota of 30.00 hours reached."
OTHER = "https://www.kaggle.com/code/tester/feels-kernel-two"
LEAK = f"Internal Error: the key {KEY} is odd. Authorization: Basic x"
TAKEN, USED = "The requested title is already in use", "You have used all submissions of today."


@pytest.mark.parametrize(
    ("done", "wrong", "last", "sentence"),
    [
        ("pusher", fault("StartBlobUpload", 429), "StartBlobUpload", "Wait some"),
        ("pusher", reply(CREATE, status="error", error=TAKEN), CREATE, "another dataset"),
        ("pusher", state(pending=["BLOBS_RECEIVED"] * 9), CREATE, "no ready version above 0 after 0 .*quota"),
        ("pusher", state(pending=[], ready_status="FAILED"), CREATE, "delete push.json and give"),
        ("pusher", deleted, "GetDatasetStatus", "The dataset tester/feels-weights was deleted"),
        ("uploaded", reply(SAVE, error=QUOTA), SAVE, r"\(tester/feels-kernel\): this week's GPU"),
        ("uploaded", reply(SAVE, url=OTHER), SAVE, "feels-kernel as .*-two, .*title and id"),
        ("uploaded", fault(SAVE, 409), SAVE, r"conflict \(409\): .*share a slug"),
        ("uploaded", fault(SAVE, 500, LEAK), SAVE, r"\*\*\* is odd. Authorization: \*\*\*"),
        ("uploaded", fault(SAVE), SAVE, "connection was lost. Check the net.*Remote"),
        ("pushed", run("RUNNING"), STATUS, "not done after 0 minutes.*--run-minutes"),
        ("pushed", run("CANCEL_ACKNOWLEDGED"), STATUS, r"cancelled \(CANCEL_ACKNOWLEDGED\)"),
        ("pushed", run("COMPLETE", bundle="a" * 64), "GET run.json", "of bundle a{12}, not of .*again"),
        ("fetched", fault(LIST, 404), LIST, r"\(music-feels\): Kaggle does.*\(404\)"),
        ("fetched", fault(PUT, 500), PUT, "failed and nothing was submitted"),
        ("fetched", reply(SUBMIT, message=USED), SUBMIT, f"not list .*'first .*{USED}"),
        ("fetched", state(score_status="ERROR"), SUBMIT, "could not score submission 1000"),
    ],
)
def test_a_failure_gets_a_sentence_and_ends_the_push(request, stub, done, wrong, last, sentence):
    push = request.getfixturevalue(done)
    wrong(stub)
    push.fails(sentence, FILE, ready_minutes=0, run_minutes=0)
    looks = {"GetDatasetStatus", "GetDataset", "GetSubmissionLimits", LIST} - {last}
    assert [name for name in stub.requests if name not in looks][-1] == last
    assert len(stub.submissions) == ("score" in sentence)


def test_a_server_that_hangs_is_left(uploaded, stub):
    stub.hooks["SaveKernel"] = stub.closing.wait
    uploaded.fails("did not end within 3 seconds: the network or Kaggle hangs. The same", call_seconds=3)


@pytest.fixture
def push(build, tmp_path) -> Push:
    environment = {"HOME": str(tmp_path), "KAGGLE_KEY": KEY}
    return Push(read_bundle(build), Waits(grace_minutes=0.001, poll_seconds=0.01), environment, print)


@pytest.mark.parametrize(
    ("words", "sentence", "kind"),
    [
        ("ValueError: Maximum batch GPU session count of 2 reached.", "Stop one on kaggle.com", "final"),
        ("ValueError: Notebook not found", "Correct its id in kernel-metadata.json", "final"),
        ("ValueError: Something new", "Kaggle refused it.*It said: ValueError: Something new", "final"),
        ("400 You are not allowed to create a dataset as this owner.", "names another owner", "final"),
        ("ValueError: Failed to resolve the necessary information", "there is no such dataset", "final"),
        ("SystemExit: 1", "there are no credentials; put a token", "final"),
        ("TypeError: unexpected keyword", r"does not fit. Run: pip install --upgrade", "final"),
        ("403: Forbidden for url: x", r"does not allow it \(403\)", "absent"),
        ("503: Service Unavailable for url: x", r"error of its own \(500\)", "passing"),
        (None, "Kaggle refused it.*ended without an answer", "final"),
    ],
)
def test_words_of_a_failure_become_a_sentence(push, monkeypatch, tmp_path, words, sentence, kind):
    child = tmp_path / "child.py"
    child.write_text(f"print('half a line' if {words!r} is None else '{json.dumps({'words': words})}')")
    monkeypatch.setattr(push_run, "CHILD", child)
    with pytest.raises(KaggleFailure, match=rf"kernel push \(tester/x\): .*{sentence}") as error:
        push.call("kernel push", "tester/x")
    assert error.value.kind == kind


def test_a_trouble_that_passes_is_waited_for_only_so_long(push, capsys):
    def look() -> None:
        raise KaggleFailure("the network is gone.", "passing")

    with pytest.raises(KaggleFailure, match="network is gone"):
        push.poll(look, minutes=1)
    assert capsys.readouterr().out == "the network is gone. Trying again.\n"
    for flag, value in (("poll-seconds", -1), ("call-seconds", 0), ("upload-minutes", 0)):
        with pytest.raises(InputError, match=f"--{flag} is {value}. Give a positive number"):
            Waits(**{flag.replace("-", "_"): value})


def test_steps_outlive_the_process_but_not_another_bundle(push, build):
    push.note("uploaded", base=3)
    push.note("ready", version=4)
    push.forget("ready", "pushed")
    before = read_bundle(build)
    steps = before.read_steps()
    assert (list(steps), steps["uploaded"]["base"]) == (["uploaded"], 3)
    script = build / "kernel" / "kernel.py"
    script.write_text(script.read_text() + "print()")
    assert read_bundle(build).kernel_hash != before.kernel_hash
    assert read_bundle(write_build(build, b"others")).read_steps() == {}
    for text in ("half of it {", "[]", '{"bundle": "one"}'):
        (build / "push.json").write_text(text)
        with pytest.raises(InputError, match=r"push.json .*Delete it"):
            read_bundle(build).read_steps()


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda d, _: (d / "fold0.safetensors").unlink(), "fold0.safetensors is missing or was changed"),
        (lambda d, _: (d / "fold0.safetensors").write_bytes(b"x"), "fold0.safetensors is missing or was cha"),
        (lambda d, _: (d / "more").mkdir(), "unlisted files: more. Remove them"),
        (lambda d, _: (d / "manifest.json").unlink(), "is not a bundle. Name build/<name>"),
        (lambda d, _: edit(d / "manifest.json", bundle="x"), "lists no bundle and files"),
        (lambda d, _: edit(d / "manifest.json", files={"../x": {}}), "lists no bundle and files"),
        (lambda d, _: edit(d / "dataset-metadata.json", id="slug"), "id is 'slug'; string should match"),
        (lambda _, k: (k / "kernel.py").unlink(), "kernel.py is missing or of another bundle"),
        (lambda _, k: (k / "kernel.py").write_text("print()"), "kernel.py is missing or of another bundle"),
    ],
)
def test_a_bundle_that_is_not_as_packaged_is_refused(build, spoil, sentence):
    spoil(build / "dataset", build / "kernel")
    with pytest.raises(InputError, match=sentence):
        read_bundle(build)


@pytest.mark.parametrize(
    ("name", "text", "sentence", "runs_again"),
    [
        ("run.json", None, "stopped before it wrote run.json", True),
        ("submission.csv", None, "stopped before it wrote submission.csv", True),
        ("run.json", '{"bundle": "0ld"}', "is of bundle 0ld, not of b0b0", True),
        ("run.json", "<html>", "run.json is not a JSON object", False),
        ("submission.csv", "<!DOCTYPE html>", "submission.csv is not as the kernel wrote it", False),
    ],
)
def test_an_output_that_is_no_submission_is_refused(tmp_path, name, text, sentence, runs_again):
    for each, data in infer({"manifest.json": b'{"bundle": "b0b0"}'}).items():
        (tmp_path / each).write_bytes(data)
    assert check_output(tmp_path, "b0b0")["rows"] == N_ROWS
    (tmp_path / name).unlink()
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=sentence) as error:
        check_output(tmp_path, "b0b0")
    assert isinstance(error.value, RunFailed) == runs_again


def test_secrets_of_every_place_are_blanked(tmp_path):
    (tmp_path / ".kaggle").mkdir()
    (tmp_path / ".kaggle" / "kaggle.json").write_text('{"username": "tester", "key": "key-in-a-file"}')
    (tmp_path / ".kaggle" / "access_token").write_text("token-in-a-file\n")
    (tmp_path / ".kaggle" / "credentials.json").write_text('{"refresh_token": "token-of-a-login"}')
    (tmp_path / "token").write_text("token-at-a-path")
    environment = {"HOME": str(tmp_path), "KAGGLE_API_TOKEN": str(tmp_path / "token"), "KAGGLE_KEY": KEY}
    basic = base64.b64encode(b"tester:key-in-a-file").decode()
    for secret in ("key-in-a-file", "token-in-a-file", "token-of-a-login", "token-at-a-path", KEY, basic):
        assert scrub(secret, environment) == "***"
    for text, blanked in [
        ("Authorization: Basic eHg6eXk=\nnext", "Authorization: ***\nnext"),
        ("{'Authorization': 'Bearer abc'}", "{'Authorization': ***"),
        ("url: https://x.y/z?X-Signature=abc (Caused", "url: https://x.y/z?*** (Caused"),
        ("Is tester here?", "Is tester here?"),
    ]:
        assert scrub(text, environment) == blanked
