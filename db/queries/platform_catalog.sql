-- :name catalog_snapshot
-- $1 user of the audience, $2 channel. How the last refresh of each source stands.
SELECT coalesce (r.data_source_id::text, 'own') AS id, r.data_source_id, r.state, r.databases, r.tables, r.added, r.changed, r.removed,
       r.truncated, r.error, r.started_at, r.finished_at
  FROM platform.catalog_refreshes r WHERE r.user_id = $1::uuid AND $2::text IS NOT NULL

-- :name refresh_note
-- $1 user, $2 data source or NULL, $3 slot, $4 state, $5 databases, $6 tables, $7 added, $8 changed, $9 removed, $10 truncated, $11 error.
-- A running one that is told anew keeps when it began; one that ended begins again.
WITH r AS (INSERT INTO platform.catalog_refreshes AS o (user_id, data_source_id, slot, state, databases, tables, added, changed, removed, truncated, error)
           VALUES ($1::uuid, $2::uuid, $3, $4, $5::integer, $6::integer, $7::integer, $8::integer, $9::integer, $10::boolean, $11)
           ON CONFLICT ON CONSTRAINT catalog_refreshes_one DO UPDATE
              SET slot = excluded.slot, state = excluded.state, databases = excluded.databases, tables = excluded.tables, added = excluded.added,
                  changed = excluded.changed, removed = excluded.removed, truncated = excluded.truncated, error = excluded.error,
                  started_at = CASE WHEN o.state = 'running' THEN o.started_at ELSE now () END,
                  finished_at = CASE WHEN excluded.state <> 'running' THEN now () END
           RETURNING *)
SELECT coalesce (r.data_source_id::text, 'own') AS id, r.data_source_id, r.state, r.databases, r.tables, r.added, r.changed, r.removed, r.truncated,
       r.error, r.started_at, r.finished_at,
       base.live_add ('user:' || r.user_id || '/catalog', coalesce (r.data_source_id::text, 'own'), 'catalog.refresh',
           to_jsonb (r) - 'user_id' - 'slot' || jsonb_build_object ('id', coalesce (r.data_source_id::text, 'own'),
               'started_at', base.utc (r.started_at), 'finished_at', base.utc (r.finished_at))) AS live
  FROM r

-- :name refreshes_running
-- $1 slot. Not those that are just being begun.
SELECT user_id, data_source_id FROM platform.catalog_refreshes
 WHERE state = 'running' AND slot = $1 AND started_at < now () - interval '3 s'

-- :name refresh_sources
-- $1 user.
SELECT id FROM platform.data_sources WHERE user_id = $1::uuid ORDER BY created_at

-- :name catalog_put
-- $1 user, $2 data source or NULL, $3 database, $4 [{t: table, k: kind, r: rows, c: columns}], $5 are these all? How many rows that changed.
WITH given AS (SELECT * FROM jsonb_to_recordset ($4::jsonb) AS g (t text, k text, r bigint, c jsonb)),
     gone AS (DELETE FROM platform.catalog_tables x
               WHERE x.user_id = $1::uuid AND x.data_source_id IS NOT DISTINCT FROM $2::uuid AND x.database_name = $3 AND $5::boolean
                 AND x.table_name NOT IN (SELECT g.t FROM given g) RETURNING 1),
     put AS (INSERT INTO platform.catalog_tables AS x (user_id, data_source_id, database_name, table_name, table_type, row_estimate, columns)
             SELECT $1::uuid, $2::uuid, $3, g.t, g.k, g.r, g.c FROM given g
             ON CONFLICT ON CONSTRAINT catalog_tables_place DO UPDATE
                SET table_type = excluded.table_type, row_estimate = excluded.row_estimate, columns = excluded.columns, updated_at = now ()
              WHERE (x.table_type, x.row_estimate, x.columns) IS DISTINCT FROM (excluded.table_type, excluded.row_estimate, excluded.columns)
             RETURNING xmax = 0 AS added)
SELECT count (*) FILTER (WHERE added) AS added, count (*) FILTER (WHERE NOT added) AS changed, (SELECT count (*) FROM gone) AS removed FROM put

-- :name catalog_prune
-- $1 user, $2 data source or NULL, $3 the databases that are there.
WITH gone AS (DELETE FROM platform.catalog_tables x
               WHERE x.user_id = $1::uuid AND x.data_source_id IS NOT DISTINCT FROM $2::uuid AND NOT $3::jsonb ? x.database_name RETURNING 1)
SELECT count (*) AS removed FROM gone

-- :name catalog_databases
-- $1 user, $2 data source or NULL: all.
SELECT t.database_name AS name, t.database_name, t.data_source_id, coalesce (s.name, 'own tables') AS source_name,
       coalesce (s.source_type, 'postgresql') AS source_type, count (*) AS tables
  FROM platform.catalog_tables t LEFT JOIN platform.data_sources s ON s.id = t.data_source_id
 WHERE t.user_id = $1::uuid AND ($2::uuid IS NULL OR t.data_source_id = $2::uuid)
 GROUP BY t.database_name, t.data_source_id, s.name, s.source_type ORDER BY t.data_source_id NULLS FIRST, t.database_name

-- :name catalog_tables
-- $1 user, $2 database, $3 data source or NULL: all.
SELECT t.id, t.table_name AS name, t.data_source_id, t.database_name, t.table_name, t.table_type, t.row_estimate,
       jsonb_array_length (t.columns) AS column_count, t.statistics, t.updated_at
  FROM platform.catalog_tables t
 WHERE t.user_id = $1::uuid AND t.database_name = $2 AND ($3::uuid IS NULL OR t.data_source_id = $3::uuid)
 ORDER BY t.table_name, t.data_source_id

-- :name catalog_table
-- $1 user, $2 database, $3 table, $4 data source or NULL: all. More than one row: it is in several sources.
SELECT t.id, t.data_source_id, t.columns::text AS columns
  FROM platform.catalog_tables t
 WHERE t.user_id = $1::uuid AND t.database_name = $2 AND t.table_name = $3 AND ($4::uuid IS NULL OR t.data_source_id = $4::uuid)

-- :name catalog_columns
-- $1 table's id.
SELECT t.data_source_id, t.database_name, t.table_name, c.column_name, c.data_type, c.is_nullable, c.column_order
  FROM platform.catalog_tables t, jsonb_to_recordset (t.columns) AS c (column_name text, data_type text, is_nullable boolean, column_order integer)
 WHERE t.id = $1::uuid ORDER BY c.column_order

-- :name catalog_search
-- $1 user, $2 words as a pattern, $3 limit. Tables first, then columns.
SELECT * FROM (
    SELECT 'table' AS kind, t.data_source_id, t.database_name, t.table_name, t.table_type, NULL::text AS column_name, NULL::text AS data_type
      FROM platform.catalog_tables t WHERE t.user_id = $1::uuid AND (t.table_name ILIKE $2 OR t.database_name ILIKE $2)
    UNION ALL
    SELECT 'column', t.data_source_id, t.database_name, t.table_name, t.table_type, c ->> 'column_name', c ->> 'data_type'
      FROM platform.catalog_tables t, jsonb_array_elements (t.columns) c WHERE t.user_id = $1::uuid AND c ->> 'column_name' ILIKE $2) found
 ORDER BY kind DESC, database_name, table_name, column_name LIMIT $3::integer

-- :name catalog_statistics
-- $1 user, $2 table's id, $3 statistics. No row: gone meanwhile.
UPDATE platform.catalog_tables SET statistics = $3::jsonb WHERE user_id = $1::uuid AND id = $2::uuid RETURNING id, statistics

-- :name lineage_put
-- $1 user, $2 data source or NULL, $3 statement, $4 [{fd, ft, td, tt, op}]: from and to database and table.
INSERT INTO platform.lineage AS l (user_id, data_source_id, statement_id, from_database, from_table, to_database, to_table, operation)
SELECT $1::uuid, $2::uuid, $3::uuid, e.fd, e.ft, e.td, e.tt, e.op FROM jsonb_to_recordset ($4::jsonb) AS e (fd text, ft text, td text, tt text, op text)
ON CONFLICT ON CONSTRAINT lineage_edge DO UPDATE SET runs = l.runs + 1, last_at = now (), statement_id = excluded.statement_id

-- :name lineage_of
-- $1 user, $2 database, $3 table, $4 data source or NULL: all.
SELECT l.data_source_id, l.from_database, l.from_table, l.to_database, l.to_table, l.operation, l.runs, l.statement_id, l.first_at, l.last_at
  FROM platform.lineage l
 WHERE l.user_id = $1::uuid AND ($4::uuid IS NULL OR l.data_source_id = $4::uuid)
   AND ((l.from_database, l.from_table) = ($2, $3) OR (l.to_database, l.to_table) = ($2, $3))
 ORDER BY l.last_at DESC LIMIT 1000

-- :name refresh_get
-- $1 user, $2 data source or NULL.
SELECT coalesce (r.data_source_id::text, 'own') AS id, r.data_source_id, r.state, r.databases, r.tables, r.added, r.changed, r.removed, r.truncated,
       r.error, r.started_at, r.finished_at
  FROM platform.catalog_refreshes r WHERE r.user_id = $1::uuid AND r.data_source_id IS NOT DISTINCT FROM $2::uuid
