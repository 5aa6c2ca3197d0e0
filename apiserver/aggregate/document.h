// SPDX-License-Identifier: Apache-2.0
// The OpenAPI version 2 document of an aggregated server, cut down to what its group and version
// need, packed: what is kept of one between two questions, and read piece by piece when documents
// are merged (apiserver/openapi/merge.c). Immutable and counted, for all loops.
#pragma once
#include "base/buf.h"
#include "base/bytes.h"
#include "object/value.h"

enum kl_remote_part {
    KL_REMOTE_PATHS,
    KL_REMOTE_DEFINITIONS,
    KL_REMOTE_PARAMETERS,
    KL_REMOTE_NPARTS
};
enum { KL_REMOTE_SUM = 16, KL_REMOTE_MAX_BYTES = 8 << 20, KL_REMOTE_MAX_DEPTH = 128 };

// A definition or parameter: equal sums, equal meaning (but for the kinds it is registered as).
struct kl_remote_name {
    struct kl_str name;
    struct kl_str kinds; // x-kubernetes-group-version-kind as JSON text; empty: it has none
    unsigned char sum[KL_REMOTE_SUM];
};

struct kl_remote_doc {
    atomic_uint refs;
    uint64_t stamp;        // of the text that it was made from
    char *group, *version; // of its paths
    struct kl_bytes *packed[KL_REMOTE_NPARTS];
    struct kl_remote_name *names[KL_REMOTE_NPARTS]; // by name; of paths none
    size_t n[KL_REMOTE_NPARTS];
    struct kl_arena arena; // of the names
    size_t bytes;          // that all this takes
};

// Any thread. KL_EINVALID: it is no such document, nested too deep or too large.
int kl_remote_doc_new(struct kl_str json, const char *group, const char *version,
                      struct kl_remote_doc **ret, struct kl_error *err);
struct kl_remote_doc *kl_remote_doc_ref(struct kl_remote_doc *d);
void kl_remote_doc_unref(struct kl_remote_doc *d); // accepts NULL
// What the text of a document would get as its stamp.
uint64_t kl_remote_stamp(struct kl_str json);
const struct kl_remote_name *kl_remote_find(const struct kl_remote_doc *d, enum kl_remote_part part,
                                            struct kl_str name);

// The sum of a definition or parameter; order of members does not matter. False: no memory, or
// nested too deep.
bool kl_remote_sum(const struct kl_value *v, unsigned char ret[KL_REMOTE_SUM]);

// Nested deeper than KL_REMOTE_MAX_DEPTH; depth of the first call: 0.
bool kl_remote_is_too_deep(const struct kl_value *v, int depth);

// ---- packed.c: members of an object, deflated; they are read one after the other.
// Appends a name with the value behind it to what is to be packed.
void kl_packed_put(struct kl_buf *plain, const struct kl_value *key);
// The same of JSON text.
void kl_packed_put_text(struct kl_buf *plain, struct kl_str name, struct kl_str value);
// Packs what was put; empties the buffer.
int kl_packed_close(struct kl_buf *plain, struct kl_bytes **ret);
// From the beginning; a reader holds some 50 KB and the piece it is at, and a reference. NULL: no
// memory.
struct kl_packed_reader;
struct kl_packed_reader *kl_packed_reader_new(struct kl_bytes *packed);
// The next member: its name and its value as JSON, both good until the next call. 1: there is one,
// 0: that was all, negative: failed.
int kl_packed_reader_next(struct kl_packed_reader *r, struct kl_str *name, struct kl_str *value);
void kl_packed_reader_free(struct kl_packed_reader *r); // accepts NULL
