// SPDX-License-Identifier: Apache-2.0
// --admission-control-config-file (apiserver's ReadAdmissionConfiguration and what asks it).
#include "apiserver/admission/chain_int.h"
#include "apiserver/admission/config_int.h"
#include "apiserver/admission/event_limits.h"
#include "apiserver/auth/authn_int.h"
#include "object/yaml.h"
#include <stdlib.h>

enum { CONFIG_BYTES = 64 << 20, FILE_MAX_BYTES = 1 << 20 };

static const struct section {
    const char *plugin;
    kl_config_reader *read;
    bool old_form; // the file may be this plug-in's own
} sections[] = {
    {"ImagePolicyWebhook", kl_config_images, true},
    {"PodSecurity", kl_config_pod_security, false},
    {"PodNodeSelector", kl_config_node_selectors, true},
    {"PodTolerationRestriction", kl_config_tolerations, false},
    {"EventRateLimit", kl_config_events, false},
    {"MutatingAdmissionWebhook", kl_config_mutating_webhooks, false},
    {"ValidatingAdmissionWebhook", kl_config_validating_webhooks, false},
    {"ResourceQuota", kl_config_quota, false},
};

struct file {
    const char *path;
    struct kl_str text;
    struct kl_value root;
    bool given, old_form;
};

static int read_file(struct kl_arena *a, struct file *f, struct kl_error *err)
{
    static const struct kl_config_field plugin[] = {{"name", 's', NULL, NULL},
                                                    {"path", 's', NULL, NULL},
                                                    {"configuration", '*', NULL, NULL},
                                                    {NULL, 0, NULL, NULL}};
    static const struct kl_config_field root[] = {
        {"plugins", 'L', "AdmissionPluginConfiguration", plugin}, {NULL, 0, NULL, NULL}};
    static const char *const versions[] = {"apiserver.config.k8s.io/v1",
                                           "apiserver.k8s.io/v1alpha1", NULL};
    static const struct kl_config_kind kind = {versions, "AdmissionConfiguration", root, true};
    int rc = kl_auth_read_file(a, f->path, FILE_MAX_BYTES, &f->text, err);
    if (rc) {
        struct kl_error why = *err;
        return kl_error_set(err, rc,
                            "failed to read plugin config: unable to read admission control "
                            "configuration from \"%s\" [%s]",
                            f->path, why.msg);
    }
    f->given = true;
    rc = kl_yaml_parse(a, f->text, NULL, &f->root, err);
    if (!rc && kl_config_is_foreign(&f->root, &kind, err)) {
        f->old_form = kl_map_value(&f->root, KL_STR("imagePolicy")) ||
                      kl_map_value(&f->root, KL_STR("podNodeSelectorPluginConfig"));
        rc = f->old_form ? 0 : KL_EINVALID;
    } else if (!rc) {
        rc = kl_config_decode(a, f->text, &kind, &f->root, err);
    }
    return rc ? kl_error_wrap(err, "failed to read plugin config") : 0;
}

// The section's text; p NULL: it has none.
static int section_text(struct kl_arena *a, const struct file *f, const struct section *s,
                        struct kl_str *ret, struct kl_error *err)
{
    *ret = (struct kl_str){NULL, 0};
    if (f->old_form && s->old_form)
        *ret = f->text;
    if (!f->given || f->old_form)
        return 0;
    for (KL_EACH(p, kl_map_value(&f->root, KL_STR("plugins")))) {
        const struct kl_value *inner = kl_map_value(p, KL_STR("configuration"));
        struct kl_str path = kl_text(kl_map_value(p, KL_STR("path")));
        struct kl_buf b;
        if (!kl_str_eqz(kl_text(kl_map_value(p, KL_STR("name"))), s->plugin))
            continue;
        if (inner && inner->kind != KL_NULL) {
            kl_buf_init(&b, FILE_MAX_BYTES);
            kl_json_write(&b, inner);
            *ret = b.err ? *ret : kl_arena_dup(a, kl_buf_str(&b));
            kl_buf_fini(&b);
            return ret->p ? 0 : kl_error_set(err, KL_ENOMEM, "out of memory");
        }
        if (!path.n)
            return 0;
        const char *slash = strrchr(f->path, '/');
        int dir = slash && path.p[0] != '/' ? (int)(slash + 1 - f->path) : 0;
        path = kl_arena_printf(a, "%.*s%.*s", dir, f->path, KL_PRI(path));
        return path.p ? kl_auth_read_file(a, path.p, FILE_MAX_BYTES, ret, err)
                      : kl_error_set(err, KL_ENOMEM, "out of memory");
    }
    return 0;
}

static bool wanted(const struct section *s, kl_admit_set on)
{
    for (size_t i = 0; i < kl_nplugins; i++)
        if (!strcmp(kl_plugins[i].name, s->plugin))
            return on >> i & 1;
    return false;
}

int kl_admit_config_new(const char *file, kl_admit_set on, struct kl_admit_config **ret,
                        struct kl_error *err)
{
    struct kl_admit_config *c = calloc(1, sizeof *c);
    struct file f = {.path = file};
    if (!c)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    kl_arena_init(&c->arena, CONFIG_BYTES);
    int rc = file && *file ? read_file(&c->arena, &f, err) : 0;
    for (size_t i = 0; i < KL_COUNT(sections) && !rc; i++) {
        struct kl_str text;
        if (!wanted(&sections[i], on))
            continue;
        rc = section_text(&c->arena, &f, &sections[i], &text, err);
        if (!rc)
            rc = sections[i].read(c, text, err);
        if (rc)
            kl_error_wrap(err, "couldn't init admission plugin \"%s\"", sections[i].plugin);
    }
    if (rc)
        kl_admit_config_free(c);
    else
        *ret = c;
    return rc;
}

void kl_admit_config_free(struct kl_admit_config *c)
{
    if (!c)
        return;
    kl_event_limits_free(c->events);
    kl_remote_unref(c->images.to);
    kl_kubeconfig_free(c->mutating);
    kl_kubeconfig_free(c->validating);
    kl_arena_fini(&c->arena);
    free(c);
}

bool kl_admit_listed(const struct kl_admit_names *l, struct kl_str name)
{
    for (size_t i = 0; i < l->n; i++)
        if (kl_str_eq(l->v[i], name))
            return name.n;
    return false;
}
