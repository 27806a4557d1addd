//  place.c -- where an installation keeps its things, and which user owns them.

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <libgen.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "busbar.h"

#define VAR_INSTALLED "/var/lib/busbar"
//  A Unix socket's path has 107 bytes; the longest of ours is VAR/run/SLOT-12345678.s.
#define VAR_MAX 66

char *
file_read (const char *path, size_t *size)
{
    int fd = open (path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return NULL;
    buf_t content = { 0 };
    ssize_t got;
    while ((got = read (fd, buf_room (&content, 4096), 4096)) > 0)
        content.size += (size_t) got;
    int error = errno;
    close (fd);
    if (got < 0) {
        buf_free (&content);
        errno = error;
        return NULL;
    }
    if (size)
        *size = content.size;
    buf_putc (&content, 0);
    return (char *) content.data;
}

bool
file_write (const char *path, text_t content, mode_t mode, bool durable)
{
    char *beside = text_format ("%s.new", path);
    int fd = open (beside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode);
    bool good = fd >= 0;
    for (size_t at = 0; good && at < content.size;) {
        ssize_t done = write (fd, content.data + at, content.size - at);
        good = done > 0;
        at += good ? (size_t) done : 0;
    }
    good = good && (!durable || fsync (fd) == 0);
    if (fd >= 0)
        close (fd);
    good = good && rename (beside, path) == 0;
    int error = errno;
    if (!good)
        unlink (beside);
    free (beside);
    errno = error;
    return good;
}

//  ---- users ----

//  Who runs what needs no privilege when we are root: whoever owns the database already, else the
//  user `busbar`, else `nobody`.
static void
s_pick_user (place_t *self)
{
    self->uid = geteuid ();
    self->gid = getegid ();
    self->drop = self->uid == 0;
    struct passwd *user = NULL;
    if (self->drop) {
        struct stat info;
        if (stat (self->pg, &info) == 0 && info.st_uid != 0)
            user = getpwuid (info.st_uid);
        if (!user)
            user = getpwnam ("busbar");
        if (!user)
            user = getpwnam ("nobody");
        if (user) {
            self->uid = user->pw_uid;
            self->gid = user->pw_gid;
        }
    }
    else
        user = getpwuid (self->uid);
    snprintf (self->user, sizeof self->user, "%s", user ? user->pw_name : "?");
}

//  Can the user that we drop to walk to this directory (which need not exist yet)? Asked in a
//  process that has dropped already: only the kernel knows all the rules.
static bool
s_reachable (const place_t *self, const char *path, int mode)
{
    pid_t pid = fork ();
    if (pid == 0) {
        if (setresgid (self->gid, self->gid, self->gid)
            || setresuid (self->uid, self->uid, self->uid))
            _exit (1);
        char *parent = xstrdup (path);
        while (access (parent, strcmp (parent, path) == 0 ? mode : X_OK) != 0) {
            if (errno != ENOENT || strcmp (parent, "/") == 0)
                _exit (1);
            char *slash = strrchr (parent, '/');
            slash [slash == parent] = 0;
        }
        _exit (0);
    }
    int status;
    return pid > 0 && waitpid (pid, &status, 0) == pid && status == 0;
}

//  Whoever keeps the secrets runs the system: a root who comes to one that an ordinary user
//  keeps becomes that user, for what it wrote there that user could not use any more.
static bool
s_become_keeper (const place_t *self)
{
    struct stat info;
    if (geteuid () != 0 || stat (self->secrets, &info) != 0 || info.st_uid == 0)
        return true;
    struct passwd *user = getpwuid (info.st_uid);
    gid_t gid = user ? user->pw_gid : info.st_gid;
    if (setgroups (0, NULL) != 0 || setresgid (gid, gid, gid) != 0
        || setresuid (info.st_uid, info.st_uid, info.st_uid) != 0)
        return complain (false, "cannot become user %u, who keeps %s: %s", info.st_uid, self->var,
                         strerror (errno));
    //  Programs that we start would say that they cannot be here.
    return access (".", X_OK) == 0 || chdir (self->var) == 0
        || complain (false, "%s: %s", self->var, strerror (errno));
}

//  ---- directories ----

//  Absolute, without resolving links (a link to a short place is how one escapes a long path).
static char *
s_absolute (const char *path)
{
    if (path [0] == '/')
        return xstrdup (path);
    char *here = getcwd (NULL, 0);
    char *whole = text_format ("%s/%s", here && strcmp (here, "/") != 0 ? here : "", path);
    free (here);
    return whole;
}

static void
s_name_parts (place_t *self, char *var)
{
    free (self->var), free (self->run), free (self->pg), free (self->secrets), free (self->keys);
    size_t size = strlen (var);
    while (size > 1 && var [size - 1] == '/')
        var [--size] = 0;
    self->var = var;
    self->run = text_format ("%s/run", var);
    self->pg = text_format ("%s/pg", var);
    self->secrets = text_format ("%s/secrets", var);
    self->keys = text_format ("%s/keys", var);
}

static bool
s_make_path (const char *path)
{
    char *part = xstrdup (path);
    bool good = true;
    for (char *at = part + 1; good && at [-1]; at++)
        if (*at == '/' || *at == 0) {
            char was = *at;
            *at = 0;
            good = mkdir (part, 0755) == 0 || errno == EEXIST;
            if (!good)
                complain (0, "%s: %s", part, strerror (errno));
            *at = was;
        }
    free (part);
    return good;
}

static bool
s_make (const char *path, mode_t mode, uid_t uid, gid_t gid)
{
    if ((mkdir (path, mode) != 0 && errno != EEXIST) || chmod (path, mode) != 0
        || (geteuid () == 0 && chown (path, uid, gid) != 0))
        return complain (false, "%s: %s", path, strerror (errno));
    return true;
}

static bool
s_make_lent (const place_t *self)
{
    char *path = text_format ("%s/lent", self->var);
    bool good = s_make (path, 0755, 0, 0);
    free (path);
    return good;
}

//  The secrets stay with whoever starts us: children get what they need by descriptor. So does
//  var itself, where children may add things (their group may write) but not put others in the
//  place of ours (sticky).
static bool
s_make_parts (const place_t *self)
{
    return s_make_path (self->var)
        && s_make (self->var, self->drop ? 01771 : 0711, geteuid (), self->gid)
        && (!self->drop || s_make_lent (self))
        && s_make (self->run, 0700, self->uid, self->gid)
        && s_make (self->keys, 0700, self->uid, self->gid)
        && s_make (self->secrets, 0700, geteuid (), getegid ());
}

static char *
s_own_directory (void)
{
    char *path = realpath ("/proc/self/exe", NULL);
    char *directory = xstrdup (path ? dirname (path) : ".");
    free (path);
    return directory;
}

//  PREFIX/libexec/busbar for what is installed as PREFIX/bin/busbar; NULL in a build tree, where
//  all programs stand together.
static char *
s_libexec (void)
{
    char *own = s_own_directory ();
    char *beside = text_format ("%s/busbar-broker", own);
    char *apart = text_format ("%s/../libexec/busbar", own);
    char *found = access (beside, X_OK) == 0 ? NULL : realpath (apart, NULL);
    free (own), free (beside), free (apart);
    return found;
}

char *
place_settings (void)
{
    //  PREFIX/etc, or /etc when the prefix is /usr.
    static const char *const tries [] = { "../..", "../../.." };
    char *libexec = s_libexec (), *found = NULL;
    for (size_t n = 0; libexec && !found && n < sizeof tries / sizeof *tries; n++) {
        char *path = text_format ("%s/%s/etc/busbar/busbar.env", libexec, tries [n]);
        found = realpath (path, NULL);
        free (path);
    }
    free (libexec);
    return found;
}

//  An installed busbar keeps the machine's system, unless one is kept here or that is another's.
static const char *
s_usual_var (bool installed)
{
    struct stat info;
    if (!installed || access ("var/secrets", F_OK) == 0)
        return "var";
    bool ours = geteuid () == 0
        || (stat (VAR_INSTALLED, &info) == 0 && info.st_uid == geteuid ());
    return ours ? VAR_INSTALLED : "var";
}

bool
place_open (place_t *self, const char *var, bool make)
{
    char *libexec = s_libexec ();
    *self = (place_t) { .bin = libexec ? libexec : s_own_directory () };
    s_name_parts (self, s_absolute (var ? var : s_usual_var (libexec != NULL)));
    if (make && !s_become_keeper (self))
        return false;
    s_pick_user (self);
    bool reachable = !self->drop || s_reachable (self, self->var, F_OK);
    if (!var && (!reachable || (!make && access (self->var, F_OK) != 0))
        && (make || access (VAR_INSTALLED, F_OK) == 0)) {
        s_name_parts (self, xstrdup (VAR_INSTALLED));
        s_pick_user (self);
        reachable = true;
    }
    if (!make)
        return true;
    if (!reachable)
        return complain (false, "user %s cannot reach %s: choose another --var, such as %s",
                         self->user, self->var, VAR_INSTALLED);
    if (strlen (self->var) > VAR_MAX)
        return complain (false, "%s is too long for the sockets below it (%zu bytes, at most %d): "
                         "choose a shorter --var", self->var, strlen (self->var), VAR_MAX);
    return s_make_parts (self);
}

void
place_close (place_t *self)
{
    free (self->var), free (self->run), free (self->pg), free (self->secrets), free (self->keys);
    free (self->bin);
    *self = (place_t) { 0 };
}

//  ---- the lock ----

static int
s_lock (const place_t *self, int flags)
{
    char *path = text_format ("%s/lock", self->var);
    int fd = open (path, flags | O_CLOEXEC | O_NOFOLLOW, 0600);
    free (path);
    if (fd >= 0 && flock (fd, LOCK_EX | LOCK_NB) != 0) {
        close (fd);
        return -1;
    }
    return fd < 0 ? -2 : fd;
}

bool
place_lock (const place_t *self)
{
    int fd = s_lock (self, O_RDWR | O_CREAT);
    if (fd == -1)
        return complain (false, "another busbar is running in %s", self->var);
    if (fd < 0)
        return complain (false, "%s/lock: %s", self->var, strerror (errno));
    //  The descriptor stays open on purpose: the lock goes with the process.
    return true;
}

bool
place_busy (const place_t *self)
{
    int fd = s_lock (self, O_RDONLY);
    if (fd >= 0)
        close (fd);
    return fd == -1;
}

char *
place_share (const place_t *self, const char *name)
{
    const char *home = getenv ("BUSBAR_HOME");
    char *tries [] = { home ? text_format ("%s/%s", home, name) : NULL,
                       text_format ("%s/../../%s", self->bin, name),
                       text_format ("%s/../../share/busbar/%s", self->bin, name) };
    char *found = NULL;
    for (size_t n = 0; n < sizeof tries / sizeof *tries; n++) {
        if (!found && tries [n] && access (tries [n], R_OK) == 0)
            found = realpath (tries [n], NULL);
        free (tries [n]);
    }
    return found;
}

//  Copies have the modes of fresh files: readable by those who can walk here.
static bool
s_copy (const char *from, const char *to)
{
    pid_t pid = fork ();
    if (pid == 0) {
        umask (022);
        execlp ("cp", "cp", "-rT", "--no-preserve=all", "--", from, to, NULL);
        _exit (127);
    }
    int status;
    return pid > 0 && waitpid (pid, &status, 0) == pid && status == 0;
}

char *
place_lend (const place_t *self, char *path)
{
    if (!path || !self->drop || s_reachable (self, path, R_OK))
        return path;
    const char *name = strrchr (path, '/') + 1;
    char *copy = text_format ("%s/lent/%s", self->var, name);
    bool good = s_copy (path, copy);
    if (!good) {
        complain (0, "%s: user %s cannot read it, nor can it be copied to %s", path, self->user,
                  copy);
        free (copy);
        return path;
    }
    free (path);
    return copy;
}
