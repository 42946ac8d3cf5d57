"""What an export is put together from: portions, each made of some interactions by itself, in whatever process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from service.audit.lines import Whole


@dataclass(frozen=True, slots=True)
class Portion:
    """Some interactions in a form: how many they are, the key of the last one, and their bytes."""

    count: int
    last: bytes
    data: bytes | memoryview


class Encoder(Protocol):
    """One export in some form."""

    content_type: str

    def portion(self, some: Sequence[Whole]) -> Portion:
        """Some interactions, at least one: in any process, and in any order."""

    def begin(self) -> bytes:
        """What comes before the first interaction."""

    def add(self, portion: Portion) -> bytes | memoryview:
        """What the next portion adds, in the order of the export; its bytes are not looked at afterwards."""

    def end(self) -> bytes:
        """What comes behind the last one."""
