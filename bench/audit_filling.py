"""Fills databases with interactions of many kinds, and with everything that is derived from them.

What is common, what is rare and what is nearly unique is there of every member that can be asked for: one model in
fifty thousand interactions, labels with a value for each of ten thousand users, costs over six orders of magnitude.
"""

from __future__ import annotations

import random
import uuid
from collections import defaultdict
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import orjson

from bench.filling import DAYS, Filling, PostgresFilling, SqliteFilling, key_at
from service.audit import derivation, measures, series, terms
from service.audit.derivation import Derived, Place
from service.audit.folding import words_of
from service.audit.gathering import COLUMNS
from service.audit.measures import Measures
from service.audit.splitting import FEWEST
from service.audit.sqlite.documents import number_of
from service.audit.summaries import TOKENS
from service.store.aliases import by_hash
from service.store.codec import Codec
from service.store.records import USAGE_FINAL, USAGE_NONE, now
from service.store.tables import DEFAULT_PROJECT, REQUEST_PAYLOAD, RESPONSE_PAYLOAD, rollups
from service.store.tables import series as series_table

_CHUNK = 20_000
_BODIES = 2_000
_OFTEN = ("committee", "proposal", "committed")
_MODELS = ("gemini-2.5-flash", "gemini-2.5-pro", "gemini-3.5-flash", "gemini-3.6-flash", "gemini-rare")
_WEIGHTS = list(accumulate((60.0, 20.0, 15.0, 5.0, 0.002)))
_TEAMS = ("search", "ads", "maps", "support")
_ROW = (
    *COLUMNS,
    "previous_id",
    "root_id",
    "revision",
    "updated_at",
    "upstream_id",
    "upstream_id_hash",
    "upstream_stored",
)

Row = dict[str, Any]


class AuditFilling:
    """Makes interactions of which every part is drawn from one source of chance."""

    def __init__(self, source: random.Random) -> None:
        self._source = source
        self._keys = [uuid.UUID(int=source.getrandbits(128)).bytes for _ in range(20)]
        self._vocabulary = [_word(source) for _ in range(20_000)]
        self._vocabulary_weights = list(accumulate(1 / (rank + 5) for rank in range(20_000)))
        self._texts = [(self._text(160), self._text(300)) for _ in range(_BODIES)]
        self._place_sought_words()
        self._packed = self._bodies()
        self._rollups: dict[Place, Measures] = defaultdict(Measures)
        self._series: dict[bytes, series.Series] = {}
        #: The series of all grains for each that tells everything.
        self._grains: dict[bytes, list[bytes]] = {}
        self._recent: list[Row] = []
        #: Words that follow one another in some of the texts.
        self.phrase = " ".join(self._texts[7][1].split()[5:8])

    def _text(self, count: int) -> str:
        words = self._source.choices(self._vocabulary, cum_weights=self._vocabulary_weights, k=count)
        return " ".join(words)

    def _place_sought_words(self) -> None:
        """``zebra`` in one text of two thousand, ``xylophone`` in two, words with ``commit`` in a fifth."""
        for place, word in ((11, "zebra"), (12, "xylophone"), (13, "xylophone")):
            asked, answered = self._texts[place]
            self._texts[place] = (f"{asked} {word}", answered)
        for place in range(0, _BODIES, 5):
            asked, answered = self._texts[place]
            self._texts[place] = (asked, f"{answered} {_OFTEN[place // 5 % 3]}")

    def _bodies(self) -> list[tuple[tuple[int, int, bytes], tuple[int, int, bytes]]]:
        asked = [orjson.dumps({"model": "gemini-2.5-flash", "input": text}) for text, _ in self._texts]
        answered = [orjson.dumps(_answer(text)) for _, text in self._texts]
        packing = Codec()
        return list(zip(packing.pack(asked), packing.pack(answered), strict=True))

    async def fill(self, fillings: Sequence[Filling], count: int) -> None:
        """Put so many interactions, and what is derived from them, into all databases alike."""
        last = now() - 3_600_000_000
        first = last - (DAYS - 1) * 86_400_000_000
        for filling in fillings:
            if isinstance(filling, PostgresFilling):
                await self._give_texts(filling)
        for start in range(0, count, _CHUNK):
            rows = [
                self._row(first + (last - first) * number // count)
                for number in range(start, min(count, start + _CHUNK))
            ]
            texts = [self._source.randrange(_BODIES) for _ in rows]
            found = sorted((term, row["id"]) for row in rows for term in terms.of_row(row))
            for filling in fillings:
                await self._put(filling, rows, texts, found)
            for row in rows:
                self._count(row)
            await self._put_rollups(fillings, before=rows[-1]["created_at"])
        await self._put_rollups(fillings, before=2**62)
        await self._finish(fillings)

    async def _put(
        self, filling: Filling, rows: list[Row], texts: list[int], found: list[tuple[int, bytes]]
    ) -> None:
        await filling.put("interactions", _ROW, [tuple(row[name] for name in _ROW) for row in rows])
        payloads = [
            (row["id"], kind, *self._packed[text][kind - 1])
            for row, text in zip(rows, texts, strict=True)
            for kind in (REQUEST_PAYLOAD, RESPONSE_PAYLOAD)
        ]
        await filling.put("payloads", ("interaction_id", "kind", "codec", "size", "body"), payloads)
        await filling.put("listing_terms", ("term", "interaction_id"), found)
        if isinstance(filling, SqliteFilling):
            documents = [
                (number_of(row["id"]), row["id"], *self._texts[text])
                for row, text in zip(rows, texts, strict=True)
            ]
            await filling.put("search_documents", ("number", "interaction_id", "input", "output"), documents)
        elif isinstance(filling, PostgresFilling):
            chosen = [(row["id"], text) for row, text in zip(rows, texts, strict=True)]
            await filling.put("bench_chosen", ("interaction_id", "place"), chosen)
            await filling.execute(
                "INSERT INTO search_documents SELECT interaction_id, input, output, vector "
                "FROM bench_chosen JOIN bench_texts USING (place)"
            )
            await filling.execute("TRUNCATE bench_chosen")

    async def _give_texts(self, filling: PostgresFilling) -> None:
        await filling.execute("CREATE TABLE bench_texts (place int, input text, output text, words text)")
        await filling.execute("CREATE TABLE bench_chosen (interaction_id uuid, place int)")
        texts = [
            (place, asked, answered, words_of(f"{asked} {answered}"))
            for place, (asked, answered) in enumerate(self._texts)
        ]
        await filling.put("bench_texts", ("place", "input", "output", "words"), texts)
        await filling.execute("ALTER TABLE bench_texts ADD vector tsvector")
        await filling.execute("UPDATE bench_texts SET vector = to_tsvector('simple', words)")

    async def _put_rollups(self, fillings: Sequence[Filling], *, before: int) -> None:
        """Write the roll-ups that end before a moment; nothing will be added to them."""
        names = [column.name for column in rollups.c]
        whole = sorted(place for place in self._rollups if place[2] + place[3] <= before)
        sums = []
        for place in whole:
            told = {**dict(zip(names[:5], place, strict=True)), **self._rollups.pop(place).columns()}
            sums.append(tuple(told[name] for name in names))
        hours = sorted({(place[0], place[3]) for place in whole if place[1:3] == (FEWEST, derivation.HOUR)})
        for filling in fillings:
            await filling.put("rollups", names, sums)
            await filling.put("split_hours", ("project_id", "start"), hours)

    async def _finish(self, fillings: Sequence[Filling]) -> None:
        named = [column.name for column in series_table.c]
        known = [
            (digest, *(getattr(one, name) for name in named[1:])) for digest, one in self._series.items()
        ]
        for filling in fillings:
            await filling.put("series", named, known)
            if isinstance(filling, PostgresFilling):
                await filling.execute("DROP TABLE bench_texts, bench_chosen")
            await filling.finish()

    def _row(self, moment: int) -> Row:
        source = self._source
        key = key_at(moment, source)
        model = source.choices(_MODELS, cum_weights=_WEIGHTS)[0]
        parent = source.choice(self._recent) if self._recent and source.random() < 0.5 else None
        failed = source.random() < 0.01
        agent = "deep-research" if source.random() < 0.0005 else None
        upstream_id = f"v1_{source.getrandbits(160):040x}"
        row: Row = {
            "id": key,
            "project_id": DEFAULT_PROJECT,
            "key_id": source.choice(self._keys),
            "replay_of": key if source.random() < 0.0002 else None,
            "created_at": moment,
            "deleted_at": None,
            "stream": source.random() < 0.4,
            "background": source.random() < 0.002,
            "store": source.random() > 0.001,
            "model_requested": model if agent is None else None,
            "model": None if failed or agent else model,
            "agent": agent,
            "labels": self._labels(),
            "deployment_id": f"dep-{source.randrange(4)}",
            "status": "failed" if failed else "completed",
            "service_tier": None if failed else source.choices(("standard", "flex"), (99, 1))[0],
            "http_status": source.choice((429, 500)) if failed else 200,
            "error_code": source.choice(("rate_limit_exceeded", "api_error")) if failed else None,
            "attempts": None,
            "derived_state": derivation.WHOLE,
            "request_bytes": int(source.lognormvariate(7, 1.4)),
            "response_bytes": None if failed else int(source.lognormvariate(7.6, 1.1)),
            "previous_id": None if parent is None else parent["id"],
            "root_id": None if parent is None else parent["root_id"] or parent["id"],
            "depth": 0 if parent is None else parent["depth"] + 1,
            "revision": 1,
            "upstream_id": upstream_id,
            "upstream_id_hash": by_hash(upstream_id),
            "upstream_stored": True,
            **self._usage(failed=failed),
        }
        self._end(row, moment)
        self._recent = [*self._recent[-99:], row]
        return row

    def _labels(self) -> str | None:
        source = self._source
        labels = {"team": source.choice(_TEAMS)} if source.random() < 0.7 else {}
        if source.random() < 0.02:
            labels["user"] = f"user-{source.randrange(10_000)}"
        return orjson.dumps(dict(sorted(labels.items()))).decode() if labels else None

    def _usage(self, *, failed: bool) -> Row:
        if failed:
            return {"usage_state": USAGE_NONE, "usage_detail": None} | dict.fromkeys(TOKENS)
        asked, made = (int(self._source.lognormvariate(6, 1.3)) + 1 for _ in range(2))
        listed = [{"modality": "text", "tokens": asked}]
        return {
            "usage_state": USAGE_FINAL,
            "usage_detail": orjson.dumps({"input_tokens_by_modality": listed}).decode(),
            "input_tokens": asked,
            "output_tokens": made,
            "thought_tokens": made // 2,
            "cached_tokens": asked // 2 if self._source.random() < 0.0001 else 0,
            "tool_use_tokens": made // 2 if self._source.random() < 0.0001 else 0,
            "total_tokens": asked + made + made // 2,
        }

    def _end(self, row: Row, moment: int) -> None:
        first = moment + int(self._source.lognormvariate(12.5, 0.8))
        row["first_byte_at"] = first
        row["completed_at"] = row["updated_at"] = first + int(self._source.lognormvariate(14, 1))
        row["cost_nanos"] = self._cost(row)
        one = series.of_row(row)
        digest = row["series_id"] = one.digest()
        if digest not in self._grains:
            known = series.all_grains(one)
            self._grains[digest] = list(known)
            self._series |= known

    def _cost(self, row: Row) -> int | None:
        """A price of the right size: to ask for the true one takes longer than all else here."""
        if row["usage_state"] != USAGE_FINAL or row["model"] in (None, "gemini-rare"):
            return None
        cost: int = 300 * row["input_tokens"] + 2_500 * (row["output_tokens"] + row["thought_tokens"])
        return cost

    def _count(self, row: Row) -> None:
        modalities = {"input": {"text": row["input_tokens"]}} if row["usage_state"] == USAGE_FINAL else {}
        item = Derived(
            id=row["id"],
            project_id=DEFAULT_PROJECT,
            old_state=0,
            old_usage_state=row["usage_state"],
            state=derivation.WHOLE,
            series={digest: self._series[digest] for digest in self._grains[row["series_id"]]},
            cost_nanos=row["cost_nanos"],
            usage_detail=None,
            terms=frozenset(),
            document=None,
            measures=measures.of_outcome(row, modalities),
        )
        assert item.measures is not None
        for place in item.places():
            self._rollups[place].add(item.measures)


def _word(source: random.Random) -> str:
    return "".join(source.choices("abcdefghijklmnoprstuvwy", k=source.randrange(3, 10)))


def _answer(text: str) -> dict[str, Any]:
    step = {"type": "model_output", "content": [{"type": "text", "text": text}]}
    return {"status": "completed", "steps": [step]}
