//  migrate_file.h -- the files of a directory of migrations, and where in one something went wrong.

#ifndef MIGRATE_FILE_H
#define MIGRATE_FILE_H

#include "../proto/text.h"

typedef struct {
    unsigned number;
    char *name;              //  "0001_base"
    bool up, down;           //  which files are there
} migration_t;

typedef struct {
    char *dir;
    migration_t *all;        //  by number
    size_t count;
} migrations_t;

//  NULL, or what is wrong (static memory): unreadable, or one number used twice.
const char *migrations_read (migrations_t *self, const char *dir);
void migrations_free (migrations_t *self);
//  By name; NULL when there is none.
const migration_t *migrations_find (const migrations_t *self, const char *name);

//  "dir/0001_base.up.sql" into `path`, terminated.
void migration_path (const migrations_t *self, const char *name, const char *way, buf_t *path);
//  The file's text, terminated; false when it cannot be read.
bool migration_text (const char *path, buf_t *text);

//  Line of the character at `position` (from 1, as PostgreSQL counts), and of the statement
//  that begins after `statements` others.
unsigned text_line_at (const char *text, long position);
unsigned text_line_of (const char *text, unsigned statements);

#endif
