"""Can the user's own parts be imported by the Python that trains?"""

import logging
import subprocess
from collections.abc import Iterable

from scorer_core.plugins import interpreter, is_place, packages, source_file
from scorer_core.support.errors import RecordError
from scorer_core.support.waiting import waiting
from sweeps.errors import DefinitionError

log = logging.getLogger("scorer")

FAULT = 3  # exit code; the last line of the output says what is wrong
IMPORT = f"""
import sys
from scorer_core import registry
from scorer_core.support.errors import RecordError
for place in sys.argv[1:]:
    try:
        fault = "" if callable(registry.function(place)) else f"{{place}} is no function or class"
    except RecordError as error:
        fault = str(error)
    if fault:
        print(fault)
        sys.exit({FAULT})
"""


def check_imports(parts: Iterable[str]) -> None:
    """Import `parts` ("package.module:name") in a new process: this one does not load what they need.

    Before, a warning names each file: an import runs code.

    Raises:
        DefinitionError: if one cannot be imported, or is no function or class; one line that names it.
    """
    parts = [place for place in parts if is_place(place)]
    if not parts:
        return
    try:
        packages(parts)
        for place in parts:
            log.warning("part %s: imports %s", place, source_file(place))
    except (RecordError, ValueError) as error:
        raise DefinitionError(str(error)) from None
    with waiting(f"the import of {', '.join(parts)}"):
        child = subprocess.run(
            [*interpreter(), "-c", IMPORT, *parts], stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8",
            errors="replace", check=False,
        )  # fmt: skip
    if child.returncode == FAULT:
        raise DefinitionError(child.stdout.splitlines()[-1])
    if child.returncode:
        raise DefinitionError(
            f"{', '.join(parts)}: the process that imports them ended with exit code {child.returncode}"
        )
