//  wire.c -- codecs of the bus messages, expanded from wire.def.

#include "proto/wire.h"

//  Entries of each message's array: its number and its fields.
enum {
#define MSG(number, NAME, name, doc) SIZE_##name = 1
#define FIELD(name, type, field) +1
#define END(name) ,
#include "wire.def"
#undef MSG
#undef FIELD
#undef END
};

static inline void
put_STR (buf_t *frame, text_t value)
{
    mp_put_text (frame, value);
}

static inline void
put_U64 (buf_t *frame, uint64_t value)
{
    mp_put_uint (frame, value);
}

static inline void
put_BOOL (buf_t *frame, bool value)
{
    mp_put_bool (frame, value);
}

static inline void
put_BIN (buf_t *frame, text_t value)
{
    mp_put_bin (frame, value.data, value.size);
}

static inline void
put_ANY (buf_t *frame, mp_t value)
{
    mp_put (frame, value);
}

//  Readers: false when the value has another type. Nil is as good as absent, so that a sender in
//  any language may say "nothing" in its own way.

static inline bool
get_STR (mp_t value, text_t *out)
{
    mp_type_t type = mp_type (value);
    if (type == MP_TEXT)
        *out = mp_text (value);
    return type == MP_TEXT || type == MP_NIL;
}

static inline bool
get_U64 (mp_t value, uint64_t *out)
{
    return mp_uint_get (value, out) || mp_type (value) == MP_NIL;
}

static inline bool
get_BOOL (mp_t value, bool *out)
{
    mp_type_t type = mp_type (value);
    if (type == MP_BOOL)
        *out = mp_bool (value);
    return type == MP_BOOL || type == MP_NIL;
}

static inline bool
get_BIN (mp_t value, text_t *out)
{
    mp_type_t type = mp_type (value);
    if (type == MP_BIN || type == MP_TEXT)
        *out = mp_text (value);
    return type == MP_BIN || type == MP_TEXT || type == MP_NIL;
}

static inline bool
get_ANY (mp_t value, mp_t *out)
{
    *out = value;
    return true;
}

#define MSG(number, NAME, name, doc)                                  \
    void                                                              \
    wire_pack_##name (buf_t *frame, const wire_##name##_t *msg)       \
    {                                                                 \
        mp_put_array (frame, SIZE_##name);                            \
        mp_put_uint (frame, number);
#define FIELD(name, type, field) put_##type (frame, msg->field);
#define END(name) }
#include "wire.def"
#undef MSG
#undef FIELD
#undef END

#define MSG(number, NAME, name, doc)                                  \
    bool                                                              \
    wire_unpack_##name (mp_t message, wire_##name##_t *msg)           \
    {                                                                 \
        *msg = (wire_##name##_t) { 0 };                               \
        mp_iter_t it = mp_iter (message);                             \
        if (!mp_next (&it))                                           \
            return false;
#define FIELD(name, type, field)                                      \
        if (!mp_next (&it))                                           \
            return true;                                              \
        if (!get_##type (it.value, &msg->field))                      \
            return false;
#define END(name)                                                     \
        return true;                                                  \
    }
#include "wire.def"
#undef MSG
#undef FIELD
#undef END

int
wire_next (text_t *frame, mp_t *message)
{
    *message = mp_none;
    if (frame->size == 0)
        return 0;
    size_t size = mp_valid (frame->data, frame->size, MP_DEPTH);
    if (size == 0)
        return -1;
    mp_t value = mp_of (frame->data, size);
    uint64_t number;
    if (mp_type (value) != MP_ARRAY || !mp_uint_get (mp_at (value, 0), &number)
        || number == 0 || number > INT32_MAX)
        return -1;
    frame->data += size;
    frame->size -= size;
    *message = value;
    return (int) number;
}

const char *
wire_name (int number)
{
    switch (number) {
#define MSG(value, NAME, name, doc) case value: return #NAME;
#define FIELD(name, type, field)
#define END(name)
#include "wire.def"
#undef MSG
#undef FIELD
#undef END
    default:
        return "?";
    }
}
