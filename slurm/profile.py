"""Profiles: where jobs run, with which resources and settings. A profile is a YAML file, usually one per cluster.

The message of each error is one line that names the file and the field.
"""

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from scorer_core.support.secrets import mask
from sweeps.errors import DefinitionError, one_line
from sweeps.reading import TextLoader, read_mapping

STORAGE_VARIABLE = "SCORER_STORAGE"  # the same as in sweeps.storage, which imports Optuna
SHIPPED = Path(__file__).parent / "profiles"
SET_BY_SCORER = {
    "array",
    "signal",
    "job-name",
    "output",
    "error",
    "open-mode",
    "dependency",
    "requeue",
    "no-requeue",
    "parsable",
}
GPU_OPTIONS = ("gpus", "gres", "tres-per-")  # of sbatch: options that can request GPUs
LINE = r"^[^\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]*$"  # no control character except the tab
FIELDS_OF = {  # fields that only one scheduler uses
    "slurm": (
        "partition", "account", "qos", "constraint", "gpus", "packs_per_job", "memory", "time", "throttle",
        "max_submit", "sbatch",
    ),
    "local": ("processes",),
}  # fmt: skip


def minutes(written: Any) -> int:
    """Minutes, from any form that sbatch accepts: minutes, MM:SS, HH:MM:SS, D-HH, D-HH:MM, D-HH:MM:SS.

    Seconds are rounded up to a whole minute.

    Raises:
        ValueError: if it has none of these forms, or is less than a minute.
    """
    text = str(written).strip()
    match = re.fullmatch(r"(?:(\d{1,5})-)?(\d{1,7})(?::(\d{1,5}))?(?::(\d{1,5}))?", text)
    if not match:
        raise ValueError(f"'{written}' is not a time; use minutes, HH:MM:SS or D-HH:MM:SS")
    days, *rest = (None if group is None else int(group) for group in match.groups())
    given = [number for number in rest if number is not None]
    if days is not None:
        hours, minute, seconds = [*given, 0, 0][:3]
    elif len(given) == 3:
        hours, minute, seconds = given
    else:
        hours, (minute, seconds) = 0, [*given, 0][:2]
    total = ((days or 0) * 24 + hours) * 60 + minute + -(-seconds // 60)
    if total < 1:
        raise ValueError(f"'{written}' is less than a minute")
    return total


def _option(value: Any) -> Any:
    """The value of an sbatch option. It is one line, because a second line would be a command in the job script.

    `true` is an option without a value.
    """
    if not isinstance(value, str | int | float) or not re.fullmatch(LINE, str(value)):
        raise ValueError("must be text on one line, a number or true")
    return True if value == "true" else value


def _value(value: Any) -> str:
    """The value of an environment variable, which cannot contain NUL."""
    if not isinstance(value, str | int | float) or "\0" in str(value):
        raise ValueError("must be text or a number, without a NUL character")
    return str(value)


Minutes = Annotated[int, BeforeValidator(minutes)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Line = Annotated[str, Field(min_length=1, pattern=LINE)]
Key = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$")]
Option = Annotated[Any, BeforeValidator(_option)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


def checked_device(name: str) -> str:
    """`name` as it is.

    Raises:
        ValueError: if it is not cpu, cuda, cuda:N or auto.
    """
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", name):
        raise ValueError(f"unknown device '{name}'; choose from: cpu, cuda, cuda:N, auto")
    return name


class Profile(BaseModel):
    """The resources that jobs request, and how jobs run."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    name: Line = Field(description="shown in messages; by default the name of the file")
    scheduler: Literal["slurm", "local"] = Field(description="local: jobs are processes on this machine")

    partition: Line | None = Field(default=None, description="sbatch's --partition")
    account: Line | None = Field(default=None, description="sbatch's --account")
    qos: Line | None = Field(default=None, description="sbatch's --qos")
    constraint: Line | None = Field(default=None, description="sbatch's --constraint")
    gpus: Line | None = Field(default=None, description="GPUs per job: a number, or type:number")
    packs_per_job: Count = Field(
        default=1, description="packs that a job trains at once, each on a GPU of its own (whole nodes: `gpus: 4` too)"
    )
    cpus: Count = Field(default=1, description="CPU cores per pack")
    memory: Annotated[str, Field(pattern=r"^\d+[KMGT]?$")] | None = Field(
        default=None, description="memory per pack, e.g. 8G"
    )
    time: Minutes = Field(
        default=60, description="time limit of one attempt; a longer run continues in the next attempt"
    )
    throttle: Count | None = Field(default=None, description="maximum number of jobs of a sweep that run at once")
    max_submit: Count | None = Field(
        default=None, description="maximum number of queued jobs, if scorer cannot read this limit from Slurm"
    )
    sbatch: dict[Key, Option] = Field(default={}, description="further sbatch options, passed unchanged")
    report_job: dict[Key, Option] = Field(
        default={},
        validation_alias=AliasChoices("report_job", "finaliser"),
        serialization_alias="finaliser",  # jobs in the queue may run an older version, which reads this name
        description="sbatch options that differ for the job that draws the report, e.g. its partition",
    )

    setup: list[Line] = Field(
        default=[],
        description="shell lines before Python starts; a line that fails fails the job (`... || true` allows it)",
    )
    environment: dict[Name, Annotated[str, BeforeValidator(_value)]] = Field(
        default={}, description="environment variables of the job"
    )

    processes: Count | None = Field(
        default=None, description="local only: packs trained in parallel (default: one per core)"
    )
    device: Annotated[str, AfterValidator(checked_device)] = Field(
        default="auto",
        description="cpu, cuda, or auto: cuda if the profile requests GPUs, otherwise a GPU if the job was given one",
    )
    lanes: Count | None = Field(
        default=None, description="maximum runs per pack (default: 30 on a cluster; locally, the fastest layout)"
    )
    commit_seconds: Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)] = Field(
        default=300.0, description="seconds between checkpoints"
    )
    signal_seconds: Annotated[int, Field(ge=1, le=65535)] = Field(
        default=120,
        description="seconds before the time limit at which a job saves and stops; Slurm may be a minute early",
    )
    max_attempts: Count = Field(
        default=20, description="maximum number of starts of a job, including requeues and preemptions"
    )

    @field_validator("sbatch", "report_job", mode="before")
    @classmethod
    def _normalize_keys(cls, keys: Any) -> Any:
        return {str(k).lstrip("-").replace("_", "-"): v for k, v in keys.items()} if isinstance(keys, dict) else keys

    @field_validator("sbatch", "report_job")
    @classmethod
    def _not_set_by_scorer(cls, keys: dict[str, Any]) -> dict[str, Any]:
        for key in keys:
            if key in SET_BY_SCORER:
                raise ValueError(f"{key} is set by scorer itself")
        return keys

    @model_validator(mode="after")
    def _fits_its_scheduler(self) -> Self:
        unused = {field for name, fields in FIELDS_OF.items() if name != self.scheduler for field in fields}
        for field in sorted(unused):
            if getattr(self, field) != type(self).model_fields[field].default:
                raise ValueError(f"{field}: not used with scheduler: {self.scheduler}; remove it")
        twins = {"time", "partition", "account", "qos", "constraint", "mem", "cpus-per-task", "gpus-per-node"}
        for key in self.sbatch.keys() & twins:
            top = {"mem": "memory", "cpus-per-task": "cpus", "gpus-per-node": "gpus"}.get(key, key)
            raise ValueError(f"sbatch.{key}: set `{top}` at the top level instead")
        if self.device == "cuda" and self.gpus == "0":
            raise ValueError("device: cuda needs a GPU; remove `gpus: 0`")
        if self.packs_per_job > 1 and self.gpus and self.gpus.rpartition(":")[2] not in ("0", str(self.packs_per_job)):
            raise ValueError(f"packs_per_job: {self.packs_per_job}: needs one GPU per pack, not `gpus: {self.gpus}`")
        if self.packs_per_job > 1 and self.device.startswith("cuda:"):
            raise ValueError(f"device: {self.device}: with `packs_per_job`, each pack has its own GPU; use cuda")
        if "time" not in unused and self.signal_seconds >= 60 * self.time:
            raise ValueError(f"signal_seconds: {self.signal_seconds} s leave no time of {self.time} min")
        return self

    def gpus_of(self, packs: int) -> str | None:
        """The GPUs of a job that trains `packs` packs at once, or none."""
        if not self.gpus or self.gpus == "0" or packs == self.packs_per_job:
            return self.gpus
        kind, colon, _ = self.gpus.rpartition(":")
        return f"{kind}{colon}{packs}"

    def memory_of(self, packs: int) -> str | None:
        """The memory of a job that trains `packs` packs at once."""
        if not self.memory:
            return None
        amount = self.memory.rstrip("KMGT")
        return f"{packs * int(amount)}{self.memory.removeprefix(amount)}"

    @property
    def job_device(self) -> str:
        """The device of its jobs. A job that requests GPUs never trains on the CPU because it finds none."""
        options = [f"{key}={value}" for key, value in self.sbatch.items() if key.startswith(GPU_OPTIONS)]
        requested = self.gpus not in (None, "0") or any("gpu" in option for option in options)
        return "cuda" if self.device == "auto" and requested else self.device


def load_profile(name_or_path: str) -> Profile:
    """Load a profile: a path, or the name of the user's own (~/.config/scorer/profiles) or of a built-in one.

    Raises:
        DefinitionError: if there is none, or it is not valid.
    """
    path = Path(name_or_path).expanduser()
    if path.suffix not in (".yaml", ".yml") and not path.is_file():
        found = [folder / f"{name_or_path}.yaml" for folder in (own_profiles(), SHIPPED)]
        path = next((path for path in found if path.is_file()), None)
        if path is None:
            known = ", ".join(profiles())
            raise DefinitionError(
                f"profile {name_or_path}: not found; available: {known}. Put your own in {own_profiles()}"
            )
    raw = read_mapping(path, TextLoader)
    try:
        profile = Profile(
            **{"name": path.stem, **{key: value for key, value in raw.items() if value not in ("", "null")}}
        )
    except ValidationError as error:
        raise DefinitionError(f"{path}: {mask(one_line(error))}".replace("\n", "\\n")) from None
    if STORAGE_VARIABLE in profile.environment:
        raise DefinitionError(
            f"{path}: environment.{STORAGE_VARIABLE}: export it in your shell instead; jobs inherit it"
        )
    return profile


def profiles() -> list[str]:
    """The names that `load_profile` accepts."""
    return sorted({path.stem for folder in (own_profiles(), SHIPPED) for path in folder.glob("*.yaml")})


def own_profiles() -> Path:
    """The folder of the user's own profiles."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser() / "scorer" / "profiles"
