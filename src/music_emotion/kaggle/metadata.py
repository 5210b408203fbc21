"""What things are called on Kaggle, and every known rule of their metadata."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, ValidationError, model_validator

from music_emotion.files import InputError, describe, read_json

_SLUG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_REFERENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*/[a-z0-9]+(-[a-z0-9]+)*")  # owner/slug, no version

Reference = Annotated[str, Field(pattern=f"^{_REFERENCE.pattern}$")]
# None of those that are retired: PyTorch there has no code for the P100.
Shape = Literal[
    "NvidiaTeslaT4", "NvidiaL4", "NvidiaL4X1", "NvidiaTeslaA100", "NvidiaH100", "NvidiaRtxPro6000", ""
]


@dataclass(frozen=True)
class Names:
    """What things are called on Kaggle. Titles are made from slugs, so that the two agree.

    Attributes
    ----------
    owner : str
        User or organisation.
    dataset, kernel : str
        Slugs: 6 to 50 of a-z, 0-9 and single hyphens; not the same.
    competition : str
        Slug of the competition whose data the kernel reads; "none" for data from `sources` alone.
    sources : tuple of str
        Further datasets as ``owner/slug``, such as the one the competition's data is in.
    resume : str
        ``owner/slug`` of another kernel, whose output a training goes on from; "none" to begin.
    """

    owner: str
    dataset: str
    kernel: str
    competition: str = "none"
    sources: tuple[str, ...] = ()
    resume: str = "none"

    def __post_init__(self) -> None:
        for kind, slug in (("dataset", self.dataset), ("kernel", self.kernel)):
            if not _SLUG.fullmatch(slug) or not 6 <= len(slug) <= 50:
                raise InputError(
                    f"The {kind} slug '{slug}' is not 6 to 50 characters of a-z, 0-9 and single hyphens. "
                    f"Give another with --{kind}."
                )
        if self.dataset == self.kernel:
            raise InputError(
                f"Dataset and kernel are both called '{self.kernel}'; Kaggle refuses that. Give --kernel."
            )
        if not re.fullmatch(r"[A-Za-z0-9]+([-_][A-Za-z0-9]+)*", self.owner):
            raise InputError(f"'{self.owner}' is not the name of a Kaggle user. Give --owner.")
        if self.competition != "none" and not _SLUG.fullmatch(self.competition):
            raise InputError(f"'{self.competition}' is not the slug of a competition. Give --competition.")
        for source in self.sources:
            if not _REFERENCE.fullmatch(source):
                raise InputError(f"'{source}' is not owner/slug of a dataset. Give --sources again.")
        if self.resume != "none" and not _REFERENCE.fullmatch(self.resume):
            raise InputError(f"'{self.resume}' is not owner/slug of a kernel. Give --resume again.")
        if self.resume == f"{self.owner}/{self.kernel}":
            raise InputError(
                f"The kernel would go on from its own output, which each push replaces. Give another name "
                f"with --kernel, such as {self.kernel}-2."
            )


class _Named(BaseModel):
    """What datasets and kernels share. Keys that Kaggle ignores, or prefers to the id, are refused."""

    model_config = ConfigDict(extra="forbid")

    id: Reference
    title: Annotated[str, Field(min_length=6, max_length=50)]

    @model_validator(mode="after")
    def _agrees(self) -> "_Named":
        slug = self.id.partition("/")[2]
        if not 6 <= len(slug) <= 50:
            raise ValueError(f"the slug of {self.id} is not 6 to 50 characters long")
        if re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-") != slug:
            raise ValueError(f"Kaggle would make another slug of the title '{self.title}' than '{slug}'")
        return self


class _Licence(BaseModel):
    name: Annotated[str, Field(min_length=1)]


class _Dataset(_Named):
    licenses: Annotated[list[_Licence], Field(min_length=1, max_length=1)]
    subtitle: Annotated[str, Field(min_length=20, max_length=80)] | None = None
    description: str = ""
    keywords: list[str] = []


class _Kernel(_Named):
    code_file: str
    language: Literal["python"]
    kernel_type: Literal["script"]
    is_private: StrictBool
    enable_gpu: StrictBool
    enable_tpu: Literal[False] = False
    enable_internet: Literal[False]  # without it, Kaggle's command line turns it on
    machine_shape: Shape = ""
    dataset_sources: list[Reference]
    competition_sources: list[Annotated[str, Field(pattern=f"^{_SLUG.pattern}$")]] = []
    kernel_sources: list[Reference] = []
    model_sources: Annotated[list[str], Field(max_length=0)] = []  # the CLI hides it when one is refused
    keywords: list[str] = []

    @model_validator(mode="after")
    def _fits(self) -> "_Kernel":
        if self.enable_gpu and not self.machine_shape:
            raise ValueError("enable_gpu alone gives a GPU that PyTorch has no code for; give machine_shape")
        for key in ("dataset_sources", "competition_sources", "kernel_sources"):
            if len(set(getattr(self, key))) < len(getattr(self, key)):
                raise ValueError(f"{key} names one twice")
        if self.id in self.kernel_sources:
            raise ValueError("kernel_sources holds the kernel itself")
        return self


def dataset_metadata(names: Names, project: Path) -> dict[str, Any]:
    """The dataset's metadata, from the template in ``kaggle/``."""
    template: dict[str, Any] = read_json(project / "kaggle" / "dataset-metadata.json")
    return template | {"id": f"{names.owner}/{names.dataset}", "title": _title(names.dataset)}


def kernel_metadata(names: Names, project: Path) -> dict[str, Any]:
    """The kernel's metadata, from the template in ``kaggle/``."""
    template: dict[str, Any] = read_json(project / "kaggle" / "kernel-metadata.json")
    return template | {
        "id": f"{names.owner}/{names.kernel}",
        "title": _title(names.kernel),
        "dataset_sources": [f"{names.owner}/{names.dataset}", *names.sources],
        "competition_sources": [] if names.competition == "none" else [names.competition],
        "kernel_sources": [] if names.resume == "none" else [names.resume],
    }


def _title(slug: str) -> str:
    """Kaggle makes the slug from the title, whatever the metadata say."""
    return slug.replace("-", " ")


def check_metadata(dataset: Mapping[str, Any], kernel: Mapping[str, Any]) -> None:
    """Refuse metadata that Kaggle's command line takes but Kaggle refuses, changes or runs otherwise.

    Parameters
    ----------
    dataset, kernel : mapping
        Of `dataset-metadata.json` and `kernel-metadata.json`.

    Raises
    ------
    InputError
        Naming the file, the key, what it holds and what is wanted.
    """
    for rules, held, place in (
        (_Dataset, dataset, "dataset-metadata.json"),
        (_Kernel, kernel, "kernel-metadata.json"),
    ):
        try:
            rules.model_validate(held)
        except ValidationError as error:
            raise InputError(f"{describe(error, place)} Correct it, or package the bundle again.") from None
    if dataset["id"] == kernel["id"]:
        raise InputError(f"Dataset and kernel are both called {kernel['id']}; give one another name.")
    if dataset["id"] not in kernel["dataset_sources"]:
        raise InputError(
            f"kernel-metadata.json: dataset_sources does not hold {dataset['id']}. Package anew."
        )
