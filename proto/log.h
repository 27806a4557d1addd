//  log.h -- one logfmt line per event on stderr:  t=… level=info actor=clusters msg="…" k=v …

#ifndef LOG_H
#define LOG_H

#include "text.h"

typedef enum { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR } log_level_t;

//  Who writes, and from which level on. `who` is kept by reference.
void log_open (const char *who, log_level_t from);
log_level_t log_level_by_name (const char *name);  //  LOG_INFO when unknown
bool log_on (log_level_t level);

//  Pairs after the message: name, value, …, NULL. Values are quoted as needed, control
//  bytes escaped, each cut at 2 KiB; a NULL value skips its pair. Never pass a secret.
void log_event (log_level_t level, const char *msg, ...) __attribute__ ((sentinel));
#define log_debug(...) \
    do { if (log_on (LOG_DEBUG)) log_event (LOG_DEBUG, __VA_ARGS__, NULL); } while (0)
#define log_info(...)  log_event (LOG_INFO, __VA_ARGS__, NULL)
#define log_warn(...)  log_event (LOG_WARN, __VA_ARGS__, NULL)
#define log_error(...) log_event (LOG_ERROR, __VA_ARGS__, NULL)

//  A number as text for a pair; one of eight rotating static buffers.
const char *log_num (int64_t value);

#endif
