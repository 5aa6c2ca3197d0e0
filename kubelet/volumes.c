// SPDX-License-Identifier: Apache-2.0
// Set-up: wait for the objects, ask for tokens, make the payloads, let a worker write. An update is
// the same once more; the worker writes only what differs.
#include "kubelet/volumes_int.h"
#include "object/quantity.h"
#include "object/timestamp.h"
#include <stdio.h>
#include <stdlib.h>

enum {
    UPDATE_DELAY_MS = 500,  // several changes make one write
    OBJECT_WAIT_MS = 10000, // an API server that does not answer
    TOKEN_RETRY_MS = 5000,
    WORK_BYTES = 256 * 1024 * 1024,
};

enum volumes_state { IDLE, WAITING, WRITING, REMOVING };

struct kl_volumes {
    struct kl_pod *pod;
    struct kl_kubelet *k;
    enum volumes_state state;
    bool made, update_wanted, refs_taken;
    bool remove_wanted; // after the job under way
    bool dead;          // freed by its owner, a token call is still out
    int jobs, token_calls;
    struct kl_object_use *uses[KL_VOLUMES_MAX];
    size_t nuses;
    struct kl_token *tokens;
    struct kl_timer update, wait;
    void (*cb)(void *arg, const struct kl_error *err);
    void *arg;
};

struct work {
    struct kl_job job;
    struct kl_volumes *v;
    struct kl_arena a;
    struct kl_volume_work *items;
    size_t n;
    struct kl_path dir;
    bool remove;
    struct kl_error err;
    int status;
};

static void step(struct kl_volumes *v);
static void submit_removal(struct kl_volumes *v);

bool kl_volumes_path(const struct kl_volumes *v, struct kl_str name, struct kl_path *ret)
{
    for (KL_EACH(vol, kl_path(kl_pod_root(v->pod), KL_F_spec, KL_F_volumes))) {
        if (!kl_str_eq(kl_text_at(vol, KL_F_name), name))
            continue;
        enum kl_volume_kind kind = kl_volume_kind_of(vol);
        if (kind == KL_VOLUME_HOST_PATH)
            return kl_path_set(ret, "%.*s", KL_PRI(kl_text_at(vol, KL_F_hostPath, KL_F_path)));
        return kl_path_set(ret, "%s/%s/volumes/%s/%.*s", v->k->conf.pods_dir, v->pod->uid,
                           kl_volume_dir_name(kind), KL_PRI(name));
    }
    return false;
}

struct kl_object *kl_volumes_object(const struct kl_volumes *v, bool secret, struct kl_str name)
{
    for (size_t i = 0; i < v->nuses; i++)
        if (kl_object_use_is(v->uses[i], secret, name))
            return kl_object_use_get(v->uses[i]);
    return NULL;
}

// ---- what the pod refers to

static void on_object(void *arg)
{
    struct kl_volumes *v = arg;
    if (v->state == WAITING)
        step(v);
    else if (v->made)
        kl_timer_after(v->k->timers, &v->update, UPDATE_DELAY_MS);
}

static void use_object(struct kl_volumes *v, bool secret, struct kl_str name)
{
    for (size_t i = 0; i < v->nuses; i++)
        if (kl_object_use_is(v->uses[i], secret, name))
            return;
    if (!name.n || v->nuses == KL_VOLUMES_MAX)
        return;
    struct kl_object_use *u =
        kl_object_use_new(v->k->cache, secret, kl_str(v->pod->ns), name, on_object, v);
    if (u)
        v->uses[v->nuses++] = u;
}

static void use_token(struct kl_volumes *v, const struct kl_value *from)
{
    struct kl_str audience = kl_text_at(from, KL_F_audience);
    int64_t seconds = kl_int_at(from, 3600, KL_F_expirationSeconds);
    for (struct kl_token *t = v->tokens; t; t = t->next)
        if (kl_str_eqz(audience, t->audience) && t->expiration_s == seconds)
            return;
    struct kl_token *t = calloc(1, sizeof(*t));
    if (!t)
        return;
    t->audience = kl_strdup(audience);
    t->expiration_s = seconds;
    t->next = v->tokens;
    v->tokens = t;
}

static void use_of_container(struct kl_volumes *v, const struct kl_value *c)
{
    for (KL_EACH(e, kl_get(c, KL_F_env))) {
        const struct kl_value *from = kl_get(e, KL_F_valueFrom);
        use_object(v, false, kl_text_at(from, KL_F_configMapKeyRef, KL_F_name));
        use_object(v, true, kl_text_at(from, KL_F_secretKeyRef, KL_F_name));
    }
    for (KL_EACH(e, kl_get(c, KL_F_envFrom))) {
        use_object(v, false, kl_text_at(e, KL_F_configMapRef, KL_F_name));
        use_object(v, true, kl_text_at(e, KL_F_secretRef, KL_F_name));
    }
}

static void take_refs(struct kl_volumes *v)
{
    const struct kl_value *pod = kl_pod_root(v->pod);
    if (v->refs_taken)
        return;
    v->refs_taken = true;
    for (KL_EACH(vol, kl_path(pod, KL_F_spec, KL_F_volumes))) {
        use_object(v, false, kl_text_at(vol, KL_F_configMap, KL_F_name));
        use_object(v, true, kl_text_at(vol, KL_F_secret, KL_F_secretName));
        for (KL_EACH(s, kl_path(vol, KL_F_projected, KL_F_sources))) {
            use_object(v, false, kl_text_at(s, KL_F_configMap, KL_F_name));
            use_object(v, true, kl_text_at(s, KL_F_secret, KL_F_name));
            if (kl_get(s, KL_F_serviceAccountToken))
                use_token(v, kl_get(s, KL_F_serviceAccountToken));
        }
    }
    for (int kind = KL_CTR_INIT; kind <= KL_CTR_EPHEMERAL; kind++)
        for (KL_EACH(c, kl_pod_containers(pod, kind)))
            use_of_container(v, c);
    for (KL_EACH(s, kl_path(pod, KL_F_spec, KL_F_imagePullSecrets)))
        use_object(v, true, kl_text_at(s, KL_F_name));
}

// ---- tokens

struct token_call {
    struct kl_call call;
    struct kl_volumes *v;
    struct kl_token *token;
    struct kl_arena a;
};

static void on_token(struct kl_call *call)
{
    struct token_call *tc = call->arg;
    struct kl_volumes *v = tc->v;
    struct kl_kubelet *k = v->k;
    struct kl_token *t = tc->token;
    const struct kl_value *st = call->object ? kl_get(&call->object->root, KL_F_status) : NULL;
    struct kl_str token = kl_text_at(st, KL_F_token);
    int64_t now = kl_kubelet_now_ms(k);
    t->asking = false;
    free(t->error);
    t->error = NULL;
    if (call->err.code || !token.n) {
        t->error = kl_strdup(kl_str(call->err.code ? call->err.msg : "empty answer"));
        t->refresh_at_ms = now + TOKEN_RETRY_MS;
    } else {
        free(t->token);
        t->token = kl_strdup(token);
        t->expires_ms = kl_int_at(st, 0, KL_F_expirationTimestamp) / 1000;
        // At 80 % of its life, or after a day (token_manager.go).
        int64_t life = t->expires_ms - now;
        t->refresh_at_ms = now + (life * 8 / 10 < 86400000 ? life * 8 / 10 : 86400000);
    }
    kl_object_unref(call->body);
    kl_call_fini(call);
    kl_arena_fini(&tc->a);
    free(tc);
    if (!--v->token_calls && v->dead)
        kl_volumes_free(v);
    else if (v->dead)
        ; // the last one frees
    else if (v->state == WAITING)
        step(v);
    else if (v->made)
        kl_timer_after(k->timers, &v->update, 0);
    kl_kubelet_release(k);
}

static void ask_token(struct kl_volumes *v, struct kl_token *t)
{
    struct kl_pod *p = v->pod;
    const struct kl_type *type =
        kl_type_by_name(KL_STR("io.k8s.api.authentication.v1.TokenRequest"));
    struct token_call *tc = calloc(1, sizeof(*tc));
    if (!tc || !type)
        return free(tc);
    kl_arena_init(&tc->a, 65536);
    struct kl_value body = kl_new_struct();
    struct kl_value *spec = kl_edit(&tc->a, &body, KL_F_spec, KL_STRUCT);
    struct kl_value *aud = kl_edit(&tc->a, spec, KL_F_audiences, KL_ARRAY);
    if (t->audience[0])
        kl_append(&tc->a, aud, kl_stringz(t->audience));
    kl_set_int(&tc->a, spec, KL_F_expirationSeconds, t->expiration_s);
    struct kl_value *ref = kl_edit(&tc->a, spec, KL_F_boundObjectRef, KL_STRUCT);
    kl_set_z(&tc->a, ref, KL_F_kind, "Pod");
    kl_set_z(&tc->a, ref, KL_F_apiVersion, "v1");
    kl_set_z(&tc->a, ref, KL_F_name, p->name);
    kl_set_z(&tc->a, ref, KL_F_uid, p->uid);
    tc->v = v;
    tc->token = t;
    struct kl_str sa = kl_text_at(kl_pod_root(p), KL_F_spec, KL_F_serviceAccountName);
    tc->call = (struct kl_call){.verb = KL_VERB_CREATE,
                                .res = kl_res(KL_RES_core_v1_serviceaccounts),
                                .sub = "token",
                                .ns = kl_str(p->ns),
                                .name = kl_arena_dup(&tc->a, sa.n ? sa : KL_STR("default")),
                                .body = kl_object_freeze(type, &body),
                                .done_cb = on_token,
                                .arg = tc};
    t->asking = true;
    v->token_calls++;
    kl_kubelet_hold(p->k);
    kl_client_start(p->k->client, &tc->call);
}

// Asks for what is missing or old; tells when the next is due (0: none).
static int64_t renew_tokens(struct kl_volumes *v)
{
    int64_t now = kl_kubelet_now_ms(v->k), next = 0;
    for (struct kl_token *t = v->tokens; t; t = t->next) {
        if (!t->asking && t->refresh_at_ms <= now)
            ask_token(v, t);
        else if (!next || t->refresh_at_ms < next)
            next = t->refresh_at_ms;
    }
    return next;
}

// ---- writing

static const struct kl_value *find_object(void *arg, bool secret, struct kl_str name)
{
    struct kl_object *o = kl_volumes_object(arg, secret, name);
    return o ? &o->root : NULL;
}

static void run_work(struct kl_job *job)
{
    struct work *w = KL_CONTAINER_OF(job, struct work, job);
    if (w->remove) {
        w->status = kl_fs_unmount_below(w->dir.s, &w->err);
        struct kl_path p;
        if (!w->status && kl_path_set(&p, "%s/volumes", w->dir.s))
            w->status = kl_fs_remove_tree(p.s, &w->err);
        if (!w->status && kl_path_set(&p, "%s/plugins", w->dir.s))
            w->status = kl_fs_remove_tree(p.s, &w->err);
        if (!w->status && kl_path_set(&p, "%s/volume-subpaths", w->dir.s))
            w->status = kl_fs_remove_tree(p.s, &w->err);
        return;
    }
    for (size_t i = 0; !w->status && i < w->n; i++) {
        w->status = kl_volume_make(&w->items[i], &w->err);
        if (w->status)
            kl_error_wrap(&w->err, "MountVolume.SetUp failed for volume \"%.*s\" ",
                          KL_PRI(w->items[i].name));
    }
}

static void answer(struct kl_volumes *v, const struct kl_error *err)
{
    void (*cb)(void *, const struct kl_error *) = v->cb;
    v->cb = NULL;
    if (cb)
        cb(v->arg, err);
}

static void work_done(struct kl_job *job)
{
    struct work *w = KL_CONTAINER_OF(job, struct work, job);
    struct kl_volumes *v = w->v;
    struct kl_kubelet *k = v->k;
    v->jobs--;
    if (v->remove_wanted && !w->remove) {
        v->remove_wanted = false;
        submit_removal(v);
        kl_arena_fini(&w->a);
        free(w);
        kl_kubelet_release(k);
        return;
    }
    v->state = IDLE;
    if (!w->remove && !w->status)
        v->made = true;
    else if (w->status && !v->cb)
        kl_log(KL_LOG_WARN, "kubelet", "volumes of pod %s: %s", v->pod->full, w->err.msg);
    if (v->update_wanted && v->made && !w->remove)
        kl_timer_after(k->timers, &v->update, UPDATE_DELAY_MS);
    v->update_wanted = false;
    answer(v, w->status ? &w->err : NULL); // may free v
    kl_arena_fini(&w->a);
    free(w);
    kl_kubelet_release(k);
}

static struct work *new_work(struct kl_volumes *v)
{
    struct work *w = calloc(1, sizeof(*w));
    if (!w)
        abort();
    kl_arena_init(&w->a, WORK_BYTES);
    w->v = v;
    w->job.work = run_work;
    w->job.done = work_done;
    kl_pod_dir(v->pod, &w->dir);
    return w;
}

static void submit(struct kl_volumes *v, struct work *w)
{
    v->jobs++;
    kl_kubelet_hold(v->k);
    kl_pool_submit(v->k->pool, &w->job);
}

static void submit_removal(struct kl_volumes *v)
{
    struct work *w = new_work(v);
    w->remove = true;
    submit(v, w);
}

static int describe_work(struct kl_volumes *v, struct work *w)
{
    struct kl_pod *p = v->pod;
    const struct kl_value *pod = kl_pod_root(p);
    const struct kl_value *volumes = kl_path(pod, KL_F_spec, KL_F_volumes);
    struct kl_env_source env = {.pod = pod,
                                .host_ip = kl_str(p->k->conf.node_ip),
                                .node_name = kl_str(p->k->conf.node_name),
                                .pod_ip =
                                    p->rt.sandboxes ? kl_str(p->rt.sandboxes->ips[0]) : KL_STR(""),
                                .object = find_object,
                                .arg = v};
    kl_node_allocatable(p->k, &env.allocatable_milli_cpu, &env.allocatable_bytes,
                        &env.allocatable_ephemeral_bytes);
    struct kl_payload_source src = {&w->a, &env, v->tokens};
    w->items = kl_arena_zalloc(&w->a, (kl_len(volumes) + 1) * sizeof(*w->items));
    const struct kl_value *group = kl_path(pod, KL_F_spec, KL_F_securityContext, KL_F_fsGroup);
    for (KL_EACH(vol, volumes)) {
        enum kl_volume_kind kind = kl_volume_kind_of(vol);
        if (v->made && (kind == KL_VOLUME_EMPTY_DIR || kind == KL_VOLUME_HOST_PATH))
            continue; // an update changes nothing of these
        struct kl_volume_work *i = &w->items[w->n++];
        i->kind = kind;
        i->name = kl_arena_dup(&w->a, kl_text_at(vol, KL_F_name));
        i->gid = (gid_t)kl_int_or(group, -1);
        i->host_type = kl_arena_dup(&w->a, kl_text_at(vol, KL_F_hostPath, KL_F_type));
        struct kl_str size = kl_text_at(vol, KL_F_emptyDir, KL_F_sizeLimit);
        i->tmpfs = kl_str_eqz(kl_text_at(vol, KL_F_emptyDir, KL_F_medium), "Memory") ||
                   i->kind == KL_VOLUME_SECRET || i->kind == KL_VOLUME_PROJECTED ||
                   i->kind == KL_VOLUME_DOWNWARD;
        i->size_bytes = size.n ? kl_quantity_value_of(size) : 0;
        bool fits = kl_volumes_path(v, i->name, &i->path);
        if (kind == KL_VOLUME_EMPTY_DIR)
            fits = kl_path_set(&i->made, "%s/plugins/%s/%.*s/ready", w->dir.s,
                               kl_volume_dir_name(kind), KL_PRI(i->name)) &&
                   fits;
        int r = fits ? kl_volume_payload(&src, vol, i, &w->err)
                     : kl_error_set(&w->err, KL_ELIMIT, "path too long");
        if (r) {
            kl_error_wrap(&w->err, "MountVolume.SetUp failed for volume \"%.*s\" ",
                          KL_PRI(i->name));
            return r;
        }
    }
    return 0;
}

static void write_now(struct kl_volumes *v)
{
    struct work *w = new_work(v);
    v->state = WRITING;
    w->status = describe_work(v, w);
    submit(v, w); // a failed description too: its answer comes later, as any
}

static bool all_known(const struct kl_volumes *v)
{
    for (size_t i = 0; i < v->nuses; i++)
        if (!kl_object_use_known(v->uses[i]))
            return false;
    for (const struct kl_token *t = v->tokens; t; t = t->next)
        if (t->asking)
            return false;
    return true;
}

static void step(struct kl_volumes *v)
{
    if (v->state == WAITING && all_known(v)) {
        kl_timer_cancel(v->k->timers, &v->wait);
        write_now(v);
    }
}

static void on_wait(struct kl_timer *t)
{
    struct kl_volumes *v = KL_CONTAINER_OF(t, struct kl_volumes, wait);
    if (v->state == WAITING)
        write_now(v); // says which is missing
}

static void on_update(struct kl_timer *t)
{
    struct kl_volumes *v = KL_CONTAINER_OF(t, struct kl_volumes, update);
    if (v->dead || !v->made || v->pod->life != KL_POD_LIVE || v->k->stopping)
        return;
    int64_t next = renew_tokens(v);
    if (v->token_calls)
        return; // comes back with the tokens
    if (v->state != IDLE) {
        v->update_wanted = true;
        return;
    }
    write_now(v);
    if (next)
        kl_timer_after(v->k->timers, &v->update, next - kl_kubelet_now_ms(v->k));
}

struct kl_volumes *kl_volumes_new(struct kl_pod *p)
{
    struct kl_volumes *v = calloc(1, sizeof(*v));
    if (!v)
        abort();
    v->pod = p;
    v->k = p->k;
    v->update.cb = on_update;
    v->wait.cb = on_wait;
    return v;
}

void kl_volumes_setup(struct kl_volumes *v, void (*cb)(void *arg, const struct kl_error *err),
                      void *arg)
{
    v->cb = cb;
    v->arg = arg;
    take_refs(v);
    int64_t next = renew_tokens(v);
    v->state = WAITING;
    kl_timer_after(v->k->timers, &v->wait, OBJECT_WAIT_MS);
    if (next || v->tokens)
        kl_timer_after(v->k->timers, &v->update, next ? next - kl_kubelet_now_ms(v->k) : 1000);
    step(v);
}

void kl_volumes_pod_changed(struct kl_volumes *v)
{
    if (v->made)
        kl_timer_after(v->k->timers, &v->update, UPDATE_DELAY_MS);
}

void kl_volumes_teardown(struct kl_volumes *v, void (*cb)(void *arg, const struct kl_error *err),
                         void *arg)
{
    kl_timer_cancel(v->k->timers, &v->update);
    kl_timer_cancel(v->k->timers, &v->wait);
    v->cb = cb;
    v->arg = arg;
    v->made = false;
    v->state = REMOVING;
    if (v->jobs)
        v->remove_wanted = true;
    else
        submit_removal(v);
}

void kl_volumes_free(struct kl_volumes *v)
{
    if (!v)
        return;
    v->dead = true;
    kl_timer_cancel(v->k->timers, &v->update);
    kl_timer_cancel(v->k->timers, &v->wait);
    for (size_t i = 0; i < v->nuses; i++)
        kl_object_use_free(v->uses[i]);
    v->nuses = 0;
    if (v->token_calls)
        return; // on_token comes back here
    for (struct kl_token *t; (t = v->tokens);) {
        v->tokens = t->next;
        free(t->audience);
        free(t->token);
        free(t->error);
        free(t);
    }
    free(v);
}
