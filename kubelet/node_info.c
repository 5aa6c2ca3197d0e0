// SPDX-License-Identifier: Apache-2.0
#include "kubelet/node_info.h"
#include "kubelet/fsutil.h"
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <unistd.h>

static void read_line(const char *path, char *to, size_t n)
{
    struct kl_buf b;
    kl_buf_init(&b, 65536);
    to[0] = 0;
    if (!kl_fs_read(path, &b, NULL)) {
        struct kl_str s = kl_str_trim(kl_buf_str(&b));
        snprintf(to, n, "%.*s", KL_PRI(s));
    }
    kl_buf_fini(&b);
}

// "Key:   123 kB" of /proc/meminfo, in bytes.
static int64_t meminfo(const char *key)
{
    struct kl_buf b;
    kl_buf_init(&b, 65536);
    int64_t v = 0;
    if (!kl_fs_read("/proc/meminfo", &b, NULL)) {
        struct kl_str rest = kl_buf_str(&b), line;
        size_t n = strlen(key);
        while (kl_str_split(&rest, '\n', &line))
            if (line.n > n && !memcmp(line.p, key, n) && line.p[n] == ':') {
                v = strtoll(line.p + n + 1, NULL, 10) * 1024;
                break;
            }
    }
    kl_buf_fini(&b);
    return v;
}

static void read_os(char *to, size_t n)
{
    struct kl_buf b;
    kl_buf_init(&b, 65536);
    snprintf(to, n, "Linux");
    if (!kl_fs_read("/etc/os-release", &b, NULL)) {
        struct kl_str rest = kl_buf_str(&b), line;
        while (kl_str_split(&rest, '\n', &line)) {
            if (!kl_str_starts(line, KL_STR("PRETTY_NAME=")))
                continue;
            line = kl_str_from(line, 12);
            if (line.n >= 2 && line.p[0] == '"')
                line = (struct kl_str){line.p + 1, line.n - 2};
            snprintf(to, n, "%.*s", KL_PRI(line));
        }
    }
    kl_buf_fini(&b);
}

void kl_node_info_read(struct kl_node_info *i, const char *dir)
{
    struct utsname u;
    struct statvfs fs;
    cpu_set_t set;
    memset(i, 0, sizeof(*i));
    read_line("/etc/machine-id", i->machine_id, sizeof(i->machine_id));
    read_line("/sys/class/dmi/id/product_uuid", i->system_uuid, sizeof(i->system_uuid));
    if (!i->system_uuid[0])
        snprintf(i->system_uuid, sizeof(i->system_uuid), "%s", i->machine_id);
    read_line("/proc/sys/kernel/random/boot_id", i->boot_id, sizeof(i->boot_id));
    if (!uname(&u))
        snprintf(i->kernel, sizeof(i->kernel), "%s", u.release);
    read_os(i->os_image, sizeof(i->os_image));
#if defined(__aarch64__)
    i->arch = "arm64";
#elif defined(__x86_64__)
    i->arch = "amd64";
#else
    i->arch = u.machine;
#endif
    i->cpus = sched_getaffinity(0, sizeof(set), &set) ? (int)sysconf(_SC_NPROCESSORS_ONLN)
                                                      : CPU_COUNT(&set);
    i->memory_bytes = meminfo("MemTotal");
    i->swap_bytes = meminfo("SwapTotal");
    if (!statvfs(dir, &fs)) {
        i->fs_bytes = (int64_t)fs.f_blocks * (int64_t)fs.f_frsize;
        i->fs_inodes = (int64_t)fs.f_files;
    }
}

void kl_node_pressure_read(struct kl_node_pressure *p, const char *dir)
{
    struct statvfs fs;
    char text[64];
    memset(p, 0, sizeof(*p));
    p->memory_available_bytes = meminfo("MemAvailable");
    if (!statvfs(dir, &fs)) {
        p->fs_available_bytes = (int64_t)fs.f_bavail * (int64_t)fs.f_frsize;
        p->fs_free_inodes = (int64_t)fs.f_favail;
    }
    read_line("/proc/sys/kernel/pid_max", text, sizeof(text));
    p->max_pids = atoll(text);
    read_line("/proc/loadavg", text, sizeof(text));
    const char *slash = strchr(text, '/'); // running/all
    p->pids = slash ? atoll(slash + 1) : 0;
}
