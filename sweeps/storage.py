"""The storage of a study: a journal file in the search's folder, or a database. Every failure is one line."""

import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.storages.journal._file import BaseJournalFileLock
from pydantic import BaseModel
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SAWarning, SQLAlchemyError
from sqlalchemy.pool import NullPool

from scorer_core.record_forms import read_record
from scorer_core.support import locks
from scorer_core.support.errors import RecordError
from scorer_core.support.files import write_json
from scorer_core.support.secrets import MASK, mask
from sweeps.errors import DefinitionError

STORAGE_VARIABLE = (
    "SCORER_STORAGE"  # may contain a password: it is read only from the environment and never written to a file
)
STORED_OPTIONS = {
    "sslmode",
    "sslrootcert",
    "connect_timeout",
    "application_name",
    "charset",
    "host",
    "port",
    "mode",
    "uri",
}
JOURNAL = "study.journal"
PATIENCE_SECONDS = 60.0  # for a lock that is kept for milliseconds
CONNECT_SECONDS = 10

optuna.logging.set_verbosity(optuna.logging.WARNING)


class StorageError(RecordError):
    """A storage that cannot be used; the message names it without its password."""


STORAGE_ERRORS = (StorageError, SQLAlchemyError, optuna.exceptions.StorageInternalError, OSError)


DAMAGED_JOURNAL_ERRORS = (
    ValueError, LookupError, ArithmeticError, AssertionError, AttributeError, TypeError, NotImplementedError,
    RecursionError,
)  # fmt: skip


class StorageRecord(BaseModel):
    """storage.json"""

    url: str


class Lock(locks.Lock):
    """A lock of a study; every failure is a StorageError."""

    def acquire(self, patience: float | None = None) -> bool:
        """Take the lock; False if another process still holds it after `patience` seconds (None: wait forever).

        Raises:
            StorageError: if the file cannot be opened or locked.
        """
        try:
            return super().acquire(patience)
        except RecordError as error:
            raise StorageError(str(error)) from error

    @contextmanager
    def held(self, patience: float) -> Iterator[None]:
        """Keep the lock in a `with` block.

        Raises:
            StorageError: if another process still holds it after `patience` seconds, or it cannot be locked.
        """
        if not self.acquire(patience):
            raise StorageError(f"{self.path}: locked by another process for {patience:.0f} s")
        try:
            yield
        finally:
            self.release()


class JournalLock(BaseJournalFileLock):
    """A lock of the journal. Optuna's own locks remain for half a minute after a killed process.

    It also removes an incomplete last line, which a killed process leaves and Optuna never repairs.
    """

    def __init__(self, journal: Path):
        self._journal, self._lock = journal, Lock(journal.with_name(f"{journal.name}.lock"))

    def acquire(self) -> bool:
        """Take the lock and remove an incomplete last line.

        Raises:
            StorageError: if another process still has the lock after PATIENCE_SECONDS.
        """
        if not self._lock.acquire(PATIENCE_SECONDS):
            raise StorageError(f"{self._journal}: locked by another process for {PATIENCE_SECONDS:.0f} s")
        with self._journal.open("rb+") as file:
            end = file.seek(0, os.SEEK_END)
            if end:
                file.seek(end - 1)
                if file.read(1) != b"\n":  # a process was killed while it wrote; nobody has read the line
                    file.seek(0)
                    file.truncate(file.read().rfind(b"\n") + 1)
        return True

    def release(self) -> None:
        """Release the lock."""
        self._lock.release()


def open_storage(folder: Path) -> BaseStorage:
    """The storage of the search in `folder`: SCORER_STORAGE, else the one used before, else a journal file.

    Raises:
        StorageError: if it cannot be reached, is locked, or was written by another version of Optuna.
        DefinitionError: if SCORER_STORAGE is not the URL of a database.
    """
    url = os.environ.get(STORAGE_VARIABLE) or _recorded_url(folder)
    with as_storage_error(redact_url(url) if url else str(folder / JOURNAL)):
        if url is None:
            folder.mkdir(parents=True, exist_ok=True)
            journal = folder / JOURNAL
            if journal.is_symlink():  # Optuna would write to the file that it points to
                raise StorageError(f"{journal}: is a link; move the file here, or set {STORAGE_VARIABLE}")
            storage: BaseStorage = JournalStorage(JournalFileBackend(str(journal), JournalLock(journal)))
        else:
            storage = RDBStorage(url := _with_driver(url), engine_kwargs=_engine_settings(url))
            write_json(folder / "storage.json", {"url": _without_secrets(url)})
    return storage


def _recorded_url(folder: Path) -> str | None:
    found = read_record(folder / "storage.json", StorageRecord)
    return found.url if found else None


def storage_location(folder: Path) -> str:
    """The URL without secrets, or the path, of the storage of the search in `folder`."""
    url = os.environ.get(STORAGE_VARIABLE) or _recorded_url(folder)
    return redact_url(url) if url else str(folder / JOURNAL)


def redact_url(url: str) -> str:
    """Scheme, host and database of `url`: nothing that can contain a secret.

    Raises:
        DefinitionError: if it is not a URL.
    """
    parsed = _parsed(url)
    host = f"[{parsed.host}]" if parsed.host and ":" in parsed.host else parsed.host or ""
    port = f":{parsed.port}" if parsed.port else ""
    return f"{parsed.drivername}://{host}{port}/{parsed.database or ''}"


def _without_secrets(url: str) -> str:
    """`url` without its password and unknown options: it may be stored, and is enough to connect again."""
    parsed = _parsed(url)
    parsed = parsed.difference_update_query([key for key in parsed.query if key not in STORED_OPTIONS])
    return parsed._replace(password=None).render_as_string(hide_password=False)  # `set` ignores None


def _parsed(url: str) -> URL:
    """`url`, read by SQLAlchemy.

    Raises:
        DefinitionError: if it is not a URL, or if a part of the password would be taken for the host.
    """
    wrong = f"{STORAGE_VARIABLE}: not the URL of a database, such as postgresql://user@host/name"
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise DefinitionError(wrong) from None
    if parsed.host and "@" in f"{parsed.host}{parsed.database}":
        raise DefinitionError(f"{wrong}; in a password, write @ as %40")
    return parsed


@contextmanager
def as_storage_error(place: str) -> Iterator[None]:
    """Turn every exception of a storage into a StorageError of one line that names `place`.

    Raises:
        StorageError: if the storage cannot be used.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            warnings.simplefilter("ignore", SAWarning)  # it quotes options of the URL
            yield
    except (RecordError, DefinitionError):
        raise
    except ImportError as error:
        name = getattr(error.__cause__ or error, "name", None) or "of its driver"
        extra = "; pip install 'psycopg[binary]'" if name.startswith("psycopg") else ""
        raise StorageError(f"storage {place}: needs the Python package {name}{extra}") from None
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        raise StorageError(f"storage {place}: {_reason(error)}") from None
    except OSError as error:
        raise StorageError(f"storage {place}: cannot be used: {error.strerror or error}") from None
    except DAMAGED_JOURNAL_ERRORS as error:
        if place.endswith(JOURNAL):
            raise StorageError(
                f"storage {place}: damaged, or not a journal of Optuna {optuna.__version__}: {error}"
            ) from None
        raise
    except RuntimeError as error:
        if "optuna version" not in str(error):
            raise
        versions = " ".join(str(error).split())
        raise StorageError(f"storage {place}: written by another version of Optuna: {versions}") from None


def _reason(error: BaseException) -> str:
    """Why a database cannot be used: the first line of the driver's message."""
    while error.__cause__ is not None or getattr(error, "orig", None) is not None:
        error = getattr(error, "orig", None) or error.__cause__ or error
    lines = [line for line in str(error).splitlines() if line.strip()]
    text = re.sub(r"\s+", " ", lines[0]) if lines else type(error).__name__
    locked = re.search(r"locked|lock (wait )?timeout", text, re.IGNORECASE)  # an unreachable host times out as well
    return f"{'locked by another process' if locked else 'cannot be used'}: {_hidden(text)}"


def _hidden(text: str) -> str:
    """A driver's message without the secrets of SCORER_STORAGE, which the message may repeat."""
    with suppress(DefinitionError):
        parsed = _parsed(os.environ.get(STORAGE_VARIABLE) or "")
        options = [value for key, value in parsed.query.items() if key not in STORED_OPTIONS]
        for secret in (str(parsed.password or ""), *(word for value in options for word in str(value).split("="))):
            text = text.replace(secret, MASK) if len(secret) > 3 else text
    return mask(text)


def _with_driver(url: str) -> str:
    return re.sub(r"^postgres(ql)?://", "postgresql+psycopg://", url)


def _engine_settings(url: str) -> dict[str, Any]:
    """How long to wait for a database that does not respond."""
    backend = make_url(url).get_backend_name()
    waits = {"postgresql": "connect_timeout", "mysql": "connect_timeout", "sqlite": "timeout"}
    arguments = {waits[backend]: CONNECT_SECONDS} if backend in waits else {}
    # One connection per use: a worker trains for minutes between two uses, and databases close idle connections.
    return {"connect_args": arguments, "poolclass": NullPool}
