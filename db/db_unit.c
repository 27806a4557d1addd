//  db_unit.c -- WRITE units: making them, and telling their owners how they ended.

#include <assert.h>
#include <stdlib.h>

#include "db/db_inner.h"

void
unit_append (unit_list_t *list, db_unit_t *unit)
{
    unit->next = NULL;
    if (list->last)
        list->last->next = unit;
    else
        list->first = unit;
    list->last = unit;
    list->count++;
}

db_unit_t *
unit_pop (unit_list_t *list)
{
    db_unit_t *unit = list->first;
    if (unit) {
        list->first = unit->next;
        if (!list->first)
            list->last = NULL;
        list->count--;
    }
    return unit;
}

//  ---- making one ----

db_unit_t *
db_unit_new (db_t *db)
{
    db_unit_t *unit = xcalloc (1, sizeof *unit);
    unit->db = db;
    return unit;
}

static void
s_add (db_unit_t *unit, call_t *call)
{
    if (unit->last)
        unit->last->next = call;
    else
        unit->first = call;
    unit->last = call;
    unit->count++;
}

void
db_unit_add (db_unit_t *unit, const char *name, const char *const *params, size_t count)
{
    s_add (unit, call_new (statement_named (unit->db, name), params, count));
}

void
db_unit_add_text (db_unit_t *unit, const char *text, const char *const *params, size_t count)
{
    s_add (unit, call_new (statement_by_text (unit->db, text), params, count));
}

void
db_unit_before_commit (db_unit_t *unit, db_before_fn *fn, void *arg)
{
    unit->before = fn;
    unit->before_arg = arg;
}

uint64_t
db_unit_commit (db_unit_t **unit_p, db_done_fn *done, void *arg)
{
    db_unit_t *unit = *unit_p;
    *unit_p = NULL;
    assert (unit->count || unit->before);
    db_t *db = unit->db;
    unit->handle = ++db->handle;
    unit->done = done;
    unit->arg = arg;
    unit->own = unit->count;
    unit_append (&db->units, unit);
    db->stats.units++;
    db->stats.waiting++;
    db_wake (db);
    return unit->handle;
}

void
db_unit_drop (db_unit_t **unit_p)
{
    db_unit_t *unit = *unit_p;
    if (!unit)
        return;
    *unit_p = NULL;
    for (call_t *call = unit->first, *next; call; call = next) {
        next = call->next;
        call_free (call);
    }
    free (unit->text);
    free (unit);
}

void
unit_rewind (db_unit_t *unit)
{
    call_t **at = &unit->first;
    unit->last = NULL;
    for (size_t n = 0; n < unit->own; n++, at = &(*at)->next) {
        PQclear ((*at)->result);
        (*at)->result = NULL;
        unit->last = *at;
    }
    call_t *more = *at;
    *at = NULL;
    while (more) {
        call_t *next = more->next;
        call_free (more);
        more = next;
    }
    unit->count = unit->own;
    unit->decided = false;
}

bool
unit_cancel (db_t *db, uint64_t handle)
{
    unit_list_t *lists [] = { &db->units, &db->batch.units };
    for (size_t n = 0; n < 2; n++)
        for (db_unit_t *unit = lists [n]->first; unit; unit = unit->next)
            if (unit->handle == handle) {
                unit->done = NULL;
                return true;
            }
    return false;
}

//  ---- telling its owner ----

size_t
unit_outcomes (db_unit_t *unit)
{
    db_result_t *results = outcome_room (unit->db, unit->count + 1);
    size_t count = 0;
    for (call_t *call = unit->first; call; call = call->next)
        outcome_ok (&results [count++], call->result);
    return count;
}

void
unit_report_ok (db_unit_t *unit)
{
    db_t *db = unit->db;
    size_t count = unit_outcomes (unit);
    for (call_t *call = unit->first; call; call = call->next)
        call->result = NULL;
    //  A completion may ask for more, which needs no outcome before the next turn.
    if (unit->done)
        unit->done (unit->arg, db->outcome, count);
    for (size_t n = 0; n < count; n++)
        PQclear (db->outcome [n].result);
    db_unit_drop (&unit);
}

void
unit_report_failure (db_unit_t *unit, const db_result_t *failure)
{
    db_t *db = unit->db;
    db->stats.failures++;
    db->stats.unknown += failure->unknown;
    //  Without a statement of its own it hears the reason all the same.
    size_t count = unit->count ? unit->count : 1;
    db_result_t *results = outcome_room (db, count);
    for (size_t n = 0; n < count; n++)
        results [n] = *failure;
    if (unit->done)
        unit->done (unit->arg, results, count);
    db_unit_drop (&unit);
}

void
units_refuse (db_t *db, const char *why)
{
    unit_list_t all = db->units;
    db->units = (unit_list_t) { 0 };
    for (db_unit_t *unit; (unit = unit_pop (&all));) {
        db->stats.waiting--;
        db_result_t failure;
        outcome_code (&failure, E_UNAVAILABLE, "08006", why);
        unit_report_failure (unit, &failure);
    }
}
