// SPDX-License-Identifier: Apache-2.0
// PodSecurity: what the labels of a namespace ask of its pods (enforce), and what writers of pods
// and of their templates are told (warn, audit). The checks are object/podsecurity.
#include "apiserver/admission/config.h"
#include "apiserver/admission/plugins_int.h"
#include "base/buf.h"
#include "base/map.h"
#include "object/podsecurity/podsecurity.h"
#include <stdlib.h>

enum { PODS_CHECKED_MAX = 3000, WARNING_KINDS_MAX = 64 };

#define PREFIX "pod-security.kubernetes.io/"

static void note(struct kl_admit *ad, const char *key, struct kl_str value)
{
    kl_req_note(ad->r, kl_str(key), value, false);
}

// ---- exemptions and defaults of the configuration

static const struct kl_admit_config *config(const struct kl_admit *ad)
{
    return ad->r->srv->admit_config;
}

static bool is_exempt(struct kl_admit *ad)
{
    if (kl_admit_listed(&config(ad)->pods.namespaces, ad->ns))
        return note(ad, PREFIX "exempt", KL_STR("namespace")), true;
    if (kl_admit_listed(&config(ad)->pods.users, ad->r->user->name))
        return note(ad, PREFIX "exempt", KL_STR("user")), true;
    return false;
}

static bool class_is_exempt(struct kl_admit *ad, const struct kl_value *spec)
{
    return kl_admit_listed(&config(ad)->pods.classes, kl_text(kl_get(spec, KL_F_runtimeClassName)));
}

// exemptNamespaceWarning: what the labels ask for is not looked at.
static void warn_exempt(struct kl_admit *ad, const struct kl_ps_policies *p)
{
    const struct kl_ps_policies *d = &config(ad)->pods.defaults;
    const struct kl_value *labels = kl_meta_labels(ad->object);
    const struct {
        struct kl_ps_policy policy;
        const char *mode, *level, *version;
    } modes[] = {{p->enforce, "enforce", PREFIX "enforce", PREFIX "enforce-version"},
                 {p->audit, "audit", PREFIX "audit", PREFIX "audit-version"},
                 {p->warn, "warn", PREFIX "warn", PREFIX "warn-version"}};
    struct kl_buf b;
    if ((!p->enforce.level && !p->audit.level && !p->warn.level) ||
        (kl_ps_equivalent(p->enforce, d->enforce) && kl_ps_equivalent(p->audit, d->audit) &&
         kl_ps_equivalent(p->warn, d->warn)))
        return;
    kl_buf_init(&b, 1024);
    for (size_t i = 0; i < KL_COUNT(modes); i++) {
        char text[KL_PS_TEXT];
        if (modes[i].policy.level && (kl_map_value(labels, kl_str(modes[i].level)) ||
                                      kl_map_value(labels, kl_str(modes[i].version))))
            kl_buf_printf(&b, "%s%s=%s", b.n ? ", " : "", modes[i].mode,
                          kl_ps_text(modes[i].policy, text));
    }
    kl_req_warn(ad->r, kl_arena_printf(ad->r->arena,
                                       "namespace \"%.*s\" is exempt from Pod Security, and the "
                                       "policy (%.*s) will be ignored",
                                       KL_PRI(kl_meta_name(ad->object)), KL_PRI(kl_buf_str(&b))));
    kl_buf_fini(&b);
}

// ---- pods and templates

// What is looked at of a kind: a pod's own metadata and spec, or its template's.
static bool find_pod(const struct kl_admit *ad, const struct kl_value **meta,
                     const struct kl_value **spec)
{
    static const uint16_t with_template[] = {KL_RES_core_v1_replicationcontrollers,
                                             KL_RES_apps_v1_replicasets,
                                             KL_RES_apps_v1_deployments,
                                             KL_RES_apps_v1_statefulsets,
                                             KL_RES_apps_v1_daemonsets,
                                             KL_RES_batch_v1_jobs};
    const struct kl_value *t = NULL;
    if (kl_admit_of(ad, KL_RES_core_v1_pods))
        t = ad->object;
    else if (kl_admit_of(ad, KL_RES_core_v1_podtemplates))
        t = kl_get(ad->object, KL_F_template);
    else if (kl_admit_of(ad, KL_RES_batch_v1_cronjobs))
        t = kl_path(ad->object, KL_F_spec, KL_F_jobTemplate, KL_F_spec, KL_F_template);
    else
        for (size_t i = 0; i < KL_COUNT(with_template); i++)
            if (kl_admit_of(ad, with_template[i]))
                t = kl_path(ad->object, KL_F_spec, KL_F_template);
    *meta = kl_get(t, KL_F_metadata);
    *spec = kl_get(t, KL_F_spec);
    return t != NULL;
}

static bool same_images(const struct kl_value *now, const struct kl_value *old)
{
    if (kl_len(now) != kl_len(old))
        return false;
    for (size_t i = 0; i < kl_len(now); i++)
        if (!kl_str_eq(kl_text(kl_get(kl_at(now, i), KL_F_image)),
                       kl_text(kl_get(kl_at(old, i), KL_F_image))))
            return false;
    return true;
}

// isSignificantPodUpdate
static bool matters(const struct kl_value *now, const struct kl_value *old)
{
    const struct kl_value *a = kl_get(now, KL_F_spec), *b = kl_get(old, KL_F_spec);
    if (!same_images(kl_get(a, KL_F_containers), kl_get(b, KL_F_containers)) ||
        !same_images(kl_get(a, KL_F_initContainers), kl_get(b, KL_F_initContainers)))
        return true;
    for (KL_EACH(c, kl_get(a, KL_F_ephemeralContainers))) {
        bool same = false;
        for (KL_EACH(o, kl_get(b, KL_F_ephemeralContainers)))
            if (kl_str_eq(kl_text(kl_get(o, KL_F_name)), kl_text(kl_get(c, KL_F_name)))) {
                same = kl_str_eq(kl_text(kl_get(o, KL_F_image)), kl_text(kl_get(c, KL_F_image)));
                break;
            }
        if (!same)
            return true;
    }
    return false;
}

struct evaluation {
    struct kl_admit *ad;
    const struct kl_value *meta, *spec;
    struct kl_ps_policy of[3];
    struct kl_ps_verdict verdict[3];
    size_t n;
};

// Each policy is worked out once, as they are often the same.
static const struct kl_ps_verdict *evaluate(struct evaluation *e, struct kl_ps_policy p)
{
    for (size_t i = 0; i < e->n; i++)
        if (kl_ps_same(e->of[i], p))
            return &e->verdict[i];
    struct kl_ps_verdict *v = &e->verdict[e->n];
    if (kl_ps_check(e->ad->r->arena, p, e->meta, e->spec, v))
        return NULL;
    e->of[e->n++] = p;
    return v;
}

static struct kl_str would_violate(struct kl_admit *ad, struct kl_ps_policy p,
                                   const struct kl_ps_verdict *v)
{
    char text[KL_PS_TEXT];
    return kl_arena_printf(ad->r->arena, "would violate PodSecurity \"%s\": %.*s",
                           kl_ps_text(p, text), KL_PRI(v->details));
}

static void note_bad_labels(struct kl_admit *ad, const struct kl_ps_bad_label *bad, size_t n)
{
    struct kl_buf b;
    kl_buf_init(&b, 16384);
    kl_buf_puts(&b, KL_STR("Failed to parse policy: "));
    for (size_t i = 0; i < n; i++)
        kl_buf_printf(&b, "%smetadata.labels[%.*s]: Invalid value: \"%.*s\": %s",
                      i       ? ", "
                      : n > 1 ? "["
                              : "",
                      KL_PRI(bad[i].key), KL_PRI(bad[i].value), bad[i].why);
    if (n > 1)
        kl_buf_putc(&b, ']');
    note(ad, PREFIX "error", kl_arena_dup(ad->r->arena, kl_buf_str(&b)));
    kl_buf_fini(&b);
}

static int evaluate_all(struct kl_admit *ad, const struct kl_ps_policies *p, bool enforce)
{
    struct evaluation e = {.ad = ad};
    const struct kl_ps_verdict *v;
    char text[KL_PS_TEXT];
    if (!find_pod(ad, &e.meta, &e.spec))
        return 0;
    if (class_is_exempt(ad, e.spec)) {
        note(ad, PREFIX "exempt", KL_STR("runtimeClass"));
        return 0;
    }
    bool allowed = true;
    if (enforce) {
        kl_ps_text(p->enforce, text);
        note(ad, PREFIX "enforce-policy", kl_arena_dup(ad->r->arena, kl_str(text)));
        if (!(v = evaluate(&e, p->enforce)))
            return kl_admit_oom(ad);
        allowed = v->allowed;
        if (!allowed)
            kl_admit_forbid(ad, "violates PodSecurity \"%s\": %.*s", text, KL_PRI(v->details));
    }
    if (!(v = evaluate(&e, p->audit)))
        return kl_admit_oom(ad);
    if (!v->allowed)
        note(ad, PREFIX "audit-violations", would_violate(ad, p->audit, v));
    if (!allowed)
        return KL_EFORBIDDEN;
    if (!(v = evaluate(&e, p->warn)))
        return kl_admit_oom(ad);
    if (!v->allowed)
        kl_req_warn(ad->r, would_violate(ad, p->warn, v));
    return 0;
}

static int check_pod(struct kl_admit *ad, bool is_pod)
{
    struct kl_ps_policies p;
    struct kl_ps_bad_label bad[KL_PS_LABELS];
    if (is_exempt(ad))
        return 0;
    struct kl_object *ns = kl_admit_find(ad->r, KL_RES_core_v1_namespaces, KL_STR(""), ad->ns);
    if (!ns) {
        if (!is_pod)
            return 0;
        kl_fail_internal(ad->r, "failed to lookup namespace \"%.*s\"", KL_PRI(ad->ns));
        return KL_EINTERNAL;
    }
    size_t nbad = kl_ps_policies_of(kl_meta_labels(&ns->root), &config(ad)->pods.defaults, &p, bad);
    bool quiet = !p.audit.level && !p.warn.level;
    if (!nbad && quiet && (!is_pod || !p.enforce.level)) {
        if (is_pod)
            note(ad, PREFIX "enforce-policy", KL_STR("privileged:latest"));
        return 0;
    }
    if (is_pod && ad->old && !matters(ad->object, ad->old))
        return 0;
    if (nbad)
        note_bad_labels(ad, bad, nbad);
    return evaluate_all(ad, &p, is_pod);
}

// ---- namespaces: a stricter level shows which pods would not have been let in

struct finding {
    struct kl_str reasons, pod;
    size_t pods;
};
struct findings {
    struct finding v[WARNING_KINDS_MAX];
    size_t n;
};

static void find(struct kl_req *r, struct findings *f, struct kl_str reasons,
                 const struct kl_value *pod)
{
    struct kl_str name = kl_meta_name(pod);
    for (size_t i = 0; i < f->n; i++)
        if (kl_str_eq(f->v[i].reasons, reasons)) {
            f->v[i].pods++;
            if (kl_str_cmp(name, f->v[i].pod) < 0)
                f->v[i].pod = kl_arena_dup(r->arena, name);
            return;
        }
    if (f->n < WARNING_KINDS_MAX)
        f->v[f->n++] = (struct finding){reasons, kl_arena_dup(r->arena, name), 1};
}

// Pods of one controller are alike: the first of each counts before the rest.
// 1: the pod is the first of its owner's, or has none; 0; KL_ENOMEM. `seen` has owners' uids.
static int first_of_owner(struct kl_map *seen, const struct kl_value *pod)
{
    const struct kl_value *owner = kl_meta_controller(pod);
    void *before = NULL;
    if (!owner)
        return 1;
    int rc = kl_map_set(seen, kl_text(kl_get(owner, KL_F_uid)), seen, &before);
    return rc ? rc : !before;
}

static void warn_of(struct kl_req *r, const struct findings *f)
{
    struct kl_str text[WARNING_KINDS_MAX];
    for (size_t i = 0; i < f->n; i++) {
        const struct finding *x = &f->v[i];
        struct kl_str more = KL_STR("");
        if (x->pods == 2)
            more = KL_STR(" (and 1 other pod)");
        else if (x->pods > 2)
            more = kl_arena_printf(r->arena, " (and %zu other pods)", x->pods - 1);
        text[i] = kl_arena_printf(r->arena, "%.*s%.*s: %.*s", KL_PRI(x->pod), KL_PRI(more),
                                  KL_PRI(x->reasons));
    }
    qsort(text, f->n, sizeof *text, kl_str_order);
    for (size_t i = 0; i < f->n; i++)
        kl_req_warn(r, text[i]);
}

struct check {
    struct kl_ps_policy policy;
    struct findings *found;
    size_t total, checked;
};

// Two walks instead of a list: what is the first of its owner, then the others.
static int check_walk(struct kl_admit *ad, struct kl_str ns, struct check *c, struct kl_map *seen,
                      int is_first)
{
    struct kl_req *r = ad->r;
    struct kl_admit_walk w;
    struct kl_object *pod;
    if (kl_admit_walk_init(&w, r, KL_RES_core_v1_pods, ns))
        return KL_ENOMEM;
    while ((pod = kl_admit_next(&w))) {
        struct kl_ps_verdict v;
        if (class_is_exempt(ad, kl_get(&pod->root, KL_F_spec)))
            continue;
        int first = first_of_owner(seen, &pod->root);
        if (first < 0)
            return kl_admit_oom(ad);
        if (first != is_first)
            continue;
        c->total++;
        if (c->checked == PODS_CHECKED_MAX)
            continue;
        c->checked++;
        if (kl_ps_check(r->arena, c->policy, kl_get(&pod->root, KL_F_metadata),
                        kl_get(&pod->root, KL_F_spec), &v))
            return kl_admit_oom(ad);
        if (!v.allowed)
            find(r, c->found, v.reasons, &pod->root);
    }
    return 0;
}

static int check_pods(struct kl_admit *ad, struct kl_str ns, struct kl_ps_policy p)
{
    struct kl_req *r = ad->r;
    struct findings *f = KL_ARENA_NEW(r->arena, struct findings);
    struct check c = {.policy = p, .found = f};
    if (!f)
        return kl_admit_oom(ad);
    for (int first = 1; first >= 0; first--) {
        struct kl_map seen;
        kl_map_init(&seen);
        int rc = check_walk(ad, ns, &c, &seen, first);
        kl_map_fini(&seen);
        if (rc)
            return rc;
    }
    char text[KL_PS_TEXT];
    if (c.checked < c.total)
        kl_req_warn(r, kl_arena_printf(r->arena,
                                       "new PodSecurity enforce level only checked against the "
                                       "first %zu of %zu existing pods",
                                       c.checked, c.total));
    if (f->n)
        kl_req_warn(r, kl_arena_printf(r->arena,
                                       "existing pods in namespace \"%.*s\" violate the new "
                                       "PodSecurity enforce level \"%s\"",
                                       KL_PRI(ns), kl_ps_text(p, text)));
    warn_of(r, f);
    return 0;
}

static bool same_bad(const struct kl_ps_bad_label *a, size_t na, const struct kl_ps_bad_label *b,
                     size_t nb)
{
    bool same = na == nb;
    for (size_t i = 0; same && i < na; i++)
        same = kl_str_eq(a[i].key, b[i].key) && kl_str_eq(a[i].value, b[i].value);
    return same;
}

static int check_namespace(struct kl_admit *ad)
{
    struct kl_req *r = ad->r;
    struct kl_ps_policies now, old;
    struct kl_ps_bad_label bad[KL_PS_LABELS], was[KL_PS_LABELS];
    const struct kl_ps_policies *defaults = &config(ad)->pods.defaults;
    bool exempt = kl_admit_listed(&config(ad)->pods.namespaces, ad->ns);
    size_t n = kl_ps_policies_of(kl_meta_labels(ad->object), defaults, &now, bad), nwas = 0;
    if (ad->old)
        nwas = kl_ps_policies_of(kl_meta_labels(ad->old), defaults, &old, was);
    if (n && !(nwas && same_bad(bad, n, was, nwas))) {
        struct kl_field_errors e = {.arena = r->arena};
        for (size_t i = 0; i < n; i++)
            kl_field_invalid(&e,
                             kl_arena_printf(r->arena, "metadata.labels[%.*s]", KL_PRI(bad[i].key)),
                             bad[i].value, bad[i].why);
        kl_fail_invalid(r, KL_STR("Namespace"), KL_STR(""), kl_meta_name(ad->object), &e);
        return KL_EINVALID;
    }
    if (!ad->old && exempt)
        warn_exempt(ad, &now);
    if (!ad->old || kl_ps_same(now.enforce, old.enforce) || !now.enforce.level ||
        (now.enforce.minor == old.enforce.minor && now.enforce.level <= old.enforce.level))
        return 0;
    if (exempt) {
        warn_exempt(ad, &now);
        return 0;
    }
    return check_pods(ad, kl_meta_name(ad->object), now.enforce);
}

int kl_pod_security_validate(struct kl_admit *ad)
{
    static const char *const ignored[] = {"exec", "attach",      "binding", "eviction",
                                          "log",  "portforward", "proxy",   "status"};
    static const uint16_t workloads[] = {KL_RES_core_v1_replicationcontrollers,
                                         KL_RES_core_v1_podtemplates,
                                         KL_RES_apps_v1_replicasets,
                                         KL_RES_apps_v1_deployments,
                                         KL_RES_apps_v1_statefulsets,
                                         KL_RES_apps_v1_daemonsets,
                                         KL_RES_batch_v1_jobs,
                                         KL_RES_batch_v1_cronjobs};
    if (kl_admit_of(ad, KL_RES_core_v1_pods)) {
        for (size_t i = 0; i < KL_COUNT(ignored); i++)
            if (kl_admit_sub(ad, ignored[i]))
                return 0;
        return check_pod(ad, true);
    }
    if (ad->sub.n)
        return 0;
    if (kl_admit_of(ad, KL_RES_core_v1_namespaces))
        return check_namespace(ad);
    for (size_t i = 0; i < KL_COUNT(workloads); i++)
        if (kl_admit_of(ad, workloads[i]))
            return check_pod(ad, false);
    return 0;
}
