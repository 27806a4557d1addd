//  static.c -- `GET /` and the page under /app/. Files are small and read whole; a path that is no
//  file gets the page itself, so that deep links work.

#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <strings.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "edge/edge.h"

#define FILE_MAX (16 * 1024 * 1024)

static const struct {
    const char *suffix, *type;
} s_types [] = {
    { ".html", "text/html; charset=utf-8" }, { ".js", "text/javascript; charset=utf-8" },
    { ".mjs", "text/javascript; charset=utf-8" }, { ".css", "text/css; charset=utf-8" },
    { ".json", "application/json" }, { ".svg", "image/svg+xml" }, { ".png", "image/png" },
    { ".ico", "image/x-icon" }, { ".woff2", "font/woff2" }, { ".txt", "text/plain; charset=utf-8" },
    { ".map", "application/json" }, { ".webp", "image/webp" }
};

static const char s_page [] =
    "<!doctype html><meta charset=utf-8><meta name=viewport content='width=device-width'>"
    "<title>Busbar</title><style>body{font:16px/1.5 system-ui;max-width:40em;margin:4em auto;"
    "padding:0 1em}</style><h1>Busbar</h1><p>The service is running. The dashboard is not "
    "installed here.</p><ul><li><a href='/docs'>API documentation</a>"
    "<li><a href='/openapi.json'>OpenAPI</a><li><a href='/health'>Health</a></ul>";

static const char *
type_of (const char *path)
{
    size_t size = strlen (path);
    for (size_t i = 0; i < sizeof s_types / sizeof *s_types; i++) {
        size_t length = strlen (s_types [i].suffix);
        if (size > length && strcasecmp (path + size - length, s_types [i].suffix) == 0)
            return s_types [i].type;
    }
    return "application/octet-stream";
}

//  Whole content of a regular file beneath the directory; the kernel refuses every way out of it.
static bool
file_read (const char *directory, const char *path, buf_t *out)
{
    int at = open (directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (at < 0)
        return false;
    struct open_how how = { .flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK,
                            .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS };
    int fd = (int) syscall (SYS_openat2, at, path, &how, sizeof how);
    close (at);
    if (fd < 0)
        return false;
    struct stat info;
    bool good = fstat (fd, &info) == 0 && S_ISREG (info.st_mode) && info.st_size <= FILE_MAX;
    if (good) {
        size_t room = (size_t) info.st_size;
        uint8_t *to = buf_room (out, room + 1);
        ssize_t size = read (fd, to, room);
        good = size == (ssize_t) room;
        out->size += good ? room : 0;
    }
    close (fd);
    return good;
}

static void
page_guard (request_t *req)
{
    reply_header (req, "Content-Security-Policy",
                  TEXT ("default-src 'self'; img-src 'self' data:; "
                        "style-src 'self' 'unsafe-inline'; script-src 'self' 'unsafe-inline'; "
                        "connect-src 'self' ws: wss:; "
                        "frame-ancestors 'none'"));
    reply_header (req, "X-Frame-Options", TEXT ("DENY"));
    reply_header (req, "Referrer-Policy", TEXT ("no-referrer"));
}

void
static_serve (request_t *req)
{
    const char *directory = opt_str (req->edge->options, "app-dir");
    text_t path = buf_text (&req->path);
    if (path.size <= 4) {
        reply_header (req, "Location", TEXT ("/app/"));
        reply_bytes (req, 302, NULL, TEXT (""));
        return;
    }
    char name [1024];
    snprintf (name, sizeof name, "%.*s", (int) (path.size - 5), path.data + 5);
    buf_t file = { 0 };
    bool asset = strncmp (name, "assets/", 7) == 0;
    bool found = *name && directory && file_read (directory, name, &file);
    if (!found && asset) {
        request_refuse (req, E_NOT_FOUND, "no such file");
        return;
    }
    if (!found) {
        snprintf (name, sizeof name, "index.html");
        found = directory && file_read (directory, name, &file);
    }
    page_guard (req);
    //  Built assets carry a hash in their name.
    if (asset)
        reply_header (req, "Cache-Control", TEXT ("public, max-age=31536000, immutable"));
    reply_bytes (req, 200, type_of (name), found ? buf_text (&file) : TEXT (s_page));
    buf_free (&file);
}

void
root_serve (request_t *req)
{
    if (accepts_html (req->accept)) {
        reply_header (req, "Location", TEXT ("/app/"));
        reply_header (req, "Vary", TEXT ("Accept"));
        reply_bytes (req, 302, NULL, TEXT (""));
        return;
    }
    reply_header (req, "Vary", TEXT ("Accept"));
    reply_json (req, 200, TEXT ("{\"message\":\"Welcome to the Busbar API\",\"name\":\"busbar\","
                                "\"version\":\"" EDGE_VERSION "\",\"status\":\"running\","
                                "\"docs\":\"/docs\",\"openapi\":\"/openapi.json\","
                                "\"health\":\"/health\"}"));
}
