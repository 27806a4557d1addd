//  db_statement.c -- the statements that connections prepare, and calls of them.

#include <assert.h>
#include <stdlib.h>

#include "db/db_inner.h"
#include "proto/log.h"

#define TEXTS_MAX 256

static statement_t *
s_add (db_t *db, const char *name, const char *text)
{
    if (db->statement_count == db->statement_room) {
        db->statement_room = db->statement_room ? db->statement_room * 2 : 64;
        db->statements
            = xrealloc (db->statements, db->statement_room * sizeof (statement_t *));
    }
    statement_t *statement = xcalloc (1, sizeof *statement);
    statement->name = xstrdup (name);
    statement->text = xstrdup (text);
    statement->index = db->statement_count;
    statement->generation = 1;
    db->statements [db->statement_count++] = statement;
    return statement;
}

void
db_statement (db_t *db, const char *name, const char *text)
{
    assert (!hash_get (db->by_name, text_of (name)));
    hash_put (db->by_name, text_of (name), s_add (db, name, text));
}

statement_t *
statement_named (db_t *db, const char *name)
{
    statement_t *statement = hash_get (db->by_name, text_of (name));
    if (!statement)
        log_error ("no such statement", "name", name);
    assert (statement);
    return statement;
}

//  The place of the text that was used longest ago and that no call holds; NULL when all are held.
static statement_t *
s_oldest (db_t *db)
{
    statement_t *oldest = NULL;
    for (size_t n = 0; n < db->statement_count; n++) {
        statement_t *at = db->statements [n];
        if (!at->name && at->refs == 0 && (!oldest || at->used < oldest->used))
            oldest = at;
    }
    return oldest;
}

static statement_t *
s_by_text (db_t *db, const char *text)
{
    statement_t *statement = hash_get (db->by_text, text_of (text));
    if (!statement) {
        if (db->text_count >= TEXTS_MAX)
            statement = s_oldest (db);
        if (statement) {
            hash_del (db->by_text, text_of (statement->text));
            free (statement->text);
            statement->text = xstrdup (text);
            statement->generation++;
        }
        else {
            statement = s_add (db, NULL, text);
            db->text_count++;
        }
        hash_put (db->by_text, text_of (text), statement);
    }
    return statement;
}

statement_t *
statement_by_text (db_t *db, const char *text)
{
    //  Comparing is a tenth of hashing, and most texts stand where they stood the last time.
    statement_t **recent = &db->recent [((uintptr_t) text >> 5) % RECENT];
    statement_t *statement = *recent;
    if (!statement || strcmp (statement->text, text) != 0)
        statement = *recent = s_by_text (db, text);
    statement->used = ++db->clock;
    return statement;
}

void
statements_free (db_t *db)
{
    for (size_t n = 0; n < db->statement_count; n++) {
        free (db->statements [n]->name);
        free (db->statements [n]->text);
        free (db->statements [n]);
    }
    free (db->statements);
    hash_destroy (&db->by_name);
    hash_destroy (&db->by_text);
}

call_t *
call_new (statement_t *statement, const char *const *params, size_t count)
{
    size_t size = sizeof (call_t) + count * sizeof (char *);
    for (size_t n = 0; n < count; n++)
        size += params [n] ? strlen (params [n]) + 1 : 0;
    call_t *call = xmalloc (size);
    *call = (call_t) { .statement = statement, .size = size, .count = count };
    statement->refs++;
    char *to = (char *) &call->params [count];
    for (size_t n = 0; n < count; n++) {
        call->params [n] = params [n] ? to : NULL;
        if (params [n])
            to = stpcpy (to, params [n]) + 1;
    }
    return call;
}

call_t *
call_new_binary (statement_t *statement, const text_t *params, size_t count)
{
    assert (count <= PARAMS_BINARY);
    size_t table = sizeof (call_t) + count * sizeof (char *), size = table + count * sizeof (int);
    for (size_t n = 0; n < count; n++)
        size += params [n].size;
    call_t *call = xmalloc (size);
    int *sizes = (int *) ((char *) call + table);
    *call = (call_t) { .statement = statement, .size = size, .count = count, .sizes = sizes };
    statement->refs++;
    char *to = (char *) (sizes + count);
    for (size_t n = 0; n < count; n++) {
        call->params [n] = params [n].data ? to : NULL;
        sizes [n] = (int) params [n].size;
        if (params [n].data)
            to = mempcpy (to, params [n].data, params [n].size);
    }
    return call;
}

void
call_free (call_t *call)
{
    if (!call)
        return;
    call->statement->refs--;
    PQclear (call->result);
    free (call);
}
