//  door.c -- the door itself: keys on disk, who may connect (ZAP), our own bus client behind it.

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "door.h"
#include "proto/log.h"
#include "proto/token.h"

#define ZAP_ENDPOINT "inproc://zeromq.zap.01"
#define ZAP_PARTS 8
#define KEYS_EVERY 1000          //  ms between looks at the directory

static void
key_free (void *item)
{
    keyfile_t *key = item;
    keyfile_free (&key);
}

int64_t
door_now (door_t *self)
{
    return loop_wall (self->broker->loop) / 1000;
}

keyfile_t *
door_key (door_t *self, const char *name)
{
    text_t public;
    void *item;
    for (size_t at = 0; hash_each (self->keys, &at, &public, &item);)
        if (strcmp (((keyfile_t *) item)->name, name) == 0)
            return item;
    return NULL;
}

guest_t *
door_each (door_t *self, size_t *at)
{
    gate_t *gate = self->broker->outside;
    text_t id;
    void *item;
    return gate && hash_each (gate->peers, at, &id, &item) ? ((peer_t *) item)->guest : NULL;
}

//  ---- keys on disk

static bool
is_public (const char *name)
{
    const char *dot = strrchr (name, '.');
    return dot && dot > name && strcmp (dot, ".pub") == 0;
}

//  A number that changes when a file comes, goes or is written.
static uint64_t
keys_look (const char *path)
{
    uint64_t seen = 0;
    DIR *dir = opendir (path);
    struct dirent *entry;
    while (dir && (entry = readdir (dir))) {
        struct stat about;
        if (!is_public (entry->d_name) || fstatat (dirfd (dir), entry->d_name, &about, 0) != 0)
            continue;
        char line [400];
        snprintf (line, sizeof line, "%s %lld %lld %lld %lld", entry->d_name,
                  (long long) about.st_mtim.tv_sec, (long long) about.st_mtim.tv_nsec,
                  (long long) about.st_size, (long long) about.st_ino);
        seen += text_hash (text_of (line));
    }
    if (dir)
        closedir (dir);
    return seen;
}

static void
keys_read (door_t *self)
{
    const char *path = self->broker->conf.keys_dir;
    hash_destroy (&self->keys);
    self->keys = hash_new (key_free);
    DIR *dir = opendir (path);
    struct dirent *entry;
    while (dir && (entry = readdir (dir))) {
        char file [600], error [512];
        if (!is_public (entry->d_name))
            continue;
        snprintf (file, sizeof file, "%.300s/%.255s", path, entry->d_name);
        keyfile_t *key = keyfile_read (file, error, sizeof error);
        if (!key)
            log_warn ("key is not admitted", "why", error);
        else if (key->role == KEY_SERVER)
            keyfile_free (&key);
        else
            hash_put (self->keys, text_of (key->public), key);
    }
    if (dir)
        closedir (dir);
    log_info ("keys read", "path", path, "count", log_num ((int64_t) hash_size (self->keys)));
}

//  A key that was taken away takes its connections with it.
static void
keys_enforce (door_t *self)
{
    guest_t *guest;
    for (size_t at = 0; (guest = door_each (self, &at));) {
        keyfile_t *key = door_key (self, guest->key);
        if (!key || key->role != guest->role)
            peer_refuse (guest->peer, "UNAUTHORIZED", "the key of this connection was withdrawn");
    }
}

//  ---- ZAP

static bool
zap_receive (void *socket, zmq_msg_t *parts, size_t *count)
{
    int more = 1;
    size_t size = sizeof more;
    for (*count = 0; more; (*count)++) {
        if (*count == ZAP_PARTS)
            return false;
        zmq_msg_init (&parts [*count]);
        if (zmq_msg_recv (&parts [*count], socket, ZMQ_DONTWAIT) < 0) {
            zmq_msg_close (&parts [*count]);
            return false;
        }
        zmq_getsockopt (socket, ZMQ_RCVMORE, &more, &size);
    }
    return true;
}

static bool
part_is (zmq_msg_t *part, const char *text)
{
    return text_is ((text_t) { zmq_msg_data (part), zmq_msg_size (part) }, text);
}

static keyfile_t *
zap_key (door_t *self, zmq_msg_t *parts, size_t count)
{
    char public [KEY_TEXT];
    if (count != 7 || !part_is (&parts [0], "1.0") || !part_is (&parts [5], "CURVE")
        || zmq_msg_size (&parts [6]) != 32)
        return NULL;
    zmq_z85_encode (public, zmq_msg_data (&parts [6]), 32);
    return hash_get (self->keys, text_of (public));
}

static void
zap_serve (void *arg)
{
    door_t *self = arg;
    zmq_msg_t parts [ZAP_PARTS];
    size_t count;
    bool whole = zap_receive (self->zap, parts, &count);
    if (whole && count > 1) {
        keyfile_t *key = zap_key (self, parts, count);
        const char *user = key ? key->name : "";
        zmq_send (self->zap, "1.0", 3, ZMQ_SNDMORE);
        zmq_send (self->zap, zmq_msg_data (&parts [1]), zmq_msg_size (&parts [1]), ZMQ_SNDMORE);
        zmq_send (self->zap, key ? "200" : "400", 3, ZMQ_SNDMORE);
        zmq_send (self->zap, key ? "OK" : "unknown key", key ? 2 : 11, ZMQ_SNDMORE);
        zmq_send (self->zap, user, strlen (user), ZMQ_SNDMORE);
        zmq_send (self->zap, "", 0, 0);
        zio_sent (self->zap_zio);
        if (!key)
            self->broker->stats.refused++;
    }
    while (count > 0)
        zmq_msg_close (&parts [--count]);
}

void
door_guard (door_t *self, void *socket)
{
    int one = 1;
    zmq_setsockopt (socket, ZMQ_CURVE_SERVER, &one, sizeof one);
    zmq_setsockopt (socket, ZMQ_CURVE_SECRETKEY, self->server->secret, KEY_TEXT);
    zmq_setsockopt (socket, ZMQ_ZAP_DOMAIN, "door", 4);
}

//  ---- our own bus client

static void
on_ready (void *arg)
{
    trust_ready (((door_t *) arg)->trust);
}

static void
on_refused (void *arg, const wire_refused_t *why)
{
    (void) arg;
    char text [256];
    snprintf (text, sizeof text, "%.*s", (int) why->text.size, why->text.data);
    log_error ("our own client was refused", "text", text);
}

static void
on_event (void *arg, const wire_event_t *event)
{
    trust_event (((door_t *) arg)->trust, event);
}

void
door_start (door_t *self)
{
    bus_listener_t listener = { .on_event = on_event, .arg = self };
    bus_life_t life = { .on_ready = on_ready, .on_refused = on_refused, .arg = self };
    bus_listen (self->bus, &listener);
    bus_start (self->bus, &life);
}

door_t *
door_new (broker_t *broker)
{
    char error [512], inside [256];
    keyfile_t *server = keyfile_server (broker->conf.keys_dir, error, sizeof error);
    if (!server) {
        log_error ("no key for the door", "why", error);
        return NULL;
    }
    if (!broker->conf.secret)
        log_warn ("no JWT_SECRET: tokens are refused at the door");
    door_t *self = xcalloc (1, sizeof *self);
    self->broker = broker;
    self->server = server;
    self->keys_seen = keys_look (broker->conf.keys_dir);
    keys_read (self);
    self->zap = zmq_socket (broker->zmq, ZMQ_REP);
    //  libzmq admits everybody when nobody answers there; such a guest has no key name and is
    //  refused at HELLO, but it should never come so far.
    if (zmq_bind (self->zap, ZAP_ENDPOINT) != 0)
        log_error ("cannot bind", "endpoint", ZAP_ENDPOINT, "why", zmq_strerror (zmq_errno ()));
    self->zap_zio = zio_new (broker->loop, self->zap, zap_serve, self);
    snprintf (inside, sizeof inside, "ipc://%s/broker.s", broker->conf.run_dir);
    self->bus = bus_new (broker->loop, broker->zmq, &(bus_conf_t) {
        .role = "client", .name = "door", .slot = "door", .broker = inside });
    self->trust = trust_new (self);
    return self;
}

void
door_destroy (door_t **self_p)
{
    door_t *self = *self_p;
    if (!self)
        return;
    trust_destroy (&self->trust);
    bus_destroy (&self->bus);
    zio_end (&self->zap_zio);
    zmq_close (self->zap);
    hash_destroy (&self->keys);
    keyfile_free (&self->server);
    free (self);
    *self_p = NULL;
}

//  A guest whose token ran out may not go on; a new HELLO on the same connection renews it.
static void
guest_tick (guest_t *guest, int64_t now)
{
    if (guest->expires && now >= guest->expires)
        peer_refuse (guest->peer, "UNAUTHORIZED", "token has expired");
    else
        replay_tick (guest);
}

void
door_tick (door_t *self)
{
    int64_t now = loop_now (self->broker->loop);
    if (now - self->keys_checked >= KEYS_EVERY) {
        self->keys_checked = now;
        uint64_t seen = keys_look (self->broker->conf.keys_dir);
        if (seen != self->keys_seen) {
            self->keys_seen = seen;
            keys_read (self);
            keys_enforce (self);
        }
    }
    trust_tick (self->trust);
    guest_t *guest;
    for (size_t at = 0; (guest = door_each (self, &at));)
        guest_tick (guest, door_now (self));
}
