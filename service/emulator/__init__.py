"""A faithful local Gemini Interactions API, with faults on demand and a clock that can be moved.

It behaves as Google's API does since the legacy schema was removed: strict about requests, deterministic in
its answers, forgetful after its retention time. Every answer carries `x-upstream: emulator`, so that nobody
takes it for Google's.

    app = create_emulator(EmulatorConfig(retention_seconds=86_400))
    app[CLOCK].advance(90_000)

The answer's text quotes every user turn the model saw. Whatever is out of the ordinary is asked for by the
request headers `x-emulator-fault` and `x-emulator-behavior` (`directives`), which a proxy must pass on, or
through the admin API (`admin`).
"""

from __future__ import annotations

from service.emulator.app import create_emulator
from service.emulator.clock import Clock
from service.emulator.config import EmulatorConfig
from service.emulator.keys import CLOCK

__all__ = ["CLOCK", "Clock", "EmulatorConfig", "create_emulator"]
