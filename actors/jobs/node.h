//  node.h -- kinds of nodes of a pipeline, and what the config of each must be.

#ifndef NODE_H
#define NODE_H

#include "graph.h"

#define WAIT_MAX (7 * 86400)         //  seconds

bool node_type_read (text_t name, node_type_t *type);
//  False: `why` says which field of the config is wrong.
bool node_check (const node_t *node, char *why, size_t size);

//  A branch: does the result of the node that it asks about satisfy it? {node, path?: "a.b.0",
//  operator?: "==" | "!=" | "<" | "<=" | ">" | ">=" | "exists" | "contains", value?}.
bool node_decides (mp_t config, mp_t result);

#endif
