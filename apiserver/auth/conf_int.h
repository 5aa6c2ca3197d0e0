// SPDX-License-Identifier: Apache-2.0
// What the readers of the two configurations share.
#pragma once
#include "apiserver/auth/conf.h"
#include "apiserver/request.h"

struct kl_conf_reader {
    struct kl_auth_conf *conf;
    struct kl_arena *arena; // the conf's
    const struct kl_auth_conf_input *in;
    struct kl_field_errors errors;
    int rc; // KL_ENOMEM and the like
};

// Members of a map by name; anything else in it is an unknown field.
void kl_conf_only(struct kl_conf_reader *r, const struct kl_value *v, struct kl_str path,
                  const char *const *names);
struct kl_str kl_conf_text(struct kl_conf_reader *r, const struct kl_value *v, const char *name);
struct kl_str kl_conf_at(struct kl_conf_reader *r, struct kl_str path, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
// Compiles; a finding when it fails or is none of the types (NULL-ended, cel-go's names; NULL:
// any).
struct kl_cel_program *kl_conf_compile(struct kl_conf_reader *r, struct kl_cel_env *env,
                                       struct kl_str text, struct kl_str path,
                                       const char *const *types);
// The document's root when it is of this kind; negative: err.
int kl_conf_root(struct kl_conf_reader *r, struct kl_str text, const char *kind,
                 struct kl_value *ret, struct kl_error *err);

// conf_authn.c, conf_authz.c
int kl_conf_read_authn(struct kl_conf_reader *r, struct kl_error *err);
int kl_conf_oidc_flags(struct kl_conf_reader *r, struct kl_error *err);
int kl_conf_read_authz(struct kl_conf_reader *r, struct kl_error *err);
// After its findings: names and types that this server insists on.
int kl_conf_check_authz(struct kl_conf_reader *r, struct kl_error *err);
int kl_conf_authz_flags(struct kl_conf_reader *r, struct kl_error *err);
