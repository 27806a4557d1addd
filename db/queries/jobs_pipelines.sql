-- :name pipeline_own
-- $1 caller, $2 pipeline. No row: not there, or not theirs.
SELECT id, user_id, workspace_id, name, pipeline_graph::text AS graph, schedule, timezone, git_repo_url, git_branch,
       CASE WHEN git_sync_enabled THEN coalesce (git_file_path, '') END AS git_path, job_id, state_machine_arn
  FROM pipelines WHERE user_id = $1::uuid AND id = $2::uuid

-- :name pipeline_planned
-- $1 pipeline, $2 deployment or NULL: then the one in force here, or what was saved last. No row: gone.
SELECT coalesce (d.pipeline_graph, p.pipeline_graph)::text AS graph
  FROM pipelines p
  LEFT JOIN deployments d ON d.pipeline_id = p.id
       AND CASE WHEN $2::uuid IS NULL THEN d.status = 'active' AND d.target = 'local' ELSE d.id = $2::uuid END
 WHERE p.id = $1::uuid

-- :name pipeline_synced
-- $1 caller, $2 pipeline, $3 graph. No row: gone.
UPDATE pipelines p SET pipeline_graph = $3::jsonb, last_git_sync = now (),
       updated_at = greatest (clock_timestamp (), p.updated_at + interval '1 microsecond')
 WHERE user_id = $1::uuid AND id = $2::uuid RETURNING id, pipeline_event (p) AS live

-- :name deployment_begin
-- $1 caller, $2 pipeline, $3 target, $4 graph, $5 schedule, $6 timezone, $7 config, $8 cloud profile, $9 repository, $10 branch,
-- $11 commit, $12 deployment that it goes back to, $13 seconds it may take, $14 process that does it. No row: no such pipeline.
-- Null id: one is under way.
WITH p AS (SELECT id, user_id FROM pipelines WHERE user_id = $1::uuid AND id = $2::uuid FOR UPDATE),
     d AS (INSERT INTO deployments (user_id, pipeline_id, version, target, pipeline_graph, schedule, timezone, config,
                                    cloud_profile_id, git_repo_url, git_branch, git_commit, rollback_of, expires_at, instance)
           SELECT p.user_id, p.id, coalesce ((SELECT max (o.version) FROM deployments o WHERE o.pipeline_id = p.id), 0) + 1,
                  $3, $4::jsonb, $5, $6, $7::jsonb, $8::uuid, $9, $10, $11, $12::uuid, now () + make_interval (secs => $13::int), $14
             FROM p WHERE NOT EXISTS (SELECT FROM deployments o WHERE o.pipeline_id = p.id AND o.status = 'deploying')
           RETURNING *)
SELECT d.id, d.version,
       CASE WHEN d.id IS NOT NULL THEN
       deployment_events (d::deployments, 'deployment.started', jsonb_build_object ('target', d.target, 'version', d.version)) END AS live
  FROM p LEFT JOIN d ON d.pipeline_id = p.id

-- :name deployment_step
-- $1 deployment, $2 step {name, ok, ms, message}, $3 commit or NULL. No row: it was ended by somebody else.
UPDATE deployments d SET steps = d.steps || jsonb_build_array ($2::jsonb), git_commit = coalesce ($3, d.git_commit)
 WHERE id = $1::uuid AND status = 'deploying'
RETURNING id, base.live_add ('user:' || d.user_id || '/deployments/' || d.id, NULL, 'deployment.step', $2::jsonb) AS live

-- :name deployment_done
-- $1 deployment, $2 job or NULL, $3 ARN or NULL, $4 definition or NULL. No row: it was ended by somebody else.
WITH n AS (SELECT * FROM deployments WHERE id = $1::uuid AND status = 'deploying' FOR UPDATE),
     o AS (UPDATE deployments o SET status = 'superseded', state_seq = o.state_seq + 1 FROM n
            WHERE o.pipeline_id = n.pipeline_id AND o.target = n.target AND o.status = 'active' RETURNING o.*),
     p AS (UPDATE pipelines p SET status = 'deployed', job_id = coalesce ($2::uuid, p.job_id),
                  state_machine_arn = coalesce ($3, p.state_machine_arn),
                  updated_at = greatest (clock_timestamp (), p.updated_at + interval '1 microsecond')
             FROM n WHERE p.id = n.pipeline_id RETURNING p.*)
SELECT o.id AS superseded, p.id AS id, pipeline_event (p::pipelines) AS live2,
       CASE WHEN o.id IS NOT NULL THEN
       deployment_events (o::deployments, 'deployment.superseded', jsonb_build_object ('by', $1)) END AS live
  FROM n JOIN p ON true LEFT JOIN o ON true

-- :name deployment_activate
-- The same, once nothing else is in force.
WITH d AS (UPDATE deployments d SET status = 'active', state_seq = d.state_seq + 1, completed_at = now (), job_id = $2::uuid,
                  resource_arn = $3, definition = $4::jsonb, expires_at = NULL,
                  termination = '{"code": "SUCCESS", "type": "SUCCESS", "message": null}'
            WHERE id = $1::uuid AND status = 'deploying' RETURNING *)
SELECT d.id, deployment_shown (d::deployments) AS body, d.pipeline_graph AS graph,
       deployment_events (d::deployments, 'deployment.ended', jsonb_build_object ('job_id', d.job_id, 'resource_arn', d.resource_arn)) AS live
  FROM d

-- :name deployment_failed
-- $1 deployment, $2 termination. No row: it was ended by somebody else.
WITH d AS (UPDATE deployments d SET status = 'failed', state_seq = d.state_seq + 1, completed_at = now (), expires_at = NULL,
                  termination = $2::jsonb
            WHERE id = $1::uuid AND status = 'deploying' RETURNING *),
     p AS (UPDATE pipelines p SET status = 'error', updated_at = greatest (clock_timestamp (), p.updated_at + interval '1 microsecond')
             FROM d WHERE p.id = d.pipeline_id AND NOT EXISTS
                  (SELECT FROM deployments o WHERE o.pipeline_id = p.id AND o.status = 'active') RETURNING p.*)
SELECT d.id, deployment_events (d::deployments, 'deployment.failed', $2::jsonb) AS live,
       CASE WHEN p.id IS NOT NULL THEN pipeline_event (p::pipelines) END AS live2
  FROM d LEFT JOIN p ON true

-- :name deployments_stranded
-- $1 instance, $2 this process of it: those of its processes before, and those that took too long (`late`). `job`: what one of
-- them has installed here; active…: what is in force meanwhile.
SELECT d.id, d.user_id, d.target, d.config::text AS config, d.cloud_profile_id, d.expires_at < now () AS late,
       p.id AS pipeline_id, p.name, p.workspace_id, p.state_machine_arn,
       (SELECT j.id FROM jobs j WHERE j.user_id = d.user_id AND j.config ->> 'deployment_id' = d.id::text LIMIT 1) AS job,
       a.id AS active, a.job_id AS active_job, a.schedule AS active_schedule, a.timezone AS active_timezone,
       a.config::text AS active_config, a.cloud_profile_id AS active_profile, a.resource_arn AS active_arn,
       a.definition::text AS active_definition
  FROM deployments d JOIN pipelines p ON p.id = d.pipeline_id
  LEFT JOIN deployments a ON a.pipeline_id = d.pipeline_id AND a.target = d.target AND a.status = 'active'
 WHERE d.status = 'deploying' AND (d.expires_at < now () OR (d.instance <> $2 AND split_part (d.instance, '/', 1) = $1))
 ORDER BY d.expires_at < now () DESC, d.target = 'local' DESC

-- :name deployments_of
-- $1 caller, $2 pipeline.
SELECT d.id, d.user_id, d.pipeline_id, d.version, d.target, d.status, d.state_seq, d.termination, d.steps, d.schedule, d.timezone, d.config,
       d.cloud_profile_id, d.git_repo_url, d.git_branch, d.git_commit, d.job_id, d.resource_arn, d.rollback_of, d.created_at,
       d.completed_at
  FROM deployments d WHERE d.user_id = $1::uuid AND d.pipeline_id = $2::uuid ORDER BY d.version DESC LIMIT 1000

-- :name deployment_get
-- $1 caller, $2 deployment. No row: not there, or not theirs.
SELECT d.id, d.user_id, d.pipeline_id, d.version, d.target, d.status, d.state_seq, d.termination, d.steps, d.schedule, d.timezone, d.config,
       d.cloud_profile_id, d.git_repo_url, d.git_branch, d.git_commit, d.job_id, d.resource_arn, d.rollback_of, d.created_at,
       d.completed_at, d.pipeline_graph, d.definition, d.pipeline_graph::text AS graph, d.config::text AS config_text
  FROM deployments d WHERE d.user_id = $1::uuid AND d.id = $2::uuid

-- :name deployment_in_force
-- $1 caller, $2 pipeline, $3 target or NULL. No row: nothing is. `before`: the one that it replaced.
SELECT d.id, d.target, d.job_id, d.resource_arn, d.cloud_profile_id, d.config::text AS config_text,
       (SELECT o.id FROM deployments o WHERE o.pipeline_id = d.pipeline_id AND o.target = d.target AND o.status = 'superseded'
           AND o.rollback_of IS NULL
           AND o.version < coalesce ((SELECT b.version FROM deployments b WHERE b.id = d.rollback_of), d.version)
         ORDER BY o.version DESC LIMIT 1) AS before
  FROM deployments d WHERE d.user_id = $1::uuid AND d.pipeline_id = $2::uuid AND d.status = 'active' AND ($3::text IS NULL OR d.target = $3)
 ORDER BY d.version DESC LIMIT 1

-- :name deployment_remove
-- $1 caller, $2 deployment. No row: it is not in force.
WITH d AS (UPDATE deployments d SET status = 'removed', state_seq = d.state_seq + 1
            WHERE user_id = $1::uuid AND id = $2::uuid AND status = 'active' RETURNING *),
     p AS (UPDATE pipelines p SET job_id = CASE d.target WHEN 'local' THEN NULL ELSE p.job_id END,
                  state_machine_arn = CASE d.target WHEN 'local' THEN p.state_machine_arn END,
                  status = CASE WHEN EXISTS (SELECT FROM deployments o WHERE o.pipeline_id = p.id AND o.status = 'active' AND o.id <> d.id)
                                THEN p.status ELSE 'draft' END,
                  updated_at = greatest (clock_timestamp (), p.updated_at + interval '1 microsecond')
             FROM d WHERE p.id = d.pipeline_id RETURNING p.*)
SELECT d.id, deployment_events (d::deployments, 'deployment.removed', '{}') AS live, pipeline_event (p::pipelines) AS live2
  FROM d JOIN p ON true

-- :name deployments_snapshot
-- $1 user, $2 channel.
SELECT d.id, d.user_id, d.pipeline_id, d.version, d.target, d.status, d.state_seq, d.termination, d.steps, d.schedule, d.timezone,
       d.config, d.cloud_profile_id, d.git_repo_url, d.git_branch, d.git_commit, d.job_id, d.resource_arn, d.rollback_of,
       d.created_at, d.completed_at
  FROM deployments d
 WHERE d.user_id = $1::uuid AND $2::text IS NOT NULL ORDER BY d.created_at DESC, d.id DESC LIMIT 500

-- :name pipelines_of
-- $1 user or NULL, $2 workspace or NULL.
SELECT id, user_id, state_machine_arn FROM pipelines
 WHERE ($1::uuid IS NULL OR user_id = $1::uuid) AND ($2::uuid IS NULL OR workspace_id = $2::uuid)

-- :name pipeline_delete
-- $1 pipeline. No row: gone already.
DELETE FROM pipelines p WHERE id = $1::uuid
RETURNING id, base.live_add ('user:' || p.user_id || '/pipelines', p.id::text, 'pipeline.deleted', jsonb_build_object ('id', p.id)) AS live

-- :name etl_pipelines_delete
-- $1 user. Rows: what is gone.
DELETE FROM etl_pipelines p WHERE user_id = $1::uuid
RETURNING id, base.live_add ('user:' || p.user_id || '/etl_pipelines', p.id::text, 'etl_pipeline.deleted', jsonb_build_object ('id', p.id)) AS live
