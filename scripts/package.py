"""A blend to a Kaggle dataset and kernel, every known rule checked."""

from pathlib import Path

from command_line import run
from music_emotion.delivery.bundle import Names, write_bundle

PROJECT = Path(__file__).parents[1]


def package(
    blended: Path,
    *,
    owner: str,
    dataset: str | None = None,
    kernel: str | None = None,
    competition: str = "none",
    sources: tuple[str, ...] = (),
    out: Path = Path("build"),
) -> None:
    """Write build/<name>/dataset and build/<name>/kernel.

    Parameters
    ----------
    blended
        Directory of a blend.
    owner
        Your name on Kaggle.
    dataset
        What the dataset is called there: 6 to 50 of a-z, 0-9 and single hyphens;
        music-emotion-<name> by default.
    kernel
        What the kernel is called, likewise; music-emotion-<name>-inference by default.
    competition
        Slug of the competition whose data the kernel reads.
    sources
        Datasets to attach beside the bundle, as owner/slug.
    out
        Folder of all bundles.
    """
    name = blended.name.lower().replace("_", "-")
    names = Names(
        owner,
        dataset or f"music-emotion-{name}",
        kernel or f"music-emotion-{name}-inference",
        competition,
        sources,
    )
    build = out / blended.name
    bundle = write_bundle(blended, build, names, PROJECT)
    files = list((build / "dataset").iterdir())
    size_mb = sum(path.stat().st_size for path in files) / 1e6
    print(f"{build}: bundle {bundle[:12]}, {len(files)} files, {size_mb:.1f} MB, every rule checked.")


if __name__ == "__main__":
    run(package)
