//  fuzz_wire.c -- any frame is taken apart; what was read can be packed and read again.

#include <assert.h>

#include "proto/wire.h"

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
    text_t frame = { (const char *) data, size };
    mp_t message;
    int number;
    buf_t again = { 0 };
    while ((number = wire_next (&frame, &message)) > 0) {
        assert (wire_name (number));
        switch (number) {
#define MSG(value, NAME, name, doc)                                   \
        case value: {                                                 \
            wire_##name##_t one, two;                                 \
            if (wire_unpack_##name (message, &one)) {                 \
                buf_clear (&again);                                   \
                wire_pack_##name (&again, &one);                      \
                text_t at = buf_text (&again);                        \
                assert (wire_next (&at, &message) == value);          \
                assert (wire_unpack_##name (message, &two));          \
            }                                                         \
            break;                                                    \
        }
#define FIELD(name, type, field)
#define END(name)
#include "proto/wire.def"
        default:
            break;
        }
    }
    buf_free (&again);
    return 0;
}
