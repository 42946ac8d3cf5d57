"""The document itself."""

from __future__ import annotations

from service import __version__
from service.api.description import upkeep
from service.api.description.operations import paths
from service.api.description.parts import Json, ref
from service.api.description.schemas import SCHEMAS


def document() -> Json:
    """The description of every route, as OpenAPI 3.1."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Interactions Service",
            "version": __version__,
            "description": "A durable gateway for the Gemini Interactions API, and what it keeps.",
        },
        "security": [{"bearer": []}, {"google": []}, {"key": []}, {"query": []}],
        "paths": paths(),
        "components": {
            "schemas": SCHEMAS | upkeep.SCHEMAS,
            "responses": {
                "Error": {
                    "description": "It is not done, and why (Google's error shape).",
                    "content": {"application/json": {"schema": ref("Error")}},
                }
            },
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "google": {"type": "apiKey", "in": "header", "name": "x-goog-api-key"},
                "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
                "query": {"type": "apiKey", "in": "query", "name": "key"},
            },
        },
    }
