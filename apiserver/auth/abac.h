// SPDX-License-Identifier: Apache-2.0
// Attribute-based access control: a policy file of one JSON object a line (kubernetes
// pkg/auth/authorizer/abac, pkg/apis/abac). Read once at the server's start, as upstream does;
// immutable then, any loop.
#pragma once
#include "base/arena.h"
#include "base/err.h"
#include "base/str.h"
#include <stdbool.h>

#define KL_ABAC_FILE_MAX_BYTES ((size_t)8 << 20)

struct kl_attrs;
struct kl_user;

// What a line says, in upstream's internal form: a line without a version is converted.
struct kl_abac_policy {
    struct kl_str user, group, api_group, resource, ns, path;
    bool readonly;
};
struct kl_abac {
    const struct kl_abac_policy *v;
    size_t n;
    bool unversioned; // lines without a version are among them
};

// Memory is the arena's; strings may refer to `text`, which must live as long. KL_EINVALID with
// upstream's words: error reading policy file FILE, line 3: TEXT OF THE LINE: why
int kl_abac_parse(struct kl_arena *a, const char *file, struct kl_str text, struct kl_abac *ret,
                  struct kl_error *err);
int kl_abac_read(struct kl_arena *a, const char *file, struct kl_abac *ret, struct kl_error *err);

bool kl_abac_allows(const struct kl_abac *b, const struct kl_attrs *t);
// Whether the policy is about the user at all, for lists of what somebody may do.
bool kl_abac_is_about(const struct kl_abac_policy *p, const struct kl_user *u);
