// SPDX-License-Identifier: Apache-2.0
// Starting a sandbox, and starting a container: image, files, create, start, postStart.
#include "kubelet/pod_config.h"
#include "kubelet/probes.h"
#include "kubelet/pull_auth.h"
#include "kubelet/start_files.h"
#include "kubelet/volumes.h"
#include <stdio.h>
#include <stdlib.h>

enum {
    SANDBOX_TIMEOUT_MS = 240000,
    CREATE_TIMEOUT_MS = 120000,
    RETRY_MIN_MS = 1000,
    RETRY_MAX_MS = 10000,
    HOOK_TIMEOUT_MS = 600000,
    ARENA_BYTES = 64 * 1024 * 1024,
    MAX_AUTHS = 32,
};

// What the server said, without "rpc error: code = X desc = ".
static const char *description(const struct kl_error *err)
{
    const char *d = strstr(err->msg, " desc = ");
    return d ? d + 8 : err->msg;
}

// ---- the sandbox

static void on_sandbox(void *arg, enum kl_grpc_code code, const void *reply,
                       const struct kl_error *err)
{
    struct kl_pod *p = arg;
    struct kl_kubelet *k = p->k;
    const struct kl_cri_run_pod_sandbox_response *r = reply;
    if (code) {
        int64_t delay = RETRY_MIN_MS << (p->prepare_fails < 4 ? p->prepare_fails : 4);
        p->prepare_fails++;
        if (!k->stopping)
            kl_pod_event(p, "Warning", "FailedCreatePodSandBox", "Failed to create pod sandbox: %s",
                         err->msg);
        p->busy = p->dirty = false;
        kl_pod_wake_in(p, delay < RETRY_MAX_MS ? delay : RETRY_MAX_MS);
        kl_kubelet_release(k);
        return;
    }
    p->prepare_fails = 0;
    struct kl_sandbox *s = calloc(1, sizeof(*s));
    if (!s)
        abort();
    s->id = kl_strdup(r->pod_sandbox_id);
    s->ready = true;
    s->created_ns = kl_timers_wall_us(k->timers) * 1000;
    kl_rt_add_sandbox(&p->rt, s);
    kl_pod_describe_sandbox(p, s->id);
    kl_pod_step_done(p);
    kl_kubelet_release(k);
}

void kl_pod_create_sandbox(struct kl_pod *p, uint32_t attempt)
{
    struct kl_arena a;
    struct kl_cri_run_pod_sandbox_request req = {0};
    struct kl_error err;
    bool missing_dns = false;
    p->busy = true;
    kl_arena_init(&a, ARENA_BYTES);
    if (kl_sandbox_config(&a, p, attempt, &req.config, &missing_dns, &err)) {
        kl_arena_fini(&a);
        p->busy = false;
        kl_pod_wake_in(p, RETRY_MAX_MS);
        return;
    }
    if (missing_dns)
        kl_pod_event(
            p, "Warning", "MissingClusterDNS",
            "pod: \"%s\". kubelet does not have ClusterDNS IP configured and cannot create "
            "Pod using \"%.*s\" policy. Falling back to \"Default\" policy.",
            p->full, KL_PRI(kl_text_at(kl_pod_root(p), KL_F_spec, KL_F_dnsPolicy)));
    kl_kubelet_hold(p->k);
    kl_cri_start(p->k->cri, KL_CRI_RUN_POD_SANDBOX, &req, SANDBOX_TIMEOUT_MS, on_sandbox, p, NULL);
    kl_arena_fini(&a);
}

// ---- a container

struct kl_start_op {
    struct kl_pod *pod;
    struct kl_object *object; // the spec this start is made from
    const struct kl_value *container;
    enum kl_ctr_kind kind;
    uint32_t attempt;
    char *image; // with a tag
    char *image_ref, *image_user;
    int64_t image_uid;
    char *id, *sandbox_id;
    bool pulled;
    size_t auth, nauths; // credentials of imagePullSecrets that were refused
    int64_t pull_started_ms;
    struct kl_start_files files;
    struct kl_cgroup_values limits; // as it was asked for
};

static struct kl_str ctr_name(const struct kl_start_op *op)
{
    return kl_text_at(op->container, KL_F_name);
}

static void free_op(struct kl_start_op *op)
{
    op->pod->start = NULL;
    kl_start_files_fini(&op->files);
    kl_object_unref(op->object);
    free(op->image);
    free(op->image_ref);
    free(op->image_user);
    free(op->id);
    free(op->sandbox_id);
    free(op);
}

static void end_op(struct kl_start_op *op)
{
    struct kl_pod *p = op->pod;
    struct kl_kubelet *k = p->k;
    free_op(op);
    kl_pod_step_done(p);
    kl_kubelet_release(k);
}

// The container waits for this reason; the next look comes on its own, sooner when something
// happened meanwhile.
static void fail_op(struct kl_start_op *op, const char *reason, const char *message)
{
    struct kl_pod *p = op->pod;
    struct kl_kubelet *k = p->k;
    kl_mem_reason(kl_pod_mem(p, ctr_name(op)), reason, kl_str(message));
    free_op(op);
    kl_pod_status_push(p);
    p->busy = false;
    kl_pod_wake_in(p, p->dirty ? 0 : RETRY_MAX_MS);
    p->dirty = false;
    kl_kubelet_release(k);
}

static bool abandoned(const struct kl_start_op *op)
{
    return op->pod->k->stopping || kl_pod_wants_end(op->pod);
}

static void hook_done(void *arg, const struct kl_error *err)
{
    struct kl_start_op *op = arg;
    struct kl_pod *p = op->pod;
    struct kl_ctr *c = kl_rt_find_id(&p->rt, kl_str(op->id));
    if (abandoned(op)) {
        // Cut short: the pod's end stops the container.
    } else if (c && err) {
        kl_ctr_event(p, ctr_name(op), "Warning", "FailedPostStartHook", "PostStartHook failed");
        kl_pod_stop_ctr(p, c, kl_pod_grace_ms(p), "FailedPostStartHook");
    } else if (c) {
        c->post_start_done = true;
    }
    end_op(op);
}

static void on_started(void *arg, enum kl_grpc_code code, const void *reply,
                       const struct kl_error *err)
{
    struct kl_start_op *op = arg;
    struct kl_pod *p = op->pod;
    if (code) {
        if (!p->k->stopping) {
            kl_ctr_event(p, ctr_name(op), "Warning", "Failed", "Error: %s", description(err));
            kl_pod_describe_ctr(p, op->id);
        }
        fail_op(op, "RunContainerError", description(err));
        return;
    }
    kl_ctr_event(p, ctr_name(op), "Normal", "Started", "Container started");
    kl_mem_reason(kl_pod_mem(p, ctr_name(op)), NULL, KL_STR(""));
    struct kl_ctr *c = kl_rt_find_id(&p->rt, kl_str(op->id));
    const struct kl_value *hook = kl_path(op->container, KL_F_lifecycle, KL_F_postStart);
    if (c) {
        c->state = KL_CTR_RUNNING;
        c->started_ns = kl_timers_wall_us(p->k->timers) * 1000;
        c->post_start_done = !hook;
    }
    kl_pod_describe_ctr(p, op->id);
    if (c && hook)
        kl_hook_run(p, hook, c, HOOK_TIMEOUT_MS, hook_done, op);
    else
        end_op(op);
}

static void on_created(void *arg, enum kl_grpc_code code, const void *reply,
                       const struct kl_error *err)
{
    struct kl_start_op *op = arg;
    struct kl_pod *p = op->pod;
    const struct kl_cri_create_container_response *r = reply;
    if (code) {
        if (!p->k->stopping)
            kl_ctr_event(p, ctr_name(op), "Warning", "Failed", "Error: %s", description(err));
        fail_op(op, "CreateContainerError", description(err));
        return;
    }
    op->id = kl_strdup(r->container_id);
    struct kl_ctr *c = calloc(1, sizeof(*c));
    if (!c)
        abort();
    c->id = kl_strdup(r->container_id);
    c->name = kl_strdup(ctr_name(op));
    c->sandbox_id = kl_strdup(kl_str(op->sandbox_id));
    c->image = kl_strdup(kl_str(op->image));
    c->image_id = kl_strdup(kl_str(op->image_ref));
    c->state = KL_CTR_CREATED;
    c->attempt = op->attempt;
    c->hash = kl_ctr_hash(op->container);
    c->has_hash = c->has_limits = true;
    c->limits = op->limits;
    c->created_ns = kl_timers_wall_us(p->k->timers) * 1000;
    kl_rt_add_ctr(&p->rt, c);
    kl_ctr_event(p, ctr_name(op), "Normal", "Created", "Container created");
    struct kl_cri_start_container_request req = {.container_id = kl_str(op->id)};
    kl_cri_start(p->k->cri, KL_CRI_START_CONTAINER, &req, CREATE_TIMEOUT_MS, on_started, op, NULL);
}

static void create(struct kl_start_op *op)
{
    struct kl_pod *p = op->pod;
    struct kl_arena a;
    struct kl_error err;
    struct kl_cri_create_container_request req = {.pod_sandbox_id = kl_str(op->sandbox_id)};
    bool missing_dns;
    kl_arena_init(&a, ARENA_BYTES);
    kl_cgroup_of_container(kl_pod_granted(p, op->container), &op->limits);
    struct kl_container_inputs in = {.container = op->container,
                                     .kind = op->kind,
                                     .attempt = op->attempt,
                                     .image_ref = kl_str(op->image_ref),
                                     .image_uid = op->image_uid,
                                     .image_user = kl_str(op->image_user),
                                     .termination_log = kl_str(op->files.termination_log.s),
                                     .hosts_file = kl_str(op->files.hosts.s),
                                     .subpaths = op->files.subpaths};
    if (kl_container_config(&a, p, &in, &req.config, &err) ||
        kl_sandbox_config(&a, p, p->rt.sandboxes ? p->rt.sandboxes->attempt : 0,
                          &req.sandbox_config, &missing_dns, &err)) {
        kl_ctr_event(p, ctr_name(op), "Warning", "Failed", "Error: %s", err.msg);
        fail_op(op, "CreateContainerConfigError", err.msg);
    } else {
        kl_cri_start(p->k->cri, KL_CRI_CREATE_CONTAINER, &req, CREATE_TIMEOUT_MS, on_created, op,
                     NULL);
    }
    kl_arena_fini(&a);
}

static void files_ready(void *arg, const struct kl_error *err)
{
    struct kl_start_op *op = arg;
    if (abandoned(op)) {
        end_op(op);
    } else if (err) {
        kl_ctr_event(op->pod, ctr_name(op), "Warning", "Failed", "Error: %s", err->msg);
        fail_op(op, "CreateContainerConfigError", err->msg);
    } else {
        create(op);
    }
}

// ---- the image

static void have_image(struct kl_start_op *op)
{
    if (abandoned(op))
        end_op(op);
    else
        kl_start_files_make(&op->files, op->pod, op->container, op->attempt, files_ready, op);
}

static void ask_image(struct kl_start_op *op);

static void image_failed(struct kl_start_op *op, const char *reason, const char *message)
{
    if (!op->pod->k->stopping)
        kl_ctr_event(op->pod, ctr_name(op), "Warning", "Failed", "Error: %s", reason);
    fail_op(op, reason, message);
}

static void send_pull(struct kl_start_op *op);

static void on_pulled(void *arg, enum kl_grpc_code code, const void *reply,
                      const struct kl_error *err)
{
    struct kl_start_op *op = arg;
    struct kl_pod *p = op->pod;
    struct kl_ctr_mem *m = kl_pod_mem(p, ctr_name(op));
    struct kl_str image = kl_text_at(op->container, KL_F_image);
    p->pull = NULL;
    if (code == KL_GRPC_CANCELED || (code && abandoned(op))) {
        end_op(op);
        return;
    }
    if (code && ++op->auth < op->nauths) {
        send_pull(op); // with the next credentials
        return;
    }
    op->auth = 0;
    if (code) {
        int64_t now = kl_kubelet_now_ms(p->k);
        kl_ctr_event(p, ctr_name(op), "Warning", "Failed", "Failed to pull image \"%.*s\": %s",
                     KL_PRI(image), err->msg);
        kl_backoff_next(&m->pull, now, now);
        free(m->pull_error);
        m->pull_error = kl_asprintf("ErrImagePull: %s", err->msg);
        image_failed(op, "ErrImagePull", err->msg);
        return;
    }
    free(m->pull_error);
    m->pull_error = NULL;
    op->pulled = true;
    kl_images_changed(p->k->images);
    ask_image(op);
}

static void send_pull(struct kl_start_op *op)
{
    struct kl_pod *p = op->pod;
    struct kl_arena a;
    struct kl_cri_auth_config auths[MAX_AUTHS];
    struct kl_cri_image_spec spec = {.image = kl_str(op->image)};
    struct kl_cri_pull_image_request req = {.image = &spec};
    size_t n = 0;
    kl_arena_init(&a, ARENA_BYTES);
    for (KL_EACH(s, kl_path(kl_pod_root(p), KL_F_spec, KL_F_imagePullSecrets))) {
        struct kl_object *o =
            p->volumes ? kl_volumes_object(p->volumes, true, kl_text_at(s, KL_F_name)) : NULL;
        if (o)
            kl_pull_auths(&a, &o->root, spec.image, auths, &n, MAX_AUTHS);
    }
    op->nauths = n;
    if (op->auth < n)
        req.auth = &auths[op->auth];
    kl_cri_start(p->k->cri, KL_CRI_PULL_IMAGE, &req, 0, on_pulled, op, &p->pull);
    kl_arena_fini(&a);
}

static void pull(struct kl_start_op *op)
{
    struct kl_pod *p = op->pod;
    kl_ctr_event(p, ctr_name(op), "Normal", "Pulling", "Pulling image \"%.*s\"",
                 KL_PRI(kl_text_at(op->container, KL_F_image)));
    op->pull_started_ms = kl_timers_now_ms(p->k->timers);
    send_pull(op);
}

static void tell_present(struct kl_start_op *op, const struct kl_cri_image *image)
{
    struct kl_pod *p = op->pod;
    struct kl_str name = kl_text_at(op->container, KL_F_image);
    if (op->pulled) {
        long long ms = kl_timers_now_ms(p->k->timers) - op->pull_started_ms;
        kl_ctr_event(p, ctr_name(op), "Normal", "Pulled",
                     "Successfully pulled image \"%.*s\" in %lld.%03llds (%lld.%03llds including "
                     "waiting). Image size: %lld bytes.",
                     KL_PRI(name), ms / 1000, ms % 1000, ms / 1000, ms % 1000,
                     (long long)image->size);
    } else {
        kl_ctr_event(p, ctr_name(op), "Normal", "Pulled",
                     "Container image \"%.*s\" already present on machine and can be accessed by "
                     "the pod",
                     KL_PRI(name));
    }
}

static void on_image(void *arg, enum kl_grpc_code code, const void *reply,
                     const struct kl_error *err)
{
    struct kl_start_op *op = arg;
    struct kl_pod *p = op->pod;
    const struct kl_cri_image_status_response *r = reply;
    struct kl_str name = kl_text_at(op->container, KL_F_image);
    struct kl_str policy = kl_text_at(op->container, KL_F_imagePullPolicy);
    if (abandoned(op)) {
        end_op(op);
        return;
    }
    if (code) {
        char msg[1200];
        snprintf(msg, sizeof(msg), "Failed to inspect image \"%.*s\": %s", KL_PRI(name), err->msg);
        kl_ctr_event(p, ctr_name(op), "Warning", "InspectFailed", "%s", msg);
        image_failed(op, "ImageInspectError", msg);
        return;
    }
    const struct kl_cri_image *image = r->image;
    if (image && (op->pulled || !kl_str_eqz(policy, "Always"))) {
        op->image_ref = kl_strdup(image->id);
        op->image_uid = image->uid ? image->uid->value : -1;
        op->image_user = kl_strdup(image->username);
        tell_present(op, image);
        have_image(op);
    } else if (kl_str_eqz(policy, "Never")) {
        char msg[1200];
        snprintf(msg, sizeof(msg),
                 "Container image \"%.*s\" is not present with pull policy of Never", KL_PRI(name));
        kl_ctr_event(p, ctr_name(op), "Warning", "ErrImageNeverPull", "%s", msg);
        image_failed(op, "ErrImageNeverPull", msg);
    } else if (op->pulled) {
        image_failed(op, "ErrImagePull", "the image was pulled and is not there");
    } else {
        pull(op);
    }
}

static void ask_image(struct kl_start_op *op)
{
    struct kl_cri_image_spec spec = {.image = kl_str(op->image)};
    struct kl_cri_image_status_request req = {.image = &spec};
    kl_cri_start(op->pod->k->cri, KL_CRI_IMAGE_STATUS, &req, 60000, on_image, op, NULL);
}

// An image without tag and digest is the latest.
static char *with_tag(struct kl_str image)
{
    size_t slash = 0;
    for (size_t i = 0; i < image.n; i++)
        if (image.p[i] == '/')
            slash = i;
    struct kl_str last = kl_str_from(image, slash);
    bool tagged = kl_str_chr(last, ':') >= 0 || kl_str_chr(image, '@') >= 0;
    return kl_asprintf("%.*s%s", KL_PRI(image), tagged ? "" : ":latest");
}

// The runtime knows no instance: one that the status knows has been lost, and counts.
static uint32_t attempt_after_loss(const struct kl_pod *p, struct kl_str name)
{
    static const kl_sym lists[] = {KL_F_containerStatuses, KL_F_initContainerStatuses};
    for (size_t i = 0; i < KL_COUNT(lists); i++)
        for (KL_EACH(s, kl_path(kl_pod_root(p), KL_F_status, lists[i])))
            if (kl_str_eq(kl_text_at(s, KL_F_name), name) && kl_text_at(s, KL_F_containerID).n)
                return (uint32_t)kl_int_at(s, 0, KL_F_restartCount) + 1;
    return 0;
}

void kl_pod_start_ctr(struct kl_pod *p, enum kl_ctr_kind kind, size_t index)
{
    struct kl_start_op *op = calloc(1, sizeof(*op));
    if (!op)
        abort();
    op->pod = p;
    op->object = kl_object_ref(p->object);
    op->container = kl_at(kl_pod_containers(&op->object->root, kind), index);
    op->kind = kind;
    op->image_uid = -1;
    const struct kl_ctr *last = kl_rt_find(&p->rt, ctr_name(op));
    op->attempt = last ? last->attempt + 1 : attempt_after_loss(p, ctr_name(op));
    op->image = with_tag(kl_text_at(op->container, KL_F_image));
    op->sandbox_id = kl_strdup(kl_str(p->rt.sandboxes->id));
    p->busy = true;
    p->start = op;
    kl_kubelet_hold(p->k);
    ask_image(op);
}
