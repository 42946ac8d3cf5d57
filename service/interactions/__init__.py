"""The domain: create, stream, get, cancel, delete, history."""
