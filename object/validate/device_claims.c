// SPDX-License-Identifier: Apache-2.0
// resource.k8s.io: ResourceClaims and their templates.
#include "object/validate/devices_int.h"
#include <stdlib.h>

enum {
    FIRST_AVAILABLE_MAX = 8,
    RESERVED_MAX = 256,
    STATUS_CONDITIONS_MAX = 8,
    IPS_MAX = 16,
    INTERFACE_NAME_MAX = 256,
    HARDWARE_ADDRESS_MAX = 128,
};

// ---- names of requests

// A request, or a subrequest of it. What is sent may have very many of both, and be full of
// references to them: they are sorted once.
struct request_name {
    struct kl_str request, sub;
    bool is_sub;
    size_t at; // the request's place: of those of one name the last one counts, as in a map
};
struct requests {
    struct request_name *v;
    size_t n;
};

static int compare_names(const struct request_name *a, const struct request_name *b)
{
    int c = kl_str_cmp(a->request, b->request);
    c = c ? c : (a->at > b->at) - (a->at < b->at);
    c = c ? c : a->is_sub - b->is_sub;
    return c ? c : kl_str_cmp(a->sub, b->sub);
}

static int by_name(const void *a, const void *b)
{
    return compare_names(a, b);
}

// False: no memory, and said.
static bool read_requests(struct kl_v *c, const struct kl_value *list, const struct kl_vpath *p,
                          struct requests *ret)
{
    size_t n = 0;
    for (KL_EACH(r, list))
        n += 1 + kl_len(kl_get(r, KL_F_firstAvailable));
    *ret = (struct requests){.v = kl_arena_alloc(c->f->arena, (n + 1) * sizeof *ret->v)};
    if (!ret->v) {
        kl_v_internal(c, p, "out of memory");
        return false;
    }
    for (size_t i = 0; i < kl_len(list); i++) {
        const struct kl_value *r = kl_at(list, i);
        struct kl_str name = kl_text(kl_get(r, KL_F_name));
        ret->v[ret->n++] = (struct request_name){.request = name, .at = i};
        for (KL_EACH(sub, kl_get(r, KL_F_firstAvailable)))
            ret->v[ret->n++] = (struct request_name){
                .request = name, .sub = kl_text(kl_get(sub, KL_F_name)), .is_sub = true, .at = i};
    }
    qsort(ret->v, ret->n, sizeof *ret->v, by_name);
    return true;
}

// The number of entries that are not after `x`.
static size_t entries_until(const struct requests *rs, const struct request_name *x)
{
    size_t i = 0;
    for (size_t end = rs->n; i < end;) {
        size_t middle = i + (end - i) / 2;
        if (compare_names(&rs->v[middle], x) > 0)
            end = middle;
        else
            i = middle + 1;
    }
    return i;
}

// REQUEST or REQUEST/SUBREQUEST
static bool is_request(const struct requests *rs, struct kl_str ref)
{
    ptrdiff_t slash = kl_str_chr(ref, '/');
    struct kl_str name = slash < 0 ? ref : (struct kl_str){ref.p, (size_t)slash};
    const struct request_name most = {.request = name, .at = SIZE_MAX};
    size_t i = entries_until(rs, &most);
    if (!i || !kl_str_eq(rs->v[i - 1].request, name))
        return false;
    if (slash < 0)
        return true;
    const struct request_name want = {.request = name,
                                      .sub = kl_str_from(ref, (size_t)slash + 1),
                                      .is_sub = true,
                                      .at = rs->v[i - 1].at};
    i = entries_until(rs, &want);
    return i && !compare_names(&rs->v[i - 1], &want);
}

static void check_ref(struct kl_v *c, const struct requests *requests, struct kl_str ref,
                      const struct kl_vpath *p)
{
    static const char unknown[] = "must be the name of a request in the claim or the name of a "
                                  "request and a subrequest separated by '/'";
    ptrdiff_t slash = kl_str_chr(ref, '/');
    struct kl_str sub = kl_str_from(ref, (size_t)(slash + 1));
    if (slash >= 0 && kl_str_chr(sub, '/') >= 0) {
        kl_v_invalid_str(c, p, ref, unknown);
        return;
    }
    if (slash >= 0)
        kl_v_format(c, p, (struct kl_str){ref.p, (size_t)slash}, KL_V_LABEL);
    kl_v_format(c, p, sub, KL_V_LABEL);
    if (!is_request(requests, ref))
        kl_v_invalid_str(c, p, ref, unknown);
}

static void check_refs(struct kl_v *c, const struct requests *requests, const struct kl_value *refs,
                       const struct kl_vpath *p)
{
    if (!kl_v_few(c, refs, KL_DEVICE_LIST_MAX, p))
        return;
    for (size_t i = 0; i < kl_len(refs); i++)
        check_ref(c, requests, kl_text(kl_at(refs, i)), I(p, i));
    kl_v_no_twins(c, refs, KL_SYM_NONE, p);
}

// ---- requests

static void check_mode(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    static const char *const modes[] = {"All", "ExactCount", NULL};
    struct kl_str mode = kl_text(kl_get(v, KL_F_allocationMode));
    int64_t count = kl_int_at(v, 0, KL_F_count);
    if (kl_str_eqz(mode, "All")) {
        if (count)
            kl_v_invalid_int(c, F(p, count), count,
                             "must not be specified when allocationMode is 'All'");
    } else if (kl_str_eqz(mode, "ExactCount")) {
        if (count <= 0)
            kl_v_invalid_int(c, F(p, count), count, "must be greater than zero");
    } else {
        kl_v_unsupported(c, F(p, allocationMode), mode, modes);
    }
}

// What an exact request and an alternative have in common.
static void check_wanted(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    struct kl_str class = kl_text(kl_get(v, KL_F_deviceClassName));
    const struct kl_value *tolerations = kl_get(v, KL_F_tolerations);
    if (!class.n)
        kl_v_required(c, F(p, deviceClassName), "");
    else
        kl_v_format(c, F(p, deviceClassName), class, KL_V_SUBDOMAIN);
    kl_v_device_selectors(c, kl_get(v, KL_F_selectors), F(p, selectors));
    check_mode(c, v, p);
    for (size_t i = 0; i < kl_len(tolerations); i++)
        kl_v_device_toleration(c, kl_at(tolerations, i), I(F(p, tolerations), i));
}

static void check_request(struct kl_v *c, const struct kl_value *r, const struct kl_vpath *p)
{
    const struct kl_value *first = kl_get(r, KL_F_firstAvailable);
    const struct kl_value *exactly = kl_get(r, KL_F_exactly);
    const struct kl_vpath *fp = F(p, firstAvailable);
    kl_v_format(c, F(p, name), kl_text(kl_get(r, KL_F_name)), KL_V_LABEL);
    if (kl_len(first) && exactly) {
        kl_v_invalid_text(c, p, KL_STR("null"),
                          "exactly one of `exactly` or `firstAvailable` is required, but multiple "
                          "fields are set");
    } else if (exactly) {
        check_wanted(c, exactly, F(p, exactly));
    } else if (!kl_len(first)) {
        kl_v_required(c, p, "exactly one of `exactly` or `firstAvailable` is required");
    } else if (kl_v_few(c, first, FIRST_AVAILABLE_MAX, fp)) {
        for (size_t i = 0; i < kl_len(first); i++) {
            const struct kl_value *sub = kl_at(first, i);
            kl_v_format(c, F(I(fp, i), name), kl_text(kl_get(sub, KL_F_name)), KL_V_LABEL);
            check_wanted(c, sub, I(fp, i));
        }
        kl_v_no_twins(c, first, KL_F_name, fp);
    }
}

static void check_constraint(struct kl_v *c, const struct requests *requests,
                             const struct kl_value *v, const struct kl_vpath *p)
{
    static const kl_sym attributes[] = {KL_F_matchAttribute, KL_F_distinctAttribute};
    check_refs(c, requests, kl_get(v, KL_F_requests), F(p, requests));
    for (size_t i = 0; i < KL_COUNT(attributes); i++) {
        const struct kl_value *a = kl_get(v, attributes[i]);
        const struct kl_vpath *at = FS(p, attributes[i]);
        if (!a)
            continue;
        kl_v_qualified_name(c, kl_text(a), at);
        if (kl_str_chr(kl_text(a), '/') < 0)
            kl_v_invalid_str(c, at, kl_text(a),
                             "a fully qualified name must be a domain and a name separated by a "
                             "slash");
        return;
    }
    kl_v_required(c, p,
                  "exactly one of \"matchAttribute\" or \"distinctAttribute\" is required, but "
                  "multiple fields are set");
}

static void check_claim(struct kl_v *c, const struct kl_value *spec, const struct kl_vpath *up)
{
    const struct kl_value *d = kl_get(spec, KL_F_devices), *requests = kl_get(d, KL_F_requests);
    const struct kl_value *constraints = kl_get(d, KL_F_constraints);
    const struct kl_value *config = kl_get(d, KL_F_config);
    const struct kl_vpath *p = F(up, devices);
    struct requests names;
    if (!read_requests(c, requests, F(p, requests), &names))
        return;
    if (kl_v_few(c, requests, KL_DEVICE_LIST_MAX, F(p, requests))) {
        for (size_t i = 0; i < kl_len(requests); i++)
            check_request(c, kl_at(requests, i), I(F(p, requests), i));
        kl_v_no_twins(c, requests, KL_F_name, F(p, requests));
    }
    kl_v_device_env_end(c);
    if (kl_v_few(c, constraints, KL_DEVICE_LIST_MAX, F(p, constraints)))
        for (size_t i = 0; i < kl_len(constraints); i++)
            check_constraint(c, &names, kl_at(constraints, i), I(F(p, constraints), i));
    if (!kl_v_few(c, config, KL_DEVICE_LIST_MAX, F(p, config)))
        return;
    for (size_t i = 0; i < kl_len(config); i++) {
        const struct kl_vpath *at = I(F(p, config), i);
        check_refs(c, &names, kl_get(kl_at(config, i), KL_F_requests), F(at, requests));
        kl_v_device_config(c, kl_at(config, i), false, at);
    }
}

// ---- status

// What tells an allocated device from others.
struct device_id {
    struct kl_str driver, pool, device, share;
};

static struct device_id id_of(const struct kl_value *v)
{
    return (struct device_id){kl_text(kl_get(v, KL_F_driver)), kl_text(kl_get(v, KL_F_pool)),
                              kl_text(kl_get(v, KL_F_device)), kl_text(kl_get(v, KL_F_shareID))};
}

static int compare_ids(const struct device_id *a, const struct device_id *b)
{
    int c = kl_str_cmp(a->driver, b->driver);
    c = c ? c : kl_str_cmp(a->pool, b->pool);
    c = c ? c : kl_str_cmp(a->device, b->device);
    return c ? c : kl_str_cmp(a->share, b->share);
}

// The devices of a list in order, those alike by where they stand.
struct place {
    struct device_id id;
    size_t at;
};

static int by_id(const void *a, const void *b)
{
    const struct place *x = a, *y = b;
    int c = compare_ids(&x->id, &y->id);
    return c ? c : x->at < y->at ? -1 : x->at > y->at;
}

// NULL: no memory, and said.
static struct place *places_of(struct kl_v *c, const struct kl_value *list,
                               const struct kl_vpath *p)
{
    struct place *v = kl_arena_alloc(c->f->arena, (kl_len(list) + 1) * sizeof *v);
    if (!v) {
        kl_v_internal(c, p, "out of memory");
        return NULL;
    }
    for (size_t i = 0; i < kl_len(list); i++)
        v[i] = (struct place){id_of(kl_at(list, i)), i};
    qsort(v, kl_len(list), sizeof *v, by_id);
    return v;
}

static bool has_id(const struct place *v, size_t n, struct device_id id)
{
    for (size_t end = n, i = 0; i < end;) {
        size_t middle = i + (end - i) / 2;
        int c = compare_ids(&v[middle].id, &id);
        if (!c)
            return true;
        if (c < 0)
            i = middle + 1;
        else
            end = middle;
    }
    return false;
}

static void check_reserved(struct kl_v *c, const struct kl_value *list, const struct kl_vpath *p)
{
    static const kl_sym wanted[] = {KL_F_resource, KL_F_name, KL_F_uid};
    if (!kl_v_few(c, list, RESERVED_MAX, p))
        return;
    for (size_t i = 0; i < kl_len(list); i++)
        for (size_t k = 0; k < KL_COUNT(wanted); k++)
            if (!kl_text(kl_get(kl_at(list, i), wanted[k])).n)
                kl_v_required(c, FS(I(p, i), wanted[k]), "");
    kl_v_no_twins(c, list, KL_F_uid, p);
}

static void check_network(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    const struct kl_value *ips = kl_get(v, KL_F_ips);
    if (kl_text(kl_get(v, KL_F_interfaceName)).n > INTERFACE_NAME_MAX)
        kl_v_too_long(c, F(p, interfaceName), INTERFACE_NAME_MAX);
    if (kl_text(kl_get(v, KL_F_hardwareAddress)).n > HARDWARE_ADDRESS_MAX)
        kl_v_too_long(c, F(p, hardwareAddress), HARDWARE_ADDRESS_MAX);
    if (!kl_v_few(c, ips, IPS_MAX, F(p, ips)))
        return;
    for (size_t i = 0; i < kl_len(ips); i++)
        kl_v_interface_address(c, I(F(p, ips), i), kl_text(kl_at(ips, i)));
    kl_v_no_twins(c, ips, KL_SYM_NONE, F(p, ips));
}

static struct kl_str shown_id(struct kl_v *c, struct device_id id)
{
    const struct {
        const char *name;
        struct kl_str text;
    } parts[] = {
        {"Driver", id.driver}, {"Pool", id.pool}, {"Device", id.device}, {"ShareID", id.share}};
    const char *all = "{";
    for (size_t i = 0; i < KL_COUNT(parts); i++) {
        const struct kl_value v = kl_string(parts[i].text);
        all = kl_v_text(c, "%s%s\"%s\":%.*s", all, i ? "," : "", parts[i].name,
                        KL_PRI(kl_v_json(c, NULL, &v, false)));
    }
    return kl_str(kl_v_text(c, "%s}", all));
}

static void check_device(struct kl_v *c, const struct kl_value *d, bool allocated,
                         const struct kl_vpath *p)
{
    const struct kl_value *share = kl_get(d, KL_F_shareID), *data = kl_get(d, KL_F_data);
    const struct kl_value *conditions = kl_get(d, KL_F_conditions);
    kl_v_driver_name(c, kl_get(d, KL_F_driver), F(p, driver));
    kl_v_pool_name(c, kl_text(kl_get(d, KL_F_pool)), F(p, pool));
    kl_v_format(c, F(p, device), kl_text(kl_get(d, KL_F_device)), KL_V_LABEL);
    if (share)
        kl_v_device_uuid(c, kl_text(share), F(p, shareID));
    if (!allocated)
        kl_v_invalid_text(c, p, shown_id(c, id_of(d)), "must be an allocated device in the claim");
    kl_v_few(c, conditions, STATUS_CONDITIONS_MAX, F(p, conditions));
    kl_v_conditions(c, F(p, conditions), conditions);
    if (kl_text(data).n)
        kl_v_raw_object(c, data, false, F(p, data));
    check_network(c, kl_get(d, KL_F_networkData), F(p, networkData));
}

static void check_result(struct kl_v *c, const struct requests *requests, const struct kl_value *v,
                         const struct kl_vpath *p)
{
    const struct kl_value *share = kl_get(v, KL_F_shareID);
    check_ref(c, requests, kl_text(kl_get(v, KL_F_request)), F(p, request));
    kl_v_driver_name(c, kl_get(v, KL_F_driver), F(p, driver));
    kl_v_pool_name(c, kl_text(kl_get(v, KL_F_pool)), F(p, pool));
    kl_v_format(c, F(p, device), kl_text(kl_get(v, KL_F_device)), KL_V_LABEL);
    kl_v_device_binding(c, v, p);
    if (share)
        kl_v_device_uuid(c, kl_text(share), F(p, shareID));
}

static void check_allocation(struct kl_v *c, const struct kl_value *requests,
                             const struct kl_value *v, const struct kl_vpath *up)
{
    static const char *const sources[] = {"FromClaim", "FromClass", NULL};
    const struct kl_value *results = kl_path(v, KL_F_devices, KL_F_results);
    const struct kl_value *config = kl_path(v, KL_F_devices, KL_F_config);
    const struct kl_vpath *p = F(up, devices);
    struct requests names;
    if (!read_requests(c, requests, up, &names))
        return;
    if (kl_v_few(c, results, KL_DEVICE_LIST_MAX, F(p, results)))
        for (size_t i = 0; i < kl_len(results); i++)
            check_result(c, &names, kl_at(results, i), I(F(p, results), i));
    if (kl_v_few(c, config, 2 * (size_t)KL_DEVICE_LIST_MAX, F(p, config)))
        for (size_t i = 0; i < kl_len(config); i++) {
            const struct kl_value *x = kl_at(config, i);
            const struct kl_vpath *at = I(F(p, config), i);
            struct kl_str source = kl_text(kl_get(x, KL_F_source));
            if (!source.n)
                kl_v_required(c, F(at, source), "");
            else if (!kl_v_in(source, sources))
                kl_v_unsupported(c, F(at, source), source, sources);
            check_refs(c, &names, kl_get(x, KL_F_requests), F(at, requests));
            kl_v_device_config(c, x, false, at);
        }
    if (kl_get(v, KL_F_nodeSelector))
        kl_v_node_selector(c, kl_get(v, KL_F_nodeSelector), F(up, nodeSelector));
}

// What is sent may have very many of both.
static void check_devices(struct kl_v *c, const struct kl_value *devices,
                          const struct kl_value *results, const struct kl_vpath *p)
{
    size_t n = kl_len(devices);
    bool *again = n ? kl_arena_zalloc(c->f->arena, n) : NULL;
    struct place *there = again ? places_of(c, results, p) : NULL;
    struct place *v = there ? places_of(c, devices, p) : NULL;
    if (n && !again)
        kl_v_internal(c, p, "out of memory");
    if (!v)
        return;
    for (size_t i = 1; i < n; i++)
        again[v[i].at] = !compare_ids(&v[i - 1].id, &v[i].id);
    for (size_t i = 0; i < n; i++) {
        const struct kl_value *d = kl_at(devices, i);
        check_device(c, d, has_id(there, kl_len(results), id_of(d)), I(p, i));
    }
    for (size_t i = 0; i < n; i++)
        if (again[i])
            kl_v_duplicate_text(c, I(p, i), shown_id(c, id_of(kl_at(devices, i))));
}

static bool adds_reserved(const struct kl_value *now, const struct kl_value *old)
{
    for (KL_EACH(x, now)) {
        bool had = false;
        for (KL_EACH(y, old))
            had |= kl_value_equal(x, y);
        if (!had)
            return true;
    }
    return false;
}

static void status_claim(struct kl_v *c)
{
    const struct kl_value *status = kl_get(c->now, KL_F_status);
    const struct kl_value *was = kl_get(c->old, KL_F_status);
    const struct kl_value *reserved = kl_get(status, KL_F_reservedFor);
    const struct kl_value *devices = kl_get(status, KL_F_devices);
    const struct kl_value *allocation = kl_get(status, KL_F_allocation);
    const struct kl_value *results = kl_path(allocation, KL_F_devices, KL_F_results);
    const struct kl_value *requests = kl_path(c->now, KL_F_spec, KL_F_devices, KL_F_requests);
    const struct kl_vpath *p = &c->status;
    kl_v_meta_update(c);
    check_reserved(c, reserved, F(p, reservedFor));
    check_devices(c, devices, results, F(p, devices));
    if (kl_len(reserved) && !allocation)
        kl_v_forbidden(c, F(p, reservedFor), "may not be specified when `allocated` is not set");
    else if (kl_meta_deleting(c->now) && adds_reserved(reserved, kl_get(was, KL_F_reservedFor)))
        kl_v_forbidden(c, F(p, reservedFor),
                       "new entries may not be added while `deallocationRequested` or "
                       "`deletionTimestamp` are set");
    if (allocation && kl_get(was, KL_F_allocation))
        kl_v_immutable(c, F(p, allocation), kl_type(KL_TYPE_resource_v1_AllocationResult),
                       allocation, kl_get(was, KL_F_allocation), true);
    else if (allocation)
        check_allocation(c, requests, allocation, F(p, allocation));
}

// ---- the kinds

static void create_claim(struct kl_v *c)
{
    kl_v_meta(c, KL_V_SUBDOMAIN);
    check_claim(c, kl_v_spec(c), &c->spec);
}

static void update_claim(struct kl_v *c)
{
    kl_v_meta(c, KL_V_SUBDOMAIN);
    kl_v_meta_update(c);
    kl_v_immutable(c, &c->spec, kl_type(KL_TYPE_resource_v1_ResourceClaimSpec),
                   kl_v_or_empty(kl_v_spec(c)), kl_v_or_empty(kl_v_old_spec(c)), true);
}

static void create_template(struct kl_v *c)
{
    const struct kl_value *spec = kl_v_spec(c);
    kl_v_meta(c, KL_V_SUBDOMAIN);
    kl_v_template_meta(c, kl_get(spec, KL_F_metadata), F(&c->spec, metadata));
    check_claim(c, kl_get(spec, KL_F_spec), F(&c->spec, spec));
}

static void update_template(struct kl_v *c)
{
    create_template(c);
    kl_v_meta_update(c);
    kl_v_immutable(c, &c->spec, kl_type(KL_TYPE_resource_v1_ResourceClaimTemplateSpec),
                   kl_v_or_empty(kl_v_spec(c)), kl_v_or_empty(kl_v_old_spec(c)), true);
}

const struct kl_v_kind kl_v_device_claims[] = {
    {KL_RES_resource_v1_resourceclaims, create_claim, update_claim, status_claim, NULL, NULL},
    {KL_RES_resource_v1_resourceclaimtemplates, create_template, update_template, NULL, NULL, NULL},
    {0},
};
