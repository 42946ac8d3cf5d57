from tests.interactions.conftest import *
from tests.interactions.test_background import *
import service.store.writer as w
orig = w._batch
async def test_dbg(gateway, upstream):
    def b(entries):
        print("BATCH", [(wr[0].name, wr[1][0][-3:].hex(), wr[1][4] if wr[0].name.startswith("finish") else len(wr[1][1]) if wr[0].packs else "") for e in entries for wr in e.writes])
        return orig(entries)
    w._batch = b
    try:
        await test_a_late_answer_to_a_poll_does_not_undo_the_end(gateway, upstream)
    finally:
        w._batch = orig
