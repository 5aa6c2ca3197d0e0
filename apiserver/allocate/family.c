// SPDX-License-Identifier: Apache-2.0
// Which address families a Service has (storage/alloc.go, initIPFamilyFields): what was not said is
// filled in from what was, from what the Service had before, and from what the cluster has.
#include "apiserver/allocate/allocate.h"

struct family {
    struct kl_req *r;
    const struct kl_value *draft, *old;
    struct kl_value *spec;
    struct kl_field_errors errors;
    bool has[2]; // the cluster has IPv4, IPv6
    bool first_v6;
};

static struct kl_str text_of(const struct kl_value *spec, kl_sym field)
{
    return kl_text(kl_get(spec, field));
}

static bool is_policy(const struct kl_value *spec, const char *policy)
{
    return kl_str_eqz(text_of(spec, KL_F_ipFamilyPolicy), policy);
}

static bool same(const struct family *f, kl_sym field)
{
    return kl_value_equal(kl_get(f->spec, field), kl_get(f->old, field));
}

static size_t count(const struct kl_value *spec, kl_sym field)
{
    return kl_len(kl_get(spec, field));
}

static bool is_headless(const struct kl_value *spec)
{
    return kl_str_eqz(text_of(spec, KL_F_clusterIP), "None") ||
           kl_str_eqz(kl_text(kl_at(kl_get(spec, KL_F_clusterIPs), 0)), "None");
}

// An unchanged Service that prefers two families stays with what it has, whatever became of the
// cluster (isMatchingPreferDualStackClusterIPFields).
static bool stays(const struct family *f)
{
    return f->old && kl_get(f->old, KL_F_ipFamilyPolicy) && same(f, KL_F_type) &&
           is_policy(f->old, "PreferDualStack") &&
           (!kl_get(f->spec, KL_F_ipFamilyPolicy) || is_policy(f->spec, "PreferDualStack")) &&
           same(f, KL_F_clusterIPs) && same(f, KL_F_ipFamilies);
}

// What validation refuses before anything is chosen.
static bool is_malformed(const struct kl_value *spec)
{
    const struct kl_value *families = kl_get(spec, KL_F_ipFamilies);
    const struct kl_value *ips = kl_get(spec, KL_F_clusterIPs);
    size_t i = 0;
    kl_ip ip, first_ip = 0;
    bool v6 = false, first_v6 = false;
    if (kl_len(families) > 2 || kl_len(ips) > 2)
        return true;
    for (KL_EACH(x, families))
        if (!kl_str_eqz(kl_text(x), "IPv4") && !kl_str_eqz(kl_text(x), "IPv6"))
            return true;
    if (kl_len(families) == 2 && kl_value_equal(kl_at(families, 0), kl_at(families, 1)))
        return true;
    if (is_headless(spec))
        return false;
    for (KL_EACH(x, ips)) {
        if (!kl_ip_parse(kl_text(x), &ip, &v6) || (i && v6 == first_v6 && kl_len(ips) == 2))
            return true;
        const struct kl_value *family = kl_at(families, i);
        if (family && kl_str_eqz(kl_text(family), "IPv6") != v6)
            return true;
        first_v6 = v6;
        first_ip = ip;
        i++;
    }
    (void)first_ip;
    return kl_len(ips) && !kl_value_equal(kl_at(ips, 0), kl_get(spec, KL_F_clusterIP));
}

static int cut(struct family *f, kl_sym field)
{
    struct kl_value *list = kl_edit(f->r->arena, f->spec, field, KL_ARRAY);
    return list ? kl_remove_at(f->r->arena, list, 1) : KL_ENOMEM;
}

static void invalid_policy(struct family *f, const char *why)
{
    kl_field_invalid(&f->errors, KL_STR("spec.ipFamilyPolicy"),
                     text_of(f->spec, KL_F_ipFamilyPolicy), why);
}

static int adjust_update(struct family *f)
{
    int rc = 0;
    if (!f->old)
        return 0;
    if (is_policy(f->spec, "SingleStack")) {
        if (same(f, KL_F_clusterIPs) && count(f->spec, KL_F_clusterIPs) > 1)
            rc = cut(f, KL_F_clusterIPs);
        if (!rc && same(f, KL_F_ipFamilies) && count(f->spec, KL_F_ipFamilies) > 1)
            rc = cut(f, KL_F_ipFamilies);
        return rc;
    }
    if (count(f->old, KL_F_clusterIPs) > count(f->spec, KL_F_clusterIPs))
        invalid_policy(f, "must be 'SingleStack' to release the secondary cluster IP");
    if (count(f->old, KL_F_ipFamilies) > count(f->spec, KL_F_ipFamilies))
        invalid_policy(f, "must be 'SingleStack' to release the secondary IP family");
    return 0;
}

static int add_family(struct family *f, bool v6)
{
    struct kl_value *list = kl_edit(f->r->arena, f->spec, KL_F_ipFamilies, KL_ARRAY);
    return list ? kl_append(f->r->arena, list, kl_stringz(v6 ? "IPv6" : "IPv4")) : KL_ENOMEM;
}

static int infer_from_addresses(struct family *f)
{
    size_t i = 0;
    int rc = 0;
    const struct kl_value *ips = kl_get(f->spec, KL_F_clusterIPs);
    for (KL_EACH(x, ips)) {
        kl_ip ip;
        bool v6;
        if (!kl_ip_parse(kl_text(x), &ip, &v6))
            break;
        if (i >= count(f->spec, KL_F_ipFamilies)) {
            if (!f->has[v6]) {
                struct kl_buf b;
                kl_buf_init(&b, 4096);
                kl_json_write(&b, ips);
                kl_field_error(&f->errors, "FieldValueInvalid",
                               kl_arena_printf(f->r->arena, "spec.clusterIPs[%zu]", i),
                               "Invalid value: %.*s: IPv%d is not configured on this cluster",
                               KL_PRI(kl_buf_str(&b)), v6 ? 6 : 4);
                kl_buf_fini(&b);
            } else if ((rc = add_family(f, v6))) {
                return rc;
            }
        }
        i++;
    }
    return 0;
}

static bool is_v6_at(const struct family *f, size_t i)
{
    return kl_str_eqz(kl_text(kl_at(kl_get(f->spec, KL_F_ipFamilies), i)), "IPv6");
}

static int add_second(struct family *f)
{
    if (count(f->spec, KL_F_ipFamilies) != 1 || is_policy(f->spec, "SingleStack"))
        return 0;
    return add_family(f, !is_v6_at(f, 0));
}

static int refuse(struct family *f)
{
    kl_fail_invalid(f->r, KL_STR("Service"), KL_STR(""), kl_meta_name(f->draft), &f->errors);
    return KL_EINVALID;
}

static int choose_policy(struct family *f)
{
    const struct kl_value *was = kl_get(f->old, KL_F_ipFamilyPolicy);
    bool open = is_headless(f->spec) && !kl_len(kl_get(f->spec, KL_F_selector));
    if (kl_get(f->spec, KL_F_ipFamilyPolicy))
        return 0;
    struct kl_value v = was    ? *was
                        : open ? kl_stringz("RequireDualStack")
                               : kl_stringz("SingleStack");
    return kl_set(f->r->arena, f->spec, KL_F_ipFamilyPolicy, v);
}

static int check_cluster_has(struct family *f)
{
    bool both = f->has[0] && f->has[1];
    if (is_policy(f->spec, "RequireDualStack") && !both)
        invalid_policy(f, "this cluster is not configured for dual-stack services");
    for (size_t i = 0; i < count(f->spec, KL_F_ipFamilies); i++)
        if (!f->has[is_v6_at(f, i)])
            kl_field_invalid(&f->errors, kl_arena_printf(f->r->arena, "spec.ipFamilies[%zu]", i),
                             kl_text(kl_at(kl_get(f->spec, KL_F_ipFamilies), i)),
                             "not configured on this cluster");
    return f->errors.n ? refuse(f) : 0;
}

static int fill(struct family *f)
{
    int rc = choose_policy(f);
    if (rc)
        return rc;
    if (is_malformed(f->spec))
        return 1;
    if ((rc = adjust_update(f)))
        return rc;
    if (is_policy(f->spec, "SingleStack")) {
        if (count(f->spec, KL_F_clusterIPs) == 2)
            invalid_policy(f, "must be 'RequireDualStack' or 'PreferDualStack' when multiple "
                              "cluster IPs are specified");
        if (count(f->spec, KL_F_ipFamilies) == 2)
            invalid_policy(f, "must be 'RequireDualStack' or 'PreferDualStack' when multiple IP "
                              "families are specified");
    }
    if ((rc = infer_from_addresses(f)))
        return rc;
    if (f->errors.n)
        return refuse(f);
    bool open = is_headless(f->spec) && !kl_len(kl_get(f->spec, KL_F_selector));
    if (!open && (rc = check_cluster_has(f)))
        return rc;
    if (!count(f->spec, KL_F_ipFamilies) && (rc = add_family(f, f->first_v6)))
        return rc;
    // Nobody gives a headless Service without selector its addresses: both families are fine.
    return open || (f->has[0] && f->has[1]) ? add_second(f) : 0;
}

int kl_service_families(struct kl_req *r, const struct kl_value *draft, struct kl_value *spec,
                        const struct kl_value *old_spec)
{
    struct kl_ip_range own[KL_MAX_FAMILIES];
    struct family f = {
        .r = r, .draft = draft, .old = old_spec, .spec = spec, .errors = {.arena = r->arena}};
    size_t n = kl_service_ranges(r->srv, own);
    if (!n)
        return kl_fail_internal(r, "service CIDR %s is not usable", r->srv->o.service_cidr),
               KL_EINTERNAL;
    for (size_t i = 0; i < n; i++)
        f.has[own[i].v6] = true;
    f.first_v6 = own[0].v6;
    if (kl_str_eqz(text_of(spec, KL_F_type), "ExternalName") || stays(&f))
        return 0;
    int rc = fill(&f);
    if (rc < 0 && !r->fail.http)
        kl_fail_oom(r);
    return rc;
}
