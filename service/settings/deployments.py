"""From `model_list` to deployments; entries for providers other than Gemini are skipped and reported."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from service.errors import ConfigurationError
from service.settings.keys import LITELLM_PARAMS, MODEL, MODEL_INFO, Keys
from service.settings.model import DAY, GOOGLE, DeploymentSettings
from service.settings.secret import Secret
from service.settings.section import Reading, Section
from service.settings.urls import parse_api_base
from service.settings.values import given, sequence

#: Names without a provider that are Google's; of any other bare name LiteLLM would ask another provider.
_FAMILIES = (
    "gemini-",
    "gemma-",
    "imagen-",
    "veo-",
    "lyria-",
    "learnlm-",
    "deep-research-",
    "antigravity-",
    "nano-banana-",
    "computer-use-",
)
#: The parameters of another provider are not ours to check.
_ANY = Keys(ours=frozenset(), free=True)
#: What the header can carry that a key is sent in.
_PLAIN = re.compile(r"[ -~]+")
#: What the ids of deployments begin with whose place the emulator takes: they are others than upstream's, so neither is
#: asked for what the other one has made.
EMULATED: Final = "emulator:"
#: What the emulator takes for a key; no word, because messages are told without keys.
EMULATOR_KEY: Final = "emulated-0"
_ALIAS = "name the alias that callers use"


@dataclass(frozen=True, slots=True)
class _Defaults:
    """What the environment gives to entries that do not say."""

    api_key: Secret | None
    api_base: str
    api_version: str
    emulator: bool


def read_deployments(
    reading: Reading, entries: object, *, emulator: bool
) -> tuple[tuple[DeploymentSettings, ...], Mapping[str, str]]:
    """The deployments, and the aliases of entries skipped because their provider is not Gemini, by dotted path.

    Raises `ConfigurationError` for an entry that cannot be used, two with one id, or when all were skipped.
    """
    if entries is None:
        return (), {}
    items = sequence("model_list", entries)
    defaults = _defaults(reading.environ, emulator=emulator)
    deployments: list[DeploymentSettings] = []
    places: dict[str, str] = {}
    skipped: dict[str, str] = {}
    seen: Counter[tuple[str, ...]] = Counter()
    for position, item in enumerate(items):
        path = f"model_list[{position}]"
        entry = Section(reading, path, item, MODEL)
        deployment = _read(entry, defaults, seen)
        if deployment is None:
            skipped[path] = _required(entry, "model_name", _ALIAS)
            continue
        if deployment.id in places:
            raise ConfigurationError(
                f"{path}.model_info.id: {deployment.id!r} is also the id of {places[deployment.id]}; "
                "give each its own"
            )
        places[deployment.id] = path
        deployments.append(deployment)
    if items and not deployments:
        raise ConfigurationError(
            "model_list: no entry is for Gemini; write at least one model as gemini/MODEL"
        )
    return tuple(deployments), skipped


def default_deployment(environ: Mapping[str, str], *, emulator: bool) -> DeploymentSettings | None:
    """What the environment's key serves without a `model_list`: any model, any agent; None without a key."""
    defaults = _defaults(environ, emulator=emulator)
    key = defaults.api_key or (Secret(EMULATOR_KEY) if emulator else None)
    if key is None:
        return None
    _check_key(key, "GOOGLE_API_KEY" if environ.get("GOOGLE_API_KEY") else "GEMINI_API_KEY")
    return DeploymentSettings(
        id="default",
        model_name="*",
        model="*",
        api_key=key,
        api_base=defaults.api_base,
        api_version=defaults.api_version,
    )


def _defaults(environ: Mapping[str, str], *, emulator: bool) -> _Defaults:
    key = (environ.get("GOOGLE_API_KEY") or environ.get("GEMINI_API_KEY") or "").strip()
    base, version = parse_api_base(environ.get("GEMINI_API_BASE") or GOOGLE, "GEMINI_API_BASE")
    return _Defaults(Secret(key) if key else None, base, version or "v1beta", emulator)


def _read(entry: Section, defaults: _Defaults, seen: Counter[tuple[str, ...]]) -> DeploymentSettings | None:
    name = _required(entry, "model_name", _ALIAS)
    model = _model(_child(entry, "litellm_params", _ANY))
    if model is None:
        return None
    params = _child(entry, "litellm_params", LITELLM_PARAMS)
    info = _child(entry, "model_info", MODEL_INFO)
    base, version = _endpoint(params, defaults)
    return DeploymentSettings(
        id=_id(info) or _derived_id((name, model, base, version, params.reference("api_key") or ""), seen),
        model_name=name,
        model=model,
        api_key=_api_key(params, defaults),
        api_base=base,
        api_version=version,
        timeout=params.seconds("timeout", above=0),
        stream_timeout=params.seconds("stream_timeout", above=0),
        stream_total_timeout=params.seconds("stream_total_timeout", above=0),
        connect_timeout=params.seconds("connect_timeout", above=0),
        first_byte_timeout=params.seconds("first_byte_timeout", above=0),
        rpm=params.integer("rpm") or None,
        tpm=params.integer("tpm") or None,
        weight=params.number("weight", least=0),
        order=given(params.integer("order"), 1),
        max_parallel_requests=params.integer("max_parallel_requests") or None,
        retention=given(params.seconds("retention", least=0), 55 * DAY),
        file_retention=given(params.seconds("file_retention", least=0), 2 * DAY),
        background_timeout=params.seconds("background_timeout", above=0),
        input_cost_per_token=_cost("input_cost_per_token", params, info),
        output_cost_per_token=_cost("output_cost_per_token", params, info),
    )


def _child(entry: Section, key: str, keys: Keys) -> Section:
    return Section(entry.reading, f"{entry.path}.{key}", entry.raw(key), keys)


def _model(params: Section) -> str | None:
    spelling = _required(params, "model", "write it as gemini/MODEL")
    model = _gemini_model(spelling, params.text("custom_llm_provider"))
    if model == "":
        raise ConfigurationError(f"{params.name('model')}: names no model; write it as gemini/MODEL")
    return model


def _gemini_model(spelling: str, provider: str | None) -> str | None:
    """Upstream's name of the model, or None when the entry is another provider's."""
    head, slash, tail = spelling.partition("/")
    if head == "gemini" and slash:
        return tail.removeprefix("models/") if provider in (None, "gemini") else None
    if provider is not None:
        return spelling.removeprefix("models/") if provider == "gemini" else None
    if head == "models" and slash:
        return tail
    return spelling if spelling == "*" or (not slash and spelling.startswith(_FAMILIES)) else None


def _endpoint(params: Section, defaults: _Defaults) -> tuple[str, str]:
    address = params.text("api_base")
    if address is None:
        return defaults.api_base, params.text("api_version") or defaults.api_version
    base, version = parse_api_base(address, params.name("api_base"))
    return base, params.text("api_version") or version or "v1beta"


def _api_key(params: Section, defaults: _Defaults) -> Secret:
    key = params.secret("api_key", unset=EMULATOR_KEY if defaults.emulator else None) or defaults.api_key
    if key is None and defaults.emulator:
        return Secret(EMULATOR_KEY)
    if key is None:
        raise ConfigurationError(
            f"{params.name('api_key')}: missing; write os.environ/GEMINI_API_KEY there, or set GEMINI_API_KEY"
        )
    _check_key(key, params.name("api_key"))
    return key


def _check_key(key: Secret, name: str) -> None:
    if not _PLAIN.fullmatch(key.reveal()):
        raise ConfigurationError(
            f"{name}: holds a line break or a character beyond ASCII, which no key has; copy the key again"
        )


def _id(info: Section) -> str | None:
    value = info.value("id")
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else info.text("id")
    if text is not None and text.startswith(EMULATED):
        raise ConfigurationError(
            f"{info.name('id')}: what begins with {EMULATED!r} is the built-in emulator's; choose another id"
        )
    return text


def _derived_id(content: tuple[str, ...], seen: Counter[tuple[str, ...]]) -> str:
    # Entries that differ in nothing but a key written in place are told apart by their order.
    seen[content] += 1
    digest = hashlib.sha256("\0".join((*content, str(seen[content]))).encode())
    return f"dep-{digest.hexdigest()[:12]}"


def _cost(key: str, params: Section, info: Section) -> float | None:
    return params.number(key, least=0) if params.raw(key) is not None else info.number(key, least=0)


def _required(section: Section, key: str, remedy: str) -> str:
    value = section.text(key)
    if value is None:
        raise ConfigurationError(f"{section.name(key)}: missing; {remedy}")
    return value
