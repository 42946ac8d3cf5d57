"""The Interactions Service: a durable gateway for the Gemini Interactions API."""

__version__ = "0.1.0"
