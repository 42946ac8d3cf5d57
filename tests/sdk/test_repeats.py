"""A create that is sent again under its key, in every form."""

from __future__ import annotations

import uuid

import pytest

from service import StatusError
from tests.support.sdk import Sdk


def test_a_create_is_carried_out_once_under_its_key(sdk: Sdk) -> None:
    key = uuid.uuid4().hex
    made = sdk.create("Once.", idempotency_key=key)
    assert sdk.create("Once.", idempotency_key=key).id == made.id
    assert sdk.create("Once.", idempotency_key=uuid.uuid4().hex).id != made.id
    with pytest.raises(StatusError):
        sdk.create("Something else.", idempotency_key=key)


def test_a_stream_is_carried_out_once_under_its_key(sdk: Sdk) -> None:
    key = uuid.uuid4().hex
    assert sdk.stream("Once.", idempotency_key=key) == sdk.stream("Once.", idempotency_key=key)
