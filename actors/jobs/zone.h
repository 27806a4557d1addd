//  zone.h -- IANA time zones, read from the system's compiled tables (RFC 8536). Pure: nothing of
//  the process's own TZ is touched. Instants are Unix seconds; a "local" time is what the wall
//  clock shows, counted in seconds as if it were UTC.

#ifndef ZONE_H
#define ZONE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct zone zone_t;

//  "Europe/Berlin", "UTC"; NULL: there is no such zone. The caller owns it.
zone_t *zone_load (const char *name);
//  The same from the bytes of a table; NULL when they are none.
zone_t *zone_read (const uint8_t *data, size_t size);
void zone_free (zone_t **self_p);

//  Seconds east of Greenwich at that instant.
int32_t zone_offset (const zone_t *self, int64_t at);
//  Instants at which the wall clock shows `local`: one, two (the clock is set back; in order), or
//  none: it is skipped, and out [0] is then the first instant behind the gap.
int zone_instants (const zone_t *self, int64_t local, int64_t out [2]);

//  Days since 1970-01-01 of a date of the Gregorian calendar, and back.
int64_t date_days (int64_t year, int month, int day);
void date_of (int64_t days, int64_t *year, int *month, int *day);

#endif
