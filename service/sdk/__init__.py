"""The Python SDK: the same calls with a service that runs elsewhere and with one inside this process.

Its names are imported from :mod:`service`, which loads them when they are first used.
"""
