"""Signatures and ids that look like upstream's and can be recognised again.

A signature is base64 of a payload and a checksum of it. Whoever edits, re-encodes or invents one is found
out, which is all that upstream promises about them (contract 5.5). They are not bound to a model or a key: a
conversation may change both and must still send the old thoughts.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import string

#: Stands in for the signature of a history that never had one (contract 5.5).
SKIP = "skip_thought_signature_validator"

_PAYLOAD = 48
_CHECK = 16
_PERSON = b"emulator"
_ALPHABET = string.ascii_lowercase + string.digits


def digest(*parts: bytes, size: int = 16) -> bytes:
    """A short fingerprint of `parts`, the root of everything that must be deterministic."""
    state = hashlib.blake2b(digest_size=size, person=_PERSON)
    for part in parts:
        state.update(part)
    return state.digest()


def sign(*parts: bytes) -> str:
    """The signature that belongs to `parts`."""
    payload = digest(*parts, size=_PAYLOAD)
    return base64.b64encode(payload + digest(payload, size=_CHECK)).decode()


def genuine(signature: str) -> bool:
    """Whether `signature` is one that `sign` made, unchanged."""
    try:
        raw = base64.b64decode(signature, validate=True)
    except (binascii.Error, ValueError):
        return False
    return len(raw) == _PAYLOAD + _CHECK and raw[_PAYLOAD:] == digest(raw[:_PAYLOAD], size=_CHECK)


def call_id(*parts: bytes) -> str:
    """An id for a call step, in the form of `mkutnkgn`."""
    return "".join(_ALPHABET[byte % len(_ALPHABET)] for byte in digest(*parts, size=8))


def interaction_id() -> str:
    """A new id: `v1_` and base64url of a message that holds one 23-character token twice (contract 3.3)."""
    token = base64.urlsafe_b64encode(os.urandom(17)).rstrip(b"=")
    message = b"\x0a\x17" + token + b"\x12\x17" + token
    return "v1_" + base64.urlsafe_b64encode(message).rstrip(b"=").decode()


def continuation_token() -> str:
    """A new opaque token for a decode that goes on in another request (contract 4.7)."""
    return base64.urlsafe_b64encode(os.urandom(24)).decode()
