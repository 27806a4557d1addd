//  takeover.c -- which instance looks after the clusters of a user: whoever holds the claim of the
//  user. Processes outlive instances, so who takes over finds them by what their rows say.

#include "clusters.h"

#define PREFIX "user:"

const char *
owner_key (req_t *req, const char *user)
{
    return req_print (req, PREFIX "%s", user);
}

static CO void
s_adopt_all (req_t *req, row_t rows, const char *user)
{
    for (int n = 0; n < rows_count (rows); n++) {
        row_t row = rows_at (rows, n);
        const char *owner = row_str (row, "user_id");
        if (user && strcmp (owner, user) != 0)
            continue;
        claim_take (req, owner_key (req, owner));
        if (!cluster_find (req, row_str (row, "id"))) {
            log_info ("cluster is looked after again", "cluster", row_str (row, "id"), "state",
                      row_str (row, "state_detail"));
            cluster_adopt (req, row);
        }
    }
}

CO void
owner_take (req_t *req, const char *user)
{
    const char *key = owner_key (req, user);
    if (!claim_held (req_actor (req), key) && claim_take (req, key))
        s_adopt_all (req, db_rows (req, "clusters_alive", user), user);
}

//  The kit asks before anything is loaded, too; then it is done at the end of that.
CO void
owner_orphans (req_t *req)
{
    if (!req_actor (req)->state)
        return;
    s_adopt_all (req, db_rows (req, "clusters_alive", NULL), NULL);
}

void
owner_fenced (actor_t *actor, const char *key)
{
    clusters_t *clusters = actor->state;
    text_t id;
    void *item;
    for (size_t at = 0; hash_each (clusters->clusters, &at, &id, &item);)
        if (strcmp (((cluster_t *) item)->user, key + sizeof PREFIX - 1) == 0)
            hash_del (clusters->clusters, id);
}
