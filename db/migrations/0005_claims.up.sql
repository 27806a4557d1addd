--  Claims: keys (a notebook, a cluster) for which one instance of an actor alone may write. The number
--  of a claim is never used again, so it fences a holder that was believed dead and comes back: each of
--  its units checks the number in its own transaction.

--  Every schema of an actor that keeps events.
CREATE FUNCTION base.claims_install (name text) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    EXECUTE format ('CREATE SEQUENCE %I.claim_numbers', $1);
    EXECUTE format ('CREATE TABLE %I.claims (
        key    text        PRIMARY KEY,
        number bigint      NOT NULL,
        slot   text        NOT NULL,
        boot   text        NOT NULL,
        at     timestamptz NOT NULL DEFAULT now ())', $1);
    EXECUTE format ('CREATE INDEX claims_slot ON %I.claims (slot, boot)', $1);
END $$;
REVOKE EXECUTE ON FUNCTION base.claims_install (text) FROM PUBLIC;

DO $$
DECLARE
    actor text;
BEGIN
    FOR actor IN SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                  WHERE c.relname = 'live_meta' AND c.relkind = 'r' LOOP
        PERFORM base.claims_install (actor);
    END LOOP;
END $$;

--  Actors that come later.
ALTER FUNCTION base.actor_install (text) RENAME TO actor_install_schema;
CREATE FUNCTION base.actor_install (name text) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM base.actor_install_schema ($1);
    PERFORM base.claims_install ($1);
END $$;
REVOKE EXECUTE ON FUNCTION base.actor_install (text) FROM PUBLIC;

--  Stop a unit whose claim is no longer its own. Until the unit has committed nobody else can take the
--  claim: who does waits for the lock.
CREATE FUNCTION base.claim_check (claim text, number bigint) RETURNS boolean
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM FROM claims c WHERE c.key = $1 AND c.number = $2 FOR SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'U0503', MESSAGE = 'another instance has taken over';
    END IF;
    RETURN true;
END $$;
