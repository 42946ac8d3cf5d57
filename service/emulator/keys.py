"""Where the parts of an emulator are found in its application."""

from __future__ import annotations

from aiohttp import web

from service.emulator.clock import Clock
from service.emulator.core import Emulator

#: The clock that tests move.
CLOCK: web.AppKey[Clock] = web.AppKey("emulator_clock", Clock)
EMULATOR: web.AppKey[Emulator] = web.AppKey("emulator", Emulator)
