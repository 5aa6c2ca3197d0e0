// SPDX-License-Identifier: Apache-2.0
// Our own containerd. It is a process group of its own and in a cgroup of its own, so that neither
// our end nor a signal to us ends it; the next start finds it by its pid file and follows it with a
// pidfd. When it dies it is started again, with growing pauses.
#include "base/clock.h"
#include "kubelet/cgroup.h"
#include "kubelet/kubelet_int.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { BACKOFF_MIN_MS = 500, BACKOFF_MAX_MS = 30000, STEADY_MS = 60000 };

struct kl_containerd {
    struct kl_kubelet *k;
    uv_process_t *proc; // of a child of ours; freed in its close callback
    uv_poll_t *poll;    // on the pidfd
    int pidfd;
    pid_t pid;
    int64_t started_ms;
    int backoff_ms;
    struct kl_timer restart;
    struct kl_error problem;
};

static bool has_sys_resource(void)
{
    struct kl_buf b;
    kl_buf_init(&b, 65536);
    uint64_t caps = 0;
    if (!kl_fs_read("/proc/self/status", &b, NULL) && !kl_buf_putc(&b, 0)) {
        const char *p = strstr(b.p, "CapEff:");
        if (p)
            caps = strtoull(p + 7, NULL, 16);
    }
    kl_buf_fini(&b);
    return caps >> 24 & 1;
}

// Tried once: in some containers and on some file systems overlay mounts are refused.
static bool overlay_works(const char *dir)
{
    struct kl_path base, part[4], opts;
    static const char *const names[] = {"lower", "upper", "work", "merged"};
    if (!kl_path_set(&base, "%s/overlay-test", dir))
        return false;
    for (int i = 0; i < 4; i++)
        if (!kl_path_set(&part[i], "%s/%s", base.s, names[i]) ||
            kl_fs_mkdirs(part[i].s, 0700, NULL))
            return false;
    bool ok =
        kl_path_set(&opts, "lowerdir=%s,upperdir=%s,workdir=%s", part[0].s, part[1].s, part[2].s) &&
        mount("overlay", part[3].s, "overlay", 0, opts.s) == 0;
    if (ok)
        umount2(part[3].s, MNT_DETACH);
    kl_fs_remove_tree(base.s, NULL);
    return ok;
}

const char *kl_containerd_snapshotter(const struct kl_kubelet_conf *c)
{
    struct kl_path p;
    // What the last start decided stays: the images are unpacked there.
    if (kl_path_set(&p, "%s/native", c->containerd_dir) && kl_fs_exists(p.s))
        return "native";
    return "overlayfs";
}

int kl_containerd_write_config(const struct kl_kubelet_conf *c, struct kl_error *err)
{
    struct kl_path path, root;
    int r = kl_fs_mkdirs(c->containerd_dir, 0700, err);
    if (r)
        return r;
    if (!kl_path_set(&path, "%s/config.toml", c->containerd_dir) ||
        !kl_path_set(&root, "%s/root", c->containerd_dir))
        return kl_error_set(err, KL_ELIMIT, "data directory's path is too long");
    if (!kl_fs_exists(root.s) && !overlay_works(c->containerd_dir)) {
        struct kl_path mark;
        kl_path_set(&mark, "%s/native", c->containerd_dir);
        if ((r = kl_fs_write_atomic(mark.s, KL_STR(""), 0600, err)))
            return r;
    }
    struct kl_buf b;
    kl_buf_init(&b, 65536);
    kl_buf_printf(
        &b,
        "# Written by kinglet at each start.\n"
        "version = 2\n"
        "root = \"%s/root\"\n"
        "state = \"%s/state\"\n"
        "oom_score = %d\n"
        "disabled_plugins = [\"io.containerd.internal.v1.opt\", "
        "\"io.containerd.internal.v1.tracing\", "
        "\"io.containerd.tracing.processor.v1.otlp\", \"io.containerd.snapshotter.v1.aufs\", "
        "\"io.containerd.snapshotter.v1.btrfs\", \"io.containerd.snapshotter.v1.devmapper\", "
        "\"io.containerd.snapshotter.v1.zfs\"]\n"
        "\n[grpc]\n"
        "  address = \"%s\"\n"
        "\n[plugins.\"io.containerd.grpc.v1.cri\"]\n"
        "  sandbox_image = \"" KL_PAUSE_IMAGE "\"\n"
        "  restrict_oom_score_adj = %s\n"
        "  netns_mounts_under_state_dir = true\n"
        "  stream_server_address = \"127.0.0.1\"\n"
        "  stream_server_port = \"0\"\n"
        "  stream_idle_timeout = \"4h0m0s\"\n"
        "\n[plugins.\"io.containerd.grpc.v1.cri\".containerd]\n"
        "  snapshotter = \"%s\"\n"
        "  default_runtime_name = \"runc\"\n"
        "\n[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc]\n"
        "  runtime_type = \"io.containerd.runc.v2\"\n"
        "\n[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc.options]\n"
        "  SystemdCgroup = false\n"
        "\n[plugins.\"io.containerd.grpc.v1.cri\".cni]\n"
        "  bin_dir = \"%s\"\n"
        "  conf_dir = \"%s\"\n",
        c->containerd_dir, c->containerd_dir, has_sys_resource() ? -999 : 0, c->socket,
        has_sys_resource() ? "false" : "true", kl_containerd_snapshotter(c), c->cni_bin_dir,
        c->cni_conf_dir);
    r = b.err ? kl_error_set(err, b.err, "config.toml: %s", kl_err_text(b.err))
              : kl_fs_write_atomic(path.s, kl_buf_str(&b), 0600, err);
    kl_buf_fini(&b);
    return r;
}

static bool pid_path(const struct kl_containerd *c, struct kl_path *p)
{
    return kl_path_set(p, "%s/containerd.pid", c->k->conf.containerd_dir);
}

// The pid in the file, when it is a containerd with our configuration.
static pid_t find_running(const struct kl_containerd *c)
{
    struct kl_path p, cfg;
    struct kl_buf b;
    int64_t pid = 0;
    kl_buf_init(&b, 65536);
    if (pid_path(c, &p) && !kl_fs_read(p.s, &b, NULL))
        kl_str_to_i64(kl_str_trim(kl_buf_str(&b)), &pid);
    kl_buf_clear(&b);
    bool ours = pid > 1 && kl_path_set(&p, "/proc/%d/cmdline", (int)pid) &&
                kl_path_set(&cfg, "%s/config.toml", c->k->conf.containerd_dir) &&
                !kl_fs_read(p.s, &b, NULL) && memmem(b.p, b.n, cfg.s, strlen(cfg.s));
    kl_buf_fini(&b);
    return ours ? (pid_t)pid : 0;
}

static void start_containerd(struct kl_containerd *c);

static void free_handle(uv_handle_t *h)
{
    free(h);
}

// A child that has ended is reaped by on_child_exit, whose handle must stay open until then.
static void stop_following(struct kl_containerd *c, bool dead)
{
    if (c->poll) {
        uv_poll_stop(c->poll);
        uv_close((uv_handle_t *)c->poll, free_handle);
        c->poll = NULL;
    }
    if (c->pidfd >= 0)
        close(c->pidfd);
    c->pidfd = -1;
    if (c->proc) {
        c->proc->data = NULL;
        if (!dead)
            uv_close((uv_handle_t *)c->proc, free_handle);
        c->proc = NULL;
    }
    c->pid = 0;
}

static void restart_cb(struct kl_timer *t)
{
    start_containerd(KL_CONTAINER_OF(t, struct kl_containerd, restart));
}

static void schedule_restart(struct kl_containerd *c)
{
    if (kl_mono_ms() - c->started_ms > STEADY_MS)
        c->backoff_ms = BACKOFF_MIN_MS;
    kl_log(KL_LOG_ERROR, "kubelet", "containerd is not running: %s; next start in %d ms",
           c->problem.msg, c->backoff_ms);
    kl_timer_after(c->k->timers, &c->restart, c->backoff_ms);
    c->backoff_ms = c->backoff_ms * 2 < BACKOFF_MAX_MS ? c->backoff_ms * 2 : BACKOFF_MAX_MS;
    kl_runtime_failed(c->k->runtime);
}

static void on_pidfd(uv_poll_t *p, int status, int events)
{
    struct kl_containerd *c = p->data;
    kl_error_set(&c->problem, KL_EUNAVAILABLE, "containerd (pid %d) has ended", (int)c->pid);
    stop_following(c, true);
    schedule_restart(c);
}

static int follow_pid(struct kl_containerd *c, pid_t pid, struct kl_error *err)
{
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (fd < 0)
        return kl_error_errno(err, errno, "pidfd of containerd");
    uv_poll_t *p = calloc(1, sizeof(*p));
    if (!p || uv_poll_init(kl_loop_uv(c->k->loop), p, fd)) {
        free(p);
        close(fd);
        return kl_error_set(err, KL_ENOMEM, "following containerd: out of memory");
    }
    p->data = c;
    uv_poll_start(p, UV_READABLE, on_pidfd);
    c->poll = p;
    c->pidfd = fd;
    c->pid = pid;
    c->problem.code = 0;
    return 0;
}

// Only reaps: the pidfd tells of the end.
static void on_child_exit(uv_process_t *proc, int64_t status, int sig)
{
    struct kl_containerd *c = proc->data;
    if (c && c->proc == proc)
        c->proc = NULL;
    uv_close((uv_handle_t *)proc, free_handle);
}

static int spawn_containerd(struct kl_containerd *c, struct kl_error *err)
{
    const struct kl_kubelet_conf *conf = &c->k->conf;
    struct kl_path log, cfg;
    kl_path_set(&log, "%s/containerd.log", conf->containerd_dir);
    kl_path_set(&cfg, "%s/config.toml", conf->containerd_dir);
    struct stat st;
    bool big = stat(log.s, &st) == 0 && st.st_size > 16 * 1024 * 1024;
    int fd = open(log.s, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | (big ? O_TRUNC : 0), 0600);
    if (fd < 0)
        return kl_error_errno(err, errno, "open %s", log.s);
    char *args[] = {conf->containerd_bin, (char *)(uintptr_t) "--config", cfg.s, NULL};
    uv_stdio_container_t io[3] = {{.flags = UV_IGNORE},
                                  {.flags = UV_INHERIT_FD, .data.fd = fd},
                                  {.flags = UV_INHERIT_FD, .data.fd = fd}};
    uv_process_options_t o = {.file = conf->containerd_bin,
                              .args = args,
                              .stdio = io,
                              .stdio_count = 3,
                              .flags = UV_PROCESS_DETACHED,
                              .exit_cb = on_child_exit};
    uv_process_t *proc = calloc(1, sizeof(*proc));
    if (!proc)
        abort();
    int e = uv_spawn(kl_loop_uv(c->k->loop), proc, &o);
    close(fd);
    if (e) {
        uv_close((uv_handle_t *)proc, free_handle);
        return kl_error_errno(err, -e, "starting %s", conf->containerd_bin);
    }
    proc->data = c;
    uv_unref((uv_handle_t *)proc);
    c->proc = proc;
    struct kl_path group;
    if (kl_path_set(&group, "%s/kinglet/containerd", conf->cgroup_root))
        kl_cgroup_join(group.s, (pid_t)proc->pid);
    char text[32];
    int n = snprintf(text, sizeof(text), "%d\n", proc->pid);
    struct kl_path pidfile;
    if (pid_path(c, &pidfile))
        kl_fs_write_atomic(pidfile.s, (struct kl_str){text, (size_t)n}, 0600, NULL);
    return follow_pid(c, (pid_t)proc->pid, err);
}

static void start_containerd(struct kl_containerd *c)
{
    c->started_ms = kl_mono_ms();
    pid_t pid = find_running(c);
    int r = pid ? follow_pid(c, pid, &c->problem) : spawn_containerd(c, &c->problem);
    if (r) {
        stop_following(c, false);
        schedule_restart(c);
        return;
    }
    kl_log(KL_LOG_INFO, "kubelet", "containerd %s pid=%d", pid ? "adopted" : "started",
           (int)c->pid);
}

int kl_containerd_new(struct kl_kubelet *k, struct kl_containerd **ret, struct kl_error *err)
{
    struct kl_containerd *c = calloc(1, sizeof(*c));
    if (!c)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    c->k = k;
    c->pidfd = -1;
    c->backoff_ms = BACKOFF_MIN_MS;
    c->restart.cb = restart_cb;
    *ret = c;
    start_containerd(c);
    return 0;
}

const char *kl_containerd_problem(const struct kl_containerd *c)
{
    return c && c->problem.code ? c->problem.msg : NULL;
}

void kl_containerd_free(struct kl_containerd *c)
{
    if (!c)
        return;
    kl_timer_cancel(c->k->timers, &c->restart);
    stop_following(c, false);
    free(c);
}
