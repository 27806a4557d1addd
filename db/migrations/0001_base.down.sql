--  The schema base stays: schema_migrations lives in it.

DROP FUNCTION base.actor_remove (text);
DROP FUNCTION base.actor_install (text);
DROP FUNCTION base.live_add (text, text, text, jsonb);
DROP FUNCTION base.utc (timestamptz);
DROP FUNCTION base.api_fail (text, text);
REVOKE USAGE ON SCHEMA base FROM PUBLIC;

DO $$
BEGIN
    EXECUTE format ('GRANT CONNECT, TEMPORARY ON DATABASE %I TO PUBLIC', current_database ());
END $$;
