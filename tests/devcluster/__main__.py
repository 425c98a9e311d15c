"""`python -m tests.devcluster start DIR`, then the `export` lines that it prints; `stop DIR`; `status DIR`."""

import argparse
import os
import shlex
import signal
import sys
import time
from pathlib import Path

from sweeps.errors import DefinitionError
from tests.devcluster.cluster import DevCluster
from tests.devcluster.processes import MARK, alive
from tests.devcluster.settings import ClusterError, Settings


def main() -> int:
    arguments = _parse()
    try:
        return arguments.do(arguments)
    except ClusterError as error:
        print(error, file=sys.stderr)
        return 1
    except DefinitionError as error:
        print(error, file=sys.stderr)
        return 2


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.devcluster", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    start = commands.add_parser("start", help="start a cluster in DIR and wait until its nodes are idle")
    start.set_defaults(do=_start)
    start.add_argument("--config", type=Path, metavar="FILE", help="YAML or JSON file with fields of settings.Settings")
    absent, default = argparse.SUPPRESS, Settings()  # a given option overrides the file
    start.add_argument(
        "--no-accounting", dest="accounting", action="store_false", default=absent, help="no slurmdbd, no MariaDB"
    )
    for field, metavar, what in (
        ("max_array_size", "N", "MaxArraySize"),
        ("grace", "S", "GraceTime of low-grace"),
        ("kill_wait", "S", "KillWait"),
        ("node_timeout", "S", "SlurmdTimeout"),
    ):
        text = f"{what} (default: {getattr(default, field)})"
        start.add_argument(f"--{field.replace('_', '-')}", type=int, default=absent, metavar=metavar, help=text)
    start.add_argument("--while-alive", type=int, metavar="PID", help="stop the cluster when this process is gone")
    stop = commands.add_parser("stop", help="end every process of the cluster in DIR")
    stop.set_defaults(do=_stop)
    status = commands.add_parser("status", help="list the running daemons and the states of the nodes")
    status.set_defaults(do=_status)
    for command in (start, stop, status):
        command.add_argument("folder", type=Path, metavar="DIR")
    guard = commands.add_parser("guard")  # started by `start --while-alive`, in the cluster's environment
    guard.set_defaults(do=_guard)
    guard.add_argument("pid", type=int)
    return parser.parse_args()


def _start(arguments: argparse.Namespace) -> int:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # at SIGTERM it cleans up as at Ctrl-C
    options = {key: value for key, value in vars(arguments).items() if key in Settings.model_fields}
    cluster = DevCluster(arguments.folder)
    cluster.start(Settings.load(arguments.config, **options), arguments.while_alive)
    for name, value in cluster.exports(os.environ.get("PATH", "")).items():
        print(f"export {name}={shlex.quote(value)}")
    return 0


def _stop(arguments: argparse.Namespace) -> int:
    DevCluster(arguments.folder).stop()
    return 0


def _status(arguments: argparse.Namespace) -> int:
    cluster = DevCluster(arguments.folder)
    settings, running = Settings.read(cluster.folder), cluster.running()
    print(f"{settings}\nrunning: {', '.join(running) or 'nothing'}")
    for node, state in cluster.node_states().items() if running else ():
        print(f"{node}: {state}")
    return 0 if running else 1


def _guard(arguments: argparse.Namespace) -> int:
    while alive([arguments.pid]):
        time.sleep(0.5)
    DevCluster(Path(os.environ[MARK])).stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
