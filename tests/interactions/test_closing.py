from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from service.interactions.closing import Closing
from service.wire.assembler import Assembler
from tests.interactions.test_odd_resumptions import OPENING, REST, WHOLE


def test_upstreams_word_on_what_has_been_assembled_to_its_end_is_the_end() -> None:
    assembler = Assembler()
    for event in [*OPENING, *REST]:
        assembler.feed(event)
    job = SimpleNamespace(call=SimpleNamespace(envelope=SimpleNamespace(body={})), told=str)
    made: Any = (job, None, None, SimpleNamespace(assembler=assembler))
    last = Closing(*made).by_word(WHOLE)
    assert (last.before, last.broken) == ((), False)
    assert last.event.body["event_type"] == "interaction.completed"
    assert (last.whole["status"], last.whole["steps"]) == ("completed", WHOLE["steps"])
