// SPDX-License-Identifier: Apache-2.0
// Names and conditions of a definition (apiextensions-apiserver controller/status, /establish,
// /apiapproval, /nonstructuralschema), all in one: what upstream writes in two or three steps is
// one write here.
#include "apiserver/crd/crd.h"
#include <openssl/pem.h>
#include <openssl/x509.h>

#define APPROVED "api-approved.kubernetes.io"
#define POLICY "see https://github.com/kubernetes/enhancements/pull/1111"

// ---- names that are taken

void kl_crd_names_init(struct kl_crd_names *n)
{
    kl_map_init(&n->resources);
    kl_map_init(&n->kinds);
}

void kl_crd_names_fini(struct kl_crd_names *n)
{
    kl_map_fini(&n->resources);
    kl_map_fini(&n->kinds);
}

static int take(struct kl_map *m, struct kl_str name)
{
    return name.n && kl_map_set(m, name, m, NULL) ? KL_ENOMEM : 0;
}

int kl_crd_names_add(struct kl_crd_names *n, const struct kl_resource *plain)
{
    int rc = take(&n->resources, kl_str(plain->plural));
    rc = rc ? rc : take(&n->resources, kl_str(plain->singular));
    for (size_t i = 0; !rc && plain->short_names && plain->short_names[i]; i++)
        rc = take(&n->resources, kl_str(plain->short_names[i]));
    rc = rc ? rc : take(&n->kinds, kl_str(plain->kind));
    return rc ? rc : take(&n->kinds, kl_str(plain->custom->list_kind));
}

int kl_crd_names_take(struct kl_crd_names *n, const struct kl_value *accepted)
{
    int rc = take(&n->resources, kl_text(kl_get(accepted, KL_F_plural)));
    rc = rc ? rc : take(&n->resources, kl_text(kl_get(accepted, KL_F_singular)));
    for (KL_EACH(s, kl_get(accepted, KL_F_shortNames)))
        rc = rc ? rc : take(&n->resources, kl_text(s));
    rc = rc ? rc : take(&n->kinds, kl_text(kl_get(accepted, KL_F_kind)));
    return rc ? rc : take(&n->kinds, kl_text(kl_get(accepted, KL_F_listKind)));
}

// ---- conditions

static const struct kl_value *find_condition(const struct kl_value *crd, const char *type)
{
    for (KL_EACH(c, kl_path(crd, KL_F_status, KL_F_conditions)))
        if (kl_str_eqz(kl_text(kl_get(c, KL_F_type)), type))
            return c;
    return NULL;
}

bool kl_crd_condition_is_true(const struct kl_value *crd, const char *type)
{
    return kl_str_eqz(kl_text(kl_get(find_condition(crd, type), KL_F_status)), "True");
}

static int put_condition(struct kl_arena *a, struct kl_value *crd, const char *type,
                         const char *status, const char *reason, struct kl_str message,
                         int64_t now_us)
{
    struct kl_value *st = kl_edit(a, crd, KL_F_status, KL_STRUCT);
    struct kl_value *list = st ? kl_edit(a, st, KL_F_conditions, KL_ARRAY) : NULL;
    const struct kl_value *was = find_condition(crd, type);
    if (!list)
        return KL_ENOMEM;
    bool same_status = was && kl_str_eqz(kl_text(kl_get(was, KL_F_status)), status);
    if (same_status && kl_str_eqz(kl_text(kl_get(was, KL_F_reason)), reason) &&
        kl_str_eq(kl_text(kl_get(was, KL_F_message)), message))
        return 0;
    int64_t since = same_status ? kl_int_or(kl_get(was, KL_F_lastTransitionTime), 0) : 0;
    struct kl_value c = kl_new_struct();
    if (kl_set(a, &c, KL_F_type, kl_stringz(type)) ||
        kl_set(a, &c, KL_F_status, kl_stringz(status)) ||
        kl_set(a, &c, KL_F_lastTransitionTime, kl_time(since ? since : now_us)) ||
        kl_set(a, &c, KL_F_reason, kl_stringz(reason)) ||
        kl_set(a, &c, KL_F_message, kl_string(message)))
        return KL_ENOMEM;
    if (!was)
        return kl_append(a, list, c) ? KL_ENOMEM : 1;
    struct kl_value *at = kl_edit_at(a, list, (size_t)(was - list->items));
    if (!at)
        return KL_ENOMEM;
    *at = c;
    return 1;
}

int kl_crd_set_condition(struct kl_arena *a, struct kl_value *crd, const char *type, bool is,
                         const char *reason, struct kl_str message, int64_t now_us)
{
    return put_condition(a, crd, type, is ? "True" : "False", reason, message, now_us);
}

// ---- NamesAccepted

struct naming {
    struct kl_arena *a;
    const struct kl_value *wanted;
    struct kl_value *accepted; // changed as far as there is no conflict
    const struct kl_crd_names *taken;
    const char *reason; // of the last conflict
    struct kl_str message;
    int rc;
};

static void conflict(struct naming *n, const char *reason, struct kl_str name)
{
    n->reason = reason;
    n->message = kl_arena_printf(n->a, "\"%.*s\" is already in use", KL_PRI(name));
    if (!n->message.p)
        n->rc = KL_ENOMEM;
}

static void check_name(struct naming *n, kl_sym field, const struct kl_map *taken,
                       const char *reason)
{
    struct kl_str want = kl_text(kl_get(n->wanted, field));
    struct kl_str have = kl_text(kl_get(n->accepted, field));
    if (kl_str_eq(want, have))
        return;
    if (kl_map_get(taken, want))
        conflict(n, reason, want);
    else if (kl_set(n->a, n->accepted, field, kl_string(want)))
        n->rc = KL_ENOMEM;
}

static void check_short_names(struct naming *n)
{
    const struct kl_value *want = kl_get(n->wanted, KL_F_shortNames);
    const struct kl_value *have = kl_get(n->accepted, KL_F_shortNames);
    struct kl_str all = KL_STR("");
    size_t bad = 0;
    if (kl_value_equal(want, have))
        return;
    for (KL_EACH(s, want)) {
        struct kl_str name = kl_text(s);
        if (kl_has_text(have, name) || !kl_map_get(&n->taken->resources, name))
            continue;
        all = kl_arena_printf(n->a, "%.*s%s\"%.*s\" is already in use", KL_PRI(all),
                              bad++ ? ", " : "", KL_PRI(name));
    }
    if (bad) { // an aggregate of errors
        n->reason = "ShortNamesConflict";
        n->message = bad > 1 ? kl_arena_printf(n->a, "[%.*s]", KL_PRI(all)) : all;
    } else if (want ? kl_set(n->a, n->accepted, KL_F_shortNames, *want)
                    : kl_unset(n->a, n->accepted, KL_F_shortNames)) {
        n->rc = KL_ENOMEM;
    }
}

// calculateNamesAndConditions. 1: something changed.
static int accept_names(struct kl_arena *a, struct kl_value *crd, const struct kl_crd_names *taken,
                        int64_t now_us)
{
    const struct kl_value *was = kl_path(crd, KL_F_status, KL_F_acceptedNames);
    struct kl_value before = was ? *was : kl_new_struct();
    struct kl_value *st = kl_edit(a, crd, KL_F_status, KL_STRUCT);
    struct naming n = {.a = a,
                       .wanted = kl_path(crd, KL_F_spec, KL_F_names),
                       .accepted = st ? kl_edit(a, st, KL_F_acceptedNames, KL_STRUCT) : NULL,
                       .taken = taken};
    const struct kl_value *categories = kl_get(n.wanted, KL_F_categories);
    if (!n.accepted)
        return KL_ENOMEM;
    check_name(&n, KL_F_plural, &taken->resources, "PluralConflict");
    check_name(&n, KL_F_singular, &taken->resources, "SingularConflict");
    check_short_names(&n);
    check_name(&n, KL_F_kind, &taken->kinds, "KindConflict");
    check_name(&n, KL_F_listKind, &taken->kinds, "ListKindConflict");
    if (!kl_value_equal(categories, kl_get(n.accepted, KL_F_categories)) &&
        (categories ? kl_set(a, n.accepted, KL_F_categories, *categories)
                    : kl_unset(a, n.accepted, KL_F_categories)))
        n.rc = KL_ENOMEM;
    if (n.rc)
        return n.rc;
    bool changed = !kl_value_equal(&before, n.accepted);
    int rc = n.reason ? put_condition(a, crd, "NamesAccepted", "False", n.reason, n.message, now_us)
                      : put_condition(a, crd, "NamesAccepted", "True", "NoConflicts",
                                      KL_STR("no conflicts found"), now_us);
    return rc < 0 ? rc : changed || rc;
}

// ---- Established

static bool is_certificates(struct kl_str pem)
{
    BIO *b = BIO_new_mem_buf(pem.p, (int)pem.n);
    X509 *x = b ? PEM_read_bio_X509(b, NULL, NULL, NULL) : NULL;
    X509_free(x);
    BIO_free(b);
    return x != NULL;
}

static int establish(struct kl_arena *a, struct kl_value *crd, int64_t now_us)
{
    const struct kl_value *client =
        kl_path(crd, KL_F_spec, KL_F_conversion, KL_F_webhook, KL_F_clientConfig);
    struct kl_str ca = kl_text(kl_get(client, KL_F_caBundle));
    if (kl_crd_condition_is_true(crd, "Established"))
        return 0;
    if (!kl_crd_condition_is_true(crd, "NamesAccepted"))
        return find_condition(crd, "Established")
                   ? 0
                   : put_condition(a, crd, "Established", "False", "NotAccepted",
                                   KL_STR("not all names are accepted"), now_us);
    if (ca.n && !is_certificates(ca))
        return put_condition(a, crd, "Established", "False", "InvalidCABundle",
                             KL_STR("The conversion webhook CABundle is invalid"), now_us);
    return put_condition(a, crd, "Established", "True", "InitialNamesAccepted",
                         KL_STR("the initial names have been accepted"), now_us);
}

// ---- KubernetesAPIApprovalPolicyConformant

static bool is_protected(struct kl_str group)
{
    return kl_str_eqz(group, "k8s.io") || kl_str_ends(group, KL_STR(".k8s.io")) ||
           kl_str_eqz(group, "kubernetes.io") || kl_str_ends(group, KL_STR(".kubernetes.io"));
}

// url.ParseRequestURI with a scheme and a host.
static bool is_url(struct kl_str s)
{
    const char *at = memmem(s.p, s.n, "://", 3);
    if (!at || at == s.p || at + 3 == s.p + s.n || at[3] == '/')
        return false;
    for (const char *p = s.p; p < at; p++)
        if (!(*p >= 'a' && *p <= 'z') && !(*p >= 'A' && *p <= 'Z') &&
            (p == s.p || !((*p >= '0' && *p <= '9') || *p == '+' || *p == '-' || *p == '.')))
            return false;
    for (const char *p = at; p < s.p + s.n; p++)
        if ((unsigned char)*p <= ' ' || *p == 0x7f)
            return false;
    return true;
}

static int approve(struct kl_arena *a, struct kl_value *crd, int64_t now_us)
{
    static const char *const type = "KubernetesAPIApprovalPolicyConformant";
    struct kl_str group = kl_text_at(crd, KL_F_spec, KL_F_group), text;
    struct kl_str note = kl_text(kl_map_value(kl_meta_annotations(crd), KL_STR(APPROVED)));
    const char *status = "False", *reason;
    if (!is_protected(group))
        return 0;
    if (!note.n) {
        reason = "MissingAnnotation";
        text = KL_STR("protected groups must have approval annotation \"" APPROVED "\", " POLICY);
    } else if (kl_str_starts(note, KL_STR("unapproved"))) {
        reason = "UnapprovedAnnotation";
        text = kl_arena_printf(a, "not approved: \"%.*s\"", KL_PRI(note));
    } else if (is_url(note)) {
        status = "True";
        reason = "ApprovedAnnotation";
        text = kl_arena_printf(a, "approved in %.*s", KL_PRI(note));
    } else {
        reason = "InvalidAnnotation";
        text = KL_STR("protected groups must have approval annotation \"" APPROVED
                      "\" with either a URL or a reason starting with \"unapproved\", " POLICY);
    }
    return text.p ? put_condition(a, crd, type, status, reason, text, now_us) : KL_ENOMEM;
}

// ---- NonStructuralSchema: only definitions that older servers have stored can be so

static int judge_schema(struct kl_arena *a, struct kl_value *crd, int64_t now_us)
{
    const struct kl_value *was = find_condition(crd, "NonStructuralSchema");
    if (kl_true_at(crd, KL_F_spec, KL_F_preserveUnknownFields))
        return put_condition(
            a, crd, "NonStructuralSchema", "True", "Violations",
            KL_STR("spec.preserveUnknownFields: Invalid value: true: must be false"), now_us);
    if (!was)
        return 0;
    struct kl_value *st = kl_edit(a, crd, KL_F_status, KL_STRUCT);
    struct kl_value *list = st ? kl_edit(a, st, KL_F_conditions, KL_ARRAY) : NULL;
    was = find_condition(crd, "NonStructuralSchema"); // where it is now
    if (!list || kl_remove_at(a, list, (size_t)(was - list->items)))
        return KL_ENOMEM;
    return 1;
}

int kl_crd_conditions(struct kl_arena *a, struct kl_value *crd, const struct kl_crd_names *taken,
                      int64_t now_us)
{
    int changed = accept_names(a, crd, taken, now_us), rc;
    if (changed < 0 || (rc = establish(a, crd, now_us)) < 0)
        return KL_ENOMEM;
    changed |= rc;
    if ((rc = approve(a, crd, now_us)) < 0)
        return rc;
    changed |= rc;
    if ((rc = judge_schema(a, crd, now_us)) < 0)
        return rc;
    return changed | rc;
}
