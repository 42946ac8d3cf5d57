"""The command line: to serve (`serve`, `emulator`, `migrate`), to read (`logs`, `show`, `chain`, `search`, `usage`),
to check (`reconcile`), to move (`export`, `import`), to ask again (`replay`), and to let go (`retention`).

A configuration that cannot be used ends every command with one line on stderr and exit status 2.
"""

from __future__ import annotations

from service.cli.main import main

__all__ = ("main",)
