// SPDX-License-Identifier: Apache-2.0
// resource.k8s.io: DeviceClasses. That a selector's expression compiles is not looked at here.
#include "object/json.h"
#include "object/validate/validate_int.h"

enum {
    LIST_MAX = 32, // DeviceSelectorsMaxSize, DeviceConfigMaxSize
    EXPRESSION_MAX = 10 * 1024,
    DRIVER_MAX = 63,
    PARAMETERS_MAX = 10 * 1024,
};

static void check_selectors(struct kl_v *c, const struct kl_value *list, const struct kl_vpath *p)
{
    if (kl_len(list) > LIST_MAX) {
        kl_v_too_many(c, p, kl_len(list), LIST_MAX);
        return;
    }
    for (size_t i = 0; i < kl_len(list); i++) {
        const struct kl_value *cel = kl_get(kl_at(list, i), KL_F_cel);
        const struct kl_vpath *at = F(I(p, i), cel);
        if (!cel)
            kl_v_required(c, at, "");
        else if (kl_text(kl_get(cel, KL_F_expression)).n > EXPRESSION_MAX)
            kl_v_too_long(c, F(at, expression), EXPRESSION_MAX);
    }
}

static void check_driver(struct kl_v *c, struct kl_str name, const struct kl_vpath *p)
{
    if (!name.n) {
        kl_v_required(c, p, "");
        return;
    }
    if (name.n > DRIVER_MAX)
        kl_v_too_long(c, p, DRIVER_MAX);
    kl_v_format(c, p, name, KL_V_SUBDOMAIN);
}

static void check_parameters(struct kl_v *c, const struct kl_value *v, bool stored,
                             const struct kl_vpath *p)
{
    struct kl_str json = kl_text(v);
    struct kl_value parsed;
    struct kl_error err = {0};
    if (!json.n || kl_str_eqz(json, "null"))
        kl_v_required(c, p, "");
    else if (!stored && json.n > PARAMETERS_MAX)
        kl_v_too_long(c, p, PARAMETERS_MAX);
    else if (kl_json_parse(c->f->arena, json, NULL, &parsed, &err))
        kl_v_invalid_str(c, p, KL_STR("<value omitted>"),
                         kl_v_text(c, "error parsing data as JSON: %s", err.msg));
    else if (!kl_is(&parsed, KL_MAP))
        kl_v_invalid_str(c, p, KL_STR("<value omitted>"), "must be a valid JSON object");
}

static void check_config(struct kl_v *c, const struct kl_value *list, bool stored,
                         const struct kl_vpath *p)
{
    if (kl_len(list) > LIST_MAX) {
        kl_v_too_many(c, p, kl_len(list), LIST_MAX);
        return;
    }
    for (size_t i = 0; i < kl_len(list); i++) {
        const struct kl_value *opaque = kl_get(kl_at(list, i), KL_F_opaque);
        const struct kl_vpath *at = F(I(p, i), opaque);
        if (!opaque) {
            kl_v_required(c, at, "");
            continue;
        }
        check_driver(c, kl_text(kl_get(opaque, KL_F_driver)), F(at, driver));
        check_parameters(c, kl_get(opaque, KL_F_parameters), stored, F(at, parameters));
    }
}

static void check_class(struct kl_v *c)
{
    const struct kl_value *spec = kl_v_spec(c), *config = kl_get(spec, KL_F_config);
    bool stored = c->old && kl_value_equal(config, kl_get(kl_v_old_spec(c), KL_F_config));
    check_selectors(c, kl_get(spec, KL_F_selectors), F(&c->spec, selectors));
    check_config(c, config, stored, F(&c->spec, config));
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
