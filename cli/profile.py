"""Verbs on profiles: the doctor."""

from dataclasses import asdict
from typing import Annotated

import typer
from rich.text import Text

from cli.console import DEFAULT_OUTPUTS, FAILED, err, out, print_json
from cli.options import AsJson, Outputs
from slurm.backend import Finding, backend_of
from slurm.profile import load_profile

profile_app = typer.Typer(help="Where jobs run: check a cluster against a profile.", no_args_is_help=True)
COLOURS = {"ok": "green", "note": "yellow", "problem": "red"}


@profile_app.callback()
def _group() -> None:
    """Where jobs run: check a cluster against a profile."""


@profile_app.command(epilog="Example: scorer profile check my-cluster --probe")
def check(
    profile: Annotated[str, typer.Argument(metavar="PROFILE", help="A name, or the path of a YAML file.")],
    outputs: Outputs = DEFAULT_OUTPUTS,
    probe: Annotated[bool, typer.Option("--probe", help="Also submit a small job that looks from inside.")] = False,
    wait: Annotated[float, typer.Option(min=1, help="Seconds to wait for the probe, at most.")] = 600.0,
    as_json: AsJson = False,
) -> None:
    """Say what a cluster allows and does to jobs, whether the profile fits, and what to do about each finding."""
    loaded = load_profile(profile)
    backend = backend_of(loaded)
    findings = backend.check_profile(loaded)
    if not as_json:
        _show(findings)
    unreachable = any(finding.subject == "slurm" and finding.level == "problem" for finding in findings)
    if probe and not unreachable:
        with err.status(Text("the probe")) as waiting:
            seen = backend.run_check_job(loaded, outputs, wait, lambda told: waiting.update(Text(f"the probe: {told}")))
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
