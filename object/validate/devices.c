// SPDX-License-Identifier: Apache-2.0
// resource.k8s.io: DeviceClasses, and what claims and slices say in the same way.
#include "object/validate/devices_int.h"
#include "object/cel/device.h"
#include "object/json.h"

enum { DOMAIN_MAX = 63, ID_MAX = 32, BINDING_MAX = 4, UUID_BYTES = 36 };

bool kl_v_few(struct kl_v *c, const struct kl_value *list, size_t max, const struct kl_vpath *p)
{
    if (kl_len(list) <= max)
        return true;
    kl_v_too_many(c, p, kl_len(list), max);
    return false;
}

static struct kl_str key_of(const struct kl_value *item, kl_sym key)
{
    return kl_text(key ? kl_get(item, key) : item);
}

void kl_v_no_twins(struct kl_v *c, const struct kl_value *list, kl_sym key,
                   const struct kl_vpath *p)
{
    for (size_t i = 1; i < kl_len(list); i++)
        for (size_t k = 0; k < i; k++)
            if (kl_str_eq(key_of(kl_at(list, k), key), key_of(kl_at(list, i), key))) {
                kl_v_duplicate(c, I(p, i), key_of(kl_at(list, i), key));
                break;
            }
}

// ---- selectors

static void check_expression(struct kl_v *c, struct kl_str text, const struct kl_vpath *p)
{
    struct kl_cel_program *program = NULL;
    struct kl_str why = KL_STR("");
    if (text.n > KL_DEVICE_EXPRESSION_MAX) {
        kl_v_too_long(c, p, KL_DEVICE_EXPRESSION_MAX);
        return;
    }
    if (!c->device_env)
        c->device_env = kl_cel_device_env();
    int rc = c->device_env ? kl_cel_device_compile(c->device_env, text, c->f->arena, &program, &why)
                           : KL_ENOMEM;
    if (rc == KL_EINVALID)
        kl_v_invalid_str(c, p, text, kl_v_text(c, "%.*s", KL_PRI(why)));
    else if (rc == KL_ELIMIT)
        kl_v_forbidden(c, p, "too complex, exceeds cost limit");
    else if (rc)
        kl_v_internal(c, p, "out of memory");
    kl_cel_program_unref(program);
}

void kl_v_device_selectors(struct kl_v *c, const struct kl_value *list, const struct kl_vpath *p)
{
    if (!kl_v_few(c, list, KL_DEVICE_LIST_MAX, p))
        return;
    for (size_t i = 0; i < kl_len(list); i++) {
        const struct kl_value *cel = kl_get(kl_at(list, i), KL_F_cel);
        const struct kl_vpath *at = F(I(p, i), cel);
        if (!cel)
            kl_v_required(c, at, "");
        else
            check_expression(c, kl_text(kl_get(cel, KL_F_expression)), F(at, expression));
    }
}

void kl_v_device_env_end(struct kl_v *c)
{
    kl_cel_env_unref(c->device_env);
    c->device_env = NULL;
}

// ---- configurations

void kl_v_raw_object(struct kl_v *c, const struct kl_value *v, bool stored,
                     const struct kl_vpath *p)
{
    struct kl_str json = kl_text(v);
    struct kl_value parsed;
    struct kl_error err = {0};
    if (!json.n || kl_str_eqz(json, "null"))
        kl_v_required(c, p, "");
    else if (!stored && json.n > KL_DEVICE_DATA_MAX)
        kl_v_too_long(c, p, KL_DEVICE_DATA_MAX);
    else if (kl_json_parse(c->f->arena, json, NULL, &parsed, &err))
        kl_v_invalid_str(c, p, KL_STR("<value omitted>"),
                         kl_v_text(c, "error parsing data as JSON: %s", err.msg));
    else if (!kl_is(&parsed, KL_MAP))
        kl_v_invalid_str(c, p, KL_STR("<value omitted>"), "must be a valid JSON object");
}

void kl_v_device_config(struct kl_v *c, const struct kl_value *v, bool stored,
                        const struct kl_vpath *p)
{
    const struct kl_value *opaque = kl_get(v, KL_F_opaque);
    const struct kl_vpath *at = F(p, opaque);
    if (!opaque) {
        kl_v_required(c, at, "");
        return;
    }
    kl_v_driver_name(c, kl_get(opaque, KL_F_driver), F(at, driver));
    kl_v_raw_object(c, kl_get(opaque, KL_F_parameters), stored, F(at, parameters));
}

// ---- names

// Parts are DNS subdomains, separated by slashes.
void kl_v_pool_name(struct kl_v *c, struct kl_str name, const struct kl_vpath *p)
{
    struct kl_str rest = name, part;
    if (!name.n) {
        kl_v_required(c, p, "");
        return;
    }
    if (name.n > 253)
        kl_v_too_long(c, p, 253);
    while (kl_str_split(&rest, '/', &part))
        kl_v_format(c, p, part, KL_V_SUBDOMAIN);
}

static void check_id(struct kl_v *c, struct kl_str id, const struct kl_vpath *p)
{
    if (id.n > ID_MAX)
        kl_v_too_long(c, p, ID_MAX);
    kl_v_format(c, p, id, KL_V_C_IDENTIFIER);
}

// A C identifier, or a domain and one. More slashes pass, as there.
void kl_v_qualified_name(struct kl_v *c, struct kl_str name, const struct kl_vpath *p)
{
    ptrdiff_t slash = kl_str_chr(name, '/');
    if (slash < 0) {
        check_id(c, name, p);
        return;
    }
    struct kl_str domain = {name.p, (size_t)slash}, id = kl_str_from(name, (size_t)slash + 1);
    const struct kl_value text = kl_string(domain);
    if (kl_str_chr(id, '/') >= 0)
        return;
    if (!domain.n)
        kl_v_invalid_str(c, p, domain, "the domain must not be empty");
    else
        kl_v_driver_name(c, &text, p);
    if (!id.n)
        kl_v_invalid_str(c, p, id, "the name must not be empty");
    else
        check_id(c, id, p);
}

// What google/uuid's Validate says of a text.
static const char *uuid_error(struct kl_v *c, struct kl_str s)
{
    static const char urn[] = "urn:uuid:";
    if (s.n == UUID_BYTES + 9) {
        struct kl_str head = {s.p, 9};
        if (strncasecmp(s.p, urn, 9) != 0)
            return kl_v_text(c, "invalid urn prefix: \"%.*s\"", KL_PRI(head));
        s = kl_str_from(s, 9);
    } else if (s.n == UUID_BYTES + 2) {
        return s.p[0] != '{' || s.p[s.n - 1] != '}' ? "invalid bracketed UUID format" : NULL;
    } else if (s.n != UUID_BYTES && s.n != 32) {
        return kl_v_text(c, "invalid UUID length: %zu", s.n);
    }
    for (size_t i = 0; i < s.n; i++) {
        bool dash = s.n == UUID_BYTES && (i == 8 || i == 13 || i == 18 || i == 23);
        if (dash ? s.p[i] != '-' : !strchr("0123456789abcdefABCDEF", s.p[i]) || !s.p[i])
            return "invalid UUID format";
    }
    return NULL;
}

void kl_v_device_uuid(struct kl_v *c, struct kl_str s, const struct kl_vpath *p)
{
    const char *why = uuid_error(c, s);
    bool lower = true;
    for (size_t i = 0; i < s.n; i++)
        lower &= !(s.p[i] >= 'A' && s.p[i] <= 'Z');
    if (why)
        kl_v_invalid_str(c, p, s, kl_v_text(c, "error validating uid: %s", why));
    else if (s.n != UUID_BYTES || !lower)
        kl_v_invalid_str(c, p, s,
                         "uid must be in RFC 4122 normalized form, "
                         "`xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx` with lowercase hexadecimal "
                         "characters");
}

// ---- taints

static const char *const effects[] = {"NoExecute", "NoSchedule", "None", NULL};

void kl_v_device_taint(struct kl_v *c, const struct kl_value *taint, struct kl_str old_effect,
                       const struct kl_vpath *p)
{
    struct kl_str value = kl_text(kl_get(taint, KL_F_value));
    struct kl_str effect = kl_text(kl_get(taint, KL_F_effect));
    kl_v_format(c, F(p, key), kl_text(kl_get(taint, KL_F_key)), KL_V_QUALIFIED);
    if (value.n)
        kl_v_format(c, F(p, value), value, KL_V_LABEL_VALUE);
    if (old_effect.p && kl_str_eq(effect, old_effect))
        return;
    if (!effect.n)
        kl_v_required(c, F(p, effect), "");
    else if (!kl_v_in(effect, effects))
        kl_v_unsupported(c, F(p, effect), effect, effects);
}

void kl_v_device_toleration(struct kl_v *c, const struct kl_value *t, const struct kl_vpath *p)
{
    static const char *const operators[] = {"Equal", "Exists", NULL};
    struct kl_str key = kl_text(kl_get(t, KL_F_key)), op = kl_text(kl_get(t, KL_F_operator));
    struct kl_str value = kl_text(kl_get(t, KL_F_value));
    struct kl_str effect = kl_text(kl_get(t, KL_F_effect));
    if (key.n)
        kl_v_format(c, F(p, key), key, KL_V_QUALIFIED);
    if (kl_str_eqz(op, "Exists")) {
        if (value.n)
            kl_v_invalid_str(c, F(p, value), value, "must be empty for operator `Exists`");
    } else if (kl_str_eqz(op, "Equal")) {
        kl_v_format(c, F(p, value), value, KL_V_LABEL_VALUE);
    } else if (!op.n) {
        kl_v_required(c, F(p, operator), "");
    } else {
        kl_v_unsupported(c, F(p, operator), op, operators);
    }
    if (effect.n && !kl_v_in(effect, effects))
        kl_v_unsupported(c, F(p, effect), effect, effects);
}

// ---- binding conditions

static void check_conditions(struct kl_v *c, const struct kl_value *list, const struct kl_vpath *p)
{
    if (kl_v_few(c, list, BINDING_MAX, p))
        for (size_t i = 0; i < kl_len(list); i++)
            kl_v_format(c, I(p, i), kl_text(kl_at(list, i)), KL_V_QUALIFIED);
}

void kl_v_device_binding(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    const struct kl_value *good = kl_get(v, KL_F_bindingConditions);
    const struct kl_value *bad = kl_get(v, KL_F_bindingFailureConditions);
    const struct kl_vpath *gp = F(p, bindingConditions), *bp = F(p, bindingFailureConditions);
    check_conditions(c, good, gp);
    check_conditions(c, bad, bp);
    kl_v_no_twins(c, good, KL_SYM_NONE, gp);
    for (size_t i = 0; i < kl_len(bad); i++) {
        struct kl_str s = kl_text(kl_at(bad, i));
        bool before = false;
        for (size_t k = 0; k < i; k++)
            before |= kl_str_eq(kl_text(kl_at(bad, k)), s);
        if (before)
            kl_v_duplicate(c, I(bp, i), s);
        if (kl_has_text(good, s))
            kl_v_invalid_str(c, I(bp, i), s,
                             "bindingFailureConditions must not overlap with bindingConditions");
    }
    if (!kl_len(good) && kl_len(bad))
        kl_v_invalid(c, gp, good, "bindingConditions are required to use bindingFailureConditions");
    if (kl_len(good) && !kl_len(bad))
        kl_v_invalid(c, bp, bad, "bindingFailureConditions are required to use bindingConditions");
}

// ---- DeviceClasses

static void check_class(struct kl_v *c)
{
    const struct kl_value *spec = kl_v_spec(c), *config = kl_get(spec, KL_F_config);
    const struct kl_value *extended = kl_get(spec, KL_F_extendedResourceName);
    const struct kl_vpath *p = F(&c->spec, config);
    bool stored = c->old && kl_value_equal(config, kl_get(kl_v_old_spec(c), KL_F_config));
    kl_v_device_selectors(c, kl_get(spec, KL_F_selectors), F(&c->spec, selectors));
    kl_v_device_env_end(c);
    if (kl_v_few(c, config, KL_DEVICE_LIST_MAX, p))
        for (size_t i = 0; i < kl_len(config); i++)
            kl_v_device_config(c, kl_at(config, i), stored, I(p, i));
    if (extended && !kl_v_is_extended(kl_text(extended)))
        kl_v_invalid_str(c, F(&c->spec, extendedResourceName), kl_text(extended),
                         "must be a valid extended resource name");
}

static void create_class(struct kl_v *c)
{
    kl_v_meta(c, KL_V_LONG_NAME);
    check_class(c);
}

static void update_class(struct kl_v *c)
{
    kl_v_meta(c, KL_V_LONG_NAME);
    kl_v_meta_update(c);
    check_class(c);
}

const struct kl_v_kind kl_v_devices[] = {
    {KL_RES_resource_v1_deviceclasses, create_class, update_class, NULL, NULL, NULL},
    {0},
};
