//  pool.c -- which kernels there are, and when one more or one less is wanted.

#include <stdio.h>
#include <stdlib.h>

#include "pool.h"
#include "proto/log.h"

#define KERNELS_MAX 1024
#define LOOK_EVERY 1000          //  ms between looks at idle kernels and our own size
#define REFILL_AFTER 300         //  ms: who just took a kernel gets the processor first
#define REFILL_MAX 60000         //  ms between attempts when reserves die
#define SESSION_CULL 300000      //  ms: whoever had a session of its own has not come back

struct pool {
    pool_conf_t conf;
    spec_t *specs;
    kernel_t *kernels [KERNELS_MAX];     //  with holes
    bool open;
    ltimer_t *look, *refill;
    int64_t backoff;
};

static bool
s_stopping (const kernel_t *kernel)
{
    return strcmp (kernel_state (kernel), "stopping") == 0;
}

//  Kernels of a user, or all (NULL), that are to stay.
static size_t
s_count (const pool_t *self, const char *user)
{
    size_t count = 0;
    for (size_t n = 0; n < KERNELS_MAX; n++) {
        const kernel_t *kernel = self->kernels [n];
        const char *owner = kernel ? kernel_user (kernel) : NULL;
        count += kernel && !s_stopping (kernel) && (!user || (owner && strcmp (owner, user) == 0));
    }
    return count;
}

static kernel_t *
s_start (pool_t *self, const spec_t *spec, const char *language, const attachment_t *to)
{
    for (size_t n = 0; n < KERNELS_MAX; n++)
        if (!self->kernels [n])
            return self->kernels [n] = kernel_new (&self->conf.kernel, spec, language, to);
    return NULL;
}

//  ---- the reserve ----

static void
s_on_refill (void *arg)
{
    pool_t *self = arg;
    const spec_t *spec = spec_find (self->specs, "python");
    size_t reserve = 0;
    for (size_t n = 0; n < KERNELS_MAX; n++)
        reserve += self->kernels [n] && !kernel_notebook (self->kernels [n]);
    while (self->open && spec && reserve < self->conf.warm
           && s_count (self, NULL) < self->conf.most) {
        if (!s_start (self, spec, "python", NULL))
            break;
        reserve++;
    }
}

static kernel_t *
s_reserve (pool_t *self, const char *language)
{
    kernel_t *found = NULL;
    for (size_t n = 0; n < KERNELS_MAX; n++) {
        kernel_t *kernel = self->kernels [n];
        if (kernel && !kernel_notebook (kernel) && !s_stopping (kernel)
            && strcmp (kernel_language (kernel), language) == 0
            && (!found || strcmp (kernel_state (kernel), "idle") == 0))
            found = kernel;
    }
    return found;
}

//  ---- too many, too idle, too loud ----

//  The kernel without work that was used longest ago, of `user` or of anybody.
static kernel_t *
s_idlest (pool_t *self, const char *user)
{
    kernel_t *found = NULL;
    for (size_t n = 0; n < KERNELS_MAX; n++) {
        kernel_t *kernel = self->kernels [n];
        if (!kernel || !kernel_notebook (kernel) || !kernel_unused (kernel) || s_stopping (kernel))
            continue;
        //  Its next cell is about to come.
        if (kernel_session (kernel))
            continue;
        const char *owner = kernel_user (kernel);
        if (user && (!owner || strcmp (owner, user) != 0))
            continue;
        if (!found || kernel_used (kernel) < kernel_used (found))
            found = kernel;
    }
    return found;
}

static void
s_end_the_loudest (pool_t *self)
{
    kernel_t *loudest = NULL;
    uint64_t most = 0;
    for (size_t n = 0; n < KERNELS_MAX; n++) {
        uint64_t traffic = self->kernels [n] ? kernel_traffic (self->kernels [n]) : 0;
        if (traffic > most) {
            most = traffic;
            loudest = self->kernels [n];
        }
    }
    if (loudest && process_own_memory () > self->conf.own_memory) {
        log_warn ("kernel sends faster than it can be read", "kernel", kernel_id (loudest),
                  "bytes", log_num ((int64_t) most));
        kernel_stop (loudest, "kernel sent output faster than it can be read", false);
    }
}

static void
s_on_look (void *arg)
{
    pool_t *self = arg;
    int64_t now = loop_now (self->conf.kernel.loop);
    for (size_t n = 0; n < KERNELS_MAX; n++) {
        kernel_t *kernel = self->kernels [n];
        int64_t most = self->conf.cull;
        if (kernel && kernel_session (kernel) && most > SESSION_CULL)
            most = SESSION_CULL;
        if (kernel && kernel_notebook (kernel) && kernel_unused (kernel) && !s_stopping (kernel)
            && now - kernel_used (kernel) > most)
            kernel_stop (kernel, "kernel was idle", false);
    }
    s_end_the_loudest (self);
    ltimer_set (self->look, LOOK_EVERY);
}

//  ---- giving out ----

kernel_t *
pool_find (pool_t *self, const char *notebook, const char *session, const char *language)
{
    for (size_t n = 0; n < KERNELS_MAX; n++) {
        kernel_t *kernel = self->kernels [n];
        if (kernel && kernel_notebook (kernel) && strcmp (kernel_notebook (kernel), notebook) == 0
            && kernel_serves (kernel, session)
            && strcmp (kernel_language (kernel), language) == 0 && !s_stopping (kernel))
            return kernel;
    }
    return NULL;
}

//  Below `most` kernels, of `user` or of all: by stopping one that has nothing to do. False: all
//  are busy.
static bool
s_room (pool_t *self, const char *user, size_t most)
{
    if (s_count (self, user) < most)
        return true;
    kernel_t *idle = s_idlest (self, user);
    if (idle)
        kernel_stop (idle, "another notebook needed its kernel", false);
    return idle;
}

static kernel_t *
s_refuse (error_code_t *code, const char **why, error_code_t what, const char *text)
{
    *code = what;
    *why = text;
    return NULL;
}

kernel_t *
pool_take (pool_t *self, const char *notebook, const char *session, const char *language,
           const char *user, const attachment_t *to, error_code_t *code, const char **why)
{
    static char text [160];
    kernel_t *kernel = pool_find (self, notebook, session, language);
    if (kernel && strcmp (kernel_cluster (kernel), to ? to->cluster : "") == 0)
        return kernel;
    if (kernel && !kernel_unused (kernel))
        return s_refuse (code, why, E_CONFLICT,
                         "a cell runs that is not attached to this cluster: wait for its end");
    if (to && strcmp (sandbox_kind (self->conf.kernel.sandbox), "none") == 0)
        return s_refuse (code, why, E_CONFLICT,
                         "notebooks can be attached to clusters only where kernels have sandboxes");
    if (kernel)
        kernel_stop (kernel, "notebook is attached to another cluster now", false);
    const spec_t *spec = spec_find (self->specs, language);
    if (!spec) {
        snprintf (text, sizeof text, "%s kernel is not configured: install a kernelspec named %s",
                  language,
                  strcmp (language, "python") == 0 ? "python3"
                  : strcmp (language, "r") == 0    ? "ir"
                                                   : language);
        return s_refuse (code, why, E_CONFLICT, text);
    }
    if (user && !s_room (self, user, self->conf.per_user))
        return s_refuse (code, why, E_RATE_LIMITED, "all your kernels are busy");
    kernel = to ? NULL : s_reserve (self, language);
    if (!kernel && !s_room (self, NULL, self->conf.most))
        return s_refuse (code, why, E_UNAVAILABLE, "all kernels are busy");
    if (!kernel && self->open)
        kernel = s_start (self, spec, language, to);
    if (!kernel)
        return s_refuse (code, why, E_UNAVAILABLE, "no kernel can be started now");
    kernel_assign (kernel, notebook, user, session);
    if (!ltimer_active (self->refill))
        ltimer_set (self->refill, REFILL_AFTER);
    return kernel;
}

size_t
pool_stop (pool_t *self, const char *notebook, const char *why)
{
    size_t count = 0;
    for (size_t n = 0; n < KERNELS_MAX; n++) {
        kernel_t *kernel = self->kernels [n];
        if (!kernel || !kernel_notebook (kernel) || strcmp (kernel_notebook (kernel), notebook) != 0
            || s_stopping (kernel))
            continue;
        kernel_stop (kernel, why, false);
        count++;
    }
    return count;
}

void
pool_forget (pool_t *self, kernel_t *kernel)
{
    for (size_t n = 0; n < KERNELS_MAX; n++)
        if (self->kernels [n] == kernel)
            self->kernels [n] = NULL;
    //  A reserve that dies is replaced, but not in a tight circle.
    if (!kernel_notebook (kernel) && !s_stopping (kernel))
        self->backoff =
            self->backoff < REFILL_MAX / 2 ? 2 * self->backoff + REFILL_AFTER : REFILL_MAX;
    else
        self->backoff = 0;
    if (self->open && !ltimer_active (self->refill))
        ltimer_set (self->refill, REFILL_AFTER + self->backoff);
}

//  ---- life ----

pool_t *
pool_new (const pool_conf_t *conf)
{
    pool_t *self = xcalloc (1, sizeof *self);
    self->conf = *conf;
    self->specs = spec_load (conf->path);
    self->look = loop_timer (conf->kernel.loop, s_on_look, self);
    self->refill = loop_timer (conf->kernel.loop, s_on_refill, self);
    if (self->conf.most > KERNELS_MAX)
        self->conf.most = KERNELS_MAX;
    return self;
}

void
pool_open (pool_t *self)
{
    self->open = true;
    ltimer_set (self->look, LOOK_EVERY);
    ltimer_set (self->refill, 0);
}

void
pool_close (pool_t *self, const char *why)
{
    self->open = false;
    for (size_t n = 0; n < KERNELS_MAX; n++)
        if (self->kernels [n])
            kernel_stop (self->kernels [n], why, true);
}

void
pool_destroy (pool_t **self_p)
{
    pool_t *self = *self_p;
    *self_p = NULL;
    if (!self)
        return;
    for (size_t n = 0; n < KERNELS_MAX; n++)
        kernel_destroy (&self->kernels [n]);
    ltimer_end (&self->look);
    ltimer_end (&self->refill);
    spec_free (&self->specs);
    free (self);
}

kernel_t *
pool_each (pool_t *self, size_t *at)
{
    while (*at < KERNELS_MAX)
        if (self->kernels [(*at)++])
            return self->kernels [*at - 1];
    return NULL;
}

bool
pool_empty (const pool_t *self)
{
    for (size_t n = 0; n < KERNELS_MAX; n++)
        if (self->kernels [n])
            return false;
    return true;
}

const kernel_conf_t *
pool_kernel_conf (const pool_t *self)
{
    return &self->conf.kernel;
}
