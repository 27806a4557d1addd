//  bus_dir.c -- the directory as this peer knows it: instances by slot, grouped by actor name;
//  methods and collections with who serves them; who owns a key.

#include <stdlib.h>

#include "proto/bus_int.h"

#define MISSING_GRACE 3000           //  ms that actors have to come back to a new broker

static void *
grown (void *array, size_t count, size_t *room, size_t item)
{
    if (count < *room)
        return array;
    *room = *room ? *room * 2 : 4;
    return xrealloc (array, *room * item);
}

static char *
copy_text (text_t text)
{
    char *copy = xmalloc (text.size + 1);
    if (text.size > 0)
        memcpy (copy, text.data, text.size);
    copy [text.size] = 0;
    return copy;
}

static void
group_free (void *item)
{
    group_t *group = item;
    hash_destroy (&group->claims);
    free (group->members);
    free (group->name);
    free (group);
}

static void
method_free (void *item)
{
    method_t *method = item;
    buf_free (&method->route);
    free (method->live);
    free (method->name);
    free (method);
}

static void
instance_free (instance_t *instance)
{
    if (instance->link)
        link_bury (instance->link);
    buf_free (&instance->entry);
    free (instance->slot);
    free (instance->boot);
    free (instance->endpoint);
    free (instance);
}

void
directory_init (bus_t *self)
{
    self->dir.slots = hash_new (NULL);
    self->dir.groups = hash_new (group_free);
    self->dir.methods = hash_new (method_free);
    self->dir.collections = hash_new (NULL);
}

void
directory_free (bus_t *self)
{
    text_t key;
    void *item;
    for (size_t at = 0; hash_each (self->dir.slots, &at, &key, &item);)
        instance_free (item);
    hash_destroy (&self->dir.slots);
    hash_destroy (&self->dir.methods);
    hash_destroy (&self->dir.groups);
    hash_destroy (&self->dir.collections);
}

static group_t *
group_get (bus_t *self, text_t name)
{
    group_t *group = hash_get (self->dir.groups, name);
    if (!group) {
        group = xcalloc (1, sizeof *group);
        group->name = copy_text (name);
        group->claims = hash_new (NULL);
        hash_put (self->dir.groups, name, group);
    }
    return group;
}

method_t *
directory_method (bus_t *self, text_t name)
{
    return hash_get (self->dir.methods, name);
}

//  ---------------------------------------------------------------- claims

static void
claims_clear (instance_t *instance)
{
    text_t key;
    void *item;
    if (instance->claims == 0)
        return;
    for (size_t at = 0; hash_each (instance->group->claims, &at, &key, &item);)
        if (item == instance)
            hash_del (instance->group->claims, key);
    instance->claims = 0;
}

//  The latest claim wins: its lease number fenced the one before.
static void
claim_put (instance_t *instance, text_t key)
{
    instance_t *before = hash_get (instance->group->claims, key);
    if (before == instance)
        return;
    if (before)
        before->claims--;
    hash_put (instance->group->claims, key, instance);
    instance->claims++;
}

static void
claims_add (instance_t *instance, mp_t keys)
{
    for (mp_iter_t it = mp_iter (keys); mp_next (&it);)
        claim_put (instance, mp_text (it.value));
}

//  What we claim ourselves we know better than the broker, which may not have heard of it yet.
static void
claims_own (instance_t *instance)
{
    text_t key;
    void *item;
    claims_clear (instance);
    for (size_t at = 0; hash_each (instance->bus->serving.own_claims, &at, &key, &item);)
        claim_put (instance, key);
}

void
directory_claim (bus_t *self, const wire_claim_t *msg)
{
    instance_t *instance = hash_get (self->dir.slots, msg->slot);
    if (!instance || !text_is (msg->boot, instance->boot))
        return;
    if (!msg->release)
        claims_add (instance, msg->keys);
    else
        for (mp_iter_t it = mp_iter (msg->keys); mp_next (&it);) {
            text_t key = mp_text (it.value);
            if (hash_get (instance->group->claims, key) == instance) {
                hash_del (instance->group->claims, key);
                instance->claims--;
            }
        }
    calls_rehome (self);
}

//  Rendezvous among the instances that are up: highest text_hash (slot "\0" key), then the smaller
//  slot.
static instance_t *
group_rendezvous (group_t *group, text_t key)
{
    if (group->count == 1)
        return group->members [0];
    instance_t *best = NULL;
    uint64_t highest = 0;
    buf_t scratch = { 0 };
    for (size_t i = 0; i < group->count; i++) {
        instance_t *each = group->members [i];
        buf_clear (&scratch);
        buf_put (&scratch, each->slot, strlen (each->slot) + 1);
        buf_put (&scratch, key.data, key.size);
        uint64_t hash = text_hash (buf_text (&scratch));
        if (!best || hash > highest || (hash == highest && strcmp (each->slot, best->slot) < 0)) {
            best = each;
            highest = hash;
        }
    }
    buf_free (&scratch);
    return best;
}

//  A key claimed by an instance that drains waits for it to let go: never two owners.
instance_t *
group_owner (group_t *group, text_t key)
{
    instance_t *claimer = hash_get (group->claims, key);
    return claimer ? claimer : group_rendezvous (group, key);
}

//  ---------------------------------------------------------------- derived tables

static bool
same_bytes (const buf_t *buf, mp_t value)
{
    size_t size = (size_t) (value.end - value.data);
    return buf->size == size && memcmp (buf->data, value.data, size) == 0;
}

static void
method_announced (bus_t *self, instance_t *instance, mp_t route)
{
    text_t name = mp_text (mp_get (route, "method"));
    if (name.size == 0)
        return;
    method_t *method = directory_method (self, name);
    if (!method) {
        method = xcalloc (1, sizeof *method);
        method->name = copy_text (name);
        hash_put (self->dir.methods, name, method);
    }
    method->group = instance->group;
    if (!same_bytes (&method->route, route)) {
        buf_clear (&method->route);
        mp_put (&method->route, route);
    }
    if (instance->draining)
        return;
    method->live = grown (method->live, method->count, &method->room, sizeof *method->live);
    method->live [method->count++] = instance;
}

static void
instance_index (bus_t *self, instance_t *instance)
{
    group_t *group = instance->group;
    if (!instance->draining) {
        group->members = grown (group->members, group->count, &group->room, sizeof *group->members);
        group->members [group->count++] = instance;
    }
    for (mp_iter_t it = mp_iter (instance->routes); mp_next (&it);)
        method_announced (self, instance, it.value);
    for (mp_iter_t it = mp_iter (instance->channels); mp_next (&it);)
        hash_put (self->dir.collections, mp_text (mp_get (it.value, "name")), group);
}

//  Who serves what now. A method stays known when all its instances are gone, so that calls wait
//  for them; one that the running instances of its actor no longer announce is forgotten.
static void
directory_index (bus_t *self)
{
    text_t key;
    void *item;
    for (size_t at = 0; hash_each (self->dir.groups, &at, &key, &item);)
        ((group_t *) item)->count = 0;
    for (size_t at = 0; hash_each (self->dir.methods, &at, &key, &item);)
        ((method_t *) item)->count = 0;
    for (size_t at = 0; hash_each (self->dir.slots, &at, &key, &item);)
        instance_index (self, item);
    for (size_t at = 0; hash_each (self->dir.methods, &at, &key, &item);) {
        const method_t *method = item;
        if (method->count == 0 && method->group->count > 0)
            hash_del (self->dir.methods, key);
    }
}

bool
instance_serves (const instance_t *instance, const method_t *method)
{
    for (size_t i = 0; i < method->count; i++)
        if (method->live [i] == instance)
            return true;
    return false;
}

//  ---------------------------------------------------------------- changes

static void
instance_gone (instance_t *instance)
{
    bus_t *bus = instance->bus;
    //  What it said before it went comes first, and nobody asks it anything more meanwhile.
    instance->draining = true;
    while (instance->link && link_receive (instance->link))
        continue;
    calls_abandon (instance);
    claims_clear (instance);
    hash_del (bus->dir.slots, text_of (instance->slot));
    instance_free (instance);
}

void
instance_broken (instance_t *instance)
{
    calls_abandon (instance);
    if (instance->link)
        link_bury (instance->link);
    instance->link = NULL;
    instance->suspect_until = clock_ms () + BUS_SUSPECT;
    calls_rehome (instance->bus);
}

static void
instance_update (instance_t *instance, mp_t entry)
{
    instance->missing_since = 0;
    instance->suspect_until = 0;
    instance->draining = text_is (mp_text (mp_get (entry, "state")), "draining");
    instance->load = mp_uint (mp_get (entry, "load"));
    //  Entries that say no routes leave the earlier ones in place.
    if (!mp_is_none (mp_get (entry, "routes"))) {
        buf_clear (&instance->entry);
        mp_put (&instance->entry, entry);
        mp_t copy = mp_buf (&instance->entry);
        instance->routes = mp_get (copy, "routes");
        instance->channels = mp_get (copy, "channels");
        instance->dependants = mp_get (copy, "dependants");
        instance->pid = mp_uint (mp_get (copy, "pid"));
    }
    mp_t claims = mp_get (entry, "claims");
    if (strcmp (instance->boot, instance->bus->boot) == 0)
        claims_own (instance);
    else if (!mp_is_none (claims)) {
        claims_clear (instance);
        claims_add (instance, claims);
    }
}

static void
entry_apply (bus_t *self, mp_t entry)
{
    text_t slot = mp_text (mp_get (entry, "slot")), boot = mp_text (mp_get (entry, "boot"));
    text_t endpoint = mp_text (mp_get (entry, "endpoint"));
    if (slot.size == 0)
        return;
    bool gone = text_is (mp_text (mp_get (entry, "state")), "gone");
    instance_t *instance = hash_get (self->dir.slots, slot);
    bool same = instance && text_is (boot, instance->boot);
    //  Late news of a predecessor say nothing about who has the slot now.
    if (gone && instance && boot.size > 0 && !same)
        return;
    if (instance && (gone || !same)) {
        instance_gone (instance);
        instance = NULL;
    }
    if (gone)
        return;
    if (!instance) {
        instance = xcalloc (1, sizeof *instance);
        instance->bus = self;
        instance->slot = copy_text (slot);
        instance->boot = copy_text (boot);
        instance->endpoint = copy_text (endpoint);
        instance->group = group_get (self, mp_text (mp_get (entry, "name")));
        hash_put (self->dir.slots, slot, instance);
    }
    instance_update (instance, entry);
}

void
directory_apply (bus_t *self, const wire_directory_t *msg)
{
    text_t key;
    void *item;
    int64_t now = clock_ms ();
    if (msg->whole)
        for (size_t at = 0; hash_each (self->dir.slots, &at, &key, &item);)
            if (((instance_t *) item)->missing_since == 0)
                ((instance_t *) item)->missing_since = now;
    for (mp_iter_t it = mp_iter (msg->entries); mp_next (&it);)
        entry_apply (self, it.value);
    self->dir.revision = msg->revision;
    self->dir.known = self->dir.known || msg->whole;
    directory_index (self);
    calls_rehome (self);
}

//  Instances that a new broker has not heard of yet keep their calls for a while; suspects are
//  tried again.
void
directory_tick (bus_t *self, int64_t now)
{
    text_t key;
    void *item;
    bool gone = false, again = false;
    for (size_t at = 0; hash_each (self->dir.slots, &at, &key, &item);) {
        instance_t *instance = item;
        if (instance->suspect_until && instance->suspect_until <= now) {
            instance->suspect_until = 0;
            again = true;
        }
        if (instance->missing_since && now - instance->missing_since > MISSING_GRACE
            && self->broker_state == BROKER_READY) {
            instance_gone (instance);
            gone = true;
        }
    }
    if (gone)
        directory_index (self);
    if (gone || again)
        calls_rehome (self);
    if (gone && self->life.on_directory)
        self->life.on_directory (self->life.arg);
}

//  ---------------------------------------------------------------- questions

bool
bus_each_entry (bus_t *self, size_t *at, bus_entry_t *entry)
{
    text_t key;
    void *item;
    if (!hash_each (self->dir.slots, at, &key, &item))
        return false;
    const instance_t *instance = item;
    *entry = (bus_entry_t) {
        .name = instance->group->name, .slot = instance->slot, .boot = instance->boot,
        .endpoint = instance->endpoint, .state = instance->draining ? "draining" : "up",
        .routes = instance->routes, .channels = instance->channels,
        .dependants = instance->dependants, .load = instance->load, .pid = instance->pid,
        .self = strcmp (instance->boot, self->boot) == 0
    };
    return true;
}

uint64_t
bus_revision (bus_t *self)
{
    return self->dir.revision;
}

mp_t
bus_route (bus_t *self, text_t name, size_t *live)
{
    const method_t *method = directory_method (self, name);
    if (live)
        *live = method ? method->count : 0;
    return method ? mp_buf (&method->route) : mp_none;
}

const char *
bus_channel_actor (bus_t *self, text_t channel)
{
    const char *slash = channel.size ? memchr (channel.data, '/', channel.size) : NULL;
    if (!slash)
        return NULL;
    size_t start = (size_t) (slash - channel.data) + 1;
    text_t name = { channel.data + start, channel.size - start };
    const char *end = name.size ? memchr (name.data, '/', name.size) : NULL;
    if (end)
        name.size = (size_t) (end - name.data);
    const group_t *group = hash_get (self->dir.collections, name);
    return group ? group->name : NULL;
}

const char *
bus_owner (bus_t *self, text_t key)
{
    group_t *group = hash_get (self->dir.groups, text_of (self->conf.name));
    const instance_t *owner = group ? group_owner (group, key) : NULL;
    return owner ? owner->slot : NULL;
}

bool
bus_owns (bus_t *self, text_t key)
{
    if (hash_get (self->serving.own_claims, key))
        return true;
    const char *owner = bus_owner (self, key);
    return !owner || strcmp (owner, self->conf.slot) == 0;
}
