-- :name execution_add
-- $1 owner, $2 who asks, $3 notebook, $4 cell or NULL, $5 language, $6 code, $7 audience, $8 instance,
-- $9 key of a repeatable request or NULL, $10 session or NULL. No row: it began already.
WITH n AS (SELECT gen_random_uuid () AS id),
     r AS (INSERT INTO executions (id, user_id, requested_by, notebook_id, cell_id, language, code,
                                   audience, channel, instance, idem, session, claim)
           SELECT n.id, $1::uuid, $2::uuid, $3::uuid, $4, $5, $6, $7,
                  $7 || '/executions/' || n.id, $8, $9, $10,
                  (SELECT c.number FROM claims c WHERE c.key = 'notebook:' || $3) FROM n
           ON CONFLICT (notebook_id, requested_by, idem) WHERE idem IS NOT NULL DO NOTHING
           RETURNING *)
SELECT r.id, r.channel,
       base.live_add (r.channel, NULL, 'execution.queued',
                      execution_brief (r) || jsonb_build_object ('code', r.code)) AS live,
       base.live_add (r.audience || '/executions', r.id::text, 'execution.queued',
                      execution_brief (r)) AS live2
  FROM r

-- :name execution_again
-- $1 notebook, $2 who asks, $3 key of the request.
SELECT id, channel FROM executions WHERE notebook_id = $1::uuid AND requested_by = $2::uuid AND idem = $3

-- :name execution_begin
-- $1 execution. No row: gone, or over already.
UPDATE executions e SET state = 'running', started_at = now ()
 WHERE id = $1::uuid AND state = 'queued'
RETURNING id, base.live_add (e.channel, NULL, 'execution.started',
                             jsonb_build_object ('started_at', base.utc (e.started_at))) AS live,
          base.live_add (e.audience || '/executions', e.id::text, 'execution.started',
                         execution_brief (e)) AS live2

-- :name execution_end
-- $1 execution, $2 state, $3 execution count or NULL, $4 error or NULL, $5 text, $6 outputs,
-- $7 truncated, $8 bytes dropped. No row: gone, or over already.
WITH r AS (UPDATE executions e
              SET state = $2, execution_count = $3::integer, error = $4::jsonb, output = $5,
                  outputs = $6::jsonb, truncated = $7::boolean,
                  started_at = coalesce (e.started_at, now ()), finished_at = now ()
            WHERE id = $1::uuid AND state IN ('queued', 'running')
        RETURNING *)
SELECT r.id,
       base.live_add (r.channel, NULL, 'execution.finished', jsonb_build_object (
           'state', r.state, 'success', r.state = 'succeeded', 'execution_count', r.execution_count,
           'error', error_text (r.error), 'executionTime', execution_ms (r),
           'truncated', r.truncated, 'dropped', $8::bigint)) AS live,
       base.live_add (r.audience || '/executions', r.id::text, 'execution.finished',
                      execution_brief (r)) AS live2
  FROM r

-- :name execution_outputs
-- $1 execution, $2 text, $3 outputs: what a thread of it said after its end. No row: gone.
UPDATE executions SET output = $2, outputs = $3::jsonb WHERE id = $1::uuid RETURNING id

-- :name executions_lost
-- $1 why, $2 notebook, NULL for all: what was begun under a claim that nobody holds any more.
WITH r AS (UPDATE executions e
              SET state = 'lost', finished_at = now (),
                  error = jsonb_build_object ('ename', 'Lost', 'evalue', $1::text,
                                              'traceback', '[]'::jsonb)
            WHERE state IN ('queued', 'running') AND ($2::uuid IS NULL OR notebook_id = $2::uuid)
              AND NOT EXISTS (SELECT FROM claims c
                               WHERE c.key = 'notebook:' || e.notebook_id AND c.number = e.claim)
        RETURNING *)
SELECT r.id,
       base.live_add (r.channel, NULL, 'execution.finished', jsonb_build_object (
           'state', r.state, 'success', false, 'error', error_text (r.error), 'why', $1::text)) AS live,
       base.live_add (r.audience || '/executions', r.id::text, 'execution.finished',
                      execution_brief (r)) AS live2
  FROM r

-- :name execution_get
-- $1 caller, NULL for the operator, $2 execution. No row: not there, or not theirs.
SELECT e.id, e.id AS execution_id, e.notebook_id, e.session, e.cell_id, e.cell_id AS "cellId", e.language, e.code,
       e.state, CASE WHEN e.finished_at IS NOT NULL THEN e.state = 'succeeded' END AS success,
       e.execution_count, coalesce (e.output, '') AS output, error_text (e.error) AS error,
       e.error AS error_detail, e.outputs,
       CASE WHEN e.language = 'sql' THEN
            (SELECT o #> '{data,application/json}' FROM jsonb_array_elements (e.outputs) o
              WHERE o #> '{data,application/json}' IS NOT NULL LIMIT 1) END AS data,
       e.truncated, execution_ms (e) AS "executionTime",
       coalesce (e.finished_at, e.started_at, e.created_at) AS timestamp,
       e.created_at, e.started_at, e.finished_at, e.channel,
       e.user_id AS "_user", e.instance AS "_instance",
       (SELECT coalesce (max (l.off), 0) FROM live_log l WHERE l.ch = e.channel) AS "_top"
  FROM executions e
 WHERE e.id = $2::uuid AND ($1::uuid IS NULL OR e.user_id = $1::uuid OR e.requested_by = $1::uuid)

-- :name executions_list
-- $1 caller, NULL for the operator, $2 notebook or NULL, $3 state or NULL, $4 limit, $5 session or NULL.
SELECT e.id, e.id AS execution_id, e.notebook_id, e.session, e.cell_id, e.cell_id AS "cellId", e.language, e.state,
       CASE WHEN e.finished_at IS NOT NULL THEN e.state = 'succeeded' END AS success,
       e.execution_count, error_text (e.error) AS error, e.truncated,
       execution_ms (e) AS "executionTime", e.created_at, e.started_at, e.finished_at, e.channel
  FROM executions e
 WHERE ($1::uuid IS NULL OR e.user_id = $1::uuid OR e.requested_by = $1::uuid)
   AND ($2::uuid IS NULL OR e.notebook_id = $2::uuid) AND ($3::text IS NULL OR e.state = $3)
   AND ($5::text IS NULL OR e.session = $5)
 ORDER BY e.created_at DESC, e.id DESC LIMIT $4::bigint

-- :name executions_snapshot
-- $1 user of the audience or NULL, $2 channel: its newest executions, for who begins to listen.
SELECT e.id, e.id AS execution_id, e.notebook_id, e.session, e.cell_id, e.language, e.state, e.execution_count,
       error_text (e.error) AS error, e.truncated, e.channel, e.created_at, e.started_at, e.finished_at
  FROM executions e
 WHERE ($1::uuid IS NULL OR e.user_id = $1::uuid) AND e.audience = split_part ($2, '/', 1)
 ORDER BY e.created_at DESC, e.id DESC LIMIT 500

-- :name execution_events
-- $1 channel, $2 position, $3 limit.
SELECT off, type, at, data FROM live_log WHERE ch = $1 AND off > $2::bigint ORDER BY off LIMIT $3::bigint

-- :name executions_of_notebook_delete
-- $1 notebook.
DELETE FROM executions e WHERE e.notebook_id = $1::uuid
RETURNING e.id, base.live_add (e.audience || '/executions', e.id::text, 'execution.deleted',
                               jsonb_build_object ('id', e.id)) AS live

-- :name notebooks_of_user
-- $1 user.
SELECT DISTINCT notebook_id FROM executions WHERE user_id = $1::uuid

-- :name guest_get
-- $1 user. No row: none made yet.
SELECT role, password FROM guests WHERE user_id = $1::uuid

-- :name guest_put
-- $1 user, $2 role, $3 sealed password. Answers what is stored: the first one stays.
INSERT INTO guests AS g (user_id, role, password) VALUES ($1::uuid, $2, $3)
ON CONFLICT (user_id) DO UPDATE SET role = g.role
RETURNING g.role, g.password

-- :name guest_delete
-- $1 user.
DELETE FROM guests WHERE user_id = $1::uuid RETURNING role

-- :name execution_shared
-- $1 execution. No row: not there, or told to its owner only.
SELECT audience FROM executions WHERE id = $1::uuid AND audience LIKE 'project:%'

-- :name kernel_state
-- $1 kernel, $2 user, $3 notebook, $4 language, $5 state.
WITH k AS (INSERT INTO kernels AS o (id, user_id, notebook_id, language, state, claim)
           SELECT $1::uuid, $2::uuid, $3::uuid, $4, $5, c.number FROM claims c WHERE c.key = 'notebook:' || $3
           ON CONFLICT (id) DO UPDATE SET state = excluded.state WHERE o.state <> excluded.state
           RETURNING o AS r, o.state)
SELECT kernel_event (k.r, k.state) AS live FROM k

-- :name kernel_dead
-- $1 kernel.
WITH k AS (DELETE FROM kernels o WHERE id = $1::uuid RETURNING o AS r)
SELECT kernel_event (k.r, 'dead') AS live FROM k

-- :name kernels_gone
-- $1 notebook, NULL for all: kernels under a claim that nobody holds any more.
WITH k AS (DELETE FROM kernels o
            WHERE ($1::uuid IS NULL OR notebook_id = $1::uuid)
              AND NOT EXISTS (SELECT FROM claims c WHERE c.key = 'notebook:' || o.notebook_id AND c.number = o.claim)
           RETURNING o AS r)
SELECT kernel_event (k.r, 'dead') AS live FROM k

-- :name kernels_snapshot
-- $1 user of the audience, $2 channel: the kernels that live.
SELECT id, notebook_id, language, state, created_at FROM kernels WHERE user_id = $1::uuid AND $2::text IS NOT NULL
 ORDER BY created_at DESC, id DESC LIMIT 500
