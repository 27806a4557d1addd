//  fsm.h -- state machines as tables.

#ifndef FSM_H
#define FSM_H

#include <stddef.h>

//  from, event, to, what to do on the way. {0} ends the table.
typedef struct {
    const char *from, *event, *to;
    void (*act) (void *arg);
} move_t;

//  The move for an event in a state, or NULL when the table has none.
const move_t *fsm_find (const move_t *moves, const char *state, const char *event);
//  Find, call act, answer the new state; NULL when illegal.
const char *fsm_step (const move_t *moves, const char *state, const char *event, void *arg);

#endif
