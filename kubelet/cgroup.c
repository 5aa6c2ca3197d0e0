// SPDX-License-Identifier: Apache-2.0
#include "kubelet/cgroup.h"
#include "kubelet/fsutil.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_MOUNTS = 16 };

struct hierarchies {
    struct {
        char path[64];
        bool cpu, memory, cpuset, v2;
    } m[MAX_MOUNTS];
    int n;
    bool pure_v2; // limits are set on version 2
};

static bool has_option(const char *options, const char *name)
{
    size_t n = strlen(name);
    for (const char *p = options; (p = strstr(p, name)); p += n)
        if ((p == options || p[-1] == ',') && (!p[n] || p[n] == ','))
            return true;
    return false;
}

static void find_hierarchies(struct hierarchies *h)
{
    memset(h, 0, sizeof(*h));
    FILE *f = fopen("/proc/mounts", "re");
    char line[1024], dev[256], path[256], type[64], options[512];
    bool v1_memory = false;
    while (f && h->n < MAX_MOUNTS && fgets(line, sizeof(line), f)) {
        if (sscanf(line, "%255s %255s %63s %511s", dev, path, type, options) != 4 ||
            strncmp(type, "cgroup", 6) || strlen(path) >= sizeof(h->m[0].path))
            continue;
        int i = h->n++;
        memcpy(h->m[i].path, path, strlen(path) + 1);
        h->m[i].v2 = !strcmp(type, "cgroup2");
        h->m[i].cpu = !h->m[i].v2 && has_option(options, "cpu");
        h->m[i].memory = !h->m[i].v2 && has_option(options, "memory");
        h->m[i].cpuset = !h->m[i].v2 && has_option(options, "cpuset");
        v1_memory = v1_memory || h->m[i].memory;
    }
    if (f)
        fclose(f);
    h->pure_v2 = !v1_memory;
}

static int write_value(const char *dir, const char *file, const char *text, struct kl_error *err)
{
    struct kl_path p;
    if (!kl_path_set(&p, "%s/%s", dir, file))
        return kl_error_set(err, KL_ELIMIT, "path too long");
    int fd = open(p.s, O_WRONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? write(fd, text, strlen(text)) : -1;
    int e = errno;
    if (fd >= 0)
        close(fd);
    return n < 0 ? kl_error_errno(err, e, "write %s to %s", text, p.s) : 0;
}

static int write_number(const char *dir, const char *file, int64_t v, struct kl_error *err)
{
    char text[32];
    snprintf(text, sizeof(text), "%lld", (long long)v);
    return write_value(dir, file, text, err);
}

// Makes base/path level by level; on version 2 each level passes the controllers on.
static int make_group(const char *base, const char *path, bool v2, struct kl_error *err)
{
    struct kl_path p;
    if (!kl_path_set(&p, "%s%s", base, path))
        return kl_error_set(err, KL_ELIMIT, "path too long");
    size_t base_len = strlen(base);
    for (char *s = p.s + base_len + 1;; s++) {
        if (*s && *s != '/')
            continue;
        char c = *s;
        *s = 0;
        if (v2) {
            char *slash = strrchr(p.s, '/');
            *slash = 0;
            static const char *const controllers[] = {"+cpu", "+memory", "+pids", "+cpuset", "+io"};
            for (size_t i = 0; i < KL_COUNT(controllers); i++)
                write_value(p.s, "cgroup.subtree_control", controllers[i], NULL);
            *slash = '/';
        }
        if (mkdir(p.s, 0755) && errno != EEXIST)
            return kl_error_errno(err, errno, "mkdir %s", p.s);
        *s = c;
        if (!c)
            return 0;
    }
}

// On one hierarchy; `strict`: all of it counts.
static int set_values(const struct hierarchies *h, int i, const char *dir,
                      const struct kl_cgroup_values *v, bool strict, struct kl_error *err)
{
    struct kl_error *why = strict ? err : NULL;
    int r = 0, quota = 0;
    if (h->m[i].cpu) {
        r = write_number(dir, "cpu.shares", v->cpu_shares, err);
        write_number(dir, "cpu.cfs_period_us", v->cpu_period_us, NULL);
        quota = write_number(dir, "cpu.cfs_quota_us", v->cpu_quota_us, why);
    }
    if (h->m[i].memory && v->memory_limit_bytes > 0)
        r = write_number(dir, "memory.limit_in_bytes", v->memory_limit_bytes, err);
    if (h->m[i].v2) {
        char max[64];
        write_number(dir, "cpu.weight", kl_cpu_weight(v->cpu_shares), NULL);
        if (v->cpu_quota_us > 0) {
            snprintf(max, sizeof(max), "%lld %lld", (long long)v->cpu_quota_us,
                     (long long)v->cpu_period_us);
            quota = write_value(dir, "cpu.max", max, why);
        }
        if (v->memory_limit_bytes > 0)
            r = write_number(dir, "memory.max", v->memory_limit_bytes, err);
    }
    return r || !strict ? r : quota;
}

static bool is_used(const struct hierarchies *h, int i)
{
    return h->m[i].v2 ? h->pure_v2 : h->m[i].cpu || h->m[i].memory;
}

int kl_cgroup_make_pod(const char *path, const struct kl_cgroup_values *v, struct kl_error *err)
{
    struct hierarchies h;
    find_hierarchies(&h);
    int r = 0;
    for (int i = 0; !r && i < h.n; i++) {
        struct kl_path dir;
        if (!is_used(&h, i) || !kl_path_set(&dir, "%s%s", h.m[i].path, path) ||
            (r = make_group(h.m[i].path, path, h.m[i].v2, err)))
            continue;
        r = set_values(&h, i, dir.s, v, false, err);
    }
    return r;
}

static int64_t memory_used(const char *dir, bool v2)
{
    struct kl_path p;
    long long used = 0;
    if (!kl_path_set(&p, "%s/%s", dir, v2 ? "memory.current" : "memory.usage_in_bytes"))
        return 0;
    FILE *f = fopen(p.s, "re");
    if (f && fscanf(f, "%lld", &used) != 1)
        used = 0;
    if (f)
        fclose(f);
    return used;
}

int kl_cgroup_set_pod(const char *path, const struct kl_cgroup_values *v, struct kl_error *err)
{
    struct hierarchies h;
    find_hierarchies(&h);
    int r = 0;
    for (int i = 0; !r && i < h.n; i++) {
        struct kl_path dir;
        if (!is_used(&h, i) || !kl_path_set(&dir, "%s%s", h.m[i].path, path))
            continue;
        int64_t used = h.m[i].v2 || h.m[i].memory ? memory_used(dir.s, h.m[i].v2) : 0;
        if (v->memory_limit_bytes > 0 && used > v->memory_limit_bytes)
            return kl_error_set(
                err, KL_EINVALID,
                "attempting to set pod memory limit (%lld) below current usage (%lld)",
                (long long)v->memory_limit_bytes, (long long)used);
        r = set_values(&h, i, dir.s, v, true, err);
    }
    return r;
}

static void kill_members(const char *dir)
{
    struct kl_path p;
    struct kl_buf b;
    kl_buf_init(&b, 4 * 1024 * 1024);
    if (kl_path_set(&p, "%s/cgroup.procs", dir) && !kl_fs_read(p.s, &b, NULL)) {
        struct kl_str rest = kl_buf_str(&b), line;
        int64_t pid;
        while (kl_str_split(&rest, '\n', &line))
            if (kl_str_to_i64(line, &pid) && pid > 1)
                kill((pid_t)pid, SIGKILL);
    }
    kl_buf_fini(&b);
}

static int remove_groups(const char *dir, int depth)
{
    DIR *d = depth < 64 ? opendir(dir) : NULL;
    if (!d)
        return errno == ENOENT ? 0 : errno;
    int first = 0;
    for (struct dirent *e; (e = readdir(d));) {
        struct kl_path p;
        if (e->d_type != DT_DIR || e->d_name[0] == '.' || !kl_path_set(&p, "%s/%s", dir, e->d_name))
            continue;
        int r = remove_groups(p.s, depth + 1);
        first = first ? first : r;
    }
    closedir(d);
    kill_members(dir);
    // The kernel takes a moment to let go of what was killed.
    for (int i = 0; rmdir(dir); i++) {
        if (errno == ENOENT)
            break;
        if (errno != EBUSY || i == 50)
            return first ? first : errno;
        kill_members(dir);
        poll(NULL, 0, 20);
    }
    return first;
}

int kl_cgroup_remove(const char *path, struct kl_error *err)
{
    struct hierarchies h;
    find_hierarchies(&h);
    int first = 0;
    for (int i = 0; i < h.n; i++) {
        struct kl_path p;
        if (!kl_path_set(&p, "%s%s", h.m[i].path, path))
            continue;
        int r = remove_groups(p.s, 0);
        first = first ? first : r;
    }
    return first ? kl_error_errno(err, first, "remove cgroup %s", path) : 0;
}

int kl_cgroup_remove_pod(const char *root, struct kl_str uid, struct kl_error *err)
{
    int first = 0;
    for (int q = KL_QOS_GUARANTEED; q <= KL_QOS_BESTEFFORT; q++) {
        char path[512];
        kl_cgroup_pod_path(path, sizeof(path), root, (enum kl_qos)q, uid);
        int r = kl_cgroup_remove(path, err);
        first = first ? first : r;
    }
    return first;
}

void kl_cgroup_join(const char *path, pid_t pid)
{
    struct hierarchies h;
    find_hierarchies(&h);
    for (int i = 0; i < h.n; i++) {
        struct kl_path p;
        // A new cpuset group has no processors and takes nobody.
        if (h.m[i].cpuset || !kl_path_set(&p, "%s%s", h.m[i].path, path) ||
            kl_fs_mkdirs(p.s, 0755, NULL))
            continue;
        write_number(p.s, "cgroup.procs", pid, NULL);
    }
}

void kl_cgroup_set_qos(const char *root, int64_t burstable_milli, int64_t allocatable_milli)
{
    struct kl_cgroup_values v = {
        .cpu_quota_us = -1, .cpu_period_us = 100000, .memory_limit_bytes = -1};
    struct kl_path p;
    v.cpu_shares = kl_cpu_shares(allocatable_milli);
    if (kl_path_set(&p, "%s/kubepods", root))
        kl_cgroup_make_pod(p.s, &v, NULL);
    v.cpu_shares = kl_cpu_shares(burstable_milli);
    if (kl_path_set(&p, "%s/kubepods/burstable", root))
        kl_cgroup_make_pod(p.s, &v, NULL);
    v.cpu_shares = kl_cpu_shares(0);
    if (kl_path_set(&p, "%s/kubepods/besteffort", root))
        kl_cgroup_make_pod(p.s, &v, NULL);
}

static bool prune_groups(const char *dir, int depth)
{
    DIR *d = depth < 8 ? opendir(dir) : NULL;
    for (struct dirent *e; d && (e = readdir(d));) {
        struct kl_path p;
        if (e->d_type == DT_DIR && e->d_name[0] != '.' && kl_path_set(&p, "%s/%s", dir, e->d_name))
            prune_groups(p.s, depth + 1);
    }
    if (d)
        closedir(d);
    return !rmdir(dir) || errno == ENOENT;
}

void kl_cgroup_prune(const char *path)
{
    struct hierarchies h;
    find_hierarchies(&h);
    // The kernel takes a moment to let go of what has ended.
    for (int tries = 0, left = 1; left && tries < 25; tries++) {
        left = 0;
        for (int i = 0; i < h.n; i++) {
            struct kl_path p;
            if (kl_path_set(&p, "%s%s", h.m[i].path, path) && !prune_groups(p.s, 0))
                left++;
        }
        if (left)
            poll(NULL, 0, 20);
    }
}
