// SPDX-License-Identifier: Apache-2.0
// What the files of the cache share.
#pragma once
#include "object/custom.h"
#include "watchcache/cache.h"

#define MAX_OBJECT_BYTES ((size_t)64 << 20)

int kl_cache_set_rv(struct kl_arena *a, struct kl_value *root, kl_rev rev, char text[24]);
// Opens a value that is stored sealed: *data becomes the plain form, which *ret_plain holds.
int kl_cache_open_sealed(const struct kl_kv *kv, const struct kl_resource *res, struct kl_str *data,
                         struct kl_bytes **ret_plain, struct kl_error *err);
// Takes over the references until control returns to the loop; false: there is no loop or memory.
bool kl_cache_lend(struct kl_object *o, struct kl_bytes *b);

// ---- forms.c: versions of custom objects. kl_cache_object and its like for rows with `custom`.
struct kl_object *kl_forms_object(struct kl_kv *kv, const struct kl_resource *res,
                                  struct kl_error *err);
struct kl_bytes *kl_forms_json(struct kl_kv *kv, const struct kl_resource *res,
                               struct kl_error *err);
bool kl_forms_ready(struct kl_kv *kv, const struct kl_resource *res);
struct kl_object *kl_forms_as_stored(struct kl_kv *kv, const struct kl_resource *res,
                                     const struct kl_resource **ret_row, struct kl_error *err);
bool kl_forms_have(const struct kl_kv *kv, const struct kl_resource *res);
void kl_forms_attach(struct kl_kv *kv, struct kl_object *o); // takes the reference over
struct kl_bytes *kl_forms_encode_stored(const struct kl_resource *from, const struct kl_object *o);
