"""Creating and reading interactions."""

from __future__ import annotations

import base64

import orjson

from tests.emulator.client import MODEL, Start, Upstream, step_types, streamed_text, text_of


async def test_an_answer_has_the_members_of_the_contract(upstream: Upstream) -> None:
    answer = await upstream.create("Hello")
    assert answer["object"] == "interaction"
    assert answer["status"] == "completed"
    assert answer["model"] == MODEL
    assert answer["service_tier"] == "standard"
    assert answer["created"] == answer["updated"]
    assert answer["created"].endswith("Z")
    assert "previous_interaction_id" not in answer


async def test_an_id_holds_one_token_twice(upstream: Upstream) -> None:
    name = (await upstream.create())["id"]
    assert name.startswith("v1_")
    raw = base64.urlsafe_b64decode(name[3:] + "==")
    assert (raw[:2], raw[25:27]) == (b"\x0a\x17", b"\x12\x17")
    assert raw[2:25] == raw[27:]


async def test_both_versions_of_the_path_serve_the_same_interactions(upstream: Upstream) -> None:
    answer = await (await upstream.post({"model": MODEL, "input": "Hi"}, path="/v1beta/interactions")).json()
    assert (await upstream.get(answer["id"]))["id"] == answer["id"]


async def test_every_answer_says_where_it_comes_from(upstream: Upstream) -> None:
    for response in (
        await upstream.post({"model": MODEL, "input": "Hi"}),
        await upstream.post({"model": MODEL, "input": "Hi", "stream": True}),
        await upstream.post({}),
        await upstream.session.get("/v1/interactions/nothing"),
        await upstream.session.get("/elsewhere"),
        await upstream.session.get("/_emulator/clock"),
    ):
        assert response.headers["x-upstream"] == "emulator"
        await response.read()


async def test_the_same_request_gets_the_same_answer_under_another_id(upstream: Upstream) -> None:
    first, second = await upstream.create("Hello"), await upstream.create("Hello")
    assert first["steps"] == second["steps"]
    assert first["usage"] == second["usage"]
    assert first["id"] != second["id"]


async def test_usage_adds_up(upstream: Upstream) -> None:
    usage = (await upstream.create("Hello", tools=[{"type": "google_search"}]))["usage"]
    parts = ("total_input_tokens", "total_output_tokens", "total_thought_tokens", "total_tool_use_tokens")
    assert usage["total_tokens"] == sum(usage[part] for part in parts)
    assert all(usage[part] > 0 for part in parts)
    assert usage["grounding_tool_count"] == [{"type": "google_search", "count": 1}]
    for part in ("input", "output", "tool_use"):
        total = usage[f"total_{part}_tokens"]
        assert sum(entry["tokens"] for entry in usage[f"{part}_tokens_by_modality"]) == total


async def test_tokens_are_counted_by_modality(upstream: Upstream) -> None:
    picture = {"type": "image", "mime_type": "image/png", "data": "aGVsbG8="}
    usage = (await upstream.create([{"type": "text", "text": "What is it?"}, picture]))["usage"]
    assert {"modality": "image", "tokens": 258} in usage["input_tokens_by_modality"]


async def test_the_answer_quotes_what_the_model_saw(upstream: Upstream) -> None:
    text = text_of(await upstream.create("x" * 500, system_instruction="be brief"))
    assert "I saw 1 user turn and 0 model turns." in text
    assert f'"{"x" * 77}..."' in text
    assert '"be brief"' in text


async def test_a_chain_shows_every_user_turn_in_order(upstream: Upstream) -> None:
    first = await upstream.create("My name is Ada.")
    second = await upstream.create("I like tea.", previous_interaction_id=first["id"])
    third = await upstream.create("Who am I?", previous_interaction_id=second["id"])
    text = text_of(third)
    assert "I saw 3 user turns and 2 model turns." in text
    assert text.index("My name is Ada.") < text.index("I like tea.") < text.index("Who am I?")
    assert third["previous_interaction_id"] == second["id"]
    assert third["usage"]["total_input_tokens"] > second["usage"]["total_input_tokens"]


async def test_a_stateless_history_gets_the_answer_that_the_chain_gets(upstream: Upstream) -> None:
    first = await upstream.create("One")
    chained = await upstream.create("Two", previous_interaction_id=first["id"])
    user = [{"type": "user_input", "content": [{"type": "text", "text": text}]} for text in ("One", "Two")]
    stateless = await upstream.create([user[0], *first["steps"], user[1]], store=False)
    assert stateless["steps"] == chained["steps"]
    assert stateless["usage"] == chained["usage"]


async def test_long_restored_histories_are_cached(upstream: Upstream) -> None:
    first = await upstream.create("word " * 2000)
    usage = (await upstream.create("More", previous_interaction_id=first["id"]))["usage"]
    assert 1024 <= usage["total_cached_tokens"] < usage["total_input_tokens"]


async def test_a_branch_does_not_see_its_sibling(upstream: Upstream) -> None:
    root = await upstream.create("Root")
    await upstream.create("Left", previous_interaction_id=root["id"])
    right = await upstream.create("Right", previous_interaction_id=root["id"])
    assert "Left" not in text_of(right)


async def test_get_shows_the_input_in_front_of_the_answer(upstream: Upstream) -> None:
    answer = await upstream.create("Hello")
    stored = await upstream.get(answer["id"], include_input="true")
    assert stored["steps"][0] == {"type": "user_input", "content": [{"type": "text", "text": "Hello"}]}
    assert stored["steps"][1:] == answer["steps"]
    assert stored["usage"] == answer["usage"]


async def test_get_can_leave_the_input_out(start: Start) -> None:
    upstream = await start(get_includes_input=False)
    answer = await upstream.create("Hello")
    assert await upstream.get(answer["id"]) == answer


async def test_get_can_echo_the_input_to_those_who_ask(start: Start) -> None:
    upstream = await start(get_echoes_input=True)
    answer = await upstream.create("Hello")
    assert "input" not in await upstream.get(answer["id"])
    assert (await upstream.get(answer["id"], include_input="true"))["input"] == "Hello"


async def test_what_is_not_stored_has_no_id_and_cannot_be_found(upstream: Upstream) -> None:
    answer = await upstream.create("Hello", store=False)
    assert "id" not in answer
    assert (await upstream.admin("GET", "interactions"))["count"] == 0
    events = await upstream.stream("Hello", store=False)
    assert b"v1_" not in orjson.dumps(events)


async def test_an_unstored_request_may_point_at_a_stored_interaction(upstream: Upstream) -> None:
    first = await upstream.create("One")
    answer = await upstream.create("Two", previous_interaction_id=first["id"], store=False)
    assert "One" in text_of(answer)


async def test_deleted_interactions_are_gone(upstream: Upstream) -> None:
    name = (await upstream.create())["id"]
    response = await upstream.session.delete(f"/v1/interactions/{name}")
    assert (response.status, await response.json()) == (200, {})
    assert (await upstream.session.get(f"/v1/interactions/{name}")).status == 404
    assert (await upstream.session.delete(f"/v1/interactions/{name}")).status == 404


async def test_deletion_can_be_unimplemented(start: Start) -> None:
    upstream = await start(delete_supported=False)
    name = (await upstream.create())["id"]
    response = await upstream.session.delete(f"/v1/interactions/{name}")
    assert response.status == 501
    assert (await response.json())["error"]["code"] == "not_implemented"
    assert (await upstream.get(name))["id"] == name


async def test_interactions_expire_with_the_clock(start: Start) -> None:
    upstream = await start(retention_seconds=3600)
    name = (await upstream.create())["id"]
    await upstream.admin("POST", "clock", {"advance": 3590})
    assert (await upstream.get(name))["id"] == name
    await upstream.admin("POST", "clock", {"advance": 20})
    response = await upstream.session.get(f"/v1/interactions/{name}")
    assert response.status == 404
    assert (await response.json())["error"]["code"] == "not_found"
    error = await upstream.refused(404, previous_interaction_id=name)
    assert name in error["message"]


async def test_a_stale_reference_can_be_a_bare_400(start: Start) -> None:
    upstream = await start(stale_reference="400")
    error = await upstream.refused(400, previous_interaction_id="v1_unknown")
    assert error == {"code": "invalid_request", "message": "Request contains an invalid argument."}


async def test_interactions_belong_to_the_key_that_made_them(upstream: Upstream) -> None:
    name = (await upstream.create())["id"]
    other = {"x-goog-api-key": "key-b"}
    assert (await upstream.session.get(f"/v1/interactions/{name}", headers=other)).status == 404
    assert (await upstream.session.delete(f"/v1/interactions/{name}", headers=other)).status == 404
    body = {"model": MODEL, "input": "Hi", "previous_interaction_id": name}
    assert (await upstream.post(body, **other)).status == 404
    assert (await upstream.get(name))["id"] == name


async def test_a_key_is_accepted_in_three_places(start: Start) -> None:
    upstream = await start(key="", keys=frozenset({"right"}))
    body = {"model": MODEL, "input": "Hi"}
    assert (await upstream.post(body, x_goog_api_key="right")).status == 200
    assert (await upstream.post(body, Authorization="Bearer right")).status == 200
    assert (await upstream.post(body, path="/v1/interactions?key=right")).status == 200


async def test_wrong_and_missing_keys_are_refused_in_the_classic_shape(start: Start) -> None:
    upstream = await start(key="", keys=frozenset({"right"}))
    for headers in ({}, {"x_goog_api_key": "wrong"}):
        response = await upstream.post({"model": MODEL, "input": "Hi"}, **headers)
        assert response.status == 401
        (entry,) = await response.json()
        assert entry["error"]["code"] == 401
        assert entry["error"]["status"] == "UNAUTHENTICATED"


async def test_hitting_the_output_limit_is_incomplete(upstream: Upstream) -> None:
    answer = await upstream.create("Hello", generation_config={"max_output_tokens": 4})
    assert answer["status"] == "incomplete"
    assert text_of(answer) == "I saw 1 user tur"
    assert answer["usage"]["total_output_tokens"] == 4
    follow_up = await upstream.create("Go on", previous_interaction_id=answer["id"])
    assert "1 model turn." in text_of(follow_up)


async def test_a_stop_sequence_ends_the_text(upstream: Upstream) -> None:
    answer = await upstream.create("Hello", generation_config={"stop_sequences": [" user"]})
    assert text_of(answer) == "I saw 1"
    assert answer["status"] == "completed"


async def test_thought_summaries_appear_on_request(upstream: Upstream) -> None:
    answer = await upstream.create("Hello", generation_config={"thinking_summaries": "auto"})
    assert answer["steps"][0]["type"] == "thought"
    assert answer["steps"][0]["summary"][0]["type"] == "text"
    assert step_types(answer) == ["thought", "model_output"]


async def test_thinking_levels_change_the_thought_tokens(upstream: Upstream) -> None:
    spent = [
        (await upstream.create("Hi", generation_config={"thinking_level": level}))["usage"][
            "total_thought_tokens"
        ]
        for level in ("low", "medium", "high")
    ]
    assert spent == sorted(set(spent))


async def test_the_tier_is_shown(upstream: Upstream) -> None:
    assert (await upstream.create("Hi", service_tier="flex"))["service_tier"] == "flex"


async def test_models_can_be_limited(start: Start) -> None:
    upstream = await start(models=frozenset({"gemini-3.8-flash"}))
    await upstream.create("Hi")
    error = await upstream.refused(404, model="gemini-3.7-flash")
    assert error["code"] == "model_not_found"


async def test_a_unary_answer_and_a_stream_say_the_same(upstream: Upstream) -> None:
    assert streamed_text(await upstream.stream("Hello")) == text_of(await upstream.create("Hello"))
