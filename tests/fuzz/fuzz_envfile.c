//  fuzz_envfile.c -- lines of `.env`: any text is read, and a quoted value comes back as it was.

#include <assert.h>

//  The reader of lines is the file's own.
#include "proto/opt.c"
#include "tests/fuzz/part.h"

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size);

static void
lines_are_read (text_t rest)
{
    hash_t *values = hash_new (free);
    while (rest.size)
        s_env_line (values, part_take (&rest, '\n'));
    text_t name;
    void *value;
    for (size_t at = 0; hash_each (values, &at, &name, &value);) {
        int64_t number;
        assert (!memchr (name.data ? name.data : "", '=', name.size));
        s_int_of (value, &number);
        s_bool_of (value);
    }
    hash_destroy (&values);
}

static void
quoted_comes_back (text_t value)
{
    hash_t *values = hash_new (free);
    buf_t line = { 0 };
    buf_puts (&line, " export NAME = \"");
    for (size_t i = 0; i < value.size; i++) {
        char c = value.data [i];
        if (c == '"' || c == '\\' || c == '\n' || c == '\t' || c == '$')
            buf_putc (&line, '\\');
        buf_putc (&line, c == '\n' ? 'n' : c == '\t' ? 't' : c);
    }
    buf_puts (&line, "\"  # not of it\r");
    s_env_line (values, buf_text (&line));
    const char *read = hash_get (values, TEXT ("NAME"));
    assert (read && text_is (value, read));
    buf_free (&line);
    hash_destroy (&values);
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
    text_t input = { (const char *) data, size };
    lines_are_read (input);
    quoted_comes_back ((text_t) { input.data, size ? strnlen (input.data, size) : 0 });
    return 0;
}
