//  resource_live.c -- the live events of a row that was written: what a list would show of it, on
//  the owner's channel and on those that the row is shared on.

#include "kit.h"

typedef struct {
    const plan_t *plan;
    size_t column;
} filter_t;

static const char *
s_told (void *arg, const char *column)
{
    filter_t *filter = arg;
    return plan_tells (filter->plan, filter->column++) ? column : NULL;
}

static mp_t
s_data (req_t *req, const plan_t *plan, row_t row)
{
    buf_t *data = &req->kit->body;
    filter_t filter = { plan, 0 };
    buf_clear (data);
    db_row_put (data, row.result, row.row, s_told, &filter);
    return req_keep_mp (req, mp_buf (data));
}

//  Of what is gone nothing is told but which it was.
static mp_t
s_data_gone (req_t *req, row_t row)
{
    buf_t *data = &req->kit->body;
    buf_clear (data);
    mp_put_map (data, 1);
    mp_pair_str (data, "id", row_str (row, "id"));
    return req_keep_mp (req, mp_buf (data));
}

void
resource_events (req_t *req, const plan_t *plan, const char *what, row_t row,
                 void (*fn) (void *arg, const live_event_t *event), void *arg)
{
    const char *owner = req_print (req, "user:%s/%s", row_str (row, "_owner"), plan_channel (plan));
    const char *also = row_str (row, "_also");
    live_event_t event = {
        .ch = text_of (owner), .key = text_of (row_str (row, "id")),
        .type = text_of (req_print (req, "%s.%s", plan_resource (plan)->name, what)),
        .data = strcmp (what, "deleted") == 0 ? s_data_gone (req, row)
                                              : s_data (req, plan, row) };
    fn (arg, &event);
    if (!also || *also++ != '{')
        return;
    buf_t *item = req_buf (req);
    for (bool quoted; *also && *also != '}'; also += *also == ',') {
        also = db_array_next (also, item, &quoted);
        if (!also)
            break;
        if (!quoted && text_is (buf_text (item), "NULL"))
            continue;
        event.ch = text_of (req_copy (req, buf_text (item)));
        if (!text_is (event.ch, owner))
            fn (arg, &event);
    }
}
