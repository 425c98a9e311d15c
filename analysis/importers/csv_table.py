"""A CSV file as a header and lines of cells: encodings, separators, numbers. Errors name the file and the line."""

import codecs
import csv
import io
import json
import math
import re
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from analysis.load import ReportError

HIGHEST_RETURN = float(np.finfo(np.float32).max)
LONGEST_NUMBER = 60  # characters
NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
COMMA_NUMBER = re.compile(r"[+-]?\d+,\d+([eE][+-]?\d+)?", re.ASCII)


class CsvTable:
    """Header and lines of a CSV file, separated by commas, semicolons or tabs.

    Raises:
        ReportError: if `content` is not such a file; one line that names the file and the line in it.
    """

    source: Path
    header: list[str]
    lines: list[tuple[int, list[str]]]  # line number, cells
    monitor: dict[str, Any] | None  # the first line of Stable-Baselines3's monitor.csv: `#{...}`

    def __init__(self, source: Path, content: bytes):
        self.source, self.header, self.lines, self.monitor = source, [], [], None
        self._decimal_comma = False  # cells may have one: commas do not separate them
        self._point_line = self._comma_line = 0  # the first lines with a decimal point and with a decimal comma
        self._split(_decoded(source, content))

    def refuse(self, problem: str, line: int = 0) -> NoReturn:
        """Raise a ReportError that names the file and, unless it is 0, the line."""
        raise ReportError(f"{self.source}{f', line {line}' if line else ''}: {problem}")

    def _split(self, text: str) -> None:
        """Header and lines. A first line `#{...}` is Stable-Baselines3's, `sep=;` is Excel's."""
        skipped = 0
        first, _, rest = text.partition("\n")
        if first.startswith("#"):
            try:
                self.monitor = json.loads(first[1:])
            except (ValueError, RecursionError):
                self.monitor = None
            if not isinstance(self.monitor, dict):
                self.refuse("expected a header, or '#{...}' as in Stable-Baselines3's monitor.csv", 1)
            text, skipped = rest, 1
        elif re.fullmatch(r"sep=[,;\t]\r?", first):
            text, skipped = rest, 1
        if not text.strip():
            self.refuse("is empty")
        delimiter = self._delimiter(text)
        self._decimal_comma = delimiter != ","
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        try:
            for cells in reader:
                cells = [cell.strip() for cell in cells]
                line = reader.line_num + skipped
                if not any(cells):
                    continue
                if not self.header:
                    self._check_header(cells, line)
                    continue
                if len(cells) < len(self.header) or any(cells[len(self.header) :]):
                    self.refuse(f"{len(cells)} cells, but the header has {len(self.header)}", line)
                self.lines.append((line, cells))
        except csv.Error as error:
            self.refuse(f"is not CSV: {error}", reader.line_num + skipped)
        if not self.lines:
            self.refuse("has no rows below its header")

    def _delimiter(self, text: str) -> str:
        """Comma, semicolon or tab: the most frequent one in the header, outside of quotes."""
        header = re.sub(r'"[^"]*"', "", text.lstrip("\r\n").partition("\n")[0])
        return max(",;\t", key=header.count)

    def _check_header(self, cells: list[str], line: int) -> None:
        self.header = cells
        twice = sorted({name for name in cells if name and cells.count(name) > 1})
        if twice:
            self.refuse(f"the column {twice[0]!r} appears twice; rename one of them", line)

    def _decimal(self, text: str, column: str, line: int) -> Decimal:
        shown = text if len(text) <= LONGEST_NUMBER else f"{text[:20]}..."
        if text.casefold().lstrip("+-") in ("nan", "inf", "infinity"):
            self.refuse(f"{shown!r} in column {column!r} is not finite; leave the cell empty if it has no value", line)
        if self._decimal_comma and COMMA_NUMBER.fullmatch(text):
            self._comma_line = self._comma_line or line
            text = text.replace(",", ".")
        elif "." in text:
            self._point_line = self._point_line or line
        if len(text) > LONGEST_NUMBER or not NUMBER.fullmatch(text):
            self.refuse(f"{shown!r} in column {column!r} is not a number", line)
        if self._comma_line and self._point_line:
            self.refuse(
                f"numbers have a decimal comma (line {self._comma_line}) and a point (line {self._point_line}); "
                "use one of them",
                line,
            )
        try:
            return Decimal(text)
        except InvalidOperation:  # the exponent is too large
            self.refuse(f"{shown!r} in column {column!r} is out of range", line)

    def whole(self, text: str, column: str, line: int, most: int) -> int:
        """A whole number from 0 to `most`.

        Raises:
            ReportError: if `text` is not one.
        """
        if "," in text and not re.fullmatch(r"\d+,0", text):  # thousands or a fraction: ambiguous
            self.refuse(
                f"{text[:LONGEST_NUMBER]!r} in column {column!r} is not a whole number; write it without a comma", line
            )
        value = self._decimal(text, column, line)
        if not 0 <= value <= most:
            self.refuse(f"{text!r} in column {column!r} is out of range: expected 0 to {most}", line)
        if value != value.to_integral_value():
            self.refuse(f"{text!r} in column {column!r} is not a whole number", line)
        return int(value)

    def number(self, text: str, column: str, line: int) -> float:
        """A finite number that fits into single precision.

        Raises:
            ReportError: if `text` is not one.
        """
        value = float(self._decimal(text, column, line))
        if not math.isfinite(value) or abs(value) > HIGHEST_RETURN:
            self.refuse(
                f"{text!r} in column {column!r} is out of range: a return is at most {HIGHEST_RETURN:.1e}", line
            )
        return value


def _decoded(source: Path, content: bytes) -> str:
    """Text in UTF-8, with or without a byte-order mark, or in UTF-16 with one."""
    utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = content.decode("utf-16" if utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ReportError(f"{source}, line {line}: is not UTF-8 text; save the file as CSV UTF-8") from None
    if "\0" in text:
        raise ReportError(f"{source}: is not text (it contains a zero byte); save the file as CSV UTF-8")
    return text
