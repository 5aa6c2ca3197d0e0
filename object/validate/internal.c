// SPDX-License-Identifier: Apache-2.0
// Values as encoding/json shows Go's internal types: no tags, every field, nil as null.
#include "object/json.h"
#include "object/validate/pod_int.h"

enum { SHOWN_MAX_BYTES = 4 << 20 };

// Where a Go name is not the field's with a capital; in one type, or in all (0).
static const char *go_name(const struct kl_type *t, kl_sym f)
{
    enum { ATTRIBUTE = KL_TYPE_resource_v1_DeviceAttribute };
    static const struct {
        kl_sym field;
        const char *name;
        int in;
    } names[] = {{KL_F_ip, "IP", 0},
                 {KL_F_cidrs, "CIDRs", 0},
                 {KL_F_seLinuxOptions, "SELinuxOptions", 0},
                 {KL_F_cidr, "CIDR", 0},
                 {KL_F_apiGroup, "APIGroup", 0},
                 {KL_F_apiVersion, "APIVersion", 0},
                 {KL_F_uid, "UID", 0},
                 {KL_F_cel, "CEL", 0},
                 {KL_F_pkixPublicKey, "PKIXPublicKey", 0},
                 {KL_F_dnsPolicy, "DNSPolicy", 0},
                 {KL_F_dnsConfig, "DNSConfig", 0},
                 {KL_F_fsGroup, "FSGroup", 0},
                 {KL_F_fsGroupChangePolicy, "FSGroupChangePolicy", 0},
                 {KL_F_seLinuxChangePolicy, "SELinuxChangePolicy", 0},
                 {KL_F_os, "OS", 0},
                 {KL_F_tty, "TTY", 0},
                 {KL_F_int, "IntValue", ATTRIBUTE},
                 {KL_F_bool, "BoolValue", ATTRIBUTE},
                 {KL_F_string, "StringValue", ATTRIBUTE},
                 {KL_F_version, "VersionValue", ATTRIBUTE},
                 {KL_F_ints, "IntValues", ATTRIBUTE},
                 {KL_F_bools, "BoolValues", ATTRIBUTE},
                 {KL_F_strings, "StringValues", ATTRIBUTE},
                 {KL_F_versions, "VersionValues", ATTRIBUTE}};
    for (size_t i = 0; i < KL_COUNT(names); i++)
        if (names[i].field == f && (!names[i].in || t == kl_type((uint32_t)names[i].in)))
            return names[i].name;
    return NULL;
}

// Types of apimachinery have JSON names inside as well.
static bool has_tags(const struct kl_type *t)
{
    return t->name &&
           kl_str_starts(kl_str(t->name), KL_STR("io.k8s.apimachinery.pkg.apis.meta.v1."));
}

static void put_internal(struct kl_buf *b, const struct kl_type *t, const struct kl_value *v);

static void put_zero(struct kl_buf *b, const struct kl_field *f)
{
    uint8_t k = f->type->kind;
    if ((f->flags & KL_FIELD_PTR) || k == KL_T_ARRAY || k == KL_T_MAP || k == KL_T_BYTES)
        kl_buf_puts(b, KL_STR("null"));
    else if (k == KL_T_STRUCT)
        put_internal(b, f->type, NULL);
    else
        kl_buf_puts(b, k == KL_T_STRING     ? KL_STR("\"\"")
                       : k == KL_T_BOOLEAN  ? KL_STR("false")
                       : k == KL_T_INTEGER  ? KL_STR("0")
                       : k == KL_T_QUANTITY ? KL_STR("\"0\"")
                                            : KL_STR("null"));
}

// ObjectMeta stands in its struct without a name: its members are the struct's.
static void put_embedded(struct kl_buf *b, const struct kl_type *t, const struct kl_value *v)
{
    size_t from = b->n;
    if (!v)
        return;
    kl_json_encode(b, t, v, KL_STR(""));
    if (b->n - from <= 2) { // {}
        b->n = from;
        return;
    }
    memmove(b->p + from, b->p + from + 1, b->n - from - 2);
    b->n -= 2;
}

static void put_name(struct kl_buf *b, const struct kl_type *t, kl_sym f)
{
    const char *name = go_name(t, f);
    struct kl_str text = name ? kl_str(name) : kl_sym_name(f);
    kl_buf_printf(b, "%s\"%c%.*s\":", !b->n || b->p[b->n - 1] == '{' ? "" : ",", text.p[0] & ~0x20,
                  KL_PRI(kl_str_from(text, 1)));
}

static void put_member(struct kl_buf *b, const struct kl_type *t, const struct kl_field *f,
                       const struct kl_value *v)
{
    const struct kl_value *x = kl_get(v, f->sym);
    if (f->type == kl_type(KL_TYPE_meta_v1_ObjectMeta)) {
        put_embedded(b, f->type, x);
        return;
    }
    put_name(b, t, f->sym);
    if (x)
        put_internal(b, f->type, x);
    else
        put_zero(b, f);
}

// The one type that has another shape inside: its order, no deprecated name of the service account,
// and the namespaces of the host in the security context.
static void put_pod_spec(struct kl_buf *b, const struct kl_type *t, const struct kl_value *v)
{
    static const kl_sym order[] = {KL_F_volumes,
                                   KL_F_initContainers,
                                   KL_F_containers,
                                   KL_F_ephemeralContainers,
                                   KL_F_restartPolicy,
                                   KL_F_terminationGracePeriodSeconds,
                                   KL_F_activeDeadlineSeconds,
                                   KL_F_dnsPolicy,
                                   KL_F_nodeSelector,
                                   KL_F_serviceAccountName,
                                   KL_F_automountServiceAccountToken,
                                   KL_F_nodeName,
                                   KL_F_securityContext,
                                   KL_F_imagePullSecrets,
                                   KL_F_hostname,
                                   KL_F_subdomain,
                                   KL_F_setHostnameAsFQDN,
                                   KL_F_affinity,
                                   KL_F_schedulerName,
                                   KL_F_tolerations,
                                   KL_F_hostAliases,
                                   KL_F_priorityClassName,
                                   KL_F_priority,
                                   KL_F_preemptionPolicy,
                                   KL_F_dnsConfig,
                                   KL_F_readinessGates,
                                   KL_F_runtimeClassName,
                                   KL_F_overhead,
                                   KL_F_enableServiceLinks,
                                   KL_F_topologySpreadConstraints,
                                   KL_F_os,
                                   KL_F_schedulingGates,
                                   KL_F_resourceClaims,
                                   KL_F_resources,
                                   KL_F_hostnameOverride,
                                   KL_F_schedulingGroup};
    static const kl_sym host[] = {KL_F_hostNetwork, KL_F_hostPID, KL_F_hostIPC,
                                  KL_F_shareProcessNamespace, KL_F_hostUsers};
    for (size_t i = 0; i < KL_COUNT(order); i++) {
        const struct kl_field *f = kl_type_field(t, order[i]);
        if (order[i] != KL_F_securityContext) {
            put_member(b, t, f, v);
            continue;
        }
        put_name(b, t, f->sym);
        kl_buf_putc(b, '{');
        for (size_t k = 0; k < KL_COUNT(host); k++)
            put_member(b, t, kl_type_field(t, host[k]), v);
        for (uint16_t k = 0; k < f->type->nfields; k++) {
            const struct kl_field *m = &f->type->fields[k];
            if (m->sym == KL_F_sysctls) // stands behind fsGroupChangePolicy there
                continue;
            put_member(b, f->type, m, kl_get(v, f->sym));
            if (m->sym == KL_F_fsGroupChangePolicy)
                put_member(b, f->type, kl_type_field(f->type, KL_F_sysctls), kl_get(v, f->sym));
        }
        kl_buf_putc(b, '}');
    }
}

static void put_internal(struct kl_buf *b, const struct kl_type *t, const struct kl_value *v)
{
    static const struct kl_value empty = {.kind = KL_STRUCT};
    size_t n = 0;
    if (t->kind == KL_T_ARRAY && kl_is(v, KL_ARRAY)) {
        kl_buf_putc(b, '[');
        for (KL_EACH(x, v)) {
            kl_buf_puts(b, n++ ? KL_STR(",") : KL_STR(""));
            put_internal(b, t->elem, x);
        }
        kl_buf_putc(b, ']');
        return;
    }
    if (t->kind != KL_T_STRUCT || has_tags(t)) {
        kl_json_encode(b, t, v ? v : &empty, KL_STR(""));
        return;
    }
    kl_buf_putc(b, '{');
    if (t == kl_type(KL_TYPE_core_v1_PodSpec))
        put_pod_spec(b, t, v);
    else
        for (uint16_t i = 0; i < t->nfields; i++)
            put_member(b, t, &t->fields[i], v);
    kl_buf_putc(b, '}');
}

struct kl_str kl_v_json(struct kl_v *c, const struct kl_type *type, const struct kl_value *v,
                        bool internal)
{
    struct kl_buf b;
    kl_buf_init(&b, SHOWN_MAX_BYTES);
    if (!v)
        kl_buf_puts(&b, KL_STR("null"));
    else if (!type)
        kl_json_write(&b, v);
    else if (internal)
        put_internal(&b, type, v);
    else
        kl_json_encode(&b, type, v, KL_STR(""));
    struct kl_str out = kl_arena_dup(c->f->arena, kl_buf_str(&b));
    kl_buf_fini(&b);
    return out.p ? out : KL_STR("null");
}
