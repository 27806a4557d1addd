//  autoscale.c -- growing is urgent, shrinking is not.

#include "autoscale.h"

int64_t
autoscale (int64_t now, int64_t target, int64_t desired, int64_t least, int64_t most,
           int64_t patience, int64_t *since)
{
    int64_t wanted = desired < least ? least : desired > most ? most : desired;
    if (wanted >= target) {
        *since = 0;
        return wanted;
    }
    if (*since == 0)
        *since = now;
    if (now - *since < patience)
        return target > most ? most : target;
    *since = 0;
    return wanted;
}
