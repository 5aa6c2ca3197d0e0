// SPDX-License-Identifier: Apache-2.0
// CRI messages as C structs (generated from cri.json) and their protobuf encoding, by field tables.
// Repeated fields are an array `x` and a count `n_x`; messages are pointers, NULL when absent.
#pragma once
#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include <stdint.h>

enum kl_cri_kind {
    KL_CRI_STRING,
    KL_CRI_BOOL,
    KL_CRI_INT32, // and enums
    KL_CRI_UINT32,
    KL_CRI_INT64, // and uint64
    KL_CRI_MESSAGE,
    KL_CRI_MAP, // map<string,string>
};
#define KL_CRI_REPEATED 1

struct kl_cri_desc;
struct kl_cri_field {
    uint16_t n; // wire number, rising
    uint8_t kind, flags;
    uint16_t offset, count_offset;
    uint16_t size; // of one element
    const struct kl_cri_desc *sub;
};
struct kl_cri_desc {
    const char *name;
    const struct kl_cri_field *fields;
    uint16_t nfields;
    uint16_t size; // of the struct
};
struct kl_cri_method_desc {
    const char *path; // "/runtime.v1.RuntimeService/Version"
    const struct kl_cri_desc *in, *out;
};
extern const struct kl_cri_method_desc kl_cri_methods[];

#include "kubelet/cri_gen.h"

// Appends the message; zero scalars and NULL messages are left out, as proto3 does.
void kl_cri_encode(struct kl_buf *out, const struct kl_cri_desc *d, const void *msg);
// Decodes into a new struct in the arena; strings refer to `data`. Unknown fields are skipped.
// KL_EPROTO on malformed input, KL_ENOMEM when the arena's bound is reached.
int kl_cri_decode(struct kl_arena *a, const struct kl_cri_desc *d, struct kl_str data,
                  void **ret_msg, struct kl_error *err);
// Value of a key, or p NULL.
struct kl_str kl_cri_map_get(const struct kl_cri_kv *kv, size_t n, struct kl_str key);
