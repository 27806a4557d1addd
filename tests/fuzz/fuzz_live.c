//  fuzz_live.c -- whatever a client of the live protocol says, in whatever pieces, and whatever the
//  bus answers meanwhile: what is written is whole objects, positions of a channel only grow, and
//  nothing stays behind.
//
//  Input: a byte (1: MessagePack), then records: what happens, two bytes of size, that many bytes.

#include <assert.h>

//  The commands are taken where the socket would hand them over.
#include "edge/ws.c"

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size);

enum { SAY, SAY_BINARY, REPLY, REPLY_RAW, EVENT, CHECKED, REFUSED, WRITEABLE, GRANTS, REVOKED,
       SUBSCRIBED, DIRECTORY, KINDS };

#define CALLS 512

typedef struct {
    uint64_t id;
    bus_reply_fn *fn;
    void *arg;
} open_call_t;

static open_call_t s_calls [CALLS];              //  asked of the bus, oldest first
static size_t s_call_count;
static uint64_t s_last_id;
static auth_fn *s_checked;                       //  a token is being looked at
static void *s_checked_arg;
static bool s_packed;
static edge_t s_edge;
static session_t *s_sessions;

//  ---------------------------------------------------------------- what the edge stands on

static uint64_t
call_open (bus_reply_fn *fn, void *arg)
{
    if (s_call_count == CALLS)
        return 0;
    s_calls [s_call_count++] = (open_call_t) { ++s_last_id, fn, arg };
    return s_last_id;
}

uint64_t
bus_call (bus_t *self, const bus_call_t *call)
{
    (void) self;
    assert (mp_valid (call->params.data, (size_t) (call->params.end - call->params.data),
                      MP_DEPTH));
    return call_open (call->on_reply, call->arg);
}

uint64_t
edge_call (edge_t *edge, const edge_call_t *call, fault_t *fault)
{
    (void) edge;
    uint64_t id = call->method.size % 2 ? call_open (call->on_reply, call->arg) : 0;
    if (!id) {
        fault->code = E_NOT_FOUND;
        snprintf (fault->text, sizeof fault->text, "no such method");
    }
    return id;
}

void
bus_cancel (bus_t *self, uint64_t id)
{
    (void) self;
    for (size_t i = 0; i < s_call_count; i++)
        if (s_calls [i].id == id) {
            memmove (s_calls + i, s_calls + i + 1, (--s_call_count - i) * sizeof *s_calls);
            return;
        }
}

const char *
bus_channel_actor (bus_t *self, text_t channel)
{
    (void) self;
    return memmem (channel.data, channel.size, "/c", 2) ? "one" : NULL;
}

void
bus_subscribe (bus_t *self, text_t channel, text_t epoch, uint64_t off, bool resume)
{
    (void) self, (void) epoch, (void) off, (void) resume;
    assert (channel.size <= CHANNEL_NAME_MAX);
}

void
bus_unsubscribe (bus_t *self, text_t channel)
{
    (void) self, (void) channel;
}

void *
auth_check (auth_t *self, text_t credential, auth_fn *fn, void *arg)
{
    (void) self;
    static const fault_t bad = { E_UNAUTHORIZED, "no good token", 0 };
    if (text_starts (credential, "now"))
        fn (arg, s_sessions, NULL);
    else if (credential.size == 0)
        fn (arg, NULL, &bad);
    else {
        s_checked = fn;
        s_checked_arg = arg;
        return &s_checked;
    }
    return NULL;
}

void
auth_cancel (auth_t *self, void *wait)
{
    (void) self, (void) wait;
    s_checked = NULL;
}

bool
auth_good (auth_t *self, session_t *session, fault_t *fault)
{
    (void) self, (void) fault;
    return !session->revoked;
}

void
auth_revoke (auth_t *self, mp_t revoke)
{
    (void) self, (void) revoke;
}

void
auth_list_head (auth_t *self, session_t *session)
{
    (void) self;
    s_sessions = session;
}

void
ws_wake (void *self)
{
    (void) self;
}

void
ws_gone (ws_t *self)
{
    self->closing = true;
}

//  ---------------------------------------------------------------- what comes out

//  Positions told so far, by a hash of the channel's name.
static uint64_t s_positions [256];

static void
object_checked (mp_t object)
{
    assert (mp_type (object) == MP_MAP);
    text_t name = mp_text (mp_get (object, "ch"));
    mp_t off = mp_get (object, "off");
    uint64_t *position = &s_positions [text_hash (name) % 256];
    if (!mp_is_none (mp_get (object, "gap")) || !mp_is_none (mp_get (object, "snap_end"))
        || !mp_is_none (mp_get (object, "subscribe")))
        memset (s_positions, 0, sizeof s_positions);
    else if (name.size && !mp_is_none (off)) {
        assert (mp_uint (off) > *position);
        assert (mp_uint (mp_get (object, "prev")) < mp_uint (off));
        *position = mp_uint (off);
    }
}

//  Whole objects.
static void
text_checked (text_t rest)
{
    buf_t packed = { 0 };
    while (rest.size) {
        size_t step;
        if (s_packed) {
            step = mp_valid (rest.data, rest.size, MP_DEPTH + 8);
            assert (step);
            object_checked (mp_of (rest.data, step));
        }
        else {
            const char *end = memchr (rest.data, '\n', rest.size);
            char error [200];
            size_t length = end ? (size_t) (end - rest.data) : rest.size;
            buf_clear (&packed);
            assert (text_utf8 ((text_t) { rest.data, length }));
            //  Depth and equal keys of what others said are theirs.
            if (json_read ((text_t) { rest.data, length }, &packed, error, sizeof error))
                object_checked (mp_buf (&packed));
            step = length + (end != NULL);
        }
        rest = (text_t) { rest.data + step, rest.size - step };
    }
    buf_free (&packed);
}

static void
pulled (ws_t *ws)
{
    buf_t out = { 0 };
    if (!ws_pull (ws, &out))
        return;
    assert (out.size);
    text_checked (buf_text (&out));
    buf_free (&out);
}

//  ---------------------------------------------------------------- what happens

static void
reply_with (uint64_t status, mp_t body)
{
    if (!s_call_count)
        return;
    open_call_t call = s_calls [0];
    memmove (s_calls, s_calls + 1, --s_call_count * sizeof *s_calls);
    call.fn (call.arg, &(bus_reply_t) { .status = status, .body = body, .meta = mp_none });
}

static uint64_t
number_at (text_t bytes, size_t at)
{
    uint8_t byte = at < bytes.size ? (uint8_t) bytes.data [at] : 0;
    return byte == 255 ? UINT64_MAX : byte == 254 ? INT64_MAX : byte;
}

static void
put_event (buf_t *out, uint64_t off, unsigned key)
{
    mp_put_map (out, 4);
    mp_put_str (out, "off");
    mp_put_uint (out, off);
    mp_pair_str (out, "key", key % 3 ? key % 3 == 1 ? "a" : "b" : "");
    mp_pair_str (out, "type", "t");
    mp_put_str (out, "data");
    mp_put_ext (out, MP_EXT_JSON, "{\"a\":1}", 7);
}

//  A page, or a snapshot, as their owner says it.
static void
reply_page (text_t bytes)
{
    buf_t body = { 0 };
    mp_put_map (&body, 6);
    mp_pair_str (&body, "epoch", number_at (bytes, 0) % 4 ? "e1" : "e2");
    mp_put_str (&body, "top");
    mp_put_uint (&body, number_at (bytes, 1));
    mp_put_str (&body, "off");
    mp_put_uint (&body, number_at (bytes, 2));
    mp_pair_str (&body, "cursor", number_at (bytes, 3) % 2 ? "c" : NULL);
    mp_put_str (&body, "rows");
    mp_put_array (&body, 1);
    mp_put_map (&body, 0);
    mp_put_str (&body, "events");
    size_t count = bytes.size > 4 ? bytes.size - 4 : 0;
    mp_put_array (&body, (uint32_t) count);
    for (size_t i = 0; i < count; i++)
        put_event (&body, number_at (bytes, i + 4), (unsigned) i);
    reply_with (200, mp_buf (&body));
    buf_free (&body);
}

static void
event_comes (text_t bytes)
{
    live_event (s_edge.live, &(wire_event_t) {
        .channel = number_at (bytes, 0) % 2 ? TEXT ("user:u/c") : TEXT ("user:u/c/1"),
        .epoch = number_at (bytes, 1) % 4 ? TEXT ("e1") : TEXT ("e2"),
        .off = number_at (bytes, 2), .key = number_at (bytes, 3) % 2 ? TEXT ("a") : TEXT (""),
        .type = TEXT ("t"), .at = TEXT ("now"), .data = mp_none });
}

static void
checked_with (session_t *session)
{
    static const fault_t bad = { E_UNAUTHORIZED, "no good token", 0 };
    auth_fn *fn = s_checked;
    s_checked = NULL;
    if (fn)
        fn (s_checked_arg, session, session ? NULL : &bad);
}

static void
happens (ws_t *ws, unsigned what, text_t bytes)
{
    static const uint8_t audiences [] = "\x91\xa5org:o";
    size_t valid;
    switch (what) {
        case SAY:
        case SAY_BINARY:
            ws_message (ws, what == SAY ? s_packed : true, bytes);
            break;
        case REPLY:
            reply_page (bytes);
            break;
        case REPLY_RAW:
            valid = mp_valid (bytes.data, bytes.size, MP_DEPTH);
            reply_with (valid ? 200 : 503, valid ? mp_of (bytes.data, valid) : mp_none);
            break;
        case EVENT:
            event_comes (bytes);
            break;
        case CHECKED:
            checked_with (s_sessions);
            break;
        case REFUSED:
            checked_with (NULL);
            break;
        case WRITEABLE:
            pulled (ws);
            break;
        case GRANTS:
            live_grants (s_edge.live, TEXT ("u"),
                         bytes.size % 2 ? mp_of (audiences, sizeof audiences - 1) : mp_none);
            break;
        case REVOKED:
            s_sessions->revoked = bytes.size % 2;
            break;
        case SUBSCRIBED:
            live_subscribed (s_edge.live, &(wire_subscribed_t) { .channel = TEXT ("user:u/c") },
                             false);
            break;
        case DIRECTORY:
            live_directory (s_edge.live);
            break;
    }
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
    static const uint8_t identity [] = "\x81\xa4user\xa1u";
    if (size == 0)
        return 0;
    memset (s_positions, 0, sizeof s_positions);
    s_packed = data [0] & 1;
    s_edge.loop = loop_new ();
    s_edge.live = live_new (&s_edge);
    session_t *session = session_new (NULL, &s_sessions, mp_of (identity, sizeof identity - 1));
    conn_t conn = { .edge = &s_edge };
    ws_t *ws = ws_new (&s_edge, &conn, s_packed);
    for (size_t at = 1; at + 3 <= size && !ws->closing;) {
        size_t length = data [at + 1] | (size_t) data [at + 2] << 8;
        length = length < size - at - 3 ? length : size - at - 3;
        //  A copy, so that reading beyond its end is seen.
        char *bytes = text_copy ((text_t) { (const char *) data + at + 3, length });
        happens (ws, data [at] % KINDS, (text_t) { bytes, length });
        free (bytes);
        at += 3 + length;
    }
    for (int i = 0; i < 8; i++)
        pulled (ws);
    ws_free (&ws);
    assert (!s_edge.live->clients && hash_size (s_edge.live->channels) == 0);
    live_destroy (&s_edge.live);
    assert (s_call_count == 0 && !s_checked && s_edge.ws_count == 0);
    session_drop (&session);
    assert (!s_sessions);
    loop_destroy (&s_edge.loop);
    return 0;
}
