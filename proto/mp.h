//  mp.h -- MessagePack: pre-scan, reader without allocation, builder.
//
//  Bytes from outside are scanned once (mp_valid) and then read in place. Readers trust the scan:
//  never hand them bytes that were not scanned or built here.

#ifndef MP_H
#define MP_H

#include "text.h"

#define MP_DEPTH 64          //  nesting accepted anywhere
#define MP_EXT_JSON 1        //  "ready JSON": UTF-8 text of one value, made by PostgreSQL or us

typedef enum {
    MP_NONE, MP_NIL, MP_BOOL, MP_INT, MP_REAL, MP_TEXT, MP_BIN, MP_ARRAY, MP_MAP, MP_EXT
} mp_type_t;

//  One value inside scanned bytes; borrowed. MP_NONE (data NULL) is "absent".
typedef struct {
    const uint8_t *data;
    const uint8_t *end;      //  end of this value
} mp_t;

//  Is there one whole, well-formed value at the start of `data`: sizes that fit, nesting at most
//  `depth`, map keys text and without duplicates not checked, text valid UTF-8? Returns its size,
//  0 if not.
size_t mp_valid (const void *data, size_t size, unsigned depth);

//  View of exactly one scanned value of `size` bytes.
mp_t mp_of (const void *data, size_t size);
static const mp_t mp_none = { NULL, NULL };

//  The head of the value at `at`, for code that walks bytes in one pass: `data` is where its
//  payload starts (entries of a container, type byte of an ext), `size` the bytes of the payload
//  of anything but a container, `count` the entries of a container. False when head or payload do
//  not fit before `end`.
typedef struct {
    mp_type_t type;
    const uint8_t *data;
    size_t size, count;
} mp_head_t;
bool mp_head (const uint8_t *at, const uint8_t *end, mp_head_t *head);

//  Is there no ext anywhere in it? Ready JSON from outside would be spliced unread: refuse it.
bool mp_plain (mp_t value);

mp_type_t mp_type (mp_t value);
static inline bool mp_is_none (mp_t v) { return v.data == NULL; }
//  Absent or nil.
bool mp_empty (mp_t value);

//  Readers answer 0 / false / empty for another type; the _get forms say whether it fitted.
bool mp_int_get (mp_t value, int64_t *out);       //  refuses unsigned beyond INT64_MAX
bool mp_uint_get (mp_t value, uint64_t *out);     //  refuses negative
bool mp_real_get (mp_t value, double *out);       //  takes integers too
int64_t mp_int (mp_t value);
uint64_t mp_uint (mp_t value);
double mp_real (mp_t value);
bool mp_bool (mp_t value);
text_t mp_text (mp_t value);                      //  text or bin
text_t mp_ext (mp_t value, int8_t *type);         //  payload
size_t mp_count (mp_t value);                     //  entries of an array or map

//  Entry of a map by name (first one wins), of an array by position; mp_none when absent.
mp_t mp_get (mp_t map, const char *name);
mp_t mp_at (mp_t array, size_t position);

//  Walk an array or map:  for (mp_iter_t it = mp_iter (v); mp_next (&it);) … it.key, it.value
typedef struct {
    mp_t key, value;         //  key is mp_none in arrays
    const uint8_t *at, *end;
    size_t left;
    bool map;
} mp_iter_t;
mp_iter_t mp_iter (mp_t value);
bool mp_next (mp_iter_t *it);

//  Builder: appends to a buf_t.
void mp_put_nil (buf_t *buf);
void mp_put_bool (buf_t *buf, bool value);
void mp_put_int (buf_t *buf, int64_t value);
void mp_put_uint (buf_t *buf, uint64_t value);
void mp_put_real (buf_t *buf, double value);
void mp_put_text (buf_t *buf, text_t value);
void mp_put_str (buf_t *buf, const char *value);  //  NULL becomes nil
void mp_put_bin (buf_t *buf, const void *data, size_t size);
void mp_put_ext (buf_t *buf, int8_t type, const void *data, size_t size);
void mp_put_array (buf_t *buf, uint32_t count);
void mp_put_map (buf_t *buf, uint32_t count);
void mp_put (buf_t *buf, mp_t value);             //  a copy; absent becomes nil

//  A map or array whose count is known only at the end:
//      size_t mark = mp_open_map (buf);  … pairs …  mp_close (buf, mark, pairs);
size_t mp_open_map (buf_t *buf);
size_t mp_open_array (buf_t *buf);
void mp_close (buf_t *buf, size_t mark, uint32_t count);

//  Pairs of a map under construction.
void mp_pair_str (buf_t *buf, const char *name, const char *value);
void mp_pair_text (buf_t *buf, const char *name, text_t value);
void mp_pair_int (buf_t *buf, const char *name, int64_t value);
void mp_pair_bool (buf_t *buf, const char *name, bool value);
void mp_pair (buf_t *buf, const char *name, mp_t value);

static inline mp_t mp_buf (const buf_t *buf) { return mp_of (buf->data, buf->size); }

#endif
