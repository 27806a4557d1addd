--  identity: users, organisations, sessions, keys, audit.

SELECT base.actor_install ('identity');

CREATE TABLE identity.users (
    id             uuid PRIMARY KEY DEFAULT gen_random_uuid (),
    email          text NOT NULL CHECK (length (email) BETWEEN 3 AND 254),
    username       text CHECK (length (username) BETWEEN 1 AND 254),
    password_hash  text NOT NULL,
    full_name      text CHECK (length (full_name) <= 255),
    avatar         text CHECK (length (avatar) <= 2048),
    role           text NOT NULL DEFAULT 'client'
                   CHECK (role IN ('super_admin', 'admin', 'analyst', 'viewer', 'client', 'lab')),
    department     text CHECK (length (department) <= 255),
    account_id     text NOT NULL UNIQUE CHECK (account_id ~ '^[0-9]{12}$'),
    is_active      boolean NOT NULL DEFAULT true,
    email_verified boolean NOT NULL DEFAULT false,
    preferences    jsonb NOT NULL DEFAULT '{}',
    organization_id uuid,
    last_login     timestamptz,
    created_at     timestamptz NOT NULL DEFAULT now (),
    updated_at     timestamptz NOT NULL DEFAULT now ()
);
CREATE UNIQUE INDEX users_email_key ON identity.users (lower (email));
CREATE UNIQUE INDEX users_username_key ON identity.users (lower (username)) WHERE username IS NOT NULL;
CREATE INDEX users_created ON identity.users (created_at DESC, id);

CREATE TABLE identity.organizations (
    id          uuid PRIMARY KEY DEFAULT gen_random_uuid (),
    user_id     uuid NOT NULL REFERENCES identity.users (id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
    name        text NOT NULL CHECK (length (name) BETWEEN 1 AND 255),
    personal    boolean NOT NULL DEFAULT false,
    created_at  timestamptz NOT NULL DEFAULT now (),
    updated_at  timestamptz NOT NULL DEFAULT now (),
    UNIQUE (id, user_id)
);

ALTER TABLE identity.users ADD CONSTRAINT users_organization_fkey
    FOREIGN KEY (organization_id) REFERENCES identity.organizations (id) ON DELETE SET NULL DEFERRABLE INITIALLY DEFERRED;

--  Who belongs to an organisation: the grant for audience org:<id>.
CREATE TABLE identity.members (
    organization_id uuid NOT NULL REFERENCES identity.organizations (id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
    user_id         uuid NOT NULL REFERENCES identity.users (id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
    role            text NOT NULL DEFAULT 'viewer' CHECK (role IN ('owner', 'admin', 'analyst', 'viewer')),
    created_at      timestamptz NOT NULL DEFAULT now (),
    PRIMARY KEY (organization_id, user_id)
);
CREATE INDEX members_user ON identity.members (user_id);

--  Further audiences a user may hear (shared workspaces: project:<workspace id>), set by the actor that owns the parent.
CREATE TABLE identity.grants (
    user_id    uuid NOT NULL REFERENCES identity.users (id) ON DELETE CASCADE,
    audience   text NOT NULL CHECK (audience ~ '^(org|project):[0-9a-f-]{36}$'),
    role       text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now (),
    PRIMARY KEY (user_id, audience)
);
CREATE INDEX grants_audience ON identity.grants (audience);

--  A sign-in. jti is the id in the tokens it gives; the refresh token is known by its SHA-256 only.
CREATE TABLE identity.sessions (
    jti             uuid PRIMARY KEY,
    user_id         uuid NOT NULL REFERENCES identity.users (id) ON DELETE CASCADE,
    refresh_hash    text NOT NULL UNIQUE,
    refresh_expires timestamptz NOT NULL,
    expires_at      timestamptz NOT NULL,
    ip              text,
    agent           text,
    created_at      timestamptz NOT NULL DEFAULT now (),
    used_at         timestamptz NOT NULL DEFAULT now (),
    revoked_at      timestamptz
);
CREATE INDEX sessions_user ON identity.sessions (user_id);
CREATE INDEX sessions_revoked ON identity.sessions (revoked_at) WHERE revoked_at IS NOT NULL;
CREATE INDEX sessions_refresh_expires ON identity.sessions (refresh_expires);

CREATE TABLE identity.api_keys (
    id           uuid PRIMARY KEY DEFAULT gen_random_uuid (),
    user_id      uuid NOT NULL REFERENCES identity.users (id) ON DELETE CASCADE,
    name         text NOT NULL CHECK (length (name) BETWEEN 1 AND 255),
    prefix       text NOT NULL,
    key_hash     text NOT NULL UNIQUE,
    expires_at   timestamptz,
    last_used_at timestamptz,
    created_at   timestamptz NOT NULL DEFAULT now (),
    updated_at   timestamptz NOT NULL DEFAULT now (),
    UNIQUE (id, user_id)
);
CREATE INDEX api_keys_user ON identity.api_keys (user_id);

--  Codes sent by mail, known by their SHA-256 only.
CREATE TABLE identity.codes (
    user_id    uuid NOT NULL REFERENCES identity.users (id) ON DELETE CASCADE,
    purpose    text NOT NULL CHECK (purpose IN ('reset', 'verify')),
    code_hash  text NOT NULL,
    attempts   integer NOT NULL DEFAULT 0,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (user_id, purpose)
);

--  Failed sign-ins per account ("email:…") and per address ("ip:…"): progressive lock-out.
CREATE TABLE identity.lockouts (
    subject      text PRIMARY KEY,
    failures     integer NOT NULL,
    last_at      timestamptz NOT NULL,
    locked_until timestamptz NOT NULL
);

CREATE TABLE identity.audit (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at         timestamptz NOT NULL DEFAULT now (),
    user_id    uuid,
    by_user    text,
    action     text NOT NULL,
    ip         text,
    agent      text,
    request_id text,
    detail     jsonb
);
CREATE INDEX audit_user ON identity.audit (user_id, id DESC);

--  What a user may know of a user, one object for every dialect.
CREATE FUNCTION identity.user_json (u identity.users) RETURNS jsonb LANGUAGE sql VOLATILE AS $$
    SELECT jsonb_build_object (
        'id', u.id, 'user_id', u.id, 'email', u.email, 'username', coalesce (u.username, u.email),
        'full_name', u.full_name, 'name', coalesce (u.full_name, u.username, u.email), 'avatar', u.avatar,
        'role', u.role, 'department', u.department, 'account_id', u.account_id, 'icecube_id', u.account_id,
        'is_active', u.is_active, 'is_superuser', u.role = 'super_admin', 'is_verified', u.email_verified,
        'organization_id', u.organization_id,
        'organization', (SELECT o.name FROM identity.organizations o WHERE o.id = u.organization_id),
        'preferences', u.preferences, 'last_login', base.utc (u.last_login), 'lastLoginAt', base.utc (u.last_login),
        'created_at', base.utc (u.created_at), 'createdAt', base.utc (u.created_at), 'updated_at', base.utc (u.updated_at)) $$;

--  Every audience of a user beyond user:<id>.
CREATE FUNCTION identity.audiences (who uuid) RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT coalesce (jsonb_agg (a ORDER BY a), '[]')
      FROM (SELECT 'org:' || organization_id AS a FROM identity.members WHERE user_id = who
             UNION SELECT audience FROM identity.grants WHERE user_id = who) s $$;

--  A line of the audit trail; meta is {user, by, ip, agent, request_id}.
CREATE FUNCTION identity.audit_add (who uuid, what text, meta jsonb, detail jsonb DEFAULT NULL) RETURNS bigint LANGUAGE sql AS $$
    INSERT INTO identity.audit (user_id, by_user, action, ip, agent, request_id, detail)
    VALUES (who, meta ->> 'by', what, meta ->> 'ip', left (meta ->> 'agent', 512), meta ->> 'request_id', detail)
    RETURNING id $$;

--  A new user with an organisation of their own.
CREATE FUNCTION identity.user_add (mail text, name_ text, hash text, full_name_ text, role_ text, active boolean)
    RETURNS identity.users LANGUAGE plpgsql AS $$
DECLARE
    u identity.users;
    o uuid := gen_random_uuid ();
BEGIN
    INSERT INTO identity.users (email, username, password_hash, full_name, role, is_active, organization_id, account_id)
    VALUES (mail, name_, hash, full_name_, role_, active, o,
            (100000000000 + floor (random () * 900000000000))::bigint::text)
    RETURNING * INTO u;
    INSERT INTO identity.organizations (id, user_id, name, personal)
    VALUES (o, u.id, coalesce (full_name_, name_, split_part (mail, '@', 1)), true);
    INSERT INTO identity.members (organization_id, user_id, role) VALUES (o, u.id, 'owner');
    RETURN u;
END $$;

--  End every session of a user but `spare` (may be NULL) and tell every edge, in one event: `jtis` names the sessions, and
--  tokens issued before `before` (Unix seconds) are dead as well when no session is spared. Answers the event.
CREATE FUNCTION identity.revoke_all (who uuid, spare uuid) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    ended jsonb;
BEGIN
    WITH e AS (UPDATE identity.sessions SET revoked_at = now ()
                WHERE user_id = who AND revoked_at IS NULL AND jti IS DISTINCT FROM spare RETURNING jti)
    SELECT coalesce (jsonb_agg (jti), '[]') INTO ended FROM e;
    RETURN base.live_add ('sys/identity', who::text, 'revoked.user', jsonb_build_object ('user', who, 'jtis', ended,
        'before', CASE WHEN spare IS NULL THEN floor (extract (epoch FROM clock_timestamp ()))::bigint ELSE 0 END));
END $$;

CREATE FUNCTION identity.grants_event (who uuid) RETURNS jsonb LANGUAGE sql AS $$
    SELECT base.live_add ('sys/identity', who::text, 'grants',
        jsonb_build_object ('user', who, 'audiences', identity.audiences (who))) $$;
