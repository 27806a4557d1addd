//  asl_choice.h -- Choice states: whether a node is reached, and which way a branch goes.

#ifndef ASL_CHOICE_H
#define ASL_CHOICE_H

#include "graph.h"

//  The Choice before a node: by its `run_if`, from how the nodes that it waits for have ended.
void asl_put_when (const graph_t *graph, unsigned node, const char *then, const char *otherwise,
                   buf_t *out);
//  The Choice that a branch is. False: why it cannot be one.
bool asl_put_branch (const graph_t *graph, unsigned node, const char *then, const char *otherwise,
                     buf_t *out, char *why, size_t size);

#endif
