"""What an interaction costs: a deployment's own price, or Google's list price of that day and service tier.

List prices are the data of the ``genai-prices`` package, as installed: nothing is fetched. A price that is not known is
None and never 0, and so is that of a tier for which the data have none.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from functools import lru_cache
from typing import Any, Final

from service.audit.measures import TOLD, Modalities, modalities_of
from service.settings import DeploymentSettings, Settings
from service.store.replays import Figures
from service.wire.model_names import bare_name

_PROVIDER: Final = "google"
_STANDARD: Final = "standard"
_HOUR: Final = 3_600_000_000
_NANOS: Final = Decimal(1_000_000_000)
_MILLION: Final = Decimal(1_000_000)
#: Dollars for a token of input, and for one of output.
OwnPrice = tuple[float, float]
#: What :class:`Prices` are made of.
Told = tuple[Mapping[str, OwnPrice], Sequence[str] | None]
_TEXT_ALONE: Final = frozenset({"text"})
#: What the data call the modalities of which they may have prices.
_MODALITIES: Final = ("audio", "image", "video")
_MOST_NANOS: Final = 2**62


@dataclass(frozen=True, slots=True)
class _Price:
    """A model's prices; ``a_token`` is what one of input and one of output cost, where only their number matters."""

    whole: Any
    a_token: tuple[Decimal, Decimal] | None


class Prices:
    """Prices interactions; ``own`` has the prices of deployments that have prices of their own, by their ids.

    ``known`` are the deployments of which that can be told, or None for all: others may have prices that are not known
    here, and theirs are None.
    """

    def __init__(self, own: Mapping[str, OwnPrice], known: Collection[str] | None = None) -> None:
        self._own = own
        self._known = known

    @classmethod
    def of(cls, settings: Settings, *, for_all: bool = True) -> Prices:
        """By a configuration: ``for_all``, whatever has no price of its own there has the list's."""
        deployments = [*settings.deployments]
        if settings.default_deployment is not None:
            deployments.append(settings.default_deployment)
        own = {one.id: price for one in deployments if (price := _own_price(one)) is not None}
        return cls(own, None if for_all else [one.id for one in deployments])

    def told(self) -> Told:
        """What to make the same of in another process."""
        return self._own, None if self._known is None else list(self._known)

    def of_figures(self, figures: Figures, usage: dict[str, Any]) -> int | None:
        """The same for an interaction whose row is known in part, with its ``usage`` (contract 3.5)."""
        return self.nanos(figures._asdict(), modalities_of(usage))

    def of_row(self, it: Mapping[str, Any], modalities: Modalities) -> int | None:
        """The same; what has a price already keeps it: it may have been made where other prices hold."""
        recorded: int | None = it["cost_nanos"]
        return self.nanos(it, modalities) if recorded is None else recorded

    def nanos(self, it: Mapping[str, Any], modalities: Modalities) -> int | None:
        """Billionths of a dollar for an interaction with the columns of its row; None when that is not known."""
        if it["usage_state"] not in TOLD:
            return None
        if self._known is not None and it["deployment_id"] not in self._known:
            return None
        own = self._own.get(it["deployment_id"])
        price = _list_price(it, modalities) if own is None else _by_own(own, it)
        if price is None:
            return None
        nanos = int((price * _NANOS).to_integral_value(ROUND_HALF_EVEN))
        return nanos if 0 <= nanos < _MOST_NANOS else None


def _own_price(deployment: DeploymentSettings) -> OwnPrice | None:
    """The deployment's prices a token, which must be given for input and output alike."""
    asked, made = deployment.input_cost_per_token, deployment.output_cost_per_token
    return None if asked is None or made is None else (asked, made)


def _by_own(own: OwnPrice, it: Mapping[str, Any]) -> Decimal:
    asked, made = own
    return Decimal(repr(asked)) * _input(it) + Decimal(repr(made)) * _output(it)


def _input(it: Mapping[str, Any]) -> int:
    """Tokens that are billed as input: what tools brought is."""
    return (it["input_tokens"] or 0) + (it["tool_use_tokens"] or 0)


def _output(it: Mapping[str, Any]) -> int:
    """Tokens that are billed as output: thoughts are."""
    return (it["output_tokens"] or 0) + (it["thought_tokens"] or 0)


def _list_price(it: Mapping[str, Any], modalities: Modalities) -> Decimal | None:
    name = it["model"] or it["model_requested"]
    if not name:
        return None
    price = _price_of(name, it["created_at"] // _HOUR, it["service_tier"] or _STANDARD)
    if price is None:
        return None
    if price.a_token is not None and _is_plain(it, modalities):
        asked, made = price.a_token
        return asked * _input(it) + made * _output(it)
    from genai_prices import Usage

    try:
        total: Decimal = price.whole.calc_price(Usage(**_usage(it, modalities)))["total_price"]
    except (ValueError, TypeError):
        # Counts that contradict each other.
        return None
    return total


@lru_cache(maxsize=1_024)
def _price_of(name: str, hour: int, tier: str) -> _Price | None:
    """The prices of a model in an hour since the epoch and a tier; None when they are not known."""
    # Reading the data takes a third of a second, which no start should wait for.
    from genai_prices import data_snapshot

    moment = datetime.fromtimestamp(hour * 3_600, UTC)
    try:
        _, model = data_snapshot.get_snapshot().find_provider_model(bare_name(name), None, _PROVIDER, None)
    except (LookupError, ValueError):
        return None
    context = None if tier == _STANDARD else {"service_tier": tier}
    if context is not None and not _has_tier(model, tier, moment):
        return None
    price = model.get_prices(moment, context)
    known = any(value is not None for value in vars(price).values())
    return _Price(price, _a_token(price)) if known else None


def _a_token(price: Any) -> tuple[Decimal, Decimal] | None:
    told = vars(price)
    asked, made = told.get("input_mtok"), told.get("output_mtok")
    if not isinstance(asked, Decimal) or not isinstance(made, Decimal):
        return None
    if told.get("requests_kcount") is not None:
        return None
    return asked / _MILLION, made / _MILLION


def _is_plain(it: Mapping[str, Any], modalities: Modalities) -> bool:
    """Whether all tokens are text, none was cached, and nothing was searched."""
    return not it["cached_tokens"] and all(
        kind != "grounding" and counts.keys() <= _TEXT_ALONE for kind, counts in modalities.items()
    )


def _has_tier(model: Any, tier: str, moment: datetime) -> bool:
    return any(
        variant.when.get("service_tier") == tier
        and (variant.constraint is None or variant.constraint.active(moment))
        for variant in model.price_variants or ()
    )


def _usage(it: Mapping[str, Any], modalities: Modalities) -> dict[str, int]:
    asked, made = modalities.get("input", {}), modalities.get("output", {})
    cached, searches = modalities.get("cached", {}), modalities.get("grounding", {})
    counts = {
        "input_tokens": _input(it),
        "output_tokens": _output(it),
        "cache_read_tokens": it["cached_tokens"] or 0,
        "web_searches": searches.get("google_search", 0),
    }
    for modality in _MODALITIES:
        counts[f"input_{modality}_tokens"] = asked.get(modality, 0)
        counts[f"output_{modality}_tokens"] = made.get(modality, 0)
        counts[f"cache_{modality}_read_tokens"] = cached.get(modality, 0)
    # Zeros are said as well: where two counts overlap, the data want to know by how much.
    return counts
