//  connector.h -- kinds of data sources, and one connection to one of them. All functions here run
//  on a thread of their own and may block; they touch nothing of the loop thread. Only
//  contact_cancel may come from anywhere.

#ifndef CONNECTOR_H
#define CONNECTOR_H

#include <stdatomic.h>

#include "proto/text.h"

#define STEPS_MAX 8
#define CONFIG_MAX 10        //  keys of a kind
#define ROW_MAX (8 << 20)    //  bytes of a row that a source may answer
#define TOO_LARGE "54000"    //  contact's code: more was wanted than there is room for

//  One key of `connection_config`.
//  CONFIG_ADDRESS: says where secrets go, and how; who changes it must give them again.
enum { CONFIG_REQUIRED = 1, CONFIG_SECRET = 2, CONFIG_PORT = 4, CONFIG_ADDRESS = 8 };
typedef struct {
    const char *name;
    const char *also;            //  second spelling, accepted
    unsigned flags;
    const char *values;          //  "disable|require": nothing else; NULL: any text
    const char *def;             //  when it is not given, or NULL
} config_field_t;

//  A value: its type and its text as JSON would have it (CELL_TEXT and CELL_BYTES unquoted).
typedef enum {
    CELL_NULL,
    CELL_BOOL,
    CELL_INT,
    CELL_REAL,
    CELL_TEXT,
    CELL_JSON,
    CELL_BYTES
} cell_kind_t;
typedef struct {
    cell_kind_t kind;
    text_t text;
} cell_t;

typedef struct {
    char *name, *type;           //  as the source calls its type ("int4", "varchar")
} column_t;

//  Where rows go, on the same thread; false: no more of them, please. All borrowed until it
//  returns.
typedef struct {
    bool (*columns) (void *arg, const column_t *columns, int count);     //  once, also without rows
    bool (*row) (void *arg, const cell_t *cells, int count);
    void *arg;
} sink_t;

//  What a refresh of the catalogue finds, database by database, table by table, column by column.
typedef struct {
    bool (*column) (void *arg, const char *database, const char *table, const char *table_type,
                    long long rows, const char *column, const char *type, bool nullable);
    //  The databases of `catalog` that came last are not all that it has: they do not count. What
    //  comes from other catalogs does, even though the refresh will have failed.
    void (*drop) (void *arg, const char *catalog);
    void *arg;
} finder_t;

typedef struct {
    const char *name;            //  resolve, connect, tls, auth, query
    bool ok;
    double ms;
    char message [200];          //  "" when there is nothing to say
} step_t;

typedef struct connector connector_t;

//  What the operator allows.
typedef struct {
    const char *allow;           //  host:port, comma list that passes the guard, or NULL
    const char *sqlite_root;     //  or NULL: no SQLite files
    const char *ca_file;         //  whose signatures count
} reach_t;

typedef struct {
    const connector_t *kind;
    char *config [CONFIG_MAX];   //  by position in the kind's fields, with secrets; NULL: not given
    reach_t reach;               //  of the process: never freed
    int64_t deadline;            //  ms of CLOCK_MONOTONIC
    bool read_only;              //  may change nothing
    bool lost;                   //  told to stop, and did not say that it has
    atomic_bool cancelled;
    int wake;                    //  eventfd, readable once cancelled

    step_t steps [STEPS_MAX];
    int step_count;
    int64_t step_since;          //  µs

    char address [64];           //  resolved, judged and pinned, numeric
    char port [8];
    int family;

    char code [16];              //  of the engine: SQLSTATE, error number; "" when there is none
    char error [400];            //  "" while all is well; never with a secret in it
    int position;                //  in the statement, from 1; 0: unknown
    char tag [64];               //  "INSERT 0 3", "3 rows"
    void *handle;                //  the kind's own
} contact_t;

struct connector {
    const char *name;            //  "postgresql"
    const config_field_t *fields;        //  ends with {0}
    const char *quote;           //  around identifiers; NULL: speaks no SQL of ours
    bool nested;                 //  a database has two names: "catalog.schema"
    //  Log in. resolve and connect are done when there is a host.
    bool (*open) (contact_t *self);
    void (*close) (contact_t *self);
    //  NULL: takes no SQL
    bool (*query) (contact_t *self, const char *sql, const cell_t *params, int count,
                   const sink_t *sink);
    bool (*find) (contact_t *self, const finder_t *finder);
    //  Rows of a table that takes no SQL; NULL: SELECT does it.
    bool (*read) (contact_t *self, const char *table, const sink_t *sink);
    //  Host and port out of the config; NULL: they are there as they are.
    bool (*where) (contact_t *self, char *host, size_t size, char port [8]);
};

//  NULL: no such kind.
const connector_t *connector_find (const char *name);

//  Config is copied. ms: until all of it must be over.
contact_t *contact_new (const connector_t *kind, const char *const *config, const reach_t *reach,
                        int64_t ms);
//  Hang up, wipe, free.
void contact_destroy (contact_t **self_p);
//  Resolve, connect, log in; false: `error` says why, and the last step.
bool contact_open (contact_t *self);
bool contact_query (contact_t *self, const char *sql, const cell_t *params, int count,
                    const sink_t *sink);
void contact_cancel (contact_t *self);

//  ---- for the kinds
const char *contact_text (const contact_t *self,
                          const char *name);  //  of the config; def when absent
void contact_step_begin (contact_t *self);
//  The step that just ended well; NULL message: nothing to say.
void contact_step_good (contact_t *self, const char *name, const char *message);
//  Ended badly: noted as step (name not NULL) and as error. Always false.
bool contact_step_bad (contact_t *self, const char *name, const char *format, ...)
    __attribute__ ((format (printf, 3, 4)));
bool contact_fail (contact_t *self, const char *code, const char *format, ...)
    __attribute__ ((format (printf, 3, 4)));
int64_t contact_left (const contact_t *self);  //  ms; 0 when time is over or it is cancelled
//  What a statement of the kind finds, a column a row: database, table, "table" or "view", about
//  how many rows (NULL: unknown), column, its type, may it be NULL (true, YES or 1).
bool contact_list (contact_t *self, const char *sql, const finder_t *finder);
//  Wait for poll's `events` on fd: what happened; 0: time is over; -1: cancelled.
int contact_wait (contact_t *self, int fd, short events, int64_t ms);
//  Told to stop, or out of time? Then that is its error.
bool contact_stopped (contact_t *self);
//  The rows of a document: JSON (an array, alone or in an object; lines) or CSV with a head. NULL
//  format: told from `type` and what it begins with.
bool document_read (contact_t *self, text_t document, const char *format, const char *type,
                    const sink_t *sink);
//  One request to where the contact leads, and nowhere else: the status, or 0 with the error set
//  (and `tls` whether it was that).
typedef struct {
    const char *verb, *url;
    const char *const *headers;  //  NULL-terminated, or NULL
    text_t body;
    const char *user, *password;
    const char *sigv4;           //  "aws:amz:eu-west-1:s3", with user and password as its keys
    int64_t grace;               //  ms that it may take even when time is over; 0: it may not
    bool tls;
} web_ask_t;
int web_ask (contact_t *self, web_ask_t *ask, buf_t *answer, char type [80]);
//  Host and port of a URL; false: none of http or https.
bool web_where (contact_t *self, const char *url, char *host, size_t size, char port [8]);
//  Steps of a first request: tls, auth and what else the status says.
bool web_steps (contact_t *self, const web_ask_t *ask, int status);

//  A cell as JSON, on one line.
void cell_put (buf_t *out, const cell_t *cell);
//  "name", with what quotes doubled.
void quote_name (buf_t *out, const char *quote, const char *name);

//  The user's own schema in the guest database, by connection string; not to be had by name.
extern const connector_t connector_guest;
extern const connector_t connector_postgresql, connector_mysql, connector_mariadb, connector_sqlite,
    connector_http, connector_s3, connector_trino;

#endif
