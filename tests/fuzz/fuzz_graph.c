//  fuzz_graph.c -- graphs of pipelines as strangers send them: what is read is in order, and
//  becomes whole tasks and, where that is possible, a state machine.

#include <assert.h>
#include <stdlib.h>

#include "actors/jobs/asl.h"
#include "actors/jobs/node.h"
#include "proto/json.h"

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size);

static void
check (const graph_t *graph)
{
    static const asl_t how = { .pipeline = "p", .name = "n", .runner = "arn:r",
                               .athena_output = "s3://b/", .http_connection = "arn:c" };
    buf_t tasks = { 0 }, machine = { 0 };
    unsigned at [GRAPH_NODES];
    char why [GRAPH_WHY];
    assert (graph->node_count <= GRAPH_NODES && graph->edge_count <= GRAPH_EDGES);
    for (unsigned n = 0; n < graph->node_count; n++)
        at [graph->order [n]] = n;
    for (size_t n = 0; n < graph->edge_count; n++)
        assert (at [graph->edges [n].from] < at [graph->edges [n].to]);
    graph_tasks (graph, &tasks);
    assert (mp_valid (tasks.data, tasks.size, MP_DEPTH) == tasks.size);
    assert (mp_count (mp_buf (&tasks)) == graph->node_count);
    for (size_t n = 0; n < graph->node_count; n++)
        if (graph->nodes [n].type == NODE_BRANCH)
            node_decides (graph->nodes [n].config, graph->nodes [n].all);
    if (asl_write (graph, &how, &machine, why)) {
        buf_clear (&tasks);
        assert (json_read (buf_text (&machine), &tasks, why, sizeof why));
    }
    else
        assert (*why && text_utf8 (text_of (why)));
    buf_free (&tasks);
    buf_free (&machine);
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
    buf_t document = { 0 };
    graph_t graph;
    char why [GRAPH_WHY];
    if (!json_read ((text_t) { (const char *) data, size }, &document, why, sizeof why))
        return 0;
    if (graph_read (mp_buf (&document), &graph, why))
        check (&graph);
    else
        assert (*why && text_utf8 (text_of (why)));
    graph_free (&graph);
    buf_free (&document);
    return 0;
}
