//  topics.h -- which connections listen to which channel.

#ifndef TOPICS_H
#define TOPICS_H

#include "proto/hash.h"

typedef struct topics topics_t;
typedef struct topic topic_t;

//  One subscription. The memory is the caller's (first member of something larger, perhaps).
typedef struct sub {
    topic_t *topic;
    size_t place;                //  where it stands in topic->subs
    void *peer;
} sub_t;

struct topic {
    char *channel;
    sub_t **subs;
    size_t count, room;
};

topics_t *topics_new (void);
void topics_destroy (topics_t **self_p);           //  every subscription was removed before

void topics_add (topics_t *self, text_t channel, sub_t *sub);
void topics_remove (topics_t *self, sub_t *sub);
topic_t *topics_find (topics_t *self, text_t channel);        //  NULL: nobody listens
size_t topics_size (const topics_t *self);

#endif
