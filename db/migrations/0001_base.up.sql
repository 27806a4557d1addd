--  Functions that every actor shares, and what an actor's schema begins with.
--  base.schema_migrations is made by the migration tool before this file runs.

CREATE SCHEMA IF NOT EXISTS base;
GRANT USAGE ON SCHEMA base TO PUBLIC;

REVOKE CREATE ON SCHEMA public FROM PUBLIC;

DO $$
BEGIN
    EXECUTE format ('REVOKE CONNECT, TEMPORARY ON DATABASE %I FROM PUBLIC', current_database ());
END $$;

--  Stop a statement with an error of our own: 'U0409' becomes HTTP 409 with this message. Usable
--  wherever a condition may stand:  WHERE status = 'stopped' OR api_fail ('U0409', 'cluster is ' || status)
CREATE FUNCTION base.api_fail (sqlstate text, message text) RETURNS boolean
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = $1, MESSAGE = $2;
END $$;

--  RFC 3339 in UTC with six digits of a second, as rows outside jsonb carry it too.
CREATE FUNCTION base.utc (at timestamptz) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN isfinite ($1)
                THEN to_char ($1 AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
                ELSE $1::text END
$$;

--  Append the next event of a channel and answer it whole. The tables are those of the caller's own
--  schema (search_path). Offsets are contiguous: the one owner of a channel writes through one
--  connection, and the primary key refuses anybody else.
CREATE FUNCTION base.live_add (ch text, key text, type text, data jsonb) RETURNS jsonb
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    event jsonb;
BEGIN
    INSERT INTO live_log AS l (ch, off, key, type, data)
    VALUES ($1, coalesce ((SELECT max (m.off) FROM live_log m WHERE m.ch = $1), 0) + 1, $2, $3, $4)
    RETURNING jsonb_build_object ('ch', l.ch, 'epoch', (SELECT e.epoch FROM live_meta e),
                                  'off', l.off, 'key', l.key, 'type', l.type,
                                  'at', base.utc (l.at), 'data', l.data)
         INTO event;
    RETURN event;
END $$;

--  Schema, login role and common tables of an actor. The role may read and write the rows of its own
--  schema and nothing else; its password is set by the tool, until then nobody can log in with it.
CREATE FUNCTION base.actor_install (name text) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    role text := 'busbar_' || $1;
BEGIN
    IF $1 !~ '^[a-z][a-z0-9_]{0,39}$' THEN
        RAISE EXCEPTION 'actor name % is not a plain lower-case word', $1;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) THEN
        EXECUTE format ('CREATE ROLE %I LOGIN', role);
    END IF;
    EXECUTE format ('GRANT CONNECT, TEMPORARY ON DATABASE %I TO %I', current_database (), role);
    EXECUTE format ('ALTER ROLE %I IN DATABASE %I SET search_path = %I, base',
                    role, current_database (), $1);
    EXECUTE format ('CREATE SCHEMA %I', $1);
    EXECUTE format ('GRANT USAGE ON SCHEMA %I TO %I', $1, role);
    EXECUTE format ('ALTER DEFAULT PRIVILEGES IN SCHEMA %I '
                    'GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO %I', $1, role);
    EXECUTE format ('ALTER DEFAULT PRIVILEGES IN SCHEMA %I '
                    'GRANT USAGE, SELECT ON SEQUENCES TO %I', $1, role);

    EXECUTE format ('CREATE TABLE %I.live_log (
        ch    text        NOT NULL,
        off   bigint      NOT NULL CHECK (off > 0),
        at    timestamptz NOT NULL DEFAULT now (),
        key   text,
        type  text        NOT NULL,
        data  jsonb,
        PRIMARY KEY (ch, off))', $1);
    --  Retention asks by age; a block range index costs next to nothing on an append-only table.
    EXECUTE format ('CREATE INDEX live_log_at ON %I.live_log USING brin (at)', $1);

    EXECUTE format ('CREATE TABLE %I.live_meta (epoch text NOT NULL)', $1);
    EXECUTE format ('CREATE UNIQUE INDEX live_meta_one_row ON %I.live_meta ((true))', $1);
    EXECUTE format ('INSERT INTO %I.live_meta (epoch) '
                    'VALUES (left (replace (gen_random_uuid ()::text, ''-'', ''''), 12))', $1);

    --  Stored answers of calls with an Idempotency-Key, committed with what the call changed.
    EXECUTE format ('CREATE TABLE %I.idem (
        user_id  text        NOT NULL,
        key      text        NOT NULL,
        method   text        NOT NULL,
        hash     text        NOT NULL,
        status   integer     NOT NULL,
        body     bytea,
        meta     jsonb,
        at       timestamptz NOT NULL DEFAULT now (),
        PRIMARY KEY (user_id, key))', $1);
    EXECUTE format ('CREATE INDEX idem_at ON %I.idem USING brin (at)', $1);
END $$;
REVOKE EXECUTE ON FUNCTION base.actor_install (text) FROM PUBLIC;

--  The way back, for down migrations. The role goes too, unless another database still knows it.
CREATE FUNCTION base.actor_remove (name text) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    role text := 'busbar_' || $1;
BEGIN
    EXECUTE format ('DROP SCHEMA %I CASCADE', $1);
    EXECUTE format ('ALTER ROLE %I IN DATABASE %I RESET ALL', role, current_database ());
    EXECUTE format ('REVOKE ALL ON DATABASE %I FROM %I', current_database (), role);
    BEGIN
        EXECUTE format ('DROP ROLE %I', role);
    EXCEPTION WHEN dependent_objects_still_exist THEN
        RAISE NOTICE 'role % is still known elsewhere and stays', role;
    END;
END $$;
REVOKE EXECUTE ON FUNCTION base.actor_remove (text) FROM PUBLIC;
