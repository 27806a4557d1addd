--  What the peers read and write: the tables of identity and platform that the same requests touch
--  in Busbar, with the same columns, keys and indexes.

CREATE TABLE users (
    id    uuid PRIMARY KEY DEFAULT gen_random_uuid (),
    email text NOT NULL UNIQUE
);

CREATE TABLE workspaces (
    id               uuid PRIMARY KEY DEFAULT gen_random_uuid (),
    user_id          uuid NOT NULL REFERENCES users (id) ON DELETE RESTRICT,
    name             text NOT NULL CHECK (length (name) BETWEEN 1 AND 255),
    description      text,
    category         text,
    tags             jsonb NOT NULL DEFAULT '[]',
    icon             text,
    color            text,
    cloud_profile_id uuid,
    provider         text CHECK (provider IN ('aws', 'azure', 'gcp')),
    config           jsonb NOT NULL DEFAULT '{}',
    created_at       timestamptz NOT NULL DEFAULT now (),
    updated_at       timestamptz NOT NULL DEFAULT now (),
    UNIQUE (id, user_id)
);
CREATE INDEX workspaces_user ON workspaces (user_id, created_at DESC, id DESC);

--  Ours numbers each channel without holes; a plain identity column asks less of the peers.
CREATE TABLE events (
    off  bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    ch   text        NOT NULL,
    at   timestamptz NOT NULL DEFAULT now (),
    key  text,
    type text        NOT NULL,
    data jsonb
);
CREATE INDEX events_at ON events USING brin (at);
