"""What SQL of users must not do, whichever way it comes: {other} is the role and schema of somebody else, who has a
table `secrets`; `again` is a table of the attacker's own."""

ATTACKS = [
    "COPY (SELECT 1) TO PROGRAM 'id'", "COPY again FROM PROGRAM 'id'", "COPY again FROM '/etc/passwd'",
    "SELECT pg_read_file('/etc/passwd')", "SELECT pg_read_binary_file('/etc/passwd')", "SELECT pg_ls_dir('/')",
    "SELECT pg_stat_file('base')", "SELECT lo_import('/etc/passwd')", "SELECT lo_create(0)", "SELECT lo_get(1)",
    "CREATE EXTENSION dblink", "SELECT dblink_connect('dbname=busbar')",
    "CREATE SERVER s FOREIGN DATA WRAPPER postgres_fdw", "SET ROLE postgres", "SET SESSION AUTHORIZATION postgres",
    "RESET SESSION AUTHORIZATION; SET ROLE postgres", "GRANT pg_execute_server_program TO CURRENT_USER",
    "ALTER ROLE CURRENT_USER SUPERUSER", "ALTER ROLE CURRENT_USER CONNECTION LIMIT 1000", "CREATE ROLE mine",
    "CREATE FUNCTION f() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'",
    "CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 1'", "DO $$ BEGIN PERFORM 1; END $$",
    "CREATE TEMP TABLE t (a int)", "SELECT pg_terminate_backend(1)", "SELECT pg_cancel_backend(1)",
    "SELECT pg_advisory_lock(1)", "SELECT pg_try_advisory_xact_lock(1)", "SELECT pg_notify('sys', 'x')",
    "SELECT set_config('work_mem', '9GB', false)", "ALTER SYSTEM SET work_mem = '1GB'", "SET temp_file_limit = -1",
    "SELECT * FROM pg_stat_activity", "SELECT * FROM pg_roles", "SELECT * FROM pg_authid", "SELECT * FROM pg_shadow",
    "SELECT * FROM pg_database", "SELECT * FROM pg_locks", "SELECT pg_database_size('busbar')",
    "SELECT pg_reload_conf()", "CHECKPOINT", "CREATE DATABASE mine", "CREATE SCHEMA mine",
    "CREATE TABLE public.t (a int)", "SELECT base.guest_size('guest_00000000000000000000000000000000')",
    "SELECT query_to_xml('SELECT 1', true, true, '')", "SELECT 1; DROP TABLE again", "BEGIN; SELECT 1; COMMIT",
    "COPY again TO STDOUT", "COPY again FROM STDIN", "CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION f()",
    "SECURITY LABEL ON TABLE again IS 'x'", "CREATE PUBLICATION p FOR ALL TABLES",
    "CREATE RULE r AS ON SELECT TO again DO ALSO SELECT pg_sleep(1)",
    "CREATE OPERATOR === (LEFTARG = int, RIGHTARG = int, FUNCTION = pg_terminate_backend)",
    "SELECT * FROM {other}.secrets", "CREATE TABLE {other}.mine (a int)", "DROP SCHEMA {other} CASCADE",
    "SET ROLE {other}", "SELECT base.guest_drop('{other}')", "ALTER ROLE {other} PASSWORD 'x'",
    "REASSIGN OWNED BY {other} TO CURRENT_USER", "COMMENT ON ROLE {other} IS 'x'"]

#  Tried through statements only: each costs a login through cells.
MORE = [
    "SELECT lo_from_bytea(0, 'x')", "SELECT lo_unlink(1)", "SELECT lowrite(0, 'x')", "SELECT lo_export(1, '/tmp/x')",
    "SELECT * FROM pg_largeobject", "SELECT * FROM pg_settings", "SELECT * FROM pg_class", "SELECT * FROM pg_user",
    "SELECT * FROM pg_hba_file_rules", "SELECT * FROM pg_file_settings", "SELECT * FROM pg_user_mappings",
    "SELECT * FROM pg_prepared_statements", "SELECT * FROM pg_cursors", "SELECT * FROM pg_stat_replication",
    "SELECT pg_stat_get_activity(NULL)", "SELECT pg_get_userbyid(10)", "SELECT pg_stat_reset()", "SELECT pg_promote()",
    "SELECT pg_switch_wal()", "SELECT pg_rotate_logfile()", "SELECT pg_logical_emit_message(false, 'x', 'y')",
    "SELECT pg_try_advisory_lock(1)", "SELECT pg_advisory_xact_lock_shared(1, 2)", "SELECT pg_advisory_unlock_all()",
    "SELECT pg_relation_size('again')", "SELECT current_setting('data_directory')", "SHOW hba_file", "SHOW config_file",
    "COPY (SELECT 1) TO '/tmp/x'", "COPY again FROM PROGRAM 'id'", "LOAD '/tmp/x.so'", "CREATE LANGUAGE plpython3u",
    "CREATE FUNCTION f() RETURNS int LANGUAGE c AS 'libc.so.6', 'system'",
    "CREATE PROCEDURE p() LANGUAGE sql AS 'SELECT 1'", "CREATE FUNCTION f() RETURNS event_trigger LANGUAGE plpgsql AS ''",
    "CREATE FUNCTION f() RETURNS int LANGUAGE internal AS 'pg_terminate_backend'",
    "CREATE FUNCTION f() RETURNS int LANGUAGE sql SECURITY DEFINER SET search_path = base RETURN 1",
    "CREATE TRIGGER t AFTER INSERT ON again EXECUTE FUNCTION base.guest_drop()", "CREATE CAST (int AS text) WITH INOUT",
    "CREATE TABLESPACE t LOCATION '/tmp'", "ALTER TABLE again SET TABLESPACE pg_global",
    "ALTER DATABASE busbar_guest SET work_mem = '1GB'", "ALTER DATABASE busbar_guest CONNECTION LIMIT 1",
    "CREATE FOREIGN DATA WRAPPER w", "CREATE SUBSCRIPTION s CONNECTION 'dbname=busbar' PUBLICATION p",
    "ALTER SYSTEM RESET ALL", "REINDEX DATABASE busbar_guest", "REINDEX SYSTEM busbar_guest", "UPDATE pg_settings SET setting = '9'",
    "SET session_preload_libraries = 'x'", "SET log_statement = 'none'", "SET session_replication_role = replica",
    "SET zero_damaged_pages = on", "SET allow_system_table_mods = on", "SET lo_compat_privileges = on",
    "ALTER ROLE CURRENT_USER SET temp_file_limit = -1", "ALTER ROLE CURRENT_USER BYPASSRLS", "ALTER ROLE ALL SET work_mem = '1GB'",
    "ALTER ROLE CURRENT_USER VALID UNTIL '2000-01-01'", "ALTER ROLE CURRENT_USER CREATEROLE REPLICATION",
    "GRANT pg_read_server_files TO CURRENT_USER", "GRANT busbar_guest_keeper TO CURRENT_USER", "SET ROLE busbar_owner",
    "SET SESSION AUTHORIZATION busbar_owner", "SELECT base.guest_create(current_user, 'a password of mine')",
    "SELECT base.guest_terminate(current_user)", "CREATE TEMP SEQUENCE t", "CREATE TEMP VIEW v AS SELECT 1",
    "SELECT 1 INTO TEMP t", "CREATE TABLE base.t (a int)", "CREATE TABLE pg_catalog.t (a int)", "DROP SCHEMA base CASCADE",
    "UPDATE pg_catalog.pg_authid SET rolsuper = true", "DELETE FROM pg_catalog.pg_class",
    "SELECT database_to_xml(true, true, '')", "SELECT cursor_to_xml('c', 1, true, true, '')",
    "SELECT ts_stat('SELECT word FROM {other}.secrets')", "SELECT ts_rewrite('a'::tsquery, 'SELECT 1, 2')",
    "SELECT '{other}.secrets'::regclass", "INSERT INTO {other}.secrets VALUES ('x')", "UPDATE {other}.secrets SET word = 'x'",
    "DELETE FROM {other}.secrets", "TRUNCATE {other}.secrets", "LOCK TABLE {other}.secrets", "DROP TABLE {other}.secrets",
    "CREATE VIEW v AS SELECT * FROM {other}.secrets", "CREATE INDEX ON {other}.secrets (word)", "SELECT nextval('{other}.numbers')",
    "CREATE TABLE child () INHERITS ({other}.secrets)", "CREATE TABLE again2 (LIKE {other}.secrets)",
    "ALTER TABLE {other}.secrets OWNER TO CURRENT_USER", "ALTER TABLE again SET SCHEMA {other}",
    "ALTER SCHEMA {other} RENAME TO mine", "GRANT ALL ON SCHEMA {other} TO CURRENT_USER", "GRANT {other} TO CURRENT_USER",
    "DROP ROLE {other}", "DROP OWNED BY {other}", "ALTER DEFAULT PRIVILEGES FOR ROLE {other} GRANT ALL ON TABLES TO PUBLIC",
    "CREATE POLICY p ON {other}.secrets USING (true)", "EXPLAIN ANALYZE SELECT * FROM {other}.secrets",
    "SELECT 1; SELECT * FROM {other}.secrets", "COMMIT; SET ROLE {other}", "SET SESSION AUTHORIZATION {other}",
    "CREATE STATISTICS s ON word, word FROM {other}.secrets", "COPY {other}.secrets TO STDOUT"]

#  What a statement may do, but not leave to the next one.
LEFT_BEHIND = ["BEGIN", "LISTEN sys", "NOTIFY sys, 'x'", "PREPARE p AS SELECT 1", "SET statement_timeout = 0",
               "SET search_path = pg_catalog", "SET default_transaction_read_only = off", "SET SESSION CHARACTERISTICS AS "
               "TRANSACTION READ ONLY", "DISCARD ALL", "PREPARE TRANSACTION 'x'", "LOCK TABLE again", "DECLARE c CURSOR FOR SELECT 1",
               "DECLARE c CURSOR WITH HOLD FOR SELECT 1", "SET work_mem = '1GB'"]

#  What takes more than anybody may have, and what it is refused with.
BOMBS = {
    "sort": ("SELECT repeat(n::text, 20000) AS t FROM generate_series(1, 1000000) n ORDER BY t", ("53400",)),
    "row": ("SELECT repeat('x', 50000000)", ("08006", "54000", "22000")),
    "value": ("SELECT repeat('x', 2000000000)", ("54000", "22000", "08006", "53200")),
    "parentheses": ("SELECT " + "(" * 20000 + "1" + ")" * 20000, ("54001", "42601"))}
