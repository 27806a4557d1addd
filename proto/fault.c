//  fault.c -- the table of places that can fail, what is set for each, and counting.

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "proto/fault.h"
#include "proto/log.h"

#define DELAY_MAX 60000

typedef enum { WHEN_NEVER, WHEN_ONCE, WHEN_FROM, WHEN_EVERY } when_t;

static const struct {
    const char *name, *what;
} s_faults [FAULT_COUNT] = {
#define FAULT(id, name, what) [FAULT_##id] = { name, what },
#include "proto/fault.def"
#undef FAULT
};

typedef struct {
    when_t when;
    uint64_t number;
    uint64_t delay;          //  ms; 0: it fails
    bool dies;
    uint64_t passed, failed;
} set_t;

static set_t s_set [FAULT_COUNT];
bool fault_armed;

bool
fault_hits (fault_id_t id)
{
    set_t *set = &s_set [id];
    uint64_t count = ++set->passed;
    bool hit = set->when == WHEN_ONCE ? count == set->number
               : set->when == WHEN_FROM ? count >= set->number
               : set->when == WHEN_EVERY ? count % set->number == 0 : false;
    if (!hit)
        return false;
    set->failed++;
    if (set->dies)
        kill (getpid (), SIGKILL);
    if (!set->delay)
        return true;
    struct timespec pause = { (time_t) (set->delay / 1000), (long) (set->delay % 1000) * 1000000 };
    nanosleep (&pause, NULL);
    return false;
}

//  ---- reading ----

static bool
s_number (text_t *rest, uint64_t *number)
{
    size_t size = 0;
    for (*number = 0; size < rest->size && size < 9 && rest->data [size] >= '0'
                      && rest->data [size] <= '9'; size++)
        *number = *number * 10 + (uint64_t) (rest->data [size] - '0');
    *rest = (text_t) { rest->data + size, rest->size - size };
    return size > 0;
}

static bool
s_begins (text_t *rest, const char *word)
{
    if (!text_starts (*rest, word))
        return false;
    *rest = (text_t) { rest->data + strlen (word), rest->size - strlen (word) };
    return true;
}

//  "3", "3+" or "every/3", then perhaps "=delay50" or "=die".
static bool
s_read_when (text_t rest, set_t *set)
{
    set->when = s_begins (&rest, "every/") ? WHEN_EVERY : WHEN_ONCE;
    if (!s_number (&rest, &set->number) || set->number == 0)
        return false;
    if (set->when == WHEN_ONCE && s_begins (&rest, "+"))
        set->when = WHEN_FROM;
    if (s_begins (&rest, "=delay"))
        return s_number (&rest, &set->delay) && rest.size == 0 && set->delay > 0
               && set->delay <= DELAY_MAX;
    set->dies = s_begins (&rest, "=die");
    return rest.size == 0;
}

static char *
s_unknown (text_t name)
{
    buf_t names = { 0 };
    for (size_t n = 0; n < FAULT_COUNT; n++)
        buf_putf (&names, "%s%s", n ? ", " : "", s_faults [n].name);
    buf_putc (&names, 0);
    char *why = text_format ("fault %.*s: is none of %s", (int) name.size, name.data,
                             (const char *) names.data);
    buf_free (&names);
    return why;
}

//  One [PROGRAM/]NAME:WHEN[=WHAT]; what is for others is read all the same.
static char *
s_read (const char *program, text_t text, set_t *sets)
{
    const char *colon = memchr (text.data, ':', text.size);
    text_t name = { text.data, colon ? (size_t) (colon - text.data) : text.size };
    const char *slash = memchr (name.data, '/', name.size);
    bool ours = true;
    if (slash) {
        size_t size = (size_t) (slash - name.data);
        ours = text_is ((text_t) { name.data, size }, program);
        name = (text_t) { slash + 1, name.size - size - 1 };
    }
    size_t id = 0;
    while (id < FAULT_COUNT && !text_is (name, s_faults [id].name))
        id++;
    if (id == FAULT_COUNT)
        return s_unknown (name);
    set_t set = { 0 };
    size_t size = colon ? (size_t) (text.data + text.size - colon) - 1 : 0;
    if (!colon || !s_read_when ((text_t) { colon + 1, size }, &set))
        return text_format ("fault %.*s: after its name comes :3, :3+ or :every/3, then perhaps "
                            "=delay50 or =die", (int) text.size, text.data);
    if (ours)
        sets [id] = set;
    return NULL;
}

static bool
s_none (text_t faults)
{
    return faults.size == 0 || text_is (faults, "none");
}

static char *
s_read_all (const char *program, text_t faults, set_t *sets)
{
    for (size_t at = 0; !s_none (faults) && at < faults.size;) {
        const char *comma = memchr (faults.data + at, ',', faults.size - at);
        size_t size = comma ? (size_t) (comma - faults.data) - at : faults.size - at;
        char *why = s_read (program, (text_t) { faults.data + at, size }, sets);
        if (why)
            return why;
        at += size + 1;
    }
    return NULL;
}

char *
fault_check (text_t faults)
{
    set_t sets [FAULT_COUNT];
    return s_read_all ("", faults, sets);
}

char *
fault_arm (const char *program, text_t faults)
{
    set_t sets [FAULT_COUNT] = { 0 };
    char *why = s_read_all (program, faults, sets);
    if (!why) {
        memcpy (s_set, sets, sizeof s_set);
        fault_armed = !s_none (faults);
    }
    return why;
}

bool
fault_allowed (void)
{
    return getenv ("BUSBAR_FAULT") != NULL;
}

bool
fault_open (const char *program)
{
    const char *faults = getenv ("BUSBAR_FAULT");
    char *why = faults ? fault_arm (program, text_of (faults)) : NULL;
    if (why)
        fprintf (stderr, "BUSBAR_FAULT: %s\n", why);
    else if (fault_armed)
        log_warn ("failures on purpose are set", "faults", faults);
    bool good = !why;
    free (why);
    return good;
}

//  ---- asking ----

const char *
fault_name (fault_id_t id)
{
    return s_faults [id].name;
}

const char *
fault_what (fault_id_t id)
{
    return s_faults [id].what;
}

void
fault_counts (fault_id_t id, uint64_t *passed, uint64_t *failed)
{
    *passed = s_set [id].passed;
    *failed = s_set [id].failed;
}
