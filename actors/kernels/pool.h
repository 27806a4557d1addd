//  pool.h -- all kernels of this process: one per notebook and language, some warm ones in reserve,
//  none idle for too long.

#ifndef KERNELS_POOL_H
#define KERNELS_POOL_H

#include "kernel.h"
#include "proto/error.h"

typedef struct pool pool_t;

typedef struct {
    kernel_conf_t kernel;
    const char *path;            //  further directories of kernelspecs
    size_t warm;                 //  python kernels in reserve
    size_t most, per_user;       //  kernels at once
    int64_t cull;                //  ms without work until a kernel is stopped
    //  bytes resident of this process: above, the loudest kernel is ended
    uint64_t own_memory;
} pool_conf_t;

pool_t *pool_new (const pool_conf_t *conf);
void pool_destroy (pool_t **self_p);     //  ends all kernels at once

//  Kernels may be started from now on; keeps the reserve.
void pool_open (pool_t *self);
//  Stop all of them; new ones are refused.
void pool_close (pool_t *self, const char *why);

//  The kernel that serves this notebook, session (NULL: the notebook's own) and language, or a new
//  one: always when it is to be attached to another cluster (`to`, NULL: to none). NULL: *code and
//  *why say it.
kernel_t *pool_take (pool_t *self, const char *notebook, const char *session, const char *language,
                     const char *user, const attachment_t *to,
                     error_code_t *code, const char **why);
kernel_t *pool_find (pool_t *self, const char *notebook, const char *session, const char *language);
//  Stop all kernels of a notebook; how many.
size_t pool_stop (pool_t *self, const char *notebook, const char *why);
//  For conf.kernel.calls.kernel: a kernel died.
void pool_forget (pool_t *self, kernel_t *kernel);

//  Walk:  for (size_t at = 0; (kernel = pool_each (pool, &at));)
kernel_t *pool_each (pool_t *self, size_t *at);
bool pool_empty (const pool_t *self);
const kernel_conf_t *pool_kernel_conf (const pool_t *self);

#endif
