DROP FUNCTION base.claim_check (text, bigint);
DROP FUNCTION base.actor_install (text);
ALTER FUNCTION base.actor_install_schema (text) RENAME TO actor_install;

DO $$
DECLARE
    actor text;
BEGIN
    FOR actor IN SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                  WHERE c.relname = 'claims' AND c.relkind = 'r' LOOP
        EXECUTE format ('DROP TABLE %I.claims', actor);
        EXECUTE format ('DROP SEQUENCE %I.claim_numbers', actor);
    END LOOP;
END $$;
DROP FUNCTION base.claims_install (text);
