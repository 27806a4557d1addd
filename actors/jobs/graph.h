//  graph.h -- a pipeline's graph: read, checked, ordered, made into the tasks of a run. Pure: no
//  database, no request.

#ifndef GRAPH_H
#define GRAPH_H

#include "proto/mp.h"

#define GRAPH_NODES 100
#define GRAPH_EDGES 1000
#define GRAPH_WHY 400

typedef enum { NODE_SQL, NODE_NOTEBOOK, NODE_HTTP, NODE_COPY, NODE_BRANCH, NODE_WAIT } node_type_t;

typedef struct {
    text_t id;
    node_type_t type;
    mp_t all, config;                //  the node as it stands there, and what says what it does
    unsigned level;                  //  edges on the longest way to it
} node_t;

typedef struct {
    unsigned from, to;               //  positions of nodes
    text_t condition;                //  outcome that a branch must have; empty: any
} edge_t;

//  Borrows from the document that it was read from.
typedef struct {
    node_t *nodes;
    edge_t *edges;
    size_t node_count, edge_count;
    unsigned *order;                 //  of nodes: each behind all that it waits for
} graph_t;

//  {nodes: [{id, type, config: {…}}], edges: [{from | source, to | target, condition?}]}. What a
//  node does is in its `config`, or `data`, or beside its id. False: `why` names the node. A graph
//  without nodes is one. graph_free in any case.
bool graph_read (mp_t document, graph_t *graph, char why [GRAPH_WHY]);
void graph_free (graph_t *graph);

const char *node_type_name (node_type_t type);
//  Is `other` on a way to `node`?
bool graph_is_before (const graph_t *graph, unsigned other, unsigned node);
//  Position of the node with this id; -1: none.
int graph_find (const graph_t *graph, text_t id);

//  Tasks of a run, in order: an array of {task_key, type, depends_on: [{task_key, outcome?}],
//  run_if?, …config}.
void graph_tasks (const graph_t *graph, buf_t *out);

#endif
