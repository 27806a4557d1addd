--  The newest executions of an audience: what begins a subscription to them.
CREATE INDEX executions_audience ON kernels.executions (audience, created_at DESC, id DESC);

--  Kernels of users while they live, under the claim of their notebook; without it they are gone.
CREATE TABLE kernels.kernels (
    id          uuid PRIMARY KEY,
    user_id     uuid NOT NULL,
    notebook_id uuid NOT NULL,
    language    text NOT NULL,
    state       text NOT NULL,
    claim       bigint NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now ()
);
CREATE INDEX kernels_user ON kernels.kernels (user_id);

CREATE FUNCTION kernels.kernel_event (k kernels.kernels, state text) RETURNS jsonb
LANGUAGE sql VOLATILE AS $$
    SELECT base.live_add ('user:' || k.user_id || '/kernels', k.id::text, 'kernel.' || $2, jsonb_build_object (
        'id', k.id, 'notebook_id', k.notebook_id, 'language', k.language, 'state', $2,
        'created_at', base.utc (k.created_at)))
$$;
