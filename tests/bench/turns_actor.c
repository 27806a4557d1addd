//  turns_actor.c -- one actor whose rows change state under a guard, each change with its durable
//  event in one unit, as life cycles do everywhere. What the write path costs without an edge.

#include "actors/kit/actor.h"

static const char turns_sql [] =
    "-- :name job_turn\n"
    "WITH t AS (SELECT id, status FROM jobs\n"
    "            WHERE user_id = $1::uuid AND id = $2::uuid FOR UPDATE),\n"
    "     u AS (UPDATE jobs j SET status = $4, updated_at = now () FROM t\n"
    "            WHERE j.id = t.id AND t.status = $3 RETURNING j.*)\n"
    "SELECT t.status AS was, u.* FROM t LEFT JOIN u USING (id)\n";

static void
job_move (req_t *req, const char *from, const char *to, const char *type, const char *data)
{
    unit_t *unit = unit_new (req);
    unit_add (unit, "job_turn", req_user (req), req_id (req), from, to);
    unit_event (unit, "jobs", req_id (req), type, data);
    row_t row = unit_commit (unit);
    if (row_none (row))
        fail (req, E_NOT_FOUND, NULL);
    if (!row_str (row, "id"))
        fail (req, E_CONFLICT, "job is %s", row_str (row, "was"));
    reply_row (req, 202, row);
}

static void
job_start (req_t *req)
{
    job_move (req, "idle", "running", "job.running", "{\"status\": \"running\"}");
}

static void
job_stop (req_t *req)
{
    job_move (req, "running", "idle", "job.idle", "{\"status\": \"idle\"}");
}

static const resource_t job = {
    .name = "job", .path = "/jobs", .table = "jobs", .ops = CRUD, .owner = "user_id",
    .fields = (const field_t []) {
        { "name", T_TEXT, REQUIRED, .max = 100 },
        { "status", T_TEXT, READONLY },
        { 0 } } };

static const route_t routes [] = {
    RESOURCE (job),
    ACTION ("jobs.start", "POST", "/jobs/:id/start", job_start, .serial = BY_ID,
            .spec.status = 202, .spec.key = "user"),
    ACTION ("jobs.stop", "POST", "/jobs/:id/stop", job_stop, .serial = BY_ID,
            .spec.status = 202, .spec.key = "user"),
    { 0 } };

int
main (int argc, char **argv)
{
    actor_t actor = { .name = "turns", .sql = (const char *const []) { turns_sql, NULL },
                      .routes = routes };
    return actor_main (argc, argv, &actor);
}
