"""The system of record: tables, the group-commit writer, reads. Knows SQL and nothing of HTTP."""
