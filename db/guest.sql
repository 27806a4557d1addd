--  The guest database: where SQL that users write runs. Applied by the bootstrap role, a superuser,
--  again and again. Each guest logs in as a role of its own, guest_<32 hex digits>, into a schema of
--  its own; what PostgreSQL shows or offers to everybody is taken away here. Statements come one at a
--  time through the extended protocol, on a connection that ends with them.

REVOKE ALL ON SCHEMA public FROM PUBLIC;
CREATE SCHEMA IF NOT EXISTS base;

DO $$
BEGIN
    EXECUTE format ('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database ());
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'busbar_guest_keeper') THEN
        CREATE ROLE busbar_guest_keeper NOLOGIN;
    END IF;
    EXECUTE format ('GRANT CONNECT ON DATABASE %I TO busbar_guest_keeper', current_database ());
END $$;
GRANT USAGE ON SCHEMA base TO busbar_guest_keeper;

--  No DO blocks, and no functions of one's own: they may carry settings (work_mem) past our limits.
REVOKE USAGE ON LANGUAGE plpgsql FROM PUBLIC;
REVOKE USAGE ON LANGUAGE sql FROM PUBLIC;

--  Names and definitions of other guests' tables, sessions, roles. information_schema goes on working,
--  and shows to each what is its own.
REVOKE SELECT ON ALL TABLES IN SCHEMA pg_catalog FROM PUBLIC;

--  Functions that look around the server, hold things beyond a statement, talk to other sessions, lift
--  limits, or run text as SQL.
DO $$
DECLARE
    f regprocedure;
BEGIN
    FOR f IN
        SELECT p.oid FROM pg_proc p
         WHERE p.pronamespace = 'pg_catalog'::regnamespace
           AND p.proname ~ ('^(lo_.*|loread|lowrite|set_config'
               '|pg_(try_)?advisory_.*|pg_notify|pg_listening_channels|pg_notification_queue_usage'
               '|pg_terminate_backend|pg_cancel_backend|pg_blocking_pids|pg_safe_snapshot_.*'
               '|pg_isolation_test_.*|pg_stat_.*|pg_lock_status|pg_show_.*|pg_hba_.*|pg_ident_.*'
               '|pg_prepared_.*|pg_cursor|pg_get_(.*def|.*def_.*|function_.*|userbyid|rule.*|view.*'
               '|serial_sequence|backend_memory_contexts|shmem_allocations|wal_.*|replication_.*'
               '|publication_.*|multixact_members|catalog_foreign_keys|object_address)'
               '|pg_describe_object|pg_identify_object.*|pg_(relation|table|indexes|total_relation'
               '|database|tablespace)_size|pg_(relation_)?filenode.*|pg_relation_filepath'
               '|pg_tablespace_.*|pg_ls_.*|pg_read_.*|pg_config|pg_control_.*|pg_current_logfile'
               '|pg_conf_load_time|pg_postmaster_start_time|pg_export_snapshot|pg_log_.*|pg_logical_.*'
               '|pg_replication_.*|pg_.*wal.*|pg_.*replication_slot.*|pg_create_.*|pg_drop_.*'
               '|pg_copy_.*|pg_backup_.*|pg_nextoid|pg_stop_.*|pg_start_.*|pg_last_.*|pg_xact_.*'
               '|pg_partition_.*|pg_sequence_last_value|pg_event_trigger_.*|binary_upgrade_.*'
               '|currtid.?|.*_to_xml.*|ts_stat|txid_.*|inet_(server|client)_.*|pg_trigger_depth'
               '|(obj|col|shobj)_description|row_security_active|to_reg(role|namespace))$')
           AND p.prokind IN ('f', 'p')
    LOOP
        EXECUTE format ('REVOKE EXECUTE ON ROUTINE %s FROM PUBLIC', f);
    END LOOP;
END $$;

--  What a keeper may do. Owned by a superuser, so they accept nothing but the name of a guest.
CREATE OR REPLACE FUNCTION base.guest_name (name text) RETURNS text
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF $1 IS NULL OR $1 !~ '^guest_[0-9a-f]{32}$' THEN
        RAISE EXCEPTION 'not the name of a guest' USING ERRCODE = '22023';
    END IF;
    RETURN $1;
END $$;

--  Make a guest, or put one right again (a guest can change its own password and give its rights away).
CREATE OR REPLACE FUNCTION base.guest_create (name text, password text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    guest text := base.guest_name ($1);
BEGIN
    IF $2 IS NULL OR length ($2) < 16 THEN
        RAISE EXCEPTION 'password of a guest is too short' USING ERRCODE = '22023';
    END IF;
    PERFORM pg_advisory_xact_lock (hashtext (guest));
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = guest) THEN
        EXECUTE format ('CREATE ROLE %I', guest);
    END IF;
    EXECUTE format ('ALTER ROLE %I RESET ALL', guest);
    EXECUTE format ('ALTER ROLE %I LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION '
                    'NOBYPASSRLS NOINHERIT CONNECTION LIMIT 8 PASSWORD %L', guest, $2);
    EXECUTE format ('ALTER ROLE %I SET temp_file_limit = ''256MB''', guest);
    --  All guests stand in one row, that of the database: two at a time would fail.
    PERFORM pg_advisory_xact_lock (hashtext ('guests of the database'));
    EXECUTE format ('GRANT CONNECT ON DATABASE %I TO %I', current_database (), guest);
    EXECUTE format ('CREATE SCHEMA IF NOT EXISTS %I', guest);
    EXECUTE format ('GRANT USAGE, CREATE ON SCHEMA %I TO %I', guest, guest);
END $$;

--  Stop what a guest runs: one session, or all of them.
CREATE OR REPLACE FUNCTION base.guest_terminate (name text, pid integer DEFAULT NULL)
RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    guest text := base.guest_name ($1);
BEGIN
    RETURN (SELECT count (*) FILTER (WHERE pg_terminate_backend (s.pid))
              FROM pg_stat_activity s
             WHERE s.usename = guest AND ($2 IS NULL OR s.pid = $2));
END $$;

CREATE OR REPLACE FUNCTION base.guest_drop (name text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    guest text := base.guest_name ($1);
BEGIN
    PERFORM pg_advisory_xact_lock (hashtext (guest));
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = guest) THEN
        RETURN;
    END IF;
    EXECUTE format ('ALTER ROLE %I NOLOGIN', guest);
    PERFORM base.guest_terminate (guest);
    EXECUTE format ('DROP SCHEMA IF EXISTS %I CASCADE', guest);
    PERFORM pg_advisory_xact_lock (hashtext ('guests of the database'));
    EXECUTE format ('DROP OWNED BY %I', guest);
    EXECUTE format ('DROP ROLE %I', guest);
END $$;

--  Bytes on disk, with tables that a running statement is only making: nobody sees them in the catalogue
--  yet, but their locks name their files. PostgreSQL has no quota: whoever keeps guests asks. Who rewrites
--  a table keeps us from looking at it: then it is an error, soon.
CREATE OR REPLACE FUNCTION base.guest_size (name text) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '200ms' AS $$
DECLARE
    guest text := base.guest_name ($1);
    place oid := (SELECT d.oid FROM pg_database d WHERE d.datname = current_database ());
BEGIN
    RETURN (SELECT coalesce (sum (pg_total_relation_size (c.oid)), 0)
              FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE n.nspname = guest AND c.relkind IN ('r', 'm', 'S'))
         + (SELECT coalesce (sum (f.size), 0)
              FROM (SELECT DISTINCT l.relation
                      FROM pg_locks l JOIN pg_stat_activity s USING (pid)
                     WHERE s.usename = guest AND l.locktype = 'relation' AND l.database = place
                       AND NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = l.relation)) made,
                   generate_series (0, 31) n,
                   pg_stat_file (format ('base/%s/%s%s', place, made.relation,
                                         CASE WHEN n > 0 THEN '.' || n END), true) f);
END $$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA base FROM PUBLIC;
GRANT EXECUTE ON FUNCTION base.guest_create (text, text), base.guest_terminate (text, integer),
    base.guest_drop (text), base.guest_size (text) TO busbar_guest_keeper;
