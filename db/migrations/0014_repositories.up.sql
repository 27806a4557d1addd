--  platform: git repositories that notebooks and queries come from.

CREATE TABLE platform.repositories (
    id           uuid PRIMARY KEY DEFAULT gen_random_uuid (),
    user_id      uuid NOT NULL REFERENCES identity.users (id) ON DELETE RESTRICT,
    provider     text NOT NULL CHECK (provider IN ('github', 'gitlab', 'bitbucket', 'generic')),
    name         text NOT NULL CHECK (length (name) BETWEEN 1 AND 255),
    url          text NOT NULL,
    branch       text,
    username     text,
    access_token text,                                 --  sealed
    description  text,
    --  connected: known here and, when last_sync is there, fetched; error: the last fetch failed
    status       text NOT NULL DEFAULT 'connected' CHECK (status IN ('connected', 'syncing', 'error')),
    state_detail text NOT NULL DEFAULT 'never_synced'
                 CHECK (state_detail IN ('never_synced', 'syncing', 'synced', 'failed', 'lost')),
    state_seq    bigint NOT NULL DEFAULT 0,
    termination  jsonb,
    last_sync    timestamptz,
    head_commit  text,
    head_branch  text,
    size_bytes   bigint,
    --  Who fetches, until when they must have been heard of: nobody else ends it.
    sync_token   uuid,
    sync_until   timestamptz,
    created_at   timestamptz NOT NULL DEFAULT now (),
    updated_at   timestamptz NOT NULL DEFAULT now (),
    UNIQUE (id, user_id),
    CHECK ((status = 'syncing') = (sync_token IS NOT NULL))
);
CREATE INDEX repositories_user ON platform.repositories (user_id, created_at DESC, id DESC);
CREATE INDEX repositories_syncing ON platform.repositories (sync_until) WHERE sync_token IS NOT NULL;

--  As lists and events show it.
CREATE FUNCTION platform.repository_shown (r platform.repositories) RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT to_jsonb ($1) - '{access_token,sync_token,sync_until}'::text []
        || jsonb_build_object ('created_at', base.utc ($1.created_at), 'updated_at', base.utc ($1.updated_at),
                               'last_sync', base.utc ($1.last_sync))
$$;
