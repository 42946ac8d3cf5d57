"""Tells the receivers that a client named of the outcome of its background interactions."""
