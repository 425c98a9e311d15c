"""`scorer bench`."""

from cli.console import DEFAULT_OUTPUTS, FAILED, err, exit_with_error, out
from cli.help import App
from cli.options import Device, Outputs
from scorer_core.support.commands import shown_path
from slurm.jobs import probe
from slurm.places import HERE, speeds_file

app = App()


@app.command(epilog="Example: scorer bench")
def bench(outputs: Outputs = DEFAULT_OUTPUTS, device: Device = "auto") -> None:
    """Measure the speed of this machine for ten seconds, so that the first plan is realistic.

    It trains one pack in one process. Packs that have trained are measured too, and tell more: this is for a machine on
    which none has trained. For the nodes of a cluster: scorer profile check PROFILE --probe
    """
    path = speeds_file(outputs, HERE)
    try:
        with err.status("training for ten seconds"):
            measured = probe.measure_here(path, device)
    except RuntimeError as error:
        exit_with_error(str(error), FAILED)
    out.print(f"{measured}.")
    out.print(f"Kept in {shown_path(path)}, for plan, run and submit.")
