-- :name statement_add
-- $1 statement, $2 user, $3 text, $4 engine, $5 engine asked for when another one runs it, $6 source or NULL, $7 cluster or NULL, $8 parameters
-- or NULL, $9 explain, $10 row limit, $11 byte limit, $12 seconds, $13 key of a repeatable request or NULL, $14 ms since it began, $15 state;
-- of one that has ended: $16-$26 as $3-$13 of statement_end, its rows: $27 how many, $28 they, $29 what is told of them.
-- What statement_get answers. No row: it began already.
WITH r AS (INSERT INTO statements (id, user_id, query_text, engine, asked, source_id, cluster_id, parameters, explain, row_limit, byte_limit,
                                   timeout, idem, created_at, started_at, state, state_seq, state_detail, termination, columns, row_count,
                                   byte_count, truncated, changed, tag, engine_id, info_uri, progress, finished_at, expires_at, claim)
           SELECT $1::uuid, $2::uuid, $3, $4, $5, $6::uuid, $7::uuid, $8::jsonb, $9::boolean, $10::bigint, $11::bigint, $12::integer, $13,
                  b.began, CASE WHEN $15 <> 'queued' THEN b.began END, $15, CASE WHEN b.ended THEN 2 ELSE 1 END, $16, $17::jsonb,
                  $18::jsonb, coalesce ($19::bigint, 0), coalesce ($20::bigint, 0), coalesce ($21::boolean, false), $22::bigint, $23, $24, $25,
                  CASE WHEN $15 = 'succeeded' THEN 100 END, CASE WHEN b.ended THEN clock_timestamp () END,
                  now () + make_interval (secs => $26::double precision), (SELECT c.number FROM claims c WHERE c.key = 'user:' || $2)
             FROM (SELECT now () - make_interval (secs => $14::double precision / 1000) AS began, $17::jsonb IS NOT NULL AS ended) b
           ON CONFLICT (user_id, idem) WHERE idem IS NOT NULL DO NOTHING RETURNING *),
     w AS (INSERT INTO statement_rows (statement_id, first, count, data) SELECT r.id, 0, $27::integer, $28 FROM r WHERE $27::integer > 0),
     t AS (SELECT r.id, CASE WHEN $29::jsonb IS NOT NULL
                             THEN base.live_add (statement_channel (r::statements), NULL, 'statement.rows', $29::jsonb) END AS live,
                  n.live AS live2, n.live2 AS live3 FROM r, LATERAL statement_told (r::statements) n)
SELECT n.*, t.live, t.live2, t.live3, (t.live2 ->> 'off')::bigint AS "_top"
  FROM r JOIN t USING (id), LATERAL statement_seen (r::statements) n

-- :name statement_again
-- $1 user, $2 key of the request.
SELECT id FROM statements WHERE user_id = $1::uuid AND idem = $2

-- :name statement_begin
-- $1 statement. No row: it does not wait any more.
WITH r AS (UPDATE statements SET state = 'running', state_seq = state_seq + 1, started_at = now (), updated_at = now ()
            WHERE id = $1::uuid AND state = 'queued' RETURNING *)
SELECT r.id, n.live, n.live2 FROM r, LATERAL statement_told (r::statements) n

-- :name statement_cancelling
-- $1 user, $2 statement. No row: not there, or not theirs. Null id: it is over, as `was` says, or is being cancelled already.
WITH t AS (SELECT id, state FROM statements WHERE user_id = $1::uuid AND id = $2::uuid FOR UPDATE),
     u AS (UPDATE statements s SET state = 'cancelling', state_seq = s.state_seq + 1, updated_at = now ()
             FROM t WHERE s.id = t.id AND t.state IN ('queued', 'running') RETURNING s.*),
     n AS (SELECT u.id, f.live, f.live2 FROM u, LATERAL statement_told (u::statements) f)
SELECT n.id, t.state AS was, n.live, n.live2 FROM t LEFT JOIN n USING (id)

-- :name statement_detail
-- $1 statement, $2 what goes on in this state. No row: over.
WITH r AS (UPDATE statements SET state_detail = $2, updated_at = now ()
            WHERE id = $1::uuid AND state IN ('running', 'cancelling') AND state_detail IS DISTINCT FROM $2 RETURNING *)
SELECT r.id, base.live_add (statement_channel (r::statements), NULL, 'statement.state', statement_brief (r::statements)) AS live FROM r

-- :name statement_progress
-- $1 statement, $2 percent or NULL, $3 id of the engine or NULL, $4 where to look at it or NULL, $5 rows so far. No row: over.
WITH r AS (UPDATE statements SET progress = coalesce ($2::integer, progress), engine_id = coalesce ($3, engine_id),
                                 info_uri = coalesce ($4, info_uri), row_count = $5::bigint
            WHERE id = $1::uuid AND state = 'running' RETURNING *)
SELECT r.id, base.live_add (statement_channel (r::statements), NULL, 'statement.progress', jsonb_build_object (
                 'progress', r.progress, 'engine_id', r.engine_id, 'info_uri', r.info_uri, 'row_count', r.row_count)) AS live FROM r

-- :name statement_rows_add
-- $1 statement, $2 position of the first, $3 how many, $4 the rows, $5 what is told of them.
WITH r AS (INSERT INTO statement_rows (statement_id, first, count, data)
           SELECT s.id, $2::bigint, $3::integer, $4 FROM statements s WHERE s.id = $1::uuid AND $3::integer > 0
           RETURNING statement_id),
     s AS (SELECT * FROM statements WHERE id = $1::uuid)
SELECT s.id, base.live_add (statement_channel (s::statements), NULL, 'statement.rows', $5::jsonb) AS live FROM s
 WHERE (SELECT count (*) FROM r) >= 0

-- :name statement_end
-- $1 statement, $2 state, $3 detail or NULL, $4 termination, $5 columns or NULL, $6 rows, $7 bytes, $8 truncated, $9 rows changed or NULL,
-- $10 tag or NULL, $11 engine's id or NULL, $12 its page or NULL, $13 seconds that the result is kept, NULL: nothing is.
-- What statement_get answers. No row: gone, or over already.
WITH r AS (UPDATE statements s
              SET state = $2, state_detail = $3, state_seq = s.state_seq + 1, termination = $4::jsonb, columns = $5::jsonb,
                  row_count = $6::bigint, byte_count = $7::bigint, truncated = $8::boolean, changed = $9::bigint, tag = $10,
                  engine_id = coalesce ($11, engine_id), info_uri = coalesce ($12, info_uri),
                  progress = CASE WHEN $2 = 'succeeded' THEN 100 ELSE progress END,
                  started_at = coalesce (s.started_at, now ()), finished_at = clock_timestamp (), updated_at = now (),
                  expires_at = now () + make_interval (secs => $13::double precision)
            WHERE id = $1::uuid AND state IN ('queued', 'running', 'cancelling')
        RETURNING *),
     t AS (SELECT r.id, n.live, n.live2 FROM r, LATERAL statement_told (r::statements) n)
SELECT n.*, t.live, t.live2, (t.live ->> 'off')::bigint AS "_top"
  FROM r JOIN t USING (id), LATERAL statement_seen (r::statements) n

-- :name statements_lost
-- $1 why, $2 user, NULL for all: what was begun under a claim that nobody holds any more.
WITH r AS (UPDATE statements s
              SET state = 'lost', state_seq = state_seq + 1, finished_at = now (), updated_at = now (),
                  termination = jsonb_build_object ('type', 'lost', 'code', 'RESTARTED', 'message', $1::text)
            WHERE state IN ('queued', 'running', 'cancelling') AND ($2::uuid IS NULL OR user_id = $2::uuid)
              AND NOT EXISTS (SELECT FROM claims c WHERE c.key = 'user:' || s.user_id AND c.number = s.claim)
        RETURNING *),
     d AS (DELETE FROM statement_rows o USING r WHERE o.statement_id = r.id)
SELECT r.id, n.live, n.live2 FROM r, LATERAL statement_told (r::statements) n

-- :name statement_get
-- $1 user, $2 statement. No row: not there, or not theirs.
SELECT n.*, (SELECT coalesce (max (l.off), 0) FROM live_log l WHERE l.ch = n.channel) AS "_top"
  FROM statements s, LATERAL statement_seen (s) n WHERE s.user_id = $1::uuid AND s.id = $2::uuid

-- :name statement_rows
-- $1 statement, $2 first row wanted, $3 behind the last one, $4 pieces at most.
SELECT first, count, data FROM statement_rows
 WHERE statement_id = $1::uuid AND first < $3::bigint AND first + count > $2::bigint ORDER BY first LIMIT $4::bigint

-- :name statements_expire
-- $1 user, NULL for all, $2 bytes that this user's results may take, or NULL. Results whose time is over, or the oldest that are too many.
WITH o AS (SELECT s.id FROM statements s
            WHERE s.state = 'succeeded' AND s.expires_at < now () AND ($1::uuid IS NULL OR s.user_id = $1::uuid)
            UNION SELECT b.id FROM (SELECT s.id, sum (s.byte_count) OVER (ORDER BY s.finished_at DESC, s.id) AS upto FROM statements s
                                     WHERE $2::bigint IS NOT NULL AND s.user_id = $1::uuid AND s.state = 'succeeded'
                                       AND s.byte_count > 0) b
                   WHERE b.upto > $2::bigint
            LIMIT 200),
     r AS (UPDATE statements s SET state = 'expired', state_seq = state_seq + 1, updated_at = now (), expires_at = NULL
             FROM o WHERE s.id = o.id RETURNING s.*),
     d AS (DELETE FROM statement_rows w USING r WHERE w.statement_id = r.id)
SELECT r.id, n.live, n.live2 FROM r, LATERAL statement_told (r::statements) n

-- :name statements_forget
-- $1 days that the history is kept.
WITH r AS (DELETE FROM statements s WHERE s.id IN (SELECT o.id FROM statements o
                  WHERE o.finished_at < now () - make_interval (days => $1::integer) ORDER BY o.finished_at LIMIT 200) RETURNING *)
SELECT r.id, base.live_add ('user:' || r.user_id || '/statements', r.id::text, 'statement.deleted', jsonb_build_object ('id', r.id)) AS live
  FROM r

-- :name statements_of_user_delete
-- $1 user.
DELETE FROM statements WHERE user_id = $1::uuid

-- :name queries_of_workspace_delete
-- $1 workspace.
DELETE FROM queries r WHERE workspace_id = $1::uuid
RETURNING id, base.live_add ('user:' || r.user_id || '/queries', r.id::text, 'query.deleted', jsonb_build_object ('id', r.id)) AS live

-- :name queries_of_user_delete
-- $1 user.
WITH q AS (DELETE FROM queries WHERE user_id = $1::uuid RETURNING id),
     s AS (DELETE FROM saved_queries WHERE user_id = $1::uuid RETURNING id)
SELECT (SELECT count (*) FROM q) + (SELECT count (*) FROM s) AS count

-- :name query_access
-- $1 caller, $2 query. No row: not there, or not theirs.
SELECT q.id, q.user_id, q.workspace_id, q.query_text, q.engine, q.cluster_id,
       CASE WHEN q.user_id = $1::uuid THEN 'owner' ELSE workspace_role (q.workspace_id, $1::uuid) END AS role
  FROM queries q
 WHERE q.id = $2::uuid AND (q.user_id = $1::uuid OR workspace_role (q.workspace_id, $1::uuid) IS NOT NULL)
