//  graph.c -- reading a pipeline's graph.

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "graph.h"
#include "node.h"

#define ID_MAX 80                    //  bytes; also what names a state of a state machine

typedef struct {
    graph_t *graph;
    char *why;
} reader_t;

int
graph_find (const graph_t *graph, text_t id)
{
    for (size_t n = 0; n < graph->node_count; n++)
        if (text_eq (graph->nodes [n].id, id))
            return (int) n;
    return -1;
}

__attribute__ ((format (printf, 2, 3))) static bool
s_wrong (reader_t *self, const char *format, ...)
{
    va_list args;
    va_start (args, format);
    vsnprintf (self->why, GRAPH_WHY, format, args);
    va_end (args);
    return false;
}

//  Bytes of a text to be shown, cut between characters.
static int
s_shown (text_t text, size_t max)
{
    size_t size = text.size < max ? text.size : max;
    while (size && !text_utf8 ((text_t) { text.data, size }))
        size--;
    return (int) size;
}

//  ---- nodes ----

static bool
s_node (reader_t *self, mp_t value)
{
    graph_t *graph = self->graph;
    node_t *node = &graph->nodes [graph->node_count];
    text_t id = mp_text (mp_get (value, "id")), type = mp_text (mp_get (value, "type"));
    mp_t config = mp_get (value, "config"), data = mp_get (value, "data");
    if (mp_type (value) != MP_MAP || mp_type (mp_get (value, "id")) != MP_TEXT || id.size < 1
        || id.size > ID_MAX)
        return s_wrong (self, "nodes [%zu] needs an id of 1 to %d bytes", graph->node_count,
                        ID_MAX);
    for (size_t n = 0; n < id.size; n++)
        if ((unsigned char) id.data [n] < ' ' || id.data [n] == 127)
            return s_wrong (self, "nodes [%zu]: the id has control characters", graph->node_count);
    int shown = (int) id.size;
    if (graph_find (graph, id) >= 0)
        return s_wrong (self, "node %.*s is there twice", shown, id.data);
    *node = (node_t) { .id = id, .all = value, .config = mp_type (config) == MP_MAP ? config
                       : mp_type (data) == MP_MAP ? data : value };
    if (!node_type_read (type, &node->type))
        return s_wrong (self,
                        "node %.*s: there is no type %.*s; there are sql, notebook, http, copy, "
                        "branch and wait",
                        shown, id.data, s_shown (type, 40), type.size ? type.data : "");
    graph->node_count++;
    char why [GRAPH_WHY - 120];
    if (!node_check (node, why, sizeof why))
        return s_wrong (self, "node %.*s: %s", shown, id.data, why);
    return true;
}

static bool
s_nodes (reader_t *self, mp_t nodes)
{
    size_t count = mp_empty (nodes) ? 0 : mp_count (nodes);
    if (!mp_empty (nodes) && mp_type (nodes) != MP_ARRAY)
        return s_wrong (self, "nodes must be an array");
    if (count > GRAPH_NODES)
        return s_wrong (self, "there are %zu nodes, at most %d are possible", count, GRAPH_NODES);
    self->graph->nodes = xcalloc (count + 1, sizeof (node_t));
    self->graph->order = xcalloc (count + 1, sizeof (unsigned));
    for (size_t n = 0; n < count; n++)
        if (!s_node (self, mp_at (nodes, n)))
            return false;
    return true;
}

//  ---- edges ----

static bool
s_end_of (reader_t *self, mp_t edge, size_t number, const char *name, const char *also,
          unsigned *out)
{
    mp_t value = mp_get (edge, name);
    if (mp_empty (value))
        value = mp_get (edge, also);
    text_t id = mp_text (value);
    int found = graph_find (self->graph, id);
    if (mp_type (value) != MP_TEXT)
        return s_wrong (self, "edges [%zu] needs %s, the id of a node", number, name);
    if (found < 0)
        return s_wrong (self, "edges [%zu]: there is no node %.*s", number, s_shown (id, ID_MAX),
                        id.size ? id.data : "");
    *out = (unsigned) found;
    return true;
}

//  true and "true" say the same.
static bool
s_condition (reader_t *self, mp_t edge, edge_t *to)
{
    const node_t *from = &self->graph->nodes [to->from];
    mp_t value = mp_get (edge, "condition");
    text_t text = mp_text (value);
    if (mp_type (value) == MP_BOOL)
        text = mp_bool (value) ? TEXT ("true") : TEXT ("false");
    if (mp_empty (value) || text.size == 0)
        return true;
    if (from->type != NODE_BRANCH)
        return s_wrong (self, "node %.*s is no branch: an edge from it has no condition",
                        (int) from->id.size, from->id.data);
    if (!text_is (text, "true") && !text_is (text, "false"))
        return s_wrong (self, "node %.*s: the condition of an edge from it must be true or false",
                        (int) from->id.size, from->id.data);
    to->condition = text;
    return true;
}

static bool
s_edge (reader_t *self, mp_t value, size_t number)
{
    graph_t *graph = self->graph;
    edge_t edge = { 0 };
    if (mp_type (value) != MP_MAP)
        return s_wrong (self, "edges [%zu] must be an object", number);
    if (!s_end_of (self, value, number, "from", "source", &edge.from)
        || !s_end_of (self, value, number, "to", "target", &edge.to)
        || !s_condition (self, value, &edge))
        return false;
    for (size_t n = 0; n < graph->edge_count; n++)
        if (graph->edges [n].from == edge.from && graph->edges [n].to == edge.to)
            return s_wrong (self, "nodes %.*s and %.*s are joined by two edges",
                            (int)graph->nodes[edge.from].id.size, graph->nodes[edge.from].id.data,
                            (int)graph->nodes[edge.to].id.size, graph->nodes[edge.to].id.data);
    graph->edges [graph->edge_count++] = edge;
    return true;
}

static bool
s_edges (reader_t *self, mp_t edges)
{
    size_t count = mp_empty (edges) ? 0 : mp_count (edges);
    if (!mp_empty (edges) && mp_type (edges) != MP_ARRAY)
        return s_wrong (self, "edges must be an array");
    if (count > GRAPH_EDGES)
        return s_wrong (self, "there are %zu edges, at most %d are possible", count, GRAPH_EDGES);
    self->graph->edges = xcalloc (count + 1, sizeof (edge_t));
    for (size_t n = 0; n < count; n++)
        if (!s_edge (self, mp_at (edges, n), n))
            return false;
    return true;
}

//  ---- order ----

//  Every node that is left waits for one that is left: walk backwards until one comes again.
static bool
s_name_cycle (reader_t *self, const bool *gone)
{
    graph_t *graph = self->graph;
    unsigned way [GRAPH_NODES + 1], at = 0;
    int seen [GRAPH_NODES];
    memset (seen, -1, sizeof seen);
    while (gone [at])
        at++;
    size_t length = 0;
    while (seen [at] < 0) {
        seen [at] = (int) length;
        way [length++] = at;
        for (size_t n = 0; n < graph->edge_count; n++)
            if (graph->edges [n].to == at && !gone [graph->edges [n].from]) {
                at = graph->edges [n].from;
                break;
            }
    }
    buf_t text = { 0 };
    buf_puts (&text, "nodes form a cycle: ");
    for (size_t n = length; n-- > (size_t) seen [at];) {
        buf_put (&text, graph->nodes [way [n]].id.data, graph->nodes [way [n]].id.size);
        buf_puts (&text, " -> ");
    }
    node_t *last = &graph->nodes [way [length - 1]];
    buf_put (&text, last->id.data, last->id.size);
    s_wrong (self, "%.*s", s_shown (buf_text (&text), GRAPH_WHY - 1), (const char *) text.data);
    buf_free (&text);
    return false;
}

static bool
s_order (reader_t *self)
{
    graph_t *graph = self->graph;
    bool gone [GRAPH_NODES] = { false };
    size_t count = 0;
    for (size_t before = GRAPH_NODES; count < graph->node_count && before != count;) {
        before = count;
        for (unsigned node = 0; node < graph->node_count; node++) {
            bool ready = !gone [node];
            unsigned level = 0;
            for (size_t n = 0; ready && n < graph->edge_count; n++)
                if (graph->edges [n].to == node) {
                    unsigned from = graph->edges [n].from;
                    ready = gone [from];
                    if (graph->nodes [from].level >= level)
                        level = graph->nodes [from].level + 1;
                }
            if (!ready)
                continue;
            gone [node] = true;
            graph->nodes [node].level = level;
            graph->order [count++] = node;
        }
    }
    return count == graph->node_count || s_name_cycle (self, gone);
}

bool
graph_is_before (const graph_t *graph, unsigned other, unsigned node)
{
    bool before [GRAPH_NODES] = { false };
    before [other] = true;
    for (size_t at = 0; at < graph->node_count; at++)
        for (size_t n = 0; n < graph->edge_count; n++)
            if (graph->edges [n].to == graph->order [at] && before [graph->edges [n].from])
                before [graph->order [at]] = true;
    return other != node && before [node];
}

//  A branch asks about what is certainly over.
static bool
s_branches (reader_t *self)
{
    graph_t *graph = self->graph;
    for (unsigned node = 0; node < graph->node_count; node++) {
        node_t *branch = &graph->nodes [node];
        if (branch->type != NODE_BRANCH)
            continue;
        text_t asked = mp_text (mp_get (branch->config, "node"));
        int other = graph_find (graph, asked);
        if (other < 0 || !graph_is_before (graph, (unsigned) other, node))
            return s_wrong (self, "node %.*s: it asks about %.*s, which is no node before it",
                            (int) branch->id.size, branch->id.data, s_shown (asked, ID_MAX),
                            asked.size ? asked.data : "");
    }
    return true;
}

bool
graph_read (mp_t document, graph_t *graph, char why [GRAPH_WHY])
{
    reader_t self = { graph, why };
    *graph = (graph_t) { 0 };
    *why = 0;
    if (mp_type (document) != MP_MAP)
        return s_wrong (&self, "must be an object with nodes and edges");
    return s_nodes (&self, mp_get (document, "nodes"))
           && s_edges (&self, mp_get (document, "edges")) && s_order (&self) && s_branches (&self);
}

void
graph_free (graph_t *graph)
{
    free (graph->nodes);
    free (graph->edges);
    free (graph->order);
    *graph = (graph_t) { 0 };
}

//  ---- tasks ----

static uint32_t
s_put_needs (const graph_t *graph, unsigned node, buf_t *out)
{
    uint32_t count = 0;
    size_t mark = mp_open_array (out);
    for (size_t n = 0; n < graph->edge_count; n++) {
        const edge_t *edge = &graph->edges [n];
        if (edge->to != node)
            continue;
        mp_put_map (out, edge->condition.size ? 2 : 1);
        mp_pair_text (out, "task_key", graph->nodes [edge->from].id);
        if (edge->condition.size)
            mp_pair_text (out, "outcome", edge->condition);
        count++;
    }
    mp_close (out, mark, count);
    return count;
}

//  What a config says, without what the task says itself.
static uint32_t
s_put_config (const node_t *node, buf_t *out)
{
    static const char *const ours [] = { "id", "type", "task_key", "depends_on", "config", "data",
                                         "position" };
    uint32_t count = 0;
    for (mp_iter_t it = mp_iter (node->config); mp_next (&it);) {
        bool skip = false;
        for (size_t n = 0; n < sizeof ours / sizeof *ours; n++)
            skip |= text_is (mp_text (it.key), ours [n]);
        if (skip)
            continue;
        mp_put (out, it.key);
        mp_put (out, it.value);
        count++;
    }
    return count;
}

void
graph_tasks (const graph_t *graph, buf_t *out)
{
    mp_put_array (out, (uint32_t) graph->node_count);
    for (size_t n = 0; n < graph->node_count; n++) {
        unsigned at = graph->order [n];
        const node_t *node = &graph->nodes [at];
        size_t mark = mp_open_map (out);
        uint32_t pairs = 3;
        mp_pair_text (out, "task_key", node->id);
        mp_pair_str (out, "type", node_type_name (node->type));
        mp_put_str (out, "depends_on");
        //  Behind several ways it goes on when one of them was taken.
        bool several = s_put_needs (graph, at, out) > 1;
        if (several && mp_empty (mp_get (node->config, "run_if"))) {
            mp_pair_str (out, "run_if", "NONE_FAILED");
            pairs++;
        }
        pairs += s_put_config (node, out);
        mp_close (out, mark, pairs);
    }
}
