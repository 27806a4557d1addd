//  actor.h -- what a domain file includes: declare resources, reports and actions, serve them with
//  actor_main.

#ifndef ACTOR_H
#define ACTOR_H

#include "../../db/db.h"
#include "../../proto/bus.h"
#include "../../proto/error.h"
#include "../../proto/json.h"
#include "../../proto/log.h"
#include "../../proto/opt.h"
#include "../../proto/route.h"
#include "../../proto/token.h"
#include "claim.h"
#include "co.h"
#include "req.h"

typedef struct actor actor_t;

//  ---------------------------------------------------------------- endpoints

enum { OP_LIST = 1, OP_GET = 2, OP_CREATE = 4, OP_UPDATE = 8, OP_DELETE = 16, CRUD = 31 };
enum { NOT_SERIAL, BY_ID };

//  A declared table: list, get, create, update, delete with validation, SQL, reply schema, OpenAPI
//  and live events <name>.created / .updated / .deleted on <audience>/<channel>, keyed by id. Table
//  columns beyond the fields: id uuid, user_id uuid, created_at and updated_at timestamptz. Lists
//  are bare arrays, newest first; ?limit (default 1,000, at most 10,000), ?cursor, ?sort, filters
//  on FILTER fields; X-Next-Cursor names the next page. ETag is the version of the row. Events and
//  snapshots show what a list shows, without QUIET fields. A field's .sql reads from the table's
//  alias `t`; at most 64 fields. Objects, arrays and T_NAMES are jsonb columns.
typedef struct {
    //  "compute_cluster": prefix of event types; methods are <channel>.list, .get, …
    const char *name;
    const char *path;            //  "/compute-clusters"
    const char *alias [3];       //  further paths
    const char *table;           //  "compute_clusters"
    const char *channel;         //  collection name; NULL: the table's name
    unsigned ops;
    const char *owner;           //  "user_id"
    const field_t *fields;
    const char *tag, *doc;
    uint32_t body_max;           //  bytes of a body; 0: 1 MiB
    //  Who else may see or change a row: SQL conditions with $1 the caller, on alias `t`; NULL: the
    //  owner only.
    const char *see, *change;
    //  The ids of rows of others that the caller ($1) may see, as a SELECT: what `see` says, found
    //  by an index. Lists use it: an OR with `see` would read the rows of every tenant. NULL: `see`
    //  is cheap.
    const char *seen;
    //  Further channels for a row's events, SQL expression on alias `t` giving text[] or NULL
    //  (shared workspaces).
    const char *also_channels;
    //  A new row is on none of them, so they need not be asked for.
    bool begins_private;
    //  Bytes of a row whose fields may be large, SQL expression on alias `t`: so many rows are read
    //  for a page of a list as an answer holds. NULL: they are small.
    const char *weight;
    //  Called (may suspend, may fail ()) before the statement, with the decoded request; may set
    //  values with req_set.
    CO void (*before_create) (req_t *req);
    CO void (*before_update) (req_t *req);
    CO void (*before_delete) (req_t *req);
    //  Called after the commit, before the reply (memory).
    void (*after_change) (req_t *req, const char *id, const char *what);
    //  name under which dependants of other actors announce on_delete ("workspace"); NULL: none
    const char *parent_of;
} resource_t;

typedef struct {
    CO void (*action) (req_t *req);
    route_spec_t spec;
    const char *statement;       //  report: named SQL, $1 owner, then .in fields in order
    const resource_t *resource;
    //  BY_ID: calls with the same :id run one after another, in arrival order
    int serial;
    //  report: seconds that an answer may be reused for the same caller and parameters
    unsigned cache;
    db_lane_t lane;
} route_t;

#define RESOURCE(r) { .resource = &(r) }

//  ACTION (method, verb, path, function, .spec.… = …, .serial = …)
#define ACTION(method_, verb_, path_, fn_, ...) \
    { .action = fn_, .spec.method = method_, .spec.verb = verb_, .spec.path = path_, __VA_ARGS__ }
//  REPORT (method, path, statement, .spec.in = …, .cache = …)
#define REPORT(method_, path_, statement_, ...)                                          \
    { .statement = statement_, .lane = DB_READ, .spec.method = method_, .spec.verb = "GET", \
      .spec.path = path_, __VA_ARGS__ }

//  ---------------------------------------------------------------- the process

typedef struct {
    int64_t every;               //  ms
    //  runs in a coroutine of its own, never twice at once; req has no caller
    CO void (*fn) (req_t *req);
} tick_t;

typedef struct {
    const char *name;            //  "kernels-log": channel name
    const char *kind;            //  "collection" | "log"
    //  Collection without resource: statement that answers the snapshot ($1 user of the audience or
    //  NULL, $2 channel), or NULL.
    const char *snapshot;
} channel_t;

typedef struct {
    const char *parent;          //  "workspace"
    CO void (*on_delete) (req_t *req, const char *parent_id);     //  let go of everything under it
} dependant_t;

struct actor {
    const char *name;            //  also schema, role suffix
    const char *const *sql;      //  embedded statement files, NULL-terminated
    const route_t *routes;       //  ends with {0}
    const channel_t *channels;   //  beyond those of the resources; ends with {0}
    const dependant_t *dependants;
    const tick_t *every;
    opt_t *options;              //  further options of this actor; ends with {0}
    CO void (*load) (req_t *req);        //  live state from the database, before HELLO
    void (*drain) (actor_t *actor);      //  SIGTERM came: stop what runs beside requests
    bool (*busy) (actor_t *actor);       //  draining waits (≤ 10 s) while true
    //  Another instance has the claim now: stop what goes on under this key, and write nothing. Set
    //  by actors that make claims (claim.h).
    void (*on_fenced) (actor_t *actor, const char *key);
    //  Claims of an instance that is gone were given up: end what is nobody's now. Also before
    //  `load`.
    CO void (*orphans) (req_t *req);
    void *state;                 //  the actor's own

    //  filled by actor_main
    loop_t *loop;
    bus_t *bus;
    db_t *db;
    void *zmq;
    const char *slot, *run_dir, *var_dir, *epoch;
    struct kit *kit;             //  private
};

//  Options every actor has: --run-dir --var-dir --slot --database (conninfo without password;
//  BUSBAR_DATABASE) --secrets-fd (descriptor with name=value lines: db_password, secret_key_<n>,
//  jwt_secret …), --log-level, --clock-offset-ms. Connects, runs load, says HELLO, serves until
//  SIGTERM, drains. Exit code 0; 1 refused by the broker or the database's schema; 2 bad options.
int actor_main (int argc, char **argv, actor_t *actor);

//  from --secrets-fd; NULL when absent
const char *actor_secret (actor_t *actor, const char *name);
const char *actor_opt (actor_t *actor, const char *name);

//  Run fn in a coroutine of its own, outside any request (req has no caller; fail () logs and ends
//  it).
bool actor_spawn (actor_t *actor, CO void (*fn) (req_t *req), void *arg);

#endif
