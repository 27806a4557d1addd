//  lenient.h -- JSON as kernels write it: what our parser refuses for good reasons is replaced, not
//  lost.

#ifndef KERNELS_LENIENT_H
#define KERNELS_LENIENT_H

#include "proto/mp.h"

//  Append the value as MessagePack like json_read. When that refuses: NUL and lone surrogates in
//  texts and invalid UTF-8 become U+FFFD, NaN and infinities null (a cell may print and display
//  them), and it is tried once more.
bool lenient_read (text_t json, buf_t *out);

#endif
