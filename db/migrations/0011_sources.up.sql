--  Data sources: where else data lives and how to get there; and the catalogue of what was found there.

CREATE TABLE platform.data_sources (
    id                uuid PRIMARY KEY DEFAULT gen_random_uuid (),
    user_id           uuid NOT NULL REFERENCES identity.users (id) ON DELETE CASCADE,
    name              text NOT NULL CHECK (length (name) BETWEEN 1 AND 255),
    description       text,
    source_type       text NOT NULL CHECK (source_type IN ('postgresql', 'mysql', 'mariadb', 'sqlite', 'http', 's3', 'trino')),
    --  Without its secrets: these are null here, and in `secrets` as sealed JSON.
    connection_config jsonb NOT NULL,
    secrets           text,
    status            text NOT NULL DEFAULT 'inactive' CHECK (status IN ('active', 'inactive', 'error')),
    state_detail      text,
    last_tested_at    timestamptz,
    created_at        timestamptz NOT NULL DEFAULT now (),
    updated_at        timestamptz NOT NULL DEFAULT now (),
    UNIQUE (id, user_id)
);
CREATE INDEX data_sources_user ON platform.data_sources (user_id, created_at DESC, id DESC);

--  What people wrote down themselves.
CREATE TABLE platform.data_catalogs (
    id               uuid PRIMARY KEY DEFAULT gen_random_uuid (),
    user_id          uuid NOT NULL REFERENCES identity.users (id) ON DELETE CASCADE,
    workspace_id     uuid,
    name             text NOT NULL CHECK (length (name) BETWEEN 1 AND 255),
    catalog_type     text NOT NULL CHECK (catalog_type IN ('database', 'table', 'view')),
    cloud_profile_id uuid,
    schema_info      jsonb,
    location         text CHECK (length (location) <= 500),
    created_at       timestamptz NOT NULL DEFAULT now (),
    updated_at       timestamptz NOT NULL DEFAULT now (),
    UNIQUE (id, user_id),
    CONSTRAINT data_catalogs_workspace_id_fkey FOREIGN KEY (workspace_id, user_id)
        REFERENCES platform.workspaces (id, user_id) ON DELETE CASCADE
);
CREATE INDEX data_catalogs_user ON platform.data_catalogs (user_id, created_at DESC, id DESC);
CREATE INDEX data_catalogs_workspace ON platform.data_catalogs (workspace_id);

--  What a refresh found. Without a source: the user's own schema in the guest database.
CREATE TABLE platform.catalog_tables (
    id             uuid PRIMARY KEY DEFAULT gen_random_uuid (),
    user_id        uuid NOT NULL REFERENCES identity.users (id) ON DELETE CASCADE,
    data_source_id uuid,
    database_name  text NOT NULL,
    table_name     text NOT NULL,
    table_type     text NOT NULL CHECK (table_type IN ('table', 'view')),
    row_estimate   bigint,
    --  [{column_name, data_type, is_nullable, column_order}]
    columns        jsonb NOT NULL DEFAULT '[]',
    statistics     jsonb,
    created_at     timestamptz NOT NULL DEFAULT now (),
    updated_at     timestamptz NOT NULL DEFAULT now (),
    CONSTRAINT catalog_tables_place UNIQUE NULLS NOT DISTINCT (user_id, data_source_id, database_name, table_name),
    FOREIGN KEY (data_source_id, user_id) REFERENCES platform.data_sources (id, user_id) ON DELETE CASCADE
);
CREATE INDEX catalog_tables_source ON platform.catalog_tables (data_source_id);

--  The last refresh of each source; `slot` is who does it, so that one who died is found out.
CREATE TABLE platform.catalog_refreshes (
    user_id        uuid NOT NULL REFERENCES identity.users (id) ON DELETE CASCADE,
    data_source_id uuid,
    state          text NOT NULL CHECK (state IN ('running', 'succeeded', 'failed', 'lost')),
    slot           text NOT NULL,
    databases      integer NOT NULL DEFAULT 0,
    tables         integer NOT NULL DEFAULT 0,
    added          integer NOT NULL DEFAULT 0,
    changed        integer NOT NULL DEFAULT 0,
    removed        integer NOT NULL DEFAULT 0,
    truncated      boolean NOT NULL DEFAULT false,
    error          text,
    started_at     timestamptz NOT NULL DEFAULT now (),
    finished_at    timestamptz,
    CONSTRAINT catalog_refreshes_one UNIQUE NULLS NOT DISTINCT (user_id, data_source_id),
    FOREIGN KEY (data_source_id, user_id) REFERENCES platform.data_sources (id, user_id) ON DELETE CASCADE
);
CREATE INDEX catalog_refreshes_source ON platform.catalog_refreshes (data_source_id);

--  Which tables statements read, and what they wrote from them (NULL: nothing, only an answer).
CREATE TABLE platform.lineage (
    user_id        uuid NOT NULL REFERENCES identity.users (id) ON DELETE CASCADE,
    data_source_id uuid,
    from_database  text,
    from_table     text,
    to_database    text,
    to_table       text,
    operation      text NOT NULL,
    statement_id   uuid,
    runs           bigint NOT NULL DEFAULT 1,
    first_at       timestamptz NOT NULL DEFAULT now (),
    last_at        timestamptz NOT NULL DEFAULT now (),
    CONSTRAINT lineage_edge UNIQUE NULLS NOT DISTINCT
        (user_id, data_source_id, from_database, from_table, to_database, to_table, operation),
    FOREIGN KEY (data_source_id, user_id) REFERENCES platform.data_sources (id, user_id) ON DELETE CASCADE
);
CREATE INDEX lineage_source ON platform.lineage (data_source_id);
