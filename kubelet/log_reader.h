// SPDX-License-Identifier: Apache-2.0
// CRI's log files: lines "TIME STREAM TAGS text" (kubelet/pkg/cri/logs). Pure but for the two
// functions that read a file.
#pragma once
#include "base/buf.h"
#include "base/err.h"

struct kl_log_line {
    struct kl_str time, stream, text; // text without the newline
    bool partial;                     // the entry goes on in the next line
};
// One line without its newline. false: malformed.
bool kl_log_parse(struct kl_str line, struct kl_log_line *ret);

struct kl_log_filter {
    int64_t since_us;    // entries before are left out; 0: none
    int64_t limit_bytes; // -1: none; counts down
    bool timestamps;
};
// Appends the readable form of every whole line of `raw`; *ret_used says how much was whole.
// Returns false when the limit is reached.
bool kl_log_format(struct kl_log_filter *f, struct kl_str raw, struct kl_buf *out,
                   size_t *ret_used);
// The offset at which the last `lines` lines of the file begin; blocking.
int kl_log_tail_offset(int fd, int64_t lines, int64_t *ret_offset, struct kl_error *err);
