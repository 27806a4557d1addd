//  lines.h -- rows of results as the service keeps them, one JSON array a line, and as clients want
//  them. Lines are our own: well-formed, without blanks between values.

#ifndef LINES_H
#define LINES_H

#include "proto/text.h"

//  The next line without its newline; false: none is left.
bool line_next (text_t *rest, text_t *line);
//  Its values, as JSON texts; how many there are, though at most `room` are told.
size_t line_values (text_t line, text_t *values, size_t room);
//  Append {"name": value, …}; `keys`: "\"name\":" for each column.
void line_object (text_t line, const text_t *keys, size_t count, buf_t *out);
//  Append as a row of CSV (RFC 4180): null is empty, nothing in it is a formula to a spreadsheet.
void line_csv (text_t line, buf_t *out);
//  One field of CSV.
void csv_put (text_t text, buf_t *out);

#endif
