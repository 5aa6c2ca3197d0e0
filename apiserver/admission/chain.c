// SPDX-License-Identifier: Apache-2.0
// The phases of admission, and which plug-ins take part (upstream's chainAdmissionHandler and
// AdmissionOptions).
#include "apiserver/admission/hooks_int.h"
#include "apiserver/admission/metrics.h"
#include "apiserver/auth/auth.h"
#include "apiserver/strategy.h"
#include "base/clock.h"
#include <stdarg.h>
#include <stdio.h>

static bool is_on(const struct kl_admit *ad, size_t i)
{
    return ad->r->srv->admission >> i & 1;
}

bool kl_admit_is_on(const struct kl_admit *ad, enum kl_admit_stage stage)
{
    for (size_t i = 0; i < kl_nplugins; i++)
        if (kl_plugins[i].stage == stage)
            return is_on(ad, i);
    return false;
}

// One plug-in's time ends where the next one's begins.
static int run_plugins(struct kl_admit *ad, bool validating, bool last)
{
    int64_t began = kl_mono_ns();
    int rc = 0;
    for (size_t i = 0; i < kl_nplugins && !rc; i++) {
        const struct kl_plugin *p = &kl_plugins[i];
        int (*fn)(struct kl_admit * ad) = validating ? p->validate : p->mutate;
        if (!fn || p->last != last || !(p->operations & ad->op) || !is_on(ad, i))
            continue;
        rc = fn(ad);
        int64_t now = kl_mono_ns();
        kl_admit_count_plugin(ad, i, validating, rc < 0, now - began);
        began = now;
    }
    return rc;
}

int kl_plugins_mutate(struct kl_admit *ad, bool last)
{
    return run_plugins(ad, false, last);
}

int kl_plugins_validate(struct kl_admit *ad, bool last)
{
    return run_plugins(ad, true, last);
}

void kl_admit_count_stage(struct kl_admit *ad, enum kl_admit_stage stage, bool validating,
                          bool rejected, int64_t began_ns)
{
    for (size_t i = 0; i < kl_nplugins; i++)
        if (kl_plugins[i].stage == stage)
            kl_admit_count_plugin(ad, i, validating, rejected, kl_mono_ns() - began_ns);
}

// What is configured for the request; negative: r->fail is set. Its own configuration is exempt,
// also to mend what cannot be read.
static int hooks_of(struct kl_admit *ad, struct kl_hookset **ret)
{
    int rc = kl_hooks_of(ad->r->al, ret);
    if (!rc && !*ret)
        return 0;
    if (kl_admit_is_exempt(ad))
        *ret = NULL;
    else if (rc)
        return kl_admit_forbid(ad, "not yet ready to handle request");
    return 0;
}

static int mutate_all(struct kl_admit *ad)
{
    struct kl_hookset *hooks = NULL;
    ad->object = ad->draft;
    int rc = kl_plugins_mutate(ad, false);
    ad->may_wait = false;
    if (!rc)
        rc = hooks_of(ad, &hooks);
    if (hooks)
        return kl_hooks_mutate(ad, hooks);
    if (!rc)
        rc = kl_plugins_mutate(ad, true);
    return kl_admit_end(ad, false, rc);
}

int kl_admit_mutate(struct kl_admit *ad)
{
    ad->may_wait = true;
    ad->began_ns = kl_mono_ns();
    return mutate_all(ad);
}

void kl_admit_resume(struct kl_admit *ad, int rc)
{
    if (!rc)
        rc = mutate_all(ad);
    if (rc != KL_ADMIT_WAIT)
        ad->done(ad, rc);
}

int kl_admit_end(struct kl_admit *ad, bool validating, int rc)
{
    if (rc == KL_ADMIT_WAIT)
        return rc;
    kl_admit_count_phase(ad, validating, rc < 0, kl_mono_ns() - ad->began_ns);
    return rc || validating || !ad->draft ? rc : kl_meta_dedup_owners(ad->r, ad->draft, true);
}

int kl_admit_validate(struct kl_admit *ad)
{
    struct kl_hookset *hooks = NULL;
    ad->draft = NULL;
    ad->began_ns = kl_mono_ns();
    int rc = kl_plugins_validate(ad, false);
    if (!rc)
        rc = hooks_of(ad, &hooks);
    if (hooks)
        return kl_hooks_validate(ad, hooks);
    return kl_admit_end(ad, true, rc ? rc : kl_plugins_validate(ad, true));
}

static void end_run(struct kl_admit *ad, int rc)
{
    if (!rc)
        ad->then(ad);
    else
        kl_req_fail(ad->r);
}

static void validate_next(struct kl_admit *ad, int rc)
{
    if (!rc) {
        ad->done = end_run;
        rc = kl_admit_validate(ad);
    }
    if (rc != KL_ADMIT_WAIT)
        end_run(ad, rc);
}

void kl_admit_run(struct kl_admit *ad, void (*then)(struct kl_admit *ad))
{
    ad->then = then;
    ad->done = validate_next;
    int rc = kl_admit_mutate(ad);
    if (rc != KL_ADMIT_WAIT)
        validate_next(ad, rc);
}

void kl_admit_init(struct kl_admit *ad, struct kl_req *r, enum kl_admit_op op)
{
    const struct kl_resource *st = kl_resource_storage(r->info.res);
    *ad = (struct kl_admit){.r = r,
                            .op = op,
                            .res = r->info.res,
                            .sub = r->info.sub,
                            .ns = r->info.ns,
                            .name = r->info.name,
                            .dry_run = r->opts.dry_run,
                            .row = st,
                            .type = st->type,
                            .api_version = st->api_version,
                            .kind = st->kind};
    if (!ad->ns.n && st->index == KL_RES_core_v1_namespaces) // the namespace is its own
        ad->ns = r->info.name;
}

void kl_admit_own_kind(struct kl_admit *ad, const struct kl_type *type, const char *api_version,
                       const char *kind)
{
    ad->row = NULL;
    ad->type = type;
    ad->api_version = api_version;
    ad->kind = kind;
}

// ---- which plug-ins run

static int find_row(const char *name)
{
    for (size_t i = 0; i < kl_nplugins; i++)
        if (!strcmp(kl_plugins[i].name, name))
            return (int)i;
    return -1;
}

static int names_to_set(const char *flag, const char *const *names, kl_admit_set *ret,
                        struct kl_error *err)
{
    *ret = 0;
    for (size_t i = 0; names && names[i]; i++) {
        int row = find_row(names[i]);
        if (row < 0)
            return kl_error_set(err, KL_EINVALID, "%s plugin \"%s\" is unknown", flag, names[i]);
        *ret |= (kl_admit_set)1 << row;
    }
    return 0;
}

int kl_admit_select(const char *const *enable, const char *const *disable, kl_admit_set *ret_set,
                    struct kl_error *err)
{
    kl_admit_set on, off, set = 0;
    int rc;
    if ((rc = names_to_set("enable-admission-plugins", enable, &on, err)) ||
        (rc = names_to_set("disable-admission-plugins", disable, &off, err)))
        return rc;
    if (on & off) {
        char both[512];
        size_t n = 0;
        // Upstream shows a set's sorted list.
        for (const char *last = "", *next; n < sizeof both; last = next) {
            next = NULL;
            for (size_t i = 0; i < kl_nplugins; i++)
                if ((on & off) >> i & 1 && strcmp(kl_plugins[i].name, last) > 0 &&
                    (!next || strcmp(kl_plugins[i].name, next) < 0))
                    next = kl_plugins[i].name;
            if (!next)
                break;
            n += (size_t)snprintf(both + n, sizeof both - n, "%s%s", n ? " " : "", next);
        }
        return kl_error_set(err, KL_EINVALID,
                            "[%s] in enable-admission-plugins and disable-admission-plugins "
                            "overlapped",
                            n ? both : "");
    }
    for (size_t i = 0; i < kl_nplugins; i++)
        if (kl_plugins[i].default_on)
            set |= (kl_admit_set)1 << i;
    *ret_set = (set & ~off) | on;
    return 0;
}

// ---- for plug-ins

struct kl_object *kl_admit_find(struct kl_req *r, uint16_t res, struct kl_str ns,
                                struct kl_str name)
{
    return kl_api_object(r->al, r->arena, res, ns, name);
}

struct kl_str kl_admit_name(const struct kl_admit *ad)
{
    struct kl_str name = ad->name.n ? ad->name : kl_meta_name(ad->object);
    if (!name.n)
        name = kl_text_at(ad->object, KL_F_metadata, KL_F_generateName);
    return name.n ? name : KL_STR("Unknown");
}

int kl_admit_forbid(struct kl_admit *ad, const char *fmt, ...)
{
    struct kl_req *r = ad->r;
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    char *text = n >= 0 ? kl_arena_alloc(r->arena, (size_t)n + 1) : NULL;
    if (!text)
        return kl_fail_oom(r), KL_ENOMEM;
    va_start(ap, fmt);
    vsnprintf(text, (size_t)n + 1, fmt, ap);
    va_end(ap);
    kl_fail_forbidden(r, kl_str(ad->res->group), kl_str(ad->res->plural), kl_admit_name(ad),
                      (struct kl_str){text, (size_t)n});
    return KL_EFORBIDDEN;
}
