"""`scorer profile check`."""

from dataclasses import asdict
from typing import Annotated

import typer
from rich.text import Text

from cli import completion
from cli.console import DEFAULT_OUTPUTS, FAILED, err, out, print_json
from cli.help import App
from cli.options import AsJson, Outputs
from slurm.backend import Finding, backend_of
from slurm.profile import load_profile

app = App(
    help="Check a profile. A profile says where and how jobs run.",
    epilog="Example: scorer profile check mycluster --probe",
    no_args_is_help=True,
)
COLOURS = {"ok": "green", "note": "yellow", "problem": "red"}


@app.callback()
def _group() -> None:
    """Check a profile: where and how jobs run."""


@app.command(epilog="Example: scorer profile check mycluster --probe")
def check(
    profile: Annotated[
        str,
        typer.Argument(
            metavar="NAME|PATH", autocompletion=completion.profile, help="Name of a profile, or path of a YAML file."
        ),
    ],
    outputs: Outputs = DEFAULT_OUTPUTS,
    probe: Annotated[
        bool,
        typer.Option("--probe", help="Also submit a short job that checks a node: Python, GPU, folder, locks, speed."),
    ] = False,
    wait: Annotated[
        float, typer.Option(min=1, metavar="SECONDS", help="Maximum time to wait for the job of --probe.")
    ] = 600.0,
    as_json: AsJson = False,
) -> None:
    """Check a profile against the cluster's limits and preemption rules, with advice for each problem.

    Exit code 1 if there is a problem.
    """
    loaded = load_profile(profile)
    backend = backend_of(loaded)
    findings = backend.check_profile(loaded)
    if not as_json:
        _show(findings)
    unreachable = any(finding.subject == "slurm" and finding.level == "problem" for finding in findings)
    if probe and not unreachable:
        with err.status(Text("check job")) as waiting:
            seen = backend.run_check_job(
                loaded, outputs, wait, lambda state: waiting.update(Text(f"check job: {state}"))
            )
        if not as_json:
            _show(seen)
        findings += seen
    if as_json:
        print_json([asdict(finding) for finding in findings])
    if any(finding.level == "problem" for finding in findings):
        raise typer.Exit(FAILED)


def _show(findings: list[Finding]) -> None:
    for finding in findings:
        mark = (f"{finding.level:7}", COLOURS[finding.level])
        out.print(Text.assemble(mark, f" {finding.subject}: {finding.found}"))
        if finding.advice:
            out.print(f"        {finding.advice}")
