// SPDX-License-Identifier: Apache-2.0
// Container images made here: one layer, as an OCI image layout in a tar (what `ctr images import`
// reads). The same input gives the same bytes.
#pragma once
#include "base/buf.h"
#include "base/err.h"
#include <sys/types.h>

struct kl_oci_entry {
    const char *path; // "bin/sh", no leading slash; a directory ends in '/'
    mode_t mode;
    const char *link_target; // a symbolic link
    struct kl_str data;
};
struct kl_oci_image {
    const char *name; // "kinglet.local/pause:1"
    const struct kl_oci_entry *entries;
    size_t nentries;
    const char *const *entrypoint; // NULL-ended
    const char *const *cmd;        // NULL-ended or NULL
    const char *const *env;        // NULL-ended or NULL
};
int kl_oci_archive(struct kl_buf *out, const struct kl_oci_image *image, struct kl_error *err);
