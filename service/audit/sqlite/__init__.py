"""How lists and searches are made on SQLite."""
