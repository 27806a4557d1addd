--  jobs: pipelines, what is deployed of them, and ETL pipelines.

CREATE TABLE jobs.pipelines (
    id                uuid PRIMARY KEY DEFAULT gen_random_uuid (),
    user_id           uuid NOT NULL REFERENCES identity.users (id) ON DELETE RESTRICT,
    workspace_id      uuid REFERENCES platform.workspaces (id) ON DELETE RESTRICT,
    name              text NOT NULL CHECK (length (name) BETWEEN 1 AND 255),
    description       text,
    pipeline_graph    jsonb NOT NULL DEFAULT '{"nodes": [], "edges": []}',
    cloud_provider    text CHECK (cloud_provider IN ('aws', 'azure', 'gcp')),
    airflow_yaml      text,
    schedule          text,
    timezone          text NOT NULL DEFAULT 'UTC',
    git_repo_url      text,
    git_branch        text,
    git_file_path     text,
    git_sync_enabled  boolean NOT NULL DEFAULT false,
    last_git_sync     timestamptz,
    status            text NOT NULL DEFAULT 'draft' CHECK (status IN ('draft', 'deployed', 'error')),
    job_id            uuid REFERENCES jobs.jobs (id) ON DELETE SET NULL,
    state_machine_arn text,
    created_at        timestamptz NOT NULL DEFAULT now (),
    updated_at        timestamptz NOT NULL DEFAULT now (),
    UNIQUE (id, user_id)
);
CREATE INDEX pipelines_user ON jobs.pipelines (user_id, created_at DESC, id DESC);
CREATE INDEX pipelines_workspace ON jobs.pipelines (workspace_id);
CREATE INDEX pipelines_job ON jobs.pipelines (job_id);

--  What was deployed stays as it was: the graph, and the commit that it belongs to.
CREATE TABLE jobs.deployments (
    id               uuid PRIMARY KEY DEFAULT gen_random_uuid (),
    user_id          uuid NOT NULL,
    pipeline_id      uuid NOT NULL,
    version          integer NOT NULL,
    target           text NOT NULL CHECK (target IN ('local', 'aws-step-functions')),
    status           text NOT NULL DEFAULT 'deploying'
                     CHECK (status IN ('deploying', 'active', 'superseded', 'removed', 'failed')),
    state_seq        bigint NOT NULL DEFAULT 1,
    termination      jsonb,
    steps            jsonb NOT NULL DEFAULT '[]',
    pipeline_graph   jsonb NOT NULL,
    schedule         text,
    timezone         text NOT NULL DEFAULT 'UTC',
    config           jsonb NOT NULL DEFAULT '{}',
    cloud_profile_id uuid,
    git_repo_url     text,
    git_branch       text,
    git_commit       text,
    job_id           uuid,
    resource_arn     text,
    definition       jsonb,
    rollback_of      uuid,
    instance         text,
    expires_at       timestamptz,
    created_at       timestamptz NOT NULL DEFAULT now (),
    completed_at     timestamptz,
    UNIQUE (pipeline_id, version),
    FOREIGN KEY (pipeline_id, user_id) REFERENCES jobs.pipelines (id, user_id) ON DELETE CASCADE
);
--  One at a time; one in force per target.
CREATE UNIQUE INDEX deployments_deploying ON jobs.deployments (pipeline_id) WHERE status = 'deploying';
CREATE UNIQUE INDEX deployments_active ON jobs.deployments (pipeline_id, target) WHERE status = 'active';
CREATE INDEX deployments_user ON jobs.deployments (user_id, created_at DESC, id DESC);

CREATE TABLE jobs.etl_pipelines (
    id              uuid PRIMARY KEY DEFAULT gen_random_uuid (),
    user_id         uuid NOT NULL REFERENCES identity.users (id) ON DELETE RESTRICT,
    name            text NOT NULL CHECK (length (name) BETWEEN 1 AND 255),
    description     text,
    mode            text NOT NULL DEFAULT 'visual' CHECK (mode IN ('visual', 'form')),
    workflow_data   jsonb NOT NULL DEFAULT '{"nodes": [], "edges": []}',
    sources         jsonb NOT NULL DEFAULT '[]',
    targets         jsonb NOT NULL DEFAULT '[]',
    transformations jsonb NOT NULL DEFAULT '[]',
    cloud_services  jsonb NOT NULL DEFAULT '[]',
    status          text NOT NULL DEFAULT 'draft' CHECK (length (status) BETWEEN 1 AND 50),
    last_run        timestamptz,
    created_at      timestamptz NOT NULL DEFAULT now (),
    updated_at      timestamptz NOT NULL DEFAULT now (),
    UNIQUE (id, user_id)
);
CREATE INDEX etl_pipelines_user ON jobs.etl_pipelines (user_id, created_at DESC, id DESC);

--  As answers and events show it; lists go without the graph and the definition.
CREATE FUNCTION jobs.deployment_shown (d jobs.deployments) RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT to_jsonb ($1) - '{pipeline_graph,definition,expires_at,instance}'::text []
        || jsonb_build_object ('created_at', base.utc ($1.created_at), 'completed_at', base.utc ($1.completed_at))
$$;

--  Events of a deployment's new state: in the collection, and in its own log.
CREATE FUNCTION jobs.deployment_events (d jobs.deployments, type text, data jsonb) RETURNS jsonb LANGUAGE sql VOLATILE AS $$
    SELECT jsonb_build_array (
        base.live_add ('user:' || $1.user_id || '/deployments', $1.id::text, 'deployment.' || $1.status, jobs.deployment_shown ($1)),
        base.live_add ('user:' || $1.user_id || '/deployments/' || $1.id, NULL, $2, $3))
$$;

--  A pipeline as its events show it, after what a deployment has changed.
CREATE FUNCTION jobs.pipeline_event (p jobs.pipelines) RETURNS jsonb LANGUAGE sql VOLATILE AS $$
    SELECT base.live_add ('user:' || $1.user_id || '/pipelines', $1.id::text, 'pipeline.updated',
        to_jsonb ($1) - 'pipeline_graph' || jsonb_build_object (
            'created_at', base.utc ($1.created_at), 'updated_at', base.utc ($1.updated_at),
            'last_git_sync', base.utc ($1.last_git_sync)))
$$;
