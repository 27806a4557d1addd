-- :name workspace_access
-- $1 caller, $2 workspace. No row: not there, or not theirs.
SELECT w.id, w.user_id, w.name, platform.workspace_role (w.id, $1::uuid) AS role
  FROM platform.workspaces w WHERE w.id = $2::uuid AND platform.workspace_role (w.id, $1::uuid) IS NOT NULL

-- :name notebook_access
-- $1 caller, $2 notebook, $3 cell id or NULL. No row: not there, or not theirs. `audience` is where its executions are told.
SELECT n.id, n.user_id, n.workspace_id, n.language, n.name, n.cluster_id,
       CASE WHEN n.user_id = $1::uuid THEN 'owner' ELSE platform.workspace_role (n.workspace_id, $1::uuid) END AS role,
       coalesce (platform.shared_audience (n.workspace_id), 'user:' || n.user_id) AS audience,
       c ->> 'content' AS cell_content, c ->> 'type' AS cell_type
  FROM platform.notebooks n
  LEFT JOIN LATERAL (SELECT c FROM jsonb_array_elements (CASE jsonb_typeof (n.content -> 'cells') WHEN 'array' THEN n.content -> 'cells' ELSE '[]' END) c
                      WHERE c ->> 'id' = $3 LIMIT 1) cells (c) ON true
 WHERE n.id = $2::uuid
   AND (n.user_id = $1::uuid OR platform.workspace_role (n.workspace_id, $1::uuid) IS NOT NULL)

-- :name notebook_export
-- $1 caller, $2 notebook. No row: not there, or not theirs.
SELECT n.name, n.language, n.content::text AS content
  FROM platform.notebooks n
 WHERE n.id = $2::uuid AND (n.user_id = $1::uuid OR platform.workspace_role (n.workspace_id, $1::uuid) IS NOT NULL)

-- :name notebook_import
-- $1 owner, $2 workspace or NULL, $3 name, $4 language, $5 content.
WITH r AS (INSERT INTO platform.notebooks (user_id, workspace_id, name, language, content)
           VALUES ($1::uuid, $2::uuid, $3, $4, $5::jsonb) RETURNING *)
SELECT r.id, r.user_id, r.workspace_id, r.name, r.description, r.language, r.content, r.cluster_id, r.created_at, r.updated_at,
       base.live_add ('user:' || r.user_id || '/notebooks', r.id::text, 'notebook.created',
           to_jsonb (r) - 'content' || jsonb_build_object ('created_at', base.utc (r.created_at), 'updated_at', base.utc (r.updated_at))) AS live,
       CASE WHEN platform.shared_audience (r.workspace_id) IS NOT NULL THEN
       base.live_add (platform.shared_audience (r.workspace_id) || '/notebooks', r.id::text, 'notebook.created',
           to_jsonb (r) - 'content' || jsonb_build_object ('created_at', base.utc (r.created_at), 'updated_at', base.utc (r.updated_at))) END AS live2
  FROM r

-- :name notebooks_of_workspace
-- $1 workspace.
SELECT id, user_id FROM platform.notebooks WHERE workspace_id = $1::uuid

-- :name notebook_delete
-- $1 notebook. No row: gone already.
DELETE FROM platform.notebooks r WHERE id = $1::uuid
RETURNING id, user_id, base.live_add ('user:' || r.user_id || '/notebooks', r.id::text, 'notebook.deleted', jsonb_build_object ('id', r.id)) AS live

-- :name owned_by_user
-- $1 user. What goes with the user: notebooks first, then workspaces.
SELECT id, 'notebook' AS kind FROM platform.notebooks WHERE user_id = $1::uuid
 UNION ALL SELECT id, 'workspace' FROM platform.workspaces WHERE user_id = $1::uuid ORDER BY kind

-- :name workspace_delete
-- $1 workspace. No row: gone already.
DELETE FROM platform.workspaces r WHERE id = $1::uuid
RETURNING id, base.live_add ('user:' || r.user_id || '/workspaces', r.id::text, 'workspace.deleted', jsonb_build_object ('id', r.id)) AS live

-- :name members_list
-- $1 workspace.
SELECT user_id, email, role, created_at FROM platform.workspace_members WHERE workspace_id = $1::uuid ORDER BY created_at, user_id

-- :name member_put
-- $1 workspace, $2 member, $3 email, $4 role. No row: the member owns the workspace.
INSERT INTO platform.workspace_members AS m (workspace_id, user_id, email, role)
SELECT w.id, $2::uuid, $3, $4 FROM platform.workspaces w WHERE w.id = $1::uuid AND w.user_id <> $2::uuid
ON CONFLICT (workspace_id, user_id) DO UPDATE SET role = excluded.role, email = excluded.email
RETURNING m.user_id, m.email, m.role, m.created_at,
          base.live_add ('user:' || m.user_id || '/workspaces', m.workspace_id::text, 'workspace.shared',
              (SELECT to_jsonb (w) || jsonb_build_object ('created_at', base.utc (w.created_at), 'updated_at', base.utc (w.updated_at), 'role', m.role)
                 FROM platform.workspaces w WHERE w.id = m.workspace_id)) AS live

-- :name member_delete
-- $1 workspace, $2 member. No row: no such member.
DELETE FROM platform.workspace_members m WHERE workspace_id = $1::uuid AND user_id = $2::uuid
RETURNING m.user_id, base.live_add ('user:' || m.user_id || '/workspaces', m.workspace_id::text, 'workspace.unshared',
                                    jsonb_build_object ('id', m.workspace_id)) AS live

-- :name notebooks_detach
-- $1 cluster that goes.
UPDATE platform.notebooks r SET cluster_id = NULL, updated_at = greatest (now (), updated_at + interval '1 microsecond')
 WHERE cluster_id = $1::uuid
RETURNING id, base.live_add ('user:' || r.user_id || '/notebooks', r.id::text, 'notebook.updated',
    to_jsonb (r) - 'content' || jsonb_build_object ('created_at', base.utc (r.created_at), 'updated_at', base.utc (r.updated_at))) AS live

-- :name workspaces_detach
-- $1 cloud profile that goes.
UPDATE platform.workspaces r SET cloud_profile_id = NULL, updated_at = greatest (now (), updated_at + interval '1 microsecond')
 WHERE cloud_profile_id = $1::uuid
RETURNING id, base.live_add ('user:' || r.user_id || '/workspaces', r.id::text, 'workspace.updated',
    to_jsonb (r) || jsonb_build_object ('created_at', base.utc (r.created_at), 'updated_at', base.utc (r.updated_at))) AS live

-- :name queries_detach
-- $1 cluster that goes.
UPDATE platform.queries r SET cluster_id = NULL, updated_at = greatest (now (), updated_at + interval '1 microsecond')
 WHERE cluster_id = $1::uuid
RETURNING id, base.live_add ('user:' || r.user_id || '/queries', r.id::text, 'query.updated',
    to_jsonb (r) || jsonb_build_object ('created_at', base.utc (r.created_at), 'updated_at', base.utc (r.updated_at))) AS live

-- :name catalogs_detach
-- $1 cloud profile that goes.
UPDATE platform.data_catalogs r SET cloud_profile_id = NULL, updated_at = greatest (now (), updated_at + interval '1 microsecond')
 WHERE cloud_profile_id = $1::uuid
RETURNING id, base.live_add ('user:' || r.user_id || '/data_catalogs', r.id::text, 'data_catalog.updated',
    to_jsonb (r) || jsonb_build_object ('created_at', base.utc (r.created_at), 'updated_at', base.utc (r.updated_at))) AS live
