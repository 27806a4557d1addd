//  topics.c -- which connections listen to which channel.

#include <stdlib.h>

#include "topics.h"

struct topics {
    hash_t *by_channel;          //  text → topic_t
};

static void
topic_free (void *item)
{
    topic_t *topic = item;
    free (topic->channel);
    free (topic->subs);
    free (topic);
}

topics_t *
topics_new (void)
{
    topics_t *self = xcalloc (1, sizeof *self);
    self->by_channel = hash_new (topic_free);
    return self;
}

void
topics_destroy (topics_t **self_p)
{
    if (!*self_p)
        return;
    hash_destroy (&(*self_p)->by_channel);
    free (*self_p);
    *self_p = NULL;
}

topic_t *
topics_find (topics_t *self, text_t channel)
{
    return hash_get (self->by_channel, channel);
}

void
topics_add (topics_t *self, text_t channel, sub_t *sub)
{
    topic_t *topic = topics_find (self, channel);
    if (!topic) {
        topic = xcalloc (1, sizeof *topic);
        topic->channel = text_copy (channel);
        hash_put (self->by_channel, channel, topic);
    }
    if (topic->count == topic->room) {
        topic->room = topic->room ? topic->room * 2 : 4;
        topic->subs = xrealloc (topic->subs, topic->room * sizeof *topic->subs);
    }
    sub->topic = topic;
    sub->place = topic->count;
    topic->subs [topic->count++] = sub;
}

void
topics_remove (topics_t *self, sub_t *sub)
{
    topic_t *topic = sub->topic;
    sub_t *last = topic->subs [--topic->count];
    topic->subs [sub->place] = last;
    last->place = sub->place;
    sub->topic = NULL;
    if (topic->count == 0)
        hash_del (self->by_channel, text_of (topic->channel));
}

size_t
topics_size (const topics_t *self)
{
    return hash_size (self->by_channel);
}
