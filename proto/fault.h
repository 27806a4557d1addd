//  fault.h -- failures on purpose, by name, for tests; nothing of it costs more than a branch while
//  none is set.
//
//  BUSBAR_FAULT=db.commit:3,platform/bus.send:10+ and so on, with commas; each is
//
//      [PROGRAM/]NAME:WHEN[=WHAT]
//
//  PROGRAM is an actor, broker or edge (without: everybody); NAME one of fault.def; WHEN `3`, the
//  third time, `3+`, from the third time on, or `every/3`; WHAT `delay50`, which waits so many
//  milliseconds instead of failing, or `die`, which kills the process there.

#ifndef FAULT_H
#define FAULT_H

#include "text.h"

typedef enum {
#define FAULT(id, name, what) FAULT_##id,
#include "fault.def"
#undef FAULT
    FAULT_COUNT
} fault_id_t;

extern bool fault_armed;
bool fault_hits (fault_id_t id);

//  Is it to fail here, now?  if (fault (DB_COMMIT)) …
#define fault(id) (__builtin_expect (fault_armed, false) && fault_hits (FAULT_##id))

//  What the environment says for this program. False when it makes no sense, which was told on
//  stderr.
bool fault_open (const char *program);
//  Was the environment set, if only to "none"? Then faults may be set later.
bool fault_allowed (void);
//  In place of all that was set; counts begin anew. NULL, or why not (freed by the caller).
char *fault_arm (const char *program, text_t faults);
//  The same without setting anything.
char *fault_check (text_t faults);

const char *fault_name (fault_id_t id);
const char *fault_what (fault_id_t id);
//  How often it was come by, and how often it failed, since it was set.
void fault_counts (fault_id_t id, uint64_t *passed, uint64_t *failed);

#endif
