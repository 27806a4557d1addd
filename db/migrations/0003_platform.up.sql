--  platform: workspaces and notebooks.

SELECT base.actor_install ('platform');
GRANT USAGE ON SCHEMA identity TO busbar_platform;

CREATE TABLE platform.workspaces (
    id               uuid PRIMARY KEY DEFAULT gen_random_uuid (),
    user_id          uuid NOT NULL REFERENCES identity.users (id) ON DELETE RESTRICT,
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
CREATE INDEX workspaces_user ON platform.workspaces (user_id, created_at DESC, id DESC);

--  Who shares a workspace besides its owner. Grants for audience project:<workspace> follow this table.
CREATE TABLE platform.workspace_members (
    workspace_id uuid NOT NULL REFERENCES platform.workspaces (id) ON DELETE CASCADE,
    user_id      uuid NOT NULL REFERENCES identity.users (id) ON DELETE CASCADE,
    email        text NOT NULL,
    role         text NOT NULL CHECK (role IN ('editor', 'viewer')),
    created_at   timestamptz NOT NULL DEFAULT now (),
    PRIMARY KEY (workspace_id, user_id)
);
CREATE INDEX workspace_members_user ON platform.workspace_members (user_id);

CREATE TABLE platform.notebooks (
    id           uuid PRIMARY KEY DEFAULT gen_random_uuid (),
    user_id      uuid NOT NULL REFERENCES identity.users (id) ON DELETE RESTRICT,
    workspace_id uuid,
    name         text NOT NULL CHECK (length (name) BETWEEN 1 AND 255),
    description  text,
    language     text NOT NULL DEFAULT 'python' CHECK (language IN ('python', 'sql', 'scala', 'r')),
    content      jsonb NOT NULL DEFAULT '{"cells": []}',
    cluster_id   uuid,
    created_at   timestamptz NOT NULL DEFAULT now (),
    updated_at   timestamptz NOT NULL DEFAULT now (),
    UNIQUE (id, user_id),
    CONSTRAINT notebooks_workspace_id_fkey FOREIGN KEY (workspace_id, user_id)
        REFERENCES platform.workspaces (id, user_id) ON DELETE RESTRICT
);
CREATE INDEX notebooks_user ON platform.notebooks (user_id, created_at DESC, id DESC);
CREATE INDEX notebooks_workspace ON platform.notebooks (workspace_id);

--  Role of a user in a workspace: owner, editor, viewer; NULL for strangers.
CREATE FUNCTION platform.workspace_role (workspace uuid, who uuid) RETURNS text LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN coalesce (
        (SELECT 'owner' FROM platform.workspaces w WHERE w.id = $1 AND w.user_id = $2),
        (SELECT m.role FROM platform.workspace_members m WHERE m.workspace_id = $1 AND m.user_id = $2));
END $$;

--  Where things of a workspace are told besides the owner's own audience: project:<id> once it is shared, else nothing.
CREATE FUNCTION platform.shared_audience (workspace uuid) RETURNS text LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (SELECT 'project:' || $1 WHERE EXISTS (SELECT 1 FROM platform.workspace_members m WHERE m.workspace_id = $1));
END $$;
