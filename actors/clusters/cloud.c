//  cloud.c -- which provider serves a cluster; those of the clouds say what they lack.

#include "clusters.h"

static const char *
s_missing_aws (provider_t *self, const char *type, const char **text)
{
    (void) self, (void) type;
    *text = "is not configured";
    return "clusters.aws-provider";
}

static const char *
s_missing_azure (provider_t *self, const char *type, const char **text)
{
    (void) self, (void) type;
    *text = "is not configured";
    return "clusters.azure-provider";
}

static const char *
s_missing_gcp (provider_t *self, const char *type, const char **text)
{
    (void) self, (void) type;
    *text = "is not configured";
    return "clusters.gcp-provider";
}

static provider_t clouds [] = { { .name = "aws", .missing = s_missing_aws },
                                { .name = "azure", .missing = s_missing_azure },
                                { .name = "gcp", .missing = s_missing_gcp } };

provider_t *
provider_for (clusters_t *clusters, const char *node_type, const char *cloud)
{
    if (!cloud || strcmp (node_type, "local") == 0)
        return clusters->local;
    for (size_t n = 0; n < sizeof clouds / sizeof *clouds; n++)
        if (strcmp (clouds [n].name, cloud) == 0)
            return &clouds [n];
    return clusters->local;
}
