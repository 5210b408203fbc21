"""Kaggle's own package against a stub of its API: all that goes well, and some that does not."""

import json
import subprocess
import sys
from importlib.metadata import PackageNotFoundError

import pytest
from conftest import DATASET, KERNEL, KEY, N_ROWS, infer, write_build
from kaggle_state import Dataset, Kernel
from kaggle_stub import Fault

from music_emotion.kaggle import api
from music_emotion.kaggle.push import Wish, planned_commands
from music_emotion.kaggle.push_run import read_bundle

FILE, CODE = Wish("music-feels", "first", "file"), Wish("music-feels", "first", "kernel")


def test_a_bundle_goes_all_the_way_and_again_does_nothing(pusher, stub, environment):
    environment["VERBOSE"] = environment["VERBOSE_OUTPUT"] = "1"
    pusher(FILE)
    files = stub.datasets[DATASET].versions
    assert len(files) == 1
    assert set(files[0]) == set(read_bundle(pusher.build).sizes)
    for name, data in files[0].items():
        assert data == (pusher.build / "dataset" / name).read_bytes()
    asked = {body["method"]: body for body in stub.bodies}
    assert asked["CreateDataset"]["isPrivate"] is True
    assert asked["SaveKernel"]["machineShape"] == "NvidiaTeslaT4"
    assert not asked["SaveKernel"].get("enableInternet")
    assert sorted(path.name for path in (pusher.build / "output").iterdir()) == ["run.json", "submission.csv"]
    submission = (pusher.build / "output" / "submission.csv").read_bytes()
    assert submission == infer({})["submission.csv"]
    assert [each["data"] for each in stub.submissions] == [submission]
    assert "Uploading 4 files" in pusher.said
    assert pusher.said.count("kernel tester/feels-kernel: RUNNING") == 1
    assert f"{N_ROWS} rows, made by bundle" in pusher.said
    assert "public score 0.61803" in pusher.said
    assert "Authorization" not in pusher.said
    assert not (pusher.build / ".uploads").exists()
    stub.requests.clear()
    pusher(FILE)
    assert set(stub.requests) == {"ListSubmissions"}


def test_another_bundle_becomes_a_version_and_the_kernel_itself_is_submitted(
    fetched, stub, environment, tmp_path
):
    key_file = tmp_path / "home" / "kaggle.json"
    key_file.write_text(json.dumps({"username": "tester", "key": environment.pop("KAGGLE_KEY")}))
    key_file.chmod(0o644)
    write_build(fetched.build, b"better weights")
    stub.stale_polls = 1
    fetched(CODE)
    bundle = read_bundle(fetched.build).hash
    dataset = stub.datasets[DATASET]
    assert dataset.versions[-1]["fold0.safetensors"] == b"better weights"
    assert dataset.notes == ["", f"bundle {bundle}"]
    assert "CreateDataset" not in stub.requests
    assert json.loads((fetched.build / "push.json").read_text())["steps"]["ready"]["version"] == 2
    assert json.loads((fetched.build / "output" / "run.json").read_text())["bundle"] == bundle
    code = next(body for body in stub.bodies if body["method"] == "CreateCodeSubmission")
    assert (code["kernelVersion"], code["fileName"]) == (2, "submission.csv")
    assert stub.submissions[0]["description"] == f"first [kernel {bundle[:12]}]"
    assert "public score 0.61803" in fetched.said
    assert fetched.said.count("chmod 600") == 1


def test_a_training_goes_on_from_another_kernel_and_says_what_is_left(pusher, stub):
    path = pusher.build / "kernel" / "kernel-metadata.json"
    before = "tester/feels-before"
    path.write_text(json.dumps({**json.loads(path.read_text()), "kernel_sources": [before]}))
    pusher.fails(f"left out a source.*not valid sources: {before}")
    stub.kernels[before] = Kernel()

    def train(files: dict[str, bytes]) -> dict[str, bytes]:
        left = infer(files)
        progress = {"complete": False, "folds": {"ridge": "5 of 5", "transfer": "2 of 5"}}
        return {**left, "run.json": json.dumps({**json.loads(left["run.json"]), **progress}).encode()}

    stub.make_output = train
    pusher()
    saved = [body for body in stub.bodies if body["method"] == "SaveKernel"]
    assert saved[-1]["kernelDataSources"] == [before]
    assert "out of time (folds: ridge 5 of 5, transfer 2 of 5)" in pusher.said
    assert f"--resume {KERNEL} and another --name" in pusher.said


def test_a_submission_that_kaggle_lists_is_not_made_again(fetched, stub):
    fetched(FILE)
    (fetched.build / "push.json").unlink()
    fetched.note(uploaded={"base": 0}, ready={"version": 1})
    kernel = {"kernel": read_bundle(fetched.build).kernel_hash}
    fetched.note(pushing={**kernel, "first": True}, pushed={**kernel, "version": 1}, ran={})
    fetched(FILE)
    assert stub.requests.count("CreateSubmission") == 1


def test_a_score_that_is_late_is_no_failure(fetched, stub):
    stub.score_polls = 10**6
    fetched(FILE, score_minutes=0)
    assert "Submitted, but no score within 0 minutes. The same command asks again." in fetched.said


def test_a_stale_complete_is_passed_over_until_the_run_begins(uploaded, stub):
    stub.kernels[KERNEL] = Kernel(1, ["COMPLETE"])
    stub.run_statuses = ["COMPLETE", "ERROR", "RUNNING", "COMPLETE"]
    uploaded.note(pushing={"kernel": "earlier", "first": True})
    uploaded(grace_minutes=1)
    assert stub.requests.count("GetKernelSessionStatus") == 4
    assert stub.requests.count("ListKernelSessionOutput") == 1


def test_what_passes_by_itself_is_waited_for(pushed, stub):
    stub.faults["GetKernelSessionStatus"] = Fault(403, "Permission 'kernels.get' was denied", times=1)
    stub.faults["ListKernelSessionOutput"] = Fault(503, plain=True, times=1)
    pushed(grace_minutes=1)
    assert f"{N_ROWS} rows" in pushed.said
    assert pushed.said.count("Trying again.") == 2


def test_only_the_missing_part_of_a_cut_upload_is_sent_again(pusher, stub, build):
    (build / "dataset" / "fold1.safetensors").touch()
    stub.faults["PUT fold1.safetensors"] = Fault(503, plain=True, keep_bytes=300, times=1)
    pusher.upload()
    assert stub.requests.count("PUT fold1.safetensors") == 2
    assert stub.requests.count("RESUME fold1.safetensors") == 1
    sent = stub.datasets[DATASET].versions[0]["fold1.safetensors"]
    assert sent == (build / "dataset" / "fold1.safetensors").read_bytes()


def test_a_dataset_without_a_file_is_uploaded_whole_by_the_same_command(pusher, stub):
    stub.faults["PUT fold0.safetensors"] = Fault(500, plain=True, times=1)
    pusher.fails("Upload unsuccessful: fold0.safetensors")
    assert "fold0.safetensors" not in stub.datasets.get(DATASET, Dataset([{}], [])).versions[-1]
    pusher.upload()
    assert set(stub.datasets[DATASET].versions[-1]) == set(read_bundle(pusher.build).sizes)


def test_a_failed_run_is_run_again_by_the_same_command(pushed, stub):
    stub.kernels[KERNEL].statuses, stub.kernels[KERNEL].output = ["ERROR"], {}
    stub.kernels[KERNEL].failure, stub.kernels[KERNEL].log = "It ran out of memory.", "Killed"
    pushed.fails("ran out of memory")
    assert (pushed.build / "output" / "feels-kernel.log").exists()
    pushed()
    assert stub.kernels[KERNEL].version == 2
    assert f"{N_ROWS} rows" in pushed.said


def test_without_credentials_the_places_for_them_are_named(pusher, stub, environment):
    del environment["KAGGLE_KEY"]
    pusher.fails(r"there are no credentials; put a token .* ~/.kaggle/access_token")
    assert stub.requests == []


def test_a_stale_token_is_told_apart(pusher, stub, environment):
    environment["KAGGLE_API_TOKEN"] = KEY
    stub.faults["GetDatasetStatus"] = Fault(401, "Unauthenticated")
    pusher.fails(r"expired or revoked. Delete the stale token \(also KAGGLE_API_TOKEN")
    assert stub.requests[-1] == "GetDatasetStatus"


def test_a_title_of_another_slug_is_refused(uploaded, stub):
    answer = {"url": "https://www.kaggle.com/code/tester/feels-kernel-two", "versionNumber": 1}
    stub.replies["SaveKernel"] = answer
    uploaded.fails("saved the kernel tester/feels-kernel as .*feels-kernel-two: .*title and id .* agree")
    assert stub.requests == ["SaveKernel"]


@pytest.mark.parametrize(
    ("versions", "sentence"),
    [
        (
            {"six": "1.17"},
            r"the package kaggle is not installed. Run: pip install .*'music-emotion\[kaggle\]'",
        ),
        ({"kaggle": "2.2.5"}, "the package six is not installed"),
        ({"kaggle": "2.2.4", "six": "1.17"}, "the package kaggle is 2.2.4; at least 2.2.5 is needed"),
    ],
)
def test_a_package_that_is_missing_or_old_is_named(pusher, stub, monkeypatch, versions, sentence):
    def version(name: str) -> str:
        if name in versions:
            return versions[name]
        raise PackageNotFoundError(name)

    monkeypatch.setattr(api, "version", version)
    pusher.fails(sentence)
    assert stub.requests == []


def test_the_commands_of_a_dry_run_are_those_of_kaggles_command_line(build, stub, environment):
    *_, create, _, _, push, status, output, listing, submit, _ = planned_commands(read_bundle(build), FILE)
    for command in (create, push, status, output, listing, submit):
        done = subprocess.run(
            f"{sys.executable} -m {command}",
            shell=True,
            cwd=build,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        stub.kernels.setdefault(KERNEL, Kernel()).statuses[:] = ["COMPLETE"]
        stub.datasets[DATASET].polls = -1
    assert set(stub.datasets[DATASET].versions[0]) == set(read_bundle(build).sizes)
    assert stub.submissions[0]["data"] == infer({})["submission.csv"]
