"""`python -m service` is the `interactions` command."""

from __future__ import annotations

from service.cli import main

if __name__ == "__main__":
    main()
