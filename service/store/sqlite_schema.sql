CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL,
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
)

CREATE TABLE interactions (
	id BLOB NOT NULL,
	project_id BLOB NOT NULL,
	key_id BLOB,
	previous_id BLOB,
	root_id BLOB,
	depth BIGINT NOT NULL,
	replay_of BLOB,
	created_at BIGINT NOT NULL,
	revision SMALLINT NOT NULL,
	stream BOOLEAN NOT NULL,
	background BOOLEAN NOT NULL,
	store BOOLEAN NOT NULL,
	model_requested TEXT,
	agent TEXT,
	labels TEXT,
	request_bytes BIGINT NOT NULL,
	deployment_id TEXT,
	upstream_id TEXT,
	upstream_id_hash BIGINT,
	upstream_stored BOOLEAN NOT NULL,
	upstream_gone_at BIGINT,
	status TEXT NOT NULL,
	model TEXT,
	service_tier TEXT,
	http_status SMALLINT,
	error_code TEXT,
	error_message TEXT,
	response_bytes BIGINT,
	attempts TEXT,
	updated_at BIGINT NOT NULL,
	first_byte_at BIGINT,
	completed_at BIGINT,
	usage_state SMALLINT NOT NULL,
	input_tokens BIGINT,
	output_tokens BIGINT,
	thought_tokens BIGINT,
	cached_tokens BIGINT,
	tool_use_tokens BIGINT,
	total_tokens BIGINT,
	usage_detail TEXT,
	cost_nanos BIGINT,
	deleted_at BIGINT, erased_at BIGINT, owner_id BLOB DEFAULT (x'00000000000000000000000000000000') NOT NULL, derived_state SMALLINT DEFAULT '0' NOT NULL, series_id BLOB, expired_at BIGINT,
	PRIMARY KEY (id)
)
 WITHOUT ROWID

CREATE INDEX ix_interactions_upstream_id_hash ON interactions (upstream_id_hash) WHERE upstream_id_hash IS NOT NULL

CREATE INDEX ix_interactions_root_id ON interactions (root_id) WHERE root_id IS NOT NULL

CREATE INDEX ix_interactions_replay_of ON interactions (replay_of) WHERE replay_of IS NOT NULL

CREATE TABLE payloads (
	interaction_id BLOB NOT NULL,
	kind SMALLINT NOT NULL,
	codec SMALLINT NOT NULL,
	size BIGINT NOT NULL,
	body BLOB NOT NULL,
	PRIMARY KEY (interaction_id, kind)
)
 WITHOUT ROWID

CREATE TABLE events (
	interaction_id BLOB NOT NULL,
	first_seq BIGINT NOT NULL,
	last_seq BIGINT NOT NULL,
	codec SMALLINT NOT NULL,
	size BIGINT NOT NULL,
	body BLOB NOT NULL, upstream_cursor TEXT, timings BLOB,
	PRIMARY KEY (interaction_id, first_seq)
)
 WITHOUT ROWID

CREATE TABLE projects (
	id BLOB NOT NULL,
	name TEXT NOT NULL,
	created_at BIGINT NOT NULL,
	PRIMARY KEY (id),
	UNIQUE (name)
)

CREATE TABLE api_keys (
	id BLOB NOT NULL,
	project_id BLOB NOT NULL,
	name TEXT NOT NULL,
	prefix TEXT NOT NULL,
	digest BLOB NOT NULL,
	created_at BIGINT NOT NULL,
	expires_at BIGINT,
	revoked_at BIGINT,
	PRIMARY KEY (id),
	UNIQUE (digest)
)

CREATE INDEX ix_api_keys_project_id ON api_keys (project_id)

CREATE TABLE leases (
	interaction_id BLOB NOT NULL,
	kind TEXT NOT NULL,
	due_at BIGINT NOT NULL,
	tries BIGINT NOT NULL,
	PRIMARY KEY (interaction_id, kind)
)

CREATE INDEX ix_leases_due ON leases (due_at)

CREATE INDEX ix_interactions_kept ON interactions (id) WHERE deleted_at IS NOT NULL AND erased_at IS NULL

CREATE INDEX ix_interactions_previous_id ON interactions (previous_id) WHERE previous_id IS NOT NULL AND erased_at IS NULL

CREATE TABLE inputs (
	interaction_id BLOB NOT NULL,
	digest BLOB NOT NULL,
	start BIGINT NOT NULL,
	size BIGINT NOT NULL,
	base_id BLOB,
	PRIMARY KEY (interaction_id)
)
 WITHOUT ROWID

CREATE INDEX ix_inputs_digest ON inputs (digest)

CREATE INDEX ix_inputs_base_id ON inputs (base_id) WHERE base_id IS NOT NULL

CREATE TABLE media (
	interaction_id BLOB NOT NULL,
	uri_digest BLOB NOT NULL,
	content_id BLOB NOT NULL,
	mime_type TEXT NOT NULL,
	kept_at BIGINT NOT NULL,
	PRIMARY KEY (interaction_id, uri_digest)
)
 WITHOUT ROWID

CREATE INDEX ix_media_uri_digest ON media (uri_digest)

CREATE INDEX ix_media_content_id ON media (content_id)

CREATE TABLE media_contents (
	id BLOB NOT NULL,
	size BIGINT NOT NULL,
	body BLOB NOT NULL,
	touched_at BIGINT NOT NULL,
	PRIMARY KEY (id)
)

CREATE INDEX ix_interactions_open ON interactions (owner_id, id) WHERE completed_at IS NULL

CREATE TABLE webhooks (
	interaction_id BLOB NOT NULL,
	place SMALLINT NOT NULL,
	uri TEXT NOT NULL,
	user_metadata TEXT,
	due_at BIGINT,
	tries BIGINT NOT NULL,
	lease_token BLOB,
	settled_at BIGINT,
	http_status SMALLINT,
	error TEXT,
	PRIMARY KEY (interaction_id, place)
)
 WITHOUT ROWID

CREATE INDEX ix_webhooks_due ON webhooks (due_at) WHERE due_at IS NOT NULL

CREATE TABLE webhook_secrets (
	project_id BLOB NOT NULL,
	secret TEXT NOT NULL,
	created_at BIGINT NOT NULL, previous_secret TEXT, previous_until BIGINT,
	PRIMARY KEY (project_id)
)
 WITHOUT ROWID

CREATE TABLE deployment_states (
	replica BLOB NOT NULL,
	deployment_id TEXT NOT NULL,
	minute BIGINT NOT NULL,
	requests BIGINT NOT NULL,
	tokens BIGINT NOT NULL,
	cooling_until BIGINT,
	asked BOOLEAN NOT NULL,
	told_at BIGINT NOT NULL, running BIGINT DEFAULT '0' NOT NULL, latency BIGINT,
	PRIMARY KEY (replica, deployment_id)
)
 WITHOUT ROWID

CREATE INDEX ix_deployment_states_told_at ON deployment_states (told_at)

CREATE TABLE idempotency_keys (
	project_id BLOB NOT NULL,
	idempotency_key TEXT NOT NULL,
	interaction_id BLOB NOT NULL,
	fingerprint BLOB NOT NULL,
	claimed_at BIGINT NOT NULL,
	expires_at BIGINT NOT NULL,
	PRIMARY KEY (project_id, idempotency_key)
)
 WITHOUT ROWID

CREATE INDEX ix_idempotency_keys_interaction_id ON idempotency_keys (interaction_id)

CREATE INDEX ix_idempotency_keys_expires_at ON idempotency_keys (expires_at)

CREATE INDEX ix_interactions_waiting ON interactions (id) WHERE derived_state IN (0, 3)

CREATE TABLE series (
	id BLOB NOT NULL,
	grain SMALLINT NOT NULL,
	project_id BLOB NOT NULL,
	key_id BLOB,
	model TEXT,
	agent TEXT,
	deployment_id TEXT,
	status TEXT NOT NULL,
	error_code TEXT,
	service_tier TEXT,
	stream BOOLEAN NOT NULL,
	background BOOLEAN NOT NULL,
	labels TEXT,
	PRIMARY KEY (id)
)
 WITHOUT ROWID

CREATE TABLE rollups (
	project_id BLOB NOT NULL,
	grain SMALLINT NOT NULL,
	span BIGINT NOT NULL,
	start BIGINT NOT NULL,
	series_id BLOB NOT NULL,
	requests BIGINT NOT NULL,
	errors BIGINT NOT NULL,
	unmeasured BIGINT NOT NULL,
	unpriced BIGINT NOT NULL,
	input_tokens BIGINT NOT NULL,
	output_tokens BIGINT NOT NULL,
	thought_tokens BIGINT NOT NULL,
	cached_tokens BIGINT NOT NULL,
	tool_use_tokens BIGINT NOT NULL,
	total_tokens BIGINT NOT NULL,
	cost_nanos BIGINT NOT NULL,
	modalities TEXT NOT NULL,
	durations BLOB NOT NULL,
	first_events BLOB NOT NULL,
	PRIMARY KEY (project_id, grain, span, start, series_id)
)
 WITHOUT ROWID

CREATE TABLE listing_terms (
	term BIGINT NOT NULL,
	interaction_id BLOB NOT NULL,
	PRIMARY KEY (term, interaction_id)
)
 WITHOUT ROWID

CREATE TABLE search_documents (number INTEGER PRIMARY KEY, interaction_id BLOB NOT NULL UNIQUE, input TEXT NOT NULL, output TEXT NOT NULL, folded_input TEXT, folded_output TEXT)

CREATE VIRTUAL TABLE search_index USING fts5(input, output, content='search_documents', content_rowid='number', tokenize='unicode61 remove_diacritics 2')

CREATE TABLE search_deletions (number INTEGER NOT NULL)

CREATE TABLE recordings (
	interaction_id BLOB NOT NULL,
	digest BLOB NOT NULL,
	PRIMARY KEY (interaction_id)
)
 WITHOUT ROWID

CREATE INDEX ix_recordings_digest ON recordings (digest)

CREATE TABLE progress (
	name TEXT NOT NULL,
	position BLOB NOT NULL,
	PRIMARY KEY (name)
)

CREATE TABLE holds (
	id BLOB NOT NULL,
	project_id BLOB NOT NULL,
	interaction_id BLOB,
	label TEXT,
	label_value TEXT,
	reason TEXT,
	created_at BIGINT NOT NULL,
	released_at BIGINT,
	PRIMARY KEY (id)
)

CREATE INDEX ix_holds_interaction_id ON holds (interaction_id) WHERE interaction_id IS NOT NULL AND released_at IS NULL

CREATE TABLE split_hours (
	project_id BLOB NOT NULL,
	start BIGINT NOT NULL,
	requests BIGINT,
	unmeasured BIGINT,
	PRIMARY KEY (project_id, start)
)
 WITHOUT ROWID

CREATE INDEX ix_split_hours_due ON split_hours (start) WHERE requests IS NULL

CREATE TRIGGER search_documents_insert AFTER INSERT ON search_documents BEGIN INSERT INTO search_index (rowid, input, output) VALUES (new.number, coalesce(new.folded_input, new.input), coalesce(new.folded_output, new.output)); END

CREATE TRIGGER search_documents_delete AFTER DELETE ON search_documents BEGIN INSERT INTO search_index (search_index, rowid, input, output) VALUES ('delete', old.number, coalesce(old.folded_input, old.input), coalesce(old.folded_output, old.output)); UPDATE search_deletions SET number = number + 1; END
