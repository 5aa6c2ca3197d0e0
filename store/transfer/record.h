// SPDX-License-Identifier: Apache-2.0
// What travels when a store is copied: a header, rows, leases, an end. The same records go through
// the admin socket and stand in snapshot files, so the encoding has a version (in the header).
//
// A record on the wire: one byte of kind, the payload's length, the payload. Numbers are unsigned
// LEB128, those that may be negative zigzag; strings have their length before them.
#pragma once
#include "store/kv.h"
#include "base/buf.h"
#include "base/err.h"

enum {
    KL_RECORD_VERSION = 1,
    KL_RECORD_MAX = 16 << 20, // bytes of one payload
};

enum kl_record_kind {
    KL_RECORD_HEADER = 'H', // first, once
    KL_RECORD_ROW = 'R',    // ascending by id
    KL_RECORD_LEASE = 'L',
    KL_RECORD_MARK = 'M', // every row up to `rev` was sent; the store is at `head`
    KL_RECORD_END = 'E',  // last: nothing is missing
    KL_RECORD_FAIL = 'F', // last: why not
};

struct kl_record_header {
    int64_t version;
    char backend[16];
    uint64_t cluster_id;
    kl_rev rev, compact_rev;
    int64_t wall_ms; // when
    int64_t keys;    // rows that will come, before what changes meanwhile
};

struct kl_record_row {
    kl_rev id, mod_rev, create_rev;
    int64_t version, lease;
    kl_rev prev_id, prev_create; // 0: not known, or none
    bool deleted;
    struct kl_str key, value;
};

struct kl_record_lease {
    int64_t id, ttl_ms, remaining_ms;
};

struct kl_record_mark {
    kl_rev rev, head;
};

struct kl_record_end {
    kl_rev rev;
    int64_t rows;
};

struct kl_record_fail {
    int64_t code;
    struct kl_str text;
};

struct kl_record {
    enum kl_record_kind kind;
    union {
        struct kl_record_header header;
        struct kl_record_row row;
        struct kl_record_lease lease;
        struct kl_record_mark mark;
        struct kl_record_end end;
        struct kl_record_fail fail;
    };
};

// Appends. KL_ELIMIT, KL_ENOMEM: the buffer's.
int kl_record_encode(struct kl_buf *b, const struct kl_record *r);
// Takes one record off the front of `in`; strings are borrowed from it. KL_EAGAIN: not all of it is
// there (*in is as before); KL_ECORRUPT: it is none; KL_EUNSUPPORTED: a newer version.
int kl_record_decode(struct kl_str *in, struct kl_record *ret, struct kl_error *err);
// Code and text of a FAIL record as an error.
int kl_record_error(const struct kl_record *r, struct kl_error *err);
