--  platform: saved queries, and the statements that were run with their results.

--  What a notebook takes in an answer, where it must have room beside its other fields. A list is read by
--  it, so many rows at a time as an answer holds.
ALTER TABLE platform.notebooks
    ADD COLUMN content_bytes bigint NOT NULL GENERATED ALWAYS AS (octet_length (content::text)) STORED,
    ADD CONSTRAINT notebooks_content_fits CHECK (content_bytes <= 16711680
        OR base.api_fail ('U0413', 'content is larger than 16711680 bytes')) NOT VALID;

--  The document's queries. `engine` says where it is to run, not that this is configured.
CREATE TABLE platform.queries (
    id           uuid PRIMARY KEY DEFAULT gen_random_uuid (),
    user_id      uuid NOT NULL REFERENCES identity.users (id) ON DELETE RESTRICT,
    workspace_id uuid,
    name         text NOT NULL CHECK (length (name) BETWEEN 1 AND 255),
    description  text,
    query_text   text NOT NULL,
    engine       text NOT NULL DEFAULT 'postgresql'
                 CHECK (engine IN ('spark', 'trino', 'snowflake', 'postgresql')),
    cluster_id   uuid,
    created_at   timestamptz NOT NULL DEFAULT now (),
    updated_at   timestamptz NOT NULL DEFAULT now (),
    UNIQUE (id, user_id),
    CONSTRAINT queries_workspace_id_fkey FOREIGN KEY (workspace_id, user_id)
        REFERENCES platform.workspaces (id, user_id) ON DELETE RESTRICT
);
CREATE INDEX queries_user ON platform.queries (user_id, created_at DESC, id DESC);
CREATE INDEX queries_workspace ON platform.queries (workspace_id);

CREATE TABLE platform.saved_queries (
    id          uuid PRIMARY KEY DEFAULT gen_random_uuid (),
    user_id     uuid NOT NULL REFERENCES identity.users (id) ON DELETE RESTRICT,
    name        text NOT NULL CHECK (length (name) BETWEEN 1 AND 255),
    description text,
    query_text  text NOT NULL,
    tags        jsonb NOT NULL DEFAULT '[]',
    is_favorite boolean NOT NULL DEFAULT false,
    created_at  timestamptz NOT NULL DEFAULT now (),
    updated_at  timestamptz NOT NULL DEFAULT now (),
    UNIQUE (id, user_id)
);
CREATE INDEX saved_queries_user ON platform.saved_queries (user_id, created_at DESC, id DESC);

CREATE TABLE platform.statements (
    id          uuid PRIMARY KEY DEFAULT gen_random_uuid (),
    user_id     uuid NOT NULL REFERENCES identity.users (id) ON DELETE RESTRICT,
    query_text  text NOT NULL,
    engine      text NOT NULL,               --  that runs it
    asked       text,                        --  another one that was asked for, and is not configured
    source_id   uuid,
    cluster_id  uuid,
    parameters  jsonb,
    explain     boolean NOT NULL DEFAULT false,
    row_limit   bigint NOT NULL,
    byte_limit  bigint NOT NULL,
    timeout     integer NOT NULL,            --  seconds
    state       text NOT NULL CHECK (state IN ('queued', 'running', 'cancelling', 'succeeded', 'failed',
                                               'cancelled', 'aborted', 'lost', 'expired')),
    state_detail text,
    state_seq   integer NOT NULL DEFAULT 1,
    termination jsonb,                       --  {code, type, message, hint, position}
    columns     jsonb,
    row_count   bigint NOT NULL DEFAULT 0,
    byte_count  bigint NOT NULL DEFAULT 0,
    truncated   boolean NOT NULL DEFAULT false,
    changed     bigint,                      --  rows that it changed
    tag         text,
    progress    integer,
    engine_id   text,
    info_uri    text,
    idem        text,
    claim       bigint NOT NULL DEFAULT 0,
    created_at  timestamptz NOT NULL DEFAULT now (),
    updated_at  timestamptz NOT NULL DEFAULT now (),
    started_at  timestamptz,
    finished_at timestamptz,
    expires_at  timestamptz,                 --  when the result is dropped
    UNIQUE (id, user_id)
);
CREATE INDEX statements_user ON platform.statements (user_id, created_at DESC, id DESC);
CREATE INDEX statements_alive ON platform.statements (user_id)
    WHERE state IN ('queued', 'running', 'cancelling');
CREATE INDEX statements_expiry ON platform.statements (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX statements_finished ON platform.statements (finished_at);
--  A repeated request finds what the first one began.
CREATE UNIQUE INDEX statements_idem ON platform.statements (user_id, idem) WHERE idem IS NOT NULL;

--  Rows of a result, in pieces: JSON arrays, each with a newline behind it.
CREATE TABLE platform.statement_rows (
    statement_id uuid NOT NULL REFERENCES platform.statements (id) ON DELETE CASCADE,
    first        bigint NOT NULL,            --  position of its first row, from 0
    count        integer NOT NULL,
    data         text NOT NULL,
    PRIMARY KEY (statement_id, first)
);
--  Read once or twice, soon dropped: compressing it costs more than it saves.
ALTER TABLE platform.statement_rows ALTER COLUMN data SET STORAGE EXTERNAL;

CREATE FUNCTION platform.statement_channel (s platform.statements) RETURNS text
LANGUAGE sql IMMUTABLE AS $$ SELECT 'user:' || s.user_id || '/statements/' || s.id $$;

CREATE FUNCTION platform.statement_ms (s platform.statements) RETURNS bigint
LANGUAGE sql STABLE AS $$
    SELECT (extract (epoch FROM s.finished_at - coalesce (s.started_at, s.created_at)) * 1000)::bigint
$$;

--  Why it did not succeed.
CREATE FUNCTION platform.statement_error (s platform.statements) RETURNS text
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN s.state NOT IN ('succeeded', 'expired') THEN s.termination ->> 'message' END
$$;

--  What is answered of a statement.
CREATE FUNCTION platform.statement_seen (s platform.statements)
RETURNS TABLE (id uuid, statement_id uuid, query_text text, engine text, asked text, source_id uuid, cluster_id uuid,
               parameters jsonb, explain boolean, row_limit bigint, byte_limit bigint, timeout integer,
               state text, state_detail text, state_seq integer, termination jsonb, error text, success boolean,
               columns jsonb, row_count bigint, byte_count bigint, truncated boolean, changed bigint, tag text,
               progress integer, engine_id text, info_uri text, "executionTime" bigint, "timestamp" text,
               created_at timestamptz, updated_at timestamptz, started_at timestamptz, finished_at timestamptz,
               expires_at timestamptz, channel text)
LANGUAGE sql STABLE AS $$
    SELECT s.id, s.id, s.query_text, s.engine, s.asked, s.source_id, s.cluster_id, s.parameters, s.explain, s.row_limit,
           s.byte_limit, s.timeout, s.state, s.state_detail, s.state_seq, s.termination,
           platform.statement_error (s),
           CASE WHEN s.finished_at IS NOT NULL THEN s.state IN ('succeeded', 'expired') END,
           s.columns, s.row_count, s.byte_count, s.truncated, s.changed, s.tag, s.progress, s.engine_id, s.info_uri,
           platform.statement_ms (s), base.utc (coalesce (s.finished_at, s.started_at, s.created_at)),
           s.created_at, s.updated_at, s.started_at, s.finished_at, s.expires_at, platform.statement_channel (s)
$$;

--  What events say of a statement: everything but columns and rows.
CREATE FUNCTION platform.statement_brief (s platform.statements) RETURNS jsonb
LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object (
        'id', s.id, 'statement_id', s.id, 'query_text', left (s.query_text, 2000), 'engine', s.engine,
        'source_id', s.source_id, 'cluster_id', s.cluster_id, 'explain', s.explain,
        'state', s.state, 'state_detail', s.state_detail, 'state_seq', s.state_seq,
        'termination', s.termination, 'error', platform.statement_error (s),
        'success', CASE WHEN s.finished_at IS NOT NULL THEN s.state IN ('succeeded', 'expired') END,
        'row_count', s.row_count, 'truncated', s.truncated, 'progress', s.progress,
        'executionTime', platform.statement_ms (s), 'created_at', base.utc (s.created_at),
        'updated_at', base.utc (s.updated_at), 'started_at', base.utc (s.started_at),
        'finished_at', base.utc (s.finished_at), 'expires_at', base.utc (s.expires_at))
$$;

--  Tell of a state: on the statement's own log, and on its user's list.
--  Its state, told on its own channel and among those of its user.
CREATE FUNCTION platform.statement_told (s platform.statements, OUT live jsonb, OUT live2 jsonb)
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    brief jsonb := platform.statement_brief (s);
BEGIN
    live := base.live_add (platform.statement_channel (s), NULL, 'statement.state', brief);
    live2 := base.live_add ('user:' || s.user_id || '/statements', s.id::text, 'statement.state', brief);
END $$;
