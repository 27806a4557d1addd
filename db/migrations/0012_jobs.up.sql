--  jobs: schedules, runs of jobs, and the attempts at their tasks.

SELECT base.actor_install ('jobs');

CREATE TABLE jobs.jobs (
    id                  uuid PRIMARY KEY DEFAULT gen_random_uuid (),
    user_id             uuid NOT NULL REFERENCES identity.users (id) ON DELETE RESTRICT,
    workspace_id        uuid,
    name                text NOT NULL CHECK (length (name) BETWEEN 1 AND 255),
    description         text,
    job_type            text NOT NULL CHECK (job_type IN ('notebook', 'sql', 'pipeline')),
    schedule            text,
    timezone            text NOT NULL DEFAULT 'UTC',
    cluster_id          uuid,
    config              jsonb NOT NULL DEFAULT '{}',
    parameters          jsonb NOT NULL DEFAULT '{}',
    enabled             boolean NOT NULL DEFAULT true,
    catchup             text NOT NULL DEFAULT 'latest' CHECK (catchup IN ('latest', 'all', 'skip')),
    max_concurrent_runs integer NOT NULL DEFAULT 1 CHECK (max_concurrent_runs BETWEEN 0 AND 1000),
    queue               boolean NOT NULL DEFAULT true,
    max_retries         integer NOT NULL DEFAULT 0,
    max_infra_retries   integer NOT NULL DEFAULT 2,
    retry_delay_seconds double precision NOT NULL DEFAULT 30,
    retry_backoff       double precision NOT NULL DEFAULT 2,
    timeout_seconds     double precision NOT NULL DEFAULT 0,
    next_run_at         timestamptz,
    created_at          timestamptz NOT NULL DEFAULT now (),
    updated_at          timestamptz NOT NULL DEFAULT now (),
    UNIQUE (id, user_id),
    CONSTRAINT jobs_workspace_id_fkey FOREIGN KEY (workspace_id)
        REFERENCES platform.workspaces (id) ON DELETE RESTRICT
);
CREATE INDEX jobs_user ON jobs.jobs (user_id, created_at DESC, id DESC);
CREATE INDEX jobs_workspace ON jobs.jobs (workspace_id);
CREATE INDEX jobs_due ON jobs.jobs (next_run_at, id) WHERE enabled AND next_run_at IS NOT NULL;

--  A run. `status` is the coarse state that everybody knows, state_detail the fine one; state_seq
--  rises by one with each transition. `tasks` is what the job said when the run began; a run that
--  may not wait is skipped when it can't begin at once.
CREATE TABLE jobs.job_runs (
    id            uuid PRIMARY KEY DEFAULT gen_random_uuid (),
    job_id        uuid NOT NULL,
    user_id       uuid NOT NULL,
    status        text NOT NULL DEFAULT 'pending'
                  CHECK (status IN ('pending', 'running', 'success', 'failed')),
    state_detail  text NOT NULL DEFAULT 'queued' CHECK (state_detail IN
                  ('queued', 'running', 'waiting_retry', 'cancelling', 'succeeded',
                   'succeeded_with_failures', 'failed', 'timed_out', 'cancelled', 'skipped', 'lost')),
    state_seq     bigint NOT NULL DEFAULT 1,
    termination   jsonb,
    trigger       text NOT NULL CHECK (trigger IN ('manual', 'schedule', 'backfill')),
    priority      integer NOT NULL DEFAULT 10,
    may_wait      boolean NOT NULL DEFAULT true,
    scheduled_for timestamptz,
    interval_start timestamptz,
    repair        integer NOT NULL DEFAULT 0,
    parameters    jsonb NOT NULL DEFAULT '{}',
    tasks         jsonb,
    cancel        text,
    logs          text NOT NULL DEFAULT '',
    error_message text,
    started_at    timestamptz,
    completed_at  timestamptz,
    created_at    timestamptz NOT NULL DEFAULT now (),
    FOREIGN KEY (job_id, user_id) REFERENCES jobs.jobs (id, user_id) ON DELETE CASCADE
);
--  A time fires once, whoever tries.
CREATE UNIQUE INDEX job_runs_fire ON jobs.job_runs (job_id, scheduled_for) WHERE scheduled_for IS NOT NULL;
CREATE INDEX job_runs_job ON jobs.job_runs (job_id, created_at DESC, id DESC);
CREATE INDEX job_runs_user ON jobs.job_runs (user_id, created_at DESC, id DESC);
CREATE INDEX job_runs_queue ON jobs.job_runs (priority DESC, (coalesce (scheduled_for, created_at)), id)
    WHERE state_detail = 'queued';
CREATE INDEX job_runs_hasty ON jobs.job_runs (job_id) WHERE state_detail = 'queued' AND NOT may_wait;
CREATE INDEX job_runs_alive ON jobs.job_runs (job_id)
    WHERE state_detail IN ('running', 'waiting_retry', 'cancelling');

--  Attempts at a task are rows, never overwritten; the newest one is its state.
CREATE TABLE jobs.job_tasks (
    run_id       uuid NOT NULL REFERENCES jobs.job_runs (id) ON DELETE CASCADE,
    task_key     text NOT NULL,
    attempt      integer NOT NULL,
    type         text NOT NULL,
    state        text NOT NULL CHECK (state IN
                 ('running', 'succeeded', 'failed', 'timed_out', 'cancelled', 'skipped',
                  'upstream_failed', 'lost')),
    repair       integer NOT NULL DEFAULT 0,
    infra        boolean NOT NULL DEFAULT false,
    ref          text,
    outcome      text,
    result       jsonb,
    termination  jsonb,
    retry_at     timestamptz,
    started_at   timestamptz NOT NULL DEFAULT now (),
    completed_at timestamptz,
    PRIMARY KEY (run_id, task_key, attempt)
);

CREATE FUNCTION jobs.job_event (j jobs.jobs) RETURNS jsonb
LANGUAGE sql VOLATILE AS $$
    SELECT base.live_add ('user:' || j.user_id || '/jobs', j.id::text, 'job.updated',
        to_jsonb (j) || jsonb_build_object ('next_run_at', base.utc (j.next_run_at),
            'created_at', base.utc (j.created_at), 'updated_at', base.utc (j.updated_at)))
$$;

CREATE FUNCTION jobs.run_status (state_detail text) RETURNS text
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN $1 IN ('queued', 'waiting_retry') THEN 'pending'
                WHEN $1 IN ('running', 'cancelling') THEN 'running'
                WHEN $1 IN ('succeeded', 'succeeded_with_failures') THEN 'success'
                ELSE 'failed' END
$$;

CREATE FUNCTION jobs.run_seconds (r jobs.job_runs) RETURNS double precision
LANGUAGE sql IMMUTABLE AS $$
    SELECT round (extract (epoch FROM r.completed_at - r.started_at), 3)::double precision
$$;

--  What lists and events of the collection say of a run: everything but its logs and tasks.
CREATE FUNCTION jobs.run_brief (r jobs.job_runs) RETURNS jsonb
LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object (
        'id', r.id, 'job_id', r.job_id, 'status', r.status, 'state_detail', r.state_detail,
        'state_seq', r.state_seq, 'termination', r.termination, 'trigger', r.trigger,
        'scheduled_for', base.utc (r.scheduled_for), 'error_message', r.error_message,
        'started_at', base.utc (r.started_at), 'completed_at', base.utc (r.completed_at),
        'duration_seconds', jobs.run_seconds (r), 'created_at', base.utc (r.created_at))
$$;

CREATE FUNCTION jobs.run_channel (r jobs.job_runs) RETURNS text
LANGUAGE sql IMMUTABLE AS $$
    SELECT 'user:' || r.user_id || '/job_runs/' || r.id
$$;

--  Events of a run's new state: in its own log, and in the collection. One expression, which the
--  planner puts in the place of the call.
CREATE FUNCTION jobs.run_events (r jobs.job_runs) RETURNS jsonb
LANGUAGE sql VOLATILE AS $$
    SELECT jsonb_build_array (
        base.live_add (jobs.run_channel (r), NULL, 'job_run.' || r.state_detail, jobs.run_brief (r)),
        base.live_add ('user:' || r.user_id || '/job_runs', r.id::text, 'job_run.' || r.state_detail, jobs.run_brief (r)))
$$;

--  The end of a text of at most so many characters; what was cut off is said.
CREATE FUNCTION jobs.log_tail (logs text, size integer) RETURNS text
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN length ($1) <= $2 THEN $1
                ELSE E'[earlier lines are cut off]\n' || regexp_replace (right ($1, $2), '^[^\n]*\n', '') END
$$;

CREATE FUNCTION jobs.task_brief (t jobs.job_tasks) RETURNS jsonb
LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object (
        'task_key', t.task_key, 'type', t.type, 'attempt', t.attempt, 'repair', t.repair, 'state', t.state,
        'infra', t.infra, 'ref', t.ref, 'outcome', t.outcome, 'result', t.result,
        'termination', t.termination, 'retry_at', base.utc (t.retry_at),
        'started_at', base.utc (t.started_at), 'completed_at', base.utc (t.completed_at))
$$;

CREATE FUNCTION jobs.skipped_why (most integer) RETURNS jsonb
LANGUAGE sql IMMUTABLE AS $$
    SELECT jsonb_build_object ('code', 'MAX_CONCURRENT_RUNS_EXCEEDED', 'type', 'CLIENT_ERROR', 'message',
                               'the job allows ' || $1 || ' runs at once')
$$;

CREATE FUNCTION jobs.cancelled_why (why text) RETURNS jsonb
LANGUAGE sql IMMUTABLE AS $$
    SELECT jsonb_build_object ('code', 'USER_CANCELED', 'type', 'CLIENT_ERROR', 'message', $1)
$$;

--  Runs of notebooks have kernels of their own: which one an execution ran in, NULL for the notebook's.
ALTER TABLE kernels.executions ADD COLUMN session text;
CREATE INDEX executions_session ON kernels.executions (session) WHERE session IS NOT NULL;

CREATE OR REPLACE FUNCTION kernels.execution_brief (e kernels.executions) RETURNS jsonb
LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object (
        'id', e.id, 'execution_id', e.id, 'notebook_id', e.notebook_id, 'session', e.session, 'cell_id', e.cell_id,
        'language', e.language, 'state', e.state, 'execution_count', e.execution_count,
        'error', kernels.error_text (e.error), 'truncated', e.truncated, 'channel', e.channel,
        'created_at', base.utc (e.created_at), 'started_at', base.utc (e.started_at),
        'finished_at', base.utc (e.finished_at))
$$;
