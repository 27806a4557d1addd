//  cell.c -- values of sources as JSON, and names as SQL.

#include <ctype.h>

#include "connector.h"
#include "proto/json.h"

void
quote_name (buf_t *out, const char *quote, const char *name)
{
    buf_putc (out, *quote);
    for (; *name; name++) {
        if (*name == *quote)
            buf_putc (out, *quote);
        buf_putc (out, *name);
    }
    buf_putc (out, *quote);
}

//  What JSON takes for a number: neither NaN nor Infinity, no leading zeros or dot.
static bool
s_is_number (text_t text)
{
    size_t n = text.size && *text.data == '-';
    if (n >= text.size || !isdigit ((unsigned char) text.data [n])
        || (text.data [n] == '0' && n + 1 < text.size
            && isdigit ((unsigned char) text.data [n + 1])))
        return false;
    for (; n < text.size; n++)
        if (!isdigit ((unsigned char) text.data [n]) && !memchr (".eE+-", text.data [n], 5))
            return false;
    return isdigit ((unsigned char) text.data [text.size - 1]);
}

static void
s_put_hex (buf_t *out, text_t bytes)
{
    buf_puts (out, "\"\\\\x");
    for (size_t n = 0; n < bytes.size; n++)
        buf_putf (out, "%02x", (unsigned char) bytes.data [n]);
    buf_putc (out, '"');
}

void
cell_put (buf_t *out, const cell_t *cell)
{
    switch (cell->kind) {
    case CELL_NULL:
        buf_puts (out, "null");
        return;
    case CELL_BOOL:
        buf_put (out, cell->text.data, cell->text.size);
        return;
    case CELL_INT: case CELL_REAL:
        if (s_is_number (cell->text))
            buf_put (out, cell->text.data, cell->text.size);
        else
            json_quote (cell->text, out);
        return;
    case CELL_JSON:
        //  A line break in JSON is only ever a blank.
        for (size_t n = 0; n < cell->text.size; n++)
            buf_putc (out, cell->text.data [n] == '\n' || cell->text.data [n] == '\r'
                           ? ' ' : cell->text.data [n]);
        return;
    case CELL_TEXT: case CELL_BYTES:
        if (cell->kind == CELL_TEXT && text_utf8 (cell->text))
            json_quote (cell->text, out);
        else
            s_put_hex (out, cell->text);
    }
}
