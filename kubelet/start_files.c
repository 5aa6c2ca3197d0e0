// SPDX-License-Identifier: Apache-2.0
// A subPath is resolved beneath its volume by the kernel (openat2), so that a symbolic link made in
// a container never leads out of it, and is held by a bind mount of the file that was opened.
#include "kubelet/start_files.h"
#include "kubelet/env.h"
#include "kubelet/pod_config.h"
#include "kubelet/volumes.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static int open_beneath(int dir, const char *path, int flags)
{
    struct open_how how = {.flags = (uint64_t)flags | O_CLOEXEC,
                           .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};
    return (int)syscall(SYS_openat2, dir, path, &how, sizeof(how));
}

// Missing directories of the subPath are made, each opened beneath the volume first.
static int open_subpath(const char *root, const char *sub)
{
    int base = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (base < 0)
        return -1;
    int fd = open_beneath(base, sub, O_PATH);
    if (fd < 0 && errno == ENOENT) {
        struct kl_path part;
        kl_path_set(&part, "%s", sub);
        for (char *s = part.s + 1;; s++) {
            if (*s && *s != '/')
                continue;
            char c = *s, *slash;
            *s = 0;
            int have = open_beneath(base, part.s, O_PATH | O_DIRECTORY);
            if (have < 0 && errno == ENOENT) {
                slash = strrchr(part.s, '/');
                if (slash)
                    *slash = 0;
                int up = slash ? open_beneath(base, part.s, O_PATH | O_DIRECTORY)
                               : fcntl(base, F_DUPFD_CLOEXEC, 0);
                if (slash)
                    *slash = '/';
                if (up >= 0) {
                    if (!mkdirat(up, slash ? slash + 1 : part.s, 0755))
                        fchmodat(up, slash ? slash + 1 : part.s, 0755, 0);
                    close(up);
                }
            }
            if (have >= 0)
                close(have);
            *s = c;
            if (!c)
                break;
        }
        fd = open_beneath(base, sub, O_PATH);
    }
    int e = errno;
    close(base);
    errno = e;
    return fd;
}

static int bind_subpath(struct kl_start_files *f, size_t i, struct kl_error *err)
{
    struct stat st;
    struct kl_path self;
    const char *to = f->subpaths[i].s;
    int fd = open_subpath(f->roots[i].s, f->subs[i].p);
    if (fd < 0 || fstat(fd, &st)) {
        int e = errno;
        if (fd >= 0)
            close(fd);
        return kl_error_errno(err, e, "failed to prepare subPath for volumeMount \"%.*s\"",
                              KL_PRI(f->subs[i]));
    }
    kl_fs_unmount_below(to, NULL);
    kl_path_set(&self, "/proc/self/fd/%d", fd);
    int r = 0;
    if (S_ISDIR(st.st_mode)) {
        unlink(to);
        r = kl_fs_mkdirs(to, 0750, err);
    } else {
        char *slash = strrchr(f->subpaths[i].s, '/');
        *slash = 0;
        r = kl_fs_mkdirs(to, 0750, err);
        *slash = '/';
        rmdir(to);
        int file = r ? -1 : open(to, O_WRONLY | O_CREAT | O_CLOEXEC, 0640);
        if (file >= 0)
            close(file);
    }
    if (!r && mount(self.s, to, NULL, MS_BIND | MS_REC, NULL))
        r = kl_error_errno(err, errno, "bind mount subPath %.*s", KL_PRI(f->subs[i]));
    close(fd);
    return r;
}

static void make_files(struct kl_job *job)
{
    struct kl_start_files *f = KL_CONTAINER_OF(job, struct kl_start_files, job);
    if (f->status)
        return;
    f->status = kl_fs_mkdirs(f->ctr_dir.s, 0750, &f->err);
    // Any user of the container may write it.
    if (!f->status)
        f->status = kl_fs_write_in_place(f->termination_log.s, KL_STR(""), 0666, &f->err);
    if (!f->status && f->hosts.s[0]) {
        struct kl_buf old;
        kl_buf_init(&old, 4 * 1024 * 1024);
        if (kl_fs_read(f->hosts.s, &old, NULL) || !kl_str_eq(kl_buf_str(&old), f->hosts_text))
            f->status = kl_fs_write_in_place(f->hosts.s, f->hosts_text, 0644, &f->err);
        kl_buf_fini(&old);
    }
    for (size_t i = 0; !f->status && i < f->nsubpaths; i++)
        if (f->subpaths[i].s[0])
            f->status = bind_subpath(f, i, &f->err);
}

static void files_made(struct kl_job *job)
{
    struct kl_start_files *f = KL_CONTAINER_OF(job, struct kl_start_files, job);
    f->cb(f->arg, f->status ? &f->err : NULL);
}

static bool bad_subpath(struct kl_str s)
{
    struct kl_str part;
    if (kl_str_starts(s, KL_STR("/")))
        return true;
    while (kl_str_split(&s, '/', &part))
        if (kl_str_eqz(part, ".."))
            return true;
    return false;
}

static const struct kl_value *find_object(void *arg, bool secret, struct kl_str name)
{
    struct kl_object *o = kl_volumes_object(((struct kl_pod *)arg)->volumes, secret, name);
    return o ? &o->root : NULL;
}

static int plan_subpaths(struct kl_start_files *f, struct kl_pod *p,
                         const struct kl_value *container)
{
    const struct kl_value *mounts = kl_get(container, KL_F_volumeMounts);
    size_t n = kl_len(mounts);
    f->subpaths = calloc(n + 1, sizeof(*f->subpaths));
    f->roots = calloc(n + 1, sizeof(*f->roots));
    f->subs = kl_arena_zalloc(&f->a, (n + 1) * sizeof(*f->subs));
    if (!f->subpaths || !f->roots || !f->subs)
        return kl_error_set(&f->err, KL_ENOMEM, "out of memory");
    f->nsubpaths = n;
    struct kl_cri_key_value *env = NULL;
    size_t nenv = 0;
    for (KL_EACH(m, mounts)) {
        size_t i = (size_t)(m - mounts->items);
        struct kl_str sub = kl_text_at(m, KL_F_subPath), expr = kl_text_at(m, KL_F_subPathExpr);
        if (expr.n) {
            struct kl_env_source src = {.pod = kl_pod_root(p),
                                        .container = container,
                                        .pod_ip =
                                            kl_str(p->rt.sandboxes ? p->rt.sandboxes->ips[0] : ""),
                                        .host_ip = kl_str(p->k->conf.node_ip),
                                        .node_name = kl_str(p->k->conf.node_name),
                                        .object = find_object,
                                        .arg = p};
            int r = env ? 0 : kl_env_build(&f->a, &src, &env, &nenv, &f->err);
            if (r)
                return r;
            sub = kl_env_expand(&f->a, expr, env, nenv);
        }
        if (!sub.n)
            continue;
        if (bad_subpath(sub))
            return kl_error_set(&f->err, KL_EINVALID,
                                "unable to provision SubPath `%.*s`: must "
                                "not contain '..' or be absolute",
                                KL_PRI(sub));
        f->subs[i] = kl_arena_dup(&f->a, sub);
        if (!kl_volumes_path(p->volumes, kl_text_at(m, KL_F_name), &f->roots[i]))
            return kl_error_set(&f->err, KL_EINVALID, "cannot find volume \"%.*s\"",
                                KL_PRI(kl_text_at(m, KL_F_name)));
        kl_path_set(&f->subpaths[i], "%s/%s/volume-subpaths/%.*s/%.*s/%zu", p->k->conf.pods_dir,
                    p->uid, KL_PRI(kl_text_at(m, KL_F_name)),
                    KL_PRI(kl_text_at(container, KL_F_name)), i);
    }
    return 0;
}

static struct kl_str read_host_hosts(struct kl_arena *a)
{
    struct kl_buf b;
    kl_buf_init(&b, 1024 * 1024);
    kl_fs_read("/etc/hosts", &b, NULL);
    struct kl_str s = kl_arena_dup(a, kl_buf_str(&b));
    kl_buf_fini(&b);
    return s;
}

void kl_start_files_make(struct kl_start_files *f, struct kl_pod *p,
                         const struct kl_value *container, uint32_t attempt,
                         void (*cb)(void *arg, const struct kl_error *err), void *arg)
{
    const struct kl_value *pod = kl_pod_root(p);
    struct kl_path dir;
    kl_pod_dir(p, &dir);
    kl_arena_init(&f->a, 16 * 1024 * 1024);
    f->begun = true;
    f->pod = p;
    f->cb = cb;
    f->arg = arg;
    f->job.work = make_files;
    f->job.done = files_made;
    kl_path_set(&f->ctr_dir, "%s/containers/%.*s", dir.s, KL_PRI(kl_text_at(container, KL_F_name)));
    kl_path_set(&f->termination_log, "%s/%u", f->ctr_dir.s, attempt);
    kl_path_set(&f->hosts, "%s/etc-hosts", dir.s);
    bool host = kl_true_at(pod, KL_F_spec, KL_F_hostNetwork);
    struct kl_str ip = kl_str(p->rt.sandboxes ? p->rt.sandboxes->ips[0] : "");
    f->hosts_text = kl_hosts_file(&f->a, pod, ip, kl_str(p->k->conf.cluster_domain),
                                  host ? read_host_hosts(&f->a) : KL_STR(""));
    f->status = plan_subpaths(f, p, container);
    kl_pool_submit(p->k->pool, &f->job);
}

void kl_start_files_fini(struct kl_start_files *f)
{
    free(f->subpaths);
    free(f->roots);
    if (f->begun)
        kl_arena_fini(&f->a);
}
