//  asl.c -- levels of a graph as Parallel states, nodes as what they are at Amazon.
//
//  Level k is a Parallel state, one branch per node. What node n of it answers is kept under
//  $.level<k>.n<n> as {state, outcome, result}, for the choices of later levels.

#include <math.h>
#include <stdarg.h>
#include <stdio.h>

#include "asl.h"
#include "asl_choice.h"
#include "proto/json.h"

#define NAME_MAX_BYTES 70            //  of an id within the name of a state; 80 characters in all
#define DEFINITION_MAX (1 << 20)

typedef struct {
    const graph_t *graph;
    const asl_t *how;
    buf_t out;
    bool may_skip [GRAPH_NODES];
    char *why;
} writer_t;

__attribute__ ((format (printf, 3, 4))) static bool
s_refuse (writer_t *self, unsigned node, const char *format, ...)
{
    const node_t *at = &self->graph->nodes [node];
    va_list args;
    int size = snprintf (self->why, GRAPH_WHY, "node %.*s: ", (int) at->id.size, at->id.data);
    va_start (args, format);
    vsnprintf (self->why + size, GRAPH_WHY - (size_t) size, format, args);
    va_end (args);
    return false;
}

//  Names are unique in the whole machine: those of nodes go on with a blank, others with a colon.
static const char *
s_name (const writer_t *self, unsigned node, char room [128])
{
    text_t id = self->graph->nodes [node].id;
    size_t size = id.size < NAME_MAX_BYTES ? id.size : NAME_MAX_BYTES;
    while (size && !text_utf8 ((text_t) { id.data, size }))
        size--;
    snprintf (room, 128, "n%u %.*s", node, (int) size, id.data);
    return room;
}

static void
s_put_done (buf_t *out, const char *state, const char *outcome)
{
    mp_put_map (out, 3);
    mp_pair_str (out, "Type", "Pass");
    mp_put_str (out, "Result");
    mp_put_map (out, 3);
    mp_pair_str (out, "state", state);
    mp_pair_str (out, "outcome", outcome);
    mp_pair (out, "result", mp_none);
    mp_pair_bool (out, "End", true);
}

//  ---- tasks ----

static uint32_t
s_put_task_limits (const node_t *node, buf_t *out)
{
    double retries = 0, delay = 30, timeout = 0;
    uint32_t pairs = 0;
    mp_real_get (mp_get (node->config, "max_retries"), &retries);
    mp_real_get (mp_get (node->config, "retry_delay_seconds"), &delay);
    mp_real_get (mp_get (node->config, "timeout_seconds"), &timeout);
    if (retries >= 1) {
        mp_put_str (out, "Retry");
        mp_put_array (out, 1);
        mp_put_map (out, 4);
        mp_put_str (out, "ErrorEquals");
        mp_put_array (out, 1);
        mp_put_str (out, "States.ALL");
        mp_pair_int (out, "IntervalSeconds", delay < 1 ? 1 : (int64_t) ceil (delay));
        mp_pair_int (out, "MaxAttempts", (int64_t) retries);
        mp_pair_int (out, "BackoffRate", 2);
        pairs++;
    }
    if (timeout > 0) {
        mp_pair_int (out, "TimeoutSeconds", (int64_t) ceil (timeout));
        pairs++;
    }
    return pairs;
}

//  Begin a Task state; s_end_task closes it. `result`: what of the answer is the node's.
static size_t
s_begin_task (buf_t *out, const char *resource)
{
    size_t mark = mp_open_map (out);
    mp_pair_str (out, "Type", "Task");
    mp_pair_str (out, "Resource", resource);
    return mark;
}

static void
s_end_task (const node_t *node, buf_t *out, size_t mark, const char *result)
{
    mp_put_str (out, "ResultSelector");
    mp_put_map (out, 3);
    mp_pair_str (out, "state", "succeeded");
    mp_pair_str (out, "outcome", "");
    mp_pair_str (out, "result.$", result);
    mp_pair_bool (out, "End", true);
    mp_close (out, mark, 5 + s_put_task_limits (node, out));
}

static bool
s_put_lambda (writer_t *self, unsigned at, const char *setting)
{
    const node_t *node = &self->graph->nodes [at];
    buf_t *out = &self->out, text = { 0 };
    if (!self->how->runner)
        return s_refuse (self, at, "a %s node needs %s in the config of the deployment",
                         node_type_name (node->type), setting);
    size_t mark = s_begin_task (out, "arn:aws:states:::lambda:invoke");
    mp_put_str (out, "Parameters");
    mp_put_map (out, 2);
    mp_pair_str (out, "FunctionName", self->how->runner);
    mp_put_str (out, "Payload");
    mp_put_map (out, 5);
    mp_pair_str (out, "pipeline_id", self->how->pipeline);
    mp_pair_text (out, "node", node->id);
    mp_pair_str (out, "type", node_type_name (node->type));
    //  As text: what is in it means nothing to the state machine.
    json_write (node->config, &text);
    mp_pair_text (out, "config", buf_text (&text));
    mp_pair_str (out, "input.$", "$");
    buf_free (&text);
    s_end_task (node, out, mark, "$.Payload");
    return true;
}

static bool
s_put_athena (writer_t *self, unsigned at)
{
    const node_t *node = &self->graph->nodes [at];
    const asl_t *how = self->how;
    buf_t *out = &self->out;
    mp_t query = mp_get (node->config, "query");
    bool plain = mp_empty (mp_get (node->config, "source_id"))
                 && mp_empty (mp_get (node->config, "parameters"));
    if (!how->athena_output || !plain)
        return s_put_lambda (self, at, plain ? "athena_output or runner_function_arn"
                                             : "runner_function_arn");
    size_t mark = s_begin_task (out, "arn:aws:states:::athena:startQueryExecution.sync");
    mp_put_str (out, "Parameters");
    mp_put_map (out, how->athena_workgroup ? 3 : 2);
    mp_pair (out, "QueryString", mp_empty (query) ? mp_get (node->config, "query_text") : query);
    if (how->athena_workgroup)
        mp_pair_str (out, "WorkGroup", how->athena_workgroup);
    mp_put_str (out, "ResultConfiguration");
    mp_put_map (out, 1);
    mp_pair_str (out, "OutputLocation", how->athena_output);
    s_end_task (node, out, mark, "$");
    return true;
}

//  A key like "a.$" would be taken for a path.
static bool
s_has_paths (mp_t value)
{
    if (mp_type (value) != MP_MAP && mp_type (value) != MP_ARRAY)
        return false;
    for (mp_iter_t it = mp_iter (value); mp_next (&it);) {
        text_t key = mp_text (it.key);
        if ((key.size >= 2 && memcmp (key.data + key.size - 2, ".$", 2) == 0)
            || s_has_paths (it.value))
            return true;
    }
    return false;
}

static bool
s_put_http (writer_t *self, unsigned at)
{
    const node_t *node = &self->graph->nodes [at];
    buf_t *out = &self->out;
    mp_t method = mp_get (node->config, "method"), headers = mp_get (node->config, "headers"),
         body = mp_get (node->config, "body");
    if (!self->how->http_connection)
        return s_put_lambda (self, at, "http_connection_arn or runner_function_arn");
    if (s_has_paths (headers) || s_has_paths (body))
        return s_refuse (self, at, "names in headers and body must not end with .$");
    size_t mark = s_begin_task (out, "arn:aws:states:::http:invoke");
    mp_put_str (out, "Parameters");
    mp_put_map (out, 3 + !mp_empty (headers) + !mp_empty (body));
    mp_pair (out, "ApiEndpoint", mp_get (node->config, "url"));
    mp_pair_text (out, "Method", mp_empty (method) ? TEXT ("GET") : mp_text (method));
    mp_put_str (out, "Authentication");
    mp_put_map (out, 1);
    mp_pair_str (out, "ConnectionArn", self->how->http_connection);
    if (!mp_empty (headers))
        mp_pair (out, "Headers", headers);
    if (!mp_empty (body))
        mp_pair (out, "RequestBody", body);
    s_end_task (node, out, mark, "$");
    return true;
}

//  ---- nodes ----

//  States of what the node does; `states` counts them.
static bool
s_put_work (writer_t *self, unsigned at, uint32_t *states)
{
    const node_t *node = &self->graph->nodes [at];
    buf_t *out = &self->out;
    char name [128], yes [32], no [32];
    mp_put_str (out, s_name (self, at, name));
    switch (node->type) {
    case NODE_WAIT:
        snprintf (yes, sizeof yes, "n%u: waited", at);
        mp_put_map (out, 3);
        mp_pair_str (out, "Type", "Wait");
        mp_pair_int (out, "Seconds", (int64_t) ceil (mp_real (mp_get (node->config, "seconds"))));
        mp_pair_str (out, "Next", yes);
        mp_put_str (out, yes);
        s_put_done (out, "succeeded", "");
        *states += 2;
        return true;
    case NODE_BRANCH:
        snprintf (yes, sizeof yes, "n%u: true", at);
        snprintf (no, sizeof no, "n%u: false", at);
        if (!asl_put_branch (self->graph, at, yes, no, out, name, sizeof name))
            return s_refuse (self, at, "%s", name);
        mp_put_str (out, yes);
        s_put_done (out, "succeeded", "true");
        mp_put_str (out, no);
        s_put_done (out, "succeeded", "false");
        *states += 3;
        return true;
    case NODE_SQL:
        *states += 1;
        return s_put_athena (self, at);
    case NODE_HTTP:
        *states += 1;
        return s_put_http (self, at);
    case NODE_NOTEBOOK:
    case NODE_COPY:
        break;
    }
    *states += 1;
    return s_put_lambda (self, at, "runner_function_arn");
}

//  One branch of a level's Parallel state.
static bool
s_put_node (writer_t *self, unsigned at)
{
    buf_t *out = &self->out;
    char name [128], skipped [32], when [32];
    uint32_t states = 0;
    snprintf (when, sizeof when, "n%u: when", at);
    snprintf (skipped, sizeof skipped, "n%u: skipped", at);
    s_name (self, at, name);
    mp_put_map (out, 2);
    mp_pair_str (out, "StartAt", self->may_skip [at] ? when : name);
    mp_put_str (out, "States");
    size_t mark = mp_open_map (out);
    if (self->may_skip [at]) {
        mp_put_str (out, when);
        asl_put_when (self->graph, at, name, skipped, out);
        mp_put_str (out, skipped);
        s_put_done (out, "skipped", "");
        states += 2;
    }
    if (!s_put_work (self, at, &states))
        return false;
    mp_close (out, mark, states);
    return true;
}

//  ---- levels ----

static bool
s_put_level (writer_t *self, unsigned level, bool last)
{
    const graph_t *graph = self->graph;
    buf_t *out = &self->out;
    char text [64], of [64];
    unsigned nodes [GRAPH_NODES], count = 0;
    for (unsigned n = 0; n < graph->node_count; n++)
        if (graph->nodes [n].level == level)
            nodes [count++] = n;
    mp_put_map (out, 5);
    mp_pair_str (out, "Type", "Parallel");
    mp_put_str (out, "Branches");
    mp_put_array (out, count);
    for (unsigned n = 0; n < count; n++)
        if (!s_put_node (self, nodes [n]))
            return false;
    mp_put_str (out, "ResultSelector");
    mp_put_map (out, count);
    for (unsigned n = 0; n < count; n++) {
        snprintf (text, sizeof text, "n%u.$", nodes [n]);
        snprintf (of, sizeof of, "States.ArrayGetItem($, %u)", n);
        mp_pair_str (out, text, of);
    }
    snprintf (text, sizeof text, "$.level%u", level);
    mp_pair_str (out, "ResultPath", text);
    snprintf (text, sizeof text, "Level %u", level + 1);
    if (last)
        mp_pair_bool (out, "End", true);
    else
        mp_pair_str (out, "Next", text);
    return true;
}

static bool
s_check_rules (writer_t *self)
{
    for (size_t n = 0; n < self->graph->node_count; n++) {
        unsigned at = self->graph->order [n];
        text_t rule = mp_text (mp_get (self->graph->nodes [at].config, "run_if"));
        if (rule.size && !text_is (rule, "ALL_SUCCESS") && !text_is (rule, "NONE_FAILED")
            && !text_is (rule, "AT_LEAST_ONE_SUCCESS"))
            return s_refuse (self, at, "run_if %.*s is not possible on aws-step-functions",
                             (int) rule.size, rule.data);
        for (size_t e = 0; e < self->graph->edge_count; e++) {
            const edge_t *edge = &self->graph->edges [e];
            if (edge->to == at && (edge->condition.size || self->may_skip [edge->from]))
                self->may_skip [at] = true;
        }
    }
    return true;
}

bool
asl_write (const graph_t *graph, const asl_t *how, buf_t *json, char why [GRAPH_WHY])
{
    writer_t self = { .graph = graph, .how = how, .why = why };
    unsigned levels = 0;
    char name [32];
    *why = 0;
    for (size_t n = 0; n < graph->node_count; n++)
        if (graph->nodes [n].level >= levels)
            levels = graph->nodes [n].level + 1;
    mp_put_map (&self.out, 3);
    mp_pair_str (&self.out, "Comment", how->name);
    mp_pair_str (&self.out, "StartAt", "Level 0");
    mp_put_str (&self.out, "States");
    mp_put_map (&self.out, levels);
    bool good = s_check_rules (&self);
    for (unsigned level = 0; good && level < levels; level++) {
        snprintf (name, sizeof name, "Level %u", level);
        mp_put_str (&self.out, name);
        good = s_put_level (&self, level, level + 1 == levels);
    }
    if (good)
        json_write (mp_buf (&self.out), json);
    if (good && json->size > DEFINITION_MAX) {
        snprintf (why, GRAPH_WHY, "the state machine is larger than %d bytes", DEFINITION_MAX);
        good = false;
    }
    buf_free (&self.out);
    return good;
}
