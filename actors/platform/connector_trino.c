//  connector_trino.c -- a Trino coordinator as a data source: is it there, and does it run
//  statements?

#include <stdio.h>
#include <stdlib.h>

#include "connector.h"
#include "proto/json.h"

#define PAGES_MAX 500

static const config_field_t s_fields [] = {
    { "host", NULL, CONFIG_REQUIRED | CONFIG_ADDRESS },
    { "port", NULL, CONFIG_PORT | CONFIG_ADDRESS, NULL, "8080" },
    { "database", "catalog", 0 },
    { "user", "username", CONFIG_REQUIRED | CONFIG_ADDRESS },
    { "password", NULL, CONFIG_SECRET },
    { "sslmode", NULL, CONFIG_ADDRESS, "disable|require", "disable" },
    { 0 } };

static int
s_ask (contact_t *self, const char *url, const char *sql, buf_t *answer, buf_t *value)
{
    char user [300], type [80], error [100], *password = (char *) contact_text (self, "password");
    snprintf (user, sizeof user, "X-Trino-User: %s", contact_text (self, "user"));
    web_ask_t ask = { .url = url, .body = text_of (sql),
                  .headers = (const char *const []) { user, "X-Trino-Source: busbar", NULL },
                  .user = password ? contact_text (self, "user") : NULL, .password = password };
    int status = 503;
    buf_clear (answer);
    buf_clear (value);
    //  503 is how it says: the same again.
    for (int n = 0; n < 5 && status == 503; n++)
        status = web_ask (self, &ask, answer, type);
    if (status && status < 300 && !json_read (buf_text (answer), value, error, sizeof error))
        contact_fail (self, "", "the server does not answer as Trino does");
    return status;
}

//  SELECT 1, page by page to its end.
static bool
s_select (contact_t *self, const char *base, buf_t *answer, buf_t *value)
{
    char *url = text_format ("%s/v1/statement", base);
    const char *sql = "SELECT 1";
    bool over = false;
    for (int page = 0; !over && page < PAGES_MAX && contact_left (self); page++) {
        int status = s_ask (self, url, sql, answer, value);
        free (url);
        sql = NULL;
        if (status != 200 || !value->size) {
            if (!*self->error)
                contact_fail (self, "", "the server answers %d", status);
            return false;
        }
        mp_t error = mp_get (mp_of (value->data, value->size), "error");
        text_t text = mp_text (mp_get (error, "message"));
        if (!mp_empty (error))
            return contact_fail (self, "", "%.*s", (int) text.size, text.data);
        text_t next = mp_text (mp_get (mp_of (value->data, value->size), "nextUri"));
        over = next.size == 0;
        url = text_copy (next);
    }
    free (url);
    return over || contact_fail (self, "", "took too long");
}

static bool
s_open (contact_t *self)
{
    buf_t answer = { 0 }, value = { 0 };
    bool https = strcmp (contact_text (self, "sslmode"), "require") == 0;
    bool six = self->family != 0 && strchr (contact_text (self, "host"), ':');
    char *base = text_format ("http%s://%s%s%s:%s", https ? "s" : "", six ? "[" : "",
                              contact_text (self, "host"), six ? "]" : "", self->port);
    char *info = text_format ("%s/v1/info", base);
    if (contact_text (self, "password") && !https) {
        free (info);
        free (base);
        return contact_step_bad (self, "auth", "a password is only sent with sslmode require");
    }
    int status = s_ask (self, info, NULL, &answer, &value);
    web_ask_t ask = { .url = base };
    bool good = web_steps (self, &ask, status);
    if (good && mp_is_none (mp_get (mp_of (value.data, value.size), "nodeVersion")))
        good = contact_step_bad (self, "auth", "the server does not answer as Trino does");
    if (good) {
        good = s_select (self, base, &answer, &value);
        if (good)
            contact_step_good (self, "query", "SELECT 1");
        else
            contact_step_bad (self, "query", "%s", self->error);
    }
    free (info);
    free (base);
    buf_free (&answer);
    buf_free (&value);
    return good;
}

static void
s_close (contact_t *self)
{
    (void) self;
}

const connector_t connector_trino = { .name = "trino", .fields = s_fields, .open = s_open,
                                      .close = s_close };
