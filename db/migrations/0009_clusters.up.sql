--  clusters: cloud profiles and compute clusters.

SELECT base.actor_install ('clusters');

CREATE TABLE clusters.cloud_profiles (
    id                    uuid PRIMARY KEY DEFAULT gen_random_uuid (),
    user_id               uuid NOT NULL REFERENCES identity.users (id) ON DELETE RESTRICT,
    name                  text NOT NULL CHECK (length (name) BETWEEN 1 AND 255),
    cloud_provider        text NOT NULL CHECK (cloud_provider IN ('aws', 'azure', 'gcp')),
    region                text NOT NULL,
    --  A JSON text: the sealed credentials.
    credentials_encrypted jsonb,
    external_id           text,
    custom_domain         text,
    stack_id              text,
    status                text NOT NULL DEFAULT 'inactive' CHECK (status IN ('active', 'inactive', 'error')),
    created_at            timestamptz NOT NULL DEFAULT now (),
    updated_at            timestamptz NOT NULL DEFAULT now (),
    UNIQUE (id, user_id)
);
CREATE INDEX cloud_profiles_user ON clusters.cloud_profiles (user_id, created_at DESC, id DESC);

CREATE TABLE clusters.compute_clusters (
    id               uuid PRIMARY KEY DEFAULT gen_random_uuid (),
    user_id          uuid NOT NULL REFERENCES identity.users (id) ON DELETE RESTRICT,
    cloud_profile_id uuid,
    name             text NOT NULL CHECK (length (name) BETWEEN 1 AND 255),
    compute_type     text NOT NULL CHECK (compute_type IN ('spark', 'dask', 'ray')),
    node_type        text NOT NULL DEFAULT 'local',
    num_workers      integer NOT NULL DEFAULT 2 CHECK (num_workers BETWEEN 1 AND 1000),
    auto_scaling     boolean NOT NULL DEFAULT false,
    min_workers      integer NOT NULL DEFAULT 1 CHECK (min_workers BETWEEN 1 AND 1000),
    max_workers      integer NOT NULL DEFAULT 10 CHECK (max_workers BETWEEN 1 AND 1000),
    cluster_config   jsonb NOT NULL DEFAULT '{}',
    status           text NOT NULL DEFAULT 'stopped'
                     CHECK (status IN ('starting', 'running', 'stopped', 'terminated', 'error')),
    state_detail     text NOT NULL DEFAULT 'stopped' CHECK (state_detail IN
                     ('requested', 'provisioning', 'starting', 'running', 'resizing', 'degraded',
                      'restarting', 'stopping', 'stopped', 'terminated', 'failed')),
    state_seq        bigint NOT NULL DEFAULT 0,
    termination      jsonb,
    endpoint_url     text,
    dashboard_url    text,
    --  Alive now; num_workers is how many there should be.
    workers          integer NOT NULL DEFAULT 0,
    --  Where its processes are, for who takes it over; NULL: there are none.
    runtime          jsonb,
    started_at       timestamptz,
    created_at       timestamptz NOT NULL DEFAULT now (),
    updated_at       timestamptz NOT NULL DEFAULT now (),
    UNIQUE (id, user_id),
    CHECK (min_workers <= max_workers),
    CONSTRAINT compute_clusters_cloud_profile_id_fkey FOREIGN KEY (cloud_profile_id, user_id)
        REFERENCES clusters.cloud_profiles (id, user_id) ON DELETE SET NULL (cloud_profile_id)
);
CREATE INDEX compute_clusters_user ON clusters.compute_clusters (user_id, created_at DESC, id DESC);
CREATE INDEX compute_clusters_profile ON clusters.compute_clusters (cloud_profile_id);
CREATE INDEX compute_clusters_alive ON clusters.compute_clusters (id) WHERE runtime IS NOT NULL;

--  What happened to a cluster; never changed.
CREATE TABLE clusters.cluster_events (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    cluster_id uuid NOT NULL REFERENCES clusters.compute_clusters (id) ON DELETE CASCADE,
    at         timestamptz NOT NULL DEFAULT now (),
    type       text NOT NULL CHECK (type ~ '^[A-Z][A-Z_]*$'),
    state_seq  bigint NOT NULL,
    details    jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX cluster_events_cluster ON clusters.cluster_events (cluster_id, id DESC);

--  A cluster as lists show it, for events.
CREATE FUNCTION clusters.cluster_told (c clusters.compute_clusters) RETURNS jsonb
LANGUAGE sql STABLE AS $$
    SELECT to_jsonb (c) - 'runtime'
           || jsonb_build_object (
               'cloud_profile_name', (SELECT p.name FROM clusters.cloud_profiles p WHERE p.id = c.cloud_profile_id),
               'started_at', base.utc (c.started_at), 'created_at', base.utc (c.created_at),
               'updated_at', base.utc (c.updated_at))
$$;

--  Write an event down and tell the log of the cluster.
CREATE FUNCTION clusters.cluster_note (c clusters.compute_clusters, type text, details jsonb) RETURNS jsonb
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    number bigint;
BEGIN
    INSERT INTO clusters.cluster_events (cluster_id, type, state_seq, details)
    VALUES (c.id, $2, c.state_seq, $3) RETURNING id INTO number;
    RETURN base.live_add ('user:' || c.user_id || '/compute_clusters/' || c.id, NULL, 'cluster.event',
                          jsonb_build_object ('id', number, 'type', $2, 'state_seq', c.state_seq,
                                              'state_detail', c.state_detail, 'details', $3));
END $$;
