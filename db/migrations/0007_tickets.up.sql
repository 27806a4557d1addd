--  Tickets for clients that cannot send headers: each stands for a session or an API key (jti) once.

CREATE TABLE identity.tickets (
    hash       text PRIMARY KEY,
    user_id    uuid NOT NULL REFERENCES identity.users (id) ON DELETE CASCADE,
    jti        uuid NOT NULL,
    expires_at timestamptz NOT NULL
);
CREATE INDEX tickets_over ON identity.tickets (expires_at);
