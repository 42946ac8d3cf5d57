"""The command line: `interactions serve`, `interactions emulator`, `interactions migrate`,
`interactions reconcile`.

A configuration that cannot be used ends every command with one line on stderr and exit status 2.
"""

from __future__ import annotations

from service.cli.main import main

__all__ = ("main",)
