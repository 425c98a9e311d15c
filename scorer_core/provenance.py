"""How an attempt ran: machine, job, package versions, and the code: commit, changes, new files. No torch here."""

import hashlib
import logging
import os
import platform
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Collection
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from scorer_core import plugins
from scorer_core.record_forms import now, read_record
from scorer_core.support.secrets import mask, mask_words, secret_lines

log = logging.getLogger("scorer")

SNAPSHOT = "snapshot.json"  # next to a saved copy of the code: the version of the original
# Untracked files that can change what a run computes. Logs, outputs and notes change while runs train; if they
# counted, two attempts of one run would seem to have different code.
CODE_SUFFIXES = (".py", ".pyx", ".c", ".cc", ".cpp", ".cu", ".h", ".so")
MAX_FILE_BYTES = 100_000  # a larger or binary untracked file is recorded by name, size and SHA-256
MAX_UNTRACKED_BYTES = 1_000_000  # of all untracked files together, likewise
MAX_UNTRACKED_FILES = 1_000  # of the rest only the number is recorded
GIT_SECONDS = 20.0
CODE_ROOT = Path(__file__).resolve().parent.parent


class GitError(Exception):
    """A git command failed; the message is git's reason."""


class CodeVersion(BaseModel):
    """snapshot.json"""

    git_commit: str | None
    git_diff: str | None
    git_error: str | None = None  # why the commit or the diff is not known
    masked_lines: list[str] = []  # FILE:LINE of each line of the diff that looked like a secret
    user_code: dict[str, "CodeVersion"] = {}  # of each package or module with parts of the user's


class ProvenanceRecord(BaseModel):
    """attempts/<n>/provenance.json"""

    started: str = ""
    argv: list[str] = []
    host: str = ""
    platform: str = ""
    device: str = ""
    gpu: dict[str, str] | None = None
    slurm_job_id: str | None = None
    git_commit: str | None = None
    git_diff: str | None = None
    git_error: str | None = None
    masked_lines: list[str] = []
    user_code: dict[str, CodeVersion] = {}
    python: str = ""
    packages: dict[str, str] = {}
    compile_cache: dict[str, int] | None = None  # `CompileCache.publish`, of a pack that has one


def provenance(device: str, gpu: dict[str, str] | None = None, parts: Collection[str] = ()) -> dict[str, Any]:
    """The provenance of an attempt that starts now.

    Args:
        device: on which it trains.
        gpu: the properties of a GPU and its driver.
        parts: "package.module:name" of the users' parts that it uses.
    """
    version = code_version(CODE_ROOT)
    if parts and "user_code" not in version:
        version["user_code"] = user_code(parts)
    return {
        "started": now(),
        "argv": mask_words(sys.argv),
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "device": device,
        **({"gpu": gpu} if gpu else {}),
        "slurm_job_id": slurm_job_id(),
        **version,
        "python": platform.python_version(),
        "packages": packages(),
    }


def slurm_job_id() -> str | None:
    """The id of this job, of a task of an array as ARRAY_INDEX; None outside of Slurm.

    Its number alone would not name the last task of an array: it is the id of the whole array.
    """
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID")


def read_provenance(attempt: Path) -> dict[str, Any]:
    """The code and machine that the attempt in this folder recorded; empty if there is no record.

    Raises:
        RecordError: if provenance.json cannot be read or has another form.
    """
    found = read_record(attempt / "provenance.json", ProvenanceRecord)
    return found.model_dump(exclude_unset=True) if found else {}


def packages() -> dict[str, str]:
    """Version of each installed package, by name; of two with one name, the first on sys.path: Python imports that."""
    found: dict[str, tuple[str, str]] = {}
    for distribution in distributions():
        name = distribution.metadata["Name"]
        if name:  # None where the package's metadata is missing
            found.setdefault(re.sub(r"[-_.]+", "-", name).lower(), (name, distribution.version))
    return dict(found[key] for key in sorted(found))


def add_training_code(digest: "hashlib._Hash") -> None:
    """Add the source of everything that trains to a hash."""
    for source in sorted((CODE_ROOT / "scorer_core").rglob("*.py")):
        if source.is_file():  # an editor's lock is a link to nothing
            digest.update(source.read_bytes())


def user_code(parts: Collection[str]) -> dict[str, dict[str, Any]]:
    """The version of each user's package or module that contains one of `parts`, by its name.

    Raises:
        RecordError: if one is not found.
    """
    return {top: _tree_version(place) for top, place in plugins.packages(parts).items()}


def code_version(source: Path) -> dict[str, Any]:
    """`git_commit` and `git_diff` of the tree at `source`; of a saved copy, those of the tree it was copied from.

    `git_diff` is a patch: the changes of tracked files, then the untracked code files (`CODE_SUFFIXES`) that
    .gitignore does not name. If git does not give one of them, it is None and `git_error` is the reason in one line.
    A line that looks like a secret is masked, with a warning, and `masked_lines` names it.
    """
    saved = read_record(source / SNAPSHOT, CodeVersion)
    if saved is not None:
        return saved.model_dump(exclude_unset=True) | {"git_diff": saved.git_diff and mask(saved.git_diff)}
    return _tree_version(source)


def _tree_version(source: Path) -> dict[str, Any]:
    """`code_version` of what is at `source` itself, a folder or one file."""
    commit: str | None = None
    try:
        commit = _commit(source)
        diff = _git(source, "diff", "--no-color", "--no-ext-diff", "HEAD", "--", *_inside(source))
        diff = "\n".join(filter(None, [diff.strip(), *_untracked(source)]))
    except GitError as error:
        return {"git_commit": commit, "git_diff": None, "git_error": str(error)}
    version: dict[str, Any] = {"git_commit": commit, "git_diff": mask(diff)}
    if version["git_diff"] != diff:
        version["masked_lines"] = _masked_lines(diff)
        for line in version["masked_lines"]:
            log.warning("%s: looks like a secret; it is masked in the recorded diff", line)
    return version


def _masked_lines(diff: str) -> list[str]:
    """FILE:LINE of each line of a patch that `mask` changes; a removed line has the number where it was removed."""
    hidden, found = set(secret_lines(diff)), []
    file, line = "", 0
    for number, text in enumerate(diff.split("\n"), start=1):
        if text.startswith("diff --git "):
            file, line = text.rpartition(" b/")[2], 0
        elif hunk := re.match(r"@@ -\S+ \+(\d+)", text):
            line = int(hunk[1]) - 1
        elif line or not text.startswith(("+++", "---")):
            line += not text.startswith(("-", "\\"))
        if number in hidden:
            found.append(f"{file}:{line}")
    return list(dict.fromkeys(found))


def git_error(source: Path = CODE_ROOT) -> str | None:
    """Why the commit of the tree at `source` is not known, in one line; None if it is known. The diff is not made."""
    saved = read_record(source / SNAPSHOT, CodeVersion)
    if saved is not None:
        return saved.git_error
    try:
        _commit(source)
    except GitError as error:
        return str(error)
    return None


def _commit(source: Path) -> str:
    commit = _git(source, "rev-parse", "HEAD").strip()
    if not re.fullmatch(r"[0-9a-f]{40,64}", commit):
        raise GitError(f"git printed {commit[:60]!r} instead of a commit")
    # For example a package that was installed below somebody's repository has none.
    if not _git(source, "ls-files", "-z", "--", *_inside(source)):
        raise GitError(f"no file in {source} is in a git repository")
    return commit


def _git(source: Path, *arguments: str) -> str:
    """What git prints.

    Raises:
        GitError: if it is not installed, fails, or does not end in `GIT_SECONDS`; the message is one line.
    """
    command = ["git", "-C", str(source if source.is_dir() else source.parent), *arguments]
    english = {**os.environ, "LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0"}
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8",
            errors="replace", env=english, start_new_session=True,
        )  # fmt: skip
    except FileNotFoundError:
        raise GitError("git is not installed") from None
    except OSError as error:
        raise GitError(f"git cannot be started: {error.strerror}") from None
    with process:
        try:
            output, complaint = process.communicate(timeout=GIT_SECONDS)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)  # its children too: they hold the pipes open
            if isinstance(error, subprocess.TimeoutExpired):
                raise GitError(f"git did not end in {GIT_SECONDS:g} s") from None
            raise
    if process.returncode:
        lines = [line.strip() for line in complaint.splitlines() if line.strip()]
        message = next((line for line in lines if line.startswith(("fatal:", "error:"))), lines[0] if lines else "")
        raise GitError(message[:300] or f"git {arguments[0]} ended with exit code {process.returncode}")
    return output


def _inside(source: Path) -> list[str]:
    """The argument of git for `source`, a folder or a file."""
    return ["."] if source.is_dir() else [source.name]


def _untracked(source: Path) -> list[str]:
    """A patch of each untracked code file; of a large or binary one a line with its size and SHA-256."""
    listed = _git(source, "ls-files", "--others", "--exclude-standard", "-z", "--", *_inside(source))
    paths = sorted(path for path in listed.split("\0") if path.endswith(CODE_SUFFIXES))
    copies = {path for path in paths if any((source / above / SNAPSHOT).exists() for above in Path(path).parents)}
    paths = [path for path in paths if path not in copies]
    patches, space = [], MAX_UNTRACKED_BYTES
    folder = source if source.is_dir() else source.parent
    for path in paths[:MAX_UNTRACKED_FILES]:
        try:
            content = (folder / path).read_bytes()
        except OSError as error:
            patches.append(f"Untracked file {path}: cannot be read: {error.strerror}")
            continue
        if len(content) <= min(MAX_FILE_BYTES, space) and b"\0" not in content:
            space -= len(content)
            patches.append(_new_file(path, content))
        else:
            digest = hashlib.sha256(content).hexdigest()
            patches.append(f"Untracked file {path}: {len(content)} bytes, SHA-256 {digest}")
    if len(paths) > MAX_UNTRACKED_FILES:
        patches.append(f"Untracked files that are not recorded: {len(paths) - MAX_UNTRACKED_FILES}")
    return patches


def _new_file(path: str, content: bytes) -> str:
    """The patch that creates this file, as git writes it."""
    lines = content.decode(errors="replace").split("\n")
    end = ["\\ No newline at end of file"] if lines[-1] else []
    lines = lines if lines[-1] else lines[:-1]
    head = [f"diff --git a/{path} b/{path}", "new file mode 100644"]
    if lines:
        head += ["--- /dev/null", f"+++ b/{path}", f"@@ -0,0 +1,{len(lines)} @@"]
    return "\n".join([*head, *(f"+{line}" for line in lines), *end])
