"""A small model of what Kaggle keeps, and of the methods of its API that a push needs."""

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

Answer = dict[str, Any]


@dataclass
class Blob:
    name: str
    size: int
    data: bytes = b""


@dataclass
class Dataset:
    """Versions are files by name; the last is ready after `polls` more looks.

    Before that, as many looks as `stale` still show the version before it, which is ready.
    """

    versions: list[dict[str, bytes]]
    notes: list[str]
    polls: int = 0
    stale: int = 0


@dataclass
class Kernel:
    """Runs hold their coming statuses and their output."""

    version: int = 0
    statuses: list[str] = field(default_factory=list)
    output: dict[str, bytes] = field(default_factory=dict)
    failure: str = ""
    log: str = ""


class Refused(Exception):
    """An error answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class KaggleState:
    """Kaggle as far as a push sees it.

    `replies` are given in place of a method's own answer; `bodies` lists what methods were asked.
    A kernel's output is what `make_output` makes of the files of its dataset.
    """

    def __init__(self) -> None:
        self.bodies: list[Answer] = []
        self.replies: dict[str, Answer] = {}
        self.datasets: dict[str, Dataset] = {}
        self.kernels: dict[str, Kernel] = {}
        self.submissions: list[Answer] = []
        self.blobs: list[Blob] = []
        self.competition = "music-feels"
        self.ready_polls, self.stale_polls, self.score_polls = 1, 0, 1
        self.run_statuses = ["RUNNING", "COMPLETE"]
        self.make_output: Callable[[dict[str, bytes]], dict[str, bytes]] = lambda _: {}
        self._lock = threading.Lock()

    def call(self, method: str, body: Answer) -> Answer:
        """Answer one method of the API."""
        with self._lock:
            self.bodies.append({"method": method, **body})
            if method in self.replies:
                return self.replies[method]
            return getattr(self, "_" + re.sub(r"(?<!^)(?=[A-Z])", "_", method).lower())(body)

    def _introspect_token(self, _: Answer) -> Answer:
        return {"active": False}

    def _dataset(self, body: Answer) -> Dataset:
        name = f"{body['ownerSlug']}/{body['datasetSlug']}"
        if name not in self.datasets:
            raise Refused(404, "404 Not Found")
        return self.datasets[name]

    def _get_dataset_status(self, body: Answer) -> Answer:
        dataset = self._dataset(body)
        if dataset.stale > 0:
            dataset.stale -= 1
            return {"status": "READY"}
        dataset.polls -= 1
        return {"status": "READY" if dataset.polls < 0 else "BLOBS_RECEIVED"}

    def _get_dataset(self, body: Answer) -> Answer:
        dataset = self._dataset(body)  # the number rises when the version is ready
        return {"currentVersionNumber": len(dataset.versions) - (dataset.polls >= 0)}

    def _list_dataset_files(self, body: Answer) -> Answer:
        files = self._dataset(body).versions[-1]
        return {"datasetFiles": [{"name": name, "totalBytes": len(data)} for name, data in files.items()]}

    def _start_blob_upload(self, body: Answer) -> Answer:
        self.blobs.append(Blob(body["name"], body.get("contentLength", 0)))
        token = len(self.blobs) - 1
        return {"token": str(token), "createUrl": f"http://localhost/upload/{token}?signature=of-an-upload"}

    def _files(self, files: list[Answer]) -> dict[str, bytes]:
        blobs = [self.blobs[int(file["token"])] for file in files]
        return {blob.name: blob.data for blob in blobs}

    def _create_dataset(self, body: Answer) -> Answer:
        name = f"{body['ownerSlug']}/{body['slug']}"
        if name in self.datasets:
            return {"status": "error", "error": f'The requested title "{body["title"]}" is already in use'}
        files = self._files(body.get("files", []))
        self.datasets[name] = Dataset([files], [""], self.ready_polls)
        return {"status": "ok", "url": f"https://www.kaggle.com/datasets/{name}"}

    def _create_dataset_version(self, body: Answer) -> Answer:
        dataset = self._dataset(body)
        dataset.versions.append(self._files(body["body"].get("files", [])))
        dataset.notes.append(body["body"]["versionNotes"])
        dataset.polls, dataset.stale = self.ready_polls, self.stale_polls
        return {"status": "ok", "url": "https://www.kaggle.com/datasets/x"}

    def _save_kernel(self, body: Answer) -> Answer:
        sources = body.get("datasetDataSources", [])
        known = [name for name in sources if name in self.datasets and self.datasets[name].polls < 0]
        kernel = self.kernels.setdefault(body["slug"], Kernel())
        kernel.version += 1
        kernel.statuses = list(self.run_statuses)
        kernel.output = self.make_output(self.datasets[known[0]].versions[-1] if known else {})
        return {
            "ref": body["slug"],
            "url": f"https://www.kaggle.com/code/{body['slug']}",
            "versionNumber": kernel.version,
            "invalidDatasetSources": sorted(set(sources) - set(known)),
            "invalidKernelSources": sorted(set(body.get("kernelDataSources", [])) - set(self.kernels)),
        }

    def _kernel(self, body: Answer) -> Kernel:
        name = f"{body['userName']}/{body['kernelSlug']}"
        if name not in self.kernels:
            raise Refused(403, "Permission 'kernels.get' was denied")
        return self.kernels[name]

    def _get_kernel_session_status(self, body: Answer) -> Answer:
        kernel = self._kernel(body)
        status = kernel.statuses.pop(0) if len(kernel.statuses) > 1 else kernel.statuses[0]
        return {"status": status, "failureMessage": kernel.failure if status == "ERROR" else ""}

    def _list_kernel_session_output(self, body: Answer) -> Answer:
        kernel, name = self._kernel(body), f"{body['userName']}/{body['kernelSlug']}"
        urls = [
            {"fileName": file, "url": f"http://localhost/output/{name}/{file}?signature=of-a-file"}
            for file in kernel.output
        ]
        return {"files": urls, "log": kernel.log}

    def _start_submission_upload(self, body: Answer) -> Answer:
        self._check_competition(body)
        return self._start_blob_upload({"name": body["fileName"], **body})

    def _create_submission(self, body: Answer) -> Answer:
        return self._submit(body, self.blobs[int(body["blobFileTokens"])].data)

    def _create_code_submission(self, body: Answer) -> Answer:
        self._check_competition(body)
        kernel = self.kernels[f"{body['kernelOwner']}/{body['kernelSlug']}"]
        if body["kernelVersion"] != kernel.version:
            raise Refused(400, "Kernel version not found")
        return self._submit(body, kernel.output[body["fileName"]])

    def _check_competition(self, body: Answer) -> None:
        if body["competitionName"] != self.competition:
            raise Refused(404, "404 Not Found")

    def _submit(self, body: Answer, data: bytes) -> Answer:
        submission = {
            "ref": 1000 + len(self.submissions),
            "description": body["submissionDescription"],
            "fileName": "submission.csv",
            "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "data": data,
            "polls": self.score_polls,
        }
        self.submissions.insert(0, submission)
        return {"message": "Successfully submitted to Music Feels", "ref": submission["ref"]}

    def _get_submission_limits(self, _: Answer) -> Answer:
        return {"numAllowedNow": 4}

    def _list_submissions(self, body: Answer) -> Answer:
        self._check_competition(body)
        listed = []
        for submission in self.submissions:
            submission["polls"] -= 1
            shown = {key: submission[key] for key in ("ref", "description", "fileName", "date")}
            scored = {"status": "COMPLETE", "publicScore": "0.61803"}
            listed.append({**shown, **(scored if submission["polls"] < 0 else {"status": "PENDING"})})
        return {"submissions": listed}
