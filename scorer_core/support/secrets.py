"""Mask passwords, tokens and keys in text that is shown or recorded. Imports no other module of ours."""

import re
from collections.abc import Sequence

MASK = "***"

# The last word of a setting's name that holds a secret: password, API_TOKEN, client-secret, authToken.
WORDS = {"password", "passwd", "passphrase", "pwd", "secret", "secrets", "token", "credential", "credentials", "auth"}
# `key` alone is an ordinary word. These words before it make it a secret: apiKey, aws_secret_access_key.
KEYS = {
    "access",
    "account",
    "api",
    "auth",
    "client",
    "encryption",
    "license",
    "private",
    "secret",
    "service",
    "signing",
}
# Special tokens of a language model: eos_token is text, not a secret.
TEXT_TOKENS = {"bos", "cls", "end", "eos", "mask", "next", "pad", "sep", "special", "start", "stop", "unk"}
NOT_SECRET = {"PWD", "OLDPWD"}  # the folder of a shell
SECRET = {"SCORER_STORAGE", "AWS_ACCESS_KEY_ID"}

# Values that are code or a type instead of a secret.
PLAIN = re.compile(
    r"(str|bytes|int|float|bool|None|null|true|false|yes|no|on|off|Any|Optional|SecretStr|\*+|\.\.\.|\$\{?\w+\}?|<[^>]*>)$",
    re.IGNORECASE,
)
TYPE = r"(?:\s*:\s*(?:str|bytes|Any|SecretStr)(?:\s*\|\s*None)?(?=\s*=))?"
# All repetitions are bounded: a long line must not take quadratic time.
QUOTED = r""""(?:\\.|[^"\\\n]){0,4000}"|'(?:\\.|[^'\\\n]){0,4000}'"""
MORE_QUOTED = r"""(?:\\?["'][^\s"',;]{0,4000}){0,20}"""  # a shell joins 'a'"b" to one word
ASSIGNED = re.compile(
    rf"""(?<![A-Za-z0-9_])(?P<name>[A-Za-z][A-Za-z0-9_.-]{{0,100}})"""
    rf"""(?P<sign>["']?\]?{TYPE}[ \t]{{0,20}}(?::=|==|[=:])[ \t]{{0,20}})"""
)
VALUE = re.compile(rf"""(?:(?:[rbfu]{{1,2}}(?=["'])|[$])?(?:{QUOTED}){MORE_QUOTED}|[^\s,;)\]}}]{{1,4000}})""")
QUOTE_REACH = 4_000  # characters before a value in which an open quote is looked for
FLAG = re.compile(
    rf"""(?<![\w-])(?P<name>--[A-Za-z][A-Za-z0-9_-]{{0,100}})(?P<sign>[ \t]{{1,20}})"""
    rf"""(?P<value>(?:{QUOTED}){MORE_QUOTED}|[^\s-]\S{{0,4000}})"""
)
HEADER = re.compile(
    r"""(?i)(\b(?:proxy-)?authorization["']?\s*[:=]\s*["']?(?:(?:bearer|basic|token)\s+)?|\bbearer\s+)"""
    r"""(?!(?:bearer|basic|token)\b)([^\s"',;]{6,})"""
)
URL = re.compile(
    r"""((?<![A-Za-z0-9])[A-Za-z][A-Za-z0-9+.-]{0,40}://)([^\s'"<>/?#:@]{0,200}):(?!\d+[/?#])([^\s'"<>]{0,1000})@"""
)
URL_TOKEN = re.compile(r"""(https?://)([^\s'"<>/?#:@]{16,1000})@""")
QUERY = re.compile(
    r"""(?i)([?&;](?:[\w.-]{0,60}(?:token|passwd|password|passphrase|pwd|pass|secret|signature|credentials?|auth|key)|sig)=)"""
    r"""[^\s&;'"<>]{1,4000}"""
)
OPTIONS = re.compile(r"""(?i)([?&]options=)[^&'"\n]+""")
PEM = re.compile(
    r"(-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----)(.{0,20000}?)(?=-----END [A-Z0-9 ]*PRIVATE KEY-----)", re.DOTALL
)
CUT_PEM = re.compile(r"(-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----)((?:\r?\n[-+ ]?[ \t]*[A-Za-z0-9+/=]{16,}[ \t]*)+)")
FORMATS = re.compile(
    r"""(?x)(?<![A-Za-z0-9_])(?:
    gh[pousr]_[A-Za-z0-9]{10,} | github_pat_\w{10,} | glpat-[\w-]{10,}
    | sk-(?=[\w-]*\d)[A-Za-z0-9_-]{10,} | hf_(?=[A-Za-z]*\d)[A-Za-z0-9]{10,}
    | (?:AKIA|ASIA)[A-Z0-9]{12,} | xox[abeoprs]-[\w-]{10,} | AIza[\w-]{30,}
    | npm_(?=[A-Za-z]*\d)[A-Za-z0-9]{20,} | pypi-[\w-]{30,} | eyJ[\w-]{10,}\.eyJ[\w-]{5,}\.[\w-]+
    )"""
)


def is_secret(name: str) -> bool:
    """Is `name` (of a variable, a setting or an option) known as the name of a secret?"""
    name = re.split(r"\.", name.strip("-."))[-1]
    if name in NOT_SECRET:
        return False
    if name in SECRET or re.match(r"AWS_(SECRET|SESSION|SECURITY)_", name):
        return True
    words = [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name)]
    if not words:
        return False
    last = words[-1]
    before = words[-2] if len(words) > 1 else ""
    if last == "token":
        return before not in TEXT_TOKENS
    if last == "key":
        return before in KEYS or bool(re.fullmatch(r"[A-Z0-9_]+_KEY", name))
    if last == "pass":
        return bool(re.fullmatch(r"[A-Z0-9_]+_PASS", name)) or before in ("db", "smtp", "ftp", "user")
    return (
        last in WORDS or last.endswith(("password", "passwd", "apikey")) or (name.isupper() and last.endswith("token"))
    )


def mask(text: str) -> str:
    """`text` with every value that looks like a secret replaced by `***`. The number of lines stays the same."""
    text = PEM.sub(_masked_lines, text)
    text = CUT_PEM.sub(_masked_lines, text)
    text = HEADER.sub(rf"\1{MASK}", text)
    text = URL.sub(rf"\1\2:{MASK}@", text)
    text = URL_TOKEN.sub(rf"\1{MASK}@", text)
    text = OPTIONS.sub(rf"\1{MASK}", text)
    text = QUERY.sub(rf"\1{MASK}", text)
    text = _masked_assignments(text)
    text = FLAG.sub(_masked_flag, text)
    return FORMATS.sub(MASK, text)


def mask_words(words: Sequence[str]) -> list[str]:
    """A command's words, masked; of `--token VALUE` the value too."""
    found = []
    for index, word in enumerate(words):
        before = words[index - 1] if index else ""
        hidden = before.startswith("--") and "=" not in before and is_secret(before) and not word.startswith("--")
        found.append(MASK if hidden else mask(word))
    return found


def secret_lines(text: str) -> list[int]:
    """The numbers of the lines, from 1, that `mask` changes."""
    pairs = zip(text.split("\n"), mask(text).split("\n"), strict=True)
    return [number for number, (before, after) in enumerate(pairs, start=1) if before != after]


def _masked_assignments(text: str) -> str:
    parts, start = [], 0
    for match in ASSIGNED.finditer(text):
        if match.start() < start or not is_secret(match["name"]):
            continue
        value = VALUE.match(text, match.end())
        masked = _masked_value(match, value) if value else None
        if value and masked is not None:
            parts += [text[start : value.start()], masked]
            start = value.end()
    return "".join([*parts, text[start:]])


def _masked_value(assigned: re.Match[str], found: re.Match[str]) -> str | None:
    """The masked value of an assignment to a secret name; None if the value is code."""
    text, sign, value = assigned.string, assigned["sign"], found[0]
    quote = re.match(r"""[rbfu$]{0,2}(["'])""", value)
    hidden = f"{value[: quote.end()]}{MASK}{quote[1]}" if quote else MASK
    closing = _closing(text, found.start(), value, hidden)
    inside = value[quote.end() : -1] if quote else value.removesuffix(closing)
    if not re.search(r"[A-Za-z0-9]", inside) or PLAIN.match(inside):
        return None
    if quote:
        return hidden + closing
    if re.match(r"[A-Za-z_][\w.]*[(\[{]", value + text[found.end() : found.end() + 1]):  # a call, or an item
        return None
    if ":" in sign and "=" not in sign and re.search(r"\w $", text[max(0, assigned.start() - 2) : assigned.start()]):
        return None  # prose: "it may hold a password: read it from ..."
    name = assigned["name"].rsplit(".")[-1]
    if value in (name, name.lower()) or re.fullmatch(r"(self|args?|arguments|cls|config|os|settings)(\.\w+)+", value):
        return None
    spaced = sign.endswith((" ", "\t"))
    if "==" in sign or (spaced and re.fullmatch(r"[({\[].*|-?\d{1,3}|not|lambda", value)):
        return None
    return hidden + closing


def _closing(text: str, start: int, value: str, hidden: str) -> str:
    """The quotes that `value`, which begins at `start`, closes and `hidden` in its place would leave open.

    With them the brackets and commas at the end, which are not of the value either.
    """
    if not re.search("[\"']", value):
        return ""
    before = text[max(0, start - QUOTE_REACH) : start].rpartition("\n")[2]
    quotes = [q for q in sorted("\"'", key=value.rfind) if q in value and _is_open(before, q)]
    closing = "".join(quote for quote in quotes if _is_open(value, quote) != _is_open(hidden, quote))
    end = re.search(r"""["']([)\]},;]*)$""", value)
    return closing + end[1] if closing and end else closing


def _is_open(text: str, quote: str) -> bool:
    return re.sub(r"\\.", "", text).count(quote) % 2 == 1


def _masked_flag(match: re.Match[str]) -> str:
    value = match["value"]
    if not is_secret(match["name"]) or MASK in value:
        return match[0]
    return f"{match['name']}{match['sign']}{MASK}{_closing(match.string, match.start('value'), value, MASK)}"


def _masked_lines(match: re.Match[str]) -> str:
    """A private key: of each line only the sign of a diff is kept."""
    return match[1] + re.sub(r"(?m)^([-+ ]?)[^\n]*[A-Za-z0-9][^\n]*$", rf"\1{MASK}", match[2])
