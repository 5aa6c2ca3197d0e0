// SPDX-License-Identifier: Apache-2.0
// Labels to policies, and a policy's checks over one pod.
#include "object/podsecurity/checks_int.h"
#include <stdio.h>

// A message is bounded by the request that caused it.
enum { TEXT_MAX_BYTES = 8 << 20, NEWEST_MINOR = 35 };

static const char *const level_names[] = {"privileged", "baseline", "restricted"};

// ---- labels

const char *kl_ps_parse_level(struct kl_str s, enum kl_ps_level *ret)
{
    for (size_t i = 0; i < KL_COUNT(level_names); i++)
        if (kl_str_eqz(s, level_names[i])) {
            *ret = (enum kl_ps_level)i;
            return NULL;
        }
    *ret = KL_PS_RESTRICTED;
    return "must be one of privileged, baseline, restricted";
}

const char *kl_ps_parse_version(struct kl_str s, uint32_t *ret)
{
    static const char why[] = "must be \"latest\" or \"v1.x\"";
    uint64_t n;
    *ret = KL_PS_LATEST;
    if (kl_str_eqz(s, "latest"))
        return NULL;
    if (!kl_str_starts(s, KL_STR("v1.")))
        return why;
    s = kl_str_from(s, 3);
    if (!s.n || (s.p[0] == '0' && s.n > 1) || !kl_str_to_u64(s, &n) || n > INT64_MAX)
        return why;
    *ret = n >= KL_PS_LATEST ? KL_PS_LATEST - 1 : (uint32_t)n;
    return NULL;
}

struct reader {
    const struct kl_value *labels;
    struct kl_ps_bad_label *bad;
    size_t nbad;
};

static const struct kl_value *label(struct reader *r, const char *key)
{
    return kl_map_value(r->labels, kl_str(key));
}

static void complain(struct reader *r, const char *key, const struct kl_value *v, const char *why)
{
    r->bad[r->nbad++] = (struct kl_ps_bad_label){kl_str(key), kl_text(v), why};
}

// True when the label is there and good.
static bool read_level(struct reader *r, const char *key, enum kl_ps_level otherwise,
                       enum kl_ps_level *level)
{
    const struct kl_value *v = label(r, key);
    if (!v)
        return false;
    const char *why = kl_ps_parse_level(kl_text(v), level);
    if (!why)
        return true;
    *level = otherwise;
    complain(r, key, v, why);
    return false;
}

static void read_version(struct reader *r, const char *key, uint32_t *minor)
{
    const struct kl_value *v = label(r, key);
    const char *why = v ? kl_ps_parse_version(kl_text(v), minor) : NULL;
    if (why)
        complain(r, key, v, why);
}

#define PREFIX "pod-security.kubernetes.io/"

size_t kl_ps_policies_of(const struct kl_value *labels, const struct kl_ps_policies *defaults,
                         struct kl_ps_policies *ret, struct kl_ps_bad_label ret_bad[KL_PS_LABELS])
{
    struct reader r = {labels, ret_bad, 0};
    const struct kl_ps_policy none = {KL_PS_PRIVILEGED, KL_PS_LATEST};
    *ret = defaults ? *defaults : (struct kl_ps_policies){none, none, none};
    if (!kl_len(labels))
        return 0;
    bool enforced = read_level(&r, PREFIX "enforce", KL_PS_RESTRICTED, &ret->enforce.level);
    read_version(&r, PREFIX "enforce-version", &ret->enforce.minor);
    read_level(&r, PREFIX "audit", KL_PS_PRIVILEGED, &ret->audit.level);
    read_version(&r, PREFIX "audit-version", &ret->audit.minor);
    read_level(&r, PREFIX "warn", KL_PS_PRIVILEGED, &ret->warn.level);
    read_version(&r, PREFIX "warn-version", &ret->warn.minor);
    if (!label(&r, PREFIX "warn") && enforced && ret->enforce.level > ret->warn.level) {
        ret->warn.level = ret->enforce.level;
        if (!label(&r, PREFIX "warn-version"))
            ret->warn.minor = ret->enforce.minor;
    }
    return r.nbad;
}

const char *kl_ps_text(struct kl_ps_policy p, char ret[KL_PS_TEXT])
{
    if (p.minor == KL_PS_LATEST)
        snprintf(ret, KL_PS_TEXT, "%s:latest", level_names[p.level]);
    else
        snprintf(ret, KL_PS_TEXT, "%s:v1.%u", level_names[p.level], p.minor);
    return ret;
}

// ---- what checks are made of

const struct kl_value *kl_ps_next(struct kl_ps_run *r, struct kl_ps_walk *w)
{
    static const kl_sym lists[] = {KL_F_initContainers, KL_F_containers, KL_F_ephemeralContainers};
    for (; w->list < KL_COUNT(lists); w->list++, w->i = 0) {
        const struct kl_value *c = kl_at(kl_get(r->spec, lists[w->list]), w->i);
        if (c) {
            w->i++;
            return c;
        }
    }
    return NULL;
}

void kl_ps_add(struct kl_ps_run *r, struct kl_ps_names *l, struct kl_str s)
{
    if (l->n == l->cap) {
        size_t cap = l->cap ? l->cap * 2 : 8;
        struct kl_str *v = kl_arena_alloc(r->arena, cap * sizeof *v);
        if (!v) {
            r->failed = true;
            return;
        }
        if (l->n)
            memcpy(v, l->v, l->n * sizeof *v);
        l->v = v;
        l->cap = cap;
    }
    l->v[l->n++] = s;
}

void kl_ps_insert(struct kl_ps_run *r, struct kl_ps_names *l, struct kl_str s)
{
    size_t lo = 0, hi = l->n, n = l->n;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        int c = kl_str_cmp(l->v[mid], s);
        if (!c)
            return;
        if (c < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    kl_ps_add(r, l, s);
    if (l->n == n)
        return;
    memmove(l->v + lo + 1, l->v + lo, (n - lo) * sizeof *l->v);
    l->v[lo] = s;
}

static struct kl_str join(struct kl_ps_run *r, const struct kl_ps_names *l, const char *before,
                          const char *sep)
{
    struct kl_buf b;
    kl_buf_init(&b, TEXT_MAX_BYTES);
    for (size_t i = 0; i < l->n; i++) {
        kl_buf_puts(&b, kl_str(i ? sep : before));
        kl_buf_puts(&b, l->v[i]);
    }
    if (l->n)
        kl_buf_puts(&b, kl_str(before));
    struct kl_str out = kl_arena_dup(r->arena, kl_buf_str(&b));
    r->failed |= b.err || !out.p;
    kl_buf_fini(&b);
    return out.p ? out : KL_STR("");
}

struct kl_str kl_ps_quoted(struct kl_ps_run *r, const struct kl_ps_names *l)
{
    return join(r, l, "\"", "\", \"");
}

struct kl_str kl_ps_joined(struct kl_ps_run *r, const struct kl_ps_names *l, const char *sep)
{
    return join(r, l, "", sep);
}

struct kl_str kl_ps_printf(struct kl_ps_run *r, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    struct kl_str s = kl_arena_vprintf(r->arena, fmt, ap);
    va_end(ap);
    r->failed |= !s.p;
    return s.p ? s : KL_STR("");
}

struct kl_str kl_ps_containers(struct kl_ps_run *r, const struct kl_ps_names *l)
{
    struct kl_str names = kl_ps_quoted(r, l);
    return kl_ps_printf(r, "%s %.*s", kl_ps_plural("container", "containers", l->n), KL_PRI(names));
}

struct kl_str kl_ps_setters(struct kl_ps_run *r, bool pod, const struct kl_ps_names *l)
{
    if (!l->n)
        return KL_STR("pod");
    struct kl_str c = kl_ps_containers(r, l);
    return pod ? kl_ps_printf(r, "pod and %.*s", KL_PRI(c)) : c;
}

void kl_ps_forbid(struct kl_ps_run *r, const char *reason, const char *fmt, ...)
{
    const char *sep = r->reasons.n ? ", " : "";
    kl_buf_printf(&r->reasons, "%s%s", sep, reason);
    kl_buf_printf(&r->details, "%s%s (", sep, reason);
    size_t was = r->details.n;
    va_list ap;
    va_start(ap, fmt);
    kl_buf_vprintf(&r->details, fmt, ap);
    va_end(ap);
    if (r->details.err)
        return;
    if (r->details.n == was) // a detail that is empty has no parentheses
        r->details.n -= 2;
    else
        kl_buf_putc(&r->details, ')');
}

// ---- the checks of a version, baseline's first, each group by its id

#define B KL_PS_BASELINE
#define R KL_PS_RESTRICTED
#define ALL KL_PS_NEVER

const struct kl_ps_rule kl_ps_rules[] = {
    {kl_ps_app_armor, B, 0, ALL, ALL},
    {kl_ps_capabilities, B, 0, ALL, 22},
    {kl_ps_host_namespaces, B, 0, ALL, ALL},
    {kl_ps_host_paths, B, 0, ALL, 0},
    {kl_ps_host_ports, B, 0, ALL, ALL},
    {kl_ps_host_probes, B, 34, ALL, ALL},
    {kl_ps_privileged, B, 0, ALL, ALL},
    {kl_ps_proc_mount, B, 0, ALL, 35},
    {kl_ps_selinux, B, 0, ALL, ALL},
    {kl_ps_seccomp_annotations, B, 0, 19, ALL},
    {kl_ps_seccomp, B, 19, ALL, 19},
    {kl_ps_sysctls, B, 0, ALL, ALL},
    {kl_ps_host_process, B, 0, ALL, ALL},
    {kl_ps_escalation, R, 8, ALL, ALL},
    {kl_ps_drop_all, R, 22, ALL, ALL},
    {kl_ps_proc_mount, R, 35, ALL, ALL},
    {kl_ps_volumes, R, 0, ALL, ALL},
    {kl_ps_non_root, R, 0, ALL, ALL},
    {kl_ps_user_zero, R, 23, ALL, ALL},
    {kl_ps_seccomp_required, R, 19, ALL, ALL},
    {NULL, 0, 0, 0, 0},
};

static bool applies(const struct kl_ps_rule *c, enum kl_ps_level level, uint32_t minor)
{
    if (minor < c->from || minor >= c->until || c->level > level)
        return false;
    return level != KL_PS_RESTRICTED || minor < c->restricted_until;
}

int kl_ps_check(struct kl_arena *a, struct kl_ps_policy policy, const struct kl_value *meta,
                const struct kl_value *spec, struct kl_ps_verdict *ret)
{
    *ret = (struct kl_ps_verdict){true, KL_STR(""), KL_STR("")};
    if (policy.level == KL_PS_PRIVILEGED)
        return 0;
    struct kl_ps_run r = {.arena = a,
                          .meta = meta,
                          .spec = spec,
                          .pod_context = kl_ps_get(spec, KL_F_securityContext),
                          .level = policy.level,
                          .minor = policy.minor < NEWEST_MINOR ? policy.minor : NEWEST_MINOR};
    kl_buf_init(&r.reasons, TEXT_MAX_BYTES);
    kl_buf_init(&r.details, TEXT_MAX_BYTES);
    for (const struct kl_ps_rule *c = kl_ps_rules; c->check; c++)
        if (applies(c, policy.level, r.minor))
            c->check(&r);
    int rc = r.failed || r.reasons.err || r.details.err ? KL_ENOMEM : 0;
    if (!rc && r.reasons.n) {
        *ret = (struct kl_ps_verdict){false, kl_arena_dup(a, kl_buf_str(&r.reasons)),
                                      kl_arena_dup(a, kl_buf_str(&r.details))};
        rc = ret->reasons.p && ret->details.p ? 0 : KL_ENOMEM;
    }
    kl_buf_fini(&r.reasons);
    kl_buf_fini(&r.details);
    return rc;
}
