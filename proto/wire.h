//  wire.h -- codecs of the bus messages, expanded from wire.def.
//
//  A message is the array [number, field…]; a frame is one or more messages one behind the other.

#ifndef WIRE_H
#define WIRE_H

#include "mp.h"

#define WIRE_VERSION 1
#define WIRE_FRAME_MAX (16 * 1024 * 1024)
#define WIRE_CHUNK_MAX (64 * 1024)

typedef enum {
#define MSG(number, NAME, name, doc) WIRE_##NAME = number,
#define FIELD(name, type, field)
#define END(name)
#include "wire.def"
#undef MSG
#undef FIELD
#undef END
} wire_type_t;

//  Field types in C: borrowed views into the frame (unpack) or into the caller's memory (pack).
typedef text_t wire_STR;
typedef uint64_t wire_U64;
typedef bool wire_BOOL;
typedef text_t wire_BIN;
typedef mp_t wire_ANY;

//  wire_hello_t, wire_call_t, …
#define MSG(number, NAME, name, doc) typedef struct {
#define FIELD(name, type, field) wire_##type field;
#define END(name) } wire_##name##_t;
#include "wire.def"
#undef MSG
#undef FIELD
#undef END

//  Append a message to a frame:    void wire_pack_call (buf_t *frame, const wire_call_t *msg);
//  Read a scanned message of that type:  bool wire_unpack_call (mp_t message, wire_call_t *msg);
//  (false: a field has the wrong type; missing fields are empty, extra fields ignored)
#define MSG(number, NAME, name, doc)                                   \
    void wire_pack_##name (buf_t *frame, const wire_##name##_t *msg);  \
    bool wire_unpack_##name (mp_t message, wire_##name##_t *msg);
#define FIELD(name, type, field)
#define END(name)
#include "wire.def"
#undef MSG
#undef FIELD
#undef END

//  Take the next message off a received frame, scanning it: `frame` advances. Returns its number;
//  0 at the end of the frame, -1 when the rest is malformed (drop the rest and count it).
int wire_next (text_t *frame, mp_t *message);

const char *wire_name (int number);               //  "CALL"; "?" when unknown

#endif
