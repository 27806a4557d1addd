//  opt.h -- one table of options becomes flags, environment names, .env, --help and the README
//  table.

#ifndef OPT_H
#define OPT_H

#include "text.h"

#define BUSBAR_VERSION "0.1.0"

typedef enum { OPT_STR, OPT_INT, OPT_BOOL } opt_type_t;
//  A secret is never printed and never taken from argv.
enum { OPT_REQUIRED = 1, OPT_SECRET = 2 };

typedef struct {
    const char *name;        //  flag without dashes: "token-ttl"
    opt_type_t type;
    const char *def;         //  text of the default, or NULL
    unsigned flags;
    const char *env;         //  environment names, "JWT_SECRET|JWT_SECRET_KEY|SECRET_KEY", or NULL
    const char *doc;
    const char *value;       //  filled by opt_read; owned by the table
} opt_t;

//  Fill the table (ends with {0}) from: flags (--name=value, --name value, --bool), then
//  environment, then `.env` in the working directory, then defaults; flags win. Rest arguments
//  are moved to the front of argv, behind argv [0], and counted in *argc with it; "--" ends the
//  flags. Returns 0; 1 when --help or --version was answered on stdout; 2 after a clear message
//  on stderr.
int opt_read (opt_t *table, int *argc, char **argv, const char *usage);

//  Another file to read in place of a `.env` that is not there; the text is kept, not copied.
void opt_settings (const char *path);

//  These abort when no option has the name. opt_str: NULL when unset.
const char *opt_str (const opt_t *table, const char *name);
int64_t opt_int (const opt_t *table, const char *name);
bool opt_bool (const opt_t *table, const char *name);

//  Print the table as Markdown rows (for docs).
void opt_markdown (const opt_t *table);

#endif
