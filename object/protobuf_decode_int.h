// SPDX-License-Identifier: Apache-2.0
// What the files of the decoder share.
#pragma once
#include "object/protobuf_read_int.h"
#include "object/value.h"

struct kl_pb_decoder {
    struct kl_arena *arena;
    struct kl_error *err;
    bool trusted;
    int depth;
};

int kl_pb_no_memory(struct kl_pb_decoder *d);
// The last part of a definition's name, as upstream's errors have it.
const char *kl_pb_type_name(const struct kl_type *t);

// The messages that are one value here: quantities, times, int-or-string, embedded JSON ...
int kl_pb_read_special(struct kl_pb_decoder *d, const struct kl_type *t, struct kl_str data,
                       struct kl_value *io);
// Sorts a map by key; of equal keys the last stays.
int kl_pb_sort_map(struct kl_pb_decoder *d, struct kl_value *map);
