// SPDX-License-Identifier: Apache-2.0
// ResourceClaims and DeviceTaintRules: what goes with an allocation, and who may have
// administrative access, bind a claim or report on its devices (pkg/registry/resource).
#include "apiserver/auth/auth.h"
#include "apiserver/server_int.h"
#include "apiserver/strategy_int.h"
#include "base/clock.h"
#include "object/names.h"
#include <stdlib.h>

// ---- devices by what tells them apart

static bool same_device(const struct kl_value *a, const struct kl_value *b)
{
    static const kl_sym parts[] = {KL_F_driver, KL_F_pool, KL_F_device, KL_F_shareID};
    for (size_t i = 0; i < KL_COUNT(parts); i++)
        if (!kl_str_eq(kl_text(kl_get(a, parts[i])), kl_text(kl_get(b, parts[i]))))
            return false;
    return true;
}

static const struct kl_value *find_device(const struct kl_value *list, const struct kl_value *d)
{
    for (KL_EACH(x, list))
        if (same_device(x, d))
            return x;
    return NULL;
}

static const struct kl_value *results_of(const struct kl_value *claim)
{
    return kl_path(claim, KL_F_status, KL_F_allocation, KL_F_devices, KL_F_results);
}

// The status of a device that is allocated no more goes with the allocation
// (dropDeallocatedStatusDevices).
int kl_claim_prepare_update(struct kl_req *r, struct kl_value *draft, const struct kl_value *old)
{
    const struct kl_value *devices = kl_path(draft, KL_F_status, KL_F_devices);
    struct kl_value gone = kl_new_array(), left = kl_new_array();
    if (!kl_str_eqz(r->info.sub, "status") || !kl_len(devices))
        return 0;
    for (KL_EACH(d, results_of(old)))
        if (!find_device(results_of(draft), d) && kl_append(r->arena, &gone, *d))
            return kl_fail_oom(r), KL_ENOMEM;
    for (KL_EACH(d, devices))
        if (!find_device(&gone, d) && kl_append(r->arena, &left, *d))
            return kl_fail_oom(r), KL_ENOMEM;
    if (left.n == kl_len(devices))
        return 0;
    struct kl_value *status = kl_edit(r->arena, draft, KL_F_status, KL_STRUCT);
    int rc = !status  ? KL_ENOMEM
             : left.n ? kl_set(r->arena, status, KL_F_devices, left)
                      : kl_unset(r->arena, status, KL_F_devices);
    return rc ? (kl_fail_oom(r), rc) : 0;
}

// A new effect starts a new time, unless the client set one.
int kl_taint_rule_prepare_update(struct kl_req *r, struct kl_value *draft,
                                 const struct kl_value *old)
{
    const struct kl_value *taint = kl_path(draft, KL_F_spec, KL_F_taint);
    const struct kl_value *was = kl_path(old, KL_F_spec, KL_F_taint);
    if (kl_str_eq(kl_text(kl_get(taint, KL_F_effect)), kl_text(kl_get(was, KL_F_effect))) ||
        !kl_value_equal(kl_get(taint, KL_F_timeAdded), kl_get(was, KL_F_timeAdded)))
        return 0;
    struct kl_value *spec = kl_edit(r->arena, draft, KL_F_spec, KL_STRUCT);
    struct kl_value *t = kl_edit(r->arena, spec, KL_F_taint, KL_STRUCT);
    int rc = kl_set(r->arena, t, KL_F_timeAdded, kl_time(kl_wall_ms() / 1000 * 1000000));
    return rc ? (kl_fail_oom(r), rc) : 0;
}

// ---- administrative access: a label of the namespace grants it

#define ADMIN_LABEL "resource.kubernetes.io/admin-access"

static void check_label(struct kl_req *r, struct kl_str ns, struct kl_str at,
                        struct kl_field_errors *e)
{
    struct kl_object *o = kl_api_object(r->al, r->arena, KL_RES_core_v1_namespaces, KL_STR(""), ns);
    if (!o)
        kl_field_error(e, "InternalError", at,
                       "Internal error: could not retrieve namespace to verify admin access: "
                       "namespaces \"%.*s\" not found",
                       KL_PRI(ns));
    else if (!kl_str_eqz(kl_text(kl_map_value(kl_meta_labels(&o->root), KL_STR(ADMIN_LABEL))),
                         "true"))
        kl_field_forbidden(e, at,
                           "admin access to devices requires the `" ADMIN_LABEL
                           ": true` label on the containing namespace");
}

static void check_admin(struct kl_req *r, const struct kl_value *now, const struct kl_value *spec,
                        struct kl_field_errors *e)
{
    size_t i = 0;
    for (KL_EACH(request, kl_path(spec, KL_F_devices, KL_F_requests))) {
        if (kl_true_at(request, KL_F_exactly, KL_F_adminAccess)) {
            check_label(r, kl_meta_namespace(now),
                        kl_arena_printf(r->arena, "spec.devices.requests[%zu].adminAccess", i), e);
            return;
        }
        i++;
    }
}

static bool has_admin(const struct kl_value *claim, size_t *ret_at)
{
    *ret_at = 0;
    for (KL_EACH(x, results_of(claim))) {
        if (kl_is_true(kl_get(x, KL_F_adminAccess)))
            return true;
        (*ret_at)++;
    }
    return false;
}

// ---- who may write which part of the status

// NULL, or why not: the text of the 403 that a request for this would get.
static const char *refusal(struct kl_req *r, struct kl_attrs *t)
{
    struct kl_str why = KL_STR("");
    if (kl_authorize(r->al, r->arena, t, &why))
        return NULL;
    struct kl_str text = kl_forbidden_text(r->arena, t);
    return kl_arena_printf(r->arena, "%.*s.%.*s%s%.*s%s is forbidden: %.*s%s%.*s",
                           KL_PRI(t->plural), KL_PRI(t->group), t->name.n ? " \"" : "",
                           KL_PRI(t->name), t->name.n ? "\"" : "", KL_PRI(text), why.n ? ": " : "",
                           KL_PRI(why))
        .p;
}

static void check_binding(struct kl_req *r, const struct kl_value *now, const struct kl_value *old,
                          struct kl_field_errors *e)
{
    static const kl_sym parts[] = {KL_F_allocation, KL_F_reservedFor};
    const struct kl_value *a = kl_get(now, KL_F_status), *b = kl_get(old, KL_F_status);
    struct kl_attrs t;
    if (kl_value_equal(kl_get(a, parts[0]), kl_get(b, parts[0])) &&
        kl_value_equal(kl_get(a, parts[1]), kl_get(b, parts[1])))
        return;
    kl_attrs_of_req(r, &t);
    t.sub = KL_STR("binding");
    t.ns = t.name = KL_STR("");
    const char *why = refusal(r, &t);
    if (why)
        kl_field_error(e, "FieldValueForbidden", KL_STR("status.allocation"),
                       "Forbidden: changing status.allocation or status.reservedFor requires "
                       "resource=\"resourceclaims/binding\", verb=\"%.*s\" permission: %s",
                       KL_PRI(t.verb), why);
}

// The node that an allocation is for, when it is for one; else empty.
static struct kl_str node_of(const struct kl_value *claim)
{
    const struct kl_value *terms =
        kl_path(claim, KL_F_status, KL_F_allocation, KL_F_nodeSelector, KL_F_nodeSelectorTerms);
    const struct kl_value *f = kl_at(kl_get(kl_at(terms, 0), KL_F_matchFields), 0);
    const struct kl_value *values = kl_get(f, KL_F_values);
    if (kl_len(terms) != 1 || kl_len(kl_get(kl_at(terms, 0), KL_F_matchExpressions)) ||
        kl_len(kl_get(kl_at(terms, 0), KL_F_matchFields)) != 1 || kl_len(values) != 1 ||
        !kl_str_eqz(kl_text(kl_get(f, KL_F_key)), "metadata.name") ||
        !kl_str_eqz(kl_text(kl_get(f, KL_F_operator)), "In"))
        return KL_STR("");
    return kl_text(kl_at(values, 0));
}

// A service account whose token says that it runs on that node.
static bool is_on(const struct kl_user *u, struct kl_str node)
{
    if (!node.n || !kl_str_starts(u->name, KL_STR("system:serviceaccount:")))
        return false;
    for (size_t i = 0; i < u->nextra; i++)
        if (kl_str_eqz(u->extra[i].key, "authentication.kubernetes.io/node-name"))
            return u->extra[i].nvalues == 1 && !kl_name_dns1123_subdomain(u->extra[i].values[0]) &&
                   kl_str_eq(u->extra[i].values[0], node);
    return false;
}

static void check_driver(struct kl_req *r, struct kl_str driver, bool on_node,
                         struct kl_field_errors *e)
{
    static const char *const prefixes[] = {"associated-node:", "arbitrary-node:"};
    const char *first = NULL, *verbs = "";
    struct kl_attrs t;
    kl_attrs_of_req(r, &t);
    struct kl_str verb = t.verb;
    t.sub = KL_STR("driver");
    t.name = driver;
    for (size_t i = on_node ? 0 : 1; i < KL_COUNT(prefixes); i++) {
        t.verb = kl_arena_printf(r->arena, "%s%.*s", prefixes[i], KL_PRI(verb));
        const char *why = refusal(r, &t);
        if (!why)
            return;
        first = first ? first : why;
        verbs = kl_arena_printf(r->arena, "%s%s%.*s", verbs, *verbs ? " " : "", KL_PRI(t.verb)).p;
    }
    kl_field_error(e, "FieldValueForbidden", KL_STR("status.devices"),
                   "Forbidden: changing status.devices requires "
                   "resource=\"resourceclaims/driver\", verb=\"[%s]\" permission: %s",
                   verbs, first);
}

// Adds the drivers with a device in one list that the other has not alike.
static void add_drivers(const struct kl_value *list, const struct kl_value *other,
                        struct kl_str *drivers, size_t *n)
{
    for (KL_EACH(d, list))
        if (!kl_value_equal(d, find_device(other, d)))
            drivers[(*n)++] = kl_text(kl_get(d, KL_F_driver));
}

// Each driver once, in order. What is stored has few devices; what is sent may have very many.
static void check_drivers(struct kl_req *r, const struct kl_value *now, const struct kl_value *old,
                          struct kl_field_errors *e)
{
    const struct kl_value *a = kl_path(now, KL_F_status, KL_F_devices);
    const struct kl_value *b = kl_path(old, KL_F_status, KL_F_devices);
    struct kl_str *drivers =
        kl_arena_alloc(r->arena, (kl_len(a) + kl_len(b) + 1) * sizeof *drivers);
    bool on_node = is_on(r->user, node_of(now));
    size_t n = 0;
    if (!drivers) {
        kl_field_error(e, "InternalError", KL_STR("status.devices"),
                       "Internal error: out of memory");
        return;
    }
    add_drivers(a, b, drivers, &n);
    add_drivers(b, a, drivers, &n);
    qsort(drivers, n, sizeof *drivers, kl_str_order);
    for (size_t i = 0; i < n; i++)
        if (!i || !kl_str_eq(drivers[i - 1], drivers[i]))
            check_driver(r, drivers[i], on_node, e);
}

void kl_claim_check_access(struct kl_req *r, const struct kl_value *now, const struct kl_value *old,
                           struct kl_field_errors *e)
{
    const struct kl_value *spec = kl_get(now, KL_F_spec);
    const struct kl_gate_set *gates = &r->srv->gates;
    size_t at, was;
    if (!old) {
        bool template =
            kl_resource_storage(r->info.res)->index == KL_RES_resource_v1_resourceclaimtemplates;
        check_admin(r, now, template ? kl_get(spec, KL_F_spec) : spec, e);
        return;
    }
    if (!kl_str_eqz(r->info.sub, "status"))
        return;
    if (!has_admin(old, &was) && has_admin(now, &at))
        check_label(
            r, kl_meta_namespace(now),
            kl_arena_printf(r->arena, "status.allocation.devices.results[%zu].adminAccess", at), e);
    if (!kl_gate_named_on(gates, "DRAResourceClaimGranularStatusAuthorization"))
        return;
    check_binding(r, now, old, e);
    if (kl_path(now, KL_F_status, KL_F_allocation) &&
        kl_gate_named_on(gates, "DRAResourceClaimDeviceStatus"))
        check_drivers(r, now, old, e);
}
