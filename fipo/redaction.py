"""What opens a door stays in this process: the values of secret variables, and credentials of any known form.

Text leaves by few ways, and each passes `redact`: what is printed and logged (`guard_output`), the journal and through
it MLflow, artifacts, results, reports. Settings and addresses hold no credentials in the first place (`fipo.uris`,
`find_secret`).
"""

from __future__ import annotations

import html
import json
import logging
import os
import re
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import quote

_SECRET_NAME = re.compile(
    r"(?:^|_)(?:API|ACCESS|SECRET|PRIVATE|SIGNING)?_?(?:KEY|TOKEN|SECRET|CREDENTIALS?)(?:_|$)|PASSWORD|PASSWD|MYSQL_PWD",
    re.IGNORECASE,
)
_SHORTEST = 8
"""Characters of a value that is looked for: shorter ones stand in too many words."""
# A user and a password in an address, a part of its query, a header, and tokens that their makers gave a form.
_FORMS = re.compile(
    r"(?P<scheme>\b[A-Za-z][A-Za-z0-9+.-]*://)[^\s/?#@\"'<>\\]*:[^\s?#@\"'<>\\]*@"
    r"|(?P<query>[?&](?:X-Amz-(?:Signature|Credential|Security-Token)|sig|(?:access_?)?token|password|api_?key)=)"
    r"[^&\s\"'<>\\]+"
    r"|(?P<bearer>\bBearer\s+)[A-Za-z0-9._~+/=-]{8,}"
    r"|\bhf_[A-Za-z0-9]{30,}|\bgh[pousr]_[A-Za-z0-9]{30,}|\bsk-[A-Za-z0-9_-]{20,}|\bAKIA[0-9A-Z]{16}\b"
    r"|\bglpat-[A-Za-z0-9_-]{20,}|\bxox[abprs]-[A-Za-z0-9-]{10,}|\bAIza[A-Za-z0-9_-]{35}"
    r"|\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}",  # a JSON Web Token
    re.IGNORECASE,
)


def redact(text: str) -> str:
    """The text with a mark in place of each secret: `<AWS_SECRET_ACCESS_KEY>`, `<secret>`."""
    known = _known(_secrets())
    if known:
        pattern, names = known
        text = pattern.sub(lambda found: f"<{names[found[0]]}>", text)
    return _FORMS.sub(_mark, text) if "://" in text or _MAY_HOLD.search(text) else text


def find_secret(text: str) -> str:
    """What secret a text holds, addresses aside (`fipo.uris` looks at those); empty where it holds none."""
    known = _known(_secrets())
    if known and (found := known[0].search(text)):
        return f"the value of {known[1][found[0]]}"
    return "a token" if any(not (found["scheme"] or found["query"]) for found in _FORMS.finditer(text)) else ""


def guard_output() -> None:
    """From now on all that this process prints, logs, and says of its exceptions passes `redact`."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and not isinstance(stream, _Redacting):
            setattr(sys, name, _Redacting(stream))
    if logging.getLogRecordFactory() is not _record:
        logging.setLogRecordFactory(_record)


_MAY_HOLD = re.compile(r"Bearer|hf_|gh[pousr]_|sk-|AKIA|glpat-|xox[abprs]-|AIza|eyJ|[?&]", re.IGNORECASE)


class _Redacting:
    """A stream whose text passes `redact`; all else is the stream's own."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(redact(text))
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _record(*arguments: Any, **more: Any) -> logging.LogRecord:
    """Handlers keep streams of their own: what they format is clean already."""
    record = logging.LogRecord(*arguments, **more)
    try:
        message = record.getMessage()
    except (TypeError, ValueError):  # logging says so where it is formatted
        return record
    if (clean := redact(message)) != message:
        record.msg, record.args = clean, ()
    if record.exc_info:  # formatters take this text where it is there
        record.exc_text = redact(logging.Formatter().formatException(record.exc_info))
    return record


def _secrets() -> Mapping[str, str]:
    """Secret variables of the environment; a value that is a path names a file, and is none."""
    return {
        name: value
        for name, value in os.environ.items()
        if len(value) >= _SHORTEST and _SECRET_NAME.search(name) and not _is_path(value)
    }


@cache
def _is_path(value: str) -> bool:
    return value.startswith(("/", "~", ".")) and len(value) < 4096 and Path(value).expanduser().exists()


def _known(secrets: Mapping[str, str]) -> tuple[re.Pattern[str], Mapping[str, str]] | None:
    return _pattern(tuple(sorted(secrets.items()))) if secrets else None


@cache
def _pattern(secrets: tuple[tuple[str, str], ...]) -> tuple[re.Pattern[str], Mapping[str, str]]:
    """Each value as it is, and as JSON, a page and an address write it; the longest first."""
    names = {
        form: name
        for name, value in secrets
        for form in (value, json.dumps(value)[1:-1], html.escape(value), quote(value, safe=""))
    }
    longest = sorted(names, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest))), names


def _mark(found: re.Match[str]) -> str:
    if found["scheme"]:
        return f"{found['scheme']}<secret>@"
    return f"{found['query'] or found['bearer'] or ''}<secret>"
