//  sub.c -- `busbar sub CHANNEL`: events as JSON lines, none lost and none twice.
//
//  Live events come by the broker; what it lost, and what lies before the start, is asked of the
//  channel's owner (live.read). `have` is the last offset printed; a live event that does not
//  follow it starts a read.

#include <stdio.h>
#include <stdlib.h>

#include "client.h"

#define PAGE 300

typedef struct {
    client_t client;
    const char *channel;
    char epoch [64];
    int64_t have;                //  -1: not known, everything is new
    int64_t left;                //  events still to print; -1: no limit
    bool reading;                //  a read is under way
    bool probing;                //  … which only asks where the channel stands
    bool again;                  //  another is due after it
} sub_t;

static opt_t s_options [] = {
    CLIENT_OPTIONS,
    { "from", OPT_INT, NULL, 0, NULL, "replay what came after this offset; 0: everything", NULL },
    { "count", OPT_INT, NULL, 0, NULL, "end after so many events", NULL },
    { 0 } };

static void s_read (sub_t *self);

//  ---- printing ----

static void
s_pair_text_or_nil (buf_t *out, const char *name, text_t value)
{
    if (value.size)
        mp_pair_text (out, name, value);
    else
        mp_pair (out, name, mp_none);
}

static void
s_print (sub_t *self, int64_t off, text_t key, text_t type, text_t at, mp_t data)
{
    if (self->left == 0)
        return;
    buf_t out = { 0 };
    mp_put_map (&out, 7);
    mp_pair_str (&out, "ch", self->channel);
    mp_pair_str (&out, "epoch", self->epoch);
    mp_pair_int (&out, "off", off);
    s_pair_text_or_nil (&out, "key", key);
    mp_pair_text (&out, "type", type);
    mp_pair_text (&out, "at", at);
    mp_pair (&out, "data", data);
    client_print (mp_buf (&out));
    buf_free (&out);
    self->have = off;
    if (self->left > 0 && --self->left == 0)
        client_stop (&self->client, DONE_OK);
}

static void
s_print_gap (sub_t *self, int64_t from, int64_t to, text_t why)
{
    buf_t out = { 0 };
    mp_put_map (&out, 2);
    mp_pair_str (&out, "ch", self->channel);
    mp_put_str (&out, "gap");
    mp_put_map (&out, 3);
    mp_pair_int (&out, "from", from);
    mp_pair_int (&out, "to", to);
    mp_pair_text (&out, "why", why);
    client_print (mp_buf (&out));
    buf_free (&out);
}

//  A new epoch: the offsets we know mean nothing any more (a restored backup).
static void
s_enter_epoch (sub_t *self, text_t epoch)
{
    if (epoch.size == 0 || text_is (epoch, self->epoch))
        return;
    if (*self->epoch && self->have >= 0) {
        s_print_gap (self, self->have + 1, 0, TEXT ("epoch"));
        self->have = 0;
    }
    snprintf (self->epoch, sizeof self->epoch, "%.*s", (int) epoch.size, epoch.data);
}

//  ---- asking the owner ----

static void
s_on_retry (void *arg)
{
    s_read (arg);
}

static void
s_on_page (void *arg, const bus_reply_t *reply)
{
    sub_t *self = arg;
    self->reading = false;
    if (reply->status == 404 || reply->status == 403 || reply->status == 400) {
        client_stop (&self->client, client_code (reply, true));
        return;
    }
    if (reply->status != 200) {
        //  The owner is away: it comes back, and what it has is durable.
        ltimer_set (self->client.again, 200);
        return;
    }
    s_enter_epoch (self, mp_text (mp_get (reply->body, "epoch")));
    mp_t gap = mp_get (reply->body, "gap"), events = mp_get (reply->body, "events");
    int64_t top = mp_int (mp_get (reply->body, "top"));
    if (self->probing) {
        self->have = self->have < 0 ? top : self->have;
        if (self->again)
            s_read (self);
        return;
    }
    if (!mp_empty (gap)) {
        int64_t to = mp_int (mp_get (gap, "to"));
        s_print_gap (self, mp_int (mp_get (gap, "from")), to, mp_text (mp_get (gap, "why")));
        self->have = to > self->have ? to : self->have;
    }
    for (mp_iter_t it = mp_iter (events); mp_next (&it);)
        if (mp_int (mp_get (it.value, "off")) > self->have)
            s_print (self, mp_int (mp_get (it.value, "off")), mp_text (mp_get (it.value, "key")),
                     mp_text (mp_get (it.value, "type")), mp_text (mp_get (it.value, "at")),
                     mp_get (it.value, "data"));
    if (self->again || (self->have < top && mp_count (events) > 0))
        s_read (self);
}

static void
s_read (sub_t *self)
{
    const char *actor = bus_channel_actor (self->client.bus, text_of (self->channel));
    self->again = self->reading;
    if (self->reading || self->left == 0)
        return;
    if (!actor) {
        ltimer_set (self->client.again, 200);
        return;
    }
    char *method = text_format ("%s.live.read", actor);
    buf_t params = { 0 };
    mp_put_map (&params, 4);
    mp_pair_str (&params, "ch", self->channel);
    if (*self->epoch)
        mp_pair_str (&params, "epoch", self->epoch);
    else
        mp_pair (&params, "epoch", mp_none);
    mp_pair_int (&params, "from", self->have < 0 ? 0 : self->have);
    mp_pair_int (&params, "limit", self->have < 0 ? 1 : PAGE);
    self->reading = true;
    self->probing = self->have < 0;
    bus_call (self->client.bus, &(bus_call_t) { .method = text_of (method),
              .ttl = self->client.timeout, .params = mp_buf (&params), .idempotent = true,
              .on_reply = s_on_page, .arg = self });
    buf_free (&params);
    free (method);
}

//  ---- what comes by itself ----

static void
s_on_event (void *arg, const wire_event_t *event)
{
    sub_t *self = arg;
    if (!text_is (event->channel, self->channel))
        return;
    int64_t off = (int64_t) event->off;
    //  The first that comes by itself is as good a place to begin as the top of the log.
    if (self->have < 0)
        self->have = off - 1;
    if (!text_is (event->epoch, self->epoch) && *self->epoch)
        s_read (self);
    else if (self->reading && !self->probing)
        self->again = true;
    else if (off == self->have + 1) {
        s_enter_epoch (self, event->epoch);
        s_print (self, off, event->key, event->type, event->at, event->data);
    }
    else if (off > self->have)
        s_read (self);
}

static void
s_on_subscribed (void *arg, const wire_subscribed_t *answer, bool again)
{
    (void) again;
    sub_t *self = arg;
    if (answer->code.size) {
        complain (0, "%.*s: %.*s", (int) answer->channel.size, answer->channel.data,
                  (int) answer->text.size, answer->text.data);
        client_stop (&self->client, DONE_ERROR);
        return;
    }
    //  From here on events reach us; what came before, or while the broker was away, is read.
    s_read (self);
}

static void
s_on_ready (void *arg)
{
    sub_t *self = arg;
    if (self->client.again)
        return;
    self->client.again = loop_timer (self->client.loop, s_on_retry, self);
    bus_listener_t listener = { .on_event = s_on_event,
                                .on_subscribed = s_on_subscribed,
                                .arg = self };
    bus_listen (self->client.bus, &listener);
    bus_subscribe (self->client.bus, text_of (self->channel), (text_t) { 0 }, 0, false);
}

int
sub_command (int argc, char **argv)
{
    int rc =
        options_read (s_options, &argc, argv, "busbar sub CHANNEL [--from OFFSET] [--count N]");
    if (rc != DONE_OK)
        return options_exit (rc);
    if (argc != 2)
        return complain (DONE_USAGE, "sub: name one channel, such as user:ID/notebooks");
    if (!strchr (argv [1], '/'))
        return complain (DONE_USAGE, "%s: is no channel: the operator has none of its own, write "
                         "user:ID/%s", argv [1], argv [1]);
    bool from = opt_str (s_options, "from"), count = opt_str (s_options, "count");
    sub_t self = { .channel = argv [1], .have = from ? opt_int (s_options, "from") : -1,
                   .left = count ? opt_int (s_options, "count") : -1 };
    if ((from && self.have < 0) || (count && self.left < 1))
        return complain (DONE_USAGE, "--from must be at least 0 and --count at least 1");
    return client_run (&self.client, s_options, s_on_ready, &self);
}
