// SPDX-License-Identifier: Apache-2.0
// resource.k8s.io: ResourceSlices and DeviceTaintRules.
#include "object/validate/devices_int.h"

enum {
    DEVICES_MAX = 128,
    ADVANCED_DEVICES_MAX = 64, // with taints, counters or attributes that are lists
    COUNTER_SETS_MAX = 8,
    COUNTERS_MAX = 32,
    CONSUMED_MAX = 2,
    PER_DEVICE_MAX = 32, // attributes and capacities
    VALUES_MAX = 48,     // of attributes
    VALUE_BYTES_MAX = 64,
    TAINTS_MAX = 16,
    OPTIONS_MAX = 10,
    NAME_SHOWN_MAX = 63 + 1 + 32,
    RULE_CONDITIONS_MAX = 8,
};

// truncateIfTooLong: keys in paths
static struct kl_str shown_key(struct kl_v *c, struct kl_str key, size_t max)
{
    size_t left = max - 3;
    if (key.n <= max)
        return key;
    struct kl_str tail = kl_str_from(key, key.n - left / 2);
    return kl_str(kl_v_text(c, "%.*s...%.*s", (int)((left + 1) / 2), key.p, KL_PRI(tail)));
}

// ---- attributes

// MAJOR.MINOR.PATCH[-PRE][+BUILD] of semver.org
static size_t number_end(struct kl_str s, size_t i)
{
    size_t from = i;
    while (i < s.n && s.p[i] >= '0' && s.p[i] <= '9')
        i++;
    return i == from || (i - from > 1 && s.p[from] == '0') ? SIZE_MAX : i;
}

static bool are_words(struct kl_str s, bool pre)
{
    struct kl_str rest = s, word;
    if (!s.n || s.p[s.n - 1] == '.')
        return false;
    while (kl_str_split(&rest, '.', &word)) {
        bool digits = true;
        for (size_t i = 0; i < word.n; i++) {
            char ch = word.p[i];
            bool digit = ch >= '0' && ch <= '9';
            if (!digit && ch != '-' && !((ch | 32) >= 'a' && (ch | 32) <= 'z'))
                return false;
            digits &= digit;
        }
        if (!word.n || (pre && digits && word.n > 1 && word.p[0] == '0'))
            return false;
    }
    return true;
}

static bool is_semver(struct kl_str s)
{
    size_t i = 0;
    for (int part = 0; part < 3; part++) {
        if (part && (i >= s.n || s.p[i++] != '.'))
            return false;
        if ((i = number_end(s, i)) == SIZE_MAX)
            return false;
    }
    struct kl_str rest = kl_str_from(s, i);
    ptrdiff_t plus = kl_str_chr(rest, '+');
    struct kl_str pre = plus < 0 ? rest : (struct kl_str){rest.p, (size_t)plus};
    if (pre.n && (pre.p[0] != '-' || !are_words(kl_str_from(pre, 1), true)))
        return false;
    return plus < 0 || are_words(kl_str_from(rest, (size_t)plus + 1), false);
}

static void check_value(struct kl_v *c, struct kl_str s, bool version, const struct kl_vpath *p)
{
    if (version && !is_semver(s))
        kl_v_invalid_str(c, p, s, "must be a string compatible with semver.org spec 2.0.0");
    if (s.n > VALUE_BYTES_MAX)
        kl_v_too_long(c, p, VALUE_BYTES_MAX);
}

static void check_attribute(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    static const struct {
        kl_sym one, list;
        bool text, version;
    } kinds[] = {{KL_F_bool, KL_F_bools, false, false},
                 {KL_F_int, KL_F_ints, false, false},
                 {KL_F_string, KL_F_strings, true, false},
                 {KL_F_version, KL_F_versions, true, true}};
    size_t n = 0;
    for (size_t k = 0; k < KL_COUNT(kinds); k++) {
        const struct kl_value *one = kl_get(v, kinds[k].one);
        n += one != NULL;
        if (one && kinds[k].text)
            check_value(c, kl_text(one), kinds[k].version, FS(p, kinds[k].one));
    }
    for (size_t k = 0; k < KL_COUNT(kinds); k++) {
        const struct kl_value *list = kl_get(v, kinds[k].list);
        n += list != NULL;
        for (size_t i = 0; kinds[k].text && i < kl_len(list); i++)
            check_value(c, kl_text(kl_at(list, i)), kinds[k].version, I(FS(p, kinds[k].list), i));
    }
    if (!n)
        kl_v_invalid_str(c, p, KL_STR(""), "exactly one value must be specified");
    else if (n > 1)
        kl_v_invalid_json(c, p, kl_type(KL_TYPE_resource_v1_DeviceAttribute), v, true,
                          "exactly one value must be specified");
}

static bool has_list(const struct kl_value *attribute)
{
    return kl_get(attribute, KL_F_bools) || kl_get(attribute, KL_F_ints) ||
           kl_get(attribute, KL_F_strings) || kl_get(attribute, KL_F_versions);
}

static size_t count_values(const struct kl_value *device)
{
    size_t n = 0;
    for (KL_MAP_EACH_KEY(kv, kl_get(device, KL_F_attributes)))
        n += !has_list(kv + 1)
                 ? 1
                 : kl_len(kl_get(kv + 1, KL_F_bools)) + kl_len(kl_get(kv + 1, KL_F_ints)) +
                       kl_len(kl_get(kv + 1, KL_F_strings)) + kl_len(kl_get(kv + 1, KL_F_versions));
    return n;
}

// ---- capacities

static __int128 nano_of(const struct kl_value *v)
{
    struct kl_quantity q = {0};
    (void)kl_quantity_parse(kl_text(v), &q, NULL);
    return q.nano;
}

// What is not there is nothing.
static struct kl_str shown(const struct kl_value *quantity)
{
    return quantity ? kl_text(quantity) : KL_STR("0");
}

static int64_t whole_of(const struct kl_value *v)
{
    return kl_quantity_value_of(kl_text(v));
}

static void check_options(struct kl_v *c, const struct kl_value *list, const struct kl_value *def,
                          const struct kl_value *max, const struct kl_vpath *p)
{
    bool found = false;
    for (size_t i = 1; i < kl_len(list); i++)
        if (kl_v_compare(kl_at(list, i - 1), kl_at(list, i)) > 0)
            kl_v_invalid_str(c, I(p, i), kl_text(kl_at(list, i)),
                             "values must be sorted in ascending order");
    if (kl_v_few(c, list, OPTIONS_MAX, p)) {
        for (size_t i = 0; i < kl_len(list); i++) {
            if (kl_v_compare(kl_at(list, i), max) > 0)
                kl_v_invalid_str(
                    c, I(p, i), kl_text(kl_at(list, i)),
                    kl_v_text(c, "option is larger than capacity value: %.*s", KL_PRI(shown(max))));
            found |= !kl_v_compare(kl_at(list, i), def);
        }
        for (size_t i = 1; i < kl_len(list); i++)
            for (size_t k = 0; k < i; k++)
                if (whole_of(kl_at(list, k)) == whole_of(kl_at(list, i))) {
                    kl_v_duplicate(
                        c, I(p, i),
                        kl_str(kl_v_text(c, "%lld", (long long)whole_of(kl_at(list, i)))));
                    break;
                }
    }
    if (!found)
        kl_v_invalid_str(c, p, kl_text(def),
                         "default value is not valid according to the requestPolicy");
}

static void compare(struct kl_v *c, const struct kl_value *a, const struct kl_value *b, int sign,
                    const struct kl_value *limit, const char *why, const struct kl_vpath *p)
{
    int order = kl_v_compare(a, b);
    if (sign > 0 ? order > 0 : order < 0)
        kl_v_invalid_str(c, p, kl_text(a), kl_v_text(c, "%s: %.*s", why, KL_PRI(shown(limit))));
}

static void check_step(struct kl_v *c, const struct kl_value *v, const struct kl_value *min,
                       const struct kl_value *step, const struct kl_vpath *p)
{
    int64_t by = whole_of(step), from;
    // A step of nothing would end upstream's server; nothing is a multiple of it.
    if (by && !__builtin_sub_overflow(whole_of(v), whole_of(min), &from) &&
        (by == -1 || from % by == 0))
        return;
    kl_v_invalid_str(c, p, kl_text(v),
                     kl_v_text(c, "value is not a multiple of a given step (%.*s) from (%.*s)",
                               KL_PRI(kl_text(step)), KL_PRI(kl_text(min))));
}

static void check_range(struct kl_v *c, const struct kl_value *range, const struct kl_value *def,
                        const struct kl_value *all, const struct kl_vpath *p)
{
    const struct kl_value *min = kl_get(range, KL_F_min), *max = kl_get(range, KL_F_max);
    const struct kl_value *step = kl_get(range, KL_F_step);
    const struct kl_vpath *lo = F(p, min), *hi = F(p, max), *by = F(p, step);
    if (!min) {
        kl_v_required(c, lo, "required when validRange is defined");
        return;
    }
    compare(c, min, all, 1, all, "min is larger than capacity value", lo);
    compare(c, def, min, -1, min, "default is less than min", lo);
    if (max) {
        compare(c, min, max, 1, max, "min is larger than max", hi);
        compare(c, max, all, 1, all, "max is larger than capacity value", hi);
        compare(c, def, max, 1, max, "default is more than max", hi);
    }
    if (!step)
        return;
    struct kl_quantity sum = {0}, more = {0};
    char text[KL_QUANTITY_TEXT];
    (void)kl_quantity_parse(kl_text(min), &sum, NULL);
    (void)kl_quantity_parse(kl_text(step), &more, NULL);
    kl_quantity_add(&sum, &more);
    kl_quantity_text(&sum, text);
    if (sum.nano > nano_of(all))
        kl_v_invalid_str(c, by, kl_text(step),
                         kl_v_text(c, "one step %s is larger than capacity value: %.*s", text,
                                   KL_PRI(shown(all))));
    check_step(c, def, min, step, by);
    if (max)
        check_step(c, max, min, step, by);
}

static void check_capacity(struct kl_v *c, const struct kl_value *v, bool shared,
                           const struct kl_vpath *up)
{
    const struct kl_value *policy = kl_get(v, KL_F_requestPolicy), *all = kl_get(v, KL_F_value);
    const struct kl_value *def = kl_get(policy, KL_F_default);
    const struct kl_value *values = kl_get(policy, KL_F_validValues);
    const struct kl_value *range = kl_get(policy, KL_F_validRange);
    const struct kl_vpath *p = F(up, requestPolicy);
    if (policy && !shared)
        kl_v_forbidden(c, p, "allowMultipleAllocations must be true");
    else if (kl_len(values) && range)
        kl_v_forbidden(c, p,
                       "exactly one policy can be specified, cannot specify \"validValues\" and "
                       "\"validRange\" at the same time");
    else if (kl_len(values) && !def)
        kl_v_required(c, F(p, default), "required when validValues is defined");
    else if (kl_len(values))
        check_options(c, values, def, all, F(p, validValues));
    else if (range && !def)
        kl_v_required(c, F(p, default), "required when validRange is defined");
    else if (range)
        check_range(c, range, def, all, F(p, validRange));
}

// ---- counters

static void check_counters(struct kl_v *c, const struct kl_value *map, const struct kl_vpath *p)
{
    if (!kl_len(map))
        kl_v_required(c, p, "");
    else if (kl_v_few(c, map, COUNTERS_MAX, p))
        for (KL_MAP_EACH_KEY(kv, map))
            kl_v_format(c, p, kl_text(kv), KL_V_LABEL);
}

static void check_counter_sets(struct kl_v *c, const struct kl_value *list, size_t max, kl_sym name,
                               const struct kl_vpath *p)
{
    if (!kl_v_few(c, list, max, p))
        return;
    for (size_t i = 0; i < kl_len(list); i++) {
        struct kl_str s = kl_text(kl_get(kl_at(list, i), name));
        if (!s.n)
            kl_v_required(c, FS(I(p, i), name), "");
        else
            kl_v_format(c, FS(I(p, i), name), s, KL_V_LABEL);
        check_counters(c, kl_get(kl_at(list, i), KL_F_counters), F(I(p, i), counters));
    }
    kl_v_no_twins(c, list, name, p);
}

// ---- where a device or a slice is

static const char *joined(struct kl_v *c, const char *all, const char *next)
{
    return *all ? kl_v_text(c, "%s, `%s`", all, next) : kl_v_text(c, "`%s`", next);
}

struct placed {
    const char *names; // of the fields that say where, for the message
    size_t n;
};

static void place(struct kl_v *c, struct placed *at, const char *name)
{
    at->names = joined(c, at->n++ ? at->names : "", name);
}

static void place_true(struct kl_v *c, struct placed *at, const struct kl_value *v,
                       const char *name, const struct kl_vpath *p)
{
    if (kl_is_true(v))
        place(c, at, name);
    else if (v)
        kl_v_invalid(c, p, v, "must be either unset or set to true");
}

static void place_node(struct kl_v *c, struct placed *at, const struct kl_value *v,
                       const char *empty, const struct kl_vpath *p)
{
    const struct kl_value *name = kl_get(v, KL_F_nodeName);
    const struct kl_value *selector = kl_get(v, KL_F_nodeSelector);
    if (name && kl_text(name).n) {
        place(c, at, "nodeName");
        kl_v_format(c, F(p, nodeName), kl_text(name), KL_V_SUBDOMAIN);
    } else if (name) {
        kl_v_invalid_str(c, F(p, nodeName), KL_STR(""), empty);
    }
    if (selector) {
        place(c, at, "nodeSelector");
        kl_v_node_selector(c, selector, F(p, nodeSelector));
    }
}

static void check_place(struct kl_v *c, const struct kl_value *device, bool each,
                        const struct kl_vpath *p)
{
    static const char one[] = "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is "
                              "required when `perDeviceNodeSelection` is set to true in the "
                              "ResourceSlice spec";
    struct placed at = {"", 0};
    if (!each) {
        if (kl_get(device, KL_F_nodeName) || kl_get(device, KL_F_nodeSelector) ||
            kl_get(device, KL_F_allNodes))
            kl_v_invalid_text(c, p, KL_STR("null"),
                              "`nodeName`, `nodeSelector` and `allNodes` can only be set if "
                              "`perDeviceNodeSelection` is set to true in the ResourceSlice spec");
        return;
    }
    place_node(c, &at, device, "must not be empty", p);
    place_true(c, &at, kl_get(device, KL_F_allNodes), "allNodes", F(p, allNodes));
    if (!at.n)
        kl_v_required(c, p, one);
    else if (at.n > 1)
        kl_v_invalid_str(c, p, kl_str(kl_v_text(c, "{%s}", at.names)), one);
}

static void check_slice_place(struct kl_v *c, const struct kl_value *spec)
{
    const struct kl_vpath *p = &c->spec;
    const struct kl_value *selector = kl_get(spec, KL_F_nodeSelector);
    const struct kl_value *terms = kl_get(selector, KL_F_nodeSelectorTerms);
    struct placed at = {"", 0};
    place_node(c, &at, spec, "must be either unset or set to a non-empty string", p);
    if (selector && kl_len(terms) != 1)
        kl_v_invalid_json(
            c, F(F(p, nodeSelector), nodeSelectorTerms),
            kl_type_field(kl_type(KL_TYPE_core_v1_NodeSelector), KL_F_nodeSelectorTerms)->type,
            terms, true, "must have exactly one node selector term");
    place_true(c, &at, kl_get(spec, KL_F_allNodes), "allNodes", F(p, allNodes));
    place_true(c, &at, kl_get(spec, KL_F_perDeviceNodeSelection), "perDeviceNodeSelection",
               F(p, perDeviceNodeSelection));
    if (!at.n)
        kl_v_required(c, p,
                      "exactly one of `nodeName`, `nodeSelector`, `allNodes`, "
                      "`perDeviceNodeSelection` is required");
    else if (at.n > 1)
        kl_v_invalid_str(c, p, kl_str(kl_v_text(c, "{%s}", at.names)),
                         "exactly one of `nodeName`, `nodeSelector`, `allNodes`, "
                         "`perDeviceNodeSelection` is required, but multiple fields are set");
}

// ---- devices

static void check_mappings(struct kl_v *c, const struct kl_value *device, const struct kl_vpath *up)
{
    const struct kl_value *capacity = kl_get(device, KL_F_capacity);
    for (KL_MAP_EACH_KEY(kv, kl_get(device, KL_F_nodeAllocatableResourceMappings))) {
        struct kl_str name = kl_text(kv);
        const struct kl_vpath *p = K(F(up, nodeAllocatableResourceMappings), name);
        const struct kl_value *times = kl_get(kv + 1, KL_F_allocationMultiplier);
        const struct kl_value *key = kl_get(kv + 1, KL_F_capacityKey);
        if (!kl_v_is_native(name))
            kl_v_invalid_str(c, p, name, "must be a node allocatable resource name");
        if (!times && !key)
            kl_v_invalid_str(c, p, KL_STR(""),
                             "at least one of allocationMultiplier or capacityKey must be set");
        if (times && nano_of(times) <= 0)
            kl_v_invalid_str(c, F(p, allocationMultiplier), kl_text(times), "must be positive");
        if (key && !kl_text(key).n)
            kl_v_invalid_str(c, F(p, capacityKey), KL_STR(""),
                             "capacityKey must not be an empty string");
        else if (key && !kl_map_value(capacity, kl_text(key)))
            kl_v_not_found(c, F(p, capacityKey), kl_text(key));
    }
}

static const struct kl_value *device_named(const struct kl_value *spec, struct kl_str name)
{
    for (KL_EACH(d, kl_get(spec, KL_F_devices)))
        if (kl_str_eq(kl_text(kl_get(d, KL_F_name)), name))
            return d;
    return NULL;
}

static void check_device(struct kl_v *c, const struct kl_value *d, const struct kl_value *old,
                         bool each, const struct kl_vpath *p)
{
    const struct kl_value *attributes = kl_get(d, KL_F_attributes);
    const struct kl_value *capacity = kl_get(d, KL_F_capacity), *taints = kl_get(d, KL_F_taints);
    bool shared = kl_is_true(kl_get(d, KL_F_allowMultipleAllocations));
    size_t named = kl_len(attributes) + kl_len(capacity), values = count_values(d);
    kl_v_format(c, F(p, name), kl_text(kl_get(d, KL_F_name)), KL_V_LABEL);
    if (named > PER_DEVICE_MAX)
        kl_v_invalid_int(c, p, (int64_t)named,
                         kl_v_text(c,
                                   "the total number of attributes and capacities must not exceed "
                                   "%d",
                                   PER_DEVICE_MAX));
    if (values > VALUES_MAX)
        kl_v_invalid_int(
            c, p, (int64_t)values,
            kl_v_text(c, "the total number of attribute values must not exceed %d", VALUES_MAX));
    for (KL_MAP_EACH_KEY(kv, attributes)) {
        kl_v_qualified_name(c, kl_text(kv), F(p, attributes));
        check_attribute(c, kv + 1, K(F(p, attributes), shown_key(c, kl_text(kv), NAME_SHOWN_MAX)));
    }
    for (KL_MAP_EACH_KEY(kv, capacity)) {
        kl_v_qualified_name(c, kl_text(kv), F(p, capacity));
        check_capacity(c, kv + 1, shared,
                       K(F(p, capacity), shown_key(c, kl_text(kv), NAME_SHOWN_MAX)));
    }
    if ((!old || !kl_value_equal(kl_get(old, KL_F_taints), taints)) &&
        kl_v_few(c, taints, TAINTS_MAX, F(p, taints)))
        for (size_t i = 0; i < kl_len(taints); i++)
            kl_v_device_taint(c, kl_at(taints, i), (struct kl_str){NULL, 0}, I(F(p, taints), i));
    check_counter_sets(c, kl_get(d, KL_F_consumesCounters), CONSUMED_MAX, KL_F_counterSet,
                       F(p, consumesCounters));
    check_place(c, d, each, p);
    kl_v_device_binding(c, d, p);
    check_mappings(c, d, p);
}

static bool is_advanced(const struct kl_value *devices)
{
    for (KL_EACH(d, devices)) {
        if (kl_len(kl_get(d, KL_F_taints)) || kl_len(kl_get(d, KL_F_consumesCounters)))
            return true;
        for (KL_MAP_EACH_KEY(kv, kl_get(d, KL_F_attributes)))
            if (has_list(kv + 1))
                return true;
    }
    return false;
}

static void check_slice(struct kl_v *c)
{
    const struct kl_value *spec = kl_v_spec(c), *old = kl_v_old_spec(c);
    const struct kl_value *pool = kl_get(spec, KL_F_pool), *devices = kl_get(spec, KL_F_devices);
    const struct kl_value *counters = kl_get(spec, KL_F_sharedCounters);
    const struct kl_vpath *p = &c->spec, *pp = F(p, pool), *dp = F(p, devices);
    const struct kl_value *name = kl_get(pool, KL_F_name), *driver = kl_get(spec, KL_F_driver);
    int64_t count = kl_int_at(pool, 0, KL_F_resourceSliceCount);
    int64_t generation = kl_int_at(pool, 0, KL_F_generation);
    bool each = kl_is_true(kl_get(spec, KL_F_perDeviceNodeSelection));
    kl_v_driver_name(c, driver, F(p, driver));
    kl_v_pool_name(c, kl_text(name), F(pp, name));
    if (count <= 0)
        kl_v_invalid_int(c, F(pp, resourceSliceCount), count, "must be greater than zero");
    if (generation < 0)
        kl_v_invalid_int(c, F(pp, generation), generation, "must be greater than or equal to zero");
    if (c->old) {
        if (!kl_str_eq(kl_text(name), kl_text_at(old, KL_F_pool, KL_F_name)))
            kl_v_invalid_str(c, F(pp, name), kl_text(name), "field is immutable");
        if (!kl_str_eq(kl_text(driver), kl_text(kl_get(old, KL_F_driver))))
            kl_v_invalid_str(c, F(p, driver), kl_text(driver), "field is immutable");
        kl_v_immutable(c, F(p, nodeName), NULL, kl_get(spec, KL_F_nodeName),
                       kl_get(old, KL_F_nodeName), false);
    }
    check_slice_place(c, spec);
    if (counters && devices)
        kl_v_invalid_str(c, p, KL_STR(""), "only one of `sharedCounters` or `devices` is allowed");
    if (kl_v_few(c, devices, is_advanced(devices) ? ADVANCED_DEVICES_MAX : DEVICES_MAX, dp)) {
        for (size_t i = 0; i < kl_len(devices); i++) {
            const struct kl_value *d = kl_at(devices, i);
            check_device(c, d, device_named(old, kl_text(kl_get(d, KL_F_name))), each, I(dp, i));
        }
        kl_v_no_twins(c, devices, KL_F_name, dp);
    }
    check_counter_sets(c, counters, COUNTER_SETS_MAX, KL_F_name, F(p, sharedCounters));
}

static void create_slice(struct kl_v *c)
{
    kl_v_meta(c, KL_V_SUBDOMAIN);
    check_slice(c);
}

static void update_slice(struct kl_v *c)
{
    kl_v_meta_update(c);
    check_slice(c);
}

// ---- DeviceTaintRules

static void check_rule(struct kl_v *c)
{
    const struct kl_value *spec = kl_v_spec(c), *s = kl_get(spec, KL_F_deviceSelector);
    const struct kl_vpath *p = F(&c->spec, deviceSelector);
    struct kl_str effect = kl_text_at(kl_v_old_spec(c), KL_F_taint, KL_F_effect);
    if (kl_get(s, KL_F_driver))
        kl_v_driver_name(c, kl_get(s, KL_F_driver), F(p, driver));
    if (kl_get(s, KL_F_pool))
        kl_v_pool_name(c, kl_text(kl_get(s, KL_F_pool)), F(p, pool));
    if (kl_get(s, KL_F_device))
        kl_v_format(c, F(p, device), kl_text(kl_get(s, KL_F_device)), KL_V_LABEL);
    kl_v_device_taint(c, kl_get(spec, KL_F_taint), c->old ? effect : (struct kl_str){NULL, 0},
                      F(&c->spec, taint));
}

static void create_rule(struct kl_v *c)
{
    kl_v_meta(c, KL_V_SUBDOMAIN);
    check_rule(c);
}

static void update_rule(struct kl_v *c)
{
    kl_v_meta_update(c);
    check_rule(c);
}

static void status_rule(struct kl_v *c)
{
    const struct kl_value *list = kl_path(c->now, KL_F_status, KL_F_conditions);
    kl_v_meta_update(c);
    kl_v_conditions(c, F(&c->status, conditions), list);
    kl_v_few(c, list, RULE_CONDITIONS_MAX, F(&c->status, conditions));
}

const struct kl_v_kind kl_v_device_slices[] = {
    {KL_RES_resource_v1_resourceslices, create_slice, update_slice, NULL, NULL, NULL},
    {KL_RES_resource_v1alpha3_devicetaintrules, create_rule, update_rule, status_rule, NULL, NULL},
    {0},
};
