//  auth.c -- who asks: tokens verified once and confirmed by identity, then cached for a minute;
//  sign-outs and grants as identity pushes them. When nothing was heard from identity for 30 s
//  nobody gets in.

#include <stdlib.h>

#include "edge/edge.h"

#define CACHE_MS 60000
#define CACHE_MAX 20000
#define FRESH_MS 30000
#define RESYNC_MS 600000                 //  also when nothing seems missing: old revocations go
#define POLL_MS 5000
#define REVOKED_MAX 100000

typedef struct wait {
    struct check *check;
    auth_fn *fn;
    void *arg;
    struct wait *next;
} wait_t;

//  One question to identity; everybody who comes with the same credential meanwhile waits for its
//  answer.
typedef struct check {
    auth_t *auth;
    char hash [65];
    int64_t iat, exp;
    bool once;                   //  a ticket: what it says is good for who asked
    uint64_t call;
    wait_t *waits;
} check_t;

struct auth {
    edge_t *edge;
    text_t secret;
    hash_t *cache;               //  credential hash → session (referenced)
    hash_t *checks;              //  credential hash → check under way
    hash_t *jtis;                //  revoked token ids
    hash_t *users;               //  user → int64_t: tokens issued before are void
    session_t *sessions;         //  all of them
    session_t *anon;
    //  loop_now when our picture of revocations was last known to be whole
    int64_t heard;
    int64_t synced;
    char epoch [64];
    uint64_t off;
    uint64_t sync_call;
    ltimer_t *poll;
};

void
auth_list_head (auth_t *self, session_t *session)
{
    self->sessions = session;
}

static void
cached_drop (void *item)
{
    session_t *session = item;
    session_drop (&session);
}

//  ---------------------------------------------------------------- revocations

static bool
is_revoked (auth_t *self, text_t user, text_t jti, int64_t iat)
{
    if (jti.size && hash_get (self->jtis, jti))
        return true;
    int64_t *before = hash_get (self->users, user);
    return before && iat && iat < *before;
}

//  Its sockets end, and who comes with its credential is asked about anew. The session after it.
static session_t *
session_revoke (auth_t *self, session_t *session)
{
    session->revoked = true;
    session_ref (session);
    hash_del (self->cache, text_of (session->hash));
    live_revoked (self->edge->live, session);
    session_t *next = session->next;
    session_drop (&session);
    return next;
}

static void
sessions_review (auth_t *self)
{
    for (session_t *session = self->sessions, *next; session; session = next) {
        next = session->next;
        if (!session->revoked && session != self->anon
            && is_revoked (self, text_of (session->user), text_of (session->jti), session->iat))
            next = session_revoke (self, session);
    }
}

//  An API key outlives its user's sessions, but may mean something else after what ended them.
//  No user: everybody's.
static void
keys_review (auth_t *self, text_t user)
{
    for (session_t *session = self->sessions, *next; session; session = next) {
        next = session->next;
        if (!session->revoked && text_is (TEXT ("key"), session->kind)
            && (user.size == 0 || text_is (user, session->user)))
            next = session_revoke (self, session);
    }
}

static void
revoke_jti (auth_t *self, text_t jti)
{
    if (jti.size)
        hash_put (self->jtis, jti, self);
}

static void
revoke_user (auth_t *self, text_t user, int64_t before)
{
    int64_t *old = hash_get (self->users, user);
    if (user.size == 0 || (old && *old >= before))
        return;
    int64_t *value = xmalloc (sizeof *value);
    *value = before;
    hash_put (self->users, user, value);
}

//  A user's name alone means every session seen here so far: who signs in again in the same second
//  has another one, which no point in time could tell apart.
void
auth_revoke (auth_t *self, mp_t revoke)
{
    text_t jti = mp_text (mp_get (revoke, "jti")), user = mp_text (mp_get (revoke, "user"));
    int64_t before;
    revoke_jti (self, jti);
    if (mp_int_get (mp_get (revoke, "before"), &before))
        revoke_user (self, user, before);
    else if (jti.size == 0 && user.size)
        for (session_t *session = self->sessions; session; session = session->next)
            if (text_is (user, session->user) && strcmp (session->kind, "user") == 0)
                revoke_jti (self, text_of (session->jti));
    sessions_review (self);
}

static void
synced (void *arg, const bus_reply_t *reply)
{
    auth_t *self = arg;
    self->sync_call = 0;
    if (reply->status != 200)
        return;
    static buf_t s_room;
    mp_t body = json_plain (reply->body, &s_room);
    text_t epoch = mp_text (mp_get (body, "epoch"));
    uint64_t off = mp_uint (mp_get (body, "off"));
    bool same = text_is (epoch, self->epoch);
    //  An event may have overtaken this answer, so what we know is added to, and dropped only when
    //  the answer is at least as new.
    if (hash_size (self->jtis) > REVOKED_MAX && (!same || off >= self->off)) {
        hash_destroy (&self->jtis);
        self->jtis = hash_new (NULL);
    }
    for (mp_iter_t it = mp_iter (mp_get (body, "jtis")); mp_next (&it);)
        revoke_jti (self, mp_text (it.value));
    for (mp_iter_t it = mp_iter (mp_get (body, "users")); mp_next (&it);)
        revoke_user (self, mp_text (mp_get (it.value, "user")),
                     mp_int (mp_get (it.value, "before")));
    size_t size = epoch.size < sizeof self->epoch ? epoch.size : sizeof self->epoch - 1;
    memcpy (self->epoch, epoch.data ? epoch.data : "", size);
    self->epoch [size] = 0;
    //  Something was missed; keys are not among the revocations.
    if (!same || off > self->off)
        keys_review (self, TEXT (""));
    self->off = same && self->off > off ? self->off : off;
    self->heard = self->synced = loop_now (self->edge->loop);
    sessions_review (self);
}

void
auth_resync (auth_t *self)
{
    if (self->sync_call)
        return;
    self->sync_call = bus_call (self->edge->bus, &(bus_call_t) {
        .method = TEXT ("identity.revocations"), .ttl = 10000, .idempotent = true,
        .on_reply = synced, .arg = self });
}

//  Sooner when a hole or silence shows; an answer counts as being heard.
static void
auth_poll (void *arg)
{
    auth_t *self = arg;
    int64_t now = loop_now (self->edge->loop);
    if (now - self->heard > 2 * POLL_MS || now - self->synced > RESYNC_MS)
        auth_resync (self);
    ltimer_set (self->poll, POLL_MS);
}

void
auth_event (auth_t *self, const wire_event_t *event)
{
    bool same = text_is (event->epoch, self->epoch);
    if (text_is (event->type, "beat")) {
        if (same && event->off == self->off)
            self->heard = loop_now (self->edge->loop);
        else
            auth_resync (self);
        return;
    }
    if (same && event->off <= self->off)
        return;
    //  What this event says holds whatever is missing before it.
    static buf_t s_room;
    mp_t data = json_plain (event->data, &s_room);
    if (text_is (event->type, "revoked.session"))
        revoke_jti (self, mp_text (mp_get (data, "jti")));
    else if (text_is (event->type, "revoked.user")) {
        for (mp_iter_t it = mp_iter (mp_get (data, "jtis")); mp_next (&it);)
            revoke_jti (self, mp_text (it.value));
        revoke_user (self, mp_text (mp_get (data, "user")), mp_int (mp_get (data, "before")));
        if (mp_int (mp_get (data, "before")))
            keys_review (self, mp_text (mp_get (data, "user")));
    }
    else if (text_is (event->type, "grants"))
        live_grants (self->edge->live, mp_text (mp_get (data, "user")), mp_get (data, "audiences"));
    sessions_review (self);
    if (same && event->off == self->off + 1) {
        self->off = event->off;
        self->heard = loop_now (self->edge->loop);
    }
    else
        auth_resync (self);
}

bool
auth_fresh (auth_t *self)
{
    return self->heard && loop_now (self->edge->loop) - self->heard < FRESH_MS;
}

//  ---------------------------------------------------------------- checking a credential

static int64_t
wall_seconds (auth_t *self)
{
    return loop_wall (self->edge->loop) / 1000;
}

bool
auth_good (auth_t *self, session_t *session, fault_t *fault)
{
    if (session->revoked)
        fault_set (fault, E_UNAUTHORIZED, "signed out");
    else if (session->exp && session->exp <= wall_seconds (self))
        fault_set (fault, E_UNAUTHORIZED, "token has expired");
    else if (!auth_fresh (self)) {
        fault_set (fault, E_UNAVAILABLE, "identity does not answer, try again later");
        fault->retry_after = 2;
    }
    else
        return true;
    return false;
}

//  The cache is full: what has to be asked again anyway goes first, then everything.
static void
cache_shrink (auth_t *self)
{
    int64_t now = loop_now (self->edge->loop);
    text_t key;
    void *item;
    for (int round = 0; round < 2 && hash_size (self->cache) >= CACHE_MAX; round++)
        for (size_t at = 0; hash_each (self->cache, &at, &key, &item);)
            if (round || now - ((session_t *) item)->checked > CACHE_MS)
                hash_del (self->cache, key);
}

static session_t *
session_confirm (check_t *check, mp_t identity)
{
    auth_t *self = check->auth;
    session_t *session = hash_get (self->cache, text_of (check->hash));
    if (session)
        session_fill (session, identity);
    else {
        if (hash_size (self->cache) >= CACHE_MAX)
            cache_shrink (self);
        session = session_new (self, &self->sessions, identity);
        memcpy (session->hash, check->hash, sizeof session->hash);
        hash_put (self->cache, text_of (check->hash), session);
    }
    session->checked = loop_now (self->edge->loop);
    if (check->exp)
        session->exp = check->exp;
    session->iat = check->iat;
    return session;
}

static void
check_end (check_t *check, session_t *session, const fault_t *fault)
{
    hash_del (check->auth->checks, text_of (check->hash));
    if (session)
        session_ref (session);
    if (check->once)
        hash_del (check->auth->cache, text_of (check->hash));
    while (check->waits) {
        wait_t *wait = check->waits;
        check->waits = wait->next;
        auth_fn *fn = wait->fn;
        void *arg = wait->arg;
        free (wait);
        fn (arg, session, fault);
    }
    session_drop (&session);
    free (check);
}

static void
checked (void *arg, const bus_reply_t *reply)
{
    check_t *check = arg;
    auth_t *self = check->auth;
    static buf_t s_room;
    fault_t fault = { 0 };
    session_t *session = NULL;
    mp_t identity = json_plain (reply->body, &s_room);
    if (reply->status == 200 && mp_type (identity) == MP_MAP) {
        session = session_confirm (check, identity);
        sessions_review (self);
        session = hash_get (self->cache, text_of (check->hash));
        if (!session)
            fault_set (&fault, E_UNAUTHORIZED, "signed out");
        else if (!auth_good (self, session, &fault))
            session = NULL;
    }
    else if (reply->status == 401 || reply->status == 403) {
        text_t text = mp_text (mp_get (identity, "error"));
        hash_del (self->cache, text_of (check->hash));
        fault_set (&fault, E_UNAUTHORIZED, "%.*s", text.size ? (int) text.size : 12,
                   text.size ? text.data : "not accepted");
    }
    else {
        fault_set (&fault, E_UNAVAILABLE, "identity does not answer, try again later");
        fault.retry_after = 2;
    }
    check_end (check, session, &fault);
}

//  Ask identity about a hash of this name, or about the claims of a token.
static check_t *
check_start (auth_t *self, const char *hash, const char *name, mp_t claims)
{
    static buf_t s_body;
    check_t *check = xcalloc (1, sizeof *check);
    check->auth = self;
    memcpy (check->hash, hash, sizeof check->hash);
    buf_clear (&s_body);
    if (name) {
        check->once = strcmp (name, "ticket_hash") == 0;
        mp_put_map (&s_body, 1);
        mp_pair_str (&s_body, name, hash);
    }
    else {
        check->iat = mp_int (mp_get (claims, "iat"));
        check->exp = mp_int (mp_get (claims, "exp"));
        mp_put_map (&s_body, 2);
        mp_put_str (&s_body, "user");
        mp_put_text (&s_body, claims_user (claims));
        mp_pair (&s_body, "jti", mp_get (claims, "jti"));
    }
    hash_put (self->checks, text_of (hash), check);
    check->call = bus_call (self->edge->bus, &(bus_call_t) {
        .method = TEXT ("identity.check"), .ttl = 10000, .idempotent = !check->once,
        .body = mp_buf (&s_body), .on_reply = checked, .arg = check });
    return check;
}

text_t
claims_user (mp_t claims)
{
    static const char *const names [] = { "user_id", "userId", "sub" };
    for (size_t i = 0; i < 3; i++) {
        mp_t value = mp_get (claims, names [i]);
        if (mp_type (value) == MP_TEXT && mp_text (value).size)
            return mp_text (value);
    }
    return TEXT ("");
}

//  Look at the token itself. A check to wait for, or NULL and a fault.
static check_t *
token_start (auth_t *self, text_t token, const char *hash, fault_t *fault)
{
    static buf_t s_claims;
    buf_clear (&s_claims);
    token_verdict_t verdict = token_verify (token, self->secret, wall_seconds (self), &s_claims);
    mp_t claims = mp_buf (&s_claims);
    if (verdict != TOKEN_OK)
        fault_set (fault, E_UNAUTHORIZED, "%s", token_verdict_text (verdict));
    else if (mp_type (mp_get (claims, "jti")) != MP_TEXT)
        fault_set (fault, E_UNAUTHORIZED, "token names no session");
    else if (is_revoked (self, claims_user (claims), mp_text (mp_get (claims, "jti")),
                         mp_int (mp_get (claims, "iat"))))
        fault_set (fault, E_UNAUTHORIZED, "signed out");
    else
        return check_start (self, hash, NULL, claims);
    return NULL;
}

bool
auth_known (auth_t *self, session_t *session)
{
    fault_t fault = { 0 };
    return loop_now (self->edge->loop) - session->checked < CACHE_MS
           && auth_good (self, session, &fault);
}

void *
auth_check (auth_t *self, text_t credential, auth_fn *fn, void *arg)
{
    fault_t fault = { 0 };
    if (credential.size == 0 || credential.size > TOKEN_MAX) {
        fault_set (&fault, E_UNAUTHORIZED, "token is malformed");
        fn (arg, NULL, &fault);
        return NULL;
    }
    char hash [65];
    sha256_hex (credential, hash);
    session_t *session = hash_get (self->cache, text_of (hash));
    if (session && loop_now (self->edge->loop) - session->checked < CACHE_MS) {
        if (!auth_good (self, session, &fault))
            session = NULL;
        fn (arg, session, &fault);
        return NULL;
    }
    check_t *check = hash_get (self->checks, text_of (hash));
    if (check && check->once) {
        fault_set (&fault, E_UNAUTHORIZED, "ticket is unknown, used or too old");
        check = NULL;
    }
    else if (!check && credential_is_ticket (credential))
        check = check_start (self, hash, "ticket_hash", mp_none);
    else if (!check)
        check = text_starts (credential, "bb_")
            ? check_start (self, hash, "api_key_hash", mp_none)
            : token_start (self, credential, hash, &fault);
    if (!check) {
        fn (arg, NULL, &fault);
        return NULL;
    }
    wait_t *wait = xmalloc (sizeof *wait);
    *wait = (wait_t) { check, fn, arg, check->waits };
    check->waits = wait;
    return wait;
}

void
auth_cancel (auth_t *self, void *handle)
{
    (void) self;
    wait_t *wait = handle;
    for (wait_t **at = &wait->check->waits; *at; at = &(*at)->next)
        if (*at == wait) {
            *at = wait->next;
            free (wait);
            return;
        }
}

//  ---------------------------------------------------------------- roles

//  Is the role one of "admin|analyst"? `user` is another word for `client`.
static bool
role_listed (text_t list, const char *role)
{
    if (strcmp (role, "user") == 0)
        role = "client";
    for (size_t at = 0; at < list.size;) {
        size_t size = 0;
        while (at + size < list.size && list.data [at + size] != '|')
            size++;
        text_t word = { list.data + at, size };
        if (text_is (word, role) || (text_is (word, "user") && strcmp (role, "client") == 0))
            return true;
        at += size + 1;
    }
    return false;
}

bool
auth_allows (auth_t *self, session_t *session, const route_t *route, fault_t *fault)
{
    bool nobody = !session || strcmp (session->kind, "anon") == 0;
    if (route->auth == AUTH_NONE || (nobody && route->auth == AUTH_OPTIONAL))
        return true;
    if (nobody) {
        fault_set (fault, E_UNAUTHORIZED, "authentication required");
        return false;
    }
    if (!auth_good (self, session, fault))
        return false;
    bool super = strcmp (session->role, "super_admin") == 0;
    bool admin = super || strcmp (session->role, "admin") == 0;
    if ((route->auth == AUTH_SUPER && !super) || (route->auth == AUTH_ADMIN && !admin)
        || (route->roles.size && !super && !role_listed (route->roles, session->role))) {
        fault_set (fault, E_FORBIDDEN, "role %.40s may not do this", session->role);
        return false;
    }
    return true;
}

//  ---------------------------------------------------------------- life

session_t *
auth_anon (auth_t *self)
{
    return self->anon;
}

auth_t *
auth_new (edge_t *edge)
{
    auth_t *self = xcalloc (1, sizeof *self);
    self->edge = edge;
    self->secret = edge->jwt_secret;
    self->cache = hash_new (cached_drop);
    self->checks = hash_new (NULL);
    self->jtis = hash_new (NULL);
    self->users = hash_new (free);
    buf_t anon = { 0 };
    mp_put_map (&anon, 3);
    mp_pair_str (&anon, "user", "");
    mp_pair_str (&anon, "role", "anon");
    mp_pair_str (&anon, "kind", "anon");
    self->anon = session_new (self, &self->sessions, mp_buf (&anon));
    buf_free (&anon);
    self->poll = loop_timer (edge->loop, auth_poll, self);
    ltimer_set (self->poll, POLL_MS);
    return self;
}

void
auth_destroy (auth_t **self_p)
{
    auth_t *self = *self_p;
    if (!self)
        return;
    text_t key;
    void *item;
    for (size_t at = 0; hash_each (self->checks, &at, &key, &item);) {
        check_t *check = item;
        bus_cancel (self->edge->bus, check->call);
        while (check->waits) {
            wait_t *wait = check->waits;
            check->waits = wait->next;
            free (wait);
        }
        free (check);
    }
    hash_destroy (&self->checks);
    hash_destroy (&self->cache);
    hash_destroy (&self->jtis);
    hash_destroy (&self->users);
    session_drop (&self->anon);
    ltimer_end (&self->poll);
    free (self);
    *self_p = NULL;
}
