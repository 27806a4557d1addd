//  claim.c -- claims of keys, and the end of claims: an instance that went away without a word is
//  fenced by those that remain, and by its own successor.

#include <stdio.h>
#include <stdlib.h>

#include "kit.h"

#define FENCE_GRACE 500              //  ms that an instance has to come back to the directory
#define LOOK_EVERY 30000             //  ms between looks for claims of nobody

struct claim {
    char *key;
    int64_t number;
    uint64_t order;                  //  among the claims of this process
    size_t refs;
    bool held;
};

void
claim_statements (kit_t *kit)
{
    db_t *db = kit->actor->db;
    db_statement (db, "kit.sessions_end",
                  "SELECT count (pg_terminate_backend (a.pid)) AS n FROM pg_stat_activity a "
                  "WHERE a.usename = current_user AND a.application_name = $1");
    db_statement (db, "kit.sessions_end_before",
                  "SELECT count (pg_terminate_backend (a.pid)) AS n FROM pg_stat_activity a "
                  "WHERE a.usename = current_user AND starts_with (a.application_name, $1) "
                  "AND a.application_name <> $2");
    if (!kit->actor->on_fenced)
        return;
    db_statement (db, "kit.claim_take",
                  "WITH t AS (INSERT INTO claims AS c (key, number, slot, boot) "
                  "VALUES ($1, nextval ('claim_numbers'), $2, $3) ON CONFLICT (key) DO UPDATE "
                  "SET number = excluded.number, slot = excluded.slot, boot = excluded.boot, "
                  "at = now () WHERE c.boot <> excluded.boot RETURNING c.number) "
                  "SELECT number, true AS fresh FROM t UNION ALL "
                  "SELECT number, false FROM claims WHERE key = $1 AND boot = $3");
    db_statement (db, "kit.claim_release",
                  "DELETE FROM claims WHERE key = $1 AND number = $2::bigint");
    db_statement (db, "kit.claim_check", "SELECT base.claim_check ($1, $2::bigint)");
    //  Not for a batch that was committed the first time: it is only asked again.
    db_statement (db, "kit.claim_check_all",
                  "SELECT count (base.claim_check (c.key, c.number)) "
                  "FROM jsonb_to_recordset ($1::jsonb) AS c (key text, number bigint) "
                  "WHERE NOT EXISTS (SELECT FROM idem i "
                  "WHERE i.user_id = 'kit' AND i.key = $2 AND i.hash = $3)");
    db_statement (db, "kit.claims_held", "SELECT key, number FROM claims WHERE boot = $1");
    db_statement (db, "kit.claims_holders",
                  "SELECT DISTINCT slot, boot FROM claims WHERE boot <> $1");
    db_statement (db, "kit.claims_revoke", "DELETE FROM claims WHERE slot = $1 AND boot = $2");
}

//  ---------------------------------------------------------------- what this process holds

static void
s_unref (void *item)
{
    claim_t *claim = item;
    if (--claim->refs > 0)
        return;
    free (claim->key);
    free (claim);
}

//  The table of claims counts as one who refers to them.
hash_t *
claims_new (void)
{
    return hash_new (s_unref);
}

static claim_t *
s_find (const kit_t *kit, const char *key)
{
    return hash_get (kit->claims, text_of (key));
}

claim_t *
claim_ref (kit_t *kit, const char *key)
{
    claim_t *claim = s_find (kit, key);
    if (claim)
        claim->refs++;
    return claim;
}

void
claim_unref (claim_t **claim_p)
{
    if (*claim_p)
        s_unref (*claim_p);
    *claim_p = NULL;
}

bool
claim_good (const claim_t *claim)
{
    return claim->held;
}

int64_t
claim_number (const claim_t *claim)
{
    return claim->number;
}

void
claim_put (buf_t *out, const claim_t *claim)
{
    buf_puts (out, "{\"key\":");
    json_quote (text_of (claim->key), out);
    buf_putf (out, ",\"number\":%lld}", (long long) claim->number);
}

static void
s_keep (kit_t *kit, const char *key, int64_t number)
{
    claim_t *claim = s_find (kit, key);
    if (claim && claim->number == number)
        return;
    if (claim)
        claim->held = false;
    claim = xcalloc (1, sizeof *claim);
    *claim = (claim_t) { xstrdup (key), number, ++kit->claims_made, 1, true };
    hash_put (kit->claims, text_of (key), claim);
    bus_claim (kit->actor->bus, text_of (key), false);
}

static void
s_forget (kit_t *kit, claim_t *claim)
{
    claim->refs++;
    claim->held = false;
    bus_claim (kit->actor->bus, text_of (claim->key), true);
    hash_del (kit->claims, text_of (claim->key));
    s_unref (claim);
}

void
claim_fenced (kit_t *kit, claim_t *claim)
{
    if (!claim->held)
        return;
    log_warn ("another instance has taken over", "claim", claim->key);
    claim->refs++;
    s_forget (kit, claim);
    kit->actor->on_fenced (kit->actor, claim->key);
    s_unref (claim);
}

bool
claim_is_fence (const db_result_t *result)
{
    return strcmp (result->sqlstate, "U0503") == 0;
}

//  ---------------------------------------------------------------- for actors

bool
claim_held (const actor_t *actor, const char *key)
{
    return s_find (actor->kit, key) != NULL;
}

CO bool
claim_take (req_t *req, const char *key)
{
    kit_t *kit = req->kit;
    if (s_find (kit, key))
        return false;
    unit_t *unit = unit_new (req);
    unit_also (unit, "kit.claim_take", key, kit->actor->slot, bus_boot (kit->actor->bus));
    unit_commit (unit);
    row_t row = unit_rows (unit, 0);
    s_keep (kit, key, row_int (row, "number"));
    return row_bool (row, "fresh");
}

CO void
claim_release (req_t *req, const char *key)
{
    claim_t *claim = s_find (req->kit, key);
    if (!claim)
        return;
    const char *number = req_print (req, "%lld", (long long) claim->number);
    s_forget (req->kit, claim);
    unit_t *unit = unit_new (req);
    unit_also (unit, "kit.claim_release", key, number);
    unit_commit (unit);
}

//  ---------------------------------------------------------------- the claims of others

static bool
s_is_there (actor_t *actor, const char *slot, const char *boot)
{
    bus_entry_t entry;
    for (size_t at = 0; bus_each_entry (actor->bus, &at, &entry);)
        if (strcmp (entry.slot, slot) == 0 && strcmp (entry.boot, boot) == 0)
            return true;
    return false;
}

static CO void
s_revoke (req_t *req, const char *slot, const char *boot)
{
    unit_t *unit = unit_new (req);
    unit_also (unit, "kit.claims_revoke", slot, boot);
    unit_commit (unit);
}

//  One that is gone without a word may be stopped, with a transaction open: it would hold its locks
//  for as long as it likes. So its sessions end, and what it claimed is nobody's.
static CO void
s_fence (req_t *req)
{
    actor_t *actor = req->actor;
    char *who = req_arg (req), slot [64];
    req_defer (req, free, who);
    const char *boot = strchr (who, '/') + 1;
    snprintf (slot, sizeof slot, "%.*s", (int) (boot - 1 - who), who);
    req_sleep (req, FENCE_GRACE);
    if (s_is_there (actor, slot, boot) || !bus_connected (actor->bus))
        return;
    int64_t ended = row_int (db_row (req, "kit.sessions_end", who), "n");
    log_info ("instance is gone", "instance", who, "sessions", log_num (ended));
    if (!actor->on_fenced)
        return;
    s_revoke (req, slot, boot);
    if (actor->orphans)
        actor->orphans (req);
}

//  Those of our name that were in the directory, and are not there any more.
void
claims_directory (void *arg)
{
    kit_t *kit = arg;
    actor_t *actor = kit->actor;
    hash_t *now = hash_new (free);
    bus_entry_t entry;
    text_t key;
    void *item;
    for (size_t at = 0; bus_each_entry (actor->bus, &at, &entry);) {
        char who [160];
        snprintf (who, sizeof who, "%s/%s", entry.slot, entry.boot);
        if (strcmp (entry.name, actor->name) == 0 && !entry.self)
            hash_put (now, text_of (who), xstrdup (entry.state));
    }
    for (size_t at = 0; !kit->draining && hash_each (kit->siblings, &at, &key, &item);) {
        //  Who said goodbye ends by itself.
        if (hash_get (now, key) || strcmp (item, "up") != 0)
            continue;
        char *who = text_copy (key);
        if (!spawn (actor, "fence", s_fence, who, NULL, NULL))
            free (who);
    }
    hash_destroy (&kit->siblings);
    kit->siblings = now;
}

//  What nobody saw go.
static CO void
s_look (req_t *req)
{
    actor_t *actor = req->actor;
    row_t rows = db_rows (req, "kit.claims_holders", bus_boot (actor->bus));
    for (int n = 0; n < rows_count (rows) && bus_connected (actor->bus); n++) {
        row_t row = rows_at (rows, n);
        if (s_is_there (actor, row_str (row, "slot"), row_str (row, "boot")))
            continue;
        char *who = text_format ("%s/%s", row_str (row, "slot"), row_str (row, "boot"));
        if (!actor_spawn (actor, s_fence, who))
            free (who);
    }
}

tick_t
claims_tick (const kit_t *kit)
{
    return (tick_t) { LOOK_EVERY, kit->actor->on_fenced ? s_look : NULL };
}

//  Before HELLO: whoever had this slot before us is over.
CO void
claims_load (req_t *req)
{
    actor_t *actor = req->actor;
    const char *slot = actor->slot, *boot = bus_boot (actor->bus);
    db_row (req, "kit.sessions_end_before", req_print (req, "%s/", slot),
            req_print (req, "%s/%s", slot, boot));
    row_t rows = actor->on_fenced ? db_rows (req, "kit.claims_holders", boot)
                                  : (row_t) { NULL, -1 };
    for (int n = 0; n < rows_count (rows); n++) {
        row_t row = rows_at (rows, n);
        if (strcmp (row_str (row, "slot"), slot) == 0)
            s_revoke (req, slot, row_str (row, "boot"));
    }
}

//  The broker had forgotten us, so others may have thought us dead: what is still ours?
CO void
claims_verify (req_t *req)
{
    kit_t *kit = req->kit;
    uint64_t made = kit->claims_made;
    row_t rows = db_rows (req, "kit.claims_held", bus_boot (kit->actor->bus));
    hash_t *held = hash_new (NULL);
    for (int n = 0; n < rows_count (rows); n++)
        hash_put (held, text_of (row_str (rows_at (rows, n), "key")),
                  (void *) (intptr_t) row_int (rows_at (rows, n), "number"));
    text_t key;
    void *item;
    for (size_t at = 0; hash_each (kit->claims, &at, &key, &item);) {
        claim_t *claim = item;
        if (claim->order <= made && (intptr_t) hash_get (held, key) != claim->number)
            claim_fenced (kit, claim);
    }
    hash_destroy (&held);
}
