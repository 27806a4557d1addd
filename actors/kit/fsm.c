//  fsm.c -- state machines as tables.

#include <string.h>

#include "fsm.h"

const move_t *
fsm_find (const move_t *moves, const char *state, const char *event)
{
    for (; moves->from; moves++)
        if (strcmp (moves->from, state) == 0 && strcmp (moves->event, event) == 0)
            return moves;
    return NULL;
}

const char *
fsm_step (const move_t *moves, const char *state, const char *event, void *arg)
{
    const move_t *move = fsm_find (moves, state, event);
    if (!move)
        return NULL;
    if (move->act)
        move->act (arg);
    return move->to;
}
