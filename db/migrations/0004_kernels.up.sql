--  kernels: executions of notebook cells, and the guests as whom SQL cells run.

SELECT base.actor_install ('kernels');

CREATE TABLE kernels.executions (
    id              uuid PRIMARY KEY DEFAULT gen_random_uuid (),
    user_id         uuid NOT NULL,
    requested_by    uuid NOT NULL,
    notebook_id     uuid NOT NULL,
    cell_id         text,
    language        text NOT NULL,
    code            text NOT NULL,
    state           text NOT NULL DEFAULT 'queued' CHECK (state IN
                    ('queued', 'running', 'succeeded', 'failed', 'aborted', 'cancelled', 'lost')),
    execution_count integer,
    error           jsonb,
    output          text,
    outputs         jsonb NOT NULL DEFAULT '[]',
    truncated       boolean NOT NULL DEFAULT false,
    audience        text NOT NULL,
    channel         text NOT NULL,
    instance        text NOT NULL,
    idem            text,
    created_at      timestamptz NOT NULL DEFAULT now (),
    started_at      timestamptz,
    finished_at     timestamptz,
    UNIQUE (id, user_id),
    CONSTRAINT executions_notebook_id_fkey FOREIGN KEY (notebook_id, user_id)
        REFERENCES platform.notebooks (id, user_id) ON DELETE RESTRICT
);
CREATE INDEX executions_notebook ON kernels.executions (notebook_id, created_at DESC, id DESC);
CREATE INDEX executions_user ON kernels.executions (user_id, created_at DESC, id DESC);
CREATE INDEX executions_requested ON kernels.executions (requested_by, created_at DESC);
CREATE INDEX executions_live ON kernels.executions (instance) WHERE state IN ('queued', 'running');
--  A repeated request finds what the first one began.
CREATE UNIQUE INDEX executions_idem ON kernels.executions (notebook_id, requested_by, idem)
    WHERE idem IS NOT NULL;

--  Login role of a user in the guest database; the password is sealed.
CREATE TABLE kernels.guests (
    user_id    uuid PRIMARY KEY REFERENCES identity.users (id) ON DELETE RESTRICT,
    role       text NOT NULL UNIQUE CHECK (role ~ '^guest_[0-9a-f]{32}$'),
    password   text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now ()
);

--  An error in one line: "ZeroDivisionError: division by zero".
CREATE FUNCTION kernels.error_text (error jsonb) RETURNS text
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN $1 IS NULL THEN NULL
                ELSE concat_ws (': ', nullif ($1 ->> 'ename', ''), nullif ($1 ->> 'evalue', '')) END
$$;

CREATE FUNCTION kernels.execution_ms (e kernels.executions) RETURNS bigint
LANGUAGE sql IMMUTABLE AS $$
    SELECT (extract (epoch FROM e.finished_at - e.started_at) * 1000)::bigint
$$;

--  What lists and events of the collection say of an execution: everything but its output.
CREATE FUNCTION kernels.execution_brief (e kernels.executions) RETURNS jsonb
LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object (
        'id', e.id, 'execution_id', e.id, 'notebook_id', e.notebook_id, 'cell_id', e.cell_id,
        'language', e.language, 'state', e.state, 'execution_count', e.execution_count,
        'error', kernels.error_text (e.error), 'truncated', e.truncated, 'channel', e.channel,
        'created_at', base.utc (e.created_at), 'started_at', base.utc (e.started_at),
        'finished_at', base.utc (e.finished_at))
$$;
