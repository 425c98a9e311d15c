"""A real PostgreSQL on this machine, for as long as the tests that need it."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fake_secrets import fake

PASSWORD = fake("correct-horse-battery")
PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin")) if Path("/usr/lib/postgresql").exists() else []


def as_postgres(*command: object) -> None:
    """Run a program of the server, which refuses to run as root."""
    words = [str(word) for word in command]
    if os.geteuid() == 0:
        words = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", *words]
    done = subprocess.run(words, cwd="/", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="session")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL, with its password, of a database in a temporary folder."""
    pytest.importorskip("psycopg")
    if not PROGRAMS:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    programs, port = PROGRAMS[-1], free_port()
    folder = Path("/tmp") / f"scorer-postgresql-{os.getpid()}"  # pytest's folders are closed to other users
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    (folder / "password").write_text(PASSWORD)
    try:
        data = folder / "data"
        as_postgres(
            programs / "initdb", "-D", data, "-U", "scorer", "-A", "scram-sha-256", "--pwfile", folder / "password"
        )
        options = f"-h 127.0.0.1 -p {port} -k {folder} -c fsync=off"
        as_postgres(programs / "pg_ctl", "-D", data, "-w", "-l", folder / "log", "-o", options, "start")
        try:
            yield fake("postgresql¦://scorer:") + f"{PASSWORD}@127.0.0.1:{port}/postgres"
        finally:
            as_postgres(programs / "pg_ctl", "-D", data, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder)
