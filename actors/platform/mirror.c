//  mirror.c -- bare copies of git repositories. Nothing is checked out: files are read from the
//  objects of a commit, so no name or link in a repository can mean a file of this machine.

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mirror.h"

#define OBJECTS_MAX 2000000
#define CACHE_MAX (16 << 20)         //  bytes of objects that libgit2 keeps
#define MAPPED_MAX (64 << 20)        //  bytes of packs that are mapped at once
#define FILES_OPEN 16

void
mirror_init (void)
{
    static const int levels [] = { GIT_CONFIG_LEVEL_SYSTEM, GIT_CONFIG_LEVEL_XDG,
                                   GIT_CONFIG_LEVEL_GLOBAL, GIT_CONFIG_LEVEL_PROGRAMDATA };
    static bool ready;
    if (ready)
        return;
    ready = true;
    git_libgit2_init ();
    //  Rewritten addresses, proxies or helpers of whoever runs us are not the user's.
    for (size_t n = 0; n < sizeof levels / sizeof *levels; n++)
        git_libgit2_opts (GIT_OPT_SET_SEARCH_PATH, levels [n], "");
    git_libgit2_opts (GIT_OPT_SET_CACHE_MAX_SIZE, (ssize_t) CACHE_MAX);
    git_libgit2_opts (GIT_OPT_SET_MWINDOW_MAPPED_LIMIT, (size_t) MAPPED_MAX);
    git_libgit2_opts (GIT_OPT_SET_PACK_MAX_OBJECTS, (size_t) OBJECTS_MAX);
}

//  ---- bringing it up to date ----

static bool
s_fail (mirror_t *self, bool fault, const char *why)
{
    const git_error *error = git_error_last ();
    if (!*self->line.error) {
        snprintf (self->line.error, sizeof self->line.error, "%s", why);
        self->line.fault = fault;
    }
    if (error)
        snprintf (self->raw, sizeof self->raw, "%s", error->message);
    return false;
}

static int
s_progress (const git_indexer_progress *now, void *arg)
{
    mirror_t *self = arg;
    atomic_store (&self->bytes, (long long) now->received_bytes);
    atomic_store (&self->objects, now->indexed_objects);
    atomic_store (&self->objects_all, now->total_objects);
    if ((int64_t) now->received_bytes + self->size > self->bytes_max) {
        snprintf (self->line.error, sizeof self->line.error,
                  "the repository is larger than %lld MiB", (long long) self->bytes_max >> 20);
        self->line.fault = true;
        return -1;
    }
    return git_line_over (&self->line) ? -1 : 0;
}

static int
s_transport (git_transport **out, git_remote *owner, void *arg)
{
    mirror_t *self = arg;
    return git_http_transport (out, owner, &self->line);
}

static _Thread_local int64_t s_size;

static int
s_add_size (const char *path, const struct stat *about, int type, struct FTW *at)
{
    (void) path;
    (void) at;
    if (type == FTW_F)
        s_size += about->st_size;
    return 0;
}

static int64_t
s_size_of (const char *path)
{
    s_size = 0;
    nftw (path, s_add_size, FILES_OPEN, FTW_PHYS);
    return s_size;
}

//  What a process that was killed while fetching has left there.
static int
s_drop_leftover (const char *path, const struct stat *about, int type, struct FTW *at)
{
    const char *name = path + at->base;
    (void) about;
    if (type == FTW_F && (strncmp (name, "pack_git2", 9) == 0 || strncmp (name, "tmp_", 4) == 0))
        unlink (path);
    return 0;
}

//  The branch among what the server has: its commit, and its full name in `reference`.
static bool
s_find (mirror_t *self, git_remote *remote, char reference [300])
{
    git_buf head = { 0 };
    const git_remote_head **heads;
    size_t count = 0;
    if (self->branch)
        snprintf (reference, 300, "refs/heads/%s", self->branch);
    else if (git_remote_default_branch (&head, remote) == 0)
        snprintf (reference, 300, "%s", head.ptr);
    else
        return s_fail (self, true, "the repository is empty");
    git_buf_dispose (&head);
    git_remote_ls (&heads, &count, remote);
    for (size_t n = 0; n < count; n++)
        if (strcmp (heads [n]->name, reference) == 0) {
            git_oid_tostr (self->commit, sizeof self->commit, &heads [n]->oid);
            snprintf (self->branch_found, sizeof self->branch_found, "%s",
                      strncmp (reference, "refs/heads/", 11) == 0 ? reference + 11 : reference);
            return true;
        }
    snprintf (self->line.error, sizeof self->line.error, "the repository has no branch %.120s",
              self->branch ? self->branch : reference);
    self->line.fault = true;
    return false;
}

//  No address is rewritten by settings; looking whether one is leaks in libgit2 1.5 of Debian, too.
static git_remote *
s_remote (const mirror_t *self, git_repository *repository)
{
    git_remote_create_options options = GIT_REMOTE_CREATE_OPTIONS_INIT;
    git_remote *remote = NULL;
    options.repository = repository;
    options.flags = GIT_REMOTE_CREATE_SKIP_INSTEADOF | GIT_REMOTE_CREATE_SKIP_DEFAULT_FETCHSPEC;
    return git_remote_create_with_opts (&remote, self->url, &options) == 0 ? remote : NULL;
}

static bool
s_connect (mirror_t *self, git_remote *remote)
{
    git_remote_callbacks callbacks = GIT_REMOTE_CALLBACKS_INIT;
    callbacks.transport = s_transport;
    callbacks.payload = self;
    if (git_remote_connect (remote, GIT_DIRECTION_FETCH, &callbacks, NULL, NULL) == 0)
        return true;
    return s_fail (self, false, "the server does not speak git");
}

static bool
s_download (mirror_t *self, git_repository *repository, git_remote *remote)
{
    char reference [300], spec [620];
    git_fetch_options options = GIT_FETCH_OPTIONS_INIT;
    git_reference *made = NULL;
    git_oid oid;
    if (!s_connect (self, remote) || !s_find (self, remote, reference))
        return false;
    options.callbacks.transport = s_transport;
    options.callbacks.transfer_progress = s_progress;
    options.callbacks.payload = self;
    options.download_tags = GIT_REMOTE_DOWNLOAD_TAGS_NONE;
    options.update_fetchhead = 0;
    snprintf (spec, sizeof spec, "+%s:%s", reference, reference);
    char *specs [] = { spec };
    if (git_remote_download (remote, &(git_strarray) { specs, 1 }, &options) != 0)
        return s_fail (self, false, "what the server sent could not be kept");
    //  The next fetch begins from here.
    git_oid_fromstr (&oid, self->commit);
    bool kept = git_reference_create (&made, repository, "refs/heads/fetched", &oid, 1, NULL) == 0;
    git_reference_free (made);
    return kept || s_fail (self, false, "what the server sent is not whole");
}

bool
mirror_sync (mirror_t *self)
{
    git_repository *repository = NULL;
    git_remote *remote = NULL;
    nftw (self->path, s_drop_leftover, FILES_OPEN, FTW_PHYS);
    self->size = s_size_of (self->path);
    bool good = false;
    if (git_repository_init (&repository, self->path, 1) != 0)
        s_fail (self, false, "no place for the repository");
    else if (!(remote = s_remote (self, repository)))
        s_fail (self, true, "the address is not one of a repository");
    else
        good = s_download (self, repository, remote);
    git_remote_free (remote);
    git_repository_free (repository);
    self->size = s_size_of (self->path);
    return good;
}

bool
mirror_resolve (mirror_t *self)
{
    git_remote *remote = s_remote (self, NULL);
    char reference [300];
    bool good = false;
    if (!remote)
        s_fail (self, true, "the address is not one of a repository");
    else
        good = s_connect (self, remote) && s_find (self, remote, reference);
    git_remote_free (remote);
    return good;
}

//  ---- reading ----

static git_tree *
s_tree (git_repository **repository, const char *copy, const char *commit)
{
    git_oid oid;
    git_commit *found = NULL;
    git_tree *tree = NULL;
    if (git_oid_fromstr (&oid, commit) == 0 && git_repository_open_bare (repository, copy) == 0
        && git_commit_lookup (&found, *repository, &oid) == 0)
        git_commit_tree (&tree, found);
    git_commit_free (found);
    return tree;
}

static void
s_put_entry (git_odb *odb, const git_tree_entry *entry, const char *path, buf_t *out)
{
    static const struct { git_filemode_t mode; const char *type; } types [] = {
        { GIT_FILEMODE_TREE, "directory" }, { GIT_FILEMODE_LINK, "link" },
        { GIT_FILEMODE_COMMIT, "module" } };
    const char *type = "file", *name = git_tree_entry_name (entry);
    char oid [COMMIT_SIZE];
    size_t size = 0;
    git_object_t kind;
    for (size_t n = 0; n < sizeof types / sizeof *types; n++)
        if (git_tree_entry_filemode (entry) == types [n].mode)
            type = types [n].type;
    bool sized = strcmp (type, "file") == 0
                 && git_odb_read_header (&size, &kind, odb, git_tree_entry_id (entry)) == 0;
    char *whole = text_format ("%s%s%s", path, *path ? "/" : "", name);
    git_oid_tostr (oid, sizeof oid, git_tree_entry_id (entry));
    mp_put_map (out, 5);
    mp_pair_str (out, "name", name);
    mp_pair_str (out, "path", whole);
    mp_pair_str (out, "type", type);
    if (sized)
        mp_pair_int (out, "size", (int64_t) size);
    else
        mp_pair (out, "size", mp_none);
    mp_pair_str (out, "oid", oid);
    free (whole);
}

//  Names that are no text cannot be told.
static bool
s_is_shown (const git_tree_entry *entry, bool directory)
{
    return (git_tree_entry_type (entry) == GIT_OBJECT_TREE) == directory
           && text_utf8 (text_of (git_tree_entry_name (entry)));
}

static void
s_put_tree (git_repository *repository, const git_tree *tree, const char *path, buf_t *out)
{
    git_odb *odb = NULL;
    uint32_t count = 0;
    git_repository_odb (&odb, repository);
    size_t mark = mp_open_array (out), entries = git_tree_entrycount (tree);
    for (int directories = 1; directories >= 0; directories--)
        for (size_t n = 0; n < entries && count < MIRROR_FILES_MAX; n++) {
            const git_tree_entry *entry = git_tree_entry_byindex (tree, n);
            if (!s_is_shown (entry, directories))
                continue;
            s_put_entry (odb, entry, path, out);
            count++;
        }
    mp_close (out, mark, count);
    git_odb_free (odb);
}

mirror_code_t
mirror_list (const char *copy, const char *commit, const char *path, buf_t *out)
{
    git_repository *repository = NULL;
    git_tree_entry *entry = NULL;
    git_tree *root = s_tree (&repository, copy, commit), *tree = NULL;
    mirror_code_t code = root ? MIRROR_GOOD : MIRROR_BROKEN;
    if (root && *path) {
        if (git_tree_entry_bypath (&entry, root, path) != 0)
            code = MIRROR_ABSENT;
        else if (git_tree_entry_type (entry) != GIT_OBJECT_TREE)
            code = MIRROR_NOT_DIRECTORY;
        else if (git_tree_lookup (&tree, repository, git_tree_entry_id (entry)) != 0)
            code = MIRROR_BROKEN;
    }
    if (code == MIRROR_GOOD)
        s_put_tree (repository, tree ? tree : root, path, out);
    git_tree_entry_free (entry);
    git_tree_free (tree);
    git_tree_free (root);
    git_repository_free (repository);
    return code;
}

//  Its size is known before it is unpacked.
static mirror_code_t
s_read_blob (git_repository *repository, const git_oid *oid, size_t max, buf_t *out)
{
    git_odb *odb = NULL;
    git_blob *blob = NULL;
    git_object_t kind = GIT_OBJECT_INVALID;
    size_t size = 0;
    mirror_code_t code = MIRROR_BROKEN;
    if (git_repository_odb (&odb, repository) == 0
        && git_odb_read_header (&size, &kind, odb, oid) == 0 && kind == GIT_OBJECT_BLOB) {
        if (size > max)
            code = MIRROR_TOO_LARGE;
        else if (git_blob_lookup (&blob, repository, oid) == 0) {
            buf_put (out, git_blob_rawcontent (blob), (size_t) git_blob_rawsize (blob));
            code = MIRROR_GOOD;
        }
    }
    git_blob_free (blob);
    git_odb_free (odb);
    return code;
}

mirror_code_t
mirror_read (const char *copy, const char *commit, const char *path, size_t max, buf_t *out)
{
    git_repository *repository = NULL;
    git_tree_entry *entry = NULL;
    git_tree *root = s_tree (&repository, copy, commit);
    mirror_code_t code = root ? MIRROR_GOOD : MIRROR_BROKEN;
    if (root && git_tree_entry_bypath (&entry, root, path) != 0)
        code = MIRROR_ABSENT;
    else if (root && git_tree_entry_type (entry) != GIT_OBJECT_BLOB)
        code = MIRROR_NOT_FILE;
    else if (root)
        code = s_read_blob (repository, git_tree_entry_id (entry), max, out);
    git_tree_entry_free (entry);
    git_tree_free (root);
    git_repository_free (repository);
    return code;
}

static int
s_remove (const char *path, const struct stat *about, int type, struct FTW *at)
{
    (void) about;
    (void) type;
    (void) at;
    remove (path);
    return 0;
}

void
mirror_remove (const char *copy)
{
    nftw (copy, s_remove, FILES_OPEN, FTW_DEPTH | FTW_PHYS);
}
