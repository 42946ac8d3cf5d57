"""Small real media, for models that answer with more than text (contract 2.5 and 5.2)."""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Callable
from functools import lru_cache
from typing import Any

Content = dict[str, Any]

_JPEG = (
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDACgcHiMeGSgjISMtKygwPGRBPDc3PHtYXUlkkYCZlo+AjIqgtObDoKrarYqMyP/L2u71////m8H/"
    "///6/+b9//j/wAALCAAIAAgBAREA/8QAFAABAAAAAAAAAAAAAAAAAAAABP/EABQQAQAAAAAAAAAAAAAAAAAAAAD/2gAIAQEAAD8AU//Z"
)
_SAMPLE_RATE = 24_000
_TONE_HERTZ = 440
_TONE_SECONDS = 0.05
_PAGE = b"""%PDF-1.4
1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj
2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj
3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 72 72]>>endobj
trailer<</Root 1 0 R>>
%%EOF
"""


def image(_wanted: Content) -> Content:
    """A grey picture of 8 by 8."""
    return {"type": "image", "mime_type": "image/jpeg", "data": _JPEG}


def audio(wanted: Content) -> Content:
    """A twentieth of a second of a tone, 16 bit linear."""
    rate = wanted.get("sample_rate") or _SAMPLE_RATE
    return {
        "type": "audio",
        "mime_type": "audio/l16",
        "data": _tone(rate),
        "sample_rate": rate,
        "channels": 1,
    }


def video(_wanted: Content) -> Content:
    """A film without a track."""
    return {"type": "video", "mime_type": "video/mp4", "data": _film()}


def document(_wanted: Content) -> Content:
    """An empty page."""
    return {"type": "document", "mime_type": "application/pdf", "data": base64.b64encode(_PAGE).decode()}


#: How to make each kind of media, given its `response_format`.
MAKERS: dict[str, Callable[[Content], Content]] = {
    "image": image,
    "audio": audio,
    "video": video,
    "document": document,
}


@lru_cache(maxsize=8)
def _tone(rate: int) -> str:
    count = int(rate * _TONE_SECONDS)
    samples = (int(8000 * math.sin(2 * math.pi * _TONE_HERTZ * index / rate)) for index in range(count))
    return base64.b64encode(struct.pack(f">{count}h", *samples)).decode()


@lru_cache(maxsize=1)
def _film() -> str:
    unity = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
    header = struct.pack(">5IHH8x", 0, 0, 0, 1000, 0, 1, 0x100) + unity + bytes(24) + struct.pack(">I", 1)
    boxes = _box(b"ftyp", b"isom\0\0\0\1isommp42") + _box(b"moov", _box(b"mvhd", header))
    return base64.b64encode(boxes).decode()


def _box(kind: bytes, payload: bytes) -> bytes:
    return struct.pack(">I", 8 + len(payload)) + kind + payload
