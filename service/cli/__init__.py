"""The command line: to serve (`serve`, `emulator`, `migrate`), to read (`logs`, `show`, `chain`, `search`, `usage`),
to check (`reconcile`), to move (`export`, `import`), to ask again (`replay`), to let go (`retention`), and to set up
receivers (`webhook-secret`).

A configuration that cannot be used ends every command with one line on stderr and exit status 2.
"""

from __future__ import annotations

from service.cli.main import main

__all__ = ("main",)
