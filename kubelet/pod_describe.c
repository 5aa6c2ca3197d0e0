// SPDX-License-Identifier: Apache-2.0
// Reads the state of containers and sandboxes from the runtime into a pod.
#include "kubelet/log_reader.h"
#include "kubelet/pods_int.h"
#include "kubelet/probes.h"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    EXIT_TRIES = 20,
    EXIT_FIRST_DELAY_MS = 10, // doubled each time
    EXIT_MAX_DELAY_MS = 1000, // the kubelet's end waits as long at most
    MESSAGE_BYTES = 4096,     // of a termination message
    LOG_TAIL_BYTES = 2048,    // of FallbackToLogsOnError, at most
    LOG_TAIL_LINES = 80,
};

struct describe {
    struct kl_pod *pod;
    char *id;
    int tries_left; // > 0: until it has exited
    int delay_ms;
    struct kl_timer timer;
    // reading the termination message
    struct kl_job job;
    char *message_path, *log_path;
    bool fall_back;
    char *message;
};

static void ask_ctr(struct describe *d);

static struct describe *begin(struct kl_pod *p, const char *id)
{
    struct describe *d = calloc(1, sizeof(*d));
    if (!d)
        abort();
    d->pod = p;
    d->id = kl_strdup(kl_str(id));
    p->describing++;
    kl_kubelet_hold(p->k);
    return d;
}

static void end(struct describe *d)
{
    struct kl_pod *p = d->pod;
    struct kl_kubelet *k = p->k;
    free(d->id);
    free(d->message_path);
    free(d->log_path);
    free(d->message);
    free(d);
    if (!--p->describing)
        kl_pod_sync(p);
    kl_kubelet_release(k);
}

static void set_string(char **at, struct kl_str s)
{
    free(*at);
    *at = s.n ? kl_strdup(s) : NULL;
}

static void drop_ctr(struct kl_pod *p, const char *id)
{
    for (struct kl_ctr **at = &p->rt.ctrs; *at; at = &(*at)->next)
        if (!strcmp((*at)->id, id)) {
            struct kl_ctr *c = *at;
            kl_probes_ctr_ended(p->k->probes, c);
            *at = c->next;
            kl_ctr_free(c);
            return;
        }
}

static uint32_t parse_hash(struct kl_str s)
{
    uint32_t v = 0;
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        v = v << 4 | (uint32_t)(c <= '9' ? c - '0' : (c | 32) - 'a' + 10);
    }
    return v;
}

static void fill_ctr(struct kl_ctr *c, const struct kl_cri_container_status *s)
{
    struct kl_str attempt = kl_proto_map_get(s->annotations, s->n_annotations,
                                             KL_STR("io.kubernetes.container.restartCount"));
    struct kl_str hash =
        kl_proto_map_get(s->annotations, s->n_annotations, KL_STR("io.kubernetes.container.hash"));
    int64_t n;
    c->state = (enum kl_ctr_state)s->state;
    c->created_ns = s->created_at;
    c->started_ns = s->started_at;
    c->finished_ns = s->finished_at;
    c->exit_code = s->exit_code;
    c->attempt = kl_str_to_i64(attempt, &n) ? (uint32_t)n : s->metadata ? s->metadata->attempt : 0;
    c->has_hash = hash.n > 0;
    c->hash = parse_hash(hash);
    const struct kl_cri_linux_container_resources *r = s->resources ? s->resources->linux_ : NULL;
    if (!c->has_limits && r) { // of an earlier kubelet; ours are known
        c->has_limits = true;
        c->limits = (struct kl_cgroup_values){
            .cpu_shares = r->cpu_shares,
            .cpu_quota_us = r->cpu_quota > 0 ? r->cpu_quota : -1,
            .cpu_period_us = r->cpu_period,
            .memory_limit_bytes = r->memory_limit_in_bytes > 0 ? r->memory_limit_in_bytes : -1};
    }
    set_string(&c->reason, s->reason);
    set_string(&c->message, s->message);
    set_string(&c->image, s->image ? s->image->image : KL_STR(""));
    set_string(&c->image_id, s->image_ref);
    set_string(&c->log_path, s->log_path);
}

// ---- the termination message, on a worker

static void read_tail(const char *path, struct kl_buf *out)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    struct stat st;
    if (fd < 0)
        return;
    enum { WINDOW = 64 * 1024 };
    struct kl_buf raw;
    kl_buf_init(&raw, WINDOW);
    if (!fstat(fd, &st) && !kl_buf_reserve(&raw, WINDOW)) {
        off_t from = st.st_size > WINDOW ? st.st_size - WINDOW : 0;
        ssize_t n = pread(fd, raw.p, WINDOW, from);
        raw.n = n > 0 ? (size_t)n : 0;
    }
    close(fd);
    size_t start = raw.n;
    for (int lines = 0; start > 0 && lines <= LOG_TAIL_LINES; start--)
        if (raw.p[start - 1] == '\n' && start != raw.n && ++lines == LOG_TAIL_LINES)
            break;
    struct kl_str rest = kl_str_from(kl_buf_str(&raw), start), line;
    while (kl_str_split(&rest, '\n', &line)) {
        struct kl_log_line l;
        if (!kl_log_parse(line, &l))
            continue;
        kl_buf_puts(out, l.text);
        if (!l.partial)
            kl_buf_putc(out, '\n');
    }
    if (out->n > LOG_TAIL_BYTES)
        kl_buf_consume(out, out->n - LOG_TAIL_BYTES);
    kl_buf_fini(&raw);
}

static void read_message(struct kl_job *job)
{
    struct describe *d = KL_CONTAINER_OF(job, struct describe, job);
    struct kl_buf b;
    kl_buf_init(&b, 1024 * 1024);
    // What is mounted there may be the container's own: a FIFO must not hold the worker.
    int fd = d->message_path ? open(d->message_path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)
                             : -1;
    struct stat st;
    if (fd >= 0 && !fstat(fd, &st) && S_ISREG(st.st_mode) && !kl_buf_reserve(&b, MESSAGE_BYTES)) {
        ssize_t n = read(fd, b.p, MESSAGE_BYTES);
        b.n = n > 0 ? (size_t)n : 0;
    }
    if (fd >= 0)
        close(fd);
    if (!b.n && d->fall_back && d->log_path)
        read_tail(d->log_path, &b);
    if (b.n)
        d->message = kl_text_clean(kl_buf_str(&b));
    kl_buf_fini(&b);
}

static void have_message(struct kl_job *job)
{
    struct describe *d = KL_CONTAINER_OF(job, struct describe, job);
    struct kl_ctr *c = kl_rt_find_id(&d->pod->rt, kl_str(d->id));
    if (c && d->message)
        set_string(&c->message, kl_str(d->message));
    end(d);
}

static bool wants_message(struct describe *d, const struct kl_cri_container_status *s)
{
    struct kl_str path = kl_proto_map_get(s->annotations, s->n_annotations,
                                          KL_STR("io.kubernetes.container.terminationMessagePath"));
    struct kl_str policy =
        kl_proto_map_get(s->annotations, s->n_annotations,
                         KL_STR("io.kubernetes.container.terminationMessagePolicy"));
    for (size_t i = 0; i < s->n_mounts; i++)
        if (path.n && !d->message_path && kl_str_eq(s->mounts[i].container_path, path))
            d->message_path = kl_strdup(s->mounts[i].host_path);
    d->fall_back = kl_str_eqz(policy, "FallbackToLogsOnError") && s->exit_code != 0;
    if (d->fall_back && s->log_path.n)
        d->log_path = kl_strdup(s->log_path);
    return d->message_path || d->log_path;
}

// ---- containers

static void retry_ctr(struct kl_timer *t)
{
    ask_ctr(KL_CONTAINER_OF(t, struct describe, timer));
}

static void on_ctr(void *arg, enum kl_grpc_code code, const void *reply, const struct kl_error *err)
{
    struct describe *d = arg;
    struct kl_pod *p = d->pod;
    const struct kl_cri_container_status_response *r = reply;
    const struct kl_cri_container_status *s = r ? r->status : NULL;
    if (code == KL_GRPC_NOT_FOUND)
        drop_ctr(p, d->id);
    if (!s || code || p->k->stopping) {
        end(d);
        return;
    }
    if (d->tries_left > 0 && s->state == KL_CRI_CONTAINER_STATE_CONTAINER_RUNNING) {
        d->tries_left--;
        kl_timer_after(p->k->timers, &d->timer, d->delay_ms);
        d->delay_ms = d->delay_ms * 2 < EXIT_MAX_DELAY_MS ? d->delay_ms * 2 : EXIT_MAX_DELAY_MS;
        return;
    }
    struct kl_ctr *c = kl_rt_find_id(&p->rt, kl_str(d->id));
    if (!c) {
        c = calloc(1, sizeof(*c));
        if (!c)
            abort();
        c->id = kl_strdup(kl_str(d->id));
        c->name = kl_strdup(
            kl_proto_map_get(s->labels, s->n_labels, KL_STR("io.kubernetes.container.name")));
        c->created_ns = s->created_at;
        // Found running: its start, hooks included, was an earlier kubelet's.
        c->post_start_done = c->adopted = true;
        kl_rt_add_ctr(&p->rt, c);
    }
    bool ended = c->state != KL_CTR_EXITED || !c->described;
    fill_ctr(c, s);
    c->described = true;
    if (c->state == KL_CTR_RUNNING)
        kl_probes_ctr_running(p->k->probes, p, c);
    if (c->state != KL_CTR_EXITED) {
        end(d);
        return;
    }
    kl_probes_ctr_ended(p->k->probes, c);
    if (!ended || !wants_message(d, s)) {
        end(d);
        return;
    }
    d->job.work = read_message;
    d->job.done = have_message;
    kl_pool_submit(p->k->pool, &d->job);
}

static void ask_ctr(struct describe *d)
{
    struct kl_cri_container_status_request req = {.container_id = kl_str(d->id), .verbose = false};
    kl_cri_start(d->pod->k->cri, KL_CRI_CONTAINER_STATUS, &req, 60000, on_ctr, d, NULL);
}

void kl_pod_describe_ctr(struct kl_pod *p, const char *id)
{
    ask_ctr(begin(p, id));
}

void kl_pod_describe_exit(struct kl_pod *p, const char *id)
{
    struct describe *d = begin(p, id);
    d->tries_left = EXIT_TRIES;
    d->delay_ms = EXIT_FIRST_DELAY_MS;
    d->timer.cb = retry_ctr;
    ask_ctr(d);
}

// ---- sandboxes

static void put_ip(char to[46], struct kl_str ip)
{
    size_t n = ip.n < 45 ? ip.n : 45;
    memcpy(to, ip.p, n);
    to[n] = 0;
}

static void on_sandbox(void *arg, enum kl_grpc_code code, const void *reply,
                       const struct kl_error *err)
{
    struct describe *d = arg;
    const struct kl_cri_pod_sandbox_status_response *r = reply;
    for (struct kl_sandbox **at = &d->pod->rt.sandboxes; *at; at = &(*at)->next) {
        struct kl_sandbox *s = *at;
        if (strcmp(s->id, d->id))
            continue;
        if (code == KL_GRPC_NOT_FOUND) {
            *at = s->next;
            kl_sandbox_free(s);
        } else if (!code && r->status) {
            const struct kl_cri_pod_sandbox_status *st = r->status;
            s->ready = st->state == KL_CRI_POD_SANDBOX_STATE_SANDBOX_READY;
            s->attempt = st->metadata ? st->metadata->attempt : s->attempt;
            s->created_ns = st->created_at;
            if (st->network && st->network->ip.n) {
                put_ip(s->ips[0], st->network->ip);
                if (st->network->n_additional_ips)
                    put_ip(s->ips[1], st->network->additional_ips[0].ip);
            }
            const struct kl_cri_namespace_option *o =
                st->linux_ && st->linux_->namespaces ? st->linux_->namespaces->options : NULL;
            s->host_network = o && o->network == KL_CRI_NAMESPACE_MODE_NODE;
            s->described = true;
        }
        break;
    }
    end(d);
}

void kl_pod_describe_sandbox(struct kl_pod *p, const char *id)
{
    struct describe *d = begin(p, id);
    struct kl_cri_pod_sandbox_status_request req = {.pod_sandbox_id = kl_str(d->id)};
    kl_cri_start(p->k->cri, KL_CRI_POD_SANDBOX_STATUS, &req, 60000, on_sandbox, d, NULL);
}
