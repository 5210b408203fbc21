"""What the Kaggle CLI says when something went wrong, and what the user can do about it.

Most of these end with exit status 0. Seen with versions 2.2.4 and 2.2.5.
"""

from typing import Literal

Kind = Literal["absent", "passing", "final"]

# Said beside a text of success, which then must not count.
LIES = r"not valid \w+ sources|Upload unsuccessful|User cancelled operation|Could not submit to competition"

_LOGIN = "put a token from kaggle.com/settings into ~/.kaggle/access_token, or set KAGGLE_API_TOKEN"

# The first that matches counts: a cause stands before its consequences.
TROUBLES: tuple[tuple[str, Kind, str], ...] = (
    (
        r"No module named '?six",
        "final",
        "the CLI needs the package six, which it does not ask for. Run: pip install six",
    ),
    (
        r"No module named kaggle\.__main__|unrecognized arguments|invalid choice",
        "final",
        "this CLI is too old for the command. Run: pip install --upgrade 'music-emotion[kaggle]'",
    ),
    (
        r"No module named '?kaggle",
        "final",
        "the Kaggle CLI is not installed. Run: pip install 'music-emotion[kaggle]'",
    ),
    (r"User cancelled operation", "final", "the CLI was interrupted. The same command goes on."),
    (
        r"Authentication required.*Authentication required",
        "final",
        f"there are no credentials; {_LOGIN}.",
    ),
    (
        r"Authentication required|\b401 Client Error|Unauthenticated",
        "final",
        f"Kaggle refused the credentials (401): they are expired or revoked. Delete the stale token (also "
        f"KAGGLE_API_TOKEN, which goes before all others), then {_LOGIN}.",
    ),
    (
        r"weekly GPU quota",
        "final",
        "this week's GPU hours are used up. See kaggle quota for when new ones come, or set enable_gpu to "
        "false in kernel-metadata.json.",
    ),
    (
        r"GPU session count",
        "final",
        "as many GPU sessions run already as the account may have. Stop one on kaggle.com, or wait for it, "
        "then give the same command.",
    ),
    (
        r"not valid (dataset|competition|kernel|model) sources",
        "final",
        "Kaggle left out a source that the kernel needs, and runs it without. Correct the sources in "
        "kernel-metadata.json (a dataset must be ready, a competition's rules accepted), then give the "
        "same command.",
    ),
    (
        r"already in use",
        "final",
        "the title or slug is in use by another dataset. Package the bundle under another name.",
    ),
    (
        r"not allowed to create a dataset as this owner",
        "final",
        "the id in dataset-metadata.json names another owner than the credentials. Correct the owner.",
    ),
    (
        r"Upload unsuccessful",
        "final",
        "a file was not uploaded, and the dataset may now stand there without it. The same command "
        "uploads the whole bundle again.",
    ),
    (
        r"Could not submit to competition",
        "final",
        "the file's upload failed and nothing was submitted. Give the same command again.",
    ),
    (
        r"Could not find competition",
        "final",
        "there is no such competition, or it takes no more submissions. Correct --competition: it is the "
        "last part of the competition's address.",
    ),
    (
        r"Notebook not found",
        "final",
        "Kaggle does not know the kernel. Take id_no out of kernel-metadata.json and check the id's owner.",
    ),
    (
        r"Failed to resolve the necessary information",
        "final",
        "the dataset does not exist, so it can have no version. Check the id in dataset-metadata.json.",
    ),
    (
        r"\b409 Client Error|\bConflict\b",
        "final",
        "Kaggle sees a conflict (409): a kernel and a dataset must not share a slug, and a version must be "
        "finished before the next. Package under another name, or wait, then give the same command.",
    ),
    (
        r"\b429 Client Error|Too Many Requests|rate limit",
        "passing",
        "too many requests (429). Wait some minutes, then give the same command.",
    ),
    (
        r"\b5\d\d Server Error|Internal (Server )?Error|Service Unavailable",
        "passing",
        "Kaggle has an error of its own (500). Wait some minutes, then give the same command.",
    ),
    (
        r"Connection aborted|Max retries exceeded|ConnectionError|Remote end closed|timed out",
        "passing",
        "the connection was lost. Check the network; the same command goes on.",
    ),
    (
        r"\b403 Client Error|Forbidden|was denied",
        "absent",
        "Kaggle does not allow it (403): it belongs to another account than the credentials, does not exist, "
        "or the account has not accepted the competition's rules or verified its phone.",
    ),
    (
        r"\b404 Client Error|Not Found",
        "absent",
        "Kaggle does not find it (404). Check owner and slug.",
    ),
    (
        r"(Dataset|version) creation error|Kernel push error",
        "final",
        "Kaggle refused it.",
    ),
)
