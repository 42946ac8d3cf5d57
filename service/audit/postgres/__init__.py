"""How lists and searches are made on PostgreSQL."""
