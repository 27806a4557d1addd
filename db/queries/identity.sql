-- :name user_insert
-- $1 email, $2 username, $3 password hash, $4 full name, $5 role, $6 active, $7 audit meta.
SELECT identity.user_json (u) AS body, u.id, u.email, u.role, u.organization_id, u.full_name,
       identity.audit_add (u.id, 'user.created', $7::jsonb) AS _audit,
       base.live_add ('user:' || u.id || '/profile', u.id::text, 'user.created', identity.user_json (u)) AS live
  FROM identity.user_add ($1, $2, $3, $4, $5, $6::boolean) u

-- :name session_insert
-- $1 jti, $2 user (NULL: the one of the email $9), $3 refresh hash, $4 refresh seconds, $5 token seconds, $6 ip, $7 agent, $8 audit meta.
WITH u AS (UPDATE identity.users AS t SET last_login = now ()
            WHERE id = coalesce ($2::uuid, (SELECT id FROM identity.users WHERE lower (email) = lower ($9))) RETURNING t AS r, t.*),
     s AS (INSERT INTO identity.sessions (jti, user_id, refresh_hash, refresh_expires, expires_at, ip, agent)
           SELECT $1::uuid, u.id, $3, now () + $4::int * interval '1 second', now () + $5::int * interval '1 second', $6, left ($7, 512) FROM u
           RETURNING user_id)
SELECT identity.user_json (u.r) AS body, u.id, u.email, u.role, u.organization_id, u.full_name,
       identity.audit_add (u.id, 'session.created', $8::jsonb) AS _audit
  FROM u, s

-- :name user_by_login
-- $1 email or user name. No row: unknown.
SELECT id, email, username, password_hash, role, is_active, email_verified, organization_id
  FROM identity.users WHERE lower (email) = lower ($1) OR lower (username) = lower ($1)
 ORDER BY lower (email) = lower ($1) DESC LIMIT 1

-- :name user_hash
-- $1 user. No row: gone.
SELECT password_hash FROM identity.users WHERE id = $1

-- :name user_get
-- $1 user id. No row: not found.
SELECT identity.user_json (u) || jsonb_build_object ('active_sessions_count',
       (SELECT count (*) FROM identity.sessions s WHERE s.user_id = u.id AND s.revoked_at IS NULL AND s.expires_at > now ())) AS body
  FROM identity.users u WHERE id = $1

-- :name user_find
-- $1 user id or 12-digit account id, as text. No row: not found.
SELECT identity.user_json (u) AS body, id FROM identity.users u WHERE id::text = lower ($1) OR account_id = $1

-- :name user_find_email
-- $1 email. No row: not found.
SELECT id, email, full_name FROM identity.users WHERE lower (email) = lower ($1) AND is_active

-- :name users_list
-- $1 skip, $2 limit, $3 only non-superusers ('t').
SELECT coalesce (jsonb_agg (b), '[]') AS body
  FROM (SELECT identity.user_json (u) AS b FROM identity.users u
         WHERE $3::boolean IS NOT TRUE OR u.role <> 'super_admin'
         ORDER BY created_at DESC, id OFFSET $1::bigint LIMIT $2::bigint) s

-- :name users_count
SELECT count (*) AS n FROM identity.users

-- :name super_exists
SELECT EXISTS (SELECT 1 FROM identity.users WHERE role = 'super_admin') AS found

-- :name user_update
-- $1 user, $2 full name, $3 avatar, $4 email, $5 username, $6 department, $7 organisation's name, $8 audit meta; NULL keeps. No row: not found.
WITH u AS (UPDATE identity.users AS t SET full_name = coalesce ($2, full_name), avatar = coalesce ($3, avatar),
                  email_verified = email_verified AND ($4::text IS NULL OR lower ($4) = lower (email)),
                  email = coalesce ($4, email), username = coalesce ($5, username), department = coalesce ($6, department),
                  updated_at = clock_timestamp ()
            WHERE id = $1 RETURNING t AS r, t.*),
     o AS (UPDATE identity.organizations SET name = $7, updated_at = clock_timestamp ()
            FROM u WHERE organizations.id = u.organization_id AND organizations.user_id = u.id AND $7::text IS NOT NULL RETURNING organizations.name)
SELECT identity.user_json (u.r) || CASE WHEN $7::text IS NULL THEN '{}' ELSE coalesce ((SELECT jsonb_build_object ('organization', name) FROM o), '{}') END AS body,
       identity.audit_add (u.id, 'user.updated', $8::jsonb) AS _audit,
       base.live_add ('user:' || u.id || '/profile', u.id::text, 'user.updated', identity.user_json (u.r)) AS live
  FROM u

-- :name user_preferences
-- $1 user. No row: not found.
SELECT preferences AS body FROM identity.users WHERE id = $1

-- :name user_set_preferences
-- $1 user, $2 changes (json object), merged at the top level and inside notifications. No row: not found.
UPDATE identity.users u SET preferences = preferences || $2::jsonb ||
       CASE WHEN $2::jsonb ? 'notifications' AND jsonb_typeof ($2::jsonb -> 'notifications') = 'object'
            THEN jsonb_build_object ('notifications', coalesce (preferences -> 'notifications', '{}') || ($2::jsonb -> 'notifications')) ELSE '{}' END,
       updated_at = clock_timestamp ()
 WHERE id = $1
RETURNING preferences AS body, base.live_add ('user:' || u.id || '/profile', u.id::text, 'user.updated', identity.user_json (u)) AS live

-- :name user_set_password
-- $1 user, $2 hash, $3 jti to spare (NULL: none), $4 audit meta. Every other session ends. No row: not found.
WITH u AS (UPDATE identity.users AS t SET password_hash = $2, updated_at = clock_timestamp () WHERE id = $1 RETURNING id)
SELECT u.id, identity.revoke_all (u.id, $3::uuid) AS live, identity.audit_add (u.id, 'password.changed', $4::jsonb) AS _audit FROM u

-- :name user_set_active
-- $1 user, $2 active (NULL: toggle), $3 audit meta. Switching off ends every session. No row: not found.
WITH u AS (UPDATE identity.users AS t SET is_active = coalesce ($2::boolean, NOT is_active), updated_at = clock_timestamp () WHERE id = $1 RETURNING t AS r, t.*)
SELECT identity.user_json (u.r) AS body, u.id, u.is_active, identity.audit_add (u.id, 'user.status', $3::jsonb, jsonb_build_object ('active', u.is_active)) AS _audit,
       CASE WHEN u.is_active THEN base.live_add ('user:' || u.id || '/profile', u.id::text, 'user.updated', identity.user_json (u.r))
            ELSE identity.revoke_all (u.id, NULL) END AS live
  FROM u

-- :name user_set_role
-- $1 user, $2 role, $3 audit meta. Tokens carry the role, so every session ends. No row: not found.
WITH u AS (UPDATE identity.users AS t SET role = $2, updated_at = clock_timestamp () WHERE id = $1 RETURNING t AS r, t.*)
SELECT identity.user_json (u.r) AS body, u.id, u.role, identity.revoke_all (u.id, NULL) AS live,
       identity.audit_add (u.id, 'user.role', $3::jsonb, jsonb_build_object ('role', $2::text)) AS _audit
  FROM u

-- :name user_delete
-- $1 user, $2 audit meta. No row: not found.
WITH r AS (SELECT u.id, identity.revoke_all (u.id, NULL) AS live FROM identity.users u WHERE u.id = $1),
     d AS (DELETE FROM identity.users USING r WHERE users.id = r.id RETURNING users.id)
SELECT r.id, r.live, identity.audit_add (r.id, 'user.deleted', $2::jsonb) AS _audit FROM r, d

-- :name session_check
-- $1 user, $2 jti. No row: unknown, revoked, over, or the user is switched off.
SELECT u.id, u.email, u.role, u.organization_id, s.jti, extract (epoch FROM s.expires_at)::bigint AS exp
  FROM identity.sessions s JOIN identity.users u ON u.id = s.user_id
 WHERE s.jti = $2 AND s.user_id = $1 AND s.revoked_at IS NULL AND u.is_active

-- :name session_end
-- $1 user, $2 jti, $3 audit meta. No row: no such live session.
WITH s AS (UPDATE identity.sessions SET revoked_at = now () WHERE jti = $2 AND user_id = $1 AND revoked_at IS NULL RETURNING *)
SELECT s.jti, identity.audit_add (s.user_id, 'session.ended', $3::jsonb) AS _audit,
       base.live_add ('sys/identity', s.user_id::text, 'revoked.session', jsonb_build_object ('user', s.user_id, 'jti', s.jti)) AS live
  FROM s

-- :name sessions_end
-- $1 user, $2 audit meta.
SELECT identity.revoke_all ($1::uuid, NULL) AS live, identity.audit_add ($1::uuid, 'session.all_ended', $2::jsonb) AS _audit

-- :name session_refresh
-- $1 refresh hash, $2 token seconds. No row: unknown, revoked or over.
UPDATE identity.sessions s SET used_at = now (), expires_at = now () + $2::int * interval '1 second'
  FROM identity.users u
 WHERE s.refresh_hash = $1 AND s.revoked_at IS NULL AND s.refresh_expires > now () AND u.id = s.user_id AND u.is_active
RETURNING s.jti, u.id, u.email, u.role, u.organization_id, u.full_name, identity.user_json (u) AS body

-- :name session_extend
-- $1 user, $2 jti, $3 token seconds. No row: no such live session.
UPDATE identity.sessions s SET used_at = now (), expires_at = now () + $3::int * interval '1 second'
  FROM identity.users u
 WHERE s.jti = $2 AND s.user_id = $1 AND s.revoked_at IS NULL AND u.id = s.user_id AND u.is_active
RETURNING s.jti, u.id, u.email, u.role, u.organization_id, u.full_name, identity.user_json (u) AS body

-- :name session_purge
-- Sessions that nobody can use any more, codes and lock-outs long over.
WITH a AS (DELETE FROM identity.sessions WHERE refresh_expires < now () AND expires_at < now () - interval '1 day'),
     b AS (DELETE FROM identity.codes WHERE expires_at < now () - interval '1 day'),
     c AS (DELETE FROM identity.lockouts WHERE last_at < now () - interval '1 day' AND locked_until < now ()),
     d AS (DELETE FROM identity.tickets WHERE expires_at < now ())
SELECT 1

-- :name ticket_add
-- $1 SHA-256 of it, $2 user, $3 session or API key.
INSERT INTO identity.tickets (hash, user_id, jti, expires_at) VALUES ($1, $2::uuid, $3::uuid, now () + interval '60 seconds')
RETURNING hash

-- :name ticket_take
-- $1 SHA-256. No row: unknown, used, too old, or what it stands for is not good any more.
WITH t AS (DELETE FROM identity.tickets WHERE hash = $1 RETURNING *)
SELECT u.id, u.email, u.role, u.organization_id, t.jti, CASE WHEN k.id IS NULL THEN 'user' ELSE 'key' END AS kind,
       coalesce (extract (epoch FROM coalesce (s.expires_at, k.expires_at))::bigint, 0) AS exp
  FROM t JOIN identity.users u ON u.id = t.user_id
  LEFT JOIN identity.sessions s ON s.jti = t.jti AND s.user_id = t.user_id AND s.revoked_at IS NULL
  LEFT JOIN identity.api_keys k ON k.id = t.jti AND k.user_id = t.user_id AND (k.expires_at IS NULL OR k.expires_at > now ())
 WHERE t.expires_at > now () AND u.is_active AND (s.jti IS NOT NULL OR k.id IS NOT NULL)

-- :name revocations
-- Sessions whose tokens may still be running but are revoked, and the position they are good for.
SELECT jsonb_build_object ('jtis', coalesce ((SELECT jsonb_agg (jti) FROM identity.sessions WHERE revoked_at IS NOT NULL AND expires_at > now ()), '[]'),
       'users', '[]'::jsonb, 'epoch', (SELECT epoch FROM identity.live_meta),
       'off', coalesce ((SELECT max (off) FROM identity.live_log WHERE ch = 'sys/identity'), 0)) AS body

-- :name live_top
-- Position of sys/identity.
SELECT coalesce ((SELECT max (off) FROM identity.live_log WHERE ch = 'sys/identity'), 0) AS off, (SELECT epoch FROM identity.live_meta) AS epoch

-- :name audiences
-- $1 user.
SELECT identity.audiences ($1::uuid) AS body

-- :name grant_put
-- $1 user, $2 audience, $3 role. No row: no such user.
WITH g AS (INSERT INTO identity.grants (user_id, audience, role) SELECT id, $2, $3 FROM identity.users WHERE id = $1::uuid
           ON CONFLICT (user_id, audience) DO UPDATE SET role = excluded.role RETURNING user_id)
SELECT user_id FROM g

-- :name grant_delete
-- $1 user (NULL: everybody), $2 audience. Who lost it: busbar.users.
WITH d AS (DELETE FROM identity.grants WHERE audience = $2 AND ($1::uuid IS NULL OR user_id = $1::uuid) RETURNING user_id)
SELECT set_config ('busbar.users', coalesce (jsonb_agg (d.user_id), '[]')::text, true) AS _users FROM d

-- :name grants_event
-- $1 user. Tells every edge what this user may hear from now on (in the unit of the change).
SELECT identity.grants_event ($1::uuid) AS live

-- :name grants_event_all
-- To those whom org_delete or grant_delete named, behind it in the same unit: only then it is gone.
SELECT identity.grants_event (u::uuid) AS live
  FROM jsonb_array_elements_text (coalesce (nullif (current_setting ('busbar.users', true), ''), '[]')::jsonb) u

-- :name lockout_get
-- $1 account subject, $2 address subject. Seconds to wait, 0 when free.
SELECT coalesce (ceil (max (extract (epoch FROM locked_until - now ()))), 0)::int AS wait
  FROM identity.lockouts WHERE subject IN ($1, $2) AND locked_until > now ()

-- :name lockout_fail
-- $1 account subject, $2 address subject, $3 audit meta, $4 user (may be NULL). From the 5th failure on each locks twice as long: 2 s … 15 min
-- (an address from the 25th on). Failures older than an hour don't count.
WITH f AS (INSERT INTO identity.lockouts (subject, failures, last_at, locked_until)
           SELECT s, 1, now (), now () FROM unnest (ARRAY [$1, $2]) s
           ON CONFLICT (subject) DO UPDATE SET
              failures = CASE WHEN lockouts.last_at < now () - interval '1 hour' THEN 1 ELSE lockouts.failures + 1 END,
              last_at = now (),
              locked_until = now () + least (900, power (2, least (20, greatest (0,
                  CASE WHEN lockouts.last_at < now () - interval '1 hour' THEN 1 ELSE lockouts.failures + 1 END
                  - CASE WHEN lockouts.subject LIKE 'ip:%' THEN 24 ELSE 4 END))) - 1) * interval '1 second'
           RETURNING failures)
SELECT max (failures) AS failures, identity.audit_add ($4::uuid, 'signin.failed', $3::jsonb, jsonb_build_object ('subject', $1::text)) AS _audit FROM f

-- :name lockout_clear
-- $1 account subject.
DELETE FROM identity.lockouts WHERE subject = $1

-- :name code_put
-- $1 user, $2 purpose, $3 code hash, $4 seconds.
INSERT INTO identity.codes (user_id, purpose, code_hash, expires_at) VALUES ($1::uuid, $2, $3, now () + $4::int * interval '1 second')
ON CONFLICT (user_id, purpose) DO UPDATE SET code_hash = excluded.code_hash, expires_at = excluded.expires_at, attempts = 0
RETURNING user_id

-- :name code_use
-- $1 email, $2 purpose, $3 code hash. Row with ok: was it right? At most 10 attempts a code. No row: nothing to confirm.
WITH c AS (SELECT c.user_id, c.code_hash = $3 AND c.expires_at > now () AND c.attempts < 10 AS ok
             FROM identity.codes c JOIN identity.users u ON u.id = c.user_id
            WHERE lower (u.email) = lower ($1) AND c.purpose = $2 FOR UPDATE OF c),
     d AS (DELETE FROM identity.codes USING c WHERE codes.user_id = c.user_id AND codes.purpose = $2 AND c.ok),
     m AS (UPDATE identity.codes SET attempts = attempts + 1 FROM c WHERE codes.user_id = c.user_id AND codes.purpose = $2 AND NOT c.ok)
SELECT user_id, ok FROM c

-- :name user_verified
-- $1 user, $2 audit meta.
WITH u AS (UPDATE identity.users AS t SET email_verified = true, updated_at = clock_timestamp () WHERE id = $1::uuid RETURNING t AS r, t.*)
SELECT u.id, identity.audit_add (u.id, 'email.verified', $2::jsonb) AS _audit,
       base.live_add ('user:' || u.id || '/profile', u.id::text, 'user.updated', identity.user_json (u.r)) AS live
  FROM u

-- :name key_insert
-- $1 user, $2 name, $3 prefix, $4 key hash, $5 expiry (time or NULL), $6 audit meta.
WITH k AS (INSERT INTO identity.api_keys (user_id, name, prefix, key_hash, expires_at) VALUES ($1::uuid, $2, $3, $4, $5::timestamptz) RETURNING *)
SELECT k.id, k.name, k.prefix, k.expires_at, k.created_at, identity.audit_add (k.user_id, 'api_key.created', $6::jsonb, jsonb_build_object ('id', k.id)) AS _audit FROM k

-- :name keys_list
-- $1 user.
SELECT id, name, prefix, expires_at, last_used_at, created_at FROM identity.api_keys WHERE user_id = $1 ORDER BY created_at DESC, id

-- :name key_delete
-- $1 user, $2 key, $3 audit meta. No row: not found.
WITH k AS (DELETE FROM identity.api_keys WHERE user_id = $1 AND id = $2 RETURNING *)
SELECT k.id, identity.audit_add (k.user_id, 'api_key.deleted', $3::jsonb, jsonb_build_object ('id', k.id)) AS _audit,
       base.live_add ('sys/identity', k.user_id::text, 'revoked.session', jsonb_build_object ('user', k.user_id, 'jti', k.id)) AS live
  FROM k

-- :name key_check
-- $1 SHA-256 of an API key. No row: unknown, over, or its user is switched off.
UPDATE identity.api_keys k SET last_used_at = now () FROM identity.users u
 WHERE k.key_hash = $1 AND (k.expires_at IS NULL OR k.expires_at > now ()) AND u.id = k.user_id AND u.is_active
RETURNING u.id, u.email, u.role, u.organization_id, k.id AS jti, coalesce (extract (epoch FROM k.expires_at)::bigint, 0) AS exp

-- :name orgs_list
-- $1 user.
SELECT o.id, o.name, o.personal, m.role, o.user_id, o.created_at, o.updated_at
  FROM identity.members m JOIN identity.organizations o ON o.id = m.organization_id WHERE m.user_id = $1 ORDER BY o.created_at, o.id

-- :name org_get
-- $1 user, $2 organisation. No row: not there, or not a member.
SELECT o.id, o.name, o.personal, m.role, o.user_id, o.created_at, o.updated_at
  FROM identity.members m JOIN identity.organizations o ON o.id = m.organization_id WHERE m.user_id = $1 AND o.id = $2

-- :name org_insert
-- $1 user, $2 name, $3 audit meta.
WITH o AS (INSERT INTO identity.organizations (user_id, name) VALUES ($1::uuid, $2) RETURNING *),
     m AS (INSERT INTO identity.members (organization_id, user_id, role) SELECT id, user_id, 'owner' FROM o)
SELECT o.id, o.name, o.personal, 'owner' AS role, o.user_id, o.created_at, o.updated_at,
       identity.audit_add (o.user_id, 'organization.created', $3::jsonb, jsonb_build_object ('id', o.id)) AS _audit
  FROM o

-- :name org_update
-- $1 user, $2 organisation, $3 name. No row: not found. Null id: not an owner or admin of it.
WITH m AS (SELECT role, organization_id FROM identity.members WHERE user_id = $1 AND organization_id = $2),
     o AS (UPDATE identity.organizations SET name = coalesce ($3, name), updated_at = clock_timestamp () FROM m
            WHERE id = m.organization_id AND m.role IN ('owner', 'admin') RETURNING organizations.*)
SELECT o.id, o.name, o.personal, m.role, o.user_id, o.created_at, o.updated_at FROM m LEFT JOIN o ON o.id = m.organization_id

-- :name org_delete
-- $1 user, $2 organisation, $3 audit meta. No row: not found. Null id: not the owner, or personal. Who lost it: busbar.users.
WITH m AS (SELECT m.role, m.organization_id, o.personal FROM identity.members m JOIN identity.organizations o ON o.id = m.organization_id
            WHERE m.user_id = $1 AND m.organization_id = $2),
     u AS (SELECT coalesce (jsonb_agg (user_id), '[]') AS users FROM identity.members WHERE organization_id = $2),
     d AS (DELETE FROM identity.organizations USING m WHERE id = m.organization_id AND m.role = 'owner' AND NOT m.personal RETURNING organizations.id)
SELECT d.id, m.role, m.personal, set_config ('busbar.users', CASE WHEN d.id IS NULL THEN '[]' ELSE u.users::text END, true) AS _users,
       CASE WHEN d.id IS NOT NULL THEN
       identity.audit_add ($1::uuid, 'organization.deleted', $3::jsonb, jsonb_build_object ('id', d.id)) END AS _audit
  FROM u, m LEFT JOIN d ON d.id = m.organization_id

-- :name members_list
-- $1 user, $2 organisation. No row: not found.
SELECT coalesce (jsonb_agg (jsonb_build_object ('user_id', u.id, 'email', u.email, 'full_name', u.full_name, 'role', m.role,
                                                'created_at', base.utc (m.created_at)) ORDER BY m.created_at), '[]') AS body
  FROM identity.members m JOIN identity.users u ON u.id = m.user_id
 WHERE m.organization_id = $2 AND EXISTS (SELECT 1 FROM identity.members WHERE organization_id = $2 AND user_id = $1)
HAVING count (*) > 0

-- :name member_put
-- $1 user, $2 organisation, $3 member, $4 role, $5 audit meta. No row: not found. Null user_id: not allowed (only owners and admins add; nobody changes the owner).
WITH me AS (SELECT role FROM identity.members WHERE organization_id = $2::uuid AND user_id = $1::uuid),
     n AS (INSERT INTO identity.members (organization_id, user_id, role)
           SELECT $2::uuid, $3::uuid, $4 FROM me WHERE me.role IN ('owner', 'admin')
           ON CONFLICT (organization_id, user_id) DO UPDATE SET role = excluded.role WHERE members.role <> 'owner' RETURNING *)
SELECT n.user_id AS _id, n.user_id, n.role, n.created_at, CASE WHEN n.user_id IS NOT NULL THEN
       identity.audit_add (n.user_id, 'member.set', $5::jsonb, jsonb_build_object ('organization', n.organization_id, 'role', n.role)) END AS _audit
  FROM me LEFT JOIN n ON true

-- :name member_delete
-- $1 user, $2 organisation, $3 member, $4 audit meta. No row: not found. Null id: not allowed, or `absent`: no such member, told to who may remove one.
-- Members may leave; the owner can't.
WITH me AS (SELECT role FROM identity.members WHERE organization_id = $2::uuid AND user_id = $1::uuid),
     d AS (DELETE FROM identity.members USING me WHERE organization_id = $2::uuid AND members.user_id = $3::uuid AND members.role <> 'owner'
              AND (me.role IN ('owner', 'admin') OR members.user_id = $1::uuid) RETURNING members.*)
SELECT d.user_id AS id, d.user_id,
       me.role IN ('owner', 'admin') AND NOT EXISTS (SELECT FROM identity.members WHERE organization_id = $2::uuid AND user_id = $3::uuid) AS absent,
       CASE WHEN d.user_id IS NOT NULL THEN
       identity.audit_add (d.user_id, 'member.removed', $4::jsonb, jsonb_build_object ('organization', d.organization_id)) END AS _audit
  FROM me LEFT JOIN d ON true

-- :name audit_list
-- $1 user or NULL for all, $2 before id or NULL, $3 limit.
SELECT id, at, user_id, by_user AS by, action, ip, agent, request_id, detail FROM identity.audit
 WHERE ($1::uuid IS NULL OR user_id = $1::uuid) AND ($2::bigint IS NULL OR id < $2::bigint) ORDER BY id DESC LIMIT $3::int

-- :name user_role
-- $1 user. No row: not found.
SELECT role FROM identity.users WHERE id = $1
