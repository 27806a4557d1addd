//  signer.h -- signatures of Jupyter messages: HMAC-SHA256 over four frames, and the set of those
//  already seen.

#ifndef KERNELS_SIGNER_H
#define KERNELS_SIGNER_H

#include "proto/text.h"

typedef struct signer signer_t;

enum { FRAME_HEADER, FRAME_PARENT, FRAME_METADATA, FRAME_CONTENT, FRAMES };

#define SIGNATURE_SIZE 64

typedef enum { SIGNATURE_GOOD, SIGNATURE_FORGED, SIGNATURE_REPLAYED } signature_t;

signer_t *signer_new (text_t key);
void signer_destroy (signer_t **self_p);

//  Lower-case hex of the frames' HMAC, and NUL.
void signer_sign (signer_t *self, const text_t frames [FRAMES], char out [SIGNATURE_SIZE + 1]);

//  Compare in constant time, and refuse a signature that was good before (the last 8,192 are
//  known).
signature_t signer_check (signer_t *self, text_t signature, const text_t frames [FRAMES]);

#endif
