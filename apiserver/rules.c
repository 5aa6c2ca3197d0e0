// SPDX-License-Identifier: Apache-2.0
// Where a write meets the rules of its kind (object/validate).
#include "apiserver/auth/csr.h"
#include "apiserver/auth/pair.h"
#include "apiserver/crd/crd.h"
#include "apiserver/strategy.h"
#include "object/crd/definition.h"
#include "object/validate/validate.h"
#include "object/validate/warn.h"

static int check_definition(struct kl_req *r, struct kl_findings *f, const struct kl_value *now,
                            const struct kl_value *old)
{
    struct kl_str *warnings = NULL;
    size_t n = 0;
    int rc = r->info.sub.n ? kl_crd_definition_validate_status(f, now, old)
                           : kl_crd_definition_validate(f, now, old);
    if (!rc && !f->n && !r->info.sub.n)
        rc = kl_crd_definition_warnings(r->arena, now, old, &warnings, &n);
    for (size_t i = 0; i < n; i++)
        kl_req_warn(r, warnings[i]);
    if (rc == KL_ENOMEM)
        kl_fail_oom(r);
    else if (rc) // KL_ELIMIT: nobody can say what else is wrong with it
        kl_fail_set(r, 413, "RequestEntityTooLarge", "the schema is too large");
    return rc;
}

int kl_rules_check(struct kl_req *r, const struct kl_strategy *s, const struct kl_value *now,
                   const struct kl_value *old, struct kl_field_errors *e)
{
    const struct kl_resource *st = kl_resource_storage(r->info.res);
    struct kl_findings f = {.arena = r->arena, .bad_pem = kl_csr_bad_pem, .gates = &r->srv->gates};
    if (st->custom)
        return kl_custom_check(r, now, old, e);
    if (st->index == KL_RES_apiextensions_v1_customresourcedefinitions) {
        int rc = check_definition(r, &f, now, old);
        if (rc)
            return rc;
    } else if (!kl_validate_knows(st)) {
        kl_meta_validate(r, s, now, old, e);
        return 0;
    } else if (old)
        kl_validate_update(&f, st, r->info.sub, now, old);
    else
        kl_validate_create(&f, st, now);
    if (s->check_access)
        s->check_access(r, now, old, e);
    for (size_t i = 0; i < f.n; i++)
        kl_field_error(e, f.list[i].reason, f.list[i].field, "%.*s", KL_PRI(f.list[i].message));
    if (s->check_more)
        s->check_more(r, now, old, e);
    return 0;
}

void kl_rules_warn(struct kl_req *r, const struct kl_value *now, const struct kl_value *old,
                   bool bumped)
{
    const struct kl_resource *st = kl_resource_storage(r->info.res);
    if (!kl_warn_knows(st))
        return;
    struct kl_warnings w = {
        .arena = r->arena, .gates = &r->srv->gates, .bad_pair = kl_tls_pair_bad};
    if (old)
        kl_warn_update(&w, st, r->info.sub, now, old, bumped);
    else
        kl_warn_create(&w, st, now);
    for (size_t i = 0; i < w.n; i++)
        kl_req_warn(r, w.list[i]);
}
