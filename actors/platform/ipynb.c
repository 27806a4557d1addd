//  ipynb.c -- Notebook Format 4 in and out. What we have no word for (metadata, attachments) is
//  kept in the cell and comes back on export.

#include "platform.h"

//  "source" and "text" may be one text or an array of lines.
static void
put_joined (buf_t *buf, mp_t value)
{
    if (mp_type (value) != MP_ARRAY) {
        mp_put_text (buf, mp_text (value));
        return;
    }
    buf_t joined = { 0 };
    for (mp_iter_t it = mp_iter (value); mp_next (&it);) {
        text_t line = mp_text (it.value);
        buf_put (&joined, line.data, line.size);
    }
    mp_put_text (buf, buf_text (&joined));
    buf_free (&joined);
}

static void
read_cell (buf_t *content, mp_t cell)
{
    text_t type = mp_text (mp_get (cell, "cell_type")), id = mp_text (mp_get (cell, "id"));
    char made [37];
    if (id.size == 0) {
        uuid_make (made);
        id = text_of (made);
    }
    size_t mark = mp_open_map (content);
    uint32_t count = 3;
    mp_pair_text (content, "id", id);
    mp_pair_text (content, "type", text_is (type, "raw") ? TEXT ("markdown") : type);
    mp_put_str (content, "content");
    put_joined (content, mp_get (cell, "source"));
    static const char *const kept [] = { "metadata", "outputs", "attachments", "execution_count" };
    for (size_t i = 0; i < sizeof kept / sizeof kept [0]; i++)
        if (!mp_empty (mp_get (cell, kept [i]))) {
            mp_pair (content, kept [i], mp_get (cell, kept [i]));
            count++;
        }
    if (text_is (type, "raw")) {
        mp_pair_str (content, "cell_type", "raw");
        count++;
    }
    mp_close (content, mark, count);
}

bool
ipynb_read (mp_t document, buf_t *content, char language [16], const char **error)
{
    mp_t cells = mp_get (document, "cells"), metadata = mp_get (document, "metadata");
    if (mp_int (mp_get (document, "nbformat")) != 4) {
        *error = "nbformat must be 4";
        return false;
    }
    if (mp_type (cells) != MP_ARRAY) {
        *error = "cells must be an array";
        return false;
    }
    text_t name = mp_text (mp_get (mp_get (metadata, "kernelspec"), "language"));
    if (name.size == 0)
        name = mp_text (mp_get (mp_get (metadata, "language_info"), "name"));
    bool r = text_is (name, "R") || text_is (name, "r"),
         known = text_is (name, "sql") || text_is (name, "scala");
    snprintf (language, 16, "%.*s", known ? (int) name.size : 1, known ? name.data : "r");
    if (!known && !r)
        snprintf (language, 16, "python");

    mp_put_map (content, 2);
    mp_put_str (content, "cells");
    mp_put_array (content, (uint32_t) mp_count (cells));
    for (mp_iter_t it = mp_iter (cells); mp_next (&it);) {
        text_t type = mp_text (mp_get (it.value, "cell_type"));
        if (!text_is (type, "code") && !text_is (type, "markdown") && !text_is (type, "raw")) {
            *error = "every cell needs cell_type code, markdown or raw";
            return false;
        }
        read_cell (content, it.value);
    }
    mp_pair (content, "metadata", metadata);
    return true;
}

//  nbformat 4.5: 1 to 64 of A-Z a-z 0-9 - _
static bool
id_fits (text_t id)
{
    for (size_t i = 0; i < id.size; i++) {
        char c = id.data [i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-'
              || c == '_'))
            return false;
    }
    return id.size >= 1 && id.size <= 64;
}

static void
write_cell (mp_t cell, buf_t *document)
{
    text_t type = mp_text (mp_get (cell, "type")), raw = mp_text (mp_get (cell, "cell_type"));
    bool code = text_is (type, "code") || text_is (type, "sql");
    char made [37];
    text_t id = mp_text (mp_get (cell, "id"));
    if (!id_fits (id)) {
        uuid_make (made);
        id = text_of (made);
    }
    size_t mark = mp_open_map (document);
    uint32_t count = 4;
    mp_pair_text (document, "id", id);
    mp_pair_str (document, "cell_type", code ? "code" : text_is (raw, "raw") ? "raw" : "markdown");
    mp_put_str (document, "metadata");
    mp_t metadata = mp_get (cell, "metadata");
    if (mp_type (metadata) == MP_MAP)
        mp_put (document, metadata);
    else
        mp_put_map (document, 0);
    mp_pair_text (document, "source", mp_text (mp_get (cell, "content")));
    if (code) {
        mp_t number = mp_get (cell, "execution_count");
        int64_t ignored;
        mp_pair (document, "execution_count", mp_int_get (number, &ignored) ? number : mp_none);
        mp_put_str (document, "outputs");
        mp_t outputs = mp_get (cell, "outputs");
        text_t output = mp_text (mp_get (cell, "output"));
        if (mp_type (outputs) == MP_ARRAY)
            mp_put (document, outputs);
        else if (output.size > 0) {
            mp_put_array (document, 1);
            mp_put_map (document, 3);
            mp_pair_str (document, "output_type", "stream");
            mp_pair_str (document, "name", "stdout");
            mp_pair_text (document, "text", output);
        }
        else
            mp_put_array (document, 0);
        count += 2;
    }
    else if (!mp_empty (mp_get (cell, "attachments"))) {
        mp_pair (document, "attachments", mp_get (cell, "attachments"));
        count++;
    }
    mp_close (document, mark, count);
}

void
ipynb_write (mp_t content, const char *language, buf_t *document)
{
    mp_t cells = mp_get (content, "cells"), metadata = mp_get (content, "metadata");
    bool r = strcmp (language, "r") == 0, python = strcmp (language, "python") == 0;
    mp_put_map (document, 4);
    mp_pair_int (document, "nbformat", 4);
    mp_pair_int (document, "nbformat_minor", 5);
    mp_put_str (document, "metadata");
    if (mp_type (metadata) == MP_MAP && mp_count (metadata) > 0)
        mp_put (document, metadata);
    else {
        mp_put_map (document, 1);
        mp_put_str (document, "kernelspec");
        mp_put_map (document, 3);
        mp_pair_str (document, "name", r ? "ir" : python ? "python3" : language);
        mp_pair_str (document, "display_name", r ? "R" : python ? "Python 3" : language);
        mp_pair_str (document, "language", r ? "R" : language);
    }
    mp_put_str (document, "cells");
    mp_put_array (document, mp_type (cells) == MP_ARRAY ? (uint32_t) mp_count (cells) : 0);
    if (mp_type (cells) == MP_ARRAY)
        for (mp_iter_t it = mp_iter (cells); mp_next (&it);)
            write_cell (it.value, document);
}

void
notebook_import (req_t *req)
{
    const char *workspace = req_str (req, "workspace_id"), *owner = req_user (req), *error = NULL;
    if (workspace)
        owner = row_str (workspace_of (req, workspace, "workspace_id", true), "user_id");
    char language [16];
    buf_t *content = req_buf (req), *json = req_buf (req);
    if (!ipynb_read (req_body (req), content, language, &error))
        fail (req, E_INVALID, "not a notebook document: %s", error);
    json_write (mp_buf (content), json);
    const char *name = req_str (req, "name");
    unit_t *unit = unit_new (req);
    unit_add (unit, "notebook_import", owner, workspace, name ? name : "Imported notebook",
              language, req_copy (req, buf_text (json)));
    reply_row (req, 201, unit_commit (unit));
}

void
notebook_export (req_t *req)
{
    row_t row = db_row (req, "notebook_export", req_user (req), req_id (req));
    if (row_none (row))
        fail (req, E_NOT_FOUND, "notebook not found");
    char error [160];
    buf_t *content = req_buf (req), *document = req_buf (req);
    if (!json_read (text_of (row_str (row, "content")), content, error, sizeof error))
        fail (req, E_INTERNAL, "stored notebook cannot be read");
    ipynb_write (mp_buf (content), row_str (row, "language"), document);
    const char *name = row_str (row, "name");
    char file [128];
    size_t size = 0;
    for (; *name && size < sizeof file - 1; name++)
        file [size++] = *name > ' ' && *name < 127 && !strchr ("\"\\/;%", *name) ? *name : '_';
    file [size] = 0;
    reply_header (req, "Content-Disposition",
                  req_print (req, "attachment; filename=\"%s.ipynb\"", file));
    reply_mp (req, 200, mp_buf (document));
}
