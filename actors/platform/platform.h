//  platform.h -- what the files of the platform actor share.

#ifndef PLATFORM_H
#define PLATFORM_H

#include "actors/kit/actor.h"

#define LANGUAGES "python|sql|scala|r"
//  Bytes of a notebook: of 16 MiB, which a bus frame holds, what its other fields leave.
#define CONTENT_MAX (16 * 1024 * 1024 - 65536)

//  Row {id, user_id, role} of a workspace the caller may see; 404 on `field` (NULL: on :id) else.
//  `write` wants owner or editor (403).
CO row_t workspace_of (req_t *req, const char *id, const char *field, bool write);
//  Row {id, user_id, workspace_id, language, role, audience, cell_content …} of a notebook,
//  likewise.
CO row_t notebook_of (req_t *req, const char *id, const char *cell, bool write);

//  execute.c
CO void notebook_execute (req_t *req);
CO void notebook_execute_named (req_t *req);
//  members.c
CO void members_list (req_t *req);
CO void members_put (req_t *req);
CO void members_delete (req_t *req);
//  ipynb.c
CO void notebook_import (req_t *req);
CO void notebook_export (req_t *req);
//  Notebook Format 4 into our content and back.
bool ipynb_read (mp_t document, buf_t *content, char language [16], const char **error);
void ipynb_write (mp_t content, const char *language, buf_t *document);

#endif
