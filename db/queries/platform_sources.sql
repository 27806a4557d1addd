-- :name source_get
-- $1 user, $2 data source. No row: not there, or not theirs.
SELECT id, name, source_type, connection_config::text AS connection_config, secrets
  FROM platform.data_sources WHERE user_id = $1::uuid AND id = $2::uuid

-- :name source_same
-- $1 data source, $2 connection_config. Would it change?
SELECT connection_config = $2::jsonb AS same FROM platform.data_sources WHERE id = $1::uuid

-- :name source_tested
-- $1 user, $2 data source, $3 status, $4 why. No row: gone meanwhile.
WITH r AS (UPDATE platform.data_sources SET status = $3, state_detail = $4, last_tested_at = now (), updated_at = now ()
            WHERE user_id = $1::uuid AND id = $2::uuid RETURNING *)
SELECT r.id, base.live_add ('user:' || r.user_id || '/data_sources', r.id::text, 'data_source.updated',
           to_jsonb (r) - 'secrets' || jsonb_build_object ('type', r.source_type, 'config', r.connection_config,
               'last_tested_at', base.utc (r.last_tested_at), 'last_tested', base.utc (r.last_tested_at),
               'created_at', base.utc (r.created_at), 'updated_at', base.utc (r.updated_at))) AS live
  FROM r
