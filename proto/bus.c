//  bus.c -- the bus client's life: its connection to the broker, HELLO and heartbeat, and the work
//  at the end of each turn.

#include <stdlib.h>
#include <unistd.h>

#include "proto/bus_int.h"
#include "proto/log.h"
#include "proto/token.h"

#define SILENT_TICKS 9               //  half heartbeats without a word: the broker is dead
#define RETRY_MIN 10                 //  ms before the next connection to the broker
#define RETRY_MAX 1000
#define GREET_AGAIN 200              //  ms between two HELLOs on one connection

void
bus_wake (bus_t *self)
{
    loop_at_end (self->loop, &self->hook);
}

bool
bus_through_door (const bus_t *self)
{
    return self->conf.server_key || self->conf.token;
}

//  Failures first: what is told may lead to new messages, which still leave in this turn.
static void
on_turn_end (void *arg)
{
    bus_t *self = arg;
    calls_failed (self);
    outboxes_flush (self);
    if (self->lost) {
        self->lost = false;
        serving_lost (self);
        calls_failed (self);
        outboxes_flush (self);
    }
    links_free_buried (self);
}

static void
on_blocked (void *arg)
{
    bus_wake (arg);
}

//  ---------------------------------------------------------------- the broker connection

static void
claims_pack (bus_t *self, buf_t *buf)
{
    text_t key;
    void *item;
    mp_put_array (buf, (uint32_t) hash_size (self->serving.own_claims));
    for (size_t at = 0; hash_each (self->serving.own_claims, &at, &key, &item);)
        mp_put_text (buf, key);
}

static void
greet (bus_t *self)
{
    const serving_t *serving = &self->serving;
    buf_t claims = { 0 };
    claims_pack (self, &claims);
    wire_hello_t hello = {
        .version = WIRE_VERSION, .role = text_of (self->conf.role),
        .name = text_of (self->conf.name), .slot = text_of (self->conf.slot),
        .boot = text_of (self->boot), .endpoint = text_of (serving->bound ? serving->endpoint : ""),
        .credit = self->conf.credit, .routes = serving->service.routes, .claims = mp_buf (&claims),
        .channels = serving->service.channels, .dependants = serving->service.dependants,
        .pid = (uint64_t) getpid (), .token = text_of (self->conf.token)
    };
    outbox_t *box = &self->broker->box;
    size_t mark = outbox_open (box);
    wire_pack_hello (&box->frame, &hello);
    if (!outbox_shut (box, mark))
        log_error ("HELLO is larger than a frame");
    buf_free (&claims);
    buf_clear (&self->serving.late_claims);
    self->broker_state = BROKER_GREETED;
    self->greeted_at = clock_ms ();
}

static void
broker_open (void *arg)
{
    bus_t *self = arg;
    if (self->refused || self->leaving)
        return;
    self->silent_ticks = 0;
    self->broker = link_new (self, NULL, self->conf.broker);
    if (self->broker)
        greet (self);
    else
        ltimer_set (self->retry, RETRY_MAX);
}

static void
refuse (bus_t *self, const wire_refused_t *why)
{
    self->refused = true;
    if (self->life.on_refused)
        self->life.on_refused (self->life.arg, why);
}

//  Everything that went through the broker ends; direct calls go on.
static void
broker_forgot (bus_t *self)
{
    text_t key;
    void *item;
    for (size_t at = 0; hash_each (self->dir.slots, &at, &key, &item);)
        if (!((instance_t *) item)->endpoint [0])
            calls_abandon (item);
    self->broker_state = BROKER_CLOSED;
    self->serving.through_broker.box = NULL;
    serving_drop_all (self, &self->serving.through_broker);
}

static void
broker_close (bus_t *self)
{
    link_t *link = self->broker;
    broker_forgot (self);
    self->broker = NULL;
    link_bury (link);
    calls_rehome (self);
}

void
broker_lost (bus_t *self, bool refused_key)
{
    bool was_ready = self->broker_state == BROKER_READY;
    broker_close (self);
    if (refused_key) {
        refuse (self, &(wire_refused_t) { .code = TEXT ("UNAUTHORIZED"),
                                          .text = TEXT ("key is not known to the broker") });
        return;
    }
    if (was_ready)
        self->backoff = RETRY_MIN;
    else
        self->backoff = self->backoff * 2 < RETRY_MAX ? self->backoff * 2 : RETRY_MAX;
    if (!self->leaving)
        ltimer_set (self->retry, self->backoff);
}

//  ---------------------------------------------------------------- heartbeat

static void
tick_again (bus_t *self)
{
    ltimer_set (self->tick, (int64_t) self->heartbeat / 2);
}

//  Silence is counted in our own ticks, so a process that was stopped does not blame the broker.
static void
on_tick (void *arg)
{
    bus_t *self = arg;
    int64_t now = clock_ms ();
    link_t *broker = self->broker;
    if (broker && broker->connected && ++self->silent_ticks > SILENT_TICKS)
        broker_lost (self, false);
    else if (broker && self->broker_state >= BROKER_WELCOME) {
        if (broker->box.taken == self->tick_taken) {
            wire_ping_t ping = { .load = self->serving.count };
            size_t mark = outbox_open (&broker->box);
            wire_pack_ping (&broker->box.frame, &ping);
            outbox_shut (&broker->box, mark);
        }
        self->tick_taken = broker->box.taken;
    }
    directory_tick (self, now);
    serving_tick (self, now);
    tick_again (self);
}

//  ---------------------------------------------------------------- what the broker says

//  HELLO carried what was claimed before it.
static void
late_claims_send (bus_t *self)
{
    buf_t *late = &self->serving.late_claims;
    if (late->size == 0)
        return;
    size_t mark = outbox_open (&self->broker->box);
    buf_put (&self->broker->box.frame, late->data, late->size);
    outbox_shut (&self->broker->box, mark);
    buf_clear (late);
}

static bool
on_welcome (bus_t *self, mp_t message)
{
    wire_welcome_t msg;
    if (!wire_unpack_welcome (message, &msg))
        return false;
    if (msg.heartbeat >= 20 && msg.heartbeat <= 60000)
        self->heartbeat = msg.heartbeat;
    self->broker->credit = msg.credit ? msg.credit : BUS_CREDIT_EARLY;
    self->serving.through_broker.box = &self->broker->box;
    self->broker_state = BROKER_WELCOME;
    late_claims_send (self);
    serving_sweep (self);
    topics_again (self);
    return true;
}

static bool
on_refused (bus_t *self, mp_t message)
{
    wire_refused_t msg;
    if (!wire_unpack_refused (message, &msg))
        return false;
    if (text_is (msg.code, "UNAVAILABLE"))
        broker_lost (self, false);
    else if (!text_is (msg.code, "UNKNOWN")) {
        //  Not to be asked again: whoever took our slot would be thrown out in turn.
        broker_close (self);
        refuse (self, &msg);
    }
    else if (!self->leaving && clock_ms () - self->greeted_at >= GREET_AGAIN) {
        broker_forgot (self);
        greet (self);
    }
    return true;
}

static bool
on_directory (bus_t *self, mp_t message)
{
    wire_directory_t msg;
    if (!wire_unpack_directory (message, &msg))
        return false;
    directory_apply (self, &msg);
    if (msg.whole && self->broker_state == BROKER_WELCOME) {
        self->broker_state = BROKER_READY;
        self->backoff = RETRY_MIN;
        if (self->life.on_ready)
            self->life.on_ready (self->life.arg);
    }
    if (self->life.on_directory)
        self->life.on_directory (self->life.arg);
    return true;
}

static bool
on_claim (bus_t *self, mp_t message)
{
    wire_claim_t msg;
    if (!wire_unpack_claim (message, &msg))
        return false;
    directory_claim (self, &msg);
    return true;
}

//  On this one connection both directions stream: an id of ours is looked for first.
static bool
on_chunk (link_t *link, mp_t message)
{
    wire_chunk_t msg;
    if (!wire_unpack_chunk (message, &msg))
        return false;
    if (!call_chunk (link, &msg))
        serving_chunk (link->bus, &link->bus->serving.through_broker, &msg);
    return true;
}

static bool
on_credit (link_t *link, mp_t message)
{
    wire_credit_t msg;
    if (!wire_unpack_credit (message, &msg))
        return false;
    if (!call_credit (link, &msg))
        serving_credit (link->bus, &link->bus->serving.through_broker, &msg);
    return true;
}

static void
pong (link_t *link)
{
    size_t mark = outbox_open (&link->box);
    wire_pack_pong (&link->box.frame, &(wire_pong_t) { .load = link->bus->serving.count });
    outbox_shut (&link->box, mark);
}

void
broker_message (link_t *link, int number, mp_t message)
{
    bus_t *self = link->bus;
    bool good = true;
    self->silent_ticks = 0;
    switch (number) {
    case WIRE_WELCOME:   good = on_welcome (self, message); break;
    case WIRE_REFUSED:   good = on_refused (self, message); break;
    case WIRE_DIRECTORY: good = on_directory (self, message); break;
    case WIRE_CLAIM:     good = on_claim (self, message); break;
    case WIRE_PING:      pong (link); break;
    case WIRE_REPLY:     call_replied (link, message); break;
    case WIRE_CHUNK:     good = on_chunk (link, message); break;
    case WIRE_CREDIT:    good = on_credit (link, message); break;
    case WIRE_CALL:
    case WIRE_CANCEL:
        if (self->serving.through_broker.box)
            serving_message (self, &self->serving.through_broker, number, message);
        break;
    default:
        topic_message (self, number, message);
        break;
    }
    self->stats.malformed += !good;
}

void
actor_message (link_t *link, int number, mp_t message)
{
    bool good = true;
    switch (number) {
    case WIRE_WELCOME: {
        wire_welcome_t msg;
        if ((good = wire_unpack_welcome (message, &msg)))
            link->credit = msg.credit ? msg.credit : BUS_CREDIT_EARLY;
        break;
    }
    case WIRE_PING:
        pong (link);
        break;
    case WIRE_REPLY:
        call_replied (link, message);
        break;
    case WIRE_CHUNK: {
        wire_chunk_t msg;
        if ((good = wire_unpack_chunk (message, &msg)))
            call_chunk (link, &msg);
        break;
    }
    case WIRE_CREDIT: {
        wire_credit_t msg;
        if ((good = wire_unpack_credit (message, &msg)))
            call_credit (link, &msg);
        break;
    }
    default:
        break;
    }
    link->bus->stats.malformed += !good;
}

//  ---------------------------------------------------------------- life

bus_t *
bus_new (loop_t *loop, void *zmq_ctx, const bus_conf_t *conf)
{
    bus_t *self = xcalloc (1, sizeof *self);
    self->loop = loop;
    self->zmq = zmq_ctx;
    self->conf = (bus_conf_t) {
        .role = xstrdup (conf->role), .name = xstrdup (conf->name), .slot = xstrdup (conf->slot),
        .broker = xstrdup (conf->broker), .run_dir = xstrdup (conf->run_dir),
        .server_key = xstrdup (conf->server_key), .public_key = xstrdup (conf->public_key),
        .secret_key = xstrdup (conf->secret_key), .token = xstrdup (conf->token),
        .credit = conf->credit ? conf->credit : BUS_CREDIT
    };
    uint8_t random [4];
    random_bytes (random, sizeof random);
    for (size_t i = 0; i < sizeof random; i++) {
        self->boot [2 * i] = "0123456789abcdef" [random [i] >> 4];
        self->boot [2 * i + 1] = "0123456789abcdef" [random [i] & 15];
    }
    self->heartbeat = BUS_HEARTBEAT;
    self->backoff = RETRY_MIN;
    self->hook = (hook_t) { .fn = on_turn_end, .arg = self };
    self->tick = loop_timer (loop, on_tick, self);
    self->retry = loop_timer (loop, broker_open, self);
    self->blocked = loop_timer (loop, on_blocked, self);
    calls_init (self);
    directory_init (self);
    serving_init (self);
    topics_init (self);
    return self;
}

static void
say_goodbye (outbox_t *box, const char *why)
{
    size_t mark = outbox_open (box);
    wire_pack_goodbye (&box->frame, &(wire_goodbye_t) { .why = text_of (why) });
    outbox_shut (box, mark);
    outbox_flush (box);
    int linger = 200;
    zmq_setsockopt (box->socket, ZMQ_LINGER, &linger, sizeof linger);
}

static void
conf_free (bus_conf_t *conf)
{
    free ((char *) conf->role);
    free ((char *) conf->name);
    free ((char *) conf->slot);
    free ((char *) conf->broker);
    free ((char *) conf->run_dir);
    free ((char *) conf->server_key);
    free ((char *) conf->public_key);
    free ((char *) conf->secret_key);
    free ((char *) conf->token);
}

//  Calls that are still open are forgotten without an answer.
void
bus_destroy (bus_t **self_p)
{
    bus_t *self = *self_p;
    if (!self)
        return;
    *self_p = NULL;
    outboxes_flush (self);
    text_t key;
    void *item;
    for (size_t at = 0; hash_each (self->dir.slots, &at, &key, &item);)
        if (((instance_t *) item)->link)
            say_goodbye (&((instance_t *) item)->link->box, "leaving");
    if (self->broker) {
        if (!self->leaving && self->broker_state >= BROKER_WELCOME)
            say_goodbye (&self->broker->box, "leaving");
        link_bury (self->broker);
        self->broker = NULL;
    }
    directory_free (self);
    serving_free (self);
    links_free_buried (self);
    calls_free (self);
    topics_free (self);
    ltimer_end (&self->tick);
    ltimer_end (&self->retry);
    ltimer_end (&self->blocked);
    loop_forget (self->loop, &self->hook);
    buf_free (&self->scratch);
    conf_free (&self->conf);
    free (self);
}

void
bus_start (bus_t *self, const bus_life_t *life)
{
    if (life)
        self->life = *life;
    self->started = true;
    if (self->serving.failed) {
        refuse (self, &(wire_refused_t) { .code = TEXT ("BIND"),
                                          .text = TEXT ("own socket could not be bound") });
        return;
    }
    broker_open (self);
    tick_again (self);
}

void
bus_leave (bus_t *self)
{
    if (self->leaving)
        return;
    self->leaving = true;
    if (self->broker_state >= BROKER_WELCOME) {
        outbox_t *box = &self->broker->box;
        size_t mark = outbox_open (box);
        wire_pack_goodbye (&box->frame, &(wire_goodbye_t) { .why = TEXT ("leaving") });
        outbox_shut (box, mark);
    }
}

bool
bus_connected (bus_t *self)
{
    return self->broker_state == BROKER_READY;
}

const char *
bus_boot (const bus_t *self)
{
    return self->boot;
}

const bus_stats_t *
bus_stats (bus_t *self)
{
    return &self->stats;
}

void
bus_claim (bus_t *self, text_t key, bool release)
{
    if (release)
        hash_del (self->serving.own_claims, key);
    else
        hash_put (self->serving.own_claims, key, self);
    buf_t keys = { 0 };
    mp_put_array (&keys, 1);
    mp_put_text (&keys, key);
    wire_claim_t claim = { .name = text_of (self->conf.name), .slot = text_of (self->conf.slot),
                           .boot = text_of (self->boot), .keys = mp_buf (&keys),
                           .release = release };
    directory_claim (self, &claim);     //  the broker tells the others only
    if (self->broker_state >= BROKER_WELCOME) {
        size_t mark = outbox_open (&self->broker->box);
        wire_pack_claim (&self->broker->box.frame, &claim);
        outbox_shut (&self->broker->box, mark);
    }
    else if (self->broker_state == BROKER_GREETED)
        wire_pack_claim (&self->serving.late_claims, &claim);
    buf_free (&keys);
}
