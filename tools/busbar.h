//  busbar.h -- what the files of the command line tool share: the commands, their exit codes, and
//  where things are.

#ifndef BUSBAR_H
#define BUSBAR_H

#include <stdbool.h>
#include <sys/types.h>

#include "proto/log.h"
#include "proto/opt.h"
#include "proto/text.h"

//  Exit codes of every command (also in the manual page).
enum {
    DONE_OK = 0,                 //  done; for `call`, the answer was a success
    DONE_ERROR = 1,              //  it failed, or the answer was an error
    DONE_USAGE = 2,              //  the command line makes no sense
    DONE_UNREACHABLE = 3,        //  nobody answers: no broker, or no database
    DONE_LATE = 4                //  no answer within the time allowed
};

//  Each gets argv [0] = "busbar NAME" and its arguments behind it, and answers an exit code.
int up_command (int argc, char **argv);
int call_command (int argc, char **argv);
int sub_command (int argc, char **argv);
int routes_command (int argc, char **argv);
int top_command (int argc, char **argv);
int migrate_command (int argc, char **argv);
int token_command (int argc, char **argv);
int key_command (int argc, char **argv);
int backup_command (int argc, char **argv);
int restore_command (int argc, char **argv);
int actor_command (int argc, char **argv);
int conform_command (int argc, char **argv);
int version_command (int argc, char **argv);

//  opt_read with its results as exit codes: DONE_OK to go on, -1 when --help was answered.
int options_read (opt_t *table, int *argc, char **argv, const char *usage);
//  What a command leaves with after options_read did not say DONE_OK.
static inline int
options_exit (int rc)
{
    return rc < 0 ? DONE_OK : rc;
}

//  "busbar: text" on stderr; gives back `code`, so that a command may return it.
int complain (int code, const char *format, ...) __attribute__ ((format (printf, 2, 3)));

//  ---------------------------------------------------------------- places (place.c)

//  The directory of one installation and who owns it. All paths are absolute.
typedef struct {
    char *var, *run, *pg, *secrets, *keys;
    char *bin;                   //  directory of the other programs
    uid_t uid;                   //  who runs what needs no privilege
    gid_t gid;
    char user [64];              //  its name
    bool drop;                   //  we are root, and children become `uid`
} place_t;

//  Find the installation in `var` (NULL: "var", or /var/lib/busbar for an installed program and for
//  a root whose unprivileged user cannot reach the former). With `make`, directories are made and
//  given to who owns them, and root becomes the user who keeps the secrets. False after a message
//  on stderr.
bool place_open (place_t *self, const char *var, bool make);
void place_close (place_t *self);
//  Be the only supervisor of this var: the lock is held until the process ends. False: somebody
//  else is.
bool place_lock (const place_t *self);
//  Is a supervisor at work here?
bool place_busy (const place_t *self);

//  The settings file of what is installed, or NULL. The caller frees it.
char *place_settings (void);

//  A file or directory of $BUSBAR_HOME, of the tree that this executable was built in, or of
//  PREFIX/share/busbar; NULL: nowhere.
//  The caller frees it.
char *place_share (const place_t *self, const char *name);

//  A file or directory that the unprivileged user can read: `path` itself, or a copy below var when
//  root keeps it where that user cannot walk. Takes `path`; the caller frees what comes back.
char *place_lend (const place_t *self, char *path);

//  Whole file, or NULL (errno says why); terminated, and `size` may be NULL.
char *file_read (const char *path, size_t *size);
//  Replace a file atomically: written beside it, on the disk when it must be, renamed. False:
//  errno says why.
bool file_write (const char *path, text_t content, mode_t mode, bool durable);

#endif
