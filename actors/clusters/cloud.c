//  cloud.c -- which provider serves a cluster; those of the clouds say what they lack.

#include <string.h>

#include "clusters.h"

typedef struct {
    provider_t base;
    const char *setting, *value;
} cloud_t;

static const char *
s_missing (provider_t *self, const char *type, bool *given)
{
    (void) type;
    const cloud_t *cloud = (const cloud_t *) self;
    *given = cloud->value;
    return cloud->setting;
}

static cloud_t clouds [] = {
    { { .name = "aws", .missing = s_missing }, "clusters.aws-provider", NULL },
    { { .name = "azure", .missing = s_missing }, "clusters.azure-provider", NULL },
    { { .name = "gcp", .missing = s_missing }, "clusters.gcp-provider", NULL },
};

void
clouds_read (const opt_t *options)
{
    for (size_t n = 0; n < sizeof clouds / sizeof *clouds; n++)
        clouds [n].value = opt_str (options, strchr (clouds [n].setting, '.') + 1);
}

provider_t *
provider_for (clusters_t *clusters, const char *node_type, const char *cloud)
{
    if (!cloud || strcmp (node_type, "local") == 0)
        return clusters->local;
    for (size_t n = 0; n < sizeof clouds / sizeof *clouds; n++)
        if (strcmp (clouds [n].base.name, cloud) == 0)
            return &clouds [n].base;
    return clusters->local;
}
