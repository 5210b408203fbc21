"""Every failure of Kaggle's package or its server: a sentence with what to do, and nothing more is asked."""

import json
import re
from collections.abc import Callable

import pytest
from conftest import KERNEL, KEY
from kaggle_stub import Fault, KaggleStub

from music_emotion.kaggle.push import Wish

FILE = Wish("music-feels", "first", "file")


def stale_output(stub: KaggleStub) -> None:
    stub.kernels[KERNEL].output["run.json"] = json.dumps({"bundle": "a" * 64, "finished": True}).encode()


def cut_run(stub: KaggleStub) -> None:
    run = json.loads(stub.kernels[KERNEL].output["run.json"])
    stub.kernels[KERNEL].output["run.json"] = json.dumps({**run, "finished": False}).encode()


def ended(status: str) -> Callable[[KaggleStub], None]:
    def prepare(stub: KaggleStub) -> None:
        kernel = stub.kernels[KERNEL]
        kernel.statuses, kernel.failure = ["RUNNING", status], "Your notebook ran out of memory."
        kernel.output = {}
        kernel.log = json.dumps([{"stream_name": "stderr", "time": 1, "data": "Killed\n"}])

    return prepare


def reply(method: str, **answer: object) -> Callable[[KaggleStub], None]:
    return lambda stub: stub.replies.update({method: answer})


def fault(name: str, *arguments: object, **settings: object) -> Callable[[KaggleStub], None]:
    return lambda stub: stub.faults.update({name: Fault(*arguments, **settings)})


def never_ready(stub: KaggleStub) -> None:
    stub.ready_polls = 10**6


# what is done before, what goes wrong, the sentence, and the last request but for the looks at it
FAILURES = {
    "the weekly quota": (
        "uploaded",
        reply("SaveKernel", error="Maximum weekly GPU quota of 30.00 hours reached."),
        r"kernel push \(tester/feels-kernel\): this week's GPU hours are used up.*kaggle quota.*It said: "
        r"ValueError: Maximum weekly GPU quota of 30.00 hours",
        "SaveKernel",
    ),
    "an unknown dataset": (
        "uploaded",
        lambda stub: stub.datasets.clear(),
        r"left out a source.*Correct the sources.*not valid sources: tester/feels-weights",
        "SaveKernel",
    ),
    "a title in use": (
        "pusher",
        reply("CreateDataset", status="error", error='The requested title "Feels weights" is already in use'),
        r"dataset create \(tester/feels-weights\): .*in use by another dataset. Package .* another name",
        "CreateDataset",
    ),
    "a file that does not upload": (
        "pusher",
        fault("PUT fold0.safetensors", 500, plain=True),
        r"a file was not uploaded.*uploads the whole bundle again.*Upload unsuccessful: fold0.safetensors",
        "PUT fold0.safetensors",
    ),
    "an upload cut short": (
        "pusher",
        fault("PUT fold1.safetensors", keep_bytes=10),
        r"Upload unsuccessful: fold1.safetensors",
        "PUT fold1.safetensors",
    ),
    "401": (
        "pusher",
        fault("GetDatasetStatus", 401, "Unauthenticated"),
        r"refused the credentials \(401\).*Delete the stale token",
        "GetDatasetStatus",
    ),
    "403": (
        "uploaded",
        fault("SaveKernel", 403, "Permission 'kernels.update' was denied"),
        r"does not allow it \(403\).*another account.*Permission 'kernels.update' was denied",
        "SaveKernel",
    ),
    "404": (
        "fetched",
        lambda stub: setattr(stub, "competition", "another"),
        r"submissions \(music-feels\): Kaggle does not find it \(404\)",
        "ListSubmissions",
    ),
    "409": (
        "uploaded",
        fault("SaveKernel", 409, plain=True),
        r"conflict \(409\).*must not share a slug.*another name",
        "SaveKernel",
    ),
    "429": (
        "pusher",
        fault("StartBlobUpload", 429, "Too Many Requests", {"Retry-After": "0"}),
        r"too many requests \(429\). Wait some minutes",
        "StartBlobUpload",
    ),
    "500": (
        "pusher",
        fault("GetDatasetStatus", 500, plain=True),
        r"dataset status .*an error of its own \(500\). Wait",
        "GetDatasetStatus",
    ),
    "an error that repeats the key": (
        "uploaded",
        fault("SaveKernel", 500, f"Internal Error: the key {KEY} is odd. Authorization: Basic x"),
        r"\(500\).*the key \*\*\* is odd. Authorization: \*\*\*",
        "SaveKernel",
    ),
    "a server that hangs": (
        "uploaded",
        fault("SaveKernel", hang=True),
        r"did not end within 5 seconds and was stopped.*The same command goes on",
        "SaveKernel",
    ),
    "a lost connection": (
        "uploaded",
        fault("SaveKernel", drop=True),
        r"the connection was lost. Check the network.*Remote",
        "SaveKernel",
    ),
    "a dataset that is never ready": (
        "pusher",
        never_ready,
        r"feels-weights has no ready version above 0 after 0 minutes.*storage quota.*--ready-minutes",
        "CreateDataset",
    ),
    "a run that fails": (
        "pushed",
        ended("ERROR"),
        r"failed \(ERROR\). Kaggle says: Your notebook ran out of memory. Its log ends: Killed .*again",
        "ListKernelSessionOutput",
    ),
    "a run that is cancelled": (
        "pushed",
        ended("CANCEL_ACKNOWLEDGED"),
        r"feels-kernel was cancelled \(CANCEL_ACKNOWLEDGED\). The same command runs it again",
        "GetKernelSessionStatus",
    ),
    "a run that never ends": (
        "pushed",
        lambda stub: stub.kernels[KERNEL].statuses.__delitem__(slice(1, None)),
        r"not done after 0 minutes.*--run-minutes",
        "GetKernelSessionStatus",
    ),
    "the output of an earlier bundle": (
        "pushed",
        stale_output,
        r"run.json is of bundle aaaaaaaaaaaa, not of .*runs the kernel again",
        "GET run.json",
    ),
    "a run without its end": (
        "pushed",
        cut_run,
        r"no end marker: the kernel stopped before its end",
        "GET run.json",
    ),
    "a page in place of the CSV": (
        "pushed",
        fault("GET submission.csv", 502, "Bad gateway", plain=True),
        r"\(500\)",
        "GET submission.csv",
    ),
    "a submission that does not upload": (
        "fetched",
        fault("PUT submission.csv", 500, plain=True),
        r"upload failed and nothing was submitted",
        "PUT submission.csv",
    ),
    "a submission that is not taken": (
        "fetched",
        reply("CreateSubmission", message="You have used all submissions of today."),
        r"does not list the submission 'first \[file .*used all submissions of today",
        "CreateSubmission",
    ),
}
LOOKS = {"GetDatasetStatus", "GetDataset", "GetSubmissionLimits", "ListSubmissions"}


@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_gets_a_sentence_and_ends_the_push(name, request, stub):
    done, prepare, sentence, last = FAILURES[name]
    push = request.getfixturevalue(done)
    prepare(stub)
    waits = {"ready_minutes": 0} if name.endswith("never ready") else {}
    waits |= {"run_minutes": 0} if name.endswith("never ends") else {}
    waits |= {"call_seconds": 5} if name.endswith("hangs") else {}
    push.fails(sentence, FILE, **waits)
    came = list(stub.requests)
    while came and came[-1] in LOOKS and came[-1] != last:
        came.pop()
    assert re.fullmatch(last, came[-1]), stub.requests
    assert not stub.submissions
