-- :name cluster_get
-- $1 owner, NULL for the operator, $2 cluster. No row: not there, or not theirs.
SELECT c.*, p.name AS cloud_profile_name, p.cloud_provider
  FROM compute_clusters c LEFT JOIN cloud_profiles p ON p.id = c.cloud_profile_id
 WHERE c.id = $2::uuid AND ($1::uuid IS NULL OR c.user_id = $1::uuid)

-- :name cluster_move
-- $1 owner, NULL for the operator, $2 cluster, $3 details it may be in ("a|b"), $4 status, $5 detail, $6 type
-- of an event or NULL, $7 its details or NULL, $8 termination or NULL, $9 endpoint, $10 workers alive, $11 how
-- many there should be, $12 more of its runtime, each NULL when that stays. No row: not found. Null id: it is in
-- another state, named by `was`.
WITH t AS (SELECT c.id AS cluster, c.status AS was_status, c.state_detail AS was FROM compute_clusters c
            WHERE c.id = $2::uuid AND ($1::uuid IS NULL OR c.user_id = $1::uuid) FOR UPDATE),
     u AS (UPDATE compute_clusters c
              SET status = $4::text, state_detail = $5::text, state_seq = c.state_seq + 1, termination = $8::jsonb,
                  endpoint_url = CASE WHEN $4 = 'running' THEN coalesce ($9::text, c.endpoint_url) END,
                  workers = CASE WHEN $4 IN ('running', 'starting') THEN coalesce ($10::integer, c.workers) ELSE 0 END,
                  num_workers = coalesce ($11::integer, c.num_workers),
                  runtime = CASE WHEN $5 NOT IN ('stopped', 'failed', 'terminated', 'provisioning')
                                 THEN coalesce (nullif (c.runtime, 'null') || $12::jsonb, $12::jsonb, c.runtime) END,
                  started_at = CASE WHEN $9::text IS NOT NULL THEN now ()
                                    WHEN $4 = 'running' THEN c.started_at END,
                  updated_at = greatest (now (), c.updated_at + interval '1 microsecond')
             FROM t WHERE c.id = t.cluster AND t.was = ANY (string_to_array ($3::text, '|'))
        RETURNING c AS r)
SELECT (u.r).id, t.was_status, t.was,
       CASE WHEN (u.r).id IS NOT NULL THEN
            base.live_add ('user:' || (u.r).user_id || '/compute_clusters', (u.r).id::text, 'cluster.updated',
                           cluster_told (u.r)) END AS live,
       CASE WHEN (u.r).id IS NOT NULL AND $6::text IS NOT NULL THEN
            cluster_note (u.r, $6, coalesce ($7::jsonb, '{}')
                          || CASE WHEN $8::text IS NULL THEN '{}' ELSE jsonb_build_object ('termination', $8::jsonb) END)
       END AS live2
  FROM t LEFT JOIN u ON true

-- :name cluster_set
-- $1 cluster, $2 workers alive, $3 more of its runtime or NULL, $4 type of an event or NULL, $5 its details or
-- NULL. No row: gone.
WITH u AS (UPDATE compute_clusters c
              SET workers = $2::integer, runtime = coalesce (c.runtime || $3::jsonb, c.runtime),
                  updated_at = greatest (now (), c.updated_at + interval '1 microsecond')
            WHERE c.id = $1::uuid
        RETURNING c AS r)
SELECT (u.r).id,
       base.live_add ('user:' || (u.r).user_id || '/compute_clusters', (u.r).id::text, 'cluster.updated',
                      cluster_told (u.r)) AS live,
       CASE WHEN $4::text IS NOT NULL THEN cluster_note (u.r, $4, coalesce ($5::jsonb, '{}')) END AS live2
  FROM u

-- :name cluster_edited
-- $1 cluster, $2 what was changed: an event.
SELECT cluster_note (c, 'EDITED', $2::jsonb) AS live FROM compute_clusters c WHERE c.id = $1::uuid

-- :name cluster_events
-- $1 cluster, $2 events before that one, or NULL, $3 limit.
SELECT id, cluster_id, at, type, state_seq, details FROM cluster_events
 WHERE cluster_id = $1::uuid AND ($2::bigint IS NULL OR id < $2::bigint) ORDER BY id DESC LIMIT $3::bigint

-- :name clusters_alive
-- $1 user, or NULL for all whose claim nobody holds: clusters that have, or should have, processes.
SELECT id, user_id, compute_type, status, state_detail, num_workers, auto_scaling, min_workers, max_workers,
       cluster_config, runtime, workers
  FROM compute_clusters c
 WHERE (runtime IS NOT NULL OR state_detail NOT IN ('stopped', 'failed', 'terminated'))
   AND CASE WHEN $1::uuid IS NULL THEN NOT EXISTS (SELECT FROM claims l WHERE l.key = 'user:' || c.user_id)
            ELSE c.user_id = $1::uuid END

-- :name clusters_of_user
-- $1 user.
SELECT id FROM compute_clusters WHERE user_id = $1::uuid

-- :name clusters_of_profile
-- $1 profile.
SELECT id, node_type, state_detail FROM compute_clusters WHERE cloud_profile_id = $1::uuid

-- :name clusters_of_user_delete
-- $1 user.
DELETE FROM compute_clusters WHERE user_id = $1::uuid
RETURNING id, base.live_add ('user:' || user_id || '/compute_clusters', id::text, 'cluster.deleted',
                             jsonb_build_object ('id', id)) AS live

-- :name profiles_of_user_delete
-- $1 user.
DELETE FROM cloud_profiles WHERE user_id = $1::uuid
RETURNING id, base.live_add ('user:' || user_id || '/cloud_profiles', id::text, 'cloud_profile.deleted',
                             jsonb_build_object ('id', id)) AS live

-- :name profile_get
-- $1 owner, $2 profile. No row: not there, or not theirs.
SELECT id, name, cloud_provider, region, credentials_encrypted #>> '{}' AS sealed FROM cloud_profiles
 WHERE id = $2::uuid AND user_id = $1::uuid

-- :name clusters_running_of
-- $1 user: how many have processes.
SELECT count (*) AS n FROM compute_clusters
 WHERE user_id = $1::uuid AND state_detail IN ('requested', 'provisioning', 'starting', 'running', 'resizing',
                                               'degraded', 'restarting')
