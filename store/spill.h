// SPDX-License-Identifier: Apache-2.0
// The value file: values that memory has no room for (evict.c). A file without a name, so that it
// goes with the process, mapped for reading: a value in it is a struct kl_bytes like any other and
// costs memory only while the kernel keeps its pages, which it may drop at any time. A reader whose
// page was dropped waits for the disk, for that page, as readers of etcd's database do.
//
// Segments of KL_SPILL_SEGMENT bytes are written once, in order. One whose values are all gone goes
// back to the file system; one that is mostly gone is sparse: what is left should be put again.
#pragma once
#include "base/bytes.h"
#include "base/err.h"
#include "base/str.h"

enum { KL_SPILL_SEGMENT = 4 << 20 };

struct kl_spill;

// In this directory. KL_EIO and others: it cannot be made.
int kl_spill_new(const char *dir, struct kl_spill **ret, struct kl_error *err);
// The writer lets go; what is in the file stays readable until its last reference is gone.
void kl_spill_unref(struct kl_spill *s); // accepts NULL
// Writes values one behind the other; ret[i] gets what stands for values[i] then. One writer at a
// time, any thread; blocks. All or nothing: KL_ENOSPC, KL_EIO, KL_ENOMEM, and ret is untouched.
int kl_spill_put(struct kl_spill *s, const struct kl_str *values, size_t n, struct kl_bytes **ret,
                 struct kl_error *err);
// Any thread.
bool kl_spill_is_sparse(const struct kl_bytes *b);
// Gives the pages of the whole map back; they come again when they are read.
void kl_spill_rest(struct kl_spill *s);
int64_t kl_spill_live_bytes(const struct kl_spill *s);
int64_t kl_spill_file_bytes(const struct kl_spill *s); // that are taken on the disk
