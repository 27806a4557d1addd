//  attach.h -- clusters and cloud profiles that rows of ours refer to.

#ifndef PLATFORM_ATTACH_H
#define PLATFORM_ATTACH_H

#include "platform.h"

//  404 on cluster_id / cloud_profile_id of the request unless it is that user's own, or absent.
CO void attach_cluster (req_t *req, const char *user);
CO void attach_profile (req_t *req, const char *user);

//  Hooks of the resources and for parents that go.
CO void workspace_before_create (req_t *req);
CO void workspace_before_update (req_t *req);
CO void cluster_gone (req_t *req, const char *id);
CO void profile_gone (req_t *req, const char *id);

#endif
