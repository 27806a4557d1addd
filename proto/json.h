//  json.h -- JSON to MessagePack and back: the only JSON code of the product (parsing by jansson).

#ifndef JSON_H
#define JSON_H

#include "mp.h"

#define JSON_DEPTH 64

//  Parse one JSON value and append it to `out` as MessagePack. Refused: duplicate keys, invalid
//  UTF-8, lone surrogates, NUL in strings, NaN, numbers beyond 64 bit, nesting over JSON_DEPTH,
//  trailing bytes. Empty input gives nil. Returns false with a text for the user in `error`
//  (lower case, says where) and nothing appended.
bool json_read (text_t json, buf_t *out, char *error, size_t error_size);

//  Append the JSON text of a value. Ext 1 is spliced as it is, bin becomes base64 text, reals print
//  the shortest form that reads back to the same number, a non-finite real becomes null.
void json_write (mp_t value, buf_t *out);

//  The value with every ext 1 inside turned into plain values: itself when there is none, else a
//  copy in `room` (emptied first; nil where the JSON cannot be read).
mp_t json_plain (mp_t value, buf_t *room);

//  Append a quoted, escaped JSON string.
void json_quote (text_t text, buf_t *out);

#endif
