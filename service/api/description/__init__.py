"""The description of this service's HTTP surface: OpenAPI 3.1, kept by hand, checked against the routes by a test."""

from service.api.description.document import document

__all__ = ("document",)
