"""The mark of an ``error`` event with which the service ends what upstream has lost (contract 4.8).

Upstream may declare an error itself, and its stream ends properly behind that: the same event in the same words. So a
loss bears a comment, which clients skip (WHATWG HTML 9.2.6), and whoever tells it from the log knows it for one.
"""

from __future__ import annotations

from typing import Final

_ERROR: Final = b"event: error\n"
_LOSS: Final = _ERROR + b": lost\n"


def marked(frame: bytes) -> bytes:
    """An event's block as a loss; any other than an ``error`` as it is."""
    return _LOSS + frame.removeprefix(_ERROR) if frame.startswith(_ERROR) else frame


def is_loss(frame: bytes) -> bool:
    """Whether an event's block is marked as a loss."""
    return frame.startswith(_LOSS)
