-- :name repository_secret
-- $1 owner, $2 repository. No row: not there, or not theirs.
SELECT id, user_id, url, branch, username, access_token, status, head_commit, head_branch FROM platform.repositories
 WHERE user_id = $1::uuid AND id = $2::uuid

-- :name repository_get
-- $1 owner, $2 repository. No row: not there, or not theirs.
SELECT *, access_token IS NOT NULL AS has_token FROM platform.repositories WHERE user_id = $1::uuid AND id = $2::uuid

-- :name repository_of_url
-- $1 owner, $2 address. No row: none of theirs has it.
SELECT id, username, access_token FROM platform.repositories
 WHERE user_id = $1::uuid AND url = $2 ORDER BY access_token IS NULL, updated_at DESC LIMIT 1

-- :name repository_sync_begin
-- $1 owner, $2 repository, $3 token of this fetch, $4 seconds it is good for. No row: not there. Null id: `was` forbids it.
WITH t AS (SELECT r.id, r.status FROM platform.repositories r WHERE r.user_id = $1::uuid AND r.id = $2::uuid FOR UPDATE),
     u AS (UPDATE platform.repositories r
              SET status = 'syncing', state_detail = 'syncing', state_seq = r.state_seq + 1, termination = NULL,
                  sync_token = $3::uuid, sync_until = now () + make_interval (secs => $4::int),
                  updated_at = greatest (clock_timestamp (), r.updated_at + interval '1 microsecond')
             FROM t WHERE r.id = t.id AND t.status <> 'syncing' RETURNING r.*)
SELECT t.status AS was, u.*, u.access_token IS NOT NULL AS has_token,
       CASE WHEN u.id IS NOT NULL THEN
       base.live_add ('user:' || u.user_id || '/repositories', u.id::text, 'repository.syncing',
                      platform.repository_shown (u::platform.repositories)) END AS live,
       CASE WHEN u.id IS NOT NULL THEN
       base.live_add ('user:' || u.user_id || '/repositories/' || u.id, NULL, 'sync.started',
                      jsonb_build_object ('url', u.url, 'branch', u.branch)) END AS live2
  FROM t LEFT JOIN u USING (id)

-- :name repository_sync_goes_on
-- $1 repository, $2 token, $3 seconds. No row: it was ended by somebody else.
UPDATE platform.repositories SET sync_until = now () + make_interval (secs => $3::int)
 WHERE id = $1::uuid AND sync_token = $2::uuid RETURNING id

-- :name repository_sync_end
-- $1 repository, $2 token, $3 termination, $4 commit or NULL (it failed), $5 branch, $6 bytes. No row: it was ended by somebody else.
WITH u AS (UPDATE platform.repositories r
              SET status = CASE WHEN $4::text IS NULL THEN 'error' ELSE 'connected' END,
                  state_detail = CASE WHEN $4::text IS NULL THEN 'failed' ELSE 'synced' END,
                  state_seq = r.state_seq + 1, termination = $3::jsonb,
                  last_sync = CASE WHEN $4::text IS NULL THEN r.last_sync ELSE now () END,
                  head_commit = coalesce ($4, r.head_commit), head_branch = coalesce ($5, r.head_branch),
                  size_bytes = coalesce ($6::bigint, r.size_bytes), sync_token = NULL, sync_until = NULL,
                  updated_at = greatest (clock_timestamp (), r.updated_at + interval '1 microsecond')
            WHERE r.id = $1::uuid AND r.sync_token = $2::uuid RETURNING r.*)
SELECT u.id, u.user_id,
       base.live_add ('user:' || u.user_id || '/repositories', u.id::text,
                      CASE u.status WHEN 'error' THEN 'repository.failed' ELSE 'repository.synced' END,
                      platform.repository_shown (u::platform.repositories)) AS live,
       base.live_add ('user:' || u.user_id || '/repositories/' || u.id, NULL,
                      CASE u.status WHEN 'error' THEN 'sync.failed' ELSE 'sync.ended' END,
                      jsonb_build_object ('head_commit', u.head_commit, 'head_branch', u.head_branch, 'size_bytes', u.size_bytes,
                                          'termination', u.termination)) AS live2
  FROM u

-- :name repositories_lost
-- Fetches of a process that has not been heard of in time.
WITH u AS (UPDATE platform.repositories r
              SET status = 'error', state_detail = 'lost', state_seq = r.state_seq + 1,
                  termination = '{"code": "LOST", "type": "INFRASTRUCTURE", "message": "the process that fetched it ended"}',
                  sync_token = NULL, sync_until = NULL,
                  updated_at = greatest (clock_timestamp (), r.updated_at + interval '1 microsecond')
            WHERE r.sync_token IS NOT NULL AND r.sync_until < now () RETURNING r.*)
SELECT u.id, base.live_add ('user:' || u.user_id || '/repositories', u.id::text, 'repository.failed',
                            platform.repository_shown (u::platform.repositories)) AS live,
       base.live_add ('user:' || u.user_id || '/repositories/' || u.id, NULL, 'sync.failed',
                      jsonb_build_object ('termination', u.termination)) AS live2
  FROM u

-- :name repositories_of_user
-- $1 user.
SELECT id FROM platform.repositories WHERE user_id = $1::uuid

-- :name repository_delete
-- $1 repository. No row: gone already.
DELETE FROM platform.repositories r WHERE id = $1::uuid
RETURNING id, base.live_add ('user:' || r.user_id || '/repositories', r.id::text, 'repository.deleted', jsonb_build_object ('id', r.id)) AS live
