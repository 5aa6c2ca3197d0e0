// SPDX-License-Identifier: Apache-2.0
// Directories, tmpfs and host paths of volumes; on a worker.
#include "kubelet/volumes_int.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

static int make_tmpfs(struct kl_volume_work *w, struct kl_error *err)
{
    char opts[64] = "mode=0777";
    if (kl_fs_is_mount_point(w->path.s))
        return 0;
    if (w->size_bytes > 0)
        snprintf(opts, sizeof(opts), "mode=0777,size=%lld", (long long)w->size_bytes);
    if (mount("tmpfs", w->path.s, "tmpfs", 0, opts))
        return kl_error_errno(err, errno, "mount tmpfs on %s", w->path.s);
    return 0;
}

// Once only: from then on the containers may have set modes and owners of their own, which neither
// an update nor a restart takes back, and have put links there that root must not follow.
static int make_empty_dir(struct kl_volume_work *w, struct kl_error *err)
{
    if (kl_fs_exists(w->made.s) && (!w->tmpfs || kl_fs_is_mount_point(w->path.s)))
        return 0;
    int r = kl_fs_mkdirs(w->path.s, 0755, err);
    if (!r && w->tmpfs)
        r = make_tmpfs(w, err);
    if (r)
        return r;
    bool group = w->gid != (gid_t)-1; // what is made in it gets the group, too
    if (group && lchown(w->path.s, (uid_t)-1, w->gid))
        return kl_error_errno(err, errno, "applying fsGroup to %s", w->path.s);
    if (chmod(w->path.s, group ? 02777 : 0777))
        return kl_error_errno(err, errno, "chmod %s", w->path.s);
    char *slash = strrchr(w->made.s, '/');
    *slash = 0;
    r = kl_fs_mkdirs(w->made.s, 0750, err);
    *slash = '/';
    return r ? r : kl_fs_write_in_place(w->made.s, KL_STR(""), 0640, err);
}

static int check_host_path(const struct kl_volume_work *w, struct kl_error *err)
{
    struct kl_str type = w->host_type;
    const char *path = w->path.s;
    struct stat st;
    if (!type.n)
        return 0; // made by the runtime when it is not there
    bool there = stat(path, &st) == 0;
    if (kl_str_eqz(type, "DirectoryOrCreate") && !there)
        return kl_fs_mkdirs(path, 0755, err);
    if (kl_str_eqz(type, "FileOrCreate") && !there) {
        int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
        if (fd < 0)
            return kl_error_errno(err, errno, "create %s", path);
        close(fd);
        return 0;
    }
    static const struct {
        const char *type, *what;
        mode_t mode;
    } kinds[] = {
        {"DirectoryOrCreate", "directory", S_IFDIR}, {"Directory", "directory", S_IFDIR},
        {"FileOrCreate", "file", S_IFREG},           {"File", "file", S_IFREG},
        {"Socket", "socket file", S_IFSOCK},         {"CharDevice", "character device", S_IFCHR},
        {"BlockDevice", "block device", S_IFBLK}};
    for (size_t i = 0; i < KL_COUNT(kinds); i++)
        if (kl_str_eqz(type, kinds[i].type) && (!there || (st.st_mode & S_IFMT) != kinds[i].mode))
            return kl_error_set(err, KL_EINVALID, "hostPath type check failed: %s is not a %s",
                                path, kinds[i].what);
    return 0;
}

int kl_volume_make(struct kl_volume_work *w, struct kl_error *err)
{
    if (w->kind == KL_VOLUME_HOST_PATH)
        return check_host_path(w, err);
    if (w->kind == KL_VOLUME_EMPTY_DIR)
        return make_empty_dir(w, err);
    int r = kl_fs_mkdirs(w->path.s, 0755, err);
    if (!r && w->tmpfs)
        r = make_tmpfs(w, err);
    return r ? r : kl_atomic_write(w->path.s, w->files, w->nfiles, w->gid, NULL, err);
}
