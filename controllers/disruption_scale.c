// SPDX-License-Identifier: Apache-2.0
#include "controllers/disruption.h"

const struct kl_resource *kl_scale_owner_res(enum kl_scale_owner o)
{
    static const uint16_t rows[KL_OWNERS] = {
        KL_RES_core_v1_replicationcontrollers,
        KL_RES_apps_v1_replicasets,
        KL_RES_apps_v1_deployments,
        KL_RES_apps_v1_statefulsets,
    };
    return kl_res(rows[o]);
}

static struct kl_str group_of(struct kl_str api_version)
{
    ptrdiff_t slash = kl_str_chr(api_version, '/');
    return (struct kl_str){api_version.p, slash < 0 ? 0 : (size_t)slash};
}

static struct kl_object *owner_object(const struct kl_disruption *c, enum kl_scale_owner o,
                                      struct kl_str ns, const struct kl_value *ref)
{
    struct kl_object *found = kl_informer_get(c->owners[o], ns, kl_text(kl_get(ref, KL_F_name)));
    return found && kl_str_eq(kl_meta_uid(&found->root), kl_text(kl_get(ref, KL_F_uid))) ? found
                                                                                         : NULL;
}

static bool is_ref_to(const struct kl_value *ref, enum kl_scale_owner o)
{
    struct kl_str group = group_of(kl_text(kl_get(ref, KL_F_apiVersion)));
    return kl_str_eqz(kl_text(kl_get(ref, KL_F_kind)), kl_scale_owner_res(o)->kind) &&
           (kl_str_eqz(group, o == KL_OWNER_RC ? "" : "apps") ||
            ((o == KL_OWNER_RS || o == KL_OWNER_DEPLOYMENT) && kl_str_eqz(group, "extensions")));
}

// What decides how many pods of this controller there are: itself or, of a ReplicaSet, its
// Deployment. NULL: it is not here, or of none of these kinds.
static struct kl_object *scaled_by(const struct kl_disruption *c, struct kl_str ns,
                                   const struct kl_value *ref)
{
    if (is_ref_to(ref, KL_OWNER_RC))
        return owner_object(c, KL_OWNER_RC, ns, ref);
    if (is_ref_to(ref, KL_OWNER_STATEFULSET))
        return owner_object(c, KL_OWNER_STATEFULSET, ns, ref);
    if (is_ref_to(ref, KL_OWNER_RS)) {
        struct kl_object *rs = owner_object(c, KL_OWNER_RS, ns, ref);
        const struct kl_value *up = rs ? kl_meta_controller(&rs->root) : NULL;
        return up && kl_str_eqz(kl_text(kl_get(up, KL_F_kind)),
                                kl_scale_owner_res(KL_OWNER_DEPLOYMENT)->kind)
                   ? owner_object(c, KL_OWNER_DEPLOYMENT, ns, up)
                   : rs;
    }
    return NULL;
}

static bool note_uid(struct kl_pod_count *n, struct kl_str uid)
{
    for (size_t i = 0; i < n->nuids; i++)
        if (kl_str_eq(n->uids[i], uid))
            return false;
    n->uids[n->nuids++] = uid;
    return true;
}

static int no_controllers(struct kl_plan *p, const struct kl_value *pod)
{
    return kl_error_set(&p->err, KL_EINVALID, "found no controllers for pod \"%.*s\"",
                        KL_PRI(kl_meta_name(pod)));
}

static void kinds_synced(void *arg)
{
    struct kl_disruption *c = arg;
    size_t it = 0;
    for (struct kl_entry *e; (e = kl_informer_next(c->budgets, &it));)
        kl_reconciler_add(c->reconciler, e->key);
}

static int ask_scale(struct kl_disruption *c, struct kl_plan *p, struct kl_pod_count *n,
                     const struct kl_value *pod, const struct kl_value *ref)
{
    struct kl_str api = kl_text(kl_get(ref, KL_F_apiVersion)), group = group_of(api);
    struct kl_str version = kl_str_from(api, group.n ? group.n + 1 : 0);
    struct kl_str kind = kl_text(kl_get(ref, KL_F_kind));
    const struct kl_resource *res = kl_resource_by_kind(group, version, kind);
    if (res && !kl_resource_sub(res, KL_STR("scale")))
        return kl_error_set(&p->err, KL_EINVALID, "%s%s%s does not implement the scale subresource",
                            res->plural, res->group[0] ? "." : "", res->group);
    if (!res && !c->kinds) {
        c->kinds = kl_kinds_new(&(struct kl_kinds_opts){
            .client = c->env.client, .timers = c->env.timers, .synced = kinds_synced, .arg = c});
        if (!c->kinds)
            return kl_error_set(&p->err, KL_ENOMEM, "out of memory");
    }
    if (!res && !(res = kl_kinds_find(c->kinds, group, version, kind)))
        return no_controllers(p, pod);
    if (n->nscales == KL_SCALES_MAX)
        return kl_error_set(&p->err, KL_ELIMIT, "more than %d controllers", KL_SCALES_MAX);
    struct kl_action *a = kl_plan_call(p, KL_VERB_GET, res, "scale", kl_meta_namespace(pod),
                                       kl_text(kl_get(ref, KL_F_name)));
    if (!a)
        return p->err.code;
    a->ok_errors = KL_OK_ERROR(KL_ENOTFOUND);
    a->arg = (void *)pod;
    n->scale_uids[n->nscales] = kl_text(kl_get(ref, KL_F_uid));
    n->scales[n->nscales++] = a;
    return 0;
}

int kl_disruption_sum(struct kl_disruption *c, struct kl_plan *p, struct kl_pod_count *n)
{
    n->uids = kl_arena_alloc(&p->arena, (2 * n->n + 1) * sizeof *n->uids);
    if (!n->uids)
        return kl_error_set(&p->err, KL_ENOMEM, "out of memory");
    for (size_t i = 0; i < n->n; i++) {
        const struct kl_value *ref = kl_meta_controller(n->pods[i]);
        if (!ref) {
            n->nunmanaged++;
            continue;
        }
        if (!note_uid(n, kl_text(kl_get(ref, KL_F_uid))))
            continue;
        struct kl_object *o = scaled_by(c, kl_meta_namespace(n->pods[i]), ref);
        // Who is not here, a Deployment's ReplicaSet too, may still say itself how many it wants.
        int rc = !o ? ask_scale(c, p, n, n->pods[i], ref) : 0;
        if (rc)
            return rc;
        if (o && (kl_str_eq(kl_meta_uid(&o->root), kl_text(kl_get(ref, KL_F_uid))) ||
                  note_uid(n, kl_meta_uid(&o->root))))
            n->expected += kl_int_at(&o->root, 1, KL_F_spec, KL_F_replicas);
    }
    return 0;
}

int kl_disruption_add(struct kl_plan *p, struct kl_pod_count *n)
{
    for (size_t i = 0; i < n->nscales; i++) {
        const struct kl_object *scale = n->scales[i]->call.object;
        if (n->scales[i]->call.err.code || !scale ||
            !kl_str_eq(kl_meta_uid(&scale->root), n->scale_uids[i]))
            return no_controllers(p, n->scales[i]->arg);
        n->expected += kl_int_at(&scale->root, 0, KL_F_spec, KL_F_replicas);
    }
    return 0;
}
