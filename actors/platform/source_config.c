//  source_config.c -- how to get to a source: declared keys only, secrets apart.

#include <ctype.h>
#include <stdlib.h>

#include "actors/kit/secret.h"
#include "source.h"

#define VALUE_MAX 4096

static int
s_position (const connector_t *kind, text_t name)
{
    for (int n = 0; kind->fields [n].name; n++)
        if (text_is (name, kind->fields [n].name)
            || (kind->fields [n].also && text_is (name, kind->fields [n].also)))
            return n;
    return -1;
}

//  Is it one of "a|b"?
static bool
s_among (const char *values, const char *text)
{
    size_t size = strlen (text);
    for (const char *at = values; at; at = strchr (at, '|')) {
        at += *at == '|';
        if (strncmp (at, text, size) == 0 && (at [size] == '|' || !at [size]))
            return true;
    }
    return false;
}

static const char *
s_value (req_t *req, const char *where, mp_t value)
{
    const char *text;
    int64_t number;
    if (mp_type (value) == MP_TEXT)
        text = req_copy (req, mp_text (value));
    else if (mp_int_get (value, &number))
        text = req_print (req, "%lld", (long long) number);
    else
        fail_field (req, E_INVALID, where, "must be a text or a number");
    if (strlen (text) != mp_text (value).size && mp_type (value) == MP_TEXT)
        fail_field (req, E_INVALID, where, "must not hold a NUL");
    if (strlen (text) > VALUE_MAX)
        fail_field (req, E_INVALID, where, "must have at most %d bytes", VALUE_MAX);
    for (const char *at = text; *at; at++)
        if (iscntrl ((unsigned char) *at))
            fail_field (req, E_INVALID, where, "must not hold control characters");
    return text;
}

static void
s_check (req_t *req, const config_field_t *field, const char *where, const char *text)
{
    if (field->values && !s_among (field->values, text))
        fail_field (req, E_INVALID, where, "must be one of %s", field->values);
    long port = strtol (text, NULL, 10);
    if (field->flags & CONFIG_PORT
        && (strspn (text, "0123456789") != strlen (text) || port < 1 || port > 65535))
        fail_field (req, E_INVALID, where, "must be between 1 and 65535");
    //  Neither lists of hosts nor Unix sockets.
    if (strcmp (field->name, "host") == 0 && (strlen (text) > 253 || strpbrk (text, "/, @\\")))
        fail_field (req, E_INVALID, where, "must be the name or address of one host");
    bool url = strcmp (field->name, "url") == 0 || strcmp (field->name, "endpoint") == 0;
    if (url && strncasecmp (text, "http://", 7) != 0 && strncasecmp (text, "https://", 8) != 0)
        fail_field (req, E_INVALID, where, "must begin with http:// or https://");
    const char *host = url ? strstr (text, "://") + 3 : NULL;
    if (url && memchr (host, '@', strcspn (host, "/?#")))
        fail_field (req, E_INVALID, where, "must not carry a user; there are keys for it");
    //  It becomes part of a host's name.
    if (strcmp (field->name, "region") == 0
        && strspn (text, "abcdefghijklmnopqrstuvwxyz0123456789-") != strlen (text))
        fail_field (req, E_INVALID, where, "must be the name of a region, as us-east-1");
    if (strcmp (field->name, "path") == 0
        && (*text == '/' || strcmp (text, "..") == 0 || strncmp (text, "../", 3) == 0
            || strstr (text, "/../")
            || (strlen (text) > 2 && !strcmp (text + strlen (text) - 3, "/.."))))
        fail_field (req, E_INVALID, where, "must be relative, without ..");
}

void
source_read_config (req_t *req, const connector_t *kind, mp_t map, const char **config)
{
    if (mp_type (map) != MP_MAP || !mp_plain (map))
        fail_field (req, E_INVALID, "connection_config", "must be an object");
    for (mp_iter_t it = mp_iter (map); mp_next (&it);) {
        text_t name = mp_text (it.key);
        const char *where = req_print (req, "connection_config.%.*s",
                                       (int) (name.size < 60 ? name.size : 60), name.data);
        int n = s_position (kind, name);
        if (n < 0)
            fail_field (req, E_INVALID, where, "is no key of %s", kind->name);
        //  A secret comes back as null, or as nothing out of a form: it stays what it was.
        bool nothing =
            mp_empty (it.value) || (mp_type (it.value) == MP_TEXT && !mp_text (it.value).size);
        if (nothing && !(kind->fields [n].flags & CONFIG_SECRET))
            config [n] = NULL;
        if (nothing)
            continue;
        config [n] = s_value (req, where, it.value);
        s_check (req, &kind->fields [n], where, config [n]);
    }
}

static const char *
s_effective (const connector_t *kind, const char *const *config, int n)
{
    const char *value = config [n] ? config [n] : kind->fields [n].def;
    return value ? value : "";
}

const char *
source_text (const source_t *source, const char *name)
{
    int n = s_position (source->kind, text_of (name));
    return n < 0 ? NULL : source->config [n] ? source->config [n] : source->kind->fields [n].def;
}

void
source_change_config (req_t *req, const connector_t *kind, mp_t map, bool whole,
                      const char **config)
{
    const char *was [CONFIG_MAX];
    const char *moved = NULL;
    memcpy (was, config, sizeof was);
    for (int n = 0; whole && kind->fields [n].name; n++)
        if (!(kind->fields [n].flags & CONFIG_SECRET))
            config [n] = NULL;
    source_read_config (req, kind, map, config);
    for (int n = 0; kind->fields [n].name && !moved; n++)
        if (kind->fields [n].flags & CONFIG_ADDRESS
            && strcmp (s_effective (kind, was, n), s_effective (kind, config, n)) != 0)
            moved = kind->fields [n].name;
    //  Who may change a row need not know its secrets, and must not have them sent elsewhere. One
    //  that was given anew is another pointer, even if it is the same text.
    for (int n = 0; moved && kind->fields [n].name; n++)
        if (kind->fields [n].flags & CONFIG_SECRET && config [n] && config [n] == was [n])
            fail_field (req, E_INVALID,
                        req_print (req, "connection_config.%s", kind->fields [n].name),
                        "must be given again when %s changes", moved);
}

void
source_need_config (req_t *req, const connector_t *kind, const char *const *config)
{
    for (int n = 0; kind->fields [n].name; n++)
        if (kind->fields [n].flags & CONFIG_REQUIRED && !config [n])
            fail_field (req, E_INVALID,
                        req_print (req, "connection_config.%s", kind->fields [n].name),
                        "is required");
}

//  As JSON, those with a flag or those without.
static buf_t *
s_json (req_t *req, const connector_t *kind, const char *const *config, bool secret)
{
    buf_t *out = req_buf (req);
    buf_putc (out, '{');
    for (int n = 0; kind->fields [n].name; n++) {
        const config_field_t *field = &kind->fields [n];
        bool hidden = field->flags & CONFIG_SECRET;
        const char *value = config [n] ? config [n] : secret ? NULL : field->def;
        if ((secret && (!hidden || !value)) || (!secret && !hidden && !value))
            continue;
        buf_puts (out, out->size > 1 ? ",\"" : "\"");
        buf_putf (out, "%s\":", field->name);
        if (hidden && !secret)
            buf_puts (out, "null");
        else if (field->flags & CONFIG_PORT)
            buf_puts (out, value);
        else
            json_quote (text_of (value), out);
    }
    buf_putc (out, '}');
    return out;
}

const char *
source_shown (req_t *req, const connector_t *kind, const char *const *config)
{
    return req_copy (req, buf_text (s_json (req, kind, config, false)));
}

static const char *
s_context (req_t *req, const char *user)
{
    return req_print (req, "%s/platform.data_sources/secrets", user);
}

const char *
source_sealed (req_t *req, const char *user, const connector_t *kind, const char *const *config)
{
    buf_t *plain = s_json (req, kind, config, true), *sealed = req_buf (req);
    if (plain->size == 2)
        return NULL;
    secret_seal (req_actor (req), buf_text (plain), s_context (req, user), sealed);
    explicit_bzero (plain->data, plain->size);
    return req_copy (req, buf_text (sealed));
}

static void
s_take (req_t *req, const connector_t *kind, text_t json, const char **config)
{
    buf_t *value = req_buf (req);
    char error [100];
    if (!json_read (json, value, error, sizeof error))
        fail (req, E_INTERNAL, NULL);
    for (mp_iter_t it = mp_iter (mp_buf (value)); mp_next (&it);) {
        int n = s_position (kind, mp_text (it.key));
        if (n >= 0 && !mp_empty (it.value))
            config [n] = s_value (req, kind->fields [n].name, it.value);
    }
}

void
source_unseal (req_t *req, const char *user, const connector_t *kind, row_t row,
               const char **config)
{
    const char *sealed = row_str (row, "secrets");
    buf_t *plain = req_buf (req);
    s_take (req, kind, text_of (row_str (row, "connection_config")), config);
    if (!sealed)
        return;
    if (!secret_open (req_actor (req), text_of (sealed), s_context (req, user), plain))
        fail (req, E_CONFLICT,
              "the secrets of this data source cannot be opened any more: set them again");
    s_take (req, kind, buf_text (plain), config);
    explicit_bzero (plain->data, plain->size);
}
