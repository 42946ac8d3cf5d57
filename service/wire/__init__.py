"""The wire: pure functions on bytes and dicts, for both generations of the Interactions API.

Nothing here does I/O or keeps state between calls, except objects that a caller creates for one stream.
"""
