//  source.h -- data sources of users: rows with sealed secrets, tested, asked by statements and by
//  the catalogue.

#ifndef SOURCE_H
#define SOURCE_H

#include "connector.h"
#include "engine.h"
#include "platform.h"
#include "work.h"

#define SOURCE_TYPES "postgresql|mysql|mariadb|sqlite|http|s3|trino"

//  With opened secrets; all of it in request memory.
typedef struct {
    const char *id;              //  NULL: the user's schema in the guest database
    const char *name;
    const connector_t *kind;
    const char *config [CONFIG_MAX];
} source_t;

extern const resource_t data_source;
extern const field_t source_test_in [], source_test_out [];

//  A value of its config, or what it is by default; NULL: none.
const char *source_text (const source_t *source, const char *name);

//  source_config.c: `connection_config` checked, with secrets taken out and sealed.
//  Values of the map into `config`, by position in the kind's fields; fails the request with what
//  is wrong, `config` keeps what the map does not give.
void source_read_config (req_t *req, const connector_t *kind, mp_t map, const char **config);
//  The same for a source that is saved, `config` being what it is: a secret that is not given is
//  kept, unless the address is another one; then it must be given again. `whole`: what is not given
//  and no secret is none any more.
void source_change_config (req_t *req, const connector_t *kind, mp_t map, bool whole,
                           const char **config);
//  What is wanted and not there; fails the request.
void source_need_config (req_t *req, const connector_t *kind, const char *const *config);
//  The columns connection_config and secrets.
const char *source_shown (req_t *req, const connector_t *kind, const char *const *config);
const char *source_sealed (req_t *req, const char *user, const connector_t *kind,
                           const char *const *config);
//  The other way round; fails the request when the seal cannot be opened.
void source_unseal (req_t *req, const char *user, const connector_t *kind, row_t row,
                    const char **config);

//  source.c
//  The user's source; 404 on `field` (NULL: of the path).
CO void source_load (req_t *req, const char *user, const char *id, const char *field,
                     source_t *out);
//  The user's schema in the guest database; false: `why` says why not.
CO bool source_guest (req_t *req, const char *user, source_t *out, bus_reply_t *why);
//  A connection to it, not yet open; must be over after `ms`.
contact_t *source_contact (req_t *req, const source_t *source, bool read_only, int64_t ms);
CO void source_test (req_t *req);
CO void source_test_one (req_t *req);

//  source_engine.c: statements on sources.
engine_sources_t source_engine;

#define SOURCE_OPTIONS                                                                          \
    { "source-allow", OPT_STR, "", 0, NULL,                                                     \
      "host:port,… of data sources on private addresses that users may reach" },                \
    { "source-ca", OPT_STR, "/etc/ssl/certs/ca-certificates.crt", 0, NULL,                      \
      "file of the certificates by which servers of data sources are known" },                  \
    { "source-test-timeout", OPT_INT, "10", 0, NULL,                                            \
      "seconds after which a data source that is tried out has failed" },                       \
    { "sqlite-root", OPT_STR, "", 0, NULL,                                                      \
      "directory whose SQLite files every user may read as data sources" }

#define SOURCE_ROUTES                                                                           \
    RESOURCE (data_source),                                                                     \
    ACTION ("data_sources.test", "POST", "/data-sources/test", source_test,                     \
            .spec.in = source_test_in, .spec.out = source_test_out, .spec.limit = LIMIT_HEAVY,  \
            .spec.doc = "Try what a data source would be, or is ({id}), without saving it"),    \
    ACTION ("data_sources.test_one", "POST", "/data-sources/:id/test", source_test_one,         \
            .spec.out = source_test_out, .spec.key = "user",                                    \
            .spec.events = "data_source.updated", .spec.doc = "Try a data source, step by step")

#endif
