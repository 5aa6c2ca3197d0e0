// SPDX-License-Identifier: Apache-2.0
// Removing all that kubelets with one data directory left on the machine. Pods are removed through
// the runtime as long as it answers (it is started for that when it is not there), so that network
// namespaces and addresses go the way they came; what remains is then taken away by force.
#include "base/clock.h"
#include "kubelet/cgroup.h"
#include "kubelet/kubelet_int.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    RUNTIME_WAIT_MS = 10000,
    START_AGAIN_MS = 2000,
    PODS_WAIT_MS = 120000,
    END_WAIT_MS = 10000,
};

extern char **environ;

// ---- processes

static bool cmdline_has(pid_t pid, const char *a, const char *b)
{
    struct kl_path p;
    struct kl_buf buf;
    kl_buf_init(&buf, 65536);
    kl_path_set(&p, "/proc/%d/cmdline", (int)pid);
    bool yes = !kl_fs_read(p.s, &buf, NULL) && buf.n && memmem(buf.p, buf.n, a, strlen(a)) &&
               memmem(buf.p, buf.n, b, strlen(b));
    kl_buf_fini(&buf);
    return yes;
}

// Signals every process whose command line has both texts; returns how many there are.
static int signal_matching(const char *a, const char *b, int sig)
{
    DIR *d = opendir("/proc");
    int n = 0;
    for (struct dirent *e; d && (e = readdir(d));) {
        int64_t pid;
        if (!kl_str_to_i64(kl_str(e->d_name), &pid) || pid < 2 || pid == getpid() ||
            !cmdline_has((pid_t)pid, a, b))
            continue;
        n++;
        if (sig)
            kill((pid_t)pid, sig);
    }
    if (d)
        closedir(d);
    return n;
}

static void end_matching(const char *a, const char *b, int sig)
{
    int64_t give_up = kl_mono_ms() + END_WAIT_MS;
    if (!signal_matching(a, b, sig))
        return;
    while (signal_matching(a, b, 0) && kl_mono_ms() < give_up) {
        while (waitpid(-1, NULL, WNOHANG) > 0) // one that was started here
            ;
        poll(NULL, 0, 20);
    }
    signal_matching(a, b, SIGKILL);
}

// ---- the pods, through the runtime

static void start_containerd(const struct kl_kubelet_conf *c)
{
    struct kl_path cfg;
    posix_spawn_file_actions_t fa;
    posix_spawnattr_t at;
    pid_t pid;
    kl_path_set(&cfg, "%s/config.toml", c->containerd_dir);
    posix_spawn_file_actions_init(&fa);
    for (int fd = 0; fd < 3; fd++)
        posix_spawn_file_actions_addopen(&fa, fd, "/dev/null", O_RDWR, 0);
    posix_spawnattr_init(&at);
    posix_spawnattr_setflags(&at, POSIX_SPAWN_SETSID);
    char *argv[] = {c->containerd_bin, (char *)(uintptr_t) "--config", cfg.s, NULL};
    if (posix_spawnp(&pid, c->containerd_bin, &fa, &at, argv, environ))
        kl_log(KL_LOG_WARN, "kubelet", "purge: containerd cannot be started");
    posix_spawnattr_destroy(&at);
    posix_spawn_file_actions_destroy(&fa);
}

struct removal {
    const struct kl_kubelet_conf *conf;
    struct kl_loop *loop;
    struct kl_timers *timers;
    struct kl_cri *cri;
    struct kl_timer retry, limit;
    int left;
    int64_t give_up_ms, start_again_ms;
    bool answered;
    struct kl_error err;
};

static void list_pods(struct removal *r);

static void end_loop(struct removal *r)
{
    kl_loop_stop(r->loop);
}

static void on_removed(void *arg, enum kl_grpc_code code, const void *reply,
                       const struct kl_error *err)
{
    struct removal *r = arg;
    if (code && code != KL_GRPC_CANCELED)
        r->err = *err;
    if (!--r->left)
        end_loop(r);
}

static void on_listed(void *arg, enum kl_grpc_code code, const void *reply,
                      const struct kl_error *err)
{
    struct removal *r = arg;
    const struct kl_cri_list_pod_sandbox_response *l = reply;
    if (code == KL_GRPC_CANCELED)
        return;
    if (code) {
        r->err = *err;
        if (kl_timers_now_ms(r->timers) < r->give_up_ms)
            kl_timer_after(r->timers, &r->retry, 50);
        else
            end_loop(r);
        return;
    }
    r->answered = true;
    r->err.code = 0;
    r->left = (int)l->n_items;
    for (size_t i = 0; i < l->n_items; i++) {
        struct kl_cri_remove_pod_sandbox_request req = {.pod_sandbox_id = l->items[i].id};
        kl_cri_start(r->cri, KL_CRI_REMOVE_POD_SANDBOX, &req, PODS_WAIT_MS, on_removed, r, NULL);
    }
    if (!r->left)
        end_loop(r);
}

// One that was dying when this began, or dies meanwhile, is started again.
static void start_if_gone(struct removal *r)
{
    struct kl_path cfg;
    int64_t now = kl_timers_now_ms(r->timers);
    if (!r->conf->own_containerd || now < r->start_again_ms ||
        !kl_path_set(&cfg, "%s/config.toml", r->conf->containerd_dir) ||
        signal_matching("--config", cfg.s, 0))
        return;
    r->start_again_ms = now + START_AGAIN_MS;
    start_containerd(r->conf);
}

static void list_pods(struct removal *r)
{
    struct kl_cri_list_pod_sandbox_request req = {0};
    start_if_gone(r);
    kl_cri_reconnect(r->cri);
    kl_cri_start(r->cri, KL_CRI_LIST_POD_SANDBOX, &req, 5000, on_listed, r, NULL);
}

static void on_retry(struct kl_timer *t)
{
    list_pods(KL_CONTAINER_OF(t, struct removal, retry));
}

static void on_limit(struct kl_timer *t)
{
    struct removal *r = KL_CONTAINER_OF(t, struct removal, limit);
    kl_error_set(&r->err, KL_ETIMEOUT, "removing the pods takes too long");
    end_loop(r);
}

static int remove_pods(const struct kl_kubelet_conf *c, struct kl_error *err)
{
    struct removal r = {.conf = c, .retry.cb = on_retry, .limit.cb = on_limit};
    int e = kl_loop_new("purge", &r.loop, err);
    if (e)
        return e;
    if (!(e = kl_timers_new(r.loop, &r.timers, err)) &&
        !(e = kl_cri_new(r.loop, c->endpoint, &r.cri, err))) {
        r.give_up_ms = kl_timers_now_ms(r.timers) + RUNTIME_WAIT_MS;
        kl_timer_after(r.timers, &r.retry, 0);
        kl_timer_after(r.timers, &r.limit, PODS_WAIT_MS);
        kl_loop_run(r.loop);
        if (r.err.code)
            e = kl_error_set(err, r.err.code, "removing the pods: %s", r.err.msg);
    }
    kl_cri_free(r.cri);
    kl_timers_free(r.timers);
    kl_loop_unref(r.loop);
    return e;
}

static bool has_state(const struct kl_kubelet_conf *c)
{
    struct kl_path p;
    return kl_path_set(&p, "%s/root", c->containerd_dir) && kl_fs_exists(p.s);
}

// ---- the rest

static void keep_first(struct kl_error *first, const struct kl_error *e)
{
    kl_log(KL_LOG_WARN, "kubelet", "purge: %s", e->msg);
    if (!first->code)
        *first = *e;
}

// Those of our pods; their parents only when nobody else's are there.
static int remove_cgroups(const struct kl_kubelet_conf *c, struct kl_error *err)
{
    struct kl_path p;
    int first = 0;
    DIR *d = opendir(c->pods_dir);
    for (struct dirent *e; d && (e = readdir(d));)
        if (e->d_name[0] != '.') {
            int r = kl_cgroup_remove_pod(c->cgroup_root, kl_str(e->d_name), err);
            first = first ? first : r;
        }
    if (d)
        closedir(d);
    static const char *const parents[] = {"kubepods", "kinglet"};
    for (size_t i = 0; i < KL_COUNT(parents); i++)
        if (kl_path_set(&p, "%s/%s", c->cgroup_root, parents[i]))
            kl_cgroup_prune(p.s);
    if (c->cgroup_root[0])
        kl_cgroup_prune(c->cgroup_root);
    return first;
}

int kl_kubelet_purge(const struct kl_kubelet_options *o, struct kl_error *err)
{
    struct kl_kubelet_conf c;
    struct kl_error first = {0}, e = {0};
    struct kl_path cfg;
    int r = kl_kubelet_conf_init(&c, o, err);
    if (r)
        return r;
    kl_path_set(&cfg, "%s/config.toml", c.containerd_dir);
    if ((!c.own_containerd || has_state(&c)) && remove_pods(&c, &e))
        keep_first(&first, &e);
    if (c.own_containerd) {
        end_matching("--config", cfg.s, SIGTERM);
        end_matching("containerd-shim", c.socket, SIGKILL);
    }
    if (remove_cgroups(&c, &e))
        keep_first(&first, &e);
    if (c.own_containerd) {
        kl_cni_purge(&c);
        unlink(c.socket);
    }
    if (kl_fs_unmount_below(c.data, &e) || kl_fs_remove_tree(c.data, &e))
        keep_first(&first, &e);
    kl_kubelet_conf_fini(&c);
    if (first.code && err)
        *err = first;
    return first.code;
}
