-- :name job_own
-- $1 caller, $2 job. No row: not there, or not theirs.
SELECT id, user_id, name, job_type, schedule, timezone, config::text AS config, enabled, cluster_id, max_concurrent_runs,
       extract (epoch FROM next_run_at)::bigint AS next
  FROM jobs WHERE user_id = $1::uuid AND id = $2::uuid

-- :name job_switch
-- $1 caller, $2 job, $3 enabled, $4 next firing (Unix seconds) or NULL. No row: gone.
WITH r AS (UPDATE jobs SET enabled = $3::boolean, next_run_at = to_timestamp ($4::bigint), updated_at = clock_timestamp ()
            WHERE user_id = $1::uuid AND id = $2::uuid RETURNING *)
SELECT r.*, job_event (r) AS live FROM r

-- :name jobs_due
-- $1 now (Unix seconds), $2 limit, $3 when and $4 which job the page before ended with.
SELECT id, schedule, timezone, catchup, extract (epoch FROM next_run_at)::bigint AS next, next_run_at::text AS due
  FROM jobs
 WHERE enabled AND next_run_at <= to_timestamp ($1::bigint) AND (next_run_at, id) > ($3::timestamptz, $4::uuid)
 ORDER BY next_run_at, id LIMIT $2::bigint

-- :name jobs_next
-- Unix seconds of the next firing of all. NULL: none is scheduled.
SELECT extract (epoch FROM min (next_run_at))::bigint AS next FROM jobs WHERE enabled AND next_run_at IS NOT NULL

-- :name jobs_fire
-- $1 jobs, $2 the next firing that each was to have (Unix seconds), $3 its firings as array {at, from, at, from …} in a text.
-- Rows: the runs that began to exist. A job that was changed meanwhile ($2 is not its next firing any more) is left alone; a
-- time fires once. The events are those of base.live_add, all in one go: thousands may be due at once. The log of a run
-- begins when it runs.
WITH j AS (SELECT o.id, o.user_id, o.parameters, o.max_concurrent_runs = 0 AS skipped, o.queue, d.fires::bigint[] AS fires
             FROM unnest ($1::uuid[], $2::bigint[], $3::text[]) AS d (job, was, fires)
             JOIN jobs o ON o.id = d.job AND o.enabled AND extract (epoch FROM o.next_run_at)::bigint = d.was),
     r AS (INSERT INTO job_runs (job_id, user_id, trigger, priority, parameters, scheduled_for, interval_start, may_wait,
                                 state_detail, status, completed_at, termination, error_message)
           SELECT j.id, j.user_id, 'schedule', 10, j.parameters, to_timestamp (j.fires [n]), to_timestamp (j.fires [n + 1]), j.queue,
                  CASE WHEN j.skipped THEN 'skipped' ELSE 'queued' END, CASE WHEN j.skipped THEN 'failed' ELSE 'pending' END,
                  CASE WHEN j.skipped THEN now () END, CASE WHEN j.skipped THEN skipped_why (0) END,
                  CASE WHEN j.skipped THEN skipped_why (0) ->> 'message' END
             FROM j CROSS JOIN LATERAL generate_series (1, cardinality (j.fires), 2) n
           ON CONFLICT (job_id, scheduled_for) WHERE scheduled_for IS NOT NULL DO NOTHING
           RETURNING *),
     b AS (SELECT r.id, 'user:' || r.user_id || '/job_runs' AS ch, 'job_run.' || r.state_detail AS type, run_brief (r) AS data,
                  row_number () OVER (PARTITION BY r.user_id ORDER BY r.scheduled_for, r.id) AS place FROM r),
     e AS (INSERT INTO live_log AS l (ch, off, key, type, data)
           SELECT b.ch, b.place + coalesce ((SELECT max (l.off) FROM live_log l WHERE l.ch = b.ch), 0), b.id::text, b.type, b.data
             FROM b RETURNING l.*)
SELECT e.key AS id, json_build_object ('ch', e.ch, 'epoch', m.epoch, 'off', e.off, 'key', e.key, 'type', e.type, 'at', base.utc (e.at),
                                       'data', e.data) AS live
  FROM e CROSS JOIN live_meta m

-- :name jobs_fired
-- $1 jobs, $2 the next firing that each was to have, $3 the one that comes next (Unix seconds; NULL: none). After jobs_fire: who
-- is killed in between finds them due again, and fires nothing twice.
UPDATE jobs o SET next_run_at = to_timestamp (d.next) FROM unnest ($1::uuid[], $2::bigint[], $3::bigint[]) AS d (job, was, next)
 WHERE o.id = d.job AND o.enabled AND extract (epoch FROM o.next_run_at)::bigint = d.was

-- :name run_add
-- $1 caller, $2 job, $3 parameters (over those of the job). No row: no such job.
WITH r AS (INSERT INTO job_runs (job_id, user_id, trigger, priority, parameters, state_detail, status, completed_at, termination, error_message)
           SELECT j.id, j.user_id, 'manual', 20, j.parameters || coalesce ($3::jsonb, '{}'),
                  CASE WHEN j.max_concurrent_runs = 0 THEN 'skipped' ELSE 'queued' END,
                  CASE WHEN j.max_concurrent_runs = 0 THEN 'failed' ELSE 'pending' END,
                  CASE WHEN j.max_concurrent_runs = 0 THEN now () END,
                  CASE WHEN j.max_concurrent_runs = 0 THEN skipped_why (0) END,
                  CASE WHEN j.max_concurrent_runs = 0 THEN skipped_why (0) ->> 'message' END
             FROM jobs j WHERE j.user_id = $1::uuid AND j.id = $2::uuid RETURNING *)
SELECT r.id, r.job_id, r.status, r.state_detail, r.state_seq, r.termination, r.trigger, r.scheduled_for, r.repair, r.parameters,
       r.logs, r.error_message, r.started_at, r.completed_at, run_seconds (r) AS duration_seconds, r.created_at,
       base.live_add (run_channel (r), NULL, 'job_run.' || r.state_detail, run_brief (r)) AS live,
       base.live_add ('user:' || r.user_id || '/job_runs', r.id::text, 'job_run.' || r.state_detail, run_brief (r)) AS live2
  FROM r

-- :name backfill_add
-- $1 caller, $2 job, $3 firings [{at, from}] in Unix seconds, $4 parameters, $5 what of earlier runs is done again: none,
-- failed, completed. The id is null: nothing is told of each, there may be many.
WITH f AS (SELECT * FROM jsonb_to_recordset ($3::jsonb) AS f (at bigint, "from" bigint)),
     r AS (INSERT INTO job_runs AS o (job_id, user_id, trigger, priority, parameters, scheduled_for, interval_start)
           SELECT j.id, j.user_id, 'backfill', 0, j.parameters || coalesce ($4::jsonb, '{}'), to_timestamp (f.at), to_timestamp (f.from)
             FROM jobs j CROSS JOIN f WHERE j.user_id = $1::uuid AND j.id = $2::uuid
           ON CONFLICT (job_id, scheduled_for) WHERE scheduled_for IS NOT NULL DO UPDATE
              SET state_detail = 'queued', status = 'pending', state_seq = o.state_seq + 1, repair = o.repair + 1, priority = 0, may_wait = true,
                  parameters = excluded.parameters, cancel = NULL, tasks = NULL, termination = NULL, error_message = NULL, completed_at = NULL
            WHERE ($5 = 'completed' AND o.completed_at IS NOT NULL) OR ($5 = 'failed' AND o.completed_at IS NOT NULL AND o.status = 'failed')
           RETURNING (xmax = 0) AS fresh)
SELECT NULL::uuid AS id, count (*) FILTER (WHERE fresh) AS created, count (*) FILTER (WHERE NOT fresh) AS again FROM r

-- :name runs_admit
-- $1 slots that are free, $2 runs of one user at once: what waits, by priority, as far as limits allow. Only the first that no
-- limit holds back are looked at: while there are rows, there may be more.
WITH a AS MATERIALIZED (SELECT job_id, user_id FROM job_runs WHERE state_detail IN ('running', 'waiting_retry', 'cancelling')),
     aj AS (SELECT a.job_id, count (*) AS n FROM a GROUP BY a.job_id),
     au AS (SELECT a.user_id, count (*) AS n FROM a GROUP BY a.user_id),
     c AS MATERIALIZED (
           SELECT r.id, r.job_id, r.user_id, r.state_seq, r.priority, coalesce (r.scheduled_for, r.created_at) AS due,
                  j.max_concurrent_runs AS most
             FROM job_runs r JOIN jobs j ON j.id = r.job_id AND j.max_concurrent_runs > 0
            WHERE r.state_detail = 'queued'
              AND r.job_id NOT IN (SELECT aj.job_id FROM aj JOIN jobs f ON f.id = aj.job_id WHERE aj.n >= f.max_concurrent_runs)
              AND r.user_id NOT IN (SELECT au.user_id FROM au WHERE au.n >= $2::bigint)
            ORDER BY r.priority DESC, coalesce (r.scheduled_for, r.created_at), r.id LIMIT 200),
     w AS (SELECT c.*, row_number () OVER (PARTITION BY c.job_id ORDER BY c.priority DESC, c.due, c.id) + coalesce (aj.n, 0) AS place
             FROM c LEFT JOIN aj ON aj.job_id = c.job_id),
     v AS (SELECT w.*, row_number () OVER (PARTITION BY w.user_id ORDER BY w.priority DESC, w.due, w.id) + coalesce (au.n, 0) AS seat
             FROM w LEFT JOIN au ON au.user_id = w.user_id WHERE w.place <= w.most),
     p AS MATERIALIZED (SELECT v.id, v.state_seq FROM v WHERE v.seat <= $2::bigint ORDER BY v.priority DESC, v.due, v.id LIMIT $1::bigint),
     r AS (UPDATE job_runs o SET state_detail = 'running', status = 'running', state_seq = o.state_seq + 1,
                  started_at = coalesce (o.started_at, now ())
             FROM p WHERE o.id = p.id AND o.state_seq = p.state_seq RETURNING o.*)
SELECT r.id, run_events (r) AS live FROM r

-- :name runs_skip
-- Runs that may not wait, while as many of their job run as may.
WITH q AS (SELECT r.id, j.max_concurrent_runs AS most FROM job_runs r JOIN jobs j ON j.id = r.job_id
            WHERE r.state_detail = 'queued' AND NOT r.may_wait
              AND (SELECT count (*) FROM job_runs a WHERE a.job_id = j.id AND a.state_detail IN ('running', 'waiting_retry', 'cancelling'))
                  >= j.max_concurrent_runs),
     r AS (UPDATE job_runs o SET state_detail = 'skipped', status = 'failed', state_seq = o.state_seq + 1, completed_at = now (),
                  termination = skipped_why (q.most), error_message = skipped_why (q.most) ->> 'message'
             FROM q WHERE o.id = q.id AND o.state_detail = 'queued' RETURNING o.*)
SELECT r.id, run_events (r) AS live FROM r

-- :name runs_alive
-- Runs that some process works at, or did.
SELECT id FROM job_runs WHERE state_detail IN ('running', 'waiting_retry', 'cancelling')

-- :name run_load
-- $1 run: what is needed to work at it. No row: gone.
SELECT r.id, r.job_id, r.user_id, r.state_detail, r.repair, r.cancel, r.parameters::text AS parameters, r.tasks::text AS tasks,
       extract (epoch FROM now () - r.started_at)::double precision AS age, r.scheduled_for,
       j.job_type, j.config::text AS config, j.cluster_id, j.max_retries, j.max_infra_retries, j.retry_delay_seconds,
       j.retry_backoff, j.timeout_seconds
  FROM job_runs r JOIN jobs j ON j.id = r.job_id WHERE r.id = $1::uuid

-- :name run_plan
-- $1 run, $2 its tasks. No row: gone.
UPDATE job_runs SET tasks = $2::jsonb WHERE id = $1::uuid RETURNING id

-- :name tasks_load
-- $1 run: the newest attempt at each task, and how many there were in this repair.
SELECT DISTINCT ON (t.task_key) t.task_key, t.attempt, t.state, t.repair, t.infra, t.ref, t.outcome, t.result::text AS result,
       t.termination ->> 'message' AS message,
       greatest (0, extract (epoch FROM t.retry_at - now ()) * 1000)::bigint AS retry_ms, t.retry_at IS NOT NULL AS retries,
       extract (epoch FROM now () - t.started_at)::double precision AS age,
       count (*) FILTER (WHERE NOT t.infra AND t.repair = r.repair AND t.state IN ('failed', 'timed_out')) OVER w AS failures,
       count (*) FILTER (WHERE t.infra AND t.repair = r.repair AND t.state IN ('failed', 'lost')) OVER w AS breaks
  FROM job_tasks t JOIN job_runs r ON r.id = t.run_id WHERE t.run_id = $1::uuid
WINDOW w AS (PARTITION BY t.task_key)
 ORDER BY t.task_key, t.attempt DESC

-- :name run_move
-- $1 run, $2 from, $3 to. No row: it is in another state.
WITH r AS (UPDATE job_runs SET state_detail = $3, status = run_status ($3), state_seq = state_seq + 1
            WHERE id = $1::uuid AND state_detail = $2 RETURNING *)
SELECT r.id, run_events (r) AS live FROM r

-- :name run_end
-- $1 run, $2 final state, $3 termination, $4 error message or NULL. No row: gone, or over already.
WITH r AS (UPDATE job_runs SET state_detail = $2, status = run_status ($2), state_seq = state_seq + 1, termination = $3::jsonb,
                  error_message = $4, completed_at = now (), cancel = NULL
            WHERE id = $1::uuid AND state_detail IN ('running', 'waiting_retry', 'cancelling') RETURNING *)
SELECT r.id, run_events (r) AS live FROM r

-- :name run_log
-- $1 run, $2 task or NULL, $3 text of one or more lines. No row: gone.
WITH r AS (UPDATE job_runs SET logs = log_tail (logs || $3 || E'\n', 32768) WHERE id = $1::uuid RETURNING *)
SELECT r.id, base.live_add (run_channel (r), NULL, 'job_run.log', jsonb_build_object ('task_key', $2::text, 'text', $3::text)) AS live FROM r

-- :name task_begin
-- $1 run, $2 task, $3 attempt, $4 type. No row: gone, or begun already.
WITH t AS (INSERT INTO job_tasks (run_id, task_key, attempt, type, state, repair)
           SELECT r.id, $2, $3::integer, $4, 'running', r.repair FROM job_runs r WHERE r.id = $1::uuid
           ON CONFLICT DO NOTHING RETURNING *)
SELECT r.id, base.live_add (run_channel (r), NULL, 'job_task.running', task_brief (t)) AS live
  FROM t JOIN job_runs r ON r.id = t.run_id

-- :name task_ref
-- $1 run, $2 task, $3 attempt, $4 name that its engine has for it. No row: gone.
UPDATE job_tasks SET ref = $4 WHERE run_id = $1::uuid AND task_key = $2 AND attempt = $3::integer RETURNING run_id AS id

-- :name task_end
-- $1 run, $2 task, $3 attempt, $4 type, $5 state, $6 infrastructure?, $7 outcome, $8 result, $9 termination, $10 ms until it is
-- tried again or NULL. Inserts what never ran. No row: gone, or over already.
WITH t AS (INSERT INTO job_tasks AS o (run_id, task_key, attempt, type, state, repair, infra, outcome, result, termination, retry_at, completed_at)
           SELECT r.id, $2, $3::integer, $4, $5, r.repair, $6::boolean, $7, $8::jsonb, $9::jsonb, now () + $10::bigint * interval '1 ms', now ()
             FROM job_runs r WHERE r.id = $1::uuid
           ON CONFLICT (run_id, task_key, attempt) DO UPDATE
              SET state = excluded.state, infra = excluded.infra, outcome = excluded.outcome, result = excluded.result,
                  termination = excluded.termination, retry_at = excluded.retry_at, completed_at = excluded.completed_at
            WHERE o.state = 'running' RETURNING *)
SELECT r.id, base.live_add (run_channel (r), NULL, 'job_task.' || t.state, task_brief (t)) AS live
  FROM t JOIN job_runs r ON r.id = t.run_id

-- :name run_get
-- $1 caller, $2 run. No row: not there, or not theirs.
SELECT r.id, r.job_id, r.status, r.state_detail, r.state_seq, r.termination, r.trigger, r.scheduled_for, r.interval_start, r.repair,
       r.parameters, r.logs, r.error_message, r.started_at, r.completed_at, run_seconds (r) AS duration_seconds, r.created_at,
       coalesce ((SELECT jsonb_agg (task_brief (t) ORDER BY t.started_at, t.task_key, t.attempt) FROM job_tasks t WHERE t.run_id = r.id), '[]') AS tasks,
       run_channel (r) AS channel, (SELECT coalesce (max (l.off), 0) FROM live_log l WHERE l.ch = run_channel (r)) AS top
  FROM job_runs r WHERE r.user_id = $1::uuid AND r.id = $2::uuid AND ($3::uuid IS NULL OR r.job_id = $3::uuid)

-- :name runs_list
-- $1 caller, $2 job or NULL, $3 status or NULL, $4 fine state or NULL, $5 limit, $6 id of the last row of the page before or NULL.
SELECT r.id, r.job_id, r.status, r.state_detail, r.state_seq, r.termination, r.trigger, r.scheduled_for, r.interval_start, r.repair,
       r.parameters, r.logs, r.error_message, r.started_at, r.completed_at, run_seconds (r) AS duration_seconds, r.created_at
  FROM job_runs r
 WHERE r.user_id = $1::uuid AND ($2::uuid IS NULL OR r.job_id = $2::uuid) AND ($3::text IS NULL OR r.status = $3)
   AND ($4::text IS NULL OR r.state_detail = $4)
   AND ($6::uuid IS NULL OR (r.created_at, r.id) < (SELECT b.created_at, b.id FROM job_runs b WHERE b.id = $6::uuid))
 ORDER BY r.created_at DESC, r.id DESC LIMIT $5::bigint

-- :name job_runs_snapshot
-- $1 user of the audience, $2 channel: the newest runs, for who begins to listen.
SELECT r.id, r.job_id, r.status, r.state_detail, r.state_seq, r.termination, r.trigger, r.scheduled_for, r.error_message,
       r.started_at, r.completed_at, run_seconds (r) AS duration_seconds, r.created_at
  FROM job_runs r WHERE r.user_id = $1::uuid AND $2::text IS NOT NULL ORDER BY r.created_at DESC, r.id DESC LIMIT 500

-- :name run_cancel
-- $1 caller, $2 run, $3 why. No row: not there. Null id: wrong state, named by `_was`.
WITH t AS (SELECT r.id, r.state_detail FROM job_runs r WHERE r.user_id = $1::uuid AND r.id = $2::uuid FOR UPDATE),
     r AS (UPDATE job_runs o
              SET state_detail = CASE t.state_detail WHEN 'queued' THEN 'cancelled' ELSE 'cancelling' END,
                  status = CASE t.state_detail WHEN 'queued' THEN 'failed' ELSE 'running' END,
                  termination = CASE t.state_detail WHEN 'queued' THEN cancelled_why ($3) END,
                  error_message = CASE t.state_detail WHEN 'queued' THEN $3 END,
                  completed_at = CASE t.state_detail WHEN 'queued' THEN now () END,
                  cancel = $3, state_seq = o.state_seq + 1
             FROM t WHERE o.id = t.id AND t.state_detail IN ('queued', 'running', 'waiting_retry') RETURNING o.*)
SELECT t.state_detail AS _was, r.id, r.job_id, r.status, r.state_detail, r.state_seq, r.termination, r.trigger, r.scheduled_for, r.interval_start, r.repair,
       r.parameters, r.logs, r.error_message, r.started_at, r.completed_at, run_seconds (r::job_runs) AS duration_seconds, r.created_at,
       coalesce ((SELECT jsonb_agg (task_brief (t) ORDER BY t.started_at, t.task_key, t.attempt) FROM job_tasks t WHERE t.run_id = r.id), '[]') AS tasks,
       CASE WHEN r.id IS NOT NULL THEN run_events (r::job_runs) END AS live
  FROM t LEFT JOIN r ON r.id = t.id

-- :name run_repair
-- $1 caller, $2 run. No row: not there. Null id: wrong state, named by `_was`.
WITH t AS (SELECT r.id, r.state_detail FROM job_runs r WHERE r.user_id = $1::uuid AND r.id = $2::uuid FOR UPDATE),
     r AS (UPDATE job_runs o
              SET state_detail = 'queued', status = 'pending', state_seq = o.state_seq + 1, repair = o.repair + 1, priority = 20, may_wait = true,
                  termination = NULL, error_message = NULL, completed_at = NULL, cancel = NULL
             FROM t WHERE o.id = t.id AND t.state_detail IN ('failed', 'timed_out', 'cancelled', 'lost', 'succeeded_with_failures')
           RETURNING o.*)
SELECT t.state_detail AS _was, r.id, r.job_id, r.status, r.state_detail, r.state_seq, r.termination, r.trigger, r.scheduled_for, r.interval_start, r.repair,
       r.parameters, r.logs, r.error_message, r.started_at, r.completed_at, run_seconds (r::job_runs) AS duration_seconds, r.created_at,
       coalesce ((SELECT jsonb_agg (task_brief (t) ORDER BY t.started_at, t.task_key, t.attempt) FROM job_tasks t WHERE t.run_id = r.id), '[]') AS tasks,
       CASE WHEN r.id IS NOT NULL THEN run_events (r::job_runs) END AS live
  FROM t LEFT JOIN r ON r.id = t.id

-- :name runs_of_job
-- $1 job: runs at work.
SELECT id FROM job_runs WHERE job_id = $1::uuid AND state_detail IN ('running', 'waiting_retry', 'cancelling')

-- :name runs_of_job_drop
-- $1 job that goes: what waits, goes without a word, there may be many.
DELETE FROM job_runs WHERE job_id = $1::uuid AND state_detail = 'queued'

-- :name runs_of_job_cancel
-- $1 job, $2 why.
WITH r AS (UPDATE job_runs o SET state_detail = 'cancelling', status = 'running', cancel = $2, state_seq = o.state_seq + 1
            WHERE o.job_id = $1::uuid AND o.state_detail IN ('running', 'waiting_retry') RETURNING o.*)
SELECT r.id, run_events (r) AS live FROM r

-- :name jobs_of
-- $1 user or NULL, $2 workspace or NULL.
SELECT id, user_id FROM jobs WHERE ($1::uuid IS NULL OR user_id = $1::uuid) AND ($2::uuid IS NULL OR workspace_id = $2::uuid)

-- :name job_delete
-- $1 job. No row: gone already.
DELETE FROM jobs r WHERE id = $1::uuid
RETURNING id, base.live_add ('user:' || r.user_id || '/jobs', r.id::text, 'job.deleted', jsonb_build_object ('id', r.id)) AS live

-- :name jobs_without_cluster
-- $1 cluster that is deleted.
WITH r AS (UPDATE jobs SET cluster_id = NULL, updated_at = clock_timestamp () WHERE cluster_id = $1::uuid RETURNING *)
SELECT r.id, job_event (r) AS live FROM r
