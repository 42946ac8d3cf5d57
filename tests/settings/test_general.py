from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from service.errors import ConfigurationError
from service.settings import load
from service.settings.keys import GENERAL_SETTINGS


@pytest.mark.parametrize("key", sorted(GENERAL_SETTINGS.ours))
def test_a_value_that_cannot_be_is_refused_by_the_name_of_its_key(tmp_path: Path, key: str) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump({"general_settings": {key: {"never": ["meant"]}}}))
    with pytest.raises(ConfigurationError, match=rf"^general_settings\.{key}\b"):
        load(str(config), {"GEMINI_API_KEY": "key"})
