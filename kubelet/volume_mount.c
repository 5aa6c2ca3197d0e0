// SPDX-License-Identifier: Apache-2.0
// Directories, tmpfs and host paths of volumes; on a worker.
#include "kubelet/volumes_int.h"
#include <dirent.h>
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

// The group owns the tree, directories hand it on (volume_linux.go).
static int give_group(int dirfd, const char *name, gid_t gid, int depth)
{
    struct stat st;
    if (depth > 64 || fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW))
        return errno;
    if (fchownat(dirfd, name, (uid_t)-1, gid, AT_SYMLINK_NOFOLLOW))
        return errno;
    if (S_ISLNK(st.st_mode))
        return 0;
    bool dir = S_ISDIR(st.st_mode);
    mode_t mode = (st.st_mode & 07777) | 0660 | (dir ? S_ISGID | 0110 : 0);
    if (fchmodat(dirfd, name, mode, 0))
        return errno;
    int fd = dir ? openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    int r = 0;
    for (struct dirent *e; !r && d && (e = readdir(d));)
        if (strcmp(e->d_name, ".") && strcmp(e->d_name, ".."))
            r = give_group(fd, e->d_name, gid, depth + 1);
    if (d)
        closedir(d);
    return r;
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
    int r = kl_fs_mkdirs(w->path.s, 0755, err);
    if (!r && w->tmpfs)
        r = make_tmpfs(w, err);
    if (r)
        return r;
    if (w->kind != KL_VOLUME_EMPTY_DIR)
        return kl_atomic_write(w->path.s, w->files, w->nfiles, w->gid, NULL, err);
    if (chmod(w->path.s, 0777))
        return kl_error_errno(err, errno, "chmod %s", w->path.s);
    int e = w->gid != (gid_t)-1 ? give_group(AT_FDCWD, w->path.s, w->gid, 0) : 0;
    return e ? kl_error_errno(err, e, "applying fsGroup to %s", w->path.s) : 0;
}
