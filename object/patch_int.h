// SPDX-License-Identifier: Apache-2.0
// A map that a patch changes: a private copy of one level, whose values stay shared.
#pragma once
#include "object/patch.h"

struct kl_patch_map {
    struct kl_value *items; // key, value pairs; room for cap of them
    uint32_t nhead;         // pairs of the original, sorted when there are many
    uint32_t n, cap;
};

// Copies one level of src (NULL: empty) with room for `extra` more members.
int kl_patch_map_open(struct kl_arena *a, const struct kl_value *src, size_t extra,
                      struct kl_patch_map *ret);
// The value under a key, to be overwritten in place, or NULL. Members put since opening are only
// found with `also_new`.
struct kl_value *kl_patch_map_find(struct kl_patch_map *m, struct kl_str key, bool also_new);
// Adds a member that is not there yet.
void kl_patch_map_put(struct kl_patch_map *m, const struct kl_value *key, struct kl_value value);
// Takes out the member that find gave.
void kl_patch_map_drop(struct kl_value *found);
bool kl_patch_map_dropped(const struct kl_value *key);
struct kl_value kl_patch_map_close(struct kl_patch_map *m);

int kl_patch_no_memory(struct kl_error *err);
