//  asl_choice.c -- conditions in Amazon States Language. A comparison of what is not there, or of
//  another type, ends an execution with an error: each asks for that first.

#include <stdio.h>
#include <stdlib.h>

#include "asl_choice.h"

//  ---- single tests ----

static void
s_put_test (buf_t *out, const char *variable, const char *test, mp_t value)
{
    mp_put_map (out, 2);
    mp_pair_str (out, "Variable", variable);
    mp_pair (out, test, value);
}

static void
s_put_flag (buf_t *out, const char *variable, const char *test, bool value)
{
    mp_put_map (out, 2);
    mp_pair_str (out, "Variable", variable);
    mp_pair_bool (out, test, value);
}

static void
s_put_word (buf_t *out, const char *variable, const char *word)
{
    mp_put_map (out, 2);
    mp_pair_str (out, "Variable", variable);
    mp_pair_str (out, "StringEquals", word);
}

//  The head of a Choice state with one rule: the rule's pairs come next, then s_end_choice.
static void
s_begin_choice (buf_t *out, uint32_t pairs)
{
    mp_put_map (out, 3);
    mp_pair_str (out, "Type", "Choice");
    mp_put_str (out, "Choices");
    mp_put_array (out, 1);
    mp_put_map (out, pairs + 1);
}

static void
s_end_choice (buf_t *out, const char *then, const char *otherwise)
{
    mp_pair_str (out, "Next", then);
    mp_pair_str (out, "Default", otherwise);
}

//  ---- is a node reached? ----

void
asl_put_when (const graph_t *graph, unsigned node, const char *then, const char *otherwise,
              buf_t *out)
{
    text_t rule = mp_text (mp_get (graph->nodes [node].config, "run_if"));
    uint32_t needs = 0;
    char variable [64];
    for (size_t n = 0; n < graph->edge_count; n++)
        needs += graph->edges [n].to == node;
    bool all = needs == 1 || text_is (rule, "ALL_SUCCESS");
    s_begin_choice (out, 1);
    mp_put_str (out, all ? "And" : "Or");
    mp_put_array (out, needs);
    for (size_t n = 0; n < graph->edge_count; n++) {
        const edge_t *edge = &graph->edges [n];
        if (edge->to != node)
            continue;
        unsigned level = graph->nodes [edge->from].level;
        mp_put_map (out, 1);
        mp_put_str (out, "And");
        mp_put_array (out, edge->condition.size ? 2 : 1);
        snprintf (variable, sizeof variable, "$.level%u.n%u.state", level, edge->from);
        s_put_word (out, variable, "succeeded");
        if (edge->condition.size) {
            snprintf (variable, sizeof variable, "$.level%u.n%u.outcome", level, edge->from);
            s_put_word (out, variable, text_is (edge->condition, "true") ? "true" : "false");
        }
    }
    s_end_choice (out, then, otherwise);
}

//  ---- which way does a branch go? ----

//  "rows.0" of what node 3 answered: $.level1.n3.result['rows'][0]
static char *
s_path (const graph_t *graph, unsigned asked, text_t path)
{
    buf_t out = { 0 };
    buf_putf (&out, "$.level%u.n%u.result", graph->nodes [asked].level, asked);
    while (path.size) {
        const char *dot = memchr (path.data, '.', path.size);
        size_t size = dot ? (size_t) (dot - path.data) : path.size;
        bool number = size > 0 && size < 9;
        for (size_t n = 0; n < size; n++)
            number = number && path.data [n] >= '0' && path.data [n] <= '9';
        buf_puts (&out, number ? "[" : "['");
        for (size_t n = 0; n < size; n++) {
            if (path.data [n] == '\'' || path.data [n] == '\\')
                buf_putc (&out, '\\');
            buf_putc (&out, path.data [n]);
        }
        buf_puts (&out, number ? "]" : "']");
        path = dot ? (text_t) { dot + 1, path.size - size - 1 } : (text_t) { NULL, 0 };
    }
    buf_putc (&out, 0);
    return (char *) out.data;
}

typedef struct {
    mp_type_t type;                  //  of the value
    const char *is;                  //  must hold of the variable first
    const char *equals, *less, *less_equals, *greater, *greater_equals;
} compare_t;

static const compare_t s_compares [] = {
    { MP_TEXT, "IsString", "StringEquals", "StringLessThan", "StringLessThanEquals",
      "StringGreaterThan", "StringGreaterThanEquals" },
    { MP_INT, "IsNumeric", "NumericEquals", "NumericLessThan", "NumericLessThanEquals",
      "NumericGreaterThan", "NumericGreaterThanEquals" },
    { MP_REAL, "IsNumeric", "NumericEquals", "NumericLessThan", "NumericLessThanEquals",
      "NumericGreaterThan", "NumericGreaterThanEquals" },
    { MP_BOOL, "IsBoolean", "BooleanEquals", NULL, NULL, NULL, NULL } };

static const char *
s_test (const compare_t *compare, text_t word)
{
    return text_is (word, "==") || text_is (word, "!=") ? compare->equals
           : text_is (word, "<") ? compare->less : text_is (word, "<=") ? compare->less_equals
           : text_is (word, ">") ? compare->greater : compare->greater_equals;
}

//  "And": [present, of its type, test]
static void
s_put_guarded (buf_t *out, const char *variable, const char *is, const char *test, mp_t value)
{
    mp_put_str (out, "And");
    mp_put_array (out, 3);
    s_put_flag (out, variable, "IsPresent", true);
    s_put_flag (out, variable, is, true);
    s_put_test (out, variable, test, value);
}

static void
s_put_exists (buf_t *out, const char *variable)
{
    mp_put_str (out, "And");
    mp_put_array (out, 2);
    s_put_flag (out, variable, "IsPresent", true);
    s_put_flag (out, variable, "IsNull", false);
}

//  *text*, where * and \ mean themselves.
static bool
s_put_contains (buf_t *out, const char *variable, mp_t value)
{
    buf_t pattern = { 0 }, packed = { 0 };
    text_t text = mp_text (value);
    if (mp_type (value) != MP_TEXT)
        return false;
    buf_putc (&pattern, '*');
    for (size_t n = 0; n < text.size; n++) {
        if (text.data [n] == '*' || text.data [n] == '\\')
            buf_putc (&pattern, '\\');
        buf_putc (&pattern, text.data [n]);
    }
    buf_putc (&pattern, '*');
    mp_put_text (&packed, buf_text (&pattern));
    s_put_guarded (out, variable, "IsString", "StringMatches", mp_buf (&packed));
    buf_free (&pattern);
    buf_free (&packed);
    return true;
}

//  One pair: the rule of the branch.
static bool
s_put_rule (buf_t *out, const char *variable, text_t word, mp_t value)
{
    const compare_t *compare = NULL;
    bool not = text_is (word, "!=");
    for (size_t n = 0; n < sizeof s_compares / sizeof *s_compares; n++)
        if (s_compares [n].type == mp_type (value))
            compare = &s_compares [n];
    const char *test = compare ? s_test (compare, word) : NULL;
    bool null = mp_empty (value) && (not || text_is (word, "=="));
    if (text_is (word, "contains"))
        return s_put_contains (out, variable, value);
    if (text_is (word, "exists") || (null && not)) {
        s_put_exists (out, variable);
        return true;
    }
    if (!test && !null)
        return false;
    if (not || null) {
        mp_put_str (out, "Not");
        mp_put_map (out, 1);
    }
    if (null)
        s_put_exists (out, variable);
    else
        s_put_guarded (out, variable, compare->is, test, value);
    return true;
}

bool
asl_put_branch (const graph_t *graph, unsigned node, const char *then, const char *otherwise,
                buf_t *out, char *why, size_t size)
{
    mp_t config = graph->nodes [node].config, value = mp_get (config, "value");
    int asked = graph_find (graph, mp_text (mp_get (config, "node")));
    text_t word = mp_text (mp_get (config, "operator"));
    if (word.size == 0)
        word = mp_is_none (value) ? TEXT ("exists") : TEXT ("==");
    char *variable = s_path (graph, (unsigned) asked, mp_text (mp_get (config, "path")));
    s_begin_choice (out, 1);
    bool good = s_put_rule (out, variable, word, value);
    free (variable);
    if (!good)
        snprintf (why, size, "%.*s with this value is not possible on aws-step-functions",
                  (int) word.size, word.data);
    s_end_choice (out, then, otherwise);
    return good;
}
