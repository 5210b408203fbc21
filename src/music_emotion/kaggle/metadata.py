"""Metadata of datasets and kernels: templates, names, and every known rule of Kaggle's."""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, model_validator

from music_emotion.files import InputError, checked, package_data, read_json

_SLUG = r"[a-z0-9]+(-[a-z0-9]+)*"
Competition = Annotated[str, Field(pattern=f"^{_SLUG}$")]
Reference = Annotated[str, Field(pattern=f"^[A-Za-z0-9]+([-_][A-Za-z0-9]+)*/{_SLUG}$")]  # without a version
# Kaggle's accelerators, without retired ones: its PyTorch does not support the P100.
Shape = Literal[
    "NvidiaTeslaT4", "NvidiaL4", "NvidiaL4X1", "NvidiaTeslaA100", "NvidiaH100", "NvidiaRtxPro6000", ""
]


class _Named(BaseModel):
    """Fields of datasets and kernels. Keys that Kaggle ignores, or prefers to the id, are refused."""

    model_config = ConfigDict(extra="forbid")

    id: Reference
    title: Annotated[str, Field(max_length=50)]

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
    kernel_type: Literal["script", "notebook"]
    is_private: StrictBool
    enable_gpu: StrictBool
    enable_tpu: Literal[False] = False
    enable_internet: Literal[False]  # if absent, Kaggle's package enables it
    machine_shape: Shape = ""
    dataset_sources: list[Reference]
    competition_sources: list[Competition] = []
    kernel_sources: list[Reference] = []
    model_sources: Annotated[list[str], Field(max_length=0)] = []  # the kernel needs none
    keywords: list[str] = []

    @model_validator(mode="after")
    def _fits(self) -> "_Kernel":
        if self.enable_gpu and not self.machine_shape:
            raise ValueError("enable_gpu alone gives a GPU that PyTorch has no code for; give machine_shape")
        for key in ("dataset_sources", "competition_sources", "kernel_sources"):
            if len(set(getattr(self, key))) < len(getattr(self, key)):
                raise ValueError(f"{key} names one twice")
        if self.id in self.kernel_sources:
            raise ValueError("kernel_sources holds the kernel itself, whose output each push replaces")
        return self


def make_metadata(
    owner: str,
    dataset: str,
    kernel: str,
    competition: str | None,
    sources: Sequence[str],
    resume: str | None,
    notebook: bool = False,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Fill in the templates of the metadata, and check the result.

    Parameters
    ----------
    owner : str
        User or organisation on Kaggle.
    dataset, kernel : str
        Two different slugs of 6 to 50 characters: a-z, 0-9 and single hyphens. Titles are made from them,
        since Kaggle derives the slug from the title.
    competition : str or None
        Slug of the competition whose data the kernel reads.
    sources : sequence of str
        Further datasets as ``owner/slug``, such as the one that holds the competition's data.
    resume : str or None
        ``owner/slug`` of another kernel, whose training is continued.
    notebook : bool, default False
        Whether the kernel is a notebook instead of a script.

    Returns
    -------
    dataset, kernel : dict
        Contents of ``dataset-metadata.json`` and ``kernel-metadata.json``.

    Raises
    ------
    InputError
        As for `check_metadata`.
    """
    templates = [
        read_json(package_data("kaggle") / f"{kind}-metadata.json") for kind in ("dataset", "kernel")
    ]
    about, run = (
        template | {"id": f"{owner}/{slug}", "title": slug.replace("-", " ")}
        for template, slug in zip(templates, (dataset, kernel), strict=True)
    )
    if notebook:
        run |= {"code_file": "kernel.ipynb", "kernel_type": "notebook"}
    run["dataset_sources"] = [about["id"], *sources]
    run["competition_sources"] = [competition] if competition else []
    run["kernel_sources"] = [resume] if resume else []
    check_metadata(about, run, "Correct --owner, --dataset, --kernel, --competition, --sources or --resume.")
    return about, run


def check_metadata(
    dataset: Mapping[str, Any], kernel: Mapping[str, Any], remedy: str = "Correct it, or package again."
) -> None:
    """Refuse metadata that Kaggle's package accepts but Kaggle rejects, changes or runs differently.

    Parameters
    ----------
    dataset, kernel : mapping
        Contents of ``dataset-metadata.json`` and ``kernel-metadata.json``.
    remedy : str
        The last sentence of the error.

    Raises
    ------
    InputError
        When a rule is broken. The message names the file, the key, its value and the expected value.
    """
    checked(_Dataset, dataset, "dataset-metadata.json", remedy)
    checked(_Kernel, kernel, "kernel-metadata.json", remedy)
    if dataset["id"] == kernel["id"]:
        raise InputError(f"Dataset and kernel are both called {kernel['id']}. {remedy}")
    if dataset["id"] not in kernel["dataset_sources"]:
        raise InputError(f"kernel-metadata.json: dataset_sources does not hold {dataset['id']}. {remedy}")
