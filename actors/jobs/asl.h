//  asl.h -- a pipeline's graph as a state machine in Amazon States Language. Pure.

#ifndef ASL_H
#define ASL_H

#include "graph.h"

//  What the nodes become, where they need something of the account.
typedef struct {
    const char *pipeline, *name;     //  id, name
    const char *runner;              //  ARN of a Lambda function that does what nothing else does
    const char *athena_output;       //  s3://… ; sql nodes become queries of Athena
    const char *athena_workgroup;    //  NULL: the primary one
    const char *http_connection;     //  ARN of an EventBridge connection; http nodes are called
} asl_t;

//  Nodes that wait for nothing of one another run in parallel, level by level; what a node that is
//  not reached by its branch leaves behind is {"state": "skipped"}. False: `why` names the node and
//  the setting that it misses.
bool asl_write (const graph_t *graph, const asl_t *how, buf_t *json, char why [GRAPH_WHY]);

#endif
