// SPDX-License-Identifier: Apache-2.0
// What the checks of the Pod Security Standards share.
#pragma once
#include "base/buf.h"
#include "object/podsecurity/podsecurity.h"

// A list of names in the arena; `failed` when memory ran out.
struct kl_ps_names {
    struct kl_str *v;
    size_t n, cap;
};

struct kl_ps_run {
    struct kl_arena *arena;
    const struct kl_value *meta, *spec, *pod_context; // spec.securityContext
    enum kl_ps_level level;
    uint32_t minor;
    struct kl_buf reasons, details;
    bool failed;
};

typedef void kl_ps_check_fn(struct kl_ps_run *r);

struct kl_ps_rule {
    kl_ps_check_fn *check;
    uint8_t level;
    uint8_t from, until; // minor versions: from <= v < until
    uint8_t
        restricted_until; // a baseline check that a restricted one replaces from this version on
};
enum { KL_PS_NEVER = 255 };
extern const struct kl_ps_rule kl_ps_rules[]; // ends with check NULL; in upstream's order

// The next of init, regular, ephemeral containers.
struct kl_ps_walk {
    size_t list, i;
};
const struct kl_value *kl_ps_next(struct kl_ps_run *r, struct kl_ps_walk *w);

void kl_ps_add(struct kl_ps_run *r, struct kl_ps_names *l, struct kl_str s);
// Sorted, each once (sets.String).
void kl_ps_insert(struct kl_ps_run *r, struct kl_ps_names *l, struct kl_str s);
// `"a", "b"`
struct kl_str kl_ps_quoted(struct kl_ps_run *r, const struct kl_ps_names *l);
struct kl_str kl_ps_joined(struct kl_ps_run *r, const struct kl_ps_names *l, const char *sep);
// `container "a"`, `containers "a", "b"`
struct kl_str kl_ps_containers(struct kl_ps_run *r, const struct kl_ps_names *l);
// `pod and container "a"`
struct kl_str kl_ps_setters(struct kl_ps_run *r, bool pod, const struct kl_ps_names *l);
struct kl_str kl_ps_printf(struct kl_ps_run *r, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
void kl_ps_forbid(struct kl_ps_run *r, const char *reason, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static inline const char *kl_ps_plural(const char *one, const char *many, size_t n)
{
    return n == 1 ? one : many;
}

// The member, unless it is null.
static inline const struct kl_value *kl_ps_get(const struct kl_value *v, kl_sym f)
{
    const struct kl_value *m = kl_get(v, f);
    return m && !kl_is(m, KL_NULL) ? m : NULL;
}
static inline struct kl_str kl_ps_name(const struct kl_value *v)
{
    return kl_text(kl_get(v, KL_F_name));
}

// ---- baseline.c
kl_ps_check_fn kl_ps_app_armor, kl_ps_capabilities, kl_ps_host_namespaces, kl_ps_host_paths,
    kl_ps_host_ports, kl_ps_host_probes, kl_ps_privileged, kl_ps_proc_mount, kl_ps_selinux,
    kl_ps_seccomp_annotations, kl_ps_seccomp, kl_ps_sysctls, kl_ps_host_process;
// ---- restricted.c
kl_ps_check_fn kl_ps_escalation, kl_ps_drop_all, kl_ps_volumes, kl_ps_non_root, kl_ps_user_zero,
    kl_ps_seccomp_required;
