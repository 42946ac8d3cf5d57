"""Logging: one line per record on stderr, `key=value` pairs, and no credentials in any of them.

Members given as `extra={...}` are appended as pairs of their own.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import UTC, datetime

from service.settings.secret import REDACTED

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}
_BARE = re.compile(r"[^\s\"=\\]+")
#: What a credential looks like, whoever let it slip into a message; the first group stays.
_CREDENTIALS = (
    re.compile(r"([?&]key=)[^&\s\"'\\]+", re.IGNORECASE),
    re.compile(r"(\bbearer\s+)[^\s\"',\\]+", re.IGNORECASE),
    re.compile(r"(\bx-(?:goog-)?api-key[\"']?\s*[:=,]\s*[\"']?)[^\s\"',\\]+", re.IGNORECASE),
    re.compile(r"(\b[a-z][a-z0-9+.-]*://[^\s:/@]*:)[^\s/@]+(?=@)", re.IGNORECASE),
    re.compile(r"()\bAIza[\w-]{20,}"),
    re.compile(r"()\bsk-[\w-]{4,}"),
)


class LineFormatter(logging.Formatter):
    """`time=... level=... logger=... message="..."`, then the record's own members, then the exception."""

    def format(self, record: logging.LogRecord) -> str:
        pairs = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        pairs |= {key: str(value) for key, value in vars(record).items() if key not in _STANDARD}
        if record.exc_info:
            pairs["exception"] = self.formatException(record.exc_info)
        return redact(" ".join(f"{key}={_quoted(value)}" for key, value in pairs.items()))


def configure(level: int = logging.INFO) -> None:
    """Send this service's records of ``level`` and above, and everybody's warnings, to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("service").setLevel(level)
    logging.captureWarnings(True)


def redact(text: str) -> str:
    """The text with whatever looks like a credential replaced."""
    for pattern in _CREDENTIALS:
        text = pattern.sub(rf"\g<1>{REDACTED}", text)
    return text


def _quoted(value: str) -> str:
    return value if _BARE.fullmatch(value) else json.dumps(value)
